"""Program flow and the registers of the sequencer, by what AMD's manuals say of each."""

from typing import Any

import numpy as np
import pytest

from gputrace.isa import state
from gputrace.isa.decode import decoder
from gputrace.isa.machine import Done, Endless, Trapped, Unsupported
from gputrace.isa.waves import Group
from tests.isa.launching import Arrays
from tests.isa.steps import CODE, encode, run_both, run_with

_NAMES = """\
s_getreg_b32 s_setreg_b32 s_setreg_imm32_b32 s_round_mode s_denorm_mode s_getpc_b64 s_setpc_b64
s_swappc_b64 s_call_b64 s_rfe_b64 s_rfe_restore_b64 s_branch s_cbranch_scc0 s_cbranch_scc1
s_cbranch_vccz s_cbranch_vccnz s_cbranch_execz s_cbranch_execnz s_cbranch_cdbgsys
s_cbranch_cdbguser s_cbranch_cdbgsys_or_user s_cbranch_cdbgsys_and_user s_cbranch_i_fork
s_cbranch_g_fork s_cbranch_join s_subvector_loop_begin s_subvector_loop_end s_set_gpr_idx_on
s_set_gpr_idx_off s_set_gpr_idx_mode s_set_gpr_idx_idx s_setvskip s_trap s_code_end s_sethalt
s_sendmsghalt s_sendmsg s_sendmsg_rtn_b32 s_sendmsg_rtn_b64 s_memtime s_memrealtime s_barrier
s_barrier_signal s_barrier_signal_isfirst s_barrier_wait s_get_barrier_state s_endpgm
s_endpgm_saved s_setkill s_alloc_vgpr
"""
NAMES = frozenset(_NAMES.split())
"""Instructions whose effects are tested here."""
_HINTS = """\
s_nop s_waitcnt s_waitcnt_depctr s_waitcnt_vscnt s_waitcnt_vmcnt s_waitcnt_expcnt
s_waitcnt_lgkmcnt s_delay_alu s_clause s_sleep s_sleep_var s_set_inst_prefetch_distance
s_inst_prefetch s_setprio s_icache_inv s_wait_loadcnt s_wait_storecnt s_wait_samplecnt
s_wait_bvhcnt s_wait_expcnt s_wait_dscnt s_wait_kmcnt s_wait_loadcnt_dscnt s_wait_storecnt_dscnt
s_wait_alu s_wait_event s_wait_idle s_wakeup s_ttracedata s_ttracedata_imm s_incperflevel
s_decperflevel s_version s_singleuse_vdst ds_nop global_inv global_wb global_wbinv buffer_gl0_inv
buffer_gl1_inv buffer_wbl2 buffer_inv buffer_invl2 buffer_wbinvl1 buffer_wbinvl1_vol s_dcache_inv
s_dcache_wb s_dcache_inv_vol s_dcache_wb_vol s_gl1_inv s_dcache_discard s_dcache_discard_x2
s_atc_probe s_atc_probe_buffer s_prefetch_inst s_prefetch_inst_pc_rel s_prefetch_data
s_prefetch_data_pc_rel s_buffer_prefetch_data
"""
HINTS = tuple(_HINTS.split())
"""Waits, hints and caches: what changes no register and no memory that a wave can see."""
TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
each_target = pytest.mark.parametrize("target", TARGETS)
VCC, M0_FIELD, EXEC = 106, {"gfx1100": 125, "gfx1201": 125}, 126
MODE = 1


def end(target: str) -> list[int]:
    return encode(target, "s_endpgm")


def constant(number: int) -> int:
    """Return the operand number of a small constant."""
    return 128 + number if number >= 0 else 192 - number


def move(target: str, to: int, value: int) -> list[int]:
    return encode(target, "s_mov_b32", sdst=to, ssrc0=255, literal=value & 0xFFFFFFFF)


def hwreg(number: int, first: int, bits: int) -> int:
    return number | first << 6 | (bits - 1) << 11


