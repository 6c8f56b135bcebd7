"""Compiled narrow, saturating and signed arithmetic, and modes, against plain computation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.isa.corpus import COUNT, assert_rows, each, few_builds, floats, integers, rows
from tests.isa.exact import fma, least, most, rounded, signed
from tests.kernels.small_floats import decode, encode, magnitudes

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
Build = tuple[str, ...]
Two = Callable[[int, int], int]


def shuffled(column: NDArray[Any], seed: int) -> NDArray[Any]:
    return np.random.default_rng(seed).permutation(column)


def by_byte(function: Two, is_signed: bool) -> Two:
    """Do something to each of the four bytes of a word."""

    def whole(x: int, y: int) -> int:
        made = []
        for at in range(0, 32, 8):
            p, q = (value >> at & 0xFF for value in (x, y))
            made.append(function(signed(p, 8), signed(q, 8)) if is_signed else function(p, q))
        return sum((value & 0xFF) << 8 * at for at, value in enumerate(made))

    return whole


def dot_of_bytes(x: int, y: int) -> int:
    return sum(signed(x >> at, 8) * signed(y >> at, 8) for at in range(0, 32, 8))


@few_builds()
def test_bytes(build: Build) -> None:
    a, b = integers(32, 31), shuffled(integers(32, 32), 1)
    functions: list[Two] = [
        by_byte(lambda p, q: p + q, False),
        by_byte(lambda p, q: p * q, False),
        by_byte(lambda p, q: min(p + q, 255), False),
        by_byte(lambda p, q: max(-128, min(p - q, 127)), True),
        by_byte(max, True),
        by_byte(lambda p, q: p >> (q & 7), True),
        lambda x, y: int.from_bytes(x.to_bytes(4, "little"), "big"),
        dot_of_bytes,
        by_byte(lambda p, q: p // (q | 1), False),
    ]
    expected = np.array(
        [each(lambda x, y, f=f: f(int(x), int(y)), a, b, dtype=np.uint32) for f in functions]
    )
    assert_rows(rows(build, "narrow", "bytes", (a, b), expected), expected)


def held(value: int, bits: int, is_signed: bool) -> int:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)
    return max(low, min(high, value))


@few_builds()
def test_saturating(build: Build) -> None:
    a, b = integers(64, 33), shuffled(integers(64, 34), 2)
    expected = []
    for bits, is_signed in ((64, False), (64, True), (32, False), (32, True)):
        for sign in (1, -1):

            def one(x: int, y: int, bits: int = bits, k: bool = is_signed, s: int = sign) -> int:
                p, q = (signed(v, bits) if k else int(v) & ((1 << bits) - 1) for v in (x, y))
                return held(p + s * q, bits, k)

            expected.append(each(one, a, b, dtype=np.uint64))
    found = rows(build, "narrow", "saturating", (a, b), np.array(expected))
    assert_rows(found, np.array(expected))


@few_builds()
def test_wide_products(build: Build) -> None:
    a, b = integers(64, 35), shuffled(integers(32, 36), 3)
    ones = 0xFFFFFFFF
    functions: list[Two] = [
        lambda z, q: (z & ones) * q + z,
        lambda z, q: signed(z, 32) * signed(q, 32) + z,
        lambda z, q: (z & 0xFFFFFF) * (q & 0xFFFFFF),
        lambda z, q: signed(z, 24) * signed(q, 24),
        lambda z, q: ((z & ones) << 3) + z,
        lambda z, q: z * q,
        lambda z, q: z + (z & ones),
        lambda z, q: (z & 0xFFFF) * (q & 0xFFFF) + (z & 0xFFFF),
        lambda z, q: z * z >> 61,
    ]
    expected = np.array(
        [each(lambda x, y, f=f: f(int(x), int(y)), a, b, dtype=np.uint64) for f in functions]
    )
    assert_rows(rows(build, "narrow", "wide_products", (a, b), expected), expected)


def distance(x: int, y: int, masked: bool = False) -> int:
    """Sum of the four bytes' distances; masked: only where the second's byte is not 0."""
    pairs = zip(x.to_bytes(4, "little"), y.to_bytes(4, "little"), strict=True)
    return sum(abs(p - q) for p, q in pairs if q or not masked)


def windows(wide: int, against: int, start: list[int], masked: bool, limit: int) -> list[int]:
    """Distances of four windows, each a byte further on; beyond the limit they stay there."""
    return [
        min(distance(wide >> 8 * k & 0xFFFFFFFF, against, masked) + start[k], limit)
        for k in range(4)
    ]


def quad(values: list[int]) -> list[int]:
    return [values[0] | values[1] << 16, values[2] | values[3] << 16]


@few_builds()
def test_differences(build: Build) -> None:
    a, b = integers(32, 37), shuffled(integers(32, 38), 4)
    table = []
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        wide = x << 32 | y
        four = [3, 0, 0, 0]
        table.append(
            [
                ((distance(x, y) << 16) + 7) & 0xFFFFFFFF,
                distance(x, y, masked=True) + 8,
                *quad(windows(wide, x, four, False, 0xFFFF)),
                *quad(windows(wide, y, [5, 0, 0, 0], True, 0xFFFF)),
                *windows(wide, y, [1, 2, 3, 4], True, 0xFFFFFFFF),
            ]
        )
    expected = np.array(table, np.uint32).T
    assert_rows(rows(build, "narrow", "differences", (a, b), expected), expected)


@few_builds()
def test_bounds(build: Build) -> None:
    a, b = integers(32, 39), shuffled(integers(32, 40), 5)
    functions: list[Two] = [
        lambda x, y: min(signed(x, 32), signed(y, 32), 77),
        lambda x, y: max(signed(x, 32), signed(y, 32), -5),
        lambda x, y: min(x, y, 1234567),
        lambda x, y: max(x, y, 99),
        lambda x, y: max(-1000, min(1000, signed(x, 32))),
        lambda x, y: min(max(x, 10), 100000),
        lambda x, y: min(max(signed(x, 32), signed(y, 32)), 500),
        lambda x, y: min(max(signed(x, 16), -300), signed(y, 16)),
        lambda x, y: abs(signed(x, 32)) - max(signed(x, 32), 0),
    ]
    expected = np.array(
        [each(lambda x, y, f=f: f(int(x), int(y)), a, b, dtype=np.int32) for f in functions]
    )
    assert_rows(rows(build, "narrow", "bounds", (a, b), expected), expected)


@few_builds()
def test_brain_floats(build: Build) -> None:
    chance = np.random.default_rng(41)
    x, y = (encode(chance.normal(size=COUNT) * 8, "bf16") for _ in range(2))
    c = chance.normal(size=COUNT).astype(np.float32)
    c[:4] = [0.0, 1.00390625, 1.01171875, -3.0e-39]  # ties, and a small one
    p, q = decode(x, "bf16"), decode(y, "bf16")
    difference = p.astype(np.float32) - c
    expected = np.array(
        [
            encode((p + q).astype(np.float32), "bf16"),
            encode((p * q).astype(np.float32), "bf16"),
            encode(c, "bf16"),
            encode(difference, "bf16"),
            p < q,
            np.where(p < q, x ^ 0x8000, y),
        ],
        np.uint16,
    )
    assert_rows(rows(build, "narrow", "brain_floats", (x, y, c), expected), expected)


# --- signs


@few_builds()
def test_choices(build: Build) -> None:
    x, y = floats(32, 42), shuffled(floats(32, 43), 6)
    odd = np.arange(COUNT) % 2 == 1
    half, two = np.float32(0.5), np.float32(2)
    kinds = np.where(np.signbit(x), 1, np.where(np.isinf(y), 2, 3)).astype(np.float32)
    product = np.nan_to_num(x * y, nan=0.0, posinf=np.inf, neginf=-np.inf)
    expected = [
        np.where(odd, -x, y),
        np.where(odd, np.abs(x), -y),
        np.where(odd, -np.abs(x), np.abs(y)),
        np.where(odd, x, -x) + y,
        -x * np.abs(y) - x,
        (x + y) * two,
        (x - np.abs(y)) * half,
        np.minimum(most(product, np.zeros_like(x)), np.float32(1)),
        kinds,
    ]
    found = rows(build, "signs", "choices", (x, y), np.array(expected))
    assert_rows(found, np.array(expected))


@few_builds()
def test_choices_of_halves(build: Build) -> None:
    x, y = floats(16, 44), shuffled(floats(16, 45), 7)
    odd = np.arange(COUNT) % 2 == 1
    below, above = np.full_like(x, -1), np.full_like(x, 2)
    expected = [
        np.where(odd, -x, y),
        np.where(odd, np.abs(x), -y),
        -x * np.abs(y),
        most(most(x, y), below),
        least(least(-x, y), above),
        (x + y) * np.float16(4),
    ]
    found = rows(build, "signs", "choices_half", (x, y), np.array(expected))
    assert_rows(found, np.array(expected))


@few_builds()
def test_choices_of_doubles(build: Build) -> None:
    x, y = floats(64, 46), shuffled(floats(64, 47), 8)
    odd = np.arange(COUNT) % 2 == 1
    expected = [
        np.where(odd, -x, y),
        np.where(odd, np.abs(x), -np.abs(y)),
        -x * np.abs(y) + y,
        np.copysign(x, y),
        x.astype(np.float32).astype(np.float64) - y,
    ]
    found = rows(build, "signs", "choices_double", (x, y), np.array(expected))
    assert_rows(found, np.array(expected))


@few_builds()
def test_pairs(build: Build) -> None:
    x, y = (
        np.random.default_rng(seed).permutation(np.concatenate([floats(32, seed)] * 2))
        for seed in (48, 49)
    )
    x, y = x.reshape(COUNT, 2), y.reshape(COUNT, 2)
    a, b, c, d = x[:, 0], x[:, 1], y[:, 0], y[:, 1]
    expected = [
        (b, c),
        (b + c, a - d),
        (b * -c, a * d),
        (a * c - b * d, a * d + b * c),
        (-a + c, -b + c),
    ]
    flat = np.array([np.stack(pair, axis=1).reshape(-1) for pair in expected])
    found = rows(build, "signs", "pairs", (x, y), np.zeros_like(flat))
    assert_rows(found, flat)


@few_builds()
def test_scaled_division(build: Build) -> None:
    chance = np.random.default_rng(50)
    x, y = (chance.normal(size=COUNT) * np.exp2(chance.integers(-300, 300, COUNT)) for _ in "ab")
    found = rows(build, "signs", "scaled_division", (x, y), np.zeros((2, COUNT)))
    # One more rounding than the compiler's own: a unit in the last place.
    assert (np.abs(found[0] - x / y) <= np.abs(np.spacing(x / y))).all()
    assert np.array_equal(found[1], np.ldexp(x, np.arange(COUNT) - 64))


# --- modes


def flush(values: NDArray[np.float32]) -> NDArray[np.float32]:
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(np.float32(0), values), values)


@few_builds()
def test_flushed(build: Build) -> None:
    x, y, z = (shuffled(floats(32, seed), seed) for seed in (51, 52, 53))
    x[:20:2] = np.float32(1e-39) * np.arange(1, 11, dtype=np.float32)
    y[1:21:2] = np.float32(-3e-40)
    z[2:22:4] = np.float32(5e-41)
    p, q, r = flush(x), flush(y), flush(z)
    small = encode_half(p)
    expected = [
        flush(p + q),
        flush(p * q),
        flush(fma(p, q, r)),
        flush(flush(p * q) + r),
        flush((p.astype(np.float64) * 0.5).astype(np.float32)),
        (p < q).astype(np.float32),
        most(p, q),
        small,
        flush(p * np.float32(2.5)),
    ]
    found = rows(build, "denormals", "flushed", (x, y, z), np.array(expected))
    assert_rows(found, np.array(expected))


def encode_half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)


@few_builds()
def test_kept(build: Build) -> None:
    x, y = floats(64, 54), shuffled(floats(32, 55), 9)
    x[:4] = [5e-324, 1e-310, -3e-308, 2.5e-323]
    y[:4] = [6e-8, -2e-5, 1e-39, 3e-8]
    narrow = flush(y).astype(np.float16) * np.float16(0.5)
    wide = flush(y).astype(np.float64)
    expected = [x * 0.25, narrow.astype(np.float64), x + wide]
    found = rows(build, "denormals", "kept", (x, y), np.array(expected))
    assert_rows(found, np.array(expected))


def directed(value: Any, bits: int, mode: int) -> float:
    """Round an exact number: to the nearest, up, down or toward zero."""
    near = rounded(value, bits)
    if mode == 0 or near == value:
        return near
    step = {32: np.float32, 64: np.float64}[bits]
    down = near if near < value else float(np.nextafter(step(near), step(-np.inf)))
    up = near if near > value else float(np.nextafter(step(near), step(np.inf)))
    return {1: up, 2: down, 3: down if value > 0 else up}[mode]


@few_builds()
def test_rounding_modes(build: Build) -> None:
    from fractions import Fraction

    chance = np.random.default_rng(56)
    a, b = (chance.normal(size=COUNT).astype(np.float32) for _ in range(2))
    out, wides = [], []
    for mode in range(4):
        exact = [(Fraction(float(x)), Fraction(float(y))) for x, y in zip(a, b, strict=True)]
        out.append([directed(x + y, 32, mode) for x, y in exact])
        out.append([directed(x * y, 32, mode) for x, y in exact])
        out.append([directed(x * y + 1, 32, mode) for x, y in exact])
        wides.append([directed(x * y + x, 64, mode) for x, y in exact])
    out.append((a + b).tolist())
    expected = np.array(wides)
    found = np.zeros_like(expected)
    assert_rows(
        rows(build, "rounding", "rounded", (found, a, b), np.array(out, np.float32)),
        np.array(out, np.float32),
    )
    assert_rows(found, expected)


@few_builds()
def test_small_numbers_by_mode(build: Build) -> None:
    a, b = np.full(COUNT, 1e-20, np.float32), np.linspace(1e-25, 1e-17, COUNT, dtype=np.float32)
    a[::3], b[::3] = 3e-40, 2.5
    expected = np.array([flush(flush(a) * flush(b)), a * b])
    assert_rows(rows(build, "rounding", "small", (a, b), expected), expected)


# --- floats of eight bits

OCP = ("fp8e4nv", "fp8e5")
FINITE = {"gfx942": ("fp8e4b8", "fp8e5b16"), "gfx950": OCP, "gfx1201": OCP}


@few_builds("gfx942", "gfx950", "gfx1201")
def test_to_eight_bits(build: Build) -> None:
    chance = np.random.default_rng(57)
    a, b = (chance.normal(size=COUNT).astype(np.float32) * 6 for _ in range(2))
    for column, kind in ((a, 0), (b, 1)):
        known = magnitudes(FINITE[build[0]][kind])[:40]
        column[:39] = (known[1:] + known[:-1]) / 2  # ties
    first, second = FINITE[build[0]]
    four = [encode(column, first).astype(np.uint32) for column in (a, b)]
    five = [encode(column, second).astype(np.uint32) for column in (a, b)]
    # Nothing is added before the digits beyond the last are cut off.
    cut = [encode_cut(a, kind).astype(np.uint32) for kind in (first, second)]
    expected = np.array(
        [
            four[0] | four[1] << 8 | four[1] << 16 | four[0] << 24,
            five[0] | five[1] << 8 | 0xFFFF0000,
            0xFF00FFFF | cut[0] << 16,
            cut[1] << 8,
        ]
    ).astype(np.uint32)
    assert_rows(rows(build, "eight", "to_eight", (a, b), expected), expected)


def encode_cut(values: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return the codes of the next numbers toward zero."""
    known = magnitudes(kind)
    sizes = known[np.searchsorted(known, np.abs(values.astype(np.float64)), side="right") - 1]
    return encode(np.copysign(sizes, values), kind)


@few_builds("gfx942", "gfx950", "gfx1201")
def test_from_eight_bits(build: Build) -> None:
    codes = np.random.default_rng(58).integers(2**32, size=COUNT, dtype=np.uint32)
    raw = codes.view(np.uint8).reshape(COUNT, 4)
    raw[(raw & 0x7F) > 0x7B] = 0x11  # neither infinite nor NaN in any kind
    raw[raw == 0x80] = 0x12
    first, second = (
        np.stack([decode(raw[:, k], kind) for k in range(4)]) for kind in FINITE[build[0]]
    )
    expected = np.array(
        [first[0], first[3], second[1], second[2], first[2], first[3], second[0], second[1]]
    ).astype(np.float32)
    assert_rows(rows(build, "eight", "from_eight", (codes,), expected), expected)
