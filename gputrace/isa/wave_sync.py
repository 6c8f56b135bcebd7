"""Global wave sync: counters at which waves of all work-groups wait for one another.

A resource is a barrier or a semaphore, as the instruction says that uses it. A wave that has to
wait stays behind its instruction until another wave lets it go on; those that wait longest go
first. The resources outlive dispatches: one kernel sets them up for the next.

Sources: AMD's ISA manuals (Vega, RDNA2, RDNA3: DS_GWS_*), LLVM IntrinsicsAMDGPU.td
(int_amdgcn_ds_gws_*) and AMDGPUISelDAGToDAG.cpp SelectDS_GWS, Linux gfx_v9_0.c (64 resources).
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from gputrace.errors import GputraceError
from gputrace.isa.waves import HELD, RUNNING, Wave

RESOURCES: Final = 64
"""Barriers and semaphores of one queue."""
MOST: Final = (1 << 12) - 1
"""The highest count of a resource (gc_9_0_sh_mask.h: GDS_GWS_RESOURCE__COUNTER)."""

Operation = Literal["init", "barrier", "sema_p", "sema_v", "sema_br", "sema_release_all"]
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)


class BadSync(GputraceError):
    """A use of a resource of which nobody says what it does."""


@dataclass(slots=True)
class _Resource:
    counter: int = 0
    waiting: deque[Wave] = field(default_factory=deque)
    barrier: bool = False  # what the waves that wait are waiting at


class WaveSync:
    """The resources that a queue has been given."""

    def __init__(self) -> None:
        self._resources = [_Resource() for _ in range(RESOURCES)]
        self.released = 0
        """Waves that have waited and run on, so far."""

    def carry_out(self, operation: Operation, number: int, value: int, wave: Wave) -> bool:
        """Do what a wave asks of a resource; return whether it has to wait, and is HELD now.

        `value` is the number of waves but one of a barrier, how often a semaphore is raised, and
        else nothing. Raises BadSync, and has done nothing then.
        """
        resource = self._resources[number]
        self._check(operation, number, value)
        match operation:
            case "init":
                resource.counter = value
            case "barrier" if resource.counter:
                return self._hold(resource, wave, barrier=True)
            case "barrier":
                # The last one; what it brings is the count of the next time.
                self._let_go(resource, len(resource.waiting))
                resource.counter = value
            case "sema_p" if resource.counter == 0:
                return self._hold(resource, wave, barrier=False)
            case "sema_p":
                resource.counter -= 1
            case "sema_v" | "sema_br":
                self._raise(resource, value if operation == "sema_br" else 1)
            case "sema_release_all":
                # The count becomes that of the waves that wait, and each of them takes one.
                resource.counter = 0
                self._let_go(resource, len(resource.waiting))
        return False

    def describe(self, wave: Wave) -> str:
        """Say what a wave that is HELD waits for."""
        for number, resource in enumerate(self._resources):
            if any(one is wave for one in resource.waiting):
                if resource.barrier:
                    return f"waits at global barrier {number} for {resource.counter + 1} waves more"
                return f"waits at global semaphore {number}, which nobody raises"
        raise AssertionError("the wave does not wait")

    def _check(self, operation: Operation, number: int, value: int) -> None:
        resource = self._resources[number]
        total = resource.counter
        if operation in ("init", "barrier"):
            total = value
        elif operation in ("sema_v", "sema_br"):
            total += value if operation == "sema_br" else 1
        if total > MOST:
            raise BadSync(f"a count of {total}, where {MOST} is the most that a resource can hold")
        other = operation == "init" or resource.barrier != (operation == "barrier")
        if resource.waiting and other:
            what = "barrier" if resource.barrier else "semaphore"
            raise BadSync(f"waves wait at resource {number} as a {what}")

    def _hold(self, resource: _Resource, wave: Wave, barrier: bool) -> bool:
        if barrier:
            resource.counter -= 1
        resource.barrier = barrier
        resource.waiting.append(wave)
        wave.status = HELD
        return True

    def _raise(self, resource: _Resource, count: int) -> None:
        taken = min(count, len(resource.waiting))
        resource.counter += count - taken
        self._let_go(resource, taken)

    def _let_go(self, resource: _Resource, count: int) -> None:
        self.released += count
        for _ in range(count):
            resource.waiting.popleft().status = RUNNING
