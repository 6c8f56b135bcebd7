"""Packed and mixed instructions: each half by plain computation, with selections and signs."""

import random
import struct
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.isa.instruction import Instruction, Operand
from tests.isa.exact import rounded, signed
from tests.isa.single import Bench, assemble
from tests.isa.test_properties import edges, same
from tests.isa.witness_more import SPEC, Function

TARGETS = ("gfx942", "gfx1201", "gfx90a", "gfx950")
PACKED: dict[str, Function] = {
    "v_pk_mul_lo_u16": lambda a, b: a * b,
    "v_pk_lshlrev_b16": lambda n, a: a << (n & 15),
    "v_pk_lshrrev_b16": lambda n, a: a >> (n & 15),
    "v_pk_ashrrev_i16": lambda n, a: signed(a, 16) >> (n & 15),
}
for _kind in ("f16", "f32"):
    for _name in ("add", "mul", "fma"):
        PACKED[f"v_pk_{_name}_{_kind}"] = SPEC[f"v_{_name}_{_kind}"]
for _name in ("min", "max", "min_num", "max_num", "minimum", "maximum", "minimum3", "maximum3"):
    PACKED[f"v_pk_{_name}_f16"] = SPEC[f"v_{_name}_f16"]
for _letter in "iu":
    PACKED[f"v_pk_add_{_letter}16"] = lambda a, b: a + b
    PACKED[f"v_pk_sub_{_letter}16"] = lambda a, b: a - b
    PACKED[f"v_pk_mad_{_letter}16"] = lambda a, b, c: a * b + c
    PACKED[f"v_pk_min_{_letter}16"] = min
    PACKED[f"v_pk_max_{_letter}16"] = max
MIXED = ("v_fma_mix_f32", "v_fma_mixlo_f16", "v_fma_mixhi_f16")
LIMITS = {"i": (-(1 << 15), (1 << 15) - 1), "u": (0, (1 << 16) - 1)}


def cases(names: Any) -> list[tuple[str, str]]:
    """Return (target, name): each on the first target that has it."""
    made: dict[str, str] = {}
    for target in TARGETS:
        for name in names:
            if name not in made and assemble(target, name) is not None:
                made[name] = target
    return [(target, name) for name, target in made.items()]


def number(kind: str, raw: int, negative: bool) -> Any:
    """Read one part of an operand."""
    if kind[0] == "f":
        code, size = ("<e", 2) if kind == "f16" else ("<f", 4)
        value = struct.unpack(code, raw.to_bytes(size, "little"))[0]
        return -value if negative else value
    return signed(raw, 16) if kind[0] == "i" else raw


def draw(chance: random.Random, bits: int, kind: str) -> int:
    return chance.choice(edges(bits, kind)) if chance.random() < 0.5 else chance.getrandbits(bits)


def modifiers(chance: random.Random, real: bool) -> dict[str, int]:
    fields = {"op_sel": chance.getrandbits(3), "op_sel_hi": chance.getrandbits(2)}
    fields["op_sel_hi2"] = chance.getrandbits(1)
    if real:
        fields |= {"neg": chance.getrandbits(3), "neg_hi": chance.getrandbits(3)}
    return fields


@pytest.mark.parametrize(("target", "name"), cases(PACKED))
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_packed(target: str, name: str, seed: int) -> None:
    chance = random.Random(seed)
    kind = name.rsplit("_", 1)[1].replace("b16", "u16")
    width, real = (32 if kind == "f32" else 16), kind[0] == "f"
    clamp = chance.getrandbits(1) and name[5:8] in ("add", "sub", "mad") and not real
    extra = modifiers(chance, real) | {"clamp": clamp}
    made = assemble(target, name, extra)
    assert made is not None
    bench = Bench(target, 0x1F0)
    columns = [
        [draw(chance, width, kind[0]) | draw(chance, width, kind[0]) << width
         for _ in range(bench.lanes)]
        for _ in made.src
    ]  # fmt: skip
    for operand, column in zip(made.src, columns, strict=True):
        bench.fill(operand, column)
    bench.run(made)
    found = bench.read(made.dst[0])
    part = Operand(made.dst[0].kind, 0, 1, kind, width)
    for lane in range(bench.lanes):
        for high in (0, 1):
            given = []
            for place, column in enumerate(columns):
                upper = extra["op_sel_hi"] | extra["op_sel_hi2"] << 2 if high else extra["op_sel"]
                raw = column[lane] >> width * (upper >> place & 1) & ((1 << width) - 1)
                signs = extra.get("neg_hi" if high else "neg", 0)
                given.append(number(kind, raw, bool(signs >> place & 1)))
            wanted = PACKED[name](*given)
            if clamp:
                wanted = max(LIMITS[kind[0]][0], min(LIMITS[kind[0]][1], wanted))
            got = found[lane] >> width * high & ((1 << width) - 1)
            assert same(part, got, wanted, False), (lane, high, given, extra, hex(got))


