"""The Kfd that records another Kfd."""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from contextlib import contextmanager
from ctypes import addressof, c_ubyte
from typing import Literal, TypeVar

from gputrace.bits import Record
from gputrace.capture.comparing import ComparingTracker, usual_tracker
from gputrace.capture.digests import Digests
from gputrace.capture.emulated import Emulated
from gputrace.capture.late import LATE, LateStores, copies
from gputrace.capture.memory import Store, WatchedMemory
from gputrace.capture.naming import Doorbells, names_made, queue_map
from gputrace.capture.observing import Observations
from gputrace.capture.pointers import Read, payloads, read_here, read_pointed
from gputrace.capture.waits import Waits
from gputrace.capture.window import PartWriter, unwritten_event
from gputrace.errors import KfdError, UsageError
from gputrace.formats.ioctl import (
    AllocFlag,
    AllocMemoryOfGpu,
    CreateQueue,
    DestroyQueue,
    FreeMemoryOfGpu,
    WaitEvents,
    request_of,
)
from gputrace.kfd.host import PAGE
from gputrace.kfd.pagemap import Region
from gputrace.kfd.port import Fault, Kfd, Labelled, Mapping, Progress, Protection, Stall
from gputrace.kfd.topology import Topology
from gputrace.kfd.tracking import Span, Tracker
from gputrace.trace import events
from gputrace.trace.writer import TraceWriter

R = TypeVar("R", bound=Record)

HOST_STORE_LIMIT = 4096
"""A longer store is memory that the CPU filled, not a gate that it opened."""
SETTLE_SLICES = 1 << 10
"""Calls of `idle` that a submission is given to end where it must, before it goes on without."""
UNDONE = "queues had not done all that they were given, and could not without more submissions"
"""Why a part of a run that begins there cannot be replayed."""


