"""What the 16-bit immediates of some instructions say, in LLVM's words.

Source: LLVM 19, AMDGPUInstPrinter.cpp (printSWaitCnt, printSDelayALU, printSendMsg, printHwreg,
printSwizzle) and the tables of AMDGPUAsmUtils.cpp and SIDefines.h.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Pieces = tuple[tuple[int, int], ...]
"""Where the bits of a number lie: (lowest bit, how many), the low ones first."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a generation cuts such immediates, and what their values are called."""

    counters: Mapping[str, Pieces]
    """Of s_waitcnt."""
    registers: Mapping[int, str]
    """Hardware registers of s_getreg and s_setreg, without HW_REG_."""
    messages: Mapping[int, str]
    """Of s_sendmsg, without MSG_."""
    operations: bool
    """Whether a message may have an operation and a stream beside its number."""


_BEFORE_GFX11: Final = {
    1: "INTERRUPT", 2: "GS", 3: "GS_DONE", 4: "SAVEWAVE", 5: "STALL_WAVE_GEN", 6: "HALT_WAVES",
    7: "ORDERED_PS_DONE", 8: "EARLY_PRIM_DEALLOC", 9: "GS_ALLOC_REQ", 10: "GET_DOORBELL",
    15: "SYSMSG",
}  # fmt: skip
_FROM_GFX11: Final = {
    1: "INTERRUPT", 2: "HS_TESSFACTOR", 3: "DEALLOC_VGPRS", 9: "GS_ALLOC_REQ",
    128: "RTN_GET_DOORBELL", 129: "RTN_GET_DDID", 130: "RTN_GET_TMA", 131: "RTN_GET_REALTIME",
    132: "RTN_SAVE_WAVE", 133: "RTN_GET_TBA", 134: "RTN_GET_TBA_TO_PC",
}  # fmt: skip
_OLD: Final = {
    1: "MODE", 2: "STATUS", 3: "TRAPSTS", 5: "GPR_ALLOC", 6: "LDS_ALLOC", 7: "IB_STS",
    15: "SH_MEM_BASES",
}  # fmt: skip
_TRAPS: Final = {16: "TBA_LO", 17: "TBA_HI", 18: "TMA_LO", 19: "TMA_HI"}
_RDNA: Final = {20: "FLAT_SCR_LO", 21: "FLAT_SCR_HI", 23: "HW_ID1", 24: "HW_ID2"}
_GFX9_COUNTERS: Final[dict[str, Pieces]] = {
    "vmcnt": ((0, 4), (14, 2)), "expcnt": ((4, 3),), "lgkmcnt": ((8, 4),)
}  # fmt: skip
_GFX11_COUNTERS: Final[dict[str, Pieces]] = {
    "vmcnt": ((10, 6),), "expcnt": ((0, 3),), "lgkmcnt": ((4, 6),)
}  # fmt: skip

GFX90A: Final = Spelling(_GFX9_COUNTERS, {**_OLD, 4: "HW_ID", **_TRAPS}, _BEFORE_GFX11, True)
GFX940: Final = Spelling(
    _GFX9_COUNTERS,
    {
        **GFX90A.registers, 20: "XCC_ID", 21: "SQ_PERF_SNAPSHOT_DATA",
        22: "SQ_PERF_SNAPSHOT_DATA1", 23: "SQ_PERF_SNAPSHOT_PC_LO", 24: "SQ_PERF_SNAPSHOT_PC_HI",
    },
    _BEFORE_GFX11, True,
)  # fmt: skip
GFX10: Final = Spelling(
    {**_GFX9_COUNTERS, "lgkmcnt": ((8, 6),)},
    {**_OLD, **_TRAPS, **_RDNA, 25: "POPS_PACKER", 29: "SHADER_CYCLES"},
    {**_BEFORE_GFX11, 11: "GET_DDID"}, True,
)  # fmt: skip
GFX11: Final = Spelling(
    _GFX11_COUNTERS,
    {
        **_OLD, **_RDNA, 18: "PERF_SNAPSHOT_PC_LO", 19: "PERF_SNAPSHOT_PC_HI",
        27: "PERF_SNAPSHOT_DATA", 29: "SHADER_CYCLES",
    },
    {**_FROM_GFX11, 5: "STALL_WAVE_GEN", 6: "HALT_WAVES"}, False,
)  # fmt: skip
GFX12: Final = Spelling(
    _GFX11_COUNTERS,
    {
        1: "MODE", 2: "STATUS", 4: "STATE_PRIV", 5: "GPR_ALLOC", 6: "LDS_ALLOC", 7: "IB_STS",
        10: "PERF_SNAPSHOT_DATA", 11: "PERF_SNAPSHOT_PC_LO", 12: "PERF_SNAPSHOT_PC_HI",
        15: "PERF_SNAPSHOT_DATA1", 16: "PERF_SNAPSHOT_DATA2", 17: "EXCP_FLAG_PRIV",
        18: "EXCP_FLAG_USER", 19: "TRAP_CTRL", 20: "SCRATCH_BASE_LO", 21: "SCRATCH_BASE_HI",
        23: "HW_ID1", 24: "HW_ID2", 29: "SHADER_CYCLES_LO", 30: "SHADER_CYCLES_HI",
        31: "DVGPR_ALLOC_LO", 32: "DVGPR_ALLOC_HI",
    },
    {**_FROM_GFX11, 135: "RTN_GET_SE_AID_ID"}, False,
)  # fmt: skip

