"""Rings: bounded, never overwritten, in the units of each kind of queue.

Positions count bytes from the beginning of the queue and never wrap. Rules of the kinds: PM4 counts
dwords and packets may straddle the end; SDMA counts bytes and packets may not; AQL counts packets
of 64 bytes, which cannot. Sources: libhsakmt queues.c, ROCr amd_blit_sdma.cpp, hsa.h.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gputrace.errors import UsageError
from gputrace.kfd.port import Kfd

KEPT = 256  # submissions remembered for reports, beside those that were not fetched yet


class Submission(NamedTuple):
    """What was put into a ring by one call: byte positions and a text for people."""

    start: int
    end: int
    what: str


class Ring:
    """The ring of one queue: memory, both pointers and the doorbell.

    `unit` is how many bytes the pointers count by; `straddle` whether a packet may go over the end;
    `last_packet` whether the doorbell takes the last packet's index and not the next one's (AQL).
    """

    def __init__(
        self,
        kfd: Kfd,
        memory: memoryview,
        pointers: tuple[memoryview, memoryview],
        doorbell: int,
        *,
        unit: int,
        straddle: bool,
        last_packet: bool = False,
    ) -> None:
        self.size = len(memory)
        if self.size & (self.size - 1) or self.size < 1024:
            raise UsageError(f"a ring has a power of two of at least 1024 bytes, not {self.size}")
        self.unit, self._straddle, self._last_packet = unit, straddle, last_packet
        self._memory, self._doorbell = memory, doorbell
        self._read, self._write = (one.cast("Q") for one in pointers)
        self._ring_doorbell: Callable[[int, int], None] = kfd.doorbell
        self.written = 0
        self.rung = 0
        # A PM4 read pointer may wrap at the ring's size, so full and empty must differ.
        self._limit = self.size if last_packet else self.size - unit
        # Before what may not go over the end, less than its own size is skipped.
        self._most = self._limit if straddle else self.size // 2
        self.log: deque[Submission] = deque()

    @property
    def consumed(self) -> int:
        """Bytes that the engine has fetched, counted from the beginning."""
        if self._last_packet:
            return self._read[0] * self.unit
        return self.written - (self.written - self._read[0] * self.unit) % self.size

    @property
    def free(self) -> int:
        """Bytes that can be put without overwriting what was not fetched yet."""
        return self._limit - (self.written - self.consumed)

    def padding(self, size: int) -> int:
        """Return the bytes to skip so that `size` bytes do not go over the end of the ring."""
        left = self.size - self.written % self.size
        return left if size > left and not self._straddle else 0

    def need(self, size: int) -> int:
        """Return the bytes that putting `size` bytes takes; UsageError when it never fits."""
        if size > self._most:
            raise UsageError(
                f"a submission of {size} bytes does not fit a ring of {self.size}, which takes "
                f"{self._most}: split it, or make the queue with a larger ring"
            )
        return size + self.padding(size)

    def put(self, data: bytes | bytearray, what: str) -> None:
        """Copy packets into the ring; there must be room (`need` against `free`)."""
        gap = self.padding(len(data))
        if gap:
            start = self.written % self.size
            self._memory[start : start + gap] = bytes(gap)  # zero dwords are one-dword NOPs
            self.written += gap
        start = self.written
        at = start % self.size
        end = at + len(data)
        if self._last_packet:
            self._put_slots(at, data)
        elif end <= self.size:
            self._memory[at:end] = data
        else:
            first = self.size - at
            self._memory[at:] = data[:first]
            self._memory[: end - self.size] = data[first:]
        self.written = start + len(data)
        self.log.append(Submission(start, self.written, what))
        if len(self.log) > 2 * KEPT:
            self._forget()

    def _forget(self) -> None:
        fetched = self.consumed
        while len(self.log) > KEPT and self.log[0].end <= fetched:
            self.log.popleft()

    def _put_slots(self, at: int, data: bytes | bytearray) -> None:
        # Body first, header last: the packet processor takes a slot whose header is valid.
        for place in range(0, len(data), self.unit):
            slot = (at + place) % self.size
            self._memory[slot + 4 : slot + self.unit] = data[place + 4 : place + self.unit]
            self._memory[slot : slot + 4] = data[place : place + 4]

    def ring(self) -> None:
        """Publish all that was put: store the write pointer, then the doorbell."""
        position = self.written // self.unit
        self._write[0] = position
        self.rung = self.written
        self._ring_doorbell(self._doorbell, position - 1 if self._last_packet else position)

    def submitted(self, offset: int) -> str:
        """Return what put the bytes at an offset of the ring, or nothing when that is forgotten."""
        at = self.written - 1 - (self.written - 1 - offset) % self.size
        return next((one.what for one in reversed(self.log) if one.start <= at < one.end), "")

    def current(self) -> str:
        """Say which submission is being executed, as far as the read pointer tells."""
        at = self.consumed
        if at >= self.rung:
            return f"everything fetched ({self.rung // self.unit} units); last: {self._last()}"
        for one in self.log:
            if one.start <= at < one.end:
                return f"at {one.what}, byte {at - one.start} of {one.end - one.start}"
        return f"at position {at // self.unit}, {(self.rung - at) // self.unit} units behind"

    def _last(self) -> str:
        return self.log[-1].what if self.log else "nothing was submitted"

    def close(self) -> None:
        """Let go of the memory."""
        self._read.release()
        self._write.release()
