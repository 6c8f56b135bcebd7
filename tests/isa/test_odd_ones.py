"""Instructions that fit no other test: exchanges, what does nothing, halves of scalar registers."""

import math
import random
import struct
from fractions import Fraction

import numpy as np
import pytest

from gputrace.isa.decode import decoder
from tests.isa.exact import rounded
from tests.isa.single import Bench, assemble

NOTHING = {"v_nop": "gfx942", "v_clrexcp": "gfx942", "v_pipeflush": "gfx1100"}
NAMES = {
    *NOTHING, "v_swap_b32", "v_swap_b16", "s_cvt_hi_f32_f16", "s_cvt_pk_rtz_f16_f32",
    "v_cvt_pkrtz_f16_f32", "v_cvt_pk_rtz_f16_f32", "v_div_fixup_legacy_f16", "v_div_fixup_f16",
    "v_dot2acc_f32_bf16",
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_changes(name: str) -> None:
    made = assemble(NOTHING[name], name)
    assert made is not None
    bench = Bench(NOTHING[name])
    bench.wave.vectors[:] = np.arange(bench.lanes, dtype=np.uint32)
    before = bench.wave.vectors.copy(), bench.wave.scalars.copy()
    bench.run(made)
    assert np.array_equal(bench.wave.vectors, before[0])
    assert np.array_equal(bench.wave.scalars, before[1])


@pytest.mark.parametrize(("target", "bits"), [("gfx942", 32), ("gfx1201", 32), ("gfx1100", 16)])
def test_registers_are_exchanged_in_active_lanes(target: str, bits: int) -> None:
    made = assemble(target, f"v_swap_b{bits}")
    assert made is not None
    bench, active, ones = Bench(target), 0x0F0F0F0F, (1 << bits) - 1
    one, other = made.dst[0].index, made.src[0].index
    lanes = np.arange(bench.lanes, dtype=np.uint32)
    bench.wave.vectors[one], bench.wave.vectors[other] = lanes + 0x10000, lanes + 0x20040
    bench.set_mask(126, active)
    bench.run(made)
    for lane in range(bench.lanes):
        a, b = lane + 0x10000, lane + 0x20040
        if active >> lane & 1:
            a, b = a & ~ones | b & ones, b & ~ones | a & ones
        assert (bench.wave.vectors[one][lane], bench.wave.vectors[other][lane]) == (a, b)


def single(raw: int) -> float:
    return float(struct.unpack("<f", raw.to_bytes(4, "little"))[0])


def half(raw: int) -> float:
    return float(struct.unpack("<e", raw.to_bytes(2, "little"))[0])


@pytest.mark.parametrize("raw", [0x3C000000, 0xBC01FFFF, 0x00010000, 0x7C001234, 0xFC000000])
def test_the_upper_half_of_a_scalar_register(raw: int) -> None:
    made = assemble("gfx1201", "s_cvt_hi_f32_f16")
    assert made is not None
    bench = Bench("gfx1201")
    bench.wave.scalars[made.src[0].index] = raw
    bench.run(made)
    assert single(bench.read(made.dst[0])[0]) == half(raw >> 16)


@pytest.mark.parametrize(
    ("target", "name"),
    [("gfx942", "v_cvt_pkrtz_f16_f32"), ("gfx1100", "v_cvt_pk_rtz_f16_f32"),
     ("gfx1201", "s_cvt_pk_rtz_f16_f32")],
)  # fmt: skip
def test_pairs_of_halves_rounded_to_zero(target: str, name: str) -> None:
    made = assemble(target, name)
    assert made is not None
    chance = random.Random(name)
    for mode in (0x1F0, 0x1F5):  # whatever MODE says
        bench = Bench(target, mode)
        for _ in range(200):
            pair = [
                chance.choice((chance.getrandbits(32), 0x38000000 + chance.getrandbits(28)))
                for _ in range(2)
            ]
            for operand, raw in zip(made.src, pair, strict=True):
                bench.fill(operand, [raw] * (1 if name[0] == "s" else bench.lanes))
            bench.run(made)
            word = bench.read(made.dst[0])[0]
            for raw, got in zip(pair, (word & 0xFFFF, word >> 16), strict=True):
                value = single(raw)
                if math.isnan(value):
                    assert math.isnan(half(got))
                elif math.isinf(value):
                    assert half(got) == value
                else:
                    wanted = rounded(Fraction(value), 16, mode=3)
                    assert half(got) == wanted, hex(raw)
                    assert got >> 15 == raw >> 31


INF, NAN, QUIET = 0x7C00, 0x7E01, 0xFE00
FIXED = [  # quotient, denominator, numerator, result: the manual's list, from top to bottom
    (0x3C00, 0x3C00, NAN, NAN), (0x3C00, NAN, 0x3C00, NAN), (0x3C00, 0, 0, QUIET),
    (0x3C00, INF, 0xFC00, QUIET), (0x3C00, 0, 0xBC00, 0xFC00), (0x3C00, 0x3C00, INF, INF),
    (0x3C00, INF, 0xBC00, 0x8000), (0x3C00, 0x3C00, 0x8000, 0x8000),
    (0x3C00, 0xBC00, 0x3C00, 0xBC00), (0xBC00, 0x3C00, 0x3C00, 0x3C00),
]  # fmt: skip


@pytest.mark.parametrize(("quotient", "low", "high", "wanted"), FIXED)
@pytest.mark.parametrize("name", ["v_div_fixup_legacy_f16", "v_div_fixup_f16"])
def test_special_quotients_of_halves(
    name: str, quotient: int, low: int, high: int, wanted: int
) -> None:
    made = assemble("gfx942", name)
    assert made is not None
    bench = Bench("gfx942")
    for operand, raw in zip(made.src, (quotient, low, high), strict=True):
        bench.fill(operand, [raw] * bench.lanes)
    bench.run(made)
    assert bench.read(made.dst[0])[0] & 0xFFFF == wanted


def test_dot_product_that_only_dual_instructions_have() -> None:
    # v_dual_dot2acc_f32_bf16 v5, v3, v4 :: v_dual_mov_b32 v6, v8
    words = 0xCB500903.to_bytes(4, "little") + (0x05060108).to_bytes(4, "little")
    made = decoder("gfx1100").decode(words)
    names = [part.name for part in made.components]
    assert names[0] == "v_dot2acc_f32_bf16", made.text()
    bench = Bench("gfx1100")
    first = made.components[0]
    bench.wave.vectors[first.src[0].index] = 0x4040_3F80  # 1 and 3
    bench.wave.vectors[first.src[1].index] = 0x4000_40A0  # 5 and 2
    to = first.dst[0].index
    bench.wave.vectors[to] = int(np.float32(0.5).view(np.uint32))
    bench.run(made)
    assert set(bench.wave.vectors[to].tolist()) == {int(np.float32(11.5).view(np.uint32))}
