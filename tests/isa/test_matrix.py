"""Matrix and dot products against plain sums, with the vendor's layouts written the other way."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gputrace.isa.decode import decoder
from gputrace.isa.instruction import Instruction
from gputrace.isa.semantics_dot import DOT
from gputrace.isa.semantics_matrix import MATRIX
from tests.isa.single import Bench, assemble, find

VECTORS = {"vdst": 0, "src0": 64, "src1": 80, "src2": 96}
MFMA = re.compile(
    r"v_(mfma|smfmac)_(f32|f64|i32)_(\d+)x\d+x(\d+)(?:_?(?:\d+b_)?)([a-z]+\d+)(?:_1k|_(..8))?"
)
EXACT = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "xf32": np.float32}
KINDS = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "f16": np.float16}


def cases(prefix: str, targets: Iterable[str]) -> list[tuple[str, str]]:
    return [
        (target, name)
        for target in targets
        for name in MATRIX.meanings
        if name.startswith(prefix) and "scale" not in name and "f8f6f4" not in name
        if find(decoder(target), name) is not None
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


def choose(chance: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return for each group of four rows of B which two count: (..., groups, 2)."""
    pairs = np.array([(a, b) for a in range(4) for b in range(4) if a < b])
    return pairs[chance.integers(len(pairs), size=shape)]


def spread(a: NDArray[Any], chosen: NDArray[Any]) -> NDArray[Any]:
    """Write the stored half of a sparse A (rows, groups * 2) out in full."""
    rows, groups = chosen.shape[:2]
    full = np.zeros((rows, 4 * groups), a.dtype)
    for i, g, t in np.ndindex(rows, groups, 2):
        full[i, 4 * g + chosen[i, g, t]] = a[i, 2 * g + t]
    return full


