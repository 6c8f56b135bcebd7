"""Conversions with a scale, and some with random digits, between wide floats and narrow ones.

The scale is a power of two, the exponent of an f32; one that is infinite or NaN makes all NaN.
Narrowing divides by it, widening multiplies. Rounding is to nearest even whatever MODE says; the
stochastic forms add the upper bits of a random number below the last bit that is kept, and cut;
of several parts each takes the next random number. What is too large becomes the largest number,
or with eight bits what MODE's FP16_OVFL says, as without a scale.

Sources: AMD's CDNA4 ISA manual (V_CVT_SCALEF32_*, V_CVT_SR_*, V_PRNG_B32: which parts go where);
HIP's amd_hip_ocp_host.hpp (rounding, denormals and NaN), whose functions stand for these
instructions where there are none.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from gputrace.isa.graph import F16, F32, U16, U32, Node, Type, where
from gputrace.isa.instruction import Operand
from gputrace.isa.matrix import SMALL, Small
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_dot import SMALL_FLOATS, from_bfloat, round_to_bfloat
from gputrace.isa.semantics_matrix import vector_index
from gputrace.isa.semantics_packed import join, side_by_side
from gputrace.isa.semantics_vector import next_random
from gputrace.isa.trace import Trace

SCALED = Registry()
_FRACTION_BITS = {"f32": 23, "f16": 10, "bf16": 7}
_HALF, _BRAIN = Small(5, 15, False, bits=16), Small(8, 127, False, bits=16)
_NAN_SCALE = 0xFF
_HIDDEN = 1 << 23  # the bit above the fraction of an f32
_INFINITY = 0x7F800000
_FARTHEST = 31  # no shift goes beyond the word


def _largest(shape: Small) -> int:
    # The pattern of the largest number.
    ones = (1 << shape.bits - 1) - 1
    if shape.numbers:
        return ones
    return ones - 1 if shape.finite else (ones >> shape.fraction_bits << shape.fraction_bits) - 1


def _nan(shape: Small) -> int:
    # The patterns with all bits set, or the quiet NaN beside the infinities.
    ones = (1 << shape.bits - 1) - 1
    return ones if shape.finite else _largest(shape) + 1 | 1 << shape.fraction_bits - 1


@dataclass(frozen=True, slots=True)
class _Digits:
    """The random number of a stochastic rounding, and how many digits the source's format has."""

    random: Node
    fraction_bits: int


def _cut(trace: Trace, whole: Node, below: Node, shape: Small, digits: _Digits | None) -> Node:
    # Units of the last kept bit of 24 binary digits, `below` places under the normal numbers.
    kept = 23 - shape.fraction_bits
    if digits is not None:
        more = digits.fraction_bits - shape.fraction_bits
        known = whole >> _held(trace, below + (kept - more))
        return (known + (digits.random >> 32 - more)) >> more
    shift = _held(trace, below + kept)
    odd = (whole >> shift) & 1
    half = trace.const(U32, 1) << shift - 1
    return (whole + half - 1 + odd) >> shift


def _held(trace: Trace, shift: Node) -> Node:
    return where(trace.apply("ult", _FARTHEST, shift), _FARTHEST, shift)


def _narrowed(
    trace: Trace, value: Node, power: Node | int, shape: Small, digits: _Digits | None
) -> Node:
    # The pattern of an f32 divided by two to the power, in the low bits of a dword.
    raw = value.bits_as(U32)
    size = raw & 0x7FFFFFFF
    tiny = trace.apply("ult", size, _HIDDEN)
    with trace.to_nearest():
        lifted = (size.bits_as(F32) * 2.0**24).bits_as(U32)
    normal = where(tiny, lifted, size)
    exponent = (normal >> 23) - where(tiny, trace.const(U32, 24), 0) - power
    least = 128 - shape.bias
    small = trace.apply("slt", exponent, least)
    below = where(small, ~exponent + (least + 1), 0)
    units = _cut(trace, normal & _HIDDEN - 1 | _HIDDEN, below, shape, digits)
    field = where(small, trace.const(U32, 1), exponent - (least - 1))
    made = (field << shape.fraction_bits) + units - (1 << shape.fraction_bits)
    made = where(size.eq(0), 0, made)
    largest = _largest(shape)
    over = trace.apply("ult", largest, made)
    if shape.bits < 16:
        over = over | size.eq(_INFINITY)  # FP16_OVFL leaves only infinite halves as they are
    limited = shape.numbers or (trace.mode.half_limit and shape != _BRAIN)
    made = where(over, trace.const(U32, largest if limited else largest + 1), made)
    if shape.bits == 16:
        made = where(size.eq(_INFINITY), trace.const(U32, largest + 1), made)
    made = where(trace.apply("ult", _INFINITY, size), trace.const(U32, _nan(shape)), made)
    return made | (raw >> 31 << shape.bits - 1)


