"""What atomics put into a cell of memory, with numpy: one lane at a time.

`ATOMICS` gives the new value from the old one and the data; operations of two values take the one
to compare with, to add or to set second. `gputrace.isa.jit_atomics` has the same for compiled code.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gputrace.isa.numpy_floats import Array, quieted


def _chosen(compare: Callable[[Any, Any], Any]) -> Callable[[Array, Array, Array], Array]:
    return lambda old, data, expected: data if compare(old[0], expected[0]) else old


def _signed(function: Callable[..., Any]) -> Callable[[Array, Array], Array]:
    def run(old: Array, data: Array) -> Array:
        kind = np.dtype(f"i{old.dtype.itemsize}")
        return np.asarray(function(old.view(kind), data.view(kind)).view(old.dtype))

    return run


def _one(old: Array) -> Any:
    return old.dtype.type(1)


def _extreme(least: bool) -> Callable[[Array, Array], Array]:
    # A NaN gives the other operand; -0 is less than +0.
    def run(old: Array, data: Array) -> Array:
        if np.isnan(old[0]) or np.isnan(data[0]):
            return data if np.isnan(old[0]) else old
        if old[0] == data[0]:
            return old if bool(np.signbit(old[0])) == least else data
        return old if bool(old[0] < data[0]) == least else data

    return run


def _flushed(values: Array) -> Array:
    tiny = np.abs(values) < np.finfo(values.dtype).tiny
    return np.where(tiny, np.copysign(values.dtype.type(0), values), values)


def _flushing(function: Callable[..., Array]) -> Callable[[Array, Array], Array]:
    return lambda old, data: _flushed(function(_flushed(old), _flushed(data)))


def _plus(old: Array, data: Array) -> Array:
    return quieted(old + data)


def _halves(flush: bool) -> Callable[[Array, Array], Array]:
    # Two f16 in a dword.
    add = _flushing(_plus) if flush else _plus

    def run(old: Array, data: Array) -> Array:
        return np.ascontiguousarray(add(old.view("<f2"), data.view("<f2"))).view(old.dtype)

    return run


def _brains(old: Array, data: Array) -> Array:
    # Two bf16 in a dword: the upper halves of f32, rounded to nearest even.
    result = 0
    for at in (0, 16):
        parts = (np.array([int(x[0]) >> at << 16 & 0xFFFFFFFF], "<u4") for x in (old, data))
        total = np.add(*(part.view("<f4") for part in parts))
        bits = int(total.view("<u4")[0])
        rounded = 0x7FC0 if np.isnan(total[0]) else bits + 0x7FFF + (bits >> 16 & 1) >> 16
        result |= rounded << at
    return np.array([result], old.dtype)


def _exchange_marked(old: Array, data: Array) -> Array:
    top = old.dtype.type(1 << 31)
    return data ^ top if data[0] & top else old


ATOMICS: dict[str, Callable[..., Array]] = {
    "add": lambda old, data: old + data,
    "sub": lambda old, data: old - data,
    "rsub": lambda old, data: data - old,
    "and": lambda old, data: old & data,
    "or": lambda old, data: old | data,
    "xor": lambda old, data: old ^ data,
    "swap": lambda old, data: data,
    "cmpswap": _chosen(lambda old, expected: old == expected),
    "mskor": lambda old, mask, data: (old & ~mask) | data,
    "wrap": lambda old, data, more: np.where(old >= data, old - data, old + more),
    "condsub": lambda old, data: np.where(old >= data, old - data, old),
    "subclamp": lambda old, data: np.where(old >= data, old - data, 0 * old),
    "condxchg": _exchange_marked,
    "umin": lambda old, data: np.minimum(old, data),
    "umax": lambda old, data: np.maximum(old, data),
    "smin": _signed(np.minimum),
    "smax": _signed(np.maximum),
    "inc": lambda old, data: np.where(old >= data, 0 * old, old + _one(old)),
    "dec": lambda old, data: np.where((old == 0) | (old > data), data, old - _one(old)),
    "fadd": _plus,
    "fmin": _extreme(least=True),
    "fmax": _extreme(least=False),
    "fcmpswap": _chosen(lambda old, expected: old == expected),
    "fadd_flush": _flushing(_plus),
    "fmin_flush": _flushing(_extreme(least=True)),
    "fmax_flush": _flushing(_extreme(least=False)),
    "pkadd_f16": _halves(flush=False),
    "pkadd_f16_flush": _halves(flush=True),
    "pkadd_bf16": _brains,
}
"""The new value of each atomic, from the old one and the data; flushing ones drop denormals."""
