"""Conversions between f32 and the floats of eight bits.

gfx940 names the byte by SDWA or op_sel and has floats without infinities (fnuz); gfx12 names it by
op_sel and has OCP's. Rounding is to nearest even whatever MODE says; the stochastic forms add the
upper bits of a random number below the last bit that is kept, and cut. What is too large gives NaN
(bf8 of gfx12: an infinity), or with MODE's FP16_OVFL the largest number.

Sources: AMD's ISA manuals (MI300, RDNA4, CDNA4: conversion instructions and FP16_OVFL table).
"""

from collections.abc import Callable

from gputrace.isa.graph import F32, F64, U8, U32, Node, where
from gputrace.isa.instruction import Operand
from gputrace.isa.matrix import SMALL, Small
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_dot import SMALL_FLOATS
from gputrace.isa.semantics_matrix import vector_index
from gputrace.isa.semantics_packed import join
from gputrace.isa.trace import Trace

NARROW = Registry()


def _selected(trace: Trace) -> int:
    # The op_sel bits of a VOP3; the instruction has fewer operands than bits.
    return trace.instruction.words[0] >> 11 & 15 if trace.instruction.encoding == "VOP3" else 0


def _name(trace: Trace, kind: str) -> str:
    return kind + trace.mode.behaviour.small_floats


def _from_byte(kind: str) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        value = trace.read(trace.instruction.src[0])
        # The manual: the bits that select the byte are reversed; gfx940 has them in SDWA only.
        sel = _selected(trace) if trace.mode.behaviour.byte_sel else 0
        byte = value >> (16 * (sel & 1) + 8 * (sel >> 1 & 1))
        trace.write(trace.instruction.dst[0], SMALL_FLOATS[_name(trace, kind)](byte))

    return meaning


def _from_two_bytes(kind: str) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        sel = _selected(trace) if trace.mode.behaviour.byte_sel else 0
        value = trace.read(trace.instruction.src[0]) >> (16 * (sel & 1))
        widen = SMALL_FLOATS[_name(trace, kind)]
        trace.write(trace.instruction.dst[0], join(widen(value), widen(value >> 8)))

    return meaning


def _largest(shape: Small) -> int:
    # The pattern of the largest number.
    top = 0x7F if shape.unsigned_zero else 0x7E
    return top if shape.finite else (((1 << shape.exponent_bits) - 1) << shape.fraction_bits) - 1


def _units(size: Node, shape: Small) -> tuple[Node, Node]:
    # (whole, exponent field): size = whole units of the last bit that its exponent leaves it.
    # Below the normal numbers the unit stays what it is at the least of them.
    trace = size.trace
    raw = size.bits_as(U32)
    power = (raw >> 23) - (127 - shape.bias)
    field = where(trace.apply("slt", power, 1), trace.const(U32, 1), power)
    scale = ~field + (1 + shape.bias + shape.fraction_bits)
    wide = trace.apply("fcvt", size, type=F64)
    return trace.apply("ldexp", wide, scale, type=F64), field


def _pattern(whole: Node, field: Node, shape: Small) -> Node:
    # Units and exponent field to the bits: a whole of one bit more carries into the exponent.
    normal = 1 << shape.fraction_bits
    hidden = whole.trace.apply("ule", normal, whole)
    above = (field << shape.fraction_bits) + whole - normal
    return where(hidden, above, whole)


def _narrowed(value: Node, shape: Small, random: Node | None, limit: bool) -> Node:
    with value.trace.to_nearest():
        return _rounded(value, shape, random, limit)


def _rounded(value: Node, shape: Small, random: Node | None, limit: bool) -> Node:
    trace = value.trace
    raw = value.bits_as(U32)
    sign, size = (raw >> 24) & 0x80, (raw & 0x7FFFFFFF).bits_as(F32)
    finite = trace.apply("ult", raw & 0x7FFFFFFF, 0x7F800000)
    if random is not None:  # a carry goes on into the exponent
        kept = 23 - shape.fraction_bits
        size = (size.bits_as(U32) + (random >> (32 - kept))).bits_as(F32)
    whole, field = _units(where(finite, size, 1.0), shape)
    whole = trace.apply("rint" if random is None else "truncate", whole)
    count = trace.apply("to_unsigned", whole, type=U32)
    made, largest = _pattern(count, field, shape), _largest(shape)
    nan = 0x80 if shape.unsigned_zero else 0x7F
    over = trace.apply("ult", largest, made)
    beyond = largest if limit else largest + 1 if not shape.finite else nan
    made = where(over | ~finite, trace.const(U32, beyond), made)
    made = where(trace.apply("isnan", value), trace.const(U32, nan), made)
    signed = made | sign
    if not shape.unsigned_zero:
        return signed
    # One zero and one NaN, neither with a sign of its own.
    return where((made & 0x7F).eq(0), made, signed)


def _put_byte(trace: Trace, byte: Node, number: int) -> None:
    to = trace.instruction.dst[0]
    old = trace.raw(to, 0, 1)
    kept = old & (0xFFFFFFFF ^ (0xFF << (8 * number)))
    trace.put_vector(vector_index(to), kept | (byte << (8 * number)))


def _source(trace: Trace, operand: Operand) -> Node:
    return trace.splat(trace.read(operand))


def _to_two_bytes(kind: str) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        shape, limit = SMALL[_name(trace, kind)], trace.mode.half_limit
        low, high = (
            _narrowed(_source(trace, o), shape, None, limit) for o in trace.instruction.src[:2]
        )
        to, both = trace.instruction.dst[0], low | (high << 8)
        at = 16 * int(to.op_sel)
        kept = trace.raw(to, 0, 1) & (0xFFFF0000 >> at)
        trace.put_vector(vector_index(to), kept | (both << at))

    return meaning


def _to_byte(kind: str) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        shape, limit = SMALL[_name(trace, kind)], trace.mode.half_limit
        value, random = (_source(trace, operand) for operand in trace.instruction.src[:2])
        byte = _narrowed(value, shape, random, limit)
        _put_byte(trace, byte, _selected(trace) >> 2)

    return meaning


for _kind in ("fp8", "bf8"):
    NARROW.add(f"v_cvt_f32_{_kind}", _from_byte(_kind))
    NARROW.add(f"v_cvt_pk_f32_{_kind}", _from_two_bytes(_kind))
    NARROW.add(f"v_cvt_pk_{_kind}_f32", _to_two_bytes(_kind))
    NARROW.add(f"v_cvt_sr_{_kind}_f32", _to_byte(_kind))


# --- a byte of a dword


@NARROW.meaning("v_cvt_pk_u8_f32 v_cvt_pkaccum_u8_f32")
def _put_in(trace: Trace) -> None:
    # The float as an unsigned byte, in the byte of the third source (or the destination) that the
    # second names.
    made = trace.instruction
    value, number = trace.read(made.src[0]), trace.read(made.src[1])
    old = trace.read(made.src[2]) if len(made.src) > 2 else trace.raw(made.dst[0], 0, 1)
    byte = trace.apply("to_unsigned", value, type=U8).zext(U32)
    at = (number & 3) << 3
    mask = trace.const(U32, 0xFF) << at
    trace.write(made.dst[0], (old & ~mask) | (byte << at))
