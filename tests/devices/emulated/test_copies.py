"""SDMA packets on an emulated queue, in every dialect."""

import numpy as np
import pytest

from gputrace.families import FAMILIES, family
from gputrace.formats import pm4
from gputrace.formats.ioctl import CreateEvent, EventType, QueueType
from gputrace.formats.operations import AtomicOperation, Compare

SDMA = QueueType.SDMA


@pytest.fixture(params=FAMILIES)
def engine(request, make_bench):
    bench = make_bench(request.param)
    return bench, bench.queue(SDMA), bench.memory(1 << 20), family(request.param).sdma.packet


def test_copy_fill_write_and_fence(engine):
    bench, ring, data, packet = engine
    at = data.address
    data.view[:5] = b"hello"
    ring.put(
        packet("CopyLinear")(count=4, source=at, destination=at + 101),
        packet("CopyBroadcast")(
            count=4, source=at, destination=at + 201, destination_2=at + 301
        ),
        packet("ConstantFill")(destination=at + 400, data=0x44434241, count=7),
        packet("ConstantFill")(fill_size=0, destination=at + 501, data=0x41, count=2),
        packet("WriteLinear")(destination=at + 600, data=(1, 2)),
        packet("Fence")(address=at + 700, data=9),
    )
    bench.run()
    assert bench.kfd.faults() == ()
    for place in (101, 201, 301):
        assert bytes(data.view[place - 1 : place + 6]) == b"\0hello\0"
    assert bytes(data.view[400:409]) == b"ABCDABCD\0"
    assert bytes(data.view[500:505]) == b"\0AAA\0"
    assert bytes(data.view[600:608]) == b"\1\0\0\0\2\0\0\0"
    assert data.view[700] == 9
    assert ring.read == 4 * ring.at


def test_a_long_copy_arrives_whole(engine):
    bench, ring, data, packet = engine
    source = bytes(range(256)) * 1200
    data.view[: len(source)] = source
    to = data.address + (1 << 19)
    ring.put(
        packet("CopyLinear")(count=len(source) - 1, source=data.address, destination=to)
    )
    bench.run()
    assert bytes(data.view[1 << 19 : (1 << 19) + len(source)]) == source


@pytest.mark.parametrize("unit", [0, 2, 4])
def test_a_box_moves_between_images(engine, unit):
    bench, ring, data, packet = engine
    source = np.arange(5 * 6 * 7 << unit, dtype=np.uint8).reshape(5, 6, 7 << unit)
    target = np.full((4, 9, 10 << unit), 0xEE, np.uint8)
    data.view[: source.size] = source.tobytes()
    data.view[1 << 16 : (1 << 16) + target.size] = target.tobytes()
    ring.put(
        packet("CopySubWindow")(
            element_size=unit, source=data.address, destination=data.address + (1 << 16),
            src_x=1, src_y=2, src_z=1, src_pitch=6, src_slice_pitch=41,
            dst_x=3, dst_y=4, dst_z=2, dst_pitch=9, dst_slice_pitch=89,
            rect_x=4, rect_y=3, rect_z=1,
        )
    )  # fmt: skip
    bench.run()
    assert bench.kfd.faults() == ()
    box = source[1:3, 2:6, 1 << unit : 6 << unit]
    target[2:4, 4:8, 3 << unit : 8 << unit] = box
    assert bytes(data.view[1 << 16 : (1 << 16) + target.size]) == target.tobytes()


def test_poll_atomic_and_timestamp(engine):
    bench, ring, data, packet = engine
    at = data.address
    ring.put(
        packet("PollRegMem")(function=Compare.GE, address=at, reference=3),
        packet("Atomic")(atomic=AtomicOperation.ADD_RTN_64, address=at + 8, source=2**64 - 1),
        packet("TimestampGetGlobal")(address=at + 64),
    )
    bench.run()
    (stall,) = bench.kfd.stalls()
    assert (stall.address, stall.packet) == (at, 0)
    data.view[0] = 3
    bench.run()
    assert bytes(data.view[8:16]) == b"\xff" * 8
    assert any(data.view[64:72])


