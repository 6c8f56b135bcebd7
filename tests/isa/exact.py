"""Exact arithmetic on floats, by fractions: the witness for what numpy has no function for."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHAPES = {16: (11, -24, 16), 32: (24, -149, 128), 64: (53, -1074, 1024)}


def signed(value: int, bits: int) -> int:
    """Read the low bits as two's complement."""
    value = int(value) & ((1 << bits) - 1)
    return value - (1 << bits) if value >> (bits - 1) else value


def rounded(
    value: Fraction | int, bits: int, negative_zero: bool = False, mode: int = 0
) -> float:
    """Round an exact number to a float of a width.

    To the nearest, ties to even, unless the mode is 1 (up), 2 (down) or 3 (to zero).
    """
    digits, least, limit = _SHAPES[bits]
    if value == 0:
        return -0.0 if negative_zero else 0.0
    size = abs(Fraction(value))
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, least)
    if mode:
        away = mode == 1 if value > 0 else mode == 2
        whole = (math.ceil if away else math.floor)(size / unit) * unit
    else:
        away, whole = True, round(size / unit) * unit
    largest = Fraction(2) ** limit - Fraction(2) ** (limit - digits)
    beyond = math.inf if away else float(largest)
    result = beyond if whole > largest else float(whole)
    return -result if value < 0 else result


_KNOWN: dict[tuple[bytes, ...], NDArray[Any]] = {}  # each build asks for the same


def fma(x: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    """Multiply and add with one rounding, item by item."""
    key = (x.tobytes(), y.tobytes(), z.tobytes(), x.dtype.str.encode())
    if key not in _KNOWN:
        _KNOWN[key] = _fma(x, y, z)
    return _KNOWN[key].copy()


def _fma(x: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    bits = 8 * x.dtype.itemsize
    made = []
    for a, b, c in zip(x.tolist(), y.tolist(), z.tolist(), strict=True):
        if math.isfinite(a) and math.isfinite(b) and math.isfinite(c):
            total = Fraction(a) * Fraction(b) + Fraction(c)
            product_negative = math.copysign(1, a) * math.copysign(1, b) < 0
            both = product_negative and math.copysign(1, c) < 0
            exact_zero = (a == 0 or b == 0) and c == 0
            made.append(rounded(total, bits, negative_zero=exact_zero and both))
        elif (math.isinf(a) and b == 0) or (a == 0 and math.isinf(b)):
            made.append(math.nan)
        elif math.isfinite(a) and math.isfinite(b):
            made.append(c)
        else:
            made.append(a * b + c)
    return np.array(made, x.dtype)


def least(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """IEEE minNum; of two zeros the negative one."""
    smaller = np.where((x == y) & (x == 0), np.where(np.signbit(x), x, y), np.fmin(x, y))
    return np.asarray(smaller.astype(x.dtype))


def most(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """IEEE maxNum; of two zeros the positive one."""
    return -least(-x, -y)