def get(target: str, to: int, number: int, first: int = 0, bits: int = 32) -> list[int]:
    return encode(target, "s_getreg_b32", sdst=to, simm=hwreg(number, first, bits))


def put(target: str, value: int, number: int, first: int, bits: int) -> list[int]:
    simm = hwreg(number, first, bits)
    return encode(target, "s_setreg_imm32_b32", simm=simm, literal=value)


# --- MODE


@each_target
def test_mode_is_what_was_set_last_and_addresses_do_not_show_it(target: str) -> None:
    code = [
        *get(target, 0, MODE, 0, 8), *put(target, 5, MODE, 0, 4), *get(target, 1, MODE, 0, 8),
        *move(target, 10, 0xC), *encode(target, "s_setreg_b32", sdst=10, simm=hwreg(MODE, 4, 4)),
        *get(target, 2, MODE, 0, 8), *encode(target, "s_getpc_b64", sdst=4),
    ]  # fmt: skip
    here = CODE + 4 * len(code)
    code += [*encode(target, "s_branch", simm=1), 0, *get(target, 3, MODE, 0, 4), *end(target)]
    ended = run_both(target, code)
    assert ended.outcome == Done()
    assert ended.scalars(0, 4) == [0xF0, 0xF5, 0xC5, 5]
    assert ended.scalars(4, 2) == [here & 0xFFFFFFFF, here >> 32]


@pytest.mark.parametrize("target", ["gfx1030", "gfx1100", "gfx1201"])
def test_rounding_and_denormals_have_instructions_of_their_own(target: str) -> None:
    code = [
        *encode(target, "s_round_mode", simm=9), *encode(target, "s_denorm_mode", simm=3),
        *get(target, 0, MODE, 0, 8), *end(target),
    ]  # fmt: skip
    assert run_both(target, code).scalars(0) == [0x39]


@each_target
def test_denormals_follow_the_mode_that_holds_at_the_time(target: str) -> None:
    # A denormal plus zero, with denormals, without, and with them again.
    name = "v_add_f32"
    add = [encode(target, name, vdst=10 + k, src0=257, vsrc1=2) for k in range(3)]
    code = [
        *add[0], *put(target, 0, MODE, 4, 2), *add[1], *put(target, 3, MODE, 4, 2), *add[2],
        *end(target),
    ]  # fmt: skip

    def setup(group: Group) -> None:
        group.waves[0].vectors[1], group.waves[0].vectors[2] = 0x80001234, 0x80000000

    ended = run_both(target, code, setup)
    found = [set(ended.vector(10 + k).tolist()) for k in range(3)]
    assert found == [{0x80001234}, {0x80000000}, {0x80001234}]


@each_target
def test_a_loop_may_change_the_mode_in_each_round(target: str) -> None:
    loop = [
        *encode(target, "s_setreg_b32", sdst=0, simm=hwreg(MODE, 0, 4)),
        *get(target, 8, MODE, 0, 4),
        *encode(target, "s_add_i32" if target != "gfx1201" else "s_add_co_i32",
                sdst=9, ssrc0=9, ssrc1=8),
        *encode(target, "s_sub_u32" if target != "gfx1201" else "s_sub_co_u32",
                sdst=0, ssrc0=0, ssrc1=constant(1)),
        *encode(target, "s_cmp_lg_u32", ssrc0=0, ssrc1=constant(0)),
    ]  # fmt: skip
    code = [*move(target, 0, 40), *loop]
    code += encode(target, "s_cbranch_scc1", simm=-len(loop) - 1)
    code += end(target)
    ended = run_both(target, code)
    assert ended.outcome == Done()
    assert ended.scalars(9) == [sum(number & 15 for number in range(1, 41))]


@each_target
def test_exceptions_cannot_be_switched_on(target: str) -> None:
    outcome = run_both(target, [*put(target, 1, MODE, 12, 1), *end(target)]).outcome
    assert isinstance(outcome, Unsupported)
    assert "EXCP_EN" in outcome.reason


# --- other registers


