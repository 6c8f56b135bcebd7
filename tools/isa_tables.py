"""Write gputrace/isa/tables/<target>.py from what LLVM's disassembler prints for probing words.

    python tools/isa_tables.py gfx942 gfx1100

Opcode numbers, names and register counts are LLVM's (C API disassembler of libLLVM 19, or of 22 for
what 19 does not know): each opcode of each encoding is given words in which every field has its own
register number, and the printed registers are matched back to the fields. LLVM prints no operand
types, so they follow from the names by the rules below; a type whose length differs from LLVM's
register count is an error.
"""

import itertools
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gputrace.isa.encodings import (  # noqa: E402
    GFX10,
    GFX11,
    GFX12,
    GFX90A,
    GFX940,
    GFX950,
    Format,
    Generation,
)
from tools.disassembler import Disassembler, library_of  # noqa: E402

TARGETS: dict[str, tuple[Generation, int]] = {
    "gfx90a": (GFX90A, 64),
    "gfx942": (GFX940, 64),
    "gfx950": (GFX950, 64),
    "gfx1030": (GFX10, 32),
    "gfx1100": (GFX11, 32),
    "gfx1201": (GFX12, 32),
}
TYPE = re.compile(r"^(bf16|[fbiu](?:4|8|16|24|32|64|128))$")
# name pattern -> types of the operands in the order of the text, destinations first
EXACT: list[tuple[str, str]] = [
    (r"v_(add|sub|subrev|addc|subb|subbrev)_co(_ci)?_u32", "u32 mask u32 u32 mask"),
    (r"v_cndmask_b(\d+)", r"b\1 b\1 b\1 mask"),
    (r"v_div_scale_(f\d+)", r"\1 mask \1 \1 \1"),
    (r"v_mad_(?:co_)?u64_u32", "u64 mask u32 u32 u64"),
    (r"v_mad_(?:co_)?i64_i32", "i64 mask i32 i32 i64"),
    (r"v_mad_([iu])32_[iu]16", r"\g<1>32 \g<1>16 \g<1>16 \g<1>32"),
    (r"v_cmpx?_class_(f32|f64)", r"mask \1 b32"),
    (r"v_cmpx?_class_f16", "mask f16 b16"),
    (r"v_cmpx?_.*_([fiu]\d+)", r"mask \1 \1"),
    (r"v_cvt_scalef32_pk_(?:fp8|bf8|fp4)_f32", "b32 f32 f32 f32"),
    (r"v_cvt_scalef32_pk_(?:fp8|bf8|fp4)_(b?f16)", r"b32 v2\1 f32"),
    (r"v_cvt_scalef32_sr_(?:fp8|bf8)_(b?f\d+)", r"b32 \1 u32 f32"),
    (r"v_cvt_scalef32_sr_pk_fp4_(b?f\d+)", r"b32 v2\1 u32 f32"),
    (r"v_cvt_scalef32_pk_(b?f\d+)_(?:fp8|bf8|fp4)", r"v2\1 b32 f32"),
    (r"v_cvt_scalef32_(f\d+)_(?:fp8|bf8)", r"\1 b32 f32"),
    (r"v_cvt_scalef32_2xpk16_(?:fp6|bf6)_f32", "b192 b512 b512 f32"),
    (r"v_cvt_scalef32_sr_pk32_(?:fp6|bf6)_f32", "b192 b1024 u32 f32"),
    (r"v_cvt_scalef32_sr_pk32_(?:fp6|bf6)_b?f16", "b192 b512 u32 f32"),
    (r"v_cvt_scalef32_pk32_(?:fp6|bf6)_b?f16", "b192 b512 f32"),
    (r"v_cvt_scalef32_pk32_f32_(?:fp6|bf6)", "b1024 b192 f32"),
    (r"v_cvt_scalef32_pk32_b?f16_(?:fp6|bf6)", "b512 b192 f32"),
    (r"v_ashr_pk_[iu]8_i32", "b16 i32 i32 u32"),
    (r"v_cvt_pk_(b?f16)_f32", r"v2\1 f32 f32"),
    (r"v_cvt_sr_(b?f16)_f32", r"\1 f32 u32"),
    (r"v_cvt_f32_bf16", "f32 bf16"),
    (r"v_cvt_pk_u8_f32", "b32 f32 u32 b32"),
    (r"v_cvt_pk_?rtz_f16_f32", "v2f16 f32 f32"),
    (r"v_cvt_pk_?norm_([iu]16)_(f\d+)", r"v2\1 \2 \2"),
    (r"v_cvt_pk_([iu]16)_([fiu]32)", r"v2\1 \2 \2"),
    (r"v_cvt_pk_(fp8|bf8)_f32", "b32 f32 f32"),
    (r"v_cvt_sr_(fp8|bf8)_f32", "b32 f32 u32"),
    (r"v_cvt_pk_f32_(fp8|bf8)", "v2f32 b32"),
    (r"v_cvt_f32_(fp8|bf8)", "f32 b32"),
    (r"v_cvt_f32_ubyte\d", "f32 b32"),
    (r"v_cvt_off_f32_i4", "f32 b32"),
    (r"v_cvt_.*?(_|^)([fiu]\d+)_([fiu]\d+)", r"\2 \3"),
    (r"v_frexp_exp_(i\d+)_(f\d+)", r"\1 \2"),
    (r"v_ldexp_f16", "f16 f16 i16"),
    (r"v_ldexp_(f\d+)", r"\1 \1 i32"),
    (r"v_trig_preop_f64", "f64 f64 u32"),
    (r"v_(lshl|lshr|ashr)rev_([bi])64", r"\g<2>64 u32 \g<2>64"),
    (r"v_(lshl|lshr|ashr)rev_([bi])(16|32)", r"\2\3 u\3 \2\3"),
    (r"v_pk_(lshl|lshr|ashr)rev_([bi])16", r"v2\g<2>16 v2u16 v2\g<2>16"),
    (r"v_lshl_add_u64", "u64 u64 u32 u64"),
    (r"v_qsad_pk_u16_u8|v_mqsad_pk_u16_u8", "b64 b64 b32 b64"),
    (r"v_mqsad_u32_u8", "b128 b64 b32 b128"),
    (r"v_m?sad(_hi)?_u(8|16)", "u32 b32 b32 u32"),
    (r"v_sat_pk_u8_i16", "b16 v2i16"),
    (r"v_pack_b32_f16", "b32 f16 f16"),
    (r"v_pk_mov_b32", "v2b32 v2b32 v2b32"),
    (r"v_pk_\w+_(f16|i16|u16|b16|f32)", r"v2\1 v2\1 v2\1 v2\1"),
    (r"v_dot2(?:c|acc)?_f32_(f16|bf16)", r"f32 v2\1 v2\1 f32"),
    (r"v_dot2c?_([iu])32_[iu]16", r"\g<1>32 v2\g<1>16 v2\g<1>16 \g<1>32"),
    (r"v_dot2_(f16|bf16)_(f16|bf16)", r"\1 v2\2 v2\2 \1"),
    (r"v_dot[48]c?_([iu]32)_\w+", r"\1 b32 b32 \1"),
    (r"v_(fma|mad)_mix_f32", "f32 f32 f32 f32"),
    (r"v_(fma|mad)_mix(lo|hi)_f16", "f16 f32 f32 f32"),
    (r"v_bcnt_u32_b32", "u32 b32 u32"),
    (r"v_mbcnt_\w+", "u32 b32 u32"),
    (r"v_bfe_([iu])32", r"\g<1>32 \g<1>32 u32 u32"),
    (r"v_alignb(it|yte)_b32", "b32 b32 b32 u32"),
    (r"v_(add_lshl|lshl_add|lshl_or|xad)_\w32", "u32 u32 u32 u32"),
    (r"v_(readlane|readfirstlane|writelane)_b32", "b32 b32 u32"),
    (r"v_ff?b[hl]_[iu]32|v_c[lt][sz]_i32_[biu]32|v_cls_i32", "u32 b32"),
    (r"v_bfm_b32", "b32 u32 u32"),
    (r"v_cube\w+_f32|v_\w*legacy_f32", "f32 f32 f32 f32"),
    (r"v_nop|v_clrexcp|v_pipeflush", ""),
    (r"s_(lshl|lshr|ashr)_([biu])(32|64)", r"\2\3 \2\3 u32"),
    (r"s_bfe_([iu])64", r"\g<1>64 \g<1>64 u32"),
    (r"s_bfm_b64", "b64 u32 u32"),
    (r"s_(bcnt[01]|ff[01]|flbit|ctz|clz|cls)_(i32)_([biu]\d+)", r"\2 \3"),
    (r"s_flbit_i32", "i32 i32"),
    (r"s_bitset[01]_b64", "b64 u32"),
    (r"s_bitcmp[01]_b64", "b64 u32"),
    (r"s_bitreplicate_b64_b32", "b64 b32"),
    (r"s_sext_i32_i(8|16)", "i32 b32"),
    (r"s_pack_\w+", "b32 b32 b32"),
    (r"s_mul_hi_([iu])32", r"\g<1>32 \g<1>32 \g<1>32"),
    (r"s_(quadmask|wqm)_b(32|64)", r"b\2 b\2"),
    (r"s_sendmsg_rtn_b(32|64)", r"b\1 b32"),
    (r"s_set_gpr_idx_idx", "b32 b32"),
    (r"s_set_gpr_idx_on", "b32 b32"),
    (r"s_rfe_restore_b64", "b64 b32"),
    (r"s_cbranch_g_fork", "b64 b64"),
    (r"s_cbranch_join", "b32"),
    (r"s_(getpc|setpc|swappc|rfe|call|cbranch_i_fork|cbranch_join)\w*", "b64 b64"),
    (r"s_(subvector_|cbranch_)\w*", "b32"),
]
MATRIX = re.compile(r"v_(?:s?mfmac?|mfma_scale|s?wmmac?)_([fi]\d+|bf16)_\w+")


