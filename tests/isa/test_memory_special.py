"""Scalar memory, LDS counters and exchanges, loads into LDS, blocks, moves between lanes: each
against a few lines of plain Python that follow AMD's manuals.
"""

import random
import re
from typing import Any

import numpy as np
import pytest

from gputrace.errors import DecodeError
from gputrace.isa import state
from gputrace.isa.decode import decoder
from gputrace.isa.machine import Fault
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.semantics import trace_instruction
from gputrace.isa.trace import Mode, NotModelled
from tests.isa.launching import Arrays
from tests.isa.memory_witness import _integer, _sign
from tests.isa.single import Bench
from tests.isa.steps import encode, run_both
from tests.isa.test_memory_witness import (
    ADDRESS,
    BASE,
    DATA,
    SECOND,
    SIZE,
    TO,
    assemble,
    fields_for,
    form_fields,
)
from tools.campaigns.instructions import code_of

TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
_SCALAR = re.compile(
    r"s_(buffer_|scratch_)?(load|store|atomic)_"
    r"(?:dword(?:x(\d+))?|b(\d+)|([ui])(8|16)|(\w+?)(_x2)?)"
)
_SPECIAL = """\
ds_append ds_consume ds_read_addtid_b32 ds_load_addtid_b32 ds_write_addtid_b32 ds_store_addtid_b32
ds_wrxchg2_rtn_b32 ds_wrxchg2_rtn_b64 ds_wrxchg2st64_rtn_b32 ds_wrxchg2st64_rtn_b64
ds_storexchg_2addr_rtn_b32 ds_storexchg_2addr_rtn_b64 ds_storexchg_2addr_stride64_rtn_b32
ds_storexchg_2addr_stride64_rtn_b64 ds_condxchg32_rtn_b64 global_load_addtid_b32
global_load_dword_addtid global_store_addtid_b32 global_store_dword_addtid global_load_block
global_store_block scratch_load_block scratch_store_block global_load_tr_b128 global_load_tr_b64
ds_permute_b32 ds_bpermute_b32 ds_bpermute_fi_b32 ds_swizzle_b32 buffer_store_lds_dword
"""
_STAGED = re.compile(
    r"(global|scratch|buffer)_load_lds_(?:(dword(?:x\d)?|b32)|([us]?)(byte|short)|([ui])(8|16))"
)


def _names(target: str) -> set[str]:
    return {name for _, name in decoder(target).names()} & set(MEANINGS.meanings)


def _first_targets(wanted: Any) -> list[tuple[str, str]]:
    made: dict[str, str] = {}
    for target in TARGETS:
        for name in sorted(_names(target)):
            if wanted(name):
                made.setdefault(name, target)
    return [(target, name) for name, target in made.items()]


SCALARS = _first_targets(lambda name: _SCALAR.fullmatch(name) is not None)
STAGED = _first_targets(lambda name: _STAGED.fullmatch(name) is not None)
NAMES = frozenset({name for _, name in SCALARS + STAGED} | set(_SPECIAL.split()))
"""Instructions that are held against plain Python here."""


def bench_of(target: str, seed: int) -> tuple[Bench, np.ndarray[Any, np.dtype[np.uint8]]]:
    chance, bench = np.random.default_rng(seed), Bench(target)
    memory = chance.integers(256, size=SIZE, dtype=np.uint8)
    bench.memory.add(memory, BASE)
    bench.lds = chance.integers(256, size=SIZE, dtype=np.uint8)
    bench.wave.vectors[:80] = chance.integers(2**32, size=bench.wave.vectors[:80].shape)
    bench.wave.scalars[:100] = chance.integers(2**32, size=100)
    return bench, memory


def whole(raw: Any, at: int, size: int) -> int:
    return int.from_bytes(bytes(raw[at : at + size]), "little")


# --- scalar memory


