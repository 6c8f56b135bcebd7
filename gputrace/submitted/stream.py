"""What a trace submitted, packet by packet, without any device.

Ring memory is read from the image of CPU writes at each doorbell, from where the last one ended,
so packets that were written over later come out as they were. Numbers follow the engines: a queue
counts the packets that its ring hands over; what an indirect buffer holds has the number of the
packet that runs it, and so has what a COND_EXEC passes over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gputrace.bits import Record
from gputrace.errors import DecodeError
from gputrace.families import Family, family
from gputrace.formats import aql, pm4, sdma
from gputrace.formats.ioctl import MIN_RING_BYTES, DestroyQueue, QueueType, UpdateQueue
from gputrace.formats.packets import Dialect
from gputrace.submitted.image import Image, Memory
from gputrace.trace.events import (
    Checkpoint,
    DoorbellIntent,
    Event,
    Header,
    Ioctl,
    QueueMap,
    QueueState,
)
from gputrace.trace.source import Source

MAX_BYTES = 1 << 24
"""Most bytes of packets that are read for one submission, indirect buffers included."""
MAX_PACKETS = 1 << 17
"""Most packets that are decoded for one submission."""
MAX_DEPTH = 4
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Placed:
    """A packet, and where a queue finds it.

    `number` counts from the queue's first packet as `kfd.port.Stall.packet` does; `address` is the
    GPU address of the first dword. `record` is None where `problem` says why the words could not be
    decoded, or that not all of them are there yet: then the packet comes again, whole, with the
    submission that completes it. `depth` is 0 in the ring, 1 and more in indirect buffers;
    `skipped` says that a COND_EXEC passes it over, as far as the image can tell.
    """

    queue: int
    number: int
    submission: int
    address: int
    words: tuple[int, ...]
    record: Record | None
    problem: str = ""
    depth: int = 0
    skipped: bool = False


@dataclass(slots=True)
class Submission:
    """What one doorbell published.

    `number` is the recorded one, `event` the index in the trace of its DoorbellIntent, `ordinal`
    says which queue of the trace it is by the order of their making. `end` is the position that
    was published, in bytes from the queue's beginning. `problem` tells why packets are missing; it
    is empty when all are there.
    """

    number: int
    event: int
    queue: QueueMap
    ordinal: int
    packets: list[Placed] = field(default_factory=list)
    problem: str = ""
    end: int = 0


class _Queue:
    """Where a queue's ring is and how far it was published; positions count bytes."""

    def __init__(self, made: QueueMap, ordinal: int) -> None:
        self.made, self.ordinal = made, ordinal
        architected = made.type == QueueType.COMPUTE_AQL
        self.unit = {QueueType.COMPUTE: 4, QueueType.COMPUTE_AQL: 64}.get(QueueType(made.type), 1)
        self.bias = int(architected)  # an AQL doorbell names the last packet, not the next
        self.base, self.size = made.ring, max(made.ring_size, MIN_RING_BYTES)
        self.cell = _U64 if architected else 0
        self.position = self.packets = 0
        self.furthest = 0

    def ring(self, value: int, bits: int) -> str:
        """Take a doorbell's value; return what is wrong with it, or nothing."""
        if bits not in (32, 64):
            return f"a doorbell of {bits} bits"
        mask = (1 << bits) - 1
        self.cell = self.cell & ~mask | value & mask
        written = (self.cell + self.bias & _U64) * self.unit
        if written < self.position or written - self.position > self.size:
            if self.bias and written < self.position:
                return ""  # producers of an AQL queue ring in any order
            where = f"write pointer {written:#x}, read up to {self.position:#x}"
            return f"the doorbell leaves the ring: {where}, ring of {self.size:#x} bytes"
        self.furthest = max(self.furthest, written) if self.bias else written
        return ""

    def start(self, state: QueueState) -> None:
        """Stand where a checkpoint says that the queue stood."""
        self.cell, self.packets = state.doorbell, state.packets
        self.position = self.furthest = (state.doorbell + self.bias & _U64) * self.unit

    def move(self, call: UpdateQueue) -> None:
        """Take another ring."""
        if call.ring_base_address:
            self.base, self.size = call.ring_base_address, max(call.ring_size, MIN_RING_BYTES)


