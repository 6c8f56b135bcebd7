"""More of what instructions do, said a second time: what `tests.isa.witness` has no room for."""

import math
from fractions import Fraction
from typing import Any

import mpmath

from tests.isa.exact import rounded
from tests.isa.witness import (
    CANCELLED,
    SPEC,
    Function,
    add,
    field,
    fused,
    is_finite,
    least,
    most,
    normalized,
    plus,
    propagating,
    times,
    truncated,
)

# --- comparisons that also write EXEC, and tests of the class of a number

RAW: set[str] = set()
"""Names whose functions take the bits of floats."""


def _class(bits: int, fraction: int) -> Function:
    """Whether the number is in one of the classes that the second operand has bits for."""

    def function(raw: int, wanted: int) -> bool:
        negative, size = raw >> (bits - 1), raw & ((1 << (bits - 1)) - 1)
        exponent, rest = size >> fraction, size & ((1 << fraction) - 1)
        if exponent == (1 << (bits - 1 - fraction)) - 1:
            if rest:
                return bool(wanted >> (rest >> (fraction - 1)) & 1)
            return bool(wanted >> (2 if negative else 9) & 1)
        kind = 0 if size == 0 else 1 if exponent == 0 else 2
        return bool(wanted >> ((5, 4, 3)[kind] if negative else (6, 7, 8)[kind]) & 1)

    return function


for _bits, _fraction in ((16, 10), (32, 23), (64, 52)):
    add(f"v_cmp_class_f{_bits}", _class(_bits, _fraction))
    RAW |= {f"v_cmp_class_f{_bits}", f"v_cmpx_class_f{_bits}"}
    for _letter in "iu":
        for _name, _value in (("f", False), ("t", True)):
            add(f"v_cmp_{_name}_{_letter}{_bits}", lambda a, b, v=_value: v)
for _name in [name for name in SPEC if name.startswith("v_cmp_")]:
    add(_name.replace("v_cmp_", "v_cmpx_"), SPEC[_name])
for _bits in (16, 32):
    for _name in ("lg", "neq", "nge", "ngt", "nle", "nlg", "nlt", "o", "u"):
        add(
            f"s_cmp_{_name}_f{_bits}",
            lambda a, b, f=SPEC[f"v_cmp_{_name}_f{_bits}"]: (bool(f(a, b)),),
        )

# --- multiply-adds of all kinds

ACCUMULATES = {
    "v_fmac_f16", "v_fmac_f32", "v_fmac_f64", "v_mac_f16", "v_mac_f32", "v_fmac_legacy_f32",
    "v_fmac_dx9_zero_f32", "s_fmac_f16", "s_fmac_f32", "v_cvt_pkaccum_u8_f32",
}  # fmt: skip
"""Names whose functions also take what the destination had."""
add("v_fmac_f16 v_fmac_f32 v_fmac_f64 s_fmac_f16 s_fmac_f32 v_fma_legacy_f16", fused)
add("v_fmaak_f32 v_fmamk_f32 v_fmaak_f16 v_fmamk_f16 s_fmaak_f32 s_fmamk_f32", fused)


def legacy_fused(a: float, b: float, c: float) -> Any:
    """Multiply and add; zero times anything is zero."""
    return c if a == 0 or b == 0 else fused(a, b, c)


add("v_fma_legacy_f32 v_fma_dx9_zero_f32 v_mad_legacy_f32", legacy_fused)
add("v_fmac_legacy_f32 v_fmac_dx9_zero_f32", legacy_fused)


def _twice(bits: int) -> Function:
    """Multiply, round, add, round; denormals are zeros everywhere."""
    least = {16: 2.0**-14, 32: 2.0**-126}[bits]

    def sane(value: Any) -> float:
        number = rounded(value, bits) if isinstance(value, Fraction) else float(value)
        return math.copysign(0.0, number) if abs(number) < least else number

    def function(a: float, b: float, c: float) -> Any:
        total = plus(sane(times(sane(a), sane(b))), sane(c))
        return total if total is CANCELLED else sane(total)

    return function


for _bits in (16, 32):
    for _name in ("mad", "mac", "madak", "madmk"):
        add(f"v_{_name}_f{_bits}", _twice(_bits))
add("v_mad_legacy_f16", _twice(16))

# --- three operands that prefer NaNs

for _bits in (16, 32):
    _low, _high = propagating(least), propagating(most)
    _f = f"f{_bits}"
    add(f"v_minimum3_{_f}", lambda a, b, c, f=_low: f(f(a, b), c))
    add(f"v_maximum3_{_f}", lambda a, b, c, f=_high: f(f(a, b), c))
    add(f"v_minimummaximum_{_f}", lambda a, b, c, f=_low, g=_high: g(f(a, b), c))
    add(f"v_maximumminimum_{_f}", lambda a, b, c, f=_low, g=_high: f(g(a, b), c))

