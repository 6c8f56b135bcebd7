"""The recorder around a toy device: what is written down, in which order, and by whom."""

import ctypes
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from gputrace.bits import Record
from gputrace.capture.emulated import Emulated
from gputrace.capture.recorder import Recorder
from gputrace.errors import KfdError
from gputrace.formats.ioctl import (
    CreateQueue,
    GetProcessAperturesNew,
    GetVersion,
    MapMemoryToGpu,
    QueueType,
)
from gputrace.kfd import host
from gputrace.kfd.port import Fault, Kfd, Mapping, Progress, Protection, Stall
from gputrace.kfd.topology import Topology
from gputrace.kfd.tracking import Span, WriteTracker
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

SIZE = 4 * host.PAGE


class Toy:
    """One page-backed memory; each doorbell makes the GPU add one to byte 100."""

    name = "toy"
    topology = Topology(nodes=())

    def __init__(self, path: Path) -> None:
        self.path, self.step, self.seen = path, 0, [0]
        self.file = os.memfd_create("toy")
        os.ftruncate(self.file, SIZE)
        self.alias = host.map_shared(self.file, 0, SIZE, None, 3)
        self.client = 0
        self.writes = WriteTracker()
        self.writes.watch(self.alias, SIZE, written=False)

    def open(self) -> None: ...

    def close(self) -> None:
        self.writes.close()
        host.unmap(self.alias, SIZE)
        os.close(self.file)

    def clock(self) -> int:
        return self.step

    def stalls(self) -> Sequence[Stall]:
        return ()

    def faults(self) -> Sequence[Fault]:
        return ()

    def ioctl(self, record: Record, tail: bytearray | None = None) -> Record:
        match record:
            case GetVersion():
                return record.replace(major_version=1, minor_version=17)
            case GetProcessAperturesNew():
                space = host.view(record.kfd_process_device_apertures_ptr, 56)
                space[:] = bytes(range(56))
                return record
            case CreateQueue():
                self.before_queue = read(self.path)  # what the file holds at that moment
                return record
        raise KfdError(type(record).__name__, 22)

    def render_ioctl(self, minor: int, request: int, data: bytearray) -> None: ...

    def open_render(self, minor: int) -> int:
        return self.file

    def map(self, *, fd: Literal["kfd"] | int, offset: int, size: int, address: int | None = None,
            protection: Protection = Protection.BOTH) -> Mapping:
        where = host.map_shared(self.file, offset, size, address, int(protection))
        if fd != "kfd":
            self.client = where
        return Mapping(where, size, host.view(where, size))

    def unmap(self, mapping: Mapping) -> None:
        host.unmap(mapping.address, mapping.size)

    def reserve(self, size: int, address: int | None = None, alignment: int = 4096) -> int:
        return host.reserve(size, address, alignment)

    def release(self, address: int, size: int) -> None:
        host.unmap(address, size)

    lasting = False
    versions = {}  # noqa: RUF012

    def label(self, address: int, size: int, what: str, name: str) -> None:
        self.told = (address, size, what, name)

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        with TraceReader(self.path) as reader:  # what the file holds at the moment of the store
            intents = [e for e in reader if isinstance(e, events.DoorbellIntent)]
        assert intents[-1].value == value
        assert len(intents) == self.step + 1
        self.step += 1
        host.view(self.alias, SIZE)[100] += 1

    def idle(self, until_ns: int | None = None) -> Progress:
        return Progress.BLOCKED

    quiet = True
    lock = threading.RLock()

    def leave_out(self, address: int) -> None: ...

    def stored_by_cpu(self, stores: Iterable[tuple[int, int]]) -> None: ...

    follows_writes = False

    def unwritten(self) -> list[tuple[int, int]]:
        return []

    def leave_unwritten(self, ranges: Iterable[tuple[int, int]]) -> None: ...

    def packets_done(self) -> dict[int, int]:
        return {}

    def written_by_gpu(self) -> list[Span]:
        move = self.client - self.alias
        return [Span(s.address + move, s.size) for s in self.writes.written()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.gtrace"


@pytest.fixture
def recorder(path: Path) -> Iterator[Recorder]:
    toy: Kfd = Toy(path)
    assert isinstance(toy, Emulated)
    with TraceWriter(path, events.Header("test")) as writer:
        made = Recorder(toy, writer)
        made.open()
        yield made
        made.close()


def read(path: Path) -> list[events.Event]:
    with TraceReader(path) as reader:
        return list(reader)


def test_a_name_is_passed_on_and_written_down(recorder: Recorder, path: Path) -> None:
    recorder.label(0x1000, 16, "kernel", "saxpy")
    recorder.close()
    assert events.Name(0x1000, 16, "kernel", "saxpy") in read(path)
    assert recorder._kfd.told == (0x1000, 16, "kernel", "saxpy")


def test_doorbells_are_in_the_file_before_they_are_rung_with_the_memory_that_they_need(
    recorder: Recorder, path: Path
) -> None:
    mapping = recorder.map(fd=recorder.open_render(128), offset=0, size=SIZE)
    for value in (1, 2):
        mapping.view[101] = value
        recorder.doorbell(mapping.address, value)
    mapping.view[100] = 77  # the CPU writes where the GPU wrote
    recorder.close()
    kinds = (events.Memory, events.DoorbellIntent, events.DoorbellDone, events.Digest)
    found = [e for e in read(path) if isinstance(e, kinds)]
    start = mapping.address
    assert [type(e).__name__ for e in found] == [
        "Memory", "DoorbellIntent", "DoorbellDone",
        "Memory", "DoorbellIntent", "DoorbellDone",
        "Memory", "Digest",
    ]  # fmt: skip
    memories = [(e.address - start, e.data) for e in found if isinstance(e, events.Memory)]
    assert memories == [(101, b"\1"), (101, b"\2"), (100, b"\x4d")]
    assert [e.step for e in found] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert isinstance(found[-1], events.Digest)
    assert (found[-1].address, found[-1].size) == (start, host.PAGE)


def test_what_a_ring_holds_is_in_the_file_before_its_queue_is_made(
    recorder: Recorder, path: Path
) -> None:
    # A write pointer that is not 0 makes a queue run at once: no doorbell comes before it.
    mapping = recorder.map(fd=recorder.open_render(128), offset=0, size=SIZE)
    mapping.view[3000] = 9
    at = mapping.address
    recorder.ioctl(CreateQueue(
        ring_base_address=at, ring_size=4096, write_pointer_address=at, read_pointer_address=at,
        gpu_id=1, queue_type=QueueType.SDMA))
    stores = [e for e in recorder._kfd.before_queue if isinstance(e, events.Memory)]
    assert [(e.address, e.data) for e in stores] == [(at + 3000, b"\x09")]


def test_calls_are_recorded_with_what_their_pointers_point_at_and_refusals_with_their_errno(
    recorder: Recorder, path: Path
) -> None:
    space = ctypes.create_string_buffer(56)
    recorder.ioctl(GetVersion())
    recorder.ioctl(GetProcessAperturesNew(
        kfd_process_device_apertures_ptr=ctypes.addressof(space), num_of_nodes=1))
    with pytest.raises(KfdError):
        recorder.ioctl(MapMemoryToGpu(handle=1, device_ids_array_ptr=0, n_devices=0))
    recorder.close()
    calls = [e for e in read(path) if isinstance(e, events.Ioctl)]
    assert [(c.record, c.errno) for c in calls] == [
        ("GetVersion", 0), ("GetProcessAperturesNew", 0), ("MapMemoryToGpu", 22)
    ]  # fmt: skip
    assert calls[0].after == bytes([1, 0, 0, 0, 17, 0, 0, 0])
    assert calls[1].payloads == (
        events.Payload("kfd_process_device_apertures_ptr", ctypes.addressof(space), b"",
                       bytes(range(56))),
    )


def test_stores_before_any_call_of_the_port_are_written_at_that_call(
    recorder: Recorder, path: Path
) -> None:
    mapping = recorder.map(fd=recorder.open_render(128), offset=0, size=SIZE)
    mapping.view[3000] = 9
    recorder.idle()
    mapping.view[3000] = 10
    recorder.unmap(mapping)
    recorder.close()
    kinds = (events.Memory, events.HostStore)
    stores = [(type(e).__name__, e.data) for e in read(path) if isinstance(e, kinds)]
    assert stores == [("HostStore", b"\x09"), ("Memory", b"\x0a")]
