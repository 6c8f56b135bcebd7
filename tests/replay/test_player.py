"""Record a client on the emulated KFD, replay the trace on a fresh one, compare to the byte."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from gputrace.capture.recorder import Recorder
from gputrace.devices.emulated import EmulatedKfd
from gputrace.formats import pm4
from gputrace.formats.ioctl import CreateQueue
from gputrace.formats.operations import Compare
from gputrace.formats.pm4 import CopyFrom, CopyTo, ReleaseData, ReleaseMemGfx11
from gputrace.kfd.port import Progress
from gputrace.replay.player import Player
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter
from tests.devices.emulated.conftest import Bench
from tests.replay.editing import rewrite

Work = Callable[[Bench], None]


def record(path: Path, work: Work, schedule: int = 0) -> None:
    with TraceWriter(path, events.Header("test", family="gfx1100")) as writer:
        bench = Bench(around=lambda kfd: Recorder(kfd, writer), schedule=schedule)
        work(bench)
        bench.kfd.close()
        bench.kfd.release(bench.base, 1 << 30)
        for mapping in bench.doorbells.values():
            bench.kfd.release(mapping.address, mapping.size)


def replay(path: Path, schedule: int = 0) -> Verdict:
    with TraceReader(path) as reader:
        return Player(reader, EmulatedKfd("gfx1100", schedule=schedule)).run()


def poll(address: int, reference: int) -> pm4.WaitRegMem:
    return pm4.WaitRegMem(function=Compare.GE, address=address, reference=reference)


def fence(address: int, value: int) -> ReleaseMemGfx11:
    return ReleaseMemGfx11(address=address, data=value, data_sel=ReleaseData.DATA_64)


def copy(target: int, source: int) -> pm4.CopyData:
    kinds = {"src_sel": CopyFrom.L2, "dst_sel": CopyTo.L2}
    return pm4.CopyData(**kinds, source=source, destination=target)


def two_queues(bench: Bench) -> None:
    """One queue writes what the other reads, with fences, the clock and CPU stores between."""
    data = bench.memory(8192)
    first, second = bench.queue(), bench.queue()
    at = data.address
    for turn in range(1, 20):
        data.view[100] = turn
        first.put(pm4.WriteData(address=at + 512, data=(turn, turn * 3)), fence(at, turn))
        second.put(poll(at, turn), copy(at + 1024 + 4 * turn, at + 512), fence(at + 8, turn))
        clock = ReleaseMemGfx11(address=at + 2048, data=0, data_sel=ReleaseData.GPU_CLOCK)
        second.put(clock)
        bench.run()


def host_gate(bench: Bench) -> None:
    """A queue polls a flag that the CPU sets without ringing any doorbell."""
    data = bench.memory(4096)
    ring = bench.queue()
    ring.put(poll(data.address, 7), pm4.WriteData(address=data.address + 64, data=(99,)))
    bench.run()
    assert data.view[64] == 0
    data.view[0] = 7
    bench.run()
    assert data.view[64] == 99


def deadlock(bench: Bench) -> None:
    data = bench.memory(4096)
    ring = bench.queue()
    ring.put(pm4.WriteData(address=data.address + 64, data=(5,)), poll(data.address, 1))
    bench.run()


def page_fault(bench: Bench) -> None:
    ring = bench.queue()
    ring.put(pm4.WriteData(address=0x1234_0000, data=(5,)))
    bench.run()


@pytest.mark.parametrize("work", [two_queues, host_gate])
@pytest.mark.parametrize("schedule", [0, 1, 2])
def test_a_passing_run_replays_to_the_same_bytes(
    tmp_path: Path, work: Work, schedule: int
) -> None:
    path = tmp_path / "t.gtrace"
    record(path, work, schedule)
    for _ in range(2):
        verdict = replay(path, schedule)
        assert verdict.result is Result.SAME, verdict
        assert verdict.compared == verdict.written > 0


def reuse(bench: Bench) -> None:
    """The CPU gives the GPU one value after the other in the same place."""
    data, copier = bench.memory(4096), bench.queue()
    for turn in range(1, 9):
        data.view[0] = turn
        copier.put(copy(data.address + 16 * turn, data.address), fence(data.address + 2048, turn))
        bench.run()


@pytest.mark.parametrize("schedule", [0, 3, 4])
def test_paced_by_progress_the_cpu_is_never_too_early(tmp_path: Path, schedule: int) -> None:
    record(tmp_path / "t.gtrace", reuse)

    def paced(path: Path) -> Verdict:
        with TraceReader(path) as reader:
            return Player(reader, EmulatedKfd("gfx1100", schedule=schedule), "progress").run()

    assert paced(tmp_path / "t.gtrace").result is Result.SAME
    rung = 0

    def change(event: events.Event, data: bytes) -> list[events.Event]:
        nonlocal rung
        rung += isinstance(event, events.DoorbellIntent)
        gone = isinstance(event, events.Progress) or (isinstance(event, events.Digest) and rung < 8)
        return [] if gone else [event]

    blind = rewrite(tmp_path / "t.gtrace", change)
    assert paced(blind).result is Result.DIFFERS


@pytest.mark.parametrize("alone", [False, True])
def test_recorded_clock_values_are_read_again_by_the_queue_that_read_them(
    tmp_path: Path, alone: bool
) -> None:
    # Alone, the second queue has another number than it had in the recording.
    where = 0

    def clocks(bench: Bench) -> None:
        nonlocal where
        data, sel = bench.memory(4096), ReleaseData.GPU_CLOCK
        where = data.address
        bench.queue().put(pm4.Nop(body=(0,)))
        second = bench.queue()
        for at in (64, 72):
            second.put(ReleaseMemGfx11(address=where + at, data=0, data_sel=sel))
        bench.run()

    record(tmp_path / "t.gtrace", clocks)
    first, second = 0, 1

    def change(event: events.Event, data: bytes) -> list[events.Event | tuple[events.Event, bytes]]:
        queue = getattr(event, "queue", None)
        if isinstance(event, events.Ioctl) and event.record == "CreateQueue":
            queue = CreateQueue.from_bytes(event.after).queue_id
        match event:
            case _ if alone and queue == first:
                return []
            case events.DoorbellDone(submission=3):
                return [event, events.ClockReads(second, (111,)), events.ClockReads(second, (222,))]
            case events.Digest():
                value = data[:64] + struct.pack("<QQ", 111, 222) + data[80:]
                return [(event, value)] if event.address == where else []
        return [] if isinstance(event, events.Progress) else [event]

    changed = rewrite(tmp_path / "t.gtrace", change)
    with TraceReader(changed) as reader:
        verdict = Player(reader, EmulatedKfd("gfx1100"), "progress").run()
    assert (verdict.result, verdict.compared) == (Result.SAME, 4096)


def test_what_can_never_happen_is_not_waited_for(tmp_path: Path) -> None:
    record(tmp_path / "t.gtrace", deadlock)

    def change(event: events.Event, data: bytes) -> list[events.Event]:
        if isinstance(event, events.DoorbellIntent):
            never = events.Observed("read", event.queue, 1 << 40)
            return [events.Progress((never,)), event]
        return [event]

    changed = rewrite(tmp_path / "t.gtrace", change)
    with TraceReader(changed) as reader:
        verdict = Player(reader, EmulatedKfd("gfx1100"), "progress").run()
    assert verdict.result is Result.HANG


def test_what_was_observed_may_need_the_stores_that_were_found_with_it(tmp_path: Path) -> None:
    # A kernel that polls reads what the CPU has just stored before the recorder looks: the trace
    # then has the store behind what came of it, but before whatever the CPU did next.
    where = 0

    def given_and_taken(bench: Bench) -> None:
        nonlocal where
        data, ring = bench.memory(4096), bench.queue()
        where = data.address
        ring.put(poll(where, 7), pm4.WriteData(address=where + 64, data=(99,)))
        bench.run()
        data.view[0] = 7
        bench.run()
        bench.memory(4096)
        data.view[0] = 0
        bench.memory(4096)

    record(tmp_path / "t.gtrace", given_and_taken)
    stored, later = b"", []

    def change(event: events.Event, data: bytes) -> list[events.Event | tuple[events.Event, bytes]]:
        nonlocal stored
        at_flag = False
        if isinstance(event, events.Memory | events.HostStore) and event.address == where:
            at_flag, stored = True, stored + (data or event.data)[:1]
        if isinstance(event, events.Progress) or (isinstance(event, events.Digest) and not stored):
            return []
        if isinstance(event, events.Digest) and stored == b"\7":
            if event.address == where:
                later.append((event, b"\0" + data[1:]))
            return []  # looking waits for the GPU, too
        if at_flag and stored == b"\7\0":
            return [event, *later]
        seen = events.Progress((events.Observed("fence", where + 64, 99),))
        return [seen, event] if at_flag and stored == b"\7" else [event]

    changed = rewrite(tmp_path / "t.gtrace", change)
    assert stored == b"\7\0"
    with TraceReader(changed) as reader:
        verdict = Player(reader, EmulatedKfd("gfx1100"), "progress").run()
    assert (verdict.result, verdict.compared) == (Result.SAME, 4096), verdict.text


def test_a_deadlock_is_a_proven_hang_that_names_queue_and_packet(tmp_path: Path) -> None:
    record(tmp_path / "t.gtrace", deadlock)
    verdict = replay(tmp_path / "t.gtrace")
    assert verdict.result is Result.HANG
    assert verdict.proven
    assert verdict.signature is not None
    assert verdict.signature.packet == 1


@pytest.mark.parametrize("complete", [True, False])
def test_a_wait_for_a_cpu_that_was_cut_off_proves_nothing(tmp_path: Path, complete: bool) -> None:
    record(tmp_path / "t.gtrace", deadlock)
    with TraceReader(tmp_path / "t.gtrace") as reader:
        verdict = Player(reader, EmulatedKfd("gfx1100"), complete=complete).run()
    assert verdict.result is Result.HANG
    assert verdict.failures[0].kind == "stall"
    assert verdict.proven is complete


def test_two_queues_that_wait_for_each_other_are_proven_whatever_the_cpu_did(
    tmp_path: Path,
) -> None:
    def circle(bench: Bench) -> None:
        data = bench.memory(4096)
        for mine, his in ((0, 8), (8, 0)):
            ring = bench.queue()
            ring.put(poll(data.address + his, 1), fence(data.address + mine, 1))
        bench.run()

    record(tmp_path / "t.gtrace", circle)
    with TraceReader(tmp_path / "t.gtrace") as reader:
        verdict = Player(reader, EmulatedKfd("gfx1100"), complete=False).run()
    assert (verdict.result, verdict.proven) == (Result.HANG, True)


def test_a_page_fault_comes_again_with_its_address(tmp_path: Path) -> None:
    record(tmp_path / "t.gtrace", page_fault)
    verdict = replay(tmp_path / "t.gtrace")
    assert verdict.result is Result.FAULT
    assert "0x12340000" in verdict.text


def test_each_byte_that_the_gpu_wrote_is_compared(tmp_path: Path) -> None:
    """A digest of other bytes than those written is found, whichever byte it is."""
    path = tmp_path / "t.gtrace"
    record(path, host_gate)

    def change(event: events.Event, data: bytes) -> list[events.Event]:
        if isinstance(event, events.Digest):
            wrong = events.Chunk(bytes(16), event.chunks[0].size)
            chunks = (wrong, *event.chunks[1:])
            return [events.Digest(event.address, event.size, chunks, step=event.step)]
        return [event]

    changed = rewrite(path, change)
    verdict = replay(changed)
    assert verdict.result is Result.DIFFERS
    assert verdict.difference is not None


def test_a_run_in_which_the_gpu_wrote_nothing_is_no_pass(tmp_path: Path) -> None:
    record(tmp_path / "t.gtrace", lambda bench: bench.memory(4096) and None)
    assert replay(tmp_path / "t.gtrace").result is Result.NOT_COMPARED


def test_idle_tells_that_nothing_can_go_on(tmp_path: Path) -> None:
    kfd = EmulatedKfd("gfx1100")
    kfd.open()
    assert kfd.idle() is Progress.BLOCKED
    kfd.close()
