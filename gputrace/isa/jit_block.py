"""The instructions of one block as LLVM IR: registers in the wave's memory, lanes as vectors.

The state is whole at each place where a wave may stop. Between two such places the last vector
registers that were read or written are at hand as values; those written go to memory in front of
the next place, so what is soon written again is not stored at all. The meaning of each primitive is
in `gputrace.isa.primitives`; here are the effects.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gputrace.isa import state
from gputrace.isa.graph import Node
from gputrace.isa.jit_access import find_accesses, needed
from gputrace.isa.jit_chunks import Piece, call, steps
from gputrace.isa.jit_exact import is_active, wants_all_lanes
from gputrace.isa.jit_memory import MemoryWriter
from gputrace.isa.jit_region import Item
from gputrace.isa.jit_writer import CannotLift, Module
from gputrace.isa.matrix import Multiplication

_NUMBERED = 256  # vector registers that an index can name
_WINDOW = 6  # vector registers whose last values are at hand


@dataclass(frozen=True, slots=True)
class _Held:
    """The value of a vector register, right in the lanes of a mask ("": in all lanes).

    The register in memory does not have it yet when it is `fresh`. `rest` is right in the other
    lanes, "" when only memory has that.
    """

    value: str
    mask: str = ""
    fresh: bool = False
    rest: str = ""


class BlockEmitter(MemoryWriter):
    """Emits the instructions of one block; the `Emitter` of `gputrace.isa.primitives`."""

    def __init__(self, region: Module, name: str) -> None:
        super().__init__(region, name)
        self._scalars: dict[int, str] = {}
        self._vectors: dict[int, _Held] = {}
        self._active = "?"  # the name that EXEC as lanes has now
        self._all_lanes: frozenset[int] = frozenset()
        self._effects: dict[str, Callable[..., str]] = {
            "get_scalar": self._get_scalar,
            "put_scalar": self._put_scalar,
            "get_vector": self._get_vector,
            "put_vector": self._put_vector,
            "get_vector_at": self._get_vector_at,
            "put_vector_at": self._put_vector_at,
            "here": self._here,
            "clock": self._clock,
            "check": self.check,
            "aligned": self.aligned,
            "within": self.within,
            "load": self.load,
            "store": self.store,
            "atomic": self.atomic,
            "permute": self._permute,
            "scatter": self._scatter,
            "matrix": self._matrix,
        }

    def effect(self, node: Node, *args: str) -> str:
        """Carry out an effect and return its value."""
        handler = self._effects.get(node.prim)
        if handler is None:
            raise CannotLift(f"{node.prim} is not compiled")
        return handler(node, *args)

    def called(self) -> None:
        """Forget values of lanes: behind a call they are not in the host's registers any more."""
        super().called()
        self._vectors.clear()

    def settle(self) -> None:
        """Write all vector registers to memory: the wave may stop here, or others read them."""
        for index in list(self._vectors):
            self._write(index)

    def snapshot(self) -> Callable[[], None]:
        """Return what takes back all that is emitted from now on."""
        lines, cold, held = len(self.lines), len(self.region.cold), dict(self._vectors)

        def undo() -> None:
            del self.lines[lines:], self.region.cold[cold:]
            self._vectors = held

        return undo

    # --- one instruction

    def instruction(self, item: Item, number: int) -> list[str]:
        """Emit all but the last node, and return the names of the last one's arguments."""
        self.at, self.number = item.at, number
        self._all_lanes = wants_all_lanes(item.graph, self.wave_size)
        names: dict[int, str] = {}
        accesses = find_accesses(item.graph, self.wave_size)
        wanted = needed(item.graph, accesses) if accesses else set()
        for step in item.graph.nodes[:-1] if accesses else steps(item.graph):
            if isinstance(step, Piece):
                if not call(self, step, names):
                    for node in step.nodes:
                        names[node.index] = self._value(node, names)
                continue
            if step.index in accesses:
                names.update(self.access(accesses[step.index], names))
            elif not accesses or step.index in wanted:
                names[step.index] = self._value(step, names)
        return [names[arg.index] for arg in item.last.args]

    def _value(self, node: Node, names: dict[int, str]) -> str:
        special = self._effects.get(node.prim)
        if special is not None:
            return special(node, *(names[arg.index] for arg in node.args))
        made = self.pure(node, names)
        if is_active(node, self.wave_size):
            self._active = made
        return made

    # --- registers

    def _scalar_at(self, index: int) -> str:
        if not 0 <= index < state.SCALARS:
            raise CannotLift(f"scalar word {index}")
        return self.inst(f"getelementptr inbounds i32, ptr %words, i64 {index}")

    def _get_scalar(self, node: Node) -> str:
        assert isinstance(node.attribute, int)
        index = node.attribute
        if index not in self._scalars:
            self._scalars[index] = self.fresh(f"load i32, ptr {self._scalar_at(index)}, align 4")
        return self._scalars[index]

    def _put_scalar(self, node: Node, value: str) -> str:
        assert isinstance(node.attribute, int)
        self.line(f"store i32 {value}, ptr {self._scalar_at(node.attribute)}, align 4")
        self._scalars[node.attribute] = value
        if node.attribute in (state.EXEC, state.EXEC + 1):
            self._active = "?"
        return ""

    def _get_vector(self, node: Node) -> str:
        assert isinstance(node.attribute, int)
        index = node.attribute
        held = self._vectors.get(index)
        if held is not None:
            active = node.index not in self._all_lanes and held.mask == self._active
            if held.mask == "" or active:
                self._hold(index, held)
                return held.value
            self._write(index)
        value = self._in_memory(index)
        self._hold(index, _Held(value))
        return value

    def _in_memory(self, index: int) -> str:
        return self.fresh(
            f"load <{self.wave_size} x i32>, ptr {self.register(index)}, align 64"
        )

    def _put_vector(self, node: Node, value: str, mask: str) -> str:
        assert isinstance(node.attribute, int)
        index = node.attribute
        self.register(index)
        mask, rest = "" if mask == "splat (i1 true)" else mask, ""
        if mask and (held := self._vectors.get(index)):
            if held.mask in ("", mask):
                rest = held.rest if held.mask else held.value
            else:
                self._write(index)
        self._hold(index, _Held(value, mask, fresh=True, rest=rest))
        return ""

    def _write(self, index: int) -> None:
        # All lanes are stored: what is stored in part must reach the cache before it is loaded.
        held = self._vectors[index]
        if not held.fresh:
            return
        kind, value = f"<{self.wave_size} x i32>", held.value
        if held.mask:
            rest = held.rest or self._in_memory(index)
            value = self.fresh(
                f"select <{self.wave_size} x i1> {held.mask}, {kind} {value}, {kind} {rest}"
            )
        # LLVM would make a store in part of it if it could.
        self.line(f"store volatile {kind} {value}, ptr {self.register(index)}, align 64")
        self._vectors[index] = replace(held, fresh=False)

    def _hold(self, index: int, held: _Held) -> None:
        self._vectors.pop(index, None)
        self._vectors[index] = held
        if len(self._vectors) > _WINDOW:
            oldest = next(iter(self._vectors))
            self._write(oldest)
            del self._vectors[oldest]

    def _matrix(self, node: Node) -> str:
        work = node.attribute
        assert isinstance(work, Multiplication)
        constant = work.constant if work.c is None else None
        name = self.region.matrix(work.product, constant)
        c = work.d if work.c is None else work.c
        first = (work.a, work.b, c, work.d, work.index, work.scales)
        places = ", ".join(f"ptr {self.register(index)}" for index in first)
        self.settle()
        self.line(f"call void @{name}({places})")
        for index in work.written:
            self._vectors.pop(index, None)
        return ""

    def _vector_place(self, number: str) -> tuple[str, str]:
        # Where a register whose number is computed lies, and whether there is one.
        exists = self.inst(f"icmp ult i32 {number}, {_NUMBERED}")
        known = self.inst(f"select i1 {exists}, i32 {number}, i32 0")
        words = self.inst(f"mul i32 {known}, {self.wave_size}")
        at = self.inst(f"add i32 {words}, {state.SCALARS}")
        wide = self.inst(f"zext i32 {at} to i64")
        return self.inst(f"getelementptr i32, ptr %words, i64 {wide}"), exists

    def _get_vector_at(self, node: Node, number: str) -> str:
        at, _ = self._vector_place(number)
        self.settle()
        return self.fresh(f"load <{self.wave_size} x i32>, ptr {at}, align 64")

    def _put_vector_at(self, node: Node, value: str, number: str, mask: str) -> str:
        at, exists = self._vector_place(number)
        self.settle()
        kind, bit = f"<{self.wave_size} x i32>", f"<{self.wave_size} x i1>"
        there = self.spread(bit, "i1", exists)
        chosen = self.inst(f"and {bit} {mask}, {there}")
        name = f"llvm.masked.store.v{self.wave_size}i32.p0"
        self.external("void", name, (kind, value), ("ptr", at), ("i32", "64"), (bit, chosen))
        self._vectors.clear()
        return ""

    # --- values that the region knows better

    def _here(self, node: Node) -> str:
        return self.inst(f"add i64 %base, {node.attribute}")

    def _clock(self, node: Node) -> str:
        self._count_change()
        return self.fresh(f"add i64 %count.{self.block}, {self.number}")

    def _count_change(self) -> None:
        old = self.fresh("load i64, ptr %changes")
        self.line(f"store i64 {self.fresh(f'add i64 {old}, 1')}, ptr %changes")

    # --- between lanes

    def _permute(self, node: Node, value: str, index: str) -> str:
        raw, many, lanes = f"i{node.type.bits}", self.type(node), self.wave_size
        word = f"<{lanes} x {raw}>"
        if node.type.kind == "f":
            value = self.inst(f"bitcast {many} {value} to {word}")
        args = (word, value), (f"<{lanes} x i32>", self._as_word(node.args[1], index))
        moved = self.external(word, f"permute{node.type.bits}", *args)
        return self.inst(f"bitcast {word} {moved} to {many}") if many != word else moved

    def _scatter(self, node: Node, value: str, index: str, mask: str) -> str:
        if node.type.kind == "f" or node.type.bits != 32:
            raise CannotLift(f"scatter of {node.type}")
        lanes = f"<{self.wave_size} x i32>"
        at = (lanes, self._as_word(node.args[1], index))
        return self.external(lanes, "scatter32", (lanes, value), at, ("i64", self.bits(mask)))

    def _as_word(self, node: Node, value: str) -> str:
        if node.type.bits == 32:
            return value
        op = "trunc" if node.type.bits > 32 else "zext"
        return self.inst(f"{op} {self.type(node)} {value} to <{self.wave_size} x i32>")
