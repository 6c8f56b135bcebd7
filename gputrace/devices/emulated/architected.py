"""The packet processor of AQL queues.

It decodes with the declarations in `gputrace.formats.aql` and yields effects. Packets start in
order; a kernel completes when its own waves have ended, whatever came before, unless the barrier
bit made it start late. The queue's `AmdQueue` is found from the read pointer, as the firmware
does.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gputrace.devices.emulated.checks import aligned
from gputrace.devices.emulated.command import CommandProcessor
from gputrace.devices.emulated.dispatch import Dispatcher
from gputrace.devices.emulated.effects import (
    AtEnd,
    Atomic,
    Clock,
    Condition,
    Drain,
    Engine,
    EngineStop,
    Interrupt,
    Launch,
    Load,
    LoadBytes,
    Never,
    Next,
    Store,
    Wait,
    refuse,
)
from gputrace.families import Family
from gputrace.formats import aql
from gputrace.formats.aql import (
    PACKET_BYTES,
    READ_DISPATCH_ID,
    SIGNAL_VALUE,
    AmdQueue,
    AmdSignal,
    QueueError,
    QueueProperty,
    SignalCondition,
)
from gputrace.formats.descriptor import (
    CODE_ALIGNMENT,
    DESCRIPTOR_BYTES,
    PRELOAD_PROLOG_BYTES,
    KernelDescriptor,
)
from gputrace.formats.operations import AtomicOperation, Compare
from gputrace.isa.launch import KernelLaunch

_ALL_BITS = (1 << 64) - 1
_REMEMBERED = 1024
_STATE = AmdQueue.BY_NAME["compute_tmpring_size"].lo // 8
_BASE_OFFSET = AmdQueue.BY_NAME["read_dispatch_id_field_base_byte_offset"].lo // 8
_PROPERTIES = AmdQueue.BY_NAME["queue_properties"].lo // 8
_MAILBOX = AmdSignal.BY_NAME["event_mailbox_ptr"].lo // 8
_EVENT_ID = AmdSignal.BY_NAME["event_id"].lo // 8
_START, _END = (AmdSignal.BY_NAME[name].lo // 8 for name in ("start_ts", "end_ts"))
_COMPARE = {
    SignalCondition.EQ: Compare.EQ,
    SignalCondition.NE: Compare.NE,
    SignalCondition.LT: Compare.LT,
    SignalCondition.GTE: Compare.GE,
}
_INDEX_STRIDE, _INDEX_STRIDES = 117, {32: 2, 64: 3}  # of a buffer descriptor: 2 bits
_TRAP_PRESENT = 1 << 6  # COMPUTE_PGM_RSRC2, set by firmware where a trap handler is


class PacketProcessor:
    """One AQL queue: its ring is at `base` and has `slots` packets."""

    def __init__(
        self,
        family: Family,
        dispatcher: Dispatcher,
        commands: CommandProcessor,
        ring: tuple[int, int],
        read_pointer: int,
    ) -> None:
        self.family, self.dispatcher, self.commands = family, dispatcher, commands
        self.base, self.slots = ring
        self.read_pointer = read_pointer
        self._index = 0

    def ring(self) -> Engine:
        """Process packets, for ever."""
        taken = 0
        while True:
            yield Next(taken)
            place = self.base + self._index % self.slots * PACKET_BYTES
            # A producer publishes a slot by its header: until then it holds INVALID.
            yield Wait((Condition(place, 4, Compare.NE, aql.PacketType.INVALID, 0xFF),))
            data = yield LoadBytes(place, PACKET_BYTES)
            packet = aql.decode_packet(data)
            if packet.unknown:
                raise EngineStop(f"{type(packet).__name__} with reserved bits {packet.unknown:#x}")
            process = self._PROCESS.get(type(packet))
            if process is None:
                raise refuse(f"AQL {type(packet).__name__}")
            if packet.barrier:
                yield Drain(everything=True)
            yield from process(self, packet, place)
            yield Store(place, 4, int.from_bytes(data[:4], "little") & 0xFFFF_0000 | 1)
            self._index += 1
            taken = 1

    # --- completion ------------------------------------------------------------------------------

    def _queue(self) -> Any:
        offset = yield Load(self.read_pointer - READ_DISPATCH_ID + _BASE_OFFSET, 4)
        return self.read_pointer - offset

    def _complete(self, signal: int, started: int | None = None) -> Engine:
        if not signal:
            return
        queue = yield from self._queue()
        properties = yield Load(queue + _PROPERTIES, 4)
        if properties & QueueProperty.ENABLE_PROFILING:
            now = yield Clock()
            yield Store(signal + _START, 8, now if started is None else started)
            yield Store(signal + _END, 8, now)
        yield from self._notify(signal, AtomicOperation.ADD_RTN_64, _ALL_BITS)

    def _notify(self, signal: int, operation: AtomicOperation, operand: int) -> Any:
        yield Atomic(aligned(signal, 8, "signal") + SIGNAL_VALUE, operation, operand, 0)
        mailbox = yield Load(signal + _MAILBOX, 8)
        if mailbox:
            event = yield Load(signal + _EVENT_ID, 4)
            yield Store(mailbox, 8, event)
            yield Interrupt(event)

    def _reject(self, code: QueueError, reason: str) -> Any:
        # The code goes to the queue's inactive signal, and the queue stands still.
        queue = yield from self._queue()
        inactive = yield Load(queue + AmdQueue.BY_NAME["queue_inactive_signal"].lo // 8, 8)
        if inactive:
            yield from self._notify(inactive, AtomicOperation.OR_RTN_64, code)
        raise EngineStop(f"{reason} (queue error {code.name or int(code)})")

    # --- barriers --------------------------------------------------------------------------------

    def _barrier_and(self, packet: aql.BarrierAnd, place: int) -> Any:
        conditions = tuple(_is_zero(signal) for signal in packet.dep_signals if signal)
        if conditions:
            yield Wait(conditions)
        yield from self._complete(packet.completion_signal)

    def _barrier_or(self, packet: aql.BarrierOr, place: int) -> Any:
        conditions = tuple(_is_zero(signal) for signal in packet.dep_signals if signal)
        if not conditions:
            yield Never("a barrier that any of no signals would satisfy")
        yield Wait(conditions, any=True)
        yield from self._complete(packet.completion_signal)

    def _barrier_value(self, packet: aql.BarrierValue, place: int) -> Any:
        function = _COMPARE.get(packet.condition)
        if function is None:
            raise refuse(f"AQL BarrierValue condition {int(packet.condition)}")
        address = aligned(packet.signal, 8, "signal") + SIGNAL_VALUE
        yield Wait((Condition(address, 8, function, packet.value, packet.value_mask, signed=True),))
        yield from self._complete(packet.completion_signal)

    # --- work ------------------------------------------------------------------------------------

    def _commands(self, packet: aql.VendorPm4, place: int) -> Any:
        if packet.ib_header != 0xC0023F00 or not packet.ib_valid or packet.remain != 10:
            code = QueueError.INVALID_VENDOR_PACKET
            yield from self._reject(code, "the PM4 packet is no valid INDIRECT_BUFFER")
        yield from self.commands.buffer(packet.ib_address, packet.ib_size)
        if packet.completion_signal:
            yield AtEnd(self._complete(packet.completion_signal))

    def _kernel(self, packet: aql.KernelDispatch, place: int) -> Any:
        yield from self._check(packet)
        raw = yield LoadBytes(packet.kernel_object, DESCRIPTOR_BYTES)
        descriptor = _descriptor(raw)
        queue = yield from self._queue()
        # The runtime clears the signal when it has made room, and the packet is tried again. It
        # counts room per lane of a 64-lane wave: a narrower wave has more of it for each.
        wanted = packet.private_segment_size * self._wave_size(descriptor)
        while True:
            state = _state((yield LoadBytes(queue + _STATE, 4 * AmdQueue.WORDS - _STATE)))
            if wanted <= 64 * state.scratch_wave64_lane_byte_size:
                break
            yield from self._want_scratch(state, descriptor)
        launch = yield from self._launch(packet, place, descriptor, queue, state)
        started = yield Clock()
        yield Launch(launch, self._complete(packet.completion_signal, started))

    def _want_scratch(self, state: AmdQueue, descriptor: KernelDescriptor) -> Any:
        narrow = descriptor.enable_wavefront_size32
        code = QueueError.SCRATCH_WAVE32 if narrow else QueueError.SCRATCH_WAVE64
        signal = state.queue_inactive_signal
        if not signal:
            raise EngineStop("a kernel needs more scratch than the queue has")
        yield from self._notify(signal, AtomicOperation.OR_RTN_64, code)
        yield Wait((_is_zero(signal),))

    def _check(self, packet: aql.KernelDispatch) -> Any:
        group = packet.workgroup_size_x, packet.workgroup_size_y, packet.workgroup_size_z
        grid = packet.grid_size_x, packet.grid_size_y, packet.grid_size_z
        if not 1 <= packet.dimensions <= 3 or 0 in group or 0 in grid:
            text = f"a grid of {grid} work-items in groups of {group}"
            yield from self._reject(QueueError.INVALID_DIMENSIONS, text)
        if group[0] * group[1] * group[2] > self.family.max_flat_workgroup:
            yield from self._reject(QueueError.WORK_GROUP_TOO_LARGE, f"a work-group of {group}")
        if packet.group_segment_size > self.family.lds_bytes:
            text = f"{packet.group_segment_size} bytes of LDS"
            yield from self._reject(QueueError.INVALID_GROUP_MEMORY, text)
        if not packet.kernel_object:
            yield from self._reject(QueueError.INVALID_CODE_OBJECT, "kernel object 0")

    def _check_program(self, entry: int, descriptor: KernelDescriptor) -> Any:
        if entry % CODE_ALIGNMENT:
            text = f"the code at {entry:#x} is not a multiple of {CODE_ALIGNMENT}"
            yield from self._reject(QueueError.INVALID_CODE_OBJECT, text)
        if descriptor.enable_wavefront_size32 and 32 not in self.family.waves:
            text = f"waves of 32 lanes on {self.family.name}"
            yield from self._reject(QueueError.INVALID_CODE_OBJECT, text)
        self.dispatcher.check_program(
            descriptor.compute_pgm_rsrc1,
            descriptor.compute_pgm_rsrc2,
            descriptor.compute_pgm_rsrc3,
        )

    def _launch(
        self,
        packet: aql.KernelDispatch,
        place: int,
        descriptor: KernelDescriptor,
        queue: int,
        state: AmdQueue,
    ) -> Any:
        family = self.family
        entry = packet.kernel_object + descriptor.kernel_code_entry_byte_offset
        yield from self._check_program(entry, descriptor)
        user = yield from self._user_data(packet, place, descriptor, queue, state)
        if descriptor.kernarg_preload_length and family.kernarg_preload:
            entry += PRELOAD_PROLOG_BYTES
        group = packet.workgroup_size_x, packet.workgroup_size_y, packet.workgroup_size_z
        grid = packet.grid_size_x, packet.grid_size_y, packet.grid_size_z
        granules = -(-packet.group_segment_size // family.lds_granule)
        waves, wave_bytes = self.dispatcher.scratch(state.compute_tmpring_size)
        x, y, z = (-(-items // size) for items, size in zip(grid, group, strict=True))
        px, py, pz = (items % size for items, size in zip(grid, group, strict=True))
        return KernelLaunch(
            target=family.name,
            entry=entry,
            rsrc1=descriptor.compute_pgm_rsrc1,
            rsrc2=descriptor.compute_pgm_rsrc2 & ~_TRAP_PRESENT,
            rsrc3=descriptor.compute_pgm_rsrc3,
            wave_size=self._wave_size(descriptor),
            user_data=user,
            groups=(x, y, z),
            group_size=group,
            partial=(px, py, pz),
            lds_bytes=granules * family.lds_granule,
            lds_asked=packet.group_segment_size,
            scratch_base=state.scratch_backing_memory_location,
            scratch_wave_bytes=wave_bytes,
            scratch_waves=waves,
            lds_aperture=family.lds_aperture,
            scratch_aperture=family.scratch_aperture,
        )

    def _user_data(
        self,
        packet: aql.KernelDispatch,
        place: int,
        descriptor: KernelDescriptor,
        queue: int,
        state: AmdQueue,
    ) -> Any:
        wide = {
            "private_segment_buffer": self._private_segment_buffer(descriptor, state),
            "dispatch_ptr": place,
            "queue_ptr": queue,
            "kernarg_segment_ptr": packet.kernarg_address,
            "dispatch_id": self._index,
            "flat_scratch_init": state.scratch_backing_memory_location,
            "private_segment_size": packet.private_segment_size,
        }
        places = descriptor.user_sgprs()
        count = descriptor.compute_pgm_rsrc2 >> 1 & 0x1F
        values = [0] * max(16, count)
        if any(first + width > len(values) for first, width in places.values()):
            yield from self._reject(QueueError.INVALID_CODE_OBJECT, "more than 16 user SGPRs")
        for item, (first, width) in places.items():
            if item == "kernarg_preload":
                start = packet.kernarg_address + 4 * descriptor.kernarg_preload_offset
                raw = yield LoadBytes(start, 4 * width)
                number = int.from_bytes(raw, "little")
            else:
                number = wide[item]
            for at in range(width):
                values[first + at] = number >> 32 * at & 0xFFFF_FFFF
        return tuple(values[:count])

    def _wave_size(self, descriptor: KernelDescriptor) -> int:
        return 32 if descriptor.enable_wavefront_size32 else max(self.family.waves)

    # Where waves come in two sizes runtimes leave the index stride of the scratch's descriptor to
    # the packet processor. Source: ROCr amd_aql_queue.cpp, FillBufRsrcWord3_Gfx10 to _Gfx12.
    def _private_segment_buffer(self, descriptor: KernelDescriptor, state: AmdQueue) -> int:
        buffer = state.scratch_resource_descriptor
        if len(self.family.waves) == 1:
            return buffer
        stride = _INDEX_STRIDES[self._wave_size(descriptor)]
        return buffer & ~(3 << _INDEX_STRIDE) | stride << _INDEX_STRIDE

    _PROCESS: dict[type[aql.Packet], Callable[..., Any]] = {  # noqa: RUF012
        aql.KernelDispatch: _kernel,
        aql.BarrierAnd: _barrier_and,
        aql.BarrierOr: _barrier_or,
        aql.BarrierValue: _barrier_value,
        aql.VendorPm4: _commands,
    }


# Kernels are launched again and again: what their bytes mean is looked up, not read anew.
@lru_cache(maxsize=_REMEMBERED)
def _descriptor(raw: bytes) -> KernelDescriptor:
    return KernelDescriptor.from_bytes(raw)


@lru_cache(maxsize=_REMEMBERED)
def _state(raw: bytes) -> AmdQueue:
    # What runtimes tell of scratch lies behind the indices, which change with every packet.
    return AmdQueue.from_bytes(bytes(_STATE) + raw)


def _is_zero(signal: int) -> Condition:
    return Condition(aligned(signal, 8, "signal") + SIGNAL_VALUE, 8, Compare.EQ, 0, _ALL_BITS)
