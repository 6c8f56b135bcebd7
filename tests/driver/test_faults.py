"""How waits end when something is wrong: faults that name the packet, hangs, and interrupts."""

import struct

import pytest

from gputrace import driver
from gputrace.driver import DeviceFault, ProvenHang, WaitTimeout
from gputrace.families import FAMILIES
from gputrace.formats import ioctl
from tests.driver.test_launch import built


@pytest.fixture(params=FAMILIES)
def device(request):
    with driver.open(f"emu:{request.param}") as opened:
        yield opened


@pytest.fixture(params=["pm4", "aql", "copy"])
def queue(request, device):
    return device.copy_queue() if request.param == "copy" else device.compute_queue(request.param)


def store(queue, buffer, offset=0):
    if isinstance(queue, driver.SdmaQueue):
        queue.fill(buffer, 1, 4, offset)
    else:
        queue.write(buffer, b"abcd", offset)


def test_an_access_to_freed_memory_names_packet_submission_and_buffer(device, queue):
    good, gone = device.alloc(4096), device.alloc(4096, name="frames")
    for _ in range(3):
        store(queue, good)
    with queue.batch():
        store(queue, gone, 64)
        done = queue.signal()
        gone.free()
    with pytest.raises(DeviceFault) as caught:
        done.wait(1.0)
    fault = caught.value
    assert (fault.address, fault.access, fault.queue) == (gone.address + 64, "w", queue.queue_id)
    assert fault.packet == 3
    assert "submitted as: " + queue.ring.log[3].what in str(fault)
    assert "'frames' + 0x40" in str(fault)
    assert "freed" in str(fault)
    assert hex(gone.address + 64) in queue.ring.log[3].what


def test_the_first_fault_is_told_to_every_later_wait(device):
    first, second = device.compute_queue("pm4"), device.copy_queue()
    gone = device.alloc(4096)
    first.write(gone, b"abcd")
    gone.free()
    texts = set()
    for queue in (first, second, first):
        with pytest.raises(DeviceFault) as caught:
            queue.signal().wait(1.0)
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_bits_that_are_no_packet_stop_the_queue_by_name(device):
    pm4, sdma = device.compute_queue("pm4"), device.copy_queue()
    pm4.submit(struct.pack("<2I", 0xC000_FF00, 0), "nonsense")
    with pytest.raises(DeviceFault, match="submitted as: nonsense") as caught:
        pm4.signal().wait(1.0)
    assert (caught.value.queue, caught.value.packet) == (pm4.queue_id, 0)
    sdma.submit(struct.pack("<2I", 0xFFFF_FFFF, 0), "noise")
    assert device.session.kfd.faults()[-1].queue == pm4.queue_id
    with pytest.raises(DeviceFault):
        sdma.signal().wait(1.0)


def test_a_wrong_count_is_found_where_the_stream_breaks(device):
    queue, buffer = device.compute_queue("pm4"), device.alloc(4096)
    queue.write(buffer, b"good")
    words = queue.packets.write(buffer.address + 8, b"abcdefgh").encode()
    words[0] += 1 << 16  # one dword more than there is: it eats the header of the next packet
    queue.submit(struct.pack(f"<{len(words)}I", *words), "a write with a wrong count")
    with pytest.raises(DeviceFault) as caught:
        queue.signal().wait(1.0)
    assert caught.value.packet == 2
    assert buffer.read(4) == b"good"


def test_a_timeout_is_not_taken_for_a_hang_while_something_runs():
    with driver.open("emu:gfx1100") as device:
        queue, out = device.compute_queue("pm4"), device.alloc(4096)
        for step in range(1000):
            queue.write(out, step.to_bytes(4, "little"), 4 * step)
        done = queue.signal()
        with pytest.raises(WaitTimeout, match="not reached after") as caught:
            done.wait(1e-5)
        assert not isinstance(caught.value, ProvenHang)
        assert "at write of 4 bytes" in str(caught.value)
        done.wait(30.0)


def test_waits_end_by_an_interrupt_at_the_time_of_the_work(device, queue):
    answers, kfd = [], device.session.kfd
    plain = kfd.ioctl

    def ioctl_(record, tail=None):
        answer = plain(record, tail)
        if isinstance(record, ioctl.WaitEvents):
            answers.append(answer.wait_result)
        return answer

    kfd.ioctl = ioctl_
    target, copies = device.alloc(1 << 16), device.copy_queue()
    for step in range(600):  # takes longer than a wait polls
        copies.fill(target, step)
    queue.wait(copies.signal())
    done = queue.signal()
    start = kfd.clock()
    done.wait(30.0)
    assert ioctl.WaitResult.COMPLETE in answers
    assert kfd.clock() - start < 5_000_000
    del kfd.ioctl


def test_a_deadlock_of_two_queues_is_proven_and_named(device):
    first, second = device.compute_queue("pm4"), device.copy_queue()
    one, two = device.timeline("one"), device.timeline("two")
    first.wait(two.at(1))
    first.signal(one)
    second.wait(one.at(1))
    done = second.signal(two)
    with pytest.raises(ProvenHang) as caught:
        done.wait(5.0)
    text = str(caught.value)
    assert f"queue {first.queue_id}: waits for" in text
    assert f"queue {second.queue_id}: waits for" in text


def test_a_fault_of_hardware_says_what_every_queue_was_doing(make_fake):
    fake = make_fake("gfx942")
    with driver.open_kfd(fake) as device:
        queue, buffer = device.compute_queue("pm4"), device.alloc(4096)
        fake.paused = True
        fake.hardware = True
        queue.write(buffer, b"abcd")
        done = queue.signal()
        fake.memory_fault = ioctl.MemoryExceptionData(
            NotPresent=1, va=0x7000, gpu_id=device.gpu_id, event_id=0
        )
        with pytest.raises(DeviceFault, match="page fault at 0x7000") as caught:
            done.wait(1.0)
        assert "at write of 4 bytes" in str(caught.value)


def test_a_wave_that_stops_is_told_with_its_place():
    with driver.open("emu:gfx942") as device:
        queue, gone = device.compute_queue("aql"), device.alloc(4096, name="weights")
        kernel = device.load(built("gfx942"))["fill"]
        gone.free()
        done = queue.launch(kernel, 4, 64, [gone.address, 1])
        with pytest.raises(DeviceFault, match=r"kernel fill.*weights") as caught:
            done.wait(1.0)
        assert caught.value.kernel == "fill"
        assert caught.value.wave is not None
        assert "submitted as: launch of fill, grid 4x1x1" in str(caught.value)
