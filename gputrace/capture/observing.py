"""What a program can have seen of the GPU's work: read pointers, fences, signals."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gputrace.capture.memory import Change
from gputrace.formats.ioctl import QueueType
from gputrace.trace.events import Observed, QueueState

LIMIT = 256
"""Values that one Progress event holds; beyond it the oldest are left out."""


class _Pointer(NamedTuple):
    queue: int
    units: int
    wraps: bool
    bias: int


class Observations:
    """Gathers dwords that the GPU changed until the next thing that the CPU does.

    A dword that grew is a fence, one that fell a signal. Whether the program looked at it nobody
    knows; a replay that waits for all of them is never too early. `word` reads memory: address and
    size give the value, or None.
    """

    def __init__(self, word: Callable[[int, int], int | None]) -> None:
        self._word = word
        self._values: dict[int, Change] = {}
        self._pointers: dict[int, _Pointer] = {}
        self._rung: dict[int, int] = {}

    def queue(self, queue: int, kind: int, ring_size: int, read_pointer: int) -> None:
        """Take note of a queue's read pointer."""
        wraps = kind == QueueType.COMPUTE
        bias = int(kind == QueueType.COMPUTE_AQL)  # its doorbell names the last packet
        self._pointers[read_pointer] = _Pointer(queue, ring_size // 4, wraps, bias)

    def forget(self, queue: int) -> None:
        """Forget a queue that was destroyed."""
        for address in [at for at, one in self._pointers.items() if one.queue == queue]:
            del self._pointers[address]
        self._rung.pop(queue, None)

    def states(self) -> list[QueueState]:
        """Return where every queue is that was rung; `read` is -1 where nobody knows."""
        states = []
        for address, pointer in self._pointers.items():
            rung = self._rung.get(pointer.queue)
            if rung is not None:
                shown = self._word(address, 4 if pointer.wraps else 8)
                fetched = -1 if shown is None else self._read(pointer, address, shown)
                states.append(QueueState(pointer.queue, fetched, rung + pointer.bias, rung))
        return states

    def rang(self, queue: int, value: int) -> None:
        """Take note of the write pointer that a queue was given last."""
        self._rung[queue] = value

    def add(self, changes: Iterable[Change]) -> None:
        """Take changes in."""
        for change in changes:
            before = self._values.pop(change.address, None)
            self._values[change.address] = (
                change if before is None else change._replace(was=before.was)
            )
        while len(self._values) > LIMIT:
            del self._values[next(iter(self._values))]

    def take(self) -> tuple[Observed, ...]:
        """Return what was gathered, and begin anew."""
        if not self._values:
            return ()
        values, self._values = self._values, {}
        return tuple(self._observed(change, values) for change in values.values())

    def _observed(self, change: Change, others: dict[int, Change]) -> Observed:
        address, was, now = change
        pointer = self._pointers.get(address)
        if pointer is not None:
            return Observed("read", pointer.queue, self._read(pointer, address, now))
        upper = others.get(address + 4)
        if upper is not None and address % 8 == 0:
            was, now = was | upper.was << 32, now | upper.now << 32
        return Observed("fence" if now > was else "signal", address, now)

    def _read(self, pointer: _Pointer, address: int, shown: int) -> int:
        if not pointer.wraps:
            return self._word(address, 8) or shown
        rung = self._rung.get(pointer.queue, 0)
        return rung - (rung - shown) % pointer.units
