"""Do the events of a trace again on a device, each when as much has happened as was recorded."""

import ctypes
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from errno import EFAULT
from typing import Protocol, TypeAlias, runtime_checkable

from gputrace.bits import Record
from gputrace.capture.pointers import MAX_BYTES, pointed_size, pointers
from gputrace.errors import Divergence, KfdError, UsageError
from gputrace.formats import drm, ioctl
from gputrace.formats.ioctl import AllocFlag, WaitResult
from gputrace.kfd.port import Kfd, Protection
from gputrace.replay.comparison import Comparison
from gputrace.replay.ending import Ending
from gputrace.replay.names import Names, check_outputs
from gputrace.replay.pacing import Clock, OutOfTime, Pacing, Reached
from gputrace.replay.places import Places
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace import events
from gputrace.trace.source import Source

Space: TypeAlias = "ctypes.Array[ctypes.c_char]"
AFTER_STEPS = 10_000_000
"""Steps that a device may take after the last event, before it counts as going on for ever."""


def _never() -> bool:
    return False


@runtime_checkable
class Resumable(Protocol):
    """A device whose queues can begin in the middle of a run."""

    def resume_queue(self, queue_id: int, read: int, doorbell: int, packets: int = 0) -> None:
        """Let a new queue stand where it stood when memory was saved."""


@runtime_checkable
class Told(Protocol):
    """A device that can be told what a recording of another program knows and does not know."""

    def take_all_as_written(self) -> None:
        """Fault no read of what nobody has written: not every store is known."""

    def feed_clock(self, queue: int, values: Iterable[int]) -> None:
        """Have a queue read these values of the clock next."""