def types_of(name: str) -> list[str]:
    """Give the operand types that a mnemonic implies, in the order of its text."""
    for pattern, types in EXACT:
        found = re.fullmatch(pattern, name)
        if found:
            return found.expand(types).split()
    parts = [part for part in name.split("_") if TYPE.match(part)]
    last = parts[-1] if parts else "b32"
    last = {"u24": "u32", "i24": "i32", "u8": "u32"}.get(last, last)
    if len(parts) > 1 and not name.endswith("24"):
        return [parts[0]] + [last] * 6
    return [last] * 7


def dwords(kind: str, wave: int) -> int:
    """Count the registers that a value of a type takes."""
    if kind == "mask":
        return wave // 32
    found = re.fullmatch(r"(v2)?(?:bf|[fbiu])(\d+)(?:x(\d+))?", kind)
    assert found, kind
    bits = int(found[2]) * (2 if found[1] else 1) * int(found[3] or 1)
    return max(1, bits // 32)


def disassemble(run: Disassembler, words: list[int]) -> tuple[int, str]:
    """Return the length in bytes (0: not an instruction) and the text."""
    return run.marked(b"".join(word.to_bytes(4, "little") for word in words))


# the registers that tell the fields apart, and fields that hold constants while probing
PROBES: dict[str, dict[str, int]] = {
    "SOP2": {"sdst": 8, "ssrc0": 16, "ssrc1": 32},
    "SOPK": {"sdst": 8},
    "SOP1": {"sdst": 8, "ssrc0": 16},
    "SOPC": {"ssrc0": 16, "ssrc1": 32},
    "SOPP": {},
    "VOP2": {"vdst": 10, "src0": 256 + 20, "vsrc1": 40},
    "VOP1": {"vdst": 10, "src0": 256 + 20},
    "VOPC": {"src0": 256 + 20, "vsrc1": 40},
    "VOP3": {"vdst": 10, "sdst": 70, "src0": 276, "src1": 296, "src2": 316},
    "VOP3P": {"vdst": 10, "src0": 276, "src1": 296, "src2": 316},
    "MAI": {"vdst": 64, "src0": 276, "src1": 296, "src2": 256 + 128},
    "VOP3PX2": {
        "vdst": 64, "src0": 276, "src1": 296, "src2": 256 + 128, "scale0": 316, "scale1": 330,
    },
    "SMEM": {"sdata": 32, "sbase": 4},
    "DS": {"addr": 20, "data0": 40, "data1": 60, "vdst": 10},
    "FLAT": {"addr": 20, "data": 40, "vdst": 10},
    "MUBUF": {"vaddr": 20, "vdata": 40, "srsrc": 4, "soffset": 32},
    "MTBUF": {"vaddr": 20, "vdata": 40, "srsrc": 4, "soffset": 32},
}
ENDING = re.compile(r"_(e32|e64|dpp|sdwa|dpp8|e64_dpp)$")
REGISTER = re.compile(r"^\|?(s|v|a|ttmp)\[?(\d+)(?::(\d+))?\]?(?:\.[lh])?\|?$")
SMALL_IMMEDIATE = {
    "s_set_gpr_idx_on": "imm4",
    "s_sendmsg_rtn_b32": "imm8",
    "s_sendmsg_rtn_b64": "imm8",
}


SCALED = {"second": 0b110100111, "abid": 1}
"""Of a matrix product with scales: what makes both its halves one instruction."""

# word behind the instruction: its mark in the row, the number in src0, what LLVM's text then has,
# and examples of the word, of which an instruction takes some (f64 only row_newbcast, VOP1 no
# selection for a second source)
VARIANTS = [
    ("+dpp", 250, "row_mask", [0xFE015F02, 0xFE001B02]),
    ("+dpp8", 233, "dpp8", [0x00FAC601]),
    ("+sdwa", 249, "sdwa", [0x06060601, 0x00060601, 0x06060001, 0x06068601]),
]


def encode(form: Format, opcode: int, fields: dict[str, int]) -> list[int]:
    """Assemble the words of one encoding."""
    low, bits = form.opcode
    raw = form.prefix << (32 - form.width) | (opcode & (1 << bits) - 1) << low
    if opcode >> bits:
        raw |= 1 << form.fields["opcode_high"][0]
    for name, value in fields.items():
        raw |= value << form.fields[name][0]
    return [raw >> 32 * number & 0xFFFFFFFF for number in range(form.words)]


def accepted(
    run: Disassembler, form: Format, opcode: int, extra: dict[str, int]
) -> tuple[dict[str, int], int, str] | None:
    """Find the largest set of probing fields with which LLVM takes an opcode."""
    probes = PROBES[form.name]
    for count in range(len(probes), -1, -1):
        for chosen in itertools.combinations(probes, count):
            fields = {name: probes[name] for name in chosen} | extra
            size, text = disassemble(run, [*encode(form, opcode, fields), 0x1234, 0x5678, 0])
            if size >= 4 * form.words:
                return fields, size, text
    return None


def tokens_of(text: str) -> tuple[str, list[str]]:
    """Split LLVM's text into the mnemonic and the operands."""
    text = re.sub(r"/\*.*?\*/", "", text)
    name, _, rest = text.partition(" ")
    operands = [part.strip() for part in re.split(r",\s*(?![^\[\(]*[\]\)])", rest)] if rest else []
    return name, [part.split(" ")[0] if "(" not in part else part for part in operands]


def match(form: Format, fields: dict[str, int], token: str) -> tuple[str, str, int]:
    """Give field, register letter and count behind a printed register."""
    found = REGISTER.match(token)
    assert found, (form.name, token)
    first = int(found[2])
    for name, value in fields.items():
        scale = {"sbase": 2, "srsrc": 4 if form.words == 2 else 1}.get(name, 1)
        if value * scale % 256 == first:
            return name, found[1], int(found[3] or first) - first + 1
    raise AssertionError((form.name, fields, token))


def row(form: Format, fields: dict[str, int], size: int, text: str, wave: int) -> str:
    """Write one instruction's row: name, destinations, '=', sources."""
    full, tokens = tokens_of(text)
    name = ENDING.sub("", full)
    types = types_of(name)
    matrix = MATRIX.fullmatch(name)
    carry = bool(re.fullmatch(r"v_(add|sub|subrev|addc|subb|subbrev)_co(_ci)?_u32", name))
    dst: list[str] = []
    src: list[str] = []
    if name.startswith("v_cmp") and not tokens[0].startswith(("vcc", "s")):
        types = types[1:]
    for position, token in enumerate(tokens):
        kind = types[position] if position < len(types) else "b32"
        if token.startswith("vcc"):
            (dst if position < (2 if carry else 1) else src).append("vcc:mask")
            continue
        if token in ("off", "null", "gds") or form.name == "SOPP":
            continue
        if form.name == "SMEM" and not REGISTER.match(token) and position:
            continue  # the offset, which every SMEM instruction may have
        if not REGISTER.match(token):
            src.append(immediate(form, name, token, size, types))
            continue
        field, letter, count = match(form, fields, token)
        if form.name in ("SMEM", "DS", "FLAT", "MUBUF", "MTBUF"):
            kind = f"b{32 * count}"
        elif matrix:
            sparse = name.startswith("v_smfmac") and field == "src2"
            kind = f"b{32 * count}"
            if field in ("vdst", "src2") and not sparse:
                kind = f"{matrix[1]}x{count // 2 if matrix[1] == 'f64' else count}"
                kind = f"v2{kind}" if matrix[1] in ("f16", "bf16") else kind
                kind = kind.removesuffix("x1")
        if dwords(kind, wave) != count:
            print(f"{form.name} {text}: {field} has {count} dwords, not {kind}", file=sys.stderr)
        written = field in ("vdst", "sdst", "sdata") and not name.startswith(("s_cmpk", "s_setreg"))
        suffix = ".s" if field in ("vdst", "sdst") and letter == "s" and name[0] == "v" else ""
        suffix = ".a" if field == "vdst" and letter == "a" else suffix
        if form.name == "SMEM" and ("store" in name or "atomic" in name):
            written = False
        (dst if written else src).append(f"{field}{suffix}:{kind}")
    return f"{full.removesuffix('_e32').removesuffix('_e64')} {' '.join(dst)} = {' '.join(src)}"


def immediate(form: Format, name: str, token: str, size: int, types: list[str]) -> str:
    """Name an operand that is no register."""
    if form.name == "SOPK" and size == 8 and token.startswith("hwreg"):
        return "simm:hwreg"
    if form.name == "SOPK":
        if token.startswith("hwreg"):
            return "simm:hwreg"
        if size == 8:
            return "literal:b32"
        return "simm:label" if name.startswith(("s_call", "s_cbranch", "s_sub")) else "simm:i16"
    if form.name in ("VOP2", "SOP2"):
        return f"literal:{types[0]}"
    if name.startswith("s_barrier") and form.name == "SOP1":
        return "ssrc0:imm8"
    if name in SMALL_IMMEDIATE:
        return f"{'ssrc1' if form.name == 'SOPC' else 'ssrc0'}:{SMALL_IMMEDIATE[name]}"
    if form.name == "SMEM":
        return "sdata:imm7"
    raise AssertionError((form.name, name, token))


def rows_of(
    run: Disassembler, generation: Generation, form: Format, wave: int
) -> dict[tuple[str, int], str]:
    """Probe every opcode of one encoding."""
    found: dict[tuple[str, int], str] = {}
    variants: list[tuple[str, dict[str, int]]] = [(form.name, {})]
    if form.name == "FLAT":
        off = generation.no_base
        variants = [
            ("FLAT", {"segment": 0, "saddr": 0 if generation.sdwa and off == 0x7F else off}),
            ("SCRATCH", {"segment": 1, "saddr": off}),
            ("GLOBAL", {"segment": 2, "saddr": off}),
        ]
    if form.name == "DS":
        variants = [("DS", {}), ("DS", {"gds": 1})] if "gds" in form.fields else [("DS", {})]
    if form is generation.scaled:
        variants = [(form.name, SCALED)]
    if form.name == "VOP3P":  # some want the selections that others ignore
        variants = [(form.name, {}), (form.name, {"op_sel_hi2": 1, "op_sel_hi": 3})]
    if form.name == "MUBUF":
        variants = [(form.name, {"offen": 1}), (form.name, {})]
    if form.name == "MTBUF":
        variants = [(form.name, {"offen": 1, "format": 20})]
    if form.name == "SMEM":
        plain = {"immediate": 1}
        if "immediate" not in form.fields:
            plain = {"soffset": generation.no_base}
        variants = [(form.name, plain), (form.name, {})]
    for encoding, extra in variants:
        for opcode in range(1 << form.opcode[1] + ("opcode_high" in form.fields)):
            word = encode(form, opcode, {})[0]
            known = form is generation.scaled or generation.format_of(word) is form
            if not known or (encoding, opcode) in found:
                continue
            result = accepted(run, form, opcode, extra)
            if result is None or result[2].startswith(("v_illegal", "v_interp_")):
                continue
            fields, size, text = result
            made = row(form, fields, size, text, wave)
            if not made.endswith("= "):  # of v_nop LLVM 22 shows a DPP word, which does nothing
                made += variants_of(run, form, opcode, fields)
            found[encoding, opcode] = made
    return found


def variants_of(run: Disassembler, form: Format, opcode: int, fields: dict[str, int]) -> str:
    """Say with which words behind a vector instruction LLVM takes it."""
    if not form.name.startswith("VOP") or "src0" not in fields:
        return ""
    # A third source that is a mask has to be a scalar register.
    tried = [fields] + ([fields | {"src2": 6}] if "src2" in fields else [])
    made = ""
    for name, number, sign, examples in VARIANTS:
        for extra, known in itertools.product(examples, tried):
            size, text = disassemble(
                run, [*encode(form, opcode, known | {"src0": number}), extra, 0, 0]
            )
            if size == 4 * form.words + 4 and "Invalid" not in text and sign in text:
                made += f" {name}"
                break
    return made


def dual_rows(run: Disassembler, form: Format) -> dict[tuple[str, int], str]:
    """Probe the operations of VOPD's second half, which has all that the first has."""
    found: dict[tuple[str, int], str] = {}
    fields = {"opx": 3, "src0x": 256 + 1, "vsrc1x": 2, "vdstx": 4}
    fields |= {"src0y": 256 + 20, "vsrc1y": 41, "vdsty": 5}
    for opcode in range(32):
        size, text = disassemble(run, [*encode(form, 0, fields | {"opy": opcode}), 0x1234, 0])
        if not size:  # a move has no second source
            without = fields | {"opy": opcode, "vsrc1y": 0}
            size, text = disassemble(run, [*encode(form, 0, without), 0x1234, 0])
        if not size:
            continue
        name, tokens = tokens_of(text.split(" :: ")[1])
        types = types_of(name.replace("v_dual_", "v_"))
        names = {"v11": "vdst", "v20": "src0", "v41": "vsrc1", "0x1234": "literal"}
        parts = [f"{names[part]}:{kind}" for part, kind in zip(tokens, types, strict=False)]
        parts += ["vcc:mask"] if "cndmask" in name else []
        plain = name.replace("v_dual_", "v_")
        found["VOPD", opcode] = f"{plain} {parts[0]} = {' '.join(parts[1:])}"
    return found


# what LLVM 22 has and LLVM 19 has not (its disassembler gave opcode and text)
LATER: dict[str, list[str]] = {
    "gfx90a": [
        "MUBUF 61 buffer_store_lds_dword = srsrc:b128 soffset:b32",
        "VOP3 316 v_pk_fmac_f16 vdst:v2f16 = src0:v2f16 src1:v2f16",
    ],
    "gfx1201": [
        "SOP1 83 s_alloc_vgpr = ssrc0:b32",
        "DS 205 ds_bpermute_fi_b32 vdst:b32 = addr:b32 data0:b32",
        "DS 224 ds_bvh_stack_push4_pop1_rtn_b32 vdst:b32 = addr:b32 data0:b32 data1:b128",
        "DS 225 ds_bvh_stack_push8_pop1_rtn_b32 vdst:b32 = addr:b32 data0:b32 data1:b256",
        "DS 226 ds_bvh_stack_push8_pop2_rtn_b64 vdst:b64 = addr:b32 data0:b32 data1:b256",
        "VOP3 412 v_mov_b16 vdst:b16 = src0:b16",
        "VOPD 12 v_dot2acc_f32_f16 vdst:f32 = src0:v2f16 vsrc1:v2f16",
        "VOPD 13 v_dot2acc_f32_bf16 vdst:f32 = src0:v2bf16 vsrc1:v2bf16",
    ],
    "gfx942": [
        # only with the lds bit set, which is not probed
        "MUBUF 61 buffer_store_lds_dword = srsrc:b128 soffset:b32",
        "VOP3 316 v_pk_fmac_f16 vdst:v2f16 = src0:v2f16 src1:v2f16",
    ],
    "gfx1100": [
        "SOPP 50 s_endpgm_ordered_ps_done =",
        "VOP1 102 v_swap_b16 vdst:b16 = src0:b16",
        "VOP3 412 v_mov_b16 vdst:b16 = src0:b16",
        "VOPD 13 v_dot2acc_f32_bf16 vdst:f32 = src0:v2bf16 vsrc1:v2bf16",
    ],
}
HEAD = """Instructions of {target}: encoding, opcode, name, operands written = operands read.

Written by tools/isa_tables.py from LLVM {version}'s disassembler (llvm/lib/Target/AMDGPU, *.td). An
operand is field:type as `gputrace.isa.instruction` names types; `.s` and `.a` mark a destination
field that holds a scalar or accumulation register.
"""


def main(targets: list[str]) -> None:
    """Write the tables of the given targets."""
    for target in targets:
        generation, wave = TARGETS[target]
        library = library_of(target)
        run = Disassembler(target, wave, library)
        lines = []
        for form in (*generation.formats, *filter(None, [generation.scaled])):
            if form.refused:
                continue
            dual = form.name == "VOPD"
            rows = dual_rows(run, form) if dual else rows_of(run, generation, form, wave)
            for (encoding, opcode), text in rows.items():
                lines.append(f"{encoding} {opcode} {' '.join(text.split())}")
        lines += [row for row in LATER.get(target, []) if row not in lines]
        path = ROOT / "gputrace" / "isa" / "tables" / f"{target}.py"
        body = "\n".join(lines)
        version = library.removeprefix("libLLVM.so.")
        head = HEAD.format(target=target, version=version)
        path.write_text(f'"""{head}"""\n\nROWS = """\\\n{body}\n"""\n')


if __name__ == "__main__":
    main(sys.argv[1:])
