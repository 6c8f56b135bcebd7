"""Compiled matrix and dot products against numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputrace.isa.machine import Done
from tests.isa.corpus import COUNT, assert_rows, every_build, few_builds, launch, rows
from tests.kernels.small_floats import encode

Build = tuple[str, ...]


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


# --- one tile of each type

TILES = {
    "gfx90a": ("16_f32", "32_f32", "16_f16", "32_f16", "16_bf16", "32_bf16", "16_i8", "32_i8",
               "16_f64"),
    "gfx942": ("16_f32", "32_f32", "16_f16", "32_f16", "16_bf16", "32_bf16", "16_i8", "32_i8",
               "16_f64", "16_fp8", "32_fp8", "16_bf8", "32_bf8_fp8", "16_xf32", "32_xf32"),
    "gfx950": ("16_f32", "32_f32", "16_f16", "32_f16", "16_bf16", "32_bf16", "16_i8", "32_i8",
               "16_f64", "16_fp8", "32_fp8", "16_bf8", "32_bf8_fp8", "16_long_f16", "32_long_f16",
               "16_long_bf16", "32_long_bf16", "16_long_i8", "32_long_i8", "16_long_fp8",
               "32_long_fp8"),
    "gfx1100": ("16_f16", "16_bf16", "16_f16_f16", "16_i8", "16_i4"),
    "gfx1201": ("16_f16", "16_bf16", "16_f16_f16", "16_i8", "16_i4", "16_long_i4", "16_fp8",
                "16_bf8", "16_bf8_fp8"),
}  # fmt: skip
DEPTHS = {
    "gfx90a": {"16_i8": 16, "32_i8": 8},
    "gfx942": {"16_i8": 32, "32_i8": 16, "16_fp8": 32, "16_bf8": 32, "16_xf32": 8, "32_xf32": 4},
    "gfx950": {"16_i8": 32, "32_i8": 16, "16_fp8": 32, "16_bf8": 32, "16_long_f16": 32,
               "16_long_bf16": 32, "16_long_i8": 64, "32_long_i8": 32, "16_long_fp8": 128,
               "32_long_fp8": 64},
    "gfx1201": {"16_long_i4": 32},
}
CDNA = {"16_f32": 4, "32_f32": 2, "32_f16": 8, "32_bf16": 8, "16_f64": 4}
OCP = ("fp8e4nv", "fp8e5")
EIGHT = {"gfx942": ("fp8e4b8", "fp8e5b16"), "gfx950": OCP, "gfx1201": OCP}
"""fp8 and bf8 of a target, by Triton's names."""


def encoded(target: str, kind: str, values: NDArray[Any]) -> bytes:
    """Return whole numbers from -8 to 7 as elements of a kind, side by side."""
    if kind in ("fp8", "bf8"):
        return encode(values, EIGHT[target][kind == "bf8"]).tobytes()
    if kind == "bf16":
        return encode(values, "bf16").tobytes()
    if kind == "i4":
        raw = (values & 15).astype(np.uint8).reshape(len(values), -1, 2)
        return (raw[:, :, 0] | raw[:, :, 1] << 4).astype(np.uint8).tobytes()
    types = {"f64": np.float64, "f32": np.float32, "xf32": np.float32, "f16": np.float16}
    return values.astype(types.get(kind, np.int8)).tobytes()


def depth_of(target: str, name: str) -> int:
    """Return how many products an element of the tile sums up."""
    if target.startswith("gfx9"):
        return DEPTHS[target].get(name, CDNA.get(name, 16))
    return DEPTHS.get(target, {}).get(name, 16)


def check_tile(build: Build, name: str) -> None:
    target, (size, first, *more) = build[0], name.replace("long_", "").split("_")
    second = more[0] if more and more[0] != "f16" else first
    edge, depth = int(size), depth_of(target, name)
    chance = np.random.default_rng(list(name.encode()))
    a, b = (chance.integers(-8, 8, (edge, depth)) for _ in range(2))
    kind = np.int32 if first in ("i8", "i4") else np.float64 if first == "f64" else np.float32
    c = chance.integers(-99, 99, (edge, edge)).astype(np.float16 if "f16" in more else kind)
    expected = c + (a @ b.T).astype(c.dtype)
    rows_of = [
        np.frombuffer(bytearray(encoded(target, one, values)), np.uint8)
        for one, values in ((first, a), (second, b))
    ]
    lanes = 64 if target.startswith("gfx9") else 32
    assert launch(build, "products", f"tile{name}", (c, *rows_of), (1,), (lanes,)) == Done()
    assert np.array_equal(c, expected), name


@few_builds(*TILES)
def test_tile_of_every_type(build: Build) -> None:
    for name in TILES[build[0]]:
        check_tile(build, name)