# --- cube maps and light


def _largest_axis(x: float, y: float, z: float) -> int:
    if abs(z) >= abs(x) and abs(z) >= abs(y):
        return 2
    return 1 if abs(y) >= abs(x) else 0


def _face(x: float, y: float, z: float) -> float:
    axis = _largest_axis(x, y, z)
    return 2.0 * axis + ((x, y, z)[axis] < 0)


def _across(x: float, y: float, z: float) -> float:
    match _largest_axis(x, y, z):
        case 2:
            return -x if z < 0 else x
        case 1:
            return x
    return z if x < 0 else -z


def _along(x: float, y: float, z: float) -> float:
    if _largest_axis(x, y, z) == 1:
        return -z if y < 0 else z
    return -y


add("v_cubeid_f32", _face)
add("v_cubesc_f32", _across)
add("v_cubetc_f32", _along)
add("v_cubema_f32", lambda x, y, z: times(2.0, (x, y, z)[_largest_axis(x, y, z)]))
_LEAST_SINGLE = -(2.0 - 2.0**-23) * 2.0**127


def _light(a: float, b: float, c: float) -> Any:
    if math.isnan(b) or b <= _LEAST_SINGLE or math.isnan(c) or c <= 0:
        return _LEAST_SINGLE
    return times(a, b)


add("v_mullit_f32", _light)

# --- video


def _at_four(a: int, b: int, masked: bool) -> list[int]:
    wide, other = a.to_bytes(8, "little"), b.to_bytes(4, "little")
    return [
        sum(abs(wide[k + n] - other[n]) for n in range(4) if other[n] or not masked)
        for k in range(4)
    ]


def _four(bits: int, masked: bool) -> Function:
    def function(a: int, b: int, c: int) -> int:
        sums = [
            field(c, bits * k, bits) + value & ((1 << bits) - 1)
            for k, value in enumerate(_at_four(a, b, masked))
        ]
        return sum(value << bits * k for k, value in enumerate(sums))

    return function


add("v_qsad_pk_u16_u8", _four(16, masked=False))
add("v_mqsad_pk_u16_u8", _four(16, masked=True))
add("v_mqsad_u32_u8", _four(32, masked=True))


def _byte_in(value: float, at: int, old: int) -> int:
    place = 8 * (at & 3)
    return old & ~(255 << place) | truncated(0, 255)(value) << place


add("v_cvt_pk_u8_f32 v_cvt_pkaccum_u8_f32", _byte_in)
add("v_cvt_norm_i16_f16", normalized(32767, -1))
add("v_cvt_norm_u16_f16", normalized(65535, 0))

# --- the rest

add("v_prng_b32", lambda a: a * 2 ^ (0b11000101 if a >= 1 << 31 else 0))
for _letter, _least, _most in (("i", -128, 127), ("u", 0, 255)):
    add(
        f"v_ashr_pk_{_letter}8_i32",
        lambda a, b, n, low=_least, high=_most: sum(
            (min(max(value >> (n & 31), low), high) & 255) << at
            for at, value in ((0, a), (8, b))
        ),
    )
add("v_mov_b16 v_accvgpr_mov_b32", lambda a: a)
add("v_cndmask_b16", lambda a, b, c: b if c else a)
add("v_cvt_u32_u16 v_cvt_i32_i16", lambda a: a)
add("v_pack_b32_f16", lambda a, b: a | b << 16)
RAW.add("v_pack_b32_f16")
add(
    "s_flbit_i32_i64 s_cls_i32_i64",
    lambda a: 64 - (~a if a < 0 else a).bit_length() if a not in (0, -1) else -1,
)


with mpmath.workprec(1300):
    _TWO_OVER_PI = int(mpmath.floor(mpmath.mpf(2) / mpmath.pi * mpmath.mpf(2) ** 1201))


def _trig_preop(a: float, segment: int) -> Any:
    exponent = math.frexp(a)[1] + 1022 if is_finite(a) and a else 2047 if not is_finite(a) else 0
    shift = 53 * (segment & 31) + max(0, exponent - 1077)
    value = (_TWO_OVER_PI << 2800) >> (1201 + 2800 - 53 - shift) & ((1 << 53) - 1)
    return Fraction(value) * Fraction(2) ** (-53 - shift + (128 if exponent >= 1968 else 0)) or 0.0


add("v_trig_preop_f64", _trig_preop)
