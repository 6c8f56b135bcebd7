"""Compiled bit operations and conversions against Python's integers and struct."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gputrace.isa.machine import Done
from tests.isa.corpus import assert_rows, each, every_build, floats, integers, launch, rows
from tests.isa.exact import least, most, rounded, signed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
Build = tuple[str, str]
ONES = 0xFFFFFFFF


def field(value: int, offset: int, width: int) -> int:
    return value >> offset & ((1 << width) - 1)


def reverse(value: int, bits: int) -> int:
    return int(f"{value:0{bits}b}"[::-1], 2)


def rotate(value: int, amount: int, bits: int) -> int:
    amount %= bits
    return value << amount | value >> (bits - amount)


def leading(value: int, bits: int) -> int:
    return bits - value.bit_length()


def trailing(value: int, bits: int) -> int:
    return (value & -value).bit_length() - 1 if value else bits


def permuted(a: int, b: int, selector: int) -> int:
    """v_perm_b32 as the manual's table has it: bytes of {a, b}, signs, 0ones0 and 0xff."""
    pool = (a << 32 | b).to_bytes(8, "little")
    found = []
    for pick in selector.to_bytes(4, "little"):
        if pick < 8:
            found.append(pool[pick])
        elif pick < 12:
            found.append(0xFF if pool[2 * (pick - 8) + 1] & 0x80 else 0)
        else:
            found.append(0 if pick == 12 else 0xFF)
    return int.from_bytes(found, "little")


def bytes_of(value: int) -> bytes:
    return value.to_bytes(4, "little")


def average(x: int, y: int) -> int:
    pairs = zip(bytes_of(x), bytes_of(y), strict=True)
    return int.from_bytes([(p + q + 1) >> 1 for p, q in pairs], "little")


def distances(x: int, y: int, bits: int) -> int:
    return sum(abs(field(x, at, bits) - field(y, at, bits)) for at in range(0, 32, bits))


WORD: list[Callable[[int, int], int]] = [
    lambda x, y: x.bit_count() + y,
    lambda x, y: leading(x, 32),
    lambda x, y: trailing(x, 32),
    lambda x, y: reverse(x, 32),
    lambda x, y: int.from_bytes(bytes_of(x), "big"),
    lambda x, y: rotate(x, y, 32),
    lambda x, y: field(x, y & 31, 7),
    lambda x, y: signed(field(x, y & 31, 9), 9)
    if (y & 31) + 9 <= 32
    else signed(x, 32) >> (y & 31),
    lambda x, y: permuted(x, y, 0x0C070205),
    lambda x, y: x & y | ~x & 0x12345678,
    lambda x, y: (x << 32 | y) >> 24,
    lambda x, y: (x << 32 | y) >> (y & 31),
    lambda x, y: x << 5 | y,
    lambda x, y: (x + y) << 3,
    lambda x, y: x ^ y ^ 0x0F0F0F0F,
    lambda x, y: x | y | 0x10101010,
    lambda x, y: field(x, 3, 5) + field(y, 4, 8),
    lambda x, y: distances(x, y, 8) + 5,
    lambda x, y: distances(x, y, 16) + 6,
    average,
    lambda x, y: permuted(x, y, x ^ y),
]


@every_build
def test_bit_ops(build: Build) -> None:
    a, b = integers(32, 21), np.random.default_rng(1).permutation(integers(32, 22))
    expected = np.array(
        [each(lambda x, y, f=f: f(int(x), int(y)), a, b, dtype=np.uint32) for f in WORD]
    )
    assert_rows(rows(build, "bits", "bit_ops", (a, b), expected), expected)


def wide(function: Callable[[int, int], int], shift: int) -> Callable[[int, int], int]:
    """Take a part of what a function of 128-bit numbers gives."""
    return lambda x, y: function(x << 64 | y, y << 64 | x) % 2**128 >> shift


def moved(p: int, q: int) -> int:
    return p >> (p >> 64 & 127)


