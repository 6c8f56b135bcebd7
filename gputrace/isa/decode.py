"""Decodes machine code into instructions.

The opcode tables (`gputrace.isa.tables`) say for each encoding and opcode which fields hold
operands of which type; the encodings (`gputrace.isa.encodings`) say where those fields are. Both
are joined once per target, so that decoding one instruction is two look-ups and a pass over its
operands.

Rules not in the tables, each from LLVM's AMDGPUDisassembler.cpp and SIInstrInfo.td: literals, SDWA
and DPP words, AGPR bits, addresses of flat and buffer instructions.
"""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, cached_property
from importlib import import_module

from gputrace.errors import DecodeError, UsageError
from gputrace.isa.decode_memory import MemoryDecoder
from gputrace.isa.encodings import (
    GFX10,
    GFX11,
    GFX12,
    GFX90A,
    GFX940,
    GFX950,
    Fields,
    Format,
    Generation,
)
from gputrace.isa.instruction import Dpp, Instruction, Operand, OperandKind
from gputrace.isa.limits import LimitTable
from gputrace.isa.operands import OperandReader, type_of
from gputrace.isa.spelled import hardware_register, spell
from gputrace.isa.word import Code, Row, Slot, Word, signed

TARGETS: dict[str, tuple[Generation, int]] = {
    "gfx90a": (GFX90A, 64),
    "gfx942": (GFX940, 64),
    "gfx950": (GFX950, 64),
    "gfx1030": (GFX10, 32),
    "gfx1100": (GFX11, 32),
    "gfx1201": (GFX12, 32),
}
"""The targets that have opcode tables, with their generation and usual wave size."""
_VCC, _SDWA, _DPP, _DPP8, _DPP8_FI, _LITERAL = 106, 249, 250, 233, 234, 255
_WORDS = {_SDWA: "sdwa", _DPP: "dpp", _DPP8: "dpp8", _DPP8_FI: "dpp8"}
_WITH_WORD = ("VOP1", "VOP2", "VOPC", "VOP3", "VOP3P")
_SELECT = ("byte_0", "byte_1", "byte_2", "byte_3", "word_0", "word_1", "", "")
_UNUSED = ("unused_pad", "unused_sext", "unused_preserve", "unused_reserved")
_SEGMENTS = {0: "FLAT", 1: "SCRATCH", 2: "GLOBAL"}
_SHORT = ("VOP1", "VOP2", "VOPC")
_NUMBER = {"src0": 0, "src1": 1, "src2": 2}
_ONE_BYTE = re.compile(r"v_cvt_(sr_)?(f32_)?(fp8|bf8)(_f32)?$")
_SIGNED = re.compile(r"_iu\d|_wmma_|_swmmac_")  # of matrices no field has a float type
_BRANCHES = ("s_branch", "s_cbranch")
_PRODUCTS = ("v_mfma_f", "v_mfma_i", "v_smfmac_")
_SHORTER = {2: 6, 3: 6, 4: 4}
"""Registers of a factor of an f8f6f4 product by the kind of its elements; the others have 8."""
_BLANK = Operand(OperandKind.VGPR)  # stands for the source that the DPP word replaces


def _opcode(form: Format, raw: int) -> int:
    low, width = form.opcode
    opcode = raw >> low & (1 << width) - 1
    if "opcode_high" in form.fields:
        opcode |= (raw >> form.fields["opcode_high"][0] & 1) << width
    return opcode


def _slot(text: str, wave: int) -> Slot:
    field, _, kind = text.partition(":")
    name, _, file = field.partition(".")
    return Slot(name, type_of(kind, wave), file)


def _rows(text: str, wave: int) -> dict[tuple[str, int], Row]:
    rows = {}
    for line in text.splitlines():
        encoding, opcode, name, *operands = line.split(" ")
        variants = frozenset(part[1:] for part in operands if part[0] == "+")
        operands = [part for part in operands if part[0] != "+"]
        middle = operands.index("=")
        dst = tuple(_slot(part, wave) for part in operands[:middle])
        src = tuple(_slot(part, wave) for part in operands[middle + 1 :])
        rows[encoding, int(opcode)] = Row(name, dst, src, variants)
    return rows


