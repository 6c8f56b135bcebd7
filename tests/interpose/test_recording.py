"""What a recorded program wrote and what the GPU beside it did, however fast the program is."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.interpose.launch import run
from gputrace.kfd.port import Progress
from gputrace.replay.running import Request, replay
from gputrace.replay.verdict import Result
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

ROOT = Path(__file__).parents[2]
SEED = ROOT / "tests/kernels/built/gfx1100/seed-O3.co"
# Overwrites what a kernel wrote as soon as the kernel's end shows, then says so with a file.
HASTY = """
import sys, gputrace
with gputrace.open("kfd:0") as device:
    out, queue = device.alloc(4096), device.compute_queue()
    kernel = device.load(sys.argv[1])["fill"]
    end = queue.launch(kernel, 16, 64, [out, 0x11111111])
    while not end.done:
        pass
    assert out.read() == bytes([0x11]) * 4096
    out.write(bytes([0xEE]) * 4096)
    open(sys.argv[2], "x").close()
    queue.launch(kernel, 1, 64, [out, 0x22222222]).wait(10)
    assert out.read() == bytes([0x22]) * 256 + bytes([0xEE]) * 3840
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_program_may_overwrite_what_a_kernel_wrote_when_its_end_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"

    class Slow(RecordedKfd):
        """Comes back from telling of an end only when the program has made use of that."""

        told = False

        def kernel_ended(self) -> None:
            super().kernel_ended()
            self.told = True

        def idle(self, until_ns: int | None = None) -> Progress:
            progress, limit = super().idle(until_ns), time.monotonic() + 60
            while self.told and self.quiet and not seen.exists() and time.monotonic() < limit:
                time.sleep(0.001)
            return progress

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    trace = tmp_path / "t.gtrace"
    ended = run(
        (sys.executable, "-c", HASTY, str(SEED), str(seen)),
        lambda client: Slow("gfx1100", client=client),
        RecordedKfd("gfx1100").topology,
        tell=lambda notice: None,
        trace=trace,
    )
    assert ended.status == 0
    with TraceReader(trace) as reader:
        stored = [
            data
            for event in reader
            if isinstance(event, events.Memory)
            for _, data in reader.pieces(event)
        ]
        assert any(bytes([0xEE]) * 4096 in data for data in stored)
        assert not any(bytes([0x11]) * 4096 in data for data in stored)
    verdict = replay(Request(str(trace)))
    assert verdict.result is Result.SAME, verdict.text


ASLEEP = """
import time, gputrace
with gputrace.open("kfd:0") as device:
    device.compute_queue().signal().wait(10)
    print("asleep", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_closed_terminal_ends_the_program_and_the_trace(tmp_path: Path) -> None:
    trace = tmp_path / "t.gtrace"
    command = [sys.executable, "-m", "gputrace.cli.main", "record", "-o", str(trace)]
    program = ["--device", "emu:gfx1100", "--", sys.executable, "-c", ASLEEP]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *program], env=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == b"asleep\n"
        recorder.send_signal(signal.SIGHUP)
        assert recorder.wait() == 128 + signal.SIGHUP
    with TraceReader(trace) as reader:
        assert reader.trailer is not None
        assert reader.trailer.outcome["result"] == "killed"
        assert "SIGHUP" in reader.trailer.outcome["text"]
    assert replay(Request(str(trace))).result is Result.SAME


HUNG = """
import os, signal, sys, gputrace
from gputrace.driver import WaitTimeout
device = gputrace.open("kfd:0")
queue = device.compute_queue()
queue.wait(device.timeline("gate").at(1))
try:
    queue.signal().wait(0.05)
except WaitTimeout:
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(3)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("how", ["ended", "killed"])
def test_a_wait_for_the_cpu_is_proven_to_hang_where_the_program_had_its_say(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    trace = tmp_path / "t.gtrace"
    ended = run(
        (sys.executable, "-c", HUNG, how),
        lambda client: RecordedKfd("gfx1100", client=client),
        RecordedKfd("gfx1100").topology,
        tell=lambda notice: None,
        trace=trace,
    )
    assert ended.status == (128 + signal.SIGKILL if how == "killed" else 3)
    with TraceReader(trace) as reader:
        assert reader.trailer is not None
        outcome = reader.trailer.outcome
    assert (outcome["result"], outcome["proven"]) == ("hang", how == "ended")
