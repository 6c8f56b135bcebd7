"""The reference evaluator: walks the graph of each instruction with numpy, a wave at a time.

It is the cold path of the machine and the yardstick that compiled code is held against. All lanes
of a wave are one array; atomics and stores to one place take effect in the order of the lanes.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import state
from gputrace.isa.graph import Graph, Node
from gputrace.isa.launch import Access, Checks, View
from gputrace.isa.numpy_atomics import ATOMICS
from gputrace.isa.numpy_floats import Array
from gputrace.isa.primitives import PRIMS
from gputrace.isa.wave_sync import BadSync, Operation, WaveSync
from gputrace.isa.waves import ENDED, Group, Wave


class Stop(Enum):
    """Why a wave does not run on."""

    END = "end"
    BARRIER = "barrier"
    SYNC = "sync"
    TURN = "turn"
    COMPILED = "compiled"


class BadAccess(Exception):
    """An access that the page table does not allow."""

    def __init__(self, address: int, access: Access, size: int, lanes: int) -> None:
        super().__init__(f"{access} of {size} bytes at {address:#x}")
        self.address, self.access, self.size, self.lanes = address, access, size, lanes


class NoMeaning(Exception):
    """An instruction that is not modelled, or bits that are none."""

    def __init__(self, name: str, words: tuple[int, ...], reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.words, self.reason = name, words, reason


class Halted(Exception):
    """A wave that stops at an instruction: why, and a number or text that says more."""

    def __init__(self, why: str, detail: int | str) -> None:
        super().__init__(f"{why} {detail}")
        self.why, self.detail = why, detail


@dataclass(frozen=True, slots=True)
class Step:
    """One prepared node: what to call and which earlier values it takes."""

    run: Callable[..., Any]
    node: Node
    args: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A graph made ready: constants are computed, the rest are steps."""

    constants: tuple[tuple[int, Array], ...]
    steps: tuple[Step, ...]
    length: int
    written: tuple[int, ...]
    """The vector registers that it writes, accumulators counted on."""


def prepare(graph: Graph, context: "Context") -> Program:
    """Make a graph ready to run; constants are evaluated now."""
    constants, steps = [], []
    for node in graph.nodes:
        run = PRIMS[node.prim].numpy
        if node.prim == "const":
            constants.append((node.index, run(context, node)))
        else:
            steps.append(Step(run, node, tuple(arg.index for arg in node.args)))
    return Program(tuple(constants), tuple(steps), len(graph.nodes), tuple(graph.written))


_EFFECTS = {
    name: f"_{name}"
    for name in (
        "get_scalar", "put_scalar", "get_vector", "put_vector", "get_vector_at", "put_vector_at",
        "stop_if", "message", "others", "check", "aligned", "within", "load",
        "store", "atomic",
        "clock", "here", "jump", "branch", "jump_to", "barrier", "sync", "end",
    )
}  # fmt: skip
"""The method of a context that carries out each primitive that has an effect."""


