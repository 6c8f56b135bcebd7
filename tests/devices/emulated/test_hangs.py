"""Queues that stand still: who waits for whom, and what each report says."""

import pytest

from gputrace.formats import pm4
from gputrace.formats.ioctl import QueueType
from gputrace.formats.operations import Compare
from gputrace.formats.pm4 import ReleaseData, ReleaseMemGfx11


@pytest.fixture
def data(bench):
    return bench.memory(4096)


def wait(address, reference=1):
    return pm4.WaitRegMem(function=Compare.GE, address=address, reference=reference)


def signal(address, value=1):
    return ReleaseMemGfx11(address=address, data=value, data_sel=ReleaseData.DATA_64)


def stalls(bench):
    bench.run()
    return bench.kfd.stalls()


def test_two_queues_in_a_circle_are_a_deadlock_with_its_packets(bench, data):
    one, two = bench.queue(), bench.queue()
    x, y = data.address, data.address + 8
    one.put(pm4.Nop(body=(0,)), wait(x), signal(y))
    two.put(wait(y), pm4.Nop(body=(0,)), signal(x))
    first, second = stalls(bench)
    assert (first.kind, second.kind) == ("deadlock", "deadlock")
    assert first.cycle == ((0, 0, 1), (0, 1, 0))
    assert second.cycle == ((0, 1, 0), (0, 0, 1))
    assert (first.writer, second.writer) == ((0, 1, 2), (0, 0, 2))
    assert "packet 1 of queue 0 -> packet 0 of queue 1 -> back" in first.text


def test_a_third_queue_behind_a_deadlock_is_blocked(bench, data):
    at = data.address
    queues = [bench.queue() for _ in range(3)]
    queues[0].put(wait(at + 16), signal(at + 24))
    queues[1].put(wait(at), signal(at + 8))
    queues[2].put(wait(at + 8), signal(at), signal(at + 16))
    found = stalls(bench)
    assert [(one.queue, one.kind) for one in found] == [
        (1, "deadlock"), (2, "deadlock"), (0, "blocked"),
    ]  # fmt: skip


def test_a_queue_that_waits_for_itself_is_a_deadlock(bench, data):
    ring = bench.queue()
    ring.put(wait(data.address), signal(data.address))
    (stall,) = stalls(bench)
    assert (stall.kind, stall.cycle) == ("deadlock", ((0, 0, 0),))


def test_a_value_that_is_too_small_frees_nobody(bench, data):
    ring, other = bench.queue(), bench.queue()
    other.put(signal(data.address, 6))
    ring.put(wait(data.address, 7))
    bench.run()
    other.put(wait(data.address + 8), signal(data.address, 6))
    found = stalls(bench)
    assert [one.kind for one in found] == ["stall", "stall"]
    late = next(one for one in found if one.queue == 0)
    assert late.writer == (0, 1, 0)
    assert "no packet that is left would write that; packet 0 of queue 1 wrote" in late.text


def test_what_waits_for_a_queue_that_waits_for_the_cpu_comes_after_it(bench, data):
    one, two = bench.queue(), bench.queue()
    one.put(wait(data.address), pm4.WriteData(address=data.address + 8, data=(5,)))
    two.put(wait(data.address + 64), signal(data.address))
    found = stalls(bench)
    assert [(one.queue, one.kind) for one in found] == [(1, "stall"), (0, "blocked")]
    assert "packet 1 of queue 1 would free it, which stands still itself" in found[1].text


def test_a_circle_with_a_way_out_is_no_deadlock(bench, data):
    # What the first two wait for stands behind each other's wait, but the CPU can open the third
    # or the fourth queue, and from there both come free.
    x, y, gate, door = range(data.address, data.address + 32, 8)
    queues = [bench.queue() for _ in range(4)]
    queues[0].put(wait(x), signal(y))
    queues[1].put(wait(y), signal(x))
    queues[2].put(wait(gate), signal(x))
    queues[3].put(wait(door), signal(gate))
    found = stalls(bench)
    assert [(one.queue, one.kind, one.cycle) for one in found] == [
        (3, "stall", ()), (0, "blocked", ()), (1, "blocked", ()), (2, "blocked", ()),
    ]  # fmt: skip
    data.view[24] = 1  # the door
    assert stalls(bench) == ()


def test_a_way_that_leads_back_into_the_circle_is_none(bench, data):
    x, y, gate = range(data.address, data.address + 24, 8)
    queues = [bench.queue() for _ in range(3)]
    queues[0].put(wait(x), signal(y), signal(gate))
    queues[1].put(wait(y), signal(x))
    queues[2].put(wait(gate), signal(x))
    assert {one.kind for one in stalls(bench)} == {"deadlock"}


def test_packets_in_indirect_buffers_and_copy_queues_count(bench, data):
    compute, copies = bench.queue(), bench.queue(QueueType.SDMA)
    code = bench.memory(4096)
    body = [*wait(data.address).encode(), *signal(data.address + 8).encode()]
    code.view.cast("I")[: len(body)] = memoryview(
        b"".join(v.to_bytes(4, "little") for v in body)
    ).cast("I")
    compute.put(pm4.IndirectBuffer(address=code.address, dwords_there=len(body)))
    packet = bench.family.sdma.packet
    copies.put(
        packet("PollRegMem")(function=Compare.GE, address=data.address + 8, reference=1),
        packet("Fence")(address=data.address, data=1),
    )
    first, second = stalls(bench)
    assert (first.kind, second.kind) == ("deadlock", "deadlock")
    assert first.place == code.address


def test_a_label_names_what_is_waited_for(bench, data):
    bench.kfd.label(data.address, 4096, "buffer", "timeline")
    ring = bench.queue()
    ring.put(wait(data.address + 16, 3))
    (stall,) = stalls(bench)
    assert "(buffer 'timeline' + 0x10), which is 0x0" in stall.text
    assert bench.kfd.hang_report() in (f"queue 0 of device 0, packet 0 at {stall.place:#x}: "
                                       + stall.text)


def test_the_last_writer_of_an_address_is_known(bench, data):
    ring = bench.queue()
    ring.put(
        pm4.WriteData(address=data.address, data=(1, 2, 3)),
        signal(data.address + 8),
        pm4.DmaData(source=data.address, destination=data.address + 64, byte_count=16),
    )
    bench.run()
    found = [bench.kfd.last_writer(data.address + at) for at in (4, 8, 79, 80)]
    assert [one and one.packet for one in found] == [0, 1, 2, None]
