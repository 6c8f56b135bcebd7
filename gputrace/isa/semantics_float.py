"""Vector instructions that compute with floats of 16, 32 and 64 bits, and conversions.

Witness: AMD's ISA manuals (MI300 and RDNA3, chapter on vector ALU operations), and the results of
compiled kernels in the tests.
"""

from collections.abc import Callable

from gputrace.isa.graph import F16, F32, F64, U16, U32, U64, Node, Type, where
from gputrace.isa.semantics import Registry
from gputrace.isa.trace import Trace

FLOAT = Registry()
_pure = FLOAT.pure

LAYOUT = {F16: (5, 10), F32: (8, 23), F64: (11, 52)}
"""Bits of exponent and of fraction."""

# --- arithmetic


def _fma(a: Node, b: Node, c: Node) -> Node:
    return a.trace.apply("fma", a, b, c)


_pure("v_add_f16 v_add_f32 v_add_f64", lambda a, b: a + b)
_pure("v_sub_f16 v_sub_f32", lambda a, b: a - b)
_pure("v_subrev_f16 v_subrev_f32", lambda a, b: b - a)
_pure("v_mul_f16 v_mul_f32 v_mul_f64", lambda a, b: a * b)
_pure("v_fma_f16 v_fma_f32 v_fma_f64 v_fma_legacy_f16", _fma)
_pure("v_fmamk_f32 v_fmaak_f32 v_fmamk_f16 v_fmaak_f16", _fma)


@FLOAT.meaning("v_fmac_f32 v_fmac_f16 v_fmac_f64")
def _fmac(trace: Trace) -> None:
    a, b = (trace.read(o) for o in trace.instruction.src[:2])
    to = trace.instruction.dst[0]
    trace.write(to, _fma(a, b, trace.read(to)))


def _legacy_multiply(a: Node, b: Node) -> Node:
    zero = a.eq(0.0) | b.eq(0.0)
    return where(zero, 0.0, a * b)


_pure("v_mul_legacy_f32 v_mul_dx9_zero_f32", _legacy_multiply)


def _is_signaling(value: Node) -> Node:
    # A NaN without the first bit of its fraction, whatever its sign: in a range of unsigned numbers
    # once the sign is shifted out.
    kind, (exponent_bits, fraction_bits) = Type("i", value.type.bits), LAYOUT[value.type]
    infinity = ((1 << exponent_bits) - 1) << (fraction_bits + 1)
    place = (value.bits_as(kind) << 1) - (infinity + 1)
    return value.trace.apply("ult", place, (1 << fraction_bits) - 1)


def _float_extreme(least: bool) -> Callable[[Node, Node], Node]:
    # A NaN gives the other operand (a signaling one a quiet NaN in IEEE mode); -0 is below +0.
    def function(a: Node, b: Node) -> Node:
        trace = a.trace
        kind = Type("i", a.type.bits)
        both = trace.apply("slt", a.bits_as(kind), b.bits_as(kind))
        less = trace.apply("flt", a, b) | (a.eq(b) & both & a.eq(0.0)) | trace.apply("isnan", b)
        more = trace.apply("flt", b, a) | (a.eq(b) & ~both & a.eq(0.0)) | trace.apply("isnan", b)
        chosen = where(less if least else more, a, b)
        if not trace.ieee:
            return chosen
        return where(_is_signaling(a) | _is_signaling(b), float("nan"), chosen)

    return function


LEAST, MOST = _float_extreme(least=True), _float_extreme(least=False)


def _numbers(name: str, *widths: int) -> str:
    # gfx12 has `num` in the names of those that prefer numbers to NaNs.
    return " ".join(f"v_{name}_{num}f{width}" for width in widths for num in ("", "num_"))


_pure(_numbers("min", 16, 32, 64), LEAST)
_pure(_numbers("max", 16, 32, 64), MOST)
_pure(_numbers("min3", 16, 32), lambda a, b, c: LEAST(LEAST(a, b), c))
_pure(_numbers("max3", 16, 32), lambda a, b, c: MOST(MOST(a, b), c))
_pure(_numbers("maxmin", 16, 32), lambda a, b, c: LEAST(MOST(a, b), c))
_pure(_numbers("minmax", 16, 32), lambda a, b, c: MOST(LEAST(a, b), c))