_NEEDED: Final = (
    "NO_DEP", "VALU_DEP_1", "VALU_DEP_2", "VALU_DEP_3", "VALU_DEP_4", "TRANS32_DEP_1",
    "TRANS32_DEP_2", "TRANS32_DEP_3", "FMA_ACCUM_CYCLE_1", "SALU_CYCLE_1", "SALU_CYCLE_2",
    "SALU_CYCLE_3",
)  # fmt: skip
_SKIPPED: Final = ("SAME", "NEXT", "SKIP_1", "SKIP_2", "SKIP_3", "SKIP_4")
_DELAYS: Final = (("instid0", 0, 15, _NEEDED), ("instskip", 4, 7, _SKIPPED),
                  ("instid1", 7, 15, _NEEDED))  # fmt: skip
_OPERATIONS: Final = {
    "GS": {1: "GS_OP_CUT", 2: "GS_OP_EMIT", 3: "GS_OP_EMIT_CUT"},
    "GS_DONE": {0: "GS_OP_NOP", 1: "GS_OP_CUT", 2: "GS_OP_EMIT", 3: "GS_OP_EMIT_CUT"},
    "SYSMSG": {
        1: "SYSMSG_OP_ECC_ERR_INTERRUPT", 2: "SYSMSG_OP_REG_RD", 4: "SYSMSG_OP_TTRACE_PC",
    },
}  # fmt: skip


def spell(spelling: Spelling, name: str, value: int) -> str:
    """Return what the immediate of an instruction of this name says; "" for a mere number."""
    match name:
        case "s_waitcnt":
            return _counters(spelling, value)
        case "s_delay_alu":
            return _delays(value)
        case "s_sendmsg" | "s_sendmsghalt" | "s_sendmsg_rtn_b32" | "s_sendmsg_rtn_b64":
            return _message(spelling, value)
    return ""


def hardware_register(spelling: Spelling, value: int) -> str:
    """Return which bits of which hardware register an immediate of s_getreg or s_setreg names."""
    number, first, bits = value & 63, value >> 6 & 31, (value >> 11) + 1
    known = spelling.registers.get(number)
    name = str(number) if known is None else f"HW_REG_{known}"
    return f"hwreg({name})" if (first, bits) == (0, 32) else f"hwreg({name}, {first}, {bits})"


def swizzle(value: int) -> str:
    """Return what the offset of ds_swizzle_b32 does with the lanes."""
    if value & 0xFF00 == 0x8000:
        lanes = ",".join(str(value >> 2 * n & 3) for n in range(4))
        return f"swizzle(QUAD_PERM,{lanes})"
    if value & 0x8000:
        return str(value)
    keep, put, flip = value & 31, value >> 5 & 31, value >> 10 & 31
    if keep == 31 and not put and flip.bit_count() == 1:
        return f"swizzle(SWAP,{flip})"
    if keep == 31 and not put and flip and not flip & (flip + 1):
        return f"swizzle(REVERSE,{flip + 1})"
    group = 32 - keep
    if group > 1 and not group & (group - 1) and put < group and not flip:
        return f"swizzle(BROADCAST,{group},{put})"
    bits = []
    for bit in (16, 8, 4, 2, 1):
        zero, one = (put ^ flip) & bit, ((keep | put) ^ flip) & bit
        bits.append(("1" if zero else "0") if zero == one else "i" if zero else "p")
    return f'swizzle(BITMASK_PERM,"{"".join(bits)}")'


def _counters(spelling: Spelling, value: int) -> str:
    shown, every = [], []
    for name, pieces in spelling.counters.items():
        count = place = 0
        for low, width in pieces:
            count |= (value >> low & (1 << width) - 1) << place
            place += width
        every.append(f"{name}({count})")
        shown += every[-1:] if count != (1 << place) - 1 else []
    return " ".join(shown or every)


def _delays(value: int) -> str:
    parts = []
    for name, low, mask, words in _DELAYS:
        chosen = value >> low & mask
        if chosen >= len(words):
            return ""
        parts += [f"{name}({words[chosen]})"] if chosen else []
    return " | ".join(parts) or "0"


def _message(spelling: Spelling, value: int) -> str:
    if not spelling.operations:
        number, operation, stream = value & 0xFF, 0, 0
    else:
        number, operation, stream = value & 15, value >> 4 & 7, value >> 8 & 3
    name = spelling.messages.get(number, "")
    operations = _OPERATIONS.get(name, {}) if spelling.operations else {}
    streams = operations and not (name == "SYSMSG" or operation == 0)
    if name and (operation in operations or (not operations and operation == 0)):
        if streams:
            return f"sendmsg(MSG_{name}, {operations[operation]}, {stream})"
        if stream == 0:
            more = f", {operations[operation]}" if operations else ""
            return f"sendmsg(MSG_{name}{more})"
    if value == number | operation << 4 | stream << 8:
        return f"sendmsg({number}, {operation}, {stream})"
    return str(value)
