"""What all queues have in common: buffers, a bounded ring, a timeline of their own, an event."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gputrace.bits import Record
from gputrace.driver.arena import PAGE
from gputrace.driver.memory import Buffer
from gputrace.driver.ring import Ring
from gputrace.driver.signals import Signal
from gputrace.driver.timeline import Point, Timeline
from gputrace.errors import UsageError
from gputrace.families import QueueSizes
from gputrace.formats.ioctl import ContextSaveHeader, CreateQueue, QueueType
from gputrace.formats.packets import Dialect, Packet
from gputrace.kfd.port import Labelled

if TYPE_CHECKING:
    from gputrace.driver.device import Device

ROOM_TIMEOUT = 30.0  # seconds that a submission waits for room in the ring
WRITE_POINTER, READ_POINTER = 0, 128  # bytes into the pointer page: a cache line each


def pack(packets: Iterable[Record]) -> bytes:
    """Encode packets one after another; raises FieldError for a value that does not fit."""
    words: list[int] = []
    for packet in packets:
        words += packet.encode()
    return struct.pack(f"<{len(words)}I", *words)


def builder(dialect: Dialect[Any], concept: str) -> Callable[..., Packet]:
    """Return what makes a dialect's packets of one concept, by keyword."""
    made: Callable[..., Packet] = dialect.packet(concept)
    return made


