"""Program flow: branches, calls, forks, loops over halves, barriers, traps, and the end.

A trap stops the dispatch as the handlers of the ROCr runtime do: `s_trap 2` and others put the
queue into its error state, `s_trap 3` (a debugger's breakpoint) returns at once where no debugger
is attached. A halted wave stays at its instruction for ever.

Sources: AMD's ISA manuals (Vega, MI300, RDNA2 to RDNA4: program flow, SOPP), LLVM's AMDGPUUsage
("Trap Handler ABI") and SIDefines.h (Barrier), ROCr's trap_handler.s.
"""

from collections.abc import Callable

from gputrace.isa import state
from gputrace.isa.graph import I1, U32, U64, Node, where
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_registers import send
from gputrace.isa.state import ADDRESS, CHANGE_AT
from gputrace.isa.trace import HALTED, NotModelled, Trace

FLOW = Registry()

_BREAKPOINT = 3
_STACK_AT, _STACK_BITS = 29, 7  # CSP in MODE: how many forks are open
_FORK_WORDS, _FORKS = 4, 8


def _end_of(trace: Trace) -> int:
    return trace.instruction.address + trace.instruction.size


def _target(trace: Trace) -> int:
    return _end_of(trace) + 4 * (trace.instruction.simm or 0)


def _here(trace: Trace, place: int) -> Node:
    # An address of the code as registers hold it.
    return trace.apply("here", attribute=place) & ADDRESS


def _jump_to(trace: Trace, address: Node) -> None:
    # What the wave's MODE is stands above the address.
    change = trace.mode.change << CHANGE_AT
    trace.go("jump_to", (address & ADDRESS) | change if change else address & ADDRESS)


# --- branches and calls


@FLOW.meaning("s_branch")
def _branch(trace: Trace) -> None:
    trace.go("jump", attribute=_target(trace))


