"""Write a trace as text: a line for each packet, and what the CPU did between them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gputrace.formats import ioctl
from gputrace.kfd.labels import Label
from gputrace.replay.describe import LONGEST, Describer, memory_kind
from gputrace.replay.standing import standing, stored_registers
from gputrace.report.counts import errno_name
from gputrace.report.walk import Decoded, Item, Rung, Seen, Walk, Wanted
from gputrace.trace import events as ev
from gputrace.trace.source import Source
from gputrace.trace.text import event_line

_SMALL = 16


class _Writes:
    """Puts writes into the same buffer, one after the other, together."""

    def __init__(self) -> None:
        self._where: tuple[str, Label | None] | None = None
        self._start = ""
        self._size = self._pieces = 0

    def add(self, event: ev.Memory, label: Label | None, start: str) -> Iterator[str]:
        """Take a write into account; yield what was gathered of others."""
        where = event.provenance, label
        if where != self._where or label is None:
            yield from self.flush()
            self._where, self._start = where, start
        self._size += event.size
        self._pieces += 1

    def flush(self) -> Iterator[str]:
        """Yield what was gathered, if anything."""
        if self._where is not None:
            pieces = f" in {self._pieces} pieces from" if self._pieces > 1 else " at"
            plural = "byte" if self._size == 1 else "bytes"
            yield f"{self._where[0]} wrote {self._size} {plural}{pieces} {self._start}"
        self._where, self._size, self._pieces = None, 0, 0


def failed_call(event: ev.Ioctl) -> str:
    """Write a call that was refused on one line: what was asked for, and the name of the errno."""
    layout = ioctl.RECORDS.get(event.record)
    if layout is None or len(event.before) < 4 * layout.WORDS:
        asked = event.record or f"ioctl {event.request:#x} of {event.target}"
    else:
        asked = layout.from_bytes(event.before).line()
    return f"{asked} failed: {errno_name(event.errno)}"


class TextView:
    """Writes one trace.

    `outcome` marks the packet that it names, if it is known beforehand; `every_event` adds each
    event as it is stored, `whole` shows packets bit by bit.
    """

    def __init__(
        self,
        source: Source,
        wanted: Wanted | None = None,
        *,
        outcome: ev.Outcome | None = None,
        every_event: bool = False,
        whole: bool = False,
    ) -> None:
        self._wanted = wanted or Wanted()
        self._walk = Walk(source, self._wanted)
        self._outcome, self._every, self._whole = outcome, every_event, whole
        self._between = self._wanted.everything and not whole
        self._buffers: dict[int, tuple[ioctl.AllocMemoryOfGpu, str]] = {}
        self._fresh: int | None = None  # handle of an allocation that may get its name yet
        self._hidden: set[tuple[int, int]] = set()  # rings and pointers: doorbells tell of them
        self._writes = _Writes()
        self._kernel = ""  # that the packet of the outcome launches
        self.packets = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the lines."""
        for _, lines in self.items():
            yield from lines

    def items(self) -> Iterator[tuple[Item | None, list[str]]]:
        """Yield the lines of each item that has some; None for what the CPU did before it."""
        for item in self._walk:
            before, own = self._lines(item)
            if before:
                yield None, before
            if own:
                yield item, own

    def marks(self, item: Decoded) -> bool:
        """Whether the outcome names this packet."""
        placed, outcome = item.placed, self._outcome
        if outcome is None or outcome.packet < 0 or placed.depth:
            return False
        return (outcome.queue, outcome.packet) == (placed.queue, placed.number)

    def _lines(self, item: Item) -> tuple[list[str], list[str]]:
        if isinstance(item, Seen):
            return self._seen(item)
        if isinstance(item, Rung):
            if self._whole:
                return [], []
            return [*self._writes.flush(), *self._allocated()], list(self._rung(item))
        self.packets += 1
        if item.launch is not None and self.marks(item):
            self._kernel = item.launch.kernel
        return [], list(self._packet(item))

    def _seen(self, item: Seen) -> tuple[list[str], list[str]]:
        if self._every:
            return [], [event_line(item.number, item.event)]
        if not self._between:
            return [], []
        if isinstance(item.event, ev.Memory):
            return list(self._wrote(item.event)), []
        own = list(self._event(item.event))
        if not own:
            return [], []
        before = list(self._writes.flush())
        if not isinstance(item.event, ev.Ioctl):
            before += self._allocated()
        return before, own

    @property
    def _describer(self) -> Describer:
        return self._walk.describer

    def _rung(self, item: Rung) -> Iterator[str]:
        submission = item.submission
        count = len(submission.packets)
        plural = "packet" if count == 1 else "packets"
        queue = submission.queue
        yield f"submission {submission.number} to queue {queue.queue}: {count} {plural}"
        if submission.problem:
            yield f"  ?? {submission.problem}"

    def _packet(self, item: Decoded) -> Iterator[str]:
        placed = item.placed
        if self._whole:
            yield from self._describer.annotated(placed, item.launch)
            if self._outcome is not None and self.marks(item):
                yield "the run ended here"
                yield from outcome_lines(self._outcome)
                yield from self._stopped_wave(self._outcome)
            yield ""
            return
        line = self._describer.line(placed, item.launch)
        mark = f"   <== {self._outcome.result}" if self._outcome and self.marks(item) else ""
        yield f"  {placed.queue}:{placed.number:<5} {'  ' * placed.depth}{line}{mark}"

    def _event(self, event: ev.Event) -> Iterator[str]:
        short = self._describer.labels.short
        match event:
            case ev.Header():
                yield from header_lines(event)
            case ev.QueueMap(live=True):
                yield self._queue(event)
            case ev.Ioctl():
                yield from self._ioctl(event)
            case ev.Name() if event.name:
                yield from self._name(event)
            case ev.HostStore() if not self._is_hidden(event.address):
                small = len(event.data) <= _SMALL
                value = event.data.hex() if small else f"{len(event.data)} bytes"
                yield f"cpu stored {value} at {short(event.address)}"
            case ev.WaitBegin():
                values = self._observed(event.values)
                yield f"cpu waits for {values}" if values else "cpu waits"
            case ev.WaitEnd():
                yield f"cpu wait ended: {event.result}"
            case ev.Unsupported():
                yield f"cannot be replayed: {event.what}: {event.reason}"
            case ev.Lost():
                yield f"lost with a damaged block: {event.text}"
            case ev.Checkpoint():
                state = "complete" if event.complete else f"not complete: {event.text}"
                yield f"checkpoint, {state}"
            case ev.Unwritten():
                size = sum(one.size for one in event.ranges)
                yield f"nobody had written {size} bytes of memory, in {len(event.ranges)} places"
            case ev.Trigger():
                yield f"capture {event.what}: {event.cause}"
            case ev.Note():
                yield f"note: {event.what}: {event.text}"
            case ev.Outcome():
                yield from outcome_lines(replace(event, kernel=event.kernel or self._kernel))
                yield from self._stopped_wave(event)

    def _queue(self, event: ev.QueueMap) -> str:
        ring = event.ring, event.ring + event.ring_size
        page = event.read_pointer & ~0xFFF
        self._hidden |= {ring, (page, page + 0x1000)}
        name = f" {event.name!r}" if event.name else ""
        where = f"ring {event.ring:#x}, {event.ring_size:#x} bytes"
        return f"queue {event.queue}: {ioctl.queue_name(event.type)}{name}, {where}"

    def _wrote(self, event: ev.Memory) -> Iterator[str]:
        if not self._is_hidden(event.address):
            yield from self._allocated()
            label = self._describer.labels.at(event.address)
            where = self._describer.labels.short(event.address)
            yield from self._writes.add(event, label, where)

    def _is_hidden(self, address: int) -> bool:
        label = self._describer.labels.at(address)
        ring = label is not None and label.what == "ring"
        return ring or any(start <= address < end for start, end in self._hidden)

    def _ioctl(self, event: ev.Ioctl) -> Iterator[str]:
        if event.errno:
            yield failed_call(event)
        elif event.record == "AllocMemoryOfGpu":
            yield from self._allocated()
            made = ioctl.AllocMemoryOfGpu.from_bytes(event.after)
            self._fresh = made.handle
            self._buffers[made.handle] = made, self._describer.labels.short(made.va_addr)
        elif event.record == "FreeMemoryOfGpu":
            yield from self._allocated()
            handle = ioctl.FreeMemoryOfGpu.from_bytes(event.before).handle
            if handle in self._buffers:
                gone, name = self._buffers.pop(handle)
                yield f"free {name}: {gone.size:#x} bytes at {gone.va_addr:#x}"
        elif event.record == "DestroyQueue":
            yield f"queue {ioctl.DestroyQueue.from_bytes(event.before).queue_id} destroyed"

    # An allocation is told once its name is known, which the client may give right after it.
    def _name(self, event: ev.Name) -> Iterator[str]:
        name = event.name[:LONGEST]
        if self._fresh is not None:
            made, _ = self._buffers[self._fresh]
            if made.va_addr == event.address:
                self._buffers[self._fresh] = made, name
                return
        if event.what in ("buffer", "code", "kernel"):
            yield f"{event.what} {name} at {event.address:#x}, {event.size:#x} bytes"

    def _allocated(self) -> Iterator[str]:
        if self._fresh is None:
            return
        yield from self._writes.flush()  # all of them came before
        made, name = self._buffers[self._fresh]
        self._fresh = None
        kind = memory_kind(made.flags)
        yield f"alloc {name}: {made.size:#x} bytes of {kind} at {made.va_addr:#x}"

    def _observed(self, values: tuple[ev.Observed, ...]) -> str:
        names = []
        for one in values:
            where = self._describer.labels.short(one.where) if one.where > 1 << 16 else one.where
            names.append(f"{one.what} {where} to reach {one.value:#x}")
        return ", ".join(names)

    def _stopped_wave(self, outcome: ev.Outcome) -> Iterator[str]:
        pc = outcome.details.get("pc")
        if isinstance(pc, int):
            yield from standing(self._describer, pc, stored_registers(outcome.details))


def header_lines(header: ev.Header) -> Iterator[str]:
    """Yield who wrote a trace, on what."""
    name = header.device.get("name", "a device without a name")
    yield f"trace by {header.tool or '?'} of {name} ({header.family or 'no known family'})"
    seed = f", schedule seed {header.schedule_seed}" if header.scheduler else ""
    yield f"capture mode {header.mode}{', durable' if header.durable else ''}{seed}"


def outcome_lines(outcome: ev.Outcome) -> Iterator[str]:
    """Yield how a run ended."""
    proven = ", proven" if outcome.proven else ""
    where = f" at packet {outcome.queue}:{outcome.packet}" if outcome.packet >= 0 else ""
    yield f"outcome: {outcome.result}{proven}{where}"
    facts: dict[str, Any] = {
        "address": f"{outcome.address:#x}" if outcome.address >= 0 else "",
        "access": outcome.access,
        "kernel": outcome.kernel,
        "wave": outcome.wave if outcome.wave >= 0 else "",
    }
    shown = ", ".join(f"{name} {value}" for name, value in facts.items() if value != "")
    if shown:
        yield f"  {shown}"
    for line in outcome.text.splitlines():
        yield f"  {line}"
