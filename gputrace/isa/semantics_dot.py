"""Dot products within each lane, and the narrow floats that they and conversions take.

Each product is added to the sum so far by one fused multiply-add that rounds to the nearest, from
the lowest part on; integers are summed exactly and cut or clamped at the end.

Sources: AMD's ISA manuals (MI300, RDNA2, RDNA3, RDNA4: V_DOT*).
"""

from collections.abc import Callable
from dataclasses import dataclass

from gputrace.isa.graph import F16, F32, F64, U16, U32, U64, Node, Type, where
from gputrace.isa.instruction import Operand
from gputrace.isa.matrix import SMALL, Small
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_packed import saturating
from gputrace.isa.trace import Trace

DOT = Registry()

Widen = Callable[[Node], Node]

# --- elements: raw bits of a dword's part to what is multiplied


def _from_half(raw: Node) -> Node:
    return raw.trace.apply("fcvt", raw.zext(U16).bits_as(F16), type=F32)


def from_bfloat(raw: Node) -> Node:
    """Return the f32 of the low sixteen bits, a bf16."""
    return (raw.zext(U32) << 16).bits_as(F32)


def _small_float(shape: Small) -> Widen:
    # How a float of few bits becomes an f32.
    sign = 1 << shape.bits - 1

    def widen(raw: Node) -> Node:
        trace = raw.trace
        bits = raw.zext(U32) & (2 * sign - 1)
        exponent = (bits >> shape.fraction_bits) & ((1 << shape.exponent_bits) - 1)
        fraction = bits & ((1 << shape.fraction_bits) - 1)
        normal = exponent.ne(0)
        whole = where(normal, fraction | (1 << shape.fraction_bits), fraction)
        power = where(normal, exponent, 1) - (shape.bias + shape.fraction_bits)
        size = trace.apply("from_unsigned", whole, type=F32)
        value = trace.apply("ldexp", size, power, type=F32)
        value = (value.bits_as(U32) | ((bits & sign) << (32 - shape.bits))).bits_as(F32)
        if shape.numbers:
            return value
        if shape.unsigned_zero:
            return where(bits.eq(0x80), float("nan"), value)
        if shape.finite:
            return where((bits & 0x7F).eq(0x7F), float("nan"), value)
        infinity = where((bits & 0x80).ne(0), trace.const(U32, 0xFF800000), 0x7F800000)
        special = where(fraction.eq(0), infinity.bits_as(F32), float("nan"))
        return where(exponent.eq((1 << shape.exponent_bits) - 1), special, value)

    return widen


SMALL_FLOATS = {name: _small_float(shape) for name, shape in SMALL.items()}
"""How the floats of eight bits and less become f32."""


def round_to_bfloat(value: Node) -> Node:
    """Round an f32 to the sixteen bits of a bf16, ties to even."""
    raw = value.bits_as(U32)
    near = (raw + (((raw >> 16) & 1) + 0x7FFF)) >> 16
    return where(value.trace.apply("isnan", value), (raw >> 16) | 0x40, near).zext(U16)


def _integer(bits: int, signed: bool) -> Widen:
    shift = 64 - bits

    def widen(raw: Node) -> Node:
        wide = raw.zext(U64) << shift
        return wide.ashr(shift) if signed else wide >> shift

    return widen


@dataclass(frozen=True, slots=True)
class Side:
    """One factor's parts: bits of each, and how one is widened."""

    bits: int
    widen: Widen


_FLOATS = {
    "f16": Side(16, _from_half),
    "bf16": Side(16, from_bfloat),
    "fp8": Side(8, SMALL_FLOATS["fp8"]),
    "bf8": Side(8, SMALL_FLOATS["bf8"]),
}


def _part(word: Node, operand: Operand, side: Side, number: int) -> Node:
    # One part of a factor; of halves op_sel says which is multiplied first, and each has its sign.
    at = number
    if side.bits == 16:
        at = int(operand.op_sel_hi if number else operand.op_sel)
    raw = word >> (at * side.bits) if at else word
    if side.bits == 16 and (operand.neg_hi if number else operand.neg):
        raw = raw ^ 0x8000
    return side.widen(raw)


