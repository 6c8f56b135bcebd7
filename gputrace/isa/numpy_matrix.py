"""Carry out a matrix product with numpy: the reference for compiled code."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gputrace.isa.matrix import BITS, LEAST_EXPONENT, RUN, SMALL, Multiplication, Product, Small
from gputrace.isa.numpy_floats import Array, fused_multiply_add, quieted

_ONE = np.ones(1)
_LIMIT = 2.0**128  # products from here on are infinite to a fused sum


def multiply(work: Multiplication, vectors: Array) -> None:
    """Write D, given all vector registers of the wave (a row of words for each)."""
    product = work.product
    a = _factor(product, "a", vectors[work.a :])
    b = _factor(product, "b", vectors[work.b :])
    if product.b_lanes:
        b = b[:, list(product.b_lanes)]
    d = _addend(work, vectors)
    left = _rows_of_a(product, a)
    right = _rows_of_b(product, b, vectors[work.index])
    rows = np.array([element for element, _ in product.d_rows])[:, None]
    lanes = np.array([lane for _, lane in product.d_rows])[:, None] + np.arange(product.columns)
    if product.scale_lanes:
        a_scale = _rows_of_a(product, _scale(product, 0, vectors[work.index]))
        b_scale = _rows_of_b(product, _scale(product, 1, vectors[work.scales]), vectors[0])
        d[rows, lanes] = _fused(product, left, right, d[rows, lanes], a_scale, b_scale)
    else:
        d[rows, lanes] = _ORDERS[product.order](product, left, right, d[rows, lanes])
    _write(work, vectors, d)


# --- elements in registers


def _raw(words: Array, bits: int, count: int) -> Array:
    # (elements, lanes) of the raw bits that registers hold
    if bits == 64:
        pairs = words[: 2 * count].astype(np.uint64)
        return np.asarray(pairs[0::2] | pairs[1::2] << np.uint64(32))
    at = np.arange(count) * bits
    chosen = words[at // 32] >> (at % 32).astype(np.uint32)[:, None]
    if 32 % bits:  # some end in the next word
        last, lacking = (at + bits - 1) // 32, (-at % 32).astype(np.uint32)[:, None]
        chosen = np.where((last > at // 32)[:, None], chosen | words[last] << lacking, chosen)
    return np.asarray(chosen & np.uint32((1 << bits) - 1))


@cache
def _bytes(kind: str) -> Array:
    # The value of each pattern.
    shape = SMALL[kind]
    return np.array([_byte(shape, number) for number in range(1 << shape.bits)], np.float32)


def _byte(shape: Small, number: int) -> float:
    exponent = number >> shape.fraction_bits & (1 << shape.exponent_bits) - 1
    fraction = number & (1 << shape.fraction_bits) - 1
    top = 1 << shape.bits - 1
    sign = -1.0 if number & top else 1.0
    if shape.unsigned_zero and number == top:
        return float("nan")
    special = shape.finite and not shape.unsigned_zero and not shape.numbers
    if special and number & top - 1 == top - 1:
        return float("nan")
    if not shape.finite and exponent == (1 << shape.exponent_bits) - 1:
        return float("nan") if fraction else sign * float("inf")
    whole = fraction + (1 << shape.fraction_bits if exponent else 0)
    return sign * whole * 2.0 ** (max(exponent, 1) - shape.bias - shape.fraction_bits)


def _values(kind: str, raw: Array) -> Array:
    if kind in SMALL:
        return _bytes(kind)[raw]
    match kind:
        case "f64":
            return raw.view(np.float64)
        case "f32" | "i32":
            return raw.view(np.float32 if kind == "f32" else np.int32)
        case "xf32":
            return np.asarray((raw & np.uint32(0xFFFFE000)).view(np.float32))
        case "f16":
            return raw.astype(np.uint16).view(np.float16).astype(np.float32)
        case "bf16":
            return (raw << np.uint32(16)).view(np.float32)
    if kind.startswith("u"):
        return raw.astype(np.int64)
    top = np.int64(1 << BITS[kind] - 1)
    return np.asarray((raw.astype(np.int64) ^ top) - top)


def _no_denormals(values: Array, kind: str, signed: bool) -> Array:
    least = 2.0 ** LEAST_EXPONENT.get(kind, -126)
    zero = np.copysign(0.0, values).astype(values.dtype) if signed else values.dtype.type(0)
    return np.where(np.abs(values) < least, zero, values)


def _factor(product: Product, side: str, words: Array) -> Array:
    kind = product.a if side == "a" else product.b
    values = _values(kind, _raw(words, BITS[kind], product.elements(side)))
    if product.flush or product.order == "pairs":
        values = _no_denormals(values, kind, signed=product.order != "pairs")
    signs = product.negate[:2] if side == "a" else product.negate[2:]
    if any(signs):
        odd = np.arange(len(values)) % 2 == 1
        values = np.where(np.where(odd, signs[1], signs[0])[:, None], -values, values)
    return values


def _scale(product: Product, side: int, word: Array) -> Array:
    # What each element of A (0) or B (1) is multiplied with: a power of two, or NaN.
    raw = word >> np.uint32(8 * product.scale_bytes[side]) & np.uint32(0xFF)
    powers = np.where(raw == 0xFF, np.nan, np.ldexp(1.0, raw.astype(np.int32) - 127))
    runs = [powers[list(lanes)] for lanes in product.scale_lanes[side]]
    return np.repeat(np.array(runs), RUN, axis=0)


def _addend(work: Multiplication, vectors: Array) -> Array:
    product, count = work.product, work.product.elements("d")
    bits = BITS[product.result]
    if work.c is None:
        kind = np.uint64 if bits == 64 else np.uint32
        raw = np.full((count, product.wave), work.constant & (1 << bits) - 1, kind)
    else:
        raw = _raw(vectors[work.c :], bits, count)
    values = _values(product.result, raw)
    if product.absolute_c:
        values = np.abs(values)
    if product.order == "pairs":
        values = _no_denormals(values, "f32", signed=False)
    return -values if product.negate_c else np.array(values)


def _write(work: Multiplication, vectors: Array, d: Array) -> None:
    product, to = work.product, vectors[work.d :]
    bits = BITS[product.result]
    if bits == 64:
        raw = quieted(d).view(np.uint64)
        to[0 : 2 * len(d) : 2], to[1 : 2 * len(d) : 2] = raw & 0xFFFFFFFF, raw >> np.uint64(32)
    elif bits == 32:
        to[: len(d)] = (quieted(d) if d.dtype.kind == "f" else d).view(np.uint32)
    else:
        _write_halves(product, to, _narrow(product.result, d))


def _narrow(result: str, values: Array) -> Array:
    if result == "f16":
        return quieted(values.astype(np.float16)).view(np.uint16).astype(np.uint32)
    raw = quieted(values).view(np.uint32)
    near = raw + np.uint32(0x7FFF) + (raw >> np.uint32(16) & np.uint32(1))
    return np.where(np.isnan(values), raw, near) >> np.uint32(16)


def _write_halves(product: Product, to: Array, raw: Array) -> None:
    high = np.uint32(16)
    if product.half == 0:
        to[: len(raw) // 2] = raw[0::2] | raw[1::2] << high
        return
    count, low = product.registers("d"), product.half == 1
    chosen = raw[0::2] if low else raw[1::2] << high
    kept = np.uint32(0xFFFF0000 if low else 0xFFFF)
    to[:count] = to[:count] & kept | chosen


# --- rows and columns


def _rows_of_a(product: Product, a: Array) -> Array:
    # (rows, steps)
    elements = np.array([element for element, _ in product.a_steps])
    lanes = np.array([lane for _, lane in product.a_steps])
    return np.asarray(a[elements, lanes + np.array(product.a_rows)[:, None]])


def _rows_of_b(product: Product, b: Array, index: Array) -> Array:
    # (rows, steps, columns)
    places = np.array(product.b_steps)[None, :, :]
    if product.sparse:
        places = np.array(product.b_steps)[_chosen(product, index)]
    lanes = places[..., 1] + np.array(product.b_rows)[:, None]
    columns = lanes[..., None] + np.arange(product.columns)
    return np.asarray(b[places[..., 0][..., None], columns])


def _chosen(product: Product, index: Array) -> Array:
    # (rows, steps): the row of B that goes with each element of A
    elements = np.array([element for element, _ in product.a_steps])
    lanes = np.array([lane for _, lane in product.a_steps]) + np.array(product.a_rows)[:, None]
    two = index[lanes] >> (product.index_shift + 2 * elements).astype(np.uint32) & np.uint32(3)
    return np.asarray(4 * (np.arange(len(elements)) // 2) + two)


# --- orders


def _chain(product: Product, a: Array, b: Array, c: Array) -> Array:
    total = c
    for k in range(a.shape[1]):
        total = fused_multiply_add(a[:, k, None], b[:, k], total)
    return total


def _pairs(product: Product, a: Array, b: Array, c: Array) -> Array:
    total = c
    for first in range(0, a.shape[1], product.group):
        terms = [
            _flushed(a[:, k, None] * b[:, k] + np.float32(0))
            for k in range(first, first + product.group)
        ]
        while len(terms) > 1:
            pairs = zip(terms[0::2], terms[1::2], strict=True)
            terms = [_flushed(one + other) for one, other in pairs]
        total = _flushed(total + terms[0])
    return total


def _flushed(values: Array) -> Array:
    return _no_denormals(values, "f32", signed=True)


def _exponents(kind: str, values: Array) -> Array:
    # 2 to the exponent of each value; 0 for a zero. What is not finite is looked at elsewhere.
    sane = np.where(np.isfinite(values), values, 1).astype(np.float64)
    power = np.maximum(np.frexp(sane)[1] - 1, LEAST_EXPONENT.get(kind, -126))
    return np.where(sane == 0, 0.0, np.ldexp(1.0, power))


def _fused(
    product: Product, a: Array, b: Array, c: Array, a_scale: Array = _ONE, b_scale: Array = _ONE
) -> Array:
    size_a, size_b = _exponents(product.a, a) * a_scale, _exponents(product.b, b) * b_scale
    a, b, total = a * a_scale, b * b_scale, c
    for first in range(0, a.shape[1], product.group):
        here = slice(first, first + product.group)
        terms = a[:, here, None].astype(np.float64) * b[:, here].astype(np.float64)
        terms = np.where(np.abs(terms) >= _LIMIT, np.copysign(np.inf, terms), terms)
        sizes = size_a[:, here, None] * size_b[:, here]
        total = _one_fused(terms, sizes, total, product.order == "halves")
    return total


def _cut(terms: Array, sizes: Array) -> tuple[Array, Array]:
    # (sum in units of 2^-24 of the largest, the largest)
    largest = sizes.max(axis=1)
    unit = 2.0**24 / np.where(largest == 0, 1.0, largest)
    cut = np.trunc(terms * unit[:, None])
    return np.where(np.isfinite(cut), cut, 0).sum(axis=1), largest


def _one_fused(terms: Array, sizes: Array, c: Array, halves: bool) -> Array:
    if halves:
        (even, even_size), (odd, odd_size) = (
            _cut(terms[:, k::2], sizes[:, k::2]) for k in range(2)
        )
        largest = np.maximum(even_size, odd_size)
        safe = np.where(largest == 0, 1.0, largest)
        whole = np.floor(even * (even_size / safe)) + np.floor(odd * (odd_size / safe))
    else:
        whole, largest = _cut(terms, sizes)
    size_c = _exponents("f32", c)
    most = np.maximum(largest, size_c)
    most = np.where(most == 0, 1.0, most)
    products = np.floor(whole * 2.0**7 * (largest / most))
    addend = np.floor(c.astype(np.float64) * (2.0**24 / most)) * 2.0**7
    if halves:
        addend = np.where(size_c < most * 2.0**-25, 0.0, addend)
    exact = ((products + addend) * (most * 2.0**-31)).astype(np.float32)
    plain = (terms.sum(axis=1) + c).astype(np.float32)
    special = np.isnan(plain) | np.isinf(terms).any(axis=1) | np.isinf(c)
    return np.where(special, plain, exact)


def _whole(product: Product, a: Array, b: Array, c: Array) -> Array:
    exact = (a[:, :, None] * b).sum(axis=1) + c.astype(np.int64)
    if product.clamp:
        exact = np.clip(exact, -(1 << 31), (1 << 31) - 1)
    return np.asarray((exact & 0xFFFFFFFF).astype(np.uint32).view(np.int32))


_ORDERS: dict[str, Callable[[Product, Array, Array, Array], Any]] = {
    "chain": _chain,
    "pairs": _pairs,
    "fused": _fused,
    "halves": _fused,
    "whole": _whole,
}