class Decoder:
    """Decodes one target's instructions; make it with `decoder`."""

    def __init__(self, target: str, wave: int, generation: Generation) -> None:
        self.target, self.wave = target, wave
        table: str = import_module(f"gputrace.isa.tables.{target}").ROWS
        self.generation = generation
        self._rows = _rows(table, wave)
        self._operands = OperandReader(generation)
        memory = MemoryDecoder(generation, self._operands, wave)
        self._handlers: Mapping[str, Callable[[Word, str], Instruction]] = {
            **dict.fromkeys(("SOP1", "SOP2", "SOPC", "SOPK", "SOPP"), self._scalar),
            **dict.fromkeys(_SHORT, self._short),
            "VOP3": self._vop3,
            "VOP3P": self._packed,
            "MAI": self._matrix,
            "VOP3PX2": self._scaled,
            "SMEM": memory.scalar,
            "DS": memory.lds,
            "FLAT": memory.flat,
            **dict.fromkeys(("MUBUF", "MTBUF"), memory.buffer),
        }
        self._forms = [generation.format_of(top << 22) for top in range(1 << 10)]
        # LLVM names the encoding only where an instruction with operands has both.
        named = [(key[0], row.name) for key, row in self._rows.items() if row.dst or row.src]
        short = {name for encoding, name in named if encoding in _SHORT}
        self._both = short & {name for encoding, name in named if encoding == "VOP3"}
        self._mask = type_of("mask", wave)
        matrix = [form for form in generation.formats if form.name == "MAI"]
        self._matrix_form = matrix[0] if matrix else generation.formats[0]

    def rows(self) -> Mapping[tuple[str, int], Row]:
        """Return the target's table by encoding and opcode."""
        return self._rows

    def names(self) -> list[tuple[str, str]]:
        """Return (encoding, mnemonic without its ending) of every instruction of the target."""
        return [(encoding, row.name) for (encoding, _), row in self._rows.items()]

    def decode(self, code: Code, offset: int = 0) -> Instruction:
        """Decode the instruction at a byte offset.

        Raises DecodeError when the bits are no instruction of the target, when the code ends before
        it does, and for the graphics encodings, which gputrace does not model.
        """
        if offset < 0 or offset % 4 or offset + 4 > len(code):
            raise DecodeError(f"code offset {offset:#x}", 0, "no instruction can begin here")
        raw = int(struct.unpack_from("<I", code, offset)[0])
        form = self._forms[raw >> 22]
        if form is None:
            raise DecodeError(f"code offset {offset:#x}", raw, f"no {self.target} encoding")
        if form.refused:
            raise DecodeError(f"code offset {offset:#x}", raw, f"{form.name} is {form.refused}")
        if form.words > 1:
            if offset + 4 * form.words > len(code):
                raise DecodeError(f"code offset {offset:#x}", raw, "the code ends in here")
            raw = int.from_bytes(code[offset : offset + 4 * form.words], "little")
            form, raw = self._with_scales(form, raw, code, offset)
        return self._dispatch(form, raw, code, offset)

    def _with_scales(self, form: Format, raw: int, code: Code, offset: int) -> tuple[Format, int]:
        # What loads scales and a product that fits behind it are one instruction, as for LLVM.
        scaled = self.generation.scaled
        if scaled is None or raw >> 16 & 0xFFFF != scaled.prefix:
            return form, raw
        both = int.from_bytes(code[offset : offset + 4 * scaled.words], "little")
        place = scaled.name, _opcode(scaled, both)
        if place not in self._rows or self.limits[place].wrong(both):
            return form, raw
        return scaled, both

    def _dispatch(self, form: Format, raw: int, code: Code, offset: int) -> Instruction:
        encoding = form.name
        if encoding == "VOPD":
            return self._dual(form, raw, code, offset)
        if encoding == "FLAT":
            low, width = form.fields["segment"]
            encoding = _SEGMENTS.get(raw >> low & (1 << width) - 1, "")
        opcode = _opcode(form, raw)
        row = self._rows.get((encoding, opcode))
        if row is None:
            reason = f"{self.target} has no {encoding or form.name} opcode {opcode:#x}"
            raise DecodeError(f"code offset {offset:#x}", raw, reason)
        if encoding == "VOP3P" and row.name.startswith(_PRODUCTS):
            form = self._matrix_form  # some have opcodes outside the others' range
        word = Word(form, row, raw, code, offset)
        try:
            self._check(word, encoding, opcode)
            return self._handlers[form.name](word, form.name if form.name == "MAI" else encoding)
        except DecodeError as error:
            raise word.error(f"{row.name}: {error.reason}") from error

    @cached_property
    def limits(self) -> LimitTable:
        """What the fields of the target's instructions may hold."""
        return LimitTable(self.target, self.generation)

    def _check(self, word: Word, encoding: str, opcode: int) -> None:
        # Refuse fields that the instruction does not have or that hold what it cannot take.
        after, raw = self._after(word, encoding), word.raw
        if after:
            raw |= word.more() << 32 * word.form.words
        limits = self.limits[f"{encoding}+{after}" if after else encoding, opcode]
        reason = limits.wrong(raw)
        if reason:
            raise word.error(reason)

    def _after(self, word: Word, encoding: str) -> str:
        # The kind of the word behind a vector instruction, which stands in its first source.
        if encoding not in _WITH_WORD:
            return ""
        after = _WORDS.get(word.get("src0"), "")
        return after if after in word.row.variants else ""

    # scalar encodings

    def _scalar(self, word: Word, encoding: str) -> Instruction:
        dst = tuple(self._scalar_operand(word, slot) for slot in word.row.dst)
        src = tuple(self._scalar_operand(word, slot) for slot in word.row.src)
        made = word.instruction(encoding, "", dst, src)
        if "simm" not in word.places:
            return made
        simm = signed(word.get("simm"), 16)
        if encoding == "SOPP" and made.name.startswith(_BRANCHES):
            src = (self._label(word),)
        words = spell(self.generation.spelling, made.name, simm & 0xFFFF)
        return replace(made, simm=simm, src=src, spelled=words)

    def _label(self, word: Word) -> Operand:
        simm = word.get("simm")
        target = word.at + 4 + 4 * signed(simm, 16)
        return Operand(OperandKind.LABEL, simm, 0, "label", 64, target)

    def _scalar_operand(self, word: Word, slot: Slot) -> Operand:
        if slot.field == "literal":
            return self._operands.literal(word.more(), slot.type)
        value = word.get(slot.field)
        name = slot.type.name
        if name == "label":
            return self._label(word)
        if slot.field == "simm":
            extends = name == "i16" and not word.row.name.endswith("_u32")
            shown = signed(value, 16) & 0xFFFFFFFF if extends else value
            said = hardware_register(self.generation.spelling, value) if name == "hwreg" else ""
            return Operand(OperandKind.IMMEDIATE, value, 0, name, 32, shown, said)
        if name.startswith("imm"):
            said = spell(self.generation.spelling, word.row.name, value)
            return Operand(OperandKind.IMMEDIATE, value, 0, name, 32, value, said)
        if value == _LITERAL:
            return self._operands.literal(word.more(), slot.type)
        return self._operands.source(value, slot.type)

    # vector encodings

    def _vector(self, word: Word, slot: Slot) -> Operand:
        field = slot.field
        if field == "vcc":
            return self._operands.source(_VCC, self._mask)
        if field == "literal":
            return self._operands.literal(word.more(), slot.type)
        value = word.get(field)
        if field in ("vdst", "vsrc1"):
            if slot.file == "s":
                return self._operands.source(value, slot.type)
            if slot.file == "a":
                return self._operands.register(OperandKind.ACC, value, slot.type)
            return self._half(word, self._operands.source(256 + value, slot.type))
        if value == _LITERAL and field != "sdst":
            if word.form.words == 2 and not self.generation.vop3_literal:
                raise word.error("a literal, which this encoding cannot have")
            return self._operands.literal(word.more(), slot.type)
        made = self._operands.source(value, slot.type)
        if word.row.name == "v_accvgpr_mov_b32" and made.kind is OperandKind.VGPR:
            return replace(made, kind=OperandKind.ACC)
        return self._half(word, made)

    def _half(self, word: Word, operand: Operand) -> Operand:
        # In the short encodings bit 7 of a 16-bit operand's register is the half (LLVM: true16).
        if (
            operand.bits != 16
            or word.form.words == 2
            or not self.generation.halves
            or operand.kind is not OperandKind.VGPR
        ):
            return operand
        return replace(operand, index=operand.index & 127, op_sel=operand.index > 127)

    def _short(self, word: Word, encoding: str) -> Instruction:
        after = self._after(word, encoding)
        if after:
            return self._sdwa(word, encoding) if after == "sdwa" else self._dpp(word, encoding, ())
        dst = tuple(self._vector(word, slot) for slot in word.row.dst)
        src = tuple(self._vector(word, slot) for slot in word.row.src)
        variant = "e32" if word.row.name in self._both else ""
        return word.instruction(encoding, variant, dst, src)

    def _dpp(self, word: Word, encoding: str, modified: tuple[Operand, ...]) -> Instruction:
        # `modified` are the sources of a VOP3 with its modifiers; the short forms take the word's.
        long = word.form.words == 2
        wide = word.get("src0") == _DPP
        extra = word.more()
        inactive = (
            bool(extra >> 18 & 1) and self.generation.dpp8 if wide else word.get("src0") == _DPP8_FI
        )
        lanes = () if wide else tuple(extra >> 8 + 3 * lane & 7 for lane in range(8))
        dpp = Dpp(fetch_inactive=inactive, lanes=lanes)
        if wide:
            bound = bool(extra >> 19 & 1)
            dpp = Dpp(extra >> 8 & 0x1FF, extra >> 28, extra >> 24 & 15, bound, inactive)
            dpp = replace(dpp, new_broadcast=not self.generation.dpp8)
        src = []
        for number, slot in enumerate(word.row.src):
            if slot.field == "src0":
                made = self._half(word, self._operands.source(256 + (extra & 255), slot.type))
            elif not long:
                made = self._vector(word, slot)
            else:
                src.append(modified[number])
                continue
            if long:
                old = modified[number]
                made = replace(made, neg=old.neg, abs=old.abs, op_sel=old.op_sel)
                made = replace(made, op_sel_hi=old.op_sel_hi, neg_hi=old.neg_hi)
            elif wide and number < 2:
                signs = extra >> 20 + 2 * number & 3
                if not (slot.type.is_float or word.row.name.startswith("v_cndmask")):
                    signs = 0  # the hardware ignores the signs of integers
                made = replace(made, neg=bool(signs & 1), abs=bool(signs >> 1 & 1))
            src.append(made)
        dst = tuple(self._vector(word, slot) for slot in word.row.dst)
        variant = ("e64_" if long else "") + ("dpp" if wide else "dpp8")
        variant = variant if wide or not long else "e64_dpp"
        made_all = word.instruction(encoding, variant, dst, tuple(src))
        return replace(made_all, dpp=dpp)

    def _sdwa(self, word: Word, encoding: str) -> Instruction:
        extra = word.more()
        src = []
        for number, slot in enumerate(word.row.src):
            if slot.field == "vcc":
                src.append(self._vector(word, slot))
                continue
            signs = extra >> 16 + 8 * number
            register = extra & 255 if number == 0 else word.get("vsrc1")
            scalar = bool(signs >> 7 & 1)
            made = self._operands.source(register + (0 if scalar else 256), slot.type)
            src.append(
                replace(
                    made,
                    select=_SELECT[signs & 7],
                    sext=bool(signs >> 3 & 1),
                    neg=bool(signs >> 4 & 1) and not slot.type.packed,
                    abs=bool(signs >> 5 & 1) and not slot.type.packed,
                )
            )
        dst = [self._vector(word, slot) for slot in word.row.dst]
        if encoding == "VOPC":
            if extra >> 15 & 1 and dst:  # v_cmpx writes EXEC alone from gfx10 on
                dst[0] = self._operands.source(extra >> 8 & 127, self._mask)
            return word.instruction(encoding, "sdwa", tuple(dst), tuple(src))
        if dst:
            dst[0] = replace(dst[0], select=_SELECT[extra >> 8 & 7])
        return replace(
            word.instruction(encoding, "sdwa", tuple(dst), tuple(src)),
            clamp=bool(extra >> 13 & 1),
            omod=extra >> 14 & 3,
            dst_unused=_UNUSED[extra >> 11 & 3],
        )

    def _vop3(self, word: Word, encoding: str) -> Instruction:
        row = word.row
        carries = any(slot.field == "sdst" for slot in row.dst)
        signs, sizes = word.get("neg"), 0 if carries else word.get("abs")
        halves = 0 if carries else word.get("op_sel")
        dpp = bool(self._after(word, encoding))
        src = []
        for slot in row.src:
            number = _NUMBER[slot.field]
            blank = dpp and number == 0
            made = _BLANK if blank else self._vector(word, slot)
            neg, size, half = (bool(bits >> number & 1) for bits in (signs, sizes, halves))
            if not (slot.type.is_float or row.name.startswith("v_cndmask")):
                neg = size = False  # the hardware ignores the signs of integers
            if neg or size or half:
                made = replace(made, neg=neg, abs=size, op_sel=half)
            src.append(made)
        if dpp:
            instruction = self._dpp(word, encoding, tuple(src))
        else:
            dst = tuple(self._vector(word, slot) for slot in row.dst)
            variant = "e64" if row.name in self._both else ""
            instruction = word.instruction(encoding, variant, dst, tuple(src))
        clamp, omod = word.bit("clamp"), word.get("omod")
        if halves & 8 and instruction.dst:
            changed = replace(instruction.dst[0], op_sel=True)
            instruction = replace(instruction, dst=(changed, *instruction.dst[1:]))
        if _ONE_BYTE.match(row.name):
            instruction = self._with_byte(instruction, halves)
        if row.name.startswith("v_bitop3"):  # the function stands where others have modifiers
            table, omod = omod << 6 | sizes << 3 | signs, 0
            instruction = replace(instruction, spelled=f"bitop3:{table:#x}" if table else "")
        if row.name.endswith("_swap_b32") and row.name.startswith("v_permlane"):
            words = [text for bit, text in ((2, "bound_ctrl:1"), (1, "fi:1")) if halves & bit]
            plain = tuple(replace(operand, op_sel=False) for operand in instruction.src)
            instruction = replace(instruction, src=plain, spelled=" ".join(words))
        return replace(instruction, clamp=clamp, omod=omod) if clamp or omod else instruction

    def _with_byte(self, made: Instruction, sel: int) -> Instruction:
        # In conversions of eight-bit floats op_sel numbers a byte (LLVM: byte_sel).
        src = tuple(replace(operand, op_sel=False) for operand in made.src)
        dst = tuple(replace(operand, op_sel=False) for operand in made.dst)
        narrows = made.name.startswith("v_cvt_sr")
        if not self.generation.behaviour.byte_sel:
            shown = sel if narrows else 0
            words = f"op_sel:[{','.join(str(shown >> k & 1) for k in range(4))}]"
        else:
            shown = sel >> 2 if narrows else (sel & 1) << 1 | sel >> 1 & 1
            words = f"byte_sel:{shown}"
        return replace(made, src=src, dst=dst, spelled=words if shown else "")

    def _packed(self, word: Word, encoding: str) -> Instruction:
        mix = "_mix" in word.row.name
        low, high = word.get("neg"), word.get("neg_hi")
        sel, sel_hi = word.get("op_sel"), word.get("op_sel_hi") | word.get("op_sel_hi2") << 2
        dpp = bool(self._after(word, encoding))
        src = []
        for slot in word.row.src:
            number = _NUMBER[slot.field]
            bits = [bool(part >> number & 1) for part in (low, high, sel, sel_hi)]
            if not (slot.type.is_float or _SIGNED.search(word.row.name)):
                bits[:2] = (False, False)  # of integers only mixed-sign products have signs
            if mix and bits[3]:
                slot = Slot(slot.field, type_of("f16", self.wave), slot.file)
            made = _BLANK if dpp and number == 0 else self._vector(word, slot)
            made = replace(made, neg=bits[0], op_sel=bits[2], op_sel_hi=bits[3])
            src.append(replace(made, abs=bits[1]) if mix else replace(made, neg_hi=bits[1]))
        if dpp:
            instruction = self._dpp(word, encoding, tuple(src))
        else:
            dst = tuple(self._vector(word, slot) for slot in word.row.dst)
            instruction = word.instruction(encoding, "", dst, tuple(src))
        return replace(instruction, clamp=True) if word.bit("clamp") else instruction

    def _matrix(self, word: Word, encoding: str) -> Instruction:
        name = word.row.name
        acc, both = word.get("acc"), word.bit("acc_cd")
        dst = [self._vector(word, slot) for slot in word.row.dst]
        kinds = (word.get("cbsz"), word.get("blgp")) if name.endswith("_f8f6f4") else ()
        src = []
        for number, slot in enumerate(word.row.src):
            if number < len(kinds):
                dwords = _SHORTER.get(kinds[number], 8)
                slot = Slot(slot.field, type_of(f"b{32 * dwords}", self.wave), slot.file)
            made = self._vector(word, slot)
            wanted = bool(acc >> number & 1)
            if number > 1:
                wanted = number == 2 and both and "smfmac" not in name
            if name.startswith("v_accvgpr"):
                wanted = name == "v_accvgpr_read_b32"  # whatever the acc bits say
            if wanted and made.kind is OperandKind.VGPR:
                made = replace(made, kind=OperandKind.ACC)
            src.append(made)
        if both and not name.startswith("v_accvgpr"):
            dst[0] = replace(dst[0], kind=OperandKind.ACC)
        made_all = word.instruction(encoding, "", tuple(dst), tuple(src))
        if name.startswith("v_accvgpr"):
            return made_all
        cbsz, abid, blgp = word.get("cbsz"), word.get("abid"), word.get("blgp")
        return replace(made_all, cbsz=cbsz, abid=abid, blgp=blgp)

    def _scaled(self, word: Word, encoding: str) -> Instruction:
        made = self._matrix(word, encoding)
        sel, sel_hi = word.get("sel"), word.get("sel_hi")
        scales = (
            replace(scale, op_sel=bool(sel >> k & 1), op_sel_hi=bool(sel_hi >> k & 1))
            for k, scale in enumerate(made.src[3:])
        )
        return replace(made, src=(*made.src[:3], *scales), abid=0)  # it says that there are scales

    def _dual(self, form: Format, raw: int, code: Code, offset: int) -> Instruction:
        halves, size, extra = [], 8, None
        for half, opcode in (("x", raw >> 22 & 15), ("y", raw >> 17 & 31)):
            row = self._rows.get(("VOPD", opcode))
            if row is None:
                reason = f"{self.target} has no VOPD opcode {opcode:#x}"
                raise DecodeError(f"code offset {offset:#x}", raw, reason)
            word = Word(form, row, raw, code, offset)
            word.size, word.extra = size, extra
            word.places = _dual_fields(form, half)
            if word.get("vsrc1") and all(slot.field != "vsrc1" for slot in row.src):
                raise word.error(f"{row.name}: a field vsrc1{half} that it does not have")
            dst = self._operands.register(
                OperandKind.VGPR, self._dual_register(word, half), row.dst[0].type
            )
            src = tuple(self._vector(word, slot) for slot in row.src)
            size, extra = word.size, word.extra
            halves.append((word, dst, src))
        parts = []
        for word, dst, src in halves:
            word.size = size
            parts.append(word.instruction("VOPD", "", (dst,), src))
        name = "_".join(("v_dual", *(part.name.removeprefix("v_") for part in parts)))
        return Instruction(name, "VOPD", "", offset, parts[0].words, components=tuple(parts))

    def _dual_register(self, word: Word, half: str) -> int:
        if half == "x":
            return word.get("vdst")
        # The Y half writes a register of the other parity than the X half.
        return word.get("vdst") << 1 | 1 - (word.raw >> 56 & 1)


@cache
def _dual_places(fields: tuple[tuple[str, tuple[int, int]], ...], half: str) -> Fields:
    return {name[:-1]: place for name, place in fields if name.endswith(half)}


def _dual_fields(form: Format, half: str) -> Fields:
    return _dual_places(tuple(form.fields.items()), half)


@cache
def decoder(target: str, wave: int | None = None) -> Decoder:
    """Give the decoder of a target ("gfx942"), for its usual wave size unless told.

    Raises UsageError for a target without tables.
    """
    if target not in TARGETS:
        known = ", ".join(TARGETS)
        raise UsageError(f"no instruction tables for {target!r}; there are some for {known}")
    generation, usual = TARGETS[target]
    return Decoder(target, wave or usual, generation)
