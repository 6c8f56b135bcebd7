"""Loads and stores of every width at any offset against a model of bytes (hypothesis)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.isa.decode import decoder
from gputrace.isa.instruction import Instruction
from gputrace.isa.semantics_memory import LOADS, STORES, Access
from tests.isa.single import Bench, fitted

BASE, SIZE = 0x7000_0000_0000, 4096
quick = settings(max_examples=3, deadline=None)
FIELDS = {"addr": 16, "vaddr": 16, "data": 32, "data0": 32, "vdata": 32, "vdst": 4}
Place = Callable[[int, int], int | None]
"""(lane, byte of the access) to a place in the buffer; None for a byte that is out of range."""


def assemble(target: str, encoding: str, name: str, **extra: int) -> Instruction | None:
    """Encode a memory instruction with v16 as address, v32 as stored and v4 as loaded data."""
    machine = decoder(target)
    rows = machine._rows.items()
    found = [opcode for (kind, opcode), row in rows if (kind, row.name) == (encoding, name)]
    if not found:
        return None
    formats = {"GLOBAL": "FLAT", "SCRATCH": "FLAT"}
    wanted = formats.get(encoding, encoding)
    form = next(f for f in machine.generation.formats if f.name == wanted)
    raw = form.prefix << (32 - form.width) | found[0] << form.opcode[0]
    fields = {field: number for field, number in FIELDS.items() if field in form.fields}
    if encoding in ("GLOBAL", "SCRATCH", "FLAT"):
        fields["segment"] = {"FLAT": 0, "SCRATCH": 1, "GLOBAL": 2}[encoding]
        if encoding != "FLAT" or machine.generation.no_base != 0x7F:
            fields["saddr"] = machine.generation.no_base
    for field, value in (fields | extra).items():
        low, width = form.fields[field]
        raw |= (value & (1 << width) - 1) << low
    raw = fitted(target, (encoding, found[0]), raw)
    made = machine.decode(raw.to_bytes(4 * form.words, "little") + bytes(12))
    assert made.name == name
    return made


@dataclass
class Model:
    """A bench whose memory, LDS or scratch is also known to the test as bytes."""

    bench: Bench
    data: np.ndarray[tuple[int], np.dtype[np.uint8]]
    place: Place

    def check_load(self, made: Instruction, access: Access, active: int) -> None:
        """Run a load and compare all lanes."""
        bench = self.bench
        before = np.random.default_rng(1).integers(2**32, size=bench.wave.vectors[4:8].shape)
        bench.wave.vectors[4:8] = before
        bench.run(made)
        for lane in range(bench.lanes):
            for k in range(access.count):
                old = int(before[k][lane])
                wanted = self._loaded(access, lane, k, old) if active >> lane & 1 else old
                assert int(bench.wave.vectors[4 + k, lane]) == wanted, (lane, k)

    def _loaded(self, access: Access, lane: int, k: int, old: int) -> int:
        size = access.element.bits // 8
        places = [self.place(lane, k * size + byte) for byte in range(size)]
        raw = bytes(0 if at is None else int(self.data[at]) for at in places)
        value = int.from_bytes(raw, "little", signed=access.signed) & 0xFFFFFFFF
        if access.half == "lo":
            return old & 0xFFFF0000 | value & 0xFFFF
        return old & 0xFFFF | (value & 0xFFFF) << 16 if access.half == "hi" else value

    def check_store(self, made: Instruction, access: Access, active: int) -> None:
        """Run a store and compare all bytes."""
        bench, expected = self.bench, self.data.copy()
        values = np.random.default_rng(2).integers(2**32, size=bench.wave.vectors[32:36].shape)
        bench.wave.vectors[32:36] = values
        size = access.element.bits // 8
        for lane in range(bench.lanes):
            for byte in range(access.size if active >> lane & 1 else 0):
                word = int(values[byte * 8 // access.element.bits][lane])
                word >>= 16 if access.half == "hi" else 0
                at = self.place(lane, byte)
                if at is not None:
                    expected[at] = word >> 8 * (byte % size) & 0xFF
        bench.run(made)
        assert np.array_equal(self.data, expected)


def offsets(bench: Bench, chosen: int, step: int) -> list[int]:
    """Return a byte offset for each lane: apart from one another, aligned or not."""
    chance = np.random.default_rng(chosen)
    order = chance.permutation(bench.lanes)
    return [int(place) * step + int(chance.integers(step - 15)) for place in order]


def memory_model(target: str, chosen: int, offset: int) -> Model:
    bench = Bench(target)
    data = np.random.default_rng(3).integers(256, size=SIZE, dtype=np.uint8)
    bench.memory.add(data, BASE)
    where = offsets(bench, chosen, 32)
    for lane, at in enumerate(where):
        address = BASE + at + 64 - offset
        bench.wave.vectors[16, lane] = address & 0xFFFFFFFF
        bench.wave.vectors[17, lane] = address >> 32
    return Model(bench, data, lambda lane, byte: where[lane] + 64 + byte)


def lds_model(target: str, chosen: int, offset: int) -> Model:
    bench = Bench(target)
    bench.lds = np.random.default_rng(4).integers(256, size=SIZE, dtype=np.uint8)
    where = offsets(bench, chosen, 32)
    bench.wave.vectors[16] = [at + 64 - offset for at in where]
    return Model(bench, bench.lds, lambda lane, byte: where[lane] + 64 + byte)


def scratch_model(target: str, chosen: int, offset: int) -> Model:
    bench = Bench(target)
    data = np.random.default_rng(5).integers(256, size=64 * bench.lanes * 4, dtype=np.uint8)
    bench.memory.add(data, BASE)
    bench.set_mask(129, BASE) if bench.lanes == 64 else None
    bench.wave.scalars[129:131] = [BASE & 0xFFFFFFFF, BASE >> 32]
    where = [int(at) for at in np.random.default_rng(chosen).integers(200, size=bench.lanes)]
    bench.wave.vectors[16] = [at + 32 - offset for at in where]

    def place(lane: int, byte: int) -> int:
        at = where[lane] + 32 + byte
        return at // 4 * 4 * bench.lanes + lane * 4 + at % 4

    return Model(bench, data, place)


KINDS = {
    "GLOBAL": ("global", memory_model, 100),
    "FLAT": ("flat", memory_model, 0),
    "SCRATCH": ("scratch", scratch_model, 16),
    "DS": ("ds", lds_model, 48),
}
SPELLINGS = {"load": ("load", "read"), "store": ("store", "write")}
EXTRA = {"gfx942": {"SCRATCH": {"lds": 1}}, "gfx1201": {"SCRATCH": {"vaddr_on": 1}}}


def memory_cases() -> list[tuple[str, str, str, str, str]]:
    cases = []
    for target in ("gfx942", "gfx1201"):
        for encoding, (stem, _, _) in KINDS.items():
            for verb, table in (("load", LOADS), ("store", STORES)):
                for access in table:
                    for word in SPELLINGS[verb]:
                        name = f"{stem}_{word}_{access}"
                        if assemble(target, encoding, name) is not None:
                            cases.append((target, encoding, name, verb, access))
    return cases


@pytest.mark.parametrize(("target", "encoding", "name", "verb", "access"), memory_cases())
@quick
@given(chosen=st.integers(0, 2**32), active=st.integers(0, 2**64 - 1))
def test_memory(
    target: str, encoding: str, name: str, verb: str, access: str, chosen: int, active: int
) -> None:
    _, make, offset = KINDS[encoding]
    model = make(target, chosen, offset)
    active &= (1 << model.bench.lanes) - 1
    model.bench.set_mask(126, active)
    extra = EXTRA.get(target, {}).get(encoding, {})
    made = assemble(target, encoding, name, offset=offset, **extra)
    assert made is not None
    if verb == "load":
        model.check_load(made, LOADS[access], active)
    else:
        model.check_store(made, STORES[access], active)


# --- buffers: stride, swizzle and range


@dataclass(frozen=True)
class Descriptor:
    """The fields of a buffer resource that matter."""

    stride: int
    records: int
    swizzled: bool
    add_lane: bool
    select: int

    def words(self) -> list[int]:
        """Encode it; elements of four bytes, swizzled by eight."""
        high = BASE >> 32 | self.stride << 16 | (1 << 31 if self.swizzled else 0)
        return [BASE & 0xFFFFFFFF, high, self.records, self.add_lane << 23 | self.select << 28]


def in_range(one: Descriptor, selects: bool, index: int, end: int, scalar: int) -> bool:
    """Say whether bytes up to `end` of an element may be touched, by the manuals' tables."""
    structured = one.swizzled and one.stride != 0
    raw = end + index * one.stride + scalar <= one.records
    if not selects:
        return index < one.records if one.stride else raw  # the instruction has an index
    known, fits = index < one.records, end <= one.stride
    return [
        known and fits,
        known,
        one.records != 0,
        (known and fits) if structured else raw,
    ][one.select]


