"""Addresses for buffers, given out of one fixed range: the same program gets the same addresses.

A fixed range is what lets a recording be replayed on hardware without moving anything. This module
is arithmetic only; the range itself is reserved through the port by the session.
"""

from bisect import bisect_left, insort

from gputrace.errors import UsageError

PAGE = 4096
HUGE_PAGE = 1 << 21
# Below the mmap area and above the heap of every x86-64 process; inside the 47-bit GPUVM aperture.
ARENA_BASE = 0x1000_0000_0000
ARENA_SIZE = 1 << 40
ARENA_COUNT = 16  # sessions open at a time in one process: slot n starts at base + n * size


def round_up(value: int, unit: int) -> int:
    """Return the smallest multiple of `unit` that is not below `value`."""
    return -(-value // unit) * unit


class Arena:
    """First-fit allocation of address ranges in [base, base + size)."""

    def __init__(self, base: int, size: int) -> None:
        self.base, self.size = base, size
        # Free ranges as (start, end), sorted, never touching one another.
        self._free: list[tuple[int, int]] = [(base, base + size)]
        self._taken: dict[int, int] = {}

    @property
    def used(self) -> int:
        """Bytes given out now."""
        return sum(self._taken.values())

    def take(self, size: int, alignment: int = PAGE) -> int:
        """Return the lowest free address for `size` bytes, both whole pages. Raises UsageError."""
        if size <= 0 or size % PAGE or alignment < PAGE or alignment & (alignment - 1):
            raise UsageError(f"cannot take {size} bytes aligned to {alignment}: not whole pages")
        for index, (start, end) in enumerate(self._free):
            address = round_up(start, alignment)
            if address + size <= end:
                self._cut(index, address, address + size)
                self._taken[address] = size
                return address
        raise UsageError(f"no free range of {size} bytes in the arena ({self.used} bytes in use)")

    def take_at(self, address: int, size: int) -> None:
        """Take exactly [address, address + size). Raises UsageError when any of it is in use."""
        for index, (start, end) in enumerate(self._free):
            if start <= address and address + size <= end:
                self._cut(index, address, address + size)
                self._taken[address] = size
                return
        raise UsageError(f"{address:#x}+{size:#x} is not free in the arena")

    def give_back(self, address: int) -> None:
        """Free the range that starts at `address`. Raises UsageError when nothing does."""
        size = self._taken.pop(address, None)
        if size is None:
            raise UsageError(f"{address:#x} was not given out")
        start, end = address, address + size
        index = bisect_left(self._free, (start, end))
        if index < len(self._free) and self._free[index][0] == end:
            end = self._free.pop(index)[1]
        if index and self._free[index - 1][1] == start:
            start = self._free.pop(index - 1)[0]
        insort(self._free, (start, end))

    def _cut(self, index: int, start: int, end: int) -> None:
        free_start, free_end = self._free[index]
        rest = [(free_start, start), (end, free_end)]
        self._free[index : index + 1] = [(low, high) for low, high in rest if low < high]
