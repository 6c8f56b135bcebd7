"""Find which pages the CPU wrote: write protection that the kernel resolves by itself.

A tracked range is registered with userfaultfd for asynchronous write protection; a scan of the
pagemap (`gputrace.kfd.pagemap`) then returns the pages written since the last one. Stores through
another mapping of the same pages (the emulated GPU's own) are not seen, which is the point.

Sources: linux/userfaultfd.h (UFFDIO_*, UFFD_FEATURE_*). Needs Linux 6.7 or newer.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
import threading
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple, Protocol

from gputrace.errors import KfdError, UsageError
from gputrace.kfd.host import PAGE
from gputrace.kfd.pagemap import LARGE, Pagemap, Ranges, Region, Sparse, stretches

_SYSCALL = {"x86_64": 323, "aarch64": 282}  # __NR_userfaultfd
_USER_MODE_ONLY = 1
_API, _API_IOCTL = 0xAA, 0xC018AA3F
_REGISTER_IOCTL, _UNREGISTER_IOCTL = 0xC020AA00, 0x8010AA01
_REGISTER_MODE_WP = 2
_FEATURES = 1 << 12 | 1 << 13 | 1 << 15  # WP_HUGETLBFS_SHMEM, WP_UNPOPULATED, WP_ASYNC


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
        self._ranges = Ranges()

    def add(self, address: int, size: int) -> None:
        """Say that a tracker watches a range."""
        with self.lock:
            self._ranges.add(address, size)
            self.changes += 1

    def remove(self, address: int) -> None:
        """Say that a range is watched no more."""
        with self.lock:
            self._ranges.remove(address)
            self.changes += 1

    def stretches(self, ranges: Ranges) -> list[Region]:
        """Return a tracker's ranges as few regions with nobody else's between."""
        with self.lock:
            return stretches(self._ranges.starts, ranges.sizes)


_everyone = _Everyone()


class WriteTracker:
    """Watch ranges of this process by userfaultfd and PAGEMAP_SCAN.

    Raises UsageError when the kernel has no asynchronous write protection.
    """

    def __init__(self) -> None:
        self._ranges, self._dense = Ranges(), Ranges()
        self._large: dict[int, Sparse] = {}
        self._fresh: set[int] = set()
        self._stretches: list[Region] = []
        self._seen = -1  # of _everyone.changes, when the stretches were made
        self._descriptor = _userfaultfd()
        self.pagemap = Pagemap()
        """What is scanned."""

    def watch(
        self, address: int, size: int, *, written: bool = True,
        touched: Callable[[int, int], Iterable[Region]] | None = None,
    ) -> None:  # fmt: skip
        """Begin to watch; with `written` the whole range counts as written at the next scan.

        `touched` gives the parts (address, size) of a range that hold more than zeros: then a large
        one costs only what these do, but `stretches` do not have it. Raises
        KfdError("userfaultfd", ...) for memory that cannot be watched.
        """
        if address % PAGE or size % PAGE or not size:
            raise UsageError(f"watch {address:#x}+{size:#x}: expected whole pages")
        request = struct.pack("<QQQQ", address, size, _REGISTER_MODE_WP, 0)
        try:
            fcntl.ioctl(self._descriptor, _REGISTER_IOCTL, request)
        except OSError as failure:
            fields = {"address": address, "size": size}
            raise KfdError("userfaultfd", failure.errno or 0, fields) from failure
        self._ranges.add(address, size)
        _everyone.add(address, size)
        if touched is not None and size > LARGE:
            self._large[address] = Sparse(self.pagemap, address, size, touched)
        else:
            self._dense.add(address, size)
            self.pagemap.scan(address, address + size)  # from here on pages are protected
        if written:
            self._fresh.add(address)

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range that `watch` was given."""
        if self._ranges.sizes.get(address) != size:
            raise UsageError(f"{address:#x}+{size:#x} is not watched")
        self._drop(address)
        try:
            fcntl.ioctl(self._descriptor, _UNREGISTER_IOCTL, struct.pack("<QQ", address, size))
        except OSError as failure:
            if failure.errno != errno.EINVAL:  # the mapping went away with its registration
                raise

    def _drop(self, address: int) -> None:
        self._ranges.remove(address)
        if self._large.pop(address, None) is None:
            self._dense.remove(address)
        self._fresh.discard(address)
        _everyone.remove(address)

    @property
    def fresh(self) -> bool:
        """Whether a range counts as written that nobody wrote: then only `written` will do."""
        return bool(self._fresh)

    def stretches(self) -> list[Region]:
        """Return what to scan, as few regions; the same list until it changes."""
        if self._seen != _everyone.changes:
            self._seen = _everyone.changes
            self._stretches = _everyone.stretches(self._dense)
        return self._stretches

    def written(self) -> list[Span]:
        """Scan every watched range and protect again what was written.

        Each span lies in one range.
        """
        found: list[Region] = []
        for start, end in self.stretches():
            found += self.pagemap.scan(start, end)
        for one in self._large.values():
            found += one.scan()
        fresh, self._fresh = self._fresh, set()
        return spans(self._ranges, sorted(found), fresh)

    def rest(self, found: list[Region], start: int, end: int) -> list[Span]:
        """Complete a scan that somebody began: what was found, and where to go on."""
        return spans(self._ranges, found + self.pagemap.scan(start, end))

    def close(self) -> None:
        """Close the descriptors; the kernel drops every registration with them."""
        for address in list(self._ranges.sizes):
            self._drop(address)
        os.close(self._descriptor)
        self.pagemap.close()


def spans(ranges: Ranges, found: list[Region], whole: Set[int] = frozenset()) -> list[Span]:
    """Return what was found, in rising order and each in one range; of `whole` ones all."""
    pieces = ranges.cut(found)
    if not whole:
        return [Span(low, high - low) for low, high in pieces]
    some = [Span(low, high - low) for low, high in pieces if ranges.start_of(low) not in whole]
    return sorted(some + [Span(start, ranges.sizes[start]) for start in whole])


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
