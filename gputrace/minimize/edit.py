"""A candidate as a stream of events that a replay takes in place of the trace.

Kept calls, mappings and memory come as they were. The kept packets of each submission are put into
the ring one behind another, the write pointer and the doorbell say where they end, and before each
thing that the CPU did stands the progress that it had seen, as far as it is still to come.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from gputrace.formats import sdma
from gputrace.minimize.dependencies import Range
from gputrace.minimize.history import History
from gputrace.minimize.model import Kind, Model, Packet, QueueFacts
from gputrace.trace import events
from gputrace.trace.events import Chunk, Digest, Event, Memory, Observed

_SDMA_BUFFER_ALIGNMENT = 32  # an SDMA indirect buffer packet ends on a boundary of 8 dwords


@dataclass(slots=True)
class Ring:
    """The new layout of a queue's ring: what was put in it so far, in bytes from the beginning.

    `places` has an entry for each packet that the engine will count: the original packet's number,
    or -1 for padding.
    """

    queue: QueueFacts
    written: int = 0
    places: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def put(self, packet: Packet) -> list[tuple[int, bytes]]:
        """Lay a packet out; return (address, bytes) to store."""
        data = struct.pack(f"<{len(packet.words)}I", *packet.words)
        out: list[tuple[int, bytes]] = []
        gap = self._gap(packet, len(data))
        if gap:
            out += self._store(bytes(gap))
            self.places += [-1] * (gap // 4)  # zero dwords are one-dword NOPs
        out += self._store(data)
        self.places.append(packet.number)
        self.numbers.append(packet.number)
        self.ends.append(self.written)
        return out

    def _gap(self, packet: Packet, size: int) -> int:
        if self.queue.straddles:
            return 0
        left = self.queue.size - self.written % self.queue.size
        gap = left if size > left else 0
        if isinstance(packet.record, sdma.IndirectBuffer):
            gap += -(self.written + gap + size) % _SDMA_BUFFER_ALIGNMENT
        return gap

    def _store(self, data: bytes) -> list[tuple[int, bytes]]:
        base, size = self.queue.made.ring_base_address, self.queue.size
        at = self.written % size
        self.written += len(data)
        first = data[: size - at]
        out = [(base + at, first)]
        if len(data) > len(first):
            out.append((base, data[len(first) :]))
        return out

    @property
    def pointer(self) -> int:
        """The write pointer, in the queue's units."""
        return self.written // self.queue.unit

    def until(self, count: int) -> int:
        """Return the read pointer at which the kept packets before number `count` are done."""
        at = bisect_left(self.numbers, count)
        return self.ends[at - 1] // self.queue.unit if at else 0


