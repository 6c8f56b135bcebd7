"""The memory model beyond single instructions: ends of LDS, apertures, alignment, wave halves.

Each rule is one of AMD's manuals (MI300, RDNA2, RDNA3: "Local Data Share", "Flat Memory
Instructions", "DS_BPERMUTE_B32") or LLVM's AMDGPUUsage (apertures, scratch), on both engines.
"""

import numpy as np
import pytest

from gputrace.isa import state
from gputrace.isa.machine import Done, Fault
from gputrace.isa.waves import Group
from tests.isa.launching import Arrays
from tests.isa.steps import encode, run_both

TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
NEWER = ("gfx1100", "gfx1201")
LDS, BASE = 1024, 0x7000_0000_0000
each_target = pytest.mark.parametrize("target", TARGETS)


def name_of(target: str, old: str, new: str) -> str:
    return new if target in NEWER else old


def fill(group: Group) -> None:
    """Put numbers into LDS, and addresses near its end into v16."""
    group.lds[:] = np.arange(LDS, dtype=np.uint16).astype(np.uint8)
    lanes = group.waves[0].vectors.shape[1]
    group.waves[0].vectors[16] = LDS - 16 + 4 * np.arange(lanes, dtype=np.uint32)
    group.waves[0].vectors[32:36] = 0xAAAAAAAA


@each_target
def test_dwords_behind_the_end_of_lds_read_as_zero(target: str) -> None:
    name = name_of(target, "ds_read_b128", "ds_load_b128")
    code = [*encode(target, name, addr=16, vdst=4), *encode(target, "s_endpgm")]
    ended = run_both(target, code, fill, lds_bytes=LDS)
    assert ended.outcome == Done()
    words = np.frombuffer(ended.lds, np.uint32)
    for k in range(4):
        wanted = [int(words[252 + lane + k]) if lane + k < 4 else 0 for lane in range(6)]
        assert ended.vector(4 + k)[:6].tolist() == wanted


@each_target
def test_dwords_behind_the_end_of_lds_are_not_written(target: str) -> None:
    name = name_of(target, "ds_write_b128", "ds_store_b128")
    code = [*encode(target, name, addr=16, data0=32), *encode(target, "s_endpgm")]

    def one_lane(group: Group) -> None:
        fill(group)
        group.waves[0].scalars[state.EXEC : state.EXEC + 2] = [1 << 2, 0]

    ended = run_both(target, code, one_lane, lds_bytes=LDS)
    assert ended.outcome == Done()
    before = np.arange(LDS, dtype=np.uint16).astype(np.uint8).tobytes()
    assert ended.lds == before[:-8] + b"\xaa" * 8


@each_target
def test_atomics_behind_the_end_of_lds_give_zero(target: str) -> None:
    code = [
        *encode(target, "ds_add_rtn_u32", addr=16, data0=32, vdst=4), *encode(target, "s_endpgm"),
    ]  # fmt: skip
    ended = run_both(target, code, fill, lds_bytes=LDS)
    assert ended.vector(4)[4:].tolist() == [0] * len(ended.vector(4)[4:])
    assert ended.vector(4)[0] != 0


@each_target
def test_flat_addresses_in_the_private_aperture_go_to_scratch(target: str) -> None:
    name = name_of(target, "flat_store_dword", "flat_store_b32")
    code = [*encode(target, name, addr=16, data=32), *encode(target, "s_endpgm")]
    memory, arrays = np.zeros(4096, np.uint8), Arrays()
    arrays.add(memory, BASE)

    def setup(group: Group) -> None:
        wave = group.waves[0]
        lanes = wave.vectors.shape[1]
        wave.vectors[16], wave.vectors[17] = 8, 0x2_0000_0000_0000 >> 32
        wave.vectors[32] = np.arange(lanes, dtype=np.uint32) + 100
        wave.scalars[state.FLAT_SCRATCH : state.FLAT_SCRATCH + 2] = [BASE & 0xFFFFFFFF, BASE >> 32]

    ended = run_both(target, code, setup, arrays)
    assert ended.outcome == Done()
    lanes = len(ended.vector(0))
    words = np.frombuffer(arrays.contents()[0], np.uint32)
    assert words[2 * lanes : 3 * lanes].tolist() == list(range(100, 100 + lanes))
    assert not words[: 2 * lanes].any()


