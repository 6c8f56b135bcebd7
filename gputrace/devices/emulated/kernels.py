"""Dispatches under way: waves run slice by slice, and end well or in a way that has a place."""

from collections.abc import Sequence

from gputrace.devices.emulated.memory import Space
from gputrace.devices.emulated.queue import Loop
from gputrace.errors import DecodeError, GputraceError
from gputrace.isa import launch as isa
from gputrace.isa.machine import Execution, Machine
from gputrace.isa.wave_sync import WaveSync
from gputrace.kfd.port import Registers

LEAST = 1 << 12
"""Wave-instructions of one step at least."""
MOST, SHARE = 1 << 16, 16
"""How many more beside other work: a share of what the dispatch has taken, within this bound."""
MOST_ALONE, SHARE_ALONE = 1 << 24, 4
"""The same where nothing else on the device could go in between."""
_ACCESS = {
    "read": "r", "write": "w", "atomic": "w", "execute": "x", "unwritten": "r", "lds": None,
    "misaligned": None,
}  # fmt: skip
_WORDS = {
    "unwritten": "read of {size} bytes that nobody has written at {address:#x}",
    "lds": "access to {size} bytes at {address:#x} of the LDS, beyond its end,",
    "misaligned": "atomic on {size} bytes at {address:#x} of the LDS, no multiple of that,",
}
_PLAIN = "{access} of {size} bytes at {address:#x}"


class KernelStop(GputraceError):
    """A wave that cannot go on: `place` is where it stands, `address` what it touched, if any."""

    def __init__(
        self,
        reason: str,
        kernel: str,
        place: isa.Place | None,
        address: int | None = None,
        access: str | None = None,
        refused: str = "",
    ) -> None:
        self.reason, self.kernel, self.place = reason, kernel, place
        self.address, self.access, self.refused = address, access, refused
        self.lanes: int | None = None
        self.size: int | None = None
        self.registers: Registers = {}
        super().__init__(reason)


class SpaceMemory:
    """A page table as the shader engines see it."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._known: tuple[int, Sequence[isa.Range]] = (-1, ())

    @property
    def version(self) -> int:
        """A number that changes with every mapping."""
        return self._space.version

    def ranges(self) -> Sequence[isa.Range]:
        """Every range that waves may touch."""
        if self._known[0] != self.version:
            ranges = [
                isa.Range(one.start, one.limit - one.start, one.host, one.writable, one.executable)
                for one in self._space.spans
            ]
            self._known = self.version, ranges
        return self._known[1]


class KernelRun:
    """One dispatch. `cost_ns` is the virtual time of the last slice: an instruction takes one.

    `limit` is how many wave-instructions it may take before it counts as running for ever.
    """

    def __init__(
        self,
        machine: Machine,
        launch: isa.KernelLaunch,
        memory: SpaceMemory,
        limit: int,
        checks: isa.Checks | None = None,
        sync: WaveSync | None = None,
    ) -> None:
        self.launch, self._limit = launch, limit
        self.cost_ns = 0
        self._loop: Loop | None = None
        self._sync, self._released = sync, 0
        self._machine = machine
        self._execution: Execution = machine.start(launch, memory, checks, sync)

    @property
    def loop(self) -> Loop | None:
        """Set while the waves go through the same states for ever unless memory changes."""
        if self._sync is not None and self._sync.released != self._released:
            return None  # another dispatch may have let go a wave of this one
        return self._loop

    def advance(self, alone: bool) -> bool:
        """Run a slice; return whether all work-groups have ended. Raises KernelStop."""
        before = self._execution.instructions
        most, share = (MOST_ALONE, SHARE_ALONE) if alone else (MOST, SHARE)
        try:
            outcome = self._execution.run(min(most, max(LEAST, before // share)))
        except DecodeError as problem:
            raise KernelStop(f"illegal instruction: {problem}", self.launch.kernel, None) from None
        self.cost_ns = max(1, self._execution.instructions - before)
        self._loop, self._released = None, self._sync.released if self._sync else 0
        if isinstance(outcome, isa.Done):
            return True
        if isinstance(outcome, isa.Endless):
            self._loop = self._endless(outcome)
        elif not isinstance(outcome, isa.Paused):
            raise self._stopped(outcome)
        elif self._execution.instructions >= self._limit:
            text = f"has taken {self._execution.instructions} wave-instructions and still runs"
            self._loop = Loop((), self.launch.kernel, None, text, proven=False)
        return False

    def take_messages(self) -> list[int]:
        """Return the contexts of the interrupts that waves have raised since the last call."""
        return self._execution.take_messages()

    def end(self) -> None:
        """Give back what the next dispatch of the kernel can use; all work-groups have ended."""
        self._machine.keep(self._execution)

    def _endless(self, outcome: isa.Endless) -> Loop:
        place = outcome.place
        text = f"{_where(place)} {outcome.what}"
        if outcome.period:
            text = (
                f"loops for ever: {_where(place)} comes back to the same state after"
                f" {outcome.period} instructions, and no wave of the others ends"
            )
        return Loop(outcome.seen, self.launch.kernel, place, text, registers=self._shown(outcome))

    def _shown(self, outcome: isa.Stopped | isa.Endless) -> Registers:
        return outcome.registers.shown(self._execution.instruction(outcome.place.pc))

    def _stopped(self, outcome: isa.Stopped) -> KernelStop:
        stop = self._stop(outcome)
        stop.registers = self._shown(outcome)
        return stop

    def _stop(self, outcome: isa.Stopped) -> KernelStop:
        kernel, place = self.launch.kernel, outcome.place
        at = _where(place)
        if isinstance(outcome, isa.Fault):
            access, size, address = outcome.access, outcome.size, outcome.address
            what = _WORDS.get(access, _PLAIN).format(access=access, size=size, address=address)
            text = f"{at}: {what} by {lanes(outcome.lanes)}"
            stop = KernelStop(text, kernel, place, address, _ACCESS[access])
            stop.lanes, stop.size = outcome.lanes, size
            return stop
        if isinstance(outcome, isa.Trapped):
            what = outcome.what or f"trap {outcome.number}"
            return KernelStop(f"{at}: {what}", kernel, place)
        text = f"{at}: {outcome.name} is not modelled: {outcome.reason}"
        return KernelStop(text, kernel, place, refused=f"instruction {outcome.name}")


def _where(place: isa.Place) -> str:
    return f"wave {place.wave} of work-group {place.group} at pc {place.pc:#x}"


def lanes(mask: int) -> str:
    """Write a mask of lanes as the numbers of the lanes, runs shortened: "lanes 0-3 and 7"."""
    runs: list[list[int]] = []
    for lane in range(mask.bit_length()):
        if mask >> lane & 1:
            if runs and runs[-1][-1] == lane - 1:
                runs[-1] = [runs[-1][0], lane]
            else:
                runs.append([lane])
    texts = ["-".join(map(str, run)) for run in runs]
    several = len(texts) > 1 or "-" in texts[0] if texts else True
    return ("lanes " if several else "lane ") + (" and ".join(texts) or "none")
