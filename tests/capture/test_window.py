"""Parts of a run: the last submissions, between triggers, up to a size; each replays by itself."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import gputrace
from gputrace.capture.window import Part
from gputrace.cli.main import run
from gputrace.driver import Device, ProvenHang
from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from gputrace.formats.ioctl import (
    AllocFlag,
    AllocMemoryOfGpu,
    CreateEvent,
    DestroyEvent,
    ResetEvent,
    SetEvent,
    UpdateQueue,
)
from gputrace.replay.repeats import recorded_outcome
from gputrace.replay.running import Request, play
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

ROUNDS = 200


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "part.gtrace"


def work(device: Device, each: Callable[[int], None] = lambda turn: None) -> None:
    """Three kinds of queues, small rings that wrap, memory that keeps what was done long ago."""
    old, out = device.alloc(4096, name="old"), device.alloc(1 << 16, name="out")
    pm4, aql = device.compute_queue("pm4", ring_size=4096), device.compute_queue("aql")
    copies = device.copy_queue()
    gone = device.alloc(1 << 16)
    pm4.write(old, b"from the beginning!!")
    pm4.signal().wait()
    gone.free()
    for turn in range(ROUNDS):
        each(turn)
        out.write(bytes([turn & 255]) * 64, 256)
        copies.copy(out, old, 64)
        aql.wait(copies.signal())
        pm4.wait(aql.signal())
        pm4.write(out, bytes([turn & 255] * 8), 512 + 8 * (turn % 64))
        if turn % 3 == 0:
            pm4.signal().wait()
    pm4.signal().wait()
    assert out.read(20) == b"from the beginning!!"


def read(path: Path) -> list[events.Event]:
    with TraceReader(path) as reader:
        return list(reader)


def rung(path: Path) -> list[int]:
    return [event.submission for event in read(path) if isinstance(event, events.DoorbellIntent)]


def replay(path: Path) -> Verdict:
    return play(Request(str(path)), lambda: False)


@pytest.mark.parametrize("target", sorted(FAMILIES))
def test_the_last_submissions_replay_from_a_checkpoint(path: Path, target: str) -> None:
    with gputrace.record(path, part=Part(last=50)), gputrace.open(f"emu:{target}") as device:
        work(device)
    found = rung(path)
    assert 50 <= len(found) < 200
    assert found == list(range(found[0], found[0] + len(found)))
    assert sum(isinstance(event, events.Checkpoint) for event in read(path)) == 1
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict
    assert verdict.compared == verdict.written > 0
    assert not path.with_name("part.gtrace.next").exists()


def test_a_run_that_is_shorter_than_the_window_is_there_from_its_beginning(path: Path) -> None:
    with gputrace.record(path, part=Part(last=10_000)), gputrace.open("emu:gfx1100") as device:
        work(device)
    assert rung(path)[0] == 1
    assert replay(path).result is Result.SAME


def test_a_hang_at_the_end_of_a_window_is_proven(path: Path) -> None:
    def hang(device: Device) -> None:
        work(device)
        queue = device.queues[0]
        queue.wait(device.timeline("gate").at(1))
        queue.signal().wait()

    with (
        pytest.raises(ProvenHang),
        gputrace.record(path, part=Part(last=20)),
        gputrace.open("emu:gfx942") as device,
    ):
        hang(device)
    verdict = replay(path)
    assert (verdict.result, verdict.proven) == (Result.HANG, True)
    assert len(rung(path)) < 100
    assert recorded_outcome(str(path)).came_again(verdict)


def test_triggers_begin_and_end_a_part(path: Path) -> None:
    def each(turn: int) -> None:
        if turn == 60:
            os.kill(os.getpid(), signal.SIGUSR1)

    part = Part(start="signal:USR1", stop="submission:500")
    before = signal.getsignal(signal.SIGUSR1)
    try:
        with gputrace.record(path, part=part), gputrace.open("emu:gfx1100") as device:
            work(device, each)
    finally:
        signal.signal(signal.SIGUSR1, before)
    found = rung(path)
    assert found[0] > 240
    assert found[-1] in (499, 500)
    triggers = [(e.what, e.cause) for e in read(path) if isinstance(e, events.Trigger)]
    assert triggers == [("start", "signal:USR1"), ("stop", "submission:500")]
    assert replay(path).result is Result.SAME


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        (Part(start="submission:60", stop="submission:90"),
         ["begins with submission 60: submission:60", "ends after submission 90: submission:90"]),
        (Part(last=30), ["begins with submission {first}: the last 30 submissions"]),
        (Part(last_bytes=60_000), ["begins with submission {first}: the last 60000 bytes"]),
        (Part(size=100_000), ["ends after submission {last}: the file has 100000 bytes"]),
        (Part(stop="kernel:never"), ["kernel:never never came; kernels that were started: none: "
                                     "the trace goes on to the end of the run"]),
        (Part(), []),
    ],
)  # fmt: skip
def test_info_says_what_made_a_part(
    path: Path, part: Part, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with gputrace.record(path, part=part), gputrace.open("emu:gfx1100") as device:
        work(device)
    capsys.readouterr()
    assert run(["info", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    found = [line.split("part ", 1)[1].strip() for line in said if line.startswith("  part ")]
    numbers = rung(path)
    assert found == [line.format(first=numbers[0], last=numbers[-1]) for line in lines]


def test_a_size_ends_a_part(path: Path) -> None:
    with gputrace.record(path, part=Part(size=100_000)), gputrace.open("emu:gfx942") as device:
        work(device)
    assert 100_000 <= path.stat().st_size < 150_000
    with TraceReader(path) as reader:
        assert reader.trailer is not None
        assert reader.trailer.outcome["result"] == "ended"
    assert rung(path)[0] == 1
    assert replay(path).result in (Result.SAME, Result.NOT_COMPARED)


@pytest.mark.parametrize("mapped", [False, True])
def test_memory_that_the_cpu_cannot_see_matters_once_a_gpu_can(path: Path, mapped: bool) -> None:
    with (
        gputrace.record(path, part=Part(start="submission:60")),
        gputrace.open("emu:gfx1100") as device,
    ):
        if mapped:
            device.alloc(8192, visible=False)
        else:  # as another thread has it between two calls
            kfd, gpu_id = device.session.kfd, device.gpu_id
            place, flags = kfd.reserve(8192), AllocFlag.VRAM | AllocFlag.WRITABLE
            kfd.ioctl(AllocMemoryOfGpu(va_addr=place, size=8192, gpu_id=gpu_id, flags=flags))
        work(device)
    [found] = [event for event in read(path) if isinstance(event, events.Checkpoint)]
    assert found.complete is not mapped
    assert ("8192 bytes of memory that the CPU cannot see" in found.text) is mapped
    assert replay(path).result is (Result.UNSUPPORTED if mapped else Result.SAME)


@pytest.mark.parametrize("dropped", [False, True])
def test_a_part_does_not_know_the_counters_of_wave_sync(path: Path, dropped: bool) -> None:
    with (
        gputrace.record(path, part=Part(start="submission:60")),
        gputrace.open("emu:gfx90a") as device,
    ):
        queue = device.compute_queue()
        queue.take_wave_sync()
        if dropped:
            queue.drop_wave_sync()
        work(device)
    [found] = [event for event in read(path) if isinstance(event, events.Checkpoint)]
    assert found.complete is dropped
    assert ("the counters of global wave sync" in found.text) is not dropped


def test_of_what_was_set_before_a_part_only_the_last_is_kept(path: Path) -> None:
    with (
        gputrace.record(path, part=Part(start="submission:60")),
        gputrace.open("emu:gfx1100") as device,
    ):
        kfd, queue = device.session.kfd, device.compute_queue("pm4", ring_size=4096)
        made = queue.hardware.made_with
        update = UpdateQueue(
            queue_id=queue.hardware.queue_id,
            ring_base_address=made.ring_base_address,
            ring_size=made.ring_size,
        )
        kept, gone = (kfd.ioctl(CreateEvent()).event_id for _ in range(2))
        for turn in range(50):
            kfd.ioctl((SetEvent if turn % 2 else ResetEvent)(event_id=kept))
            kfd.ioctl(SetEvent(event_id=gone))
            kfd.ioctl(update.replace(queue_priority=turn % 16))
        kfd.ioctl(DestroyEvent(event_id=gone))
        work(device)
    found = [event.record for event in read(path) if isinstance(event, events.Ioctl)]
    assert (found.count("SetEvent"), found.count("ResetEvent")) == (1, 0)
    assert found.count("UpdateQueue") == 1
    assert replay(path).result is Result.SAME


def test_a_part_that_never_begins_is_an_error(path: Path) -> None:
    with (
        pytest.raises(UsageError, match="submission:100000 never came"),
        gputrace.record(path, part=Part(start="submission:100000")),
        gputrace.open("emu:gfx942") as device,
    ):
        work(device)


@pytest.mark.parametrize(
    "wrong", [{"last": -1}, {"start": "x"}, {"stop": "signal:NONE"}, {"last": 5, "size": 5}]
)
def test_wrong_parts_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Part(**wrong)  # type: ignore[arg-type]