@pytest.mark.parametrize(("target", "name"), SCALARS)
@pytest.mark.parametrize("seed", [1, 2])
def test_scalar_memory(target: str, name: str, seed: int) -> None:
    found = _SCALAR.fullmatch(name)
    assert found
    space, verb, words, bits, letter, narrow, operation, double = found.groups()
    size = 4 * int(words or 1) if words or (not bits and not narrow) else int(bits or narrow) // 8
    if verb == "atomic":
        size = 8 if double else 4
    register = 4 * int(np.random.default_rng(seed).integers(0, 20)) // size * size
    immediate = 8 * (seed + 5) + (3 if verb == "load" and seed == 2 else 0)
    at = register * (64 if space == "scratch_" else 1) + immediate
    limit = at + size // 2 if space == "buffer_" and seed == 2 else SIZE
    bench, memory = bench_of(target, seed)
    bench.wave.scalars[8:12] = [BASE & 0xFFFFFFFF, BASE >> 32, limit, 3 << 28]
    bench.wave.scalars[20] = register
    bench.set_mask(126, 0)  # EXEC does not count
    fields = {"sbase": 4, "sdata": 32, "offset": immediate, "soffset": 20, "immediate": 1,
              "soffset_on": 1, "glc": int(verb == "atomic" and seed == 1)}  # fmt: skip
    known = form_fields(target, "SMEM")
    made = assemble(target, name, **{k: v for k, v in fields.items() if k in known})
    at = at if narrow else at // 4 * 4
    element = size if verb == "atomic" else min(size, 4)
    inside = [space != "buffer_" or at + k + element <= limit for k in range(0, size, element)]
    scalars, after = bench.wave.scalars.copy(), bytearray(memory.tobytes())
    if verb == "load":
        for k, there in enumerate(inside):
            value = whole(memory, at + k * element, element) if there else 0
            signed = _sign(value, 8 * element) & 0xFFFFFFFF
            scalars[32 + k] = signed if letter == "i" else value
    elif verb == "store":
        for k in range(len(inside)):
            if inside[k]:
                after[at + 4 * k : at + 4 * k + 4] = scalars[32 + k : 33 + k].tobytes()
    elif inside[0]:
        _atomic(scalars, after, at, _integer(operation, 8 * size), size, bool(made.dst))
    elif made.dst:
        scalars[32 : 32 + size // 4] = 0
    bench.run(made)
    assert bench.wave.scalars.tolist() == scalars.tolist()
    assert memory.tobytes() == bytes(after)


def _atomic(
    scalars: Any, after: bytearray, at: int, update: Any, size: int, returns: bool
) -> None:
    words = size // 4
    values = [int.from_bytes(scalars[n : n + words].tobytes(), "little") for n in (32, 32 + words)]
    old = whole(after, at, size)
    after[at : at + size] = update(old, *values).to_bytes(size, "little")
    for k in range(words if returns else 0):
        scalars[32 + k] = old >> 32 * k & 0xFFFFFFFF


# --- LDS


@pytest.mark.parametrize("name", ["ds_append", "ds_consume"])
@pytest.mark.parametrize("target", ["gfx90a", "gfx1100"])
def test_counters(target: str, name: str) -> None:
    bench, _ = bench_of(target, 1)
    mask = 0b1011_0000
    bench.set_mask(126, mask)
    bench.wave.scalars[state.M0] = 64
    old = whole(bench.lds, 64 + 20, 4)
    bench.run(assemble(target, name, vdst=TO, offset=20))
    count = mask.bit_count() if name == "ds_append" else -mask.bit_count()
    assert whole(bench.lds, 84, 4) == (old + count) & 0xFFFFFFFF
    assert {int(bench.wave.vectors[TO, lane]) for lane in (4, 5, 7)} == {old}


@pytest.mark.parametrize("target", ["gfx942", "gfx1201"])
def test_lanes_side_by_side(target: str) -> None:
    for space in ("ds", "global"):
        names = [n for n in _names(target) if "addtid" in n and n.startswith(space)]
        for name in names:
            bench, memory = bench_of(target, 2)
            bench.set_mask(126, 0xFF0F)
            bench.wave.scalars[state.M0] = 128
            bench.wave.scalars[10:12] = [(BASE + 128) & 0xFFFFFFFF, BASE >> 32]
            raw = bench.lds if space == "ds" else memory
            extra = {} if space == "ds" else {"saddr": 10}
            fields = {"data0": DATA, "data": DATA, "vdst": TO, "offset": 40}
            known = form_fields(target, "DS" if space == "ds" else "FLAT")
            chosen = {field: value for field, value in fields.items() if field in known}
            made = assemble(target, name, **chosen, **extra)
            before, rows = raw.copy(), bench.wave.vectors.copy()
            bench.run(made)
            for lane in range(16):
                at, active = 168 + 4 * lane, 0xFF0F >> lane & 1
                if "load" in name or "read" in name:
                    wanted = whole(before, at, 4) if active else int(rows[TO, lane])
                    assert int(bench.wave.vectors[TO, lane]) == wanted
                else:
                    wanted = int(rows[DATA, lane]) if active else whole(before, at, 4)
                    assert whole(raw, at, 4) == wanted


def test_lanes_side_by_side_on_other_names() -> None:
    for target, name in (("gfx1030", "global_load_dword_addtid"),
                         ("gfx1030", "global_store_dword_addtid")):  # fmt: skip
        bench, memory = bench_of(target, 3)
        bench.wave.scalars[10:12] = [BASE & 0xFFFFFFFF, BASE >> 32]
        rows, before = bench.wave.vectors.copy(), memory.copy()
        bench.run(assemble(target, name, saddr=10, data=DATA, vdst=TO, offset=8))
        for lane in range(32):
            at = 8 + 4 * lane
            if "load" in name:
                assert int(bench.wave.vectors[TO, lane]) == whole(before, at, 4)
            else:
                assert whole(memory, at, 4) == int(rows[DATA, lane])


@pytest.mark.parametrize("target", ["gfx90a", "gfx1201"])
def test_exchanges_of_two_places(target: str) -> None:
    for name in sorted(n for n in _names(target) if "xchg2" in n or "xchg_2addr" in n):
        bench, _ = bench_of(target, 4)
        size = 8 if name.endswith("64") else 4
        step = size * (64 if "st64" in name or "stride64" in name else 1)
        places = [16 * lane for lane in range(bench.lanes)]
        bench.wave.vectors[ADDRESS] = places
        before, rows = bench.lds.copy(), bench.wave.vectors.copy()
        fields = {"addr": ADDRESS, "data0": DATA, "data1": SECOND, "vdst": TO}
        bench.run(assemble(target, name, **fields, offset0=0, offset1=1))
        if step > 8:  # the second places are those of other lanes' first ones, taken afterwards
            continue
        for lane, place in enumerate(places):
            for k, source in enumerate((DATA, SECOND)):
                at = place + k * step
                wanted = sum(int(rows[source + n, lane]) << 32 * n for n in range(size // 4))
                assert whole(bench.lds, at, size) == wanted
                got = sum(
                    int(bench.wave.vectors[TO + k * size // 4 + n, lane]) << 32 * n
                    for n in range(size // 4)
                )
                assert got == whole(before, at, size)


@pytest.mark.parametrize("target", ["gfx90a", "gfx1201"])
def test_exchanges_with_a_stride_reach_the_second_place(target: str) -> None:
    for name in sorted(n for n in _names(target) if "xchg" in n and "st" in n and "64_rtn" in n):
        bench, _ = bench_of(target, 5)
        size = 8 if name.endswith("64") else 4
        bench.set_mask(126, 1)
        bench.wave.vectors[ADDRESS] = 32
        before, rows = bench.lds.copy(), bench.wave.vectors.copy()
        fields = {"addr": ADDRESS, "data0": DATA, "data1": SECOND, "vdst": TO}
        bench.run(assemble(target, name, **fields, offset0=1, offset1=2))
        expected = bytearray(before.tobytes())
        for source, offset in ((DATA, 1), (SECOND, 2)):
            at = 32 + offset * 64 * size
            expected[at : at + size] = rows[source : source + size // 4, 0].tobytes()
        assert bench.lds.tobytes() == bytes(expected)


@pytest.mark.parametrize("target", TARGETS)
def test_conditional_exchanges(target: str) -> None:
    bench, _ = bench_of(target, 6)
    bench.wave.vectors[ADDRESS] = [8 * lane + lane % 8 for lane in range(bench.lanes)]
    before, rows = bench.lds.copy(), bench.wave.vectors.copy()
    fields = {"addr": ADDRESS, "data0": DATA, "vdst": TO}
    bench.run(assemble(target, "ds_condxchg32_rtn_b64", **fields, offset=16))
    for lane in range(bench.lanes):
        for k in range(2):
            at = (8 * lane + lane % 8 + 16) // 8 * 8 + 4 * k
            data, old = int(rows[DATA + k, lane]), whole(before, at, 4)
            assert int(bench.wave.vectors[TO + k, lane]) == old
            assert whole(bench.lds, at, 4) == (data & 0x7FFFFFFF if data >> 31 else old)


# --- loads into LDS


def _narrow(found: re.Match[str]) -> tuple[int, bool]:
    _, plain, sign, word, letter, bits = found.groups()
    if plain:
        return 4 * int(plain[6:] or 1) if plain[0] == "d" else 4, False
    size = {"byte": 1, "short": 2}[word] if word else int(bits) // 8
    return size, sign == "s" or letter == "i"


@pytest.mark.parametrize(("target", "name"), STAGED)
def test_loads_into_lds(target: str, name: str) -> None:
    found = _STAGED.fullmatch(name)
    assert found
    size, signed = _narrow(found)
    bench, memory = bench_of(target, 7)
    chance = np.random.default_rng(7)
    places = [int(n) for n in chance.integers(0, SIZE // bench.lanes - 40, bench.lanes)]
    for lane, place in enumerate(places):
        address = BASE + place if found[1] == "global" else place
        bench.wave.vectors[ADDRESS : ADDRESS + 2, lane] = [address & 0xFFFFFFFF, address >> 32]
    bench.wave.scalars[8:12] = [BASE & 0xFFFFFFFF, BASE >> 32, SIZE, 3 << 28]
    bench.wave.scalars[20] = 0
    bench.set_scratch(BASE)
    bench.wave.scalars[state.M0] = 0x0014_0000 | 256  # above the address
    bench.set_mask(126, 0xF0F0)
    before, rows = bench.lds.copy(), bench.wave.vectors.copy()
    made = assemble(target, name, **fields_for(target, name, True, False), offset=12)
    bench.run(made)
    expected = bytearray(before.tobytes())
    for lane in range(bench.lanes):
        at = places[lane] + 12
        raw = [at + k for k in range(size)]
        if found[1] == "scratch":
            raw = [one // 4 * 4 * bench.lanes + 4 * lane + one % 4 for one in raw]
        value = int.from_bytes(bytes(int(memory[one]) for one in raw), "little", signed=signed)
        width = max(size, 4)
        if 0xF0F0 >> lane & 1:
            to = 256 + 12 + width * lane
            value &= (1 << 8 * width) - 1
            expected[to : to + width] = value.to_bytes(width, "little")
    assert bench.lds.tobytes() == bytes(expected)
    assert np.array_equal(bench.wave.vectors, rows)


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx1030"])
@pytest.mark.parametrize("name", ["buffer_load_dword", "buffer_store_lds_dword"])
def test_buffers_and_lds(target: str, name: str) -> None:
    if name not in _names(target):
        return
    bench, memory = bench_of(target, 8)
    places = [4 * int(n) for n in np.random.default_rng(8).permutation(bench.lanes)]
    bench.wave.vectors[ADDRESS] = places
    bench.wave.scalars[8:12] = [BASE & 0xFFFFFFFF, BASE >> 32, SIZE, 3 << 28]
    bench.wave.scalars[state.M0] = 512
    fields = {"vaddr": ADDRESS, "offen": 1, "srsrc": 2, "soffset": 128, "offset": 16, "lds": 1}
    if "store" in name:  # which has no address register of its own
        fields = {"srsrc": 2, "soffset": 128, "offset": 16, "lds": 1}
    made = assemble(target, name, **fields)
    lds, old = bench.lds.copy(), memory.copy()
    bench.run(made)
    if "load" in name:
        for lane, place in enumerate(places):
            assert whole(bench.lds, 528 + 4 * lane, 4) == whole(old, place + 16, 4)
    else:
        assert whole(memory, 16, 4) in {whole(lds, 528 + 4 * n, 4) for n in range(bench.lanes)}


# --- blocks and turned blocks (gfx12)


@pytest.mark.parametrize("name", ["global_load_block", "global_store_block", "scratch_load_block",
                                  "scratch_store_block"])  # fmt: skip
def test_blocks(name: str) -> None:
    target = "gfx1201"
    bench, memory = bench_of(target, 9)
    chosen = 0x8000_A0F1
    bench.wave.scalars[state.M0] = chosen
    bench.set_scratch(BASE)
    space = name.split("_")[0]
    place = {lane: 128 * lane if space == "global" else 8 for lane in range(32)}
    for lane, at in place.items():
        address = BASE + at if space == "global" else at
        bench.wave.vectors[ADDRESS : ADDRESS + 2, lane] = [address & 0xFFFFFFFF, address >> 32]
    bench.set_mask(126, 0x0FFFFFF0)
    fields = fields_for(target, name, "load" in name, False) | {"vdst": 40, "data": 40, "offset": 4}
    old, rows = memory.copy(), bench.wave.vectors.copy()
    bench.run(assemble(target, name, **fields))
    expected, registers = bytearray(old.tobytes()), rows.copy()
    for lane in range(4, 28):
        for k in range(32):
            at = place[lane] + 4 + 4 * k
            if space == "scratch":
                at = at // 4 * 4 * 32 + 4 * lane
            if chosen >> k & 1 and "load" in name:
                registers[40 + k, lane] = whole(old, at, 4)
            elif chosen >> k & 1:
                expected[at : at + 4] = int(rows[40 + k, lane]).to_bytes(4, "little")
    assert np.array_equal(bench.wave.vectors, registers)
    assert memory.tobytes() == bytes(expected)


@pytest.mark.parametrize(("name", "size"), [("global_load_tr_b128", 2), ("global_load_tr_b64", 1)])
def test_turned_blocks(name: str, size: int) -> None:
    # Element k of lane r of eight lanes is element r of what lane k reads.
    bench, memory = bench_of("gfx1201", 10)
    places = [8 * size * int(n) for n in np.random.default_rng(10).permutation(32)]
    for lane, at in enumerate(places):
        bench.wave.vectors[ADDRESS, lane] = (BASE + at) & 0xFFFFFFFF
        bench.wave.vectors[ADDRESS + 1, lane] = (BASE + at) >> 32
    bench.run(assemble("gfx1201", name, **fields_for("gfx1201", name, True, False)))
    for lane in range(32):
        for k in range(8):
            wanted = whole(memory, places[lane // 8 * 8 + k] + size * (lane % 8), size)
            word = int(bench.wave.vectors[TO + k * size // 4, lane])
            assert word >> 8 * (k * size % 4) & (1 << 8 * size) - 1 == wanted


# --- between lanes


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["ds_permute_b32", "ds_bpermute_b32", "ds_bpermute_fi_b32"])
def test_moves_through_the_crossbar(target: str, name: str) -> None:
    if name not in _names(target):
        return
    bench, _ = bench_of(target, 11)
    mask = 0xFFFF_0FF0_F0FF_00FF & (1 << bench.lanes) - 1
    bench.set_mask(126, mask)
    rows = bench.wave.vectors.copy()
    fields = {"addr": ADDRESS, "data0": DATA, "vdst": TO, "offset": 8}
    bench.run(assemble(target, name, **fields))
    lanes = range(bench.lanes)
    index = [(int(rows[ADDRESS, lane]) + 8 & 0xFFFFFFFF) // 4 % bench.lanes for lane in lanes]
    moved = [0] * bench.lanes
    for lane in lanes:
        if name == "ds_permute_b32":
            if mask >> lane & 1:
                moved[index[lane]] = int(rows[DATA, lane])
        elif mask >> index[lane] & 1 or "_fi_" in name:
            moved[lane] = int(rows[DATA, index[lane]])
    wanted = [moved[lane] if mask >> lane & 1 else int(rows[TO, lane]) for lane in lanes]
    assert bench.wave.vectors[TO].tolist() == wanted


PATTERNS = [
    0x001F, 0x041F, 0x7C00, 0x03E0, 0x801B, 0x80E4, 0xC0A0, 0xC467, 0xE000, 0xE01F, 0xE010, 0xE003,
]  # fmt: skip


def _swizzled(pattern: int, lane: int) -> int:
    low = lane & 31
    if pattern >= 0xE000:
        mask = pattern & 31
        turned = sum((low >> k & 1) << 4 - k for k in range(5))
        return lane & 32 | turned >> mask.bit_count() | lane & mask
    if pattern >= 0xC000:
        mask, amount = pattern & 31, pattern >> 5 & 31
        amount = -amount if pattern & 0x400 else amount
        return lane & 32 | low & mask | (low + amount) & 31 & ~mask
    if pattern >= 0x8000:
        return lane & ~3 | pattern >> 2 * (lane & 3) & 3
    return lane & 32 | ((low & pattern | pattern >> 5) & 31 ^ pattern >> 10) & 31


@pytest.mark.parametrize("target", ["gfx942", "gfx1201"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_swizzles(target: str, pattern: int) -> None:
    bench, _ = bench_of(target, 12)
    mask = 0xFFFF_0FF0_F0FF_00FF & (1 << bench.lanes) - 1
    bench.set_mask(126, mask)
    rows = bench.wave.vectors.copy()
    bench.run(assemble(target, "ds_swizzle_b32", addr=ADDRESS, vdst=TO, offset=pattern))
    for lane in range(bench.lanes):
        source = _swizzled(pattern, lane)
        moved = int(rows[ADDRESS, source]) if mask >> source & 1 else 0
        wanted = moved if mask >> lane & 1 else int(rows[TO, lane])
        assert int(bench.wave.vectors[TO, lane]) == wanted


def test_the_global_data_share_is_refused() -> None:
    bench, _ = bench_of("gfx942", 1)
    made = assemble("gfx942", "ds_add_u32", addr=ADDRESS, data0=DATA, gds=1)
    with pytest.raises(NotModelled, match="GDS"):
        bench.run(made)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("space", ["ds", "flat", "global"])
def test_misaligned_atomics_fault_and_change_nothing(target: str, space: str) -> None:
    # The manuals: unaligned accesses are allowed, but atomics go to multiples of their size.
    names = {"ds": "ds_add_u64", "flat": "flat_atomic_add_u64", "global": "global_atomic_add_u64"}
    newer = target in ("gfx1100", "gfx1201")
    name = names[space] if newer or space == "ds" else names[space][:-4] + "_x2"
    bad = {"ds": 4, "flat": (1 << 48) + 4, "global": BASE + 4}[space]
    arrays = Arrays()
    arrays.add(np.arange(SIZE, dtype=np.uint16).astype(np.uint8), BASE)
    fields = fields_for(target, name, load=False, returns=False)
    code = [*encode(target, name, **fields), *encode(target, "s_endpgm")]

    def setup(group: Any) -> None:
        vectors = group.waves[0].vectors
        for lane in range(vectors.shape[1]):
            address = bad if lane in (5, 9) else BASE + 8 * lane
            address = 8 * lane if space == "ds" and lane not in (5, 9) else address
            vectors[ADDRESS : ADDRESS + 2, lane] = [address & 0xFFFFFFFF, address >> 32]

    before = arrays.contents()
    ended = run_both(target, code, setup, arrays)
    assert isinstance(ended.outcome, Fault)
    assert ended.outcome.access == ("atomic" if space == "global" else "misaligned")
    assert (ended.outcome.address, ended.outcome.lanes) == (bad & ~(1 << 48), 1 << 5 | 1 << 9)
    assert arrays.contents() == before
    assert ended.lds == bytes(4096)


@pytest.mark.parametrize("target", TARGETS)
def test_any_bits_are_an_instruction_or_are_refused_by_name(target: str) -> None:
    # Operands that no compiler writes give a reason, never another error.
    behaviour = decoder(target).generation.behaviour
    mode = Mode(decoder(target).wave, 0xF0, False, 1 << 48, 2 << 48, behaviour)
    traced = 0
    for number in range(400):
        code = code_of(target, random.Random(f"{target} {number}"))
        try:
            trace_instruction(decoder(target).decode(code), mode, MEANINGS)
            traced += 1
        except (DecodeError, NotModelled):
            continue
    assert traced > 100
