"""Programs that know nothing of gputrace: how they are built, and recorded until they end or fail.

Their sources are in tests/interpose/clients. What waits for ever prints "waiting" and its process,
and is killed then.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from gputrace.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = ROOT / "tests" / "interpose" / "clients"
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
        return [*build(self.client, folder), *self.arguments]


def missing(client: str) -> str:
    """Say what a client needs and is not installed; nothing when all is there."""
    match Path(client).suffix:
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
    given = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    options = ["record", "-o", str(trace), "--device", device, "--"]
    recorder = [sys.executable, "-m", "gputrace.cli.main", *options, *command]
    with subprocess.Popen(
        recorder, env=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith(WAITING):
                os.kill(int(line.removeprefix(WAITING)), signal.SIGKILL)
        return running.wait()


_TINYGRAD = {"DEV": "KFD+AMD:LLVM"}
FOREIGN = (
    Foreign("hip_streams", "gfx90a", "hip.cpp", ("streams",), "same"),
    Foreign("tinygrad_ops", "gfx1100", "tiny.py", ("ops",), "same", variables=_TINYGRAD),
    Foreign("hip_freed", "gfx90a", "failing.cpp", ("freed",), "fault", 2, EXACT),
    Foreign("hip_unset", "gfx90a", "failing.cpp", ("unset",), "hang", 2),
    Foreign("hip_overrun", "gfx90a", "failing.cpp", ("overrun",), "fault", 2, EXACT),
    Foreign("hip_spin", "gfx90a", "failing.cpp", ("spin",), "hang", 2),
)
"""Of these, the ones in `STORED` have their traces in traces/."""
STORED = ("hip_streams", "tinygrad_ops", "hip_freed", "hip_unset")
