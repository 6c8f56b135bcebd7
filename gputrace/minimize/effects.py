"""What a packet waits for, stores and touches, by the declarations of its record."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gputrace.bits import Field, Record
from gputrace.formats import aql, pm4, sdma
from gputrace.formats.operations import Compare
from gputrace.minimize.dependencies import Range

Access = Literal["r", "w"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a packet waits for: memory that compares true with a reference.

    `any_of` says that one of a packet's conditions is enough.
    """

    address: int
    size: int
    function: Compare
    reference: int
    mask: int
    signed: bool = False
    any_of: bool = False

    def holds(self, value: int) -> bool:
        """Say whether a value in memory satisfies it."""
        found, wanted = value & self.mask, self.reference
        if self.signed:
            sign = 1 << 8 * self.size - 1
            found, wanted = (found ^ sign) - sign, wanted
        return self.function.holds(found, wanted)

    @property
    def sign(self) -> str:
        """How it compares, as people write it."""
        return _SIGNS[self.function]


_SIGNS = {
    Compare.LT: "<", Compare.LE: "<=", Compare.EQ: "==", Compare.NE: "!=", Compare.GE: ">=",
    Compare.GT: ">", Compare.ALWAYS: "is anything, not",
}  # fmt: skip


class Stored(NamedTuple):
    """Bytes that a packet writes; `value` is None where only the run can tell."""

    address: int
    size: int
    value: int | None


class Touched(NamedTuple):
    """Memory that a packet names."""

    where: Range
    access: str


def conditions(record: Record) -> list[Condition]:
    """Return what a packet waits for in memory."""
    match record:
        case pm4.WaitRegMem() | pm4.WaitRegMem64() if record.polls_memory:
            size = 4 if isinstance(record, pm4.WaitRegMem) else 8
            function = _function(record.function)
            if function is None:
                return []
            return [Condition(record.address, size, function, record.reference, record.mask)]
        case sdma.PollRegMem() if record.in_memory:
            function = _function(record.function)
            if function is None:
                return []
            return [Condition(record.address, 4, function, record.reference, record.mask)]
        case pm4.AtomicMem() if record.command == pm4.AtomicCommand.LOOP_UNTIL_COMPARE_SATISFIED:
            return [_compare_loop(record.address, record.size, record.compare)]
        case sdma.Atomic() if record.loop:
            return [_compare_loop(record.address, record.size, record.compare)]
        case aql.BarrierAnd() | aql.BarrierOr():
            any_of = isinstance(record, aql.BarrierOr)
            return [
                Condition(one + aql.SIGNAL_VALUE, 8, Compare.EQ, 0, (1 << 64) - 1, any_of=any_of)
                for one in record.dep_signals
                if one
            ]
        case aql.BarrierValue():
            functions = (Compare.EQ, Compare.NE, Compare.LT, Compare.GE)
            function = functions[int(record.condition) & 3]
            at = record.signal + aql.SIGNAL_VALUE
            return [Condition(at, 8, function, record.value, record.value_mask, signed=True)]
    return []


def _function(value: int) -> Compare | None:
    return Compare(value) if value in Compare.__members__.values() else None


def _compare_loop(address: int, size: int, wanted: int) -> Condition:
    mask = (1 << 8 * size) - 1
    return Condition(address, size, Compare.EQ, wanted & mask, mask)


def stores(record: Record) -> list[Stored]:
    """Return what a packet writes to memory, with the values that it carries itself."""
    match record:
        case pm4.WriteData() if record.written:
            if record.one_address:
                return [Stored(record.address, 4, record.data[-1])]
            return [Stored(record.address + 4 * i, 4, v) for i, v in enumerate(record.data)]
        case sdma.WriteLinear():
            return [Stored(record.destination + 4 * i, 4, v) for i, v in enumerate(record.data)]
        case pm4.ReleaseMem() if record.written:
            fixed = record.data_sel in (pm4.ReleaseData.LOW_32, pm4.ReleaseData.DATA_64)
            size = record.written
            value = record.data & ((1 << 8 * size) - 1) if fixed else None
            return [Stored(record.address, size, value)]
        case sdma.Fence():
            return [Stored(record.address, 4, record.data)]
        case aql.Packet() if record.completion_signal:
            return [Stored(record.completion_signal + aql.SIGNAL_VALUE, 8, None)]
    return [
        Stored(one.where.start, one.where.end - one.where.start, None)
        for one in touched(record)
        if "w" in one.access
    ]


def late(record: Record) -> bool:
    """Say whether a packet stores after the ring has gone on: at the end of the pipe."""
    return isinstance(record, pm4.ReleaseMem | aql.Packet)


def clocked(record: Record) -> list[Range]:
    """Return where a packet stores a clock, which no two runs have alike."""
    match record:
        case pm4.ReleaseMem() if record.written and record.data_sel in (
            pm4.ReleaseData.GPU_CLOCK, pm4.ReleaseData.SYSTEM_CLOCK,
        ):  # fmt: skip
            return [Range(record.address, record.address + record.written)]
        case pm4.CopyData() if record.src_sel in (
            pm4.CopyFrom.GPU_CLOCK, pm4.CopyFrom.SYSTEM_CLOCK,
        ):  # fmt: skip
            return [Range(record.destination, record.destination + record.size)]
        case sdma.TimestampGetLocal() | sdma.TimestampGetGlobal():
            return [Range(record.address, record.address + 8)]
        case aql.Packet() if record.completion_signal:
            start = record.completion_signal
            return [Range(start + 32, start + 48)]  # start_ts and end_ts of an AmdSignal
    return []


def reach(word: int | None, stored: Stored, condition: Condition) -> bool:
    """Say whether a store could satisfy a condition; a value that is not known could."""
    start, end = condition.address, condition.address + condition.size
    if stored.address >= end or stored.address + stored.size <= start:
        return False
    if stored.value is None:
        return True
    before = 0 if word is None else word
    shift = 8 * (stored.address - start)
    mask = (1 << 8 * stored.size) - 1
    if shift >= 0:
        value = before & ~(mask << shift) | stored.value << shift
    else:
        value = stored.value >> -shift
    return condition.holds(value & ((1 << 8 * condition.size) - 1))


def touched(record: Record) -> Iterator[Touched]:
    """Yield the memory that the fields of a packet name, as far as its size is known."""
    for one in record.FIELDS:
        role = one.role
        if role is None or role.uses != "address":
            continue
        size = _length(record, one)
        start = int(getattr(record, one.name))
        if size and start:
            yield Touched(Range(start, start + size), role.access)


def _length(record: Record, one: Field) -> int:
    assert one.role is not None
    length = one.role.length
    if length is None:
        return 0
    return length if isinstance(length, int) else int(getattr(record, length))
