"""A stand-in for the port: real memory, recorded calls, and an engine that only stores fences."""

import ctypes
import errno
import os
import struct
from types import MappingProxyType

import pytest

from gputrace.driver.device import open_kfd
from gputrace.errors import KfdError, UsageError
from gputrace.families import family
from gputrace.formats import ioctl as k
from gputrace.formats.packets import Packet
from gputrace.kfd import host
from gputrace.kfd.port import Mapping, Progress, Protection
from gputrace.kfd.topology import Node, Topology


class FakeQueue:
    """A queue that decodes what is rung and, unless `paused`, fetches it at once."""

    def __init__(self, argument, dialect):
        self.argument, self.dialect = argument, dialect
        self.position = 0
        self.packets = []

    def rung(self, value, paused):
        a = self.argument
        unit = 4 if a.queue_type == k.QueueType.COMPUTE else 1
        ring = (ctypes.c_ubyte * a.ring_size).from_address(a.ring_base_address)
        fetched = []
        while self.position < value * unit and not paused:
            end = value * unit
            whole = bytes(ring[p % a.ring_size] for p in range(self.position, end))
            words = struct.unpack(f"<{len(whole) // 4}I", whole)
            for at, packet in self.dialect.stream(words):
                fetched.append((self.position + 4 * at, packet))
            self.position = end
        ctypes.c_uint64.from_address(a.read_pointer_address).value = self.position // unit
        self.packets += fetched
        return [packet for _, packet in fetched]


