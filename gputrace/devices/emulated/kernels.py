"""Dispatches under way: waves run slice by slice, and end well or in a way that has a place."""

from collections.abc import Sequence

from gputrace.devices.emulated.memory import Space
from gputrace.devices.emulated.queue import Loop
from gputrace.errors import DecodeError, GputraceError
from gputrace.isa import launch as isa
from gputrace.isa.machine import Execution, Machine

BUDGET = 4096
"""Wave-instructions of one step."""
_ACCESS = {"read": "r", "write": "w", "atomic": "w", "execute": "x"}


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
        super().__init__(reason)


class SpaceMemory:
    """A page table as the shader engines see it."""

    def __init__(self, space: Space) -> None:
        self._space = space

    @property
    def version(self) -> int:
        """A number that changes with every mapping."""
        return self._space.version

    def ranges(self) -> Sequence[isa.Range]:
        """Every range that waves may touch."""
        return [
            isa.Range(one.start, one.limit - one.start, one.host, one.writable, one.executable)
            for one in self._space.spans
        ]


class KernelRun:
    """One dispatch. `cost_ns` is the virtual time of the last slice: an instruction takes one."""

    def __init__(self, machine: Machine, launch: isa.KernelLaunch, space: Space) -> None:
        self.launch = launch
        self.cost_ns = 0
        self.loop: Loop | None = None
        self._execution: Execution = machine.start(launch, SpaceMemory(space))

    def advance(self) -> bool:
        """Run a slice; return whether all work-groups have ended. Raises KernelStop."""
        before = self._execution.instructions
        try:
            outcome = self._execution.run(BUDGET)
        except DecodeError as problem:
            raise KernelStop(f"illegal instruction: {problem}", self.launch.kernel, None) from None
        self.cost_ns = max(1, self._execution.instructions - before)
        if isinstance(outcome, isa.Done | isa.Paused):
            return isinstance(outcome, isa.Done)
        raise self._stop(outcome)

    def _stop(
        self, outcome: isa.Fault | isa.Endless | isa.Unsupported | isa.Trapped
    ) -> KernelStop:
        kernel, place = self.launch.kernel, outcome.place
        at = f"wave {place.wave} of work-group {place.group} at pc {place.pc:#x}"
        if isinstance(outcome, isa.Fault):
            access = _ACCESS[outcome.access]
            text = f"{at}: {outcome.access} of {outcome.size} bytes by lanes {outcome.lanes:#x}"
            return KernelStop(text, kernel, place, outcome.address, access)
        if isinstance(outcome, isa.Endless):
            return KernelStop(f"{at}: an endless loop, proven", kernel, place)
        if isinstance(outcome, isa.Trapped):
            return KernelStop(f"{at}: trap {outcome.number}", kernel, place)
        text = f"{at}: {outcome.name} is not modelled: {outcome.reason}"
        return KernelStop(text, kernel, place, refused=f"instruction {outcome.name}")
