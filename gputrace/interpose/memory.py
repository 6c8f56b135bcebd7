"""Tell a running program's stores from those of the GPU that works beside it.

The program never stands still: it may store into a page just when an engine does. What packets
wrote is known exactly; what kernels wrote only by page. So a page counts as the GPU's as a whole
only when the program has not written it meanwhile. Else the bytes that packets wrote are the GPU's,
and the others the program's; when a kernel has run, nobody knows whose those are.
"""

from gputrace.capture.late import copies
from gputrace.capture.memory import Change, Store, WatchedMemory
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.interpose.tracker import RemoteTracker
from gputrace.kfd import host
from gputrace.kfd.tracking import Span

Saved = tuple[int, bytes]


class LiveMemory(WatchedMemory):
    """Memory of a program that runs on, beside the engines of `kfd`."""

    def __init__(self, tracker: RemoteTracker, kfd: RecordedKfd) -> None:
        super().__init__(tracker)
        self._remote, self._kfd = tracker, kfd
        self._doubtful: list[Store] = []

    def doubtful(self) -> list[Store]:
        """Return what has been found since the last call that a kernel or the program stored."""
        found, self._doubtful = self._doubtful, []
        return found

    def absorb(self, spans: list[Span]) -> list[Change]:
        """Take what the GPU wrote as known, page by page or byte by byte."""
        exact, kernels = self._kfd.packet_writes(), self._kfd.kernels_ran()
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
            if kernels:
                self._doubtful += copies(self.stores([Span(address, len(old))]))
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
