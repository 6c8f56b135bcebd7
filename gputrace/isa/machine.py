"""Run kernels from their machine code: what the emulated device calls.

`Machine.start` takes a `KernelLaunch` and a `Memory` and returns an `Execution`, which `run`
advances by a budget of wave-instructions at a time. Nothing here looks at a clock or a random
source: the same launch and memory give the same result in the same order, on any number of cores.
"""

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from gputrace.errors import DecodeError, UsageError
from gputrace.families import Family, family
from gputrace.isa.background import Job
from gputrace.isa.decode import TARGETS, Decoder, decoder
from gputrace.isa.execution import NAMING, Execution
from gputrace.isa.graph import Graph
from gputrace.isa.kept import Kept
from gputrace.isa.launch import (
    Checks,
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
from gputrace.isa.numpy_engine import Context, NoMeaning, Program, prepare
from gputrace.isa.semantics import trace_instruction
from gputrace.isa.trace import Mode, NotModelled
from gputrace.isa.wave_sync import WaveSync
from gputrace.isa.waves import Spare

if TYPE_CHECKING:
    from gputrace.isa.jit_library import Library

__all__ = [
    "Done", "Endless", "Execution", "Fault", "KernelLaunch", "Machine", "Memory", "Outcome",
    "Paused", "Place", "Range", "RegisterImage", "Trapped", "Unsupported",
]  # fmt: skip

_REMEMBERED = 1 << 16  # prepared instructions that a machine keeps
_AROUND = 1 << 17  # bytes of code on both sides of a kernel's start that it is compiled from


class Machine:
    """Runs kernels of one GPU target; raises UsageError for a target without a decoder.

    `engine` is "numpy", "jit" or "auto". `cores` is how many threads compiled groups of one
    dispatch may run on, by default as many as the process may use; no result depends on it.
    """

    def __init__(
        self,
        target: str,
        engine: Literal["auto", "jit", "numpy"] = "auto",
        cores: int | None = None,
    ) -> None:
        self.family: Family = family(target)
        self.engine = engine
        self.cores = cores or len(os.sched_getaffinity(0))
        self._decoders: dict[int, Decoder] = {}
        self._programs: dict[tuple[Mode, int, bytes], Program] = {}
        self._library: Library | None = None
        self._making = threading.Lock()
        self._jobs: dict[tuple[Mode, bytes], Job] = {}
        self.spare = Spare()
        """Registers of groups that have ended, for others."""
        self._kept = Kept()
        self.heat: dict[bytes, int] = {}
        """Wave-instructions that kernels, by the bytes that they begin with, have executed."""

    @property
    def library(self) -> "Library":
        """The compiled code; raises UsageError where this processor cannot run any."""
        with self._making:
            if self._library is None:
                # LLVM is loaded only when something is to be compiled.
                from gputrace.isa.jit_library import Library, usable
                from gputrace.isa.jit_store import Store

                if not usable():
                    raise UsageError("compiled kernels need a processor with AVX2, FMA and F16C")
                self._library = Library(self.family.name, self.graph, Store())
            return self._library

    def prepare(self, mode: Mode, view: View, entry: int) -> Job:
        """Find or make the compiled code of a kernel, beside what the caller does next."""
        copied = view.copied(entry, _AROUND)
        start = view.fetch(entry, NAMING) or b""
        job = self._jobs.get((mode, start))
        if job is None:
            def work() -> None:
                if self.compiles():
                    self.library.drive(mode.wave_size)
                    self.library.find(mode, copied, entry, make=True)

            if len(self._jobs) >= _REMEMBERED:
                self._jobs.clear()
            job = self._jobs[mode, start] = Job(work)
        return job

    def compiles(self) -> bool:
        """Return whether kernels may be compiled here."""
        if self.engine == "auto" and self._library is None:
            try:
                return bool(self.library)
            except UsageError:
                self.engine = "numpy"
        return self.engine != "numpy"

    def decoder(self, wave_size: int) -> Decoder:
        """Return the decoder for waves of this size."""
        if wave_size not in self.family.waves:
            raise UsageError(f"{self.family.name} has no waves of {wave_size} lanes")
        if wave_size not in self._decoders:
            self._decoders[wave_size] = decoder(self.family.name, wave_size)
        return self._decoders[wave_size]

    def graph(self, mode: Mode, pc: int, code: bytes) -> tuple[Graph, int]:
        """Return what the instruction at the start of some code does, and how many bytes it has.

        Raises NoMeaning.
        """
        try:
            instruction = replace(self.decoder(mode.wave_size).decode(code, 0), address=pc)
        except DecodeError as error:
            raw = error.raw if isinstance(error.raw, int) else int.from_bytes(error.raw, "little")
            raise NoMeaning("", (raw & 0xFFFFFFFF,), error.reason) from error
        try:
            return trace_instruction(instruction, mode, MEANINGS), instruction.size
        except NotModelled as error:
            raise NoMeaning(instruction.mnemonic, instruction.words, str(error)) from error

    def program(self, mode: Mode, pc: int, code: bytes, context: Context) -> Program:
        """Return an instruction made ready for the numpy engine."""
        key = mode, pc, code
        found = self._programs.get(key)
        if found is None:
            found = prepare(self.graph(mode, pc, code)[0], context)
            if len(self._programs) >= _REMEMBERED:
                self._programs.clear()
            self._programs[key] = found
        return found

    def start(
        self,
        launch: KernelLaunch,
        memory: Memory,
        checks: Checks | None = None,
        sync: WaveSync | None = None,
    ) -> Execution:
        """Begin a dispatch; nothing runs before `Execution.run`. With `checks` numpy runs it.

        `sync` is the queue's, if it has been given any.
        """
        if launch.target != self.family.name:
            raise UsageError(f"a launch for {launch.target} on a machine for {self.family.name}")
        if launch.wave_size not in self.family.waves or self.family.name not in TARGETS:
            self.decoder(launch.wave_size)  # which says what is wrong
        plain = checks is None and sync is None
        again = self._kept.take(launch, memory) if plain else None
        return again or Execution(self, launch, memory, checks, sync)

    def keep(self, execution: Execution) -> None:
        """Take an execution that is done, and of which nobody asks any more."""
        if not execution.checked and execution.sync is None:
            self._kept.put(execution)
