"""A trace as a row of items: calls, mappings, memory that the CPU wrote, packets.

What only asks or waits is no item, nor is what the GPU wrote: a candidate has no use for it. The
bytes that put packets into rings and move write pointers are no items either; the packets
themselves are, and an edited stream lays out its rings anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from gputrace.bits import Record
from gputrace.errors import UsageError
from gputrace.families import Family, family
from gputrace.formats import drm, ioctl
from gputrace.formats.ioctl import MIN_RING_BYTES, RECORDS, CreateQueue, QueueType
from gputrace.minimize.dependencies import Range
from gputrace.minimize.naming import given_names
from gputrace.submitted.image import Image
from gputrace.submitted.stream import Placed, Stream
from gputrace.trace import events
from gputrace.trace.source import Source

# Calls that only ask or wait: a candidate leaves them out.
_IDLE_CALLS = frozenset(
    {
        "GetVersion", "GetProcessApertures", "GetProcessAperturesNew", "GetClockCounters",
        "GetAvailableMemory", "GetTileConfig", "WaitEvents", "GetDmabufInfo",
    }
)  # fmt: skip
POINTER_BYTES = 8


class Kind(Enum):
    """What an item is."""

    CALL = "call"
    RANGE = "range"
    MEMORY = "memory"
    PACKET = "packet"


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a trace that can be left out.

    `event` is the number of its event; of a packet, that of the doorbell that published it. A
    packet has the ordinal of its queue and its number there, memory the ranges that it covers.
    """

    kind: Kind
    event: int
    queue: int = -1
    number: int = -1
    ranges: tuple[Range, ...] = ()


@dataclass(slots=True)
class QueueFacts:
    """A queue of the trace: `ordinal` counts the queues in the order of their making.

    `first` is the number of the first packet that the trace holds: not 0 when it begins at a
    checkpoint.
    """

    ordinal: int
    event: int
    made: CreateQueue
    mapped: events.QueueMap
    packets: list["Packet"] = field(default_factory=list)
    first: int = 0

    def packet(self, number: int) -> "Packet":
        """Return a packet by its number."""
        return self.packets[number - self.first]

    @property
    def unit(self) -> int:
        """Bytes that the queue's pointers count."""
        kinds = {QueueType.COMPUTE: 4, QueueType.COMPUTE_AQL: 64}
        return kinds.get(QueueType(self.made.queue_type), 1)

    @property
    def architected(self) -> bool:
        """Whether its packets are AQL."""
        return self.made.queue_type == QueueType.COMPUTE_AQL

    @property
    def straddles(self) -> bool:
        """Whether a packet may go over the end of the ring."""
        return self.made.queue_type in (QueueType.COMPUTE, QueueType.COMPUTE_AQL)

    @property
    def size(self) -> int:
        """Bytes of the ring."""
        return max(self.made.ring_size, MIN_RING_BYTES)

    def owned(self) -> tuple[Range, Range]:
        """Return what belongs to the submission of packets: ring and write pointer."""
        ring, pointer = self.made.ring_base_address, self.made.write_pointer_address
        return Range(ring, ring + self.size), Range(pointer, pointer + POINTER_BYTES)


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of a ring; `inner` are the packets of indirect buffers that it runs."""

    queue: int
    number: int
    submission: int
    event: int
    words: tuple[int, ...]
    record: Record | None
    problem: str
    address: int
    inner: tuple[Placed, ...] = ()

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record that runs with it, itself first."""
        inner = tuple(one.record for one in self.inner if one.record and not one.skipped)
        return inner if self.record is None else (self.record, *inner)

    @property
    def line(self) -> str:
        """One line for people."""
        return self.record.line() if self.record is not None else self.problem


@dataclass(slots=True)
class BufferFacts:
    """An allocation of the trace: the events that made it, mapped it on GPUs and so on; -1: none.

    `mapped` is the first such event, `unmapped` the last.
    """

    made: int
    handle: int
    where: Range
    mapped: int = -1
    unmapped: int = -1
    freed: int = -1


