"""Write gputrace/isa/tables/<target>_limits.py: what each field of each instruction may hold.

    python tools/isa_limits.py gfx942 gfx1100

LLVM's disassembler is asked for every value of every field of every row of the opcode tables (of
wide fields for every bit), once for each setting of the flags that change what other fields mean.
LLVM 22 is asked too for the instructions that LLVM 19 does not have, and for operands that are
halves of registers, of which LLVM 19 knows the low ones only; for gfx950 it alone is asked.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gputrace.isa.decode import decoder  # noqa: E402
from gputrace.isa.encodings import Format, Generation  # noqa: E402
from gputrace.isa.limits import fields_of  # noqa: E402
from gputrace.isa.word import Row  # noqa: E402
from tools.disassembler import NEWER, Disassembler, library_of  # noqa: E402
from tools.isa_tables import ENDING, LATER, PROBES, SCALED  # noqa: E402

LONG = 40  # of as many numbers at least is what is written as every second one
WIDEST = 9  # bits of a field of which every value is tried
NUMBERS = {"dpp": 250, "dpp8": 233, "sdwa": 249}
AFTER = {
    "": [0x1234],
    "dpp": [0xFE015F02, 0xFE001B02, 0xFF00E402],
    "dpp8": [0x00FAC601],
    "sdwa": [0x06060601, 0x00060601, 0x06060001, 0x06068601, 0x06060600],
}
SPECIAL = (233, 234, 249, 250)  # in src0: not an operand, but a word behind
FLAGS = {
    "SMEM": ["immediate", "soffset_on"],
    "FLAT": ["lds", "vaddr_on", "glc", "sc0", "temporal"],
    "MUBUF": ["offen", "idxen", "lds", "tfe", "glc", "sc0", "temporal"],
    "DS": ["gds"],
    "MTBUF": ["offen", "idxen", "tfe"],
    "sdwa": ["src0_scalar", "src1_scalar", "has_mask"],
}
KINDS = {"VOP3P": ["neg_hi", "neg"], "VOP3PX2": ["cbsz", "blgp"]}
"""The fields that say of which kind the factors of an f8f6f4 product are, and so how long."""
SOURCES = ("src0", "src1", "src2")
LITERAL = 255
EXTRA_PROBES = {
    "FLAT": {"saddr": 6},
    "SMEM": {"soffset": 32},
    "MTBUF": {"format": 20},
}
ALTERNATIVES: dict[str, list[dict[str, int]]] = {
    "VOP3": [{}, {"src2": 6}],
    "VOP3P": [{}, {"op_sel_hi2": 1, "op_sel_hi": 3}],
    "VOP3PX2": [{"abid": SCALED["abid"]}],
    "SMEM": [{}, {"soffset": 124}, {"soffset": 125}, {"soffset": 127}],
    "FLAT": [{}, {"saddr": 124}, {"saddr": 125}, {"saddr": 127}],
}
"""Values without which some instructions are not taken: masks, selections, no register."""
SEGMENTS = {"FLAT": 0, "SCRATCH": 1, "GLOBAL": 2}
Bits = list[tuple[int, int]]  # mask and value of flags
Field = tuple[str, int, int]  # name, lowest bit, width


class Oracle:
    """What LLVM makes of the bits of an instruction and the words behind it."""

    def __init__(self, target: str, wave: int, library: str, bits: int) -> None:
        self._run, self._bits = Disassembler(target, wave, library), bits

    def __call__(self, raw: int) -> tuple[str, int]:
        """Return the mnemonic without its ending, and the length; "" and 0 when refused."""
        size, text = self._run((raw | 0x567800001234 << self._bits).to_bytes(32, "little"))
        return (ENDING.sub("", text.split(" ")[0]), size) if size else ("", 0)


def as_ranges(numbers: list[int]) -> str:
    """Write numbers as a list of ranges, a long one of every second number with /2 behind."""
    parts: list[range] = []
    left = list(numbers)
    while left:
        step = 2 if left[:LONG] == list(range(left[0], left[0] + 2 * LONG, 2)) else 1
        ends = (k for k, number in enumerate(left) if number != left[0] + k * step)
        count = next(ends, len(left))
        parts.append(range(left[0], left[0] + count * step, step))
        del left[:count]
    return ",".join(_as_range(part) for part in parts)


def _as_range(part: range) -> str:
    first, last = part[0], part[-1]
    return (f"{first}-{last}" if first != last else str(first)) + ("/2" if part.step == 2 else "")


@dataclass(frozen=True)
class Case:
    """One instruction whose limits are asked for, `after` being the kind of the word behind it."""

    encoding: str
    opcode: int
    row: Row
    after: str
    generation: Generation

    @property
    def form(self) -> Format:
        """The encoding's format."""
        return self.generation.format_named(self.encoding)

    @property
    def bits(self) -> int:
        """How many bits the instruction has."""
        return 32 * (self.form.words + bool(self.after))

    @property
    def used(self) -> set[str]:
        """The fields that hold operands."""
        return {slot.field for slot in (*self.row.dst, *self.row.src)}

    @property
    def halves(self) -> set[str]:
        """The fields that hold operands of half a register, and those that say which half."""
        slots = (*self.row.dst, *self.row.src)
        return {slot.field for slot in slots if slot.type.bits == 16} | {"source", "op_sel"}

    def fixed(self) -> tuple[int, int]:
        """Return mask and value of the bits that make it this instruction."""
        form, (low, width) = self.form, self.form.opcode
        mask = (1 << form.width) - 1 << 32 - form.width | (1 << width) - 1 << low
        value = form.prefix << 32 - form.width | (self.opcode & (1 << width) - 1) << low
        others = {"opcode_high": self.opcode >> width, "segment": SEGMENTS.get(self.encoding, 0)}
        others |= {"second": SCALED["second"]}
        if self.after:
            others["src0"] = NUMBERS[self.after]
        for name, number in others.items():
            if name in form.fields:
                low, width = form.fields[name]
                mask, value = mask | (1 << width) - 1 << low, value | number << low
        return mask, value

    def flags(self) -> Bits:
        """Return the flags that change what other fields mean."""
        fields = fields_of(self.form, self.after)
        names = FLAGS.get(self.after or self.form.name, [])
        found = [(1 << fields[name][0], 1 << fields[name][0]) for name in names if name in fields]
        if self.row.name.endswith("f8f6f4"):
            for low, width in (fields[name] for name in KINDS[self.encoding]):
                found += [(1 << at, 1 << at) for at in range(low, low + width)]
        if self.encoding in ("SCRATCH", "GLOBAL"):
            low, width = fields["saddr"]
            for off in {self.generation.no_base, 0x7F}:
                found.append(((1 << width) - 1 << low, off << low))
        return found

    def fields(self) -> list[Field]:
        """Cut the bits into fields that do not overlap, those of operands first.

        Bits of no field stand alone. Sources that a long instruction does not have are left out:
        newer compilers fill them.
        """
        items = sorted(
            fields_of(self.form, self.after).items(), key=lambda x: x[0] not in self.used
        )
        covered, found = self.fixed()[0], []
        for name, (low, width) in items:
            mask = (1 << width) - 1 << low
            other = name == "sdst" and "abs" in self.form.fields and name not in self.used
            if not covered & mask and not other:
                covered |= mask
                found.append((name, low, width))
        found += [("", at, 1) for at in range(self.bits) if not covered >> at & 1]
        filled = self.form.name in ("VOP3", "VOP3P", "MAI")
        return [each for each in found if not (filled and each[0] in set(SOURCES) - self.used)]

    def bases(self, key: int) -> Iterator[int]:
        """Yield instructions with some setting of the flags: first those with most registers."""
        form, flags = self.form, self.flags()
        probes = PROBES[form.name] | EXTRA_PROBES.get(form.name, {})
        if form.name in ("VOP3", "VOP3P"):
            probes = {name: value for name, value in probes.items() if name in self.used}
        probes = {name: number for name, number in probes.items() if name in form.fields}
        if self.after:
            probes.pop("src0", None)
        for count in range(len(probes), -1, -1):
            for chosen in itertools.combinations(probes, count):
                values = {name: probes[name] for name in chosen}
                for more in ALTERNATIVES.get(form.name, [{}]):
                    for word in AFTER[self.after]:
                        raw = self._made(values | more, word)
                        for k, (mask, value) in enumerate(flags):
                            if key >> k & 1:
                                raw = raw & ~mask | value
                            elif mask.bit_count() == 1:
                                raw &= ~mask
                        if sum((raw & m == v) << k for k, (m, v) in enumerate(flags)) == key:
                            yield raw

    def _made(self, values: dict[str, int], word: int) -> int:
        raw = self.fixed()[1]
        for name, value in values.items():
            if name in self.form.fields:
                raw |= value << self.form.fields[name][0]
        return raw | word << 32 * self.form.words if self.after else raw

    def is_operand(self, name: str, raw: int) -> bool:
        """Say whether a field may be an operand at all, and no word behind or lacking literal."""
        if name not in self.form.fields:
            return True
        low, width = self.form.fields[name]
        number = raw >> low & (1 << width) - 1
        if name == "soffset" and name in self.used:
            return number != LITERAL
        if name not in SOURCES or not self.form.name.startswith(("VOP", "MAI")):
            return True
        literal = self.form.words == 1 or self.generation.vop3_literal
        return number not in SPECIAL and (literal or number != LITERAL)


