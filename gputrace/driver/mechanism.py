"""What can be done with a KFD, step by step and without opinion.

Replay and the driver's policy both stand on it.

Everything is given by the caller: addresses, sizes, flags, which buffers make a queue. Nothing here
chooses, caches or retries. One `Mechanism` serves one open `Kfd`.
"""

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gputrace.bits import Record
from gputrace.errors import KfdError, UsageError
from gputrace.formats.ioctl import (
    PROCESS_DOORBELL_BYTES,
    AcquireVm,
    AllocFlag,
    AllocMemoryOfGpu,
    AllocQueueGws,
    CreateEvent,
    CreateQueue,
    DestroyEvent,
    DestroyQueue,
    EventType,
    FreeMemoryOfGpu,
    GetProcessAperturesNew,
    MapMemoryToGpu,
    ProcessDeviceApertures,
    UnmapMemoryFromGpu,
    WaitEvents,
    WaitResult,
    doorbell_parts,
)
from gputrace.kfd.port import Kfd, Mapping, Protection
from gputrace.kfd.topology import Node

_ON_KFD = AllocFlag.DOORBELL | AllocFlag.MMIO_REMAP  # mapped through /dev/kfd, not the render node


@dataclass(eq=False, slots=True)
class Block:
    """One allocation of KFD: what the kernel was asked for and gave."""

    handle: int
    gpu_id: int
    address: int
    size: int
    flags: AllocFlag
    mapping: Mapping | None = None
    mapped_on: tuple[int, ...] = ()
    mmap_offset: int = 0

    @property
    def view(self) -> memoryview:
        """The bytes as the CPU sees them. Raises UsageError when it does not."""
        if self.mapping is None:
            raise UsageError(f"the allocation at {self.address:#x} is not visible to the CPU")
        return self.mapping.view


@dataclass(frozen=True, slots=True)
class Event:
    """An event of KFD; for a SIGNAL event `slot` is its index in the event page."""

    event_id: int
    kind: EventType
    slot: int


@dataclass(eq=False, slots=True)
class HardwareQueue:
    """A queue of KFD: its id, the arguments it was made with and where its doorbell is."""

    queue_id: int
    made_with: CreateQueue
    doorbell: int


@dataclass(slots=True)
class Apertures:
    """Address ranges of one GPU; limits are the last byte."""

    lds: range
    scratch: range
    gpuvm: range


@dataclass(slots=True)
class Signalled:
    """What a wait gave: how it ended and the data of each event, as 48 raw bytes."""

    result: WaitResult
    data: tuple[bytes, ...] = field(default=())