def _median(a: Node, b: Node, c: Node) -> Node:
    # With a NaN among them the least of the others.
    nan = a.trace.apply("isnan", a) | a.trace.apply("isnan", b) | a.trace.apply("isnan", c)
    middle = MOST(LEAST(a, b), LEAST(MOST(a, b), c))
    return where(nan, LEAST(LEAST(a, b), c), middle)


_pure(_numbers("med3", 16, 32), _median)


def _strict(function: Callable[[Node, Node], Node]) -> Callable[[Node, Node], Node]:
    # IEEE 754-2019 minimum and maximum: a NaN gives NaN.
    def meaning(a: Node, b: Node) -> Node:
        nan = a.trace.apply("isnan", a) | a.trace.apply("isnan", b)
        return where(nan, float("nan"), function(a, b))

    return meaning


LOWEST, HIGHEST = _strict(LEAST), _strict(MOST)
_pure("v_minimum_f16 v_minimum_f32 v_minimum_f64", LOWEST)
_pure("v_maximum_f16 v_maximum_f32 v_maximum_f64", HIGHEST)
_pure("v_minimum3_f16 v_minimum3_f32", lambda a, b, c: LOWEST(LOWEST(a, b), c))
_pure("v_maximum3_f16 v_maximum3_f32", lambda a, b, c: HIGHEST(HIGHEST(a, b), c))
_pure("v_minimummaximum_f16 v_minimummaximum_f32", lambda a, b, c: HIGHEST(LOWEST(a, b), c))
_pure("v_maximumminimum_f16 v_maximumminimum_f32", lambda a, b, c: LOWEST(HIGHEST(a, b), c))


def no_denormals(value: Node) -> Node:
    """Replace a denormal by a zero of its sign, whatever the mode says."""
    exponent_bits, fraction_bits = LAYOUT[value.type]
    kind = Type("i", value.type.bits)
    raw, sign = value.bits_as(kind), 1 << (value.type.bits - 1)
    tiny = (raw & (((1 << exponent_bits) - 1) << fraction_bits)).eq(0)
    return where(tiny, raw & sign, raw).bits_as(value.type)


def _unfused(a: Node, b: Node, c: Node) -> Node:
    # Multiply, round, add, round; denormals are always flushed (LLVM: FMAD needs that).
    a, b, c = (no_denormals(value) for value in (a, b, c))
    return no_denormals(no_denormals(a * b) + c)


_pure("v_mad_f32 v_mad_f16 v_mad_legacy_f16", _unfused)
_pure("v_madmk_f32 v_madak_f32 v_madmk_f16 v_madak_f16", _unfused)


@FLOAT.meaning("v_mac_f32 v_mac_f16")
def _mac(trace: Trace) -> None:
    a, b = (trace.read(o) for o in trace.instruction.src[:2])
    to = trace.instruction.dst[0]
    trace.write(to, _unfused(a, b, trace.read(to)))


@FLOAT.meaning("v_mac_legacy_f32 v_fmac_legacy_f32 v_fmac_dx9_zero_f32")
def _mac_legacy(trace: Trace) -> None:
    a, b = (trace.read(o) for o in trace.instruction.src[:2])
    to = trace.instruction.dst[0]
    trace.write(to, _legacy_fma(a, b, trace.read(to)))


def _legacy_fma(a: Node, b: Node, c: Node) -> Node:
    zero = a.eq(0.0) | b.eq(0.0)
    return where(zero, c, _fma(a, b, c))


_pure("v_fma_legacy_f32 v_fma_dx9_zero_f32 v_mad_legacy_f32", _legacy_fma)

for _name, _prim in (
    ("floor", "floor"),
    ("ceil", "ceil"),
    ("trunc", "truncate"),
    ("rndne", "rint"),
):
    _pure(f"v_{_name}_f16 v_{_name}_f32 v_{_name}_f64", lambda a, p=_prim: a.trace.apply(p, a))


