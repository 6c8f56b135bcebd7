"""Memory encodings: the registers and offsets that make their addresses, and their data.

Source: LLVM, SMInstructions.td, DSInstructions.td, FLATInstructions.td, BUFInstructions.td.
"""

from dataclasses import replace

from gputrace.isa.encodings import Generation
from gputrace.isa.instruction import Instruction, Memory, Operand, OperandKind
from gputrace.isa.operands import OperandReader, type_of
from gputrace.isa.word import Slot, Word, signed

_CACHE_BITS = ("glc", "slc", "dlc", "sc0", "sc1", "nt", "tfe", "lds", "offen", "idxen")
_DATA_FIELDS = ("vdst", "data", "data0", "data1", "vdata")
_TWO_OFFSETS = ("read2", "write2", "wrxchg2", "_2addr_")


class MemoryDecoder:
    """Decodes one generation's memory instructions."""

    def __init__(self, generation: Generation, operands: OperandReader, wave: int) -> None:
        self._generation, self._operands, self.wave = generation, operands, wave

    def _flags(self, word: Word) -> dict[str, bool]:
        return {name: True for name in _CACHE_BITS if name in word.places and word.get(name)}

    def _file(self, word: Word) -> OperandKind:
        return OperandKind.ACC if word.bit("acc") else OperandKind.VGPR

    def _data(self, word: Word, slots: tuple[Slot, ...]) -> tuple[Operand, ...]:
        kind = self._file(word)
        return tuple(
            self._operands.register(kind, word.get(slot.field), slot.type)
            for slot in slots
            if slot.field in _DATA_FIELDS
        )

    def _address(self, word: Word, field: str, dwords: int) -> Operand:
        kind = type_of(f"b{32 * dwords}", self.wave)
        return self._operands.register(OperandKind.VGPR, word.get(field), kind)

    def _old_value(self, name: str, data: Operand) -> Operand:
        # A compare-and-swap has two values and gives back one.
        if "cmpswap" not in name:
            return data
        kind = type_of(f"b{data.bits // 2}", self.wave)
        return self._operands.register(data.kind, data.index, kind)

    def scalar(self, word: Word, encoding: str) -> Instruction:
        """Decode SMEM."""
        dst = tuple(self._operands.source(word.get("sdata"), slot.type) for slot in word.row.dst)
        offset, soffset, base = signed(word.get("offset"), 21), None, None
        slots = {slot.field: slot for slot in word.row.src}
        scalar = type_of("b32", self.wave)
        if "immediate" in word.places:
            immediate, register = word.bit("immediate"), word.bit("soffset_on")
            if register:
                soffset = self._operands.source(word.get("soffset"), scalar)
            elif not immediate and "sbase" in slots:
                soffset = self._operands.source(word.get("offset") & 127, scalar)
            offset = offset if immediate else 0
        elif "sbase" in slots:
            made = self._operands.source(word.get("soffset"), scalar)
            soffset = None if made.name == "null" else made
        if "sbase" in slots:
            base = self._operands.source(word.get("sbase") * 2, slots["sbase"].type)
        data: tuple[Operand, ...] = ()
        if "sdata" in slots and slots["sdata"].type.name == "imm7":
            value = word.get("sdata")
            data = (Operand(OperandKind.IMMEDIATE, value, 0, "imm7", 32, value),)
        elif "sdata" in slots:
            data = (self._operands.source(word.get("sdata"), slots["sdata"].type),)
            if word.bit("glc") and "atomic" in word.row.name:
                dst = (replace(data[0]),)
        memory = Memory(None, base, soffset, data, offset, glc=word.bit("glc"), dlc=word.bit("dlc"))
        parts = (*data, base, soffset)
        src = tuple(part for part in parts if part is not None)
        return replace(word.instruction(encoding, "", dst, src), memory=memory)

    def lds(self, word: Word, encoding: str) -> Instruction:
        """Decode DS."""
        name = word.row.name
        dst = self._data(word, word.row.dst)
        data = self._data(word, word.row.src)
        wanted = any(slot.field == "addr" for slot in word.row.src)
        address = self._address(word, "addr", 1) if wanted else None
        two = any(part in name for part in _TWO_OFFSETS)
        offset, offset1 = (word.get("offset0"), word.get("offset1")) if two else (0, None)
        offset = offset if two else word.get("offset")
        memory = Memory(address, None, None, data, offset, offset1, gds=word.bit("gds"))
        src = (() if address is None else (address,)) + data
        return replace(word.instruction(encoding, "", dst, src), memory=memory)

    def flat(self, word: Word, encoding: str) -> Instruction:
        """Decode FLAT, GLOBAL and SCRATCH."""
        name = word.row.name
        flags = self._flags(word)
        data = self._data(word, word.row.src)
        dst = self._data(word, word.row.dst)
        if "atomic" in name and (flags.get("sc0") or flags.get("glc")):
            old = self._operands.register(data[0].kind, word.get("vdst"), word.row.src[-1].type)
            dst = (self._old_value(name, old),)
        has_base = encoding != "FLAT" and word.get("saddr") != self._generation.no_base
        address = None
        if encoding == "SCRATCH":
            flags.pop("lds", None)  # this bit says that there is a vector address
            if word.bit("vaddr_on") or ("vaddr_on" not in word.places and word.bit("lds")):
                address = self._address(word, "addr", 1)
        elif any(slot.field == "addr" for slot in word.row.src):
            address = self._address(word, "addr", 1 if has_base else 2)
        base = None
        if has_base:
            kind = type_of("b32" if encoding == "SCRATCH" else "b64", self.wave)
            base = self._operands.source(word.get("saddr"), kind)
        offset = word.get("offset")
        offset = offset & 0xFFF if encoding == "FLAT" else signed(offset, 13)
        memory = Memory(address, base, None, data, offset, **flags)
        parts = (address, *data, base)
        src = tuple(part for part in parts if part is not None)
        return replace(word.instruction(encoding, "", dst, src), memory=memory)

    def buffer(self, word: Word, encoding: str) -> Instruction:
        """Decode MUBUF and MTBUF."""
        name = word.row.name
        flags = self._flags(word)
        slots = {slot.field: slot for slot in word.row.src}
        data = () if flags.get("lds") and "load" in name else self._data(word, word.row.src)
        dst: tuple[Operand, ...] = ()
        if "load" in name:
            dst, data = data, ()
        elif "atomic" in name and (flags.get("sc0") or flags.get("glc")):
            dst = (self._old_value(name, data[0]),)
        address = base = soffset = None
        dwords = int(word.bit("offen")) + int(word.bit("idxen"))
        if dwords and "vaddr" in slots:
            address = self._address(word, "vaddr", dwords)
        if "srsrc" in slots:
            base = self._operands.source(word.get("srsrc") * 4, slots["srsrc"].type)
            soffset = self._operands.source(word.get("soffset"), slots["soffset"].type)
        form = word.get("format") if "format" in word.places else None
        memory = Memory(address, base, soffset, data, word.get("offset"), format=form, **flags)
        parts = (*data, address, base, soffset)
        src = tuple(part for part in parts if part is not None)
        return replace(word.instruction(encoding, "", dst, src), memory=memory)
