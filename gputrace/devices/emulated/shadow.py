"""Which bytes of memory somebody has written: what `check=bytes` looks at beside sizes.

What the engines and waves write is known to the byte. What the CPU writes it writes through its own
mapping, unseen: a page that the CPU has stored into there counts as written whole, one that it has
only read does not. Memory that the client brought itself has no shadow and counts as written.
"""

import os
import struct
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputrace.devices.emulated.memory import Buffer, Pool, Space, Span
from gputrace.errors import UsageError
from gputrace.isa.launch import Access, KernelLaunch
from gputrace.kfd.host import PAGE
from gputrace.kfd.pagemap import Pagemap, Region
from gputrace.kfd.tracking import WriteTracker

_PRESENT, _SWAPPED = 1 << 63, 1 << 62  # Linux pagemap.rst
_STEP = 1 << 20  # bytes that are looked at together

Shadow = NDArray[np.uint8]
"""A byte for each byte of a buffer, not 0 where somebody has written."""


class _Mapping(NamedTuple):
    # Bytes of the pool that the client maps: their offset, how many, and that of their buffer.
    offset: int
    length: int
    buffer: int


class Touched:
    """Brings shadows up to date with what the client has stored through its mappings.

    It watches these mappings, unless somebody does who says what came of it: a range of memory has
    one who watches. Where the kernel has no write protection for that, a page that is there in a
    mapping counts as written.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shadows: dict[int, Shadow] = {}  # by the offset of their buffer in the pool
        self._buffers: list[int] = []  # these offsets in rising order
        self._mapped: dict[int, _Mapping] = {}  # by the client's address
        self._addresses: list[int] = []  # these addresses in rising order
        self._told = False
        self._tracker: WriteTracker | None = None
        self._protects = True
        self._pagemap = Pagemap()

    def close(self) -> None:
        """Forget everything."""
        if self._tracker is not None:
            self._tracker.close()
        self._pagemap.close()

    def cover(self, offset: int, length: int) -> Shadow:
        """Return the shadow of a new buffer that lies in the pool: nothing of it is written."""
        made = self._shadows[offset] = np.zeros(length, np.uint8)
        insort(self._buffers, offset)
        return made

    def uncover(self, offset: int) -> None:
        """Forget a buffer."""
        if self._shadows.pop(offset, None) is not None:
            self._buffers.remove(offset)

    def mapped(self, address: int, offset: int, length: int) -> None:
        """Say that the client maps a part of the pool."""
        at = bisect_right(self._buffers, offset) - 1
        buffer = self._buffers[at] if at >= 0 else 0
        if at < 0 or offset >= buffer + len(self._shadows[buffer]):
            return  # doorbells and the like
        self._mapped[address] = _Mapping(offset, length, buffer)
        insort(self._addresses, address)
        self._watch(address, length)

    def unmapped(self, address: int) -> None:
        """Say that a mapping of the client is about to go."""
        gone = self._mapped.get(address)
        if gone is None:
            return
        self._settle(address, gone, gone.offset, gone.offset + gone.length)
        if self._tracker is not None:
            self._tracker.forget(address, gone.length)
        del self._mapped[address]
        self._addresses.remove(address)

    def stored(self, stores: Iterable[tuple[int, int]]) -> None:
        """Take what the client has stored: addresses of its mappings and sizes.

        From the first call on, before anything is mapped, nothing is watched here.
        """
        self._told = True
        for address, size in stores:
            at = bisect_right(self._addresses, address) - 1
            start = self._addresses[at] if at >= 0 else 0
            found = self._mapped.get(start)
            if found is not None and address < start + found.length:
                first = address // PAGE * PAGE - start
                self._mark(found, found.offset + first, found.offset + address - start + size)

    def settle(self, span: Span, first: int, size: int) -> None:
        """Mark those pages around some bytes as written that the CPU has stored into."""
        shadow = span.shadow
        if shadow is None:
            return
        low, high = first // PAGE * PAGE, -(-(first + size) // PAGE) * PAGE
        if shadow[low:high].all():
            return
        start = span.buffer.offset
        for address, one in self._mapped.items():
            if one.buffer == start:
                self._settle(address, one, start + low, start + high)

    def settle_all(self) -> None:
        """Take in all that was stored."""
        for address, one in self._mapped.items():
            self._settle(address, one, one.offset, one.offset + one.length)

    def restart(self) -> None:
        """Forget what was stored and is not taken in; stores count again from here on."""
        if self._tracker is not None:
            self._tracker.written()

    def copied(self) -> None:
        """Watch the mappings of this fork from now on, no longer those of its parent."""
        self._pagemap.close()
        self._pagemap = Pagemap()
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None
        for address, one in self._mapped.items():
            self._watch(address, one.length)

    def _watch(self, address: int, length: int) -> None:
        if self._told or not self._protects:
            return
        if self._tracker is None:
            try:
                self._tracker = WriteTracker()
            except UsageError:
                self._protects = False
                return
        self._tracker.watch(address, length, written=False)

    # Mark the pages of a mapping that were stored into, between two offsets in the pool.
    def _settle(self, address: int, one: _Mapping, low: int, high: int) -> None:
        shift = address - one.offset
        first, end = max(low, one.offset) + shift, min(high, one.offset + one.length) + shift
        for start, after in self._written(first, end):
            self._mark(one, start - shift, after - shift)

    def _mark(self, one: _Mapping, low: int, high: int) -> None:
        # `low` is where a page begins.
        self._shadows[one.buffer][low - one.buffer : -(-high // PAGE) * PAGE - one.buffer] = 1

    def _written(self, first: int, end: int) -> Iterable[Region]:
        if first >= end:
            return []
        if self._protects:
            return self._pagemap.scan(first, end, protect=False)
        count = (end - first) // PAGE
        raw = os.pread(self._pagemap.descriptor, 8 * count, first // PAGE * 8)
        entries = struct.unpack(f"{count}Q", raw)
        there = (first + n * PAGE for n, one in enumerate(entries) if one & (_PRESENT | _SWAPPED))
        return [(at, at + PAGE) for at in there]


def unwritten(buffers: Iterable[Buffer]) -> list[Region]:
    """Return the bytes that nobody has written, first and end, by the addresses of buffers."""
    return [
        (buffer.address + first, buffer.address + end)
        for buffer in buffers
        if buffer.shadow is not None
        for first, end in _zeros(buffer.shadow[: buffer.size])
    ]


def leave_unwritten(buffers: Iterable[Buffer], ranges: Sequence[Region]) -> None:
    """Mark these bytes of buffers, first and end, as written by nobody, all others as written."""
    ranges = sorted(ranges)
    for buffer in buffers:
        if buffer.shadow is None:
            continue
        at, low = 0, bisect_right(ranges, (buffer.address,))
        for first, end in ranges[low:]:
            if first >= buffer.address + buffer.size:
                break
            start, after = first - buffer.address, min(end - buffer.address, buffer.size)
            buffer.shadow[at:start] = 1
            if buffer.shadow[start:after].any():  # what was never touched takes no memory
                buffer.shadow[start:after] = 0
            at = max(at, after)
        buffer.shadow[at:] = 1


def _zeros(shadow: Shadow) -> Iterator[Region]:
    first = -1  # of the stretch that goes on
    for at in range(0, len(shadow), _STEP):
        zero = shadow[at : at + _STEP] == 0
        for edge in (at + np.flatnonzero(np.diff(zero, prepend=first >= 0))).tolist():
            if first < 0:
                first = edge
            else:
                yield first, edge
                first = -1
    if first >= 0:
        yield first, len(shadow)


def byte_exact(launch: KernelLaunch) -> KernelLaunch:
    """Return a launch whose LDS ends where it was asked to, which its waves must not go beyond."""
    asked = launch.lds_bytes if launch.lds_asked is None else launch.lds_asked
    return replace(launch, lds_bytes=asked, lds_checked=True)


class KernelChecks:
    """Knows what a dispatch must not read; its scratch memory counts as written."""

    def __init__(self, space: Space, touched: Touched, scratch: int) -> None:
        self._space, self._touched, self._scratch = space, touched, scratch

    def unwritten(
        self, access: Access, address: NDArray[np.uint64], size: int, mask: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return the lanes that read what nobody has written; mark what they write."""
        wrong = np.zeros(address.shape, np.bool_)
        lanes = np.flatnonzero(mask)
        while len(lanes):
            span = self._space.find(int(address[lanes[0]]))
            assert span is not None, "checks come after the page table"
            here = lanes[(address[lanes] >= span.start) & (address[lanes] < span.end)]
            lanes = np.setdiff1d(lanes, here)
            shadow = span.shadow
            if shadow is None or span.start <= self._scratch < span.end:
                continue
            offsets = (address[here] - np.uint64(span.start)).astype(np.int64)
            places = offsets[:, None] + np.arange(size)
            if access != "write":
                wrong[here] = self._missing(span, shadow, places)
            if access != "read":
                shadow[places] = 1
        return wrong

    def _missing(self, span: Span, shadow: Any, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        missing: NDArray[np.bool_] = ~shadow[places].all(axis=1)
        if missing.any():
            for page in np.unique(places[missing] // PAGE):
                self._touched.settle(span, int(page) * PAGE, 1)
            missing = ~shadow[places].all(axis=1)
        return missing