def _fraction(a: Node) -> Node:
    # a - floor(a), kept below one.
    below = {F16: 1 - 2.0**-11, F32: 1 - 2.0**-24, F64: 1 - 2.0**-53}[a.type]
    rest = a - a.trace.apply("floor", a)
    return where(a.trace.apply("flt", rest, below), rest, where(rest.eq(rest), below, rest))


_pure("v_fract_f16 v_fract_f32 v_fract_f64", _fraction)


def _in_double(function: Callable[[Node], Node]) -> Callable[[Node], Node]:
    # Approximations of the hardware are not public: the exact value, rounded once more.
    def meaning(a: Node) -> Node:
        with a.trace.to_nearest():
            return rounded(a)

    def rounded(a: Node) -> Node:
        wide = a if a.type == F64 else a.trace.apply("fcvt", a, type=F64)
        result = function(wide)
        if a.type == F64:
            return result
        single = a.trace.apply("fcvt", result, type=F32)
        return single if a.type == F32 else a.trace.apply("fcvt", single, type=F16)

    return meaning


def _apply(prim: str) -> Callable[[Node], Node]:
    return lambda a: a.trace.apply(prim, a)


def _reciprocal(a: Node) -> Node:
    return a.trace.apply("fdiv", 1.0, a)




def _reciprocal_root(a: Node) -> Node:
    # 1 / sqrt(a): a step of Newton's method takes away what the two roundings left, but where the
    # first guess is no number that has one.
    trace = a.trace
    guess = _reciprocal(trace.apply("sqrt", a))
    high = a * guess
    low = trace.apply("fma", a, guess, high * -1.0)
    rest = trace.apply("fma", high * -1.0, guess, 1.0) - low * guess
    better = trace.apply("fma", guess * 0.5, rest, guess)
    return where(better.eq(better) & trace.apply("flt", 1e-290, a), better, guess)


for _name, _exact in (
    ("rcp", _reciprocal),
    ("rsq", lambda a: _reciprocal(a.trace.apply("sqrt", a))),
    ("sqrt", _apply("sqrt")),
):
    _pure(f"v_{_name}_f16 v_{_name}_f32 v_s_{_name}_f16 v_s_{_name}_f32", _in_double(_exact))
_pure("v_rcp_f64", _in_double(_reciprocal))
_pure("v_sqrt_f64", _in_double(_apply("sqrt")))
_pure("v_rsq_f64", _in_double(_reciprocal_root))
_pure("v_rcp_iflag_f32", _in_double(_reciprocal))
for _name in ("exp", "log"):
    _pure(
        f"v_{_name}_f16 v_{_name}_f32 v_{_name}_legacy_f32 v_s_{_name}_f16 v_s_{_name}_f32",
        _in_double(_apply(f"{_name}2")),
    )


_TURN = 6.283185307179586


def _quarter(a: Node) -> Node:
    # The sine of whole turns, given at most a quarter of one to either side.
    return a.trace.apply("sin", a * _TURN)


def _part_of_turn(a: Node) -> Node:
    # The nearest whole number of turns is taken away, which is exact.
    return a - a.trace.apply("rint", a)


def _absolute(a: Node) -> Node:
    return (a.bits_as(U64) & ((1 << 63) - 1)).bits_as(F64)


def _sine(a: Node) -> Node:
    part = _part_of_turn(a)
    beyond = a.trace.apply("flt", 0.25, _absolute(part))
    half = where(a.trace.apply("flt", 0.0, part), a.trace.const(F64, 0.5), -0.5)
    return _quarter(where(beyond, half - part, part))


def _cosine(a: Node) -> Node:
    return _quarter(_absolute(_part_of_turn(a)) * -1.0 + 0.25)


_pure("v_sin_f16 v_sin_f32", _in_double(_sine))
_pure("v_cos_f16 v_cos_f32", _in_double(_cosine))


