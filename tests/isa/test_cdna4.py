"""What gfx950 has beside conversions: products of mixed formats with scales, turned loads, swaps.

Products are held against sums of fractions, whose numbers are chosen so that they are exact.
"""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from gputrace.isa import state
from gputrace.isa.decode import decoder
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.semantics import trace_instruction
from gputrace.isa.trace import NotModelled
from gputrace.isa.waves import Group
from tests.isa.single import Bench, assemble
from tests.isa.steps import encode, run_both
from tests.isa.test_scaled import FORMATS, Registers, read

TARGET = "gfx950"
SHAPES = ((16, 128), (32, 64))
TURNED = {"ds_read_b64_tr_b16": 16, "ds_read_b64_tr_b8": 8, "ds_read_b64_tr_b4": 4,
          "ds_read_b96_tr_b6": 6}  # fmt: skip
NAMES = frozenset(
    {f"v_mfma_{scale}f32_{size}x{size}x{depth}_f8f6f4"
     for size, depth in SHAPES for scale in ("", "scale_")}
    | {*TURNED, "v_bitop3_b32", "v_bitop3_b16", "v_permlane16_swap_b32", "v_permlane32_swap_b32",
       "v_mfma_ld_scale_b32"}
)  # fmt: skip
KINDS = ("fp8", "bf8", "fp6", "bf6", "fp4")
PLACES = {"vdst": 0, "src0": 64, "src1": 80, "src2": 96, "scale0": 120, "scale1": 121}


# --- products of eight, six and four bits


