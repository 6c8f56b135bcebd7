"""Global wave sync: counters at which waves of all work-groups wait for one another.

A resource is a barrier or a semaphore, as the instruction says that uses it. A wave that has to
wait stays behind its instruction until another wave lets it go on; those that wait longest go
first. The resources outlive dispatches: one kernel sets them up for the next. What they hold
before nobody says.

Sources: AMD's ISA manuals (Vega, RDNA2, RDNA3: DS_GWS_*), LLVM IntrinsicsAMDGPU.td
(int_amdgcn_ds_gws_*) and AMDGPUISelDAGToDAG.cpp SelectDS_GWS, Linux gfx_v9_0.c (64 resources).
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from gputrace.errors import GputraceError
from gputrace.isa.waves import HELD, RUNNING, Group, Wave

RESOURCES: Final = 64
"""Barriers and semaphores of one queue."""
MOST: Final = (1 << 12) - 1
"""The highest count of a resource (gc_9_0_sh_mask.h: GDS_GWS_RESOURCE__COUNTER)."""

Operation = Literal["init", "barrier", "sema_p", "sema_v", "sema_br", "sema_release_all"]
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)


Asking = tuple[Wave, Group]
"""A wave that uses a resource, and its work-group."""


class BadSync(GputraceError):
    """A use of a resource of which nobody says what it does."""


@dataclass(slots=True)
class _Resource:
    counter: int | None = None  # None: nobody has said yet
    waiting: deque[Asking] = field(default_factory=deque)
    barrier: bool = False  # what the waves that wait are waiting at


class WaveSync:
    """The resources that a queue has been given."""

    def __init__(self) -> None:
        self._resources = [_Resource() for _ in range(RESOURCES)]
        self.released = 0
        """Waves that have waited and run on, so far."""

    def carry_out(self, operation: Operation, number: int, value: int, who: Asking) -> bool:
        """Do what a wave asks of a resource; return whether it has to wait, and is HELD now.

        `value` is the number of waves but one of a barrier, how often a semaphore is raised, and
        else nothing. Raises BadSync, and has done nothing then.
        """
        resource, count = self._resources[number], self._count(operation, number)
        raised = value if operation == "sema_br" else 1
        match operation:
            case "init":
                resource.counter = _fitting(value)
            case "barrier" if count:
                _fitting(value)
                resource.counter = count - 1
                self._hold(resource, who, barrier=True)
                return True
            case "barrier":
                # The last one; what it brings is the count of the next time.
                resource.counter = _fitting(value)
                self._let_go(resource, len(resource.waiting))
            case "sema_p" if count:
                resource.counter = count - 1
            case "sema_p":
                self._hold(resource, who, barrier=False)
                return True
            case "sema_v" | "sema_br":
                taken = min(raised, len(resource.waiting))
                resource.counter = _fitting(count + raised - taken)
                self._let_go(resource, taken)
            case "sema_release_all":
                # The count becomes that of the waves that wait, and each of them takes one.
                resource.counter = 0
                self._let_go(resource, len(resource.waiting))
        return False

    def describe(self, wave: Wave) -> str:
        """Say what a wave that is HELD waits for."""
        for number, resource in enumerate(self._resources):
            if any(one is wave for one, _ in resource.waiting):
                if resource.barrier:
                    left = (resource.counter or 0) + 1
                    more = "1 more wave has" if left == 1 else f"{left} more waves have"
                    return f"waits at global barrier {number}, to which {more} to come"
                return f"waits at global semaphore {number}, which nobody raises"
        raise AssertionError("the wave does not wait")

    def _count(self, operation: Operation, number: int) -> int:
        resource = self._resources[number]
        other = operation == "init" or resource.barrier != (operation == "barrier")
        if resource.waiting and other:
            what = "barrier" if resource.barrier else "semaphore"
            raise BadSync(f"waves wait at resource {number} as a {what}")
        if resource.counter is None and operation != "init":
            raise BadSync(f"nobody has initialized resource {number} (ds_gws_init)")
        return resource.counter or 0

    def _hold(self, resource: _Resource, who: Asking, barrier: bool) -> None:
        resource.barrier = barrier
        resource.waiting.append(who)
        who[0].status = HELD

    def _let_go(self, resource: _Resource, count: int) -> None:
        self.released += count
        for _ in range(count):
            wave, group = resource.waiting.popleft()
            wave.status, group.stuck = RUNNING, False


def _fitting(count: int) -> int:
    if count > MOST:
        raise BadSync(f"a count of {count}, where {MOST} is the most that a resource can hold")
    return count