def _within(n: Node, most: int) -> Node:
    trace = n.trace
    n = where(trace.apply("slt", n, -most), trace.const(U32, -most), n)
    return where(trace.apply("slt", most, n), trace.const(U32, most), n)


def load_exponent(a: Node, n: Node) -> Node:
    """Return a float times two to a power of 32 bits, rounded as MODE says."""
    trace = a.trace
    if trace.rounding(a.type) is None:
        return trace.apply("ldexp", a, n, type=a.type)
    if a.type == F64:
        # By parts that are powers of two themselves: rounding in one direction several times is
        # rounding once.
        n = _within(n, 2200)
        part = n.ashr(2)
        rest = n - part * 3
        for power in (part, part, part, rest):
            a = a * ((power + 1023).sext(U64) << 52).bits_as(F64)
        return a
    wide, most = (F32, 60) if a.type == F16 else (F64, 400)
    exact = trace.apply("ldexp", trace.apply("fcvt", a, type=wide), _within(n, most), type=wide)
    return trace.apply("fcvt", exact, type=a.type)


_pure("v_ldexp_f16 v_ldexp_f32 v_ldexp_f64", lambda a, n: load_exponent(a, n.sext(U32)))


def _exponent_of(a: Node) -> tuple[Node, Node]:
    # (exponent as U32 with a = fraction * 2^exponent and fraction in [0.5, 1), special)
    exponent_bits, fraction_bits = LAYOUT[a.type]
    kind = Type("i", a.type.bits)
    raw = a.bits_as(kind) & ((1 << (a.type.bits - 1)) - 1)
    field = raw >> fraction_bits
    shift = a.trace.apply("leading", raw) - exponent_bits
    least = 2 - (1 << (exponent_bits - 1)) + 1
    exponent = where(field.eq(0), ~shift + 1 + least, field + (least - 1))
    special = field.eq((1 << exponent_bits) - 1) | raw.eq(0)
    return exponent.sext(U32), special


def _frexp_exponent(a: Node) -> Node:
    exponent, special = _exponent_of(a)
    result = where(special, 0, exponent)
    return result.zext(U16) if a.type == F16 else result


def _frexp_mantissa(a: Node) -> Node:
    exponent, special = _exponent_of(a)
    scaled = a.trace.apply("ldexp", a, ~exponent + 1, type=a.type)
    return where(special, a, scaled)


_pure("v_frexp_exp_i16_f16 v_frexp_exp_i32_f32 v_frexp_exp_i32_f64", _frexp_exponent)
_pure("v_frexp_mant_f16 v_frexp_mant_f32 v_frexp_mant_f64", _frexp_mantissa)

# --- conversions


def _convert(prim: str, type: Type) -> Callable[[Node], Node]:
    return lambda a: a.trace.apply(prim, a, type=type)


_pure("v_cvt_f32_u32", _convert("from_unsigned", F32))
_pure("v_cvt_f32_i32", _convert("from_signed", F32))
_pure("v_cvt_f64_u32", _convert("from_unsigned", F64))
_pure("v_cvt_f64_i32", _convert("from_signed", F64))
_pure("v_cvt_f16_u16", _convert("from_unsigned", F16))
_pure("v_cvt_f16_i16", _convert("from_signed", F16))
_pure("v_cvt_u32_f32 v_cvt_u32_f64", _convert("to_unsigned", U32))
_pure("v_cvt_i32_f32 v_cvt_i32_f64", _convert("to_signed", U32))
_pure("v_cvt_u16_f16", _convert("to_unsigned", U16))
_pure("v_cvt_i16_f16", _convert("to_signed", U16))
_pure("v_cvt_f32_f16 v_cvt_f32_f64", _convert("fcvt", F32))
_pure("v_cvt_f64_f32", _convert("fcvt", F64))
_pure("v_cvt_f16_f32", _convert("fcvt", F16))
for _byte in range(4):
    _pure(
        f"v_cvt_f32_ubyte{_byte}",
        lambda a, k=_byte: a.trace.apply(
            "from_unsigned", (a.zext(U32) >> (8 * k)) & 0xFF, type=F32
        ),
    )