BUFFERS = st.builds(
    Descriptor,
    stride=st.sampled_from([0, 16, 20, 64]),
    records=st.sampled_from([0, 5, 40, 77, 600, 5000]),
    swizzled=st.booleans(),
    add_lane=st.booleans(),
    select=st.integers(0, 3),
)
WIDTHS = ("dword", "dwordx2", "dwordx4", "ubyte", "sshort", "short_d16_hi", "byte", "short")


@pytest.mark.parametrize("verb", ["load", "store"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("target", ["gfx90a", "gfx1030"])
@settings(max_examples=8, deadline=None)
@given(one=BUFFERS, chosen=st.integers(0, 2**32), scalar=st.sampled_from([0, 4, 96]))
def test_buffers(
    target: str, width: str, verb: str, one: Descriptor, chosen: int, scalar: int
) -> None:
    table = LOADS if verb == "load" else STORES
    if width not in table:
        return
    made = assemble(
        target, "MUBUF", f"buffer_{verb}_{width}",
        offset=8, offen=1, idxen=1, srsrc=2, soffset=20, vdata=4 if verb == "load" else 32,
    )  # fmt: skip
    assert made is not None
    bench, chance = Bench(target), np.random.default_rng(chosen)
    data = np.random.default_rng(6).integers(256, size=1 << 17, dtype=np.uint8)
    bench.memory.add(data, BASE)
    bench.wave.scalars[8:12] = one.words()
    bench.wave.scalars[20] = scalar
    # Lanes touch places of their own: different indices, or different offsets in one.
    index = [0 if one.add_lane else lane for lane in range(bench.lanes)]
    apart = 64 if one.stride == 0 else 0
    offset = [int(chance.integers(4)) + apart * lane for lane in range(bench.lanes)]
    bench.wave.vectors[16], bench.wave.vectors[17] = index, offset
    size = table[width].size
    selects = target == "gfx1030"

    def place(lane: int, byte: int) -> int | None:
        number = index[lane] + (lane if one.add_lane else 0)
        first = offset[lane] + 8
        end = first + byte // 4 * 4 + min(4, size)
        if not in_range(one, selects, number, end, scalar):
            return None
        at = first + byte
        if not one.swizzled:
            return scalar + number * one.stride + at
        rows = (number // 8 * one.stride + at // 4 * 4) * 8
        return scalar + rows + number % 8 * 4 + at % 4

    touched = [place(lane, byte) for lane in range(bench.lanes) for byte in range(size)]
    known = [at for at in touched if at is not None]
    if verb == "store" and len(set(known)) < len(known):
        return  # lanes meet: the order of their bytes is not what this test is about
    model = Model(bench, data, place)
    everyone = (1 << bench.lanes) - 1
    check = model.check_load if verb == "load" else model.check_store
    check(made, table[width], everyone)


@pytest.mark.parametrize("swizzled", [False, True])
@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950"])
def test_an_index_counts_records_and_an_offset_bytes_before_gfx10(
    target: str, swizzled: bool
) -> None:
    bench = Bench(target)
    bench.memory.add(np.full(4096, 7, np.uint8), BASE)
    bench.wave.scalars[8:12] = Descriptor(16, 40, swizzled, False, 0).words()
    lanes = np.arange(bench.lanes)
    for indexed in (True, False):
        bench.wave.vectors[16] = lanes if indexed else 4 * lanes
        made = assemble(
            target, "MUBUF", "buffer_load_dword", idxen=indexed, offen=not indexed, srsrc=2, vdata=4
        )
        assert made is not None
        bench.run(made)
        inside = lanes < 40 if indexed else 4 * lanes + 4 <= 40
        assert (bench.wave.vectors[4] == np.where(inside, 0x07070707, 0)).all()
