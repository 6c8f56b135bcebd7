"""Memory of the emulated GPUs: buffers, where their bytes live, and what each GPU's page table
says.

VRAM and GTT are pages of a memfd. The client maps them through its own descriptor; the emulator
has a second mapping of the same pages, so that whoever watches the client's mapping sees the
CPU's stores and never the GPU's. A user pointer has no second mapping: the emulator goes to the
client's pages.
"""

import ctypes
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from gputrace.errors import GputraceError
from gputrace.formats.ioctl import AllocFlag
from gputrace.kfd import host
from gputrace.kfd.host import PAGE

_REMEMBERED = 4096  # buffers that a page table had and whose addresses it can still name
_POOLS, _APART, _MANY = 0x4000_0000_0000, 1 << 40, 64  # addresses that pools would like to have
_count = count()
_PUNCH_HOLE, _KEEP_SIZE = 0x02, 0x01  # FALLOC_FL_* of <linux/falloc.h>


class AccessFault(GputraceError):
    """A GPU access that the page table refuses."""

    def __init__(self, address: int, access: str, reason: str) -> None:
        self.address, self.access, self.reason = address, access, reason
        super().__init__(f"{reason} at {address:#x}")


@dataclass(eq=False, slots=True)
class Buffer:
    """One allocation: `size` bytes were asked for, `length` are there (whole pages)."""

    handle: int
    gpu_id: int
    flags: AllocFlag
    address: int
    size: int
    length: int
    host: int
    offset: int
    number: int
    mapped: set[int] = field(default_factory=set)
    owner: "Buffer | None" = None
    """The buffer whose memory this one shares."""
    references: int = 1
    """Handles and descriptors of the memory that this buffer owns."""
    freed: bool = False
    shadow: NDArray[np.uint8] | None = None

    @property
    def writable(self) -> bool:
        """Whether the GPU may write it."""
        return bool(self.flags & AllocFlag.WRITABLE)

    @property
    def executable(self) -> bool:
        """Whether waves may fetch instructions from it."""
        return bool(self.flags & AllocFlag.EXECUTABLE)

    def holds(self, address: int) -> bool:
        """Whether an address is inside, in the buffer's last page too."""
        return self.address <= address < self.address + self.length

    def describe(self, size: int) -> str:
        """Say in a few words what it is, with a size in bytes."""
        names = "+".join(name.name or "" for name in AllocFlag if name & self.flags & 0x1F)
        return f"{names}, {size:#x} bytes at {self.address:#x}"


@dataclass(frozen=True, slots=True)
class Gone:
    """A buffer that a page table does not have any more, since a step of the scheduler."""

    buffer: Buffer
    step: int


