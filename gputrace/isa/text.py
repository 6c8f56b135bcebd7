"""Writes decoded instructions in LLVM's syntax (llvm-mc --disassemble is the witness)."""

import struct
from dataclasses import replace

from gputrace.isa.instruction import Dpp, Instruction, Memory, Operand, OperandKind
from gputrace.isa.spelled import swizzle

_FLOATS = ("0.5", "-0.5", "1.0", "-1.0", "2.0", "-2.0", "4.0", "-4.0", "0.15915494")
_FLOAT_TEXTS = {int.from_bytes(struct.pack("<f", float(text)), "little"): text for text in _FLOATS}
_PREFIX = {
    OperandKind.SGPR: "s",
    OperandKind.VGPR: "v",
    OperandKind.ACC: "a",
    OperandKind.TTMP: "ttmp",
}
_BARE = (
    "s_endpgm",
    "s_endpgm_saved",
    "s_endpgm_ordered_ps_done",
    "s_barrier",
    "s_barrier_leave",
    "s_wakeup",
    "s_icache_inv",
    "s_ttracedata",
    "s_set_gpr_idx_off",
    "s_code_end",
    "s_wait_idle",
)
_INDEXED = ("SRC0", "SRC1", "SRC2", "DST")
_CACHE_CONTROLS = (
    "buffer_wbl2", "buffer_invl2", "buffer_wbinvl1", "buffer_wbinvl1_vol", "buffer_inv",
    "buffer_gl0_inv", "buffer_gl1_inv",
)  # fmt: skip
_LONG_CONSTANT = ("b64", "f64", "f64x4", "i64", "u64")
_LDS_STORE = "buffer_store_lds_dword"  # has no address for LLVM when it is off
_ADDRESSLESS = ("global_inv", "global_wb", "global_wbinv")
_SMALL = 64  # what could be an inline constant is written as one
_DECIMAL = (
    "s_nop", "s_sleep", "s_setprio", "s_sethalt", "s_trap", "s_setkill", "s_incperflevel",
    "s_decperflevel",
)  # fmt: skip
_QUAD_END = 0x100
_DPP_ROWS = {
    0x100: "row_shl",
    0x110: "row_shr",
    0x120: "row_ror",
    0x150: "row_share",
    0x160: "row_xmask",
}
_DPP_SINGLE = {
    0x130: "wave_shl:1",
    0x134: "wave_rol:1",
    0x138: "wave_shr:1",
    0x13C: "wave_ror:1",
    0x140: "row_mirror",
    0x141: "row_half_mirror",
    0x142: "row_bcast:15",
    0x143: "row_bcast:31",
}


def _plain(operand: Operand) -> str:
    kind = operand.kind
    if kind in _PREFIX:
        letter = _PREFIX[kind]
        if operand.count == 1:
            return f"{letter}{operand.index}"
        return f"{letter}[{operand.index}:{operand.index + operand.count - 1}]"
    if kind is OperandKind.SPECIAL:
        return operand.name
    if kind is OperandKind.INLINE:
        if operand.index >= 240:
            if operand.type in ("i16", "u16", "b16"):
                return f"{operand.value:#x}"
            wide = operand.index == 248 and operand.type in _LONG_CONSTANT
            return "0.15915494309189532" if wide else _FLOATS[operand.index - 240]
        return str(operand.index - 128 if operand.index <= 192 else 192 - operand.index)
    if kind is OperandKind.LABEL:
        return str(operand.index)
    if operand.name:
        return operand.name
    if operand.kind is OperandKind.LITERAL and operand.bits == 32:
        # LLVM's printImmediate32: a literal that could have been inline is written as if it were.
        small = operand.index - (operand.index >> 31 << 32)
        if -16 <= small <= 64:
            return str(small)
        if operand.index in _FLOAT_TEXTS:
            return _FLOAT_TEXTS[operand.index]
    # A 16-bit operand takes the low half of its literal; LLVM shows no more.
    return f"{operand.index & 0xFFFF if operand.bits == 16 else operand.index:#x}"


def operand_text(operand: Operand) -> str:
    """Write one operand with its sign, magnitude and extension."""
    text = _plain(operand)
    if operand.abs:
        text = f"|{text}|"
    if operand.sext:
        text = f"sext({text})"
    if operand.neg and operand.is_constant and not operand.abs:
        return f"neg({text})"
    return f"-{text}" if operand.neg else text


def _flags(name: str, flags: tuple[bool, ...], default: bool) -> list[str]:
    if all(flag is default for flag in flags):
        return []
    return [f"{name}:[{','.join(str(int(flag)) for flag in flags)}]"]


def _scales(instruction: Instruction) -> list[str]:
    # LLVM shows a selection for C, which has no scale.
    scales = instruction.src[3:]
    return [
        *_flags("op_sel", (*(scale.op_sel for scale in scales), False), False),
        *_flags("op_sel_hi", (*(scale.op_sel_hi for scale in scales), False), True),
    ]


