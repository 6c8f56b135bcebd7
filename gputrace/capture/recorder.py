"""The Kfd that records another Kfd."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import addressof, c_ubyte
from typing import Literal, Protocol, TypeVar, runtime_checkable

from gputrace.bits import Record
from gputrace.capture.memory import WatchedMemory
from gputrace.capture.observing import Observations
from gputrace.capture.pointers import payloads, read_here, read_pointed
from gputrace.errors import KfdError
from gputrace.formats.ioctl import (
    CreateEvent,
    CreateQueue,
    DestroyEvent,
    DestroyQueue,
    EventType,
    doorbell_parts,
    request_of,
)
from gputrace.kfd.port import Fault, Kfd, Labelled, Mapping, Progress, Protection, Stall
from gputrace.kfd.topology import Topology
from gputrace.kfd.tracking import Span, Tracker, WriteTracker
from gputrace.trace import events
from gputrace.trace.writer import TraceWriter

R = TypeVar("R", bound=Record)

HOST_STORE_LIMIT = 4096
"""A longer store is memory that the CPU filled, not a gate that it opened."""


@runtime_checkable
class Emulated(Protocol):
    """What an emulated device can say beside the port, and a real one cannot."""

    @property
    def step(self) -> int:
        """Steps that the scheduler has made; they decide everything that the GPU did."""

    def written_by_gpu(self) -> list[Span]:
        """Return what the GPU wrote since the last call, by addresses of the client's mappings."""

    def leave_out(self, address: int) -> None:
        """Have `written_by_gpu` say no more about the mapping of the client at an address."""

    @property
    def quiet(self) -> bool:
        """Whether nothing in memory can change until the CPU acts."""


