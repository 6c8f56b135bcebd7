"""Compiled memory accesses, LDS, atomics and control flow against plain computation."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gputrace.isa.machine import Done, Fault
from tests.isa.corpus import (
    COUNT,
    assert_rows,
    each,
    engine_for,
    every_build,
    integers,
    launch,
    rows,
)
from tests.isa.exact import signed
from tests.isa.launching import Arrays, Program, run

Build = tuple[str, str]
ONES = 0xFFFFFFFF
Words = NDArray[np.uint32]


def words(seed: int, limit: int = 2**32) -> Words:
    return np.random.default_rng(seed).integers(limit, size=COUNT, dtype=np.uint32)


# --- LDS and barriers


@every_build
def test_prefix_sum(build: Build) -> None:
    data, out = words(1), np.zeros(COUNT, np.uint32)
    assert launch(build, "shared", "prefix_sum", (out, data), (1,), (128,)) == Done()
    assert np.array_equal(out, np.cumsum(data, dtype=np.uint32))


@every_build
def test_transpose(build: Build) -> None:
    data = np.arange(24 * 16, dtype=np.float32).reshape(16, 24)
    out = np.zeros((24, 16), np.float32)
    args = (out, data, np.uint32(24), np.uint32(16))
    assert launch(build, "shared", "transpose", args, (3, 2), (8, 8)) == Done()
    assert np.array_equal(out, data.T)


@every_build
def test_matmul(build: Build) -> None:
    chance = np.random.default_rng(2)
    a, b = (chance.integers(-50, 50, (16, 16)).astype(np.float32) for _ in range(2))
    out = np.zeros((16, 16), np.float32)
    args = (out, a, b, np.uint32(16))
    assert launch(build, "shared", "matmul", args, (2, 2), (8, 8)) == Done()
    assert np.array_equal(out, a @ b)  # whole numbers: exact in any order


@every_build
def test_histogram(build: Build) -> None:
    data = np.random.default_rng(3).integers(256, size=1000, dtype=np.uint8)
    bins = np.zeros(256, np.uint32)
    args = (bins, data, np.uint32(len(data)))
    assert launch(build, "shared", "histogram", args) == Done()
    assert np.array_equal(bins, np.bincount(data, minlength=256))


@every_build
def test_lds_widths(build: Build) -> None:
    v = integers(64, 4)
    items = np.arange(COUNT)
    theirs = items // 64 * 64 + 63 - items % 64  # the item whose bytes are read

    def read(v: int, i: int) -> list[int]:
        byte, short, t = v & 0xFF, v >> 8 & 0xFFFF, i % 64
        low, high = v & ONES, v >> 32
        return [
            byte + signed(byte, 8),
            short + signed(short, 16),
            v >> 16 & ONES,
            v * 3,
            (low + 2 * high + 3 * t + 4 * i) & ONES,
            (low * 5 + 2 * (high + 1) + 21 * t) & ONES,
            v ^ 1 ^ (v + 2) << 1,
        ]

    table = [[x % 2**64 for x in read(int(v[i]), int(i))] for i in theirs]
    expected = np.array(table, np.uint64).T
    assert_rows(rows(build, "shared", "lds_widths", (v,), expected), expected)


# --- memory


@every_build
def test_widths(build: Build) -> None:
    data = np.random.default_rng(5).integers(256, size=COUNT * 32, dtype=np.uint8)
    raw = data.tobytes()

    def number(at: int, size: int) -> int:
        return int.from_bytes(raw[at : at + size], "little")

    table = []
    for at in range(0, len(raw), 32):
        four = [number(at + 16 + 4 * k, 4) for k in range(4)]
        table.append(
            [
                raw[at + 1] + signed(raw[at + 2], 8),
                number(at + 2, 2) + signed(number(at + 4, 2), 16),
                number(at + 4, 4) + number(at + 8, 8),
                (four[0] + 2 * four[1] + 3 * four[2]) & ONES,
                (four[0] ^ four[1] << 1 ^ four[2] << 2 ^ four[3] << 3) & ONES,
                number(at + 1, 4),
            ]
        )
    expected = np.array([[v % 2**64 for v in row] for row in table], np.uint64).T
    assert_rows(rows(build, "memory", "widths", (data,), expected), expected)


@every_build
def test_store_widths(build: Build) -> None:
    v = integers(64, 6)
    out = np.full((COUNT, 64), 0xEE, np.uint8)
    assert launch(build, "memory", "store_widths", (out, v)) == Done()
    for i, value in enumerate(int(x) for x in v):
        expected = bytearray(b"\xee" * 64)
        expected[0], expected[1] = value & 0xFF, value >> 24 & 0xFF
        pieces = [(2, value >> 16, 2), (4, value, 4), (8, value, 8), (16, value, 4), (20, 2, 4)]
        pieces += [(24, 3, 4), (32, value, 4), (36, value >> 32, 4), (40, i, 4), (44, 4, 4)]
        pieces += [(48, value + 1, 8), (56, value + 2, 8)]
        for at, piece, size in pieces:
            expected[at : at + size] = (piece % 2 ** (8 * size)).to_bytes(size, "little")
        found = out[i].tobytes()
        found = found[:28] + bytes(expected[28:32]) + found[32:]  # the fourth of three: padding
        assert found == bytes(expected), i


@every_build
def test_any_space(build: Build) -> None:
    v = words(7)
    table = []
    for i, x in enumerate(int(value) for value in v):
        own = [k * x for k in range(8)]
        shared, first = x + 2, x + 1
        own[x % 8] += 3
        row = [first, shared, own[x % 8] + own[3], 2 * i + x]
        kind = i % 64 % 3
        row.append(own[1] if kind == 0 else shared if kind == 1 else first)
        if kind == 0:
            own[1] = 99
        elif kind == 1:
            shared = 99
        else:
            first = row[0] = 99
        row.append(own[1] + shared + first)
        table.append([value % 2**32 for value in row])
    expected = np.array(table, np.uint32).T
    assert_rows(rows(build, "memory", "any_space", (v,), expected), expected)


@pytest.mark.parametrize("stride", [5 << 32, -(3 << 32)])
@every_build
def test_far(build: Build, stride: int) -> None:
    memory, out = Arrays(), np.zeros(COUNT, np.uint32)
    base = 0x7800_0000_0000
    cells = [np.array([1000 * (k + 1)], np.uint32) for k in range(4)]
    for k, cell in enumerate(cells):
        memory.add(cell, base + k * stride)
    program = Program(build[0], f"memory-{build[1]}")
    args = memory.add(out), base, np.int64(stride // 4)
    launched = program.launch("far", (2,), (64,), memory, args)
    assert run(launched, memory, engine_for(build)) == Done()
    items = np.arange(COUNT)
    assert np.array_equal(out, 1000 * (items % 4 + 1) + items)


@every_build
def test_constants(build: Build) -> None:
    v, out = words(8), np.zeros(COUNT, np.uint32)
    assert launch(build, "memory", "constants", (out, v)) == Done()
    table = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3], np.uint32)
    assert np.array_equal(out, table[v & 15] * 10 + table[np.arange(COUNT) // 64])


@every_build
def test_structs_by_value(build: Build) -> None:
    kind = np.dtype([("a", "<u8"), ("b", "<u4", 5), ("c", "u1")], align=True)
    v, out = words(9), np.zeros(COUNT, kind)
    given = np.zeros((), kind)
    given["a"], given["b"], given["c"] = 1 << 40, [10, 20, 30, 40, 50], 200
    memory = Arrays()
    program = Program(build[0], f"memory-{build[1]}")
    args = memory.add(out), given, memory.add(v)
    launched = program.launch("structs", (2,), (64,), memory, args)
    assert run(launched, memory, engine_for(build)) == Done()
    for i, x in enumerate(int(value) for value in v):
        cells = [10, 20, 30, 40, 50]
        cells[x % 5] = i
        assert int(out[i]["a"]) == (1 << 40) + x
        assert out[i]["b"].tolist() == cells
        assert int(out[i]["c"]) == (200 + i) % 256


@every_build
def test_a_read_outside_faults_at_the_first_lanes_address(build: Build) -> None:
    memory, out, v = Arrays(), np.zeros(COUNT, np.uint32), words(10)
    at = memory.add(out), memory.add(v)
    program = Program(build[0], f"memory-{build[1]}")
    launched = program.launch("far", (2,), (64,), memory, (*at, np.int64(1 << 38)))
    outcome = run(launched, memory, engine_for(build))
    assert isinstance(outcome, Fault)
    assert (outcome.access, outcome.address) == ("read", at[1] + (1 << 40))
    lanes = sum(1 << k for k in range(launched.wave_size) if k % 4)
    assert outcome.lanes == lanes


# --- atomics


def folded(v: Words, start: int, step: Any) -> int:
    value = start
    for x in v.tolist():
        value = step(value, x)
    return value


@pytest.mark.parametrize("bits", [32, 64])
@every_build
def test_integer_atomics(build: Build, bits: int) -> None:
    v, top = integers(bits, 11), 1 << bits
    kind = v.dtype
    cells = np.zeros(16 + 2 * COUNT, kind)
    cells[2], cells[5], cells[10] = top - 1, top - 1, 40
    cells[16 + COUNT :] = np.where(np.arange(COUNT) % 2, v, v + kind.type(1))
    before = cells.copy()
    old = np.zeros(2 * COUNT, kind)
    name = {32: "atomics_int", 64: "atomics_long"}[bits]
    assert launch(build, "atomics", name, (cells, v, old)) == Done()

    def s(value: int) -> int:
        return signed(value, bits)

    steps = [
        lambda o, x: o + x,
        lambda o, x: o - x,
        lambda o, x: o & x,
        lambda o, x: o | x,
        lambda o, x: o ^ x,
        min,
        max,
        lambda o, x: min(s(o), s(x)),
        lambda o, x: max(s(o), s(x)),
        lambda o, x: 0 if o >= 99 else o + 1,
        lambda o, x: 99 if o == 0 or o > 99 else o - 1,
        lambda o, x: o + 1,
    ]
    expected = [folded(v, int(before[k]), step) % top for k, step in enumerate(steps)]
    assert cells[:12].tolist() == expected
    assert np.array_equal(cells[16 : 16 + COUNT], v)
    swapped = before[16 + COUNT :] == v
    both = np.where(swapped, v * kind.type(2), before[16 + COUNT :])
    assert np.array_equal(cells[16 + COUNT :], both)
    assert sorted(old[:COUNT].tolist()) == list(range(COUNT))
    assert np.array_equal(old[COUNT:], before[16 + COUNT :])


@every_build
def test_float_atomics(build: Build) -> None:
    v = np.random.default_rng(12).integers(-1000, 1000, COUNT).astype(np.float32)
    cells, wide = np.zeros(3, np.float32), np.zeros(3, np.float64)
    cells[1:], wide[1:] = [1e6, -1e6], [1e6, -1e6]
    assert launch(build, "atomics", "atomics_float", (cells, wide, v)) == Done()
    expected = [v.sum(), v.min(), v.max()]
    assert cells.tolist() == expected
    assert wide.tolist() == expected


@every_build
def test_lds_atomics(build: Build) -> None:
    v, out = words(13), np.zeros(64 + COUNT, np.uint32)
    assert launch(build, "atomics", "atomics_lds", (out, v)) == Done()
    for group in range(2):
        part = v[group * 64 : group * 64 + 64]

        def s(value: int) -> int:
            return signed(value, 32)

        cells = [k * 1000 for k in range(16)]
        steps = [
            lambda o, x: o + x,
            lambda o, x: o - x,
            lambda o, x: o & x,
            lambda o, x: o | x,
            lambda o, x: o ^ x,
            min,
            max,
            lambda o, x: min(s(o), s(x)),
            lambda o, x: max(s(o), s(x)),
            lambda o, x: o + 1,
            lambda o, x: 0 if o >= 50 else o + 1,
        ]
        for k, step in enumerate(steps):
            cells[k] = folded(part, cells[k], step) % 2**32
        cells[11] = 5
        wide = [
            folded(part, 0, lambda o, x: o + (x << 20)),
            folded(part, 1, lambda o, x: max(o, x << 8)),
            folded(part, 2, lambda o, x: o ^ (x << 30)),
            3,
        ]
        row = out[group * 32 : group * 32 + 32]
        assert row[:16].tolist() == cells
        assert row[16:24].view(np.uint64).tolist() == [w % 2**64 for w in wide]
        real = [np.float32((part & 255).sum()), part.astype(np.float32).max()]
        assert row[24:26].view(np.float32).tolist() == real
        old = out[64 + group * 64 : 128 + group * 64]
        assert sorted(old.tolist()) == list(range(9000, 9064))


@every_build
def test_generic_atomics(build: Build) -> None:
    v, out = words(14), np.zeros(3, np.uint32)
    assert launch(build, "atomics", "atomics_generic", (out, v)) == Done()
    odd = [int(v[g * 64 + 1 : g * 64 + 64 : 2].sum(dtype=np.uint32)) for g in range(2)]
    assert out.tolist() == [int(v[::2].sum(dtype=np.uint32)), *odd]


# --- control flow


def collatz(n: int, limit: int) -> int:
    steps = 0
    while n != 1 and steps != limit:
        n = 3 * n + 1 if n % 2 else n // 2
        steps += 1
    return steps


@every_build
def test_collatz(build: Build) -> None:
    v, out = words(15, 40) + np.uint32(1), np.zeros(COUNT, np.uint32)
    assert launch(build, "flow", "collatz", (out, v, np.uint32(25))) == Done()
    assert out.tolist() == [collatz(int(x), 25) for x in v]


def chosen(v: int) -> int:
    cases = {
        0: v + 1,
        1: v * v,
        2: v << 3,
        3: v << 3,
        4: v >> 2,
        5: ~v,
        7: v // 3,
        8: 12345,
    }
    return cases.get(v % 11, v - 7)


@every_build
def test_switch(build: Build) -> None:
    v, out = words(16), np.zeros(COUNT, np.uint32)
    assert launch(build, "flow", "choose", (out, v)) == Done()
    assert np.array_equal(out, each(lambda x: chosen(int(x)), v, dtype=np.uint32))


@every_build
def test_function_pointers(build: Build) -> None:
    v, out = words(17), np.zeros(COUNT, np.uint32)
    assert launch(build, "flow", "call_pointers", (out, v)) == Done()
    functions = [lambda x: 2 * x, lambda x: x * x, lambda x: x ^ 0xABCD]
    expected = each(lambda x: functions[int(x) % 3](int(x)) + 1, v, dtype=np.uint32)
    assert np.array_equal(out, expected)


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@every_build
def test_recursion(build: Build) -> None:
    v, out = words(18), np.zeros(COUNT, np.uint32)
    assert launch(build, "flow", "recurse", (out, v)) == Done()
    assert out.tolist() == [fibonacci(int(x) % 9) for x in v]


@every_build
def test_private_array(build: Build) -> None:
    v, out = words(19), np.zeros(COUNT, np.uint32)
    assert launch(build, "flow", "private_array", (out, v)) == Done()
    for i, x in enumerate(int(value) for value in v):
        at, total = x % 24, 0
        for _ in range(24):
            total = total * 31 + (x * (at + 1) & ONES) & ONES
            at = (at + 7) % 24
        assert int(out[i]) == total, i


@every_build
def test_spin_lock(build: Build) -> None:
    lock, total = np.zeros(1, np.uint32), np.ones(1, np.uint32)
    assert launch(build, "flow", "spin_lock", (lock, total), groups=(5,)) == Done()
    value = 1
    for _ in range(5):
        value = 3 * value + 1
    assert (int(lock[0]), int(total[0])) == (0, value)


def nested(v: int, n: int) -> int:
    total = 0
    for a in range(v % 7):
        for b in range(a, n):
            if a ^ b == v & 3:
                continue
            if b > v:
                return total
            total += a * b + 1
    return total


@every_build
def test_nested_loops(build: Build) -> None:
    v, out = words(20, 12), np.zeros(COUNT, np.uint32)
    assert launch(build, "flow", "nested", (out, v, np.uint32(9))) == Done()
    assert out.tolist() == [nested(int(x), 9) for x in v]