LONG: list[Callable[[int, int], int]] = [
    lambda x, y: x.bit_count(),
    lambda x, y: leading(x, 64),
    lambda x, y: trailing(x, 64),
    lambda x, y: reverse(x, 64),
    lambda x, y: rotate(x, y, 64),
    wide(lambda p, q: p + q, 0),
    wide(lambda p, q: p + q, 64),
    wide(lambda p, q: p - 2 * q, 0),
    wide(lambda p, q: p - 2 * q, 64),
    wide(moved, 0),
    wide(moved, 64),
    lambda x, y: x + y + 1,
    lambda x, y: (x + y + 1) >> 64,
]


@every_build
def test_wide_bits(build: Build) -> None:
    a, b = integers(64, 23), np.random.default_rng(2).permutation(integers(64, 24))
    expected = np.array(
        [each(lambda x, y, f=f: f(int(x), int(y)), a, b, dtype=np.uint64) for f in LONG]
    )
    assert_rows(rows(build, "bits", "wide_bits", (a, b), expected), expected)


def uniform(x: int, y: int, s: int) -> list[int]:
    p, q = x & ONES, y & ONES
    return [
        x.bit_count() + p.bit_count(),
        leading(x, 64) + leading(p, 32),
        trailing(x, 64) + trailing(p, 32),
        reverse(x, 64) ^ reverse(p, 32),
        x << (s & 63),
        x >> (s & 63),
        signed(x, 64) >> (s & 63),
        x & y | ~(x ^ y),
        x * y,
        x + y + (x < y),
        x - y - (signed(x, 64) < signed(y, 64)),
        p // (q | 1) + p % (q | 1) * 65536,
        field(p, s & 31, 6) + field(p, 4, 12),
        signed(p << 12, 32) >> 20,
        x * y >> 64,
        min(p, q) + ((max(signed(p, 32), signed(q, 32)) & ONES) << 32),
        signed(p, 8) + signed(q, 16),
        (((p << 3) + q) & ONES) + ((abs(signed(p, 32)) & ONES) << 32),
        p & 0xFFFF | q << 16 & ONES,
        x if s > 5 else y,
    ]


@pytest.mark.parametrize("chosen", range(4))
@every_build
def test_uniform_bits(build: Build, chosen: int) -> None:
    chance = np.random.default_rng(chosen)
    x, y = (int(v[chance.integers(128)]) for v in (integers(64, chosen), integers(64, chosen + 9)))
    s = int(chance.integers(70))
    out = np.zeros(20, np.uint64)
    args = (out, np.uint64(x), np.uint64(y), np.uint32(s))
    assert launch(build, "bits", "uniform_bits", args, groups=(1,)) == Done()
    assert [hex(v) for v in out.tolist()] == [hex(v % 2**64) for v in uniform(x, y, s)]


# --- conversions


def truncated(low: int, high: int) -> Callable[[float], int]:
    """Convert toward zero to the nearest integer that fits; NaN gives 0."""

    def function(value: float) -> int:
        if math.isnan(value):
            return 0
        return int(max(low, min(high, value))) if math.isinf(value) else max(
            low, min(high, int(value))
        )  # fmt: skip

    return function


def bits_of(value: Any, kind: type) -> int:
    made = np.asarray(value).astype(kind)
    return int(made.view(f"u{made.dtype.itemsize}"))


I32, U32 = truncated(-(2**31), 2**31 - 1), truncated(0, ONES)
I64, U64 = truncated(-(2**63), 2**63 - 1), truncated(0, 2**64 - 1)


def in_range(column: np.ndarray[Any, Any], limit: float) -> np.ndarray[Any, Any]:
    """Replace what C leaves undefined."""
    good = np.isfinite(column) & (np.abs(column) < limit)
    return np.where(good, column, column.dtype.type(1.75))


