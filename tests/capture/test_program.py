"""`gputrace record` around programs of every kind, as a user calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gputrace.cli.main import run
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

HEAD = "import os, signal, sys, gputrace\n"
PASSES = (
    HEAD
    + """
with gputrace.open("emu:gfx1100") as device:
    out, queue = device.alloc(4096), device.compute_queue()
    for turn in range(20):
        queue.write(out, bytes([turn] * 8), 8 * turn)
        queue.signal().wait()
    print("last byte", out.read(1, 159)[0])
"""
)
HANGS = (
    HEAD
    + """
with gputrace.open() as device:
    queue, gate = device.compute_queue(), device.timeline("gate")
    queue.wait(gate.at(1))
    queue.signal().wait(1.0)
"""
)
KILLED = (
    HEAD
    + """
with gputrace.open("emu:gfx1100") as device:
    out, queue = device.alloc(4096), device.compute_queue()
    for turn in range(20):
        queue.write(out, bytes([turn] * 8), 8 * turn)
    os.kill(os.getpid(), signal.SIG{})
    import time
    time.sleep(30)
"""
)
FORKS = (
    HEAD
    + """
def work():
    with gputrace.open("emu:gfx1100") as device:
        out, queue = device.alloc(4096), device.compute_queue()
        queue.write(out, b"abcd")
        queue.signal().wait()
child = os.fork()
work()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
)


