"""One dispatch on its way: whose turn it is, which engine runs it, and how it ends."""

from collections.abc import Container
from typing import TYPE_CHECKING

from gputrace.errors import DecodeError
from gputrace.isa.background import Job
from gputrace.isa.endless import Watch
from gputrace.isa.initial import Initial
from gputrace.isa.instruction import Instruction
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
    RegisterImage,
    Trapped,
    Unsupported,
    View,
)
from gputrace.isa.numpy_engine import (
    BadAccess,
    Context,
    Halted,
    NoMeaning,
    NumpyEngine,
    Program,
    Stop,
)
from gputrace.isa.state import ADDRESS
from gputrace.isa.stop import Why
from gputrace.isa.wave_sync import WaveSync
from gputrace.isa.waves import (
    ENDED,
    HELD,
    RUNNING,
    SLICE,
    WAITING,
    Group,
    Wave,
    touched,
)

if TYPE_CHECKING:
    from gputrace.isa.jit_cores import Cores, Progress
    from gputrace.isa.jit_engine import JitEngine, Runner
    from gputrace.isa.machine import Machine

NAMING = 64
"""Bytes of code that tell kernels apart."""
_LONGEST = 20  # bytes of the longest instruction
_RESIDENT = 1024  # groups that may run side by side
_WARM = 500  # wave-instructions of a kernel after which it is compiled beside the numpy engine
_HOT = 20_000  # wave-instructions of a dispatch after which that is waited for
_WIDE = 300_000  # wave-instructions of a budget from which on several cores are made use of
_SAFE = 0.97  # of the budget that groups on several cores are planned for
_LEAST_OF_WAVE = 8  # instructions that the waves of a dispatch are expected to have at least
_OFTEN = 2000  # instructions run from a place on before it is compiled beside the kernel's start