@every_build
def test_from_float(build: Build) -> None:
    x = in_range(floats(32, 31), 120.0)
    x[:6] = [-127.99, 127.5, 0.0, -0.0, 1e-45, 0.99999994]
    expected = [
        each(f, x, dtype=np.uint64)
        for f in (
            I32,
            lambda v: U32(abs(v)),
            I64,
            lambda v: U64(abs(v)),
            lambda v: bits_of(v, np.float64),
            lambda v: bits_of(v, np.float16),
            I32,
            lambda v: U32(abs(v)),
        )
    ]
    found = rows(build, "convert", "from_float", (x,), np.array(expected))
    assert_rows(found, np.array(expected))


@every_build
def test_from_large_float(build: Build) -> None:
    """Large values, infinities and NaN, where the hardware gives the nearest integer and 0."""
    x = floats(32, 32)
    expected = np.array([each(I32, x, dtype=np.uint64), each(lambda v: U32(abs(v)), x, dtype="u8")])
    found = rows(build, "convert", "from_float", (x,), np.zeros((8, 128), np.uint64))
    assert_rows(found[:2], expected)


@every_build
def test_from_double(build: Build) -> None:
    x = in_range(floats(64, 33), 2.0**31)
    expected = [
        each(f, x, dtype=np.uint64)
        for f in (
            I32,
            lambda v: U32(abs(v)),
            I64,
            lambda v: U64(abs(v)),
            lambda v: bits_of(v, np.float32),
            lambda v: bits_of(np.float32(v), np.float16),
        )
    ]
    found = rows(build, "convert", "from_double", (x,), np.array(expected))
    assert_rows(found, np.array(expected))


@every_build
def test_from_half(build: Build) -> None:
    x = in_range(floats(16, 34), 32000.0)
    expected = [
        each(f, x, dtype=np.uint64)
        for f in (
            I32,
            lambda v: U32(abs(v)),
            I32,
            lambda v: U32(abs(v)),
            lambda v: bits_of(v, np.float32),
            lambda v: bits_of(v, np.float64),
            I64,
        )
    ]
    found = rows(build, "convert", "from_half", (x,), np.array(expected))
    assert_rows(found, np.array(expected))


def real(value: int, bits: int) -> int:
    """Return the bits of the float nearest to an integer."""
    return bits_of(rounded(value, bits), {16: np.float16, 32: np.float32, 64: np.float64}[bits])


LONGS: list[Callable[[int], int]] = [
    lambda v: real(v, 32),
    lambda v: real(signed(v, 64), 32),
    lambda v: real(v, 64),
    lambda v: real(signed(v, 64), 64),
    lambda v: real(v & ONES, 32),
    lambda v: real(signed(v, 32), 32),
    lambda v: real(v & ONES, 64),
    lambda v: real(signed(v, 32), 64),
    lambda v: real(signed(v, 16), 16),
    lambda v: real(v & 0xFFFF, 16),
    *(lambda v, k=k: real(v >> 8 * k & 0xFF, 32) for k in range(4)),
    lambda v: signed(v, 8),
    lambda v: signed(v, 16),
]


@every_build
def test_from_long(build: Build) -> None:
    x = integers(64, 35, edges=[0xFFFFFF7FFFFFFFFF, 0xFFFFFF8000000001, (1 << 53) + 1, 65535])
    expected = np.array([each(lambda v, f=f: f(int(v)), x, dtype=np.uint64) for f in LONGS])
    assert_rows(rows(build, "convert", "from_long", (x,), expected), expected)


def classes(x: np.ndarray[Any, Any], mask: int) -> np.ndarray[Any, Any]:
    """Say for each float whether it is of a class in the mask (v_cmp_class)."""
    tiny = (np.abs(x) < np.finfo(x.dtype).tiny) & (x != 0)
    normal = np.isfinite(x) & ~tiny & (x != 0)
    minus = np.signbit(x)
    found = [
        np.zeros_like(minus),  # no signalling NaN among the inputs
        np.isnan(x),
        np.isneginf(x),
        normal & minus,
        tiny & minus,
        (x == 0) & minus,
        (x == 0) & ~minus,
        tiny & ~minus,
        normal & ~minus,
        np.isposinf(x),
    ]
    return sum(each for bit, each in enumerate(found) if mask >> bit & 1) != 0


