"""PM4 compute queues: packets for the compute micro-engine of each generation."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gputrace.driver.compute import (
    KERNARG,
    RING_BYTES,
    ComputeQueue,
    Prepared,
    offsets_of,
    value_offset,
)
from gputrace.driver.dispatch import pm4_dispatch
from gputrace.driver.kernargs import Geometry
from gputrace.driver.program import Kernel
from gputrace.driver.queue import pack
from gputrace.driver.ring import KEPT, Submission
from gputrace.driver.signals import Signal
from gputrace.driver.timeline import Point
from gputrace.formats.ioctl import QueueType
from gputrace.formats.packets import Packet
from gputrace.formats.pm4 import IndirectBuffer, SetShReg

if TYPE_CHECKING:
    from gputrace.driver.device import Device


class Pm4Queue(ComputeQueue):
    """A compute queue that takes PM4 packets; where a node has several XCCs it uses one of them."""

    unit = 4
    straddle = True

    def __init__(
        self, device: Device, name: str, ring_size: int = RING_BYTES, **settings: int
    ) -> None:
        self._indirect: deque[Submission] = deque(maxlen=KEPT)  # address, bytes, text
        super().__init__(device, name, QueueType.COMPUTE, ring_size, **settings)

    @property
    def _dies(self) -> int:
        family = self.device.family
        return family.xccs if family.pm4_queue_spans_xccs else 1

    def commands(
        self, packets: Sequence[Packet], what: str = "commands", *, every_die: bool = False
    ) -> None:
        """Execute PM4 packets from the ring."""
        self.submit(packets, what)

    def indirect(self, packets: Sequence[Packet], what: str = "commands") -> None:
        """Execute PM4 packets from an indirect buffer, which is free again after the next signal.

        Unlike the ring an indirect buffer can choose dies and be chained.
        """
        data = pack(packets)
        with self.lock:
            uploads = self.uploads
            packet = IndirectBuffer(address=uploads.address(0), dwords_there=len(data) // 4)
            self._room(4 * packet.dwords, what)
            offset = uploads.take(len(data))
            uploads.memory[offset : offset + len(data)] = data
            self._put(pack([packet.replace(address=uploads.address(offset))]), what)
            uploads.hold(self.timeline.last + 1)
            self._indirect.append(Submission(uploads.address(offset), len(data), what))

    def submitted(self, place: int, number: int) -> str:
        """Return what a packet was submitted as; it may be in an indirect buffer."""
        for one in reversed(self._indirect):
            if one.start <= place < one.start + one.end:
                return one.what
        return super().submitted(place, number)

    def _signal_packets(self, point: Point) -> bytes:
        return pack(self._signals(point))

    def _zero_packets(self, signals: Sequence[Signal]) -> bytes:
        return pack(packet for signal in signals for packet in self.packets.wait_zero(signal))

    def _complete_packets(self, signal: Signal) -> bytes:
        return pack(self.packets.complete(signal))

    def _wait_packets(self, point: Point) -> bytes:
        return self._wait_commands([point])

    def _stream(
        self, kernel: Kernel, shape: Geometry, lane_bytes: int, upload: bytearray, what: str
    ) -> Prepared:
        packet_at = -(-len(upload) // 64) * 64
        user, later = self._user_values(kernel, shape, lane_bytes, upload)
        packets: list[Packet] = [
            self.packets.acquire(),
            *pm4_dispatch(
                self.device.family,
                kernel.descriptor,
                kernel.entry_address,
                shape,
                self._scratch,
                user,
            ),
            self.packets.drain(),
            *self._signals(Point(self.timeline, self.timeline.last + 1)),
        ]
        stream = bytearray(pack(packets))
        prepared = Prepared(kernel, what, upload, stream)
        prepared.values = [(stream, at) for at in offsets_of(packets, value_offset)]
        places = {name: self._user_offset(packets, first) for name, first in later.items()}
        if "kernarg_segment_ptr" in places:
            prepared.of_stream.append((places["kernarg_segment_ptr"], 0))
        if "dispatch_id" in places:
            prepared.numbers.append(places["dispatch_id"])
        if "dispatch_ptr" in places:
            prepared.of_stream.append((places["dispatch_ptr"], packet_at))
            prepared.of_upload.append((packet_at + KERNARG, 0))
        return prepared

    def _user_offset(self, packets: list[Packet], number: int) -> int:
        register = self.device.family.registers.address(f"COMPUTE_USER_DATA_{number}")

        def inside(packet: Packet) -> int | None:
            if not isinstance(packet, SetShReg):
                return None
            at = register - packet.register
            return 8 + 4 * at if 0 <= at < len(packet.values) else None

        (offset,) = offsets_of(packets, inside)
        return offset
