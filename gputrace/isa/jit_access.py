"""What memory instructions do most, found in their graphs: words at one address for each lane.

Those of memory are left to functions (`jit_rows`). Those of LDS get short ways in front of the
general one, for lanes that keep within a few words of each other: every access is still checked,
and a short way is taken only when one comparison covers all lanes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gputrace.isa.graph import U32, Graph, Node
from gputrace.isa.jit_exact import is_active
from gputrace.isa.primitives import PRIMS

MOST_WORDS = 4
"""Words of one lane in memory that there are functions for."""


@dataclass(frozen=True, slots=True)
class Access:
    """Loads or stores of one instruction with one address: `offsets` are those of `nodes`.

    `root` is the common address (what `check` gives, or an address of LDS).
    """

    root: Node
    mask: Node
    nodes: tuple[Node, ...]
    offsets: tuple[int, ...]
    sources: tuple[Node, ...]
    """Nodes that its own code begins with."""
    covered: frozenset[int]
    """Indexes of the nodes that need no code of their own."""
    registers: int | None = None
    """The first vector register of those that are all that is loaded or stored, in memory."""

    @property
    def wide(self) -> bool:
        """Whether these are several words of each lane in order and without gaps."""
        first, count = self.offsets[0], len(self.offsets)
        return count > 1 and self.offsets == tuple(range(first, first + 4 * count, 4))

    @property
    def stores(self) -> bool:
        """Whether the accesses are stores."""
        return self.nodes[0].prim == "store"

    @property
    def values(self) -> tuple[Node, ...]:
        """What is stored."""
        return tuple(node.args[1] for node in self.nodes if node.prim == "store")


@dataclass(frozen=True, slots=True)
class Address:
    """A checked address in parts: that of each lane, and what is added to those of all lanes.

    `words` are the vector registers of the lanes' part, None for upper words that are all 0.
    """

    lanes: Node
    added: tuple[Node, ...]
    words: tuple[int, int | None] | None

    @classmethod
    def of(cls, place: Node) -> "Address":
        """Take an address apart: accesses differ in what is the same for all lanes more often."""
        added = []
        while place.prim == "add":
            left, right = place.args
            if right.prim == "splat":
                place, other = left, right
            elif left.prim == "splat":
                place, other = right, left
            else:
                break
            added.append(other.args[0])
        return cls(place, tuple(added), _words(place))


def _words(place: Node) -> tuple[int, int | None] | None:
    # The registers that an address is in.
    if place.prim == "zext":
        low = _register(place.args[0])
        return None if low is None else (low, None)
    if place.prim != "or" or place.args[0].prim != "zext" or place.args[1].prim != "shl":
        return None
    raised, amount = place.args[1].args
    if raised.prim != "zext" or amount.prim != "splat" or amount.args[0].attribute != 32:
        return None
    low, high = (_register(word.args[0]) for word in (place.args[0], raised))
    return None if low is None or high is None else (low, high)


def _register(node: Node) -> int | None:
    found = node.attribute if node.prim == "get_vector" else None
    return found if isinstance(found, int) else None


def _split(place: Node) -> tuple[Node, int]:
    # (common address, offset) of a place.
    if place.prim == "add" and place.args[1].prim == "splat":
        number = place.args[1].args[0]
        if number.prim == "const" and isinstance(number.attribute, int):
            return place.args[0], number.attribute
    return place, 0


def find_accesses(graph: Graph, wave_size: int) -> dict[int, Access]:
    """Return the accesses of an instruction that have a way of their own.

    They go by the index of the node to emit them at.
    """
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
    for index, access in found.items() if len(found) == 1 else ():
        if access.root.prim == "check":
            found[index] = _in_registers(graph, access, wave_size)
    return found


def needed(graph: Graph, accesses: dict[int, Access]) -> set[int]:
    """Return the indexes of all nodes that need code, with those where accesses are emitted."""
    covered = frozenset[int]().union(*(access.covered for access in accesses.values()))
    waiting = [
        node
        for node in graph.nodes
        if PRIMS[node.prim].effect
        and node.prim not in ("get_scalar", "get_vector")
        and node.index not in covered
    ]
    found = set(accesses)
    for access in accesses.values():
        waiting += access.sources
    while waiting:
        node = waiting.pop()
        if node.index not in found and node.index not in covered:
            found.add(node.index)
            waiting += node.args
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
    if check.prim != "check" or check.args[1].index != mask or len(nodes) > MOST_WORDS:
        return None
    wanted = "read" if nodes[0].prim == "load" else "write", 4 * len(nodes)
    if offsets != tuple(range(0, 4 * len(nodes), 4)) or check.attribute != wanted:
        return None
    if any(_data_type(node) != U32 or node.attribute != "global" for node in nodes):
        return None
    places = {node.args[0].index for node in nodes} - {root}
    users = {node.index for node in graph.nodes if any(arg.index == root for arg in node.args)}
    if users - places - {node.index for node in nodes}:
        return None
    if any(node.prim == "store" and node.args[1].index > root for node in nodes):
        return None
    covered = frozenset(places | {node.index for node in nodes})
    address = Address.of(check.args[0])
    sources = [check.args[1], *address.added]
    if address.words is None:
        sources.append(address.lanes)
    values = (node.args[1] for node in nodes if node.prim == "store")
    return Access(check, check.args[1], nodes, offsets, (*sources, *values), covered)


def _in_registers(graph: Graph, access: Access, wave_size: int) -> Access:
    # An access that is all that an instruction does with vector registers, if it is that.
    if access.stores:
        given, taken = access.values, frozenset[int]()
    else:
        given = tuple(node for node in graph.nodes if node.prim == "put_vector")
        taken = frozenset(node.index for node in given)
        if [node.args[0] for node in given] != list(access.nodes):
            return access
        others = [node for node in graph.nodes if node.index not in access.covered | taken]
        if any(arg in access.nodes for node in others for arg in node.args):
            return access
        if any(node.prim == "get_vector" and node.index > access.root.index for node in others):
            return access
        if any(node.prim in ("put_scalar", "put_vector_at") for node in others):
            return access
        if not all(_same_mask(node.args[1], access.mask, wave_size) for node in given):
            return access
    numbers = [node.attribute for node in given if node.prim in ("put_vector", "get_vector")]
    first = numbers[0] if numbers else None
    if not isinstance(first, int) or numbers != list(range(first, first + len(access.nodes))):
        return access
    sources = tuple(node for node in access.sources if not (access.stores and node in given))
    return replace(access, registers=first, sources=sources, covered=access.covered | taken)


def _same_mask(one: Node, other: Node, wave_size: int) -> bool:
    return one is other or (is_active(one, wave_size) and is_active(other, wave_size))


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
    values = (node.args[1] for node in nodes if node.prim == "store")
    sources = graph.nodes[mask], graph.nodes[root], *values
    return Access(graph.nodes[root], graph.nodes[mask], nodes, offsets, sources, covered)


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


def spread(out: Lines, kind: str, value: str, lanes: int) -> str:
    """Give each of some lanes the same value."""
    many = f"<{lanes} x {kind}>"
    first = out.inst(f"insertelement {many} poison, {kind} {value}, i64 0")
    return out.inst(
        f"shufflevector {many} {first}, {many} poison, <{lanes} x i32> zeroinitializer"
    )


def numbers(kind: str, values: Sequence[int]) -> str:
    """Return a vector of constants."""
    return "<" + ", ".join(f"{kind} {value}" for value in values) + ">"


def picked(out: Lines, kind: str, value: str, lanes: int, chosen: Sequence[int]) -> str:
    """Return some of the lanes of a vector."""
    many, index = f"<{lanes} x {kind}>", numbers("i32", chosen)
    return out.inst(
        f"shufflevector {many} {value}, {many} poison, <{len(chosen)} x i32> {index}"
    )


def joined(out: Lines, kind: str, parts: Sequence[str], lanes: int) -> str:
    """Put vectors of `lanes` lanes behind each other; their number is a power of two."""
    values = list(parts)
    while len(values) > 1:
        index = numbers("i32", range(2 * lanes))
        values = [
            out.inst(
                f"shufflevector <{lanes} x {kind}> {low}, <{lanes} x {kind}> {high},"
                f" <{2 * lanes} x i32> {index}"
            )
            for low, high in zip(values[::2], values[1::2], strict=True)
        ]
        lanes *= 2
    return values[0]


# --- the words of a few lanes: from one vector of some lanes after another to one for each word


def _two(out: Lines, pair: Sequence[str], width: int, index: Sequence[int]) -> str:
    one, other = pair
    part, picked = f"<{width} x i32>", numbers("i32", index)
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


def places_of(out: Lines, at: str, width: int, count: int) -> list[str]:
    """Return where vectors behind each other lie."""
    return [out.inst(f"getelementptr i8, ptr {at}, i64 {4 * width * n}") for n in range(count)]


def load_dealt(out: Lines, at: str, width: int, words: int) -> list[str]:
    """Load words of lanes side by side: a vector for each word."""
    kind, half = f"<{width} x i32>", width // 2
    places = places_of(out, at, width, words)
    blocks = [out.fresh(f"load {kind}, ptr {place}, align 1") for place in places]
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


def dealt_back(out: Lines, values: Sequence[str], width: int) -> list[str]:
    """Return vectors as they lie in memory, given one for each word."""
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
        wanted = numbers("i32", [lane % width * step for lane in range(lanes)])
        far = out.inst(f"icmp ne {kind} {words}, {wanted}")
    else:
        far = out.inst(f"icmp ugt {kind} {words}, splat (i32 {width - 1})")
    raw = out.inst(f"bitcast {bit} {out.inst(f'and {bit} {far}, {mask}')} to i{lanes}")
    near = out.inst(f"icmp eq i{lanes} {raw}, 0")
    leads = numbers("i1", [int(lane % width == 0) for lane in range(lanes)])
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
        load_dealt(out, _near_place(out, start, offset), width, words) for start in near.starts
    ]
    return [joined(out, "i32", found, width) for found in zip(*parts, strict=True)]


def store_side_by_side(
    out: Lines, near: Near, offset: int, width: int, values: Sequence[str]
) -> None:
    """Store words of each lane; those of each vector of lanes are side by side."""
    for number, start in enumerate(near.starts):
        chosen = range(number * width, (number + 1) * width)
        parts = [picked(out, "i32", value, out.wave_size, chosen) for value in values]
        places = places_of(out, _near_place(out, start, offset), width, len(values))
        for place, block in zip(places, dealt_back(out, parts, width), strict=True):
            out.line(f"store <{width} x i32> {block}, ptr {place}, align 1")