def _is_mixed(instruction: Instruction) -> bool:
    return "_mix" in instruction.name


def _packed(instruction: Instruction) -> list[str]:
    # Constants of 32 bits and registers alike carry the selection; LLVM leaves defaults out.
    src, mixed = instruction.src, _is_mixed(instruction)
    selections = [
        *_flags("op_sel", tuple(operand.op_sel for operand in src), False),
        *_flags("op_sel_hi", tuple(operand.op_sel_hi for operand in src), not mixed),
    ]
    if mixed:  # signs stand at the operands
        return selections
    return [
        *selections,
        *_flags("neg_lo", tuple(operand.neg for operand in src), False),
        *_flags("neg_hi", tuple(operand.neg_hi for operand in src), False),
    ]


def _dpp(dpp: Dpp) -> list[str]:
    if dpp.lanes:
        parts = [f"dpp8:[{','.join(map(str, dpp.lanes))}]"]
        return [*parts, "fi:1"] if dpp.fetch_inactive else parts
    control = dpp.control
    if control < _QUAD_END:
        lanes = ",".join(str(control >> shift & 3) for shift in (0, 2, 4, 6))
        parts = [f"quad_perm:[{lanes}]"]
    elif control in _DPP_SINGLE:
        parts = [_DPP_SINGLE[control]]
    else:
        row = _DPP_ROWS[control & ~15]
        row = "row_newbcast" if row == "row_share" and dpp.new_broadcast else row
        parts = [f"{row}:{control & 15}"]
    parts += [f"row_mask:{dpp.row_mask:#x}", f"bank_mask:{dpp.bank_mask:#x}"]
    parts += ["bound_ctrl:1"] if dpp.bound_ctrl else []
    return [*parts, "fi:1"] if dpp.fetch_inactive else parts


def _sdwa(instruction: Instruction) -> list[str]:
    parts = []
    if instruction.dst_unused and not instruction.name.endswith(("_fp8", "_bf8")):
        parts.append(f"dst_sel:{(instruction.dst[0].select or 'dword').upper()}")
        parts.append(f"dst_unused:{instruction.dst_unused.upper()}")
    chosen = [operand for operand in instruction.src if operand.name not in ("vcc", "vcc_lo")]
    return parts + [
        f"src{number}_sel:{(operand.select or 'dword').upper()}"
        for number, operand in enumerate(chosen[:2])
    ]


def _memory(instruction: Instruction, memory: Memory) -> list[str]:
    parts, scalar = list[str](), instruction.encoding == "SMEM"
    if memory.offset1 is not None:
        parts += [f"offset0:{memory.offset}"] if memory.offset else []
        parts += [f"offset1:{memory.offset1}"] if memory.offset1 else []
    parts += [name for name in ("idxen", "offen") if getattr(memory, name)]
    # An SMEM offset without a register stands among the operands.
    if memory.offset and memory.offset1 is None and (not scalar or memory.soffset is not None):
        swizzles = instruction.name == "ds_swizzle_b32"
        offset = swizzle(memory.offset) if swizzles else str(memory.offset)
        parts.append(f"offset:{memory.offset:#x}" if scalar else f"offset:{offset}")
    names = ("glc", "slc", "dlc", "scc", "sc0", "nt", "sc1", "lds", "gds", "tfe")
    return parts + [name for name in names if getattr(memory, name)]


def _cache_control(memory: Memory) -> list[str]:
    # Before gfx940 these have nothing that could be shown.
    return [name for name in ("sc0", "sc1") if getattr(memory, name)]


def _indexed(bits: int) -> str:
    # Which operands s_set_gpr_idx_on makes relative.
    if bits >> len(_INDEXED):
        return f"{bits:#x}"
    chosen = (name for k, name in enumerate(_INDEXED) if bits >> k & 1)
    return f"gpr_idx({','.join(chosen)})"


def _hint(name: str, memory: Memory) -> str:
    # LLVM's AMDGPUInstPrinter::printTH, for gfx12.
    hint, system = memory.temporal, memory.scope == 3
    if "atomic" in name:
        if hint & 4:
            return f"ATOMIC_CASCADE_{'NT' if hint & 2 else 'RT'}"
        return "ATOMIC_" + "_".join(word for bit, word in ((2, "NT"), (1, "RETURN")) if hint & bit)
    store = "store" in name
    third = "BYPASS" if system else "RT_WB" if store else "LU"
    last = "NT_WB" if store else "RESERVED"
    words = ("RT", "NT", "HT", third, "NT_RT", "RT_NT", "NT_HT", last)
    return f"{'STORE' if store else 'LOAD'}_{words[hint]}"


