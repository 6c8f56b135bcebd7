"""Compiled atomics with their old values, and buffer instructions, against plain computation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gputrace.isa.machine import Done
from tests.isa.corpus import COUNT, few_builds, integers, launch, rows
from tests.isa.exact import signed

Build = tuple[str, ...]
ONES = 0xFFFFFFFF
KINDS = 12


def operations(bits: int, i: int) -> list[Callable[[int, int], int]]:
    """What the twelve cells of one item hold after their operation, from what they held."""

    def s(value: int) -> int:
        return signed(value, bits)

    return [
        lambda old, v: old + v,
        lambda old, v: old - v,
        lambda old, v: old & v,
        lambda old, v: old | v,
        lambda old, v: old ^ v,
        min,
        max,
        lambda old, v: min(s(old), s(v)),
        lambda old, v: max(s(old), s(v)),
        lambda old, v: v,
        lambda old, v: v + 1 if i % 2 == 0 or old == v else old,
        lambda old, v: ~(old & v),
    ]


@pytest.mark.parametrize("kernel", ["memory", "memory_wide", "lds", "lds_wide", "anything"])
@few_builds()
def test_old_values(build: Build, kernel: str) -> None:
    bits = 64 if kernel.endswith("wide") else 32
    before = integers(bits, 61).repeat(KINDS).reshape(COUNT, KINDS)
    before = np.random.default_rng(62).permuted(before, axis=0)
    v = integers(bits, 63)
    before[1:20:4, 10] = v[1:20:4]  # these compare equal
    cells, old = before.copy(), np.zeros((KINDS, COUNT), before.dtype)
    assert launch(build, "updates", f"old_of_{kernel}", (old, cells, v)) == Done()
    assert np.array_equal(old, before.T)
    for i in range(COUNT):
        expected = [
            f(int(before[i, k]), int(v[i])) & ((1 << bits) - 1)
            for k, f in enumerate(operations(bits, i))
        ]
        assert cells[i].tolist() == expected, i


@few_builds()
def test_counters(build: Build) -> None:
    v = integers(32, 64)
    found = rows(build, "updates", "counters", (v,), np.zeros((3, COUNT), np.uint32))
    for group in (slice(0, 64), slice(64, 128)):
        odd = v[group] % 2 == 1
        up, down = int(odd.sum()), int((~odd).sum())
        assert (found[1, group] == up).all()
        assert (found[2, group] == 100 - down).all()
        # A wave takes as many as it has lanes at once, and each lane is told where that began.
        assert {int(x) for x in found[0, group][odd]} <= set(range(up))
        assert {int(x) for x in found[0, group][~odd]} <= set(range(100 - down, 101))


@few_builds()
def test_float_units(build: Build) -> None:
    chance = np.random.default_rng(65)
    cells, v = (chance.integers(-900, 900, COUNT).astype(np.float32) for _ in range(2))
    before, old = cells.copy(), np.zeros((5, COUNT), np.float32)
    assert launch(build, "updates", "float_units", (old, cells, v)) == Done()
    total = before + v
    low = np.minimum(total, v)
    assert np.array_equal(old, [before, total, low, np.maximum(low, 2 * v), before])
    assert np.array_equal(cells, total)


@few_builds("gfx90a", "gfx942", "gfx950")
def test_double_units(build: Build) -> None:
    chance = np.random.default_rng(66)
    cells, v = (chance.normal(size=COUNT) for _ in range(2))
    before, old = cells.copy(), np.zeros((6, COUNT))
    assert launch(build, "updates", "double_units", (old, cells, v)) == Done()
    total = before + v
    low = np.minimum(total, v)
    high = np.maximum(low, -v)
    assert np.array_equal(old, [before, total, before, total, low, high])
    assert np.array_equal(cells, high + 1)


@few_builds("gfx90a", "gfx942", "gfx950", "gfx1201")
def test_half_units(build: Build) -> None:
    chance = np.random.default_rng(67)
    cells, v = (chance.normal(size=(COUNT, 2)).astype(np.float16) for _ in range(2))
    before, old = cells.copy(), np.zeros((4, COUNT, 2), np.float16)
    assert launch(build, "updates", "half_units", (old, cells, v)) == Done()
    assert np.array_equal(old[0], before)
    once = before + v
    if build[0] == "gfx90a":
        assert np.array_equal(cells, once)
        return
    assert np.array_equal(old[1:], [once, once + v, once])
    assert np.array_equal(cells, once + v)


# --- buffers


def dwords(raw: bytes, at: int, count: int, limit: int) -> list[int]:
    """Read dwords of a raw buffer: each by itself is 0 where it is not wholly inside."""
    return [
        int.from_bytes(raw[place : place + 4], "little") if place + 4 <= limit else 0
        for place in range(at, at + 4 * count, 4)
    ]


def weighted(values: list[int]) -> int:
    return sum(value * weight for value, weight in zip(values, (1, 3, 5, 7), strict=False)) & ONES


@pytest.mark.parametrize("limit", [700, 4])
@few_builds()
def test_raw_loads(build: Build, limit: int) -> None:
    data, base = np.random.default_rng(68).integers(2**32, size=512, dtype=np.uint32), 20
    raw = data.tobytes()
    out = np.zeros((9, COUNT), np.uint32)
    args = (out, data, np.uint32(limit), np.uint32(base))
    assert launch(build, "buffers", "raw_loads", args) == Done()
    for i in range(COUNT):
        at, group = i * 12, i // 64
        short = int.from_bytes(raw[at + 2 : at + 4], "little") if at + 4 <= limit else 0
        byte = signed(raw[at + 3], 8) & ONES if at + 4 <= limit else 0
        expected = [
            *dwords(raw, at, 1, limit),
            None,  # the base counts where the target says
            weighted(dwords(raw, at + 16, 4, limit)),
            weighted(dwords(raw, at, 3, limit)),
            None,
            short,
            byte,
            *dwords(raw, 4 * group + 8, 1, limit),
            weighted(dwords(raw, 16 * group, 4, limit)),
        ]
        for row, value in enumerate(expected):
            assert value is None or int(out[row, i]) == value, (i, row)
        inside = at + base + 12 <= limit
        if inside:
            assert int(out[1, i]) == dwords(raw, at + base, 1, limit)[0]
            assert int(out[4, i]) == weighted(dwords(raw, at + 4 + base, 2, limit))


@pytest.mark.parametrize("limit", [8192, 3000])
@few_builds()
def test_raw_stores(build: Build, limit: int) -> None:
    v = integers(32, 69)
    out = np.random.default_rng(70).integers(2**32, size=2048 + 3 * COUNT, dtype=np.uint32)
    out[7168 // 4 : 7168 // 4 + 10] = v[:10]
    before, model = out.copy(), bytearray(out.tobytes())
    assert launch(build, "buffers", "raw_stores", (out, v, np.uint32(limit))) == Done()

    def put(at: int, value: int, size: int) -> None:
        if at + size <= limit:
            model[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")

    for i, x in enumerate(int(value) for value in v):
        put(4 * i, x, 4)
        for k in range(4):
            put(1024 + 16 * i + 4 * k, x + k, 4)
        put(4096 + 4 * i, x, 2)
        put(4096 + 4 * i + 3, x, 1)
        put(6400 + 4 * i, x, 4)
        if int(before[7168 // 4 + i]) == x:
            put(7168 + 4 * i, 2 * x, 4)
    sums = [int(v[k::8].sum(dtype=np.uint32)) for k in range(8)]
    for k, total in enumerate(sums):
        put(6144 + 4 * k, int(before[6144 // 4 + k]) + total, 4)
    assert out[:2048].tobytes() == bytes(model[:8192])
    if limit == 8192:
        assert (out[2048 : 2048 + COUNT] == 1).all()
        assert np.array_equal(out[2048 + COUNT :][:COUNT], before[1600 : 1600 + COUNT])
        assert np.array_equal(out[2048 + 2 * COUNT :], before[1792 : 1792 + COUNT])


@few_builds()
def test_records(build: Build) -> None:
    cells = np.random.default_rng(71).integers(2**32, size=(COUNT, 3), dtype=np.uint32)
    # Without the choice of later targets, manuals and drivers differ about what counts as bytes:
    # there nothing lies beyond.
    before, count = cells.copy(), 12 * COUNT if build[0].startswith("gfx9") else 100
    out = np.zeros((3, COUNT), np.uint32)
    assert launch(build, "buffers", "records", (out, cells, np.uint32(count))) == Done()
    inside = np.arange(COUNT) < count
    crossed = np.arange(COUNT) ^ 3
    assert np.array_equal(out[0], np.where(inside, before[:, 0], 0))
    assert np.array_equal(out[1], np.where(inside, before[:, 2], 0))
    # A neighbour may have stored before it was read.
    theirs = np.where(crossed < count, before[crossed, 1], 0)
    stored = np.where(crossed < count, before[crossed, 0] + 5, 0)
    assert ((out[2] == theirs) | (out[2] == stored)).all()
    expected: NDArray[Any] = before.copy()
    expected[inside, 1] = before[inside, 0] + 5
    assert np.array_equal(cells, expected)
