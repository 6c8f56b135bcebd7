"""Matrix and dot products against plain sums, with the vendor's layouts written the other way."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gputrace.isa.semantics_matrix import MATRIX
from tests.isa.single import Bench, assemble

VECTORS = {"vdst": 0, "src0": 64, "src1": 80, "src2": 96}
MFMA = re.compile(r"v_mfma_(f32|f64|i32)_(\d+)x\d+x(\d+)(?:_?(?:\d+b_)?)([a-z]+\d+)(?:_1k|_(..8))?")
EXACT = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def cases(prefix: str, targets: Iterable[str]) -> list[tuple[str, str]]:
    return [
        (target, name)
        for target in targets
        for name in MATRIX.meanings
        if name.startswith(prefix) and assemble(target, name, vectors=VECTORS) is not None
    ]


def small_float(byte: int, exponent_bits: int, bias: int) -> float:
    """Read an eight-bit float that is no special value."""
    fraction_bits = 7 - exponent_bits
    exponent = byte >> fraction_bits & ((1 << exponent_bits) - 1)
    fraction = (byte & ((1 << fraction_bits) - 1)) / (1 << fraction_bits)
    size = (1 + fraction) * 2.0 ** (exponent - bias) if exponent else fraction * 2.0 ** (1 - bias)
    return -size if byte & 0x80 else size


def shape_of_small(kind: str, ocp: bool) -> tuple[int, int]:
    if kind == "fp8":
        return 4, 7 if ocp else 8
    return 5, 15 if ocp else 16


def draw(
    kind: str, shape: tuple[int, ...], chance: np.random.Generator, ocp: bool, signed: bool
) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Return (values, bit patterns, width) of elements whose sums are exact."""
    if kind in ("i8", "iu8", "iu4", "i4", "u4", "u8"):
        width = int(kind[-1])
        raw = chance.integers(1 << width, size=shape)
        values = np.where(raw >> (width - 1), raw - (1 << width), raw) if signed else raw
        return values, raw, width
    if kind in ("fp8", "bf8"):
        exponent_bits, bias = shape_of_small(kind, ocp)
        # exponents around one, so that sums of products fit into a single
        middle = bias << (7 - exponent_bits)
        raw = chance.integers(middle - 8, middle + 8, size=shape)
        raw = raw | chance.integers(2, size=shape) << 7
        decode = np.vectorize(lambda byte: small_float(int(byte), exponent_bits, bias))
        return decode(raw), raw, 8
    values = chance.integers(-9, 10, size=shape).astype(np.float64)
    if kind == "bf16":
        return values, values.astype(np.float32).view(np.uint32) >> 16, 16
    made = values.astype(EXACT[kind])
    return values, made.view(f"u{made.dtype.itemsize}"), 8 * made.dtype.itemsize


