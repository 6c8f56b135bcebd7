"""What PM4 and AQL compute queues share: launches, their memory, and packets between them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gputrace.driver.dispatch import aql_dispatch, user_values
from gputrace.driver.kernargs import Geometry, Value
from gputrace.driver.memory import Buffer, Data
from gputrace.driver.packets import Pm4Packets
from gputrace.driver.program import Kernel, Sizes, geometry
from gputrace.driver.queue import Queue, pack
from gputrace.driver.scratch import NONE, Scratch, scratch_for
from gputrace.driver.timeline import Point
from gputrace.driver.upload import ALIGNMENT, UploadRing
from gputrace.errors import UsageError
from gputrace.formats.aql import AmdQueue, KernelDispatch, QueueProperty
from gputrace.formats.ioctl import QueueType
from gputrace.formats.operations import Compare
from gputrace.formats.packets import Packet
from gputrace.formats.pm4 import ReleaseData

if TYPE_CHECKING:
    from gputrace.driver.device import Device

RING_BYTES = 1 << 18
UPLOAD_BYTES = 1 << 20  # of kernel arguments and indirect buffers in flight
MAX_WRITE_DWORDS = 1024
KEPT_LAUNCHES = 1024  # shapes of launches whose packets are kept

KERNARG = KernelDispatch.BY_NAME["kernarg_address"].lo // 8
_PATCH = struct.Struct("<Q").pack_into
LaunchKey = tuple[object, ...]


@dataclass(eq=False, slots=True)
class Prepared:
    """A launch made ready: what is left to fill in are arguments, addresses and one value.

    `upload` is copied to memory that the engine reads, `stream` into the ring. Patches are byte
    offsets; `of_upload` and `of_stream` say at which the address of an offset of the upload goes.
    """

    kernel: Kernel
    what: str
    upload: bytearray
    stream: bytearray
    argument_bytes: memoryview = field(init=False)
    of_stream: list[tuple[int, int]] = field(default_factory=list)
    of_upload: list[tuple[int, int]] = field(default_factory=list)
    values: list[tuple[bytearray, int]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    completion: int = -1
    odd: int = 0

    def __post_init__(self) -> None:
        self.argument_bytes = memoryview(self.upload)[: self.kernel.metadata.kernarg_size]


class ComputeQueue(Queue):
    """A compute queue: launches kernels one after another, each after the one before has ended.

    `upload_bytes` are for arguments and indirect buffers in flight, taken at the first launch.
    """

    upload_bytes = UPLOAD_BYTES

    def __init__(
        self, device: Device, name: str, made_with: QueueType, ring_size: int, **settings: int
    ) -> None:
        self.packets = Pm4Packets(device.family.pm4)
        self._prepared: dict[LaunchKey, Prepared] = {}
        self._scratch = NONE
        self._scratch_memory: Buffer | None = None
        self._uploads: UploadRing | None = None
        self._descriptor: Buffer | None = None
        self._launches = 0
        super().__init__(device, name, made_with, ring_size, **settings)

    def take_wave_sync(self) -> None:
        """Let kernels of this queue use global wave sync: their work-groups wait for one another.

        One queue of a process may have it on each GPU. Raises KfdError.
        """
        self.device.session.mechanism.wave_sync(self.hardware, wanted=True)

    def drop_wave_sync(self) -> None:
        """Give back what `take_wave_sync` took. Raises KfdError."""
        self.device.session.mechanism.wave_sync(self.hardware, wanted=False)

    # --- launching --------------------------------------------------------------------------------

    def launch(
        self,
        kernel: Kernel,
        grid: Sizes | None = None,
        block: Sizes = 1,
        args: Sequence[Value] = (),
        *,
        threads: Sizes | None = None,
        dynamic_lds: int = 0,
        stack: int | None = None,
    ) -> Point:
        """Run a kernel after all earlier work of this queue; return the moment of its end.

        `grid` counts work-groups, or `threads` work-items when the last group may be partial;
        `block` work-items of a group; `dynamic_lds` bytes of a group beyond the static ones.
        `stack` bytes of a work-item are for calls that go deeper than the compiler knows; where it
        says that it does not know they are 2048 unless given. Everything is checked before
        anything is written. Raises UsageError.
        """
        with self.lock:
            prepared = self._ready(kernel, (grid, block, threads), dynamic_lds, stack)
            return self._launch(prepared, args, 0)

    def _ready(
        self, kernel: Kernel, sizes: tuple[object, ...], dynamic_lds: int, stack: int | None
    ) -> Prepared:
        key = (kernel, *sizes, dynamic_lds, stack)
        try:
            found = self._prepared.get(key)
        except TypeError:  # lists and arrays have no hash
            sizes = tuple(tuple(one) if isinstance(one, Iterable) else one for one in sizes)
            key = (kernel, *sizes, dynamic_lds, stack)
            found = self._prepared.get(key)
        if not isinstance(kernel, Kernel):
            raise UsageError(f"launch: expected a kernel of a program, found {kernel!r}")
        if kernel.program.memory.freed:
            raise UsageError(f"{kernel.name}: {kernel.program!r} was freed")
        if found is None or found.odd != self.timeline.last + 1 >> 32 & 1:
            if len(self._prepared) >= KEPT_LAUNCHES:
                self._prepared.clear()
            grid, block, threads = sizes
            shape = geometry(grid, block, threads, dynamic_lds)  # type: ignore[arg-type]
            found = self._prepared[key] = self._make_ready(kernel, shape, stack)
        return found

    def _make_ready(self, kernel: Kernel, shape: Geometry, stack: int | None) -> Prepared:
        if kernel.program.device is not self.device:
            raise UsageError(f"{kernel!r} is loaded on another device than {self!r}")
        kernel.check(shape)
        lane_bytes = kernel.lane_bytes(stack)
        self._need_scratch(lane_bytes)
        hidden = {
            "hidden_private_base": self._apertures()[1] >> 32,
            "hidden_shared_base": self._apertures()[0] >> 32,
        }
        if kernel.wants("hidden_queue_ptr"):
            hidden["hidden_queue_ptr"] = self._queue_address()
        upload = kernel.arguments.template(shape, hidden)
        grid = "x".join(map(str, shape.groups))
        what = f"launch of {kernel.name}, grid {grid}"
        prepared = self._stream(kernel, shape, lane_bytes, upload, what)
        prepared.odd = self.timeline.last + 1 >> 32 & 1
        return prepared

    def _stream(
        self, kernel: Kernel, shape: Geometry, lane_bytes: int, upload: bytearray, what: str
    ) -> Prepared:
        raise NotImplementedError

    def _launch(self, prepared: Prepared, args: Sequence[Value], completion: int) -> Point:
        prepared.kernel.arguments.fill(prepared.argument_bytes, args)
        stream, upload, timeline = prepared.stream, prepared.upload, self.timeline
        self._room(len(stream), prepared.what)
        uploads = self.uploads
        offset = uploads.take(len(upload))
        base = uploads.address(offset)
        value = timeline.take()
        for at, distance in prepared.of_stream:
            _PATCH(stream, at, base + distance)
        for at, distance in prepared.of_upload:
            _PATCH(upload, at, base + distance)
        for data, at in prepared.values:
            _PATCH(data, at, value)
        for at in prepared.numbers:
            _PATCH(stream, at, self._launches)
        if prepared.completion >= 0:
            _PATCH(stream, prepared.completion, completion)
        uploads.memory[offset : offset + len(upload)] = upload
        self._put(stream, prepared.what)
        uploads.hold(value)
        self._launches += 1
        self._last = point = Point(timeline, value)
        return point

    # --- memory of launches -----------------------------------------------------------------------

    @property
    def uploads(self) -> UploadRing:
        """The memory of arguments and indirect buffers, made when first used."""
        if self._uploads is None:
            buffer = self._alloc(self.upload_bytes, executable=True, name=f"uploads of {self.name}")
            self._uploads = UploadRing(buffer, lambda: self.timeline.value, self._wait_value)
        return self._uploads

    def _keep_uploads(self, value: int) -> None:
        if self._uploads is not None:
            self._uploads.hold(value)

    def _wait_value(self, value: int) -> None:
        if self.ring.rung < self.ring.written:
            self._ring()
        if value > self.timeline.last:
            self.signal()
        self.timeline.wait(value, self.timeout)

    def _apertures(self) -> tuple[int, int]:
        found = self.device.session.apertures[self.device.gpu_id]
        return found.lds.start, found.scratch.start

    @property
    def _dies(self) -> int:
        """Dies that work on this queue."""
        return 1

    def _need_scratch(self, lane_bytes: int) -> None:
        if lane_bytes <= self._scratch.lane_bytes:
            return
        node, family = self.device.node, self.device.family
        wanted = scratch_for(family, node.properties, lane_bytes)
        if self._scratch_memory is not None:
            self.synchronize(self.timeout)
            self._give_back(self._scratch_memory)
            self._scratch, self._scratch_memory = NONE, None
        self._prepared.clear()
        memory = self.device.session.allocate(
            node, wanted.size * self._dies, "vram", visible=False, name=f"scratch of {self.name}"
        )
        self._buffers.append(memory)
        self._scratch_memory = memory
        self._scratch = Scratch(lane_bytes, wanted.tmpring, wanted.size, memory.address)
        self._scratch_changed()

    def _scratch_changed(self) -> None:
        """Tell the engine about new scratch; the queue is idle."""

    def _give_back(self, buffer: Buffer) -> None:
        self._buffers.remove(buffer)
        buffer.free()

    def _queue_address(self) -> int:
        """Return the address of the AmdQueue that kernels may look at."""
        if self._descriptor is None:
            self._descriptor = self._alloc(4 * AmdQueue.WORDS, name=f"descriptor of {self.name}")
            self._descriptor.write(self._describe(0, 0).to_bytes())
        return self._descriptor.address

    def _describe(self, ring: int, packets: int) -> AmdQueue:
        lds, scratch = self._apertures()
        node = self.device.node
        return AmdQueue(
            base_address=ring,
            size=packets,
            id=self.device.session.next_queue_number(),
            group_segment_aperture_base_hi=lds >> 32,
            private_segment_aperture_base_hi=scratch >> 32,
            max_cu_id=node["simd_count"] // node["simd_per_cu"] - 1,
            max_wave_id=node["max_waves_per_simd"] * node["simd_per_cu"] - 1,
            queue_properties=QueueProperty.IS_PTR64 | QueueProperty.ENABLE_PROFILING,
        )

    def _user_values(
        self, kernel: Kernel, shape: Geometry, lane_bytes: int, upload: bytearray
    ) -> tuple[dict[int, int], dict[str, int]]:
        """Return user SGPRs, and for those that depend on the launch where they start.

        A dispatch packet is added to the upload when the kernel asks for one.
        """
        descriptor, scratch = kernel.descriptor, self._scratch
        places = descriptor.user_sgprs()
        if "dispatch_ptr" in places:
            upload += bytes(-len(upload) % ALIGNMENT)
            upload += aql_dispatch(
                descriptor, kernel.descriptor_address, shape, lane_bytes
            ).to_bytes()
        wave = 32 if kernel.wave32 else 64
        values = user_values(
            descriptor,
            {
                "private_segment_buffer": scratch.descriptor(self.device.family, wave),
                "dispatch_ptr": 0,
                "queue_ptr": self._queue_address() if "queue_ptr" in places else 0,
                "kernarg_segment_ptr": 0,
                "dispatch_id": 0,
                "flat_scratch_init": scratch.base,
                "private_segment_size": lane_bytes,
            },
        )
        later = ("dispatch_ptr", "kernarg_segment_ptr", "dispatch_id")
        return values, {name: places[name][0] for name in later if name in places}

    # --- packets ----------------------------------------------------------------------------------

    def commands(
        self, packets: Sequence[Packet], what: str = "commands", *, every_die: bool = False
    ) -> None:
        """Execute PM4 packets, whatever kind of queue this is, after all earlier work.

        On a queue that several dies work on only the first of them does, unless `every_die`.
        """
        raise NotImplementedError

    def _wait_commands(self, points: Iterable[Point]) -> bytes:
        return pack(packet for point in points for packet in self.packets.wait_point(point))

    def _signals(self, point: Point) -> list[Packet]:
        mailbox = self.device.session.mailbox(self.event)
        return self.packets.signal(point, mailbox, self.event.event_id)

    def write(self, buffer: Buffer, data: Data, offset: int = 0) -> None:
        """Let the engine store up to 4 KiB of whole dwords from the packet itself."""
        raw = bytes(data)
        self._check(buffer, offset, len(raw), "write")
        if not raw or len(raw) % 4 or offset % 4 or len(raw) > 4 * MAX_WRITE_DWORDS:
            raise UsageError(
                f"write: expected 1 to {MAX_WRITE_DWORDS} whole dwords, found {len(raw)} bytes "
                f"at offset {offset}"
            )
        packet = self.packets.write(buffer.address + offset, raw)
        self.commands([packet], f"write of {len(raw)} bytes to {buffer.address + offset:#x}")

    def wait_memory(
        self, buffer: Buffer, value: int, offset: int = 0, compare: Compare = Compare.GE
    ) -> None:
        """Hold the queue until a dword of a buffer compares true with `value` (unsigned)."""
        self._check(buffer, offset, 4, "wait_memory")
        address = buffer.address + offset
        packet = self.packets.wait(address, value, compare)
        self.commands([packet], f"wait for dword {address:#x}", every_die=True)

    def timestamp(self, buffer: Buffer, offset: int = 0) -> None:
        """Store the GPU's 64-bit clock when all earlier work is done."""
        self._check(buffer, offset, 8, "timestamp")
        packet = self.packets.release(buffer.address + offset, data=ReleaseData.GPU_CLOCK)
        self.commands([packet], f"timestamp to {buffer.address + offset:#x}")

    def barrier(self) -> None:
        """Wait for earlier waves, then invalidate caches, before anything later starts."""
        packets = [self.packets.drain(), self.packets.acquire()]
        self.commands(packets, "barrier", every_die=True)


def offsets_of(packets: Iterable[Packet], inside: Callable[[Packet], int | None]) -> list[int]:
    """Return byte offsets in a stream of packets, for those where `inside` gives one."""
    found, at = [], 0
    for packet in packets:
        place = inside(packet)
        if place is not None:
            found.append(at + place)
        at += 4 * packet.dwords
    return found


def value_offset(packet: Packet) -> int | None:
    """Return where a release has the value of a timeline; None for other packets."""
    is_value = packet.CONCEPT == "ReleaseMem" and not getattr(packet, "int_ctxid", 0)
    return packet.BY_NAME["data"].lo // 8 if is_value else None
