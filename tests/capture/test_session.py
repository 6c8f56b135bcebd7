"""`gputrace.record` around the driver core, and what a replay of it says."""

import re
import threading
import time
from pathlib import Path

import pytest

import gputrace
from gputrace.devices.opening import make_device
from gputrace.driver import DeviceFault, ProvenHang, WaitTimeout
from gputrace.errors import UsageError
from gputrace.replay.player import Player
from gputrace.replay.running import Request, play
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace import events
from gputrace.trace.reader import TraceReader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.gtrace"


def replay(path: Path) -> Verdict:
    with TraceReader(path) as reader:
        return Player(reader, make_device(reader.header.device["name"])).run()  # type: ignore


@pytest.mark.parametrize("target", ["gfx942", "gfx1100", "gfx1201,schedule=5"])
def test_a_recorded_pipeline_of_two_engines_replays_to_the_same(path: Path, target: str) -> None:
    with gputrace.record(path), gputrace.open(f"emu:{target}") as device:
        source, target_buffer = device.alloc(1 << 20), device.alloc(1 << 20, kind="gtt")
        compute, copies = device.compute_queue(), device.copy_queue()
        for turn in range(8):
            source.write(bytes([turn]) * 4096, 4096 * turn)
            compute.write(source, b"by the GPU..", 100 + 4096 * turn)
            copies.wait(compute.signal())
            copies.copy(target_buffer, source, 1 << 20)
            copies.signal().wait(1.0)
        assert target_buffer.read(12, 100) == b"by the GPU.."
    with TraceReader(path) as reader:
        assert reader.complete
        assert reader.trailer is not None
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict
    assert verdict.compared >= 1 << 20


def test_a_hang_is_the_outcome_of_the_trace_and_of_its_replay(path: Path) -> None:
    def program() -> None:
        with gputrace.open("emu:gfx942") as device:
            queue, gate = device.compute_queue(), device.timeline("gate")
            queue.wait(gate.at(1))
            queue.signal().wait(1.0)

    with pytest.raises(ProvenHang), gputrace.record(path):
        program()
    with TraceReader(path) as reader:
        outcome = [event for event in reader if type(event).__name__ == "Outcome"]
    assert [(event.result, event.queue, event.proven) for event in outcome] == [  # type: ignore
        ("hang", 0, True)
    ]
    verdict = replay(path)
    assert (verdict.result, verdict.proven) == (Result.HANG, True)