class FakeKfd:
    """Implements the port without a device; `calls` lists every ioctl in order."""

    name = "fake:0"

    def __init__(self, target="gfx942", count=1):
        self.family = family(target)
        nodes = [
            Node(
                index,
                100 + index,
                "fake",
                MappingProxyType(
                    dict(self.family.node_properties()) | {"drm_render_minor": 128 + index}
                ),
            )
            for index in range(count)
        ]
        self.topology = Topology(tuple(nodes))
        self.calls, self.live, self.queues, self.events = [], {}, {}, {}
        self.mapped, self.reserved, self.descriptors = {}, {}, {}
        self.paused, self.fail = False, {}
        self.now, self.handles, self.rings = 0, 0, []
        self.fault_list, self.stall_list = [], []
        self.is_open = False
        self.memory_fault = None
        self.last_ring = {}
        self.event_page = self.made_events = 0
        self.labels = []
        self.hardware = False  # whether, like hardware, it never knows that it is blocked

    def open(self):
        self.is_open = True

    def close(self):
        self.is_open = False
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()

    def ioctl(self, record, tail=None):
        assert self.is_open
        self.calls.append(record)
        name = type(record).__name__
        if name in self.fail:
            raise KfdError(name, self.fail[name])
        handler = getattr(self, "_" + name, None)
        return record if handler is None else handler(record)

    def _GetProcessAperturesNew(self, record):
        if not record.num_of_nodes:
            return record.replace(num_of_nodes=len(self.topology.gpus))
        raw = b"".join(
            k.ProcessDeviceApertures(
                lds_base=1 << 48, lds_limit=(1 << 48) + 0xFFFFFFFF, scratch_base=2 << 48,
                scratch_limit=(2 << 48) + 0xFFFFFFFF, gpuvm_base=1 << 16,
                gpuvm_limit=(1 << 47) - 1, gpu_id=node.gpu_id,
            ).to_bytes()
            for node in self.topology.gpus
        )  # fmt: skip
        ctypes.memmove(record.kfd_process_device_apertures_ptr, raw, len(raw))
        return record

    def _AllocMemoryOfGpu(self, record):
        self.handles += 1
        self.live[self.handles] = record
        descriptor = os.memfd_create("fake")
        os.truncate(descriptor, record.size)
        self.descriptors[self.handles] = descriptor
        return record.replace(handle=self.handles, mmap_offset=self.handles << 20)

    def _FreeMemoryOfGpu(self, record):
        if self.mapped.get(record.handle):
            raise KfdError("FREE", errno.EBUSY)
        if record.handle == self.event_page:
            raise KfdError("FREE", errno.EPERM)
        del self.live[record.handle]
        os.close(self.descriptors.pop(record.handle))
        return record

    def _ids(self, record):
        return list((ctypes.c_uint32 * record.n_devices).from_address(record.device_ids_array_ptr))

    def _MapMemoryToGpu(self, record):
        self.mapped.setdefault(record.handle, set()).update(self._ids(record))
        return record.replace(n_success=record.n_devices)

    def _UnmapMemoryFromGpu(self, record):
        self.mapped[record.handle] -= set(self._ids(record))
        return record.replace(n_success=record.n_devices)

    def _CreateQueue(self, record):
        number = len(self.queues) + 1
        compute = record.queue_type == k.QueueType.COMPUTE
        dialect = self.family.pm4 if compute else self.family.sdma
        self.queues[number] = FakeQueue(record, dialect)
        offset = k.MmapOffset(k.MmapType.DOORBELL, record.gpu_id, 8 * number).encode()
        return record.replace(queue_id=number, doorbell_offset=offset)

    def _DestroyQueue(self, record):
        self.queues[record.queue_id].gone = True
        return record

    def _CreateEvent(self, record):
        self.event_page = self.event_page or record.event_page_offset
        number = self.made_events = self.made_events + 1
        if record.event_type != k.EventType.SIGNAL:
            number += k.FIRST_NONSIGNAL_EVENT
        self.events[number] = record
        return record.replace(event_id=number, event_slot_index=number & 0xFFF)

    def _DestroyEvent(self, record):
        del self.events[record.event_id]
        return record

    def _WaitEvents(self, record):
        self.now += record.timeout * 1_000_000
        if self.memory_fault is not None:
            raw = self.memory_fault.to_bytes()
            ctypes.memmove(record.events_ptr, raw, len(raw))
        return record.replace(wait_result=k.WaitResult.TIMEOUT)

    def open_render(self, minor):
        return minor

    def render_ioctl(self, minor, request, data):
        raise KfdError("render", errno.ENOTTY)

    def map(self, *, fd, offset, size, address=None, protection=Protection.BOTH):
        if fd == "kfd":
            host.unmap(address, size)
            memory = host.reserve(size, address)
            flags = (ctypes.c_ubyte * 0).from_address(memory)
            assert flags is not None
            descriptor = os.memfd_create("doorbells")
            os.truncate(descriptor, size)
            host.map_shared(descriptor, 0, size, address, 3)
            os.close(descriptor)
        else:
            host.map_shared(self.descriptors[offset >> 20], 0, size, address, int(protection))
        return Mapping(address, size, host.view(address, size), offset)

    def unmap(self, mapping):
        obj = mapping.view.obj
        mapping.view.release()
        import sys

        if sys.getrefcount(obj) > 2:
            mapping.view = host.view(mapping.address, mapping.size)
            raise UsageError("in use")
        host.cover(mapping.address, mapping.size)

    def reserve(self, size, address=None, alignment=4096):
        at = host.reserve(size, address, alignment)
        self.reserved[at] = size
        return at

    def release(self, address, size):
        assert self.is_open
        host.unmap(address, size)
        del self.reserved[address]

    def doorbell(self, address, value, bits=64):
        self.rings.append((address, value))
        self.last_ring[(address & 0x1FFF) // 8] = value
        self.work()

    def work(self):
        for number, value in self.last_ring.items():
            for packet in self.queues[number].rung(value, self.paused):
                self.store(packet)

    def store(self, packet: Packet):
        kind = packet.CONCEPT
        if kind == "ReleaseMem" and packet.written:
            size = ctypes.c_uint64 if packet.written == 8 else ctypes.c_uint32
            size.from_address(packet.address).value = packet.data
        if kind == "Fence":
            ctypes.c_uint32.from_address(packet.address).value = packet.data

    lasting = False
    versions = {}  # noqa: RUF012

    def label(self, address, size, what, name):
        self.labels.append((address, size, what, name))

    def clock(self):
        return self.now

    def idle(self, until_ns=None):
        self.now = max(self.now + 1000, until_ns or 0)
        if not self.paused:
            self.work()
        if until_ns is not None:
            return Progress.EXPIRED
        return Progress.ADVANCED if self.hardware else Progress.BLOCKED

    def stalls(self):
        return self.stall_list

    def faults(self):
        return self.fault_list


@pytest.fixture
def fake():
    return FakeKfd()


@pytest.fixture
def make_fake():
    return FakeKfd


@pytest.fixture
def device(fake):
    with open_kfd(fake) as opened:
        yield opened