class Queue:
    """A user queue of a device. All methods may be called from several threads."""

    unit = 4
    straddle = False
    last_packet = False

    def __init__(
        self,
        device: Device,
        name: str,
        made_with: QueueType,
        ring_size: int,
        engine: int = 0,
        **settings: int,
    ) -> None:
        self.device, self.name = device, name
        self.lock = threading.RLock()
        self.timeout: float | None = ROOM_TIMEOUT
        self._held = 0
        self._last: Point | None = None
        self._buffers: list[Buffer] = []
        self._closed = False
        try:
            ring, pointers = self._make_memory(ring_size)
            argument = CreateQueue(
                ring_base_address=ring.address,
                write_pointer_address=pointers.address + self.pointer_offsets[0],
                read_pointer_address=pointers.address + self.pointer_offsets[1],
                ring_size=ring_size,
                gpu_id=device.gpu_id,
                queue_type=made_with,
                sdma_engine_id=engine,
                **self._save_area(made_with),
                **settings,
            )
            self._create(argument)
        except BaseException:
            self._free()
            raise
        self.ring = self._make_ring(ring, pointers)

    def _make_ring(self, ring: Buffer, pointers: Buffer) -> Ring:
        write, read = (pointers.block.view[at : at + 8] for at in self.pointer_offsets)
        return Ring(
            self.device.session.kfd,
            ring.block.view,
            (read, write),
            self.hardware.doorbell,
            unit=self.unit,
            straddle=self.straddle,
            last_packet=self.last_packet,
        )

    def _create(self, argument: CreateQueue) -> None:
        session = self.device.session
        self.event = session.make_event()
        try:
            self.timeline: Timeline = session.timeline(self.name)
            self.hardware = session.mechanism.make_queue(argument)
        except BaseException:
            session.drop_event(self.event)
            raise

    pointer_offsets: tuple[int, int] = (WRITE_POINTER, READ_POINTER)

    def __repr__(self) -> str:
        return f"<{self.name} of {self.device.name}>"

    @property
    def queue_id(self) -> int:
        """The id that KFD gave."""
        return self.hardware.queue_id

    def _alloc(
        self,
        size: int,
        *,
        executable: bool = False,
        visible: bool = True,
        name: str = "",
        what: Labelled = "buffer",
    ) -> Buffer:
        buffer = self.device.session.allocate(
            self.device.node,
            size,
            "gtt",
            executable=executable,
            visible=visible,
            name=f"{name} of {self.device.name}" if self.device.index else name,
            what=what,
        )
        self._buffers.append(buffer)
        return buffer

    def _make_memory(self, ring_size: int) -> tuple[Buffer, Buffer]:
        if ring_size & (ring_size - 1) or ring_size < PAGE:
            raise UsageError(f"a ring has a power of two of at least {PAGE} bytes, not {ring_size}")
        ring = self._alloc(ring_size, executable=True, name=f"ring of {self.name}", what="ring")
        pointers = self._alloc(PAGE, name=f"pointers of {self.name}")
        self._prepare(ring, pointers)
        return ring, pointers

    def _prepare(self, ring: Buffer, pointers: Buffer) -> None:
        """Fill ring and pointer page before the queue exists."""

    def _save_area(self, kind: QueueType) -> dict[str, int]:
        if kind not in (QueueType.COMPUTE, QueueType.COMPUTE_AQL):
            return {}
        sizes = self.device.family.queue_sizes(self.device.node.properties)
        end_of_pipe = self._alloc(sizes.eop_size, visible=False, name=f"EOP of {self.name}")
        save = self._alloc(sizes.save_area_size, name=f"save area of {self.name}")
        write_save_headers(save, sizes)
        return {
            "eop_buffer_address": end_of_pipe.address,
            "eop_buffer_size": sizes.eop_size,
            "ctx_save_restore_address": save.address,
            "ctx_save_restore_size": sizes.cwsr_size,
            "ctl_stack_size": sizes.ctl_stack_size,
        }

    # --- submitting -------------------------------------------------------------------------------

    def submit(self, packets: Sequence[Record] | bytes, what: str = "packets") -> None:
        """Put packets, or their bytes, into the ring and ring the doorbell.

        Waits for room up to `timeout` seconds; raises WaitTimeout, ProvenHang or DeviceFault when
        none comes and UsageError when they can never fit.
        """
        data = packets if isinstance(packets, bytes) else pack(packets)
        with self.lock:
            self._submit(data, what)

    def _submit(self, data: bytes | bytearray, what: str) -> None:
        self._room(len(data), what)
        self._put(data, what)

    def _room(self, size: int, what: str) -> None:
        """Wait until `size` bytes fit the ring; nothing is written yet."""
        ring = self.ring
        if self._closed:
            raise UsageError(f"{self!r} is closed")
        if ring.free < ring.need(size):
            self._make_room(size, what)

    def _put(self, data: bytes | bytearray, what: str) -> None:
        self.ring.put(data, what)
        if not self._held:
            self._ring()

    def _make_room(self, size: int, what: str) -> None:
        if self.ring.rung < self.ring.written:
            self._ring()
        need = self.ring.need(size)
        self.device.session.waiter.until(
            lambda: self.ring.free >= need, f"room for {what} in {self!r}", self.timeout
        )

    def _ring(self) -> None:
        self.device.flush_host_writes()
        self.ring.ring()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Ring the doorbell once, at the end, for everything submitted inside."""
        with self.lock:
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1
                if not self._held and self.ring.rung < self.ring.written:
                    self._ring()

    def _check(self, buffer: Buffer, offset: int, size: int, what: str) -> None:
        """Raise UsageError unless bytes are inside a live buffer that is mapped on this GPU."""
        if not isinstance(buffer, Buffer):
            raise UsageError(f"{what}: expected a buffer, found {buffer!r}")
        buffer.check(offset, size, what)
        if buffer.owner is not self.device.session:
            raise UsageError(f"{what}: {buffer!r} belongs to a device that was opened apart")
        if self.device.gpu_id not in buffer.block.mapped_on:
            raise UsageError(
                f"{what}: {buffer!r} is not mapped on GPU {self.device.index}: share it first"
            )

    def _check_timeline(self, timeline: Timeline) -> None:
        if timeline.owner is not self.device.session:
            raise UsageError(f"{timeline!r} belongs to a device that was opened apart")

    # --- order ------------------------------------------------------------------------------------

    def signal(self, timeline: Timeline | None = None, value: int | None = None) -> Point:
        """Let the engine store the timeline's next value (or `value`) when all before is done."""
        with self.lock:
            target = self.timeline if timeline is None else timeline
            self._check_timeline(target)
            chosen = target.take(value)
            point = Point(target, chosen)
            self._submit(self._signal_packets(point), f"signal {point!r}")
            self._keep_uploads(chosen if target is self.timeline else self.timeline.last + 1)
            self._last = point
            return point

    def wait(self, point: Point) -> None:
        """Hold everything submitted later until `point` is reached."""
        if not isinstance(point, Point):
            raise UsageError(f"wait: expected a point on a timeline, found {point!r}")
        self._check_timeline(point.timeline)
        with self.lock:
            self._submit(self._wait_packets(point), f"wait for {point!r}")
            self._keep_uploads(self.timeline.last + 1)

    def wait_all(self, signals: Sequence[Signal]) -> None:
        """Hold everything submitted later until all the signals are 0."""
        with self.lock:
            self._submit(self._zero_packets(signals), f"wait for all of {list(signals)}")
            self._keep_uploads(self.timeline.last + 1)

    def complete(self, signal: Signal) -> None:
        """Take one from a signal when all earlier work is done, and tell the CPU."""
        with self.lock:
            self._submit(self._complete_packets(signal), f"complete {signal!r}")
            self._keep_uploads(self.timeline.last + 1)

    def synchronize(self, timeout: float | None = 30.0) -> None:
        """Wait on the CPU until all that was submitted is done."""
        self.signal().wait(timeout)

    def _zero_packets(self, signals: Sequence[Signal]) -> bytes:
        raise NotImplementedError

    def _complete_packets(self, signal: Signal) -> bytes:
        raise NotImplementedError

    def _keep_uploads(self, value: int) -> None:
        """Keep memory that the last submission points at until the queue's timeline says so."""

    def _signal_packets(self, point: Point) -> bytes:
        raise NotImplementedError

    def _wait_packets(self, point: Point) -> bytes:
        raise NotImplementedError

    # --- reports and end --------------------------------------------------------------------------

    def current(self) -> str:
        """Say which submission the engine is at."""
        return f"{self!r}: {self.ring.current()}"

    def submitted(self, place: int, number: int) -> str:
        """Return what a packet was submitted as, by its GPU address and its count in the queue.

        Empty when it is not of this queue or forgotten.
        """
        offset = place - self.hardware.made_with.ring_base_address
        return self.ring.submitted(offset) if 0 <= offset < self.ring.size else ""

    def drain(self, timeout: float) -> None:
        """Wait until the last signal that this queue sends is reached."""
        if self._last is not None and not self._closed:
            self._last.wait(timeout)

    def close(self) -> None:
        """Destroy the queue and free its buffers; work in it is dropped."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            self.device.session.mechanism.destroy_queue(self.hardware)
            self.device.session.drop_event(self.event)
            self.ring.close()
            self._free()
            self.device.forget(self)

    def _free(self) -> None:
        for buffer in reversed(self._buffers):
            if not buffer.freed:
                buffer.free()
        self._buffers.clear()


def write_save_headers(save: Buffer, sizes: QueueSizes) -> None:
    """Write the header of each XCC's save area (libhsakmt queues.c fill_cwsr_header)."""
    for xcc in range(sizes.xccs):
        header = ContextSaveHeader(
            debug_offset=sizes.debug_offset(xcc), debug_size=sizes.xccs * sizes.debug_size
        )
        save.write(header.to_bytes(), xcc * sizes.cwsr_size)
