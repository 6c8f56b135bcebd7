"""What instructions do: one function per meaning, found by name.

A meaning takes the trace of its instruction, reads sources, and writes results; everything that
holds for all instructions (EXEC, modifiers, denormals, read before write) is in the trace. The
registry is filled by the modules below, one for each part of the instruction set.
"""

from collections.abc import Callable

from gputrace.errors import DefinitionError
from gputrace.isa.graph import Graph, Node
from gputrace.isa.instruction import Instruction
from gputrace.isa.trace import Mode, NotModelled, Trace

_VECTOR = ("V", "MAI", "DS", "FLAT", "GLOBAL", "SCRATCH", "MUBUF", "MTBUF")  # what VSKIP skips
Meaning = Callable[[Trace], None]
Result = Node | tuple[Node, ...]


class Registry:
    """The meanings of one part of the instruction set by mnemonic without encoding suffix."""

    def __init__(self) -> None:
        self.meanings: dict[str, Meaning] = {}

    def add(self, names: str, meaning: Meaning) -> None:
        """Register a meaning for names separated by spaces; each name has one meaning."""
        for name in names.split():
            if name in self.meanings:
                raise DefinitionError(f"two meanings for {name}")
            self.meanings[name] = meaning

    def meaning(self, names: str) -> Callable[[Meaning], Meaning]:
        """Register the decorated function."""

        def decorate(function: Meaning) -> Meaning:
            self.add(names, function)
            return function

        return decorate

    def pure(self, names: str, function: Callable[..., Result]) -> None:
        """Register results computed from the sources in the order of the text."""

        def meaning(trace: Trace) -> None:
            results = function(*(trace.read(operand) for operand in trace.instruction.src))
            listed = results if isinstance(results, tuple) else (results,)
            for operand, value in zip(trace.instruction.dst, listed, strict=True):
                trace.write(operand, value)

        self.add(names, meaning)


def trace_instruction(instruction: Instruction, mode: Mode, registry: Registry) -> Graph:
    """Return the graph of an instruction; NotModelled names what has no meaning."""
    trace = Trace(instruction, mode)
    if mode.skips and instruction.encoding.startswith(_VECTOR):
        return trace.finish()
    if instruction.components:
        trace_parts(trace, registry)
        return trace.finish()
    meaning = registry.meanings.get(instruction.name)
    if meaning is None:
        raise NotModelled("not modelled")
    meaning(trace)
    return trace.finish()


def trace_parts(trace: Trace, registry: Registry) -> None:
    """Carry out the halves of a dual instruction: all writes come after all reads."""
    whole = trace.instruction
    for half in whole.components:
        meaning = registry.meanings.get(half.name.replace("v_dual_", "v_"))
        if meaning is None:
            raise NotModelled(f"{half.name} is not modelled")
        trace.instruction = half
        meaning(trace)
    trace.instruction = whole
