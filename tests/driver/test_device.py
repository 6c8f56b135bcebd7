"""The driver's policy over a recording port: order of ioctls, fields, packets, waits and leaks."""

import os
from pathlib import Path

import numpy as np
import pytest

from gputrace.driver.device import open_kfd
from gputrace.driver.waiting import ProvenHang, WaitTimeout
from gputrace.errors import DeviceFault, KfdError, UsageError
from gputrace.formats import ioctl as k
from gputrace.kfd.port import Fault


def names(fake):
    return [type(record).__name__ for record in fake.calls]


def test_opening_acquires_the_vm_before_any_memory(fake):
    with open_kfd(fake):
        pass
    assert names(fake)[:5] == [
        "GetProcessAperturesNew",
        "GetProcessAperturesNew",
        "AcquireVm",
        "AllocMemoryOfGpu",
        "MapMemoryToGpu",
    ]
    event_page = fake.calls[3]
    assert event_page.size == 32768
    assert event_page.flags & k.AllocFlag.GTT


def test_the_first_event_brings_the_event_page_and_two_fault_events_follow(fake, device):
    device.compute_queue("pm4")
    created = [record for record in fake.calls if isinstance(record, k.CreateEvent)]
    assert [record.event_type for record in created] == [
        k.EventType.SIGNAL, k.EventType.MEMORY, k.EventType.HW_EXCEPTION,
    ]  # fmt: skip
    assert created[0].event_page_offset == 1  # the handle of the first allocation
    device.copy_queue()
    assert fake.calls[-2].event_page_offset == 0 or created[0].event_page_offset == 1


def test_a_compute_queue_brings_the_buffers_that_the_kernel_checks(fake, device):
    device.compute_queue("pm4", ring_size=8192)
    made = next(record for record in fake.calls if isinstance(record, k.CreateQueue))
    sizes = device.family.queue_sizes(device.node.properties)
    assert made.ring_size == 8192
    assert made.eop_buffer_size == 4096
    assert made.ctx_save_restore_size == sizes.cwsr_size
    assert made.ctl_stack_size == sizes.ctl_stack_size
    area = next(r for r in fake.live.values() if r.va_addr == made.ctx_save_restore_address)
    assert area.size == sizes.save_area_size
    assert made.write_pointer_address // 4096 == made.read_pointer_address // 4096


def test_a_copy_queue_brings_neither_save_area_nor_end_of_pipe_buffer(fake, device):
    device.copy_queue()
    made = next(record for record in fake.calls if isinstance(record, k.CreateQueue))
    assert (made.eop_buffer_address, made.ctx_save_restore_address) == (0, 0)
    assert made.queue_type == k.QueueType.SDMA


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201"])
def test_a_signal_is_a_value_and_an_interrupt_with_its_event(make_fake, target):
    fake = make_fake(target)
    with open_kfd(fake) as device:
        queue = device.compute_queue("pm4")
        point = queue.signal()
        value, mail = (packet for _, packet in fake.queues[1].packets)
        assert (value.address, value.data) == (point.timeline.address, 1)
        assert value.int_ctxid == 0
        assert mail.int_ctxid == mail.data == queue.event.event_id
        assert mail.address == device.session.mailbox(queue.event)
        assert point.done
        point.wait(0.0)


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201"])
def test_a_copy_signal_fences_both_the_value_and_the_slot(make_fake, target):
    fake = make_fake(target)
    with open_kfd(fake) as device:
        queue = device.copy_queue()
        queue.signal().wait(0.0)
        kinds = [packet.CONCEPT for _, packet in fake.queues[1].packets]
        cached = target in ("gfx1030", "gfx1100", "gfx1201")  # the engine goes through the caches
        assert kinds == ["GcrRequest"] * cached + ["Fence", "Fence", "Trap"]
        assert fake.queues[1].packets[-1][1].int_context == queue.event.event_id


def test_copies_are_split_and_cover_every_byte_once(fake, device):
    size = 10_000_001
    source, target = device.alloc(size), device.alloc(size)
    device.copy_queue().copy(target, source)
    at = 0
    for _, packet in fake.queues[1].packets:
        assert packet.source == source.address + at
        assert packet.destination == target.address + at
        assert packet.size <= device.family.copies.limit
        at += packet.size
    assert at == size


@pytest.mark.parametrize("bad", [{"size": 4097}, {"size": 4096, "source_offset": 1}, {"size": -1}])
def test_a_copy_outside_its_buffers_is_refused(device, bad):
    source, target = device.alloc(4096), device.alloc(8192)
    with pytest.raises(UsageError, match="not inside"):
        device.copy_queue().copy(target, source, **bad)