@each_target
def test_status_tells_of_exec_and_vcc(target: str) -> None:
    code = [
        *encode(target, "s_cmp_eq_u32", ssrc0=constant(0), ssrc1=constant(0)),
        *get(target, 20, 2),
        *encode(target, "s_mov_b64", sdst=VCC, ssrc0=constant(1)),
        *encode(target, "s_mov_b64", sdst=EXEC, ssrc0=constant(0)),
        *get(target, 21, 2), *end(target),
    ]  # fmt: skip
    first, second = run_both(target, code).scalars(20, 2)
    scc = 0 if target == "gfx1201" else 1
    assert first & 0x10E01 == 1 << 16 | 1 << 10 | scc
    assert second & 0x10600 == 1 << 16 | 1 << 9


@each_target
def test_registers_that_are_not_modelled_are_refused_by_name(target: str) -> None:
    outcome = run_both(target, [*get(target, 0, 5), *end(target)]).outcome
    assert isinstance(outcome, Unsupported)
    assert "HW_REG_GPR_ALLOC" in outcome.reason


# --- forks, halves, calls


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950"])
@pytest.mark.parametrize("chosen", [0x00000000000000FF, 0xFFFFFFFFFFFFFF00, 0, (1 << 64) - 1])
def test_fork_and_join_run_both_sides(target: str, chosen: int) -> None:
    # Lanes that pass add 1 to v1, the others 2; where they meet all add 4.
    def add(amount: int) -> list[int]:
        return encode(target, "v_add_u32", vdst=1, src0=constant(amount), vsrc1=1)

    # s40 is the stack's height before; the other side lies behind the first join.
    fail = [*add(2), *encode(target, "s_branch", simm=1)]
    fork = encode(target, "s_cbranch_i_fork", sdst=36, simm=len(fail))
    both = [*add(1), *encode(target, "s_cbranch_join", ssrc0=40), *add(4), *end(target)]

    def setup(group: Group) -> None:
        wave = group.waves[0]
        wave.scalars[36:38] = [chosen & 0xFFFFFFFF, chosen >> 32]

    ended = run_both(target, [*fork, *fail, *both], setup)
    assert ended.outcome == Done()
    # The side with fewer lanes goes first; only the other one goes on behind the join.
    last = chosen.bit_count() * 2 >= 64
    sides = [bool(chosen >> lane & 1) for lane in range(64)]
    wanted = [(1 if side else 2) + 4 * (side == last) for side in sides]
    assert ended.vector(1).tolist() == wanted
    alive = sum(1 << lane for lane, side in enumerate(sides) if side == last)
    assert ended.scalars(EXEC, 2) == [alive & 0xFFFFFFFF, alive >> 32]


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950"])
@pytest.mark.parametrize("everyone", [True, False])
def test_forks_to_an_address_do_not_divide_waves_that_agree(target: str, everyone: bool) -> None:
    head = encode(target, "s_cbranch_g_fork", ssrc0=36, ssrc1=38)
    body = [*move(target, 5, 1), *end(target)]
    other = [*move(target, 5, 2), *end(target)]
    place = CODE + 4 * len(head + body)

    def setup(group: Group) -> None:
        scalars = group.waves[0].scalars
        scalars[36:38] = 0xFFFFFFFF if everyone else 0
        scalars[38:40] = [place, 0]

    ended = run_both(target, [*head, *body, *other], setup)
    assert ended.scalars(5) == [2 if everyone else 1]
    assert ended.scalars(EXEC, 2) == [0xFFFFFFFF] * 2