@dataclass(slots=True)
class Model:
    """What a trace holds, up to the event `end`."""

    source: Source
    header: events.Header
    family: Family
    end: int
    items: list[Item] = field(default_factory=list)
    queues: list[QueueFacts] = field(default_factory=list)
    by_number: dict[int, events.Event] = field(default_factory=dict)
    names: list[tuple[int, events.Name]] = field(default_factory=list)
    buffers: list["BufferFacts"] = field(default_factory=list)
    submissions: int = 0
    problems: list[str] = field(default_factory=list)
    part: bool = False
    """Whether it begins in the middle of a run: steps of its events count from elsewhere."""

    def packet(self, item: Item) -> Packet:
        """Return the packet that an item is."""
        return self.queues[item.queue].packet(item.number)

    def name_of(self, address: int) -> str:
        """Say what lies at an address: a name and an offset, or the address itself."""
        best: events.Name | None = None
        for _, name in self.names:
            if name.address <= address < name.address + name.size and name.name:
                best = name if best is None or name.size <= best.size else best
        if best is None:
            return f"memory at {address:#x}"
        offset = address - best.address
        return f"{best.name} + {offset:#x}" if offset else best.name

    @property
    def last(self) -> int:
        """The number of the last event that a candidate may hold."""
        return max(self.by_number, default=0)

    @property
    def packets(self) -> int:
        """Number of packets in all rings."""
        return sum(len(queue.packets) for queue in self.queues)