# --- operands


def _words(trace: Trace, operand: Operand) -> list[Node]:
    return [trace.splat(trace.raw(operand, k, 1)) for k in range(max(1, operand.count))]


def _from_bits(kind: str, raw: Node) -> Node:
    return from_bfloat(raw) if kind == "bf16" else _widened(raw.zext(U16).bits_as(F16))


def _widened(half: Node) -> Node:
    # With the sign of a NaN, which conversions lose.
    sign = half.bits_as(U16).zext(U32) >> 15 << 31
    wide = half.trace.apply("fcvt", half, type=F32).bits_as(U32)
    return ((wide & 0x7FFFFFFF) | sign).bits_as(F32)


def _values(trace: Trace, kind: str, operand: Operand) -> list[Node]:
    # All parts of an operand as f32.
    if operand.type in ("f32", "f16"):
        value = trace.splat(trace.read(operand))
        return [value if kind == "f32" else _widened(value)]
    if operand.type == "bf16":
        return [from_bfloat(trace.splat(bfloat_of(trace, operand)))]
    words = _words(trace, operand)
    if kind == "f32":
        return [word.bits_as(F32) for word in words]
    return [_from_bits(kind, word >> at if at else word) for word in words for at in (0, 16)]


def bfloat_of(trace: Trace, operand: Operand) -> Node:
    """Read a bf16 with its sign and magnitude as raw bits."""
    raw = trace.read(operand)
    if operand.abs:
        raw = raw & 0x7FFF
    return raw ^ 0x8000 if operand.neg else raw


def _scale(trace: Trace) -> Node:
    # The exponent field of the last source.
    word = trace.raw(trace.instruction.src[-1], 0, 1)
    return trace.splat((word >> 23) & 0xFF)


def _selected(trace: Trace) -> int:
    # The op_sel bits of a VOP3; the instruction has fewer operands than bits.
    return trace.instruction.words[0] >> 11 & 15


def _put(trace: Trace, words: list[Node], bits: int) -> None:
    # Whole registers, or the part of one that op_sel names.
    to = trace.instruction.dst[0]
    first = vector_index(to)
    if bits >= 32:
        for k, word in enumerate(words):
            trace.put_vector(first + k, word)
        return
    number = _selected(trace) >> (3 if bits == 16 else 2)
    mask = (1 << bits) - 1 << number * bits
    old = trace.raw(to, 0, 1) & (0xFFFFFFFF ^ mask)
    trace.put_vector(first, old | (words[0] << number * bits))


# --- meanings


def _narrowing(kind: str, source: str, random: bool) -> Callable[[Trace], None]:
    shape = SMALL[kind]

    def meaning(trace: Trace) -> None:
        made = trace.instruction
        given = made.src[: -2 if random else -1]
        columns = [_values(trace, source, operand) for operand in given]
        values = [value for row in zip(*columns, strict=True) for value in row]
        scale = _scale(trace)
        power = scale - 127
        seed = trace.splat(trace.read(made.src[-2])) if random else None
        parts = []
        for number, value in enumerate(values):
            if seed is not None and number:
                seed = next_random(seed)
            digits = None if seed is None else _Digits(seed, _FRACTION_BITS[source])
            part = _narrowed(trace, value, power, shape, digits)
            sign = value.bits_as(U32) >> 31 << shape.bits - 1
            parts.append(where(scale.eq(_NAN_SCALE), sign | _nan(shape), part))
        _put(trace, side_by_side(parts, shape.bits), shape.bits * len(parts))

    return meaning


