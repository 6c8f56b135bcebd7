"""`gputrace replay` as a user sees it: what it prints and what it exits with."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gputrace
from gputrace.cli.main import run
from gputrace.errors import GputraceError
from gputrace.replay.running import usual_device
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter
from tests.replay.editing import rewrite, write

Program = Callable[[], None]
TRACES = Path(__file__).parents[2] / "traces"


def passes() -> None:
    with gputrace.open("emu:gfx1100,schedule=2") as device:
        out, queue = device.alloc(4096, name="out"), device.compute_queue()
        for turn in range(4):
            queue.write(out, bytes([turn] * 8), 8 * turn)
            queue.signal().wait()


def hangs() -> None:
    with gputrace.open("emu:gfx942") as device:
        queue, gate = device.compute_queue(), device.timeline("gate")
        queue.wait(gate.at(1))
        queue.signal().wait(1.0)


def does_nothing() -> None:
    gputrace.open("emu:gfx942").close()


def recorded(folder: Path, program: Program) -> str:
    path = folder / f"{program.__name__}.gtrace"
    try:
        with gputrace.record(path):
            program()
    except GputraceError:
        pass
    return str(path)


def flipped(path: str) -> str:
    """Change one byte of what was recorded of the GPU's work in the buffer `out`."""
    out = 0

    def change(event: events.Event, data: bytes) -> list[events.Event | tuple[events.Event, bytes]]:
        nonlocal out
        if isinstance(event, events.Name) and event.name == "out":
            out = event.address
        if isinstance(event, events.Digest) and event.address == out and data[17] == 2:
            return [(event, data[:17] + bytes([data[17] ^ 0x40]) + data[18:])]
        return [event]

    return str(rewrite(Path(path), change, events.Outcome("ended")))