def fill_mfma(
    bench: Bench, name: str, made: Instruction, chance: np.random.Generator, set_number: int = 0
) -> tuple[NDArray[Any], ...]:
    """Fill A, B and C; return them as (blocks, rows, columns)."""
    found = MFMA.fullmatch(name)
    assert found is not None
    sparse, result, size, depth = found[1] == "smfmac", found[2], int(found[3]), int(found[4])
    width = {"f32": 32, "i32": 32, "f64": 64}[result]
    blocks = made.dst[0].count * 32 * 64 // (size * size * width)
    stored = depth // 2 if sparse else depth
    ocp = bench.target == "gfx950"
    a, raw_a, bits = draw(found[5], (blocks, size, stored), chance, ocp, True)
    b, raw_b, _ = draw(found[6] or found[5], (blocks, depth, size), chance, ocp, True)
    c = chance.integers(-50, 50, (blocks, size, size))
    for first, raw, length in ((64, raw_a, stored), (80, raw_b.swapaxes(1, 2), depth)):
        each = size * length * blocks // 64
        for block, i, k in np.ndindex(blocks, size, length):
            group, element = k // each, k % each
            if each == 32:  # two runs of 16 neighbours
                group, element = k // 16 % (64 // size), k // (16 * 64 // size) * 16 + k % 16
            lane = i + size * (block + blocks * group)
            put(bench, first, lane, element, bits, int(raw[block, i, k]))
    for block, i, j in np.ndindex(blocks, size, size):
        lane, number = place_of_result(size, result == "f64", i, j, block)
        raw = np.array(c[block, i, j]).astype(KINDS[result]).view(f"u{width // 8}")
        put(bench, 0 if sparse else 96, lane, number, width, int(raw))
    if sparse:
        chosen = choose(chance, (size, stored // 2))
        each = size * stored // 64
        for i, k in np.ndindex(size, stored):
            at = set_number * 2 * each + 2 * (k % each)
            row = int(chosen[i, k // 2, k % 2])
            bench.wave.vectors[96, i + size * (k // each)] |= np.uint32(row << at)
        a = spread(a[0], chosen)[None]
    return a, b, c


def check_mfma(bench: Bench, name: str, expected: NDArray[Any]) -> None:
    found = MFMA.fullmatch(name)
    assert found is not None
    result, size = found[2], int(found[3])
    width = 64 if result == "f64" else 32
    wanted = expected.astype(KINDS[result]).view(f"u{width // 8}")
    for block, i, j in np.ndindex(*expected.shape):
        lane, number = place_of_result(size, result == "f64", i, j, block)
        assert get(bench, 0, lane, number, width) == int(wanted[block, i, j]), (block, i, j)


@pytest.mark.parametrize(
    ("target", "name"),
    cases("v_mfma", ("gfx90a", "gfx942", "gfx950")) + cases("v_smfmac", ("gfx942", "gfx950")),
)
def test_mfma(target: str, name: str) -> None:
    made = assemble(target, name, vectors=VECTORS)
    assert made is not None
    bench, chance = Bench(target), np.random.default_rng(len(name))
    bench.set_mask(126, 0x5)  # matrix products ignore EXEC
    a, b, c = fill_mfma(bench, name, made, chance)
    bench.run(made)
    check_mfma(bench, name, a @ b + c)


@pytest.mark.parametrize(("cbsz", "abid"), [(0, 1), (0, 3), (2, 3)])
def test_sparse_products_have_several_sets_of_indices(cbsz: int, abid: int) -> None:
    name = "v_smfmac_f32_16x16x32_f16"
    made = assemble("gfx942", name, {"cbsz": cbsz, "abid": abid}, VECTORS)
    assert made is not None
    bench = Bench("gfx942")
    chance = np.random.default_rng(abid)
    a, b, c = fill_mfma(bench, name, made, chance, 0 if cbsz else abid)
    bench.run(made)
    check_mfma(bench, name, a @ b + c)


@pytest.mark.parametrize(("cbsz", "abid"), [(1, 0), (1, 1), (2, 2), (4, 13)])
def test_one_block_of_a_for_several(cbsz: int, abid: int) -> None:
    name = "v_mfma_f32_4x4x1_16b_f32"
    made = assemble("gfx942", name, {"cbsz": cbsz, "abid": abid}, VECTORS)
    assert made is not None
    bench = Bench("gfx942")
    a, b, c = fill_mfma(bench, name, made, np.random.default_rng(cbsz))
    bench.run(made)
    taken = [block >> cbsz << cbsz | abid for block in range(16)]
    check_mfma(bench, name, a[taken] @ b + c)


@pytest.mark.parametrize("blgp", range(8))
def test_lanes_of_b_are_shared(blgp: int) -> None:
    # With one row of B in each lane, the lane says block and column.
    name = "v_mfma_f32_4x4x1_16b_f32"
    made = assemble("gfx942", name, {"blgp": blgp}, VECTORS)
    assert made is not None
    bench = Bench("gfx942")
    a, b, c = fill_mfma(bench, name, made, np.random.default_rng(blgp))
    lanes = b.reshape(64)
    rows = [lanes[16 * k : 16 * k + 16] for k in range(4)]
    order = ("0123", "0101", "2323", "1230", "0000", "1111", "2222", "3333")[blgp]
    taken = np.concatenate([rows[int(k)] for k in order]).reshape(16, 1, 4)
    bench.run(made)
    check_mfma(bench, name, a @ taken + c)


@pytest.mark.parametrize("signs", range(8))
def test_signs_of_doubles(signs: int) -> None:
    name = "v_mfma_f64_16x16x4_f64"
    made = assemble("gfx942", name, {"blgp": signs}, VECTORS)
    assert made is not None
    bench = Bench("gfx942")
    a, b, c = fill_mfma(bench, name, made, np.random.default_rng(signs))
    bench.run(made)
    sign = [-1 if signs >> k & 1 else 1 for k in range(3)]
    check_mfma(bench, name, sign[0] * a @ (sign[1] * b) + sign[2] * c)


# --- WMMA and SWMMAC


def dense(wave: int, bits: int, depth: int, k: int) -> tuple[int, int]:
    """Return (bit in the lane's registers, lane of row 0) of element k on gfx12."""
    if wave == 32:
        register = {16: 2 * (k // 8) + k // 2 % 2, 8: k // 4 % 2, 4: k // 8 % 2}[bits]
        lane = {16: k // 4 % 2, 8: k // 8, 4: k // (16 if depth == 32 else 8)}[bits] * 16
        if bits == 4 and depth == 16:
            register = 0
    else:
        register = k // 2 % 2 if bits == 16 else 0
        lane = {
            16: 32 * (k // 8 % 2) + 16 * (k // 4 % 2),
            8: 32 * (k // 4 % 2) + 16 * (k // 8 % 2),
            4: 32 * (k // 8 % 2) + 16 * (k // 16 % 2) if depth == 32 else 16 * (k // 8),
        }[bits]
    return 32 * register + bits * (k % (32 // bits)), lane


def sparse_lane(wave: int, bits: int, depth: int, k: int, stored: bool) -> int:
    if wave == 32:
        step = {16: 8, 8: 16, 4: 16 if depth == 32 else 32}[bits]
        return 16 * (k // step % 2)
    if bits == 16:
        return 16 * (k // 8)
    if bits == 4 and depth == 64:
        return 32 * (k // 16 % 2) + 16 * (k // 32)
    if bits == 4 and stored:
        return 16 * (k // 16)
    return 32 * (k // 8 % 2) + 16 * (k // 16)


def sparse_b(wave: int, bits: int, depth: int, k: int) -> tuple[int, int]:
    """Return (bit, lane of column 0) of a row of B in a sparse product of gfx12."""
    if bits == 16:
        register = 4 * (k // 16) + k // 2 % 4 if wave == 32 else k // 2 % 4
    elif bits == 8:
        register = k // 4 % (4 if wave == 32 else 2)
    else:
        many = (4 if depth == 64 else 2) if wave == 32 else (2 if depth == 64 else 1)
        register = k // 8 % many
    at = 32 * register + bits * (k % (32 // bits))
    return at, sparse_lane(wave, bits, depth, k, stored=False)


def sparse_a(wave: int, bits: int, depth: int, k: int, t: int) -> tuple[int, int, int]:
    """Return (bit, lane of row 0, bit of the index) of what is stored of the four from k on."""
    register = 0
    if bits == 16:
        register = 2 * (k // 16) + k // 4 % 2 if wave == 32 else k // 4 % 2
    elif wave == 32 and bits == 8:
        register = k // 8 % 2
    elif wave == 32 and depth == 64:
        register = k // 16 % 2
    inside = 0 if bits == 16 else 2 * bits * (k // 4 % (16 // bits))
    if wave == 32:
        index = 8 * (k // 16) + 4 * (k // 4 % 2) if bits == 16 else 4 * (k // 4 % (depth // 8))
    else:
        index = 4 * (k // 4 % (2 if bits > 4 else 4))
    lane = sparse_lane(wave, bits, depth, k, stored=True)
    return 32 * register + inside + bits * t, lane, index + 2 * t


def result_place(wave: int, gfx12: bool, narrow: bool, i: int, j: int) -> tuple[int, int]:
    """Return (lane, number of the result counted in its own width) of D[i][j]."""
    if gfx12 and wave == 32:
        return j + 16 * (i // 8), i % 8
    if gfx12:
        return j + 32 * (i // 4 % 2) + 16 * (i // 8), i % 4
    rows = wave // 16
    lane, number = j + 16 * (i % rows), i // rows
    return lane, 2 * number if narrow else number  # the low half of each register


def pattern(result: str, value: float) -> int:
    if result == "bf16":
        whole = int(np.float32(value).view(np.uint32))
        return whole + 0x7FFF + (whole >> 16 & 1) >> 16
    kind = KINDS[result]
    return int(np.array(value).astype(kind).view(f"u{np.dtype(kind).itemsize}"))


WMMA = re.compile(r"v_(wmma|swmmac)_([a-z]+\d+)_16x16x(\d+)_([a-z]+\d+?)(?:_(..8))?")


@pytest.mark.parametrize("signed", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("wave", [32, 64])
@pytest.mark.parametrize(
    ("target", "name"), cases("v_wmma", ("gfx1100", "gfx1201")) + cases("v_swmmac", ("gfx1201",))
)
def test_wmma(target: str, name: str, wave: int, signed: tuple[bool, bool]) -> None:
    found = WMMA.fullmatch(name)
    assert found is not None
    sparse, result, depth = found[1] == "swmmac", found[2], int(found[3])
    kinds = found[4], found[5] or found[4]
    if signed[0] and not kinds[0].startswith("iu"):
        return
    gfx12 = target == "gfx1201"
    fixed = {"op_sel_hi": 3, "op_sel_hi2": 1, "neg": sum(bit << k for k, bit in enumerate(signed))}
    made = assemble(target, name, fixed, VECTORS)
    assert made is not None
    bench, chance = Bench(target, lanes=wave), np.random.default_rng(len(name))
    stored = depth // 2 if sparse else depth
    a, raw_a, bits = draw(kinds[0], (16, stored), chance, True, signed[0])
    b, raw_b, _ = draw(kinds[1], (depth, 16), chance, True, signed[1])
    c = chance.integers(-40, 40, (16, 16))
    repeats = [0] if gfx12 else range(0, wave, 16)

    def fill(first: int, raw: int, row: int, at: int, lane: int) -> None:
        for more in repeats:
            put(bench, first, lane + row + more, at // bits, bits, raw)

    for j, k in np.ndindex(16, depth):
        if sparse:
            at, lane = sparse_b(wave, bits, depth, k)
        else:
            at, lane = dense(wave, bits, depth, k) if gfx12 else (bits * k, 0)
            fill(64, int(raw_a[j, k]), j, at, lane)
        fill(80, int(raw_b[k, j]), j, at, lane)
    if sparse:
        chosen = choose(chance, (16, stored // 2))
        for i, g, t in np.ndindex(16, stored // 2, 2):
            at, lane, index = sparse_a(wave, bits, depth, 4 * g, t)
            fill(64, int(raw_a[i, 2 * g + t]), i, at, lane)
            bench.wave.vectors[96, i + lane] |= np.uint32(int(chosen[i, g, t]) << index)
        a = spread(a, chosen)
    narrow = result in ("f16", "bf16")
    width = 16 if narrow else 32
    for i, j in np.ndindex(16, 16):
        lane, number = result_place(wave, gfx12, narrow, i, j)
        put(bench, 0 if sparse else 96, lane, number, width, pattern(result, c[i, j]))
    bench.run(made)
    expected = a @ b + c
    for i, j in np.ndindex(16, 16):
        lane, number = result_place(wave, gfx12, narrow, i, j)
        wanted = pattern(result, expected[i, j])
        assert get(bench, 0, lane, number, width) == wanted, (i, j)


def one_product(
    name: str, extra: dict[str, int], c: int, kind: Callable[[float], int]
) -> list[int]:
    """Multiply matrices of ones (3 in even columns of A) and return D's first register."""
    made = assemble("gfx1100", name, {"op_sel_hi": 3, "op_sel_hi2": 1} | extra, VECTORS)
    assert made is not None
    bench = Bench("gfx1100")
    bench.wave.vectors[64:72] = kind(3.0) | kind(1.0) << 16
    bench.wave.vectors[80:88] = kind(1.0) | kind(1.0) << 16
    bench.wave.vectors[96:104] = c
    bench.run(made)
    return bench.wave.vectors[0].tolist()


@pytest.mark.parametrize(
    ("extra", "expected"),
    [({}, 34.0), ({"neg": 1}, -14.0), ({"neg_hi": 1}, 18.0), ({"neg": 3, "neg_hi": 3}, 34.0),
     ({"neg": 4}, 30.0), ({"neg_hi": 4}, 34.0), ({"neg": 1, "neg_hi": 5}, -30.0)],
)  # fmt: skip
def test_signs_of_wmma(extra: dict[str, int], expected: float) -> None:
    # 8 * 3 + 8 * 1 + 2, with signs of even and odd elements of A, of B, and of C
    found = one_product(
        "v_wmma_f32_16x16x16_f16", extra, int(np.float32(2).view(np.uint32)),
        lambda value: int(np.float16(value).view(np.uint16)),
    )  # fmt: skip
    assert set(found) == {int(np.float32(expected).view(np.uint32))}


def test_halves_of_wmma_that_are_not_results_stay() -> None:
    made = assemble("gfx1100", "v_wmma_f16_16x16x16_f16", {"op_sel": 4, "op_sel_hi": 3}, VECTORS)
    assert made is not None
    bench = Bench("gfx1100")
    bench.wave.vectors[0:8] = 0x1234
    bench.wave.vectors[64:72] = bench.wave.vectors[80:88] = 0x3C003C00
    bench.wave.vectors[96:104] = 0x40000000  # 2 in the upper half
    bench.run(made)
    assert set(bench.wave.vectors[0:8].ravel().tolist()) == {0x4C801234}  # 18


@pytest.mark.parametrize(("clamp", "expected"), [(0, -0x80000000 + 127 * 16 - 1), (1, 2**31 - 1)])
def test_integers_wrap_or_are_held(clamp: int, expected: int) -> None:
    extra = {"op_sel_hi": 3, "op_sel_hi2": 1, "neg": 3, "clamp": clamp}
    made = assemble("gfx1201", "v_wmma_i32_16x16x16_iu8", extra, VECTORS)
    assert made is not None
    bench = Bench("gfx1201")
    bench.wave.vectors[64:66], bench.wave.vectors[80:82] = 0x7F7F7F7F, 0x01010101
    bench.wave.vectors[96:104] = 0x7FFFFFFF
    bench.run(made)
    assert set(bench.wave.vectors[0].tolist()) == {expected & 0xFFFFFFFF}


# --- dot products

DOTS = {
    "v_dot2_f32_f16": ("f16", "f16", 2),
    "v_dot2_f32_bf16": ("bf16", "bf16", 2),
    "v_dot2c_f32_f16": ("f16", "f16", 2),
    "v_dot2c_f32_bf16": ("bf16", "bf16", 2),
    "v_dot2acc_f32_f16": ("f16", "f16", 2),
    "v_dot2_f16_f16": ("f16", "f16", 2),
    "v_dot2_bf16_bf16": ("bf16", "bf16", 2),
    "v_dot2_i32_i16": ("i16", "i16", 2),
    "v_dot2c_i32_i16": ("i16", "i16", 2),
    "v_dot2_u32_u16": ("u16", "u16", 2),
    "v_dot4_i32_i8": ("i8", "i8", 4),
    "v_dot4c_i32_i8": ("i8", "i8", 4),
    "v_dot4_u32_u8": ("u8", "u8", 4),
    "v_dot4_i32_iu8": ("u8", "u8", 4),
    "v_dot8_i32_i4": ("i4", "i4", 8),
    "v_dot8c_i32_i4": ("i4", "i4", 8),
    "v_dot8_u32_u4": ("u4", "u4", 8),
    "v_dot8_i32_iu4": ("u4", "u4", 8),
    **{f"v_dot4_f32_{a}_{b}": (a, b, 4) for a in ("fp8", "bf8") for b in ("fp8", "bf8")},
}
EVERYWHERE = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")


def test_every_dot_product_is_here() -> None:
    alone = {"v_dot2acc_f32_bf16"}  # half of a dual instruction
    assert set(DOT.meanings) - alone == set(DOTS)


@pytest.mark.parametrize("target", EVERYWHERE)
@pytest.mark.parametrize("name", DOTS)
def test_dot_products(target: str, name: str) -> None:
    place = find(decoder(target), name)
    if place is None:
        pytest.skip(f"{target} has no {name}")
    fixed = {"op_sel_hi": 3, "op_sel_hi2": 1} if place[0] == "VOP3P" else {}
    made = assemble(target, name, fixed)
    assert made is not None
    first, second, count = DOTS[name]
    bench, chance = Bench(target), np.random.default_rng(len(name))
    signed = first.startswith("i")
    if first in ("i16", "u16"):
        raw_a, raw_b = chance.integers(1 << 14, size=(2, bench.lanes, 2))
        a, b, bits = raw_a, raw_b, 16
    else:
        a, raw_a, bits = draw(first, (bench.lanes, count), chance, True, signed)
        b, raw_b, _ = draw(second, (bench.lanes, count), chance, True, signed)
    result = name.split("_")[2]
    c = chance.integers(0, 100, bench.lanes)
    for lane, number in np.ndindex(bench.lanes, count):
        put(bench, 16, lane, number, bits, int(raw_a[lane, number]))
        put(bench, 32, lane, number, bits, int(raw_b[lane, number]))

    def register(value: Any) -> int:
        return int(value) & 0xFFFFFFFF if result[0] in "iu" else pattern(result, value)

    bench.wave.vectors[48 if len(made.src) > 2 else 4, :] = [register(value) for value in c]
    bench.run(made)
    total = (a * b).sum(axis=1) + c
    mask = 0xFFFF if result in ("f16", "bf16") else 0xFFFFFFFF
    found = [word & mask for word in bench.wave.vectors[4].tolist()]
    assert found == [register(value) for value in total]