class Recorder:
    """Record every call of the port into a trace, each doorbell before it is rung.

    On an emulated device the GPU's stores are told from the CPU's to the byte and each event
    carries the scheduler's step. `tracker` finds what the client wrote and `read` reads its memory;
    both are of this process if not given. The mode is that of the trace's header.
    """

    def __init__(
        self,
        kfd: Kfd,
        writer: TraceWriter | PartWriter,
        *,
        tracker: Tracker | None = None,
        read: Read = read_here,
    ) -> None:
        self._kfd, self._writer, self._read = kfd, writer, read
        self._part = writer if isinstance(writer, PartWriter) else None
        self._emulated = kfd if isinstance(kfd, Emulated) else None
        self._tracker = tracker or usual_tracker()
        self.provenance = "cpu" if self._emulated else "unknown"
        """What is written about stores that were found: who made them."""
        if isinstance(self._tracker, ComparingTracker):
            self.provenance = "unknown"
        self._memory = WatchedMemory(self._tracker)
        if self._part:
            self._part.watch(self._memory)
        self._observations = Observations(self._memory.word)
        self._full = writer.header.mode == "full"
        self._digests = Digests(self._memory, writer, full=self._full)
        self._waits = Waits(writer)
        self._doorbells = Doorbells()
        self._lock = threading.RLock()
        self._device_lock = self._emulated.lock if self._emulated else None
        self._user: dict[int, tuple[int, int]] = {}  # handle -> pages of the client's own
        self._doubted = False  # whether the note on threads is written
        self._submissions = self._stalls = self._nanoseconds = 0
        self._open = self._dropped = self._tells = False
        self._busy = 0  # threads that are with the device
        self.last_stalls: tuple[Stall, ...] = ()
        """What `stalls` gave when it was last asked: why a program gave up waiting."""
        self.alone = False
        """Whether the program had no thread left then that could have freed them."""
        self.last_faults: tuple[Fault, ...] = ()
        """What `faults` gave when it was last asked."""
        alive = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forked(alive))

    # What the port tells, unchanged.

    @property
    def name(self) -> str:
        """The name of the device that is recorded."""
        return self._kfd.name

    @property
    def topology(self) -> Topology:
        """The topology of the device that is recorded."""
        return self._kfd.topology

    @property
    def versions(self) -> MappingOf[str, str]:
        """Versions of what serves the device that is recorded."""
        return self._kfd.versions

    @property
    def lasting(self) -> bool:
        """Whether what was made outlives `close` on the device that is recorded."""
        return self._kfd.lasting

    def clock(self) -> int:
        """Return the device's clock."""
        return self._kfd.clock()

    def stalls(self) -> Sequence[Stall]:
        """Return the queues that cannot go on."""
        found = self._kfd.stalls()
        self.last_stalls = tuple(found)
        return found

    def faults(self) -> Sequence[Fault]:
        """Return the faults known in detail."""
        self.last_faults = tuple(self._kfd.faults())
        return self.last_faults

    @property
    def cost(self) -> events.Cost:
        """What the capture has cost so far."""
        return events.Cost(
            self._nanoseconds, self._memory.scanned, self._stalls, self._submissions
        )

    # What is written down.

    def open(self) -> None:
        """Open the device and begin the record."""
        with self._hook():
            self._kfd.open()
            self._open = True
            if self._emulated:
                self._absorb()  # it watches from here on
                follows = self._emulated.follows_writes
                self._tells = follows and not isinstance(self._tracker, ComparingTracker)
                if self._tells:
                    self._tell([])
            self._writer.append(events.Open("kfd", 0, self._step))

    def open_render(self, minor: int) -> int:
        """Open a render node; its descriptor is the handle that later events name."""
        with self._hook(look=False):
            descriptor = self._kfd.open_render(minor)
            self._writer.append(events.Open(f"render:{minor}", descriptor, self._step))
            return descriptor

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Call an ioctl; the call and its answer are written down, refused ones too."""
        with self._hook():
            given, pointed = bytes(tail or b""), read_pointed(record, "r", self._read)
            failure: KfdError | None = None
            answer = record
            waits = isinstance(record, WaitEvents)
            if waits:
                self._waits.begin(record, self._step, self._kfd.clock())
            elif isinstance(record, FreeMemoryOfGpu) and record.handle in self._user:
                self._digest_range(*self._user[record.handle])
            elif isinstance(record, CreateQueue):
                self._writer.flush(intent=True)  # a queue may run what its ring holds already
            with self._outside(free=waits):
                try:
                    answer = self._kfd.ioctl(record, tail)
                except KfdError as error:
                    failure = error
            self.answered(record, answer, pointed, tail=given, failure=failure)
            if failure:
                raise failure
            return answer

    def answered(
        self,
        record: Record,
        answer: Record,
        pointed: dict[str, bytes],
        *,
        tail: bytes = b"",
        failure: KfdError | None = None,
    ) -> None:
        """Write down an ioctl that has returned; `pointed` is what its pointers pointed at."""
        with self._lock:
            self._writer.append(
                events.Ioctl(
                    target="kfd",
                    record=type(record).__name__,
                    request=request_of(record),
                    before=record.to_bytes(),
                    after=answer.to_bytes(),
                    errno=failure.errno if failure else 0,
                    payloads=payloads(answer, pointed, read_pointed(answer, "w", self._read)),
                    tail=tail,
                    step=self._step,
                    time=self._kfd.clock(),
                    thread=threading.get_native_id(),
                )
            )
            if failure is None:
                self._learn(record, answer)

    def render_ioctl(self, minor: int, request: int, data: bytearray) -> None:
        """Call a DRM ioctl; it is written down by its bits."""
        with self._hook():
            before, number = bytes(data), 0
            try:
                with self._outside():
                    self._kfd.render_ioctl(minor, request, data)
            except KfdError as error:
                number = error.errno
                raise
            finally:
                target = f"render:{minor}"
                self._writer.append(
                    events.Ioctl(target, "", request, before, bytes(data), number, step=self._step)
                )

    def map(
        self,
        *,
        fd: Literal["kfd"] | int,
        offset: int,
        size: int,
        address: int | None = None,
        protection: Protection = Protection.BOTH,
    ) -> Mapping:
        """Map memory and watch what the CPU writes into it."""
        with self._hook():
            mapping = self._kfd.map(
                fd=fd, offset=offset, size=size, address=address, protection=protection
            )
            target = fd if fd == "kfd" else f"fd:{fd}"
            self._writer.append(
                events.Map(mapping.address, size, str(target), offset, int(protection), self._step)
            )
            if fd == "kfd":
                self._doorbells.mapped(offset, mapping.address)
            elif protection & Protection.WRITE and len(mapping.view):
                whole = -(-size // PAGE) * PAGE
                place = addressof(c_ubyte.from_buffer(mapping.view))
                zeroed = self._emulated is not None
                self._memory.watch(mapping.address, whole, zeroed=zeroed, place=place)
            return mapping

    def watch(self, address: int, size: int, place: int) -> None:
        """Watch whole pages of the client at `address`, which this process sees at `place`."""
        with self._lock:
            self._memory.watch(address, size, zeroed=False, place=place)

    def forget(self, address: int, size: int) -> None:
        """Stop watching what lies in a range, after a digest of what the GPU wrote there."""
        with self._lock:
            self._digest_range(address, size)
            self._memory.forget(address, size)

    def unmap(self, mapping: Mapping) -> None:
        """Unmap memory; what the CPU wrote until now has been written down."""
        with self._hook():
            self.forget(mapping.address, -(-mapping.size // PAGE) * PAGE)
            self._kfd.unmap(mapping)
            self._writer.append(events.Unmap(mapping.address, mapping.size, self._step))

    def reserve(self, size: int, address: int | None = None, alignment: int = 4096) -> int:
        """Reserve addresses."""
        with self._hook(look=False):
            start = self._kfd.reserve(size, address, alignment)
            self._writer.append(events.Reserve(start, size, alignment))
            return start

    def release(self, address: int, size: int) -> None:
        """Give reserved addresses back."""
        with self._hook():
            self.forget(address, size)
            self._kfd.release(address, size)
            self._writer.append(events.Release(address, size))

    def label(self, address: int, size: int, what: Labelled, name: str) -> None:
        """Pass a name on; it is written down for readers of the trace."""
        with self._hook(look=False):
            self._kfd.label(address, size, what, name)
            self._writer.append(events.Name(address, size, what, name))

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Ring a doorbell: all that it may start is with the operating system before the store."""
        self._acquire()
        try:
            start = self._enter()
            queue, writer = self._doorbells.queue(address), self._writer
            if self._part:
                if self._part.ending:
                    self._settle()  # so that its last results are in it
                self._part.ringing(queue, address, value, bits)
                if self._part.wants_checkpoint:
                    self._begin_part(self._part)
            self._submissions += 1
            number = self._submissions
            step, now, thread = self._step, self._kfd.clock(), threading.get_native_id()
            writer.intent(number, queue, address, value, bits, step, now, thread)
            self._observations.rang(queue, value)
            self._digests.submitted()
            self._kfd.doorbell(address, value, bits)
            after = self._step
            if after != step:
                self._absorb()
            writer.done(number, queue, after, now)
            if self._full:
                self._settle()
            self._nanoseconds += time.monotonic_ns() - start
        finally:
            self._release()

    def leave_unwritten(self, ranges: Sequence[Region]) -> None:
        """Take these bytes as written by nobody, and all others as written; it is written down."""
        with self._hook():
            if self._emulated:
                self._emulated.leave_unwritten(ranges)
                self._writer.append(unwritten_event(ranges))

    def idle(self, until_ns: int | None = None) -> Progress:
        """Let the device work, after writing down what the CPU stored before."""
        with self._hook(gate=True):
            self._waits.idle(until_ns, self._step, self._kfd.clock)
            with self._outside(free=True):
                return self._kfd.idle(until_ns)

    def wait_begins(self, timeout: int) -> None:
        """Take the calls of this thread for one wait until it says that it is over."""
        with self._lock:
            self._waits.expect(timeout)

    def wait_ends(self, result: str) -> None:
        """End the wait of this thread."""
        with self._hook(look=False):
            if not self._open:
                return
            if self._busy:
                self._absorb()
            self._end_wait(result)
            self.alone = result == "hang"
            if result == "reached" and self.last_stalls:
                self.stalls()  # what hung before may be over

    def close(self) -> None:
        """Close the device; the trace stays open for whoever made it."""
        if not self._open:
            return
        with self._hook():
            self._digest_range(0, 1 << 64)
            self._open = False
            self._memory.close()
            self._kfd.close()
            self._writer.append(events.Close("kfd", 0, self._step))
            self._writer.append(self.cost)
            self._writer.flush()
            self._tracker.close()

    def drop(self) -> None:
        """Write nothing more and watch nothing more: this process is a copy of the recorded one."""
        self._writer.abandon()
        self._open, self._dropped = False, True

    # Inside.

    @property
    def _step(self) -> int:
        return self._emulated.step if self._emulated else -1

    @contextmanager
    def _hook(self, *, look: bool = True, gate: bool = False) -> Iterator[None]:
        # Every call of the port: one at a time, and first of all what the CPU stored before it.
        # With `gate` nothing but these stores may set the device going: their time counts.
        self._acquire()
        try:
            start = self._enter(look=look, gate=gate)
            yield
            self._nanoseconds += time.monotonic_ns() - start
        finally:
            self._release()

    def _enter(self, *, look: bool = True, gate: bool = False) -> int:
        if self._dropped:
            raise UsageError("this is a copy, by fork, of a process that is recorded")
        start = time.monotonic_ns()
        if self._open and look:
            self._catch_up(gate)
        return start

    def _acquire(self) -> None:
        # The device stands still as well: an event and its step belong together.
        self._lock.acquire()
        if self._device_lock:
            self._device_lock.acquire()

    def _release(self) -> None:
        if self._device_lock:
            self._device_lock.release()
        self._lock.release()

    def _catch_up(self, gate: bool) -> None:
        # In this order: what the GPU had done, then what the CPU made of it.
        if self._busy and self._emulated:
            self._absorb()
        if not gate and self._waits.over:
            found = "fault" if self._kfd.faults() else "hang" if self.last_stalls else "reached"
            self._end_wait(found)
        stores = self._stores()
        if not gate or stores:
            self._write_progress()
        self._write_stores(stores, gate)

    def _stores(self, spans: list[Span] | None = None) -> list[Store]:
        found = self._memory.stores(spans)
        if found and self._tells:
            self._tell(found)
        return found

    def _tell(self, stores: list[Store]) -> None:
        # A device that wants to know who wrote its memory cannot look for itself any more.
        if self._emulated:
            self._emulated.stored_by_cpu((address, len(data)) for address, data in stores)

    def _write_stores(self, stores: list[Store], gate: bool) -> None:
        if not gate:
            self._writer.stores(stores, self.provenance, self._step)
            return
        for address, data in stores:
            if len(data) <= HOST_STORE_LIMIT:
                now = self._kfd.clock()
                self._writer.append(events.HostStore(address, bytes(data), self._step, now))
            else:
                self._writer.stores([(address, data)], self.provenance, self._step)

    def _write_progress(self) -> None:
        # What the GPU had done when the CPU did what is written next.
        values = self._observations.take()
        if values:
            self._writer.append(events.Progress(values, self._step))

    @contextmanager
    def _outside(self, *, free: bool = False) -> Iterator[None]:
        # The device may work here; its time is not the capture's, its stores are not the CPU's.
        # With `free` other threads of the client may go on meanwhile.
        start = time.monotonic_ns()
        if free:
            self._busy += 1
            self._release()
        try:
            yield
        finally:
            if free:
                self._acquire()
                self._busy -= 1
            self._nanoseconds -= time.monotonic_ns() - start
            if self._open:
                self._absorb()

    def _absorb(self) -> None:
        if not self._emulated:
            return
        late = LateStores()
        if isinstance(self._tracker, ComparingTracker):
            spans, changes = self._memory.absorb_all()
        else:
            spans = self._emulated.written_by_gpu()
            if self._user or threading.active_count() > 1:
                spans = self._shared_pages(spans, late)
            changes = self._memory.absorb(spans)
        self._observations.add(changes)
        self._digests.add(spans)
        if late:
            self._write_late(late)

    def _write_late(self, late: LateStores) -> None:
        # After what the GPU had done by then: of what it stored some may be among the unknown.
        if not self._doubted:
            self._doubted = True
            self._writer.append(events.Note(events.THREADS, LATE))
        self._write_progress()
        self._writer.stores(late.unknown, "unknown", self._step)
        self._write_stores(late.cpu, gate=True)

    def _shared_pages(self, by_gpu: list[Span], late: LateStores) -> list[Span]:
        # Pages that the tracker found while the device worked. User memory has one mapping only:
        # there it was the GPU. In other pages other threads stored, before the step at which it is
        # found; where the GPU stored into the same page nobody can tell the two apart.
        for span in self._memory.written():
            if any(low <= span.address < low + size for low, size in self._user.values()):
                by_gpu = [*by_gpu, span]
                continue
            both = [one for one in by_gpu if _overlap(one, span)]
            late.unknown += copies(self._stores(both))
            late.cpu += copies(self._stores([span]))
        return by_gpu

    # Digests.

    @property
    def _unsettled(self) -> bool:
        return self._emulated is not None and not self._emulated.quiet

    def _end_wait(self, result: str) -> None:
        self._waits.end(result, self._step, self._kfd.clock())
        if self._digests.due and not self._unsettled:
            self._digests.take(self._step)

    def _digest_range(self, address: int, size: int) -> None:
        self._digests.take_range(address, size, self._step, unstable=self._unsettled)

    def _begin_part(self, writer: PartWriter) -> None:
        # A part of a run begins where nothing is under way and all stores are known.
        if not self._all_done():
            if not writer.needs_checkpoint:
                return
            self._settle()
        done = self._emulated.packets_done() if self._emulated else {}
        queues = self._observations.states()
        states = tuple(one._replace(packets=done.get(one.queue, 0)) for one in queues)
        problem = "" if self._all_done() else UNDONE
        unwritten = None
        if writer.header.written and self._emulated:
            unwritten = unwritten_event(self._emulated.unwritten())
        writer.checkpoint(self._memory.all(), states, problem, unwritten)

    def _all_done(self) -> bool:
        queues = self._observations.states()
        return not self._unsettled and all(one.read == one.write for one in queues)

    def _settle(self) -> None:
        # Let the engines do what they can, within bounds, and look at what they wrote.
        self._stalls += 1
        with self._outside():
            for _ in range(SETTLE_SLICES):
                if self._kfd.idle(None) is Progress.BLOCKED:
                    break
        if not self._unsettled:
            self._digests.take(self._step)

    # Names that later events and readers use.

    def _learn(self, record: Record, answer: Record) -> None:
        for event in names_made(answer):
            self._writer.append(event)
        match answer:
            case CreateQueue():
                self._doorbells.made(answer.queue_id, answer.doorbell_offset)
                self._writer.append(queue_map(answer))
                self._stop_watching(answer.ctx_save_restore_address)
                self._observations.queue(
                    answer.queue_id, answer.queue_type, answer.ring_size,
                    answer.read_pointer_address,
                )  # fmt: skip
            case DestroyQueue():
                self._observations.forget(answer.queue_id)
                self._doorbells.destroyed(answer.queue_id)
            case AllocMemoryOfGpu() if answer.flags & AllocFlag.USERPTR and self._read is read_here:
                assert isinstance(record, AllocMemoryOfGpu)
                self._watch_user(answer.handle, record.mmap_offset, record.size)
            case FreeMemoryOfGpu() if answer.handle in self._user:
                self.forget(*self._user.pop(answer.handle))

    def _watch_user(self, handle: int, address: int, size: int) -> None:
        start = address // PAGE * PAGE
        whole = -(-(address + size - start) // PAGE) * PAGE
        self._memory.watch(start, whole, zeroed=False)
        self._user[handle] = (start, whole)

    def _stop_watching(self, address: int) -> None:
        # A save area is large, and the CPU has written its headers before the queue is made.
        size = self._memory.size_at(address)
        if size:
            self._memory.forget(address, size)
            if self._emulated:
                self._emulated.leave_out(address)


def _overlap(one: Span, other: Span) -> bool:
    return one.address < other.address + other.size and other.address < one.address + one.size


def _forked(recorder: Callable[[], Recorder | None]) -> None:
    alive = recorder()
    if alive is not None:
        alive.drop()