def replay(capsys: Any, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()  # what the recording said
    code = run(["replay", *arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("command", ["replay", "minimize"])
def test_what_a_real_gpu_did_runs_on_an_emulated_one_where_there_is_none(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    trace = Path(recorded(tmp_path, hangs if command == "minimize" else passes))
    with TraceReader(trace) as reader:  # as it would be if a machine with two GPUs had made it
        header = reader.header
    device = {**header.device, "name": "kfd:0", "gpus": 2}
    elsewhere = tmp_path / "elsewhere.gtrace"
    with TraceReader(trace) as reader, TraceWriter(
        elsewhere, replace(header, device=device, scheduler="")
    ) as writer:
        for event in reader:
            if not isinstance(event, events.Header):
                stored = isinstance(event, events.Memory)
                stored |= isinstance(event, events.Digest) and event.stored
                write(writer, event, reader.memory(event) if stored else b"")
        writer.close(events.Outcome("ended"))
    monkeypatch.setattr("gputrace.replay.running.REAL_NODE", tmp_path / "no-such-node")
    options = ["-o", str(tmp_path / "small.gtrace")] if command == "minimize" else []
    code = run([command, str(elsewhere), *options])
    told = capsys.readouterr()
    assert code == 0, told
    assert f"emu:{header.family}x2" in told.out + told.err
    if command == "replay":
        assert "recorded on kfd:0" in told.err
        monkeypatch.setattr("gputrace.replay.running.REAL_NODE", tmp_path)
        assert usual_device(replace(header, device=device)) == "kfd:0"


def test_a_passing_run_is_the_same_every_time(tmp_path: Path, capsys: Any) -> None:
    code, text = replay(capsys, recorded(tmp_path, passes), "--repeat", "5")
    assert code == 0, text
    assert text.startswith("same: ")
    assert "emu:gfx1100,schedule=2, each event at its recorded step" in text
    assert "5 of 5 agree" in text
    assert "deterministic" not in text


def test_a_hang_names_queue_packet_and_what_it_waits_for(tmp_path: Path, capsys: Any) -> None:
    path = recorded(tmp_path, hangs)
    code, text = replay(capsys, path)
    assert code == 3
    assert text.startswith("hang (proven): queue 0 at packet ")
    assert "gate" in text
    assert replay(capsys, path, "--expect", "recorded")[0] == 0


def test_a_changed_byte_differs_and_its_writer_is_named(tmp_path: Path, capsys: Any) -> None:
    path = flipped(recorded(tmp_path, passes))
    code, text = replay(capsys, path)
    assert code == 1, text
    assert "out + 0x11" in text
    assert "recorded 42 " in text
    assert "observed 02 " in text
    assert "written last by queue 0, packet " in text
    assert "WriteData" in text
    assert replay(capsys, path, "--expect", "recorded")[0] == 1


def test_a_run_without_output_is_not_compared(tmp_path: Path, capsys: Any) -> None:
    code, text = replay(capsys, recorded(tmp_path, does_nothing))
    assert code == 5, text
    assert text.startswith("not-compared")


def two_gpus() -> None:
    with gputrace.open("emu:gfx942x2") as device:
        device.copy_queue().signal().wait()
        device.peers[0].copy_queue().signal().wait()


def test_fewer_gpus_than_were_recorded_are_unsupported(tmp_path: Path, capsys: Any) -> None:
    path = recorded(tmp_path, two_gpus)
    assert run(["replay", path, "--device", "emu:gfx942"]) == 7
    assert "it was recorded on 2 GPUs, emu:gfx942" in capsys.readouterr().out
    assert run(["replay", path, "--device", "emu:gfx942x3"]) in (0, 5)


def test_another_target_is_unsupported_with_the_reason(tmp_path: Path, capsys: Any) -> None:
    code, text = replay(capsys, recorded(tmp_path, passes), "--device", "emu:gfx942")
    assert code == 7
    assert "recorded on gfx1100" in text


@pytest.mark.parametrize("command", ["minimize", "bisect"])
def test_nor_is_anything_reduced_there(command: str, tmp_path: Path, capsys: Any) -> None:
    path = recorded(tmp_path, hangs)
    assert run([command, path, "--device", "emu:gfx1100"]) == 2
    assert "cannot be reduced on emu:gfx1100: it was recorded on gfx942" in capsys.readouterr().err


def test_json_says_the_same(tmp_path: Path, capsys: Any) -> None:
    path = recorded(tmp_path, hangs)
    code, text = replay(capsys, path, "--json", "--repeat", "2", "--expect", "recorded")
    data = json.loads(text)
    assert code == 0
    assert (data["result"], data["proven"], data["repeats"]) == ("hang", True, 2)
    assert [one["count"] for one in data["outcomes"]] == [2]
    assert data["recorded"] == {"result": "hang", "came_again": True}
    assert data["exit_code"] == code
    code, text = replay(capsys, path, "--json")
    assert json.loads(text)["exit_code"] == code == 3
    assert data["failures"][0]["line"]


def test_another_schedule_is_paced_by_progress(tmp_path: Path, capsys: Any) -> None:
    code, text = replay(capsys, recorded(tmp_path, passes), "--schedule", "seed:9")
    assert code == 0, text
    assert "schedule=9, each event after the progress that was recorded" in text


def test_a_range_of_seeds_gives_each_replay_the_next_one(capsys: Any) -> None:
    path = str(TRACES / "missing_wait-gfx1100.min.gtrace")
    alone: list[str] = []
    while len(set(alone)) < 2 and len(alone) < 50:
        _, text = replay(capsys, path, "--json", "--schedule", f"seed:{len(alone)}")
        alone.append(json.loads(text)["result"])
    last = len(alone) - 1  # the first seed under which it ends otherwise
    seeds = f"seed:{last - 1}..{last}"
    for more, times in (([], (1, 1)), (["--repeat", "3"], (2, 1))):
        code, text = replay(capsys, path, "--json", "--schedule", seeds, *more)
        data = json.loads(text)
        assert (code, data["repeats"]) == (6, sum(times))
        told = {one["result"]: (one["seeds"], one["count"]) for one in data["outcomes"]}
        assert told == {alone[at]: ([at], times[at - last + 1]) for at in (last - 1, last)}
    code, text = replay(capsys, path, "--schedule", seeds, "--repeat", "3")
    assert "repeats   3 replays, 2 distinct outcomes" in text
    assert f"2 (66.7%) {alone[last - 1]}: " in text
    assert f"1 (33.3%) {alone[last]}: " in text
    assert f"          seeds {last}\n" in text


def test_seeds_that_agree_are_named(tmp_path: Path, capsys: Any) -> None:
    code, text = replay(capsys, recorded(tmp_path, passes), "--schedule", "seed:0..2")
    assert code == 0, text
    assert "3 of 3 agree to the last bit that was compared, seeds 0 to 2" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.gtrace"], "none.gtrace"),
        (["--schedule", "x"], "expected seed:N"),
        (["--schedule", "seed:1.."], "or seed:0..99"),
        (["--schedule", "seed:9..1"], "expected rising seeds"),
        (["--schedule", "seed:0..99999999"], "1000000 at most"),
        (["--device", "emu:gfx000"], "gfx000"),
        (["--device", "cpu"], "expected kfd:0"),
        (["--repeat", "0"], "0"),
    ],
)
def test_wrong_use_is_one_line_and_2(
    tmp_path: Path, capsys: Any, arguments: list[str], message: str
) -> None:
    path = recorded(tmp_path, does_nothing)
    given = arguments if arguments[0].endswith(".gtrace") else [path, *arguments]
    code, text = replay(capsys, *given)
    assert code == 2
    assert message in text
    assert len(text.splitlines()) == 1


def reads_clocks() -> None:
    with gputrace.open("emu:gfx942,schedule=1") as device:
        times, out = device.alloc(4096, name="times"), device.alloc(4096, name="out")
        queues = [device.copy_queue(), device.compute_queue()]
        for turn in range(8):
            for queue in queues:
                queue.timestamp(times, 64 * turn + 8 * queues.index(queue))
            queues[0].fill(out, turn, 64)
            queues[0].signal().wait()
        assert times.read(8) != bytes(8)


def test_under_another_schedule_clocks_are_not_compared(tmp_path: Path, capsys: Any) -> None:
    path = recorded(tmp_path, reads_clocks)
    code, text = replay(capsys, path)
    assert (code, text.split()[1]) == (0, text.split()[3])
    code, text = replay(capsys, path, "--schedule", "seed:5")
    assert code == 0, text
    assert int(text.split()[1]) < int(text.split()[3])


def test_more_gpus_than_were_recorded_do_no_harm(tmp_path: Path, capsys: Any) -> None:
    path = recorded(tmp_path, hangs)
    code, text = replay(capsys, path, "--device", "emu:gfx942x2", "--expect", "recorded")
    assert code == 0, text
    assert "x2,schedule=0, each event after the progress" in text