@pytest.mark.parametrize("target", ["gfx1030", "gfx1100"])
@pytest.mark.parametrize("lanes", [0xFFFFFFFFFFFFFFFF, 0xFFFF0000, 0xFF00000000, 0x100000001, 0])
def test_loops_over_halves_visit_each_half_that_has_lanes(target: str, lanes: int) -> None:
    body = [
        *encode(target, "s_add_u32", wave=64, sdst=10, ssrc0=10, ssrc1=constant(1)),
        *encode(target, "s_or_b32", wave=64, sdst=11, ssrc0=11, ssrc1=EXEC),
        *encode(target, "s_or_b32", wave=64, sdst=12, ssrc0=12, ssrc1=EXEC + 1),
    ]
    code = encode(target, "s_subvector_loop_begin", wave=64, sdst=20, simm=len(body) + 1)
    code += body
    code += encode(target, "s_subvector_loop_end", wave=64, sdst=20, simm=-len(body) - 1)
    code += end(target)

    def setup(group: Group) -> None:
        group.waves[0].scalars[EXEC : EXEC + 2] = [lanes & 0xFFFFFFFF, lanes >> 32]

    ended = run_both(target, code, setup, wave_size=64, group_size=(64, 1, 1))
    halves = [lanes & 0xFFFFFFFF, lanes >> 32]
    assert ended.scalars(10, 3) == [sum(half != 0 for half in halves), *halves]
    assert ended.scalars(EXEC, 2) == halves


@each_target
def test_calls_return_behind_themselves(target: str) -> None:
    jump = encode(target, "s_setpc_b64", ssrc0=30)
    body = [*move(target, 3, 7), *jump]
    code = [
        *encode(target, "s_call_b64", sdst=30, simm=3), *move(target, 4, 9), *end(target), *body,
    ]  # fmt: skip
    assert run_both(target, code).scalars(3, 2) == [7, 9]


@each_target
def test_calls_and_returns_by_registers(target: str) -> None:
    # s[30:31] = place of the function; it comes back to the address that the call left.
    names = ["s_setpc_b64", "s_rfe_b64"]
    if target in ("gfx90a", "gfx942", "gfx950"):
        names.append("s_rfe_restore_b64")
    for name in names:
        back = encode(target, name, ssrc0=34)
        body = [*move(target, 3, 7), *back]
        head = [
            *encode(target, "s_swappc_b64", sdst=34, ssrc0=30), *move(target, 4, 9), *end(target),
        ]  # fmt: skip
        place = CODE + 4 * len(head)

        def setup(group: Group, place: int = place) -> None:
            group.waves[0].scalars[30:32] = [place & 0xFFFFFFFF, place >> 32]

        ended = run_both(target, [*head, *body], setup)
        assert ended.scalars(3, 2) == [7, 9]
        assert ended.scalars(34, 2) == [CODE + 4, 0]


CONDITIONS = {
    "scc0": (0, 1, 1), "scc1": (1, 1, 1), "vccz": (0, 0, 1), "vccnz": (0, 1, 1),
    "execz": (0, 1, 0), "execnz": (0, 1, 1),
}  # fmt: skip
"""By condition: SCC, VCC and EXEC for which it holds; it fails when the one it names changes."""


@each_target
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("holds", [True, False])
def test_branches_look_at_what_they_name(target: str, condition: str, holds: bool) -> None:
    values = list(CONDITIONS[condition])
    number = {"s": 0, "v": 1, "e": 2}[condition[0]]
    values[number] ^= not holds
    code = encode(target, f"s_cbranch_{condition}", simm=2)
    code += [*move(target, 5, 1), *move(target, 6, 2), *end(target)]

    def setup(group: Group) -> None:
        scalars = group.waves[0].scalars
        scalars[state.SCC], scalars[VCC : VCC + 2] = values[0], [0, values[1]]
        if target not in ("gfx90a", "gfx942", "gfx950"):
            scalars[VCC : VCC + 2] = [values[1], 5]  # the upper half does not count
        scalars[EXEC : EXEC + 2] = [values[2], 0]

    assert run_both(target, code, setup).scalars(5, 2) == ([0, 2] if holds else [1, 2])


@each_target
def test_branches_of_a_debugger_are_never_taken(target: str) -> None:
    if target == "gfx1201":
        return
    code = []
    for name in ("cdbgsys", "cdbguser", "cdbgsys_or_user", "cdbgsys_and_user"):
        code += encode(target, f"s_cbranch_{name}", simm=100)
    assert run_both(target, [*code, *end(target)]).outcome == Done()


