"""The three instructions that make a division exact: scale, last step, and special cases.

A division n / d is written as: scale both so that nothing on the way is denormal or infinite, find
the quotient by Newton's method, undo the scaling in the last multiply-add, and put in the results
of infinities, zeros and NaNs.

Witness: AMD's ISA manuals (MI300 and RDNA3: V_DIV_SCALE, V_DIV_FMAS, V_DIV_FIXUP), where they
contradict themselves the division that LLVM expands to (SITargetLowering::LowerFDIV32 and 64),
whose results are compared with IEEE division in the tests.
"""

from dataclasses import dataclass

from gputrace.isa.graph import F16, F32, F64, U16, U32, U64, Node, Type, where
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_dot import to_odd
from gputrace.isa.semantics_float import load_exponent
from gputrace.isa.trace import Trace

DIVIDE = Registry()


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers that the rules depend on, for one width.

    `far`: quotients from two to this power on count as near overflow; `small`: exponent fields up
    to this are tiny numerators; `scale` is the power of two to scale by; `lost`: quotients below
    two to this power are zero.
    """

    bits: Type
    fraction: int
    bias: int
    far: int
    small: int
    scale: int
    lost: int

    @property
    def least(self) -> float:
        """Return the smallest normal number."""
        return float(2.0 ** (1 - self.bias))


SHAPES = {
    F16: Shape(U16, 10, 15, 0, 0, 0, -100),
    F32: Shape(U32, 23, 127, 96, 23, 64, -150),
    F64: Shape(U64, 52, 1023, 768, 53, 128, -1075),
}


def _exponent(value: Node, shape: Shape) -> Node:
    raw = value.bits_as(shape.bits) >> shape.fraction
    return raw.zext(U32) & (2 * shape.bias + 1)


def _is_denormal(value: Node, least: float) -> Node:
    trace = value.trace
    kind = Type("i", value.type.bits)
    size = (value.bits_as(kind) & ((1 << (kind.bits - 1)) - 1)).bits_as(value.type)
    return trace.apply("flt", size, least) & trace.apply("flt", 0.0, size)


@DIVIDE.meaning("v_div_scale_f32 v_div_scale_f64")
def _div_scale(trace: Trace) -> None:
    # Scales the first source, which is the denominator (second) or the numerator (third).
    with trace.to_nearest():
        _scale(trace)


def _scale(trace: Trace) -> None:
    value, low, high = (trace.read(operand) for operand in trace.instruction.src)
    shape = SHAPES[value.type]
    is_low = value.bits_as(shape.bits).eq(low.bits_as(shape.bits))
    is_high = value.bits_as(shape.bits).eq(high.bits_as(shape.bits))
    # In double precision no quotient of singles is denormal: the rule's comparison is exact.
    wide_low, wide_high = (
        side if side.type == F64 else trace.apply("fcvt", side, type=F64) for side in (low, high)
    )
    one_over = _is_denormal(trace.apply("fdiv", 1.0, wide_low), shape.least)
    quotient = _is_denormal(trace.apply("fdiv", wide_high, wide_low), shape.least)
    low_denormal = _is_denormal(low, shape.least)
    distance = _exponent(high, shape) - _exponent(low, shape)
    far = trace.apply("sle", shape.far, distance)
    small = trace.apply("ule", _exponent(high, shape), shape.small)

    def scaled(power: int) -> Node:
        return trace.apply("ldexp", value, trace.const(U32, power), type=value.type)

    up, down = scaled(shape.scale), scaled(-shape.scale)
    result = where(small, up, value)
    result = where(quotient, where(is_high, up, value), result)
    result = where(one_over, down, result)
    result = where(one_over & quotient, where(is_low, down, value), result)
    result = where(low_denormal, up, result)
    result = where(far, where(is_low, up, value), result)
    zero = low.eq(0.0) | high.eq(0.0)
    result = where(zero, float("nan"), result)
    flag = (far | (~low_denormal & quotient)) & ~zero
    trace.write(trace.instruction.dst[0], result)
    trace.write_mask(trace.instruction.dst[1], trace.splat(flag))


def _sum_and_error(x: Node, y: Node) -> tuple[Node, Node]:
    # Knuth's two-sum: the rounded sum, and exactly what it lacks.
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


def _fused_single(a: Node, b: Node, c: Node, power: Node) -> Node:
    # (a * b + c) * 2^power with one rounding: in double, to odd, which a second rounding respects.
    trace = a.trace
    with trace.to_nearest():
        odd = to_odd(*(trace.apply("fcvt", each, type=F64) for each in (a, b, c)))
    return trace.apply("fcvt", trace.apply("ldexp", odd, power, type=F64), type=F32)


def _fused_double(a: Node, b: Node, c: Node, power: Node) -> Node:
    # The same in double: where the result is denormal, a tie is decided by what the fused
    # multiply-add has already rounded away.
    trace, scale = a.trace, SHAPES[F64].scale
    if trace.rounding(F64) is not None:  # rounding in one direction twice is rounding once
        return load_exponent(trace.apply("fma", a, b, c), power)
    near = trace.apply("fma", a, b, c)
    product = a * b
    rest = trace.apply("fma", a, b, product * -1.0)
    total, lost = _sum_and_error(product, c)
    error = ((total - near) + lost) + rest
    limit, granule = 2.0 ** (scale - 1022), 2.0 ** (scale - 1074)
    positive = trace.apply("flt", 0.0, near)
    shifter = where(positive, trace.const(F64, limit), trace.const(F64, -limit))
    kept = (near + shifter) - shifter
    cut = near - kept
    up = cut.eq(granule / 2) & trace.apply("flt", 0.0, error)
    down = cut.eq(-granule / 2) & trace.apply("flt", error, 0.0)
    kept = where(up, kept + granule, where(down, kept - granule, kept))
    small = trace.apply("flt", near, limit) & trace.apply("flt", -limit, near)
    shrinks = trace.apply("slt", power, 0)
    return trace.apply("ldexp", where(small & shrinks, kept, near), power, type=F64)


@DIVIDE.meaning("v_div_fmas_f32 v_div_fmas_f64")
def _div_fmas(trace: Trace) -> None:
    # The addend is the scaled quotient: its size tells which side had been scaled.
    a, b, c = (trace.read(operand) for operand in trace.instruction.src)
    shape = SHAPES[a.type]
    flag = trace.vcc_lanes()
    big = trace.apply("ult", shape.bias, _exponent(c, shape))
    power = where(big, trace.const(U32, shape.scale), trace.const(U32, -shape.scale))
    fused = _fused_single if a.type == F32 else _fused_double
    plain = trace.apply("fma", a, b, c)
    trace.write(trace.instruction.dst[0], where(flag, fused(a, b, c, power), plain))


def _fixup(quotient: Node, low: Node, high: Node) -> Node:
    trace, shape, type = quotient.trace, SHAPES[quotient.type], quotient.type
    kind, sign = shape.bits, 1 << (shape.bits.bits - 1)
    infinity, quiet = (2 * shape.bias + 1) << shape.fraction, 1 << (shape.fraction - 1)
    q, n, d = (value.bits_as(kind) for value in (quotient, high, low))
    negative = (n ^ d) & sign
    size_n, size_d = n & (sign - 1), d & (sign - 1)
    zero_n, zero_d, inf_n, inf_d = (
        size.eq(limit) for limit in (0, infinity) for size in (size_n, size_d)
    )
    distance = _exponent(high, shape) - _exponent(low, shape)
    lost = trace.apply("slt", distance, shape.lost)
    top = _exponent(low, shape).eq(2 * shape.bias + 1)
    # Only an overflow on the way makes the quotient of two numbers a NaN.
    over = top | trace.apply("isnan", quotient)
    result = where(over, negative | infinity, (q & (sign - 1)) | negative)
    result = where(lost, negative, result)
    result = where(inf_d | zero_n, negative, result)
    result = where(zero_d | inf_n, negative | infinity, result)
    result = where((zero_n & zero_d) | (inf_n & inf_d), sign | infinity | quiet, result)
    result = where(trace.apply("isnan", low), d | quiet, result)
    result = where(trace.apply("isnan", high), n | quiet, result)
    return result.bits_as(type)


DIVIDE.pure("v_div_fixup_f16 v_div_fixup_f32 v_div_fixup_f64", _fixup)
DIVIDE.add("v_div_fixup_legacy_f16", DIVIDE.meanings["v_div_fixup_f16"])
