"""Arithmetic made for one purpose: cube maps, lighting, video, masks of quads, large angles.

Sources: AMD's ISA manuals (MI300, RDNA3, RDNA4: V_CUBE*, V_MULLIT, V_QSAD*, V_TRIG_PREOP, S_WQM);
the shift of V_TRIG_PREOP as the device library needs it (ROCm-Device-Libs, trigredlargeD.cl).
"""

from collections.abc import Callable
from functools import cache

from gputrace.isa.graph import F32, F64, U8, U16, U32, U64, Node, Type, where
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_matrix import vector_index
from gputrace.isa.trace import Trace

SPECIAL = Registry()
_pure = SPECIAL.pure

# --- cube maps: which of the axes is the largest


def _size(value: Node) -> Node:
    return (value.bits_as(U32) & 0x7FFFFFFF).bits_as(F32)


def _negated(value: Node) -> Node:
    return (value.bits_as(U32) ^ 0x80000000).bits_as(F32)


def _below_zero(value: Node) -> Node:
    return value.trace.apply("flt", value, 0.0)


def _by_axis(choose: Callable[[Node, Node, Node], tuple[Node, Node, Node]]) -> Callable[..., Node]:
    # `choose` gives the result for the largest axis x, y, z.
    def function(x: Node, y: Node, z: Node) -> Node:
        trace = x.trace
        a, b, c = (_size(value) for value in (x, y, z))
        is_z = trace.apply("fle", a, c) & trace.apply("fle", b, c)
        is_y = trace.apply("fle", a, b)
        for_x, for_y, for_z = choose(x, y, z)
        return where(is_z, for_z, where(is_y, for_y, for_x))

    return function


def _face(x: Node, y: Node, z: Node) -> tuple[Node, Node, Node]:
    constant = x.trace.const
    faces = [
        where(_below_zero(value), constant(F32, 2.0 * number + 1), constant(F32, 2.0 * number))
        for number, value in enumerate((x, y, z))
    ]
    return faces[0], faces[1], faces[2]


_pure("v_cubeid_f32", _by_axis(_face))
_pure(
    "v_cubesc_f32",
    _by_axis(
        lambda x, y, z: (
            where(_below_zero(x), z, _negated(z)),
            x,
            where(_below_zero(z), _negated(x), x),
        )
    ),
)
_pure(
    "v_cubetc_f32",
    _by_axis(
        lambda x, y, z: (_negated(y), where(_below_zero(y), _negated(z), z), _negated(y))
    ),
)
_pure("v_cubema_f32", _by_axis(lambda x, y, z: (x * 2.0, y * 2.0, z * 2.0)))


def _light(a: Node, b: Node, c: Node) -> Node:
    trace = a.trace
    least = -float.fromhex("0x1.fffffep+127")
    none = trace.apply("fle", b, least) | ~b.eq(b) | ~trace.apply("flt", 0.0, c)
    return where(none, least, a * b)


_pure("v_mullit_f32", _light)

# --- sums of distances of bytes at four neighbouring places


def _distances(value: Node, other: Node, masked: bool) -> Node:
    # The sum over four bytes; masked: bytes of `other` that are zero do not count.
    trace, total = value.trace, value.trace.const(U32, 0)
    for at in range(0, 32, 8):
        x, y = ((word >> at).zext(U8).zext(U32) for word in (value, other))
        less = trace.apply("ult", x, y)
        distance = where(less, y, x) - where(less, x, y)
        total = total + (where(y.eq(0), 0, distance) if masked else distance)
    return total


def _at_four_places(trace: Trace, masked: bool) -> list[Node]:
    wide, other = (trace.read(operand) for operand in trace.instruction.src[:2])
    return [_distances((wide >> (8 * k)).zext(U32), other, masked) for k in range(4)]