def _factor(scale: Node) -> Node:
    # Two to the scale; its smallest is a denormal.
    raw = where(scale.eq(0), scale.trace.const(U32, 1 << 22), scale << 23)
    return where(scale.eq(_NAN_SCALE), scale.trace.const(U32, 0x7FC00000), raw).bits_as(F32)


def _parts(trace: Trace, bits: int, count: int) -> list[Node]:
    # The raw parts of the first source; op_sel names those of one register.
    words = _words(trace, trace.instruction.src[0])
    if len(words) == 1:
        step = bits * count
        number = _selected(trace) & (32 // step - 1)
        return [words[0] >> number * step + k * bits for k in range(count)]
    found = []
    for number in range(count):
        at, inside = divmod(number * bits, 32)
        part = words[at] >> inside
        if inside + bits > 32:
            part = part | (words[at + 1] << 32 - inside)
        found.append(part)
    return found


def _widening(kind: str, result: str, count: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        factor = _factor(_scale(trace))
        with trace.to_nearest():
            values = [
                SMALL_FLOATS[kind](part) * factor for part in _parts(trace, SMALL[kind].bits, count)
            ]
            if result == "f16":
                values = [trace.apply("fcvt", value, type=F16) for value in values]
        if result == "bf16":
            values = [round_to_bfloat(value) for value in values]
        values = [trace.result(value) for value in values]
        to = trace.instruction.dst[0]
        if count == 1:
            trace.write(to, values[0])
            return
        width = 32 if result == "f32" else 16
        raw = [value.bits_as(Type("i", width)) for value in values]
        if width == 16:
            raw = [join(low, high) for low, high in zip(raw[::2], raw[1::2], strict=True)]
        for k, word in enumerate(raw):
            trace.put_vector(vector_index(to) + k, word)

    return meaning


_EIGHT, _SIX, _FOUR = ("fp8", "bf8"), ("fp6", "bf6"), ("fp4",)
_WIDE = ("f32", "f16", "bf16")
for _form, _kinds, _sources in (
    ("pk", _EIGHT + _FOUR, _WIDE), ("sr", _EIGHT, _WIDE), ("sr_pk", _FOUR, _WIDE),
    ("2xpk16", _SIX, ("f32",)), ("pk32", _SIX, ("f16", "bf16")), ("sr_pk32", _SIX, _WIDE),
):  # fmt: skip
    for _kind, _source in itertools.product(_kinds, _sources):
        _meaning = _narrowing(_kind, _source, random=_form.startswith("sr"))
        SCALED.add(f"v_cvt_scalef32_{_form}_{_kind}_{_source}", _meaning)
for _form, _count, _kinds, _results in (
    ("", 1, _EIGHT, ("f32", "f16")), ("pk_", 2, _EIGHT + _FOUR, _WIDE), ("pk32_", 32, _SIX, _WIDE),
):  # fmt: skip
    for _kind, _result in itertools.product(_kinds, _results):
        SCALED.add(
            f"v_cvt_scalef32_{_form}{_result}_{_kind}", _widening(_kind, _result, _count)
        )


# --- without a scale


def _random_half(shape: Small) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        value, random = (trace.splat(trace.read(operand)) for operand in trace.instruction.src)
        made = _narrowed(trace, value, 0, shape, _Digits(random, 23)).zext(U16)
        trace.write(trace.instruction.dst[0], made if shape == _BRAIN else made.bits_as(F16))

    return meaning


SCALED.add("v_cvt_sr_f16_f32", _random_half(_HALF))
SCALED.add("v_cvt_sr_bf16_f32", _random_half(_BRAIN))


@SCALED.meaning("v_cvt_f32_bf16")
def _widened_bfloat(trace: Trace) -> None:
    value = from_bfloat(bfloat_of(trace, trace.instruction.src[0]))
    trace.write(trace.instruction.dst[0], value)
