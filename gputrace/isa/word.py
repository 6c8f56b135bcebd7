"""The instruction being decoded, and the row of the opcode table that explains it."""

import struct
from dataclasses import dataclass

from gputrace.errors import DecodeError
from gputrace.isa.encodings import Format
from gputrace.isa.instruction import Instruction, Operand
from gputrace.isa.operands import Type

Code = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Slot:
    """One operand of a row: the field that holds it, its type, what register file it means."""

    field: str
    type: Type
    file: str


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction of a target's table."""

    name: str
    dst: tuple[Slot, ...]
    src: tuple[Slot, ...]
    variants: frozenset[str] = frozenset()
    """Words that may stand behind a vector instruction: dpp, dpp8, sdwa."""


class Word:
    """The instruction being decoded: its bits, the code after it, and its length so far."""

    __slots__ = ("at", "code", "extra", "form", "places", "raw", "row", "size")

    def __init__(self, form: Format, row: Row, raw: int, code: Code, at: int) -> None:
        self.form, self.row, self.raw, self.code, self.at = form, row, raw, code, at
        self.size = 4 * form.words
        self.extra: int | None = None
        self.places = form.fields

    def get(self, field: str) -> int:
        """Read a field; 0 when the encoding has none of this name."""
        place = self.places.get(field)
        return 0 if place is None else self.raw >> place[0] & (1 << place[1]) - 1

    def bit(self, field: str) -> bool:
        """Read a flag; False when the encoding has none of this name."""
        return bool(self.get(field))

    def more(self) -> int:
        """Give the word after the instruction: literal, DPP or SDWA; there is at most one."""
        if self.extra is None:
            end = self.at + self.size + 4
            if end > len(self.code):
                raise self.error("the code ends before the instruction's last word")
            self.extra = int(struct.unpack_from("<I", self.code, end - 4)[0])
            self.size += 4
        return self.extra

    def error(self, reason: str) -> DecodeError:
        """Make the error that names the place."""
        return DecodeError(f"code offset {self.at:#x}", self.raw, reason)

    def instruction(
        self,
        encoding: str,
        variant: str,
        dst: tuple[Operand, ...],
        src: tuple[Operand, ...],
    ) -> Instruction:
        """Make the instruction of what all encodings have."""
        words = struct.unpack_from(f"<{self.size // 4}I", self.code, self.at)
        return Instruction(self.row.name, encoding, variant, self.at, words, dst, src)


def signed(value: int, bits: int) -> int:
    """Read the low `bits` bits as two's complement."""
    return value - (1 << bits) if value >> (bits - 1) else value