def _four_short(masked: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        added, result = trace.read(trace.instruction.src[2]), trace.const(U64, 0)
        clamps = trace.instruction.clamp
        for k, distance in enumerate(_at_four_places(trace, masked)):
            total = distance + (added >> (16 * k)).zext(U16).zext(U32)
            if clamps:
                total = where(trace.apply("ult", 0xFFFF, total), 0xFFFF, total)
            result = result | (total.zext(U16).zext(U64) << (16 * k))
        trace.write(trace.instruction.dst[0], result)

    return meaning


SPECIAL.add("v_qsad_pk_u16_u8", _four_short(masked=False))
SPECIAL.add("v_mqsad_pk_u16_u8", _four_short(masked=True))


@SPECIAL.meaning("v_mqsad_u32_u8")
def _four_words(trace: Trace) -> None:
    first = vector_index(trace.instruction.dst[0])
    for k, distance in enumerate(_at_four_places(trace, masked=True)):
        total = distance + trace.raw(trace.instruction.src[2], k, 1)
        if trace.instruction.clamp:
            total = where(trace.apply("ult", total, distance), 0xFFFFFFFF, total)
        trace.put_vector(first + k, total)


# --- masks of quads


def _any_of_four(value: Node) -> Node:
    # In each lowest bit of four, whether one of them is set; the others are clear.
    pairs = value | (value >> 1)
    lowest = int("0001" * (value.type.bits // 4), 2)
    return (pairs | (pairs >> 2)) & lowest


def _together(value: Node) -> Node:
    # Every fourth bit, side by side.
    result, step = value, 1
    width: Type = value.type
    while 3 * step < width.bits:
        mask = sum(((1 << 2 * step) - 1) << at for at in range(0, width.bits, 8 * step))
        result = (result | (result >> (3 * step))) & (mask & ((1 << width.bits) - 1))
        step *= 2
    return result


def _quads(function: Callable[[Node], Node]) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        result = function(_any_of_four(trace.read(trace.instruction.src[0])))
        trace.write(trace.instruction.dst[0], result)
        trace.put_scc(result.ne(0))

    return meaning


SPECIAL.add("s_quadmask_b32 s_quadmask_b64", _quads(_together))
SPECIAL.add("s_wqm_b32 s_wqm_b64", _quads(lambda value: value * 15))

# --- 2/pi, 53 bits at a time

_BITS = 1201
"""Bits of 2/pi behind the point that the hardware has."""


@cache
def _two_over_pi() -> int:
    # floor(2/pi * 2^_BITS), pi by Machin's formula with bits to spare.
    one = 1 << _BITS + 64

    def inverse_tangent(n: int) -> int:
        term = total = one // n
        k = 1
        while term:
            term //= n * n
            k += 2
            total += -(term // k) if k & 2 else term // k
        return total

    pi = 4 * (4 * inverse_tangent(5) - inverse_tangent(239))
    return (2 * one << _BITS) // pi


_WORDS = 20  # of 64 bits, from the point on; zeros follow


def _trig_word(index: Node, table: list[int]) -> Node:
    trace = index.trace
    result = trace.const(U64, 0)
    for number, word in enumerate(table):
        result = where(index.eq(number), trace.const(U64, word), result)
    return result


@SPECIAL.meaning("v_trig_preop_f64")
def _trig_preop(trace: Trace) -> None:
    a, segment = (trace.read(operand) for operand in trace.instruction.src)
    aligned = _two_over_pi() << (64 * _WORDS - _BITS)
    table = [aligned >> 64 * (_WORDS - 1 - k) & (1 << 64) - 1 for k in range(_WORDS)]
    exponent = ((a.bits_as(U64) >> 52).zext(U32)) & 0x7FF
    beyond = trace.apply("ult", 1077, exponent)
    shift = (segment & 31) * 53 + where(beyond, exponent - 1077, 0)
    index, inside = shift >> 6, (shift & 63).zext(U64)
    high, low = _trig_word(index, table), _trig_word(index + 1, table)
    left = where(inside.eq(0), high, (high << inside) | (low >> (~inside + 65)))
    value = trace.apply("from_unsigned", left >> 11, type=F64)  # exact
    large = trace.apply("ule", 1968, exponent)
    scale = ~shift + (1 - 53) + where(large, trace.const(U32, 128), 0)
    trace.write(trace.instruction.dst[0], trace.apply("ldexp", value, scale, type=F64))