class Context:
    """What the primitives work on: one wave, the LDS of its group, and memory."""

    def __init__(
        self,
        view: View,
        wave_size: int,
        checks: Checks | None = None,
        sync: WaveSync | None = None,
    ) -> None:
        self.view = view
        self.checks = checks
        self.sync = sync
        self.wave_size = wave_size
        self.lds: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.begin()

    def begin(self) -> None:
        """Stand at the start of a dispatch."""
        self.now = 0
        """Wave-instructions of the dispatch so far: what clocks show."""
        self.changes = 0
        """What no state repeats with: stores and atomics that changed memory, clocks read, uses of
        global wave sync."""
        self.messages: list[int] = []
        """What waves have told the host's driver, and nobody has taken yet."""
        self.group: Group | None = None
        """The group of the wave, where instructions may look at the others of it."""
        self.next_pc = 0
        self.stop: Stop | None = None
        self.jumped = False

    def enter(self, wave: Wave, lds: NDArray[np.uint8]) -> None:
        """Work on this wave from now on."""
        self.scalars, self.vectors, self.lds = wave.scalars, wave.vectors, lds
        self.wave = wave

    def effect(self, node: Node, *args: Array) -> Any:
        """Carry out one effect."""
        return getattr(self, _EFFECTS[node.prim])(node, *args)

    # --- registers

    def _get_scalar(self, node: Node) -> Array:
        at = _index(node)
        return self.scalars[at : at + 1].copy()

    def _put_scalar(self, node: Node, value: Array) -> None:
        self.scalars[_index(node)] = value[0]

    def _get_vector(self, node: Node) -> Array:
        return np.array(self.vectors[_index(node)])

    def _put_vector(self, node: Node, value: Array, mask: Array) -> None:
        np.copyto(self.vectors[_index(node)], value, where=mask)

    def _get_vector_at(self, node: Node, number: Array) -> Array:
        at = int(number[0])
        return np.array(self.vectors[at if at < state.FIRST_ACCUMULATOR else 0])

    def _put_vector_at(self, node: Node, value: Array, number: Array, mask: Array) -> None:
        if int(number[0]) < state.FIRST_ACCUMULATOR:
            np.copyto(self.vectors[int(number[0])], value, where=mask)

    # --- the sequencer

    def _stop_if(self, node: Node, condition: Array) -> None:
        assert isinstance(node.attribute, tuple)
        if condition[0]:
            raise Halted(str(node.attribute[0]), node.attribute[1])

    def _message(self, node: Node, value: Array) -> None:
        self.messages.append(int(value[0]))

    def _others(self, node: Node) -> Array:
        # How many of the other waves that live have a scalar word set, and above 16: how many are.
        assert self.group is not None
        words = self.group.words[self.group.records[:, 2] != ENDED, _index(node)]
        own = int(self.scalars[_index(node)] != 0)
        return np.array([(np.count_nonzero(words) - own) | len(words) - 1 << 16], np.uint32)

    # --- memory

    def _lanes(self, value: Array, like: Array) -> Array:
        return np.broadcast_to(value, like.shape)

    def _each(self, node: Node, address: Array) -> Array:
        # One address for each lane of an access of the lanes, also where all are the same.
        return np.broadcast_to(address, (self.wave_size,)) if node.lanes else address

    def _check(self, node: Node, address: Array, mask: Array) -> Array:
        assert isinstance(node.attribute, tuple)
        address = self._each(node, address)
        access, size = node.attribute
        mask = self._lanes(mask, address)
        allowed = self._allowed(address, int(size), access != "read")
        if access == "atomic":
            allowed = allowed & ((address & np.uint64(int(size) - 1)) == 0)
        _refuse(mask & ~allowed, address, access, int(size))
        if self.checks is not None:
            wrong = self.checks.unwritten(cast(Access, access), address, int(size), mask)
            _refuse(wrong, address, "unwritten", int(size))
        return address

    def _aligned(self, node: Node, address: Array, mask: Array) -> None:
        size = _index(node)
        address, mask = np.broadcast_arrays(address, mask)
        _refuse(mask & (address & address.dtype.type(size - 1) != 0), address, "misaligned", size)

    def _within(self, node: Node, address: Array, mask: Array) -> None:
        size = _index(node)
        address, mask = np.broadcast_arrays(address, mask)
        beyond = address.astype(np.int64) + size > len(self.lds)
        _refuse(mask & beyond, address, "lds", size)

    def _allowed(self, address: Array, size: int, write: bool) -> Array:
        view = self.view
        if not len(view.starts):
            return np.zeros(address.shape, np.bool_)
        at = np.searchsorted(view.starts, address, "right") - 1
        found = np.maximum(at, 0)
        last = address + np.uint64(size)
        inside = (at >= 0) & (last <= view.ends[found]) & (last > address)
        return inside & view.writable[found] if write else inside

    def _pieces(self, address: Array, mask: Array) -> list[tuple[NDArray[np.uint8], Array, Array]]:
        # (bytes of a range, offset in it for each lane that goes there, those lanes)
        lanes = np.flatnonzero(mask)
        if not len(lanes):
            return []
        where = address[lanes]
        at = np.searchsorted(self.view.starts, where, "right") - 1
        pieces = []
        for number in np.unique(at):
            chosen = at == number
            offset = (where[chosen] - self.view.starts[number]).astype(np.int64)
            pieces.append((self.view.view(int(number)), offset, lanes[chosen]))
        return pieces

    def _lds_pieces(
        self, address: Array, mask: Array, size: int
    ) -> list[tuple[NDArray[np.uint8], Array, Array]]:
        # What lies outside the group's LDS reads as zero and is not written.
        wide = address.astype(np.int64)
        lanes = np.flatnonzero(mask & (wide + size <= len(self.lds)))
        return [(self.lds, wide[lanes], lanes)] if len(lanes) else []

    def _where(self, space: Any, address: Array, mask: Array, size: int) -> Any:
        mask = self._lanes(mask, address)
        if space == "lds":
            return self._lds_pieces(address, mask, size)
        return self._pieces(address, mask)

    def _load(self, node: Node, address: Array, mask: Array) -> Array:
        address = self._each(node, address)
        size = node.type.bits // 8
        result = np.zeros((len(address), size), np.uint8)
        span = np.arange(size)
        for data, offset, lanes in self._where(node.attribute, address, mask, size):
            result[lanes] = data[offset[:, None] + span]
        return result.view(node.type.dtype).reshape(-1)

    def _store(self, node: Node, address: Array, value: Array, mask: Array) -> None:
        address = self._each(node, address)
        size = value.dtype.itemsize
        raw = np.array(self._lanes(value, address)).view(np.uint8).reshape(len(address), size)
        span = np.arange(size)
        for data, offset, lanes in self._where(node.attribute, address, mask, size):
            places = offset[:, None] + span
            if node.attribute != "lds" and not np.array_equal(data[places], raw[lanes]):
                self.changes += 1
            data[places] = raw[lanes]

    def _atomic(self, node: Node, address: Array, *args: Array) -> Array:
        address = self._each(node, address)
        *data, mask = (self._lanes(value, address) for value in args)
        assert isinstance(node.attribute, tuple)
        space, operation = node.attribute
        size = node.type.bits // 8
        kind = node.type.dtype
        result = np.zeros(len(address), kind)
        found: list[tuple[int, int, NDArray[np.uint8]]] = []
        for place, offset, lanes in self._where(space, address, mask, size):
            found += [(int(n), int(o), place) for n, o in zip(lanes, offset, strict=True)]
        for lane, at, place in sorted(found, key=lambda item: item[0]):
            cell = place[at : at + size]
            old = np.frombuffer(cell.tobytes(), kind)
            new = ATOMICS[str(operation)](old, *(d[lane : lane + 1] for d in data))
            result[lane] = old[0]
            bytes_of = np.frombuffer(new.astype(kind).tobytes(), np.uint8)
            self.changes += space != "lds" and not np.array_equal(bytes_of, cell)
            cell[:] = bytes_of
        return result

    # --- control

    def _clock(self, node: Node) -> Array:
        self.changes += 1
        return np.array([self.now], np.uint64)

    def _here(self, node: Node) -> Array:
        return np.array([_index(node)], np.uint64)

    def _jump(self, node: Node) -> None:
        assert isinstance(node.attribute, int)
        self.next_pc = node.attribute

    def _branch(self, node: Node, condition: Array) -> None:
        assert isinstance(node.attribute, tuple)
        self.next_pc = int(node.attribute[0 if condition[0] else 1])

    def _jump_to(self, node: Node, target: Array) -> None:
        self.next_pc = int(target[0])
        self.jumped = True

    def _barrier(self, node: Node) -> None:
        self._jump(node)
        self.stop = Stop.BARRIER

    def _sync(self, node: Node, number: Array, value: Array) -> None:
        assert isinstance(node.attribute, tuple)
        operation, self.next_pc = cast(Operation, node.attribute[0]), int(node.attribute[1])
        if self.sync is None:
            raise Halted("refuse", "the queue was given no global wave sync")
        assert self.group is not None
        asks = self.wave, self.group
        try:
            held = self.sync.carry_out(operation, int(number[0]), int(value[0]), asks)
        except BadSync as problem:
            raise Halted("refuse", str(problem)) from None
        self.changes += 1
        if held:
            self.stop = Stop.SYNC

    def _end(self, node: Node) -> None:
        self.stop = Stop.END


