"""What the fields of each instruction may hold.

The tables (`gputrace.isa.tables.<target>_limits`) are made by tools/isa_limits.py from what LLVM
takes. One is a list of groups of instructions that have the same limits:

    rows VOP1 4-9 VOP1+dpp 4
    when 100:100 2000:2000
    0,2 1ff00:0 src0=0-105,256-510/2

`rows` names encodings (with the kind of word behind them) and opcodes. `when` has mask and value of
each flag that changes what other fields mean; flag k is bit k of the numbers before the limits. A
limit is a mask, the value that the masked bits must have, and the values of some fields (/2: every
second one); a number that no line has stands for flags that do not go together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module

from gputrace.isa.encodings import Fields, Format, Generation

AFTER: Mapping[str, Fields] = {
    "dpp": {
        "source": (0, 8), "control": (8, 9), "fetch_inactive": (18, 1), "bound_ctrl": (19, 1),
        "signs": (20, 4), "bank_mask": (24, 4), "row_mask": (28, 4),
    },
    "dpp8": {"source": (0, 8)},
    "sdwa": {
        "source": (0, 8), "dst_sel": (8, 3), "dst_unused": (11, 2), "modifiers": (13, 3),
        "src0_sel": (16, 3), "src0_sext": (19, 1), "src0_signs": (20, 2), "src0_scalar": (23, 1),
        "src1_sel": (24, 3), "src1_sext": (27, 1), "src1_signs": (28, 2), "src1_scalar": (31, 1),
    },
    "compare": {
        "source": (0, 8), "mask": (8, 7), "has_mask": (15, 1),
        "src0_sel": (16, 3), "src0_sext": (19, 1), "src0_signs": (20, 2), "src0_scalar": (23, 1),
        "src1_sel": (24, 3), "src1_sext": (27, 1), "src1_signs": (28, 2), "src1_scalar": (31, 1),
    },
}  # fmt: skip
"""Fields of the word behind a vector instruction; `compare` is the SDWA word of VOPC."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the bits must be; of `sets` each is a field's lowest bit, its mask, allowed values."""

    mask: int
    value: int
    sets: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of some instructions for each setting of their flags."""

    flags: tuple[tuple[int, int], ...]
    limits: Mapping[int, Limit]
    fields: Fields

    def key(self, raw: int) -> int:
        """Return the number of an instruction's setting of the flags."""
        key = 0
        for at, (mask, value) in enumerate(self.flags):
            key |= (raw & mask == value) << at
        return key

    def wrong(self, raw: int) -> str:
        """Say what is wrong with an instruction's bits, the word behind included; "" if nothing."""
        limit = self.limits.get(self.key(raw))
        if limit is None:
            return "flags that do not go together"
        differs = (raw ^ limit.value) & limit.mask
        if differs:
            return self._refused(raw, differs)
        for low, mask, allowed in limit.sets:
            if not allowed >> (raw >> low & mask) & 1:
                return self._refused(raw, mask << low)
        return ""

    def _refused(self, raw: int, bits: int) -> str:
        for name, (low, width) in self.fields.items():
            mask = (1 << width) - 1
            if bits >> low & mask:
                return f"a field {name} that cannot be {raw >> low & mask:#x}"
        return f"reserved bits {bits:#x} that are not as they have to be"


def fields_of(form: Format, after: str) -> dict[str, tuple[int, int]]:
    """Return the fields of an instruction and of the word behind it, which `after` names."""
    kind = "compare" if (form.name, after) == ("VOPC", "sdwa") else after
    fields = dict(form.fields)
    for name, (low, width) in AFTER.get(kind, {}).items():
        fields[name] = (low + 32 * form.words, width)
    return fields


def _spans(text: str) -> Iterator[range]:
    # The parts of a list such as "0-3,9,12-20/2".
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        yield range(int(first), int(last or first) + 1, int(step or 1))


def _numbers(text: str) -> Iterator[int]:
    for span in _spans(text):
        yield from span


def _bits(span: range) -> int:
    # The set of a part's numbers as bits.
    if span.step == 1:
        return (1 << span.stop) - (1 << span.start)
    return sum(1 << number for number in span)


def _limit(words: list[str], fields: Fields) -> Limit:
    mask, _, value = words[0].partition(":")
    sets = []
    for word in words[1:]:
        name, _, text = word.partition("=")
        low, width = fields[name]
        allowed = sum(_bits(span) for span in _spans(text))
        sets.append((low, (1 << width) - 1, allowed))
    return Limit(int(mask, 16), int(value, 16), tuple(sets))


def _limits(lines: list[str], form: Format, after: str) -> Limits:
    pairs = [flag.partition(":") for flag in lines[1].split(" ")[1:]]
    flags = tuple((int(mask, 16), int(value, 16)) for mask, _, value in pairs)
    fields = fields_of(form, after)
    limits = {}
    for line in lines[2:]:
        keys, *words = line.split(" ")
        limits.update(dict.fromkeys(_numbers(keys), _limit(words, fields)))
    return Limits(flags, limits, fields)


class LimitTable:
    """The limits of a target's instructions, each read when it is first asked for."""

    def __init__(self, target: str, generation: Generation) -> None:
        text: str = import_module(f"gputrace.isa.tables.{target}_limits").LIMITS
        self._generation = generation
        self._lines: dict[tuple[str, int], list[str]] = {}
        self._made: dict[tuple[str, int], Limits] = {}
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("rows "):
                lines = []
                names = line.split(" ")[1:]
                for encoding, numbers in zip(names[::2], names[1::2], strict=True):
                    for opcode in _numbers(numbers):
                        self._lines[encoding, opcode] = lines
            lines.append(line)

    def __getitem__(self, place: tuple[str, int]) -> Limits:
        """Return the limits for an encoding (with "+" and the kind of word behind) and opcode."""
        made = self._made.get(place)
        if made is None:
            name, _, after = place[0].partition("+")
            form = self._generation.format_named(name)
            made = self._made[place] = _limits(self._lines[place], form, after)
        return made
