"""Registers of the sequencer: s_getreg, s_setreg, MODE, messages, and the GPR index mode of gfx9.

The bits of MODE that decide what instructions compute are known when an instruction is translated
(`trace.Mode`): a wave carries how they differ from those of the launch in the upper bits of its
program counter, so that changing them is a jump. The other bits of MODE and the constant part of
STATUS are words of the wave's state.

Sources: AMD's ISA manuals (Vega, MI300, RDNA2, RDNA3, RDNA4: hardware registers, MODE, STATUS,
S_SENDMSG, VGPR indexing), LLVM's SIDefines.h (Hwreg, SendMsg), Linux's gc_*_sh_mask.h (SQ_WAVE_*).
"""

import re
from collections.abc import Callable

from gputrace.isa import state
from gputrace.isa.graph import U32, U64, Node
from gputrace.isa.instruction import OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.state import ADDRESS, CHANGE_AT
from gputrace.isa.trace import GPR_INDEX, HALF_LIMIT, SKIPS, NotModelled, Trace

REGISTERS = Registry()

_NAME = re.compile(r"hwreg\((?:HW_REG_)?(\w+)")
_MESSAGE = re.compile(r"sendmsg\((?:MSG_)?(\w+)")
_LIMIT_BIT, _GPR_INDEX_BIT, _SKIP_BIT = 23, 27, 28  # of MODE: FP16_OVFL, GPR_IDX_EN, VSKIP
_EXCEPTIONS = 0x7F << 12  # EXCP_EN: arithmetic here raises none
_STICKY = 0x7F  # TRAPSTS and EXCP_FLAG_USER: which floating-point exceptions have been
_EXECZ, _VCCZ = 9, 10  # of STATUS
_CYCLES = 0xFFFFF

# No trap handler is installed, no counter is ever outstanding, and all waves run on the first
# compute unit of the first XCC.
_ZERO = (
    "IB_STS", "IB_STS2", "HW_ID", "HW_ID1", "HW_ID2", "XCC_ID", "TBA_LO", "TBA_HI", "TMA_LO",
    "TMA_HI",
)  # fmt: skip
_PLACES = {
    "FLAT_SCR_LO": state.FLAT_SCRATCH, "FLAT_SCR_HI": state.FLAT_SCRATCH + 1,
    "SCRATCH_BASE_LO": state.FLAT_SCRATCH, "SCRATCH_BASE_HI": state.FLAT_SCRATCH + 1,
    "XNACK_MASK": state.XNACK_MASK,
}  # fmt: skip


def _register(trace: Trace) -> tuple[str, int, int]:
    # (name, first bit, bits) of the hardware register that the instruction names
    for operand in (*trace.instruction.dst, *trace.instruction.src):
        if operand.kind is OperandKind.IMMEDIATE and operand.type == "hwreg":
            raw, found = operand.index, _NAME.match(operand.name)
            if found is None:
                break
            return found[1], raw >> 6 & 31, (raw >> 11 & 31) + 1
    raise NotModelled("no hardware register")


# --- reading


