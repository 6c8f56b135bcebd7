"""Short ways through memory instructions, found in their graphs and written in front of the general
way: lanes side by side in memory, and lanes of LDS that keep within a few words of each other.

Every access is still checked: a short way is taken only when one comparison covers all lanes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gputrace.isa.graph import U32, Graph, Node
from gputrace.isa.jit_words import Words

_ROW = 16  # lanes whose words are taken from memory at once
_MOST_WORDS = 4  # of one lane in memory that a short way exists for


@dataclass(frozen=True, slots=True)
class Access:
    """Loads or stores of one instruction with one address: `offsets` are those of `nodes`.

    `root` is the common address (what `check` gives, or an address of LDS).
    """

    root: Node
    mask: Node
    nodes: tuple[Node, ...]
    offsets: tuple[int, ...]
    covered: frozenset[int]
    """Indexes of the nodes that need no code of their own."""

    @property
    def wide(self) -> bool:
        """Whether these are several words of each lane in order and without gaps."""
        first, count = self.offsets[0], len(self.offsets)
        return count > 1 and self.offsets == tuple(range(first, first + 4 * count, 4))

    @property
    def stores(self) -> bool:
        """Whether the accesses are stores."""
        return self.nodes[0].prim == "store"


def _split(place: Node) -> tuple[Node, int]:
    # (common address, offset) of a place.
    if place.prim == "add" and place.args[1].prim == "splat":
        number = place.args[1].args[0]
        if number.prim == "const" and isinstance(number.attribute, int):
            return place.args[0], number.attribute
    return place, 0


def find_accesses(graph: Graph) -> dict[int, Access]:
    """Return the accesses of an instruction that have a short way, by the node to emit them at."""
    groups: dict[tuple[int, int, str], list[tuple[Node, int]]] = {}
    for node in graph.nodes:
        if node.prim not in ("load", "store") or (not node.lanes and node.prim == "load"):
            continue
        root, offset = _split(node.args[0])
        if root.lanes:
            key = root.index, node.args[-1].index, node.prim
            groups.setdefault(key, []).append((node, offset))
    found = {}
    for (start, mask, _), members in groups.items():
        access = _memory(graph, start, mask, members) or _lds(graph, start, mask, members)
        if access is not None:
            first = access.root if access.root.prim == "check" else access.nodes[0]
            found[first.index] = access
    return found


def _data_type(node: Node) -> object:
    return node.type if node.prim == "load" else node.args[1].type


def _memory(
    graph: Graph, root: int, mask: int, members: Sequence[tuple[Node, int]]
) -> Access | None:
    # All words of one check, in order and without gaps.
    check = graph.nodes[root]
    nodes = tuple(node for node, _ in members)
    offsets = tuple(offset for _, offset in members)
    if check.prim != "check" or check.args[1].index != mask or len(nodes) > _MOST_WORDS:
        return None
    assert isinstance(check.attribute, tuple)
    if offsets != tuple(range(0, 4 * len(nodes), 4)) or check.attribute[1] != 4 * len(nodes):
        return None
    if any(_data_type(node) != U32 or node.attribute != "global" for node in nodes):
        return None
    places = {node.args[0].index for node in nodes} - {root}
    users = {node.index for node in graph.nodes if any(arg.index == root for arg in node.args)}
    if users - places - {node.index for node in nodes}:
        return None
    if any(node.prim == "store" and node.args[1].index > root for node in nodes):
        return None
    covered = frozenset(places | {node.index for node in nodes} | {root})
    return Access(check, check.args[1], nodes, offsets, covered)


def _lds(
    graph: Graph, root: int, mask: int, members: Sequence[tuple[Node, int]]
) -> Access | None:
    nodes = tuple(node for node, _ in members)
    if any(node.attribute != "lds" or _data_type(node) != U32 for node in nodes):
        return None
    first = nodes[0].index
    if any(node.prim == "store" and node.args[1].index > first for node in nodes):
        return None
    if any(node.args[0].index > first and node.args[0].prim != "add" for node in nodes):
        return None
    offsets = tuple(offset for _, offset in members)
    if max(offsets) >= 1 << 20:
        return None
    covered = frozenset(node.index for node in nodes)
    return Access(graph.nodes[root], graph.nodes[mask], nodes, offsets, covered)


class Lines(Protocol):
    """What the short ways need of the block that they are written into."""

    wave_size: int

    def inst(self, text: str) -> str:
        """Append an instruction without effects; an equal one is used again."""

    def fresh(self, text: str) -> str:
        """Append an instruction in any case."""

    def line(self, text: str) -> None:
        """Append an instruction that has no value."""

    def external(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call of a declared function."""

    def call(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call of a declared function without effects; an equal one is used again."""

    def bits(self, mask: str) -> str:
        """Return a lane mask as i64."""


def _spread(out: Lines, kind: str, value: str, lanes: int) -> str:
    many = f"<{lanes} x {kind}>"
    first = out.inst(f"insertelement {many} poison, {kind} {value}, i64 0")
    return out.inst(
        f"shufflevector {many} {first}, {many} poison, <{lanes} x i32> zeroinitializer"
    )


def _numbers(kind: str, values: Sequence[int]) -> str:
    return "<" + ", ".join(f"{kind} {value}" for value in values) + ">"


def picked(out: Lines, kind: str, value: str, lanes: int, chosen: Sequence[int]) -> str:
    """Return some of the lanes of a vector."""
    many, index = f"<{lanes} x {kind}>", _numbers("i32", chosen)
    return out.inst(
        f"shufflevector {many} {value}, {many} poison, <{len(chosen)} x i32> {index}"
    )


def joined(out: Lines, kind: str, parts: Sequence[str], lanes: int) -> str:
    """Put vectors of `lanes` lanes behind each other; their number is a power of two."""
    values = list(parts)
    while len(values) > 1:
        index = _numbers("i32", range(2 * lanes))
        values = [
            out.inst(
                f"shufflevector <{lanes} x {kind}> {low}, <{lanes} x {kind}> {high},"
                f" <{2 * lanes} x i32> {index}"
            )
            for low, high in zip(values[::2], values[1::2], strict=True)
        ]
        lanes *= 2
    return values[0]


# --- memory: all lanes side by side


@dataclass(frozen=True, slots=True)
class Row:
    """Lanes side by side: whether they are, and the address of the first on the host."""

    holds: str
    host: str


def row_of(
    out: Lines,
    address: str | Words,
    mask: str,
    words: int,
    slots: Sequence[str],
    whole: bool,
    added: Sequence[str],
) -> Row:
    """Compare addresses with those of a row and its ends with a known range.

    `slots` are first, count and distance of the site; `whole` asks for all lanes to be active;
    `added` is to be added to each address.
    """
    lanes, size = out.wave_size, 4 * words
    if isinstance(address, str):
        start, apart, straight = _row_of_wholes(out, address, size)
    else:
        start, apart, straight = _row_of_words(out, address, size)
    active = out.inst(f"and <{lanes} x i1> {apart}, {mask}")
    raw = out.inst(f"bitcast <{lanes} x i1> {active} to i{lanes}")
    holds = out.inst(f"and i1 {straight}, {out.inst(f'icmp eq i{lanes} {raw}, 0')}")
    for value in added:
        start = out.inst(f"add i64 {start}, {value}")
    first, count, distance = slots
    offset = out.fresh(f"sub i64 {start}, {first}")
    last = out.fresh(f"add i64 {offset}, {size * (lanes - 1)}")
    for part in (offset, last):
        inside = out.fresh(f"icmp ult i64 {part}, {count}")
        holds = out.fresh(f"and i1 {holds}, {inside}")
    if whole:
        everybody = out.inst(f"icmp eq i64 {out.bits(mask)}, {(1 << lanes) - 1}")
        holds = out.fresh(f"and i1 {holds}, {everybody}")
    return Row(holds, out.fresh(f"add i64 {start}, {distance}"))


def _row_of_wholes(out: Lines, address: str, size: int) -> tuple[str, str, str]:
    # The address of the first lane, which lanes are elsewhere, and whether there can be a row.
    kind = f"<{out.wave_size} x i64>"
    start = out.inst(f"extractelement {kind} {address}, i64 0")
    steps = _numbers("i64", range(0, size * out.wave_size, size))
    row = out.inst(f"add {kind} {_spread(out, 'i64', start, out.wave_size)}, {steps}")
    return start, out.inst(f"icmp ne {kind} {address}, {row}"), "true"


def _row_of_words(out: Lines, address: Words, size: int) -> tuple[str, str, str]:
    # The same: rows have one upper word.
    lanes = out.wave_size
    kind, bit = f"<{lanes} x i32>", f"<{lanes} x i1>"
    low, high = (out.inst(f"extractelement {kind} {word}, i64 0") for word in address)
    steps = _numbers("i32", range(0, size * lanes, size))
    row = out.inst(f"add {kind} {_spread(out, 'i32', low, lanes)}, {steps}")
    off = out.inst(f"icmp ne {kind} {address[0]}, {row}")
    other = out.inst(f"icmp ne {kind} {address[1]}, {_spread(out, 'i32', high, lanes)}")
    raised = out.inst(f"shl i64 {out.inst(f'zext i32 {high} to i64')}, 32")
    start = out.inst(f"or i64 {raised}, {out.inst(f'zext i32 {low} to i64')}")
    most = (1 << 32) - 1 - size * (lanes - 1)
    straight = out.inst(f"icmp ule i32 {low}, {most}")
    return start, out.inst(f"or {bit} {off}, {other}"), straight


def load_row(out: Lines, host: str, mask: str, words: int) -> list[str]:
    """Load so many words for each lane of a row."""
    lanes = out.wave_size
    at = out.fresh(f"inttoptr i64 {host} to ptr")
    if words == 1:
        kind = f"<{lanes} x i32>"
        name = f"llvm.masked.load.v{lanes}i32.p0"
        args = [("ptr", at), ("i32", "1"), (f"<{lanes} x i1>", mask), (kind, "zeroinitializer")]
        return [out.external(kind, name, *args)]
    places = _places(out, at, words * _ROW, lanes // _ROW)
    parts = [_load_dealt(out, place, _ROW, words) for place in places]
    return [joined(out, "i32", found, _ROW) for found in zip(*parts, strict=True)]


def store_row(out: Lines, host: str, mask: str, values: Sequence[str], changes: str) -> None:
    """Store words of each lane of a row; `changes` points at a count of stores that mattered."""
    lanes, words = out.wave_size, len(values)
    at = out.fresh(f"inttoptr i64 {host} to ptr")
    if words == 1:
        kind, bit = f"<{lanes} x i32>", f"<{lanes} x i1>"
        tail = [(bit, mask), (kind, "zeroinitializer")]
        name = f"llvm.masked.load.v{lanes}i32.p0"
        old = out.external(kind, name, ("ptr", at), ("i32", "1"), *tail)
        differs = out.fresh(f"icmp ne {kind} {old}, {values[0]}")
        raw = out.fresh(f"bitcast {bit} {out.fresh(f'and {bit} {differs}, {mask}')} to i{lanes}")
        _count(out, f"i{lanes}", raw, changes)
        name = f"llvm.masked.store.v{lanes}i32.p0"
        out.external("void", name, (kind, values[0]), ("ptr", at), ("i32", "1"), (bit, mask))
        return
    kind, changed = f"<{_ROW} x i32>", "zeroinitializer"
    for number, start in enumerate(_places(out, at, words * _ROW, lanes // _ROW)):
        chosen = range(number * _ROW, (number + 1) * _ROW)
        blocks = _dealt_back(out, [picked(out, "i32", v, lanes, chosen) for v in values], _ROW)
        for place, block in zip(_places(out, start, _ROW, words), blocks, strict=True):
            old = out.fresh(f"load {kind}, ptr {place}, align 1")
            changed = out.fresh(f"or {kind} {changed}, {out.fresh(f'xor {kind} {old}, {block}')}")
            out.line(f"store {kind} {block}, ptr {place}, align 1")
    some = out.fresh(f"icmp ne {kind} {changed}, zeroinitializer")
    _count(out, f"i{_ROW}", out.fresh(f"bitcast <{_ROW} x i1> {some} to i{_ROW}"), changes)


def _count(out: Lines, kind: str, raw: str, changes: str) -> None:
    some = out.fresh(f"icmp ne {kind} {raw}, 0")
    before = out.fresh(f"load i64, ptr {changes}")
    after = out.fresh(f"add i64 {before}, {out.fresh(f'zext i1 {some} to i64')}")
    out.line(f"store i64 {after}, ptr {changes}")


# --- the words of a few lanes: from one vector of some lanes after another to one for each word


def _two(out: Lines, pair: Sequence[str], width: int, index: Sequence[int]) -> str:
    one, other = pair
    part, picked = f"<{width} x i32>", _numbers("i32", index)
    return out.inst(f"shufflevector {part} {one}, {part} {other}, {part} {picked}")


def _any(out: Lines, sources: Sequence[str], width: int, places: Sequence[int]) -> str:
    # Element i is number places[i] of all sources behind each other.
    found = sources[0]
    for low in range(width, len(sources) * width, width):
        index = [
            (at if low == width else i) if at < low else at - low + width if at < low + width else 0
            for i, at in enumerate(places)
        ]
        found = _two(out, (found, sources[low // width]), width, index)
    return found


def _places(out: Lines, at: str, width: int, count: int) -> list[str]:
    # Where vectors behind each other lie.
    return [out.inst(f"getelementptr i8, ptr {at}, i64 {4 * width * n}") for n in range(count)]


def _load_dealt(out: Lines, at: str, width: int, words: int) -> list[str]:
    # Words of lanes side by side: a vector for each word.
    kind, half = f"<{width} x i32>", width // 2
    blocks = [
        out.fresh(f"load {kind}, ptr {place}, align 1") for place in _places(out, at, width, words)
    ]
    if words != 4:
        return [_any(out, blocks, width, range(k, words * width, words)) for k in range(words)]
    found = []
    for k in (0, 2):
        index = [*range(k, 2 * width, 4), *range(k + 1, 2 * width, 4)]
        halves = [_two(out, blocks[n : n + 2], width, index) for n in (0, 2)]
        for n in (0, half):
            ends = [*range(n, n + half), *range(width + n, width + n + half)]
            found.append(_two(out, halves, width, ends))
    return found


def _dealt_back(out: Lines, values: Sequence[str], width: int) -> list[str]:
    # The opposite: vectors as they lie in memory.
    words, half = len(values), width // 2
    if words != 4:
        order = [lane + width * word for lane in range(width) for word in range(words)]
        return [_any(out, values, width, order[n : n + width]) for n in range(0, len(order), width)]
    found = []
    for low in (0, half):
        index = [i + j for i in range(low, low + half) for j in (0, width)]
        pairs = [_two(out, values[n : n + 2], width, index) for n in (0, 2)]
        for k in (0, half):
            ends = [i + j + n for i in range(k, k + half, 2) for j in (0, width) for n in (0, 1)]
            found.append(_two(out, pairs, width, ends))
    return found


# --- LDS: the lanes of one host vector within the words of one


@dataclass(frozen=True, slots=True)
class Near:
    """Whether each vector's lanes keep together; places and word numbers of each vector."""

    holds: str
    starts: tuple[str, ...]
    words: str


def near_lanes(out: Lines, address: str, mask: str, last: int, width: int, step: int) -> Near:
    """Compare LDS addresses: all within `width` words of the first lane of their vector.

    `last` is the greatest offset that is added to them; a `step` asks for lanes side by side, so
    many words apart, and all of them active when these are more than one.
    """
    lanes = out.wave_size
    kind, bit = f"<{lanes} x i32>", f"<{lanes} x i1>"
    heads = [lane - lane % width for lane in range(lanes)]
    first = picked(out, "i32", address, lanes, heads)
    distance = out.inst(f"sub {kind} {address}, {first}")
    two = "splat (i32 2)"
    words = out.call(
        kind, f"llvm.fshr.v{lanes}i32", (kind, distance), (kind, distance), (kind, two)
    )
    if step:
        wanted = _numbers("i32", [lane % width * step for lane in range(lanes)])
        far = out.inst(f"icmp ne {kind} {words}, {wanted}")
    else:
        far = out.inst(f"icmp ugt {kind} {words}, splat (i32 {width - 1})")
    raw = out.inst(f"bitcast {bit} {out.inst(f'and {bit} {far}, {mask}')} to i{lanes}")
    near = out.inst(f"icmp eq i{lanes} {raw}, 0")
    leads = _numbers("i1", [int(lane % width == 0) for lane in range(lanes)])
    counted = out.inst(f"or {bit} {mask}, {leads}")
    kept = out.inst(f"select {bit} {counted}, {kind} {address}, {kind} zeroinitializer")
    top = out.call("i32", f"llvm.vector.reduce.umax.v{lanes}i32", (kind, kept))
    end = out.inst(f"add i64 {out.inst(f'zext i32 {top} to i64')}, {last + 4}")
    inside = out.inst(f"icmp ule i64 {end}, %lds.size")
    starts = []
    for head in range(0, lanes, width):
        start = out.inst(f"extractelement {kind} {address}, i64 {head}")
        starts.append(out.inst(f"zext i32 {start} to i64"))
    holds = out.inst(f"and i1 {near}, {inside}")
    if step > 1:
        everybody = out.inst(f"icmp eq i64 {out.bits(mask)}, {(1 << lanes) - 1}")
        holds = out.inst(f"and i1 {holds}, {everybody}")
    return Near(holds, tuple(starts), words)


def _near_place(out: Lines, start: str, offset: int) -> str:
    at = out.inst(f"add i64 {start}, {offset}") if offset else start
    return out.inst(f"getelementptr i8, ptr %lds, i64 {at}")


def load_near(out: Lines, near: Near, offset: int, width: int) -> str:
    """Load one word for each lane; LDS has a vector's bytes to spare behind its end."""
    lanes, part = out.wave_size, f"<{width} x i32>"
    name = "llvm.x86.avx512.permvar.si.512" if width == 16 else "llvm.x86.avx2.permd"
    parts = []
    for number, start in enumerate(near.starts):
        head = number * width
        words = picked(out, "i32", near.words, lanes, range(head, head + width))
        at = _near_place(out, start, offset)
        row = out.fresh(f"load {part}, ptr {at}, align 1")
        parts.append(out.external(part, name, (part, row), (part, words)))
    return joined(out, "i32", parts, width)


def store_near(out: Lines, near: Near, offset: int, width: int, value: str, mask: str) -> None:
    """Store one word of each active lane; the lanes of each vector are side by side."""
    lanes, part = out.wave_size, f"<{width} x i32>"
    for number, start in enumerate(near.starts):
        chosen = range(number * width, (number + 1) * width)
        words = picked(out, "i32", value, lanes, chosen)
        active = picked(out, "i1", mask, lanes, chosen)
        at = _near_place(out, start, offset)
        out.external(
            "void", f"llvm.masked.store.v{width}i32.p0",
            (part, words), ("ptr", at), ("i32", "1"), (f"<{width} x i1>", active),
        )  # fmt: skip


def load_side_by_side(out: Lines, near: Near, offset: int, width: int, words: int) -> list[str]:
    """Load so many words for each lane; those of each vector of lanes are side by side."""
    parts = [
        _load_dealt(out, _near_place(out, start, offset), width, words) for start in near.starts
    ]
    return [joined(out, "i32", found, width) for found in zip(*parts, strict=True)]


def store_side_by_side(
    out: Lines, near: Near, offset: int, width: int, values: Sequence[str]
) -> None:
    """Store words of each lane; those of each vector of lanes are side by side."""
    for number, start in enumerate(near.starts):
        chosen = range(number * width, (number + 1) * width)
        parts = [picked(out, "i32", value, out.wave_size, chosen) for value in values]
        places = _places(out, _near_place(out, start, offset), width, len(values))
        for place, block in zip(places, _dealt_back(out, parts, width), strict=True):
            out.line(f"store <{width} x i32> {block}, ptr {place}, align 1")
