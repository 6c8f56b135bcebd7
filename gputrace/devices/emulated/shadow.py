"""Which bytes of memory somebody has written: what `check=bytes` looks at beside sizes.

What the engines and waves write is known to the byte. What the CPU writes it writes through its own
mapping, unseen: a page that the CPU has touched there counts as written whole. Memory that the
client brought itself has no shadow and counts as written.
"""

import os
import struct
from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputrace.devices.emulated.memory import Buffer, Pool, Space, Span
from gputrace.isa.launch import Access
from gputrace.kfd.host import PAGE

_PRESENT, _SWAPPED, _PROTECTED = 1 << 63, 1 << 62, 1 << 57  # Linux pagemap.rst


class Touched:
    """Knows the client's mappings of the pool, and which of their pages it has touched."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._starts: list[int] = []  # offsets in the pool
        self._mapped: list[tuple[int, int]] = []  # address and length of each
        self._entries = os.open("/proc/self/pagemap", os.O_RDONLY)

    def close(self) -> None:
        """Forget everything."""
        os.close(self._entries)

    def mapped(self, address: int, offset: int, length: int) -> None:
        """Say that the client maps a part of the pool."""
        at = bisect_right(self._starts, offset)
        self._starts.insert(at, offset)
        self._mapped.insert(at, (address, length))

    def unmapped(self, address: int) -> None:
        """Say that a mapping of the client is gone."""
        for at, (start, _) in enumerate(self._mapped):
            if start == address:
                del self._starts[at], self._mapped[at]
                return

    def settle(self, span: Span, first: int, size: int) -> None:
        """Mark those pages around some bytes as written that the CPU has touched."""
        shadow = span.shadow
        if shadow is None:
            return
        for at in range(first // PAGE * PAGE, first + size, PAGE):
            if not shadow[at : at + PAGE].all() and self._touched(span.buffer, at):
                shadow[at : at + PAGE] = 1

    def _touched(self, buffer: Buffer, at: int) -> bool:
        place = buffer.offset + at
        number = bisect_right(self._starts, place) - 1
        while number >= 0:
            start, (address, length) = self._starts[number], self._mapped[number]
            if place < start + length and self._entry(address + place - start, place):
                return True
            if start < buffer.offset:
                break
            number -= 1
        return False

    def _entry(self, address: int, place: int) -> bool:
        (entry,) = struct.unpack("Q", os.pread(self._entries, 8, address // PAGE * 8))
        if entry & _SWAPPED and entry & _PROTECTED:
            # Either swapped out or never there but watched: a hole in the file tells which.
            return not self._hole(place)
        return bool(entry & (_PRESENT | _SWAPPED))

    def _hole(self, place: int) -> bool:
        return os.lseek(self._pool.fd, place, os.SEEK_HOLE) == place


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
