"""The command processor of PM4 compute queues.

It decodes with the declarations in `gputrace.formats.pm4` and yields effects. What a packet asks
for and the emulation does not do stops the engine by name; it is never passed over.
"""

from collections.abc import Callable, Mapping, Sequence
from struct import pack
from typing import Any

from gputrace.devices.emulated.checks import aligned, check, known, shown
from gputrace.devices.emulated.dispatch import Dispatcher
from gputrace.devices.emulated.effects import (
    AtEnd,
    Atomic,
    Clock,
    Condition,
    Copy,
    Drain,
    Effect,
    Engine,
    EngineStop,
    Fill,
    Interrupt,
    Launch,
    Load,
    More,
    Never,
    Next,
    Pass,
    Store,
    StoreBytes,
    Wait,
    Words,
    refuse,
)
from gputrace.formats import pm4
from gputrace.formats.operations import AtomicOperation, Compare
from gputrace.formats.pm4 import (
    AtomicCommand,
    CopyFrom,
    CopyTo,
    DmaFrom,
    DmaTo,
    Event,
    EventIndex,
    Pm4Dialect,
    ReleaseData,
    ReleaseInterrupt,
    ReleaseTo,
    WaitOperation,
    WaitSpace,
    WriteTo,
)

HDP_FLUSH_REQUEST, HDP_FLUSH_DONE = 0xE26, 0xE27
"""Dword numbers of GPU_HDP_FLUSH_REQ and _DONE; the flush is always done (nbio_7_9_0_offset.h)."""

_EVENTS = {
    Event.CS_PARTIAL_FLUSH: EventIndex.CS_PARTIAL_FLUSH,
    Event.CACHE_FLUSH_AND_INV_EVENT: EventIndex.OTHER,
    Event.CS_CONTEXT_DONE: EventIndex.OTHER,
}
_END_EVENTS = {
    Event.CACHE_FLUSH_TS: EventIndex.END_OF_PIPE,
    Event.CACHE_FLUSH_AND_INV_TS_EVENT: EventIndex.END_OF_PIPE,
    Event.BOTTOM_OF_PIPE_TS: EventIndex.END_OF_PIPE,
    Event.CS_DONE: EventIndex.SHADER_DONE,
}
_READS_ON = "reads on beyond the buffer"
_MEMORY = (WriteTo.MEMORY, WriteTo.L2, WriteTo.MEMORY_SYNC)
_RELEASE_TO = (ReleaseTo.MEMORY, ReleaseTo.L2)
_CONDITIONAL = (ReleaseInterrupt.CONDITIONAL_32, ReleaseInterrupt.CONDITIONAL_64)
_CLOCKS = (ReleaseData.GPU_CLOCK, ReleaseData.SYSTEM_CLOCK)
_SILENT = (ReleaseInterrupt.NONE, ReleaseInterrupt.WRITE_CONFIRM_ONLY)
_CAS = (AtomicOperation.CMPSWAP_32, AtomicOperation.CMPSWAP_64,
        AtomicOperation.CMPSWAP_RTN_32, AtomicOperation.CMPSWAP_RTN_64)  # fmt: skip