def test_a_ring_never_overwrites_and_says_why_it_cannot_go_on(fake, device):
    queue = device.compute_queue("pm4", ring_size=4096)
    target = device.alloc(4096)
    fake.paused = True
    while queue.ring.free >= 20:
        queue.write(target, b"abcd")
    with pytest.raises(ProvenHang, match="room for write") as caught:
        queue.write(target, b"abcd")
    assert queue.ring.written <= 4096 - 4
    assert "at write of 4 bytes" in str(caught.value)
    fake.paused = False
    queue.signal().wait(0.0)
    with pytest.raises(UsageError, match="does not fit"):
        queue.submit(bytes(8192))


def test_every_position_of_the_ring_end_is_crossed_whole(fake, device):
    compute, copies = device.compute_queue("pm4", ring_size=4096), device.copy_queue()
    target = device.alloc(4096)
    for step in range(700):
        compute.write(target, step.to_bytes(4, "little"))
    data = [packet.data for _, packet in fake.queues[1].packets]
    assert data == [(step,) for step in range(700)]
    for step in range(3000):
        copies.fill(target, step, 4096)
        copies.copy(target, target, 64)
    fills = [p for _, p in fake.queues[2].packets if p.CONCEPT == "ConstantFill"]
    assert [packet.data for packet in fills] == list(range(3000))
    size = copies.ring.size
    assert all(
        at // size == (at + 4 * p.dwords - 1) // size
        for at, p in fake.queues[2].packets
        if p.CONCEPT != "Nop"
    )


def test_a_batch_rings_once(fake, device):
    queue, target = device.compute_queue("pm4"), device.alloc(4096)
    before = len(fake.rings)
    with queue.batch():
        queue.write(target, b"abcd")
        queue.write(target, b"efgh")
        point = queue.signal()
    assert len(fake.rings) == before + 1
    point.wait(0.0)


def test_a_wait_ends_with_the_fault_that_the_device_knows(fake, device):
    queue = device.compute_queue("pm4")
    fake.paused = True
    point = queue.signal()
    fake.fault_list = [Fault("memory", "no page at 0x1234000", 100, 1, 7, 0, 0x1234000, "w")]
    with pytest.raises(DeviceFault, match="no page") as caught:
        point.wait(1.0)
    assert (caught.value.address, caught.value.access, caught.value.packet) == (0x1234000, "w", 7)


def test_a_wait_ends_with_the_fault_that_an_event_tells(fake, device):
    queue = device.compute_queue("pm4")
    fake.paused = True
    point = queue.signal()
    buffer = device.alloc(4096)
    memory = device.session._faults[0]
    fake.memory_fault = k.MemoryExceptionData(
        NotPresent=1, ReadOnly=1, va=buffer.address + 8192, gpu_id=100, event_id=memory.event_id
    )
    with pytest.raises(DeviceFault, match="bytes after the end of <Buffer") as caught:
        device.session.waiter._raise(device.session.sleep(1_000_000))
    assert caught.value.access == "w"
    fake.memory_fault = None
    with pytest.raises(ProvenHang, match="signal"):
        point.wait(1.0)


def test_a_blocked_device_is_a_proven_hang_only_when_no_thread_is_left(fake, device, monkeypatch):
    queue = device.compute_queue("pm4")
    fake.paused = True
    point = queue.signal()
    with pytest.raises(ProvenHang, match="will never be reached"):
        point.wait(1.0)
    monkeypatch.setattr("gputrace.driver.waiting.threading.active_count", lambda: 2)
    with pytest.raises(WaitTimeout, match="not reached after") as caught:
        point.wait(0.5)
    assert not isinstance(caught.value, ProvenHang)
    assert "compute 0" in str(caught.value)


def test_timelines_cross_32_bits(fake, device):
    line = device.timeline("t")
    line.set((1 << 32) - 1)
    compute, copies = device.compute_queue("pm4"), device.copy_queue()
    old = line.at((1 << 32) - 1)
    for queue in (compute, copies):
        point = queue.signal(line)
        assert line.value == point.value
        assert old.done
    new = line.at((1 << 32) + 1)
    assert new.comparisons() == [(line.address + 12, 1), (line.address + 8, 1)]
    assert old.comparisons() == [(line.address, 0xFFFF_FFFF)]
    with pytest.raises(UsageError, match="does not come after"):
        line.set(5)
    with pytest.raises(UsageError, match="would skip"):
        line.set(1 << 40)


