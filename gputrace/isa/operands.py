"""Operand fields to operands: register numbers, special registers, inline constants, literals.

Source: LLVM, AMDGPUDisassembler.cpp (decodeSrcOp, decodeSpecialReg32, getInlineImmVal*) and
SIRegisterInfo.td; AMD "RDNA3" instruction set manual, table of scalar operands.
"""

import re
import struct
from dataclasses import dataclass
from functools import cache

from gputrace.errors import DecodeError
from gputrace.isa.encodings import Generation
from gputrace.isa.instruction import Operand, OperandKind

_VGPR, _LITERAL, _TTMP, _TTMPS = 256, 255, 108, 16
_FLOATS = (0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 4.0, -4.0)
# 1 / (2 pi) as each width has it
_INVERSE_TWO_PI = {"e": 0x3118, "f": 0x3E22F983, "d": 0x3FC45F306DC9C882}
_TYPE = re.compile(r"(v2)?(bf|[fbiu])(\d+)(?:x(\d+))?")


@dataclass(frozen=True, slots=True)
class Type:
    """The type of an operand: its name, width in bits and length in dwords.

    `letter` is the struct format of the float that a float constant becomes: e, f or d.
    `packed` is how many elements a register holds, `width` the bits of one element.
    """

    name: str
    bits: int
    dwords: int
    width: int
    letter: str
    signed: bool
    packed: bool

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating point numbers."""
        return self.name.removeprefix("v2").startswith(("f", "bf"))


@cache
def type_of(name: str, wave: int) -> Type:
    """Make the type of a table's type name; `wave` is the width of a mask."""
    if name == "mask":
        return Type(name, wave, wave // 32, wave, "d" if wave == 64 else "f", False, False)
    found = _TYPE.fullmatch(name)
    if found is None:  # an immediate: hwreg, label, i16, imm4 ...
        return Type(name, 32, 1, 32, "f", False, False)
    width, repeat = int(found[3]), int(found[4] or 1)
    bits = width * repeat * (2 if found[1] else 1)
    letter = {16: "e", 64: "d"}.get(width, "f")
    if found[1] and found[2] in ("i", "u", "b") and width == 16:
        letter = "f"  # LLVM getInlineEncodingV2I16: packed integers take the bits of an f32
    signed = found[2] == "i"
    return Type(name, bits, max(1, bits // 32), width, letter, signed, bool(found[1]))


def _alignment(kind: Type) -> int:
    # SIRegisterInfo.td: pairs begin at even registers, longer tuples at multiples of four.
    return min(kind.dwords, 2) if kind.dwords < 3 else 4


def _float_bits(number: int, letter: str) -> int:
    if number == 248:
        return _INVERSE_TWO_PI[letter]
    integer = {"e": "<H", "f": "<I", "d": "<Q"}[letter]
    packed = struct.pack(f"<{letter}", _FLOATS[number - 240])
    return int(struct.unpack(integer, packed)[0])


def inline_value(number: int, kind: Type) -> int:
    """Give the bits of inline constant `number` (128..208, 240..248) in an operand of a type.

    One element's worth for matrices; packed f16 constants have zero in the high half, packed f32
    ones in the high dword.
    """
    if number >= 240:
        if kind.name in ("bf16", "v2bf16"):
            return _float_bits(number, "f") >> 16
        return _float_bits(number, kind.letter)
    value = number - 128 if number <= 192 else 192 - number
    width = max(kind.width, 32) if kind.packed else kind.width
    return value & (1 << width) - 1


def literal_value(word: int, kind: Type) -> int:
    """Give the bits that a literal word means in an operand of a type.

    It is the upper half of an f64, is sign-extended to an i64 and zero-extended to other 64 bits.
    """
    if kind.width != 64:
        return word & (1 << max(kind.bits, 16)) - 1 if kind.bits <= 32 else word
    if kind.name.startswith("f64"):
        return word << 32
    return word | 0xFFFFFFFF00000000 if kind.signed and word >> 31 else word


class OperandReader:
    """Makes operands from field values for one generation; equal operands are one object."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._made: dict[tuple[int, Type], Operand] = {}

    def source(self, number: int, kind: Type) -> Operand:
        """Make the operand of a scalar (8-bit) or vector (9-bit) source field.

        Raises DecodeError for a number without meaning. The literal is not made here.
        """
        key = number, kind
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(number, kind)
        return made

    def literal(self, word: int, kind: Type) -> Operand:
        """Make the operand of a literal word."""
        value = literal_value(word, kind)
        return Operand(OperandKind.LITERAL, word, 0, kind.name, kind.bits, value)

    def register(self, kind: OperandKind, index: int, type_: Type) -> Operand:
        """Make a register of a file whose number is known."""
        return Operand(kind, index, type_.dwords, type_.name, type_.bits)

    def _make(self, number: int, kind: Type) -> Operand:
        generation = self._generation
        if number >= _VGPR:
            return self.register(OperandKind.VGPR, number - _VGPR, kind)
        if number < generation.sgprs:
            return self.register(OperandKind.SGPR, number & -_alignment(kind), kind)
        if _TTMP <= number < _TTMP + _TTMPS:
            index = number - _TTMP & -_alignment(kind)
            return self.register(OperandKind.TTMP, index, kind)
        if 128 <= number <= 208 or 240 <= number <= 248:
            value = inline_value(number, kind)
            return Operand(OperandKind.INLINE, number, 0, kind.name, kind.bits, value)
        special = generation.specials.get(number)
        if special is None:
            raise DecodeError("operand field", number, "this operand number has no meaning")
        name, half = special
        pair = (number ^ 1) in generation.specials and number < 128 and name not in ("m0", "null")
        if pair and kind.dwords == 1:
            name = f"{name}_{('lo', 'hi')[half]}"
        return Operand(OperandKind.SPECIAL, number, kind.dwords, kind.name, kind.bits, 0, name)
