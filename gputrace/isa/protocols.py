"""What the primitives ask of the two engines."""

from typing import Any, Protocol

from gputrace.isa.graph import Node
from gputrace.isa.numpy_floats import Array


class Emitter(Protocol):
    """What the LLVM side of a row needs: text of types and values, and one new instruction."""

    wave_size: int

    def type(self, node: Node) -> str:
        """Return the LLVM type of a node's value."""

    def inst(self, text: str) -> str:
        """Append `%new = text` and return its name."""

    def call(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call of a declared function; args are (type, value) pairs."""

    def rounded(
        self, result: str, operation: str, mode: int, *args: tuple[str, str]
    ) -> str:
        """Append an operation (of LLVM's constrained intrinsics) that rounds as MODE says."""

    def constant(self, node: Node, value: int) -> str:
        """Return a constant of the node's type (its first argument's lanes)."""

    def quiet(self, node: Node) -> str:
        """Return the bits of `QUIET` for a node's type, as integers that LLVM does not know."""

    def effect(self, node: Node, *args: str) -> str:
        """Carry out an effect and return its value (empty when it has none)."""


class NumpyState(Protocol):
    """What the numpy side of a row needs of the wave."""

    wave_size: int
    vectors: Array

    def effect(self, node: Node, *args: Array) -> Any:
        """Carry out an effect and return its value (None when it has none)."""