def put(bench: Bench, first: int, lane: int, element: int, width: int, raw: int) -> None:
    """Write one element of a lane into registers that were zero."""
    at = element * width
    for k in range(max(1, width // 32)):
        word = raw >> 32 * k & 0xFFFFFFFF
        bench.wave.vectors[first + at // 32 + k, lane] |= np.uint32(word << at % 32)


def get(bench: Bench, first: int, lane: int, element: int, width: int) -> int:
    at = element * width
    if width == 64:
        low, high = (int(bench.wave.vectors[first + at // 32 + k, lane]) for k in (0, 1))
        return low | high << 32
    return int(bench.wave.vectors[first + at // 32, lane]) >> at % 32 & ((1 << width) - 1)


def place_of_result(size: int, f64: bool, i: int, j: int, block: int) -> tuple[int, int]:
    """Return (lane, result number) of D[i][j], as AMD's matrix instruction calculator prints it."""
    if size == 4:
        return (j + 4 * block + 16 * i, 0) if f64 else (j + 4 * block, i)
    if f64:
        return j + 16 * (i % 4), i // 4
    if size == 16:
        return j + 16 * (i // 4), 4 * block + i % 4
    return j + 32 * (i // 4 % 2), 16 * block + 4 * (i // 8) + i % 4


@pytest.mark.parametrize(("target", "name"), cases("v_mfma", ("gfx90a", "gfx942")))
def test_mfma(target: str, name: str) -> None:
    found = MFMA.fullmatch(name)
    assert found is not None
    result, size, depth, kinds = found[1], int(found[2]), int(found[3]), (found[4], found[5])
    made = assemble(target, name, vectors=VECTORS)
    assert made is not None
    width = {"f32": 32, "i32": 32, "f64": 64}[result]
    blocks = made.dst[0].count * 32 * 64 // (size * size * width)
    chance = np.random.default_rng(len(name))
    bench = Bench(target)
    bench.set_mask(126, 0x5)  # matrix products ignore EXEC
    a, raw_a, bits = draw(kinds[0], (blocks, size, depth), chance, False, True)
    b, raw_b, _ = draw(kinds[1] or kinds[0], (blocks, depth, size), chance, False, True)
    c = chance.integers(-50, 50, (blocks, size, size))
    each = size * depth * blocks // 64
    kind = {"f32": np.float32, "f64": np.float64, "i32": np.int32}[result]
    for block, i, k in np.ndindex(blocks, size, depth):
        lane = i + size * (block + blocks * (k // each))
        put(bench, 64, lane, k % each, bits, int(raw_a[block, i, k]))
        put(bench, 80, lane, k % each, bits, int(raw_b[block, k, i]))
    for block, i, j in np.ndindex(blocks, size, size):
        lane, number = place_of_result(size, result == "f64", i, j, block)
        raw = np.array(c[block, i, j]).astype(kind).view(f"u{width // 8}")
        put(bench, 96, lane, number, width, int(raw))
    bench.run(made)
    expected = (a @ b + c).astype(kind).view(f"u{width // 8}")
    for block, i, j in np.ndindex(blocks, size, size):
        lane, number = place_of_result(size, result == "f64", i, j, block)
        assert get(bench, 0, lane, number, width) == int(expected[block, i, j]), (block, i, j)


def wmma_result(wide: bool, gfx12: bool, i: int, j: int) -> tuple[int, int]:
    """Return (lane, number of the result counted in its own width) of D[i][j]."""
    if gfx12:
        return j + 16 * (i // 8), i % 8
    lane, number = j + 16 * (i % 2), i // 2
    return lane, number if wide else 2 * number  # the low half of each register


@pytest.mark.parametrize("signed", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("target", "name"), cases("v_wmma", ("gfx1100", "gfx1201")))
def test_wmma(target: str, name: str, signed: tuple[bool, bool]) -> None:
    found = re.fullmatch(r"v_wmma_([a-z]+\d+)_16x16x(\d+)_([a-z]+\d+?)(?:_(..8))?", name)
    assert found is not None
    result, depth, kinds = found[1], int(found[2]), (found[3], found[4] or found[3])
    if signed[0] and not kinds[0].startswith("iu"):
        return
    signs = sum(bit << k for k, bit in enumerate(signed))
    gfx12 = target == "gfx1201"
    fixed = {"op_sel_hi": 3, "op_sel_hi2": 1, "neg": signs}
    made = assemble(target, name, fixed, VECTORS)
    assert made is not None
    chance = np.random.default_rng(len(name))
    bench = Bench(target)
    a, raw_a, bits = draw(kinds[0], (16, depth), chance, True, signed[0])
    b, raw_b, _ = draw(kinds[1], (depth, 16), chance, True, signed[1])
    c = chance.integers(-40, 40, (16, 16))
    each = made.src[0].count * 32 // bits
    for i, k in np.ndindex(16, depth):
        lanes = (i + 16 * (k // each),) if each < depth else (i, i + 16)
        for lane in lanes:
            put(bench, 64, lane, k % each, bits, int(raw_a[i, k]))
            put(bench, 80, lane, k % each, bits, int(raw_b[k, i]))
    narrow = result in ("f16", "bf16")
    width = 16 if narrow else 32

    def pattern(value: float) -> int:
        if result == "bf16":
            whole = int(np.float32(value).view(np.uint32))
            return whole + 0x7FFF + (whole >> 16 & 1) >> 16
        kind = {"f16": np.float16, "f32": np.float32, "i32": np.int32}[result]
        return int(np.array(value).astype(kind).view(f"u{width // 8}"))

    for i, j in np.ndindex(16, 16):
        lane, number = wmma_result(not narrow, gfx12, i, j)
        put(bench, 96, lane, number, width, pattern(c[i, j]))
    bench.run(made)
    expected = a @ b + c
    for i, j in np.ndindex(16, 16):
        lane, number = wmma_result(not narrow, gfx12, i, j)
        assert get(bench, 0, lane, number, width) == pattern(expected[i, j]), (i, j)


DOTS = {
    "v_dot2_f32_f16": ("f16", "f16", 2),
    "v_dot2_f32_bf16": ("bf16", "bf16", 2),
    "v_dot4_i32_i8": ("i8", "i8", 4),
    "v_dot4_u32_u8": ("u8", "u8", 4),
    "v_dot8_i32_i4": ("i4", "i4", 8),
    "v_dot8_u32_u4": ("u4", "u4", 8),
}


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201"])
@pytest.mark.parametrize("name", DOTS)
def test_dot_products(target: str, name: str) -> None:
    made = assemble(target, name, {"op_sel_hi": 3, "op_sel_hi2": 1})
    if made is None:
        pytest.skip(f"{target} has no {name}")
    kind, _, count = DOTS[name]
    bench, chance = Bench(target), np.random.default_rng(len(name))
    signed = kind.startswith("i")
    a, raw_a, bits = draw(kind, (bench.lanes, count), chance, False, signed)
    b, raw_b, _ = draw(kind, (bench.lanes, count), chance, False, signed)
    c = chance.integers(0, 1000, bench.lanes)
    real = "f32" in name
    for lane, number in np.ndindex(bench.lanes, count):
        put(bench, 16, lane, number, bits, int(raw_a[lane, number]))
        put(bench, 32, lane, number, bits, int(raw_b[lane, number]))
    start = c.astype(np.float32).view(np.uint32) if real else c.astype(np.uint32)
    bench.wave.vectors[48, :] = start
    bench.run(made)
    total = (a * b).sum(axis=1) + c
    wanted = total.astype(np.float32).view(np.uint32) if real else total.astype(np.int64)
    assert np.array_equal(bench.wave.vectors[4], wanted.astype(np.uint32))
