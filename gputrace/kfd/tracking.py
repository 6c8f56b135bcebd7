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
_SCAN_PROTECT, _SCAN_CHECK = 1, 2  # PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC
_WRITTEN = 1 << 1  # PAGE_IS_WRITTEN
_REGIONS = 512


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


class WriteTracker:
    """Watch ranges of this process by userfaultfd and PAGEMAP_SCAN.

    Raises UsageError when the kernel has no asynchronous write protection.
    """

    def __init__(self) -> None:
        self._ranges: dict[int, int] = {}
        self._fresh: set[int] = set()
        self._descriptor = _userfaultfd()
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._found = ctypes.create_string_buffer(24 * _REGIONS)

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
        self._scan(address, address + size)  # from here on pages are protected
        if written:
            self._fresh.add(address)

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range that `watch` was given."""
        if self._ranges.get(address) != size:
            raise UsageError(f"{address:#x}+{size:#x} is not watched")
        del self._ranges[address]
        self._fresh.discard(address)
        try:
            fcntl.ioctl(self._descriptor, _UNREGISTER_IOCTL, struct.pack("<QQ", address, size))
        except OSError as failure:
            if failure.errno != errno.EINVAL:  # the mapping went away with its registration
                raise

    def written(self) -> list[Span]:
        """Scan every watched range and protect again what was written."""
        spans = []
        for address in sorted(self._ranges):
            size = self._ranges[address]
            found = self._scan(address, address + size)
            if address in self._fresh:
                self._fresh.discard(address)
                spans.append(Span(address, size))
            else:
                spans += found
        return spans

    def _scan(self, start: int, end: int) -> list[Span]:
        spans: list[Span] = []
        vector = ctypes.addressof(self._found)
        while start < end:
            flags = _SCAN_PROTECT | _SCAN_CHECK
            # size, flags, start, end, walk_end, vec, vec_len, max_pages, then the categories:
            # inverted, all of, any of, returned
            request = bytearray(
                struct.pack(
                    "<12Q", 96, flags, start, end, 0, vector, _REGIONS, 0, 0, _WRITTEN, 0, _WRITTEN
                )
            )
            count = fcntl.ioctl(self._pagemap, _SCAN_IOCTL, request, True)
            for i in range(count):
                low, high, _ = struct.unpack_from("<QQQ", self._found, 24 * i)
                if spans and sum(spans[-1]) == low:
                    low = spans.pop().address
                spans.append(Span(low, high - low))
            start = struct.unpack_from("<Q", request, 32)[0]
        return spans

    def close(self) -> None:
        """Close the descriptors; the kernel drops every registration with them."""
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