class Asked:
    """LLVM's answers for one setting of the flags of an instruction: a base, and changes of it."""

    def __init__(self, case: Case, oracles: list[Oracle], key: int) -> None:
        self._case, self._oracles = case, oracles
        self.base, self._known = 0, [("", 0)] * len(oracles)
        for least in range(len(oracles)):  # rather one that LLVM 19 takes
            for raw in case.bases(key):
                known = [oracle(raw) for oracle in oracles]
                if known[least][0] == case.row.name:
                    self.base, self._known = raw, known
                    return

    def takes(self, raw: int, name: str) -> bool:
        """Say whether an LLVM takes the instruction with a changed field of a name."""
        case = self._case
        if not case.is_operand(name, raw):
            return False
        for at, (oracle, (mnemonic, size)) in enumerate(
            zip(self._oracles, self._known, strict=True)
        ):
            if at and self._known[0][1] and name not in case.halves:
                continue
            got = oracle(raw)
            if mnemonic and got[0] == mnemonic and got[1] in (size, size + 4):
                return True
        return False

    def limit(self, flags: int) -> str:
        """Try all values of all fields but the flags."""
        mask = value = 0
        sets = []
        for name, low, width in self._case.fields():
            every = (1 << width) - 1
            if width > WIDEST or flags >> low & every:
                for bit in (1 << at for at in range(low, low + width)):
                    if not flags & bit and not self.takes(self.base ^ bit, name):
                        mask, value = mask | bit, value | self.base & bit
                continue
            rest = self.base & ~(every << low)
            allowed = [k for k in range(every + 1) if self.takes(rest | k << low, name)]
            same, either = every, 0
            for number in allowed:
                same, either = same & number, either | number
            free = same ^ either
            if len(allowed) == 1 << free.bit_count():
                mask, value = mask | (every & ~free) << low, value | same << low
            else:
                sets.append(f"{name}={as_ranges(allowed)}")
        return " ".join([f"{mask:x}:{value:x}", *sets])