@runtime_checkable
class Marked(Protocol):
    """A device that can be told what nobody has written when it begins in the middle of a run."""

    def leave_unwritten(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Take these bytes, first and end, as written by nobody, and all others as written."""


class Player:
    """Replays one stream of events on one device, which nobody has opened yet.

    `pacing` says when an event happens again. "steps": at the very step at which it was recorded,
    for an unchanged recording on an emulated device with the schedule that it was recorded with.
    "progress": as soon as everything has happened that the recording had observed by then (its
    Progress events), or can never happen; for edited streams, other schedules, other devices. An
    edited source gives read pointers in its Progress events by its own rings or leaves them out.

    `ended` is the class of the recorded outcome, empty when unknown; `complete` says that the
    recording holds all that the CPU did. `expired` is asked now and then and ends the replay when
    it says True. `run` gives the verdict; the device is closed then.
    """

    def __init__(
        self,
        source: Source,
        device: Kfd,
        pacing: Pacing = "steps",
        *,
        ended: str = "",
        complete: bool = True,
        expired: Callable[[], bool] = _never,
    ) -> None:
        self._source, self._device, self._pacing, self._ended = source, device, pacing, ended
        self._told: Pacing = pacing  # how all of the recording was replayed
        self.names, self.places = Names(), Places(device)
        self._reached = Reached(self.places.live)
        self._missing: Sequence[events.Observed] = ()  # what was observed and has not come
        self._stored = False  # the event before was a store of the CPU
        self.clock = Clock(device, expired, self._reached.all_fetched)
        self._offsets: dict[tuple[str, int], int] = {}  # recorded mmap offset -> live one
        self._sizes: dict[int, int] = {}  # recorded mmap offset -> bytes of the buffer there
        self._user_memory: dict[int, tuple[int, int]] = {}  # handle -> CPU address, size
        self._doorbells: dict[int, int] = {}  # recorded queue -> bytes that its doorbell moved
        self._clock_reads: dict[int, list[int]] = {}  # recorded queue -> values still to be read
        self.comparison = Comparison(self._bytes, source.chunk)
        self.after_event: Callable[[int], None] | None = None
        """Called with the number of each event when it has been applied."""
        self._ending = Ending(device, self.names, complete)

    def run(self) -> Verdict:
        """Replay every event and say what came of it."""
        start = time.monotonic()
        try:
            verdict = self._play()
            return replace(
                verdict,
                compared=self.comparison.compared,
                written=self.comparison.written,
                digest=self.comparison.digest,
                steps=self.clock.step,
                seconds=time.monotonic() - start,
                pacing=self._told,
                moved=tuple(f"{address:#x}+{size:#x}" for address, size in self.places.moved),
            )
        finally:
            self.places.close()
            self._device.close()

    def ordinal(self, queue: int) -> int:
        """Return how many queues were made before one that is known here by this id."""
        return self._ending.ordinal(queue)

    def _play(self) -> Verdict:
        try:
            # They come after the doorbells that led to them, but are needed before.
            self._clock_reads = self._source.clocks()
            for number, event in self._source.numbered():
                self._apply(number, event)
                if self.after_event:
                    self.after_event(number)
                if self._ending.failure is not None:
                    break
            self._ending.look(self.clock, AFTER_STEPS)
        except Divergence as problem:
            if self._ending.opened and self._device.faults():
                # A device that checks more than the recorded one did stops where that went on.
                self._ending.look(self.clock, 0)
            differs = Verdict(Result.DIFFERS, f"the device answered otherwise: {problem}")
            return self._ending.failure or differs
        except OutOfTime:
            return self._ending.out_of_time()
        return self._ending.failure or self._verdict()

    def _apply(self, number: int, event: events.Event) -> None:
        if self._pacing == "steps":
            step: int | None = getattr(event, "step", None)
            if step is None:
                pass
            elif step < 0:  # threads stored while the device worked: from here on it is not exact
                self._pacing = self._told = "progress"
            else:
                self.clock.advance(step, getattr(event, "time", 0))
        self._look_again(isinstance(event, events.Memory | events.HostStore))
        match event:
            case events.Header():
                self._begin(event)
            case events.Checkpoint():
                self._resume(event)
            case events.Trigger(what="stop"):
                self._ending.complete = False
            case events.Progress():
                self._hold(event.values)
            case events.Memory(provenance="cpu") | events.Memory(provenance="unknown"):
                for address, data in self._source.pieces(event):
                    self.places.view(address, len(data))[:] = data
            case events.HostStore():
                self.places.view(event.address, len(event.data))[:] = event.data
            case events.DoorbellIntent():
                moved = self._doorbells.get(event.queue, 0)
                if event.bits not in (32, 64) or (event.address + moved) % (event.bits // 8):
                    raise UsageError(f"a doorbell of {event.bits} bits at {event.address:#x}")
                live = self.places.inside(event.address + moved, event.bits // 8)
                self._reached.rang(event.queue, event.value)
                self._device.doorbell(live, event.value, event.bits)
            case events.Ioctl():
                self._ioctl(event)
            case events.Digest():
                self._compare(number, event)
            case events.QueueMap():
                self._reached.learn(event)
            case events.Name():
                self._device.label(event.address, event.size, event.what, event.name)  # type: ignore[arg-type]
            case _:
                self._map_or_open(event)

    def _begin(self, header: events.Header) -> None:
        device: Kfd = self._device
        if not header.knows_writes and isinstance(device, Told):
            device.take_all_as_written()  # it was seen from outside, or from its middle on
        recorded = header.device.get("gpu_ids", ())
        if isinstance(recorded, list):
            for was, node in zip(recorded, self._device.topology.gpus, strict=False):
                self.names.bind("gpu", was, node.gpu_id)

    def _resume(self, checkpoint: events.Checkpoint) -> None:
        device: Kfd = self._device
        if not isinstance(device, Resumable):
            raise UsageError(f"{device.name} cannot begin in the middle of a run")
        for state in checkpoint.queues:
            live = self.names.live("queue", state.queue)
            device.resume_queue(live, state.read, state.doorbell, state.packets)
            self._reached.rang(state.queue, state.doorbell)

    def _map_or_open(self, event: events.Event) -> None:
        device: Kfd = self._device
        match event:
            case events.Unwritten() if isinstance(device, Marked):
                device.leave_unwritten([(at, at + size) for at, size in event.ranges])
            case events.Open(target="kfd"):
                self._device.open()
                self._ending.opened = True
            case events.Open():
                minor = _number(event.target, "render:")
                self.names.bind("fd", event.handle, self._device.open_render(minor))
            case events.Reserve():
                self.places.reserve(event.address, event.size, event.alignment)
            case events.Release():
                self.places.release(event.address, event.size)
            case events.Map():
                self._map(event)
            case events.Unmap():
                self.places.unmap(event.address)

    def _hold(self, values: Sequence[events.Observed]) -> None:
        missing = [] if self._pacing == "steps" else self._reached.missing(values)
        while missing and self.clock.once():
            self.clock.check()
            missing = self._reached.missing(missing)
        self._missing = missing

    # A kernel may have read what the CPU stored just before the recorder looked. Then the store
    # stands behind what came of it: when it is there, that is waited for once more.
    def _look_again(self, store: bool) -> None:
        if self._missing and self._stored and not store:
            self._hold(self._missing)
        if not store:
            self._missing = ()
        self._stored = store

    # --- memory --------------------------------------------------------------------------------

    def _map(self, event: events.Map) -> None:
        on_kfd = event.target == "kfd"
        handle = 0 if on_kfd else self.names.live("fd", _number(event.target, "fd:"))
        offset, skip = self._offset(event.target, event.offset)
        place = self.places.place(event.address, event.size)
        # Buffers are mapped from where they begin: what is left of a mapping goes anywhere.
        mapping = self._device.map(
            fd="kfd" if on_kfd else handle,
            offset=offset,
            size=skip + event.size,
            address=None if skip else place,
            protection=Protection(event.protection & Protection.BOTH),
        )
        writable = bool(event.protection & Protection.WRITE)
        self.places.add(event.address, mapping, writable=writable, skip=skip)

    def _offset(self, target: str, recorded: int) -> tuple[int, int]:
        # Where the buffer is mapped from here, and how far behind that the recorded place is.
        base = recorded
        if (target, recorded) not in self._offsets:
            whole = (at for at, size in self._sizes.items() if at <= recorded < at + size)
            base = next(whole, recorded)
        return self._offsets.get((target, base), base), recorded - base

    def _remember(self, recorded: int, live: int) -> None:
        for target in ("kfd", *(f"fd:{fd}" for fd in self.names.all("fd"))):
            self._offsets[target, recorded] = live

    def _bytes(self, address: int, size: int) -> bytes:
        return bytes(self.places.view(address, size, writable=False))

    def _compare(self, number: int, event: events.Digest) -> None:
        if self._pacing == "progress" and not event.unstable:
            # Where it was taken nobody was writing any more.
            self.clock.finish(AFTER_STEPS, lambda: self.comparison.agrees(event))
        self.comparison.take(number, event)

    def _verdict(self) -> Verdict:
        found = self.comparison
        if found.difference is not None:
            text = f"memory at {found.difference.address:#x} differs from the recording"
            return Verdict(Result.DIFFERS, text, difference=found.difference)
        if not found.compared:
            return Verdict(Result.NOT_COMPARED, "it ran, and nothing could be compared")
        text = f"{found.compared} of {found.written} bytes that the GPU wrote were compared"
        return Verdict(Result.SAME, text)

    # --- calls ---------------------------------------------------------------------------------

    def _ioctl(self, event: events.Ioctl) -> None:
        if event.target != "kfd" and event.request & 0xFF in drm.QUESTIONS:
            return
        layout = ioctl.RECORDS.get(event.record)
        if event.target != "kfd" or layout is None:
            raise UsageError(f"the trace has a call that cannot be replayed: {event.record}")
        before, after = layout.from_bytes(event.before), layout.from_bytes(event.after)
        spaces = self._spaces(event, before)
        changes = {name: ctypes.addressof(space) for name, space in spaces.items()}
        changes |= {one.name: 0 for one in pointers(layout) if one.name not in spaces}
        record = self.names.translate(before.replace(**changes))
        match record:
            case ioctl.DestroyQueue():
                self._before_destroy()
                if self._ending.failure is not None:
                    return
            case ioctl.WaitEvents():
                self._wait(event, record)
                return
            case ioctl.AllocMemoryOfGpu() if event.errno == EFAULT:
                return  # the program had no such memory of its own, and a replay would have
            case ioctl.AllocMemoryOfGpu(flags=flags) if flags & AllocFlag.USERPTR:
                live_memory = self.places.own(record.mmap_offset, record.size)
                where = record.mmap_offset, record.size
                self._user_memory[getattr(after, "handle", 0)] = where
                record = record.replace(mmap_offset=live_memory)
        self._call(event, record, after)

    def _call(self, event: events.Ioctl, record: Record, after: Record) -> None:
        number = 0
        try:
            live = self._device.ioctl(record, bytearray(event.tail) or None)
        except KfdError as error:
            number, live = error.errno, record
        if number != event.errno:
            raise Divergence(f"{event.record}.errno", event.errno, number)
        if number:
            return
        match live:
            case ioctl.AllocMemoryOfGpu(flags=flags) if flags & AllocFlag.USERPTR:
                pass  # the offset is an address of this process
            case ioctl.AllocMemoryOfGpu():
                assert isinstance(after, ioctl.AllocMemoryOfGpu)
                self._remember(after.mmap_offset, live.mmap_offset)
                self._sizes[after.mmap_offset] = after.size
            case ioctl.FreeMemoryOfGpu():
                recorded = ioctl.FreeMemoryOfGpu.from_bytes(event.before).handle
                if recorded in self._user_memory:
                    self.places.disown(*self._user_memory.pop(recorded))
            case ioctl.CreateQueue():
                assert isinstance(after, ioctl.CreateQueue)
                self._find_doorbell(after, live)
                self._ending.queue(live)
                values = self._clock_reads.pop(after.queue_id, ())
                device: Kfd = self._device
                if values and isinstance(device, Told):
                    device.feed_clock(live.queue_id, values)
            case ioctl.DestroyQueue():
                self._ending.queue(live)
        if self._pacing == "steps":  # another device may have other answers
            check_outputs(event.record, after, live)
        self.names.learn(after, live)

    def _spaces(self, event: events.Ioctl, before: Record) -> dict[str, Space]:
        # What its pointers point at: as many bytes as the call takes, no address of the trace.
        sizes = {one.name: pointed_size(before, one) for one in pointers(type(before))}
        spaces = {}
        for payload in event.payloads:
            size = max(len(payload.before), len(payload.after), sizes.get(payload.field, -1), 1)
            if payload.field not in sizes or size > MAX_BYTES:
                where = f"{event.record}.{payload.field}"
                raise UsageError(f"the trace has {size} bytes behind {where}")
            spaces[payload.field] = space = ctypes.create_string_buffer(payload.before, size)
            self._translate_gpus(type(before), payload.field, space)
        return spaces

    def _find_doorbell(self, recorded: ioctl.CreateQueue, live: ioctl.CreateQueue) -> None:
        was, now = (ioctl.doorbell_parts(one.doorbell_offset) for one in (recorded, live))
        self._offsets["kfd", was[0]] = now[0]
        self._doorbells[recorded.queue_id] = now[1] - was[1]

    def _translate_gpus(self, layout: type[Record], field: str, space: Space) -> None:
        # Arrays of gpu_ids; a single one is a field of its own.
        role = layout.BY_NAME[field].role
        if role is None or role.points != "gpu" or "r" not in role.access:
            return
        for at in range(0, len(space) // 4 * 4, 4):
            one = ctypes.c_uint32.from_buffer(space, at)
            one.value = self.names.live("gpu", one.value)

    def _before_destroy(self) -> None:
        # With its queue goes what it can tell. Only a run that did not end well may go on beyond
        # what was recorded, and an edited one, whose end nobody has recorded.
        give_up = self._pacing == "progress" or self._ended in ("hang", "fault")
        self._ending.look(self.clock, AFTER_STEPS if give_up else 0)
        if self._ending.beyond:
            self._pacing = "progress"

    def _wait(self, event: events.Ioctl, record: ioctl.WaitEvents) -> None:
        # The steps that passed in a recorded wait have passed already when it is replayed.
        answer = ioctl.WaitEvents.from_bytes(event.after)
        came = not event.errno and answer.wait_result == WaitResult.COMPLETE
        poll = self._pacing == "steps" or not came
        try:
            live = self._device.ioctl(record.replace(timeout=0) if poll else record)
        except KfdError:
            return
        if self._pacing == "steps" and not event.errno and live.wait_result != answer.wait_result:
            raise Divergence("WaitEvents.wait_result", answer.wait_result, live.wait_result)


def _number(target: str, prefix: str) -> int:
    number = target.removeprefix(prefix)
    if number == target or not (number.isascii() and number.isdecimal()):
        raise UsageError(f"the trace names {target!r}, expected {prefix}N")
    return int(number)
