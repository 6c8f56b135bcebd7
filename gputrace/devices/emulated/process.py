"""The state that the kernel keeps for the client: GPUs, allocations, events, queues."""

import ctypes
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from errno import EFAULT, EINVAL, ENODEV

from gputrace.devices.emulated.events import EventTable
from gputrace.devices.emulated.forks import copy_pages
from gputrace.devices.emulated.history import History
from gputrace.devices.emulated.kernels import SpaceMemory
from gputrace.devices.emulated.memory import Buffer, Pool, Space
from gputrace.devices.emulated.queue import HardwareQueue
from gputrace.devices.emulated.scheduler import Scheduler
from gputrace.devices.emulated.shadow import Touched, leave_unwritten, unwritten
from gputrace.errors import KfdError
from gputrace.families import Family
from gputrace.formats.ioctl import EVENT_PAGE_BYTES, PROCESS_DOORBELL_BYTES, AllocFlag
from gputrace.kfd import host
from gputrace.kfd.host import PAGE
from gputrace.kfd.labels import Labels
from gputrace.kfd.pagemap import Region
from gputrace.kfd.port import Fault
from gputrace.kfd.topology import Node, Topology


class Gpu:
    """One GPU and what the process has of it."""

    def __init__(self, index: int, node: Node, pool: Pool, exact: bool) -> None:
        self.index, self.node = index, node
        self.space = Space(exact)
        self.shaders = SpaceMemory(self.space)
        self.acquired: int | None = None
        self.vram_used = 0
        self.handles = 0
        self.doorbell_offset, doorbells = pool.take(PROCESS_DOORBELL_BYTES)
        self.doorbell_host = doorbells
        self.doorbells = host.view(doorbells, PROCESS_DOORBELL_BYTES).cast("Q")
        self.mmio_offset, self.mmio_host = pool.take(PAGE)
        self.used_doorbells: set[int] = set()
        self.sdma_queues: dict[int, int] = {}

    @property
    def gpu_id(self) -> int:
        """The id that ioctls use."""
        return self.node.gpu_id


@dataclass(eq=False, slots=True)
class Queue:
    """A queue as the kernel knows it."""

    gpu: Gpu
    hardware: HardwareQueue
    doorbell: int
    sdma_slot: int | None = None
    buffers: list[Buffer] = field(default_factory=list)


class Client:
    """The memory of the client, which is this process. One in another process has its own class."""

    def read(self, address: int, size: int, ioctl: str) -> bytes:
        """Return bytes behind a pointer of an ioctl. Raises EFAULT for a null pointer."""
        if not address:
            raise KfdError(ioctl, EFAULT, {"pointer": address}, "null pointer")
        return ctypes.string_at(address, size)

    def write(self, address: int, data: bytes, ioctl: str) -> None:
        """Store bytes behind a pointer of an ioctl. Raises EFAULT for a null pointer."""
        if not address:
            raise KfdError(ioctl, EFAULT, {"pointer": address}, "null pointer")
        ctypes.memmove(address, data, len(data))

    def share(self, pool: Pool, address: int, length: int) -> tuple[int, int]:
        """Make the client's own pages reachable; return their offset in the pool and where."""
        return 0, address

    def detach(self, pool: Pool, place: int, length: int) -> None:
        """Undo `share`, by the place that it gave and the length that it was given."""


