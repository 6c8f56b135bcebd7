"""Words of memory for all lanes, as functions of the helpers' module: compiled code calls them.

A function checks the addresses, and moves words between memory and vector registers or what takes
their place. Lanes side by side in memory go a short way: one comparison covers them all, since the
ends of their row must lie in the range that the site of the access knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gputrace.isa import jit_layout as rt
from gputrace.isa.jit_access import (
    MOST_WORDS,
    dealt_back,
    joined,
    load_dealt,
    numbers,
    picked,
    places_of,
    spread,
)
from gputrace.isa.jit_words import Words
from gputrace.isa.jit_writer import BlockWriter, Module

PARAMETERS: Final = ("ptr", "ptr", "ptr", "ptr", "i64", "i64", "ptr")
"""Types of a function's parameters.

The context, the site, the lower words of the addresses, the upper words (null: all are 0), what is
to be added to each address, the mask of lanes, and the registers of the data. `whole` addresses are
behind one pointer, the other is ignored. All vectors are aligned to 64 bytes. A function returns 0
or the mask of lanes that fault.
"""
_ROW: Final = 16  # lanes whose words are taken from memory at once
_SPACES: Final = ("read", "write")


def name(words: int, stores: bool, whole: bool) -> str:
    """Return the name of a function."""
    return f"row.{'store' if stores else 'load'}{words}{'.whole' if whole else ''}"


def _all() -> Iterator[tuple[int, bool, bool]]:
    for words in range(1, MOST_WORDS + 1):
        for stores in (False, True):
            for whole in (False, True):
                yield words, stores, whole


def names() -> list[str]:
    """Return the names of all functions."""
    return [name(*which) for which in _all()]


def functions(wave_size: int) -> str:
    """Return all functions for waves of this size."""
    return "\n".join(_Writer(wave_size).text(*which) for which in _all())


class _Writer(BlockWriter):
    def __init__(self, wave_size: int) -> None:
        super().__init__(Module(wave_size, _ROW), "row")
        self._kind, self._bit = f"<{wave_size} x i32>", f"<{wave_size} x i1>"
        self._wide = f"<{wave_size} x i64>"

    def text(self, words: int, stores: bool, whole: bool) -> str:
        """Return one function."""
        self.lines, self._known = [], {}
        listed = ["%context", "%site", "%low", "%high", "%added", "%mask", "%data"]
        given = ", ".join(f"{kind} {arg}" for kind, arg in zip(PARAMETERS, listed, strict=True))
        self.begin("entry")
        self.line(f"%places = alloca {self._wide}, align 64")
        self.line(f"%four = alloca [4 x {self._kind}], align 64")
        self.line("%nobody = icmp eq i64 %mask, 0")
        self.line("br i1 %nobody, label %done, label %some, !prof !0")
        self.begin("some")
        mask = self._lanes()
        address = self._whole() if whole else self._by_words()
        row = _row_of(self, address, mask, words, stores and words > 1)
        self.line(f"br i1 {row.holds}, label %fast, label %slow, !prof !1")
        known = dict(self._known)
        self.begin("fast")
        self._fast(row, mask, words, stores)
        self._known = known
        self.begin("slow")
        self._slow(address, mask, words, stores)
        self.begin("done")
        self.line("ret i64 0")
        body = "\n".join(self.lines)
        return f"define i64 @{name(words, stores, whole)}({given}) #0 {{\n{body}\n}}\n"

    def _lanes(self) -> str:
        raw = "%mask"
        if self.wave_size < 64:
            raw = self.fresh(f"trunc i64 %mask to i{self.wave_size}")
        return self.fresh(f"bitcast i{self.wave_size} {raw} to {self._bit}")

    def _whole(self) -> str:
        return self.fresh(f"load {self._wide}, ptr %low, align 64")

    def _by_words(self) -> Words:
        low = self.fresh(f"load {self._kind}, ptr %low, align 64")
        self.line("%short = icmp eq ptr %high, null")
        self.line("br i1 %short, label %known, label %upper")
        self.begin("upper")
        high = self.fresh(f"load {self._kind}, ptr %high, align 64")
        self.line("br label %known")
        self.begin("known")
        return low, self.fresh(
            f"phi {self._kind} [{high}, %upper], [zeroinitializer, %some]"
        )

    def _register(self, number: int) -> str:
        return self.fresh(f"getelementptr {self._kind}, ptr %data, i64 {number}")

    def _values(self, words: int) -> list[str]:
        places = [self._register(number) for number in range(words)]
        return [self.fresh(f"load {self._kind}, ptr {place}, align 64") for place in places]

    def _put(self, number: int, value: str, mask: str = "") -> None:
        # As `BlockEmitter` does: all of a register, with what stands in other lanes.
        at, kind = self._register(number), self._kind
        if mask:
            old = self.fresh(f"load {kind}, ptr {at}, align 64")
            value = self.fresh(f"select {self._bit} {mask}, {kind} {value}, {kind} {old}")
        self.line(f"store volatile {kind} {value}, ptr {at}, align 64")

    def _changes(self) -> str:
        return self.fresh(f"getelementptr i64, ptr %context, i64 {rt.CHANGES}")

    def _fast(self, row: "Row", mask: str, words: int, stores: bool) -> None:
        at = self.fresh(f"inttoptr i64 {row.host} to ptr")
        if stores:
            _store_row(self, at, mask, self._values(words), self._changes())
        else:
            values = _load_row(self, at, words)
            everybody = self.fresh(f"icmp eq i64 %mask, {(1 << self.wave_size) - 1}")
            self.line(f"br i1 {everybody}, label %all, label %part, !prof !1")
            self.begin("all")
            for number, value in enumerate(values):
                self._put(number, value)
            self.line("ret i64 0")
            self.begin("part")
            for number, value in enumerate(values):
                self._put(number, value, mask)
        self.line("ret i64 0")

    def _slow(self, address: str | Words, mask: str, words: int, stores: bool) -> None:
        if not isinstance(address, str):
            low, high = (
                self.fresh(f"zext {self._kind} {word} to {self._wide}") for word in address
            )
            raised = self.fresh(f"shl {self._wide} {high}, splat (i64 32)")
            address = self.fresh(f"or {self._wide} {raised}, {low}")
        added = spread(self, "i64", "%added", self.wave_size)
        address = self.fresh(f"add {self._wide} {address}, {added}")
        wrong = self.external(
            "i64", "hosts", ("ptr", "%context"), ("ptr", "%site"), ("ptr", "%places"),
            (self._wide, address), ("i64", "%mask"), ("i64", str(4 * words)),
            ("i64", str(int(stores))),
        )  # fmt: skip
        good = self.fresh(f"icmp eq i64 {wrong}, 0")
        self.line(f"br i1 {good}, label %go, label %bad")
        self.begin("bad")
        access = rt.ACCESSES.index(_SPACES[stores]) | 4 * words << 8
        at = self.fresh(f"getelementptr i64, ptr %context, i64 {rt.FAULT_ACCESS}")
        self.line(f"store i64 {access}, ptr {at}")
        self.line(f"ret i64 {wrong}")
        self.begin("go")
        hosts = self.fresh(f"load {self._wide}, ptr %places, align 64")
        if stores:
            self._store_each(hosts, self._values(words))
        else:
            for number, value in enumerate(self._load_each(hosts, words)):
                self._put(number, value, mask)
        self.line("ret i64 0")

    def _behind(self, hosts: str, number: int) -> str:
        if not number:
            return hosts
        return self.fresh(f"add {self._wide} {hosts}, splat (i64 {4 * number})")

    def _load_each(self, hosts: str, words: int) -> list[str]:
        mask, kind = ("i64", "%mask"), self._kind
        if words == MOST_WORDS:  # those of one lane come together
            self.external("void", "load32x4", ("ptr", "%four"), (self._wide, hosts), mask)
            places = [self.fresh(f"getelementptr {kind}, ptr %four, i64 {n}") for n in range(4)]
            return [self.fresh(f"load {kind}, ptr {place}, align 64") for place in places]
        return [
            self.external(kind, "load32", (self._wide, self._behind(hosts, number)), mask)
            for number in range(words)
        ]

    def _store_each(self, hosts: str, values: Sequence[str]) -> None:
        changes = self._changes()
        for number, value in enumerate(values):
            place = self._wide, self._behind(hosts, number)
            args = ("ptr", changes), place, (self._kind, value), ("i64", "%mask")
            self.external("void", "store32", *args)


@dataclass(frozen=True, slots=True)
class Row:
    """Lanes side by side: whether they are, and the address of the first on the host."""

    holds: str
    host: str


def _row_of(
    out: BlockWriter, address: str | Words, mask: str, words: int, whole: bool
) -> Row:
    # Addresses compared with those of a row and its ends with the range that the site knows;
    # `whole` asks for all lanes to be active.
    lanes, size = out.wave_size, 4 * words
    if isinstance(address, str):
        start, apart, straight = _row_of_wholes(out, address, size)
    else:
        start, apart, straight = _row_of_words(out, address, size)
    active = out.inst(f"and <{lanes} x i1> {apart}, {mask}")
    raw = out.inst(f"bitcast <{lanes} x i1> {active} to i{lanes}")
    holds = out.inst(f"and i1 {straight}, {out.inst(f'icmp eq i{lanes} {raw}, 0')}")
    start = out.inst(f"add i64 {start}, %added")
    first, count, distance = (_slot(out, number) for number in range(rt.SITE_SLOTS))
    offset = out.inst(f"sub i64 {start}, {first}")
    last = out.inst(f"add i64 {offset}, {size * (lanes - 1)}")
    for part in (offset, last):
        holds = out.inst(f"and i1 {holds}, {out.inst(f'icmp ult i64 {part}, {count}')}")
    if whole:
        everybody = out.inst(f"icmp eq i64 %mask, {(1 << lanes) - 1}")
        holds = out.inst(f"and i1 {holds}, {everybody}")
    return Row(holds, out.inst(f"add i64 {start}, {distance}"))


def _slot(out: BlockWriter, number: int) -> str:
    at = out.inst(f"getelementptr inbounds i64, ptr %site, i64 {number}")
    return out.inst(f"load i64, ptr {at}")


def _row_of_wholes(out: BlockWriter, address: str, size: int) -> tuple[str, str, str]:
    # The address of the first lane, which lanes are elsewhere, and whether there can be a row.
    kind = f"<{out.wave_size} x i64>"
    start = out.inst(f"extractelement {kind} {address}, i64 0")
    steps = numbers("i64", range(0, size * out.wave_size, size))
    row = out.inst(f"add {kind} {spread(out, 'i64', start, out.wave_size)}, {steps}")
    return start, out.inst(f"icmp ne {kind} {address}, {row}"), "true"


def _row_of_words(out: BlockWriter, address: Words, size: int) -> tuple[str, str, str]:
    # The same: rows have one upper word.
    lanes = out.wave_size
    kind = f"<{lanes} x i32>"
    low, high = (out.inst(f"extractelement {kind} {word}, i64 0") for word in address)
    steps = numbers("i32", range(0, size * lanes, size))
    row = out.inst(f"add {kind} {spread(out, 'i32', low, lanes)}, {steps}")
    off = out.inst(f"xor {kind} {address[0]}, {row}")
    other = out.inst(f"xor {kind} {address[1]}, {spread(out, 'i32', high, lanes)}")
    both = out.inst(f"or {kind} {off}, {other}")
    raised = out.inst(f"shl i64 {out.inst(f'zext i32 {high} to i64')}, 32")
    start = out.inst(f"or i64 {raised}, {out.inst(f'zext i32 {low} to i64')}")
    most = (1 << 32) - 1 - size * (lanes - 1)
    straight = out.inst(f"icmp ule i32 {low}, {most}")
    return start, out.inst(f"icmp ne {kind} {both}, zeroinitializer"), straight


def _load_row(out: BlockWriter, at: str, words: int) -> list[str]:
    # So many words for each lane of a row: all of the row, which lies in the range.
    lanes = out.wave_size
    if words == 1:
        return [out.fresh(f"load <{lanes} x i32>, ptr {at}, align 1")]
    places = places_of(out, at, words * _ROW, lanes // _ROW)
    parts = [load_dealt(out, place, _ROW, words) for place in places]
    return [joined(out, "i32", found, _ROW) for found in zip(*parts, strict=True)]


def _store_row(
    out: BlockWriter, at: str, mask: str, values: Sequence[str], changes: str
) -> None:
    # Words of each lane; `changes` points at a count of stores that mattered.
    lanes, words = out.wave_size, len(values)
    kind, bit = f"<{lanes} x i32>", f"<{lanes} x i1>"
    if words == 1:
        old = out.fresh(f"load {kind}, ptr {at}, align 1")
        differs = out.fresh(f"icmp ne {kind} {old}, {values[0]}")
        raw = out.fresh(f"bitcast {bit} {out.fresh(f'and {bit} {differs}, {mask}')} to i{lanes}")
        _count(out, f"i{lanes}", raw, changes)
        name = f"llvm.masked.store.v{lanes}i32.p0"
        out.external("void", name, (kind, values[0]), ("ptr", at), ("i32", "1"), (bit, mask))
        return
    kind, changed = f"<{_ROW} x i32>", "zeroinitializer"
    for number, start in enumerate(places_of(out, at, words * _ROW, lanes // _ROW)):
        chosen = range(number * _ROW, (number + 1) * _ROW)
        blocks = dealt_back(out, [picked(out, "i32", v, lanes, chosen) for v in values], _ROW)
        for place, block in zip(places_of(out, start, _ROW, words), blocks, strict=True):
            old = out.fresh(f"load {kind}, ptr {place}, align 1")
            changed = out.fresh(f"or {kind} {changed}, {out.fresh(f'xor {kind} {old}, {block}')}")
            out.line(f"store {kind} {block}, ptr {place}, align 1")
    some = out.fresh(f"icmp ne {kind} {changed}, zeroinitializer")
    _count(out, f"i{_ROW}", out.fresh(f"bitcast <{_ROW} x i1> {some} to i{_ROW}"), changes)


def _count(out: BlockWriter, kind: str, raw: str, changes: str) -> None:
    some = out.fresh(f"icmp ne {kind} {raw}, 0")
    before = out.fresh(f"load i64, ptr {changes}")
    after = out.fresh(f"add i64 {before}, {out.fresh(f'zext i1 {some} to i64')}")
    out.line(f"store i64 {after}, ptr {changes}")