def _policy(name: str, memory: Memory) -> list[str]:
    parts = [f"th:TH_{_hint(name, memory)}"] if memory.temporal else []
    scopes = ("CU", "SE", "DEV", "SYS")
    return parts + ([f"scope:SCOPE_{scopes[memory.scope]}"] if memory.scope else [])


def _modifiers(instruction: Instruction) -> list[str]:
    parts = []
    if instruction.encoding == "VOP3P":
        parts += _packed(instruction)
    elif instruction.encoding == "VOP3PX2":
        parts += _scales(instruction)
    elif instruction.variant != "sdwa":
        chosen = [*instruction.src, *instruction.dst[:1]]
        if instruction.encoding == "VOP3":
            parts += [instruction.spelled] if instruction.spelled else []
        parts += _flags("op_sel", tuple(operand.op_sel for operand in chosen), False)
    parts += ["clamp"] if instruction.clamp else []
    parts += [("mul:2", "mul:4", "div:2")[instruction.omod - 1]] if instruction.omod else []
    if instruction.dpp is not None:
        parts += _dpp(instruction.dpp)
    if instruction.variant == "sdwa":
        parts += _sdwa(instruction)
    if instruction.memory is not None and instruction.name in _CACHE_CONTROLS:
        parts += _cache_control(instruction.memory)
    elif instruction.memory is not None and "prefetch" not in instruction.name:
        if instruction.name not in _ADDRESSLESS:
            parts += _memory(instruction, instruction.memory)
        parts += _policy(instruction.name, instruction.memory)
    for name in ("cbsz", "abid", "blgp"):
        value = getattr(instruction, name)
        parts += [f"{name}:{value}"] if value else []
    return parts


def _places(instruction: Instruction, memory: Memory) -> list[str]:
    # A missing address is written `off`; compares-and-swaps and loads differ in where data stands.
    address = "off" if memory.address is None else memory.address.text()
    more = int(memory.tfe)  # LLVM counts the register of the status behind the data
    data, dst = (
        [replace(operand, count=operand.count + more).text() for operand in operands]
        for operands in (memory.data, instruction.dst)
    )
    encoding = instruction.encoding
    if "prefetch" in instruction.name:
        start = [] if memory.base is None else [memory.base.text()]
        register = "null" if memory.soffset is None else memory.soffset.text()
        return [*start, f"{memory.offset:#x}", register, str(memory.data[0].value)]
    base = "off" if memory.base is None else memory.base.text()
    if encoding in ("MUBUF", "MTBUF") and memory.base is not None:
        soffset = [memory.soffset.text()] if memory.soffset is not None else []
        place = [] if instruction.name == _LDS_STORE and address == "off" else [address]
        return [*(data or dst), *place, base, *soffset]
    if encoding in ("GLOBAL", "SCRATCH") and instruction.name in _ADDRESSLESS:
        return []
    if encoding in ("GLOBAL", "SCRATCH"):
        addresses = [] if encoding == "GLOBAL" and memory.address is None else [address]
        return [*dst, *addresses, *data, base]
    if encoding == "SMEM" and memory.base is not None:
        found = [operand.text() for operand in instruction.src]
        offset = [] if memory.soffset is not None else [f"{memory.offset:#x}"]
        return [*(() if data else dst), *found, *offset]
    return [*dst, *(operand.text() for operand in instruction.src)]


def instruction_text(instruction: Instruction) -> str:
    """Write one instruction: mnemonic, operands, modifiers."""
    if instruction.components:
        return " :: ".join(part.text() for part in instruction.components)
    if instruction.memory is not None:
        operands = _places(instruction, instruction.memory)
    else:
        parts = (*instruction.dst, *instruction.src)
        if instruction.encoding == "VOP3P" and not _is_mixed(instruction):
            parts = tuple(replace(part, neg=False) for part in parts)  # they are flags behind
        operands = [operand.text() for operand in parts]
    mnemonic = instruction.mnemonic
    if instruction.name == "s_set_gpr_idx_on":
        operands[-1] = _indexed(instruction.src[-1].index)
    if instruction.encoding == "VOPD":
        mnemonic = mnemonic.replace("v_", "v_dual_", 1)
        if "cndmask" in mnemonic:
            del operands[-1]  # the mask is always VCC
    elif instruction.encoding == "SOPP" and not operands and instruction.name not in _BARE:
        value = (instruction.simm or 0) & 0xFFFF
        small = instruction.name in _DECIMAL and value <= _SMALL
        plain = str(value) if small else f"{value:#x}"
        if instruction.name == "s_set_gpr_idx_mode":
            plain = _indexed(value)
        operands = [instruction.spelled or plain]
    elif instruction.name == "s_endpgm" and instruction.simm:
        operands = [str(instruction.simm & 0xFFFF)]
    text = ", ".join(operands)
    return " ".join(filter(None, (mnemonic, text, *_modifiers(instruction))))
