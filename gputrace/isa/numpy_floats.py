"""Floats with numpy where numpy has no function: fused multiply-add, the C library, one NaN."""

import ctypes
import ctypes.util
from collections.abc import Callable
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


def libm(name: str, arity: int) -> Callable[..., Array]:
    """Return a function of the C library for arrays of doubles; compiled code calls the same."""
    function = getattr(_LIBM, name)
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * arity

    def run(*args: Array) -> Array:
        arrays = np.broadcast_arrays(*args)
        items = zip(*(array.ravel().tolist() for array in arrays), strict=True)
        made = np.array([function(*item) for item in items], np.float64)
        return made.reshape(arrays[0].shape)

    return run


_FMA = libm("fma", 3)


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
