"""AQL compute queues: architected packets, and PM4 in vendor packets where AQL has none.

Timelines are signalled and waited for by PM4 in indirect buffers, so that they are the same thing
for every kind of queue; `Signal` is what AQL's own barriers and completions use. A queue of a
node with several XCCs works on all of them. Sources: hsa.h, ROCr amd_aql_queue.cpp, tinygrad
ops_amd.py AMDComputeAQLQueue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gputrace.driver.compute import (
    KERNARG,
    RING_BYTES,
    ComputeQueue,
    Prepared,
    offsets_of,
    value_offset,
)
from gputrace.driver.dispatch import aql_dispatch
from gputrace.driver.kernargs import Geometry, Value
from gputrace.driver.memory import Buffer
from gputrace.driver.program import Kernel, Sizes
from gputrace.driver.queue import pack
from gputrace.driver.signals import Signal
from gputrace.driver.timeline import Point
from gputrace.errors import UsageError
from gputrace.formats.aql import (
    PACKET_BYTES,
    READ_DISPATCH_ID,
    SIGNAL_VALUE,
    WRITE_DISPATCH_ID,
    AmdQueue,
    AmdSignal,
    BarrierAnd,
    BarrierOr,
    BarrierValue,
    FenceScope,
    KernelDispatch,
    PacketType,
    QueueError,
    SignalCondition,
    VendorPm4,
)
from gputrace.formats.ioctl import QueueType
from gputrace.formats.packets import Packet
from gputrace.formats.pm4 import PredExec
from gputrace.kfd.port import Fault

if TYPE_CHECKING:
    from gputrace.driver.device import Device

MAX_DEPENDENCIES = 5  # signals of one barrier packet
_INACTIVE = 3072  # where the queue's own signal is in the page of the AmdQueue
_COMPLETION = KernelDispatch.BY_NAME["completion_signal"].lo // 8
_INDIRECT = VendorPm4.BY_NAME["ib_address"].lo // 32 * 4
_SCRATCH_FIRST = AmdQueue.BY_NAME["compute_tmpring_size"].lo // 8
_SCRATCH_END = AmdQueue.BY_NAME["queue_properties"].lo // 8


class AqlQueue(ComputeQueue):
    """A compute queue that takes AQL packets."""

    unit = PACKET_BYTES
    last_packet = True
    straddle = True  # what goes over the end is a submission, never a packet
    pointer_offsets = (WRITE_DISPATCH_ID, READ_DISPATCH_ID)

    def __init__(
        self, device: Device, name: str, ring_size: int = RING_BYTES, **settings: int
    ) -> None:
        super().__init__(device, name, QueueType.COMPUTE_AQL, ring_size, **settings)
        session = device.session
        inactive = AmdSignal(
            event_mailbox_ptr=session.mailbox(self.event), event_id=self.event.event_id
        )
        self._page.write(inactive.to_bytes(), _INACTIVE)
        self._inactive = self._page.block.view[_INACTIVE:][SIGNAL_VALUE : SIGNAL_VALUE + 8]
        session.checks.append(self._error)

    def _prepare(self, ring: Buffer, pointers: Buffer) -> None:
        # An empty slot has the type INVALID, and what else is in it does not matter: with the same
        # value in every byte a capture of the ring is one piece. The page is the AmdQueue.
        ring.fill(PacketType.INVALID)
        self._page = self._descriptor = pointers
        queue = self._describe(ring.address, ring.size // PACKET_BYTES)
        queue = queue.replace(queue_inactive_signal=pointers.address + _INACTIVE)
        pointers.write(queue.to_bytes())

    @property
    def _dies(self) -> int:
        return max(1, self.device.node.xccs)

    def _error(self) -> Fault | None:
        code = 0 if self._closed else int.from_bytes(self._inactive, "little")
        if not code:
            return None
        names = QueueError(code).name or hex(code)
        text = f"{self!r} was stopped: {names}; {self.ring.current()}"
        packet = self.ring.consumed // PACKET_BYTES
        return Fault("packet", text, self.device.index, self.queue_id, packet, 0)

    def close(self) -> None:
        """Destroy the queue and free its buffers; work in it is dropped."""
        with self.lock:
            if not self._closed:
                self.device.session.checks.remove(self._error)
                self._inactive.release()
        super().close()

    def submitted(self, place: int, number: int) -> str:
        """Return what a packet was submitted as; the slot counts, wherever its PM4 is."""
        return self.ring.submitted(number * PACKET_BYTES % self.ring.size)

    # --- launching --------------------------------------------------------------------------------

    def launch(
        self,
        kernel: Kernel,
        grid: Sizes | None = None,
        block: Sizes = 1,
        args: Sequence[Value] = (),
        *,
        threads: Sizes | None = None,
        dynamic_lds: int = 0,
        stack: int | None = None,
        completion: Signal | None = None,
    ) -> Point:
        """Run a kernel as on any compute queue; its end also takes one from `completion`."""
        with self.lock:
            prepared = self._ready(kernel, (grid, block, threads), dynamic_lds, stack)
            signal = 0 if completion is None else completion.address
            return self._launch(prepared, args, signal)

    def _stream(
        self, kernel: Kernel, shape: Geometry, lane_bytes: int, upload: bytearray, what: str
    ) -> Prepared:
        dispatch = aql_dispatch(kernel.descriptor, kernel.descriptor_address, shape, lane_bytes)
        upload += bytes(-len(upload) % PACKET_BYTES)
        buffer_at = len(upload)
        signals = self._on_first_die(self._signals(Point(self.timeline, self.timeline.last + 1)))
        upload += pack(signals)
        vendor = self._vendor(0, len(upload) - buffer_at)
        prepared = Prepared(kernel, what, upload, bytearray(pack([dispatch, vendor])))
        prepared.values = [(upload, buffer_at + at) for at in offsets_of(signals, value_offset)]
        prepared.of_stream = [(KERNARG, 0), (PACKET_BYTES + _INDIRECT, buffer_at)]
        prepared.completion = _COMPLETION
        return prepared

    def _scratch_changed(self) -> None:
        scratch, family = self._scratch, self.device.family
        words = scratch.descriptor(family, 64 if len(family.waves) == 1 else None)
        changed = AmdQueue(
            compute_tmpring_size=scratch.tmpring,
            scratch_resource_descriptor=sum(word << 32 * at for at, word in enumerate(words)),
            scratch_backing_memory_location=scratch.base,
            scratch_backing_memory_byte_size=scratch.size * self._dies,
            scratch_wave64_lane_byte_size=scratch.lane_bytes,
        ).to_bytes()
        self._page.write(changed[_SCRATCH_FIRST:_SCRATCH_END], _SCRATCH_FIRST)

    # --- PM4 in vendor packets --------------------------------------------------------------------

    def _on_first_die(self, packets: Sequence[Packet]) -> list[Packet]:
        if self._dies == 1:
            return list(packets)
        count = sum(packet.dwords for packet in packets)
        return [PredExec(exec_count=count, xcc_select=1), *packets]

    @staticmethod
    def _vendor(address: int, size: int) -> VendorPm4:
        return VendorPm4(
            barrier=True,
            acquire=FenceScope.SYSTEM,
            release=FenceScope.SYSTEM,
            ib_address=address,
            ib_size=size // 4,
        )

    def commands(
        self, packets: Sequence[Packet], what: str = "commands", *, every_die: bool = False
    ) -> None:
        """Execute PM4 packets from an indirect buffer."""
        chosen = list(packets) if every_die else self._on_first_die(packets)
        with self.lock:
            self._submit(self._indirect(pack(chosen)), what)
            self._keep_uploads(self.timeline.last + 1)

    def _indirect(self, data: bytes, *, urgent: bool = False) -> bytes:
        self._room(PACKET_BYTES, "an indirect buffer")
        uploads = self.uploads
        offset = uploads.take(len(data), urgent=urgent)
        uploads.memory[offset : offset + len(data)] = data
        return self._vendor(uploads.address(offset), len(data)).to_bytes()

    def _signal_packets(self, point: Point) -> bytes:
        return self._indirect(pack(self._on_first_die(self._signals(point))), urgent=True)

    def _wait_packets(self, point: Point) -> bytes:
        return self._indirect(self._wait_commands([point]))

    # --- signals ----------------------------------------------------------------------------------

    def wait_all(self, signals: Sequence[Signal], completion: Signal | None = None) -> None:
        """Hold everything submitted later until all of at most five signals are 0."""
        packet = BarrierAnd(**self._barrier(signals, completion))
        self.submit([packet], f"wait for all of {list(signals)}")

    def wait_any(self, signals: Sequence[Signal], completion: Signal | None = None) -> None:
        """Hold everything submitted later until one of at most five signals is 0."""
        if not signals:
            raise UsageError("wait_any: a wait for any of no signals would never end")
        packet = BarrierOr(**self._barrier(signals, completion))
        self.submit([packet], f"wait for any of {list(signals)}")

    def wait_signal(
        self,
        signal: Signal,
        value: int,
        condition: SignalCondition = SignalCondition.LT,
        completion: Signal | None = None,
    ) -> None:
        """Hold everything submitted later until a signal compares true with `value` (signed)."""
        packet = BarrierValue(
            signal=signal.address,
            value=value,
            condition=condition,
            **self._order(completion),
        )
        self.submit([packet], f"wait for {signal!r} {condition.name} {value}")

    def complete(self, signal: Signal) -> None:
        """Take one from a signal when all earlier work is done."""
        self.wait_all([], signal)

    def _barrier(self, signals: Sequence[Signal], completion: Signal | None) -> dict[str, Any]:
        if len(signals) > MAX_DEPENDENCIES:
            raise UsageError(
                f"a barrier takes {MAX_DEPENDENCIES} signals, found {len(signals)}: use several"
            )
        fields = {f"dep_signal_{at}": one.address for at, one in enumerate(signals)}
        return fields | self._order(completion)

    @staticmethod
    def _order(completion: Signal | None) -> dict[str, Any]:
        return {
            "barrier": True,
            "acquire": FenceScope.SYSTEM,
            "release": FenceScope.SYSTEM,
            "completion_signal": 0 if completion is None else completion.address,
        }
