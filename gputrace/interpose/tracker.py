"""Find which pages a program in another process wrote.

The library in the program registers its mappings with a userfaultfd of the program's own, for
asynchronous write protection; here the program's pagemap is scanned. What could not be registered
counts as written at each look, and once the program has ended so does all that anybody touched.
"""

from collections.abc import Callable
from functools import partial

from gputrace.kfd.pagemap import LARGE, Pagemap, Ranges, Region, Sparse, stretches
from gputrace.kfd.tracking import Span, spans


class RemoteTracker:
    """Watches mappings of process `process`; a `kfd.tracking.Tracker`.

    `touched` gives the parts of a range (address, size) that do not only hold zeros.
    """

    def __init__(self, process: int, touched: Callable[[int, int], list[Region]]) -> None:
        self._pagemap, self._touched = Pagemap(process), touched
        self._ranges = Ranges()
        self._small: dict[int, int] = {}  # the sizes of those that are not large
        self._large: dict[int, Sparse] = {}
        self._always: set[int] = set()
        self._fresh: set[int] = set()
        self.ended = False
        """Set when the program has ended: nobody can be asked any more what it wrote last."""

    def unregistered(self, address: int) -> None:
        """Say that the range to be watched at an address could not be registered."""
        self._always.add(address)

    def watch(self, address: int, size: int, *, written: bool = True) -> None:
        """Begin to watch a range that the library has registered."""
        self._ranges.add(address, size)
        if written:
            self._fresh.add(address)
        if size > LARGE:
            self._large[address] = Sparse(self._pagemap, address, size, self._touched)
        else:
            self._small[address] = size
            if address not in self._always:
                self._scan(address, address + size, protect=True)

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range."""
        self._ranges.remove(address)
        self._small.pop(address, None)
        self._large.pop(address, None)
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
        for start, end in stretches(ranges.starts, self._small):
            found += self._scan(start, end, protect=protect)
        for one in self._large.values():
            found += self._asked(partial(one.scan, protect=protect))
        if self.ended:
            found = [one for at in ranges.starts for one in self._touched(at, ranges.sizes[at])]
            return spans(ranges, found, set())
        return spans(ranges, sorted(found), self._fresh | self._always)

    def _scan(self, start: int, end: int, *, protect: bool) -> list[Region]:
        return self._asked(partial(self._pagemap.scan, start, end, protect=protect))

    def _asked(self, scan: Callable[[], list[Region]]) -> list[Region]:
        if not self.ended:
            try:
                return scan()
            except OSError:
                self.ended = True  # its memory is gone
        return []

    def close(self) -> None:
        """Close the pagemap."""
        self._pagemap.close()