@each_target
def test_a_store_that_faults_in_one_lane_writes_nothing(target: str) -> None:
    name = name_of(target, "global_store_dwordx2", "global_store_b64")
    code = [*encode(target, name, addr=16, data=32), *encode(target, "s_endpgm")]
    arrays = Arrays()
    arrays.add(np.zeros(4096, np.uint8), BASE)

    def setup(group: Group) -> None:
        lanes = group.waves[0].vectors.shape[1]
        address = BASE + 4096 - 8 * lanes + 4 + 8 * np.arange(lanes)
        group.waves[0].vectors[16] = address & 0xFFFFFFFF
        group.waves[0].vectors[17] = BASE >> 32
        group.waves[0].vectors[32:34] = 1

    ended = run_both(target, code, setup, arrays)
    assert isinstance(ended.outcome, Fault)
    lanes = len(ended.vector(0))
    assert ended.outcome.lanes == 1 << lanes - 1
    assert ended.outcome.address == BASE + 4096 - 4
    assert not any(arrays.contents()[0])


@pytest.mark.parametrize(("target", "reach"), [("gfx1030", 32), ("gfx1100", 32), ("gfx1201", 64)])
def test_values_move_within_halves_of_wide_waves_before_gfx12(target: str, reach: int) -> None:
    code = [
        *encode(target, "ds_bpermute_b32", wave=64, addr=16, data0=32, vdst=4),
        *encode(target, "s_endpgm"),
    ]

    def setup(group: Group) -> None:
        lanes = np.arange(64, dtype=np.uint32)
        group.waves[0].vectors[16] = 4 * (lanes * 7 + 3)
        group.waves[0].vectors[32] = lanes + 1000

    ended = run_both(target, code, setup, wave_size=64, group_size=(64, 1, 1))
    wanted = [1000 + (lane * 7 + 3) % reach + lane // reach * reach for lane in range(64)]
    assert ended.vector(4).tolist() == wanted


FORMS = {
    "load": ("ds_read_b128", "ds_load_b128", {"addr": 16, "vdst": 4}, 4),
    "two": ("ds_read2_b32", "ds_load_2addr_b32", {"addr": 16, "vdst": 4, "offset1": 4}, 4),
    "byte": ("ds_read_u8", "ds_load_u8", {"addr": 16, "vdst": 4}, 1),
    "store": ("ds_write_b64", "ds_store_b64", {"addr": 16, "data0": 32}, 4),
    "atomic": ("ds_add_rtn_u64", "ds_add_rtn_u64", {"addr": 16, "data0": 32, "vdst": 4}, 8),
}
"""Two names, operands, and the bytes of each part."""
ASKED, AHEAD = 1000, 5  # no whole granule; lanes that begin before the end


@each_target
@pytest.mark.parametrize("form", FORMS)
def test_a_launch_that_checks_its_lds_stops_at_the_byte(target: str, form: str) -> None:
    old, new, operands, size = FORMS[form]
    code = [*encode(target, name_of(target, old, new), **operands), *encode(target, "s_endpgm")]

    def eight_bytes_apart(group: Group) -> None:
        group.lds[:] = 1
        lanes = np.arange(group.waves[0].vectors.shape[1], dtype=np.uint32)
        group.waves[0].vectors[16] = ASKED - 8 * AHEAD + 8 * lanes
        group.waves[0].vectors[32:36] = 2

    ended = run_both(target, code, eight_bytes_apart, lds_bytes=ASKED, lds_checked=True)
    assert isinstance(ended.outcome, Fault)
    assert (ended.outcome.access, ended.outcome.size) == ("lds", size)
    assert ended.outcome.address == ASKED
    every = (1 << len(ended.vector(0))) - 1
    assert ended.outcome.lanes == every >> AHEAD << AHEAD


@each_target
def test_a_launch_that_checks_its_lds_may_use_all_of_it(target: str) -> None:
    code = [
        *encode(target, name_of(target, "ds_write_b32", "ds_store_b32"), addr=16, data0=32),
        *encode(target, "s_endpgm"),
    ]

    def at_the_end(group: Group) -> None:
        lanes = np.arange(group.waves[0].vectors.shape[1], dtype=np.uint32)
        group.waves[0].vectors[16] = ASKED - 4 * (lanes + 1)
        group.waves[0].vectors[32] = lanes + 1

    ended = run_both(target, code, at_the_end, lds_bytes=ASKED, lds_checked=True)
    assert ended.outcome == Done()
    assert np.frombuffer(ended.lds, np.uint32)[-4:].tolist() == [4, 3, 2, 1]