def test_a_trap_sets_the_event_whose_mailbox_a_fence_wrote(engine):
    bench, ring, _, packet = engine
    page = bench.memory(32768)
    handle = next(
        handle
        for handle, buffer in bench.kfd._process.buffers.items()
        if buffer.address == page.address
    )
    answer = bench.kfd.ioctl(CreateEvent(event_page_offset=handle, event_type=EventType.SIGNAL))
    slot = page.address + 8 * answer.event_slot_index
    ring.put(
        packet("Fence")(address=slot, data=answer.event_id),
        packet("Trap")(int_context=answer.event_id),
    )
    bench.run()
    event = bench.kfd._process.events.find(answer.event_id, "")
    assert event.signalled
    assert bytes(page.view[8:16]) == b"\xff" * 8


def indirect(packet, address, count):
    return packet("IndirectBuffer")(address=address, dwords_there=count)


def test_an_indirect_buffer_must_end_at_eight_dwords(engine):
    bench, ring, data, packet = engine
    body = [*packet("Fence")(address=data.address, data=7).encode(), 0, 0, 0, 0]
    data.view[4096 : 4096 + 32] = b"".join(v.to_bytes(4, "little") for v in body)
    ring.dwords([0, 0])
    ring.put(indirect(packet, data.address + 4096, 8))
    bench.run()
    assert data.view[0] == 7
    ring.put(indirect(packet, data.address + 4096, 8))
    bench.run()
    assert "not at a multiple of 8" in bench.kfd.faults()[0].text


@pytest.mark.parametrize("value", [0, 1])
def test_cond_exec_runs_on_equality(engine, value):
    bench, ring, data, packet = engine
    data.view[0] = value
    fence = packet("Fence")(address=data.address + 8, data=1)
    ring.put(packet("CondExec")(address=data.address, exec_count=fence.dwords), fence)
    bench.run()
    assert data.view[8] == value


def test_a_packet_may_not_go_over_the_end(engine):
    bench, ring, data, packet = engine
    ring.dwords([0] * 1022)
    bench.run(200)
    ring.put(packet("Fence")(address=data.address, data=1))
    bench.run()
    assert "goes over the end of the ring" in bench.kfd.faults()[0].text


def test_what_is_not_modelled_is_refused_by_name(engine):
    bench, ring, data, packet = engine
    ring.put(packet("Semaphore")(address=data.address))
    bench.run()
    assert bench.kfd.refused == {"SDMA SEMAPHORE": 1}


def test_a_count_beyond_the_engine_is_an_error(make_bench):
    bench = make_bench("gfx942")
    ring, data = bench.queue(SDMA), bench.memory(4096)
    packet = bench.family.sdma.packet
    ring.put(
        packet("CopyLinear")(count=1 << 22, source=data.address, destination=data.address)
    )
    bench.run()
    assert "22 bits" in bench.kfd.faults()[0].text


def test_compute_and_copies_wait_for_each_other(make_bench):
    bench = make_bench("gfx1100")
    data = bench.memory(4096)
    compute, copies = bench.queue(), bench.queue(SDMA)
    at, packet = data.address, bench.family.sdma.packet
    copies.put(
        packet("PollRegMem")(function=Compare.GE, address=at, reference=1),
        packet("CopyLinear")(count=3, source=at + 64, destination=at + 128),
        packet("Fence")(address=at + 8, data=1),
    )
    compute.put(
        pm4.WriteData(address=at + 64, data=(1234,)),
        pm4.ReleaseMemGfx11(address=at, data=1, data_sel=pm4.ReleaseData.LOW_32),
        pm4.WaitRegMem(function=Compare.GE, address=at + 8, reference=1),
        pm4.CopyData(
            src_sel=pm4.CopyFrom.L2, dst_sel=pm4.CopyTo.L2, source=at + 128, destination=at + 192
        ),
    )
    bench.run()
    assert bench.kfd.stalls() == ()
    assert int.from_bytes(data.view[192:196], "little") == 1234
