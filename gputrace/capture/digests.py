"""Digests of what the GPU wrote: gathered as spans, taken where nobody is still writing."""

from gputrace.capture.memory import WatchedMemory
from gputrace.capture.sink import Sink
from gputrace.kfd.tracking import Span

STORED = 1 << 20
"""Bytes of a range up to which they are stored too, so that a replay can say what differs."""
RANGE_US, MIB_US = 30, 500
"""What a digest costs, about: for its range, and for each MiB of it."""
FIRST_CREDIT, CREDIT = 10_000, 2
"""Microseconds that digests at waits may take: at first, and what each submission adds."""
MANY = 1 << 10
"""Spans that are gathered before those that touch are put together."""


class Digests:
    """What the GPU wrote and no digest covers yet."""

    def __init__(self, memory: WatchedMemory, writer: Sink, *, full: bool) -> None:
        self._memory, self._writer, self._full = memory, writer, full
        self._pending: set[Span] = set()
        self._credit = FIRST_CREDIT
        self._merge_at = MANY

    def add(self, spans: list[Span]) -> None:
        """Take note of what the GPU wrote."""
        self._pending.update(spans)
        if len(self._pending) > self._merge_at:
            self._pending = set(merged(self._pending))
            self._merge_at = max(MANY, 2 * len(self._pending))

    def submitted(self) -> None:
        """Take note of a submission."""
        self._credit += CREDIT

    @property
    def due(self) -> bool:
        """Whether there is anything to digest, and it is not too much for a wait."""
        if not self._pending:
            return False
        return self._full or sum(map(_cost, self._pending)) <= self._credit

    def take(self, step: int, *, unstable: bool = False) -> None:
        """Write digests of everything; `unstable` where somebody may still be writing."""
        self.take_range(0, 1 << 64, step, unstable=unstable)

    def take_range(self, address: int, size: int, step: int, *, unstable: bool) -> None:
        """Write digests of what begins or ends in a range."""
        if not self._pending:
            return
        later = set()
        for span in merged(self._pending):
            if span.address + span.size <= address or address + size <= span.address:
                later.add(span)
                continue
            self._credit -= _cost(span)
            for start, view in self._memory.known(span):
                store = self._full or len(view) <= STORED
                self._writer.digest(start, view, store=store, unstable=unstable, step=step)
        self._pending = later


def _cost(span: Span) -> int:
    return RANGE_US + (span.size * MIB_US >> 20)


def merged(spans: set[Span]) -> list[Span]:
    """Return spans with those that touch put together, in rising order."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.address <= result[-1].address + result[-1].size:
            last = result.pop()
            end = max(span.address + span.size, last.address + last.size)
            span = Span(last.address, end - last.address)
        result.append(span)
    return result
