"""Every load, store and atomic of every target against `memory_witness`, which has only names."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gputrace.isa import state
from gputrace.isa.decode import TARGETS, decoder
from gputrace.isa.instruction import Instruction
from gputrace.isa.meanings import MEANINGS
from tests.isa import memory_witness as spec
from tests.isa.single import Bench
from tests.isa.steps import encode

BASE, SIZE = 0x7000_0000_0000, 8192
ADDRESS, DATA, SECOND, TO = 16, 32, 40, 4
DENORMALS = {"gfx942", "gfx1201"}  # targets whose additions to memory keep them
FLOATS = (
    0, 1 << 31, 0x3F800000, 0xBF800000, 0x7F800000, 0x7FC00000, 0x00000001, 0x807FFFFF,
    0x00800000, 0x7F7FFFFF, 0x3F8, 0x3C003C00, 0x7BFF7BFF, 0x00010001, 0x3F803F80,
)  # fmt: skip


def names_of(target: str) -> list[str]:
    return sorted({name for _, name in decoder(target).names()} & set(MEANINGS.meanings))


def _kind(target: str, name: str) -> Any:
    found: Any = spec.plain_names([name]).get(name) or spec.lds_atomic(name)
    return found or spec.two_places(name) or spec.memory_atomic(name, target in DENORMALS)


def _cases() -> list[tuple[str, str]]:
    # Each name on the first target that has it, of each size of waves.
    made, seen = [], set()
    for target in ("gfx942", "gfx1201", "gfx90a", "gfx1100", "gfx1030"):
        for name in names_of(target):
            if name not in seen and _kind(target, name):
                seen.add(name)
                made.append((target, name))
    return made


CASES = _cases()
NAMES = frozenset(name for _, name in CASES)
"""Instructions that are held against a model of bytes here."""


def assemble(target: str, name: str, **fields: int) -> Instruction:
    words = encode(target, name, **fields)
    raw = b"".join(word.to_bytes(4, "little") for word in words)
    made = decoder(target).decode(raw + bytes(12))
    assert made.name == name
    return made


def form_fields(target: str, encoding: str) -> dict[str, Any]:
    form = next(f for f in decoder(target).generation.formats if f.name == encoding)
    return dict(form.fields)


def _encodings(name: str) -> str:
    if name.startswith("ds"):
        return "DS"
    return "MUBUF" if name.startswith("buffer") else "FLAT"


def fields_for(target: str, name: str, load: bool, returns: bool) -> dict[str, int]:
    """Return the fields of an instruction: its registers, offsets, and whether it gives back."""
    known = form_fields(target, _encodings(name))
    wanted = {"addr": ADDRESS, "vaddr": ADDRESS, "data": DATA, "data0": DATA, "data1": SECOND,
              "vdst": TO, "vdata": TO if load else DATA}  # fmt: skip
    if name.startswith("buffer"):
        wanted |= {"offen": 1, "srsrc": 2 if target != "gfx1201" else 8, "soffset": 20}
    if name.startswith("scratch"):
        wanted |= {"lds": 1} if target in ("gfx942", "gfx950") else {"vaddr_on": 1}
    if returns:
        wanted |= {"sc0": 1, "glc": 1, "temporal": 1}
    return {field: value for field, value in wanted.items() if field in known}


@dataclass
class Scene:
    """A bench, its bytes, and what the witness says of them."""

    bench: Bench
    memory: np.ndarray[Any, np.dtype[np.uint8]]
    world: spec.World

    def check(self, made: Instruction) -> None:
        self.bench.run(made)
        differing = np.argwhere(self.bench.wave.vectors != self.world.vectors)
        assert not len(differing), f"v{differing[0][0]} lane {differing[0][1]}"
        assert self.memory.tobytes() == bytes(self.world.memory)
        assert self.bench.lds.tobytes() == bytes(self.world.lds)


def scene(target: str, space: str, seed: int, step: int, offset: int, aligned: int) -> Scene:
    """Fill registers and memory; lanes go to places `step` bytes apart, or to few when it is 0."""
    chance, bench = np.random.default_rng(seed), Bench(target)
    memory = chance.integers(256, size=SIZE, dtype=np.uint8)
    bench.lds = chance.integers(256, size=SIZE, dtype=np.uint8)
    bench.memory.add(memory, BASE)
    bench.wave.vectors[:60] = chance.integers(2**32, size=bench.wave.vectors[:60].shape)
    rows = bench.wave.vectors[DATA : DATA + 16]
    special = chance.choice(FLOATS, rows.shape)
    rows[:] = np.where(chance.random(rows.shape) < 0.5, special, rows)
    words = memory.view(np.uint32)
    words[:64] = np.where(chance.random(64) < 0.5, chance.choice(FLOATS, 64), words[:64])
    bench.lds[:256] = memory[:256]
    order = chance.permutation(bench.lanes)
    if space == "scratch":  # each lane has bytes of its own
        places = [int(n) for n in chance.integers(0, SIZE // bench.lanes - 16, bench.lanes)]
    elif step:
        places = [int(n) * step + int(chance.integers(step - 15)) for n in order]
    else:
        places = [int(n) * aligned for n in chance.integers(0, 6, bench.lanes)]
    places = [place // aligned * aligned for place in places]
    lds_lanes = {lane for lane in range(bench.lanes) if lane % 3 == 0} if space == "flat" else ()
    bench.set_mask(126, int(chance.integers(1, 1 << 63)) & ((1 << bench.lanes) - 1) | 1)
    mask = bench.mask(126)
    for lane, place in enumerate(places):
        address = {"ds": place, "buffer": place, "scratch": place}.get(space, BASE + place)
        address = (1 << 48) + place if lane in lds_lanes else address
        bench.wave.vectors[ADDRESS, lane] = (address - offset) & 0xFFFFFFFF
        if space in ("global", "flat"):
            bench.wave.vectors[ADDRESS + 1, lane] = (address - offset) >> 32
    bench.wave.scalars[8:12] = [BASE & 0xFFFFFFFF, BASE >> 32, SIZE, 3 << 28]
    bench.wave.scalars[state.FLAT_SCRATCH : state.FLAT_SCRATCH + 2] = [
        BASE & 0xFFFFFFFF, BASE >> 32,
    ]  # fmt: skip

    def where(lane: int) -> tuple[str, Callable[[int], int]]:
        at, lanes = places[lane], bench.lanes
        if space == "ds" or lane in lds_lanes:
            return "lds", lambda k: at + k
        if space == "scratch":
            return "memory", lambda k: (at + k) // 4 * 4 * lanes + 4 * lane + (at + k) % 4
        return "memory", lambda k: at + k

    active = [lane for lane in range(bench.lanes) if mask >> lane & 1]
    world = spec.World(
        bytearray(memory.tobytes()), bytearray(bench.lds.tobytes()), bench.wave.vectors.copy(),
        active, where,
    )  # fmt: skip
    return Scene(bench, memory, world)


def _run_plain(target: str, name: str, seed: int, kind: Any) -> None:
    space, verb, shape = kind
    offset = {"global": 100, "ds": 48, "buffer": 8}.get(space, 0)
    made_scene = scene(target, space, seed, 32, offset, 1)
    fields = fields_for(target, name, verb == "load", returns=False)
    if offset:
        fields |= {"offset": offset}
    made = assemble(target, name, **fields)
    if verb == "load":
        spec.load(made_scene.world, shape, TO)
    else:
        spec.store(made_scene.world, shape, DATA)
    made_scene.check(made)


def _run_two(target: str, name: str, seed: int, kind: Any) -> None:
    verb, size, step = kind
    made_scene = scene(target, "ds", seed, 16, 0, size)
    first, second = 1, 3
    fields = fields_for(target, name, verb == "load", returns=False)
    made = assemble(target, name, **fields | {"offset0": first, "offset1": second})
    world, words = made_scene.world, size // 4
    old_lds = bytearray(world.lds)
    for k, offset in enumerate((first, second)):
        for lane in world.active:
            at = offset * step
            if verb == "load":
                world.lds, kept = old_lds, world.lds
                value = world.read(lane, size, at)
                world.lds = kept
                world.put(TO + k * words, lane, words, value)
            else:
                world.write(lane, size, world.register((DATA, SECOND)[k], lane, words), at)
    made_scene.check(made)


def _run_atomic(target: str, name: str, seed: int, kind: spec.Atomic) -> None:
    returns = "_rtn_" in name or ("_atomic_" in name and seed % 2 == 1)
    made_scene = scene(target, kind.space, seed, 0, 0, kind.bits // 8)
    fields = fields_for(target, name, load=False, returns=returns)
    made = assemble(target, name, **fields)
    assert bool(made.dst) == returns
    words = kind.bits // 32
    second = SECOND if kind.space == "ds" else DATA + words
    to = (DATA if kind.space == "buffer" else TO) if returns else None
    spec.atomic(made_scene.world, kind, (DATA, second), to)
    made_scene.check(made)


@pytest.mark.parametrize(("target", "name"), CASES)
def test_memory_instruction(target: str, name: str) -> None:
    kind = _kind(target, name)
    seed = random.Random(name).randrange(1 << 30)
    for number in (seed * 2, seed * 2 + 1):
        if isinstance(kind, spec.Atomic):
            _run_atomic(target, name, number, kind)
        elif isinstance(kind[1], str):
            _run_plain(target, name, number, kind)
        else:
            _run_two(target, name, number, kind)


def test_all_targets_are_covered() -> None:
    for target in TARGETS:
        missing = [name for name in names_of(target) if _kind(target, name) and name not in NAMES]
        assert not missing