# --- GPR index mode and VSKIP


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950"])
@pytest.mark.parametrize("relative", range(16))
def test_gpr_index_mode_moves_the_operands_that_it_names(target: str, relative: int) -> None:
    index = 5
    code = [
        *encode(target, "s_set_gpr_idx_on", ssrc0=10, ssrc1=relative),
        *encode(target, "v_add_u32", vdst=40, src0=256 + 10, vsrc1=20),
        *encode(target, "s_set_gpr_idx_off"),
        *encode(target, "v_add_u32", vdst=60, src0=256 + 10, vsrc1=20), *end(target),
    ]  # fmt: skip

    def setup(group: Group) -> None:
        group.waves[0].scalars[10] = index
        group.waves[0].vectors[:] = np.arange(512, dtype=np.uint32)[:, None] * 1000
        group.waves[0].vectors[:, 1] += 7

    ended = run_both(target, code, setup)
    first = 10 + index * (relative & 1)
    second = 20 + index * (relative >> 1 & 1)
    to = 40 + index * (relative >> 3 & 1)
    assert ended.vector(to).tolist()[:3] == [
        1000 * (first + second), 1000 * (first + second) + 14, 1000 * (first + second),
    ]  # fmt: skip
    assert ended.vector(60)[0] == 30_000
    assert ended.vector(45 if to == 40 else 40)[0] == (45_000 if to == 40 else 40_000)


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950"])
def test_index_and_mode_can_be_changed_while_the_mode_is_on(target: str) -> None:
    code = [
        *encode(target, "s_set_gpr_idx_on", ssrc0=10, ssrc1=0),
        *encode(target, "s_set_gpr_idx_idx", ssrc0=constant(3)),
        *encode(target, "s_set_gpr_idx_mode", simm=8),
        *encode(target, "v_mov_b32", vdst=100, src0=256 + 1),
        *encode(target, "s_set_gpr_idx_idx", ssrc0=255, literal=200),
        *encode(target, "v_mov_b32", vdst=100, src0=256 + 1),
        *encode(target, "s_set_gpr_idx_off"), *end(target),
    ]  # fmt: skip

    def setup(group: Group) -> None:
        group.waves[0].vectors[1] = 77

    ended = run_both(target, code, setup)
    assert [int(ended.vector(n)[5]) for n in (100, 103, 104)] == [0, 77, 0]
    assert ended.scalars(state.M0) == [8 << 12 | 200]


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950"])
def test_vskip_skips_vector_instructions_until_it_is_off(target: str) -> None:
    add = encode(target, "v_add_u32", vdst=1, src0=constant(1), vsrc1=1)
    code = [
        *add, *encode(target, "s_setvskip", ssrc0=constant(4), ssrc1=constant(2)), *add,
        *encode(target, "ds_write_b32", addr=1, data0=1),
        *encode(target, "s_setvskip", ssrc0=constant(4), ssrc1=constant(1)), *add, *end(target),
    ]  # fmt: skip
    ended = run_both(target, code)
    assert set(ended.vector(1).tolist()) == {2}
    assert ended.lds == bytes(4096)


# --- traps, halts, ends


@each_target
def test_a_trap_stops_the_dispatch_and_a_breakpoint_does_not(target: str) -> None:
    code = [*encode(target, "s_trap", simm=3), *encode(target, "s_trap", simm=2), *end(target)]
    outcome = run_both(target, code).outcome
    assert isinstance(outcome, Trapped)
    assert (outcome.number, outcome.place.pc) == (2, CODE + 4)


@pytest.mark.parametrize("target", ["gfx1030", "gfx1100", "gfx1201"])
def test_the_padding_behind_code_is_an_illegal_instruction(target: str) -> None:
    outcome = run_both(target, encode(target, "s_code_end")).outcome
    assert isinstance(outcome, Trapped)
    assert outcome.what == "illegal instruction s_code_end"


