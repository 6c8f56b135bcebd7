"""Programs on a real /dev/kfd, recorded on the way: the emulated one of `gputrace run` stands in.

No hardware was there to try this on. What stands in is served through the same device nodes, and
the tap knows nothing of it.
"""

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.emulated.process import Process
from gputrace.devices.emulated.queue import HardwareQueue, Work
from gputrace.families import family
from gputrace.formats import aql
from gputrace.formats.ioctl import QueueType
from gputrace.formats.pm4.enums import ReleaseData
from gputrace.interpose.completion import Completion
from gputrace.interpose.launch import run
from gputrace.interpose.tap_recorder import EARLY
from gputrace.replay.running import Request, replay
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MAIN = [sys.executable, "-m", "gputrace.cli.main"]
pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler"
)

DRIVER = """
import numpy, gputrace, sys, time
def word(buffer, offset=0):
    return int(buffer.view(numpy.uint32)[offset // 4])
with gputrace.open("kfd:0") as device:
    a, b = device.alloc(8192), device.alloc(8192, kind="userptr")
    a.write(numpy.arange(2048, dtype=numpy.uint32))
    copies, compute = device.copy_queue(), device.compute_queue()
    with copies.batch():  # one doorbell for both, so that each submission has a sign of its end
        copies.copy(b, a, 8192)
        copied = copies.signal()
    with compute.batch():
        compute.wait(copied)
        compute.signal()
    copies.signal().wait(10)
    compute.signal().wait(10)
    assert (b.view(numpy.uint32) == numpy.arange(2048)).all()
    b.write(bytes(4096))  # after the GPU, and before it
    with copies.batch():
        copies.copy(a, b, 4096)
        copied = copies.signal()
    copied.wait(10)
    assert word(a, 4092) == 0 and word(a, 4096) == 1024
print(device.target)
"""
ALONE = """
import time, numpy, gputrace
with gputrace.open("kfd:0") as device:
    a, b = device.alloc(4096, kind="gtt"), device.alloc(4096, kind="gtt")
    a.write(bytes(range(256)) * 16)
    copies = device.copy_queue()
    copies.copy(b, a)
    while b.read(4) != bytes(range(4)):  # rung and seen alone, without a word that tells its end
        time.sleep(1e-3)
    a.write(b"nobody can say who stored this".ljust(64))
    copies.signal().wait(10)
    a.write(b"the program's".ljust(64))
    copies.copy(b, a)
    copies.signal().wait(10)
    assert b.read(13) == b"the program's"
"""
GATE = """
import sys, time, numpy, gputrace
with gputrace.open("kfd:0") as device:
    gate, out = device.alloc(4096, kind="gtt"), device.alloc(4096)
    queue = device.compute_queue()
    queue.wait_memory(gate, 7)
    queue.write(out, b"after the gate".ljust(16))
    done = queue.signal()
    if sys.argv[1] == "open":
        time.sleep(0.6)
        gate.write(numpy.uint32(7).tobytes())
    try:
        done.wait(1.5)
        print("open")
    except Exception as error:
        print("shut")
"""


