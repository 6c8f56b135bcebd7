"""Compiled matrix and dot products against numpy."""

import numpy as np

from gputrace.isa.machine import Done
from tests.isa.corpus import COUNT, assert_rows, every_build, launch, rows

Build = tuple[str, str]


@every_build
def test_tiles(build: Build) -> None:
    chance = np.random.default_rng(1)
    a, b = (chance.integers(-6, 7, (32, 32)).astype(np.float16) for _ in range(2))
    out = np.zeros((32, 32), np.float32)
    size = 64 if build[0].startswith("gfx9") else 32
    args = (out, a, np.ascontiguousarray(b.T), np.uint32(32))
    assert launch(build, "matrix", "tiles", args, (2, 2), (size,)) == Done()
    assert np.array_equal(out, a.astype(np.float32) @ b.astype(np.float32))


def parts(word: int, bits: int, signed: bool) -> list[int]:
    found = [word >> at & ((1 << bits) - 1) for at in range(0, 32, bits)]
    return [v - (v >> (bits - 1) << bits) if signed else v for v in found]


def dot(x: int, y: int, bits: int, signed: bool) -> int:
    return sum(p * q for p, q in zip(parts(x, bits, signed), parts(y, bits, signed), strict=True))


@every_build
def test_dots(build: Build) -> None:
    chance = np.random.default_rng(2)
    a, b = (chance.integers(2**32, size=COUNT, dtype=np.uint32) for _ in range(2))
    table = [
        [dot(int(x), int(y), bits, signed) + i for i, (x, y) in enumerate(zip(a, b, strict=True))]
        for bits, signed in ((8, True), (4, True), (8, False), (4, False))
    ]
    expected = np.array(table, np.int64).astype(np.int32)
    assert_rows(rows(build, "matrix", "dots", (a, b), expected), expected)
