"""A client of the port, as small as can be: it knows ioctls and addresses, and no driver."""

import ctypes
import itertools

import pytest

from gputrace.devices.emulated import EmulatedKfd
from gputrace.families import family
from gputrace.formats.ioctl import (
    AcquireVm,
    AllocFlag,
    AllocMemoryOfGpu,
    CreateQueue,
    MapMemoryToGpu,
    QueueType,
    UnmapMemoryFromGpu,
    doorbell_parts,
)

F = AllocFlag
ANY = F.GTT | F.WRITABLE | F.EXECUTABLE | F.NO_SUBSTITUTE
_bases = itertools.count(0x3000_0000_0000, 1 << 32)


class Ring:
    """A queue that packets can be put into."""

    def __init__(self, bench, record, ring, pointers, doorbell):
        self.bench, self.record, self.pointers, self.doorbell = bench, record, pointers, doorbell
        self.words, self.at = ring.view.cast("I"), 0
        self.address = ring.address
        self.unit = 1 if record.queue_type == QueueType.COMPUTE else 4
        if record.queue_type == QueueType.COMPUTE_AQL:
            self.unit = 0

    def put(self, *packets):
        for packet in packets:
            self.dwords(packet.encode())

    def dwords(self, words):
        for word in words:
            self.words[self.at % len(self.words)] = word
            self.at += 1
        value = self.at * self.unit if self.unit else self.at // 16 - 1
        self.bench.kfd.doorbell(self.doorbell, value)

    @property
    def read(self):
        return int.from_bytes(self.pointers.view[8:16], "little")


class Bench:
    """An open emulated device with its first GPU acquired."""

    def __init__(self, target="gfx1100", count=1, *, around=lambda kfd: kfd, **options):
        self.kfd = around(EmulatedKfd(target, count, **options))
        self.kfd.open()
        self.family = family(target)
        self.nodes = self.kfd.topology.gpus
        self.node = self.nodes[0]
        self.gpu_id = self.node.gpu_id
        for node in self.nodes:
            fd = self.kfd.open_render(node.render_minor)
            self.kfd.ioctl(AcquireVm(drm_fd=fd, gpu_id=node.gpu_id))
        self.fd = self.kfd.open_render(self.node.render_minor)
        self.base = self.kfd.reserve(1 << 30, next(_bases))
        self.next = self.base
        self.doorbells = {}

    def allocate(self, size, flags=ANY, gpu_id=None):
        record = AllocMemoryOfGpu(
            va_addr=self.next, size=size, gpu_id=gpu_id or self.gpu_id, flags=flags
        )
        self.next += -(-size // 4096) * 4096 + 4096  # a hole after each buffer
        return self.kfd.ioctl(record)

    def map_gpu(self, handle, *gpu_ids):
        ids = gpu_ids or (self.gpu_id,)
        array = (ctypes.c_uint32 * len(ids))(*ids)
        pointer = ctypes.addressof(array)
        record = MapMemoryToGpu(handle=handle, device_ids_array_ptr=pointer, n_devices=len(ids))
        return self.kfd.ioctl(record)

    def unmap_gpu(self, handle, *gpu_ids):
        ids = gpu_ids or (self.gpu_id,)
        array = (ctypes.c_uint32 * len(ids))(*ids)
        pointer = ctypes.addressof(array)
        record = UnmapMemoryFromGpu(
            handle=handle, device_ids_array_ptr=pointer, n_devices=len(ids)
        )
        return self.kfd.ioctl(record)

    def memory(self, size, flags=ANY, *gpu_ids):
        record = self.allocate(size, flags)
        address, offset = record.va_addr, record.mmap_offset
        mapping = self.kfd.map(fd=self.fd, offset=offset, size=size, address=address)
        self.map_gpu(record.handle, *gpu_ids)
        return mapping

    def queue_record(self, kind=QueueType.COMPUTE, size=4096, **changes):
        ring, pointers = self.memory(size), self.memory(4096)
        values = {
            "ring_base_address": ring.address,
            "write_pointer_address": pointers.address,
            "read_pointer_address": pointers.address + 8,
            "ring_size": size,
            "gpu_id": self.gpu_id,
            "queue_type": kind,
        }
        if kind in (QueueType.COMPUTE, QueueType.COMPUTE_AQL):
            sizes = self.family.queue_sizes(self.node.properties)
            whole = (sizes.cwsr_size + sizes.debug_size) * self.node.xccs
            area = self.allocate(-(-whole // 4096) * 4096)
            self.map_gpu(area.handle)
            values |= {
                "eop_buffer_address": self.memory(4096).address,
                "eop_buffer_size": 4096,
                "ctx_save_restore_address": area.va_addr,
                "ctx_save_restore_size": sizes.cwsr_size,
                "ctl_stack_size": sizes.ctl_stack_size,
            }
        return CreateQueue(**(values | changes)), ring, pointers

    def queue(self, kind=QueueType.COMPUTE, size=4096, **changes):
        record, ring, pointers = self.queue_record(kind, size, **changes)
        answer = self.kfd.ioctl(record)
        page, byte = doorbell_parts(answer.doorbell_offset)
        if page not in self.doorbells:
            at = self.kfd.reserve(8192)
            self.doorbells[page] = self.kfd.map(fd="kfd", offset=page, size=8192, address=at)
        return Ring(self, answer, ring, pointers, self.doorbells[page].address + byte)

    def run(self, limit=50):
        for _ in range(limit):
            if self.kfd.idle().name == "BLOCKED":
                return
        raise AssertionError("the device goes on and on")


@pytest.fixture
def make_bench():
    made = []

    def make(*arguments, **options):
        made.append(Bench(*arguments, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.kfd.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()
