"""Moves whose register number is known only when they run: M0 is added to it.

Witness: AMD's ISA manuals (RDNA2, RDNA3: V_MOVRELS_B32 and the like): a source outside the
registers reads v0, a destination outside is not written.
"""

from collections.abc import Callable

from gputrace.isa import state
from gputrace.isa.graph import Node, where
from gputrace.isa.instruction import OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.trace import NotModelled, Trace

RELATIVE = Registry()


def _vector_number(trace: Trace, destination: bool) -> int:
    operand = trace.instruction.dst[0] if destination else trace.instruction.src[0]
    if operand.kind is not OperandKind.VGPR:
        raise NotModelled("relative access to something else than a vector register")
    return operand.index


def _read_at(trace: Trace, number: int, index: Node) -> Node:
    return trace.apply("get_vector_at", index + number)


def _write_at(trace: Trace, number: int, index: Node, value: Node) -> None:
    trace.put_vector_at(index + number, value)


def _move(source: bool, destination: bool, apart: bool) -> Callable[[Trace], None]:
    # `apart`: the two numbers are different fields of M0.
    def meaning(trace: Trace) -> None:
        m0 = trace.scalar(state.M0)
        from_index, to_index = (m0 & 0x3FF, (m0 >> 16) & 0x3FF) if apart else (m0, m0)
        if source:
            value = _read_at(trace, _vector_number(trace, destination=False), from_index)
        else:
            value = trace.read(trace.instruction.src[0])
        if destination:
            _write_at(trace, _vector_number(trace, destination=True), to_index, value)
        else:
            trace.write(trace.instruction.dst[0], value)

    return meaning


RELATIVE.add("v_movrels_b32", _move(source=True, destination=False, apart=False))
RELATIVE.add("v_movreld_b32", _move(source=False, destination=True, apart=False))
RELATIVE.add("v_movrelsd_b32", _move(source=True, destination=True, apart=False))
RELATIVE.add("v_movrelsd_2_b32", _move(source=True, destination=True, apart=True))


def _scalar_read(words: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        operand = trace.instruction.src[0]
        if operand.kind is not OperandKind.SGPR:
            raise NotModelled("relative access to something else than a scalar register")
        index = trace.scalar(state.M0)
        value = trace.raw(operand, 0, words)
        for k in range(words, state.SGPRS - operand.index - words + 1, words):
            value = where(index.eq(k), trace.raw(operand, k, words), value)
        trace.write(trace.instruction.dst[0], value)

    return meaning


def _scalar_write(words: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        operand = trace.instruction.dst[0]
        if operand.kind is not OperandKind.SGPR:
            raise NotModelled("relative access to something else than a scalar register")
        index = trace.scalar(state.M0)
        value = trace.read(trace.instruction.src[0])
        for k in range(0, state.SGPRS - operand.index - words + 1, words):
            kept = trace.raw(operand, k, words)
            trace.put_scalar(operand.index + k, where(index.eq(k), value, kept))

    return meaning


for _bits, _words in ((32, 1), (64, 2)):
    RELATIVE.add(f"s_movrels_b{_bits}", _scalar_read(_words))
    RELATIVE.add(f"s_movreld_b{_bits}", _scalar_write(_words))


@RELATIVE.meaning("v_swaprel_b32")
def _swap(trace: Trace) -> None:
    m0 = trace.scalar(state.M0)
    one = (m0 & 0x3FF) + _vector_number(trace, destination=False)
    other = ((m0 >> 16) & 0x3FF) + _vector_number(trace, destination=True)
    values = [trace.apply("get_vector_at", number) for number in (one, other)]
    trace.put_vector_at(other, values[0])
    trace.put_vector_at(one, values[1])


@RELATIVE.meaning("s_movrelsd_2_b32")
def _scalar_both(trace: Trace) -> None:
    source, to = trace.instruction.src[0], trace.instruction.dst[0]
    if source.kind is not OperandKind.SGPR or to.kind is not OperandKind.SGPR:
        raise NotModelled("relative access to something else than a scalar register")
    m0 = trace.scalar(state.M0)
    from_index, to_index = m0 & 0x3FF, (m0 >> 16) & 0x3FF
    value = trace.scalar(source.index)
    for k in range(1, state.SGPRS - source.index):
        value = where(from_index.eq(k), trace.scalar(source.index + k), value)
    for k in range(state.SGPRS - to.index):
        kept = trace.scalar(to.index + k)
        trace.put_scalar(to.index + k, where(to_index.eq(k), value, kept))