class Prober:
    """Finds the limits of one target's instructions."""

    def __init__(self, target: str) -> None:
        self.decoder, self.target = decoder(target), target
        self._oracles: dict[tuple[str, int], Oracle] = {}
        self._later = {tuple(row.split(" ")[:3]) for row in LATER.get(target, [])}

    def _oracle(self, library: str, bits: int) -> Oracle:
        if (library, bits) not in self._oracles:
            self._oracles[library, bits] = Oracle(self.target, self.decoder.wave, library, bits)
        return self._oracles[library, bits]

    def _asked(self, case: Case) -> list[Oracle]:
        # LLVM 22 knows the later instructions, and the high halves of registers.
        narrow = any(slot.type.bits == 16 for slot in (*case.row.dst, *case.row.src))
        halves = case.generation.halves and narrow and case.form.name.startswith("VOP")
        later = (case.form.name, str(case.opcode), case.row.name) in self._later
        libraries = [library_of(self.target)]
        if (halves or later) and NEWER not in libraries:
            libraries.append(NEWER)
        return [self._oracle(library, case.bits) for library in libraries]

    def limits(self, case: Case) -> str:
        """Return the lines that say what one instruction may hold."""
        flags, oracles = case.flags(), self._asked(case)
        single = sum(mask for mask, _ in flags if mask.bit_count() == 1)
        lines: dict[str, list[int]] = defaultdict(list)
        for key in range(1 << len(flags)):
            asked = Asked(case, oracles, key)
            if asked.base:
                whole = sum(
                    mask for k, (mask, _) in enumerate(flags) if key >> k & 1 and mask & ~single
                )
                lines[asked.limit(single | whole)].append(key)
        if not lines:
            print(f"{self.target}: no {case.encoding} {case.row.name}", file=sys.stderr)
        when = " ".join(["when", *(f"{mask:x}:{value:x}" for mask, value in flags)])
        return "\n".join([when, *(f"{as_ranges(keys)} {text}" for text, keys in lines.items())])

    def groups(self) -> dict[str, list[tuple[str, int]]]:
        """Return the instructions by their limits."""
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for (encoding, opcode), row in self.decoder.rows().items():
            if encoding != "VOPD":  # its halves have hardly any: see Decoder._dual
                for after in ("", *sorted(row.variants)):
                    text = self.limits(Case(encoding, opcode, row, after, self.decoder.generation))
                    found[text].append((f"{encoding}+{after}" if after else encoding, opcode))
        return found


def main(targets: list[str]) -> None:
    """Write the limits of the given targets."""
    for target in targets:
        lines = []
        for text, rows in Prober(target).groups().items():
            names = defaultdict(list)
            for encoding, opcode in rows:
                names[encoding].append(opcode)
            parts = (f"{name} {as_ranges(sorted(numbers))}" for name, numbers in names.items())
            lines += [f"rows {' '.join(parts)}", text]
        path = ROOT / "gputrace" / "isa" / "tables" / f"{target}_limits.py"
        body = "\n".join(lines)
        path.write_text(f'"""{HEAD.format(target=target)}"""\n\nLIMITS = """\\\n{body}\n"""\n')


HEAD = """What the fields of the instructions of {target} may hold (read by `gputrace.isa.limits`).

Written by tools/isa_limits.py from the disassemblers of LLVM 19.1 and, for what only that knows,
LLVM 22.1.
"""

if __name__ == "__main__":
    main(sys.argv[1:])
