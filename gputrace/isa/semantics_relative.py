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
_VECTORS = 256


def _vector_number(trace: Trace, destination: bool) -> int:
    operand = trace.instruction.dst[0] if destination else trace.instruction.src[0]
    if operand.kind is not OperandKind.VGPR:
        raise NotModelled("relative access to something else than a vector register")
    return operand.index


def _read_at(trace: Trace, number: int, index: Node) -> Node:
    value = trace.vector(0)
    for k in range(_VECTORS - number):
        value = where(trace.splat(index.eq(k)), trace.vector(number + k), value)
    return value


def _write_at(trace: Trace, number: int, index: Node, value: Node) -> None:
    active = trace.active()
    for k in range(_VECTORS - number):
        trace.put_vector(number + k, value, active & trace.splat(index.eq(k)))


def _move(source: bool, destination: bool, apart: bool) -> Callable[[Trace], None]:
    # `apart`: the two numbers are different fields of M0.
    def meaning(trace: Trace) -> None:
        m0 = trace.scalar(state.M0)
        from_index, to_index = (m0 & 0xFF, (m0 >> 16) & 0x3FF) if apart else (m0, m0)
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
