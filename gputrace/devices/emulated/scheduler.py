"""Who goes next: one seed, one order.

Front ends and back ends of all queues of all GPUs take steps one at a time. Which of those that can
go does go is drawn from a generator with a fixed seed, so a seed is an interleaving: the same seed
and the same calls give the same order, and another seed another one.
"""

from collections.abc import Callable, Sequence
from random import Random

from gputrace.devices.emulated.effects import EngineStop
from gputrace.devices.emulated.kernels import KernelStop
from gputrace.devices.emulated.memory import AccessFault
from gputrace.devices.emulated.queue import HardwareQueue
from gputrace.errors import DecodeError, FieldError

VERSION = 4
"""Changes whenever the same seed gives another order than before; traces record it."""
FOR_EVER = 1 << 62
START_NS = 1_000_000_000
"""Virtual time at which a device starts: no clock of a running machine reads zero."""

Trouble = AccessFault | EngineStop | KernelStop | DecodeError | FieldError
Turn = tuple[HardwareQueue, bool]
"""One thing that can go: a queue's front end, or (True) its back end."""


class Scheduler:
    """Takes steps. `step` counts them, `now_ns` is the virtual time that they took."""

    def __init__(self, seed: int, trouble: Callable[[HardwareQueue, bool, Trouble], None]) -> None:
        self.seed, self.step, self.now_ns = seed, 0, START_NS
        self.turn: Turn | None = None
        """The turn taken last."""
        self._trouble = trouble
        self._random = Random(seed)

    def run(self, queues: Sequence[HardwareQueue], limit: int, most_ns: int = FOR_EVER) -> int:
        """Take up to `limit` steps, or until they have taken `most_ns`; return how many."""
        end = self.now_ns + most_ns
        for done in range(limit):
            turns = self._turns(queues)
            if not turns or self.now_ns >= end:
                return done
            at = int(self._random.random() * len(turns)) if len(turns) > 1 else 0
            alone = len(turns) == 1 and not any(queue.waits for queue in queues)
            self._take(turns[at], alone)
        return limit

    def blocked(self, queues: Sequence[HardwareQueue]) -> bool:
        """Whether no step can be taken."""
        return not self._turns(queues)

    def _turns(self, queues: Sequence[HardwareQueue]) -> list[Turn]:
        turns: list[Turn] = []
        for queue in queues:
            back = False
            try:
                if queue.ready():
                    turns.append((queue, False))
                back = True
                if queue.pipe and queue.back_ready():
                    turns.append((queue, True))
            except (AccessFault, EngineStop) as problem:
                self._trouble(queue, back, problem)
        return turns

    def _take(self, turn: Turn, alone: bool) -> None:
        queue, back = self.turn = turn
        self.step += 1
        try:
            if back:
                queue.back_step(alone)
            else:
                queue.step()
        except (AccessFault, EngineStop, KernelStop, DecodeError, FieldError) as problem:
            self._trouble(queue, back, problem)
        self.now_ns += queue.cost_ns
