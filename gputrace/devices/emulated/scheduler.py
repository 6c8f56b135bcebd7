"""Who goes next: one seed, one order.

Front ends and back ends of all queues of all GPUs take steps one at a time. Which of those that can
go does go is drawn from a generator with a fixed seed, so a seed is an interleaving: the same seed
and the same calls give the same order, and another seed another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from gputrace.devices.emulated.effects import EngineStop
from gputrace.devices.emulated.kernels import KernelStop
from gputrace.devices.emulated.memory import AccessFault
from gputrace.devices.emulated.queue import HardwareQueue
from gputrace.errors import DecodeError, FieldError

VERSION = 1
"""Changes whenever the same seed gives another order than before; traces record it."""

Trouble = AccessFault | EngineStop | KernelStop | DecodeError | FieldError


@dataclass(slots=True)
class Turn:
    """One thing that can go: a queue's front end or its back end."""

    queue: HardwareQueue
    back: bool


class Scheduler:
    """Takes steps. `step` counts them, `now_ns` is the virtual time that they took."""

    def __init__(self, seed: int, trouble: Callable[[HardwareQueue, bool, Trouble], None]) -> None:
        self.seed, self.step, self.now_ns = seed, 0, 0
        self._trouble = trouble
        self._random = Random(seed)

    def run(self, queues: Sequence[HardwareQueue], limit: int) -> int:
        """Take up to `limit` steps; return how many there were to take."""
        for done in range(limit):
            turns = self._turns(queues)
            if not turns:
                return done
            at = int(self._random.random() * len(turns)) if len(turns) > 1 else 0
            self._take(turns[at])
        return limit

    def blocked(self, queues: Sequence[HardwareQueue]) -> bool:
        """Whether no step can be taken."""
        return not self._turns(queues)

    def _turns(self, queues: Sequence[HardwareQueue]) -> list[Turn]:
        turns = []
        for queue in queues:
            try:
                if queue.ready():
                    turns.append(Turn(queue, False))
            except (AccessFault, EngineStop) as problem:
                self._trouble(queue, False, problem)
            if queue.back_ready():
                turns.append(Turn(queue, True))
        return turns

    def _take(self, turn: Turn) -> None:
        queue = turn.queue
        self.step += 1
        try:
            if turn.back:
                queue.back_step()
            else:
                queue.step()
        except (AccessFault, EngineStop, KernelStop, DecodeError, FieldError) as problem:
            self._trouble(queue, turn.back, problem)
        self.now_ns += queue.cost_ns
