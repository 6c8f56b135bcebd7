"""Record a tapped program: one submission at a time, while the program stands still.

On hardware nobody tells who changed a byte: stores of the GPU are seen by no write protection, and
user pointers must not be write-protected at all. So the program is stopped before a doorbell is
rung, and goes on when the submission is done: what changed in between the GPU has written, all
else the program. A submission that only the program can end is let go after a while; what changes
from then on, until the device is at rest again, is recorded as changed by nobody knows whom. So is
what changes after a submission that nothing proves done, until something does.
"""

import time
from typing import NamedTuple

from gputrace.bits import Record
from gputrace.capture.memory import Change
from gputrace.capture.recorder import Recorder
from gputrace.families import Family
from gputrace.formats.ioctl import (
    AllocFlag,
    AllocMemoryOfGpu,
    CreateEvent,
    CreateQueue,
    DestroyQueue,
    QueueType,
    UpdateQueue,
)
from gputrace.interpose.completion import Completion, Gate, Sign
from gputrace.interpose.tap_kfd import TapKfd
from gputrace.kfd.host import PAGE
from gputrace.kfd.tracking import Span
from gputrace.trace import events
from gputrace.trace.writer import TraceWriter

WORK_NS, GATE_NS = 10_000_000_000, 250_000_000
"""How long a program stands still for a submission of which nothing more is seen: that does its
work, and that waits for a word which perhaps only the program will store."""
QUIET_NS = 5_000_000
"""How long nothing may change before a submission without a sign of its end counts as done."""
EARLY = "a packet that ran before it was rung"
_PAUSE = 50e-6


class _Queue(NamedTuple):
    """A queue of the program, how far it was rung, in bytes, and whether a sign tells its end."""

    made: CreateQueue
    position: int = 0
    proven: bool = True


