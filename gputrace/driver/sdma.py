"""SDMA queues: copies, fills and fences beside the compute queues."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gputrace.driver.memory import Buffer
from gputrace.driver.packets import MINUS_ONE
from gputrace.driver.queue import Queue, builder, pack
from gputrace.driver.signals import Signal
from gputrace.driver.timeline import Point
from gputrace.errors import UsageError
from gputrace.formats.ioctl import QueueType
from gputrace.formats.operations import AtomicOperation, Compare
from gputrace.formats.packets import Packet
from gputrace.formats.sdma import SdmaDialect

if TYPE_CHECKING:
    from gputrace.driver.device import Device

RING_BYTES = 1 << 18
PACKETS_AT_ONCE = 256  # of one copy: more go in several submissions, so that any size fits the ring
FILL_LIMIT = 1 << 22  # the smallest count of bytes that every version has (sdma 4.4 CONST_FILL)
DWORD_FILL = 2  # fill_size of CONST_FILL


# Where the engine goes through the caches, SDMA 5 and later: what it drops from them once it has
# waited for others, and writes back before it tells them (ROCr amd_blit_sdma.cpp BuildGCRCommand).
_DROP = ("gl2_wb", "glk_wb", "gl2_inv", "gl1_inv", "glv_inv", "glk_inv")
_WRITE_BACK = ("gl2_wb", "glk_wb")


def _cache_requests(dialect: SdmaDialect) -> tuple[list[Packet], list[Packet]]:
    if "GcrRequest" not in {layout.CONCEPT for layout in dialect.all}:
        return [], []
    request = builder(dialect, "GcrRequest")
    known = dialect.packet("GcrRequest").BY_NAME
    before = request(**{name: True for name in _DROP if name in known})
    return [before], [request(**{name: True for name in _WRITE_BACK if name in known})]


class SdmaQueue(Queue):
    """A queue on a copy engine. Copies and fills are checked against their buffers."""

    unit = 1  # pointers count bytes
    straddle = False

    def __init__(
        self,
        device: Device,
        name: str,
        kind: QueueType = QueueType.SDMA,
        engine: int = 0,
        ring_size: int = RING_BYTES,
    ) -> None:
        dialect = device.family.sdma
        self._copy = builder(dialect, "CopyLinear")
        self._fill = builder(dialect, "ConstantFill")
        self._fence = builder(dialect, "Fence")
        self._trap = builder(dialect, "Trap")
        self._poll = builder(dialect, "PollRegMem")
        self._atomic = builder(dialect, "Atomic")
        self._clock = builder(dialect, "TimestampGetGlobal")
        self._before, self._after = _cache_requests(dialect)
        self._limit = device.family.copies.limit & ~3
        super().__init__(device, name, kind, ring_size, engine)

    def copy(
        self,
        destination: Buffer,
        source: Buffer,
        size: int | None = None,
        destination_offset: int = 0,
        source_offset: int = 0,
    ) -> None:
        """Copy bytes between buffers, by default all of the smaller rest. Raises UsageError."""
        self._check(destination, 0, 0, "copy to")
        self._check(source, 0, 0, "copy from")
        room = min(destination.size - destination_offset, source.size - source_offset)
        count = room if size is None else size
        destination.check(destination_offset, count, "copy to")
        source.check(source_offset, count, "copy from")
        to, start = destination.address + destination_offset, source.address + source_offset
        what = f"copy of {count} bytes from {start:#x} to {to:#x}"
        packets = [
            self._copy(
                count=min(self._limit, count - at) - 1, source=start + at, destination=to + at
            )
            for at in range(0, count, self._limit)
        ]
        self._all(packets, what)

    def fill(
        self, buffer: Buffer, value: int = 0, size: int | None = None, offset: int = 0
    ) -> None:
        """Fill whole dwords with the 32-bit `value`, by default all from `offset` on."""
        count = buffer.size - offset if size is None else size
        self._check(buffer, offset, count, "fill")
        if count % 4 or offset % 4:
            raise UsageError(f"fill: expected whole dwords, found {count} bytes at {offset}")
        to = buffer.address + offset
        packets = [
            self._fill(
                fill_size=DWORD_FILL,
                destination=to + at,
                data=value,
                count=min(FILL_LIMIT, count - at) - 1,
            )
            for at in range(0, count, FILL_LIMIT)
        ]
        self._all(packets, f"fill of {count} bytes at {to:#x} with {value:#x}")

    def _all(self, packets: list[Packet], what: str) -> None:
        with self.lock:
            for first in range(0, len(packets), PACKETS_AT_ONCE):
                self.submit(packets[first : first + PACKETS_AT_ONCE], what)

    def timestamp(self, buffer: Buffer, offset: int = 0) -> None:
        """Store the GPU's 64-bit clock, as KFD's clock counters show it; 32-byte aligned."""
        self._check(buffer, offset, 8, "timestamp")
        address = buffer.address + offset
        if address % 32:
            raise UsageError(f"timestamp: {address:#x} is not aligned to 32 bytes")
        self.submit([self._clock(address=address)], f"timestamp to {address:#x}")

    def wait_memory(
        self, buffer: Buffer, value: int, offset: int = 0, compare: Compare = Compare.GE
    ) -> None:
        """Hold the queue until a dword of a buffer compares true with `value` (unsigned)."""
        self._check(buffer, offset, 4, "wait_memory")
        address = buffer.address + offset
        packet = self._poll(function=compare, address=address, reference=value)
        self.submit([packet, *self._before], f"wait for dword {address:#x}")

    def _signal_packets(self, point: Point) -> bytes:
        # Lower half first: see timeline.py on engines that store 32 bits at a time.
        cell, event = point.timeline.cell(point.value), self.event.event_id
        low, high = struct.unpack("<II", struct.pack("<Q", point.value))
        packets = [*self._after, self._fence(address=cell, data=low)]
        if high:
            packets.append(self._fence(address=cell + 4, data=high))
        mailbox = self.device.session.mailbox(self.event)
        packets += [self._fence(address=mailbox, data=event), self._trap(int_context=event)]
        return pack(packets)

    def _zero_packets(self, signals: Sequence[Signal]) -> bytes:
        polls = [
            self._poll(function=Compare.EQ, address=half, reference=0)
            for signal in signals
            for half in signal.halves
        ]
        return pack([*polls, *self._before])

    def _complete_packets(self, signal: Signal) -> bytes:
        less = self._atomic(
            atomic=AtomicOperation.ADD_RTN_64, address=signal.halves[0], source=MINUS_ONE
        )
        told = self._fence(address=signal.mailbox, data=signal.event_id)
        return pack([*self._after, less, told, self._trap(int_context=signal.event_id)])

    def _wait_packets(self, point: Point) -> bytes:
        polls = [
            self._poll(function=Compare.GE, address=address, reference=reference)
            for address, reference in point.comparisons()
        ]
        return pack([*polls, *self._before])
