"""The command processor of PM4 compute queues.

It decodes with the declarations in `gputrace.formats.pm4` and yields effects. What a packet asks
for and the emulation does not do stops the engine by name; it is never passed over.
"""

from collections.abc import Callable, Sequence
from typing import Any

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
    Pm4Dialect,
    ReleaseData,
    ReleaseInterrupt,
    ReleaseTo,
    WaitOperation,
    WriteTo,
)

HDP_FLUSH_REQUEST, HDP_FLUSH_DONE = 0xE26, 0xE27
"""Dword numbers of GPU_HDP_FLUSH_REQ and _DONE; the flush is always done (nbio_7_9_0_offset.h)."""

_QUIET_EVENTS = {Event.CACHE_FLUSH_AND_INV_EVENT, Event.CS_CONTEXT_DONE}
_END_EVENTS = {
    Event.CACHE_FLUSH_TS,
    Event.CACHE_FLUSH_AND_INV_TS_EVENT,
    Event.BOTTOM_OF_PIPE_TS,
    Event.CS_DONE,
}
_CAS = (AtomicOperation.CMPSWAP_32, AtomicOperation.CMPSWAP_64,
        AtomicOperation.CMPSWAP_RTN_32, AtomicOperation.CMPSWAP_RTN_64)  # fmt: skip