class Execution:
    """One dispatch on its way: advance it with `run` until the outcome is not `Paused`.

    The order does not depend on the engine. Groups run one after another; each wave of a group has
    its turn until it ends, waits at a barrier, or has taken its share of instructions and jumps
    backwards (or to an address in a register). A group that takes long is joined by the next.
    """

    def __init__(
        self,
        machine: "Machine",
        launch: KernelLaunch,
        memory: Memory,
        checks: Checks | None = None,
        sync: WaveSync | None = None,
    ) -> None:
        self.launch, self.machine = launch, machine
        self.memory, self.checked, self.sync = memory, checks is not None, sync
        self._view = View(memory)
        self._context = Context(self._view, launch.wave_size, checks, sync)
        self._numpy = NumpyEngine(self._context, self._program_at)
        self._initial = Initial(launch, machine.family)
        self._mode = self._initial.mode
        self._jit: JitEngine | None = None
        self._written: set[int] = set()
        self._begin()

    def again(self, launch: KernelLaunch) -> None:
        """Stand before another launch, which differs from the one that is done in user data."""
        self.launch = launch
        self._initial.again(launch)
        self._context.begin()
        self._begin()

    def _begin(self) -> None:
        self._fresh = True  # the code has not been looked at
        self._begun = 0  # groups that have been started, in their order
        self._watch = Watch(self._view, self.launch.wave_size, self._program_at)
        self._groups: list[Group] = []
        self._newest: Group | None = None
        self._outcome: Outcome | None = None
        self._turn, self._stop_at, self._in_round = 0, 0, False
        self._cores: Cores | None = None
        self._may_compile = self.machine.engine != "numpy" and not self.checked
        self._weights: dict[int, int] = {}  # instructions that numpy has run from a place on
        self._name, self._looked = b"", False
        self._job: Job | None = None

    @property
    def instructions(self) -> int:
        """Wave-instructions executed so far."""
        return self._context.now

    def take_messages(self) -> list[int]:
        """Return what waves have told the host's driver (s_sendmsg) since the last call."""
        taken, self._context.messages = self._context.messages, []
        return taken

    @property
    def engine(self) -> str:
        """Which engine runs the next instructions: "numpy" or "jit"."""
        return "numpy" if self._jit is None else "jit"

    def run(self, budget: int) -> Outcome:
        """Execute about `budget` wave-instructions more; a final outcome is returned again.

        `Paused` and `Endless` are not final.

        A pause comes before the turn of a wave or where a turn could end, so the count may go
        beyond the budget by the longest way through the code without a jump backwards.
        """
        if self._outcome is not None:
            return self._outcome
        self._refresh()
        self._stop_at = self.instructions + budget
        while True:
            if not self._in_round and not self._next_group():
                self._outcome = Done()
                self.machine.heat[self._name] = self._heat()
                return self._outcome
            group = self._groups[self._turn]
            if group.stuck:
                self._in_round = False
                return self._stuck(group)
            if self._jit is None and self._may_compile and self._worth_compiling():
                self._jit = self._begin_jit()
            outcome = self._round(group) if self._jit is None else self._rounds(self._jit, group)
            if isinstance(outcome, Paused):
                return self._endless() or outcome
            if outcome is not None:
                self._outcome = outcome
                self.machine.heat[self._name] = self._heat()
                return outcome
            self._in_round = False
            self._groups[self._turn].look()

    def instruction(self, pc: int) -> Instruction | None:
        """Return the instruction at an address; None where none can be read or decoded."""
        code = self._view.fetch(pc, _LONGEST) or b""
        try:
            return self.machine.decoder(self._mode.wave_size).decode(code, 0)
        except DecodeError:
            return None

    def _refresh(self) -> None:
        changed = self._view.version != self._view.memory.version
        if not changed and not self._fresh:
            return
        self._numpy.forget()
        self._view.refresh()
        self._name = self._view.fetch(self.launch.entry, NAMING) or b""
        if self._jit is not None and changed:
            self._jit.refresh()
            self._cores = None
        elif self._jit is not None and not self._jit.holds():
            self._jit = None
        self._fresh = False

    def _endless(self) -> Endless | None:
        if not self._watch.due(self.instructions, self._context.changes):
            return None
        if len(self._groups) < self._most_groups() and self._begun < self._initial.groups:
            return None  # a group that has not started may free the others
        return self._watch.prove(self._groups)

    def _stuck(self, group: Group) -> Endless:
        # Every group that is left waits for something that no wave of the dispatch will ever do.
        held = next(((g, w) for g in self._groups for w in g.waves if w.status == HELD), None)
        what = "waits at a barrier to which not all waves will ever come"
        if held is None:
            wave = next(wave for wave in group.waves if wave.status == WAITING)
        else:
            assert self.sync is not None
            group, wave = held
            what = self.sync.describe(wave)
        place = Place(group.place, wave.number, wave.address)
        return Endless(place, 0, _image(wave), what=what)

    # --- order

    def _next_group(self) -> bool:
        if self._groups and self._groups[self._turn].ended:
            over = self._groups.pop(self._turn)
            over.clear(*(self._jit.touched if self._jit else touched(self._written)))
            self.machine.spare.put(over)
        slow = all(group.executed > group.patience or group.stuck for group in self._groups)
        open_ones = self._begun < self._initial.groups
        if slow and open_ones and len(self._groups) < self._most_groups():
            self._groups.append(self._start_group(self._initial.place(self._begun)))
            self._begun += 1
        if not self._groups:
            return False
        count = len(self._groups)
        first = self._turn + 1
        turns = (turn % count for turn in range(first, first + count))
        moving = (turn for turn in turns if not self._groups[turn].stuck)
        self._turn = next(moving, first % count)
        self._in_round = True
        return True

    def _round(self, group: Group) -> Outcome | None:
        # Each wave of the group that can run has a turn; None when the round is over.
        while group.turn < len(group.waves):
            wave = group.waves[group.turn]
            if wave.status != RUNNING:
                group.turn += 1
                continue
            if self.instructions >= self._stop_at:
                return Paused()
            if self._jit is None and self._may_compile and self._worth_compiling():
                self._jit = self._begin_jit()
                return self._rounds(self._jit, group)
            if group.turn_end is None:
                group.turn_end = self.instructions + SLICE
            outcome = self._run_wave(group, wave, group.turn_end, ())
            if outcome is not None:
                return outcome
        group.turn = 0
        group.release()
        return None

    def _run_wave(
        self, group: Group, wave: Wave, turn_end: int, compiled: Container[int]
    ) -> Outcome | None:
        # Run a wave with numpy until its turn is over or it comes to compiled code.
        before = self.instructions
        self._context.group = group
        try:
            stop = self._numpy.run(wave, group.lds, min(turn_end, self._stop_at), compiled)
        except BadAccess as error:
            return self._fault(group, wave, error)
        except Halted as stopped:
            return self._halted(group, wave, stopped)
        except NoMeaning as error:
            place = Place(group.place, wave.number, wave.address)
            return Unsupported(place, error.name, error.words, error.reason, _image(wave))
        finally:
            group.executed += self.instructions - before
        if stop is Stop.COMPILED:
            return None
        if stop is Stop.END:
            wave.status = ENDED
        elif stop is Stop.BARRIER:
            wave.status = WAITING
        elif stop is not Stop.SYNC and self.instructions < turn_end:
            return Paused()
        group.turn += 1
        group.turn_end = None
        return None

    # --- compiled code

    def _heat(self) -> int:
        return self.machine.heat.get(self._name, 0) + self.instructions

    def _worth_compiling(self) -> bool:
        if self.machine.engine == "jit":
            return True
        expected = self._initial.groups * self._waves_of_one() * _LEAST_OF_WAVE
        hot = max(expected, self.instructions) >= _HOT
        if self._job is None:
            if not hot and max(expected, self._heat()) < _WARM:
                return False
            self._job = self.machine.prepare(self._mode, self._view, self.launch.entry)
        if hot:
            self._job.wait()
            self._may_compile = self.machine.compiles()
            return self._may_compile
        if not self._job.done:
            return False
        self._may_compile = self.machine.compiles()
        if not self._may_compile or self._looked:
            return False
        self._looked = True
        library, fetch = self.machine.library, self._view.fetch
        return library.find(self._mode, fetch, self.launch.entry, make=False) is not None

    def _begin_jit(self) -> "JitEngine":
        from gputrace.isa.jit_engine import JitEngine

        engine = JitEngine(self.machine.library, self._view, self._mode, self._initial)
        engine.refresh()
        engine.touch(self._written)
        return engine

    def _rounds(self, jit: "JitEngine", group: Group) -> Outcome | None:
        # Rounds of one group, or of the groups after it as well; None when the round is over.
        # A group that others have overtaken has none of those behind it still to start.
        alone = len(self._groups) == 1 and group is self._newest
        while True:
            if alone and self._in_parts(jit, group):
                group = self._groups[0]
                if group.ended:
                    return None
            why, runner = self._drive(jit, group, alone)
            if why is Why.DONE or why is Why.ROUND:
                return None
            if why is Why.PAUSED:
                return Paused()
            wave = group.waves[group.turn]
            if why is Why.FAULT:
                return self._fault(group, wave, runner.fault())
            if self._compile(jit, wave.pc):
                continue
            assert group.turn_end is not None
            pc, before = wave.pc, self.instructions
            outcome = self._run_wave(group, wave, group.turn_end, jit.table)
            self._weights[pc] = self._weights.get(pc, 0) + self.instructions - before
            if outcome is not None:
                return outcome

    def _drive(self, jit: "JitEngine", group: Group, alone: bool) -> "tuple[Why, Runner]":
        # Run compiled code; return why it stopped, and what knows more about it.
        runner, most = self._how(jit, group) if alone else (jit, 0)
        now, changes = self.instructions, self._context.changes
        runner.attach(group, now, changes, self._stop_at, alone, jit.touched)
        more = runner.allow(group, most) if most else 0
        why = runner.drive()
        self._context.now, self._context.changes = runner.counts()
        self._begin_more(more - runner.detach(group, alone))
        if runner is not jit and why is Why.DONE and self._cores is not None:
            self._cores.learn(group.place)
        return why, runner

    def _begin_more(self, count: int) -> None:
        # Compiled code has begun so many groups by itself: there is but one at a time.
        if count:
            self._begun += count
            self._groups[0].slot = 0

    # --- several cores

    def _spreads(self, jit: "JitEngine") -> "Cores | None":
        # What cuts groups into parts, where that may be worth it.
        if self.machine.cores < 2 or self._stop_at - self.instructions < _WIDE:
            return None
        if self._cores is None:
            from gputrace.isa.jit_cores import Cores

            self._cores = Cores(jit, self._initial, self.machine.spare, self.machine.cores)
        return self._cores if self._cores.useful else None

    def _fitting(self, group: Group) -> tuple[int, float]:
        # How many groups from a new one on should fit into the budget, and what each takes.
        each = self.instructions / self._initial.number(group.place)
        room = int(_SAFE * (self._stop_at - self.instructions) / each)
        return min(self._initial.same_size_after(group.place) + 1, room), each

    def _how(self, jit: "JitEngine", group: Group) -> "tuple[Runner, int]":
        # What runs a group, and how many after it.
        cores, every = self._spreads(jit), 1 << 62
        if cores is None:
            return jit, every
        if group.executed or group.place == self._initial.place(0):
            return jit, 0  # the next one is new, and it is known what groups take
        if not cores.worth(*self._fitting(group)):
            return jit, every
        if cores.unknown(group.place):
            return cores.learner(), 0
        return jit, max(0, cores.known(group.place) - 1)

    def _in_parts(self, jit: "JitEngine", group: Group) -> bool:
        # Run groups from a new one on in parts, if that can be done; return whether it was.
        cores = self._spreads(jit)
        if cores is None or group.executed or group.place == self._initial.place(0):
            return False
        most, each = self._fitting(group)
        shares = [] if cores.unknown(group.place) else cores.plan(group.place, most, each)
        if shares:
            budget = self._stop_at - self.instructions
            self._take(jit, cores.run(group, shares, budget, self._make_group))
        return bool(shares)

    def _take(self, jit: "JitEngine", progress: "Progress") -> None:
        # Go on from where groups have come to in parts.
        group, before = progress.group, self.instructions
        for over in progress.over:
            over.clear(*jit.touched)
            self.machine.spare.put(over)
        if group.turn_end is not None:
            group.turn_end += before
        self._groups, self._newest, self._turn = [group], group, 0
        self._context.now += progress.executed
        self._context.changes += progress.changes
        self._begin_more(progress.started)

    def _compile(self, jit: "JitEngine", pc: int) -> bool:
        # Code that is seldom run is not worth it; the kernel itself was found to be.
        if pc in jit.table:
            return False
        often = pc == self.launch.entry or self._weights.get(pc, 0) >= _OFTEN
        now = self.machine.engine == "jit" or often
        return jit.enter(pc, make=now)

    def _fault(self, group: Group, wave: Wave, error: BadAccess) -> Fault:
        place = Place(group.place, wave.number, wave.address)
        return Fault(error.address, error.access, error.size, error.lanes, place, _image(wave))

    def _halted(self, group: Group, wave: Wave, stopped: Halted) -> Outcome:
        place, image = Place(group.place, wave.number, wave.address), _image(wave)
        if stopped.why == "trap":
            return Trapped(place, int(stopped.detail), image)
        if stopped.why == "illegal":
            return Trapped(place, 0, image, f"illegal instruction {stopped.detail}")
        made = self.instruction(wave.pc)
        name, words = (made.mnemonic, made.words) if made else ("", ())
        return Unsupported(place, name, words, str(stopped.detail), image)

    # --- groups side by side have scratch of their own

    def _waves_of_one(self) -> int:
        return self._initial.waves_of(self.launch.group_size)

    def _most_groups(self) -> int:
        each, most = self._waves_of_one(), _RESIDENT
        if self.sync is not None:
            # Groups that wait for one another are launched no more than fit.
            shape = self.machine.family.shape
            most = max(1, shape.simds * shape.waves_per_simd // each)
        if not self.launch.scratch_wave_bytes:
            return most
        return max(1, min(most, self.launch.scratch_waves // each))

    def _start_group(self, place: tuple[int, int, int]) -> Group:
        taken = {group.slot for group in self._groups}
        slot = next(n for n in range(len(taken) + 1) if n not in taken)
        self._newest = group = self._make_group(place, slot)
        return group

    def _make_group(self, place: tuple[int, int, int], slot: int = 0) -> Group:
        group = self._initial.group(place, slot * self._waves_of_one(), self.machine.spare)
        group.slot = slot
        return group

    # --- code

    def _program_at(self, pc: int) -> Program:
        code = self._view.fetch(pc, _LONGEST)
        if code is None:
            raise BadAccess(pc & ADDRESS, "execute", 4, 0)
        program = self.machine.program(self._mode.at(pc), pc, code, self._context)
        if not self._written.issuperset(program.written):
            self._written.update(program.written)
            if self._jit is not None:
                self._jit.touch(self._written)
        return program


def _image(wave: Wave) -> RegisterImage:
    return RegisterImage(wave.scalars.copy(), wave.vectors.copy())
