"""Commands that only look at a trace load neither compiler, devices nor driver."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.trace.samples import write_small

SCRIPT = """
import sys
from gputrace.cli.main import run
status = run(sys.argv[1:])
loaded = [name for name in sys.modules if name.startswith(
    ("llvmlite", "numpy", "gputrace.driver", "gputrace.devices", "gputrace.isa.jit"))]
print("LOADED", status, loaded)
"""


@pytest.mark.parametrize("arguments", [["dump"], ["info"], ["check"], ["diff"], ["repair"]])
def test_no_compiler_is_loaded_to_look(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    write_small(path)
    paths = [str(path)] * (2 if arguments == ["diff"] else 1)
    command = [sys.executable, "-c", SCRIPT, *arguments, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED 0 []"