def mixed_source(made: Instruction, place: int, raw: int, extra: dict[str, int]) -> float:
    # op_sel_hi: whether the operand is a half, op_sel: which; neg_hi takes its size, neg its sign.
    half = (extra["op_sel_hi"] | extra["op_sel_hi2"] << 2) >> place & 1
    if half:
        raw = raw >> 16 * (extra["op_sel"] >> place & 1) & 0xFFFF
    value = number("f16" if half else "f32", raw, negative=False)
    if extra["neg_hi"] >> place & 1:
        value = abs(value)
    return float(-value if extra["neg"] >> place & 1 else value)


@pytest.mark.parametrize(("target", "name"), cases(MIXED))
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_mixed(target: str, name: str, seed: int) -> None:
    chance = random.Random(seed)
    extra = modifiers(chance, real=True)
    made = assemble(target, name, extra)
    assert made is not None
    bench, kept = Bench(target, 0x1F0), 0x1234ABCD
    columns = [
        [draw(chance, 32, "f") if chance.random() < 0.5
         else draw(chance, 16, "f") | draw(chance, 16, "f") << 16 for _ in range(bench.lanes)]
        for _ in made.src
    ]  # fmt: skip
    for operand, column in zip(made.src, columns, strict=True):
        bench.wave.vectors[operand.index] = column
    bench.wave.vectors[made.dst[0].index] = kept
    bench.run(made)
    for lane, got in enumerate(bench.wave.vectors[made.dst[0].index].tolist()):
        given = [mixed_source(made, k, column[lane], extra) for k, column in enumerate(columns)]
        wanted = SPEC["v_fma_f32"](*given)
        part = Operand(made.dst[0].kind, 0, 1, "f32", 32)
        if name != "v_fma_mix_f32":
            # the sum is an f32 before it is narrowed
            part = Operand(made.dst[0].kind, 0, 1, "f16", 16)
            if isinstance(wanted, Fraction):
                single = rounded(wanted, 32)
                wanted = Fraction(single) if abs(single) < 2.0**128 and single else single
            high = name == "v_fma_mixhi_f16"
            other = got & 0xFFFF if high else got >> 16
            assert other == (kept & 0xFFFF if high else kept >> 16)
            got = got >> 16 if high else got & 0xFFFF
        assert same(part, got, wanted, False), (lane, given, extra, hex(got))


@pytest.mark.parametrize("target", ["gfx942", "gfx1030"])
def test_packed_multiply_add_to_the_destination(target: str) -> None:
    made = assemble(target, "v_pk_fmac_f16")
    assert made is not None
    chance, bench = random.Random(target), Bench(target, 0x1F0)
    columns = [
        [draw(chance, 16, "f") | draw(chance, 16, "f") << 16 for _ in range(bench.lanes)]
        for _ in range(3)
    ]
    for operand, column in zip((*made.src, *made.dst), columns, strict=True):
        bench.wave.vectors[operand.index] = column
    bench.run(made)
    part = Operand(made.dst[0].kind, 0, 1, "f16", 16)
    for lane, got in enumerate(bench.wave.vectors[made.dst[0].index].tolist()):
        for at in (0, 16):
            given = [number("f16", column[lane] >> at & 0xFFFF, False) for column in columns]
            wanted = SPEC["v_fma_f16"](*given)
            assert same(part, got >> at & 0xFFFF, wanted, False), (lane, at, given)
