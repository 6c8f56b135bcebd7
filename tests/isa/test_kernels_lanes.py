"""Compiled lane moves and packed math against plain computation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.isa.corpus import COUNT, assert_rows, every_build, floats, rows
from tests.isa.exact import fma, least, most, signed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
Build = tuple[str, ...]


def wave_of(build: Build) -> int:
    return 64 if build[0].startswith("gfx9") or "wide" in build else 32



def words(seed: int, limit: int = 2**32) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(limit, size=COUNT, dtype=np.uint32)


def by_wave(
    build: Build, data: NDArray[Any], function: Callable[[list[int]], list[list[int]]]
) -> NDArray[Any]:
    """Compute rows wave by wave."""
    size = wave_of(build)
    parts = [function([int(x) for x in data[at : at + size]]) for at in range(0, COUNT, size)]
    joined = [[value for part in parts for value in part[row]] for row in range(len(parts[0]))]
    return np.array([[value % 2**64 for value in row] for row in joined], np.uint64)


def mask(bits: list[bool]) -> int:
    return sum(1 << k for k, bit in enumerate(bits) if bit)


@every_build
def test_votes(build: Build) -> None:
    data = words(1, 200)

    def wave(v: list[int]) -> list[list[int]]:
        odd, n = [bool(x & 1) for x in v], len(v)
        first = v[odd.index(True)]
        return [
            [mask(odd)] * n,
            [mask([x > 100 for x in v])] * n,
            [sum(odd[:k]) for k in range(n)],
            [v[0]] * n,
            [first if bit else v[5] for bit in odd],
        ]

    expected = by_wave(build, data, wave)
    assert_rows(rows(build, "lanes", "votes", (data,), expected), expected)


@every_build
def test_shuffles(build: Build) -> None:
    data = words(2)
    # Waves of 64 lanes on gfx10 and gfx11: within halves (LLVM, supportsWaveWideBPermute).
    reach = 32 if build[0] in ("gfx1030", "gfx1100") else wave_of(build)

    def wave(v: list[int]) -> list[list[int]]:
        n = len(v)
        every = range(n)
        crossed = [v[k ^ 2] if k & 1 else v[k] for k in every]
        return [
            [v[k ^ 5] for k in every],
            [v[k & ~(reach - 1) | x % reach] for k, x in enumerate(v)],
            [v[k ^ 3] for k in every],
            [v[k ^ 1] for k in every],
            [v[k ^ 3] for k in every],
            crossed,
        ]

    expected = by_wave(build, data, wave).astype(np.uint32)
    assert_rows(rows(build, "lanes", "shuffles", (data,), expected), expected)


@every_build
def test_dpp(build: Build) -> None:
    data = words(3, 1000)

    def wave(v: list[int]) -> list[list[int]]:
        def row(function: Callable[[int, int], int | None], lacking: int = 7) -> list[int]:
            # function(row's first lane, lane in row) names the lane in the row to read
            made = []
            for k in range(len(v)):
                source = function(k & ~15, k & 15)
                inside = source is not None and 0 <= source < 16
                made.append(v[(k & ~15) + source] if inside else lacking)
            return made

        sums = []
        for at in range(0, len(v), 16):
            sums += np.cumsum(v[at : at + 16]).tolist()
        half_mirror = [x if (k >> 4) % 2 == 0 else 7 for k, x in enumerate(
            row(lambda base, k: k & 8 | 7 - (k & 7)))]  # fmt: skip
        banks = [x if k >> 2 & 1 else 7 for k, x in enumerate(row(lambda base, k: k - 1))]
        return [
            row(lambda base, k: k & ~3 | 3 - (k & 3)),
            row(lambda base, k: k + 1),
            row(lambda base, k: k - 3, lacking=0),
            row(lambda base, k: (k - 4) % 16),
            row(lambda base, k: 15 - k),
            half_mirror,
            banks,
            [x + y for x, y in zip(row(lambda base, k: k ^ 1), v, strict=True)],
            sums,
        ]

    expected = by_wave(build, data, wave).astype(np.uint32)
    assert_rows(rows(build, "lanes", "dpp", (data,), expected), expected)


@pytest.mark.parametrize("level", ["O0", "O3"])
@pytest.mark.parametrize("target", ["gfx1030", "gfx1100", "gfx1201"])
def test_permutations(target: str, level: str) -> None:
    """v_permlane16, v_permlanex16, DPP8, row_share and row_xmask: generations from gfx10 on."""
    build, data = (target, level), words(4)
    same = [0x01234567 >> 4 * k & 15 for k in range(8)]
    same += [0x89ABCDEF >> 4 * k & 15 for k in range(8)]
    cross = [0x76543210 >> 4 * k & 15 for k in range(8)]
    cross += [0xFEDCBA98 >> 4 * k & 15 for k in range(8)]
    eight = [0x053977 >> 3 * k & 7 for k in range(8)]

    def wave(v: list[int]) -> list[list[int]]:
        every = range(len(v))
        return [
            [v[(k & ~15) + same[k & 15]] for k in every],
            [v[((k ^ 16) & ~15) + cross[k & 15]] for k in every],
            [v[(k & ~7) + eight[k & 7]] for k in every],
            [v[(k & ~15) + 5] for k in every],
            [v[k ^ 3] for k in every],
        ]

    expected = by_wave(build, data, wave).astype(np.uint32)
    assert_rows(rows(build, "lanes", "permutations", (data,), expected), expected)


# --- packed math


def halves(seed: int) -> NDArray[np.float16]:
    column = np.random.default_rng(seed).permutation(np.concatenate([floats(16, seed)] * 2))
    return column.reshape(COUNT, 2)


def packed(columns: NDArray[Any]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(columns).view(np.uint32).reshape(-1)


def toward_zero(value: float) -> float:
    near = np.float32(value).astype(np.float16)
    if abs(float(near)) > abs(value):
        near = np.nextafter(near, np.float16(0))
    return float(near)


@every_build
def test_packed_half(build: Build) -> None:
    x, y, z = (halves(seed) for seed in (5, 6, 7))
    flat = [fma(x[:, k], y[:, k], z[:, k]) for k in range(2)]
    pair = [
        [toward_zero(float(np.float32(a) * np.float32(3))), toward_zero(float(b))]
        for a, b in zip(x[:, 0], y[:, 1], strict=True)
    ]
    expected = [
        x + y,
        x * y,
        np.stack(flat, axis=1),
        least(x, y),
        most(x, y),
        x[:, ::-1] * -y + z,
        x * np.float16(2) + y[:, 1:].repeat(2, axis=1),
        np.array(pair, np.float16),
    ]
    like = np.zeros((len(expected), COUNT), np.uint32)
    found = rows(build, "packed", "packed_half", [packed(v) for v in (x, y, z)], like)
    assert_rows(found.view(np.float16), np.array([e.reshape(-1) for e in expected]))


def clamped(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


@every_build
def test_packed_short(build: Build) -> None:
    chance = np.random.default_rng(8)
    a, b = (chance.integers(2**16, size=(COUNT, 2), dtype=np.uint16) for _ in range(2))
    a[:4], b[:4] = [[0x8000, 0x7FFF]] * 4, [[0xFFFF, 1], [0x8000, 0x7FFF], [0, 0], [1, 0xFFFF]]

    def s(value: int) -> int:
        return signed(value, 16)

    plain: list[Callable[[int, int], int]] = [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x * y + x,
        lambda x, y: x << (y & 15),
        lambda x, y: s(x) >> (y & 15),
        lambda x, y: x >> (y & 15),
        lambda x, y: min(s(x), s(y)),
        max,
        lambda x, y: clamped(s(x) + s(y), -0x8000, 0x7FFF),
        lambda x, y: clamped(x - y, 0, 0xFFFF),
    ]
    expected = [
        np.array([[f(int(a[i, k]), int(b[i, k])) & 0xFFFF for k in range(2)] for i in range(COUNT)])
        for f in plain
    ]
    expected.append((a[:, ::-1] + b[:, :1]).astype(np.int64))
    like = np.zeros((len(expected), COUNT), np.uint32)
    found = rows(build, "packed", "packed_short", [packed(a), packed(b)], like)
    assert_rows(found, np.array([packed(e.astype(np.uint16)) for e in expected]))


@every_build
def test_packed_float(build: Build) -> None:
    chance = np.random.default_rng(9)
    x, y, z = (
        chance.permutation(np.concatenate([floats(32, seed)] * 2)).reshape(COUNT, 2)
        for seed in (10, 11, 12)
    )
    fused = np.stack([fma(x[:, k], y[:, k], z[:, k]) for k in range(2)], axis=1)
    expected = [x + y, x * y, fused, x[:, ::-1] * y + z[:, :1], x - y]
    like = np.zeros((len(expected), 2 * COUNT), np.float32)
    found = rows(build, "packed", "packed_float", [x, y, z], like)
    assert_rows(found, np.array([e.reshape(-1) for e in expected]))


@every_build
def test_mixed(build: Build) -> None:
    a, b = (np.random.default_rng(s).permutation(floats(16, s)) for s in (13, 14))
    c = np.random.default_rng(15).permutation(floats(32, 15))
    x, y = a.astype(np.float32), b.astype(np.float32)
    first, second = fma(x, y, c), fma(-x, c, y)
    low, high = fma(x, c, y).astype(np.float16), fma(y, c, x).astype(np.float16)
    like = np.zeros((4, COUNT), np.float32)
    found = rows(build, "packed", "mixed", (a, b, c), like)
    assert_rows(found[:2], np.array([first, second]))
    pairs = np.stack([low, high], axis=1).reshape(1, -1)
    assert_rows(found[2:3].view(np.float16), pairs)
