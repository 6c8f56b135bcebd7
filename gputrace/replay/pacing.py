"""When an event of a recording may happen again: at its step, or after what came before it."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from gputrace.errors import Divergence
from gputrace.formats.ioctl import QueueType
from gputrace.kfd import host
from gputrace.kfd.port import Kfd, Progress
from gputrace.trace.events import Observed, QueueMap

Pacing = Literal["steps", "progress"]
"""How a replay is paced; see `Player`."""

STRIDE = 4096
"""Steps taken between two looks at the time."""
SETTLE_NS = 500_000_000
"""How long hardware is given after it has fetched the last packet."""
_LOW, _ALL = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


@runtime_checkable
class Stepped(Protocol):
    """What a device offers whose work is counted in steps, as the emulated one's is."""

    @property
    def step(self) -> int:
        """Steps taken."""

    def advance(self, step: int, clock_ns: int) -> None:
        """Take steps until `step` have been taken, then move the clock on to `clock_ns`."""


class OutOfTime(Exception):
    """The time given to a replay is over."""


class Clock:
    """Lets a device work, and no longer than a replay may take.

    `after_step` is called after each single step when it is there. `fetched` says whether every
    queue has fetched what it was given: all that a device without steps tells.
    """

    def __init__(
        self, device: Kfd, expired: Callable[[], bool], fetched: Callable[[], bool]
    ) -> None:
        self._device, self._expired, self._fetched = device, expired, fetched
        self._stepped = device if isinstance(device, Stepped) else None
        self.after_step: Callable[[], None] | None = None

    @property
    def step(self) -> int:
        """Steps taken; 0 on a device that does not count them."""
        return self._stepped.step if self._stepped else 0

    def check(self) -> None:
        """Raise OutOfTime when the time is over."""
        if self._expired():
            raise OutOfTime

    def advance(self, step: int, time: int) -> None:
        """Take steps up to `step`. Raises Divergence when there are not as many, OutOfTime."""
        device = self._stepped
        assert device is not None
        stride = 1 if self.after_step else STRIDE
        while step - device.step > stride or (self.after_step and step > device.step):
            device.advance(device.step + stride, 0)
            if self.after_step:
                self.after_step()
            self.check()
        if step > device.step or time > self._device.clock():
            device.advance(step, time)
        elif step < device.step:
            raise Divergence("scheduler step", step, device.step)

    def once(self) -> bool:
        """Take the smallest step that the device can take; False when nothing can go on."""
        device = self._stepped
        if device is None:
            until = self._device.clock() + 1_000_000
            return self._device.idle(until) is not Progress.BLOCKED
        try:
            device.advance(device.step + 1, 0)
        except Divergence:
            return False
        if self.after_step:
            self.after_step()
        return True

    def finish(self, steps: int, done: Callable[[], bool] = lambda: False) -> bool:
        """Let the device work until nothing can go on; False when `steps` were not enough.

        Hardware does not say when that is: there it is `done`, or a while after all is fetched.
        """
        if self._stepped is None:
            self._settle(done)
            return True
        limit = self.step + steps
        while self.once() if self.after_step else self._device.idle(None) is not Progress.BLOCKED:
            self.check()
            if self.step >= limit > 0:
                return False
        return True

    def _settle(self, done: Callable[[], bool]) -> None:
        until = self._device.clock() + SETTLE_NS
        while not done() and self._device.clock() < until:
            if not self._fetched():
                until = self._device.clock() + SETTLE_NS
            if self._device.idle(self._device.clock() + 1_000_000) is Progress.BLOCKED:
                return  # an emulated device behind something that hides its steps
            self.check()


class Reached:
    """Says whether what a recording had observed has happened here as well.

    `live` gives the address here of a recorded CPU address, or None when it is not mapped.
    """

    def __init__(self, live: Callable[[int, int], int | None]) -> None:
        self._live = live
        self._queues: dict[int, QueueMap] = {}
        self._rung: dict[int, int] = {}

    def learn(self, queue: QueueMap) -> None:
        """Take note of where a queue's read pointer is."""
        if queue.live:
            self._queues[queue.queue] = queue
        else:
            self._queues.pop(queue.queue, None)

    def rang(self, queue: int, value: int) -> None:
        """Take note of the last write pointer that a queue was given."""
        self._rung[queue] = value

    def all_fetched(self) -> bool:
        """Whether every queue has fetched what it was given last."""
        return all(
            self._read(number, value + (self._queues[number].type == QueueType.COMPUTE_AQL))
            for number, value in self._rung.items()
            if number in self._queues
        )

    def missing(self, values: Sequence[Observed]) -> list[Observed]:
        """Return those that have not happened yet; unknown kinds and places count as happened."""
        return [value for value in values if not self._holds(value)]

    def _holds(self, value: Observed) -> bool:
        match value.what:
            case "read":
                return self._read(value.where, value.value)
            case "fence":
                return self._word(value.where, value.value) >= value.value
            case "signal":
                return self._word(value.where, value.value) <= value.value
        return True

    def _word(self, address: int, value: int) -> int:
        # A value below 2**32 may share its 64 bits with another: only the dword counts.
        size = 8 if value > _LOW else 4
        at = None if address % size else self._live(address, size)
        return value if at is None else host.load(at, 8 * size) & (_ALL if size == 8 else _LOW)

    def _read(self, queue: int, value: int) -> bool:
        known = self._queues.get(queue)
        if known is None:
            return True
        at = None if known.read_pointer % 8 else self._live(known.read_pointer, 8)
        if at is None:
            return True
        if known.type != QueueType.COMPUTE:
            return host.load(at) >= value
        # The engine shows a dword of the ring, which is never more than a ring behind.
        rung = self._rung.get(queue, 0)
        return rung - (rung - host.load(at, 32)) % (known.ring_size // 4) >= value
