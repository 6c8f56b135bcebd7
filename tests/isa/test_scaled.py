"""Conversions with scales and with random digits (gfx950) against all numbers of a format.

A format is said by its definition (IEEE 754, OCP Microscaling Formats): the nearest of its numbers
is looked for, and what lies between two of them is cut into as many parts as there are digits.
"""

import bisect
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from gputrace.isa.decode import decoder
from gputrace.isa.instruction import Instruction
from gputrace.isa.meanings import MEANINGS
from tests.isa.single import Bench, assemble

TARGET = "gfx950"
NAME = re.compile(r"v_cvt_scalef32_(sr_)?(pk_|pk32_|2xpk16_)?(b?f\d+|fp\d)_(b?f\d+|fp\d)")
NAMES = frozenset(
    {name for _, name in decoder(TARGET).names() if NAME.fullmatch(name)}
    | {"v_cvt_sr_f16_f32", "v_cvt_sr_bf16_f32", "v_cvt_pk_f16_f32", "v_cvt_pk_bf16_f32",
       "v_cvt_f32_bf16"}
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    """Bits, bits of the fraction, bias; whether there are infinities, and NaNs besides."""

    bits: int
    fraction: int
    bias: int
    infinite: bool = True
    nan: bool = True


FORMATS = {
    "f32": Format(32, 23, 127), "f16": Format(16, 10, 15), "bf16": Format(16, 7, 127),
    "bf8": Format(8, 2, 15), "fp8": Format(8, 3, 7, infinite=False),
    "fp6": Format(6, 3, 1, False, False), "bf6": Format(6, 2, 3, False, False),
    "fp4": Format(4, 1, 1, False, False),
}  # fmt: skip
WIDE = ("f32", "f16", "bf16")
Number = Fraction | str
"""A number, or "nan" or "inf"; zeros and infinities have their sign apart."""


def read(kind: str, raw: int) -> tuple[bool, Number]:
    """Return (negative, size) of a pattern."""
    form = FORMATS[kind]
    size = raw & (1 << form.bits - 1) - 1
    negative = bool(raw >> form.bits - 1 & 1)
    exponent, fraction = size >> form.fraction, size & (1 << form.fraction) - 1
    if form.infinite and exponent == (1 << form.bits - 1 - form.fraction) - 1:
        return negative, "nan" if fraction else "inf"
    if form.nan and not form.infinite and size == (1 << form.bits - 1) - 1:
        return negative, "nan"
    whole = fraction + (1 << form.fraction if exponent else 0)
    return negative, whole * Fraction(2) ** (max(exponent, 1) - form.bias - form.fraction)


@cache
def numbers(kind: str) -> list[Fraction]:
    """Return the sizes of a format of few bits in the order of their patterns, which is theirs."""
    sizes = (read(kind, raw)[1] for raw in range(1 << FORMATS[kind].bits - 1))
    return [size for size in sizes if isinstance(size, Fraction)]


def written(kind: str, negative: bool, size: Number, up: Callable[[Fraction], bool]) -> int:
    """Return the pattern of a size; `up` says whether a part of the way to the next number counts.

    A tie is a half and has no side: `up` gets it with the parity of the pattern in its sign.
    """
    form, known = FORMATS[kind], numbers(kind)
    sign = negative << form.bits - 1
    last = len(known) - 1
    if size == "nan":
        if form.infinite:
            return sign | last + 1 | 1 << form.fraction - 1
        return sign | (1 << form.bits - 1) - 1
    if size == "inf":
        return sign | (last if not form.nan else last + 1)
    assert isinstance(size, Fraction)
    code = bisect.bisect_right(known, size) - 1
    step = known[code + 1] - known[code] if code < last else known[last] - known[last - 1]
    part = (size - known[code]) / step
    code += part >= 1 or up(-part if code % 2 else part)
    return sign | (code if form.nan else min(code, last))


def nearest(part: Fraction) -> bool:
    return abs(part) > Fraction(1, 2) or part == Fraction(-1, 2)


def by_chance(random: int, digits: int) -> Callable[[Fraction], bool]:
    return lambda part: int(abs(part) * 2**digits) + (random >> 32 - digits) >= 2**digits


def following(random: int) -> int:
    return (random << 1 & 0xFFFFFFFF) ^ (0xC5 if random >> 31 else 0)


# --- drawing


def draw(source: str, target: str, power: int, chance: np.random.Generator) -> int:
    """Return a pattern of a wide format: a number of the narrow one, one between, or anything."""
    kind, form = chance.random(), FORMATS[source]
    if kind < 0.15:
        ones = (1 << form.bits - 1) - 1
        top = ones >> form.fraction << form.fraction
        edges = [0, 1, 1 << form.fraction, (1 << form.fraction) - 1, top, top + 1, top - 1]
        return int(chance.choice(edges)) | int(chance.integers(2)) << form.bits - 1
    if kind < 0.3 or (form.bits == 16 and abs(power) > 12):
        return int(chance.integers(1 << form.bits))
    known = numbers(target)
    at = int(chance.integers(len(known) - 1))
    parts = [Fraction(0), Fraction(1, 2), Fraction(int(chance.integers(64)), 64)]
    size = known[at] + (known[at + 1] - known[at]) * parts[chance.integers(3)]
    if chance.random() < 0.1:
        size = known[-1] * Fraction(int(chance.integers(60, 80)), 64)
    size = min(size * Fraction(2) ** power, Fraction(2) ** 127)
    if source == "f32":
        raw = int(np.float32(float(size)).view(np.uint32))
    else:
        raw = written(source, False, size, nearest)
    return raw | int(chance.integers(2)) << form.bits - 1


class Registers:
    """The registers of a bench as strings of bits, one for each lane."""

    def __init__(self, bench: Bench) -> None:
        self.vectors = bench.wave.vectors

    def put(self, first: int, lane: int, bits: int, number: int, value: int) -> None:
        """Write the part of so many bits and of a number behind a register's beginning."""
        at = number * bits
        word, inside = first + at // 32, at % 32
        both = int(self.vectors[word, lane]) | int(self.vectors[word + 1, lane]) << 32
        both = both & ~((1 << bits) - 1 << inside) | value << inside
        self.vectors[word, lane], self.vectors[word + 1, lane] = both & 0xFFFFFFFF, both >> 32

    def get(self, first: int, lane: int, bits: int, number: int) -> int:
        """Read such a part."""
        at = number * bits
        word, inside = first + at // 32, at % 32
        both = int(self.vectors[word, lane]) | int(self.vectors[word + 1, lane]) << 32
        return both >> inside & (1 << bits) - 1


PLACES = {"vdst": 200, "src0": 16, "src1": 64, "src2": 100}
ACTIVE = 0x5FFF_FFFF_DFFF_FFFE
FLOAT_MODES = (0x3F0, 0x3F5)  # denormals; to nearest, upward: which does not count


def prepared(
    name: str, sel: int, float_mode: int, half_limit: bool = False
) -> tuple[Instruction, Bench, Registers]:
    made = assemble(TARGET, name, {"op_sel": sel}, PLACES)
    assert made is not None
    bench = Bench(TARGET, float_mode, half_limit=half_limit)
    bench.wave.vectors[:256] = np.random.default_rng(sel).integers(
        1 << 32, size=(256, 64), dtype=np.uint32
    )
    bench.set_mask(126, ACTIVE)
    return made, bench, Registers(bench)


def powers(bench: Bench, register: int, chance: np.random.Generator, reach: int) -> list[int]:
    """Fill the scales: most near one, in whose fraction and sign anything may be."""
    found = np.clip(127 + chance.integers(-reach, reach + 1, 64), 0, 255)
    found[chance.random(64) < 0.05] = 255
    found[chance.random(64) < 0.05] = 0
    rest = chance.integers(1 << 23, size=64) | chance.integers(2, size=64) << 31
    bench.wave.vectors[register] = found << 23 | rest
    return [int(power) for power in found]


NARROWING = sorted(
    name for name in NAMES if (found := NAME.fullmatch(name)) and found[4] in WIDE
)
WIDENING = sorted(name for name in NAMES if NAME.fullmatch(name) and name not in NARROWING)


@pytest.mark.parametrize("name", NARROWING)
@pytest.mark.parametrize("limit", [False, True])
def test_narrowing(name: str, limit: bool) -> None:
    found = NAME.fullmatch(name)
    assert found
    random, form, kind, source = found.groups()
    small, wide = FORMATS[kind].bits, FORMATS[source].bits
    count = {None: 1, "pk_": 2, "pk32_": 32, "2xpk16_": 32}[form]
    part = small * count
    at = 0 if part > 32 else int(len(name) % (32 // part))
    sel = at << (3 if part == 16 else 2) if part <= 16 else 0
    made, bench, registers = prepared(name, sel, FLOAT_MODES[limit], half_limit=limit)
    chance = np.random.default_rng(len(name))
    scales = powers(bench, made.src[-1].index, chance, 20 if source == "f32" else 4)
    given = made.src[: -2 if random else -1]
    raw = np.zeros((64, count), np.int64)
    for lane, number in np.ndindex(64, count):
        operand = given[number % len(given)]
        raw[lane, number] = draw(source, kind, scales[lane] - 127, chance)
        registers.put(operand.index, lane, wide, number // len(given), int(raw[lane, number]))
    before = bench.wave.vectors.copy()
    bench.run(made)
    for lane in range(64):
        expected = Registers(bench)
        expected.vectors = before
        seed = int(before[made.src[-2].index, lane]) if random else 0
        for number in range(count if ACTIVE >> lane & 1 else 0):
            negative, size = read(source, int(raw[lane, number]))
            if scales[lane] == 255:
                size = "nan"
            up = by_chance(seed, FORMATS[source].fraction - FORMATS[kind].fraction)
            if isinstance(size, Fraction):
                size = size / Fraction(2) ** (scales[lane] - 127)
            code = written(kind, negative, size, up if random else nearest)
            code = limited(kind, code, size) if limit else code
            code = code if size != "nan" else written(kind, negative, "nan", nearest)
            expected.put(200, lane, small, at * count + number, over(kind, code, size))
            seed = following(seed)
        assert np.array_equal(bench.wave.vectors[:, lane], before[:, lane]), lane


def over(kind: str, code: int, size: Number) -> int:
    """Return the code of what is too large: nothing is beyond an infinity, or a NaN without one."""
    form = FORMATS[kind]
    if not form.nan or size == "nan":
        return code
    sign, most = code >> form.bits - 1 << form.bits - 1, len(numbers(kind))
    return sign | min(code & (1 << form.bits - 1) - 1, most)


def limited(kind: str, code: int, size: Number) -> int:
    """Return the code with FP16_OVFL: the largest number instead of what is beyond."""
    form = FORMATS[kind]
    sign, most = code >> form.bits - 1 << form.bits - 1, len(numbers(kind)) - 1
    return sign | min(code & (1 << form.bits - 1) - 1, most)


@pytest.mark.parametrize("name", WIDENING)
@pytest.mark.parametrize("reach", [8, 140])
def test_widening(name: str, reach: int) -> None:
    found = NAME.fullmatch(name)
    assert found
    _, form, result, kind = found.groups()
    small, wide = FORMATS[kind].bits, FORMATS[result].bits
    count = {None: 1, "pk_": 2, "pk32_": 32}[form]
    at = 0 if count == 32 else len(name) % (32 // (small * count))
    made, bench, registers = prepared(name, at, 0x3F0)
    chance = np.random.default_rng(len(name) + reach)
    scales = powers(bench, made.src[-1].index, chance, reach)
    before = bench.wave.vectors.copy()
    bench.run(made)
    reader = Registers(bench)
    reader.vectors = before
    for lane, number in np.ndindex(64, count):
        got = registers.get(200, lane, wide, number)
        if not ACTIVE >> lane & 1:
            assert got == reader.get(200, lane, wide, number)
            continue
        raw = reader.get(made.src[0].index, lane, small, at * count + number)
        negative, size = read(kind, raw)
        size = "nan" if scales[lane] == 255 else size
        if isinstance(size, Fraction):
            size = size * Fraction(2) ** (scales[lane] - 127)
        check(result, got, negative, size)


def check(kind: str, got: int, negative: bool, size: Number) -> None:
    """Compare a pattern of a wide format with a number that is to be rounded to the nearest."""
    if size == "nan":
        assert read(kind, got)[1] == "nan"
        return
    if kind == "f32":  # exact, or too large
        size = "inf" if size == "inf" or Fraction(size) >= 2**128 else size
        assert read(kind, got) == (negative, size)
        return
    assert got == over(kind, written(kind, negative, size, nearest), size)


# --- without a scale


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("high", [False, True])
def test_random_digits_of_halves(kind: str, high: bool) -> None:
    made, bench, _ = prepared(f"v_cvt_sr_{kind}_f32", 8 * high, 0x3F0)
    chance = np.random.default_rng(high)
    for lane in range(64):
        bench.wave.vectors[16, lane] = draw("f32", kind, 0, chance)
    before = bench.wave.vectors.copy()
    bench.run(made)
    for lane in range(64):
        negative, size = read("f32", int(before[16, lane]))
        up = by_chance(int(before[64, lane]), 23 - FORMATS[kind].fraction)
        old, got = int(before[200, lane]), int(bench.wave.vectors[200, lane])
        wanted = over(kind, written(kind, negative, size, up), size)
        wanted = old & 0xFFFF | wanted << 16 if high else old & 0xFFFF0000 | wanted
        if not ACTIVE >> lane & 1:
            wanted = old
        elif size == "nan":
            wanted, got = (value >> 16 * high & 0x7FFF for value in (wanted, got))
        elif not high:  # sixteen-bit results clear the upper half, as of other instructions
            wanted = wanted & 0xFFFF | got & 0xFFFF0000
        assert got == wanted, (lane, hex(got), hex(wanted))


@pytest.mark.parametrize("float_mode", FLOAT_MODES)
@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_two_halves(kind: str, float_mode: int) -> None:
    made, bench, registers = prepared(f"v_cvt_pk_{kind}_f32", 0, float_mode)
    chance = np.random.default_rng(float_mode)
    for lane in range(64):
        bench.wave.vectors[16, lane] = draw("f32", kind, 0, chance)
        bench.wave.vectors[64, lane] = draw("f32", kind, 0, chance)
    bench.run(made)
    for lane in range(1, 29):
        for number, register in enumerate((16, 64)):
            negative, size = read("f32", int(bench.wave.vectors[register, lane]))
            check(kind, registers.get(200, lane, 16, number), negative, size)


def test_brain_floats_widen() -> None:
    made = assemble(TARGET, "v_cvt_f32_bf16", {"neg": 1}, PLACES)
    assert made is not None
    bench = Bench(TARGET)
    raw = np.arange(64, dtype=np.uint32) * 1021 & 0xFFFF
    bench.wave.vectors[16] = raw
    bench.run(made)
    assert np.array_equal(bench.wave.vectors[200], (raw ^ 0x8000) << 16)


def test_every_name_is_asked_for() -> None:
    assert set(MEANINGS.meanings) >= NAMES
    assert len(NARROWING) + len(WIDENING) + 5 == len(NAMES) == 54