class Mechanism:
    """The steps, on an open KFD."""

    def __init__(self, kfd: Kfd) -> None:
        self.kfd = kfd
        self._doorbells: dict[int, Mapping] = {}

    def acquire(self, node: Node) -> None:
        """Adopt the address space of the node's render descriptor for this process."""
        descriptor = self.kfd.open_render(node.render_minor)
        self.kfd.ioctl(AcquireVm(drm_fd=descriptor, gpu_id=node.gpu_id))

    def apertures(self) -> dict[int, Apertures]:
        """Return the apertures of every GPU by gpu_id: by what the kernel says, not by order."""
        count = self.kfd.ioctl(GetProcessAperturesNew()).num_of_nodes
        size = 4 * ProcessDeviceApertures.WORDS
        space = ctypes.create_string_buffer(size * max(1, count))
        answer = self.kfd.ioctl(
            GetProcessAperturesNew(
                kfd_process_device_apertures_ptr=ctypes.addressof(space), num_of_nodes=count
            )
        )
        found = {}
        for index in range(answer.num_of_nodes):
            one = ProcessDeviceApertures.from_bytes(space.raw, index * size)
            found[one.gpu_id] = Apertures(
                range(one.lds_base, one.lds_limit + 1),
                range(one.scratch_base, one.scratch_limit + 1),
                range(one.gpuvm_base, one.gpuvm_limit + 1),
            )
        return found

    def allocate(
        self, gpu_id: int, address: int, size: int, flags: AllocFlag, *, user_memory: int = 0
    ) -> Block:
        """Make an allocation at a GPU address; it is mapped nowhere yet.

        `user_memory` is the CPU address behind a USERPTR allocation. Raises KfdError.
        """
        answer = self.kfd.ioctl(
            AllocMemoryOfGpu(
                va_addr=address, size=size, mmap_offset=user_memory, gpu_id=gpu_id, flags=flags
            )
        )
        return Block(answer.handle, gpu_id, address, size, flags, mmap_offset=answer.mmap_offset)

    def map_cpu(
        self,
        block: Block,
        node: Node,
        protection: Protection = Protection.BOTH,
        address: int | None = None,
    ) -> Mapping:
        """Map an allocation at `address`, by default where the GPU sees it.

        The range must be reserved. Raises KfdError.
        """
        block.mapping = self.kfd.map(
            fd="kfd" if block.flags & _ON_KFD else self.kfd.open_render(node.render_minor),
            offset=block.mmap_offset,
            size=block.size,
            address=block.address if address is None else address,
            protection=protection,
        )
        return block.mapping

    def map_gpu(self, block: Block, gpu_ids: Sequence[int]) -> None:
        """Map an allocation on GPUs, in one call. Raises KfdError when any of them fails."""
        self._on_gpus(MapMemoryToGpu, block.handle, gpu_ids)
        block.mapped_on = tuple(dict.fromkeys((*block.mapped_on, *gpu_ids)))

    def unmap_gpu(self, block: Block, gpu_ids: Sequence[int]) -> None:
        """Take an allocation away from GPUs."""
        self._on_gpus(UnmapMemoryFromGpu, block.handle, gpu_ids)
        block.mapped_on = tuple(one for one in block.mapped_on if one not in gpu_ids)

    def _on_gpus(
        self,
        record: type[MapMemoryToGpu] | type[UnmapMemoryFromGpu],
        handle: int,
        gpu_ids: Sequence[int],
    ) -> None:
        ids = (ctypes.c_uint32 * len(gpu_ids))(*gpu_ids)
        argument = record(
            handle=handle, device_ids_array_ptr=ctypes.addressof(ids), n_devices=len(gpu_ids)
        )
        answer = self.kfd.ioctl(argument)
        if answer.n_success != len(gpu_ids):
            missed = ", ".join(f"{one:#x}" for one in gpu_ids[answer.n_success :])
            raise KfdError(record.__name__, 5, {"handle": handle}, f"not done on GPUs {missed}")

    def unmap_cpu(self, block: Block) -> None:
        """Take an allocation away from the CPU; its addresses stay reserved."""
        if block.mapping is not None:
            self.kfd.unmap(block.mapping)
            block.mapping = None

    def free(self, block: Block) -> None:
        """Unmap an allocation everywhere and free it; its addresses stay reserved."""
        self.unmap_cpu(block)
        if block.mapped_on:
            self.unmap_gpu(block, block.mapped_on)
        self.kfd.ioctl(FreeMemoryOfGpu(handle=block.handle))

    def make_queue(self, argument: CreateQueue) -> HardwareQueue:
        """Make a queue of buffers that are mapped already, and map its doorbell."""
        answer = self.kfd.ioctl(argument)
        page, byte = doorbell_parts(answer.doorbell_offset)
        if page not in self._doorbells:
            try:
                self._doorbells[page] = self._map_doorbells(page)
            except BaseException:
                self.kfd.ioctl(DestroyQueue(queue_id=answer.queue_id))
                raise
        return HardwareQueue(answer.queue_id, argument, self._doorbells[page].address + byte)

    def _map_doorbells(self, offset: int) -> Mapping:
        size = PROCESS_DOORBELL_BYTES
        address = self.kfd.reserve(size, alignment=size)
        try:
            return self.kfd.map(fd="kfd", offset=offset, size=size, address=address)
        except BaseException:
            self.kfd.release(address, size)
            raise

    def wave_sync(self, queue: HardwareQueue, wanted: bool) -> None:
        """Give a queue the GPU's global wave sync, or take it back."""
        self.kfd.ioctl(AllocQueueGws(queue_id=queue.queue_id, num_gws=int(wanted)))

    def destroy_queue(self, queue: HardwareQueue) -> None:
        """Stop a queue and forget it."""
        self.kfd.ioctl(DestroyQueue(queue_id=queue.queue_id))

    def make_event(self, kind: EventType, page_handle: int = 0, auto_reset: bool = True) -> Event:
        """Make an event; the first of a process may bring the event page by its handle."""
        answer = self.kfd.ioctl(
            CreateEvent(event_page_offset=page_handle, event_type=kind, auto_reset=int(auto_reset))
        )
        return Event(answer.event_id, kind, answer.event_slot_index)

    def destroy_event(self, event: Event) -> None:
        """Forget an event."""
        self.kfd.ioctl(DestroyEvent(event_id=event.event_id))

    def wait(self, records: Iterable[Record], timeout_ms: int) -> Signalled:
        """Wait for any of several events; `records` are EventData or a layout of it."""
        given = tuple(records)
        space = ctypes.create_string_buffer(b"".join(one.to_bytes() for one in given))
        answer = self.kfd.ioctl(
            WaitEvents(
                events_ptr=ctypes.addressof(space),
                num_events=len(given),
                wait_for_all=0,
                timeout=timeout_ms,
            )
        )
        size = len(given[0].to_bytes()) if given else 0
        parts = (space.raw[i * size : (i + 1) * size] for i in range(len(given)))
        return Signalled(WaitResult(answer.wait_result), tuple(parts))

    def close(self) -> None:
        """Unmap the doorbells."""
        for mapping in self._doorbells.values():
            self.kfd.unmap(mapping)
            self.kfd.release(mapping.address, mapping.size)
        self._doorbells.clear()
