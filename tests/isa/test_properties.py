"""Each kind of instruction against an independent computation, over edge values and random ones."""

import math
import random
import struct
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.isa.instruction import Instruction, Operand
from gputrace.isa.meanings import MEANINGS
from tests.isa.exact import rounded
from tests.isa.single import Bench, assemble
from tests.isa.witness import CANCELLED, SPEC
from tests.isa.witness_more import ACCUMULATES, RAW

TARGETS = ("gfx942", "gfx1100", "gfx1201", "gfx90a", "gfx1030", "gfx950")


def _cases() -> list[tuple[str, str]]:
    # Each name on the first target that has it; what touches lane masks for both wave sizes.
    made: list[tuple[str, str]] = []
    for target in TARGETS:
        seen = {name for _, name in made}
        for name in SPEC:
            found = assemble(target, name) if name in MEANINGS.meanings else None
            if found is None:
                continue
            masks = "mask" in [operand.type for operand in found.dst]
            if name not in seen or (masks and target == "gfx1100"):
                made.append((target, name))
    return made


CASES = _cases()
CODES = {16: "<e", 32: "<f", 64: "<d"}
EXEC = 0x5FFF_FFFF_DFFF_FFFE  # lanes 0, 29, 61 and 63 stay as they are
DENORMALS = {16: 2.0**-14, 32: 2.0**-126, 64: 2.0**-1022}
quick = settings(max_examples=3, deadline=None)


