"""Programs of others, as Debian and PyPI ship their runtimes: run, recorded, replayed the same."""

import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import pytest

from gputrace.cli.main import run as cli

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMPILER = shutil.which("clang-19") or shutil.which("clang") or ""
HIP = [("gfx90a", what) for what in ("saxpy", "sum", "streams", "copies", "host", "fork", "stack")]
HIP += [("gfx1030", what) for what in ("saxpy", "streams", "stack")]
HIP += [(target, "grid") for target in ("gfx90a", "gfx1030")]
SAYS = {
    "stack": ["12", "from", "3"],  # printed by a kernel, through a thread of the host
    "fork": ["ok"],  # of the child
}
"""What they print before they are done."""
needs_hip = pytest.mark.skipif(shutil.which("hipcc") is None, reason="hipcc is not installed")
needs_tinygrad = pytest.mark.skipif(
    find_spec("tinygrad") is None or find_library("LLVM-19") is None,
    reason="tinygrad or its compiler (Debian package libllvm19) is not installed",
)


def gputrace(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of gputrace in a process of its own."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "gputrace.cli.main", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=600)


def check(trace: Path, target: str, *program: str, **variables: str) -> list[str]:
    """Record a program, replay every trace of it; return what it printed."""
    record = ["record", "-o", str(trace), "--device", f"emu:{target}", "--", *program]
    done = gputrace(*record, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.split()
    assert lines[-1] == "ok"
    traces = sorted(trace.parent.glob("*.gtrace"))
    assert trace in traces
    for one in traces:
        replayed = gputrace("replay", str(one), "--expect", "recorded")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert replayed.stdout.startswith("same: "), replayed.stdout
    return lines[:-1]


@pytest.fixture(scope="module")
def hip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the HIP client."""
    target = tmp_path_factory.mktemp("hip") / "hip"
    architectures = [f"--offload-arch={name}" for name in ("gfx90a", "gfx1030")]
    command = ["hipcc", *architectures, "-O2", str(HERE / "clients/hip.cpp"), "-o", str(target)]
    environment = {**os.environ, "HIP_PLATFORM": "amd"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(target)


@needs_hip
@pytest.mark.parametrize(("target", "what"), HIP)
def test_hip(tmp_path: Path, hip: str, target: str, what: str) -> None:
    said = check(tmp_path / "hip.gtrace", target, hip, what)
    assert said == SAYS.get(what, [])


@needs_hip
def test_a_part_of_a_hip_program_is_the_launch_of_a_kernel(tmp_path: Path, hip: str) -> None:
    trace = tmp_path / "part.gtrace"
    record = ["record", "-o", str(trace), "--device", "emu:gfx90a"]
    part = ["--start", "kernel:saxpy", "--stop", "kernel:saxpy"]  # in C++ words
    done = gputrace(*record, *part, "--", hip, "streams")
    assert done.returncode == 0, done.stderr
    shown = gputrace("dump", str(trace)).stdout.splitlines()
    launches = [line for line in shown if "KernelDispatch" in line]
    assert len(launches) == 1
    assert "_Z5saxpyifPKfPf(" in launches[0]
    replayed = gputrace("replay", str(trace), "--expect", "recorded")
    assert replayed.stdout.startswith("same: "), replayed.stdout
    done = gputrace(*record, "--start", "kernel:saxp", "--", hip, "streams")
    assert done.returncode == 2
    assert "(exit status 0): kernel:saxp never came; kernels that were started: " in done.stderr
    assert done.stderr.count("never came") == 1
    assert [one for one in shown if "checkpoint, complete" in one]


@needs_tinygrad
@pytest.mark.parametrize("target", ["gfx942", "gfx1201"])
def test_tinygrad(tmp_path: Path, target: str) -> None:
    program = [sys.executable, str(HERE / "clients/tiny.py"), "ops"]
    check(tmp_path / "tiny.gtrace", target, *program, DEV="KFD+AMD:LLVM", CACHEDB=f"{tmp_path}/c")


@needs_tinygrad
@pytest.mark.skipif(not COMPILER, reason="tinygrad's CPU device needs clang")
def test_a_network_learns_what_it_learns_on_the_cpu(tmp_path: Path) -> None:
    program = [sys.executable, str(HERE / "clients/tiny.py"), "train"]
    variables = {"DEV": "KFD+AMD:LLVM", "CACHEDB": f"{tmp_path}/cache.db"}
    found = [float(one) for one in check(tmp_path / "t.gtrace", "gfx1100", *program, **variables)]
    assert len(found) == 50
    assert found[-1] < 0.8 * found[0]
    plain = {**os.environ, "DEV": "CPU", "CC": COMPILER, "CACHEDB": f"{tmp_path}/cpu.db"}
    done = subprocess.run(program, env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = [float(one) for one in done.stdout.split()[:-1]]
    assert found == pytest.approx(wanted, rel=1e-2)


@pytest.mark.skipif(shutil.which("rocminfo") is None, reason="rocminfo is not installed")
@pytest.mark.parametrize("target", ["gfx90a", "gfx1030"])
def test_rocminfo(tmp_path: Path, target: str, capfd: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "rocminfo.gtrace"
    done = gputrace("record", "-o", str(trace), "--device", f"emu:{target}", "--", "rocminfo")
    assert done.returncode == 0, done.stderr
    assert target in done.stdout
    assert cli(["replay", str(trace), "--expect", "recorded"]) == 0
