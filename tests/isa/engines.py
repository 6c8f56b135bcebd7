"""Real instructions in both engines: the same bits in all registers after each of them."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import jit_layout, state
from gputrace.isa.decode import decoder
from gputrace.isa.graph import I1, U32, Graph, Node
from gputrace.isa.instruction import Instruction
from gputrace.isa.jit_library import Library
from gputrace.isa.jit_store import Store
from gputrace.isa.launch import View
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.numpy_engine import Context, NumpyEngine, Stop, prepare
from gputrace.isa.semantics import trace_instruction
from gputrace.isa.trace import Mode, NotModelled, Trace
from gputrace.isa.waves import Group, aligned
from tests.isa.single import ENCODINGS, VECTORS, assemble

OUT = 160  # the registers that keep what instructions did
MOST = 90  # instructions of a program
MOST_NODES = 6000  # of a program, so that one region takes it
KEPT_EXEC = 90  # scalar registers with EXEC as it is before each instruction
MATRIX_PLACES = {
    "vdst": 0, "src0": 64, "src1": 80, "src2": 96, "scale0": 120, "scale1": 121,
}  # fmt: skip
SCALAR_SOURCES = {
    "v_readlane_b32": (("src1", 36),),
    "v_writelane_b32": (("src0", 37), ("src1", 36)),
    "v_permlane16_b32": (("src1", 36), ("src2", 37)),
    "v_permlanex16_b32": (("src1", 36), ("src2", 37)),
}
"""Operands that can only be scalar registers."""


def instructions(target: str, every: bool) -> Iterator[tuple[str, str, Instruction]]:
    """Yield (name, encoding, instruction) of every vector and scalar instruction of a target.

    With `every` in each encoding that it has, else in the longest.
    """
    machine = decoder(target)
    found = {(encoding, name) for encoding, name in machine.names() if encoding in ENCODINGS}
    seen: set[str] = set()
    for encoding, name in sorted(found, key=lambda pair: ENCODINGS.index(pair[0])):
        if name in seen and not every:
            continue
        seen.add(name)
        places = None
        if "mma" in name or "mfma" in name:
            places = MATRIX_PLACES
        elif name.startswith("v_s_"):
            places = VECTORS | {"src0": 37 - 256}
        elif name in SCALAR_SOURCES:
            places = VECTORS | {field: number - 256 for field, number in SCALAR_SOURCES[name]}
        made = assemble(target, name, vectors=places, encoding=encoding)
        if made is not None:
            yield name, encoding, made


def straight(target: str, mode: Mode, every: bool) -> Iterator[tuple[str, Graph]]:
    """Yield (label, graph) of the instructions that are modelled and go on to the next one."""
    for name, encoding, made in instructions(target, every):
        graph = one_straight(made, mode)
        if graph is not None:
            yield f"{name} ({encoding})", graph


def one_straight(made: Instruction, mode: Mode) -> Graph | None:
    """Return what an instruction does before it goes on; None if it is not modelled or jumps."""
    try:
        graph = trace_instruction(made, mode, MEANINGS)
    except NotModelled:
        return None
    last = graph.nodes[-1]
    falls = last.prim == "jump" and last.attribute == made.address + made.size
    return Graph(list(graph.nodes[:-1])) if falls else None


class Engines:
    """A program of instructions one after the other, each with a look at what it wrote."""

    def __init__(self, target: str, mode: Mode, found: list[tuple[str, Graph]], folder: Path):
        self.mode, self.labels = mode, [label for label, _ in found]
        self.graphs: dict[int, Graph] = {}
        for number, (_, graph) in enumerate(found):
            self._add(self._after(graph, number))
        end = Trace(Instruction("end", "", "", 4 * len(found), (0,)), mode)
        end.go("end")
        self.graphs[4 * len(found)] = end.finish()
        library = Library(target, lambda mode, pc, code: (self.graphs[pc], 4), Store(folder))
        key = repr((target, mode, self.labels)).encode()
        loaded = library.find(mode, lambda pc, size: key, 0, make=True)
        assert loaded is not None, library.failures
        kinds = [ctypes.c_void_p] * 4 + [ctypes.c_uint64] * 2
        self.region = ctypes.CFUNCTYPE(ctypes.c_uint64, *kinds)(loaded.address)
        self._library = library

    def _add(self, graph: Graph) -> None:
        self.graphs[4 * len(self.graphs)] = graph

    def _after(self, graph: Graph, number: int) -> Graph:
        # The instruction, and behind its writes: what they are goes to a register of its own.
        trace = Trace(Instruction("look", "", "", 4 * number, (0,)), self.mode)
        trace.nodes = list(graph.nodes)
        for node in trace.nodes:
            node.trace = trace
        total: Node = trace.splat(trace.const(U32, 0))
        for index in sorted(graph.written):
            total = total * 0x01000193 + trace.apply("get_vector", attribute=index)
        touched = {node.attribute for node in graph.nodes if node.prim == "put_scalar"}
        for index in sorted(i for i in touched if isinstance(i, int)):
            word = trace.apply("get_scalar", attribute=index)
            total = total * 0x01000193 + trace.splat(word)
        trace.put_vector(OUT + number, total, trace.splat(trace.const(I1, 1)))
        trace.put_scalar(state.EXEC, trace.scalar(KEPT_EXEC, 2))
        return trace.finish()

    def group(self, seed: int) -> Group:
        """Return a group of one wave whose registers hold edges and random values."""
        group = Group((0, 0, 0), 1, self.mode.wave_size, 0)
        wave = group.waves[0]
        chance = np.random.default_rng(seed)
        for registers in (wave.vectors[:OUT], wave.scalars[: state.SGPRS].reshape(-1, 1)):
            registers[:] = values(chance, registers.shape)
        few = chance.random() < 0.3
        exec_bits = int(chance.integers(1, 1 << 62)) | 1 if few else (1 << 64) - 1
        wave.scalars[KEPT_EXEC] = wave.scalars[state.EXEC] = exec_bits & 0xFFFFFFFF
        wave.scalars[KEPT_EXEC + 1] = wave.scalars[state.EXEC + 1] = exec_bits >> 32
        wave.scalars[state.VCC : state.VCC + 2] = values(chance, (2,))
        wave.scalars[state.M0] = chance.integers(0, 64)
        return group

    def numpy(self, group: Group) -> NDArray[np.uint32]:
        """Return all registers of the wave after the program, evaluated with numpy."""
        context = Context(View(_nothing()), self.mode.wave_size)
        engine = NumpyEngine(context, lambda pc: prepare(self.graphs[pc], context))
        assert engine.run(group.waves[0], group.lds, 1 << 30) is Stop.END
        return group.words[0].copy()

    def compiled(self, group: Group) -> NDArray[np.uint32]:
        """Return the same, compiled."""
        context = jit_layout.new_context()
        context[jit_layout.LIMIT] = 1 << 40
        sites: NDArray[Any] = aligned(8, np.uint64)
        code = self.region(
            group.words.ctypes.data, context.ctypes.data, group.lds.ctypes.data,
            sites.ctypes.data, 0, 0,
        )  # fmt: skip
        at = int(context[jit_layout.EXECUTED])
        where = self.labels[at] if at < len(self.labels) else "the end"
        assert code == jit_layout.END, f"compiled code left at {where}"
        return group.words[0].copy()

    def difference(self, seed: int) -> str:
        """Say which instruction's registers differ, "" for none."""
        expected, found = self.numpy(self.group(seed)), self.compiled(self.group(seed))
        if np.array_equal(expected, found):
            return ""
        lanes = self.mode.wave_size
        places = (np.flatnonzero(expected != found) - state.SCALARS).tolist()
        own = [place for place in places if place // lanes >= OUT]
        if not own:
            return f"seed {seed}: words {places[:4]} differ"
        number, lane = own[0] // lanes - OUT, own[0] % lanes
        return f"seed {seed}: {self.labels[number]} in lane {lane}"


def _nothing() -> Any:
    from tests.isa.launching import Arrays

    return Arrays()


EDGES = np.array(
    [
        0, 1, 2, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x80000000, 0x7FFFFFFF, 0xFFFFFFFF,
        0x3C003C00, 0x7C00FC00, 0x7E00FE01, 0x7C010001, 0x80008000, 0x03FF0400, 0x7BFFFBFF,
        0x3F800000, 0xBF800000, 0x3F000000, 0x3FC00000, 0x40200000, 0x7F800000, 0xFF800000,
        0x7FC00000, 0xFFC00001, 0x7F800001, 0x00800000, 0x007FFFFF, 0x80000001, 0x7F7FFFFF,
        0x3FF00000, 0xBFF00000, 0x7FF00000, 0xFFF00000, 0x7FF80000, 0x7FF00001, 0x000FFFFF,
        0x00100000, 0x7FEFFFFF, 0x41DFFFFF, 0x41E00000, 0xC1E00000, 0x4F000000, 0xCF000000,
        0x477FE000, 0x477FF000, 0x33000000, 0x38800000, 0x43700000, 0x43E00000, 0x3C000000,
    ],
    np.uint32,
)  # fmt: skip


def values(chance: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """Draw words: edges of floats of all widths, small numbers, and anything."""
    random = chance.integers(0, 1 << 32, shape, np.uint32)
    small = random >> chance.integers(0, 32, shape, np.uint32)
    sane = (random & np.uint32(0x807FFFFF)) | chance.integers(100, 155, shape, np.uint32) << 23
    kind = chance.random(shape)
    drawn = np.where(kind < 0.35, EDGES[chance.integers(len(EDGES), size=shape)], random)
    drawn = np.where((kind > 0.5) & (kind < 0.65), small, drawn)
    return np.where(kind > 0.75, sane, drawn).astype(np.uint32)


def programs(
    target: str, mode: Mode, folder: Path, every: bool = True, but: frozenset[str] = frozenset()
) -> list[Engines]:
    """Return programs that together have every instruction of a target but those labelled so."""
    made: list[Engines] = []
    found: list[tuple[str, Graph]] = []
    nodes = 0
    for label, graph in straight(target, mode, every):
        if label in but:
            continue
        size = len(graph.nodes) + 4 * len(graph.written) + 40
        if found and (nodes + size > MOST_NODES or len(found) == MOST):
            made.append(Engines(target, mode, found, folder))
            found, nodes = [], 0
        found.append((label, graph))
        nodes += size
    if found:
        made.append(Engines(target, mode, found, folder))
    return made
