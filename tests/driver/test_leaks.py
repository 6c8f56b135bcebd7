"""Nothing is left behind: handles, mappings, descriptors, however a session ends."""

import gc
import os
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from gputrace import driver
from gputrace.devices.emulated import EmulatedKfd
from gputrace.driver import DeviceFault, ProvenHang
from gputrace.errors import KfdError, UsageError
from gputrace.formats import ioctl as k
from tests.driver.test_launch import built


class Counting:
    """Pass every call on, count what is held, and fail the call whose turn it is."""

    def __init__(self, kfd, fail_at=0):
        self._kfd, self._fail_at, self.calls = kfd, fail_at, 0
        self.handles, self.mapped, self.events, self.queues = set(), Counter(), set(), set()
        self.mappings, self.reserved, self.event_page, self.closed = {}, {}, None, False
        self.at_close = None

    def __getattr__(self, name):
        return getattr(self._kfd, name)

    def _turn(self, what):
        self.calls += 1
        if self.calls == self._fail_at:
            raise KfdError(what, 12, {}, "injected")

    def ioctl(self, record, tail=None):
        ends = (k.FreeMemoryOfGpu, k.UnmapMemoryFromGpu, k.DestroyQueue, k.DestroyEvent)
        if not isinstance(record, (*ends, k.WaitEvents)):
            self._turn(type(record).__name__)
        answer = self._kfd.ioctl(record, tail)
        match answer:
            case k.AllocMemoryOfGpu():
                self.handles.add(answer.handle)
            case k.FreeMemoryOfGpu():
                self.handles.remove(answer.handle)
            case k.MapMemoryToGpu():
                self.mapped[answer.handle] += answer.n_devices
            case k.UnmapMemoryFromGpu():
                self.mapped[answer.handle] -= answer.n_devices
            case k.CreateQueue():
                self.queues.add(answer.queue_id)
            case k.DestroyQueue():
                self.queues.remove(answer.queue_id)
            case k.CreateEvent():
                self.events.add(answer.event_id)
                self.event_page = self.event_page or record.event_page_offset
            case k.DestroyEvent():
                self.events.remove(answer.event_id)
        return answer

    def map(self, **arguments):
        self._turn("mmap")
        mapping = self._kfd.map(**arguments)
        self.mappings[mapping.address] = mapping
        return mapping

    def unmap(self, mapping):
        self._kfd.unmap(mapping)
        del self.mappings[mapping.address]

    def reserve(self, size, address=None, alignment=4096):
        self._turn("mmap")
        at = self._kfd.reserve(size, address, alignment)
        self.reserved[at] = size
        return at

    def release(self, address, size):
        self._kfd.release(address, size)
        assert self.reserved.pop(address) == size

    def close(self):
        self.closed = True
        self._kfd.close()

    def check(self):
        """Only an event page in use stays: the kernel keeps it until its opener lets go."""
        assert self.handles <= {self.event_page}
        assert not [handle for handle, count in self.mapped.items()
                    if count > 0 and handle != self.event_page]  # fmt: skip
        assert not self.events
        assert not self.queues
        assert not self.mappings
        assert not self.reserved
        assert self.closed


def everything(device, target):
    """Use every kind of thing that a device has."""
    kernel = device.load(built(target, "O0"))["fill"]  # O0 needs scratch
    out = device.alloc(1 << 16, name="out")
    user, far = device.alloc(4096, "userptr"), device.alloc(4096, "gtt", visible=False)
    assert far.address
    out.view()[0] = 1
    signal = device.signal()
    for kind in ("pm4", "aql"):
        queue = device.compute_queue(kind)
        queue.launch(kernel, 1, 64, [out, 7]).wait(5.0)
        queue.launch(kernel, 1, 64, [user, 7]).wait(5.0)
    queue.complete(signal)
    copies = device.copy_queue()
    copies.copy(out, user, 256)
    copies.wait(device.timeline("late").at(0))
    copies.synchronize(5.0)
    device.alloc(4096).free()


def fault(device, target):
    gone, queue = device.alloc(4096), device.compute_queue()
    gone.free()
    kernel = device.load(built(target))["fill"]
    with pytest.raises(DeviceFault):
        queue.launch(kernel, 1, 64, [gone.address, 1]).wait(5.0)


def hang(device, target):
    gate, queue, copies = device.timeline("gate"), device.compute_queue(), device.copy_queue()
    queue.wait(gate.at(1))
    copies.wait(queue.signal())
    with pytest.raises(ProvenHang):
        copies.signal().wait(1.0)


def trouble(device, target):
    device.compute_queue()
    device.alloc(4096, "userptr")
    raise RuntimeError("the user's own")