class Pool:
    """A growing file of memory. Offsets are never used twice, so a stale mapping stays harmless.

    Its parts are mapped side by side where little else is: whoever scans them for what was written
    has few mappings of others to pass.
    """

    def __init__(self, name: str) -> None:
        self.fd = os.memfd_create(name)
        self._near = _POOLS + next(_count) % _MANY * _APART
        self.parts: dict[int, tuple[int, int]] = {}
        """Emulator address of each part in use: its offset in the file and its length."""
        self._lengths: dict[int, int] = {}
        self._end = 0

    def take(self, length: int) -> tuple[int, int]:
        """Return offset and emulator address of `length` zero bytes (whole pages)."""
        offset = self._end
        os.ftruncate(self.fd, offset + length)
        self._end = offset + length
        address = host.map_shared(self.fd, offset, length, None, 3, near=self._near + offset)
        self.parts[address] = offset, length
        self._lengths[offset] = length
        return offset, address

    def holds(self, offset: int, size: int) -> bool:
        """Whether a part in use begins at an offset and has so many bytes."""
        return 0 < size <= self._lengths.get(offset, 0)

    def touched(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of the file, (first, end), that have pages: the rest holds zeros."""
        end = offset + length
        while offset < end:
            try:
                low = os.lseek(self.fd, offset, os.SEEK_DATA)
            except OSError:
                return  # nothing after it
            offset = min(os.lseek(self.fd, low, os.SEEK_HOLE), end)
            if low < end:
                yield low, offset

    def drop(self, offset: int, length: int, address: int) -> None:
        """Give memory back; a client's mapping that is left over reads zeros."""
        del self.parts[address], self._lengths[offset]
        host.unmap(address, length)
        call = ctypes.CDLL(None, use_errno=True).fallocate
        call(self.fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(length))

    def close(self) -> None:
        """Forget the file; mappings of it live on."""
        os.close(self.fd)


@dataclass(eq=False, slots=True)
class Span:
    """A buffer in a page table: GPU addresses `start` to `end` are `view`."""

    start: int
    end: int
    limit: int
    buffer: Buffer
    host: int
    view: memoryview
    dwords: memoryview
    quads: memoryview
    writable: bool
    executable: bool
    shadow: NDArray[np.uint8] | None
    """One byte for each, not 0 where somebody has written; None when nobody asks."""

    def written(self, at: int, size: int) -> None:
        """Note that bytes from offset `at` on are written."""
        if self.shadow is not None:
            self.shadow[at : at + size] = 1


class Space:
    """The page table of one GPU for one process.

    When it is `exact`, a buffer ends where its last byte was asked for, not at the end of the page.
    """

    def __init__(self, exact: bool = False) -> None:
        self.version = 0
        self.exact = exact
        self._starts: list[int] = []
        self._spans: list[Span] = []
        self._gone: deque[Gone] = deque(maxlen=_REMEMBERED)
        self._last: Span | None = None  # what the last operand lay in

    @property
    def spans(self) -> tuple[Span, ...]:
        """What is mapped, by address."""
        return tuple(self._spans)

    def map(self, buffer: Buffer) -> None:
        """Enter a buffer. The caller has checked that the range is free."""
        start, end = buffer.address, buffer.address + buffer.length
        limit = start + buffer.size if self.exact else end
        view = host.view(buffer.host, buffer.length)
        at = bisect_right(self._starts, start)
        self._starts.insert(at, start)
        may = buffer.writable, buffer.executable
        cells = view, view.cast("I"), view.cast("Q")
        span = Span(start, end, limit, buffer, buffer.host, *cells, *may, buffer.shadow)
        self._spans.insert(at, span)
        self.version += 1

    def unmap(self, buffer: Buffer, step: int) -> None:
        """Take a buffer out and remember it, and when, for the messages of later faults."""
        at = bisect_right(self._starts, buffer.address) - 1
        if at < 0 or self._spans[at].buffer is not buffer:
            return
        del self._starts[at], self._spans[at]
        self._last = None
        self._gone.append(Gone(buffer, step))
        self.version += 1

    def shorten(self, start: int, size: int) -> None:
        """Have the buffer that begins at an address end after `size` bytes, inside its last page.

        Nothing happens unless the page table is exact.
        """
        span = self.find(start)
        if self.exact and span is not None and span.start == start:
            span.limit = span.start + min(size, span.end - span.start)
            self.version += 1

    def overlaps(self, start: int, end: int) -> bool:
        """Whether anything is mapped in start..end."""
        at = bisect_right(self._starts, end - 1) - 1
        return at >= 0 and self._spans[at].end > start

    def find(self, address: int) -> Span | None:
        """Return what is mapped at an address."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0 and address < self._spans[at].end:
            return self._spans[at]
        return None

    def span(self, address: int, size: int, access: str) -> Span:
        """Return the one span that holds an operand, or raise AccessFault as the GPU would."""
        span = self._last
        if span is None or not span.start <= address < span.end:
            span = self._last = self.find(address)
        if span is not None and address + size <= span.limit and (access == "r" or span.writable):
            return span
        for _ in self.pieces(address, size, access):
            pass  # raises at the first byte that may not be touched
        raise AccessFault(address, access, "operand across two buffers")

    def load(self, address: int, size: int) -> int:
        """Return an operand of 4 or 8 bytes; an aligned one is read by one load."""
        span = self._last
        if span is None or not span.start <= address <= span.limit - size:
            span = self.span(address, size, "r")
        at = address - span.start
        if not at % size:
            return span.dwords[at >> 2] if size == 4 else span.quads[at >> 3]
        return int.from_bytes(span.view[at : at + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Store an operand of 4 or 8 bytes; an aligned one by one store."""
        span = self._last
        if span is None or not (span.writable and span.start <= address <= span.limit - size):
            span = self.span(address, size, "w")
        at = address - span.start
        if at % size:
            span.view[at : at + size] = value.to_bytes(size, "little")
        elif size == 4:
            span.dwords[at >> 2] = value
        else:
            span.quads[at >> 3] = value
        if span.shadow is not None:
            span.written(at, size)

    def refuse(self, address: int, access: str) -> None:
        """Raise AccessFault unless one byte at `address` may be accessed."""
        span = self.find(address)
        if span is None:
            raise AccessFault(address, access, "page not present")
        if address >= span.limit:
            raise AccessFault(address, access, "past the end of the buffer")
        if access == "w" and not span.writable:
            raise AccessFault(address, access, "write to read-only memory")
        if access == "x" and not span.executable:
            raise AccessFault(address, access, "execution of memory that is not executable")

    def pieces(self, address: int, size: int, access: str) -> Iterator[tuple[Span, int, int]]:
        """Yield (span, first byte in it, length) of a range; raise AccessFault at the first gap."""
        while size > 0:
            self.refuse(address, access)
            span = self.find(address)
            assert span is not None
            length = min(size, span.limit - address)
            yield span, address - span.start, length
            address, size = address + length, size - length

    def read(self, address: int, size: int) -> bytes:
        """Return bytes as the GPU sees them."""
        span = self.find(address)
        if span is not None and address + size <= span.limit:
            return bytes(span.view[address - span.start : address - span.start + size])
        pieces = self.pieces(address, size, "r")
        return b"".join(bytes(span.view[at : at + length]) for span, at, length in pieces)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes; those before a fault are stored."""
        done = 0
        for span, at, length in self.pieces(address, len(data), "w"):
            span.view[at : at + length] = data[done : done + length]
            span.written(at, length)
            done += length

    def around(self, address: int) -> tuple[Span | None, Span | None]:
        """Return the last span that begins at or below an address, and the first one above."""
        at = bisect_right(self._starts, address)
        below = self._spans[at - 1] if at else None
        return below, self._spans[at] if at < len(self._spans) else None

    def gone(self, address: int) -> Gone | None:
        """Return what was at an address last, where nothing is now."""
        if self.find(address) is not None:
            return None
        return next((one for one in reversed(self._gone) if one.buffer.holds(address)), None)


def pages(size: int) -> int:
    """Round a size up to whole pages."""
    return -(-size // PAGE) * PAGE
