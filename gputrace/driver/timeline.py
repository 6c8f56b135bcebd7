"""Timelines: 64-bit values that only grow, written and waited for by engines, devices and the CPU.

Engines compare 32 bits at a time. A timeline therefore has two cells of 64 bits, used in turn:
values whose upper half is even live in the first, odd ones in the second. While the upper half
stays the same, comparing the lower half of that cell is enough; when it changes, the old cell keeps
its last value, so a late waiter for an old value still finds it reached. The upper half of a cell
changes only from e to e + 2, so a waiter first compares it (>= e), then the lower one. An engine
that stores 32 bits at a time stores the lower half first, for the same reason.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gputrace.errors import UsageError

CELL_BYTES = 8
TIMELINE_BYTES = 64  # a cache line each, so that timelines of different engines do not share one
MAX_VALUE = (1 << 64) - 1

Until = Callable[[Callable[[], bool], str, float | None], None]


class Timeline:
    """A growing value in memory that every device of the session can reach.

    `cells` shows the two cells as 64-bit integers, `until` waits. Raises UsageError for a value
    that does not grow. A `shared` one lies in memory of several processes, of which one at a time
    may promise the next value.
    """

    def __init__(
        self,
        name: str,
        address: int,
        cells: memoryview,
        until: Until,
        *,
        shared: bool = False,
        owner: object = None,
    ) -> None:
        self.name, self.address = name, address
        self._cells, self._until = cells, until
        self._shared, self.owner = shared, owner
        self._last = self.value if shared else 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Timeline {self.name} at {self.address:#x}: {self.value} of {self._last}>"

    @property
    def value(self) -> int:
        """The value reached, as the CPU sees it now."""
        cells = self._cells
        first, second = cells[0], cells[1]
        return first if first > second else second

    @property
    def last(self) -> int:
        """The greatest value that was promised."""
        return self._last

    def take(self, value: int | None = None) -> int:
        """Promise a value: the next one, or `value`, which must be greater than what is reached.

        Values may be promised out of order where queues wait for one another in between.
        """
        with self._lock:
            if self._shared:  # another process may be further
                self._last = max(self._last, self.value)
            if value is None and self._last < MAX_VALUE:
                self._last += 1
                return self._last
            chosen = self._last + 1 if value is None else value
            reached = self.value
            if not reached < chosen <= MAX_VALUE:
                raise UsageError(f"{self.name}: {chosen} does not come after {reached}")
            last_of_cell = (self._last + 1) | 0xFFFF_FFFF
            if chosen > last_of_cell:
                raise UsageError(
                    f"{self.name}: from {self._last} to {chosen} would skip {last_of_cell}, which "
                    "engines need to see: signal that value first"
                )
            self._last = max(self._last, chosen)
            return chosen

    def at(self, value: int) -> Point:
        """Return the moment when the timeline reaches `value`."""
        if not 0 <= value <= MAX_VALUE:
            raise UsageError(f"{self.name}: {value} is not a 64-bit value")
        return Point(self, value)

    def cell(self, value: int) -> int:
        """Return the address that `value` is stored at."""
        return self.address + CELL_BYTES * (value >> 32 & 1)

    def set(self, value: int | None = None) -> Point:
        """Store a value from the CPU; it rings no doorbell."""
        chosen = self.take(value)
        self._cells[chosen >> 32 & 1] = chosen
        return Point(self, chosen)

    def detach(self) -> None:
        """Keep the values reached so far; the memory behind them goes away."""
        kept = memoryview(bytearray(self._cells)).cast("Q")
        self._cells.release()
        self._cells = kept

    def wait(self, value: int, timeout: float | None) -> None:
        """Return once `value` is reached; see `Waiter.until` for how else it ends."""
        self._until(lambda: self.value >= value, f"{self.name} >= {value}", timeout)


class Point:
    """A value on a timeline: what a submission gives back and what waits are for."""

    __slots__ = ("timeline", "value")

    def __init__(self, timeline: Timeline, value: int) -> None:
        self.timeline, self.value = timeline, value

    def __repr__(self) -> str:
        return f"<{self.timeline.name} >= {self.value}>"

    @property
    def done(self) -> bool:
        """Whether the value is reached now."""
        return self.timeline.value >= self.value

    def wait(self, timeout: float | None = 30.0) -> None:
        """Return once the value is reached, at the latest after `timeout` seconds.

        Raises DeviceFault, ProvenHang or WaitTimeout.
        """
        self.timeline.wait(self.value, timeout)

    def comparisons(self) -> list[tuple[int, int]]:
        """Return what an engine polls, in order: (address, reference) of unsigned 32-bit >=."""
        cell, high, low = self.timeline.cell(self.value), self.value >> 32, self.value & 0xFFFF_FFFF
        first = [(cell + 4, high)] if high else []
        return [*first, (cell, low)]
