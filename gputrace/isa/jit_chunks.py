"""Long computations of one instruction as functions of a few lanes, called for all of them.

What an instruction computes lane by lane from registers is the same for each few lanes: as a
function it is a part of the code to compile, equal instructions share it, and its values stay in
the processor's registers where those of a whole wave would not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gputrace.isa.graph import I1, Graph, Node
from gputrace.isa.jit_access import joined, picked
from gputrace.isa.jit_words import WordWriter
from gputrace.isa.jit_writer import BlockWriter, Module
from gputrace.isa.primitives import PRIMS

LANES = 16
"""Lanes of a function: the words of the widest vectors of processors."""
_FEWEST = 12  # nodes that are looked at closer
_SHORTEST = 70  # lines of a function that is worth its calls ...
_EACH = 5  # ... and for each value that goes in or out

_OTHERS = frozenset((
    "const", "splat", "ballot", "lane_mask", "lane_id", "lane_values", "permute", "scatter",
    "read_lane", "write_lane", "exp2", "log2", "sin", "cos",
))  # fmt: skip
"""Primitives without effects that are not computed lane by lane, or by calls already."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Nodes that a function computes; `inputs` and `outputs` are what goes in and comes out."""

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]


def _alone(node: Node) -> bool:
    # Whether a node's lanes depend on nothing but the same lanes of its arguments.
    return node.lanes and node.prim not in _OTHERS and not PRIMS[node.prim].effect


def steps(graph: Graph) -> Sequence[Node | Piece]:
    """Return all nodes but the last in an order in which long computations are in pieces."""
    nodes = graph.nodes[:-1]
    if sum(map(_alone, nodes)) < _FEWEST:
        return nodes
    # Stages: other nodes that need no piece, those pieces, nodes that need these, and so on.
    stages: dict[int, int] = {}
    effects = 0
    for node in nodes:
        alone = _alone(node)
        stage = max(
            (stages[arg.index] + (_alone(arg) and not alone) for arg in node.args), default=0
        )
        if PRIMS[node.prim].effect:
            stage = effects = max(stage, effects)
        stages[node.index] = stage
    found: list[Node | Piece] = []
    for stage in range(max(stages.values()) + 1):
        members = [node for node in nodes if stages[node.index] == stage]
        found += [node for node in members if not _alone(node)]
        pieces = [node for node in members if _alone(node)]
        if len(pieces) < _FEWEST:
            found += pieces
        else:
            found.append(_piece(pieces, graph))
    return found


def _piece(nodes: Sequence[Node], graph: Graph) -> Piece:
    inside = {node.index for node in nodes}
    inputs: dict[int, Node] = {}
    for node in nodes:
        for arg in node.args:
            source = arg.args[0] if arg.prim == "splat" else arg
            if arg.index not in inside and source.prim != "const":
                inputs[source.index] = source
    used = {
        arg.index for node in graph.nodes if node.index not in inside for arg in node.args
    }
    outputs = tuple(node for node in nodes if node.index in used)
    return Piece(tuple(nodes), tuple(inputs.values()), outputs)


class _Function(WordWriter):
    """Writes the function of a piece; names in it are its own, so that equal ones are equal."""

    def __init__(self, region: Module) -> None:
        super().__init__(region, "few")
        self.wave_size = LANES
        self.quiets: set[int] = set()
        """Bits of the NaNs that it is given."""

    def fresh(self, text: str) -> str:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def quiet(self, node: Node) -> str:
        self.quiets.add(node.type.bits)
        return super().quiet(node)

    def body(self, piece: Piece) -> None:
        names = {
            node.index: self._opened(node, f"%a{number}")
            for number, node in enumerate(piece.inputs)
        }
        for node in piece.nodes:
            for arg in node.args:
                if arg.index not in names:
                    names.setdefault(arg.args[0].index, "")
                    names[arg.index] = self.pure(arg, names)
            names[node.index] = self.pure(node, names)
        kinds = ", ".join(self.carried(node) for node in piece.outputs)
        made = "poison"
        for number, node in enumerate(piece.outputs):
            value = names[node.index]
            if node.type == I1:
                value = self.inst(f"bitcast {self.type(node)} {value} to i{LANES}")
            made = self.inst(
                f"insertvalue {{ {kinds} }} {made}, {self.carried(node)} {value}, {number}"
            )
        self.line(f"ret {{ {kinds} }} {made}")

    def _opened(self, node: Node, name: str) -> str:
        if node.lanes and node.type == I1:
            return self.inst(f"bitcast i{LANES} {name} to {self.type(node)}")
        return name

    def carried(self, node: Node) -> str:
        """Return the type as which a value goes in or comes out: masks as integers."""
        return f"i{LANES}" if node.lanes and node.type == I1 else self.type(node)


def call(out: BlockWriter, piece: Piece, names: dict[int, str]) -> bool:
    """Write the calls for a piece, and its outputs' names; False when it is too short for that."""
    function = _Function(out.region)
    function.body(piece)
    if len(function.lines) < max(_SHORTEST, _EACH * (len(piece.inputs) + len(piece.outputs))):
        return False
    quiets = sorted(function.quiets)
    given = [f"{function.carried(node)} %a{n}" for n, node in enumerate(piece.inputs)]
    given += [f"i{bits} %quiet.{bits}" for bits in quiets]
    kinds = "{ " + ", ".join(function.carried(node) for node in piece.outputs) + " }"
    name = out.region.function(kinds, given, function.lines)
    results = []
    for first in range(0, out.wave_size, LANES):
        args = [
            f"{function.carried(node)} {_few(out, node, names[node.index], first)}"
            for node in piece.inputs
        ]
        args += [f"i{bits} %quiet.{bits}" for bits in quiets]
        results.append(out.fresh(f"call {kinds} @{name}({', '.join(args)})"))
    for number, node in enumerate(piece.outputs):
        parts = [out.inst(f"extractvalue {kinds} {result}, {number}") for result in results]
        names[node.index] = _all(out, node, parts)
    return True


def _few(out: BlockWriter, node: Node, value: str, first: int) -> str:
    # Some lanes of a value.
    if not node.lanes:
        return value
    if node.type != I1:
        return picked(out, node.type.llvm, value, out.wave_size, range(first, first + LANES))
    raw = out.inst(f"bitcast {out.type(node)} {value} to i{out.wave_size}")
    moved = out.inst(f"lshr i{out.wave_size} {raw}, {first}")
    return out.inst(f"trunc i{out.wave_size} {moved} to i{LANES}")


def _all(out: BlockWriter, node: Node, parts: Iterable[str]) -> str:
    # The lanes of all parts, behind each other.
    if node.type != I1:
        return joined(out, node.type.llvm, list(parts), LANES)
    whole = f"i{out.wave_size}"
    raw = "0"
    for number, part in enumerate(parts):
        wide = out.inst(f"zext i{LANES} {part} to {whole}")
        moved = out.inst(f"shl {whole} {wide}, {number * LANES}")
        raw = out.inst(f"or {whole} {raw}, {moved}")
    return out.inst(f"bitcast {whole} {raw} to {out.type(node)}")
