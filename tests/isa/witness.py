"""What instructions do, said a second time: plain Python on whole numbers, fractions and floats.

A function takes the sources in the order of the text: unsigned integers, signed ones where the
operand's type says so, Python floats, and for a lane mask the lane's bit. It returns what the
destinations get, in order; an integer of any size (the register keeps the low bits), a fraction
(rounded once to the destination), a float, or a bool for a lane mask. A scalar instruction's last
result is SCC when there is one more than destinations.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

Function = Callable[..., Any]
CANCELLED = object()
"""The sum of two numbers that are not zeros is one; its sign is up to the rounding."""
SPEC: dict[str, Function] = {}


def add(names: str, function: Function) -> None:
    """Give each of the names, separated by spaces, its function."""
    for name in names.split():
        assert name not in SPEC, name
        SPEC[name] = function


def s32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (value >> 31 << 32)


def field(value: int, at: int, width: int) -> int:
    return value >> at & ((1 << width) - 1)


def sign(value: int, width: int) -> int:
    return (value & ((1 << width) - 1)) - ((value >> (width - 1) & 1) << width) if width else 0


# --- vector integers

add("v_mov_b32 v_mov_b64", lambda a: a)
add("v_not_b32", lambda a: ~a)
add("v_and_b32", lambda a, b: a & b)
add("v_or_b32", lambda a, b: a | b)
add("v_xor_b32", lambda a, b: a ^ b)
add("v_xnor_b32", lambda a, b: ~(a ^ b))
add("v_or3_b32", lambda a, b, c: a | b | c)
add("v_xor3_b32", lambda a, b, c: a ^ b ^ c)
add("v_and_or_b32", lambda a, b, c: a & b | c)
add("v_xad_u32", lambda a, b, c: (a ^ b) + c)
add("v_bfi_b32", lambda a, b, c: a & b | ~a & c)
add("v_bfrev_b32", lambda a: int(f"{a:032b}"[::-1], 2))
add("v_bcnt_u32_b32", lambda a, b: a.bit_count() + b)
add("v_bfm_b32", lambda a, b: ((1 << (a & 31)) - 1) << (b & 31))
add("v_bfe_u32", lambda a, b, c: field(a, b & 31, c & 31))
add("v_bfe_i32", lambda a, b, c: sign(s32(a) >> (b & 31), c & 31))
for _bits in (16, 32, 64):
    _ones = _bits - 1
    add(f"v_lshlrev_b{_bits}", lambda n, a, m=_ones: a << (n & m))
    add(f"v_lshrrev_b{_bits}", lambda n, a, m=_ones: a >> (n & m))
    add(f"v_ashrrev_i{_bits}", lambda n, a, m=_ones: a >> (n & m))
add("v_lshl_or_b32", lambda a, n, b: a << (n & 31) | b)
add("v_lshl_add_u32", lambda a, n, b: (a << (n & 31)) + b)
add("v_add_lshl_u32", lambda a, b, n: (a + b) << (n & 31))
add("v_lshl_add_u64", lambda a, n, b: (a << (n & 7)) + b)
add("v_add3_u32", lambda a, b, c: a + b + c)
add("v_alignbit_b32", lambda a, b, n: (a << 32 | b) >> (n & 31))
add("v_alignbyte_b32", lambda a, b, n: (a << 32 | b) >> 8 * (n & 3))
add("v_ffbl_b32 v_ctz_i32_b32", lambda a: (a & -a).bit_length() - 1)
add("v_ffbh_u32 v_clz_i32_u32", lambda a: 32 - a.bit_length() if a else -1)


def _leading_signs(a: int) -> int:
    value = a if a >> 31 == 0 else ~a & 0xFFFFFFFF
    return 32 - value.bit_length() if value else -1


add("v_ffbh_i32 v_cls_i32", _leading_signs)


def _perm(a: int, b: int, selector: int) -> int:
    pool = (a << 32 | b).to_bytes(8, "little")
    made = []
    for pick in selector.to_bytes(4, "little"):
        if pick < 8:
            made.append(pool[pick])
        elif pick < 12:
            made.append(255 * (pool[2 * (pick - 8) + 1] >> 7))
        else:
            made.append(0 if pick == 12 else 255)
    return int.from_bytes(made, "little")


add("v_perm_b32", _perm)
add("v_add_u32 v_add_nc_u32 v_add_u16 v_add_nc_u16", lambda a, b: a + b)
add("v_add_i32 v_add_nc_i32 v_add_i16 v_add_nc_i16", lambda a, b: a + b)
add("v_sub_u32 v_sub_nc_u32 v_sub_u16 v_sub_nc_u16", lambda a, b: a - b)
add("v_sub_i32 v_sub_nc_i32 v_sub_i16 v_sub_nc_i16", lambda a, b: a - b)
add("v_subrev_u32 v_subrev_nc_u32 v_subrev_u16", lambda a, b: b - a)
add("v_add_co_u32", lambda a, b: (a + b, a + b >= 1 << 32))
add("v_sub_co_u32", lambda a, b: (a - b, a < b))
add("v_subrev_co_u32", lambda a, b: (b - a, b < a))
add("v_addc_co_u32 v_add_co_ci_u32", lambda a, b, c: (a + b + c, a + b + c >= 1 << 32))
add("v_subb_co_u32 v_sub_co_ci_u32", lambda a, b, c: (a - b - c, a < b + c))
add("v_subbrev_co_u32 v_subrev_co_ci_u32", lambda a, b, c: (b - a - c, b < a + c))
add("v_mul_lo_u32 v_mul_lo_u16", lambda a, b: a * b)
add("v_mul_hi_u32 v_mul_hi_i32", lambda a, b: a * b >> 32)
add("v_mul_u32_u24", lambda a, b: field(a, 0, 24) * field(b, 0, 24))
add("v_mul_i32_i24", lambda a, b: sign(a, 24) * sign(b, 24))
add("v_mul_hi_u32_u24", lambda a, b: field(a, 0, 24) * field(b, 0, 24) >> 32)
add("v_mul_hi_i32_i24", lambda a, b: sign(a, 24) * sign(b, 24) >> 32)
add("v_mad_u32_u24", lambda a, b, c: field(a, 0, 24) * field(b, 0, 24) + c)
add("v_mad_i32_i24", lambda a, b, c: sign(a, 24) * sign(b, 24) + c)
add("v_mad_u16 v_mad_legacy_u16 v_mad_i16 v_mad_legacy_i16", lambda a, b, c: a * b + c)
add("v_mad_u32_u16 v_mad_i32_i16", lambda a, b, c: a * b + c)
add("v_mad_u64_u32", lambda a, b, c: (a * b + c, a * b + c >= 1 << 64))
add("v_mad_i64_i32", lambda a, b, c: (a * b + c, not -(1 << 63) <= a * b + c < 1 << 63))
for _letter in "ui":
    for _bits in (16, 32):
        add(f"v_min_{_letter}{_bits}", min)
        add(f"v_max_{_letter}{_bits}", max)
        add(f"v_min3_{_letter}{_bits}", min)
        add(f"v_max3_{_letter}{_bits}", max)
        add(f"v_med3_{_letter}{_bits}", lambda a, b, c: sorted((a, b, c))[1])
    add(f"v_maxmin_{_letter}32", lambda a, b, c: min(max(a, b), c))
    add(f"v_minmax_{_letter}32", lambda a, b, c: max(min(a, b), c))


def _parts(value: int, bits: int) -> list[int]:
    return [field(value, at, bits) for at in range(0, 32, bits)]


def _sad(a: int, b: int, bits: int) -> int:
    return sum(abs(x - y) for x, y in zip(_parts(a, bits), _parts(b, bits), strict=True))


add("v_sad_u8", lambda a, b, c: _sad(a, b, 8) + c)
add("v_sad_hi_u8", lambda a, b, c: (_sad(a, b, 8) << 16) + c)
add("v_sad_u16", lambda a, b, c: _sad(a, b, 16) + c)
add("v_sad_u32", lambda a, b, c: abs(a - b) + c)
add(
    "v_msad_u8",
    lambda a, b, c: sum(
        abs(x - y) for x, y in zip(_parts(a, 8), _parts(b, 8), strict=True) if y
    )
    + c,
)  # fmt: skip
add(
    "v_lerp_u8",
    lambda a, b, c: sum(
        (x + y + (z & 1) >> 1) << 8 * k
        for k, (x, y, z) in enumerate(
            zip(_parts(a, 8), _parts(b, 8), _parts(c, 8), strict=True)
        )
    ),
)  # fmt: skip
add("v_cndmask_b32", lambda a, b, c: b if c else a)
for _k in range(4):
    add(f"v_cvt_f32_ubyte{_k}", lambda a, k=_k: Fraction(a >> 8 * k & 255))

# --- scalar integers


def _flag(function: Function, bits: int = 32) -> Function:
    """Add SCC = result is not zero."""

    def with_flag(*args: int) -> tuple[int, bool]:
        value = function(*args) & ((1 << bits) - 1)
        return value, value != 0

    return with_flag


def _overflow(value: int) -> tuple[int, bool]:
    return value, not -(1 << 31) <= value < 1 << 31


add("s_add_u32", lambda a, b: (a + b, a + b >= 1 << 32))
add("s_sub_u32", lambda a, b: (a - b, a < b))
add("s_add_i32", lambda a, b: _overflow(a + b))
add("s_sub_i32", lambda a, b: _overflow(a - b))
add("s_min_i32 s_min_u32", lambda a, b: (min(a, b), a < b))
add("s_max_i32 s_max_u32", lambda a, b: (max(a, b), a > b))
for _bits in (32, 64):
    _mask = _bits - 1
    for _name, _function in {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
        "andn2": lambda a, b: a & ~b,
        "and_not1": lambda a, b: a & ~b,
        "orn2": lambda a, b: a | ~b,
        "or_not1": lambda a, b: a | ~b,
        "nand": lambda a, b: ~(a & b),
        "nor": lambda a, b: ~(a | b),
        "xnor": lambda a, b: ~(a ^ b),
        "not": lambda a: ~a,
        "lshl": lambda a, n, m=_mask: a << (n & m),
        "lshr": lambda a, n, m=_mask: a >> (n & m),
    }.items():
        add(f"s_{_name}_b{_bits}", _flag(_function, _bits))
    add(f"s_ashr_i{_bits}", _flag(lambda a, n, m=_mask: a >> (n & m), _bits))
    add(f"s_brev_b{_bits}", lambda a, w=_bits: int(f"{a:0{w}b}"[::-1], 2))
    add(f"s_mov_b{_bits}", lambda a: a)
    add(f"s_bcnt1_i32_b{_bits}", _flag(lambda a: a.bit_count()))
    add(f"s_bcnt0_i32_b{_bits}", _flag(lambda a, w=_bits: w - a.bit_count()))
    add(f"s_bfm_b{_bits}", lambda a, b, m=_mask: ((1 << (a & m)) - 1) << (b & m))
    add(f"s_ff1_i32_b{_bits} s_ctz_i32_b{_bits}", lambda a: (a & -a).bit_length() - 1)
    add(
        f"s_flbit_i32_b{_bits} s_clz_i32_u{_bits}",
        lambda a, w=_bits: w - a.bit_length() if a else -1,
    )
    add(
        f"s_bfe_u{_bits}",
        _flag(lambda a, b, m=_mask: field(a, b & m, min(field(b, 16, 7), m + 1)), _bits),
    )
    add(
        f"s_bfe_i{_bits}",
        _flag(
            lambda a, b, m=_mask: sign(a >> (b & m), min(field(b, 16, 7), m + 1))
            if field(b, 16, 7)
            else 0,
            _bits,
        ),
    )
    for _one, _name in ((True, "s_bitcmp1"), (False, "s_bitcmp0")):
        add(f"{_name}_b{_bits}", lambda a, b, m=_mask, o=_one: (bool(a >> (b & m) & 1) == o,))
add("s_mul_i32", lambda a, b: a * b)
add("s_mul_hi_u32 s_mul_hi_i32", lambda a, b: a * b >> 32)
add("s_abs_i32", _flag(abs))
add("s_absdiff_i32", _flag(lambda a, b: abs(sign(a - b, 32))))
add("s_sext_i32_i8", lambda a: sign(a, 8))
add("s_sext_i32_i16", lambda a: sign(a, 16))
add("s_pack_ll_b32_b16", lambda a, b: field(a, 0, 16) | field(b, 0, 16) << 16)
add("s_pack_lh_b32_b16", lambda a, b: field(a, 0, 16) | field(b, 16, 16) << 16)
add("s_pack_hh_b32_b16", lambda a, b: field(a, 16, 16) | field(b, 16, 16) << 16)
add("s_pack_hl_b32_b16", lambda a, b: field(a, 16, 16) | field(b, 0, 16) << 16)
for _n in range(1, 5):
    add(
        f"s_lshl{_n}_add_u32",
        lambda a, b, n=_n: ((a << n) + b, (a << n) + b >= 1 << 32),
    )
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "lg": lambda a, b: a != b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
for _name, _function in _COMPARED.items():
    for _letter in "iu":
        if _name != "ne":
            add(f"s_cmp_{_name}_{_letter}32", lambda a, b, f=_function: (f(a, b),))
        for _bits in (16, 32, 64):
            if _name != "lg":
                add(f"v_cmp_{_name}_{_letter}{_bits}", _function)
    if _name in ("eq", "lg"):
        add(f"s_cmp_{_name}_u64", lambda a, b, f=_function: (f(a, b),))

# --- floats


def is_finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)


def plus(a: float, b: float) -> Any:
    """Add exactly; zeros, infinities and NaNs as IEEE has them."""
    if not is_finite(a, b):
        return a + b
    return Fraction(a) + Fraction(b) or _zeros(a, b)


def _zeros(a: float, b: float) -> Any:
    return a if a == b == 0 and math.copysign(1, a) == math.copysign(1, b) else CANCELLED


def times(a: float, b: float) -> Any:
    """Multiply exactly."""
    exact = Fraction(a) * Fraction(b) if is_finite(a, b) else Fraction(0)
    if exact or not is_finite(a, b):
        return exact or a * b
    return math.copysign(0.0, math.copysign(1, a) * math.copysign(1, b))


def fused(a: float, b: float, c: float) -> Any:
    """Multiply and add exactly."""
    if not is_finite(a, b):
        return a * b + c
    if not math.isfinite(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact:
        return exact
    product = times(a, b)
    return CANCELLED if product else _zeros(product, c)


def least(a: float, b: float) -> float:
    """IEEE minNum; -0 below +0."""
    if math.isnan(a) or math.isnan(b):
        return b if math.isnan(a) else a
    return min((a, b), key=lambda x: (x, math.copysign(1, x)))


def most(a: float, b: float) -> float:
    """IEEE maxNum."""
    return -least(-a, -b)


def median(a: float, b: float, c: float) -> float:
    """Middle of three; with a NaN the least of the others."""
    if math.isnan(a) or math.isnan(b) or math.isnan(c):
        return least(least(a, b), c)
    return sorted((a, b, c), key=lambda x: (x, math.copysign(1, x)))[1]


def whole(function: Callable[[Fraction], int]) -> Function:
    """Round to a whole number, keeping the sign of zero."""
    return lambda a: math.copysign(function(Fraction(a)), a) if math.isfinite(a) else a


def scaled(a: float, n: int) -> Any:
    """Multiply by a power of two; beyond some thousands it makes no difference."""
    n = max(-3000, min(3000, n))
    return Fraction(a) * Fraction(2) ** n if is_finite(a) and a else a


for _bits in (16, 32, 64):
    _f = f"f{_bits}"
    add(f"v_add_{_f}", plus)
    add(f"v_mul_{_f}", times)
    add(f"v_fma_{_f}", fused)
    add(f"v_min_{_f}", least)
    add(f"v_max_{_f}", most)
    add(f"v_floor_{_f}", whole(math.floor))
    add(f"v_ceil_{_f}", whole(math.ceil))
    add(f"v_trunc_{_f}", whole(math.trunc))
    add(f"v_rndne_{_f}", whole(round))
    for _name, _function in _COMPARED.items():
        if _name in ("lt", "eq", "le", "gt", "ge"):
            add(f"v_cmp_{_name}_{_f}", _function)
            if _name != "eq":
                add(f"v_cmp_n{_name}_{_f}", lambda a, b, f=_function: not f(a, b))
    add(f"v_cmp_lg_{_f}", lambda a, b: a < b or a > b)
    add(f"v_cmp_nlg_{_f}", lambda a, b: not (a < b or a > b))
    add(f"v_cmp_neq_{_f}", lambda a, b: a != b)
    add(f"v_cmp_o_{_f}", lambda a, b: not (math.isnan(a) or math.isnan(b)))
    add(f"v_cmp_u_{_f}", lambda a, b: math.isnan(a) or math.isnan(b))
    add(f"v_ldexp_{_f}", scaled)
for _bits in (16, 32):
    _f = f"f{_bits}"
    add(f"v_sub_{_f}", lambda a, b: plus(a, -b))
    add(f"v_subrev_{_f}", lambda a, b: plus(b, -a))
    add(f"v_min3_{_f}", lambda a, b, c: least(least(a, b), c))
    add(f"v_max3_{_f}", lambda a, b, c: most(most(a, b), c))
    add(f"v_med3_{_f}", median)
    add(f"v_maxmin_{_f}", lambda a, b, c: least(most(a, b), c))
    add(f"v_minmax_{_f}", lambda a, b, c: most(least(a, b), c))


def legacy(a: float, b: float) -> Any:
    """Multiply; zero times anything is zero."""
    return 0.0 if a == 0 or b == 0 else times(a, b)


add("v_mul_legacy_f32 v_mul_dx9_zero_f32", legacy)

# --- conversions


def truncated(low: int, high: int) -> Function:
    """Convert toward zero to what fits; NaN gives 0."""

    def function(value: float) -> int:
        if math.isnan(value):
            return 0
        if math.isinf(value):
            return high if value > 0 else low
        return max(low, min(high, int(value)))

    return function


_I32, _U32 = truncated(-(2**31), 2**31 - 1), truncated(0, 2**32 - 1)
add("v_cvt_i32_f32 v_cvt_i32_f64", _I32)
add("v_cvt_u32_f32 v_cvt_u32_f64", _U32)
add("v_cvt_i16_f16", truncated(-(2**15), 2**15 - 1))
add("v_cvt_u16_f16", truncated(0, 2**16 - 1))
add("v_cvt_f32_i32 v_cvt_f32_u32 v_cvt_f64_i32 v_cvt_f64_u32", lambda a: Fraction(a))
add("v_cvt_f16_i16 v_cvt_f16_u16", lambda a: Fraction(a))
add(
    "v_cvt_f32_f16 v_cvt_f16_f32 v_cvt_f32_f64 v_cvt_f64_f32",
    lambda a: Fraction(a) if is_finite(a) and a else a,
)


def _exponent(a: float) -> int:
    return math.frexp(a)[1] if is_finite(a) and a else 0


add("v_frexp_exp_i16_f16 v_frexp_exp_i32_f32 v_frexp_exp_i32_f64", _exponent)
add(
    "v_frexp_mant_f16 v_frexp_mant_f32 v_frexp_mant_f64",
    lambda a: math.frexp(a)[0] if is_finite(a) else a,
)


def _two(low: int, high: int) -> int:
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


def _held(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def _pairs(function: Function) -> Function:
    return lambda a, b: _two(function(a), function(b))


add("v_cvt_pk_i16_i32", _pairs(lambda a: _held(a, -0x8000, 0x7FFF)))
add("v_cvt_pk_u16_u32", _pairs(lambda a: min(a, 0xFFFF)))
add("v_cvt_pk_i16_f32", _pairs(truncated(-0x8000, 0x7FFF)))
add("v_cvt_pk_u16_f32", _pairs(truncated(0, 0xFFFF)))


def normalized(scale: int, low: int) -> Function:
    def function(value: float) -> int:
        if math.isnan(value):
            return 0
        exact = Fraction(max(low, min(1, value))) * scale
        return round(single(exact))

    return function


def single(value: Fraction) -> Fraction:
    """Round to the 24 digits of a single (no denormals here)."""
    if not value:
        return value
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return round(value / unit) * unit


for _f in ("f16", "f32"):
    for _name in ("pknorm", "pk_norm"):
        add(f"v_cvt_{_name}_i16_{_f}", _pairs(normalized(32767, -1)))
        add(f"v_cvt_{_name}_u16_{_f}", _pairs(normalized(65535, 0)))


def _down(add: Fraction) -> Function:
    def function(value: float) -> int:
        if not math.isfinite(value):
            return _I32(value)
        return _held(math.floor(Fraction(value) + add), -(2**31), 2**31 - 1)

    return function


add("v_cvt_flr_i32_f32 v_cvt_floor_i32_f32", _down(Fraction(0)))
add("v_cvt_rpi_i32_f32 v_cvt_nearest_i32_f32", _down(Fraction(1, 2)))
add("v_cvt_off_f32_i4", lambda a: Fraction(sign(a, 4), 16))
add(
    "v_sat_pk_u8_i16",
    lambda a: _held(sign(a, 16), 0, 255) | _held(sign(a >> 16, 16), 0, 255) << 8,
)
add(
    "s_bitreplicate_b64_b32",
    lambda a: int("".join(bit * 2 for bit in f"{a:032b}"), 2),
)
for _bits in (16, 32, 64):
    for _name, _value in (("f", False), ("t", True), ("tru", True)):
        add(f"v_cmp_{_name}_f{_bits}", lambda a, b, v=_value: v)


def _eight(exponent_bits: int, bias: int) -> Function:
    """A float of eight bits as gfx940 has them: one NaN, no infinities."""
    fraction_bits = 7 - exponent_bits

    def function(word: int) -> Any:
        byte = word & 255
        if byte == 0x80:
            return math.nan
        exponent = field(byte, fraction_bits, exponent_bits)
        fraction = field(byte, 0, fraction_bits)
        whole = fraction + (1 << fraction_bits if exponent else 0)
        value = Fraction(whole) * Fraction(2) ** (max(exponent, 1) - bias - fraction_bits)
        return -value if byte & 0x80 else value

    return function


add("v_cvt_f32_fp8", _eight(4, 8))
add("v_cvt_f32_bf8", _eight(5, 16))

# --- what gfx12 and gfx90a have besides

add("s_add_co_u32", SPEC["s_add_u32"])
add("s_sub_co_u32", SPEC["s_sub_u32"])
add("s_add_co_i32", SPEC["s_add_i32"])
add("s_sub_co_i32", SPEC["s_sub_i32"])
add("s_add_nc_u64", lambda a, b: a + b)
add("s_sub_nc_u64", lambda a, b: a - b)
add("s_mul_u64", lambda a, b: a * b)
for _bits in (32, 64):
    add(f"s_ff0_i32_b{_bits}", lambda a, w=_bits: (~a & (a + 1)).bit_length() - 1
         if a != (1 << w) - 1 else -1)  # fmt: skip
add("s_flbit_i32 s_cls_i32", lambda a: _leading_signs(a & 0xFFFFFFFF))
add("v_mad_co_u64_u32", SPEC["v_mad_u64_u32"])
add("v_mad_co_i64_i32", SPEC["v_mad_i64_i32"])
add("v_and_b16", lambda a, b: a & b)
add("v_or_b16", lambda a, b: a | b)
add("v_xor_b16", lambda a, b: a ^ b)
add("v_not_b16", lambda a: ~a)
for _bits in (16, 32, 64):
    add(f"v_min_num_f{_bits}", least)
    add(f"v_max_num_f{_bits}", most)


def propagating(function: Function) -> Function:
    return lambda a, b: math.nan if math.isnan(a) or math.isnan(b) else function(a, b)


for _bits in (16, 32, 64):
    add(f"v_minimum_f{_bits}", propagating(least))
    add(f"v_maximum_f{_bits}", propagating(most))
for _bits in (16, 32):
    _f = f"f{_bits}"
    add(f"v_min3_num_{_f}", lambda a, b, c: least(least(a, b), c))
    add(f"v_max3_num_{_f}", lambda a, b, c: most(most(a, b), c))
    add(f"v_med3_num_{_f}", median)
    add(f"v_maxmin_num_{_f}", lambda a, b, c: least(most(a, b), c))
    add(f"v_minmax_num_{_f}", lambda a, b, c: most(least(a, b), c))
    add(f"s_add_{_f}", plus)
    add(f"s_sub_{_f}", lambda a, b: plus(a, -b))
    add(f"s_mul_{_f}", times)
    add(f"s_min_num_{_f}", least)
    add(f"s_max_num_{_f}", most)
    add(f"s_minimum_{_f}", propagating(least))
    add(f"s_maximum_{_f}", propagating(most))
    add(f"s_floor_{_f}", whole(math.floor))
    add(f"s_ceil_{_f}", whole(math.ceil))
    add(f"s_trunc_{_f}", whole(math.trunc))
    add(f"s_rndne_{_f}", whole(round))
    for _name in ("lt", "eq", "le", "gt", "ge"):
        add(f"s_cmp_{_name}_{_f}", lambda a, b, f=_COMPARED[_name]: (f(a, b),))
add("s_cvt_f32_i32 s_cvt_f32_u32", lambda a: Fraction(a))
add("s_cvt_i32_f32", _I32)
add("s_cvt_u32_f32", _U32)
add("s_cvt_f32_f16 s_cvt_f16_f32", lambda a: Fraction(a) if is_finite(a) and a else a)