def snapshot():
    gc.collect()
    ranges = Path("/proc/self/maps").read_text().splitlines()
    named = Counter(line.split(maxsplit=5)[5] for line in ranges if len(line.split()) > 5)
    shared = {name: n for name, n in named.items() if "memfd" in name or "kfd" in name}
    return len(os.listdir("/proc/self/fd")), shared


@pytest.mark.parametrize("use", [everything, fault, hang, trouble])
@pytest.mark.parametrize(("target", "count"), [("gfx942", 1), ("gfx1100", 1), ("gfx942", 2)])
def test_nothing_is_left_after_close(target, count, use):
    before = snapshot()
    for _ in range(2):
        kfd = Counting(EmulatedKfd(target, count))
        ends = pytest.raises(RuntimeError, match="own") if use is trouble else nullcontext()
        with ends, driver.open_kfd(kfd) as device:
            assert len(device.peers) == len(kfd.topology.gpus) - 1
            use(device, target)
        kfd.check()
    assert snapshot() == before


def test_a_failure_of_any_call_on_the_way_leaves_nothing():
    before = snapshot()
    survey = Counting(EmulatedKfd("gfx1100"))
    with driver.open_kfd(survey) as device:
        everything(device, "gfx1100")
    survey.check()
    failed = 0
    for turn in range(1, survey.calls + 1):
        kfd = Counting(EmulatedKfd("gfx1100"), fail_at=turn)
        try:
            with driver.open_kfd(kfd) as device:
                everything(device, "gfx1100")
        except (KfdError, UsageError):
            failed += 1
        kfd.check()
    assert failed == survey.calls - 2  # all but the two for the flush register are needed
    assert snapshot() == before


def test_a_queue_that_cannot_be_made_gives_everything_back():
    kfd = Counting(EmulatedKfd("gfx942"))
    with driver.open_kfd(kfd) as device:
        device.compute_queue("pm4")
        used, events = device.session.arena.used, len(kfd.events)
        plain, kfd.ioctl = kfd.ioctl, None

        def refuse(record, tail=None):
            if isinstance(record, k.CreateQueue):
                raise KfdError("CREATE_QUEUE", 12)
            return plain(record, tail)

        kfd.ioctl = refuse
        for make in (lambda: device.compute_queue("aql"), device.copy_queue):
            with pytest.raises(KfdError, match="CREATE_QUEUE"):
                make()
        assert device.session.arena.used <= used + 4096  # a page of timelines
        assert len(kfd.events) == events
        del kfd.ioctl
    kfd.check()


@pytest.mark.parametrize("kind", ["pm4", "aql", "copy"])
def test_a_queue_that_is_closed_gives_its_event_and_memory_back(kind):
    kfd = Counting(EmulatedKfd("gfx942"))
    with driver.open_kfd(kfd) as device:
        def made():
            return device.copy_queue() if kind == "copy" else device.compute_queue(kind)

        made().close()  # what all queues share stays
        events, handles = set(kfd.events), set(kfd.handles)
        for _ in range(3):
            queue = made()
            queue.signal().wait(5.0)
            queue.close()
        assert len(kfd.events) == len(events)
        assert len(kfd.handles) == len(handles)
        assert not kfd.queues


def test_more_scratch_is_taken_when_what_used_the_old_one_has_ended():
    with driver.open("emu:gfx942") as device:
        kernel, out = device.load(built("gfx942", "O0"))["fill"], device.alloc(1 << 16)
        queue = device.compute_queue("pm4")
        for turn, stack in enumerate((1024, 4096, 16384, 512)):
            done = queue.launch(kernel, 64, 64, [out, turn], stack=stack)  # nobody waits between
        done.wait(10.0)
        assert out.read(4) == (3).to_bytes(4, "little")


def test_what_a_fork_does_leaves_its_parent_alone():
    # Memory of an emulated device is shared with a fork: it must not be given back there.
    with driver.open("emu:gfx942") as device:
        kernel, out = device.load(built("gfx942"))["fill"], device.alloc(256, name="out")
        queue = device.compute_queue()
        queue.launch(kernel, 1, 64, [out, 1]).wait(5.0)
        child = os.fork()
        if not child:
            status = 1
            try:
                with pytest.raises(UsageError, match="open the device after the fork"):
                    queue.launch(kernel, 1, 64, [out, 2]).wait(5.0)
                device.close()
                with driver.open("emu:gfx942") as own:
                    mine = own.alloc(256)
                    own.compute_queue().launch(
                        own.load(built("gfx942"))["fill"], 1, 64, [mine, 3]
                    ).wait(5.0)
                    status = 0 if mine.read() == (3).to_bytes(4, "little") * 64 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert out.read() == (1).to_bytes(4, "little") * 64
        queue.launch(kernel, 1, 64, [out, 4]).wait(5.0)
        assert out.read() == (4).to_bytes(4, "little") * 64
