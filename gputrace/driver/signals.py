"""Signals of AQL: 64-bit values that packets decrement and barriers wait for."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from gputrace.driver.mechanism import Event
from gputrace.errors import UsageError
from gputrace.formats.aql import SIGNAL_VALUE, AmdSignal
from gputrace.formats.descriptor import DESCRIPTOR_BYTES
from gputrace.kfd import host

SIGNAL_BYTES = DESCRIPTOR_BYTES
_START, _END = (AmdSignal.BY_NAME[name].lo // 8 for name in ("start_ts", "end_ts"))
Until = Callable[[Callable[[], bool], str, float | None], None]


class Signal:
    """A value in memory that every device of the session can reach; it starts as `initial`.

    Packets take one from it when they complete. The times of the work are in GPU clock ticks.
    """

    def __init__(
        self, name: str, address: int, memory: memoryview, until: Until, event: Event, mailbox: int
    ) -> None:
        self.name, self.address = name, address
        self._memory, self._until = memory, until
        self.event_id, self.mailbox = event.event_id, mailbox
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Signal {self.name} at {self.address:#x}: {self.value}>"

    @property
    def value(self) -> int:
        """The value as the CPU sees it now, signed."""
        return self._read(SIGNAL_VALUE, signed=True)

    @property
    def halves(self) -> tuple[int, int]:
        """The addresses of the two dwords of the value, the lower one first."""
        return self.address + SIGNAL_VALUE, self.address + SIGNAL_VALUE + 4

    @property
    def times(self) -> tuple[int, int]:
        """When the last kernel that completed on this signal began and ended."""
        return self._read(_START), self._read(_END)

    def _read(self, offset: int, signed: bool = False) -> int:
        return int.from_bytes(self._memory[offset : offset + 8], "little", signed=signed)

    def set(self, value: int) -> None:
        """Store a value from the CPU; it rings no doorbell."""
        if not -(1 << 63) <= value < 1 << 63:
            raise UsageError(f"{self.name}: {value} is not a signed 64-bit value")
        raw = value.to_bytes(8, "little", signed=True)
        self._memory.cast("Q")[SIGNAL_VALUE // 8] = int.from_bytes(raw, "little")

    def add(self, amount: int) -> int:
        """Add from the CPU, undivided; return the value before."""
        place = ctypes.addressof(ctypes.c_ubyte.from_buffer(self._memory)) + SIGNAL_VALUE
        before = host.add(place, amount)
        return before - (1 << 64) if before >> 63 else before

    def wait(self, below: int = 1, timeout: float | None = 30.0) -> None:
        """Return once the value is smaller than `below`. Raises as `Point.wait` does."""
        self._until(lambda: self.value < below, f"signal {self.name} < {below}", timeout)

    def describe(self, initial: int) -> AmdSignal:
        """Return the record that the memory begins with."""
        return AmdSignal(value=initial, event_mailbox_ptr=self.mailbox, event_id=self.event_id)

    def detach(self) -> None:
        """Keep the last value; the memory behind it goes away."""
        kept = memoryview(bytearray(self._memory))
        self._memory.release()
        self._memory = kept
