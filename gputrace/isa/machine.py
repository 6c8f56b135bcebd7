"""Run kernels from their machine code: what the emulated device calls.

`Machine.start` takes a `KernelLaunch` and a `Memory` and returns an `Execution`, which `run`
advances by a budget of wave-instructions at a time. Nothing here looks at a clock, a thread or a
random source: the same launch and memory give the same result in the same order.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from typing import Literal

import numpy as np

from gputrace.errors import UsageError
from gputrace.families import Family, family
from gputrace.isa import state
from gputrace.isa.decode import Decoder, decoder
from gputrace.isa.graph import Graph
from gputrace.isa.launch import (
    Dimensions,
    Done,
    Endless,
    Fault,
    KernelLaunch,
    Memory,
    Outcome,
    Paused,
    Place,
    Range,
    RegisterImage,
    Trapped,
    Unsupported,
    View,
)
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.numpy_engine import BadAccess, NoMeaning, NumpyEngine, Stop, Wave, new_wave
from gputrace.isa.semantics import trace_instruction
from gputrace.isa.trace import Mode, NotModelled

__all__ = [
    "Done",
    "Endless",
    "Execution",
    "Fault",
    "KernelLaunch",
    "Machine",
    "Memory",
    "Outcome",
    "Paused",
    "Place",
    "Range",
    "RegisterImage",
    "Trapped",
    "Unsupported",
]

_LONGEST = 20  # bytes of the longest instruction
_SLICE = 4096  # wave-instructions until the next wave of the group has its turn
_PATIENCE = 1 << 20  # wave-instructions that a group may take before another joins it
_RESIDENT = 64  # groups that may run side by side


class Machine:
    """Runs kernels of one GPU target; raises UsageError for a target without a decoder.

    `engine` is "numpy", "jit" or "auto".
    """

    def __init__(self, target: str, engine: Literal["auto", "jit", "numpy"] = "auto") -> None:
        self.family: Family = family(target)
        self.engine = engine
        self._decoders: dict[int, Decoder] = {}

    def decoder(self, wave_size: int) -> Decoder:
        """Return the decoder for waves of this size."""
        if wave_size not in self.family.waves:
            raise UsageError(f"{self.family.name} has no waves of {wave_size} lanes")
        if wave_size not in self._decoders:
            self._decoders[wave_size] = decoder(self.family.name, wave_size)
        return self._decoders[wave_size]

    def start(self, launch: KernelLaunch, memory: Memory) -> "Execution":
        """Begin a dispatch; nothing runs before `Execution.run`."""
        if launch.target != self.family.name:
            raise UsageError(f"a launch for {launch.target} on a machine for {self.family.name}")
        return Execution(self, launch, memory)


class Group:
    """One work-group that has been started: its waves and its LDS."""

    def __init__(self, place: Dimensions, waves: list[Wave], lds_bytes: int) -> None:
        self.place = place
        self.waves = waves
        self.lds = np.zeros(lds_bytes, np.uint8)
        self.executed = 0

    def release(self) -> None:
        """Let all waves go on when each that lives has come to the barrier."""
        living = [wave for wave in self.waves if not wave.ended]
        if all(wave.waiting for wave in living):
            for wave in living:
                wave.waiting = False

    @property
    def ended(self) -> bool:
        """Whether no wave is left."""
        return all(wave.ended for wave in self.waves)


class Execution:
    """One dispatch on its way: advance it with `run` until the outcome is not `Paused`."""

    def __init__(self, machine: Machine, launch: KernelLaunch, memory: Memory) -> None:
        self.launch = launch
        self.instructions = 0
        """Wave-instructions executed so far."""
        self._family = machine.family
        self._decoder = machine.decoder(launch.wave_size)
        self._view = View(memory)
        self._mode = Mode(
            wave_size=launch.wave_size,
            float_mode=launch.rsrc1 >> 12 & 0xFF,
            zero_high=machine.family.has_agprs,
            lds_aperture=launch.lds_aperture,
            scratch_aperture=launch.scratch_aperture,
        )
        self._engine = NumpyEngine(self._view, launch.wave_size, self._graph_at)
        self._pending = self._places()
        self._groups: list[Group] = []
        self._outcome: Outcome | None = None
        self._turn = 0

    def run(self, budget: int) -> Outcome:
        """Execute about `budget` wave-instructions more; a final outcome is returned again."""
        if self._outcome is not None:
            return self._outcome
        self._refresh()
        end = self.instructions + budget
        while self.instructions < end:
            group = self._next_group()
            if group is None:
                self._outcome = Done()
                return self._outcome
            bad = self._advance(group, min(_SLICE, end - self.instructions))
            if bad is not None:
                self._outcome = bad
                return bad
        return Paused()

    def _refresh(self) -> None:
        if self._view.version is not None and self._view.version != self._view.memory.version:
            self._engine.forget()
        self._view.refresh()

    # --- order: groups one after another; a group that takes long is joined by the next

    def _next_group(self) -> Group | None:
        self._groups = [group for group in self._groups if not group.ended]
        slow = all(group.executed > _PATIENCE for group in self._groups)
        if slow and len(self._groups) < _RESIDENT:
            self._groups += [self._new_group(place) for place in islice(self._pending, 1)]
        if not self._groups:
            return None
        self._turn = (self._turn + 1) % len(self._groups)
        return self._groups[self._turn]

    def _advance(self, group: Group, budget: int) -> Outcome | None:
        # Each wave of the group that can run has a turn.
        for wave in group.waves:
            if wave.ended or wave.waiting:
                continue
            before = wave.executed
            try:
                stop = self._engine.run(wave, group.lds, budget)
            except BadAccess as error:
                return self._fault(group, wave, error)
            except NoMeaning as error:
                place = Place(group.place, wave.number, wave.pc)
                return Unsupported(place, error.name, error.words, error.reason)
            finally:
                self.instructions += wave.executed - before
                group.executed += wave.executed - before
            wave.ended = stop is Stop.END
            wave.waiting = stop is Stop.BARRIER
        group.release()
        return None

    def _fault(self, group: Group, wave: Wave, error: BadAccess) -> Fault:
        place = Place(group.place, wave.number, wave.pc)
        image = RegisterImage(wave.scalars.copy(), wave.vectors.copy())
        return Fault(error.address, error.access, error.size, error.lanes, place, image)

    # --- code

    def _graph_at(self, pc: int) -> Graph:
        code = self._view.fetch(pc, _LONGEST)
        if code is None:
            raise BadAccess(pc, "execute", 4, 0)
        instruction = replace(self._decoder.decode(code, 0), address=pc)
        try:
            return trace_instruction(instruction, self._mode, MEANINGS)
        except NotModelled as error:
            raise NoMeaning(instruction.mnemonic, instruction.words, str(error)) from error

    # --- the state in which waves begin

    def _places(self) -> Iterator[Dimensions]:
        first, count = self.launch.first_group, self.launch.groups
        axes = [range(first[axis], first[axis] + count[axis]) for axis in (2, 1, 0)]
        return ((x, y, z) for z, y, x in product(*axes))

    def _size_of(self, place: Dimensions) -> Dimensions:
        launch = self.launch
        sizes = [
            launch.partial[axis]
            if launch.partial[axis] and place[axis] == launch.first_group[axis] + count - 1
            else launch.group_size[axis]
            for axis, count in enumerate(launch.groups)
        ]
        return sizes[0], sizes[1], sizes[2]

    def _new_group(self, place: Dimensions) -> Group:
        size = self._size_of(place)
        items = size[0] * size[1] * size[2]
        lanes = self.launch.wave_size
        count = -(-items // lanes)
        waves = [self._new_wave(place, size, number, count) for number in range(count)]
        return Group(place, waves, self.launch.lds_bytes)

    def _new_wave(self, place: Dimensions, size: Dimensions, number: int, count: int) -> Wave:
        launch = self.launch
        wave = new_wave(number, launch.wave_size, launch.entry)
        ids = np.arange(launch.wave_size, dtype=np.uint32) + np.uint32(number * launch.wave_size)
        active = ids < size[0] * size[1] * size[2]
        mask = int.from_bytes(np.packbits(active, bitorder="little").tobytes(), "little")
        wave.scalars[state.EXEC] = mask & 0xFFFFFFFF
        wave.scalars[state.EXEC + 1] = mask >> 32
        self._place_ids(wave, ids, size)
        at = len(launch.user_data)
        wave.scalars[:at] = launch.user_data
        self._place_system(wave, at, place, number, count)
        return wave

    def _place_ids(
        self, wave: Wave, ids: "np.ndarray[tuple[int], np.dtype[np.uint32]]", size: Dimensions
    ) -> None:
        wanted = self.launch.rsrc2 >> 11 & 3
        x, y = ids % size[0], ids // size[0] % size[1]
        z = ids // (size[0] * size[1])
        if self._family.packed_work_item_ids:
            wave.vectors[0] = x | (y << 10 if wanted > 0 else 0) | (z << 20 if wanted > 1 else 0)
            return
        wave.vectors[0] = x
        if wanted > 0:
            wave.vectors[1] = y
        if wanted > 1:
            wave.vectors[2] = z

    def _place_system(
        self, wave: Wave, at: int, place: Dimensions, number: int, count: int
    ) -> None:
        rsrc2, scalars = self.launch.rsrc2, wave.scalars
        if self._family.work_group_ids == "ttmp":
            scalars[state.TTMP + 9] = place[0]
            scalars[state.TTMP + 7] = place[1] | place[2] << 16
            scalars[state.TTMP + 8] = number << 25
        else:
            for axis in range(3):
                if rsrc2 >> (7 + axis) & 1:
                    scalars[at] = place[axis]
                    at += 1
        if rsrc2 >> 10 & 1:
            scalars[at] = count | (1 << 31 if number == 0 else 0)
            at += 1
        slot = number % max(1, self.launch.scratch_waves)
        offset = slot * self.launch.scratch_wave_bytes
        if self._family.flat_scratch == "absolute":
            if rsrc2 & 1:
                scalars[at] = offset
            return
        base = self.launch.scratch_base + offset
        scalars[state.FLAT_SCRATCH] = base & 0xFFFFFFFF
        scalars[state.FLAT_SCRATCH + 1] = base >> 32
