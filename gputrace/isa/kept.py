"""Executions that are done, for the next dispatch of the same kernel."""

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from gputrace.isa.launch import KernelLaunch, Memory

if TYPE_CHECKING:
    from gputrace.isa.execution import Execution

_MOST: Final = 64
_same = attrgetter(*(one for one in KernelLaunch.__slots__ if one not in ("user_data", "kernel")))


class Kept:
    """Executions by what they run: all of a launch but the values of its user data."""

    def __init__(self) -> None:
        self._done: dict[object, Execution] = {}

    def put(self, execution: "Execution") -> None:
        """Keep one that is done."""
        if len(self._done) >= _MOST:
            self._done.clear()
        self._done[_kind(execution.launch, execution.memory)] = execution

    def take(self, launch: KernelLaunch, memory: Memory) -> "Execution | None":
        """Return one that can be used for this launch, at its start; None if there is none."""
        found = self._done.pop(_kind(launch, memory), None)
        if found is not None:
            found.again(launch)
        return found


def _kind(launch: KernelLaunch, memory: Memory) -> object:
    return _same(launch), len(launch.user_data), id(memory)