def test_wrong_use_is_refused_in_one_line(path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a name that ends with .gtrace"):
        gputrace.record("t.trace").__enter__()
    with pytest.raises(UsageError, match="no device was opened"), gputrace.record(path):
        pass
    with gputrace.record(path):
        gputrace.open("emu:gfx942").close()
        with pytest.raises(UsageError, match="records emu:gfx942 already"):
            gputrace.open("emu:gfx1100")


def test_user_memory_is_recorded_and_replayed(path: Path) -> None:
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        user, plain = device.alloc(8192, kind="userptr"), device.alloc(8192)
        copies = device.copy_queue()
        for turn in range(1, 4):
            user.write(bytes([turn]) * 100, 4000)
            copies.copy(plain, user, 8192)
            copies.fill(user, 0x11111111 * turn, 64)
            copies.signal().wait(1.0)
        assert plain.read(100, 4000) == b"\3" * 100
        assert user.read(4) == b"\x33" * 4
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict
    with TraceReader(path) as reader:
        stores = [event for event in reader if isinstance(event, events.Memory)]
    assert all(bytes([0x33]) * 64 not in event.data for event in stores), "the GPU's own work"


def test_without_write_protection_memory_is_compared(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gputrace.capture.comparing.WriteTracker", no_tracker)
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        out, queue = device.alloc(8192), device.compute_queue()
        for turn in range(4):
            out.write(bytes([turn]), 4096)
            queue.write(out, bytes([turn] * 4), 64 * turn)
            queue.signal().wait(1.0)
    assert "it is not known whether CPU or GPU made a change" in capsys.readouterr().err
    with TraceReader(path) as reader:
        stores = [event for event in reader if isinstance(event, events.Memory)]
    assert {event.provenance for event in stores} == {"unknown"}
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict
    assert verdict.compared > 0


def no_tracker() -> None:
    raise UsageError("this kernel has no asynchronous write protection")


def test_mode_full_digests_after_each_submission(path: Path) -> None:
    with gputrace.record(path, mode="full"), gputrace.open("emu:gfx942") as device:
        out, queue = device.alloc(4096), device.compute_queue()
        for turn in range(5):
            queue.write(out, bytes([turn] * 4), 64 * turn)
        queue.signal().wait(1.0)
    with TraceReader(path) as reader:
        kinds = [type(event).__name__ for event in reader]
    done = [at for at, kind in enumerate(kinds) if kind == "DoorbellDone"]
    assert len(done) == 6
    assert all(kinds[at + 1] == "Digest" for at in done)
    assert replay(path).result is Result.SAME


def test_memory_that_is_still_written_to_is_not_compared(path: Path) -> None:
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        out, kept, queue = device.alloc(4096), device.alloc(4096), device.compute_queue()
        queue.write(out, b"1234")
        queue.signal().wait(1.0)
        queue.write(out, b"5678")
        for _ in range(400):
            queue.write(kept, b"more", 8)
        device.session.kfd.idle(None)
        out.free()
        queue.signal().wait(1.0)
    with TraceReader(path) as reader:
        marks = {(e.address, e.unstable) for e in reader if isinstance(e, events.Digest)}
    assert (out.address, False) in marks
    assert (out.address, True) in marks
    verdict = replay(path)
    assert verdict.result is Result.SAME
    assert verdict.compared < verdict.written


def test_several_threads_are_recorded_one_call_at_a_time(path: Path) -> None:
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        gate, out = device.timeline("gate"), device.alloc(1 << 16)
        queues = [device.compute_queue(), device.copy_queue()]

        def opener() -> None:
            for value in range(1, 9):
                time.sleep(0.01)
                gate.set(value)

        def worker(index: int) -> None:
            queue = queues[index]
            for value in range(1, 9):
                queue.wait(gate.at(value))
                queue.signal().wait(10.0)
                out.write(bytes([value]) * 8, 4096 * index + 8 * value)

        threads = [threading.Thread(target=worker, args=(index,)) for index in range(2)]
        threads.append(threading.Thread(target=opener))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    verdict = play(Request(str(path)), lambda: False)
    assert verdict.result is Result.SAME, verdict


def test_threads_whose_queues_race_are_replayed_in_the_order_that_it_was(path: Path) -> None:
    # Each queue writes where the others do, with nothing to order them but the schedule.
    with gputrace.record(path), gputrace.open("emu:gfx942x2") as device:
        both = [device, *device.peers]
        out = device.alloc(1 << 14, peers=both[1:], name="raced for")
        sources = [one.alloc(1 << 12) for one in both for _ in range(2)]

        def worker(index: int) -> None:
            queue = both[index // 2].copy_queue()
            sources[index].fill(1 + index)
            for turn in range(40):
                queue.copy(out, sources[index], destination_offset=1 << 12)
                queue.fill(out, turn << 8 | index, 1 << 10, (turn % 4) << 10)
                if turn % 5 == index:
                    queue.signal().wait(10.0)
            queue.synchronize(10.0)

        threads = [threading.Thread(target=worker, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = out.read()
    verdict = play(Request(str(path)), lambda: False)
    assert verdict.result is Result.SAME, verdict
    assert verdict.pacing == "steps"
    assert verdict.compared >= len(ended)


@pytest.mark.parametrize("seed", [None, 4])
def test_a_gate_that_the_host_opens_without_a_doorbell(path: Path, seed: int | None) -> None:
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        gate, out = device.timeline("gate"), device.alloc(4096)
        queues = [device.compute_queue(), device.copy_queue()]
        for turn in range(1, 6):
            for queue in queues:
                queue.wait(gate.at(turn))
            queues[0].write(out, bytes([turn]) * 4, 8 * turn)
            queues[1].fill(out, turn, 16, 256 * turn)
            points = [queue.signal() for queue in queues]
            device.session.kfd.idle(None)
            assert not any(point.done for point in points)
            gate.set()
            for point in points:
                point.wait(1.0)
    with TraceReader(path) as reader:
        stores = [event for event in reader if isinstance(event, events.HostStore)]
    opened = [int.from_bytes(event.data, "little") for event in stores]
    assert [value for value in opened if value] == [1, 2, 3, 4, 5]
    assert {event.address for event in stores} == {gate.address}
    verdict = play(Request(str(path), seed=seed), lambda: False)
    assert verdict.result is Result.SAME, verdict
    assert verdict.pacing == ("progress" if seed else "steps")


def test_waits_begin_and_end_in_the_trace_with_what_was_seen(path: Path) -> None:
    with gputrace.record(path), gputrace.open("emu:gfx1100") as device:
        out, queue = device.alloc(4096), device.compute_queue()
        for turn in range(3):
            queue.write(out, bytes([turn]) * 4)
            queue.signal().wait(1.0)
    with TraceReader(path) as reader:
        found = list(reader)
    begun = [event.wait for event in found if isinstance(event, events.WaitBegin)]
    ended = [(e.wait, e.result) for e in found if isinstance(e, events.WaitEnd)]
    assert begun == [1, 2, 3]
    assert ended == [(1, "reached"), (2, "reached"), (3, "reached")]
    seen = [value for e in found if isinstance(e, events.Progress) for value in e.values]
    fences = [value.value for value in seen if value.what == "fence" and value.value in (1, 2, 3)]
    assert {1, 2, 3} <= set(fences)
    assert {value.where for value in seen if value.what == "read"} == {0}


@pytest.mark.parametrize("circle", [False, True])
def test_a_hang_that_only_a_timeout_ended_is_proven_when_no_store_would_have_ended_it(
    path: Path, circle: bool
) -> None:
    with pytest.raises(WaitTimeout), gputrace.record(path):  # noqa: PT012
        device = gputrace.open("emu:gfx1100")
        first, second = device.compute_queue(), device.copy_queue()
        one, two = device.timeline("one"), device.timeline("two")
        first.wait(two.at(1))
        first.signal(one)
        if circle:
            second.wait(one.at(1))
            second.signal(two)
        device.session.waiter.others = True  # who might store what is waited for
        first.signal().wait(0.01)
    with TraceReader(path) as reader:
        outcome = [event for event in reader if isinstance(event, events.Outcome)]
    assert [(event.result, event.proven) for event in outcome] == [("hang", circle)]


def waits_of(path: Path) -> tuple[list[events.WaitBegin], list[tuple[int, str]]]:
    with TraceReader(path) as reader:
        found = list(reader)
    begun = [event for event in found if isinstance(event, events.WaitBegin)]
    return begun, [(e.wait, e.result) for e in found if isinstance(e, events.WaitEnd)]


def test_each_wait_ends_with_its_own_result_when_no_call_comes_between(path: Path) -> None:
    with pytest.raises(ValueError, match="of its own"):  # noqa: PT012, SIM117
        with gputrace.record(path), gputrace.open("emu:gfx942") as device:
            gate, out, queue = device.timeline("gate"), device.alloc(4096), device.compute_queue()
            queue.wait(gate.at(1))
            queue.write(out, b"data")
            point = queue.signal()
            with pytest.raises(ProvenHang):
                point.wait(0.3)
            gate.set()  # a store through a mapping
            point.wait(1.0)
            queue.wait(gate.at(2))
            point = queue.signal()
            device.session.waiter.others = True  # so that nothing is proven
            with pytest.raises(WaitTimeout):
                point.wait(0.01)
            with pytest.raises(WaitTimeout):
                point.wait(0.02)
            gate.set()
            point.wait(None)
            raise ValueError("of its own")
    begun, ended = waits_of(path)
    assert [event.wait for event in begun] == [1, 2, 3, 4, 5]
    results = ["hang", "reached", "timeout", "timeout", "reached"]
    assert ended == list(enumerate(results, 1))
    milliseconds = [event.timeout / 1_000_000 for event in begun]
    assert milliseconds == [300, 1000, 10, 20, -1 / 1_000_000]
    with TraceReader(path) as reader:
        last = [event for event in reader if isinstance(event, events.Outcome)]
    assert [event.result for event in last] == ["ended"]  # what hung had gone on
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict
    assert verdict.pacing == "steps"


def test_waits_that_the_kernel_is_asked_for_are_one_wait_of_the_program(path: Path) -> None:
    with gputrace.record(path), gputrace.open("emu:gfx1100") as device:
        queue, gate = device.compute_queue("aql"), device.timeline("gate")
        device.signal()  # with its event there are waits for events
        queue.wait(gate.at(1))
        point = queue.signal()
        device.session.waiter.others = True
        with pytest.raises(WaitTimeout):
            point.wait(0.01)
        gate.set()
        point.wait(1.0)
    _, ended = waits_of(path)
    assert ended == [(1, "timeout"), (2, "reached")]
    with TraceReader(path) as reader:
        calls = [e for e in reader if isinstance(e, events.Ioctl) and e.record == "WaitEvents"]
    assert calls


def test_a_wait_that_a_fault_ended_says_so(path: Path) -> None:
    with pytest.raises(DeviceFault):  # noqa: PT012, SIM117
        with gputrace.record(path), gputrace.open("emu:gfx942") as device:
            queue = device.compute_queue("pm4")
            queue.submit((0xC000_FF00).to_bytes(8, "little"), "nonsense")
            queue.signal().wait(1.0)
    assert waits_of(path)[1] == [(1, "fault")]


@pytest.mark.parametrize("durable", [False, True])
def test_what_may_be_lost_is_said_first_and_what_it_cost_in_the_end(
    path: Path, capsys: pytest.CaptureFixture[str], durable: bool
) -> None:
    with gputrace.record(path, durable=durable), gputrace.open("emu:gfx942") as device:
        said = capsys.readouterr().err
        assert said.startswith("gputrace: durable: each" if durable else "gputrace: if the program")
        assert ("none with durable=True" in said) is not durable
        device.compute_queue().signal().wait(1.0)
    (last,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"gputrace: {path}: capture cost 0\.\d+ s of \d+\.\d+ s, compared .* of memory, "
        r"added 0 stalls", last
    )  # fmt: skip


def test_a_mode_that_there_is_not_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="mode 'foo': expected light or full"):
        gputrace.record(path, mode="foo").__enter__()  # type: ignore[arg-type]
    assert not path.exists()
