"""Registers of the sequencer: s_getreg, s_setreg, and the instructions that change MODE.

Witness: AMD's ISA manuals (hardware registers, MODE), LLVM's SIDefines.h (Hwreg, SendMsg).
"""

from gputrace.isa import state
from gputrace.isa.graph import U32
from gputrace.isa.instruction import OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.trace import NotModelled, Trace

REGISTERS = Registry()

_MODE, _CYCLES = 1, 29
_PLACES = {20: state.FLAT_SCRATCH, 21: state.FLAT_SCRATCH + 1}


def _register(trace: Trace) -> tuple[int, int, int]:
    # (number, first bit, bits) of the hardware register that the instruction names
    for operand in (*trace.instruction.dst, *trace.instruction.src):
        if operand.kind is OperandKind.IMMEDIATE and operand.type == "hwreg":
            raw = operand.index
            return raw & 63, raw >> 6 & 31, (raw >> 11) + 1
    raise NotModelled("no hardware register")


@REGISTERS.meaning("s_getreg_b32")
def _getreg(trace: Trace) -> None:
    number, first, bits = _register(trace)
    if number in _PLACES:
        value = trace.scalar(_PLACES[number])
    elif number == _MODE and first + bits <= 8:
        value = trace.const(U32, trace.mode.float_mode)
    elif number == _CYCLES:
        value = trace.apply("clock").zext(U32) & 0xFFFFF
    else:
        raise NotModelled(f"hardware register {number}")
    trace.write(trace.instruction.dst[0], (value >> first) & ((1 << bits) - 1))


def _keep_mode(trace: Trace, first: int, bits: int, value: int) -> None:
    # What a kernel computes with is decided when it is translated: MODE may be set to what it is.
    mask = (1 << bits) - 1
    if first + bits > 8 or trace.mode.float_mode >> first & mask != value & mask:
        raise NotModelled("a change of the MODE register")


@REGISTERS.meaning("s_setreg_b32 s_setreg_imm32_b32")
def _setreg(trace: Trace) -> None:
    number, first, bits = _register(trace)
    source = next(o for o in trace.instruction.src if o.type != "hwreg")
    if number in _PLACES and bits == 32:
        trace.put_scalar(_PLACES[number], trace.raw(source, 0, 1))
    elif number == _MODE and source.is_constant:
        _keep_mode(trace, first, bits, source.value)
    else:
        raise NotModelled(f"a change of hardware register {number}")


@REGISTERS.meaning("s_round_mode")
def _round_mode(trace: Trace) -> None:
    _keep_mode(trace, 0, 4, trace.instruction.simm or 0)


@REGISTERS.meaning("s_denorm_mode")
def _denormal_mode(trace: Trace) -> None:
    _keep_mode(trace, 4, 4, trace.instruction.simm or 0)


@REGISTERS.meaning("s_sendmsg_rtn_b64 s_sendmsg_rtn_b32")
def _ask(trace: Trace) -> None:
    # 0x83 is MSG_RTN_GET_REALTIME (LLVM: SIDefines.h, SendMsg).
    if trace.instruction.src[0].index != 0x83:
        raise NotModelled(f"message {trace.instruction.src[0].index:#x}")
    trace.write(trace.instruction.dst[0], trace.apply("clock"))
