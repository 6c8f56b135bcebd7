"""Parts of a run that a kernel begins or ends, on both kinds of compute queue, and bounded ones."""

import signal
import threading
from pathlib import Path
from typing import Literal

import pytest

import gputrace
from gputrace.capture.triggers import Trigger, is_named
from gputrace.cli.workloads.frame import load
from gputrace.cli.workloads.pipeline import Pipeline
from gputrace.driver import Device
from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from gputrace.replay.running import Request, play
from gputrace.replay.verdict import Result, Verdict
from gputrace.report.walk import Decoded, Walk
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

TURNS = 24
ORDER = [name for turn in range(TURNS) for name in ("scale", "transform")[: 1 + (turn % 3 == 2)]]
"""The kernels that `work` launches."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "part.gtrace"


def work(device: Device, kind: Literal["pm4", "aql"]) -> None:
    """In each turn launch `scale`, in each third one `transform` too; wait now and then."""
    kernels, queue = load(device, "pipeline"), device.compute_queue(kind)
    source, middle, result = (device.alloc(4096) for _ in range(3))
    source.fill(7)
    for turn in range(TURNS):
        queue.launch(kernels["scale"], 4, 64, [middle, source, turn])
        if turn % 3 == 2:
            queue.launch(kernels["transform"], 4, 64, [result, middle, 255])
        if turn % 5 == 0:
            queue.signal().wait()
    queue.signal().wait()


def read(path: Path) -> list[events.Event]:
    with TraceReader(path) as reader:
        return list(reader)


def launched(path: Path) -> list[str]:
    with TraceReader(path) as reader:
        items = [item for item in Walk(reader) if isinstance(item, Decoded)]
    return [item.launch.kernel for item in items if item.launch is not None]


def replay(path: Path) -> Verdict:
    return play(Request(str(path)), lambda: False)


def place(name: str, which: int) -> int:
    """Return where in ORDER the launch of a kernel is that is the `which`-th of it."""
    return [at for at, one in enumerate(ORDER) if one == name][which - 1]


@pytest.mark.parametrize("kind", ["pm4", "aql"])
@pytest.mark.parametrize("target", sorted(FAMILIES))
def test_a_part_begins_and_ends_with_launches(
    path: Path, target: str, kind: Literal["pm4", "aql"]
) -> None:
    part = gputrace.Part(start="kernel:transform#2", stop="kernel:sc*#4")
    with gputrace.record(path, part=part), gputrace.open(f"emu:{target}") as device:
        work(device, kind)
    first = place("transform", 2)
    last = [at for at, name in enumerate(ORDER) if name == "scale" and at > first][3]
    assert launched(path) == ORDER[first : last + 1]
    causes = [(one.what, one.cause) for one in read(path) if isinstance(one, events.Trigger)]
    assert causes == [("start", "kernel:transform#2"), ("stop", "kernel:sc*#4")]
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict
    assert verdict.compared > 0


def test_submissions_that_triggers_name_are_in_the_part(path: Path) -> None:
    part = gputrace.Part(start="submission:10", stop="submission:20")
    with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
        work(device, "pm4")
    rung = [one.submission for one in read(path) if isinstance(one, events.DoorbellIntent)]
    assert len(rung) == 11
    (start, _) = [one for one in read(path) if isinstance(one, events.Trigger)]
    assert (start.what, start.submission) == ("start", 10)


def test_a_kernel_that_comes_while_others_work_is_in_the_part(path: Path) -> None:
    part = gputrace.Part(start="kernel:transform#7")
    with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
        pipeline = Pipeline(device, 0)
        for batch in range(1, 20):
            pipeline.submit(batch)
        pipeline.end()
    assert launched(path)[0] == "transform"
    assert len(launched(path)) == 1 + 2 * (19 - 7)
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict


def test_a_part_that_begins_with_queues_at_work_says_so(path: Path) -> None:
    with (
        gputrace.record(path, part=gputrace.Part(start="kernel:transform")),
        gputrace.open("emu:gfx1100") as device,
    ):
        gate, held = device.timeline("gate"), device.copy_queue()
        held.wait(gate.at(1))
        held.signal()
        work(device, "aql")
        gate.set(1)
        held.signal().wait()
    assert launched(path) == ORDER[place("transform", 1) :]
    (checkpoint,) = [one for one in read(path) if isinstance(one, events.Checkpoint)]
    assert not checkpoint.complete
    verdict = replay(path)
    assert verdict.result is Result.UNSUPPORTED
    assert "queues had not done all that they were given" in verdict.text


def test_memory_that_the_cpu_cannot_see_is_missed_unless_it_is_scratch(path: Path) -> None:
    part = gputrace.Part(start="kernel:transform")
    for name, complete in (("scratch of queue 1", True), ("weights", False)):
        with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
            device.alloc(8192, visible=False, name=name)
            work(device, "aql")
        (checkpoint,) = [one for one in read(path) if isinstance(one, events.Checkpoint)]
        assert checkpoint.complete is complete
        assert ("8192 bytes of memory that the CPU cannot see" in checkpoint.text) is not complete


def test_what_never_came_is_said_with_what_did(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(UsageError) as caught,
        gputrace.record(path, part=gputrace.Part(start="kernel:scales")),
        gputrace.open("emu:gfx942") as device,
    ):
        work(device, "aql")
    seen = "kernels that were started: scale, transform"
    assert str(caught.value) == f"nothing was recorded: kernel:scales never came; {seen}"
    assert list(path.parent.iterdir()) == []
    part = gputrace.Part(stop="kernel:scale#99")
    with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
        work(device, "aql")
    assert launched(path) == ORDER
    remark = f"kernel:scale#99 never came; {seen}: the trace goes on to the end of the run"
    assert f"gputrace: {path}: {remark}" in capsys.readouterr().err
    assert events.Note("trigger", remark) in read(path)
    assert replay(path).result is Result.SAME


@pytest.mark.parametrize("limit", [60_000, 200_000])
def test_a_window_is_bounded_by_bytes(path: Path, limit: int) -> None:
    largest, batches = 0, 120
    part = gputrace.Part(last_bytes=limit)
    with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
        pipeline = Pipeline(device, 0)
        for batch in range(1, batches + 1):
            pipeline.submit(batch)
            largest = max(largest, path.stat().st_size)
        pipeline.end()
    with TraceReader(path) as reader:
        found = list(reader)
        assert reader.complete
    (checkpoint,) = [at for at, one in enumerate(found) if isinstance(one, events.Checkpoint)]
    assert len(launched(path)) < 2 * batches
    rung = [one.submission for one in found if isinstance(one, events.DoorbellIntent)]
    assert rung == list(range(rung[0], rung[0] + len(rung)))
    assert checkpoint < 200
    assert limit // 4 < path.stat().st_size
    assert largest < limit + 150_000  # the checkpoint, and what one block holds
    assert replay(path).result is Result.SAME
    assert not path.with_name("part.gtrace.next").exists()


@pytest.mark.parametrize(
    ("symbol", "pattern"),
    [
        ("scale", "scale"),
        ("scale", "sc?l*"),
        ("_Z5saxpyIfEvT_PKS0_PS0_", "saxpy"),
        ("_Z5saxpyIfEvT_PKS0_PS0_", "void saxpy<float>*"),
        ("_Z5saxpyIfEvT_PKS0_PS0_", "_Z5saxpy*"),
        ("_ZN2ns5saxpyEPf", "ns::saxpy"),
        ("_ZN2ns5saxpyEPf", "*saxpy"),
        ("a[1]", "a[1]"),
    ],
)
def test_kernels_are_named_by_their_symbol_or_in_words(symbol: str, pattern: str) -> None:
    assert is_named(symbol, pattern)
    assert not is_named(symbol, f"{pattern}x")
    assert not is_named(symbol, pattern.upper())


@pytest.mark.parametrize("text", ["kernel:", "kernel:a#0", "kernel:a#b", "submission:0", "at:1"])
def test_what_is_no_trigger_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected submission:N, kernel:NAME, kernel:NAME#N"):
        Trigger(text)
    for wrong in ({"last": 1, "last_bytes": 1}, {"last_bytes": 1, "start": "kernel:a"}):
        with pytest.raises(UsageError):
            gputrace.Part(**wrong)  # type: ignore[arg-type]


def test_a_signal_reaches_triggers_of_other_threads_that_were_there_before_it() -> None:
    part, made = gputrace.Part(start="signal:USR2"), list[Trigger]()
    before = signal.getsignal(signal.SIGUSR2)
    try:
        part.listen()
        thread = threading.Thread(target=lambda: made.append(Trigger(part.start)))
        thread.start()
        thread.join()
        assert not made[0].came
        signal.raise_signal(signal.SIGUSR2)
        assert made[0].came
        assert not Trigger(part.start).came
    finally:
        signal.signal(signal.SIGUSR2, before)
