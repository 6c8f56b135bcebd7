"""Memory encodings: the registers and offsets that make their addresses, and their data.

Source: LLVM, SMInstructions.td, DSInstructions.td, FLATInstructions.td, BUFInstructions.td.
"""

from dataclasses import replace

from gputrace.isa.encodings import Generation
from gputrace.isa.instruction import Instruction, Memory, Operand, OperandKind
from gputrace.isa.operands import OperandReader, type_of
from gputrace.isa.word import Slot, Word, signed

_CACHE_BITS = ("glc", "slc", "dlc", "scc", "sc0", "sc1", "nt", "tfe", "lds", "offen", "idxen")
_ATOMIC_RETURN = 1  # bit of gfx12's temporal hint in atomics
_DATA_FIELDS = ("vdst", "data", "data0", "data1", "vdata")
_NO_ADDRESS = 0x7F  # as scalar base, gfx10: neither base nor address
_INTO_LDS = ("_load_dword", "_load_ubyte", "_load_sbyte", "_load_ushort", "_load_sshort")
_NEGATIVE = "a negative offset, which buffers cannot have"
_TWO_OFFSETS = ("read2", "write2", "wrxchg2", "_2addr_")


class MemoryDecoder:
    """Decodes one generation's memory instructions."""

    def __init__(self, generation: Generation, operands: OperandReader, wave: int) -> None:
        self._generation, self._operands, self.wave = generation, operands, wave

    def _flags(self, word: Word) -> dict[str, bool]:
        return {name: True for name in _CACHE_BITS if name in word.places and word.get(name)}

    def _with_policy(self, word: Word, memory: Memory) -> Memory:
        scope, temporal = word.get("scope"), word.get("temporal")
        return replace(memory, scope=scope, temporal=temporal) if scope or temporal else memory

    def _returns(self, word: Word) -> bool:
        # Whether an atomic gives back the old value.
        found = word.bit("sc0") or word.bit("glc")
        return found or bool(word.get("temporal") & _ATOMIC_RETURN)

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
        offset, soffset, base = signed(word.get("offset"), word.places["offset"][1]), None, None
        slots = {slot.field: slot for slot in word.row.src}
        scalar, prefetches = type_of("b32", self.wave), "prefetch" in word.row.name
        if "immediate" in word.places:
            immediate, register = word.bit("immediate"), word.bit("soffset_on")
            if register and "sbase" in slots:
                soffset = self._operands.source(word.get("soffset"), scalar)
            elif not immediate and "sbase" in slots:
                soffset = self._operands.source(word.get("offset") & 127, scalar)
            offset = offset if immediate else 0
        elif "sbase" in slots or prefetches:
            made = self._operands.source(word.get("soffset"), scalar)
            soffset = None if made.name == "null" else made
        if "sbase" in slots:
            base = self._operands.source(word.get("sbase") * 2, slots["sbase"].type)
        data: tuple[Operand, ...] = ()
        if prefetches or ("sdata" in slots and slots["sdata"].type.name == "imm7"):
            value = word.get("sdata")
            data = (Operand(OperandKind.IMMEDIATE, value, 0, "imm7", 32, value),)
        elif "sdata" in slots:
            data = (self._operands.source(word.get("sdata"), slots["sdata"].type),)
            if word.bit("glc") and "atomic" in word.row.name:
                dst = (replace(data[0]),)
        if offset < 0 and self._generation.flat_offset[1] and "buffer" in word.row.name:
            raise word.error(_NEGATIVE)
        memory = Memory(None, base, soffset, data, offset, glc=word.bit("glc"), dlc=word.bit("dlc"))
        memory = self._with_policy(word, memory)
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

    def _flat_offset(self, word: Word, encoding: str) -> int:
        bits = word.places["offset"][1]
        if encoding == "FLAT":
            bits, has_sign = self._generation.flat_offset
            if not has_sign:
                return word.get("offset") & (1 << bits) - 1
        return signed(word.get("offset"), bits)

    def _scratch_address(self, word: Word) -> bool:
        # A bit says so; before gfx940 it is whether there is no scalar base.
        if "vaddr_on" in word.places:
            return word.bit("vaddr_on")
        if "sc0" in word.places:
            return word.bit("lds")
        return word.get("saddr") == self._generation.no_base

    def flat(self, word: Word, encoding: str) -> Instruction:
        """Decode FLAT, GLOBAL and SCRATCH."""
        name = word.row.name
        flags = self._flags(word)
        data = self._data(word, word.row.src)
        dst = self._data(word, word.row.dst)
        if "atomic" in name and self._returns(word):
            old = self._operands.register(data[0].kind, word.get("vdst"), word.row.src[-1].type)
            dst = (self._old_value(name, old),)
        off = (self._generation.no_base, _NO_ADDRESS)
        has_base = encoding != "FLAT" and word.get("saddr") not in off
        address = None
        if "sc0" in word.places and encoding == "SCRATCH":
            flags.pop("lds", None)  # this bit says that there is a vector address
        elif flags.get("lds") and encoding != "FLAT" and name.endswith(_INTO_LDS):
            dst = ()
        if encoding == "SCRATCH":
            if self._scratch_address(word):
                address = self._address(word, "addr", 1)
        elif any(slot.field == "addr" for slot in word.row.src):
            address = self._address(word, "addr", 1 if has_base else 2)
        base = None
        if has_base:
            kind = type_of("b32" if encoding == "SCRATCH" else "b64", self.wave)
            base = self._operands.source(word.get("saddr"), kind)
        offset = self._flat_offset(word, encoding)
        memory = self._with_policy(word, Memory(address, base, None, data, offset, **flags))
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
        elif "atomic" in name and self._returns(word):
            dst = (self._old_value(name, data[0]),)
        address = base = soffset = None
        dwords = int(word.bit("offen")) + int(word.bit("idxen"))
        if dwords and "vaddr" in slots:
            address = self._address(word, "vaddr", dwords)
        if "srsrc" in slots:
            number = word.get("srsrc") * self._generation.resource_step
            base = self._operands.source(number, slots["srsrc"].type)
            soffset = self._operands.source(word.get("soffset"), slots["soffset"].type)
        offset = word.get("offset")
        if offset >> 23:
            raise word.error(_NEGATIVE)
        form = word.get("format") if name.startswith("tbuffer") else None
        memory = Memory(address, base, soffset, data, offset, format=form, **flags)
        memory = self._with_policy(word, memory)
        parts = (*data, address, base, soffset)
        src = tuple(part for part in parts if part is not None)
        return replace(word.instruction(encoding, "", dst, src), memory=memory)