class _Builder:
    """Reads a trace once, event by event."""

    def __init__(self, source: Source, end: int) -> None:
        header = next((event for _, event in source.numbered()), None)
        if not isinstance(header, events.Header) or not header.family:
            raise UsageError("the trace does not say which GPU it was recorded on")
        self.model = Model(source, header, family(header.family), end)
        self._stream = Stream(Image(source))
        self._live: dict[int, QueueFacts] = {}  # recorded id -> queue
        self._created: tuple[int, CreateQueue] | None = None
        self._handles: dict[int, BufferFacts] = {}

    def read(self) -> Model:
        """Take every event; return the model."""
        for number, event in self.model.source.numbered():
            if 0 <= self.model.end <= number:
                break
            submission = self._stream.apply(number, event)
            if submission is not None:
                self._submitted(number, submission.problem, submission.packets)
            self._apply(number, event)
        if not self.model.names:
            self.model.names = list(given_names(self.model.source, self.model.end))
        return self.model

    def _apply(self, number: int, event: events.Event) -> None:
        model = self.model
        match event:
            case (
                events.Open() | events.DoorbellIntent() | events.EventMap() | events.Unwritten()
            ):
                model.by_number[number] = event
            case events.Reserve() | events.Release() | events.Map() | events.Unmap():
                self._add(Kind.RANGE, number, event)
            case events.Ioctl(errno=0):
                self._call(number, event)
            case events.QueueMap(live=True):
                self._queue(event)
            case events.Memory(provenance="cpu") | events.Memory(provenance="unknown"):
                self._memory(number, event, event.size)
            case events.HostStore():
                self._memory(number, event, len(event.data))
            case events.Name():
                model.names.append((number, event))
            case events.Lost() if event.restored:
                model.problems.append(f"lost with a damaged block: {event.text}")
            case events.Checkpoint(complete=False):
                model.problems.append(f"its checkpoint is not complete: {event.text}")
            case events.Checkpoint():
                model.part = True
                # Queues begin anew in a candidate, so of these only the numbers count.
                for state in event.queues:
                    self._live[state.queue].first = state.packets

    def _add(self, kind: Kind, number: int, event: events.Event) -> None:
        self.model.by_number[number] = event
        self.model.items.append(Item(kind, number))

    def _call(self, number: int, event: events.Ioctl) -> None:
        if event.target != "kfd" and event.request & 0xFF in drm.QUESTIONS:
            return
        if event.target != "kfd" or event.record not in RECORDS:
            self.model.problems.append(f"it has a call that is not known: {event.record or 'DRM'}")
            return
        if event.record in _IDLE_CALLS:
            return
        if event.record == "CreateQueue":
            self._created = number, CreateQueue.from_bytes(event.after)
        elif event.record == "DestroyQueue":
            self._live.pop(ioctl.DestroyQueue.from_bytes(event.before).queue_id, None)
        self._buffer(number, RECORDS[event.record].from_bytes(event.after))
        self._add(Kind.CALL, number, event)

    def _buffer(self, number: int, after: Record) -> None:
        match after:
            case ioctl.AllocMemoryOfGpu():
                where = Range(after.va_addr, after.va_addr + after.size)
                made = BufferFacts(number, after.handle, where)
                self._handles[after.handle] = made
                self.model.buffers.append(made)
            case ioctl.MapMemoryToGpu() if after.handle in self._handles:
                buffer = self._handles[after.handle]
                buffer.mapped = number if buffer.mapped < 0 else buffer.mapped
            case ioctl.UnmapMemoryFromGpu() if after.handle in self._handles:
                self._handles[after.handle].unmapped = number
            case ioctl.FreeMemoryOfGpu() if after.handle in self._handles:
                self._handles.pop(after.handle).freed = number

    def _queue(self, event: events.QueueMap) -> None:
        if self._created is None:
            return
        number, made = self._created
        facts = QueueFacts(len(self.model.queues), number, made, event)
        self.model.queues.append(facts)
        self._live[event.queue] = facts

    def _memory(self, number: int, event: events.Event, size: int) -> None:
        assert isinstance(event, events.Memory | events.HostStore)
        owned = [one for queue in self._live.values() for one in queue.owned()]
        rest = tuple(without(Range(event.address, event.address + size), owned))
        if rest:
            self.model.by_number[number] = event
            self.model.items.append(Item(Kind.MEMORY, number, ranges=rest))

    def _submitted(self, number: int, problem: str, packets: Sequence[Placed]) -> None:
        model = self.model
        model.submissions += 1
        if problem:
            model.problems.append(problem)
        for placed in packets:
            queue = self._live[placed.queue]
            if placed.depth or placed.skipped:
                self._inside(queue, placed)
                continue
            made = Packet(
                queue.ordinal, placed.number, placed.submission, number, placed.words,
                placed.record, placed.problem, placed.address,
            )  # fmt: skip
            at = placed.number - queue.first
            if at < len(queue.packets):  # it was not whole when its doorbell rang first
                old = queue.packets[at]
                model.items.remove(Item(Kind.PACKET, old.event, old.queue, old.number))
                queue.packets[at] = made
            else:
                queue.packets.append(made)
            model.items.append(Item(Kind.PACKET, number, queue.ordinal, placed.number))

    # What a packet runs, or a COND_EXEC passes over, goes where the packet goes.
    def _inside(self, queue: QueueFacts, placed: Placed) -> None:
        last = queue.packets[-1]
        words = last.words if placed.depth else last.words + placed.words
        queue.packets[-1] = Packet(
            last.queue, last.number, last.submission, last.event, words, last.record,
            last.problem, last.address, (*last.inner, placed),
        )  # fmt: skip


def read_model(source: Source, end: int = -1) -> Model:
    """Read a trace up to the event `end` (-1: all of it) into a model.

    Raises UsageError for a trace that names no family, or one without facts here.
    """
    return _Builder(source, end).read()


def without(whole: Range, holes: Sequence[Range]) -> Iterator[Range]:
    """Yield the parts of `whole` that lie in no hole, in rising order."""
    at = whole.start
    for hole in sorted(holes):
        if hole.end <= at or hole.start >= whole.end:
            continue
        if hole.start > at:
            yield Range(at, hole.start)
        at = max(at, hole.end)
    if at < whole.end:
        yield Range(at, whole.end)
