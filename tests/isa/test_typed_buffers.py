"""Typed buffers: every format of every generation against exact conversions, both engines."""

import math
from bisect import bisect
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest

from gputrace.isa.decode import decoder
from gputrace.isa.formats import Kind, formats
from gputrace.isa.machine import Done
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.waves import Group
from tests.isa.exact import rounded
from tests.isa.launching import Arrays
from tests.isa.memory_witness import number, pattern
from tests.isa.steps import Ended, encode, run_both, run_with
from tests.isa.test_memory_witness import BASE, form_fields

TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
SIZE, ADDRESS, TO, DATA = 4096, 16, 4, 32
COUNTS = {"x": 1, "xy": 2, "xyz": 3, "xyzw": 4}


def _is_typed(name: str) -> bool:
    return "_format_" in name and name.startswith(("buffer_", "tbuffer_"))


def names_of(target: str) -> list[str]:
    return sorted(
        {name for _, name in decoder(target).names() if _is_typed(name)} & set(MEANINGS.meanings)
    )


NAMES = frozenset(name for target in TARGETS for name in names_of(target))
"""Instructions that are held against exact conversions here."""

# Layouts by LLVM's numbers, written down again: components from the highest bits down.
_SIX, _SEVEN, _WHOLE = "nsUSui", "nsUSuif", "uif"
_GFX10 = [("8", _SIX), ("16", _SEVEN), ("8_8", _SIX), ("32", _WHOLE), ("16_16", _SEVEN),
          ("10_11_11", _SEVEN), ("11_11_10", _SEVEN), ("10_10_10_2", _SIX), ("2_10_10_10", _SIX),
          ("8_8_8_8", _SIX), ("32_32", _WHOLE), ("16_16_16_16", _SEVEN), ("32_32_32", _WHOLE),
          ("32_32_32_32", _WHOLE)]  # fmt: skip
_GFX11 = [*_GFX10[:5], ("10_11_11", "f"), ("11_11_10", "f"), ("10_10_10_2", "nsui"), *_GFX10[8:]]
_KINDS = dict(zip("nsUSui", range(6), strict=True)) | {"f": 7}


def expected_formats(target: str) -> dict[int, tuple[list[int], str]]:
    """Return (widths from X on, kind) by number."""
    listed = _GFX11 if target in ("gfx1100", "gfx1201") else _GFX10
    if target in ("gfx90a", "gfx942", "gfx950"):
        return {
            n | _KINDS[kind] << 4: ([int(w) for w in layout.split("_")][::-1], kind)
            for n, (layout, kinds) in enumerate(listed, 1)
            for kind in kinds
        }
    flat = [(layout, kind) for layout, kinds in listed for kind in kinds]
    return {
        n: ([int(w) for w in layout.split("_")][::-1], kind)
        for n, (layout, kind) in enumerate(flat, 1)
    }


@pytest.mark.parametrize("target", TARGETS)
def test_formats_have_the_numbers_that_llvm_gives_them(target: str) -> None:
    known = formats(decoder(target).generation.behaviour.formats)
    wanted = {n: (tuple(w), Kind(_KINDS[k])) for n, (w, k) in expected_formats(target).items()}
    assert {n: (form.widths, form.kind) for n, form in known.items()} == wanted
    assert all(sum(form.widths) == 8 * form.size for form in known.values())


# --- conversions of one component


def small_float(bits: int, width: int) -> float:
    """Read a float of 10 or 11 bits (no sign) or of 16."""
    return number(bits if width == 16 else bits << 15 - width, 16)


def loaded(raw: int, width: int, kind: str, d16: bool) -> int:
    """Return what a load gives a register for a component."""
    out = 16 if d16 else 32
    signed = raw - (raw >> width - 1 << width)
    if kind in "ui":
        return (raw if kind == "u" else signed) & (1 << out) - 1
    if kind == "f":
        value = number(raw, 32) if width == 32 else small_float(raw, width)
        if d16 and width < 32:
            return raw << 15 - width if width < 16 else raw
        if width == out or math.isnan(value):
            return raw if width == out else pattern(math.nan, out)
        return pattern(Fraction(value) if math.isfinite(value) and value else value, out)
    exact = {
        "n": Fraction(raw, 2**width - 1),
        "s": max(Fraction(signed, 2 ** (width - 1) - 1), Fraction(-1)),
        "U": Fraction(raw),
        "S": Fraction(signed),
    }[kind]
    return pattern(exact, out)