class Process:
    """Everything that belongs to one opener of /dev/kfd."""

    def __init__(
        self,
        family: Family,
        topology: Topology,
        scheduler: Scheduler,
        client: Client | None = None,
        *,
        exact: bool = False,
        shadowed: bool = False,
    ) -> None:
        self.family, self.topology, self.scheduler = family, topology, scheduler
        self.pool = Pool("gputrace-emulated")
        self.client = client or Client()
        self.foreign = client is not None
        """Whether the client is another process, whose descriptors are not ours."""
        self.gpus = tuple(
            Gpu(index, node, self.pool, exact) for index, node in enumerate(topology.gpus)
        )
        self.by_id: Mapping[int, Gpu] = {gpu.gpu_id: gpu for gpu in self.gpus}
        self.render: dict[int, int] = {}
        self.buffers: dict[int, Buffer] = {}
        self.exported: dict[int, Buffer] = {}
        """Descriptors of dma-bufs, and whose memory they show."""
        self.events = EventTable()
        self.touched = Touched(self.pool) if shadowed else None
        self.labels = Labels()
        self.history = History()
        self.event_buffer: Buffer | None = None
        self.event_offset: int | None = None
        self.queues: dict[int, Queue] = {}
        self.next_queue = 0
        self.next_buffer = 0
        self.runtime_enabled = False
        self.faults: list[Fault] = []
        self.refused: Counter[str] = Counter()

    def gpu(self, gpu_id: int, ioctl: str, code: int = EINVAL) -> Gpu:
        """Return a GPU, or raise what the kernel answers for an id that it does not know."""
        found = self.by_id.get(gpu_id)
        if found is None:
            raise KfdError(ioctl, code, {"gpu_id": gpu_id}, "no such GPU")
        return found

    def acquired(self, gpu_id: int, ioctl: str, code: int = ENODEV) -> Gpu:
        """Return a GPU whose VM is acquired, or raise."""
        gpu = self.gpu(gpu_id, ioctl)
        if gpu.acquired is None:
            raise KfdError(ioctl, code, {"gpu_id": gpu_id}, "ACQUIRE_VM was not called")
        return gpu

    def bytes_of(self, buffer: Buffer) -> memoryview:
        """Return the emulator's view of a buffer."""
        return host.view(buffer.host, buffer.length)

    def own_event_page(self) -> None:
        """Give the process an event page of the kernel's when it brought none."""
        if self.events.page is None:
            self.event_offset, place = self.pool.take(EVENT_PAGE_BYTES)
            self.events.adopt_page(host.view(place, EVENT_PAGE_BYTES))

    def open_render(self, minor: int) -> int:
        """Return the one descriptor of a render node: all nodes show the same memory."""
        if minor not in self.render:
            self.render[minor] = os.dup(self.pool.fd)
        return self.render[minor]

    def unwritten(self) -> list[Region]:
        """Return the bytes of memory, first and end, that nobody has written."""
        if self.touched is not None:
            self.touched.settle_all()
        return unwritten(self.buffers.values())

    def leave_unwritten(self, ranges: Sequence[Region]) -> None:
        """Take these bytes as written by nobody, and all others as written."""
        if self.touched is not None:
            self.touched.restart()
            leave_unwritten(self.buffers.values(), ranges)

    def forked(self) -> None:
        """Take a copy of the memory for this fork of the process."""
        if self.touched is not None:
            self.touched.settle_all()
        copy_pages(self.pool.fd)
        if self.touched is not None:
            self.touched.copied()

    def close(self) -> None:
        """Give back memory and descriptors."""
        self.queues.clear()
        owners = {buffer.owner or buffer for buffer in self.buffers.values()}
        for buffer in owners | set(self.exported.values()):
            if buffer.flags & (AllocFlag.VRAM | AllocFlag.GTT):
                self.pool.drop(buffer.offset, buffer.length, buffer.host)
        self.buffers.clear()
        self._close_exported()
        for gpu in self.gpus:
            gpu.doorbells.release()
            host.unmap(gpu.doorbell_host, PROCESS_DOORBELL_BYTES)
            host.unmap(gpu.mmio_host, PAGE)
        for fd in self.render.values():
            os.close(fd)
        if self.touched is not None:
            self.touched.close()
        self.pool.close()

    def drop(self, buffer: Buffer) -> None:
        """Give back memory that has no handle any more."""
        if buffer.flags & (AllocFlag.VRAM | AllocFlag.GTT):
            self.pool.drop(buffer.offset, buffer.length, buffer.host)
            if self.touched is not None:
                self.touched.uncover(buffer.offset)
        if buffer.flags & AllocFlag.USERPTR:
            self.client.detach(self.pool, buffer.host, buffer.length)
        if buffer.flags & AllocFlag.VRAM:
            self.by_id[buffer.gpu_id].vram_used -= buffer.length

    def _close_exported(self) -> None:
        # The client may have closed a descriptor, and something else may have its number now.
        mine = os.fstat(self.pool.fd)
        for descriptor in self.exported:
            try:
                there = os.fstat(descriptor)
            except OSError:
                continue
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                os.close(descriptor)
        self.exported.clear()

    @property
    def hardware(self) -> list[HardwareQueue]:
        """All queues, oldest first."""
        return [queue.hardware for queue in self.queues.values()]