class Stream:
    """Follows a trace event by event and decodes each doorbell's packets.

    `image` is the memory at the event last applied. Raises UsageError for a family that has no
    facts here, DecodeError for an ioctl whose bits do not fit its record.
    """

    def __init__(self, image: Memory) -> None:
        self.image = image
        self._queues: dict[int, _Queue] = {}
        self._made = 0
        self._family: Family | None = None

    def apply(self, number: int, event: Event) -> Submission | None:
        """Take an event into account; a doorbell of a known queue gives its submission."""
        match event:
            case Header() if event.family:
                self._family = family(event.family)
            case QueueMap(live=True):
                self._make(event)
            case QueueMap():
                self._queues.pop(event.queue, None)
            case Ioctl(record="DestroyQueue", errno=0):
                self._queues.pop(DestroyQueue.from_bytes(event.before).queue_id, None)
            case Ioctl(record="UpdateQueue", errno=0):
                update = UpdateQueue.from_bytes(event.before)
                if update.queue_id in self._queues:
                    self._queues[update.queue_id].move(update)
            case Checkpoint():
                for state in event.queues:
                    if state.queue in self._queues:
                        self._queues[state.queue].start(state)
            case DoorbellIntent() if event.queue in self._queues:
                return self._submit(number, event, self._queues[event.queue])
            case _:
                self.image.apply(event)
        return None

    def _make(self, event: QueueMap) -> None:
        if event.type in QueueType.__members__.values() and self._family is not None:
            self._queues[event.queue] = _Queue(event, self._made)
        self._made += 1

    def _submit(self, number: int, event: DoorbellIntent, queue: _Queue) -> Submission:
        made = Submission(event.submission, number, queue.made, queue.ordinal)
        made.problem = queue.ring(event.value, event.bits)
        made.end = queue.furthest
        assert self._family is not None
        if not made.problem and queue.furthest > queue.position:
            _Walk(self.image, self._family, queue, made).ring()
        return made


def submissions(source: Source) -> Iterator[Submission]:
    """Yield what each doorbell of a trace published, in the order of the doorbells.

    Doorbells of queues that the trace does not describe are left out. Raises as `Stream` does.
    """
    stream = Stream(Image(source))
    for number, event in source.numbered():
        submission = stream.apply(number, event)
        if submission is not None:
            yield submission


class _Full(Exception):
    """More packets than one submission may have."""