def stored(bits: int, width: int, kind: str, d16: bool) -> int:
    """Return what a store puts into a component for a register."""
    given, top = 16 if d16 else 32, 1 << width
    if kind == "u":
        return min(bits, top - 1)
    if kind == "i":
        signed = bits - (bits >> given - 1 << given)
        return max(-top // 2, min(top // 2 - 1, signed)) & top - 1
    value = number(bits, given)
    if kind == "f":
        return _stored_float(bits, value, width, given)
    if math.isnan(value):
        return 0
    low, high = {"n": (0, 1), "s": (-1, 1), "U": (0, top - 1), "S": (-top // 2, top // 2 - 1)}[kind]
    if kind == "S":
        low = -(top // 2 - 1) - 1
    held = Fraction(max(low, min(high, value)))
    if kind == "n":
        return round(held * (top - 1))
    if kind == "s":
        return round(held * (top // 2 - 1)) & top - 1
    return int(held) & top - 1


def _stored_float(bits: int, value: float, width: int, given: int) -> int:
    if width == given or (width == 32 and math.isfinite(value)):
        return bits if width == given else pattern(Fraction(value) if value else value, 32)
    if width == 32:
        return pattern(value, 32)
    if width == 16:
        return pattern(Fraction(value) if math.isfinite(value) and value else value, 16)
    if math.isnan(value):
        return 0x7E00 >> 15 - width
    if value <= 0:
        return 0
    infinite = 31 << width - 5
    if math.isinf(value):
        return infinite
    # The nearest of all such floats; of two, the even one; beyond the largest, infinity.
    finite, exact = _finite(width), Fraction(value)
    if exact >= finite[-1] + (finite[-1] - finite[-2]) / 2:
        return infinite
    above = min(bisect(finite, exact), len(finite) - 1)
    return min((above - 1, above), key=lambda n: (abs(finite[n] - exact), n & 1))


@cache
def _finite(width: int) -> list[Fraction]:
    return [Fraction(small_float(n, width)) for n in range(31 << width - 5)]


# --- instructions

Run = Callable[[str, list[int], Callable[[Group], None], Arrays], Ended]


def run_numpy(
    target: str, code: list[int], setup: Callable[[Group], None], memory: Arrays
) -> Ended:
    return run_with("numpy", target, code, setup, memory)


def shape_of(name: str) -> tuple[str, int, str]:
    """Return (load or store, components, halves) of a mnemonic."""
    parts = name.split("_")
    channels = next(part for part in parts if part in COUNTS)
    halves = "hi" if "hi" in parts else "both" if "d16" in parts else ""
    return parts[1], COUNTS[channels], halves


def descriptor(target: str, form: int, select: int) -> list[int]:
    """Return a raw buffer over the memory; `select` is DST_SEL."""
    old = target in ("gfx90a", "gfx942", "gfx950")
    last = (form & 15) << 15 | form >> 4 << 12 if old else form << 12 | 3 << 28
    return [BASE & 0xFFFFFFFF, BASE >> 32, SIZE, last | select]


def code_of(target: str, name: str, form: int) -> list[int]:
    verb = shape_of(name)[0]
    typed = name.startswith("tbuffer")
    encoding = "MTBUF" if typed and target != "gfx1201" else "MUBUF"
    fields = {"vaddr": ADDRESS, "vdata": TO if verb == "load" else DATA, "offen": 1, "offset": 32,
              "srsrc": 8 if target == "gfx1201" else 2,
              "soffset": 124 if target in ("gfx1100", "gfx1201") else 128}  # fmt: skip
    if typed:
        fields["format"] = form
    known = form_fields(target, encoding)
    words = encode(target, name, **{k: v for k, v in fields.items() if k in known})
    return [*words, *encode(target, "s_endpgm")]


def values_for(widths: list[int], lanes: int, seed: int) -> list[list[int]]:
    """Return components of elements for each lane: edges and random ones."""
    chance = np.random.default_rng(seed)
    rows = []
    for _ in range(lanes):
        row = []
        for width in widths:
            edges = [0, 1, (1 << width) - 1, 1 << width - 1, (1 << width - 1) - 1,
                     (1 << width - 1) + 1, 0x3C00 & (1 << width) - 1, 0x7C00 & (1 << width) - 1]
            random = int(chance.integers(1 << 32)) & (1 << width) - 1
            row.append(int(chance.choice(edges)) if chance.random() < 0.5 else random)
        rows.append(row)
    return rows


def check_load(
    target: str, name: str, form: int, seed: int, select: int = 0xFAC, run: Run = run_numpy
) -> None:
    widths, kind = expected_formats(target)[form]
    _, count, halves = shape_of(name)
    lanes, size = decoder(target).wave, sum(widths) // 8
    rows, step = values_for(widths, lanes, seed), 16
    memory = np.random.default_rng(seed).integers(256, size=SIZE, dtype=np.uint8)
    for lane, row in enumerate(rows):
        whole, at = 0, 0
        for width, value in zip(widths, row, strict=True):
            whole, at = whole | value << at, at + width
        start = 32 + step * lane
        memory[start : start + size] = np.frombuffer(whole.to_bytes(size, "little"), np.uint8)
    arrays = Arrays()
    arrays.add(memory, BASE)
    before = np.random.default_rng(seed + 1).integers(2**32, size=(4, lanes), dtype=np.uint32)

    def setup(group: Group) -> None:
        wave = group.waves[0]
        wave.scalars[8:12] = descriptor(target, form, select)
        wave.vectors[ADDRESS] = np.arange(lanes, dtype=np.uint32) * step
        wave.vectors[TO : TO + 4] = before

    ended = run(target, code_of(target, name, form), setup, arrays)
    assert ended.outcome == Done()
    one = 1 if kind in "ui" else 0x3C00 if halves else 0x3F800000
    for lane, row in enumerate(rows):
        full = [loaded(v, w, kind, bool(halves)) for v, w in zip(row, widths, strict=True)]
        full += [0, 0, 0, one][len(full) :]
        if not name.startswith("tbuffer"):
            chosen = [select >> 3 * k & 7 for k in range(4)]
            full = [full[c - 4] if c > 3 else one * (c == 1) for c in chosen]
        wanted = [int(word) for word in before[:, lane]]
        for k in range(count):
            if halves == "hi":
                wanted[0] = wanted[0] & 0xFFFF | full[0] << 16
            elif halves:
                shift = 16 * (k % 2)
                wanted[k // 2] = wanted[k // 2] & ~(0xFFFF << shift) | full[k] << shift
            else:
                wanted[k] = full[k]
        found = [int(ended.vector(TO + k)[lane]) for k in range(4)]
        assert found == wanted, (name, form, lane, row)


def check_store(
    target: str, name: str, form: int, seed: int, run: Run = run_numpy
) -> None:
    widths, kind = expected_formats(target)[form]
    _, count, halves = shape_of(name)
    lanes, size, step = decoder(target).wave, sum(widths) // 8, 16
    chance = np.random.default_rng(seed)
    data = chance.integers(2**32, size=(4, lanes), dtype=np.uint32)
    floats = np.array([0.0, -0.0, 0.5, 1.0, -1.0, 1.5, -0.25, 300.7, -7e4, 6e4, 2**-15, np.inf,
                       -np.inf, np.nan, 0.1, 3e-7], np.float32)  # fmt: skip
    picked = chance.choice(floats, (4, lanes))
    words = picked.view(np.uint32)
    if halves:
        with np.errstate(over="ignore"):
            words = picked.astype(np.float16).view(np.uint16).astype(np.uint32) * 0x10001
    data = np.where(chance.random((4, lanes)) < 0.6, words, data)
    memory = chance.integers(256, size=SIZE, dtype=np.uint8)
    expected, arrays = bytearray(memory.tobytes()), Arrays()
    arrays.add(memory, BASE)

    def setup(group: Group) -> None:
        wave = group.waves[0]
        wave.scalars[8:12] = descriptor(target, form, 0xFAC)
        wave.vectors[ADDRESS] = np.arange(lanes, dtype=np.uint32) * step
        wave.vectors[DATA : DATA + 4] = data

    ended = run(target, code_of(target, name, form), setup, arrays)
    assert ended.outcome == Done()
    for lane in range(lanes):
        whole, at = 0, 0
        for k, width in enumerate(widths):
            if k < count:
                bits = int(data[k if not halves else k // 2, lane])
                if halves:
                    bits = bits >> 16 if halves == "hi" or k % 2 else bits & 0xFFFF
                whole |= stored(bits, width, kind, bool(halves)) << at
            at += width
        start = 32 + step * lane
        expected[start : start + size] = whole.to_bytes(size, "little")
    assert arrays.contents()[0] == bytes(expected), (name, form)


@pytest.mark.parametrize("target", ["gfx942", "gfx1030", "gfx1201"])
def test_every_format_is_converted_both_ways(target: str) -> None:
    for number_of, form in enumerate(expected_formats(target)):
        if target != "gfx1030" or number_of % 2:
            check_load(target, "tbuffer_load_format_xyzw", form, form)
        if target != "gfx942" or number_of % 2:
            check_store(target, "tbuffer_store_format_xyzw", form, form)


@pytest.mark.parametrize("target", ["gfx942", "gfx1100"])
def test_compiled_code_converts_every_format_alike(target: str) -> None:
    # One compilation each: the descriptor says the format.
    for number_of, form in enumerate(expected_formats(target)):
        if number_of % 3 == 0:
            check_load(target, "buffer_load_format_xyzw", form, form + 7, 0xFAC, run_both)
        else:
            check_store(target, "buffer_store_format_xyzw", form, form + 7, run_both)
    half = [name for name in names_of(target) if name.startswith("tbuffer") and "d16" in name]
    known = expected_formats(target).items()
    colours = next(n for n, (w, k) in known if w == [8] * 4 and k == "n")
    for name in half[1::3]:
        check = check_load if "load" in name else check_store
        check(target, name, colours, 1, run=run_both)


@pytest.mark.parametrize("target", TARGETS)
def test_every_typed_instruction(target: str) -> None:
    chance = np.random.default_rng(3)
    for name in names_of(target):
        if "_lds_" in name:
            continue
        for form in chance.choice(list(expected_formats(target)), 2):
            if shape_of(name)[0] == "load":
                check_load(target, name, int(form), int(form), int(chance.choice([0xFAC, 0x2E4])))
            else:
                check_store(target, name, int(form), int(form))


@pytest.mark.parametrize("target", TARGETS)
def test_invalid_formats_load_zeros_and_store_nothing(target: str) -> None:
    arrays, lanes = Arrays(), decoder(target).wave
    memory = np.arange(SIZE, dtype=np.uint16).astype(np.uint8)
    arrays.add(memory, BASE)

    def setup(group: Group) -> None:
        group.waves[0].scalars[8:12] = descriptor(target, 0, 0xFAC)
        group.waves[0].vectors[TO : TO + 4] = 7

    for name in ("tbuffer_load_format_xyzw", "buffer_load_format_xyzw"):
        ended = run_both(target, code_of(target, name, 0), setup, arrays)
        assert [set(ended.vector(TO + k).tolist()) for k in range(4)] == [{0}] * 4
    for name in ("tbuffer_store_format_xyzw", "buffer_store_format_xyzw"):
        run_both(target, code_of(target, name, 0), setup, arrays)
    assert memory.tobytes() == np.arange(SIZE, dtype=np.uint16).astype(np.uint8).tobytes()
    assert lanes in (32, 64)


def test_elements_out_of_range_read_as_zero() -> None:
    memory: Any = np.full(SIZE, 0xFF, np.uint8)
    arrays = Arrays()
    arrays.add(memory, BASE)

    def setup(group: Group) -> None:
        words = descriptor("gfx1100", 57 + 3, 0xFAC)
        words[2] = 32 + 16 * 3 + 6  # three elements, and six bytes of the fourth
        group.waves[0].scalars[8:12] = words
        group.waves[0].vectors[ADDRESS] = np.arange(32, dtype=np.uint32) * 16

    known = expected_formats("gfx1100").items()
    form = next(n for n, (w, k) in known if w == [32] * 4 and k == "u")
    ended = run_both("gfx1100", code_of("gfx1100", "tbuffer_load_format_xyzw", form), setup, arrays)
    ones = 0xFFFFFFFF
    assert ended.vector(TO).tolist() == [ones] * 4 + [0] * 28
    assert ended.vector(TO + 1).tolist() == [ones] * 3 + [0] * 29


def test_a_typed_load_may_go_to_lds() -> None:
    memory = np.arange(SIZE, dtype=np.uint16).astype(np.uint8)
    arrays = Arrays()
    arrays.add(memory, BASE)
    form = next(n for n, (w, k) in expected_formats("gfx1100").items() if w == [8] and k == "n")

    def setup(group: Group) -> None:
        group.waves[0].scalars[8:12] = descriptor("gfx1100", form, 0xFAC)
        group.waves[0].vectors[ADDRESS] = np.arange(32, dtype=np.uint32) * 16

    code = code_of("gfx1100", "buffer_load_lds_format_x", form)
    ended = run_both("gfx1100", code, setup, arrays)
    words = np.frombuffer(ended.lds, np.float32)[8:40]
    wanted = [rounded(Fraction(int(memory[32 + 16 * lane]), 255), 32) for lane in range(32)]
    assert words.tolist() == wanted