class CommandProcessor:
    """One queue's command processor; `xccs` dies execute the same stream in step."""

    def __init__(
        self, dialect: Pm4Dialect, dispatcher: Dispatcher, *, xccs: int, eop: bool
    ) -> None:
        self.dialect, self.dispatcher, self.eop = dialect, dispatcher, eop
        self.registers: list[dict[int, int]] = [{} for _ in range(xccs)]
        self._selected = (1 << xccs) - 1
        self._returned = 0

    def ring(self) -> Engine:
        """Execute a ring of packets, for ever."""
        layout_of, single = self.dialect.layout, self._SINGLE
        done = Next(0)
        while True:
            words = yield done
            layout, size = layout_of(words, 0, len(words))
            if size > len(words):
                words = yield More(size)
            packet = layout.decode(words, 0, size)
            kind = type(packet)
            if kind in single:
                if kind is not pm4.Nop:
                    check(packet)
                effect = single[kind](self, packet)
                if effect is not None:
                    yield effect
                done.consumed = size
                continue
            skip = yield from self._execute(packet, 0)
            if skip:
                yield More(size + skip)
            done.consumed = size + skip

    def buffer(self, address: int, count: int, depth: int = 1) -> Engine:
        """Execute an indirect buffer of `count` dwords; the ring has depth 0."""
        while count:
            words = yield Words(aligned(address, 4, "INDIRECT_BUFFER"), count)
            chained = yield from self._stream(address, words, depth)
            if chained is None:
                return
            address, count = chained.address, chained.dwords_there

    def _stream(self, base: int, words: Sequence[int], depth: int) -> Any:
        at, end = 0, len(words)
        everywhere = (1 << len(self.registers)) - 1
        narrowed = -1
        while at < end:
            place = base + 4 * at
            yield Pass(place)
            layout, size = self.dialect.layout(words, at, end)
            if at + size > end:
                reason = f"{layout.VENDOR_NAME} of {size} dwords, {end - at} are left in the buffer"
                raise EngineStop(f"truncated packet: {reason}", place, hardware=_READS_ON)
            packet = layout.decode(words, at, size)
            if at >= narrowed >= 0:
                self._selected, narrowed = everywhere, -1
            at += size
            if isinstance(packet, pm4.PredExec):
                self._selected = packet.xcc_select & everywhere
                narrowed = at + packet.exec_count
            elif isinstance(packet, pm4.IndirectBuffer) and packet.chain:
                self._checked(packet)
                return packet
            elif self._selected:
                at += yield from self._execute(packet, depth)
                if at > end:
                    reason = f"COND_EXEC skips {at - end} dwords beyond the buffer"
                    raise EngineStop(reason, place, hardware=_READS_ON)
        self._selected = everywhere
        return None

    def _execute(self, packet: pm4.Packet, depth: int) -> Any:
        # Returns how many dwords after the packet are skipped.
        kind = type(packet)
        if kind is not pm4.Nop:
            check(packet)
        if kind in self._SINGLE:
            effect = self._SINGLE[kind](self, packet)
            if effect is not None:
                yield effect
            return 0
        if isinstance(packet, pm4.IndirectBuffer):
            if depth > 1:
                raise refuse("INDIRECT_BUFFER in a nested indirect buffer")
            if packet.chain:
                raise refuse("INDIRECT_BUFFER with chain in the ring itself")
            self._checked(packet)
            yield from self.buffer(packet.address, packet.dwords_there, depth + 1)
            return 0
        execute = self._EXECUTE.get(kind)
        if execute is None:
            raise refuse(packet.VENDOR_NAME)
        return (yield from execute(self, packet)) or 0

    # --- flow ----------------------------------------------------------------------------------

    def _nothing(self, packet: pm4.Packet) -> None:
        # Padding; and caches, since memory is coherent here: an action waits for no wave.
        pass

    def _checked(self, packet: pm4.IndirectBuffer) -> None:
        if not packet.valid:
            raise EngineStop("INDIRECT_BUFFER without its valid bit", packet.address)
        check(packet)

    def _conditional(self, packet: pm4.CondExec) -> Any:
        value = yield Load(aligned(packet.address, 4, "COND_EXEC"), 4)
        return 0 if value else packet.exec_count

    def _wait(self, packet: pm4.WaitRegMem | pm4.WaitRegMem64) -> Effect | None:
        size = 8 if isinstance(packet, pm4.WaitRegMem64) else 4
        known(WaitOperation, packet.operation, "WAIT_REG_MEM operation")
        known(WaitSpace, packet.space, "WAIT_REG_MEM space")
        function = known(Compare, packet.function, "WAIT_REG_MEM function")
        if packet.polls_memory:
            address = aligned(packet.address, size, "WAIT_REG_MEM")
            return Wait((Condition(address, size, function, packet.reference, packet.mask),))
        register = self._written_first(packet)
        value = self._poll(register) & packet.mask
        if not function.holds(value, packet.reference):
            return Never(f"register {register:#x} is {value:#x} and nobody will write it")
        return None

    def _written_first(self, packet: pm4.WaitRegMem | pm4.WaitRegMem64) -> int:
        # The register that is polled, after the write that some forms of the packet make.
        if isinstance(packet, pm4.WaitRegMem64):
            raise refuse("WAIT_REG_MEM64 of registers")
        writes = packet.operation == WaitOperation.WR_WAIT_WR_REG
        if writes and packet.write_register != HDP_FLUSH_REQUEST:
            raise refuse(f"WAIT_REG_MEM writing register {packet.write_register:#x}")
        return packet.poll_register

    def _poll(self, register: int) -> int:
        if register == HDP_FLUSH_DONE:
            return 0xFFFF_FFFF
        return self._register(register)

    # --- registers -----------------------------------------------------------------------------

    def _chosen(self) -> list[dict[int, int]]:
        return [state for xcc, state in enumerate(self.registers) if self._selected >> xcc & 1]

    def _register(self, number: int) -> int:
        if not self.dispatcher.knows(number):
            raise refuse(f"register {number:#x}")
        return self._chosen()[0].get(number, 0)

    def _set_registers(self, packet: pm4.SetShReg | pm4.SetUconfigReg) -> None:
        if isinstance(packet, pm4.SetShReg) and packet.index:
            raise refuse(f"SET_SH_REG with index {packet.index}")
        self._write_registers(packet.register, packet.values)

    def _set_masked(self, packet: pm4.SetShRegIndex) -> None:
        # Index 3 keeps compute units that the kernel masked off: here it masks none off.
        for number in range(packet.register, packet.register + len(packet.values)):
            if packet.index != 3 or not self.dispatcher.is_unit_mask(number):
                raise refuse(f"SET_SH_REG_INDEX {packet.index} of register {number:#x}")
        self._write_registers(packet.register, packet.values)

    def _set_pairs(self, packet: pm4.SetShRegPairs) -> None:
        if len(packet.pairs) % 2:
            raise EngineStop("SET_SH_REG_PAIRS with half a pair")
        for offset, value in zip(packet.pairs[::2], packet.pairs[1::2], strict=True):
            if offset >> 16:
                raise refuse(f"SET_SH_REG_PAIRS with reserved bits in offset {offset:#x}")
            self._write_registers(pm4.SH_BASE + offset, (value,))

    def _write_registers(self, first: int, values: Sequence[int]) -> None:
        for number, value in enumerate(values, first):
            if not self.dispatcher.knows(number):
                raise refuse(f"register {number:#x}")
            for state in self._chosen():
                state[number] = value

    def _dispatch(self, packet: pm4.DispatchDirect) -> Effect | None:
        size = packet.dim_x, packet.dim_y, packet.dim_z
        launch = self.dispatcher.from_registers(self._chosen(), size, packet.initiator)
        return None if launch is None else Launch(launch)

    def _dispatch_indirect(self, packet: pm4.DispatchIndirect) -> Any:
        size = []
        for axis in range(3):
            address = aligned(packet.address + 4 * axis, 4, "DISPATCH_INDIRECT")
            size.append((yield Load(address, 4)))
        x, y, z = size
        launch = self.dispatcher.from_registers(self._chosen(), (x, y, z), packet.initiator)
        if launch is not None:
            yield Launch(launch)
        return 0

    # --- memory --------------------------------------------------------------------------------

    def _write_data(self, packet: pm4.WriteData | pm4.WriteDataGfx12) -> Effect | None:
        to, data = packet.dst_sel, packet.data
        if to in _MEMORY:
            address = aligned(packet.address, 4, "WRITE_DATA")
            if packet.one_address:
                data = data[-1:]
            if len(data) == 1:
                return Store(address, 4, data[0])
            return StoreBytes(address, pack(f"<{len(data)}I", *data)) if data else None
        if to != WriteTo.REGISTER:
            raise refuse(f"WRITE_DATA to {shown(to)}")
        self._write_registers(packet.address, data)
        return None

    def _cond_write(self, packet: pm4.CondWrite) -> Any:
        function = known(Compare, packet.function, "COND_WRITE function")
        if packet.polled:
            value = yield Load(aligned(packet.poll_address, 4, "COND_WRITE"), 4)
        else:
            value = self._poll(packet.poll_address)
        if not function.holds(value & packet.mask, packet.reference):
            return 0
        if packet.written:
            yield Store(aligned(packet.write_address, 4, "COND_WRITE"), 4, packet.data)
        elif packet.write_space == 0:
            self._write_registers(packet.write_address, (packet.data,))
        else:
            raise refuse(f"COND_WRITE to space {packet.write_space}")
        return 0

    def _copy_data(self, packet: pm4.CopyData | pm4.CopyDataGfx12) -> Any:
        size, kind = packet.size, packet.src_sel
        if kind in (CopyFrom.MEMORY, CopyFrom.L2):
            value = yield Load(aligned(packet.source, size, "COPY_DATA"), size)
        elif kind == CopyFrom.IMMEDIATE:
            value = packet.source
        elif kind in (CopyFrom.GPU_CLOCK, CopyFrom.SYSTEM_CLOCK):
            value = yield Clock()
        elif kind == CopyFrom.ATOMIC_RETURN:
            value = self._returned
        elif kind == CopyFrom.REGISTER and size == 4:
            value = self._register(packet.source)
        else:
            raise refuse(f"COPY_DATA of {size} bytes from {shown(kind)}")
        value &= (1 << 8 * size) - 1
        to = packet.dst_sel
        if to in (CopyTo.L2, CopyTo.MEMORY):
            yield Store(aligned(packet.destination, size, "COPY_DATA"), size, value)
        elif to == CopyTo.REGISTER and size == 4:
            self._write_registers(packet.destination, (value,))
        else:
            raise refuse(f"COPY_DATA of {size} bytes to {shown(to)}")
        return 0

    def _dma(self, packet: pm4.DmaData) -> Effect | None:
        if packet.sas or packet.das or packet.saic or packet.daic:
            raise refuse("DMA_DATA with registers or a fixed address")
        if packet.dst_sel == DmaTo.NOWHERE:
            return None
        if packet.dst_sel not in (DmaTo.ADDRESS, DmaTo.L2):
            raise refuse(f"DMA_DATA to {shown(packet.dst_sel)}")
        if packet.src_sel == DmaFrom.DATA:
            pattern = (packet.source & 0xFFFF_FFFF).to_bytes(4, "little")
            return Fill(packet.destination, packet.byte_count, pattern)
        if packet.src_sel in (DmaFrom.ADDRESS, DmaFrom.L2):
            return Copy(packet.source, packet.destination, packet.byte_count)
        raise refuse(f"DMA_DATA from {shown(packet.src_sel)}")

    def _atomic(self, packet: pm4.AtomicMem) -> Any:
        operation = known(AtomicOperation, packet.atomic, "ATOMIC_MEM operation")
        command = known(AtomicCommand, packet.command, "ATOMIC_MEM command")
        address = aligned(packet.address, operation.size, "ATOMIC_MEM")
        if command == AtomicCommand.LOOP_UNTIL_COMPARE_SATISFIED:
            if operation not in _CAS:
                raise refuse(f"ATOMIC_MEM loop of {operation.name}")
            mask = (1 << 8 * operation.size) - 1
            wanted = packet.compare & mask
            yield Wait((Condition(address, operation.size, Compare.EQ, wanted, mask),))
        for _ in self._chosen():
            self._returned = yield Atomic(address, operation, packet.source, packet.compare)
        return 0

    # --- ends of the pipe ----------------------------------------------------------------------

    def _event(self, packet: pm4.EventWrite) -> Effect | None:
        _check_event("EVENT_WRITE", packet, _EVENTS)
        return Drain() if packet.event_type == Event.CS_PARTIAL_FLUSH else None

    def _release(self, packet: Any) -> Effect:
        if _END_EVENTS.get(packet.event_type) != packet.event_index:
            _check_event("RELEASE_MEM", packet, _END_EVENTS)
        if packet.dst_sel not in _RELEASE_TO:
            raise refuse(f"RELEASE_MEM to {shown(packet.dst_sel)}")
        interrupt = known(ReleaseInterrupt, packet.int_sel, "RELEASE_MEM interrupt")
        if interrupt in _CONDITIONAL:
            raise refuse("RELEASE_MEM with a conditional interrupt")
        data = known(ReleaseData, packet.data_sel, "RELEASE_MEM data")
        if data == ReleaseData.GDS:
            raise refuse("RELEASE_MEM of GDS data")
        # Without an end-of-pipe buffer the record of the end goes to address 0.
        first: tuple[Effect, ...] = () if self.eop else (Store(0, 4, 0),)
        last: tuple[Effect, ...] = () if interrupt in _SILENT else (Interrupt(packet.int_ctxid),)
        size = 0 if interrupt == ReleaseInterrupt.INTERRUPT_ONLY else data.size
        if not size:
            return AtEnd(first + last)
        address = aligned(packet.address, size, "RELEASE_MEM")
        if data in _CLOCKS:
            return AtEnd(self._clock_to(address, first, last))
        value = packet.data if size == 8 else packet.data & 0xFFFF_FFFF
        return AtEnd((*first, Store(address, size, value), *last))

    def _timestamp(self, packet: pm4.Timestamp) -> Any:
        if packet.top:
            now = yield Clock()
            yield Store(aligned(packet.top_address, 8, "TIMESTAMP"), 8, now)
        if packet.bottom:
            yield AtEnd(self._clock_to(aligned(packet.bottom_address, 8, "TIMESTAMP")))
        return 0

    def _clock_to(
        self, address: int, first: tuple[Effect, ...] = (), last: tuple[Effect, ...] = ()
    ) -> Engine:
        yield from first
        now = yield Clock()
        yield Store(address, 8, now)
        yield from last

    _SINGLE: dict[type[pm4.Packet], Callable[..., Effect | None]] = {  # noqa: RUF012
        pm4.Filler: _nothing,
        pm4.Nop: _nothing,
        pm4.PredExec: _nothing,  # in the ring itself it narrows nothing
        pm4.AcquireMem: _nothing,
        pm4.AcquireMemGfx9: _nothing,
        pm4.HdpFlush: _nothing,
        pm4.PrimeUtcl2: _nothing,
        pm4.SetShReg: _set_registers,
        pm4.SetShRegIndex: _set_masked,
        pm4.SetShRegPairs: _set_pairs,
        pm4.SetUconfigReg: _set_registers,
        pm4.WaitRegMem: _wait,
        pm4.WaitRegMem64: _wait,
        pm4.DispatchDirect: _dispatch,
        pm4.WriteData: _write_data,
        pm4.WriteDataGfx12: _write_data,
        pm4.DmaData: _dma,
        pm4.EventWrite: _event,
        pm4.ReleaseMemGfx9: _release,
        pm4.ReleaseMemGfx10: _release,
        pm4.ReleaseMemGfx11: _release,
        pm4.ReleaseMemGfx12: _release,
    }
    """Packets that have one effect outside the command processor, or none."""
    _EXECUTE: dict[type[pm4.Packet], Callable[..., Any]] = {  # noqa: RUF012
        pm4.CondExec: _conditional,
        pm4.DispatchIndirect: _dispatch_indirect,
        pm4.CondWrite: _cond_write,
        pm4.CopyData: _copy_data,
        pm4.CopyDataGfx12: _copy_data,
        pm4.AtomicMem: _atomic,
        pm4.Timestamp: _timestamp,
    }
    """Packets of several effects; each returns how many dwords after it are skipped, or None."""


def _check_event(packet: str, asked: Any, modelled: Mapping[Event, EventIndex]) -> None:
    index = modelled.get(asked.event_type)
    if index is None:
        raise refuse(f"{packet} of {shown(asked.event_type)}")
    if asked.event_index != index:
        raise refuse(f"{packet} of {shown(asked.event_type)} with index {shown(asked.event_index)}")
