"""Compiled arithmetic and division against Python's integers and IEEE floats."""

import numpy as np
import pytest

from tests.isa.corpus import (
    COUNT,
    TARGETS,
    assert_rows,
    each,
    every_build,
    floats,
    integers,
    rows,
)
from tests.isa.exact import fma, least, most, signed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
Build = tuple[str, str]


@every_build
def test_int_ops(build: Build) -> None:
    a, b = integers(32, 1), integers(32, 2)

    def s(value: int) -> int:
        return signed(value, 32)

    expected = [
        each(f, a, b, dtype=np.uint32)
        for f in (
            lambda x, y: int(x) + int(y),
            lambda x, y: int(x) - int(y),
            lambda x, y: int(x) * int(y),
            lambda x, y: int(x) * int(y) >> 32,
            lambda x, y: s(x) * s(y) >> 32,
            lambda x, y: (int(x) & int(y)) | (~int(x) ^ int(y)),
            lambda x, y: int(x) << (int(y) & 31),
            lambda x, y: int(x) >> (int(y) & 31),
            lambda x, y: s(x) >> (int(y) & 31),
            lambda x, y: x if s(x) < s(y) else y,
            min,
            lambda x, y: max(s(x), s(y)),
            lambda x, y: (int(x) & 0xFFFFFF) * (int(y) & 0xFFFFFF) + int(x),
            lambda x, y: int(x) * int(y) + int(x) + int(y),
            lambda x, y: signed(x, 24) * signed(y, 24),
            lambda x, y: abs(s(x)),
        )
    ]
    found = rows(build, "arith", "int_ops", (a, b), np.array(expected))
    assert_rows(found, np.array(expected))


@every_build
def test_long_ops(build: Build) -> None:
    a, b = integers(64, 3), integers(64, 4)

    def s(value: int) -> int:
        return signed(value, 64)

    expected = [
        each(f, a, b, dtype=np.uint64)
        for f in (
            lambda x, y: int(x) + int(y),
            lambda x, y: int(x) - int(y),
            lambda x, y: int(x) * int(y),
            lambda x, y: int(x) << (int(y) & 63),
            lambda x, y: int(x) >> (int(y) & 63),
            lambda x, y: s(x) >> (int(y) & 63),
            lambda x, y: x if s(x) < s(y) else y,
            max,
            lambda x, y: (int(x) & int(y)) ^ ~int(y),
            lambda x, y: int(x) * int(y) >> 64,
            lambda x, y: abs(s(x)),
            lambda x, y: (x == y) + 2 * (x != y) + 4 * (s(x) <= s(y)) + 8 * (x <= y),
        )
    ]
    found = rows(build, "arith", "long_ops", (a, b), np.array(expected))
    assert_rows(found, np.array(expected))


@every_build
def test_small_ops(build: Build) -> None:
    a, b = integers(16, 5), integers(16, 6)

    def s(value: int) -> int:
        return signed(value, 16)

    expected = [
        each(f, a, b, dtype=np.uint16)
        for f in (
            lambda x, y: int(x) + int(y),
            lambda x, y: int(x) - int(y),
            lambda x, y: int(x) * int(y),
            lambda x, y: int(x) << (int(y) & 15),
            lambda x, y: int(x) >> (int(y) & 15),
            lambda x, y: s(x) >> (int(y) & 15),
            lambda x, y: x if s(x) < s(y) else y,
            max,
            lambda x, y: (int(x) + int(y)) & 0xFF,
            lambda x, y: signed(x, 8) * signed(y, 8),
            lambda x, y: int(x) * int(y) + int(x),
            lambda x, y: min(int(x) & 0xFF, int(y) & 0xFF),
        )
    ]
    found = rows(build, "arith", "small_ops", (a, b), np.array(expected))
    assert_rows(found, np.array(expected))


@every_build
def test_float_ops(build: Build) -> None:
    x, y, z = (floats(32, seed) for seed in (1, 2, 3))
    chances = np.random.default_rng(1)
    y, z = chances.permutation(y), chances.permutation(z)
    flags = (x >= y) + 2 * (x != y) + 4 * (x > z) + 8 * np.isnan(y)
    expected = [
        x + y,
        x - y,
        x * y,
        fma(x, y, z),
        least(x, y),
        most(x, y),
        -np.abs(x),
        np.copysign(x, y),
        np.where(x < y, z, x),
        x * y + z,
        x * np.float32(0.5) - np.float32(4),
        flags.astype(np.float32),
        fma(x, np.full_like(x, 3.25), y),
        fma(x, y, np.full_like(x, 7.75)),
    ]
    found = rows(build, "arith", "float_ops", (x, y, z), np.array(expected))
    assert_rows(found, np.array(expected))


