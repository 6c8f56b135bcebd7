"""What happened when, in the recorded run: learnt by replaying it once, step by step.

The order in which packets and the CPU's events took place is the order of a reduction's items: in
it everything comes after what it depends on, a satisfied wait after its signal too, whichever was
submitted first. And every CPU event has the progress that it may rely on.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, Self, cast

from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.opening import make_device
from gputrace.errors import Divergence, UsageError
from gputrace.formats import aql
from gputrace.formats.ioctl import CreateQueue
from gputrace.kfd import host
from gputrace.kfd.port import Kfd, Progress, R
from gputrace.minimize.effects import late, stores
from gputrace.minimize.model import Model, Packet
from gputrace.replay import child
from gputrace.replay.pacing import Pacing
from gputrace.replay.player import Player
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.events import Chunk, Digest, Event, Memory, Observed
from gputrace.trace.events import Progress as Seen
from gputrace.trace.reader import TraceReader
from gputrace.trace.source import Source


class Late(NamedTuple):
    """A store that a packet makes after its queue has gone on, as the CPU may see it.

    `what` is "fence" for a value that memory has reached from below, "signal" for one from above.
    """

    queue: int
    packet: int
    what: str
    address: int
    value: int

    @property
    def observed(self) -> Observed:
        """The same as an entry of a Progress event."""
        return Observed(self.what, self.address, self.value)


@dataclass
class History:
    """The recorded run again.

    `order` holds ("e", event number) and ("p", queue, packet) entries as they took place, packets
    when their queue went on to the next one. `counts` says for an event how many packets of each
    queue had retired by then, `stores` which late ones were first seen then. `last` is the event
    at which the failure was found, -1 for none.
    """

    verdict: Verdict
    order: list[tuple[str, int, int]] = field(default_factory=list)
    counts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    stores: dict[int, list[Late]] = field(default_factory=dict)
    last: int = -1

    def retired(self, packet: Packet) -> bool:
        """Tell whether a packet's queue went on behind it."""
        return (packet.queue, packet.number) in self._done

    @cached_property
    def _done(self) -> set[tuple[int, int]]:
        return {(queue, number) for kind, queue, number in self.order if kind == "p"}

    def plain(self) -> dict[str, Any]:
        """Return it as values that JSON knows."""
        return {
            "verdict": self.verdict.to_plain(),
            "order": self.order,
            "counts": [[event, *counts] for event, counts in self.counts.items()],
            "stores": [[event, *one] for event, some in self.stores.items() for one in some],
            "last": self.last,
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Self:
        """Undo `plain`."""
        made = cls(Verdict.from_plain(plain["verdict"]), last=plain["last"])
        made.order = [(kind, first, second) for kind, first, second in plain["order"]]
        made.counts = {event: tuple(counts) for event, *counts in plain["counts"]}
        for event, *one in plain["stores"]:
            made.stores.setdefault(event, []).append(Late(*one))
        return made


class Emulated(Kfd, Protocol):
    """What an emulated device offers beside the port."""

    @property
    def step(self) -> int:
        """Steps taken."""

    @property
    def progress(self) -> Mapping[int, int]:
        """Packets that each queue has left behind, by queue id."""

    def advance(self, step: int, clock_ns: int) -> None:
        """Take steps until `step` have been taken, then move the clock on to `clock_ns`."""

    def resume_queue(self, queue_id: int, read: int, doorbell: int, packets: int = 0) -> None:
        """Let a new queue stand where it stood when memory was saved."""

    def forked(self) -> None:
        """Make the device independent of the one it was forked from."""

    def take_all_as_written(self) -> None:
        """Fault no read of what nobody has written."""

    def feed_clock(self, queue: int, values: Iterable[int]) -> None:
        """Have a queue read these values of the clock next."""


def make_emulated(name: str) -> Emulated:
    """Return the emulated device with this name. Raises UsageError for any other."""
    device = make_device(name)
    if not isinstance(device, EmulatedKfd):
        raise UsageError(f"device {name!r}: expected an emulated one, such as emu:gfx942")
    return device


class Tap:
    """Stands around an emulated device, takes its steps one by one and notes what retires.

    `retired` has an entry (queue ordinal, packet) for each packet that its queue left behind, while
    `watch` is set.
    """

    def __init__(self, device: Emulated, *, watch: bool = False) -> None:
        self._device, self._watch = device, watch
        self._made = 0
        self.retired: list[tuple[int, int]] = []
        self._ordinals: dict[int, int] = {}
        self._known: dict[int, int] = {}  # live queue id -> packets left behind

    def __getattr__(self, name: str) -> Any:
        """Give everything else of the device as it is."""
        return getattr(self._device, name)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._device.step

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Answer an ioctl and remember the queues."""
        answer = self._device.ioctl(record, tail)
        if isinstance(answer, CreateQueue):
            self._ordinals[answer.queue_id] = self._made
            self._known[answer.queue_id] = 0
            self._made += 1
        self._note()
        return answer

    def resume_queue(self, queue_id: int, read: int, doorbell: int, packets: int = 0) -> None:
        """Let a queue stand in the middle of a run; what it left behind before is not new."""
        self._device.resume_queue(queue_id, read, doorbell, packets)
        self._known[queue_id] = packets

    def advance(self, step: int, clock_ns: int) -> None:
        """Take steps one by one."""
        if self._watch:
            while self._device.step < step:
                self._device.advance(self._device.step + 1, 0)
                self._note()
        self._device.advance(step, clock_ns)

    def idle(self, until_ns: int | None = None) -> Progress:
        """Take a step, or as many as the device likes when nobody watches."""
        if not self._watch or until_ns is not None:
            return self._device.idle(until_ns)
        try:
            self._device.advance(self._device.step + 1, 0)
        except Divergence:
            return Progress.BLOCKED
        self._note()
        return Progress.ADVANCED

    def _note(self) -> None:
        if not self._watch or not self._made:
            return
        for queue, done in self._device.progress.items():
            known = self._known.get(queue, 0)
            if done != known:
                ordinal = self._ordinals[queue]
                self.retired += [(ordinal, number) for number in range(known, done)]
                self._known[queue] = done


def _of_device(name: str) -> property:
    return property(lambda tap: getattr(tap._device, name))


for _name in vars(EmulatedKfd):
    # Who asks what a device can do looks at its class alone, from Python 3.12 on.
    if not _name.startswith("_") and _name not in vars(Tap):
        setattr(Tap, _name, _of_device(_name))


class _Watched:
    """A source that notes, between events, what the device has done."""

    def __init__(self, model: Model, tap: Tap) -> None:
        self._model, self._tap = model, tap
        self.order: list[tuple[str, int, int]] = []
        self.counts: dict[int, tuple[int, ...]] = {}
        self.stores: dict[int, list[Late]] = {}
        self.last = -1
        self.live: Callable[[int, int], int | None] = lambda address, size: None
        self._now = [0] * len(model.queues)
        self._pending: dict[int, list[Late]] = {}  # queue -> late stores
        self._signals: dict[int, tuple[int, int]] = {}  # address -> who counted it down last

    def clocks(self) -> dict[int, list[int]]:
        """Return what the recorded queues read."""
        return self._model.source.clocks()

    def numbered(self, start: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield the events; what retires while one is applied comes before it."""
        for number, event in self._model.source.numbered(start):
            self.last = number
            yield number, event
            self.take(number)
            if isinstance(event, Seen):
                self._observed(number, event)
            self.order.append(("e", number, 0))

    def take(self, number: int) -> None:
        """Note what has retired, and late stores that are seen now."""
        for queue, packet in self._tap.retired:
            self.order.append(("p", queue, packet))
            self._now[queue] = packet + 1
            self._late(queue, packet)
        if self._tap.retired or number not in self.counts:
            self.counts[number] = tuple(self._now)
        self._tap.retired.clear()
        for waiting in self._pending.values():
            while waiting and self._seen(waiting[0].address, waiting[0].value):
                self.stores.setdefault(number, []).append(waiting.pop(0))

    def _late(self, queue: int, packet: int) -> None:
        facts = self._model.queues[queue]
        if packet - facts.first >= len(facts.packets):
            return
        for record in facts.packet(packet).records:
            if isinstance(record, aql.Packet) and record.completion_signal:
                self._signals[record.completion_signal + aql.SIGNAL_VALUE] = queue, packet
            for one in stores(record) if late(record) else ():
                if one.value is not None:
                    entry = Late(queue, packet, "fence", one.address, one.value)
                    self._pending.setdefault(queue, []).append(entry)

    def _observed(self, number: int, event: Seen) -> None:
        # By how much a signal falls no packet says: what the CPU saw does.
        for what, address, value in event.values:
            if what == "signal" and address in self._signals:
                one = Late(*self._signals[address], what, address, value)
                self.stores.setdefault(number, []).append(one)

    def _seen(self, address: int, value: int) -> bool:
        at = self.live(address, 8 if value >> 32 else 4)
        if at is None:
            return True
        return host.load(at, 64 if value >> 32 else 32) >= value

    def pieces(self, event: Memory | Digest) -> Iterator[tuple[int, bytes]]:
        """Yield (address, bytes) of an event."""
        return self._model.source.pieces(event)

    def chunk(self, chunk: Chunk) -> bytes:
        """Give the bytes of a chunk."""
        return self._model.source.chunk(chunk)


def learn(
    model: Model,
    device: str,
    ended: str,
    limits: Limits | None = None,
    pacing: Pacing = "steps",
) -> History:
    """Replay a trace, exactly as it was recorded unless told otherwise; return what happened when.

    Runs in a child process. Raises UsageError as the replay does.
    """
    notes = os.memfd_create("history", os.MFD_CLOEXEC)

    def task(expired: Callable[[], bool]) -> Verdict:
        tap = Tap(make_emulated(device), watch=True)
        watched = _Watched(model, tap)
        player = Player(watched, cast(Kfd, tap), pacing, ended=ended, expired=expired)
        watched.live = player.places.live
        verdict = player.run()
        watched.take(watched.last + 1)
        made = History(verdict, watched.order, watched.counts, watched.stores)
        failed = verdict.result in (Result.HANG, Result.FAULT, Result.DIFFERS)
        made.last = watched.last if failed else -1
        with open(notes, "w", closefd=False) as out:
            json.dump(made.plain(), out)
        return verdict

    try:
        verdict = child.run(task, limits, keep=(notes, *descriptors(model.source)))
        with open(os.dup(notes), "rb") as back:
            back.seek(0)
            data = back.read()
    finally:
        os.close(notes)
    return History.of(json.loads(data)) if data else History(verdict)


def descriptors(source: Source) -> tuple[int, ...]:
    """Return what a child must keep open to read a source."""
    return (source.file.fd,) if isinstance(source, TraceReader) else ()
