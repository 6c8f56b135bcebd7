"""Build the graph of a stream from what each event makes, uses, reads and writes.

Events are plain values, so that any stream can be described: the ioctls and packets of a trace, its
submissions, or a test's own. Names are whatever identifies a thing (a buffer handle, a queue, a
mapped range); ranges are half-open byte ranges of one address space.

Hard edges, without which an event is not valid or blocks where it did not:

- to the event that made a name, from each one that uses or destroys it;
- to the event that destroyed a name, from the one that makes it anew (else two live at once);
- to the last writers of each range that an event waits for, unless it never was satisfied;
- to the packets that a doorbell publishes, from the doorbell.

Soft edges, the data flow that was observed:

- to the last writers of each range read;
- to the event that destroyed a name, from a later use of it (the bug may be that very use);
- to the doorbell before it on the same queue, from a doorbell.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gputrace.errors import UsageError
from gputrace.minimize.graph import Graph


class Range(NamedTuple):
    """The bytes start to end - 1."""

    start: int
    end: int


@dataclass(frozen=True)
class Event:
    """What one item of the stream does to names, memory and queues.

    `waits` are ranges that it polls until another event has written them; leave out a wait that was
    never satisfied. `queue` is the queue whose ring a packet stands in, `doorbell` the queue whose
    waiting packets it publishes.
    """

    makes: tuple[Hashable, ...] = ()
    uses: tuple[Hashable, ...] = ()
    destroys: tuple[Hashable, ...] = ()
    reads: tuple[Range, ...] = ()
    writes: tuple[Range, ...] = ()
    waits: tuple[Range, ...] = ()
    queue: Hashable | None = None
    doorbell: Hashable | None = None


class LastWriters:
    """Who wrote each byte last; later writes hide earlier ones byte for byte."""

    def __init__(self) -> None:
        # Disjoint pieces in ascending order, as three lists so that starts can be bisected.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._items: list[int] = []

    def write(self, where: Range, item: int) -> None:
        """Note that `item` wrote `where`; an empty range is none. UsageError for a reversed one."""
        _check(where)
        if where.start == where.end:
            return
        first, last = self._overlap(where)
        starts, ends, items = [where.start], [where.end], [item]
        if first < last and self._starts[first] < where.start:
            starts.insert(0, self._starts[first])
            ends.insert(0, where.start)
            items.insert(0, self._items[first])
        if first < last and self._ends[last - 1] > where.end:
            starts.append(where.end)
            ends.append(self._ends[last - 1])
            items.append(self._items[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends
        self._items[first:last] = items

    def of(self, where: Range) -> set[int]:
        """Return the items whose bytes a read of `where` would see."""
        _check(where)
        if where.start == where.end:
            return set()
        first, last = self._overlap(where)
        return set(self._items[first:last])

    def _overlap(self, where: Range) -> tuple[int, int]:
        first = bisect_right(self._ends, where.start)
        return first, max(first, bisect_left(self._starts, where.end))


def _check(where: Range) -> None:
    if not 0 <= where.start <= where.end:
        raise UsageError(f"a range must end at or after its start, not {where}")


@dataclass
class _State:
    """What the events so far leave behind."""

    made: dict[Hashable, int] = field(default_factory=dict)
    destroyed: dict[Hashable, int] = field(default_factory=dict)
    writers: LastWriters = field(default_factory=LastWriters)
    waiting: dict[Hashable, list[int]] = field(default_factory=dict)
    rung: dict[Hashable, int] = field(default_factory=dict)


def _hard(event: Event, state: _State) -> Iterator[int]:
    for name in event.uses + event.destroys:
        if name in state.made:
            yield state.made[name]
    for name in event.makes:
        if name in state.destroyed:
            yield state.destroyed[name]
    for where in event.waits:
        yield from state.writers.of(where)
    if event.doorbell is not None:
        yield from state.waiting.get(event.doorbell, ())


def _soft(event: Event, state: _State) -> Iterator[int]:
    for where in event.reads:
        yield from state.writers.of(where)
    for name in event.uses + event.destroys:
        if name in state.destroyed:
            yield state.destroyed[name]
    if event.doorbell in state.rung:
        yield state.rung[event.doorbell]


def _advance(item: int, event: Event, state: _State) -> None:
    for name in event.destroys:
        state.destroyed[name] = item
    for name in event.makes:
        state.made[name] = item
        state.destroyed.pop(name, None)
    for where in event.writes:
        state.writers.write(where, item)
    if event.queue is not None:
        state.waiting.setdefault(event.queue, []).append(item)
    if event.doorbell is not None:
        state.waiting[event.doorbell] = []
        state.rung[event.doorbell] = item


def build(events: Iterable[Event]) -> Graph:
    """Return the graph of a stream, with one item for each event.

    A name that is used and was made by no event (it was there before the stream began) gives no
    edge. Raises UsageError for a range that ends before it starts.
    """
    state = _State()
    hard: list[list[int]] = []
    soft: list[list[int]] = []
    for item, event in enumerate(events):
        hard.append(list(_hard(event, state)))
        soft.append(list(_soft(event, state)))
        _advance(item, event, state)
    return Graph(hard, soft)
