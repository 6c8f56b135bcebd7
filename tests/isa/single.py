"""Run one instruction on one wave whose registers the test has filled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import state
from gputrace.isa.decode import Decoder, decoder
from gputrace.isa.instruction import Instruction, Operand, OperandKind
from gputrace.isa.launch import View
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.numpy_engine import Context, prepare
from gputrace.isa.semantics import trace_instruction
from gputrace.isa.state import FLAT_SCRATCH
from gputrace.isa.trace import Mode
from gputrace.isa.waves import Group
from tests.isa.launching import Arrays

# Where the fields of an instruction put their registers: far enough apart for four dwords.
SCALARS = {"sdst": 16, "ssrc0": 24, "ssrc1": 32}
VECTORS = {
    "vdst": 4, "src0": 16, "src1": 32, "vsrc1": 32, "src2": 48, "scale0": 60, "scale1": 61,
}  # fmt: skip
ENCODINGS = (
    "VOP3", "VOP3P", "VOP3PX2", "MAI", "VOP1", "VOP2", "VOPC", "SOP1", "SOP2", "SOPC", "SOPK",
)  # fmt: skip


def _number(field: str, mask: bool, vectors: dict[str, int]) -> int:
    if field in SCALARS:
        return SCALARS[field]
    if mask:
        return 40  # a pair of scalar registers
    return vectors[field] + (0 if field in ("vdst", "vsrc1") else 256)


def find(machine: Decoder, name: str, wanted: str = "") -> tuple[str, int] | None:
    """Return encoding and opcode of a mnemonic, the longest encoding first."""
    for encoding in (wanted,) if wanted else ENCODINGS:
        for (kind, opcode), row in machine._rows.items():
            if kind == encoding and row.name == name:
                return encoding, opcode
    return None


def fitted(target: str, place: tuple[str, int], raw: int) -> int:
    """Return an instruction's bits with those that it must have, whatever was there.

    Those are zeros in fields that the instruction does not have, and a few bits that are ones; of
    flags that do not go together as few change as may be.
    """
    limits = decoder(target).limits[place]
    key = limits.key(raw)
    nearest = min(limits.limits, key=lambda other: ((other ^ key).bit_count(), other))
    for number, (mask, value) in enumerate(limits.flags):
        if mask.bit_count() == 1 and (nearest ^ key) >> number & 1:
            raw = raw & ~mask | (value if nearest >> number & 1 else mask & ~value)
    limit = limits.limits[limits.key(raw)]
    return raw & ~limit.mask | limit.value


def assemble(
    target: str,
    name: str,
    extra: dict[str, int] | None = None,
    vectors: dict[str, int] | None = None,
    encoding: str = "",
) -> Instruction | None:
    """Encode an instruction with registers of its own for each operand; None without one.

    Without an encoding it is the longest that there is.
    """
    machine = decoder(target)
    place = find(machine, name, encoding)
    if place is None:
        return None
    form = machine.generation.format_named(place[0])
    row = machine._rows[place]
    raw = form.prefix << (32 - form.width) | place[1] << form.opcode[0]
    for slot in (*row.dst, *row.src):
        if slot.field in form.fields and slot.field != "simm":
            masked = slot.type.name == "mask"
            scalar = slot.field == "sdst" or (masked and slot.field == "vdst")
            number = 56 if scalar and masked else _number(slot.field, masked, vectors or VECTORS)
            raw |= number << form.fields[slot.field][0]
    for field, value in (extra or {}).items():
        raw |= value << form.fields[field][0]
    raw = fitted(target, place, raw)
    return machine.decode(raw.to_bytes(4 * form.words, "little") + bytes(12), 0)


@dataclass
class Bench:
    """One wave with registers to fill, and the LDS of its group."""

    target: str
    float_mode: int = 0x3F0
    lanes: int = 0
    """0: as many as is usual."""
    half_limit: bool = False

    def __post_init__(self) -> None:
        lanes = self.lanes or decoder(self.target).wave
        generation = decoder(self.target).generation
        self.mode = Mode(
            lanes,
            self.float_mode,
            lanes == 64,
            1 << 48,
            2 << 48,
            generation.behaviour,
            self.half_limit,
        )
        self.memory = Arrays()
        self.lds = np.zeros(1024, np.uint8)
        self.wave = Group((0, 0, 0), 1, lanes, 0).waves[0]
        self.lanes = lanes
        self.set_mask(126, (1 << lanes) - 1)

    def set_mask(self, index: int, value: int) -> None:
        """Write a lane mask to scalar registers."""
        self.wave.scalars[index] = value & 0xFFFFFFFF
        if self.lanes == 64:
            self.wave.scalars[index + 1] = value >> 32

    def set_scratch(self, address: int) -> None:
        """Say where the wave's scratch lies."""
        self.wave.scalars[FLAT_SCRATCH : FLAT_SCRATCH + 2] = [address & 0xFFFFFFFF, address >> 32]

    def mask(self, index: int) -> int:
        """Read a lane mask from scalar registers."""
        high = int(self.wave.scalars[index + 1]) << 32 if self.lanes == 64 else 0
        return int(self.wave.scalars[index]) | high

    def _words(self, operand: Operand) -> NDArray[np.uint32]:
        if operand.kind is OperandKind.VGPR:
            return self.wave.vectors[operand.index : operand.index + operand.count]
        if operand.kind is OperandKind.ACC:
            first = state.FIRST_ACCUMULATOR + operand.index
            return self.wave.vectors[first : first + operand.count]
        at = 106 if operand.name.startswith("vcc") else operand.index
        return self.wave.scalars[at : at + operand.count].reshape(-1, 1)

    def fill(self, operand: Operand, values: Sequence[int]) -> None:
        """Put one value for each lane (or one) into a register."""
        for k, row in enumerate(self._words(operand)):
            row[:] = [value >> 32 * k & 0xFFFFFFFF for value in values]

    def read(self, operand: Operand) -> list[int]:
        """Return what each lane has (or the one value of a scalar register)."""
        rows = [row.tolist() for row in self._words(operand)]
        lanes = zip(*rows, strict=True)
        whole = [sum(word << 32 * k for k, word in enumerate(words)) for words in lanes]
        return [value & ((1 << max(operand.bits, 32)) - 1) for value in whole]

    def run(self, instruction: Instruction) -> None:
        """Carry out the instruction."""
        view = View(self.memory)
        view.refresh()
        context = Context(view, self.lanes)
        context.enter(self.wave, self.lds)
        program = prepare(trace_instruction(instruction, self.mode, MEANINGS), context)
        values: list[object] = [None] * program.length
        for index, value in program.constants:
            values[index] = value
        with np.errstate(all="ignore"):
            for step in program.steps:
                given = [values[a] for a in step.args]
                values[step.node.index] = step.run(context, step.node, *given)
