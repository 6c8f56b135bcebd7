"""Comparisons and tests of vector operands: VOPC in all its encodings.

Witness: AMD's ISA manuals (MI300 and RDNA3, chapter on vector ALU operations), and the results of
compiled kernels in the tests.
"""

from collections.abc import Callable

from gputrace.isa import state
from gputrace.isa.graph import U32, Node, Type, where
from gputrace.isa.instruction import OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_float import LAYOUT
from gputrace.isa.trace import Trace

COMPARE = Registry()

_INTEGER: dict[str, Callable[[Trace, Node, Node, str], Node]] = {
    "f": lambda t, a, b, s: a.ne(a),
    "lt": lambda t, a, b, s: t.apply(s + "lt", a, b),
    "eq": lambda t, a, b, s: a.eq(b),
    "le": lambda t, a, b, s: t.apply(s + "le", a, b),
    "gt": lambda t, a, b, s: t.apply(s + "lt", b, a),
    "ne": lambda t, a, b, s: a.ne(b),
    "ge": lambda t, a, b, s: t.apply(s + "le", b, a),
    "t": lambda t, a, b, s: a.eq(a),
}


def _with_sign(
    function: Callable[[Trace, Node, Node, str], Node], sign: str
) -> Callable[[Trace, Node, Node], Node]:
    return lambda t, a, b: function(t, a, b, sign)


def _ordered(t: Trace, a: Node, b: Node) -> Node:
    return ~(t.apply("isnan", a) | t.apply("isnan", b))


FLOAT_CONDITIONS: dict[str, Callable[[Trace, Node, Node], Node]] = {
    "lt": lambda t, a, b: t.apply("flt", a, b),
    "eq": lambda t, a, b: t.apply("feq", a, b),
    "le": lambda t, a, b: t.apply("fle", a, b),
    "gt": lambda t, a, b: t.apply("flt", b, a),
    "lg": lambda t, a, b: t.apply("flt", a, b) | t.apply("flt", b, a),
    "ge": lambda t, a, b: t.apply("fle", b, a),
    "o": _ordered,
    "u": lambda t, a, b: ~_ordered(t, a, b),
    "nge": lambda t, a, b: ~t.apply("fle", b, a),
    "nlg": lambda t, a, b: ~(t.apply("flt", a, b) | t.apply("flt", b, a)),
    "ngt": lambda t, a, b: ~t.apply("flt", b, a),
    "nle": lambda t, a, b: ~t.apply("fle", a, b),
    "neq": lambda t, a, b: ~t.apply("feq", a, b),
    "nlt": lambda t, a, b: ~t.apply("flt", a, b),
}


def _write_condition(trace: Trace, value: Node, to_exec: bool) -> None:
    # v_cmpx writes EXEC, and with a destination (gfx9) that as well.
    lanes = trace.splat(value)
    for operand in trace.instruction.dst:
        if operand.kind is OperandKind.SPECIAL and operand.name.startswith("exec"):
            continue
        trace.write_mask(operand, lanes)
    if to_exec:
        mask = trace.apply("ballot", lanes) & trace.exec_mask()
        trace.put_scalar(state.EXEC, trace.mask_words(mask))


def _comparison(
    function: Callable[[Trace, Node, Node], Node], to_exec: bool, flush: bool = True
) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b = (trace.read(o, flush) for o in trace.instruction.src)
        _write_condition(trace, function(trace, a, b), to_exec)

    return meaning


def _never(trace: Trace, a: Node, b: Node) -> Node:
    return trace.apply("flt", a, a)


def _ever(trace: Trace, a: Node, b: Node) -> Node:
    return ~trace.apply("flt", a, a)


for _prefix, _to_exec in (("v_cmp", False), ("v_cmpx", True)):
    for _condition, _integer in _INTEGER.items():
        for _sign, _letter in (("u", "u"), ("s", "i")):
            for _bits in (16, 32, 64):
                COMPARE.add(
                    f"{_prefix}_{_condition}_{_letter}{_bits}",
                    _comparison(_with_sign(_integer, _sign), _to_exec),
                )
    for _condition, _always in (("f", _never), ("tru", _ever), ("t", _ever)):
        for _bits in (16, 32, 64):
            COMPARE.add(f"{_prefix}_{_condition}_f{_bits}", _comparison(_always, _to_exec))
    for _condition, _float in FLOAT_CONDITIONS.items():
        for _bits in (16, 32, 64):
            COMPARE.add(f"{_prefix}_{_condition}_f{_bits}", _comparison(_float, _to_exec))


def _class(trace: Trace, a: Node, wanted: Node) -> Node:
    # Bits: sNaN, qNaN, -inf, -normal, -denormal, -0, +0, +denormal, +normal, +inf.
    exponent_bits, fraction_bits = LAYOUT[a.type]
    kind = Type("i", a.type.bits)
    raw = a.bits_as(kind)
    negative = (raw >> (a.type.bits - 1)).ne(0)
    size = raw & ((1 << (a.type.bits - 1)) - 1)
    infinity = ((1 << exponent_bits) - 1) << fraction_bits
    quiet = infinity | (1 << (fraction_bits - 1))
    mask = wanted.zext(U32)

    def bit(positive: int, other: int) -> Node:
        return ((where(negative, mask >> other, mask >> positive)) & 1).ne(0)

    nan = where(trace.apply("ule", quiet, size), (mask >> 1) & 1, mask & 1).ne(0)
    number = where(trace.apply("ult", size, 1 << fraction_bits), bit(7, 4), bit(8, 3))
    finite = where(size.eq(0), bit(6, 5), number)
    limit = where(size.eq(infinity), bit(9, 2), nan)
    return where(trace.apply("ult", size, infinity), finite, limit)


for _bits in (16, 32, 64):
    # Denormals are a class of their own whatever MODE says (LLVM: llvm.is.fpclass).
    COMPARE.add(f"v_cmp_class_f{_bits}", _comparison(_class, to_exec=False, flush=False))
    COMPARE.add(f"v_cmpx_class_f{_bits}", _comparison(_class, to_exec=True, flush=False))