class _Walk:
    """Decodes the packets of one submission."""

    def __init__(self, image: Memory, target: Family, queue: _Queue, made: Submission) -> None:
        self.image, self.queue, self.made = image, queue, made
        copies = queue.made.type not in (QueueType.COMPUTE, QueueType.COMPUTE_AQL)
        self.dialect: Dialect[pm4.Packet] | Dialect[sdma.Packet]
        self.dialect = target.sdma if copies else target.pm4
        self.straddle = not copies
        self.room = MAX_BYTES

    def ring(self) -> None:
        """Decode what lies between the queue's position and the doorbell."""
        try:
            if self.queue.unit == aql.PACKET_BYTES:
                self._slots()
            else:
                self._stretches()
        except _Full:
            limits = f"{MAX_PACKETS} packets or {MAX_BYTES >> 20} MiB"
            self.made.problem = f"more than {limits} in one submission; the rest is left out"
            self.queue.position = self.queue.furthest

    def _stretches(self) -> None:
        # An SDMA packet may not go over the end of the ring; a PM4 packet may.
        queue = self.queue
        while queue.position < queue.furthest:
            left = (queue.furthest - queue.position) // 4 * 4
            if not left:
                return
            if not self.straddle:
                left = min(left, queue.size - queue.position % queue.size)
            words = self._ring_words(left)
            if words is None:
                self.made.problem = f"the trace does not hold the ring at {self._place(0):#x}"
                queue.position = queue.furthest
                return
            taken = self._ring_packets(words)
            if taken < len(words) and queue.position + left == queue.furthest:
                queue.position += 4 * taken  # the rest comes with a later doorbell
                return
            queue.packets += taken < len(words)
            queue.position += left

    def _place(self, dword: int) -> int:
        queue = self.queue
        return queue.base + (queue.position + 4 * dword) % queue.size

    def _ring_words(self, size: int) -> Sequence[int] | None:
        queue = self.queue
        at = queue.position % queue.size
        first = self._read(queue.base + at, min(size, queue.size - at))
        rest = self._read(queue.base, max(0, size - (queue.size - at)))
        if first is None or rest is None:
            return None
        whole = first + rest
        return memoryview(whole[: len(whole) // 4 * 4]).cast("I")

    def _read(self, address: int, size: int) -> bytes | None:
        self.room -= size
        if self.room < 0:
            raise _Full
        return self.image.read(address, size)

    # Gives the dwords of the packets that are whole.
    def _ring_packets(self, words: Sequence[int]) -> int:
        at, end = 0, len(words)
        while at < end:
            placed, size = self._one(words, at, end, self._place(at), 0)
            skip = self._skip(placed)
            if size + skip > end - at:
                if placed.record is not None:
                    text = f"waits for {size + skip} dwords with what it passes over"
                    placed = replace(placed, record=None, problem=f"{text}, {end - at} are there")
                self._add(placed)
                return at
            self._add(placed)
            self._inside(placed, 1)
            at += size
            if skip:
                self._passed_over(words, at, at + skip)
                at += skip
            self.queue.packets += 1
        return at

    def _passed_over(self, words: Sequence[int], at: int, end: int) -> None:
        while at < end:
            placed, size = self._one(words, at, end, self._place(at), 0)
            self._add(replace(placed, skipped=True))
            at += size

    # Gives the packet and its length, which is more than is there when it is not whole.
    def _one(
        self, words: Sequence[int], at: int, end: int, address: int, depth: int
    ) -> tuple[Placed, int]:
        record: Record | None = None
        problem = ""
        try:
            layout, size = self.dialect.layout(words, at, end)
        except DecodeError as error:
            size, problem = self._resume(words, at, end), error.reason
        else:
            if at + size <= end:
                record = layout.decode(words, at, size)
            else:
                problem = f"{layout.VENDOR_NAME} of {size} dwords, {end - at} are there"
        made = self.made
        words_there = tuple(words[at : min(at + size, end)])
        placed = Placed(
            made.queue.queue, self.queue.packets, made.number, address, words_there, record,
            problem, depth,
        )  # fmt: skip
        return placed, size

    # An engine stops at what it does not know. To look further, believe the length of a packet
    # with an unknown opcode; of anything else the rest of the words is one piece.
    def _resume(self, words: Sequence[int], at: int, end: int) -> int:
        header = words[at]
        unknown = header >> 8 & 0xFF not in self.dialect.packets
        if isinstance(self.dialect, pm4.Pm4Dialect) and header >> 30 == 3 and unknown:
            return min((header >> 16 & 0x3FFF) + 2, end - at)
        return end - at

    def _add(self, placed: Placed) -> None:
        if len(self.made.packets) >= MAX_PACKETS:
            raise _Full
        self.made.packets.append(placed)

    # How many dwords a COND_EXEC passes over; a value that the image lacks runs them.
    def _skip(self, placed: Placed) -> int:
        record = placed.record
        if not isinstance(record, pm4.CondExec | sdma.CondExec):
            return 0
        raw = self.image.read(record.address, 4)
        if raw is None:
            return 0
        value = int.from_bytes(raw, "little")
        runs = value != 0 if isinstance(record, pm4.CondExec) else value == record.reference
        return 0 if runs else int(record.exec_count)

    def _inside(self, placed: Placed, depth: int) -> None:
        """Decode what an indirect buffer packet runs."""
        seen: set[tuple[int, int]] = set()
        record: Record | None = placed.record
        while isinstance(record, pm4.IndirectBuffer | sdma.IndirectBuffer):
            address, count = record.address, record.dwords_there
            if not count:
                return
            if (address, count) in seen:
                self._missing(address, depth, "the buffers chain to themselves: an endless loop")
                return
            if depth > MAX_DEPTH:
                self._missing(address, depth, "indirect buffers are nested too deep to follow")
                return
            seen.add((address, count))
            data = self._read(address, 4 * count)
            if data is None:
                self._missing(address, depth, f"the trace does not hold these {count} dwords")
                return
            record = self._buffer(memoryview(data).cast("I"), address, depth)

    # Gives the packet that chains to another buffer, if one does.
    def _buffer(self, words: Sequence[int], base: int, depth: int) -> Record | None:
        at, end = 0, len(words)
        while at < end:
            placed, size = self._one(words, at, end, base + 4 * at, depth)
            self._add(placed)
            at += size
            if isinstance(placed.record, pm4.IndirectBuffer) and placed.record.chain:
                return placed.record
            self._inside(placed, depth + 1)
            skip = min(self._skip(placed), end - at)
            while skip > 0:
                placed, size = self._one(words, at, at + skip, base + 4 * at, depth)
                self._add(replace(placed, skipped=True))
                at, skip = at + size, skip - size
        return None

    def _missing(self, address: int, depth: int, problem: str) -> None:
        made = self.made
        self._add(
            Placed(
                made.queue.queue, self.queue.packets, made.number, address, (), None, problem, depth
            )
        )

    # The packet processor takes a slot once its header is valid, and makes it invalid afterwards.
    def _slots(self) -> None:
        queue, made = self.queue, self.made
        while queue.position < queue.furthest:
            address = self._place(0)
            data = self._read(address, aql.PACKET_BYTES)
            if data is None:
                made.problem = f"the trace does not hold the ring at {address:#x}"
                queue.position = queue.furthest
                return
            record, problem = _slot(data)
            words = tuple(memoryview(data).cast("I"))
            self._add(
                Placed(
                    made.queue.queue, queue.packets, made.number, address, words, record, problem
                )
            )
            if data[0] == aql.PacketType.INVALID:
                return
            if isinstance(record, aql.VendorPm4):
                self._run_vendor(record)
            self.image.write(address, bytes((aql.PacketType.INVALID, 0)))
            queue.position += aql.PACKET_BYTES
            queue.packets += 1

    def _run_vendor(self, record: aql.VendorPm4) -> None:
        packet = pm4.IndirectBuffer(address=record.ib_address, dwords_there=record.ib_size)
        placed = self.made.packets[-1]
        self._inside(replace(placed, record=packet), 1)


def _slot(data: bytes) -> tuple[Record | None, str]:
    if data[0] == aql.PacketType.INVALID:
        return None, "the slot was not published when the doorbell rang"
    try:
        return aql.decode_packet(data), ""
    except DecodeError as error:
        return None, error.reason