class TapRecorder(Recorder):
    """The recorder of a tapped program."""

    def __init__(self, kfd: TapKfd, writer: TraceWriter, family: Family) -> None:
        super().__init__(kfd, writer, tracker=kfd.memory, read=kfd.memory.read)
        self._tap = kfd
        self._completion = Completion(family, kfd.memory.read, self._in_event_page)
        self._buffers: dict[int, tuple[int, int]] = {}  # handle: GPU address and size
        self._event_page = (0, 0)
        self.provenance = "cpu"
        self._rings: dict[int, _Queue] = {}
        self._awaited: list[Sign] = []
        self._gates: list[Gate] = []
        self._last_change = 0
        self.unfinished = ""
        """Which work had no end, once the program has given up waiting for it."""

    # --- submissions ------------------------------------------------------------------------------

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Ring a doorbell and look what the GPU does, while the program stands still."""
        with self._lock, self._tap.still():
            self.look()  # at what came of those before: from here on all is known again, or not
            self._expect(self._doorbells.queue(address), value)
            super().doorbell(address, value, bits)
            self._stalls += 1
            start = self._last_change = time.monotonic_ns()
            while not self._ended() and self._since_change() < self._patience():
                time.sleep(_PAUSE)
            self._nanoseconds += time.monotonic_ns() - start
            self._absorb_gpu()
            self._settle()
            if not self.at_rest:
                self._digests.take(-1, unstable=True)
            elif self._proven and self._digests.due:
                self._digests.take(-1)

    def _settle(self) -> None:
        self.provenance = "cpu" if self.at_rest and self._proven else "unknown"

    def look(self, *, under_way: bool = False) -> None:
        """Take what has changed since the last look, if it may not be the program's alone.

        With `under_way` only if some work has not been seen to end.
        """
        with self._lock:
            if self.provenance == "cpu" or (under_way and self.at_rest):
                return
            with self._tap.still():
                self._take_signs()
                with self._hook():
                    if self._ended():
                        self._settle()

    def _catch_up(self, gate: bool) -> None:
        # What was fetched and is not proven done may have stored some of what is found now: so a
        # replay waits for it, as far as it comes.
        if self.provenance == "unknown" and self.at_rest:
            self._tap.memory.refresh()
            self._observations.add(self._memory.edges())
        super()._catch_up(gate)

    def _take_signs(self) -> None:
        # What the engines themselves store is known to be theirs, whoever else stores meanwhile.
        read = self._tap.memory.read
        words = [(one.address, one.size) for one in self._awaited if one.seen(read)]
        words += [(one.made.read_pointer_address, 8) for one in self._rings.values()]
        changes = []
        for address, size in words:
            for start, view in self._memory.known(Span(address, size)):
                for at in range(0, len(view), 4):
                    was, now = bytes(view[at : at + 4]), read(start + at, 4)
                    if now != was and len(now) == 4:
                        view[at : at + 4] = now
                        numbers = (int.from_bytes(one, "little") for one in (was, now))
                        changes.append(Change(start + at, *numbers))
        self._observations.add(changes)

    @property
    def at_rest(self) -> bool:
        """Whether all that was rung is done, as far as was seen at the last look."""
        return not self._awaited and self._fetched()

    @property
    def _unsettled(self) -> bool:
        return not self.at_rest

    def _ended(self) -> bool:
        read = self._tap.memory.read
        before = len(self._awaited)
        self._awaited = [one for one in self._awaited if not one.seen(read)]
        if len(self._awaited) != before:
            self._last_change = time.monotonic_ns()
        if self._awaited or not self._fetched():
            return False
        self._gates.clear()
        if self._proven:
            return True
        self._absorb_gpu()
        return self._since_change() > QUIET_NS

    @property
    def _proven(self) -> bool:
        return all(queue.proven for queue in self._rings.values())

    def _patience(self) -> int:
        read = self._tap.memory.read
        return WORK_NS if all(one.open(read) for one in self._gates) else GATE_NS

    def _since_change(self) -> int:
        return time.monotonic_ns() - self._last_change

    def _fetched(self) -> bool:
        for queue in self._rings.values():
            made = queue.made
            wraps = made.queue_type == QueueType.COMPUTE
            raw = self._tap.memory.read(made.read_pointer_address, 4 if wraps else 8)
            shown = int.from_bytes(raw, "little") * _unit(made)
            if (queue.position - shown) % (made.ring_size if wraps else 1 << 64):
                return False
        return True

    def _expect(self, number: int, value: int) -> None:
        queue = self._rings.get(number)
        if queue is None:
            return
        made = queue.made
        self._check_early(queue)
        end = (value + (made.queue_type == QueueType.COMPUTE_AQL)) * _unit(made)
        length = end - queue.position
        if 0 < length <= made.ring_size:
            start = queue.position % made.ring_size
            first = min(length, made.ring_size - start)
            read, ring = self._tap.memory.read, made.ring_base_address
            packets = read(ring + start, first) + read(ring, length - first)
            signs = self._completion.signs(QueueType(made.queue_type), packets)
            self._awaited += signs.found
            self._gates += signs.gates
            proven = signs.complete and (queue.proven or signs.all_before)
            self._rings[number] = queue._replace(position=end, proven=proven)

    def _check_early(self, queue: _Queue) -> None:
        # A packet processor may look at the write pointer in memory, and run what nobody has rung.
        made = queue.made
        if made.queue_type == QueueType.COMPUTE_AQL:
            raw = self._tap.memory.read(made.read_pointer_address, 8)
            if int.from_bytes(raw, "little") * _unit(made) > queue.position:
                self._writer.append(events.Unsupported(EARLY, "its inputs are not known"))

    def _absorb_gpu(self) -> None:
        self._tap.memory.refresh()
        spans, changes = self._memory.absorb_all()
        if spans:
            self._last_change = time.monotonic_ns()
        self._observations.add(changes)
        # The kernel takes back what is stored into the event page, sooner or later.
        self._digests.add([one for one in spans if not self._in_event_page(one.address)])

    # --- what calls mean --------------------------------------------------------------------------

    def _learn(self, record: Record, answer: Record) -> None:
        super()._learn(record, answer)
        match answer:
            case CreateQueue():
                self._rings[answer.queue_id] = _Queue(answer)
            case DestroyQueue() if answer.queue_id in self._rings:
                self._ended()  # looks once more
                if not self.at_rest and not self.unfinished:
                    self.unfinished = f"queue {answer.queue_id} was destroyed with work under way"
                del self._rings[answer.queue_id]
                self._awaited = self._awaited if self._rings else []
            case UpdateQueue() if answer.queue_id in self._rings and answer.ring_base_address:
                queue = self._rings[answer.queue_id]
                made = queue.made.replace(
                    ring_base_address=answer.ring_base_address, ring_size=answer.ring_size
                )
                self._rings[answer.queue_id] = queue._replace(made=made)
            case CreateEvent():
                assert isinstance(record, CreateEvent)
                given = record.event_page_offset
                self._event_page = self._buffers.get(given, self._event_page)
            case AllocMemoryOfGpu() if not answer.flags & AllocFlag.USERPTR:
                self._buffers[answer.handle] = answer.va_addr, answer.size
            case AllocMemoryOfGpu():
                assert isinstance(record, AllocMemoryOfGpu)
                start = record.mmap_offset // PAGE * PAGE
                size = -(-(record.mmap_offset + record.size - start) // PAGE) * PAGE
                if not any(low < start + size and start < low + length
                           for low, length in self._user.values()):
                    self._user[answer.handle] = start, size
                    self.watch(start, size, self._tap.memory.copy(start, size))
            case _:
                pass

    def _in_event_page(self, address: int) -> bool:
        start, size = self._event_page
        return start <= address < start + size

    def unknown(self, name: str, raw: bytes, reason: str) -> None:
        """Write down a call that was made and cannot be replayed."""
        with self._lock:
            self._writer.append(events.Unsupported(name, reason, raw))


def _unit(made: CreateQueue) -> int:
    return {QueueType.COMPUTE: 4, QueueType.COMPUTE_AQL: 64}.get(QueueType(made.queue_type), 1)
