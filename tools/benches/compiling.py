"""Compiling kernels: each of the tests' cold, for an instruction and in all; the worst by name.

Kernels of fewer than 50 instructions have a cost of their own that says little of an instruction:
they count for the longest alone.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from gputrace.code import CodeObject
from gputrace.isa.initial import Initial
from gputrace.isa.jit_library import Library
from gputrace.isa.jit_store import Compiled, Store
from gputrace.isa.launch import View
from gputrace.isa.machine import Machine
from tests.isa.corpus import TARGETS
from tests.isa.launching import BUILT, Arrays, Program
from tools.benches import Options, Row, at_most

LEVELS = ("O1", "O3")
LONG = 50
"""Instructions from which on the time of one is told."""
AGAIN = 5
"""How many of the slowest are measured twice more: other work on the machine takes its share."""


class _Nothing(Store):
    """Keeps nothing: what is compiled is compiled each time."""

    def get(self, key: str) -> Compiled | None:
        """Find nothing."""
        return None

    def put(self, key: str, compiled: Compiled) -> None:
        """Keep nothing."""


@dataclass(eq=False)
class _Cold:
    """One kernel, and the shortest time that compiling it took."""

    target: str
    source: str
    kernel: str
    instructions: int = 0
    seconds: float = 1e9

    @property
    def each(self) -> float:
        """Milliseconds for an instruction."""
        return self.seconds * 1e3 / self.instructions

    @property
    def name(self) -> str:
        """How it is called in a row."""
        return f"{self.source}:{self.kernel}, {self.instructions} instructions"

    def measure(self) -> None:
        """Compile it once more; the helpers of compiled code are there."""
        memory = Arrays()
        launch = Program(self.target, self.source).launch(self.kernel, (1,), (64,), memory, ())
        machine, view = Machine(self.target, "jit", 1), View(memory)
        view.refresh()
        machine.library.drive(launch.wave_size)
        mode = Initial(launch, machine.family).mode
        library = Library(self.target, machine.graph, _Nothing())
        before = time.thread_time()
        found = library.find(mode, view.fetch, launch.entry, make=True)
        spent = time.thread_time() - before
        assert found is not None, self.name
        self.instructions, self.seconds = library.compiled, min(self.seconds, spent)


def _kernels(target: str, quick: bool) -> Iterator[_Cold]:
    for level in LEVELS[-1:] if quick else LEVELS:
        for path in sorted((BUILT / target).glob(f"{'speed' if quick else '*'}-{level}.co")):
            for kernel in CodeObject.parse(path.read_bytes()).kernels:
                yield _Cold(target, path.stem, kernel)


def rows(options: Options) -> Iterator[Row]:
    """Compile all kernels of each target."""
    for target in TARGETS:
        kernels = list(_kernels(target, options.quick))
        for kernel in kernels:
            kernel.measure()
        long = [kernel for kernel in kernels if kernel.instructions >= LONG]
        for kernel in sorted(long, key=lambda one: one.each)[-AGAIN:] * 2:
            kernel.measure()
        worst = max(long, key=lambda one: one.each)
        yield at_most(f"{target} slowest code", worst.each, "ms/instruction", 3, worst.name)
        longest = max(kernels, key=lambda one: one.seconds)
        yield at_most(f"{target} longest", longest.seconds, "s", 5, longest.name)
        short = max(set(kernels) - set(long), key=lambda one: one.seconds)
        yield Row(f"{target} longest of the short", short.seconds * 1e3, "ms", note=short.name)
        count = sum(kernel.instructions for kernel in kernels)
        mean = sum(kernel.seconds for kernel in kernels) * 1e3 / count
        note = f"{len(kernels)} kernels, {count:,} instructions"
        yield Row(f"{target} mean", mean, "ms/instruction", note=note)