def _refuse(bad: Array, address: Array, access: Any, size: int) -> None:
    # Raise BadAccess for the lowest of the lanes that are bad, if any is.
    if bad.any():
        lane = int(np.argmax(bad))
        lanes = int.from_bytes(np.packbits(bad, bitorder="little").tobytes(), "little")
        raise BadAccess(int(address[lane]), access, size, lanes)


def _index(node: Node) -> int:
    assert isinstance(node.attribute, int)
    return node.attribute


class NumpyEngine:
    """Runs waves by evaluating one instruction after another."""

    def __init__(self, context: Context, program_at: Callable[[int], Program]) -> None:
        self.context = context
        self._program_at = program_at
        self._programs: dict[int, Program] = {}

    def forget(self) -> None:
        """Drop what was prepared: the code may have changed."""
        self._programs.clear()

    def run(
        self, wave: Wave, lds: NDArray[np.uint8], limit: int, compiled: Container[int] = ()
    ) -> Stop:
        """Run a wave until it stops, comes to compiled code, or jumps with `limit` reached.

        A wave may be interrupted after a jump backwards or to an address in a register, when the
        dispatch has executed `limit` instructions or more: places that do not depend on the
        engine. Raises BadAccess and NoMeaning with the wave still at the instruction concerned.
        """
        context = self.context
        context.enter(wave, lds)
        context.stop = None
        with np.errstate(all="ignore"):
            while True:
                pc = wave.pc
                self.step(wave, pc)
                if context.stop is not None:
                    return context.stop
                if (context.jumped or context.next_pc <= pc) and context.now >= limit:
                    return Stop.TURN
                if context.next_pc in compiled:
                    return Stop.COMPILED

    def step(self, wave: Wave, pc: int) -> None:
        """Execute the instruction at `pc`, where the wave that the context has entered stands."""
        program = self._programs.get(pc)
        if program is None:
            program = self._programs[pc] = self._program_at(pc)
        context = self.context
        context.jumped = False
        values: list[Any] = [None] * program.length
        for index, value in program.constants:
            values[index] = value
        for step in program.steps:
            values[step.node.index] = step.run(context, step.node, *[values[a] for a in step.args])
        context.now += 1
        wave.executed += 1
        wave.pc = context.next_pc