def tapped(
    target: str, trace: Path, *program: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Record a program on /dev/kfd, which an emulated device stands behind."""
    served = [*MAIN, "run", "--device", f"emu:{target}", "--"]
    record = [*MAIN, "record", "--device", "kfd:0", "-o", str(trace), "--"]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [*served, *record, *program], env=given, capture_output=True, text=True, timeout=300
    )


MEMORY = {0x1000: 1, 0x2008: 5}


def _read(address: int, size: int) -> bytes:
    return MEMORY.get(address, 0).to_bytes(8, "little")[:size]


def test_the_end_of_a_submission_is_told_by_its_packets() -> None:
    found = Completion(family("gfx942"), _read, lambda address: address == 0x9000)
    packets = family("gfx942").pm4.packet("ReleaseMem")
    release = packets(address=0x1000, data=2, data_sel=ReleaseData.DATA_64)
    event = packets(address=0x9000, data=3, data_sel=ReleaseData.DATA_64)
    signs = found.signs(QueueType.COMPUTE, release.to_bytes() + event.to_bytes())
    assert [one[:3] for one in signs.found] == [(0x1000, 8, 1)]
    assert signs.complete
    assert not signs.found[0].seen(_read)
    assert signs.found[0].seen(lambda address, size: (2).to_bytes(size, "little"))
    dispatch = aql.KernelDispatch(
        dimensions=1, workgroup_size_x=1, grid_size_x=1, kernel_object=0x3000
    )
    assert not found.signs(QueueType.COMPUTE_AQL, dispatch.to_bytes()).complete
    signal = aql.BarrierAnd(barrier=True, completion_signal=0x2000, dep_signal_0=0x2000)
    both = found.signs(QueueType.COMPUTE_AQL, dispatch.to_bytes() + signal.to_bytes())
    assert both.complete
    assert [one.address for one in both.found] == [0x2008]
    assert not both.gates[0].open(_read)
    assert not found.signs(QueueType.SDMA, b"\xff" * 64).complete  # what nobody can read


def again(trace: Path, target: str) -> Verdict:
    return replay(Request(str(trace), f"emu:{target}"))


def test_what_changes_while_nothing_proves_a_copy_done_is_of_nobody_known(tmp_path: Path) -> None:
    trace = tmp_path / "alone.gtrace"
    done = tapped("gfx942", trace, sys.executable, "-c", ALONE)
    assert done.returncode == 0, done.stderr
    with TraceReader(trace) as reader:
        memory = [one for one in reader if isinstance(one, events.Memory)]
    stored = {text: [one.provenance for one in memory if text in bytes(one.data)]
              for text in (b"nobody can say", b"the program's")}  # fmt: skip
    assert set(stored[b"nobody can say"]) == {"unknown"}
    assert set(stored[b"the program's"]) == {"cpu"}
    verdict = again(trace, "gfx942")
    assert verdict.result is Result.SAME, verdict.text


@pytest.mark.parametrize("target", ["gfx942", "gfx1100"])
def test_every_byte_is_known_to_be_the_programs_or_the_gpus(tmp_path: Path, target: str) -> None:
    trace = tmp_path / "driver.gtrace"
    done = tapped(target, trace, sys.executable, "-c", DRIVER)
    assert (done.returncode, done.stdout) == (0, f"{target}\n"), done.stderr
    with TraceReader(trace) as reader:
        assert reader.trailer is not None
        memory = [one for one in reader if isinstance(one, events.Memory)]
        intents = [one for one in reader if isinstance(one, events.DoorbellIntent)]
    assert memory
    assert {one.provenance for one in memory} == {"cpu"}
    assert len(intents) >= 4
    verdict = again(trace, target)
    assert verdict.result is Result.SAME, verdict.text
    assert verdict.compared > 2 * 8192
    # and on the very nodes that it was recorded on
    nodes = [*MAIN, "run", "--device", f"emu:{target}", "--", *MAIN, "replay", str(trace)]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    replayed = subprocess.run(nodes, env=given, capture_output=True, text=True, timeout=300)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert replayed.stdout.startswith("same: ")
    assert "kfd:0" in replayed.stdout


@pytest.mark.skipif(shutil.which("rocminfo") is None, reason="rocminfo is not installed")
def test_rocminfo(tmp_path: Path) -> None:
    trace = tmp_path / "rocminfo.gtrace"
    done = tapped("gfx90a", trace, "rocminfo")
    assert done.returncode == 0, done.stderr
    assert "gfx90a" in done.stdout
    assert "*** Done ***" in done.stdout
    assert again(trace, "gfx90a").result is Result.NOT_COMPARED


@pytest.mark.skipif(shutil.which("hipcc") is None, reason="hipcc is not installed")
def test_hip_and_its_fork(tmp_path: Path) -> None:
    program, trace = tmp_path / "hip", tmp_path / "hip.gtrace"
    build = ["hipcc", "--offload-arch=gfx90a", "-O2", str(HERE / "clients/hip.cpp"), "-o"]
    given = {**os.environ, "HIP_PLATFORM": "amd"}
    subprocess.run([*build, str(program)], env=given, check=True, capture_output=True)
    done = tapped("gfx90a", trace, str(program), "fork")
    assert (done.returncode, done.stdout.split()[-1]) == (0, "ok"), done.stderr
    traces = sorted(tmp_path.glob("*.gtrace"))
    assert len(traces) == 2
    for one in traces:
        verdict = again(one, "gfx90a")
        if verdict.result is Result.UNSUPPORTED:  # the device was quicker than the doorbell
            assert EARLY in verdict.text
        else:
            assert verdict.result is Result.SAME, verdict.text


LATE = """
#include <hip/hip_runtime.h>
#include <unistd.h>
__global__ void more(int *x) { x[threadIdx.x] += 1 + threadIdx.x; }
int main()
{
    int *x, found[64];
    if (hipMalloc(&x, sizeof found) || hipMemset(x, 0, sizeof found))
        return 1;
    more<<<1, 64>>>(x);
    more<<<1, 64>>>(x);
    usleep(300000); /* the kernels end meanwhile, and nothing has told that they have */
    if (hipMemcpy(found, x, sizeof found, hipMemcpyDeviceToHost))
        return 1;
    for (int i = 0; i < 64; i++)
        if (found[i] != 2 * (1 + i))
            return 2;
    return 0;
}
"""


class Slow(EmulatedKfd):
    """Each kernel's work comes long after its packet was fetched."""

    _until = 0.0

    def start(self, dispatch: Any, queue: HardwareQueue) -> Work:
        self._until = time.monotonic() + 0.05
        return super().start(dispatch, queue)

    def _advance(self, process: Process) -> int:
        late = time.monotonic() < self._until
        return 0 if late else self._scheduler.run(process.hardware, 1)


@pytest.mark.skipif(shutil.which("hipcc") is None, reason="hipcc is not installed")
def test_kernels_that_nothing_proves_done_may_take_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, trace = tmp_path / "hip", tmp_path / "hip.gtrace"
    monkeypatch.setenv("HIP_PLATFORM", "amd")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "late.cpp").write_text(LATE)
    build = ["hipcc", "--offload-arch=gfx90a", "-O2", str(tmp_path / "late.cpp"), "-o"]
    subprocess.run([*build, str(program)], check=True, capture_output=True)
    record = [*MAIN, "record", "--device", "kfd:0", "-o", str(trace), "--", str(program)]
    ended = run(
        record,
        lambda client: Slow("gfx90a", client=client),
        EmulatedKfd("gfx90a").topology,
        tell=lambda notice: None,
    )
    assert ended.status == 0
    verdict = again(trace, "gfx90a")
    assert verdict.result is Result.SAME, verdict.text


