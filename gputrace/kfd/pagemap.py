"""Ask the kernel which pages of a process were written, and protect them again.

A scan of a pagemap answers for memory that is registered with a userfaultfd for asynchronous write
protection; all other memory is passed over. It returns the pages that were written since they were
last protected and protects them, in one step that no store can slip through.

Sources: linux/fs.h (PAGEMAP_SCAN, struct pm_scan_arg, struct page_region, PM_SCAN_WP_MATCHING,
PAGE_IS_WRITTEN). Needs Linux 6.7 or newer.
"""

import os
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from ctypes import addressof, c_uint64
from fcntl import ioctl

SCAN_IOCTL = 0xC0606610
"""PAGEMAP_SCAN."""
_PROTECT = 1  # PM_SCAN_WP_MATCHING
_WRITTEN, _PRESENT = 1 << 1, 1 << 3  # PAGE_IS_*
LARGE = 1 << 24
"""Bytes of a range above which it is worth leaving alone what nobody has touched."""
_BLOCK = 1 << 21  # one table of pages
_REGIONS = 512  # stretches of written pages that one call names
_GAP = 1 << 36  # ranges closer than this share a call: what lies between costs next to nothing

Region = tuple[int, int]
"""The address of the first byte, and that of the byte after the last."""


class Request:
    """A struct pm_scan_arg with room for its answer.

    Its members: size, flags, start, end, walk_end, vec, vec_len, max_pages, then categories of
    pages: inverted, all of these, any of these, returned. All have 64 bits.
    """

    def __init__(
        self, start: int = 0, end: int = 0, *, protect: bool = True, wanted: int = _WRITTEN
    ) -> None:
        self._found = (c_uint64 * (3 * _REGIONS))()
        flags = _PROTECT if protect else 0
        found = addressof(self._found)
        self.words = (c_uint64 * 12)(
            96, flags, start, end, 0, found, _REGIONS, 0, 0, wanted, 0, wanted
        )
        self.at = addressof(self.words)
        """The address of the struct."""

    @property
    def start(self) -> int:
        """Where the scan begins."""
        return self.words[2]

    @property
    def reached(self) -> int:
        """Where the last scan came to its end: the end asked for, or where the room was used up."""
        return self.words[4]

    def regions(self, count: int) -> list[Region]:
        """Return the first regions that the last scan found."""
        got = self._found[: 3 * count]
        return list(zip(got[0::3], got[1::3], strict=True))


class Pagemap:
    """The pagemap of a process. OSError when there is none, or the process is gone."""

    def __init__(self, process: int | None = None) -> None:
        name = "self" if process is None else process
        self.descriptor = os.open(f"/proc/{name}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._requests = Request(protect=False), Request(protect=True)
        self._present = Request(protect=False, wanted=_PRESENT)

    def scan(self, start: int, end: int, *, protect: bool = True) -> list[Region]:
        """Return what was written between two addresses, in rising order."""
        return self._scan(self._requests[protect], start, end)

    def present(self, start: int, end: int) -> list[Region]:
        """Return what the process has pages for between two addresses, in rising order.

        To `scan` a page that the process has not is a written one, unless it was protected.
        """
        return self._scan(self._present, start, end)

    def _scan(self, request: Request, start: int, end: int) -> list[Region]:
        found: list[Region] = []
        while start < end:
            request.words[2], request.words[3] = start, end
            count = ioctl(self.descriptor, SCAN_IOCTL, request.words, True)
            if count:
                found += request.regions(count)
            start = request.reached
        return found

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


class Sparse:
    """A large range of which only the blocks are scanned in which anybody has pages.

    A scan walks over all pages that were ever protected, so untouched memory is left alone.
    `touched` gives the parts of the range that do not only hold zeros.
    """

    def __init__(
        self, pagemap: Pagemap, address: int, size: int,
        touched: Callable[[int, int], Iterable[Region]],
    ) -> None:  # fmt: skip
        self._pagemap, self._touched = pagemap, touched
        self._start, self._end = address, address + size
        self._known: set[Region] = set()  # blocks that have been protected

    def scan(self, *, protect: bool = True) -> list[Region]:
        """Return what the process wrote in the range, in rising order. OSError as a scan."""
        # Of a block that is new only what the process has itself: others may have filled it. That
        # is asked last, so that a page which it takes meanwhile is found now or the next time.
        found: list[Region] = []
        for block in self._blocks():
            if block in self._known:
                found += self._pagemap.scan(*block, protect=protect)
                continue
            if protect:
                self._pagemap.scan(*block)
                self._known.add(block)
            found += self._pagemap.present(*block)
        return found

    def _blocks(self) -> Iterator[Region]:
        last = 0
        for start, end in self._touched(self._start, self._end - self._start):
            for at in range(max(start // _BLOCK * _BLOCK, last), end, _BLOCK):
                last = at + _BLOCK
                yield max(at, self._start), min(last, self._end)


class Ranges:
    """Ranges of addresses, none of which overlaps another."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        """Bytes of each range by its address."""
        self.starts: list[int] = []
        """The addresses in rising order."""

    def add(self, address: int, size: int) -> None:
        """Take a range in."""
        self.sizes[address] = size
        insort(self.starts, address)

    def remove(self, address: int) -> None:
        """Drop the range that begins at an address."""
        del self.sizes[address]
        del self.starts[bisect_left(self.starts, address)]

    def start_of(self, address: int) -> int:
        """Return where the last range begins that does not begin after an address."""
        return self.starts[bisect_right(self.starts, address) - 1]

    def cut(self, found: Iterable[Region]) -> list[Region]:
        """Return the parts of what was found that lie in ranges, each in one."""
        pieces: list[Region] = []
        starts, sizes = self.starts, self.sizes
        for low, high in found:
            index = max(bisect_right(starts, low) - 1, 0)
            while index < len(starts) and starts[index] < high:
                start = starts[index]
                first, last = max(low, start), min(high, start + sizes[start])
                if first < last:
                    pieces.append((first, last))
                index += 1
        return pieces


def stretches(starts: Iterable[int], sizes: Mapping[int, int]) -> list[Region]:
    """Return the ranges with these sizes as few regions, good for a scan each.

    `starts` rise; where `sizes` says nothing of one, somebody else's range begins there, and no
    region reaches over it.
    """
    found: list[Region] = []
    for start in starts:
        size = sizes.get(start)
        if size is None:
            found.append((0, 0))
        elif found and found[-1][1] and start - found[-1][1] <= _GAP:
            found[-1] = (found[-1][0], start + size)
        else:
            found.append((start, start + size))
    return [one for one in found if one[1]]
