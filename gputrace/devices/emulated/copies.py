"""The SDMA engine.

It decodes with the declarations in `gputrace.formats.sdma` and yields effects. Long copies and
fills are done in pieces between which other engines run; everything a queue was told is done in
order.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gputrace.devices.emulated.checks import aligned, check
from gputrace.devices.emulated.effects import (
    Atomic,
    Clock,
    Condition,
    Copy,
    Engine,
    EngineStop,
    Fill,
    Interrupt,
    Load,
    More,
    Next,
    Pass,
    Store,
    StoreBytes,
    Wait,
    Words,
    refuse,
)
from gputrace.families import Family
from gputrace.formats import sdma
from gputrace.formats.operations import AtomicOperation, Compare

PIECE = 256 << 10
"""Bytes of a copy or fill between two points where other engines run."""
_FOREVER = 0xFFF
_WIDEST = 4  # log2 of the bytes of the largest element
_BLOCK = 8  # an indirect buffer packet ends at a multiple of so many dwords of the ring


class CopyEngine:
    """One queue of an SDMA engine."""

    def __init__(self, family: Family) -> None:
        self.dialect, self.count_bits = family.sdma, family.copies.count_bits
        self._position = 0

    def ring(self) -> Engine:
        """Execute a ring of packets, for ever."""
        consumed = 0
        while True:
            words = yield Next(consumed)
            layout, size = self.dialect.layout(words, 0, len(words))
            while size > len(words):
                before = len(words)
                words = yield More(size)
                layout, size = self.dialect.layout(words, 0, len(words))
                if len(words) == before:
                    reason = f"{layout.VENDOR_NAME} goes over the end of the ring"
                    raise EngineStop(reason, hardware="reads on behind the ring")
            packet = layout.decode(words, 0, size)
            if isinstance(packet, sdma.IndirectBuffer):
                self._check_block()
                yield from self._indirect(packet)
                skip = 0
            else:
                skip = yield from self._execute(packet)
            while skip and len(words) < size + skip:
                words = yield More(size + skip)
            consumed = 4 * (size + skip)
            self._position += consumed

    def _check_block(self) -> None:
        end = self._position // 4 + sdma.IndirectBuffer.WORDS
        if end % _BLOCK:
            where = f"dword {end} of the ring"
            raise EngineStop(f"INDIRECT_BUFFER ends at {where}, not at a multiple of {_BLOCK}")

    def _indirect(self, packet: sdma.IndirectBuffer) -> Any:
        check(packet)
        words: Sequence[int] = yield Words(packet.address, packet.dwords_there)
        at = 0
        while at < len(words):
            yield Pass(packet.address + 4 * at)
            layout, size = self.dialect.layout(words, at, len(words))
            if at + size > len(words):
                left = len(words) - at
                text = f"{layout.VENDOR_NAME} of {size} dwords, {left} are left in the buffer"
                place = packet.address + 4 * at
                reads_on = "reads on beyond the buffer"
                raise EngineStop(f"truncated packet: {text}", place, hardware=reads_on)
            at += size
            at += yield from self._execute(layout.decode(words, at - size, size))

    def _execute(self, packet: sdma.Packet) -> Any:
        execute = _HANDLERS[type(packet)]
        if execute is None:
            raise refuse(f"SDMA {packet.VENDOR_NAME}")
        if not isinstance(packet, sdma.Nop):
            check(packet)
        return (yield from execute(self, packet)) or 0

    # --- moving data -----------------------------------------------------------------------------

    def _size(self, packet: Any) -> int:
        if packet.count >> self.count_bits:
            limit = f"{self.count_bits} bits of this engine"
            raise EngineStop(f"{packet.VENDOR_NAME} count {packet.count:#x} exceeds the {limit}")
        return int(packet.size)

    def _copy(self, packet: sdma.CopyLinear) -> Any:
        size, source, to = self._size(packet), packet.source, packet.destination
        if getattr(packet, "backwards", False) and abs(source - to) < size:
            raise refuse("SDMA COPY_LINEAR backwards onto itself")
        for at in range(0, size, PIECE):
            if at:
                yield Pass(None)
            yield Copy(source + at, to + at, min(PIECE, size - at))

    def _broadcast(self, packet: sdma.CopyBroadcast) -> Any:
        size = self._size(packet)
        for at in range(0, size, PIECE):
            if at:
                yield Pass(None)
            for to in (packet.destination, packet.destination_2):
                yield Copy(packet.source + at, to + at, min(PIECE, size - at))

    def _window(self, packet: sdma.CopySubWindow) -> Any:
        # Row by row. A part of a row longer than its pitch runs on into the next one.
        unit = packet.element_size
        if unit > _WIDEST:
            raise refuse(f"SDMA COPY_SUB_WINDOW of elements of {1 << unit} bytes")
        row, moved = packet.rect_x + 1 << unit, 0
        for z in range(packet.rect_z + 1):
            for y in range(packet.rect_y + 1):
                source = _element(
                    packet.src_pitch, packet.src_slice_pitch,
                    packet.src_x, packet.src_y + y, packet.src_z + z,
                )  # fmt: skip
                to = _element(
                    packet.dst_pitch, packet.dst_slice_pitch,
                    packet.dst_x, packet.dst_y + y, packet.dst_z + z,
                )  # fmt: skip
                if moved >= PIECE:
                    moved = 0
                    yield Pass(None)
                yield Copy(packet.source + (source << unit), packet.destination + (to << unit), row)
                moved += row

    def _fill(self, packet: Any) -> Any:
        if packet.fill_size not in (0, 2):
            raise refuse(f"SDMA CONSTANT_FILL of size {packet.fill_size}")
        width = 4 if packet.fill_size == 2 else 1
        address = aligned(packet.destination, width, "CONSTANT_FILL")
        pattern = (packet.data & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        size = packet.size
        for at in range(0, size, PIECE):
            if at:
                yield Pass(None)
            yield Fill(address + at, min(PIECE, size - at), pattern)

    def _write(self, packet: sdma.WriteLinear) -> Any:
        address = aligned(packet.destination, 4, "WRITE_LINEAR")
        yield StoreBytes(address, b"".join(v.to_bytes(4, "little") for v in packet.data))

    # --- order and signals ------------------------------------------------------------------------

    def _nothing(self, packet: sdma.Packet) -> Any:
        # NOP; and cache requests, since memory is coherent here.
        return 0
        yield

    def _fence(self, packet: sdma.Fence) -> Any:
        yield Store(packet.address, 4, packet.data)

    def _trap(self, packet: sdma.Trap) -> Any:
        yield Interrupt(packet.int_context)

    def _poll(self, packet: Any) -> Any:
        function = packet.function
        if not isinstance(function, Compare):
            raise refuse(f"SDMA POLL_REG_MEM function {function}")
        if not packet.in_memory:
            # The host data path is always flushed here, and ALWAYS waits for nothing.
            if not packet.hdp_flush and function != Compare.ALWAYS:
                raise refuse(f"SDMA POLL_REG_MEM of register {packet.address:#x}")
            return
        if packet.hdp_flush:
            raise refuse("SDMA POLL_REG_MEM of memory with a flush")
        if packet.retry_count != _FOREVER:
            raise refuse(f"SDMA POLL_REG_MEM with {packet.retry_count} retries")
        address = aligned(packet.address, 4, "POLL_REG_MEM")
        yield Wait((Condition(address, 4, function, packet.reference, packet.mask),))

    def _atomic(self, packet: sdma.Atomic) -> Any:
        operation = packet.atomic
        if not isinstance(operation, AtomicOperation):
            raise refuse(f"SDMA ATOMIC operation {int(operation)}")
        address = aligned(packet.address, operation.size, "ATOMIC")
        if packet.loop:
            if "CMPSWAP" not in operation.name:
                raise refuse(f"SDMA ATOMIC loop of {operation.name}")
            mask = (1 << 8 * operation.size) - 1
            wanted = packet.compare & mask
            yield Wait((Condition(address, operation.size, Compare.EQ, wanted, mask),))
        yield Atomic(address, operation, packet.source, packet.compare)

    def _timestamp(self, packet: Any) -> Any:
        value = yield Clock()
        yield Store(packet.address, 8, value)

    def _conditional(self, packet: sdma.CondExec) -> Any:
        value = yield Load(aligned(packet.address, 4, "COND_EXEC"), 4)
        return 0 if value == packet.reference else packet.exec_count

    _EXECUTE: dict[type, Callable[..., Any]] = {  # noqa: RUF012
        sdma.Nop: _nothing,
        sdma.GcrRequest: _nothing,
        sdma.CopyLinear: _copy,
        sdma.CopyBroadcast: _broadcast,
        sdma.CopySubWindow: _window,
        sdma.ConstantFill: _fill,
        sdma.WriteLinear: _write,
        sdma.Fence: _fence,
        sdma.Trap: _trap,
        sdma.PollRegMem: _poll,
        sdma.Atomic: _atomic,
        sdma.TimestampGetLocal: _timestamp,
        sdma.TimestampGetGlobal: _timestamp,
        sdma.CondExec: _conditional,
    }


def _element(pitch: int, slice_pitch: int, x: int, y: int, z: int) -> int:
    # Number of an element of an image whose pitches are given minus one.
    return z * (slice_pitch + 1) + y * (pitch + 1) + x


def _handler(kind: type[sdma.Packet]) -> Callable[..., Any] | None:
    # Layouts of later versions derive from the plain one.
    handlers = CopyEngine._EXECUTE
    return next((handlers[base] for base in kind.__mro__ if base in handlers), None)


_HANDLERS = {kind: _handler(kind) for dialect in sdma.DIALECTS for kind in dialect.all}