@pytest.mark.skipif(find_spec("tinygrad") is None, reason="tinygrad is not installed")
def test_tinygrad(tmp_path: Path) -> None:
    trace = tmp_path / "tiny.gtrace"
    code = "from tinygrad import Tensor; print((Tensor([1., 2., 3.]) * 2 + 1).tolist())"
    variables = {"DEV": "KFD+AMD:LLVM", "CACHEDB": f"{tmp_path}/cache.db"}
    done = tapped("gfx1100", trace, sys.executable, "-c", code, **variables)
    assert (done.returncode, done.stdout) == (0, "[3.0, 5.0, 7.0]\n"), done.stderr
    assert again(trace, "gfx1100").result is Result.SAME


@pytest.mark.parametrize(("how", "result"), [("open", Result.NOT_COMPARED), ("shut", Result.HANG)])
def test_a_program_goes_on_when_only_it_can_end_a_submission(
    tmp_path: Path, how: str, result: Result
) -> None:
    trace = tmp_path / "gate.gtrace"
    done = tapped("gfx1100", trace, sys.executable, "-c", GATE, how)
    assert (done.returncode, done.stdout) == (0, f"{how}\n"), done.stderr
    with TraceReader(trace) as reader:
        assert reader.trailer is not None
        assert reader.trailer.outcome["result"] == ("ended" if how == "open" else "hang")
    verdict = again(trace, "gfx1100")
    assert verdict.result is result, verdict.text