def _parts(trace: Trace, sides: tuple[Side, Side], plain: bool) -> list[tuple[Node, Node]]:
    operands = trace.instruction.src[:2]
    words = [trace.splat(trace.crossed(operand)) for operand in operands]
    found = []
    for number in range(32 // sides[0].bits):
        pair = [
            side.widen(word >> (number * side.bits) if number else word)
            if plain
            else _part(word, operand, side, number)
            for word, operand, side in zip(words, operands, sides, strict=True)
        ]
        found.append((pair[0], pair[1]))
    return found


def _addend(trace: Trace) -> Operand:
    made = trace.instruction
    return made.src[2] if len(made.src) > 2 else made.dst[0]


def _signed(operand: Operand, value: Node) -> Node:
    # The third source: its magnitude (neg_hi), negated (neg).
    raw, sign = value.bits_as(U32), 0x80000000
    if operand.neg_hi or operand.abs:
        raw = raw & (sign - 1)
    if operand.neg:
        raw = raw ^ sign
    return raw.bits_as(F32)


def _float_dot(first: str, second: str) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        operand = _addend(trace)
        total = _signed(operand, trace.splat(trace.raw(operand, 0, 1)).zext(U32).bits_as(F32))
        plain = trace.instruction.encoding != "VOP3P"
        with trace.to_nearest():
            for a, b in _parts(trace, (_FLOATS[first], _FLOATS[second]), plain):
                total = trace.apply("fma", a, b, total)
        trace.write(trace.instruction.dst[0], total)

    return meaning


for _names, _kinds in (
    ("v_dot2_f32_f16 v_dot2c_f32_f16 v_dot2acc_f32_f16", ("f16", "f16")),
    ("v_dot2_f32_bf16 v_dot2c_f32_bf16 v_dot2acc_f32_bf16", ("bf16", "bf16")),
    *((f"v_dot4_f32_{a}_{b}", (a, b)) for a in ("fp8", "bf8") for b in ("fp8", "bf8")),
):
    DOT.add(_names, _float_dot(*_kinds))


def to_odd(a: Node, b: Node, c: Node) -> Node:
    """Return a * b + c of doubles, the last bit set where it is not exact; a * b must be."""
    trace = a.trace
    product = a * b
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    raw = total.bits_as(U64)
    inexact = ~error.eq(0.0) & error.eq(error) & (raw & 1).eq(0)
    away = ~(trace.apply("flt", 0.0, error) ^ trace.apply("flt", 0.0, total))
    step = where(away, trace.const(U64, 1), trace.const(U64, -1))
    return where(inexact, raw + step, raw).bits_as(F64)


def _bfloat_step(a: Node, b: Node, total: Node) -> Node:
    # a * b + total, rounded once to bf16 (held as an f32): to odd in double, to odd in single.
    trace = a.trace
    wide = to_odd(*(trace.apply("fcvt", each, type=F64) for each in (a, b, total)))
    near = trace.apply("fcvt", wide, type=F32)
    back = trace.apply("fcvt", near, type=F64)
    raw, size, limit = near.bits_as(U32), _size(wide), _size(back)
    odd = where(trace.apply("flt", size, limit), raw - 1, raw) | 1
    raw = where(back.eq(wide) | ~back.eq(back), raw, odd)
    return from_bfloat(round_to_bfloat(raw.bits_as(F32)))


def _size(value: Node) -> Node:
    return (value.bits_as(U64) & ((1 << 63) - 1)).bits_as(F64)


def _half_dot(kind: str) -> Callable[[Trace], None]:
    # Sums of sixteen bits: rounded after each product.
    type: Type = F16 if kind == "f16" else U16

    def meaning(trace: Trace) -> None:
        made = trace.instruction
        operand = made.src[2]
        raw = trace.splat(trace.raw(operand, 0, 1))
        raw = (raw >> 16 if operand.op_sel and not operand.is_constant else raw).zext(U16)
        if operand.abs:
            raw = raw & 0x7FFF
        if operand.neg:
            raw = raw ^ 0x8000
        total = raw.bits_as(F16) if type == F16 else from_bfloat(raw)
        for number in range(2):
            a, b = (_half(trace, each, number) for each in made.src[:2])
            with trace.to_nearest():
                if type == F16:
                    total = trace.apply("fma", a.bits_as(F16), b.bits_as(F16), total)
                else:
                    total = _bfloat_step(from_bfloat(a), from_bfloat(b), total)
        trace.write(made.dst[0], total if type == F16 else (total.bits_as(U32) >> 16).zext(U16))

    return meaning


def _half(trace: Trace, operand: Operand, number: int) -> Node:
    # A VOP3's signs hold for both halves.
    word = trace.splat(trace.crossed(operand))
    raw = (word >> 16 if number else word).zext(U16)
    if operand.abs:
        raw = raw & 0x7FFF
    return raw ^ 0x8000 if operand.neg else raw


DOT.add("v_dot2_f16_f16", _half_dot("f16"))
DOT.add("v_dot2_bf16_bf16", _half_dot("bf16"))


def _integer_dot(kind: str, bits: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        made = trace.instruction
        signs = [o.neg for o in made.src[:2]] if kind == "iu" else [kind == "i"] * 2
        sides = Side(bits, _integer(bits, signs[0])), Side(bits, _integer(bits, signs[1]))
        start = trace.splat(trace.raw(_addend(trace), 0, 1))
        exact = start.zext(U64) if kind == "u" else start.sext(U64)
        for a, b in _parts(trace, sides, plain=bits != 16 or made.encoding != "VOP3P"):
            exact = exact + a * b
        trace.write(made.dst[0], saturating(trace, exact, kind != "u", U32))

    return meaning


for _names, _kind, _bits in (
    ("v_dot2_i32_i16 v_dot2c_i32_i16", "i", 16),
    ("v_dot2_u32_u16", "u", 16),
    ("v_dot4_i32_i8 v_dot4c_i32_i8", "i", 8),
    ("v_dot4_u32_u8", "u", 8),
    ("v_dot4_i32_iu8", "iu", 8),
    ("v_dot8_i32_i4 v_dot8c_i32_i4", "i", 4),
    ("v_dot8_u32_u4", "u", 4),
    ("v_dot8_i32_iu4", "iu", 4),
):
    DOT.add(_names, _integer_dot(_kind, _bits))