def edges(bits: int, kind: str) -> list[int]:
    """Return bit patterns at which rules change."""
    top = 1 << bits
    found = [0, 1, 2, 3, 31, 32, 33, 63, 64, 65, top - 1, top - 2, top // 2, top // 2 - 1]
    found += [top // 2 + 1, 0x5555555555555555 % top, 0x00FF00FF00FF00FF % top, 255, 256, 0x7FFF]
    if kind == "f":
        fraction, exponent = {16: (10, 31), 32: (23, 255), 64: (52, 2047)}[bits]
        one = exponent // 2 << fraction
        found = [0, 1, 5, (1 << fraction) - 1, 1 << fraction, one, one + 1, one - 1]
        found += [one + (1 << fraction), one + (3 << fraction - 1), (exponent << fraction) - 1]
        found += [exponent << fraction, exponent << fraction | 1 << fraction - 1]
        found += [one + (31 << fraction) & (top // 2 - 1), one + (32 << fraction) & (top // 2 - 1)]
        found += [one + (fraction << fraction), one - (24 << fraction) & (top // 2 - 1)]
        found = [v for v in found if v < top // 2]
        found += [v | top // 2 for v in found]
    return found


def patterns(operand: Operand, count: int, chance: random.Random) -> list[int]:
    """Draw a bit pattern for each lane: edges and anything."""
    if operand.is_constant:
        return [operand.value] * count
    kind = "f" if operand.type.startswith("f") else "i"
    width = max(operand.bits, 32) if operand.type == "mask" else operand.bits
    chosen = edges(width, kind) if operand.type != "mask" else [0, 1]
    return [
        chance.choice(chosen) if chance.random() < 0.5 else chance.getrandbits(width)
        for _ in range(count)
    ]


def value_of(operand: Operand, pattern: int, flush: bool) -> Any:
    """Read a pattern as the operand's type says."""
    if operand.type.startswith("f"):
        size = operand.bits // 8
        made = struct.unpack(CODES[operand.bits], pattern.to_bytes(size, "little"))[0]
        return math.copysign(0.0, made) if flush and abs(made) < DENORMALS[operand.bits] else made
    if operand.type.startswith("i"):
        return pattern - (pattern >> (operand.bits - 1) << operand.bits)
    return pattern


def same(operand: Operand, found: int, wanted: Any, flush: bool, float_mode: int = 0) -> bool:
    """Compare a register with a result."""
    mask = (1 << operand.bits) - 1
    if not operand.type.startswith("f"):
        return (found ^ int(wanted)) & mask == 0
    size = operand.bits // 8
    mode = float_mode & 3 if operand.bits == 32 else float_mode >> 2 & 3
    if isinstance(wanted, Fraction):
        value = rounded(wanted, operand.bits, mode=mode)
    elif wanted is CANCELLED:
        value = -0.0 if mode == 2 else 0.0
    else:
        value = float(wanted)
    if flush and abs(value) < DENORMALS[operand.bits]:
        value = math.copysign(0.0, value)
    got = struct.unpack(CODES[operand.bits], (found & mask).to_bytes(size, "little"))[0]
    if math.isnan(value) or math.isnan(got):
        return math.isnan(value) and math.isnan(got)
    return struct.pack("<d", got) == struct.pack("<d", value)


def results(name: str, given: list[Any]) -> tuple[Any, ...]:
    made = SPEC[name](*given)
    return made if isinstance(made, tuple) else (made,)


def sources_of(made: Instruction, name: str) -> tuple[Operand, ...]:
    """Return the sources, and the destination where the instruction adds to it."""
    return (*made.src, *made.dst[:1]) if name in ACCUMULATES else made.src


def fill(bench: Bench, operand: Operand, column: list[int]) -> None:
    if not operand.is_constant:
        bench.fill(operand, column)


def check_vector(bench: Bench, made: Instruction, name: str, columns: list[list[int]]) -> None:
    sources = sources_of(made, name)
    masks = [n for n, operand in enumerate(sources) if operand.type == "mask"]
    bench.set_mask(126, EXEC)
    for number, (operand, column) in enumerate(zip(sources, columns, strict=True)):
        if number in masks:
            bench.set_mask(106 if operand.name else operand.index, column[0])
        else:
            fill(bench, operand, column)
    bench.run(made)
    flushes = bench.float_mode & 0x30 == 0
    for lane in range(bench.lanes):
        if not EXEC >> lane & 1:
            continue
        given = [
            column[0] >> lane & 1
            if number in masks
            else column[lane]
            if name in RAW
            else value_of(operand, column[lane], flushes and operand.type == "f32")
            for number, (operand, column) in enumerate(zip(sources, columns, strict=True))
        ]
        wanted_all = results(name, given)
        if name.startswith("v_cmpx"):
            assert bench.mask(126) >> lane & 1 == wanted_all[0], (name, lane, given)
            wanted_all = wanted_all[: len(made.dst)]
        for operand, wanted in zip(made.dst, wanted_all, strict=True):
            if operand.type == "mask":
                at = {"vcc": 106, "exe": 126}.get(operand.name[:3], operand.index)
                assert bench.mask(at) >> lane & 1 == wanted, (name, lane, given)
            else:
                found = bench.read(operand)[lane]
                flush = flushes and operand.type == "f32"
                right = same(operand, found, wanted, flush, bench.float_mode)
                assert right, (name, lane, given, hex(found))


def check_scalar(bench: Bench, made: Instruction, name: str, columns: list[list[int]]) -> None:
    for patterns_of_one in zip(*columns, strict=True):
        sources = sources_of(made, name)
        for operand, pattern in zip(sources, patterns_of_one, strict=True):
            fill(bench, operand, [pattern])
        bench.run(made)
        given = [
            value_of(operand, pattern, False)
            for operand, pattern in zip(sources, patterns_of_one, strict=True)
        ]
        wanted = results(name, given)
        for operand, value in zip(made.dst, wanted, strict=False):
            found = bench.read(operand)[0]
            assert same(operand, found, value, False, bench.float_mode), (name, given)
        if len(wanted) > len(made.dst):
            assert bool(bench.wave.scalars[128]) == wanted[-1], (name, given)


def run_case(target: str, name: str, seed: int, float_mode: int) -> None:
    made = assemble(target, name)
    assert made is not None
    bench = Bench(target, float_mode)
    scalar = name.startswith("s_")
    count = 24 if scalar else bench.lanes
    chance = random.Random(seed)
    columns = [patterns(operand, count, chance) for operand in sources_of(made, name)]
    (check_scalar if scalar else check_vector)(bench, made, name, columns)


@pytest.mark.parametrize(("target", "name"), CASES)
@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_instruction(target: str, name: str, seed: int) -> None:
    run_case(target, name, seed, 0x1F0)


@pytest.mark.parametrize(
    ("target", "name"), [(t, n) for t, n in CASES if n.startswith("v_") and n.endswith("f32")]
)
@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_denormals_of_singles_are_flushed_when_the_mode_says_so(
    target: str, name: str, seed: int
) -> None:
    run_case(target, name, seed, 0x1C0)


ROUNDED = [
    (target, name)
    for target, name in CASES
    if any(part in name for part in ("_f16", "_f32", "_f64"))
    and not any(part in name for part in ("cmp", "_mad", "_mac", "preop"))  # or round twice
]


@pytest.mark.parametrize("mode", [1, 2, 3])
@pytest.mark.parametrize(("target", "name"), ROUNDED)
@settings(max_examples=1, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_arithmetic_rounds_as_the_mode_says(
    target: str, name: str, mode: int, seed: int
) -> None:
    run_case(target, name, seed, 0x1F0 | mode | mode << 2)
