"""Find which pages the CPU wrote: write protection that the kernel resolves by itself.

A tracked range is registered with userfaultfd for asynchronous write protection; the PAGEMAP_SCAN
ioctl then returns the pages written since the last scan and protects them again, in one step that
no store can slip through. Stores through another mapping of the same pages (the emulated GPU's
own) are not seen, which is the point.

Sources: linux/userfaultfd.h (UFFDIO_*, UFFD_FEATURE_*), linux/fs.h (PAGEMAP_SCAN, struct
pm_scan_arg, PAGE_IS_*). Needs Linux 6.7 or newer.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
import threading
from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple, Protocol

from gputrace.errors import KfdError, UsageError
from gputrace.kfd.host import PAGE

_SYSCALL = {"x86_64": 323, "aarch64": 282}  # __NR_userfaultfd
_USER_MODE_ONLY = 1
_API, _API_IOCTL = 0xAA, 0xC018AA3F
_REGISTER_IOCTL, _UNREGISTER_IOCTL = 0xC020AA00, 0x8010AA01
_REGISTER_MODE_WP = 2
_FEATURES = 1 << 12 | 1 << 13 | 1 << 15  # WP_HUGETLBFS_SHMEM, WP_UNPOPULATED, WP_ASYNC
_SCAN_IOCTL = 0xC0606610
_SCAN_PROTECT = 1  # PM_SCAN_WP_MATCHING; memory that is not registered is passed over
_WRITTEN = 1 << 1  # PAGE_IS_WRITTEN
_REGIONS = 512
_SCAN, _REGION = struct.Struct("<12Q"), struct.Struct("<3Q")  # pm_scan_arg, page_region
_GAP = 1 << 36
"""Ranges that are closer are scanned by one call: what lies between costs next to nothing."""


def scan_request(start: int, end: int, vector: int, regions: int) -> bytes:
    """Return a struct pm_scan_arg that asks for written pages and protects them again.

    `vector` is the address of `regions` structs page_region, three 64-bit values each.
    """
    return _SCAN.pack(
        96, _SCAN_PROTECT, start, end, 0, vector, regions, 0, 0, _WRITTEN, 0, _WRITTEN
    )


class Span(NamedTuple):
    """Bytes of this process's memory: address and size."""

    address: int
    size: int


class Tracker(Protocol):
    """Something that tells what the CPU wrote; see `WriteTracker`."""

    def watch(self, address: int, size: int, *, written: bool = True) -> None:
        """Begin to watch a mapped range of whole pages; `written` says if all of it counts."""

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range, before it is unmapped."""

    def written(self) -> list[Span]:
        """Return what was written since the last call, in rising order; begin anew."""

    def close(self) -> None:
        """Give back what the tracker holds."""


class _Everyone:
    """The ranges that any tracker of this process watches: no scan may run over another's."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changes = 0
        self._starts: list[int] = []
        self._owners: dict[int, int] = {}

    def add(self, address: int, owner: int) -> None:
        """Say that a tracker watches a range."""
        with self.lock:
            insort(self._starts, address)
            self._owners[address] = owner
            self.changes += 1

    def remove(self, address: int) -> None:
        """Say that a range is watched no more."""
        with self.lock:
            del self._starts[bisect_left(self._starts, address)]
            del self._owners[address]
            self.changes += 1

    def clusters(self, ranges: dict[int, int]) -> list[tuple[int, int]]:
        """Return a tracker's ranges as few stretches (start, end) with nobody else's between."""
        with self.lock:
            found: list[tuple[int, int]] = []
            for start in self._starts:
                size = ranges.get(start)
                if size is None:
                    found.append((0, 0))  # another's: nothing may reach over it
                elif found and found[-1][1] and start - found[-1][1] <= _GAP:
                    found[-1] = (found[-1][0], start + size)
                else:
                    found.append((start, start + size))
            return [one for one in found if one[1]]


_everyone = _Everyone()


