"""Find which pages a program in another process wrote.

The library in the program registers its mappings with a userfaultfd of the program's own, for
asynchronous write protection; here the program's pagemap is scanned. What could not be registered
counts as written at each look, and so does everything once the program has ended.
"""

from gputrace.kfd.pagemap import Pagemap, Ranges, Region, stretches
from gputrace.kfd.tracking import Span, spans


class RemoteTracker:
    """Watches mappings of process `process`; a `kfd.tracking.Tracker`."""

    def __init__(self, process: int) -> None:
        self._pagemap = Pagemap(process)
        self._ranges = Ranges()
        self._always: set[int] = set()
        self._fresh: set[int] = set()
        self.ended = False
        """Set when the program has ended: nobody can be asked any more, so all is looked at."""

    def unregistered(self, address: int) -> None:
        """Say that the range to be watched at an address could not be registered."""
        self._always.add(address)

    def watch(self, address: int, size: int, *, written: bool = True) -> None:
        """Begin to watch a range that the library has registered."""
        self._ranges.add(address, size)
        if written:
            self._fresh.add(address)
        if address not in self._always:
            self._scan(address, address + size, protect=True)

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range."""
        self._ranges.remove(address)
        self._fresh.discard(address)
        self._always.discard(address)

    def written(self) -> list[Span]:
        """Return what the program may have written since the last call, in rising order."""
        found = self._look(protect=True)
        self._fresh = set()
        return found

    def peek(self) -> list[Span]:
        """Return what the next `written` would, and leave it there."""
        return self._look(protect=False)

    def _look(self, *, protect: bool) -> list[Span]:
        ranges, found = self._ranges, list[Region]()
        for start, end in stretches(ranges.starts, ranges.sizes):
            found += self._scan(start, end, protect=protect)
        whole = set(ranges.starts) if self.ended else self._fresh | self._always
        return spans(ranges, found, whole)

    def _scan(self, start: int, end: int, *, protect: bool) -> list[Region]:
        if not self.ended:
            try:
                return self._pagemap.scan(start, end, protect=protect)
            except OSError:
                self.ended = True  # its memory is gone
        return []

    def close(self) -> None:
        """Close the pagemap."""
        self._pagemap.close()