def place(size: int, depth: int, kind: str, k: int) -> tuple[int, int]:
    """Return (element, lane of row 0): with eight bits two runs of 16, else 32 neighbours."""
    groups = 64 // size
    if kind in ("fp8", "bf8"):
        return k // (16 * groups) * 16 + k % 16, size * (k // 16 % groups)
    return k % 32, size * (k // 32)


def row_of_result(size: int, i: int) -> tuple[int, int]:
    """Return (register, lane of column 0), as AMD's matrix instruction calculator prints it."""
    return (i % 4, 16 * (i // 4)) if size == 16 else (4 * (i // 8) + i % 4, 32 * (i // 4 % 2))


@cache
def near_one(kind: str) -> list[int]:
    """Return the patterns of numbers from 1/2 to 4, and zero: their sums stay exact."""
    raw = range(1 << FORMATS[kind].bits)
    sizes = {n: read(kind, n)[1] for n in raw}
    return [n for n, s in sizes.items() if isinstance(s, Fraction) and (s == 0 or 0.5 <= s < 4)]


def factor(
    registers: Registers, first: int, kind: str, shape: tuple[int, int], chance: np.random.Generator
) -> NDArray[np.float64]:
    """Fill A or B by rows (columns) of `shape`; return the values."""
    size, depth = shape
    values = np.zeros(shape)
    for i, k in np.ndindex(size, depth):
        raw = int(chance.choice(near_one(kind)))
        element, lane = place(size, depth, kind, k)
        registers.put(first, lane + i, FORMATS[kind].bits, element, raw)
        negative, found = read(kind, raw)
        values[i, k] = -float(found) if negative else float(found)
    return values


def scales(
    bench: Bench, register: int, shape: tuple[int, int], byte: int, chance: np.random.Generator
) -> NDArray[np.float64]:
    """Fill scales of four bytes a lane; return those that count, one for each k."""
    powers = chance.integers(125, 130, size=(4, 64))
    bench.wave.vectors[register] = sum(powers[n] << 8 * n for n in range(4))
    size, depth = shape
    rows, blocks = np.indices((size, depth // 32))
    return np.repeat(2.0 ** (powers[byte][rows + size * blocks] - 127), 32, axis=1)


MIXTURES = [(a, (a + b) % 5) for a in range(5) for b in (0, 1, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("a", "b"), MIXTURES)
@pytest.mark.parametrize("scaled", [False, True])
def test_mixed_products(shape: tuple[int, int], a: int, b: int, scaled: bool) -> None:
    size, depth = shape
    name = f"v_mfma_{'scale_' if scaled else ''}f32_{size}x{size}x{depth}_f8f6f4"
    chance = np.random.default_rng(10 * a + b)
    fields = {"cbsz": a, "blgp": b} if scaled else {"neg_hi": a, "neg": b}
    byte_a, byte_b = (a + b) % 4, (2 * a + b) % 4
    if scaled:
        fields |= {"sel": byte_a & 1 | (byte_b & 1) << 1, "sel_hi": byte_a >> 1 | byte_b & 2}
    made = assemble(TARGET, name, fields, PLACES)
    assert made is not None
    assert (made.cbsz, made.blgp, made.encoding) == (a, b, "VOP3PX2" if scaled else "MAI")
    bench = Bench(TARGET)
    registers = Registers(bench)
    left = factor(registers, 64, KINDS[a], shape, chance)
    right = factor(registers, 80, KINDS[b], shape, chance)
    if scaled:
        left = left * scales(bench, 120, shape, byte_a, chance)
        right = right * scales(bench, 121, shape, byte_b, chance)
    addend = chance.integers(-40, 40, size=(size, size)).astype(np.float32)
    for i in range(size):
        register, lane = row_of_result(size, i)
        bench.wave.vectors[96 + register, lane : lane + size] = addend[i].view(np.uint32)
    bench.run(made)
    wanted = (left @ right.T + addend).astype(np.float32)
    for i in range(size):
        register, lane = row_of_result(size, i)
        got = bench.wave.vectors[register, lane : lane + size].view(np.float32)
        assert np.array_equal(got, wanted[i]), i


@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_products_are_the_same_compiled(shape: tuple[int, int]) -> None:
    """Pairs of formats, all of them in one shape or the other, with random bits in both engines."""
    size, depth = shape
    name = f"v_mfma_scale_f32_{size}x{size}x{depth}_f8f6f4"
    random = np.random.default_rng(size).integers(1 << 32, size=(128, 64), dtype=np.uint32)
    random[120:122] = 0x7F7E8081  # scales near one, so that most results are finite
    random[120, 5] = 0xFF00FEFF
    code: list[int] = []
    pairs = [(a, b) for a in range(5) for b in range(5) if ((a + b) % 2 == 0) == (size == 16)]
    for number, (a, b) in enumerate(pairs):
        where = {"src0": 256 + 64, "src1": 256 + 80, "src2": 256, "scale0": 376, "scale1": 377}
        code += encode(TARGET, name, **where, vdst=0, cbsz=a, blgp=b, sel=number & 3)
    code += encode(TARGET, "s_endpgm")

    def setup(group: Group) -> None:
        group.waves[0].vectors[:128] = random

    run_both(TARGET, code, setup)


def test_a_scale_that_is_no_number_makes_its_row_none() -> None:
    made = assemble(TARGET, "v_mfma_scale_f32_16x16x128_f8f6f4", {}, PLACES)
    assert made is not None
    bench = Bench(TARGET)
    bench.wave.vectors[120:122] = 0x7F
    bench.wave.vectors[120, 3 + 16] = 0xFF  # row 3, the second 32 of k
    bench.run(made)
    results = np.concatenate(
        [bench.wave.vectors[i % 4, 16 * (i // 4) :][:16].view(np.float32) for i in range(16)]
    ).reshape(16, 16)
    assert np.isnan(results[3]).all()
    assert not np.isnan(np.delete(results, 3, axis=0)).any()


def test_scales_without_a_product_and_formats_without_a_name_are_refused() -> None:
    bench = Bench(TARGET)
    lone = assemble(TARGET, "v_mfma_ld_scale_b32", {}, PLACES)
    wrong = assemble(TARGET, "v_mfma_f32_16x16x128_f8f6f4", {"neg_hi": 5}, PLACES)
    for made, text in ((lone, "scales without a product"), (wrong, "cbsz 5")):
        assert made is not None
        with pytest.raises(NotModelled, match=text):
            trace_instruction(made, bench.mode, MEANINGS)


def test_packed_sums_do_not_select_parts_of_registers() -> None:
    """Of v_pk_fmac_f16 with SDWA LLVM shows no signs, and what it would select is nowhere said."""
    made = decoder(TARGET).decode(bytes.fromhex("f992b37914ae30d5"))
    assert made.text().startswith("v_pk_fmac_f16_sdwa v217, v20, -9 clamp")
    with pytest.raises(NotModelled, match="parts of registers"):
        trace_instruction(made, Bench(TARGET).mode, MEANINGS)


# --- turned loads


@pytest.mark.parametrize("name", TURNED)
def test_lanes_get_columns_of_blocks(name: str) -> None:
    bits = TURNED[name]
    words = 3 if bits == 6 else 2
    count = 32 * words // bits
    chance = np.random.default_rng(bits)
    lds = chance.integers(256, size=4096, dtype=np.uint8)
    start = chance.permutation(200)[:64] * 4 * words + 8  # each lane reads elsewhere
    code = [*encode(TARGET, name, addr=20, vdst=2, offset=8), *encode(TARGET, "s_endpgm")]

    def setup(group: Group) -> None:
        group.lds[:] = lds
        group.waves[0].vectors[20] = start - 8

    ended = run_both(TARGET, code, setup)
    read_by = [int.from_bytes(lds[at : at + 4 * words].tobytes(), "little") for at in start]
    for lane in range(64):
        got = sum(int(ended.vector(2 + k)[lane]) << 32 * k for k in range(words))
        column, first = lane % 16, lane // 16 * 16
        for row in range(count):  # of a block, as its lanes have read it, 16 columns each
            place = 16 * row + column
            source = read_by[first + place // count] >> place % count * bits
            assert got >> row * bits & (1 << bits) - 1 == source & (1 << bits) - 1


@pytest.mark.parametrize("words", [3, 4])
def test_buffers_load_several_dwords_into_lds(words: int) -> None:
    from tests.isa.launching import Arrays

    memory, base = Arrays(), 0x7000_0000_0000
    data = np.random.default_rng(words).integers(256, size=4096, dtype=np.uint8)
    memory.add(data, base)
    places = np.random.default_rng(1).permutation(64) * 16
    code = encode(TARGET, f"buffer_load_dwordx{words}", vaddr=20, offen=1, srsrc=2, soffset=128,
                  offset=16, lds=1)  # fmt: skip
    code += encode(TARGET, "s_endpgm")

    def setup(group: Group) -> None:
        wave = group.waves[0]
        wave.vectors[20] = places
        wave.scalars[8:12] = [base & 0xFFFFFFFF, base >> 32, 4096, 3 << 28]
        wave.scalars[state.M0] = 1 << 16 | 64  # above 64 KiB

    ended = run_both(TARGET, code, setup, memory, lds_bytes=160 << 10)
    for lane, at in enumerate(places):
        to = (1 << 16) + 64 + 16 + 4 * words * lane
        assert ended.lds[to : to + 4 * words] == data[at + 16 : at + 16 + 4 * words].tobytes()


# --- bits and lanes


@pytest.mark.parametrize("table", [0x00, 0x01, 0x80, 0xB8, 0x96, 0xE8, 0x6A, 0xFF])
@pytest.mark.parametrize("bits", [16, 32])
def test_any_function_of_three_bits(table: int, bits: int) -> None:
    fields = {"abs": table >> 3 & 7, "neg": table & 7, "omod": table >> 6}
    made = assemble(TARGET, f"v_bitop3_b{bits}", fields)
    assert made is not None
    shown = f" bitop3:{table:#x}" if table else ""
    assert made.text() == f"v_bitop3_b{bits} v4, v16, v32, v48{shown}"
    bench = Bench(TARGET)
    bench.wave.vectors[:64] = np.random.default_rng(table).integers(1 << 32, size=(64, 64))
    bench.run(made)
    for lane in range(64):
        a, b, c = (int(bench.wave.vectors[n, lane]) for n in (16, 32, 48))
        got = int(bench.wave.vectors[4, lane])
        for k in range(bits):
            number = (a >> k & 1) << 2 | (b >> k & 1) << 1 | c >> k & 1
            assert got >> k & 1 == table >> number & 1


@pytest.mark.parametrize("step", [16, 32])
@pytest.mark.parametrize("flags", ["", "fi:1", "bound_ctrl:1", "bound_ctrl:1 fi:1"])
@pytest.mark.parametrize("mask", [(1 << 64) - 1, 0x0FF0_1234_FFFF_00FF])
def test_rows_change_places(step: int, flags: str, mask: int) -> None:
    name = f"v_permlane{step}_swap_b32"
    sel = ("fi" in flags) | ("bound" in flags) << 1
    made = assemble(TARGET, name, {"op_sel": sel}, {"vdst": 4, "src0": 16})
    assert made is not None
    assert made.text() == f"{name}_e64 v4, v16 {flags}".strip()
    bench = Bench(TARGET)
    first, second = (np.random.default_rng(n).integers(1 << 32, size=64) for n in (1, 2))
    bench.wave.vectors[4], bench.wave.vectors[16] = first, second
    bench.set_mask(126, mask)
    bench.run(made)
    for lane in range(64):
        pair, upper = lane ^ step, bool(lane & step)
        # Upper rows of the first register and lower rows of the second change places.
        wanted = [first[lane], second[lane]]
        moved = 0 if upper else 1
        if mask >> lane & 1:
            if mask >> pair & 1 or sel & 1:
                wanted[moved] = (second, first)[moved][pair]
            elif sel & 2:
                wanted[moved] = 0
        got = [bench.wave.vectors[n, lane] for n in (4, 16)]
        assert got == wanted, lane


def test_names_are_those_of_the_target() -> None:
    assert {name for _, name in decoder(TARGET).names()} >= NAMES