def aligned(address: int, size: int, packet: str) -> int:
    """Return the address, or stop: the hardware would drop its low bits and hit something else."""
    if address % size:
        raise EngineStop(f"{packet}: {address:#x} is not a multiple of {size}", address)
    return address


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
        consumed = 0
        while True:
            words = yield Next(consumed)
            layout, size = self.dialect.layout(words, 0, len(words))
            while size > len(words):
                words = yield More(size)
            packet = layout.decode(words, 0, size)
            execute = self._EXECUTE.get(type(packet))
            if execute is None:
                raise refuse(packet.VENDOR_NAME)
            if packet.unknown:
                raise refuse(f"{packet.VENDOR_NAME} with reserved bits {packet.unknown:#x}")
            skip = yield from execute(self, packet)
            while skip and len(words) < size + skip:
                words = yield More(size + skip)
            consumed = size + (skip or 0)

    def buffer(self, address: int, count: int, depth: int = 0) -> Engine:
        """Execute an indirect buffer of `count` dwords."""
        while count:
            words = yield Words(aligned(address, 4, "INDIRECT_BUFFER"), count)
            chained = yield from self._stream(address, words, depth)
            if chained is None:
                return
            address, count = chained.address, chained.dwords_there

    def _stream(self, base: int, words: Sequence[int], depth: int) -> Any:
        at, end = 0, len(words)
        narrowed = -1
        while at < end:
            yield Pass(base + 4 * at)
            layout, size = self.dialect.layout(words, at, end)
            if at + size > end:
                reason = f"{layout.VENDOR_NAME} of {size} dwords, {end - at} are left in the buffer"
                raise EngineStop(f"truncated packet: {reason}", base + 4 * at)
            packet = layout.decode(words, at, size)
            if at >= narrowed >= 0:
                self._selected, narrowed = (1 << len(self.registers)) - 1, -1
            at += size
            if isinstance(packet, pm4.PredExec):
                self._selected = packet.xcc_select & ((1 << len(self.registers)) - 1)
                narrowed = at + packet.exec_count
            elif isinstance(packet, pm4.IndirectBuffer) and packet.chain:
                self._checked(packet)
                return packet
            elif self._selected:
                if packet.unknown:
                    raise refuse(f"{packet.VENDOR_NAME} with reserved bits {packet.unknown:#x}")
                at += (yield from self._execute(packet, depth)) or 0
        self._selected = (1 << len(self.registers)) - 1
        return None

    def _execute(self, packet: pm4.Packet, depth: int) -> Any:
        if isinstance(packet, pm4.IndirectBuffer):
            if depth:
                raise refuse("INDIRECT_BUFFER in a nested indirect buffer")
            return (yield from self._indirect(packet, depth + 1))
        execute = self._EXECUTE.get(type(packet))
        if execute is None:
            raise refuse(packet.VENDOR_NAME)
        return (yield from execute(self, packet))

    # --- flow ----------------------------------------------------------------------------------

    def _nothing(self, packet: pm4.Packet) -> Any:
        return 0
        yield

    def _acquire(self, packet: pm4.Packet) -> Any:
        # Memory is coherent here: invalidation has nothing to do, and it waits for no wave.
        return 0
        yield

    def _checked(self, packet: pm4.IndirectBuffer) -> None:
        if not packet.valid:
            raise EngineStop("INDIRECT_BUFFER without its valid bit", packet.address)
        if packet.vmid or packet.privileged or packet.inherit_vmid:
            raise refuse("INDIRECT_BUFFER with a VMID or privilege")

    def _indirect(self, packet: pm4.IndirectBuffer, depth: int = 0) -> Any:
        self._checked(packet)
        yield from self.buffer(packet.address, packet.dwords_there, depth)
        return 0

    def _conditional(self, packet: pm4.CondExec) -> Any:
        value = yield Load(aligned(packet.address, 4, "COND_EXEC"), 4)
        return 0 if value else packet.exec_count

    def _wait(self, packet: pm4.WaitRegMem) -> Any:
        if packet.mes_action:
            raise refuse("WAIT_REG_MEM with a scheduler action")
        if not packet.polls_memory:
            self._wait_register(packet)
            value = self._poll(packet.poll_register) & packet.mask
            if not Compare(packet.function).holds(value, packet.reference):
                text = f"register {packet.poll_register:#x} is {value:#x} and nobody will write it"
                yield Never(text)
            return 0
        address = aligned(packet.address, 4, "WAIT_REG_MEM")
        function = _known(Compare, packet.function, "WAIT_REG_MEM function")
        yield Wait((Condition(address, 4, function, packet.reference, packet.mask),))
        return 0

    def _wait_register(self, packet: pm4.WaitRegMem) -> None:
        _known(Compare, packet.function, "WAIT_REG_MEM function")
        writes = packet.operation == WaitOperation.WR_WAIT_WR_REG
        if writes and packet.write_register != HDP_FLUSH_REQUEST:
            raise refuse(f"WAIT_REG_MEM writing register {packet.write_register:#x}")

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

    def _set_registers(self, packet: pm4.SetShReg | pm4.SetUconfigReg) -> Any:
        if isinstance(packet, pm4.SetShReg) and (packet.index or packet.vmid_shift):
            raise refuse("SET_SH_REG with an index or VMID")
        self._write_registers(packet.register, packet.values)
        return 0
        yield

    def _write_registers(self, first: int, values: Sequence[int]) -> None:
        for number, value in enumerate(values, first):
            if not self.dispatcher.knows(number):
                raise refuse(f"register {number:#x}")
            for state in self._chosen():
                state[number] = value

    def _dispatch(self, packet: pm4.DispatchDirect) -> Any:
        size = packet.dim_x, packet.dim_y, packet.dim_z
        launch = self.dispatcher.from_registers(self._chosen(), size, packet.initiator)
        if launch is not None:
            yield Launch(launch)
        return 0

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

    def _write_data(self, packet: pm4.WriteData | pm4.WriteDataGfx12) -> Any:
        to = packet.dst_sel
        if to == WriteTo.REGISTER:
            self._write_registers(packet.address, packet.data)
        elif to in (WriteTo.MEMORY_SYNC, WriteTo.L2, WriteTo.MEMORY):
            address = aligned(packet.address, 4, "WRITE_DATA")
            data = packet.data[-1:] if packet.one_address else packet.data
            if len(data) == 1:
                yield Store(address, 4, data[0])
            elif data:
                yield StoreBytes(address, b"".join(v.to_bytes(4, "little") for v in data))
        else:
            raise refuse(f"WRITE_DATA to {_name(to)}")
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
            raise refuse(f"COPY_DATA of {size} bytes from {_name(kind)}")
        value &= (1 << 8 * size) - 1
        to = packet.dst_sel
        if to in (CopyTo.L2, CopyTo.MEMORY):
            yield Store(aligned(packet.destination, size, "COPY_DATA"), size, value)
        elif to == CopyTo.REGISTER and size == 4:
            self._write_registers(packet.destination, (value,))
        else:
            raise refuse(f"COPY_DATA of {size} bytes to {_name(to)}")
        return 0

    def _dma(self, packet: pm4.DmaData) -> Any:
        if packet.sas or packet.das or packet.saic or packet.daic:
            raise refuse("DMA_DATA with registers or a fixed address")
        if packet.dst_sel == DmaTo.NOWHERE:
            return 0
        if packet.dst_sel not in (DmaTo.ADDRESS, DmaTo.L2):
            raise refuse(f"DMA_DATA to {_name(packet.dst_sel)}")
        if packet.src_sel == DmaFrom.DATA:
            pattern = (packet.source & 0xFFFF_FFFF).to_bytes(4, "little")
            yield Fill(packet.destination, packet.byte_count, pattern)
        elif packet.src_sel in (DmaFrom.ADDRESS, DmaFrom.L2):
            yield Copy(packet.source, packet.destination, packet.byte_count)
        else:
            raise refuse(f"DMA_DATA from {_name(packet.src_sel)}")
        return 0

    def _atomic(self, packet: pm4.AtomicMem) -> Any:
        operation = _known(AtomicOperation, packet.atomic, "ATOMIC_MEM operation")
        command = _known(AtomicCommand, packet.command, "ATOMIC_MEM command")
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

    def _event(self, packet: pm4.EventWrite) -> Any:
        if packet.event_type == Event.CS_PARTIAL_FLUSH:
            yield Drain()
        elif packet.event_type not in _QUIET_EVENTS:
            raise refuse(f"EVENT_WRITE of {_name(packet.event_type)}")
        return 0

    def _release(self, packet: Any) -> Any:
        if packet.event_type not in _END_EVENTS:
            raise refuse(f"RELEASE_MEM of {_name(packet.event_type)}")
        if packet.dst_sel not in (ReleaseTo.MEMORY, ReleaseTo.L2):
            raise refuse(f"RELEASE_MEM to {_name(packet.dst_sel)}")
        interrupt = _known(ReleaseInterrupt, packet.int_sel, "RELEASE_MEM interrupt")
        if interrupt in (ReleaseInterrupt.CONDITIONAL_32, ReleaseInterrupt.CONDITIONAL_64):
            raise refuse("RELEASE_MEM with a conditional interrupt")
        data = _known(ReleaseData, packet.data_sel, "RELEASE_MEM data")
        if data == ReleaseData.GDS:
            raise refuse("RELEASE_MEM of GDS data")
        size = 0 if interrupt == ReleaseInterrupt.INTERRUPT_ONLY else data.size
        if size:
            aligned(packet.address, size, "RELEASE_MEM")
        yield AtEnd(self._released(packet, data, size, interrupt))
        return 0

    def _released(
        self, packet: Any, data: ReleaseData, size: int, interrupt: ReleaseInterrupt
    ) -> Engine:
        if not self.eop:
            yield Store(0, 4, 0)  # the end-of-pipe record goes to the buffer that nobody gave
        value = packet.data
        if data in (ReleaseData.GPU_CLOCK, ReleaseData.SYSTEM_CLOCK):
            value = yield Clock()
        if size:
            yield Store(packet.address, size, value & ((1 << 8 * size) - 1))
        if interrupt not in (ReleaseInterrupt.NONE, ReleaseInterrupt.WRITE_CONFIRM_ONLY):
            yield Interrupt(packet.int_ctxid)

    _EXECUTE: dict[type[pm4.Packet], Callable[..., Any]] = {  # noqa: RUF012
        pm4.Filler: _nothing,
        pm4.Nop: _nothing,
        pm4.PredExec: _nothing,  # in the ring itself it narrows nothing
        pm4.AcquireMem: _acquire,
        pm4.AcquireMemGfx9: _acquire,
        pm4.IndirectBuffer: _indirect,
        pm4.CondExec: _conditional,
        pm4.WaitRegMem: _wait,
        pm4.SetShReg: _set_registers,
        pm4.SetUconfigReg: _set_registers,
        pm4.DispatchDirect: _dispatch,
        pm4.DispatchIndirect: _dispatch_indirect,
        pm4.WriteData: _write_data,
        pm4.WriteDataGfx12: _write_data,
        pm4.CopyData: _copy_data,
        pm4.CopyDataGfx12: _copy_data,
        pm4.DmaData: _dma,
        pm4.AtomicMem: _atomic,
        pm4.EventWrite: _event,
        pm4.ReleaseMemGfx9: _release,
        pm4.ReleaseMemGfx10: _release,
        pm4.ReleaseMemGfx11: _release,
        pm4.ReleaseMemGfx12: _release,
    }


def _name(value: int) -> str:
    return getattr(value, "name", None) or f"{int(value):#x}"


def _known(kind: Any, value: int, what: str) -> Any:
    # A decoded field keeps values that its enumeration lacks as plain integers.
    if not isinstance(value, kind):
        raise refuse(f"{what} {int(value):#x}")
    return value


__all__ = ["CommandProcessor", "Effect", "aligned"]
