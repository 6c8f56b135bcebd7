"""The order in which matrix products are summed, in exact fractions (MMA-Sim, arXiv 2511.10909)."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.isa.exact import rounded
from tests.isa.single import Bench, assemble
from tests.isa.test_matrix import MFMA, VECTORS, get, place_of_result, put, small_float

TINY = Fraction(2) ** -126
WIDTHS = {"f16": 16, "bf16": 16, "f32": 32, "xf32": 32, "fp8": 8, "bf8": 8}
LEAST = {"f16": -14, "bf16": -126, "f32": -126, "xf32": -126, "fp8": -7, "bf8": -15}


def value_of(kind: str, raw: int) -> float:
    """Read a pattern."""
    match kind:
        case "f16":
            return float(np.uint16(raw).view(np.float16))
        case "bf16":
            return float(np.uint32(raw << 16).view(np.float32))
        case "f32":
            return float(np.uint32(raw).view(np.float32))
        case "xf32":
            return float(np.uint32(raw & 0xFFFFE000).view(np.float32))
    return math.nan if raw == 0x80 else small_float(raw, *{"fp8": (4, 8), "bf8": (5, 16)}[kind])


def exponent(value: float, least: int) -> int | None:
    """Return the exponent of a value, None of a zero."""
    return max(math.frexp(value)[1] - 1, least) if value else None


def power(number: int) -> Fraction:
    return Fraction(2) ** number


def single(exact: Fraction) -> float:
    return rounded(exact, 32)


def cut_sum(terms: list[tuple[Fraction, int | None]]) -> tuple[int, int | None]:
    """Cut products at 2^-24 of the largest and add them: (count of that unit, its exponent)."""
    known = [size for _, size in terms if size is not None]
    if not known:
        return 0, None
    most = max(known)
    return sum(math.trunc(value * power(24 - most)) for value, _ in terms), most


def fused(terms: list[tuple[Fraction, int | None]], c: float, halves: bool) -> float:
    if halves:
        sums = [cut_sum(terms[k::2]) for k in range(2)]
        known = [size for _, size in sums if size is not None]
        most = max(known, default=None)
        total = sum(
            math.floor(count * power(size - most))
            for count, size in sums
            if size is not None and most is not None
        )
    else:
        total, most = cut_sum(terms)
    size_c = exponent(c, -126)
    sizes = [size for size in (most, size_c) if size is not None]
    if not sizes:
        return 0.0
    top = max(sizes)
    products = math.floor(total * power(7 + most - top)) if most is not None else 0
    addend = math.floor(Fraction(c) * power(24 - top)) << 7
    if halves and (size_c is None or size_c < top - 25):
        addend = 0
    return single((products + addend) * power(top - 31))


def flushed(value: float) -> float:
    return math.copysign(0.0, value) if abs(value) < TINY else value


def pairs(a: list[float], b: list[float], c: float, kind: str, group: int) -> float:
    def sane(value: float, least: int) -> float:
        return 0.0 if abs(value) < 2.0**least else value

    total = sane(c, -126)
    a, b = ([sane(value, LEAST[kind]) for value in side] for side in (a, b))
    for at in range(0, len(a), group):
        terms = [
            flushed(single(Fraction(x) * Fraction(y)))
            for x, y in zip(a[at : at + group], b[at : at + group], strict=True)
        ]
        while len(terms) > 1:
            terms = [
                flushed(single(Fraction(terms[k]) + Fraction(terms[k + 1])))
                for k in range(0, len(terms), 2)
            ]
        total = flushed(single(Fraction(total) + Fraction(terms[0])))
    return total


def expected(target: str, name: str, a: list[float], b: list[float], c: float) -> float:
    found = MFMA.fullmatch(name)
    assert found is not None
    kinds = found[5], found[6] or found[5]
    if kinds[0] == "f32":
        total = c
        for x, y in zip(a, b, strict=True):
            total = single(Fraction(x) * Fraction(y) + Fraction(total))
        return total
    if target == "gfx90a":
        return pairs(a, b, c, kinds[0], 2 if kinds[0] == "bf16" and "_1k" not in name else 4)
    group = {"xf32": 4, "fp8": 16, "bf8": 16}.get(kinds[0], 8)
    group = min(group, len(a))
    total = c
    for at in range(0, len(a), group):
        terms: list[tuple[Fraction, int | None]] = []
        for x, y in zip(a[at : at + group], b[at : at + group], strict=True):
            size_x, size_y = exponent(x, LEAST[kinds[0]]), exponent(y, LEAST[kinds[1]])
            size = None if size_x is None or size_y is None else size_x + size_y
            terms.append((Fraction(x) * Fraction(y), size))
        total = fused(terms, total, "8" in kinds[0])
    return total


def patterns(kind: str, shape: tuple[int, ...], chance: np.random.Generator) -> NDArray[Any]:
    """Draw finite numbers of many sizes, zeros and denormals among them."""
    width = WIDTHS[kind]
    raw = chance.integers(0, 1 << width, shape)
    if width == 8:
        return np.where(raw == 0x80, 0, raw) if kind == "fp8" else np.where(raw & 0x7F == 0, 0, raw)
    fraction = {"f16": 10, "bf16": 7, "f32": 23, "xf32": 23}[kind]
    middle = {"f16": 15}.get(kind, 127)
    near = chance.integers(middle - 6, middle + 6, shape)
    anything = chance.integers(0, {"f16": 31}.get(kind, 160), shape)
    field = np.where(chance.random(shape) < 0.8, near, anything)
    drawn = raw & (1 << width - 1 | (1 << fraction) - 1) | field << fraction
    return np.where(chance.random(shape) < 0.05, 0, drawn)


PRODUCTS = [
    ("gfx90a", "v_mfma_f32_16x16x4f32"),
    ("gfx90a", "v_mfma_f32_16x16x16f16"),
    ("gfx90a", "v_mfma_f32_16x16x8bf16"),
    ("gfx90a", "v_mfma_f32_16x16x16bf16_1k"),
    ("gfx90a", "v_mfma_f32_4x4x4f16"),
    ("gfx942", "v_mfma_f32_16x16x16_f16"),
    ("gfx942", "v_mfma_f32_32x32x8_f16"),
    ("gfx942", "v_mfma_f32_4x4x4_16b_f16"),
    ("gfx942", "v_mfma_f32_16x16x16_bf16"),
    ("gfx942", "v_mfma_f32_16x16x8_xf32"),
    ("gfx942", "v_mfma_f32_16x16x32_fp8_fp8"),
    ("gfx942", "v_mfma_f32_16x16x32_bf8_fp8"),
    ("gfx942", "v_mfma_f32_32x32x16_bf8_bf8"),
    ("gfx950", "v_mfma_f32_16x16x32_f16"),
    ("gfx950", "v_mfma_f32_32x32x16_bf16"),
]


@pytest.mark.parametrize(("target", "name"), PRODUCTS)
def test_sums_of_numbers_of_many_sizes(target: str, name: str) -> None:
    found = MFMA.fullmatch(name)
    made = assemble(target, name, vectors=VECTORS)
    assert found is not None
    assert made is not None
    size, depth, kinds = int(found[3]), int(found[4]), (found[5], found[6] or found[5])
    blocks = made.dst[0].count * 64 // (size * size)
    each, width = size * depth * blocks // 64, WIDTHS[kinds[0]]
    chance, bench = np.random.default_rng(11), Bench(target)
    a = patterns(kinds[0], (size, depth), chance)
    b = patterns(kinds[1], (size, depth), chance)
    c = patterns("f32", (size, size), chance)
    for first, raw in ((64, a), (80, b)):
        for i, k in np.ndindex(size, depth):
            lane = i + size * blocks * (k // each)
            put(bench, first, lane, k % each, width, int(raw[i, k]))
    for i, j in np.ndindex(size, size):
        lane, number = place_of_result(size, False, i, j, 0)
        put(bench, 96, lane, number, 32, int(c[i, j]))
    bench.run(made)
    for i, j in np.ndindex(size, size):
        lane, number = place_of_result(size, False, i, j, 0)
        left, right = ([value_of(k, int(n)) for n in row] for k, row in
                       ((kinds[0], a[i]), (kinds[1], b[j])))  # fmt: skip
        wanted = expected(target, name, left, right, value_of("f32", int(c[i, j])))
        raw = get(bench, 0, lane, number, 32)
        assert value_of("f32", raw) == wanted, (i, j, left, right)


SPECIAL = {"inf": 0x7C00, "-inf": 0xFC00, "nan": 0x7E01, "0": 0, "1": 0x3C00, "big": 0x7BFF}


@pytest.mark.parametrize("target", ["gfx90a", "gfx942"])
@pytest.mark.parametrize(
    ("a", "b", "c", "result"),
    [
        ("inf", "1", 1.0, 0x7F800000), ("-inf", "1", 1.0, 0xFF800000), ("inf", "0", 1.0, None),
        ("nan", "1", 1.0, None), ("1", "1", math.inf, 0x7F800000), ("1", "1", math.nan, None),
        ("inf", "1", -math.inf, None), ("big", "big", 3.4e38, 0x7F7FC99E),
    ],
)  # fmt: skip
def test_infinities_and_nans(target: str, a: str, b: str, c: float, result: int | None) -> None:
    name = {"gfx90a": "v_mfma_f32_16x16x16f16", "gfx942": "v_mfma_f32_16x16x16_f16"}[target]
    made = assemble(target, name, vectors=VECTORS)
    assert made is not None
    bench = Bench(target)
    bench.wave.vectors[64, :16] = SPECIAL[a]  # k = 0 of all rows; the other products are zeros
    bench.wave.vectors[80, :16] = SPECIAL[b]
    bench.wave.vectors[96:100] = int(np.float32(c).view(np.uint32))
    bench.run(made)
    found = set(bench.wave.vectors[0].tolist())
    assert found == {0x7FC00000 if result is None else result}
