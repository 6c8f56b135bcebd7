"""Floats with numpy where numpy has no function: fused multiply-add, the C library, one NaN."""

import ctypes
import ctypes.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

QUIET = {16: 0x7E00, 32: 0x7FC0_0000, 64: 0x7FF8_0000_0000_0000}
"""The NaN that arithmetic gives, by the bits of its type."""


def quieted(values: Array) -> Array:
    """Return floats in which each NaN is the one that arithmetic gives."""
    nan = np.isnan(values)
    if not nan.any():
        return values
    size = values.dtype.itemsize
    bits = np.array(values).view(f"u{size}")
    bits[nan] = QUIET[8 * size]
    return np.asarray(bits.view(values.dtype))


_LIBM = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")


def library_address(name: str) -> int:
    """Return the address of a function of the C library's mathematics."""
    return ctypes.cast(getattr(_LIBM, name), ctypes.c_void_p).value or 0


def libm(name: str, arity: int, kind: type[Any] = ctypes.c_double) -> Callable[..., Array]:
    """Return a function of the C library for arrays of floats; compiled code calls the same."""
    function = getattr(_LIBM, name)
    function.restype, function.argtypes = kind, [kind] * arity
    result = np.float64 if kind is ctypes.c_double else np.float32

    def run(*args: Array) -> Array:
        arrays = np.broadcast_arrays(*args)
        items = zip(*(array.ravel().tolist() for array in arrays), strict=True)
        made = np.array([function(*item) for item in items], result)
        return made.reshape(arrays[0].shape)

    return run


_FMA, _FMAF = libm("fma", 3), libm("fmaf", 3, ctypes.c_float)


def round_to_odd(x: Array, y: Array, z: Array) -> Array:
    """Return x * y + z in double, the last bit set where that is not exact.

    A second rounding to 24 bits or fewer then gives what one rounding would have given. The product
    of x and y must be exact in double.
    """
    product = x * y
    total = product + z
    back = total - product
    error = (product - (total - back)) + (z - back)
    bits = np.asarray(total).view(np.uint64)
    inexact = np.isfinite(total) & (error != 0) & ((bits & np.uint64(1)) == 0)
    away = (error > 0) == (total > 0)
    step = np.where(away, np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF))
    return np.where(inexact, bits + step, bits).view(np.float64)


def fused_multiply_add(x: Array, y: Array, z: Array) -> Array:
    """Return x * y + z with one rounding, in the type of z."""
    if z.dtype == np.float64:
        return _FMA(x, y, z)
    return round_to_odd(*(a.astype(np.float64) for a in (x, y, z))).astype(z.dtype)


# --- other roundings than to the nearest

LIMITED = 4
"""A flag beside the rounding: halves that are too large become the largest (MODE's FP16_OVFL)."""
_MODES = {1: 0x800, 2: 0x400, 3: 0xC00}  # up, down, to zero: fenv.h of x86-64 and the C library
_LARGEST_HALF = np.float16(65504)


@contextmanager
def _rounding(mode: int) -> Iterator[None]:
    _LIBM.fesetround(_MODES[mode])
    try:
        yield
    finally:
        _LIBM.fesetround(0)


def _narrowed(values: Array, mode: int) -> Array:
    # Singles to halves; numpy itself rounds to the nearest whatever the processor is set to.
    near = values.astype(np.float16)
    back = near.astype(np.float32)
    match mode:
        case 1:
            return np.where(back < values, np.nextafter(near, np.float16(np.inf)), near)
        case 2:
            return np.where(back > values, np.nextafter(near, np.float16(-np.inf)), near)
        case 3:
            far = np.abs(back) > np.abs(values)
            return np.where(far, np.nextafter(near, np.float16(0)), near)
    return near


def limited(values: Array, *sources: Array) -> Array:
    """Make halves that are infinite without an infinite source the largest."""
    wrong = np.isinf(values)
    for source in sources:
        wrong = wrong & np.isfinite(source)
    return np.where(wrong, np.copysign(_LARGEST_HALF, values), values)


def directed(
    function: Callable[..., Array], rounding: int, result: np.dtype[Any], *args: Array
) -> Array:
    """Carry out `function(type to compute in, *args)` rounded: 1 up, 2 down, 3 to zero; `LIMITED`.

    Halves are computed with as singles, which changes nothing: rounding twice in one direction is
    rounding once.
    """
    mode = rounding & 3
    if result != np.float16:
        with _rounding(mode):
            return np.asarray(function(result, *args))
    wide = [arg.astype(np.float32) if arg.dtype == np.float16 else arg for arg in args]
    with _rounding(mode):
        made = function(np.dtype(np.float32), *wide)
    halves = _narrowed(made, mode)
    return limited(halves, *args) if rounding & LIMITED else halves


def directed_multiply_add(kind: np.dtype[Any], x: Array, y: Array, z: Array) -> Array:
    """Return x * y + z of doubles or singles, rounded as the processor is set to."""
    return _FMA(x, y, z) if kind == np.float64 else _FMAF(x, y, z)
