"""PM4 compute queues: packets for the compute micro-engine of each generation."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gputrace.driver.memory import Buffer, Data
from gputrace.driver.queue import Queue, builder, pack
from gputrace.driver.timeline import Point
from gputrace.errors import UsageError
from gputrace.formats.ioctl import QueueType
from gputrace.formats.operations import Compare, GcrRange, GcrSequence
from gputrace.formats.packets import Packet
from gputrace.formats.pm4 import Event as PipeEvent
from gputrace.formats.pm4 import (
    EventIndex,
    EventWrite,
    Pm4Dialect,
    ReleaseData,
    ReleaseInterrupt,
    WaitRegMem,
)

if TYPE_CHECKING:
    from gputrace.driver.device import Device

RING_BYTES = 1 << 18
POLL_INTERVAL = 10  # clocks, as the kernel and tinygrad set it
MAX_WRITE_DWORDS = 1024

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
        self._acquire = builder(dialect, "AcquireMem")
        self._write = builder(dialect, "WriteData")
        release, acquire = dialect.packet("ReleaseMem"), dialect.packet("AcquireMem")
        self._flush = {k: v for k, v in _WRITE_BACK.items() if k in release.BY_NAME}
        self._invalidate = {k: v for k, v in _INVALIDATE.items() if k in acquire.BY_NAME}

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
        return self._acquire(**self._invalidate)

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

    @staticmethod
    def drain() -> Packet:
        """Wait for all earlier waves of this queue."""
        return EventWrite(
            event_type=PipeEvent.CS_PARTIAL_FLUSH, event_index=EventIndex.CS_PARTIAL_FLUSH
        )


class Pm4Queue(Queue):
    """A compute queue that takes PM4 packets; where a node has several XCCs it uses one of them."""

    unit = 4
    straddle = True

    def __init__(self, device: Device, name: str, ring_size: int = RING_BYTES) -> None:
        self.packets = Pm4Packets(device.family.pm4)
        super().__init__(device, name, QueueType.COMPUTE, ring_size)

    def _signal_packets(self, point: Point) -> bytes:
        mailbox = self.device.session.mailbox(self.event)
        return pack(self.packets.signal(point, mailbox, self.event.event_id))

    def _wait_packets(self, point: Point) -> bytes:
        return pack(self.packets.wait_point(point))

    def write(self, buffer: Buffer, data: Data, offset: int = 0) -> None:
        """Let the engine store up to 4 KiB of whole dwords from the packet itself."""
        raw = bytes(data)
        buffer.check(offset, len(raw), "write")
        if not raw or len(raw) % 4 or offset % 4 or len(raw) > 4 * MAX_WRITE_DWORDS:
            raise UsageError(
                f"write: expected 1 to {MAX_WRITE_DWORDS} whole dwords, found {len(raw)} bytes "
                f"at offset {offset}"
            )
        packet = self.packets.write(buffer.address + offset, raw)
        self.submit([packet], f"write of {len(raw)} bytes to {buffer.address + offset:#x}")

    def wait_memory(
        self, buffer: Buffer, value: int, offset: int = 0, compare: Compare = Compare.GE
    ) -> None:
        """Hold the queue until a dword of a buffer compares true with `value` (unsigned)."""
        buffer.check(offset, 4, "wait_memory")
        address = buffer.address + offset
        self.submit([self.packets.wait(address, value, compare)], f"wait for dword {address:#x}")

    def timestamp(self, buffer: Buffer, offset: int = 0) -> None:
        """Store the GPU's 64-bit clock when all earlier work is done."""
        buffer.check(offset, 8, "timestamp")
        packet = self.packets.release(buffer.address + offset, data=ReleaseData.GPU_CLOCK)
        self.submit([packet], f"timestamp to {buffer.address + offset:#x}")

    def barrier(self) -> None:
        """Wait for earlier waves, then invalidate caches, before anything later starts."""
        self.submit([self.packets.drain(), self.packets.acquire()], "barrier")
