"""Values and nodes of the graph that an instruction's meaning is traced into.

A node is either uniform (one value for the wave) or of the lanes (one value for each lane).
Integers carry no sign: signedness is in the name of the primitive that reads them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gputrace.isa.matrix import Multiplication

_LAST_NUMBERED = 255  # the last vector register that an index can name
Attribute = None | int | str | tuple[int, ...] | tuple[int | str, ...] | Multiplication


@dataclass(frozen=True, slots=True)
class Type:
    """A type of values: an integer (`i`) or an IEEE number (`f`) of `bits` bits."""

    kind: str
    bits: int

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Return the numpy type that holds such values."""
        if self.bits == 1:
            return np.dtype(np.bool_)
        return np.dtype(f"{'u' if self.kind == 'i' else 'f'}{self.bits // 8}")

    @property
    def signed(self) -> np.dtype[np.generic]:
        """Return the numpy type that reads such integers as signed."""
        return np.dtype(f"i{self.bits // 8}")

    @property
    def llvm(self) -> str:
        """Return the LLVM type of one such value."""
        if self.kind == "i":
            return f"i{self.bits}"
        return {16: "half", 32: "float", 64: "double"}[self.bits]

    def __str__(self) -> str:
        return f"{self.kind}{self.bits}"


I1 = Type("i", 1)
U8, U16, U32, U64 = (Type("i", bits) for bits in (8, 16, 32, 64))
F16, F32, F64 = (Type("f", bits) for bits in (16, 32, 64))


class Tracer(Protocol):
    """What a node needs of the trace that it belongs to."""

    def apply(
        self,
        prim: str,
        *args: "Node | int | float",
        type: Type | None = None,
        attribute: Attribute = None,
    ) -> "Node":
        """Append a primitive and return its node."""

    def const(self, type: Type, value: int | float) -> "Node":
        """Return a uniform constant."""

    def rounding(self, type: Type) -> int | None:
        """Return how arithmetic with results of a type rounds, None to the nearest."""

    def to_nearest(self) -> AbstractContextManager[None]:
        """Round to the nearest in here, whatever MODE says."""

    @property
    def ieee(self) -> bool:
        """Whether MODE asks for IEEE's rules of signaling NaNs."""


@dataclass(slots=True, eq=False)
class Node:
    """One primitive applied to earlier nodes; the operators append further ones."""

    trace: Tracer
    index: int
    prim: str
    type: Type
    lanes: bool
    args: tuple["Node", ...]
    attribute: Attribute = None

    def __add__(self, other: "Node | int | float") -> "Node":
        return self.trace.apply("fadd" if self.type.kind == "f" else "add", self, other)

    def __sub__(self, other: "Node | int | float") -> "Node":
        return self.trace.apply("fsub" if self.type.kind == "f" else "sub", self, other)

    def __mul__(self, other: "Node | int | float") -> "Node":
        return self.trace.apply("fmul" if self.type.kind == "f" else "mul", self, other)

    def __and__(self, other: "Node | int") -> "Node":
        return self.trace.apply("and", self, other)

    def __or__(self, other: "Node | int") -> "Node":
        return self.trace.apply("or", self, other)

    def __xor__(self, other: "Node | int") -> "Node":
        return self.trace.apply("xor", self, other)

    def __invert__(self) -> "Node":
        return self.trace.apply("xor", self, (1 << self.type.bits) - 1)

    def __lshift__(self, amount: "Node | int") -> "Node":
        return self.trace.apply("shl", self, amount)

    def __rshift__(self, amount: "Node | int") -> "Node":
        return self.trace.apply("lshr", self, amount)

    def ashr(self, amount: "Node | int") -> "Node":
        """Shift right and copy the sign; the amount counts modulo the width."""
        return self.trace.apply("ashr", self, amount)

    def eq(self, other: "Node | int | float") -> "Node":
        """Compare equal (floats: ordered)."""
        return self.trace.apply("feq" if self.type.kind == "f" else "eq", self, other)

    def ne(self, other: "Node | int") -> "Node":
        """Compare different (integers only)."""
        return self.trace.apply("ne", self, other)

    def zext(self, type: Type) -> "Node":
        """Widen or narrow an integer, filling with zeros."""
        if type.bits == self.type.bits:
            return self
        return self.trace.apply("zext" if type.bits > self.type.bits else "trunc", self, type=type)

    def sext(self, type: Type) -> "Node":
        """Widen or narrow an integer, filling with the sign."""
        if type.bits == self.type.bits:
            return self
        return self.trace.apply("sext" if type.bits > self.type.bits else "trunc", self, type=type)

    def bits_as(self, type: Type) -> "Node":
        """Read the same bits as another type of the same width."""
        return self if type == self.type else self.trace.apply("bitcast", self, type=type)


def where(condition: Node, yes: "Node | int | float", no: "Node | int | float") -> Node:
    """Choose `yes` where the condition holds, else `no`; one of both must be a node."""
    return condition.trace.apply("select", condition, yes, no)


@dataclass(frozen=True, slots=True)
class Graph:
    """What one instruction does: its nodes in the order in which they take place."""

    nodes: Sequence[Node]

    @property
    def written(self) -> set[int]:
        """Return the vector registers that it may write, accumulators counted on."""
        found: set[int] = set()
        for node in self.nodes:
            if node.prim == "put_vector" and isinstance(node.attribute, int):
                found.add(node.attribute)
            elif node.prim == "put_vector_at":
                found.add(_LAST_NUMBERED)
            elif isinstance(node.attribute, Multiplication):
                found.update(node.attribute.written)
        return found
