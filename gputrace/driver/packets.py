"""The PM4 packets that the driver sends, the same way to each generation."""

import struct

from gputrace.driver.queue import builder
from gputrace.driver.signals import Signal
from gputrace.driver.timeline import Point
from gputrace.formats.operations import AtomicOperation, Compare, GcrRange, GcrSequence
from gputrace.formats.packets import Packet
from gputrace.formats.pm4 import (
    AtomicMem,
    EventIndex,
    EventWrite,
    Pm4Dialect,
    ReleaseData,
    ReleaseInterrupt,
    WaitRegMem,
)
from gputrace.formats.pm4 import Event as PipeEvent

MINUS_ONE = (1 << 64) - 1
POLL_INTERVAL = 10  # clocks, as the kernel and tinygrad set it

# Which caches a fence writes back and an acquire invalidates, by the names of the layouts' bits;
# a layout takes those that it has. Sources: gfx_v9_0.c gfx_v9_0_ring_emit_fence and
# gfx_v9_0_emit_mem_sync, gfx_v10_0.c, gfx_v11_0.c and gfx_v12_0.c likewise.
_WRITE_BACK = {
    "tc_wb": True, "tc_nc": True, "gl2_wb": True, "glm_wb": True, "glm_inv": True,
    "seq": GcrSequence.FORWARD,
}  # fmt: skip
_INVALIDATE = {
    "tc_wb": True, "tcl1": True, "tc": True, "sh_kcache": True, "sh_icache": True,
    "gli_inv": GcrRange.ALL, "glm_wb": True, "glm_inv": True, "glk_inv": True, "glv_inv": True,
    "gl1_inv": True, "gl2_inv": True, "gl2_wb": True,
}  # fmt: skip


class Pm4Packets:
    """Builds the packets that differ between dialects."""

    def __init__(self, dialect: Pm4Dialect) -> None:
        self.dialect = dialect
        self._release = builder(dialect, "ReleaseMem")
        self._write = builder(dialect, "WriteData")
        release, acquire = dialect.packet("ReleaseMem"), dialect.packet("AcquireMem")
        self._flush = {k: v for k, v in _WRITE_BACK.items() if k in release.BY_NAME}
        invalidate = {k: v for k, v in _INVALIDATE.items() if k in acquire.BY_NAME}
        self._acquired: Packet = acquire(**invalidate)

    def release(
        self,
        address: int,
        value: int = 0,
        *,
        data: ReleaseData = ReleaseData.DATA_64,
        event_id: int = 0,
    ) -> Packet:
        """Store when all earlier work is done and written back; interrupt for an `event_id`."""
        interrupt = ReleaseInterrupt.AFTER_WRITE_CONFIRM if event_id else ReleaseInterrupt.NONE
        return self._release(
            address=address,
            data=value,
            data_sel=data,
            int_sel=interrupt,
            int_ctxid=event_id,
            **self._flush,
        )

    def acquire(self) -> Packet:
        """Write back and invalidate all caches over all addresses."""
        return self._acquired

    def write(self, address: int, data: bytes) -> Packet:
        """Store whole dwords."""
        return self._write(address=address, data=struct.unpack(f"<{len(data) // 4}I", data))

    def wait(self, address: int, reference: int, function: Compare = Compare.GE) -> Packet:
        """Hold the queue until a dword of memory compares true (unsigned)."""
        return WaitRegMem(
            function=function, address=address, reference=reference, interval=POLL_INTERVAL
        )

    def signal(self, point: Point, mailbox: int, event_id: int) -> list[Packet]:
        """Store a timeline's value, then tell the CPU: the id into the event's slot, interrupt."""
        return [
            self.release(point.timeline.cell(point.value), point.value),
            self.release(mailbox, event_id, event_id=event_id),
        ]

    def wait_point(self, point: Point) -> list[Packet]:
        """Hold the queue until a timeline's value is reached."""
        return [self.wait(address, reference) for address, reference in point.comparisons()]

    def wait_zero(self, signal: Signal) -> list[Packet]:
        """Hold the queue until a signal is 0; it only goes down."""
        return [self.wait(half, 0, Compare.EQ) for half in signal.halves]

    def complete(self, signal: Signal) -> list[Packet]:
        """Take one from a signal when earlier work is done and written back; tell the CPU."""
        less = AtomicMem(
            atomic=AtomicOperation.ADD_RTN_64, address=signal.halves[0], source=MINUS_ONE
        )
        told = self.release(signal.mailbox, signal.event_id, event_id=signal.event_id)
        return [self.drain(), self.acquire(), less, told]

    @staticmethod
    def drain() -> Packet:
        """Wait for all earlier waves of this queue."""
        return EventWrite(
            event_type=PipeEvent.CS_PARTIAL_FLUSH, event_index=EventIndex.CS_PARTIAL_FLUSH
        )