class Edited:
    """The stream of one candidate; a `Source` for the Player.

    `kept` are the kept items by event and packet. The doorbells of the queue `late` (an ordinal)
    are rung only when all others have gone as far as they can, or when the program had seen what
    they did: as if the hardware came to that queue last. The functions at the end of `__init__` are
    called between events, so that a run can be watched or led.
    """

    def __init__(
        self,
        model: Model,
        history: History,
        kept_events: frozenset[int],
        kept_packets: frozenset[tuple[int, int]],
        late: int = -1,
    ) -> None:
        self.model, self.history, self._late = model, history, late
        self._held: list[tuple[int, events.DoorbellIntent]] = []
        self._ordinals: list[int] = []  # original ordinal of each queue made here
        self.rings: dict[int, Ring] = {}
        self._told: dict[tuple[str, int], int] = {}
        self._stores: dict[int, Observed] = {}
        self._ranges = {i.event: i.ranges for i in model.items if i.kind is Kind.MEMORY}
        self.become(kept_events, kept_packets)
        self._store_events = sorted(history.stores)
        self._next_store = 0
        self.pause_at = -1
        self.pause: Callable[[], None] = lambda: None
        """Called once, before the first event from `pause_at` on."""
        self.reached = 0
        """The number of the event that was handed out last."""
        self.after_doorbell: Callable[[], None] = lambda: None
        self.before_unmap: Callable[[Range], None] = lambda where: None
        self.settle: Callable[[], None] = lambda: None
        self.at_end: Callable[[], None] = lambda: None

    def become(
        self, kept_events: frozenset[int], kept_packets: frozenset[tuple[int, int]]
    ) -> None:
        """Go on as another candidate, which keeps the same before the next event."""
        self.kept_events, self._packets = kept_events, kept_packets
        self._by_doorbell: dict[int, list[Packet]] = {}
        for queue in self.model.queues:
            for packet in queue.packets:
                if (packet.queue, packet.number) in kept_packets:
                    self._by_doorbell.setdefault(packet.event, []).append(packet)

    def original(self, ordinal: int) -> int:
        """Return which queue of the trace the queue number `ordinal` of this replay is."""
        return self._ordinals[ordinal] if 0 <= ordinal < len(self._ordinals) else -1

    def packet(self, ordinal: int, number: int) -> Packet | None:
        """Return the packet of the trace that a queue of this replay counts as `number`."""
        queue = self.original(ordinal)
        ring = self.rings.get(queue)
        if ring is None or not 0 <= number < len(ring.places) or ring.places[number] < 0:
            return None
        return self.model.queues[queue].packet(ring.places[number])

    # --- the source ----------------------------------------------------------------------------

    def clocks(self) -> dict[int, list[int]]:
        """Return nothing: what is left may read the clock at other times."""
        return {}

    def numbered(self, start: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield the candidate's events; only from the first one."""
        yield 0, self.model.header
        for number, event in self._all():
            self.reached = number
            yield number, event
        self.at_end()

    def _all(self) -> Iterator[tuple[int, Event]]:
        model = self.model
        names = iter(self._names())
        name = next(names, None)
        for number in sorted(model.by_number):
            if 0 <= self.pause_at <= number:
                self.pause_at = -1
                self.pause()
            while name is not None and name[0] < number:
                yield name
                name = next(names, None)
            event = model.by_number[number]
            match event:
                case events.Open():
                    yield number, replace(event, step=-1)
                case events.Unwritten():
                    yield number, event
                case events.DoorbellIntent():
                    if number in self._by_doorbell:
                        yield from self._ring(number, event)
                case _ if number in self.kept_events:
                    # What the CPU writes needs no more of the late queue than it had done.
                    stores = isinstance(event, Memory | events.HostStore)
                    if not stores or self._overdue(number):
                        yield from self._release()
                    yield from self._progress(number)
                    yield from self._kept(number, event)
        yield from self._release()

    def _names(self) -> Iterator[tuple[int, events.Name]]:
        # What lies in memory that is gone needs no name.
        there = sorted(one.where for one in self.model.buffers if one.made in self.kept_events)
        for number, name in self.model.names:
            at = bisect_right(there, (name.address, 1 << 64)) - 1
            if at >= 0 and name.address < there[at].end:
                yield number, name

    def _kept(self, number: int, event: Event) -> Iterator[tuple[int, Event]]:
        if isinstance(event, Memory | events.HostStore):
            yield from self._memory(number, event)
            return
        if isinstance(event, events.Unmap | events.Release):
            self.before_unmap(Range(event.address, event.address + event.size))
        if "step" in event.__slots__:
            event = replace(event, step=-1)  # type: ignore[call-arg]
        yield number, event
        for queue in self.model.queues:
            if queue.event == number:
                self._ordinals.append(queue.ordinal)
                self.rings[queue.ordinal] = Ring(queue)
                yield number, queue.mapped

    def _memory(self, number: int, event: Event) -> Iterator[tuple[int, Event]]:
        assert isinstance(event, Memory | events.HostStore)
        ranges = self._ranges[number]
        size = event.size if isinstance(event, Memory) else len(event.data)
        if ranges == (Range(event.address, event.address + size),):
            yield number, replace(event, step=-1)
            return
        pieces = (
            self.pieces(event) if isinstance(event, Memory) else [(event.address, event.data)]
        )
        for address, data in pieces:
            for one in ranges:
                low, high = max(one.start, address), min(one.end, address + len(data))
                if low < high:
                    yield number, Memory(low, "cpu", data[low - address : high - address])

    def _ring(self, number: int, event: events.DoorbellIntent) -> Iterator[tuple[int, Event]]:
        if self._by_doorbell[number][0].queue == self._late:
            self._held.append((number, event))
            return
        if self._overdue(number):
            yield from self._release()
        yield from self._submit(number, event)

    def _overdue(self, number: int) -> bool:
        # Whether the late queue had begun, when an event was recorded, what is held back here.
        if not self._held:
            return False
        first = self._by_doorbell[self._held[0][0]][0].number
        return self.history.counts.get(number, ())[self._late : self._late + 1] > (first,)

    def _release(self) -> Iterator[tuple[int, Event]]:
        for number, event in self._held:
            self.settle()  # each comes when nothing else can go on
            yield from self._submit(number, event)
        self._held.clear()

    def _submit(
        self, number: int, event: events.DoorbellIntent
    ) -> Iterator[tuple[int, Event]]:
        packets = self._by_doorbell[number]
        ring = self.rings.get(packets[0].queue)
        if ring is None:
            return
        yield from self._progress(number)
        for packet in packets:
            for address, data in ring.put(packet):
                yield number, Memory(address, "cpu", data)
        pointer = ring.pointer
        where = ring.queue.made.write_pointer_address
        yield number, Memory(where, "cpu", pointer.to_bytes(8, "little"))
        value = pointer - 1 if ring.queue.architected else pointer
        rung = replace(event, value=value, step=-1)
        yield number, rung
        self.after_doorbell()

    def _progress(self, number: int) -> Iterator[tuple[int, Event]]:
        values = []
        for queue, count in enumerate(self.history.counts.get(number, ())):
            ring = self.rings.get(queue)
            wanted = ring.until(count) if ring is not None else 0
            if ring is not None and wanted > self._told.get(("read", queue), 0):
                self._told["read", queue] = wanted
                values.append(Observed("read", ring.queue.mapped.queue, wanted))
        while self._next_store < len(self._store_events):
            if self._store_events[self._next_store] > number:
                break
            seen = self.history.stores[self._store_events[self._next_store]]
            self._next_store += 1
            for one in seen:
                if (one.queue, one.packet) in self._packets:
                    self._stores[one.address] = one.observed
        values += self._stores.values()
        self._stores = {}
        if values:
            yield number, events.Progress(tuple(values))

    def pieces(self, event: Memory | Digest) -> Iterator[tuple[int, bytes]]:
        """Yield (address, bytes) of what an event holds."""
        return self.model.source.pieces(event)

    def chunk(self, chunk: Chunk) -> bytes:
        """Give the bytes of a chunk of the trace."""
        return self.model.source.chunk(chunk)
