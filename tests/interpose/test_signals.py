"""Signals to `gputrace run` and `record`: good traces, no process and no socket left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gputrace.trace.reader import TraceReader

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, "-m", "gputrace.cli.main"]
pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler"
)
PROGRAM = """
import os, sys, time, gputrace
device = gputrace.open("kfd:0")
device.compute_queue().signal().wait(20)
child = os.fork() if sys.argv[2] == "child" else 0
if child == 0 and sys.argv[2] == "child":
    other = gputrace.open("kfd:0")
    other.compute_queue().signal().wait(20)
open(sys.argv[1] + str(os.getpid()), "w").write("ready")
if child:
    os.waitpid(child, 0)
time.sleep(60)
"""


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["run", "record"])
def test_a_signal_ends_the_program_and_all_is_tidy(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    trace, temporary = tmp_path / "one.gtrace", tmp_path / "tmp"
    temporary.mkdir()
    options = ["-o", str(trace)] if command == "record" else []
    served = [*MAIN, command, *options, "--device", "emu:gfx1100", "--"]
    ready = f"{tmp_path}/ready-"
    program = [sys.executable, "-c", PROGRAM, ready, "alone"]
    given = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    outer = subprocess.Popen(
        [*served, *program], env=given, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        for _ in range(1200):
            found = list(tmp_path.glob("ready-*"))
            if found or outer.poll() is not None:
                break
            time.sleep(0.05)
        inner = int(found[0].name.removeprefix("ready-"))
        outer.send_signal(number)  # to us alone, as `kill` does
        _, errors = outer.communicate(timeout=60)
    finally:
        outer.kill()
        outer.wait()
    assert outer.returncode in (128 + number, 1), errors  # Python turns SIGINT into an exception
    assert not _alive(inner)
    assert not list(temporary.iterdir())
    assert b"Traceback (most recent call last)" not in errors.partition(b"KeyboardInterrupt")[2]
    if command == "record":
        with TraceReader(trace) as reader:
            assert reader.complete
            assert reader.trailer is not None
            assert reader.trailer.kinds["DoorbellIntent"] == 1


def test_a_child_is_recorded_into_a_file_of_its_own(tmp_path: Path) -> None:
    trace = tmp_path / "one.gtrace"
    served = [*MAIN, "record", "-o", str(trace), "--device", "emu:gfx1100", "--"]
    short = PROGRAM.replace("time.sleep(60)", "")
    program = [sys.executable, "-c", short, f"{tmp_path}/ready-", "child"]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*served, *program], env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    traces = sorted(tmp_path.glob("*.gtrace"))
    assert len(traces) == 2
    for one in traces:
        assert str(one) in done.stderr
        with TraceReader(one) as reader:
            assert reader.complete