@each_target
@pytest.mark.parametrize("name", ["s_sethalt", "s_sendmsghalt"])
def test_a_halted_wave_stays_where_it_is(target: str, name: str) -> None:
    code = [*move(target, 0, 1), *encode(target, name, simm=1), *end(target)]
    ended = run_with("jit", target, code, lambda group: None, Arrays(), budget=1 << 19)
    assert isinstance(ended.outcome, Endless)
    assert ended.outcome.place.pc == CODE + 8
    sent = ended.execution.take_messages()
    assert sent == ([0] if name == "s_sendmsghalt" else [])


@each_target
def test_interrupts_reach_the_driver_with_m0(target: str) -> None:
    m0 = M0_FIELD.get(target, 124)
    code = [*move(target, m0, 0x1234), *encode(target, "s_sendmsg", simm=1), *end(target)]
    ended = run_both(target, code)
    assert ended.outcome == Done()
    assert ended.execution.take_messages() == [0x1234]
    assert ended.execution.take_messages() == []


@each_target
def test_messages_of_graphics_are_refused(target: str) -> None:
    number = 2 if target in ("gfx90a", "gfx942", "gfx950", "gfx1030") else 9
    outcome = run_both(target, [*encode(target, "s_sendmsg", simm=number), *end(target)]).outcome
    assert isinstance(outcome, Unsupported)
    assert outcome.reason.startswith("message ")


@each_target
def test_clocks_go_on(target: str) -> None:
    if target in ("gfx90a", "gfx942", "gfx950", "gfx1030"):
        names = ["s_memtime", "s_memrealtime"]
        reads = [encode(target, name, sdata=8 + 2 * k) for k, name in enumerate(names)]
    else:
        names = ["s_sendmsg_rtn_b32", "s_sendmsg_rtn_b64"]
        reads = [encode(target, name, sdst=8 + 2 * k, ssrc0=131) for k, name in enumerate(names)]
    wait = encode(target, "s_nop")
    ended = run_both(target, [*wait, *reads[0], *wait, *reads[1], *end(target)])
    times = ended.scalars(8, 4)
    assert 0 < times[0] < times[2]
    assert times[1] == times[3] == 0


@pytest.mark.parametrize("target", ["gfx1100", "gfx1201"])
def test_no_trap_handler_is_installed(target: str) -> None:
    code = encode(target, "s_sendmsg_rtn_b64", sdst=8, ssrc0=130)
    code += [*encode(target, "s_sendmsg_rtn_b64", sdst=10, ssrc0=133), *end(target)]

    def setup(group: Group) -> None:
        group.waves[0].scalars[8:12] = 5

    assert run_both(target, code, setup).scalars(8, 4) == [0] * 4


@each_target
@pytest.mark.parametrize("name", ["s_endpgm", "s_endpgm_saved", "s_setkill"])
def test_programs_end_where_they_say(target: str, name: str) -> None:
    code = [*encode(target, name, simm=name == "s_setkill"), *move(target, 5, 1), *end(target)]
    ended = run_both(target, code)
    assert ended.outcome == Done()
    assert ended.scalars(5) == [0]
    assert ended.execution.instructions == 1


def test_every_wave_has_all_vector_registers() -> None:
    code = [*encode("gfx1201", "s_alloc_vgpr", ssrc0=constant(32)), *end("gfx1201")]
    assert run_both("gfx1201", code).scalars(state.SCC) == [1]


@each_target
def test_waits_hints_and_caches_change_nothing(target: str) -> None:
    known = {name for _, name in decoder(target).names()}
    code = []
    for name in HINTS:
        if name in known:
            code += encode(target, name)
    words = np.random.default_rng(1).integers(2**32, size=100, dtype=np.uint32)
    start: list[np.ndarray[Any, Any]] = []

    def setup(group: Group) -> None:
        group.waves[0].scalars[:100] = words
        group.waves[0].vectors[:] = np.arange(512, dtype=np.uint32)[:, None]
        start.append(group.words.copy())

    ended = run_both(target, [*code, *end(target)], setup)
    assert ended.outcome == Done()
    assert np.array_equal(ended.words, start[0])
    assert ended.lds == bytes(4096)


