"""Programs that know nothing of gputrace: how they are built, and recorded until they end or fail.

Their sources are in tests/interpose/clients. What waits for ever prints "waiting" and its process,
and is killed then.
"""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gputrace.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = ROOT / "tests" / "interpose" / "clients"
TRITON = ROOT / "tests" / "kernels" / "triton" / "built" / "gfx90a.zip"
HSA_HEADERS = Path("/usr/include/hsa/hsa_ext_amd.h")
WAITING = "waiting "
EMPTY: Mapping[str, str] = {}
EXACT = ",check=bytes"
"""Of a device that sees what goes beyond a small buffer."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A program, the device on which it runs, and what a replay of its trace says.

    `minimum` is how many packets are left of a failing one.
    """

    name: str
    target: str
    client: str
    arguments: tuple[str, ...]
    verdict: str
    minimum: int = 0
    options: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The name of the device."""
        return f"emu:{self.target}{self.options}"

    def command(self, folder: Path) -> list[str]:
        """Build the program in a folder; return how it is called. Raises UsageError."""
        called = [*build(self.client, folder), *self.arguments]
        return [*called, *addition(folder)] if Path(self.client).suffix == ".c" else called


def missing(client: str) -> str:
    """Say what a client needs and is not installed; nothing when all is there."""
    match Path(client).suffix:
        case "" if shutil.which(client) is None:
            return f"{client} is not installed"
        case ".cpp" if shutil.which("hipcc") is None:
            return "hipcc is not installed"
        case ".py" if find_spec("tinygrad") is None or find_library("LLVM-19") is None:
            return "tinygrad or its compiler (Debian package libllvm19) is not installed"
        case ".c" if not HSA_HEADERS.exists():
            return "HSA's headers (Debian package libhsa-runtime-dev) are not installed"
    return ""


def build(client: str, folder: Path) -> list[str]:
    """Build a client in a folder; return how it is called. Raises UsageError."""
    problem = missing(client)
    if problem:
        raise UsageError(f"{client}: {problem}")
    source, made = CLIENTS / client, folder / Path(client).stem
    match source.suffix:
        case ".cpp":
            targets = [f"--offload-arch={target}" for target in ("gfx90a", "gfx1030")]
            command = ["hipcc", *targets, "-O2", str(source), "-o", str(made)]
        case ".c":
            warnings = ["-Wall", "-Wextra", "-Werror"]
            command = ["gcc", "-O1", *warnings, str(source), "-o", str(made), "-lhsa-runtime64"]
        case "":
            return [client]
        case _:
            return [sys.executable, str(source)]
    environment = {**os.environ, "HIP_PLATFORM": "amd"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{client} cannot be built: {done.stderr}")
    return [str(made)]


def record(
    trace: Path, device: str, command: Sequence[str], variables: Mapping[str, str] = EMPTY
) -> int:
    """Record a program, and kill it when it says that it waits; return the exit status."""
    return perform(["record", "-o", str(trace), "--device", device, "--", *command], variables)


def addition(folder: Path) -> list[str]:
    """Store a kernel that Triton compiled and numbers to add; return how it is to be launched."""
    with zipfile.ZipFile(TRITON) as archive:
        code = archive.extract("add-fp32.hsaco", folder)
    files = [folder / name for name in ("sum", "first", "second")]
    for file in files:
        np.arange(1024, dtype=np.float32).tofile(file)
    return [code, "add", "4", "256", "0", *map(str, files), "u32:1024"]


def perform(arguments: Sequence[str], variables: Mapping[str, str] = EMPTY) -> int:
    """Call gputrace with a program that may wait; return the exit status."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "gputrace.cli.main", *arguments]
    with subprocess.Popen(
        command, env=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith(WAITING):
                os.kill(int(line.removeprefix(WAITING)), signal.SIGKILL)
        return running.wait()


_TINYGRAD = {"DEV": "KFD+AMD:LLVM"}
FOREIGN = (
    *(Foreign("rocminfo", target, "rocminfo", (), "same") for target in ("gfx90a", "gfx1030")),
    *(Foreign(f"hip_{what}", target, "hip.cpp", (what,), "same")
      for target in ("gfx90a", "gfx1030")
      for what in ("saxpy", "sum", "streams", "copies", "host", "fork", "stack", "grid")),
    Foreign("hsa_triton", "gfx90a", "hsa.c", ("run",), "same"),
    *(Foreign("tinygrad_ops", target, "tiny.py", ("ops",), "same", variables=_TINYGRAD)
      for target in ("gfx1100", "gfx942", "gfx1201")),
    Foreign("tinygrad_train", "gfx1100", "tiny.py", ("train",), "same", variables=_TINYGRAD),
    Foreign("hip_freed", "gfx90a", "failing.cpp", ("freed",), "fault", 2, EXACT),
    Foreign("hip_unset", "gfx90a", "failing.cpp", ("unset",), "hang", 2),
    Foreign("hip_overrun", "gfx90a", "failing.cpp", ("overrun",), "fault", 2, EXACT),
    Foreign("hip_spin", "gfx90a", "failing.cpp", ("spin",), "hang", 2),
    Foreign("hip_early", "gfx90a", "failing.cpp", ("early",), "hang", 4),
    Foreign("hsa_lost", "gfx90a", "hsa.c", ("lost",), "hang", 2),
)  # fmt: skip
STORED = ("hip_streams", "tinygrad_ops", "hip_freed", "hip_unset")
"""Programs whose traces are in traces/: of the first of each name."""


def stored() -> list[Foreign]:
    """Return the programs whose traces are in traces/."""
    return [next(one for one in FOREIGN if one.name == name) for name in STORED]
