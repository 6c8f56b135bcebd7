"""Writing LLVM IR: one block of a region's code, and the module that it goes into."""

from collections.abc import Sequence

from gputrace.isa import jit_matrix, jit_rounding
from gputrace.isa.graph import I1, Node
from gputrace.isa.matrix import Product

_MATHEMATICS = ("llvm.exp2", "llvm.log2", "llvm.sin", "llvm.cos")


class CannotLift(Exception):
    """An instruction that only the numpy engine can run; the text is the reason."""


class Module:
    """What all blocks of a module share: names, declarations, and code that is seldom run."""

    def __init__(self, wave_size: int, width: int) -> None:
        self.wave_size = wave_size
        self.width = width
        """Words of the host's vectors."""
        self.sites = 0
        """Places that remember which range of memory they found last."""
        self.cold: list[str] = []
        self._count = 0
        self._declared: dict[str, str] = {}
        self._products: dict[tuple[Product, int | None], str] = {}
        self._rounded: set[str] = set()
        self._equal: dict[str, str] = {}
        self.functions: list[str] = []
        """Functions of the module beside the region's own."""

    def number(self) -> int:
        """Return a number that nothing else in the module has."""
        self._count += 1
        return self._count

    def name(self) -> str:
        """Return a new name of a value."""
        return f"%v{self.number()}"

    def declare(self, result: str, name: str, *kinds: str) -> None:
        """Declare a function that is defined elsewhere."""
        self._declared[name] = f"declare {result} @{name}({', '.join(kinds)}) #0"

    def matrix(self, product: Product, constant: int | None) -> str:
        """Return the name of the function that carries out a matrix product."""
        key = product, constant
        if key not in self._products:
            name = self._products[key] = f"matrix.{len(self._products)}"
            text, declared = jit_matrix.function(name, product, constant)
            self._declared |= declared
            self.functions.append(text)
        return self._products[key]

    def rounded(self, operation: str, mode: int, kinds: list[str], result: str) -> str:
        """Return the name of a function with a rounding of its own (`jit_rounding`)."""
        ends = ".".join(jit_rounding.suffix(kind) for kind in [result, *kinds[:1]])
        name = f"round{mode}.{operation}.{ends}"
        if name not in self._rounded:
            self._rounded.add(name)
            self._declared |= jit_rounding.declarations(operation, kinds, result)
            self.functions.append(jit_rounding.function(name, operation, mode, kinds, result))
        return name

    def function(self, result: str, parameters: Sequence[str], lines: Sequence[str]) -> str:
        """Return the name of a function of the module; equal ones are made once."""
        text = "\n".join([f"({', '.join(parameters)}) #0 {{", *lines, "}"])
        if text not in self._equal:
            name = self._equal[text] = f"few.{len(self._equal)}"
            self.functions.append(f"define internal {result} @{name}{text}")
        return self._equal[text]

    @property
    def helpers(self) -> list[str]:
        """Names of the functions that the module takes from elsewhere."""
        return [name for name in self._declared if not name.startswith("llvm.")]

    @property
    def declarations(self) -> list[str]:
        """The declarations of all functions that are called."""
        return list(self._declared.values())

    def leaving(self, code: int, pc: str, count: str) -> list[str]:
        """Return the lines that leave the function."""
        return [
            f"  store i64 {pc}, ptr %pc.at",
            f"  store i64 {count}, ptr %executed.at",
            f"  ret i64 {code}",
        ]



class BlockWriter:
    """Writes one block; has the side of `gputrace.isa.primitives.Emitter` without effects."""

    def __init__(self, region: Module, name: str) -> None:
        self.region = region
        self.wave_size = region.wave_size
        self.block = name
        self.lines: list[str] = []
        self._known: dict[str, str] = {}

    def type(self, node: Node) -> str:
        """Return the LLVM type of a node's value."""
        return f"<{self.wave_size} x {node.type.llvm}>" if node.lanes else node.type.llvm

    def inst(self, text: str) -> str:
        """Append an instruction without effects; an equal one of this block is used again."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self.fresh(text)
        return known

    def fresh(self, text: str) -> str:
        """Append an instruction in any case."""
        name = self.region.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def call(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call of a function without effects."""
        if name.startswith(_MATHEMATICS):
            name = name.split(".")[1] + (".lanes" if result.startswith("<") else "")
        self.region.declare(result, name, *(kind for kind, _ in args))
        return self.inst(f"call {result} @{name}({_listed(args)})")

    def rounded(self, result: str, operation: str, mode: int, *args: tuple[str, str]) -> str:
        """Append an operation that rounds as MODE says."""
        name = self.region.rounded(operation, mode, [kind for kind, _ in args], result)
        return self.inst(f"call {result} @{name}({_listed(args)})")

    def constant(self, node: Node, value: int) -> str:
        """Return a constant of the node's type, given its bits."""
        if node.type.kind == "f":
            raw = f"i{node.type.bits}"
            one = self.inst(f"bitcast {raw} {value} to {node.type.llvm}")
            return self.spread(self.type(node), node.type.llvm, one) if node.lanes else one
        if node.lanes and not value:
            return "zeroinitializer"
        text = ("true" if value & 1 else "false") if node.type == I1 else str(value)
        return f"splat ({node.type.llvm} {text})" if node.lanes else text

    def quiet(self, node: Node) -> str:
        """Return the NaN that arithmetic gives, as integers that LLVM does not know."""
        name, kind = f"%quiet.{node.type.bits}", f"i{node.type.bits}"
        return self.spread(f"<{self.wave_size} x {kind}>", kind, name) if node.lanes else name

    def place(self, name: str) -> str:
        """Return the label of a new LLVM block of this block's code."""
        return f"{self.block}.{name}{self.region.number()}"

    def begin(self, label: str) -> None:
        """Go on in an LLVM block."""
        self.lines.append(f"{label}:")

    def line(self, text: str) -> None:
        """Append an instruction that has no value."""
        self.lines.append(f"  {text}")

    def bits(self, mask: str) -> str:
        """Return a lane mask as i64."""
        kind = f"<{self.wave_size} x i1>"
        raw = self.inst(f"bitcast {kind} {mask} to i{self.wave_size}")
        return raw if self.wave_size == 64 else self.inst(f"zext i32 {raw} to i64")

    def spread(self, many: str, one: str, value: str) -> str:
        """Give each lane of a vector type the same value."""
        first = self.inst(f"insertelement {many} poison, {one} {value}, i64 0")
        zeros = f"<{self.wave_size} x i32> zeroinitializer"
        return self.inst(f"shufflevector {many} {first}, {many} poison, {zeros}")

    def external(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call of a declared function, in any case."""
        self.region.declare(result, name, *(kind for kind, _ in args))
        text = f"call {result} @{name}({_listed(args)})"
        if result == "void":
            self.line(text)
            return ""
        return self.fresh(text)


def _listed(args: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{kind} {value}" for kind, value in args)