def test_buffers_have_exact_sizes_and_are_poisoned_when_freed(device):
    buffer = device.alloc(100)
    assert buffer.size == 100
    buffer.write(np.arange(25, dtype=np.uint32))
    assert np.array_equal(buffer.view(np.uint32), np.arange(25))
    assert buffer.read(4, 96) == (24).to_bytes(4, "little")
    for refused in (
        lambda: buffer.write(b"x", 100),
        lambda: buffer.read(101),
        lambda: buffer.fill(0, 1, 100),
        lambda: buffer.view(np.uint8, 0, 101),
        lambda: buffer.fill(256),
    ):
        with pytest.raises(UsageError):
            refused()
    array = buffer.view()
    with pytest.raises(UsageError, match="in use"):
        buffer.free()
    del array
    buffer.free()
    for refused in (buffer.free, buffer.read, buffer.view, lambda: buffer.write(b"")):
        with pytest.raises(UsageError, match="freed"):
            refused()


def test_user_memory_is_this_process_own(fake, device):
    buffer = device.alloc(5000, kind="userptr")
    made = fake.calls[-2]
    assert made.flags & k.AllocFlag.USERPTR
    assert made.mmap_offset == buffer.user.address
    buffer.write(b"hello", 4990)
    assert buffer.read(5, 4990) == b"hello"
    buffer.free()


def test_peers_are_mapped_once_and_share_what_all_need(make_fake):
    fake = make_fake("gfx1100", 2)
    with open_kfd(fake) as device:
        (peer,) = device.peers
        assert peer.peers == (device,)
        buffer = device.alloc(4096, peers=[peer])
        assert buffer.block.mapped_on == (100, 101)
        before = len(fake.calls)
        device.share(buffer, peer)
        assert len(fake.calls) == before
        line = peer.timeline()
        page = next(h for h, r in fake.live.items() if r.va_addr == line.address & ~4095)
        assert fake.mapped[page] == {100, 101}


def test_a_refused_allocation_keeps_its_errno_and_leaks_nothing(fake, device):
    used, live = device.session.arena.used, len(fake.live)
    fake.fail = {"AllocMemoryOfGpu": 12}
    with pytest.raises(KfdError) as caught:
        device.alloc(4096)
    assert caught.value.errno == 12
    fake.fail = {"MapMemoryToGpu": 22}
    with pytest.raises(KfdError):
        device.alloc(4096)
    fake.fail = {"CreateQueue": 22}
    with pytest.raises(KfdError):
        device.compute_queue("pm4")
    fake.fail = {}
    assert len(fake.live) == live + 1  # a page of timelines, which stays for others
    assert device.session.arena.used == used + 4096


def test_closing_gives_everything_back(make_fake):
    before = len(os.listdir("/proc/self/fd"))
    maps = Path("/proc/self/maps").read_text().count("\n")
    for _ in range(3):
        fake = make_fake("gfx942")
        with open_kfd(fake) as device:
            device.alloc(1 << 20)
            device.alloc(4096, kind="userptr")
            device.compute_queue("pm4").signal()
            device.copy_queue()
            late = device.timeline()
        assert late.value == 0
        assert list(fake.live) == [fake.event_page]  # goes with the process, as the kernel wants
        assert not fake.events
        assert not fake.reserved
        assert not fake.is_open
        assert not any(gpus for handle, gpus in fake.mapped.items() if handle != fake.event_page)
        assert all(queue.gone for queue in fake.queues.values())
    assert len(os.listdir("/proc/self/fd")) == before
    assert Path("/proc/self/maps").read_text().count("\n") <= maps + 8


def test_an_array_may_outlive_its_device(make_fake):
    fake = make_fake()
    with open_kfd(fake) as device:
        array = device.alloc(4096).view()
        array[:] = 7
    assert array.sum() == 7 * 4096
    assert list(fake.reserved) == [device.session.arena.base]  # nothing else may come there
    del array
    fake.is_open = True
    fake.release(device.session.arena.base, device.session.arena.size)


def test_two_sessions_of_one_process_have_arenas_of_their_own(make_fake):
    with open_kfd(make_fake()) as first, open_kfd(make_fake()) as second:
        a, b = first.alloc(4096), second.alloc(4096)
        assert a.address != b.address
        address = a.address
    with open_kfd(make_fake()) as again:
        assert again.alloc(4096).address == address