def fraction(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    below = np.nextafter(x.dtype.type(1), x.dtype.type(0))
    return np.where(np.isinf(x), np.nan, np.minimum(x - np.floor(x), below)).astype(x.dtype)


def split(x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    mantissa, exponent = np.frexp(x)
    return mantissa, np.where(np.isfinite(x), exponent, 0).astype(x.dtype)


@every_build
def test_round_float(build: Build) -> None:
    x = floats(32, 36)
    ones = np.ones_like(x)
    mantissa, exponent = split(x)
    power = np.arange(128) - 64
    median = [sorted([v, 1.0, -3.0])[1] if not math.isnan(v) else -3.0 for v in x.tolist()]
    expected = np.array(
        [
            np.floor(x),
            np.ceil(x),
            np.trunc(x),
            np.rint(x),
            fraction(x),
            mantissa,
            exponent,
            [
                rounded_power(v, int(p))
                for v, p in zip(x.tolist(), power.tolist(), strict=True)
            ],
            median,
            least(most(x, 0 * ones), ones),
            classes(x, 0x155),
            most(most(x, 2 * ones), -x),
            least(least(x, 2 * ones), -x),
            np.rint(x * np.float32(0.25)),
        ],
        np.float32,
    )  # fmt: skip
    assert_rows(rows(build, "convert", "round_float", (x,), expected), expected)


def rounded_power(value: float, power: int) -> float:
    """Scale by a power of two and round once to single."""
    if not math.isfinite(value) or value == 0:
        return value
    return rounded(Fraction(value) * Fraction(2) ** power, 32)


@every_build
def test_round_double(build: Build) -> None:
    x = floats(64, 37)
    mantissa, exponent = split(x)
    expected = np.array(
        [
            np.floor(x),
            np.ceil(x),
            np.trunc(x),
            np.rint(x),
            fraction(x),
            mantissa,
            exponent,
            np.ldexp(x, np.arange(128) - 64),
            classes(x, 0x2AA),
        ]
    )
    assert_rows(rows(build, "convert", "round_double", (x,), expected), expected)


@every_build
def test_round_half(build: Build) -> None:
    x = floats(16, 38)
    mantissa, exponent = split(x)
    expected = np.array(
        [
            np.floor(x),
            np.ceil(x),
            np.trunc(x),
            np.rint(x),
            fraction(x),
            mantissa,
            exponent,
            classes(x, 0x1F0),
        ],
        np.float16,
    )
    assert_rows(rows(build, "convert", "round_half", (x,), expected), expected)


@every_build
def test_approximations_are_within_their_bound(build: Build) -> None:
    chance = np.random.default_rng(39)
    x = np.exp2(chance.uniform(-10, 6, 128)).astype(np.float32)
    wide = x.astype(np.float64)
    half = x.astype(np.float16).astype(np.float64)
    expected = np.array(
        [
            1 / wide,
            1 / np.sqrt(wide),
            np.sqrt(wide),
            np.exp2(wide),
            np.log2(wide),
            np.sin(wide * 2 * np.pi),
            np.cos(wide * 2 * np.pi),
            np.exp(wide),
            np.log(wide),
            1 / wide,
            1 / np.sqrt(wide),
            (1 / half).astype(np.float16).astype(np.float64),
            np.sin(half * 2 * np.pi),
        ]
    )
    like = np.zeros((13, 128), np.float32)
    found = rows(build, "convert", "approximate", (x,), like).astype(np.float64)
    for number, row in enumerate(expected):
        bound = 1e-3 if number >= 11 else 2.0**-23 * (4 if number in (7, 8) else 1)
        error = np.abs(found[number] - row) / np.maximum(np.abs(row), 2.0**-6)
        assert error.max() <= bound, (number, error.max())