class WriteTracker:
    """Watch ranges of this process by userfaultfd and PAGEMAP_SCAN.

    Raises UsageError when the kernel has no asynchronous write protection.
    """

    def __init__(self) -> None:
        self._ranges: dict[int, int] = {}
        self._starts: list[int] = []
        self._fresh: set[int] = set()
        self._clusters: list[tuple[int, int]] = []
        self._seen = -1  # of _everyone.changes, when the clusters were made
        self._descriptor = _userfaultfd()
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._found = ctypes.create_string_buffer(24 * _REGIONS)
        self._vector = ctypes.addressof(self._found)

    def watch(self, address: int, size: int, *, written: bool = True) -> None:
        """Begin to watch; with `written` the whole range counts as written at the next scan.

        Raises KfdError("userfaultfd", ...) for memory that cannot be watched.
        """
        if address % PAGE or size % PAGE or not size:
            raise UsageError(f"watch {address:#x}+{size:#x}: expected whole pages")
        request = struct.pack("<QQQQ", address, size, _REGISTER_MODE_WP, 0)
        try:
            fcntl.ioctl(self._descriptor, _REGISTER_IOCTL, request)
        except OSError as failure:
            fields = {"address": address, "size": size}
            raise KfdError("userfaultfd", failure.errno or 0, fields) from failure
        self._ranges[address] = size
        insort(self._starts, address)
        _everyone.add(address, id(self))
        self._scan(address, address + size)  # from here on pages are protected
        if written:
            self._fresh.add(address)

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range that `watch` was given."""
        if self._ranges.get(address) != size:
            raise UsageError(f"{address:#x}+{size:#x} is not watched")
        self._drop(address)
        try:
            fcntl.ioctl(self._descriptor, _UNREGISTER_IOCTL, struct.pack("<QQ", address, size))
        except OSError as failure:
            if failure.errno != errno.EINVAL:  # the mapping went away with its registration
                raise

    def _drop(self, address: int) -> None:
        del self._ranges[address]
        self._starts.remove(address)
        self._fresh.discard(address)
        _everyone.remove(address)

    @property
    def pagemap(self) -> int:
        """The descriptor that PAGEMAP_SCAN is called on."""
        return self._pagemap

    @property
    def fresh(self) -> bool:
        """Whether a range counts as written that nobody wrote: then only `written` will do."""
        return bool(self._fresh)

    def stretches(self) -> list[tuple[int, int]]:
        """Return what to scan, as few stretches (start, end); the same list until it changes."""
        if self._seen != _everyone.changes:
            self._seen = _everyone.changes
            self._clusters = _everyone.clusters(self._ranges)
        return self._clusters

    def written(self) -> list[Span]:
        """Scan every watched range and protect again what was written.

        Each span lies in one range.
        """
        found: list[tuple[int, int]] = []
        for start, end in self.stretches():
            self._scan(start, end, found)
        if self._fresh:
            return self._with_fresh(found)
        if not found:
            return []
        return [Span(low, high - low) for low, high in self._split(found)]

    def _with_fresh(self, found: list[tuple[int, int]]) -> list[Span]:
        spans = [
            Span(low, high - low)
            for low, high in self._split(found)
            if self._starts[bisect_right(self._starts, low) - 1] not in self._fresh
        ]
        spans += [Span(start, self._ranges[start]) for start in self._fresh]
        self._fresh.clear()
        return sorted(spans)

    def rest(self, found: list[tuple[int, int]], start: int, end: int) -> list[Span]:
        """Complete a scan that somebody began: what was found, and where to go on."""
        self._scan(start, end, found)
        return [Span(low, high - low) for low, high in self._split(found)]

    def _split(self, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        # Ranges may touch one another: cut what runs over the end of one.
        pieces: list[tuple[int, int]] = []
        starts, ranges = self._starts, self._ranges
        for low, high in found:
            start = starts[bisect_right(starts, low) - 1]
            end = start + ranges[start]
            while high > end:
                pieces.append((low, end))
                low = end
                start = starts[bisect_right(starts, low) - 1]
                end = start + ranges[start]
            pieces.append((low, high))
        return pieces

    def _scan(self, start: int, end: int, spans: list[tuple[int, int]] | None = None) -> None:
        while start < end:
            # size, flags, start, end, walk_end, vec, vec_len, max_pages, then the categories:
            # inverted, all of, any of, returned
            request = bytearray(scan_request(start, end, self._vector, _REGIONS))
            count = fcntl.ioctl(self._pagemap, _SCAN_IOCTL, request, True)
            if count and spans is not None:
                got = ctypes.string_at(self._vector, 24 * count)
                spans += [one[:2] for one in _REGION.iter_unpack(got)]
            start = int.from_bytes(request[32:40], "little")

    def close(self) -> None:
        """Close the descriptors; the kernel drops every registration with them."""
        for address in list(self._ranges):
            self._drop(address)
        os.close(self._descriptor)
        os.close(self._pagemap)


def _userfaultfd() -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise UsageError(f"write tracking is not known for {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if descriptor < 0:
        raise UsageError(f"no userfaultfd: {os.strerror(ctypes.get_errno())}")
    try:
        fcntl.ioctl(descriptor, _API_IOCTL, struct.pack("<QQQ", _API, _FEATURES, 0))
    except OSError as failure:
        os.close(descriptor)
        raise UsageError(
            "this kernel has no asynchronous write protection (Linux 6.7 or newer has it): "
            f"{failure.strerror}"
        ) from failure
    return int(descriptor)
