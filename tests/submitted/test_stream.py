"""What a trace submitted, held against what the emulated device said of the same run."""

import random
import struct
from pathlib import Path

import pytest

from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from gputrace.formats import aql, pm4, sdma
from gputrace.formats.ioctl import DestroyQueue, QueueType, UpdateQueue
from gputrace.formats.operations import Compare
from gputrace.formats.packets import Packet
from gputrace.submitted.stream import Placed, Submission, submissions
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter
from tests.devices.emulated.conftest import Ring
from tests.devices.emulated.test_architected import Setup
from tests.replay.recording import poll, put, recorded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.gtrace"


def read(path: Path) -> list[Submission]:
    with TraceReader(path) as reader:
        return list(submissions(reader))


def packets(path: Path) -> list[Placed]:
    return [placed for submission in read(path) for placed in submission.packets]


def names(placed: list[Placed]) -> list[str]:
    return [type(one.record).__name__ if one.record else one.problem for one in placed]


def some_pm4(rng: random.Random, at: int) -> list[pm4.Packet]:
    """Packets that pass, of many lengths."""
    return [
        rng.choice((
            pm4.Nop(body=range(rng.randrange(9))),
            pm4.Filler(),
            pm4.WriteData(address=at + 64, data=[rng.getrandbits(32)] * rng.randrange(1, 9)),
            poll(at, 0),
        ))
        for _ in range(rng.randrange(1, 12))
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_a_stalled_pm4_packet_has_the_number_and_the_place_that_the_device_reports(
    path: Path, seed: int
) -> None:
    """Several laps of a small ring, with packets over its end and indirect buffers."""
    rng = random.Random(seed)
    with recorded(path) as bench:
        data = bench.memory(8192)
        buffer = bench.memory(4096)
        ring = bench.queue()
        sent = 0
        for _ in range(rng.randrange(100, 200)):
            batch = some_pm4(rng, data.address)
            sent += len(batch)
            put(ring, *batch)
            if rng.random() < 0.2:
                inner = b"".join(p.to_bytes() for p in some_pm4(rng, data.address))
                buffer.view[: len(inner)] = inner
                put(ring, pm4.IndirectBuffer(address=buffer.address, dwords_there=len(inner) // 4))
                sent += 1
            bench.run()
        put(ring, poll(data.address))
        bench.run()
        (stall,) = bench.kfd.stalls()
    assert stall.packet == sent
    found = packets(path)
    assert all(one.record is not None for one in found)
    (blocked,) = [one for one in found if (one.queue, one.number) == (stall.queue, stall.packet)]
    assert (blocked.address, blocked.depth) == (stall.place, 0)
    assert blocked.record == poll(data.address)
    outer = [one for one in found if not one.depth]
    assert [one.number for one in outer] == list(range(sent + 1))


def padded(ring: Ring, batch: list[Packet], nop: Packet) -> None:
    """Put packets, with NOPs where the next one would go over the end of the ring."""
    at, given = ring.at, []
    for packet in batch:
        left = 1024 - at % 1024
        filling = [nop] * (left if left < packet.dwords else 0)
        at += len(filling) + packet.dwords
        given += [*filling, packet]
    put(ring, *given)


@pytest.mark.parametrize("target", sorted(FAMILIES))
def test_a_stalled_sdma_packet_has_the_number_and_place_of_the_device(
    path: Path, target: str
) -> None:
    rng = random.Random(target)
    with recorded(path, target) as bench:
        data = bench.memory(4096)
        ring = bench.queue(QueueType.SDMA)
        dialect = bench.family.sdma
        fence, nop = dialect.packet("Fence"), dialect.packet("Nop")
        wait = dialect.packet("PollRegMem")(
            function=Compare.GE, in_memory=True, address=data.address, reference=1,
            retry_count=0xFFF,
        )  # fmt: skip
        for turn in range(500):
            batch = [fence(address=data.address + 64, data=turn)] * rng.randrange(1, 4)
            padded(ring, batch, nop())
            bench.run()
        padded(ring, [wait], nop())
        bench.run()
        (stall,) = bench.kfd.stalls()
    found = packets(path)
    assert all(one.record is not None for one in found)
    (blocked,) = [one for one in found if one.number == stall.packet]
    assert (blocked.address, blocked.record) == (stall.place, wait)


def test_aql_slots_are_numbered_as_the_device_does_over_laps_of_the_ring(path: Path) -> None:
    with recorded(path, "gfx942") as bench:
        setup = Setup(bench)
        done, gate = setup.signal(200), setup.signal(1)
        for _ in range(150):
            setup.put(aql.BarrierAnd(completion_signal=done, barrier=True))
            bench.run()
        setup.put(aql.BarrierAnd(dep_signal_2=gate), aql.BarrierAnd(completion_signal=done))
        bench.run()
        (stall,) = bench.kfd.stalls()
    found = packets(path)
    assert [one.number for one in found] == list(range(152))
    assert (found[150].number, found[150].address) == (stall.packet, stall.place)
    assert found[150].record == aql.BarrierAnd(dep_signal_2=gate)


def test_a_slot_that_is_not_published_comes_again_when_it_is(path: Path) -> None:
    with recorded(path, "gfx942") as bench:
        setup = Setup(bench)
        setup.put(aql.BarrierAnd(), aql.BarrierAnd(barrier=True), ring=False)
        setup.ring.view[0] = aql.PacketType.INVALID
        bench.kfd.doorbell(setup.doorbell, 1)
        bench.run()
        setup.ring.view[0] = aql.PacketType.BARRIER_AND
        bench.kfd.doorbell(setup.doorbell, 0)
        bench.run()
    first, second = read(path)
    assert names(first.packets) == ["the slot was not published when the doorbell rang"]
    assert [one.record for one in second.packets] == [
        aql.BarrierAnd(), aql.BarrierAnd(barrier=True)
    ]  # fmt: skip
    assert [one.number for one in second.packets] == [0, 1]


def test_pm4_in_an_aql_packet_and_chained_buffers_are_followed(path: Path) -> None:
    with recorded(path, "gfx942") as bench:
        setup = Setup(bench)
        code = bench.memory(4096)
        tail = pm4.WriteData(address=0x1000, data=(1,))  # nobody mapped this
        chain = pm4.IndirectBuffer(address=code.address + 512, dwords_there=5, chain=True)
        head = [pm4.Nop(body=(1, 2)), chain]
        words = b"".join(packet.to_bytes() for packet in head)
        code.view[: len(words)] = words
        code.view[512 : 512 + 20] = tail.to_bytes()
        setup.put(aql.BarrierAnd())
        setup.put(aql.VendorPm4(ib_address=code.address, ib_size=len(words) // 4))
        bench.run()
        (fault,) = bench.kfd.faults()
    found = packets(path)
    assert names(found) == ["BarrierAnd", "VendorPm4", "Nop", "IndirectBuffer", "WriteData"]
    assert [one.depth for one in found] == [0, 0, 1, 1, 1]
    assert (found[-1].number, found[-1].address) == (fault.packet, fault.place)


def test_a_fault_in_an_indirect_buffer_is_found_by_number_and_place(path: Path) -> None:
    with recorded(path) as bench:
        buffer = bench.memory(4096)
        ring = bench.queue()
        inner = [pm4.Nop(body=(7,)), pm4.WriteData(address=0x1000, data=(5, 6))]
        words = b"".join(packet.to_bytes() for packet in inner)
        buffer.view[: len(words)] = words
        put(ring, pm4.Nop(), pm4.IndirectBuffer(address=buffer.address, dwords_there=9), pm4.Nop())
        bench.run()
        (fault,) = bench.kfd.faults()
        buffer.view[: len(words)] = bytes(len(words))  # what ran is what the trace tells
        bench.kfd.idle()
    found = packets(path)
    (there,) = [one for one in found if one.address == fault.place]
    assert (there.number, there.record) == (fault.packet, inner[1])


def test_each_lap_of_the_ring_is_read_as_it_was_when_its_doorbell_rang(path: Path) -> None:
    with recorded(path) as bench:
        data = bench.memory(4096)
        ring = bench.queue()
        written = []
        for turn in range(400):
            written.append(pm4.WriteData(address=data.address, data=(turn,) * (1 + turn % 7)))
            put(ring, written[-1])
            bench.run()
    assert [one.record for one in packets(path)] == written


def test_a_packet_that_a_later_doorbell_completes_comes_again_whole(path: Path) -> None:
    with recorded(path) as bench:
        data = bench.memory(4096)
        ring = bench.queue()
        packet = pm4.WriteData(address=data.address, data=(1, 2, 3))
        words = packet.encode()
        put(ring, pm4.Nop())
        ring.dwords(words[:4])
        bench.run()
        (stall,) = bench.kfd.stalls()
        ring.dwords([*words[4:], *pm4.Nop().encode()])
        bench.run()
    _, first, second = read(path)
    assert names(first.packets) == ["WRITE_DATA of 7 dwords, 4 are there"]
    assert first.packets[0].words == tuple(words[:4])
    assert first.packets[0].number == second.packets[0].number == stall.packet
    assert names(second.packets) == ["WriteData", "Nop"]
    assert second.packets[0].record == packet


def test_words_that_nothing_explains_are_reported_and_the_rest_is_read(path: Path) -> None:
    with recorded(path) as bench:
        ring = bench.queue()
        good = pm4.Nop(body=(1,))
        ring.dwords([*good.encode(), 3 << 30 | 1 << 16 | 0xFE << 8, 0, 0, *good.encode()])
        bench.run()
        (fault,) = bench.kfd.faults()
        ring.dwords([0x1234, 1, 2, 3])
        put(ring, good)
    first, second, third = read(path)
    assert names(first.packets) == ["Nop", "unknown opcode 0xfe", "Nop"]
    assert (first.packets[1].number, first.packets[1].address) == (fault.packet, fault.place)
    assert len(first.packets[1].words) == 3
    assert names(second.packets) == ["a packet of type 0, not 3 or 2"]
    assert second.packets[0].words == (0x1234, 1, 2, 3)
    assert names(third.packets) == ["Nop"]


def test_a_wrong_count_swallows_what_follows_as_the_engine_does(path: Path) -> None:
    """The classic slip: the header says more dwords than were written."""
    with recorded(path) as bench:
        data = bench.memory(4096)
        ring = bench.queue()
        words = pm4.WriteData(address=data.address, data=(1, 2)).encode()
        words[0] += 6 << 16
        ring.dwords([*words, *pm4.Nop(body=(0,)).encode()])
        bench.run()
        (stall,) = bench.kfd.stalls()
    (one,) = packets(path)
    assert one.problem == "WRITE_DATA of 12 dwords, 8 are there"
    assert one.number == stall.packet
    assert "12 dwords, 8 are written" in stall.text


@pytest.mark.parametrize(("value", "skips"), [(0, True), (1, False)])
def test_what_a_condition_passes_over_is_marked_and_not_counted(
    path: Path, value: int, skips: bool
) -> None:
    with recorded(path) as bench:
        data = bench.memory(4096)
        data.view[0] = value
        ring = bench.queue()
        passed = [pm4.Nop(body=(1, 2)), pm4.Nop()]
        condition = pm4.CondExec(address=data.address, exec_count=4)
        put(ring, condition, *passed, pm4.Nop(body=(9,)), poll(data.address + 64))
        bench.run()
        (stall,) = bench.kfd.stalls()
    found = packets(path)
    assert [one.record for one in found][:3] == [condition, *passed]
    assert [one.skipped for one in found] == [False, skips, skips, False, False]
    (blocked,) = [one for one in found if one.address == stall.place]
    assert blocked.number == stall.packet


def test_a_doorbell_out_of_the_ring_is_reported(path: Path) -> None:
    with recorded(path) as bench:
        ring = bench.queue()
        put(ring, pm4.Nop())
        bench.run()
        bench.kfd.doorbell(ring.doorbell, 5000)
        bench.run()
        (fault,) = bench.kfd.faults()
    first, second = read(path)
    assert names(first.packets) == ["Nop"]
    assert second.packets == []
    assert "the doorbell leaves the ring" in second.problem
    assert "the doorbell leaves the ring" in fault.text


def made_up(path: Path, words: list[int], *, value: int | None = None, size: int = 4096) -> None:
    """Write a trace of one PM4 submission by hand."""
    base = 0x7F00_0000_0000
    with TraceWriter(path, events.Header("test", family="gfx942")) as writer:
        writer.append(events.Map(base, 1 << 16, "fd:3", 0, 3))
        writer.append(events.QueueMap(4, 1, QueueType.COMPUTE, base, size, 0, 0, 0))
        writer.memory(base, struct.pack(f"<{len(words)}I", *words), "cpu")
        rung = len(words) if value is None else value
        writer.append(events.DoorbellIntent(1, 4, 0x10, rung))


def test_buffers_that_chain_in_a_circle_or_lie_nowhere_end(path: Path) -> None:
    base = 0x7F00_0000_0000
    circle = pm4.IndirectBuffer(address=base, dwords_there=4, chain=True).encode()
    made_up(path, circle)
    assert names(packets(path))[-1] == "the buffers chain to themselves: an endless loop"
    nowhere = pm4.IndirectBuffer(address=0x1000, dwords_there=1 << 19).encode()
    made_up(path, nowhere)
    assert names(packets(path))[-1] == "the trace does not hold these 524288 dwords"


def test_a_submission_larger_than_sense_is_cut_short(path: Path) -> None:
    base = 0x7F00_0000_0000
    run = pm4.IndirectBuffer(address=base, dwords_there=1024).encode()
    made_up(path, run * 256)  # each of 256 packets runs all of them again, five levels deep
    (submission,) = read(path)
    assert "in one submission; the rest is left out" in submission.problem
    assert len(submission.packets) <= 1 << 17


def test_a_ring_that_the_trace_does_not_hold_and_an_unknown_family(path: Path) -> None:
    with TraceWriter(path, events.Header("test", family="gfx942")) as writer:
        writer.append(events.QueueMap(4, 1, QueueType.COMPUTE, 0x5000, 4096, 0, 0, 0))
        writer.append(events.DoorbellIntent(1, 4, 0x10, 4))
    (submission,) = read(path)
    assert submission.problem == "the trace does not hold the ring at 0x5000"
    with TraceWriter(path, events.Header("test", family="gfx1")) as writer:
        writer.append(events.QueueMap(4, 1, 0, 0x5000, 4096, 0, 0, 0))
    with pytest.raises(UsageError, match="unknown GPU target 'gfx1'"):
        read(path)


def test_sdma_packets_may_not_go_over_the_end_of_the_ring(path: Path) -> None:
    with recorded(path) as bench:
        ring = bench.queue(QueueType.SDMA)
        put(ring, *[sdma.Nop()] * 1022)
        bench.run()
        ring.dwords(bench.family.sdma.packet("Fence")(address=0x1000, data=1).encode())
        bench.run()
        (fault,) = bench.kfd.faults()
    one = next(one for one in packets(path) if one.record is None)
    assert (one.number, one.address) == (fault.packet, fault.place)
    assert one.problem == "FENCE of 4 dwords, 2 are there"


def test_a_condition_that_is_not_whole_waits_for_what_it_passes_over(path: Path) -> None:
    with recorded(path) as bench:
        data = bench.memory(4096)
        ring = bench.queue()
        condition = pm4.CondExec(address=data.address, exec_count=3)
        put(ring, condition, pm4.Nop())
        bench.run()
        (stall,) = bench.kfd.stalls()
        put(ring, pm4.Nop(body=(1,)), poll(data.address))
        bench.run()
        (later,) = bench.kfd.stalls()
    first, second = read(path)
    assert names(first.packets) == ["waits for 8 dwords with what it passes over, 6 are there"]
    assert first.packets[0].number == stall.packet
    assert names(second.packets) == ["CondExec", "Nop", "Nop", "WaitRegMem"]
    assert (second.packets[3].number, second.packets[3].address) == (later.packet, later.place)


def test_conditions_in_buffers_and_buffers_of_copy_engines(path: Path) -> None:
    with recorded(path) as bench:
        data, buffer = bench.memory(4096), bench.memory(4096)
        ring = bench.queue()
        inner = [pm4.CondExec(address=data.address, exec_count=2), pm4.Nop(body=(1,)), pm4.Nop()]
        raw = b"".join(packet.to_bytes() for packet in inner)
        buffer.view[: len(raw)] = raw
        put(ring, pm4.IndirectBuffer(address=buffer.address, dwords_there=len(raw) // 4))
        bench.run()
        copies = bench.queue(QueueType.SDMA)
        dialect = bench.family.sdma
        fence = dialect.packet("Fence")(address=data.address + 64, data=5)
        buffer.view[1024 : 1024 + 16] = fence.to_bytes()
        run = dialect.packet("IndirectBuffer")(address=buffer.address + 1024, dwords_there=4)
        put(copies, *[dialect.packet("Nop")()] * (8 - run.dwords), run)
        bench.run()
        assert data.view[64] == 5
    first, second = read(path)
    assert [(type(one.record).__name__, one.depth, one.skipped) for one in first.packets] == [
        ("IndirectBuffer", 0, False), ("CondExec", 1, False), ("Nop", 1, True), ("Nop", 1, False)
    ]  # fmt: skip
    assert (second.packets[-1].record, second.packets[-1].depth) == (fence, 1)
    assert second.packets[-1].number == second.packets[-2].number == 8 - run.dwords


def test_producers_of_an_aql_queue_may_ring_in_any_order(path: Path) -> None:
    with recorded(path, "gfx942") as bench:
        setup = Setup(bench)
        setup.put(*[aql.BarrierAnd()] * 3)
        bench.run()
        setup.put(*[aql.BarrierAnd()] * 2, ring=False)
    late = path.with_suffix(".late.gtrace")
    with TraceReader(path) as reader, TraceWriter(late, reader.header) as writer:
        for event in reader:
            if isinstance(event, events.Header | events.Digest):
                continue
            writer.append(event)
            if isinstance(event, events.DoorbellDone):
                writer.append(events.DoorbellIntent(9, event.queue, 0, 1))
    first, second = read(late)
    assert [one.number for one in first.packets] == [0, 1, 2]
    assert (second.packets, second.problem) == ([], "")


def test_a_checkpoint_says_where_a_queue_stands(path: Path) -> None:
    base = 0x7F00_0000_0000
    words = pm4.Nop(body=(1, 2, 3)).encode()
    with TraceWriter(path, events.Header("test", family="gfx942")) as writer:
        writer.append(events.Map(base, 1 << 16, "fd:3", 0, 3))
        writer.append(events.QueueMap(4, 1, QueueType.COMPUTE, base, 4096, 0, 0, 0))
        writer.append(events.Checkpoint(0, (events.QueueState(4, 5000, 5000, 5000),)))
        at = base + 5000 * 4 % 4096
        writer.memory(at, struct.pack("<4I", *words), "cpu")
        writer.append(events.DoorbellIntent(1, 4, 0x10, 5004))
    (one,) = packets(path)
    assert (one.address, one.words) == (at, tuple(words))


def test_queues_that_move_or_go_are_followed(path: Path) -> None:
    base, moved = 0x7F00_0000_0000, 0x7F00_0000_8000
    update = UpdateQueue(ring_base_address=moved, queue_id=4, ring_size=4096).to_bytes()
    destroy = DestroyQueue(queue_id=4).to_bytes()
    with TraceWriter(path, events.Header("test", family="gfx942")) as writer:
        writer.append(events.Map(base, 1 << 16, "fd:3", 0, 3))
        writer.append(events.QueueMap(4, 1, QueueType.COMPUTE, base, 4096, 0, 0, 0))
        writer.append(events.Ioctl("kfd", "UpdateQueue", 0, update, update))
        writer.memory(moved, pm4.Nop().to_bytes(), "cpu")
        writer.append(events.DoorbellIntent(1, 4, 0x10, 1))
        writer.append(events.Ioctl("kfd", "DestroyQueue", 0, destroy, destroy))
        writer.append(events.DoorbellIntent(2, 4, 0x10, 2))
        writer.append(events.QueueMap(4, 1, QueueType.SDMA, base, 4096, 0, 0, 0))
        writer.memory(base, sdma.Nop().to_bytes(), "cpu")
        writer.append(events.DoorbellIntent(3, 4, 0x10, 4, 32))
    first, second = read(path)
    assert (first.ordinal, first.packets[0].address) == (0, moved)
    assert (second.ordinal, second.number, second.packets[0].number) == (1, 3, 0)
    assert names(second.packets) == ["Nop"]