_CONDITIONS: dict[str, Callable[[Trace], Node]] = {
    "scc0": lambda t: t.scalar(state.SCC).eq(0),
    "scc1": lambda t: t.scalar(state.SCC).ne(0),
    "vccz": lambda t: t.scalar(state.VCC, 1 + t.mode.wave_size // 64).eq(0),
    "vccnz": lambda t: t.scalar(state.VCC, 1 + t.mode.wave_size // 64).ne(0),
    "execz": lambda t: t.exec_mask().eq(0),
    "execnz": lambda t: t.exec_mask().ne(0),
}


def _conditional(condition: Callable[[Trace], Node]) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        trace.go("branch", condition(trace), attribute=(_target(trace), _end_of(trace)))

    return meaning


for _name, _condition_of in _CONDITIONS.items():
    FLOW.add(f"s_cbranch_{_name}", _conditional(_condition_of))


@FLOW.meaning(
    "s_cbranch_cdbgsys s_cbranch_cdbguser s_cbranch_cdbgsys_or_user s_cbranch_cdbgsys_and_user"
)
def _debug_branch(trace: Trace) -> None:
    # The bits that a debugger on the host sets; there is none.
    return


@FLOW.meaning("s_getpc_b64")
def _getpc(trace: Trace) -> None:
    trace.write(trace.instruction.dst[0], _here(trace, _end_of(trace)))


@FLOW.meaning("s_setpc_b64 s_rfe_b64 s_rfe_restore_b64")
def _setpc(trace: Trace) -> None:
    # Leaving the privileged mode, in which no wave is, changes nothing else.
    _jump_to(trace, trace.read(trace.instruction.src[0]))


@FLOW.meaning("s_swappc_b64")
def _swappc(trace: Trace) -> None:
    _getpc(trace)
    _setpc(trace)


@FLOW.meaning("s_call_b64")
def _call(trace: Trace) -> None:
    _getpc(trace)
    trace.go("jump", attribute=_target(trace))


# --- forks (gfx9): the lanes that go the other way wait in four scalar registers


def _stack(trace: Trace) -> Node:
    return (trace.scalar(state.MODE) >> _STACK_AT) & _STACK_BITS


def _put_stack(trace: Trace, depth: Node) -> None:
    kept = trace.scalar(state.MODE) & ((1 << _STACK_AT) - 1)
    trace.put_scalar(state.MODE, kept | (depth << _STACK_AT))


def _fork(trace: Trace, mask: Node, target: Node) -> None:
    lanes = trace.exec_mask()
    taken, other = mask & lanes, ~mask & lanes
    none, everyone = taken.eq(0), other.eq(0)
    fewer = trace.apply("ult", trace.apply("popcount", other), trace.apply("popcount", taken))
    divides = ~(none | everyone)
    # The smaller part goes first; the other one waits with its address.
    after = _here(trace, _end_of(trace))
    waiting, waiting_at = where(fewer, taken, other), where(fewer, target, after)
    depth = _stack(trace)
    for fork in range(_FORKS):
        chosen = divides & depth.eq(fork)
        for k, value in enumerate((waiting, waiting >> 32, waiting_at, waiting_at >> 32)):
            at = _FORK_WORDS * fork + k
            trace.put_scalar(at, where(chosen, value.zext(U32), trace.scalar(at)))
    trace.put_scalar(state.EXEC, where(divides, where(fewer, other, taken), lanes))
    _put_stack(trace, where(divides, depth + 1, depth))
    jumps = everyone & ~none | divides & ~fewer
    _jump_to(trace, where(jumps, target, after))


@FLOW.meaning("s_cbranch_g_fork")
def _fork_to_register(trace: Trace) -> None:
    mask, target = (trace.raw(operand, 0, 2) for operand in trace.instruction.src)
    _fork(trace, mask, target)


@FLOW.meaning("s_cbranch_i_fork")
def _fork_to_place(trace: Trace) -> None:
    # The field of the destination holds the mask.
    _fork(trace, trace.raw(trace.instruction.dst[0], 0, 2), _here(trace, _target(trace)))


@FLOW.meaning("s_cbranch_join")
def _join(trace: Trace) -> None:
    # The lanes that waited go now, unless all forks since then are done.
    saved, depth = trace.raw(trace.instruction.src[0], 0, 1), _stack(trace)
    done, top = depth.eq(saved), depth - 1
    words = [trace.const(U32, 0)] * _FORK_WORDS
    for fork in range(_FORKS):
        chosen = (top & _STACK_BITS).eq(fork)
        words = [
            where(chosen, trace.scalar(_FORK_WORDS * fork + k), word)
            for k, word in enumerate(words)
        ]
    lanes, address = (a.zext(U64) | (b.zext(U64) << 32) for a, b in (words[:2], words[2:]))
    trace.put_scalar(state.EXEC, where(done, trace.exec_mask(), lanes))
    _put_stack(trace, where(done, depth, top & _STACK_BITS))
    _jump_to(trace, where(done, _here(trace, _end_of(trace)), address))


# --- loops over the two halves of a wave of 64 lanes (gfx10, gfx11)


@FLOW.meaning("s_subvector_loop_begin")
def _halves_begin(trace: Trace) -> None:
    low, high = trace.scalar(state.EXEC), trace.scalar(state.EXEC + 1)
    only_high = low.eq(0)
    trace.write(trace.instruction.dst[0], where(only_high, low, high))
    trace.put_scalar(state.EXEC + 1, where(only_high, high, 0))
    none = (low | high).eq(0)
    trace.go("branch", none, attribute=(_target(trace), _end_of(trace)))


@FLOW.meaning("s_subvector_loop_end")
def _halves_end(trace: Trace) -> None:
    low, high = trace.scalar(state.EXEC), trace.scalar(state.EXEC + 1)
    to = trace.instruction.dst[0]
    kept = trace.raw(to, 0, 1)
    was_high, again = high.ne(0), high.eq(0) & kept.ne(0)
    trace.put_scalar(state.EXEC, where(was_high, kept, where(again, 0, low)))
    trace.put_scalar(state.EXEC + 1, where(again, kept, high))
    trace.write(to, where(again, low, kept))
    trace.go("branch", again, attribute=(_target(trace), _end_of(trace)))


# --- barriers


@FLOW.meaning("s_barrier")
def _barrier(trace: Trace) -> None:
    trace.put_scalar(state.SIGNALLED, trace.const(U32, 1))
    trace.go("barrier", attribute=_end_of(trace))


@FLOW.meaning("s_barrier_wait")
def _wait(trace: Trace) -> None:
    # -1 is the barrier of the whole group; waiting at 0 is for named ones.
    if (trace.instruction.simm or 0) != -1:
        raise NotModelled("named barriers and those of trap handlers")
    trace.go("barrier", attribute=_end_of(trace))


def _barrier_number(trace: Trace) -> int:
    source = trace.instruction.src[0]
    if not source.is_constant:
        raise NotModelled("named barriers")  # M0 holds no negative number
    number = source.value & 0xFF
    return number - 256 if number > 127 else number


@FLOW.meaning("s_barrier_signal")
def _signal(trace: Trace) -> None:
    match _barrier_number(trace):
        case -1:
            trace.put_scalar(state.SIGNALLED, trace.const(U32, 1))
        case 0 | -2:  # nothing, and the one of trap handlers: no effect in user code
            return
        case number:
            raise NotModelled(f"named barrier {number}")


@FLOW.meaning("s_barrier_signal_isfirst")
def _signal_first(trace: Trace) -> None:
    _signal(trace)
    first = trace.apply("others", attribute=state.SIGNALLED) & 0xFFFF
    known = _barrier_number(trace) == -1
    trace.put_scc(first.eq(0) if known else trace.const(I1, 0))


@FLOW.meaning("s_get_barrier_state")
def _barrier_state(trace: Trace) -> None:
    # valid, members at 10:4, how many have signalled at 22:16
    if _barrier_number(trace) != -1:
        raise NotModelled("named barriers")
    counts = trace.apply("others", attribute=state.SIGNALLED)
    signalled = (counts & 0xFFFF) + trace.scalar(state.SIGNALLED)
    members = (counts >> 16) + 1
    trace.write(trace.instruction.dst[0], (signalled << 16) | (members << 4) | 1)


# --- the end, halts and traps


@FLOW.meaning("s_endpgm s_endpgm_saved")
def _end(trace: Trace) -> None:
    trace.go("end")


@FLOW.meaning("s_setkill")
def _kill(trace: Trace) -> None:
    if (trace.instruction.simm or 0) & 1:
        trace.go("end")


def _stay(trace: Trace) -> None:
    trace.go("jump", attribute=trace.instruction.address)


@FLOW.meaning("s_sethalt")
def _halt(trace: Trace) -> None:
    if (trace.instruction.simm or 0) & 1:
        _stay(trace)


@FLOW.meaning("s_sendmsghalt")
def _send_and_halt(trace: Trace) -> None:
    if trace.mode.change & HALTED:
        _stay(trace)
        return
    send(trace)
    place = _here(trace, trace.instruction.address)
    trace.go("jump_to", place | (trace.mode.change | HALTED) << CHANGE_AT)


@FLOW.meaning("s_trap")
def _trap(trace: Trace) -> None:
    number = (trace.instruction.simm or 0) & 0xFF
    if number != _BREAKPOINT:
        trace.apply("stop_if", trace.const(I1, 1), attribute=("trap", number))


@FLOW.meaning("s_code_end")
def _code_end(trace: Trace) -> None:
    # What pads the end of code raises the exception of an illegal instruction.
    trace.apply("stop_if", trace.const(I1, 1), attribute=("illegal", "s_code_end"))


@FLOW.meaning("s_alloc_vgpr")
def _allocate(trace: Trace) -> None:
    # Every wave has all vector registers.
    trace.put_scc(trace.const(I1, 1))


@FLOW.meaning(
    "s_nop s_waitcnt s_waitcnt_depctr s_waitcnt_vscnt s_waitcnt_vmcnt s_waitcnt_expcnt"
    " s_waitcnt_lgkmcnt s_delay_alu s_clause s_sleep s_sleep_var s_set_inst_prefetch_distance"
    " s_inst_prefetch s_setprio s_icache_inv s_wait_loadcnt s_wait_storecnt s_wait_samplecnt"
    " s_wait_bvhcnt s_wait_expcnt s_wait_dscnt s_wait_kmcnt s_wait_loadcnt_dscnt"
    " s_wait_storecnt_dscnt s_wait_alu s_wait_event s_wait_idle s_wakeup s_ttracedata"
    " s_ttracedata_imm s_incperflevel s_decperflevel s_version s_singleuse_vdst ds_nop"
    " global_inv global_wb global_wbinv buffer_gl0_inv buffer_gl1_inv buffer_wbl2 buffer_inv"
    " buffer_invl2 buffer_wbinvl1 buffer_wbinvl1_vol"
)
def _nothing(trace: Trace) -> None:
    # Waits, hints, caches and traces: memory here is coherent and in order.
    return
