"""Compiled lane operations, control of waves, calls and stacks; waves of 64 lanes on RDNA."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gputrace.isa.machine import Done, Trapped
from tests.isa import test_kernels_lanes as lanes
from tests.isa import test_kernels_memory as memory
from tests.isa.corpus import COUNT, assert_rows, few_builds, integers, launch, rows
from tests.isa.test_kernels_lanes import by_wave, wave_of

Build = tuple[str, ...]
ONES = 0xFFFFFFFF
GFX9, RDNA = ("gfx90a", "gfx942", "gfx950"), ("gfx1030", "gfx1100", "gfx1201")


@few_builds()
def test_by_number(build: Build) -> None:
    data, first, mask = integers(32, 81), 13, 0xF0F0_1234_8421_5AA5
    out = np.zeros((8, COUNT), np.uint32)
    args = (out, data, np.uint32(first), np.uint64(mask))
    assert launch(build, "waves", "by_number", args) == Done()

    def wave(v: list[int]) -> list[list[int]]:
        n = len(v)
        one, two = (sum(1 << k for k, x in enumerate(v) if x & 3 == want) for want in (1, 2))
        alike = [sum(x & 7 == y & 7 for y in v) * 16 + (x & 7) for x in v]
        return [
            [v[first]] * n,
            [v[v[0] & 15]] * n,
            [x if mask >> k & 1 else 1 for k, x in enumerate(v)],
            [(one + (two >> 7)) & ONES] * n,
            alike,
            [min(v)] * n,
            [max(v)] * n,
            list(range(n)),
        ]

    assert_rows(out, by_wave(build, data, wave).astype(np.uint32))


@few_builds()
def test_swizzles(build: Build) -> None:
    data = integers(32, 82)

    def wave(v: list[int]) -> list[list[int]]:
        every = range(len(v))
        turned = [v[k & ~31 | (k + 5) % 32] for k in every]
        four = [v[k & ~31 | (k & 7) ^ 1] for k in every]
        return [
            [v[k ^ 16] for k in every],
            [v[k & ~31 | k & 24] for k in every],
            four,
            [v[k | 3] for k in every],
            turned,
        ]

    expected = by_wave(build, data, wave).astype(np.uint32)
    assert_rows(rows(build, "waves", "swizzles", (data,), expected), expected)


@few_builds(*GFX9)
def test_whole_wave(build: Build) -> None:
    data = integers(32, 83)

    def wave(v: list[int]) -> list[list[int]]:
        every = range(64)
        rows_of = [k // 16 for k in every]
        return [
            [*v[1:], 9],
            [9, *v[:-1]],
            [*v[1:], v[0]],
            [v[-1], *v[:-1]],
            [v[16 * r - 1] if r in (1, 3) else 9 for r in rows_of],
            [v[31] if r in (2, 3) else 9 for r in rows_of],
        ]

    expected = by_wave(build, data, wave).astype(np.uint32)
    assert_rows(rows(build, "waves", "whole_wave", (data,), expected), expected)


@few_builds("gfx1100", "gfx1201")
def test_far_lanes(build: Build) -> None:
    data = integers(32, 84)

    def wave(v: list[int]) -> list[list[int]]:
        every = range(len(v))
        near = [v[k & ~15 | v[k] & 15] for k in every]
        far = [v[(k ^ 16) & ~15 | v[k] >> 4 & 15] for k in every]
        return [v, near, far] if build[0] == "gfx1201" else [v]

    expected = by_wave(build, data, wave).astype(np.uint32)
    assert_rows(rows(build, "waves", "far_lanes", (data,), expected), expected)


# --- waves of 64 lanes where the target has a choice

WIDE: dict[str, Callable[[Build], None]] = {
    "votes": lanes.test_votes,
    "shuffles": lanes.test_shuffles,
    "dpp": lanes.test_dpp,
    "prefix_sum": memory.test_prefix_sum,
    "histogram": memory.test_histogram,
    "lds_widths": memory.test_lds_widths,
    "collatz": memory.test_collatz,
    "switch": memory.test_switch,
    "function_pointers": memory.test_function_pointers,
    "recursion": memory.test_recursion,
    "spin_lock": memory.test_spin_lock,
    "nested_loops": memory.test_nested_loops,
}


@pytest.mark.parametrize("name", list(WIDE))
@few_builds(*RDNA)
def test_waves_of_64_lanes(build: Build, name: str) -> None:
    WIDE[name]((*build, "wide"))


# --- control


@few_builds()
def test_registers(build: Build) -> None:
    out = np.zeros((2, COUNT), np.uint32)
    assert launch(build, "control", "registers", (out,)) == Done()
    # Small numbers of every width are kept, rounding is to the nearest.
    assert (out[0] == 0xF0).all()
    assert (out[1] == 0xF).all()


@few_builds()
def test_clocks(build: Build) -> None:
    out = np.zeros((3, COUNT), np.uint64)
    assert launch(build, "control", "clocks", (out,)) == Done()
    assert (out[:2] == 1).all()


@few_builds()
def test_hints(build: Build) -> None:
    data, out = integers(32, 85), np.zeros(COUNT, np.uint32)
    data = np.append(data, np.uint32(0))
    assert launch(build, "control", "hints", (out, data)) == Done()
    assert np.array_equal(out, data[:-1] * np.uint32(2) + np.uint32(1))


@few_builds()
def test_trap(build: Build) -> None:
    out = np.zeros(COUNT, np.uint32)
    outcome = launch(build, "control", "trap", (out, np.uint32(1)))
    assert isinstance(outcome, Trapped)
    assert outcome.place.group == (1, 0, 0)
    lanes_of_wave = min(wave_of(build), 64)
    assert (out[:64] == 7).all()
    assert (out[64 : 64 + lanes_of_wave] == 7).all()


@few_builds()
def test_relay(build: Build) -> None:
    data, out = integers(32, 86), np.zeros(256, np.uint32)
    held = np.concatenate([data, data[::-1]])
    assert launch(build, "control", "relay", (out, held, np.uint32(5)), (1,), (256,)) == Done()
    expected = held.copy()
    for turn in range(5):
        expected = np.roll(expected, -37) * np.uint32(5) + np.uint32(turn)
    assert np.array_equal(out, expected)


# --- calls


def turned(a: list[int], wide: int, real: float, by: int) -> tuple[list[int], int, float]:
    made = [(a[(k + by) % 6] + k) & ONES for k in range(6)]
    return made, (wide * 3 + by) % 2**64, real + 0.5


@few_builds()
def test_boxes(build: Build) -> None:
    data = integers(32, 87)
    table = []
    for x in data.tolist():
        box = turned([x, 1, 2, 3, 4, 5], x * 5, float(x & 1023), x % 6)
        a, wide, real = turned(*box, 1)
        table.append([*a, wide & ONES, int(real * 2)])
    expected = np.array(table, np.uint32).T
    assert_rows(rows(build, "calls", "boxes", (data,), expected), expected)


@few_builds()
def test_many_arguments(build: Build) -> None:
    data, out = integers(32, 88), np.zeros(COUNT, np.uint32)
    assert launch(build, "calls", "arguments", (out, data)) == Done()
    for i, x in enumerate(data.tolist()):
        given = [x, x ^ i, i, x + 1] * 5 + [x ^ i, i, x + 1, x] * 5
        total = sum(
            weight * sum((k + 1) * v for k, v in enumerate(given[10 * at : 10 * at + 10]))
            for at, weight in enumerate((1, 3, 5, 7))
        )
        assert int(out[i]) == total & ONES, i


@few_builds()
def test_table_of_functions(build: Build) -> None:
    data, out = integers(32, 89), np.zeros(COUNT, np.uint32)
    assert launch(build, "calls", "machine", (out, data)) == Done()
    table: list[Callable[[int, int], int]] = [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a * b + a - b,
    ]
    for i, x in enumerate(data.tolist()):
        v = x
        for k in range(3):
            v = table[x >> 2 * k & 3](v, i + k) & ONES
        assert int(out[i]) == v, i


def depth(n: int, v: int) -> int:
    if n == 0:
        return (v + (v & 3)) & ONES
    below = depth(n - 1, (v * 5 + n) & ONES)
    return (below + v + (below & 3)) & ONES


@few_builds()
def test_deep_calls(build: Build) -> None:
    data, out = integers(32, 90), np.zeros(COUNT, np.uint32)
    assert launch(build, "calls", "deep", (out, data)) == Done()
    assert out.tolist() == [depth(x % 7, x) for x in data.tolist()]


@few_builds()
def test_more_values_than_registers(build: Build) -> None:
    data, out = integers(32, 91), np.zeros(COUNT, np.uint32)
    assert launch(build, "calls", "crowded", (out, data)) == Done()
    held: list[NDArray[np.uint32]] = [
        np.roll(data, -k) * np.uint32(2 * k + 1) for k in range(160)
    ]
    for _ in range(2):
        for k in range(160):
            held[k] = held[k] ^ held[(k * 7 + 3) % 160] >> np.uint32(1)
    total = np.zeros(COUNT, np.uint32)
    for column in held:
        total = total * np.uint32(3) + column
    assert np.array_equal(out, total)
