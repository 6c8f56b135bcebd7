"""Start the tinygrad program on an emulated GPU."""

import os
import subprocess
import sys
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = ("gfx942", "gfx1100", "gfx1201")
ENGINES = ("numpy", "jit")
INSTALLED = find_spec("tinygrad") is not None and find_library("LLVM-19") is not None
WORK = ("softmax", "matmul", "convolution", "reduce", "sort", "functions")


def run(target: str, engine: str, names: tuple[str, ...], folder: Path) -> None:
    """Run some of the program's work; raises AssertionError with what it printed."""
    variables = {
        "PYTHONPATH": str(HERE.parents[1]), "DEV": "KFD+AMD:LLVM", "CACHEDB": str(folder / "cache"),
    }  # fmt: skip
    device = f"emu:{target},engine={engine}"
    command = [sys.executable, "-m", "gputrace.cli.main", "run", "--device", device, "--"]
    done = subprocess.run(
        [*command, sys.executable, str(HERE / "tinygrad_program.py"), *names],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(names)