class Recorder:
    """Record every call of the port into a trace, each doorbell before it is rung.

    On an emulated device the GPU's stores are told from the CPU's to the byte and each event
    carries the scheduler's step. For a client in another process `tracker` finds its stores and
    `read` fetches its memory; the views of its mappings are this process's own.
    """

    def __init__(
        self,
        kfd: Kfd,
        writer: TraceWriter,
        *,
        tracker: Tracker | None = None,
        read: Callable[[int, int], bytes] = read_here,
    ) -> None:
        self._kfd, self._writer, self._read = kfd, writer, read
        self._emulated = kfd if isinstance(kfd, Emulated) else None
        self._tracker = tracker or WriteTracker()
        self._memory = WatchedMemory(self._tracker)
        self._observations = Observations(self._memory.word)
        self._lock = threading.RLock()
        self._doorbells: dict[int, int] = {}  # CPU address -> queue
        self._frames: dict[int, int] = {}  # doorbell pages: mmap offset -> CPU address
        self._queue_doorbells: dict[int, int] = {}  # queue -> mmap offset of its doorbell
        self._submissions = 0
        self._nanoseconds = 0
        self._gpu_wrote: set[Span] = set()
        self._open = False
        self.last_stalls: tuple[Stall, ...] = ()
        """What `stalls` gave when it was last asked: why a program gave up waiting."""
        self.last_faults: tuple[Fault, ...] = ()

    # What the port tells, unchanged.

    @property
    def name(self) -> str:
        """The name of the device that is recorded."""
        return self._kfd.name

    @property
    def topology(self) -> Topology:
        """The topology of the device that is recorded."""
        return self._kfd.topology

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

    # What is written down.

    def open(self) -> None:
        """Open the device and begin the record."""
        with self._hook():
            self._kfd.open()
            self._open = True
            if self._emulated:
                self._emulated.written_by_gpu()  # it watches from here on
            self._writer.append(events.Open("kfd", 0, self._step))

    def open_render(self, minor: int) -> int:
        """Open a render node; its descriptor is the handle that later events name."""
        with self._hook():
            descriptor = self._kfd.open_render(minor)
            self._writer.append(events.Open(f"render:{minor}", descriptor, self._step))
            return descriptor

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Call an ioctl; the call and its answer are written down, refused ones too."""
        with self._hook():
            given = bytes(tail or b"")
            pointed = read_pointed(record, "r", self._read)
            failure: KfdError | None = None
            answer = record
            if isinstance(record, CreateQueue):
                self._writer.flush(intent=True)  # a queue may run what its ring holds already
            with self._outside():
                try:
                    answer = self._kfd.ioctl(record, tail)
                except KfdError as error:
                    failure = error
            self.answered(record, answer, pointed, given, failure)
            if failure:
                raise failure
            self._learn(answer)
            return answer

    def answered(
        self,
        record: Record,
        answer: Record,
        pointed: dict[str, bytes],
        tail: bytes = b"",
        failure: KfdError | None = None,
    ) -> None:
        """Write down a call that came back; `pointed` is what its pointers pointed at before."""
        with self._hook():
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
                self._frames[offset] = mapping.address
                self._name_doorbells()
            elif protection & Protection.WRITE:
                place = addressof(c_ubyte.from_buffer(mapping.view))
                zeroed = self._emulated is not None
                self._memory.watch(mapping.address, size, zeroed=zeroed, place=place)
            return mapping

    def watch(self, address: int, size: int, place: int) -> None:
        """Watch memory of the client's own that GPUs can reach; this process sees it at `place`."""
        with self._hook():
            self._memory.watch(address, size, zeroed=False, place=place)

    def forget(self, address: int, size: int) -> None:
        """Stop watching what `watch` was given; what was stored until now has been written down."""
        with self._hook():
            self.digest(address, size)
            self._memory.forget(address, size)

    def unmap(self, mapping: Mapping) -> None:
        """Unmap memory; what the CPU wrote until now has been written down."""
        with self._hook():
            self.digest(mapping.address, mapping.size)
            self._memory.forget(mapping.address, mapping.size)
            self._kfd.unmap(mapping)
            self._writer.append(events.Unmap(mapping.address, mapping.size, self._step))

    def reserve(self, size: int, address: int | None = None, alignment: int = 4096) -> int:
        """Reserve addresses."""
        with self._hook():
            start = self._kfd.reserve(size, address, alignment)
            self._writer.append(events.Reserve(start, size, alignment))
            return start

    def release(self, address: int, size: int) -> None:
        """Give reserved addresses back."""
        with self._hook():
            self.digest(address, size)
            self._memory.forget(address, size)
            self._kfd.release(address, size)
            self._writer.append(events.Release(address, size))

    def label(self, address: int, size: int, what: Labelled, name: str) -> None:
        """Pass a name on; it is written down for readers of the trace."""
        with self._hook():
            self._kfd.label(address, size, what, name)
            self._writer.append(events.Name(address, size, what, name))

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Ring a doorbell: all that it may start is with the operating system before the store."""
        with self._hook():
            self._submissions += 1
            queue = self._doorbells.get(address, -1)
            now, thread = self._kfd.clock(), threading.get_native_id()
            self._writer.append(
                events.DoorbellIntent(
                    self._submissions, queue, address, value, bits, self._step, now, thread
                )
            )
            self._writer.flush(intent=True)
            self._observations.rang(queue, value)
            with self._outside():
                self._kfd.doorbell(address, value, bits)
            self._writer.append(
                events.DoorbellDone(self._submissions, queue, self._step, self._kfd.clock())
            )

    def idle(self, until_ns: int | None = None) -> Progress:
        """Let the device work, after writing down what the CPU stored before."""
        with self._hook(gate=True), self._outside():
            return self._kfd.idle(until_ns)

    def digest(self, address: int = 0, size: int = 1 << 64) -> None:
        """Write down what the GPU has written in a range since it was last asked.

        A replay compares it. Only an emulated device stands still while this looks; on any other
        it does nothing.
        """
        with self._hook():
            later = set()
            for span in _merged(self._gpu_wrote):
                if span.address + span.size <= address or address + size <= span.address:
                    later.add(span)
                    continue
                for start, view in self._memory.known(span):
                    self._writer.digest(start, view, store=len(view) <= 1 << 20, step=self._step)
            self._gpu_wrote = later

    def close(self) -> None:
        """Close the device; the trace stays open for whoever made it."""
        if not self._open:
            return
        self.digest()
        with self._hook():
            self._open = False
            self._memory.close()
            self._kfd.close()
            self._writer.append(events.Close("kfd", 0, self._step))
            self._writer.append(
                events.Cost(self._nanoseconds, self._memory.scanned, 0, self._submissions)
            )
            self._writer.flush()
            self._tracker.close()

    # Inside.

    @property
    def _step(self) -> int:
        return self._emulated.step if self._emulated else -1

    @contextmanager
    def _hook(self, *, gate: bool = False) -> Iterator[None]:
        # Every call of the port: one at a time, and first of all what the CPU stored before it.
        # With `gate` nothing but these stores may set the device going: their time counts.
        with self._lock:
            start = time.monotonic_ns()
            if self._open:
                if not gate:
                    self._write_progress()
                self._write_stores(gate)
            try:
                yield
            finally:
                self._nanoseconds += time.monotonic_ns() - start

    def _write_stores(self, gate: bool) -> None:
        provenance = "cpu" if self._emulated else "unknown"
        for address, data in self._memory.stores():
            self._write_progress()
            if gate and len(data) <= HOST_STORE_LIMIT:
                now = self._kfd.clock()
                self._writer.append(events.HostStore(address, data, self._step, now))
            else:
                self._writer.memory(address, data, provenance, self._step)

    def _write_progress(self) -> None:
        # What the GPU had done when the CPU did what is written next.
        values = self._observations.take()
        if values:
            self._writer.append(events.Progress(values, self._step))

    @contextmanager
    def _outside(self) -> Iterator[None]:
        # The device may work here; its time is not the capture's, its stores are not the CPU's.
        start = time.monotonic_ns()
        try:
            yield
        finally:
            self._nanoseconds -= time.monotonic_ns() - start
            if self._emulated:
                spans = self._emulated.written_by_gpu()
                self._observations.add(self._memory.absorb(spans))
                self._gpu_wrote.update(spans)

    def _learn(self, answer: Record) -> None:
        # Names that later events and readers use.
        match answer:
            case CreateQueue():
                self._queue_doorbells[answer.queue_id] = answer.doorbell_offset
                self._name_doorbells()
                self._writer.append(_queue_map(answer))
                self._stop_watching(answer.ctx_save_restore_address)
                self._observations.queue(
                    answer.queue_id, answer.queue_type, answer.ring_size,
                    answer.read_pointer_address,
                )  # fmt: skip
            case DestroyQueue():
                self._observations.forget(answer.queue_id)
                offset = self._queue_doorbells.pop(answer.queue_id)
                page, byte = doorbell_parts(offset)
                self._doorbells.pop(self._frames.get(page, 0) + byte, None)
            case CreateEvent():
                slot = answer.event_slot_index
                self._writer.append(
                    events.EventMap(answer.event_id, EventType(answer.event_type), slot)
                )
            case DestroyEvent():
                self._writer.append(events.EventMap(answer.event_id, 0, 0, live=False))

    def _stop_watching(self, address: int) -> None:
        # A save area is large, and the CPU has written its headers before the queue is made.
        size = self._memory.size_at(address)
        if size:
            self._memory.forget(address, size)
            if self._emulated:
                self._emulated.leave_out(address)

    def _name_doorbells(self) -> None:
        for queue, offset in self._queue_doorbells.items():
            page, byte = doorbell_parts(offset)
            if page in self._frames:
                self._doorbells[self._frames[page] + byte] = queue


def _queue_map(answer: CreateQueue) -> events.QueueMap:
    return events.QueueMap(
        queue=answer.queue_id,
        gpu=answer.gpu_id,
        type=answer.queue_type,
        ring=answer.ring_base_address,
        ring_size=answer.ring_size,
        read_pointer=answer.read_pointer_address,
        write_pointer=answer.write_pointer_address,
        doorbell=answer.doorbell_offset,
    )


def _merged(spans: set[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.address <= merged[-1].address + merged[-1].size:
            last = merged.pop()
            end = max(span.address + span.size, last.address + last.size)
            span = Span(last.address, end - last.address)
        merged.append(span)
    return merged