# --- barriers in halves


def split(target: str, first: list[int], others: list[int]) -> list[int]:
    """Return code in which the first wave (s0 = 0) goes its own way."""
    test = encode(target, "s_cmp_eq_u32", ssrc0=0, ssrc1=constant(0))
    return [*test, *encode(target, "s_cbranch_scc0", simm=len(first)), *first, *others]


def number_waves(group: Group) -> None:
    for wave in group.waves:
        wave.scalars[0] = wave.number



SIGNAL = encode("gfx1201", "s_barrier_signal", ssrc0=constant(-1))
WAIT = encode("gfx1201", "s_barrier_wait", simm=-1)


def test_a_wave_that_has_signalled_does_not_hold_up_the_others() -> None:
    # The first wave signals and spins on LDS until the other one, behind the barrier, writes.
    g = "gfx1201"
    load = encode(g, "ds_load_b32", vdst=2, addr=1)
    read = encode(g, "v_readfirstlane_b32", vdst=5, src0=258)
    spin = [*load, *read, *encode(g, "s_cmp_eq_u32", ssrc0=5, ssrc1=constant(0))]
    spin += encode(g, "s_cbranch_scc1", simm=-len(spin) - 1)
    first = [*SIGNAL, *spin, *WAIT, *end(g)]
    store = encode(g, "ds_store_b32", addr=1, data0=3)
    seven = encode(g, "v_mov_b32", vdst=3, src0=constant(7))
    other = [*SIGNAL, *WAIT, *seven, *store, *end(g)]
    ended = run_both(g, split(g, first, other), number_waves, group_size=(64, 1, 1))
    assert ended.outcome == Done()
    assert ended.scalars(5) == [7]


def test_a_wait_without_a_signal_is_proven_to_last_for_ever() -> None:
    g = "gfx1201"
    code = split(g, [*WAIT, *end(g)], [*SIGNAL, *WAIT, *end(g)])
    outcome = run_both(g, code, number_waves, group_size=(64, 1, 1)).outcome
    assert isinstance(outcome, Endless)
    assert (outcome.place.wave, outcome.place.pc) == (0, CODE + 12)


def test_the_first_signal_is_told_apart_and_states_are_counted() -> None:
    g = "gfx1201"
    ask = encode(g, "s_get_barrier_state", sdst=7, ssrc0=constant(-1))
    mark = encode(g, "s_cselect_b32", sdst=6, ssrc0=constant(1), ssrc1=constant(2))
    first = encode(g, "s_barrier_signal_isfirst", ssrc0=constant(-1))
    code = [*first, *mark, *ask, *WAIT, *end(g)]
    ended = run_both(g, code, number_waves, group_size=(96, 1, 1))
    assert ended.outcome == Done()
    assert [ended.scalars(6, 1, wave)[0] for wave in range(3)] == [1, 2, 2]
    states = [ended.scalars(7, 1, wave)[0] for wave in range(3)]
    assert states == [count << 16 | 3 << 4 | 1 for count in (1, 2, 3)]


@pytest.mark.parametrize("number", [1, 16])
def test_named_barriers_are_refused(number: int) -> None:
    code = encode("gfx1201", "s_barrier_signal", ssrc0=constant(number))
    outcome = run_both("gfx1201", [*code, *end("gfx1201")]).outcome
    assert isinstance(outcome, Unsupported)
    assert "named barrier" in outcome.reason


@each_target
def test_waves_that_have_ended_do_not_hold_up_a_barrier(target: str) -> None:
    barrier = [*SIGNAL, *WAIT] if target == "gfx1201" else encode(target, "s_barrier")
    code = split(target, end(target), [*barrier, *barrier, *move(target, 3, 5), *end(target)])
    lanes = 64 if target in ("gfx90a", "gfx942", "gfx950") else 32
    ended = run_both(target, code, number_waves, group_size=(3 * lanes, 1, 1))
    assert ended.outcome == Done()
    assert [ended.scalars(3, 1, wave)[0] for wave in range(3)] == [0, 5, 5]