def _status(trace: Trace) -> Node:
    vcc = trace.scalar(state.VCC, 1 + trace.mode.wave_size // 64)
    word = trace.scalar(state.STATUS) | (trace.exec_mask().eq(0).zext(U32) << _EXECZ)
    word = word | (vcc.eq(0).zext(U32) << _VCCZ)
    return word if trace.mode.behaviour.scc_in_private else word | trace.scc.zext(U32)


def _mode(trace: Trace) -> Node:
    known = 0
    for at, to, mask, start in _pieces(trace):
        known |= ((trace.mode.change >> to ^ start) & mask) << at
    return trace.scalar(state.MODE) | known


def _bases(trace: Trace) -> Node:
    shared, private = trace.mode.lds_aperture >> 48, trace.mode.scratch_aperture >> 48
    return trace.const(U32, shared << 16 | private)


_READERS: dict[str, Callable[[Trace], Node]] = {
    "MODE": _mode,
    "STATUS": _status,
    "SH_MEM_BASES": _bases,
    "SHADER_CYCLES": lambda trace: trace.apply("clock").zext(U32) & _CYCLES,
    "SHADER_CYCLES_LO": lambda trace: trace.apply("clock").zext(U32),
    "SHADER_CYCLES_HI": lambda trace: (trace.apply("clock") >> 32).zext(U32),
}


def _value(trace: Trace, name: str, first: int, bits: int) -> Node:
    asked = ((1 << bits) - 1) << first
    if name in _READERS:
        return _READERS[name](trace)
    if name in _PLACES:
        return trace.scalar(_PLACES[name])
    if name in _ZERO or (name in ("TRAPSTS", "EXCP_FLAG_USER") and not asked & _STICKY):
        return trace.const(U32, 0)
    raise NotModelled(f"reading HW_REG_{name}")


@REGISTERS.meaning("s_getreg_b32")
def _getreg(trace: Trace) -> None:
    name, first, bits = _register(trace)
    value = _value(trace, name, first, bits)
    trace.write(trace.instruction.dst[0], (value >> first) & ((1 << bits) - 1))


# --- writing


def _go_on(trace: Trace, change: Node | int) -> None:
    # The next instruction with other bits above its address.
    end = trace.instruction.address + trace.instruction.size
    if isinstance(change, int):
        raised = trace.const(U64, change << CHANGE_AT)
    else:
        raised = change.zext(U64) << CHANGE_AT
    trace.go("jump_to", (trace.apply("here", attribute=end) & ADDRESS) | raised)


def change_mode(trace: Trace, change: int) -> None:
    """Go on with another change of MODE, if it is another."""
    if change != trace.mode.change:
        _go_on(trace, change)


def _pieces(trace: Trace) -> list[tuple[int, int, int, int]]:
    # Bits of MODE that translation depends on: (first there, first in a change, mask, what they
    # were at the launch)
    mode = trace.mode
    bits = 0x3FF if mode.behaviour.ieee_bit else 0xFF
    limit = int(mode.half_limit) ^ bool(mode.change & HALF_LIMIT)
    found = [(0, 0, bits, (mode.float_mode ^ mode.change) & bits), (_LIMIT_BIT, 13, 1, limit)]
    if mode.behaviour.index_mode:
        found += [(_GPR_INDEX_BIT, 10, 1, 0), (_SKIP_BIT, 11, 1, 0)]
    return found


def _set_mode(trace: Trace, first: int, bits: int, value: Node | int) -> None:
    # The bits that instructions look at, then those that only stand in the word.
    field, placed = ((1 << bits) - 1) << first, value << first
    rest, change = field, trace.mode.change
    moved: Node | None = None
    for at, to, mask, start in _pieces(trace):
        wanted = field >> at & mask
        rest &= ~(mask << at)
        change &= ~(wanted << to)
        if isinstance(placed, int):
            change |= ((placed >> at ^ start) & wanted) << to
        elif wanted:
            part = (((placed >> at) ^ start) & wanted) << to
            moved = part if moved is None else moved | part
    if moved is not None:
        _go_on(trace, moved | change)
    else:
        change_mode(trace, change)
    if rest:
        _set_rest(trace, rest, placed if isinstance(placed, Node) else trace.const(U32, placed))


def _set_rest(trace: Trace, rest: int, placed: Node) -> None:
    new = (trace.scalar(state.MODE) & (0xFFFFFFFF ^ rest)) | (placed & rest)
    if rest & _EXCEPTIONS:
        raised = (placed & (rest & _EXCEPTIONS)).ne(0)
        trace.apply("stop_if", raised, attribute=("refuse", "EXCP_EN of MODE"))
    trace.put_scalar(state.MODE, new)


@REGISTERS.meaning("s_setreg_b32 s_setreg_imm32_b32")
def _setreg(trace: Trace) -> None:
    name, first, bits = _register(trace)
    source = next(o for o in trace.instruction.src if o.type != "hwreg")
    if name == "MODE":
        value = source.value if source.is_constant else trace.raw(source, 0, 1)
        if isinstance(value, int):
            value &= (1 << bits) - 1
        else:
            value = value & ((1 << bits) - 1)
        _set_mode(trace, first, bits, value)
    elif name in _PLACES:
        mask = ((1 << bits) - 1) << first
        old = trace.scalar(_PLACES[name]) & (0xFFFFFFFF ^ mask)
        trace.put_scalar(_PLACES[name], old | (trace.raw(source, 0, 1) << first & mask))
    elif name not in ("SCHED_MODE", "26"):  # how instructions are scheduled changes no result
        raise NotModelled(f"writing HW_REG_{name}")


@REGISTERS.meaning("s_round_mode")
def _round_mode(trace: Trace) -> None:
    _set_mode(trace, 0, 4, (trace.instruction.simm or 0) & 15)


@REGISTERS.meaning("s_denorm_mode")
def _denormal_mode(trace: Trace) -> None:
    _set_mode(trace, 4, 4, (trace.instruction.simm or 0) & 15)


# --- GPR index mode and VSKIP (gfx9)


def _put_m0(trace: Trace, mask: int, value: Node) -> None:
    kept = trace.scalar(state.M0) & (0xFFFFFFFF ^ mask)
    trace.put_scalar(state.M0, kept | (value & mask))


@REGISTERS.meaning("s_set_gpr_idx_on")
def _index_on(trace: Trace) -> None:
    # M0 takes the index and, at 15:12, which operands are relative.
    index, chosen = trace.instruction.src
    wanted = trace.const(U32, (chosen.index & 15) << 12)
    _put_m0(trace, 0xF0FF, (trace.raw(index, 0, 1) & 0xFF) | wanted)
    change_mode(trace, trace.mode.change | GPR_INDEX)


@REGISTERS.meaning("s_set_gpr_idx_off")
def _index_off(trace: Trace) -> None:
    change_mode(trace, trace.mode.change & ~GPR_INDEX)


@REGISTERS.meaning("s_set_gpr_idx_mode")
def _index_mode(trace: Trace) -> None:
    _put_m0(trace, 0xF000, trace.const(U32, ((trace.instruction.simm or 0) & 15) << 12))


@REGISTERS.meaning("s_set_gpr_idx_idx")
def _index_index(trace: Trace) -> None:
    _put_m0(trace, 0xFF, trace.raw(trace.instruction.src[0], 0, 1))


@REGISTERS.meaning("s_setvskip")
def _skip(trace: Trace) -> None:
    # A bit of the first source says whether vector instructions are skipped from now on.
    value, bit = (trace.raw(operand, 0, 1) for operand in trace.instruction.src)
    chosen = (value >> (bit & 31)) & 1
    kept = trace.const(U32, trace.mode.change & ~SKIPS)
    _go_on(trace, kept | (chosen * SKIPS))


# --- messages


def _message(trace: Trace) -> str:
    spelled = trace.instruction.spelled
    spelled = spelled or next((o.name for o in trace.instruction.src if o.name), "")
    found = _MESSAGE.match(spelled)
    if found is None:
        raise NotModelled(f"message {(trace.instruction.simm or 0) & 0xFFFF:#x}")
    return found[1]


@REGISTERS.meaning("s_sendmsg")
def send(trace: Trace) -> None:
    """Send the message of the instruction."""
    match _message(trace):
        case "INTERRUPT":  # M0 says what the host's driver is told
            trace.apply("message", trace.scalar(state.M0))
        case "DEALLOC_VGPRS" | "STALL_WAVE_GEN":  # hints
            return
        case name:
            raise NotModelled(f"message {name}")


@REGISTERS.meaning("s_sendmsg_rtn_b64 s_sendmsg_rtn_b32")
def _ask(trace: Trace) -> None:
    match _message(trace):
        case "RTN_GET_REALTIME":
            value = trace.apply("clock")
        case "RTN_GET_TMA" | "RTN_GET_TBA" | "RTN_GET_SE_AID_ID":  # no handler; the first of all
            value = trace.const(U64, 0)
        case name:
            raise NotModelled(f"message {name}")
    to = trace.instruction.dst[0]
    trace.write(to, value if to.count == 2 else value.zext(U32))


@REGISTERS.meaning("s_memtime s_memrealtime")
def _time(trace: Trace) -> None:
    trace.write(trace.instruction.dst[0], trace.apply("clock"))
