"""Tell a running program's stores from those of the GPU that works beside it.

The program never stands still: it may store into a page just when an engine does. What packets
wrote is known exactly; what kernels wrote only by page. So a page counts as the GPU's as a whole
only when the program has not written it meanwhile, else just for the bytes that packets wrote.
"""

from collections.abc import Callable

from gputrace.capture.memory import Change, WatchedMemory
from gputrace.interpose.tracker import RemoteTracker
from gputrace.kfd import host
from gputrace.kfd.tracking import Span

Saved = tuple[int, bytes]


class LiveMemory(WatchedMemory):
    """Memory of a program that runs on; `packet_writes` drains what packets have written."""

    def __init__(self, tracker: RemoteTracker, packet_writes: Callable[[], list[Span]]) -> None:
        super().__init__(tracker)
        self._remote, self._packet_writes = tracker, packet_writes

    def absorb(self, spans: list[Span]) -> list[Change]:
        """Take what the GPU wrote as known, page by page or byte by byte."""
        exact = self._packet_writes()
        if not spans:
            return []
        # First the contents, then the question who wrote: a store that comes between the two only
        # makes a page count as the program's, which is looked at again.
        before = [(address, bytes(view)) for one in spans for address, view in self.known(one)]
        changes = super().absorb(spans)
        dirty = self._remote.peek()
        disputed = [page for one in before for page in _pages(one, dirty)]
        if not disputed:
            return changes
        kept: set[int] = set()
        for address, old in disputed:
            self._put_back(address, old, exact)
            kept.update(range(address, address + len(old), host.PAGE))
        return [
            one
            for one in changes
            if one.address // host.PAGE * host.PAGE not in kept or _covers(exact, one.address)
        ]

    def _put_back(self, address: int, old: bytes, exact: list[Span]) -> None:
        for start, view in self.known(Span(address, len(old))):
            now = bytes(view)
            view[:] = old[start - address : start - address + len(view)]
            for span in exact:
                low = max(start, span.address)
                high = min(start + len(view), span.address + span.size)
                if low < high:
                    view[low - start : high - start] = now[low - start : high - start]


def _pages(saved: Saved, dirty: list[Span]) -> list[Saved]:
    address, old = saved
    found = []
    for span in dirty:
        low, high = max(address, span.address), min(address + len(old), span.address + span.size)
        if low < high:
            found.append((low, old[low - address : high - address]))
    return found


def _covers(spans: list[Span], address: int) -> bool:
    return any(one.address <= address + 3 and address < one.address + one.size for one in spans)
