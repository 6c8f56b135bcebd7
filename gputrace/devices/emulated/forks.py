"""Emulated memory after a fork: shared pages have to become a copy.

Sources: proc(5) on /proc/pid/maps, lseek(2) on SEEK_DATA and SEEK_HOLE.
"""

import errno
import os
from collections.abc import Iterator

from gputrace.kfd import host

PIECE = 1 << 20


def copy_pages(fd: int) -> None:
    """Give this process a copy of a file of memory, behind `fd` and at all its mappings.

    For a child that was just forked; what it stores from then on its parent does not see.
    """
    old = os.fstat(fd)
    new = os.memfd_create("gputrace-copy", os.MFD_CLOEXEC)
    try:
        os.ftruncate(new, old.st_size)
        for start, end in _data(fd, old.st_size):
            for at in range(start, end, PIECE):
                os.pwrite(new, os.pread(fd, min(PIECE, end - at), at), at)
        for address, size, protection, offset in list(_mappings(old.st_dev, old.st_ino)):
            host.map_shared(new, offset, size, address, protection)
        os.dup2(new, fd, inheritable=False)
    finally:
        os.close(new)


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(fd, at, os.SEEK_HOLE)
        yield at, end
        at = end


def _mappings(device: int, inode: int) -> Iterator[tuple[int, int, int, int]]:
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}", str(inode)
    with open("/proc/self/maps", encoding="ascii", errors="replace") as lines:
        for line in lines:
            place, rights, offset, where, number, *_ = line.split()
            if (where, number) == wanted:
                start, end = (int(part, 16) for part in place.split("-"))
                protection = ("r" in rights) | ("w" in rights) << 1
                yield start, end - start, int(protection), int(offset, 16)