@every_build
def test_half_ops(build: Build) -> None:
    x, y, z = (floats(16, seed) for seed in (1, 2, 3))
    chances = np.random.default_rng(2)
    y, z = chances.permutation(y), chances.permutation(z)
    wide = x.astype(np.float32) * y.astype(np.float32) + z.astype(np.float32)
    expected = [
        x + y,
        x - y,
        x * y,
        fma(x, y, z),
        least(x, y),
        most(x, y),
        -np.abs(x),
        np.where(x < y, z, x),
        x * y + z,
        x * np.float16(0.5) - np.float16(4),
        wide.astype(np.float16),
    ]
    found = rows(build, "arith", "half_ops", (x, y, z), np.array(expected))
    assert_rows(found, np.array(expected))


@every_build
def test_double_ops(build: Build) -> None:
    x, y, z = (floats(64, seed) for seed in (1, 2, 3))
    chances = np.random.default_rng(3)
    y, z = chances.permutation(y), chances.permutation(z)
    flags = (x >= y) + 2 * (x != y) + 4 * (x > z) + 8 * np.isnan(y)
    expected = [
        x + y,
        x - y,
        x * y,
        fma(x, y, z),
        least(x, y),
        most(x, y),
        -np.abs(x),
        np.where(x < y, z, x),
        x * y + z,
        x * 0.5 - 4,
        flags.astype(np.float64),
    ]
    found = rows(build, "arith", "double_ops", (x, y, z), np.array(expected))
    assert_rows(found, np.array(expected))


def towards_zero(x: int, y: int) -> tuple[int, int]:
    """Divide as C does."""
    quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    return quotient, x - quotient * y


@pytest.mark.parametrize("bits", [32, 64])
@every_build
def test_integer_division(build: Build, bits: int) -> None:
    a, b = integers(bits, 7), np.random.default_rng(4).permutation(integers(bits, 8))
    b[b == 0] = 3
    b[(b == 2**bits - 1) & (a == 2 ** (bits - 1))] = 5  # C leaves the overflow undefined

    def s(value: int) -> int:
        return signed(value, bits)

    functions = [
        lambda x, y: towards_zero(s(x), s(y))[0],
        lambda x, y: towards_zero(s(x), s(y))[1],
        lambda x, y: int(x) // int(y),
        lambda x, y: int(x) % int(y),
    ]
    if bits == 32:
        functions += [lambda x, y: towards_zero(s(x), 7)[0], lambda x, y: int(x) % 10]
    expected = np.array([each(f, a, b, dtype=f"u{bits // 8}") for f in functions])
    name = {32: "div_int", 64: "div_long"}[bits]
    assert_rows(rows(build, "divide", name, (a, b), expected), expected)


@every_build
def test_float_division(build: Build) -> None:
    x, y = floats(32, 9), np.random.default_rng(5).permutation(floats(32, 10))
    expected = np.array([x / y, np.float32(1) / y, np.sqrt(x)])
    assert_rows(rows(build, "divide", "div_float", (x, y), expected), expected)


@every_build
def test_double_division(build: Build) -> None:
    x, y = floats(64, 11), np.random.default_rng(6).permutation(floats(64, 12))
    expected = np.array([x / y, np.sqrt(x)])
    assert_rows(rows(build, "divide", "div_double", (x, y), expected), expected)


@every_build
def test_half_division(build: Build) -> None:
    x, y = floats(16, 13), np.random.default_rng(7).permutation(floats(16, 14))
    expected = np.array([x / y, np.sqrt(x)])
    assert_rows(rows(build, "divide", "div_half", (x, y), expected), expected)


@every_build
def test_float_remainder(build: Build) -> None:
    x, y = floats(32, 15, special=False), floats(32, 16, special=False)
    y = np.where(y == 0, np.float32(2), y)
    expected = np.array([x - y * np.trunc(x / y)])
    assert expected.shape == (1, COUNT)
    assert_rows(rows(build, "divide", "mod_float", (x, y), expected), expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", [32, 64])
def test_division_of_extreme_sizes(target: str, bits: int) -> None:
    """Quotients and operands at both ends of the range: where the scaling rules take turns."""
    chance = np.random.default_rng(bits)
    kind = np.dtype(f"u{bits // 8}")
    patterns = [np.frombuffer(chance.bytes(COUNT * bits // 8), kind).copy() for _ in range(2)]
    wide = {32: np.float32, 64: np.float64}[bits]
    fraction = {32: 23, 64: 52}[bits]
    top = {32: 255, 64: 2047}[bits]
    chosen = [0, 1, 2, 20, top // 2, top - 60, top - 3, top - 2, top - 1]
    columns = []
    for pattern in patterns:
        exponents = chance.choice(chosen, COUNT).astype(kind)
        keep = pattern & kind.type((1 << (bits - 1)) | ((1 << fraction) - 1))
        columns.append((keep | (exponents << kind.type(fraction))).view(wide))
    x, y = columns
    expected = [x / y, np.float32(1) / y, np.sqrt(x)] if bits == 32 else [x / y, np.sqrt(x)]
    name = {32: "div_float", 64: "div_double"}[bits]
    found = rows((target, "O1"), "divide", name, (x, y), np.array(expected))
    assert_rows(found, np.array(expected))
