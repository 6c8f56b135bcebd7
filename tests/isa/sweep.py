"""Memory instructions in a row, with both engines: what each gives is mixed into what is kept."""

import random
from typing import Any

import numpy as np

from gputrace.isa import state
from gputrace.isa.decode import decoder
from gputrace.isa.machine import Done
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.waves import Group
from tests.isa.launching import Arrays
from tests.isa.steps import Ended, encode, run_both

BASE, SIZE, LDS = 0x7000_0000_0000, 1 << 15, 4096
GLOBAL, PLAIN, OWN, FLAT, DATA, TO, KEPT, BLOCK = 16, 18, 19, 20, 32, 4, 60, 100
ENCODINGS = ("DS", "FLAT", "GLOBAL", "SCRATCH", "MUBUF", "MTBUF", "SMEM")
CLOCKS = ("s_memtime", "s_memrealtime")
COLOURS = {"gfx90a": 10, "gfx942": 10, "gfx950": 10, "gfx1030": 56, "gfx1100": 42, "gfx1201": 42}
"""The number of four normal bytes in each generation's formats."""


def names_of(target: str) -> list[str]:
    """Return the memory instructions of a target that are modelled and need nobody else."""
    found = {name for encoding, name in decoder(target).names() if encoding in ENCODINGS}
    names = sorted(name for name in found & set(MEANINGS.meanings) if name not in CLOCKS)
    return [name for name in names if not name.startswith("ds_gws_")]


def _fields(target: str, name: str, encoding: str, chance: random.Random) -> dict[str, int]:
    load = "load" in name
    newer = target in ("gfx1100", "gfx1201")
    fields = {"data0": DATA, "data": DATA, "data1": DATA + 4, "vdst": TO, "vdata": TO if load
              else DATA, "srsrc": 8 if target == "gfx1201" else 2, "offen": 1, "vaddr": PLAIN,
              "soffset": 124 if newer else 128, "format": COLOURS[target]}  # fmt: skip
    fields["addr"] = {"GLOBAL": GLOBAL, "SCRATCH": OWN, "FLAT": FLAT}.get(encoding, PLAIN)
    if encoding == "SCRATCH":
        fields |= {"lds": 1} if target in ("gfx942", "gfx950") else {"vaddr_on": 1}
    if encoding == "SMEM":
        fields |= {"sbase": 4, "sdata": 32, "offset": 8 * chance.randrange(20), "immediate": 1}
        fields["soffset"] = {"gfx1030": 125}.get(target, 124) if target[3] != "9" else 0
    if "addtid" in name and encoding == "GLOBAL":
        fields["saddr"] = 8
    if "block" in name:
        fields |= {"vdst": BLOCK, "data": BLOCK}
    if "atomic" in name and chance.random() < 0.5:
        fields |= {"sc0": 1, "glc": 1, "temporal": 1}
    if name == "ds_swizzle_b32":
        fields["offset"] = chance.randrange(1 << 16)
    if "store_lds" in name or (name == "buffer_load_dword" and chance.random() < 0.5):
        fields["lds"] = 1
    return fields


def program(target: str, names: list[str], chance: random.Random) -> list[int]:
    """Return the code: each instruction, and its results mixed into four registers."""
    machine, code = decoder(target), []
    for name in names:
        encoding = next(kind for kind, one in machine.names() if one == name and kind in ENCODINGS)
        wanted = "FLAT" if encoding in ("GLOBAL", "SCRATCH") else encoding
        form = next(f for f in machine.generation.formats if f.name == wanted)
        fields = _fields(target, name, encoding, chance)
        known = {k: v for k, v in fields.items() if k in form.fields}
        code += encode(target, name, **known)
        for k in range(4):
            kept, got = KEPT + k, BLOCK + 9 * k if "block" in name else TO + k
            code += encode(
                target, "v_alignbit_b32", vdst=kept, src0=256 + kept, src1=256 + kept, src2=135
            )
            code += encode(target, "v_xor_b32", vdst=kept, src0=256 + got, vsrc1=kept)
        for k in range(4 if encoding == "SMEM" else 0):
            code += encode(target, "s_xor_b32", sdst=60 + k, ssrc0=60 + k, ssrc1=32 + k)
    return [*code, *encode(target, "s_endpgm")]


def compare(target: str, names: list[str], seed: int) -> Ended:
    """Run instructions with both engines from random registers and memory."""
    chance, numbers = random.Random(seed), np.random.default_rng(seed)
    lanes = decoder(target).wave
    arrays = Arrays()
    arrays.add(numbers.integers(256, size=SIZE, dtype=np.uint8), BASE)
    lds = numbers.integers(256, size=LDS, dtype=np.uint8)
    vectors = numbers.integers(2**32, size=(140, lanes), dtype=np.uint32)
    floats = numbers.normal(size=(8, lanes)).astype(np.float32).view(np.uint32)
    vectors[DATA : DATA + 8] = np.where(numbers.random((8, lanes)) < 0.5, floats, vectors[:8])
    places = 16 * numbers.integers(0, 190, lanes)
    address = BASE + places + 1024
    vectors[GLOBAL], vectors[GLOBAL + 1] = address & 0xFFFFFFFF, address >> 32
    vectors[PLAIN], vectors[OWN] = places, 8 * numbers.integers(0, 40, lanes)
    flat = np.where(numbers.random(lanes) < 0.4, (1 << 48) + places, address)
    vectors[FLAT], vectors[FLAT + 1] = flat & 0xFFFFFFFF, flat >> 32
    mask = int(numbers.integers(1, 1 << 62)) if seed % 3 else (1 << 64) - 1
    old = target in ("gfx90a", "gfx942", "gfx950")
    number = COLOURS[target]
    last = (number & 15) << 15 | number >> 4 << 12 if old else number << 12 | 3 << 28

    def setup(group: Group) -> None:
        wave: Any = group.waves[0]
        group.lds[:] = lds
        wave.vectors[:140] = vectors
        wave.scalars[8:12] = [BASE & 0xFFFFFFFF, BASE >> 32, SIZE - 64, last | 0xFAC]
        wave.scalars[32:48] = vectors[130, :16]
        wave.scalars[state.FLAT_SCRATCH : state.FLAT_SCRATCH + 2] = [BASE & 0xFFFFFFFF, BASE >> 32]
        wave.scalars[state.M0] = 0xA0F1_0040
        wave.scalars[state.EXEC : state.EXEC + 2] = [mask & 0xFFFFFFFF, mask >> 32]

    ended = run_both(target, program(target, names, chance), setup, arrays)
    assert ended.outcome == Done(), ended.outcome
    return ended
