"""Floats of 8 and 16 bits as exact numbers, by their definitions.

Sources: OCP 8-bit Floating Point Specification (E4M3, E5M2); LLVM APFloat.h (Float8E4M3FNUZ,
Float8E5M2FNUZ: one zero, one NaN where the negative zero would be, a bias larger by one); bfloat16
is the upper half of a binary32.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bits of the fraction, bias, and the codes of positive numbers that are finite.
SHAPES = {
    "bf16": (16, 7, 127, 0x7F80),
    "fp8e4nv": (8, 3, 7, 0x7F),
    "fp8e5": (8, 2, 15, 0x7C),
    "fp8e4b8": (8, 3, 8, 0x80),
    "fp8e5b16": (8, 2, 16, 0x80),
}


@functools.cache
def magnitudes(kind: str) -> NDArray[np.float64]:
    """Return every finite number of a kind that is not negative, in order of its code."""
    _, fraction_bits, bias, count = SHAPES[kind]
    codes = np.arange(count)
    exponents, fractions = codes >> fraction_bits, codes & ((1 << fraction_bits) - 1)
    significands = np.where(exponents > 0, fractions + (1 << fraction_bits), fractions)
    return np.ldexp(significands.astype(float), np.maximum(exponents, 1) - bias - fraction_bits)


def decode(codes: NDArray[Any], kind: str) -> NDArray[np.float64]:
    """Return the numbers that codes of finite values stand for."""
    bits, _, _, count = SHAPES[kind]
    codes = codes.astype(np.int64)
    sizes = codes & ((1 << (bits - 1)) - 1)
    assert (sizes < count).all()
    return np.where(codes >> (bits - 1), -1.0, 1.0) * magnitudes(kind)[sizes]


def encode(values: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return the codes of the nearest numbers, ties to even; no value may be beyond the last."""
    bits, *_ = SHAPES[kind]
    known, sizes = magnitudes(kind), np.abs(values.astype(np.float64))
    assert (sizes <= known[-1]).all()
    above = np.clip(np.searchsorted(known, sizes), 1, len(known) - 1)
    below = above - 1
    distance = (sizes - known[below]) - (known[above] - sizes)
    nearest = np.where(distance < 0, below, np.where(distance > 0, above, below + below % 2))
    no_zero = kind in ("fp8e4b8", "fp8e5b16")
    negative = np.signbit(values) & ~(no_zero & (nearest == 0))
    return (nearest | negative.astype(np.int64) << (bits - 1)).astype(f"u{bits // 8}")


def codes(kind: str, count: int, seed: int, largest: float) -> NDArray[Any]:
    """Return random codes of finite numbers up to a size, both signs."""
    chance = np.random.default_rng(seed)
    bits, *_ = SHAPES[kind]
    last = int(np.searchsorted(magnitudes(kind), largest))
    sizes = chance.integers(1, last, count)
    return (sizes | chance.integers(2, size=count) << (bits - 1)).astype(f"u{bits // 8}")