def record(
    folder: Path, script: str, *options: str
) -> tuple[subprocess.CompletedProcess[str], Path]:
    program, trace = folder / "program.py", folder / "t.gtrace"
    program.write_text(script)
    command = [sys.executable, "-m", "gputrace.cli.main", "record", "-o", str(trace), *options,
               "--", sys.executable, str(program)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    return done, trace


def read(trace: Path) -> list[events.Event]:
    with TraceReader(trace) as reader:
        return list(reader)


def outcome(trace: Path) -> dict[str, object]:
    with TraceReader(trace) as reader:
        assert reader.trailer is not None
        return reader.trailer.outcome


def test_a_program_is_recorded_and_keeps_its_output_and_status(tmp_path: Path) -> None:
    done, trace = record(tmp_path, PASSES)
    assert (done.returncode, done.stdout) == (0, "last byte 19\n"), done.stderr
    assert "if the machine dies, up to" in done.stderr
    assert "40 doorbells, ended" in done.stderr
    assert "capture cost" in done.stderr
    assert run(["replay", str(trace), "--expect", "recorded"]) == 0


def test_a_hang_is_the_outcome_and_the_device_may_be_chosen(tmp_path: Path) -> None:
    done, trace = record(tmp_path, HANGS, "--device", "emu:gfx1201", "--json", "--durable")
    assert done.returncode == 1
    assert "using emu:gfx1201" in done.stderr
    told = json.loads(done.stderr.splitlines()[-1])
    assert (told["outcome"], told["complete"]) == ("hang", True)
    assert outcome(trace)["result"] == "hang"
    with TraceReader(trace) as reader:
        assert reader.header.durable
    assert run(["replay", str(trace), "--expect", "recorded"]) == 0


@pytest.mark.parametrize("name", ["KILL", "TERM"])
def test_a_killed_program_leaves_every_doorbell_and_says_that_it_was_killed(
    tmp_path: Path, name: str
) -> None:
    done, trace = record(tmp_path, KILLED.format(name))
    assert done.returncode > 128
    assert outcome(trace)["result"] == "killed"
    assert f"SIG{name}" in str(outcome(trace)["text"])
    rung = [event for event in read(trace) if isinstance(event, events.DoorbellIntent)]
    assert len(rung) == 20
    assert run(["replay", str(trace)]) in (0, 5)


@pytest.mark.parametrize("options", [(), ("--device", "emu:gfx1030")])
def test_a_program_that_names_no_device_is_recorded_from_within(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    # Not by the device nodes that are there for other programs: each doorbell counts, and steps.
    script = KILLED.format("KILL").replace('open("emu:gfx1100")', "open()")
    done, trace = record(tmp_path, script, *options)
    target = options[-1].removeprefix("emu:") if options else "gfx942"
    assert f"gputrace: using emu:{target}" in done.stderr
    found = read(trace)
    assert sum(isinstance(event, events.DoorbellIntent) for event in found) == 20
    assert all(event.step >= 0 for event in found if isinstance(event, events.DoorbellIntent))


def test_a_workload_runs_where_the_recorder_wants_it(tmp_path: Path) -> None:
    trace = tmp_path / "t.gtrace"
    command = [sys.executable, "-m", "gputrace.cli.main", "record", "-o", str(trace), "--device",
               "emu:gfx1201", "--", sys.executable, "-m", "gputrace.cli.workloads.wrong_count"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, capture_output=True, env=environment, timeout=60)
    with TraceReader(trace) as reader:
        assert reader.header.family == "gfx1201"


ONE_ENOUGH = """
import gputrace
for writes in (9, 3):
    with gputrace.open("emu:gfx1100") as device:
        buffer, queue = device.alloc(4096), device.compute_queue("pm4")
        for turn in range(writes):
            queue.write(buffer, bytes(4))
            queue.signal().wait()
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_of_two_devices_the_one_whose_part_never_began_is_named(
    tmp_path: Path, as_json: bool
) -> None:
    options = ["--start", "submission:10", *(["--json"] if as_json else [])]
    done, trace = record(tmp_path, ONE_ENOUGH, *options)
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.glob("t*")) == [trace]
    (said,) = (line for line in done.stderr.splitlines() if "never came" in line)
    if as_json:
        told = json.loads(said)
        assert told["missing"] == "submission:10 never came in 6 submissions"
    else:
        assert said.endswith(": submission:10 never came in 6 submissions: there is no such trace")
    assert run(["replay", str(trace)]) == 0


def test_children_have_traces_of_their_own(tmp_path: Path) -> None:
    done, trace = record(tmp_path, FORKS)
    assert done.returncode == 0, done.stderr
    traces = sorted(tmp_path.glob("*.gtrace"))
    assert len(traces) == 2
    assert trace in traces
    for one in traces:
        assert outcome(one)["result"] == "ended"
        assert run(["replay", str(one)]) == 0


def test_a_program_without_a_device_and_wrong_use_are_one_line(tmp_path: Path) -> None:
    done, _ = record(tmp_path, "print('nothing')")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("gputrace: ")
    assert "opened no device: there is no trace" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "t.trace", "--", "true"], "expected a name that ends with .gtrace"),
        (["-o", "{}/none/t.gtrace", "--", "true"], "no such directory"),
        (["-o", "{}/t.gtrace", "--", "no-such-program"], "no such program"),
        (["-o", "{}/t.gtrace"], "PROGRAM"),
        (["--", "true"], "--output"),
    ],
)
def test_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["record", *(one.format(tmp_path) for one in arguments)]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert message in last


def test_the_last_submissions_of_a_program(tmp_path: Path) -> None:
    done, trace = record(tmp_path, PASSES, "--last", "6")
    assert done.returncode == 0, done.stderr
    rung = [event for event in read(trace) if isinstance(event, events.DoorbellIntent)]
    assert 6 <= len(rung) < 20
    assert run(["replay", str(trace), "--expect", "recorded"]) == 0


FILLS = """
import resource, gputrace
with gputrace.open("emu:gfx942") as device:
    buffer, queue = device.alloc(4096), device.compute_queue("pm4")
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    for turn in range(300):
        queue.write(buffer, bytes([turn & 255]) * 64)
        queue.signal().wait()
    print("last byte", buffer.read(1)[0])
"""


@pytest.mark.parametrize("options", [(), ("--last", "5000"), ("--durable",)])
def test_a_program_outlives_the_file_that_it_is_recorded_into(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    done, trace = record(tmp_path, FILLS, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "last byte 43\n"
    assert "File too large: the trace ends here, the program goes on" in done.stderr
    assert "Traceback" not in done.stderr
    with TraceReader(trace) as reader:
        assert (reader.complete, reader.torn) == (False, None)
        rung = [one for one in reader if isinstance(one, events.DoorbellIntent)]
    assert len(rung) > 10
    assert 40_000 < trace.stat().st_size <= 60_000
    assert run(["replay", str(trace)]) == 0


def test_a_program_that_is_killed_before_its_part_begins_leaves_nothing(tmp_path: Path) -> None:
    script = FILLS.replace("    print(", "    os.kill(os.getpid(), 9)\n    print(")
    done, _ = record(tmp_path, f"import os\n{script}", "--start", "submission:1000")
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.endswith("(exit status 137): submission:1000 never came: there is no trace")
    assert [one.name for one in tmp_path.iterdir()] == ["program.py"]


@pytest.mark.parametrize("full", [False, True])
def test_a_killed_program_whose_last_block_is_torn(tmp_path: Path, full: bool) -> None:
    script = FILLS.replace("    print(", "    tear()\n    print(")
    tear = """
import os
def tear():
    with open(os.environ["GPUTRACE_RECORD"], "ab") as file:
        file.write(b"half of a blo")
    os.kill(os.getpid(), 9)
"""
    if full:
        (tmp_path / "t.gtrace.repair").mkdir()
    done, trace = record(tmp_path, tear + script.replace("60_000", "600_000"))
    assert done.returncode == 137, done.stderr
    assert "Traceback" not in done.stderr
    kept = tmp_path / "t.gtrace.damaged"
    assert kept.exists() is not full
    if full:
        assert "Is a directory; the trace is as the program left it" in done.stderr
        assert trace.read_bytes().endswith(b"half of a blo")
    else:
        assert f"gputrace: {kept}: the trace as the program left it" in done.stderr
        assert kept.read_bytes().endswith(b"half of a blo")
        assert outcome(trace)["result"] == "killed"


OVERLAP = """
import runpy
runpy.run_module("gputrace.cli.workloads.overlap", run_name="__main__")
"""


def test_a_part_of_a_program_between_two_launches(tmp_path: Path) -> None:
    part = ["--start", "kernel:transform#3", "--stop", "kernel:transform#5"]
    done, trace = record(tmp_path, OVERLAP, *part)
    assert done.returncode == 0, done.stderr
    assert "capture cost" in done.stderr
    assert run(["replay", str(trace), "--expect", "recorded"]) == 0
    older = trace.read_bytes()
    done, _ = record(tmp_path, OVERLAP, "--start", "kernel:scaling")
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.endswith("(exit status 0): kernel:scaling never came; kernels that were started: "
                         "scale, transform: there is no trace")  # fmt: skip
    assert done.stderr.count("never came") == 1
    assert trace.read_bytes() == older
    assert {one.name for one in tmp_path.iterdir()} == {"t.gtrace", "program.py"}


def test_a_wrong_device_is_told_before_anything_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trace = str(tmp_path / "t.gtrace")
    assert run(["record", "-o", trace, "--device", "emx:gfx942", "--", "true"]) == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith("gputrace: device 'emx:gfx942': expected kfd:0, emu:gfx942 or")


@pytest.mark.parametrize("program", [["no-such-program"], [sys.executable, "-c", "pass"]])
def test_a_record_that_makes_no_trace_leaves_the_older_one(
    tmp_path: Path, program: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    older = tmp_path / "t.gtrace"
    older.write_bytes(b"evidence")
    assert run(["record", "-o", str(older), "--", *program]) == 2
    said = capfd.readouterr().err.splitlines()
    if program == ["no-such-program"]:
        assert said == ["gputrace: no-such-program: no such program"]
    else:
        assert said[-1].endswith("(exit status 0): opened no device: there is no trace")
    assert older.read_bytes() == b"evidence"
    assert [one.name for one in tmp_path.iterdir()] == ["t.gtrace"]
