"""Programs of others that fail: captured to the failure, replayed to the same one, made small."""

import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.interpose.test_clients import ROOT, gputrace, needs_hip
from tests.interpose.test_hsa import KERNELS, hsa, needs_hsa, stored
from tools.foreign import EXACT, build, record

__all__ = ["hsa"]

FAULT, HANG = 4, 3
# What a replay of each calls its failure: exit code and words of its text.
FAILING = {
    "overrun": (FAULT, ["scale", "read of 4 bytes", "0x0 bytes after the end of", "vram"]),
    "freed": (FAULT, ["scale", "read of 4 bytes", "which was freed"]),
    "spin": (HANG, ["wait_for", "loops for ever", "which is 0x0"]),
    "early": (HANG, ["meet", "waits at global barrier 0, to which 1 more wave has to come"]),
    "unset": (HANG, ["streamOpsWait", "loops for ever", "value=1", "which is 0x0"]),
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the client."""
    return build("failing.cpp", tmp_path_factory.mktemp("failing"))[0]


@needs_hip
@pytest.mark.parametrize("what", FAILING)
def test_a_hip_program_is_replayed_to_its_failure(tmp_path: Path, failing: str, what: str) -> None:
    trace, (status, words) = tmp_path / "t.gtrace", FAILING[what]
    killed = 128 + (signal.SIGABRT if status == FAULT else signal.SIGKILL)
    assert record(trace, f"emu:gfx90a{EXACT}", [failing, what]) == killed
    done = gputrace("replay", str(trace), "--expect", "recorded")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in (*words, "fault: " if status == FAULT else "hang (proven): "):
        assert word in done.stdout


@needs_hsa
def test_a_wait_for_what_nobody_sets_is_made_small(tmp_path: Path, hsa: str) -> None:
    with zipfile.ZipFile(KERNELS / "triton/built/gfx90a.zip") as archive:
        code = archive.extract("add-fp32.hsaco", tmp_path)
    files = [stored(tmp_path / name, np.ones(256, np.float32)) for name in "cab"]
    trace, small = tmp_path / "t.gtrace", tmp_path / "small.gtrace"
    lost = [hsa, "lost", code, "add", "1", "256", "0", *files, "u32:256"]
    assert record(trace, "emu:gfx90a", lost) == 128 + signal.SIGKILL
    done = gputrace("minimize", str(trace), "-o", str(small))
    assert done.returncode == 0, done.stdout + done.stderr
    report = small.with_suffix(".txt").read_text()
    assert re.search(r"waits for 'gtt\d+ \+ 0x\w+' == 0, and no packet", report)
    assert "No packet ever stores to" in report
    assert "packets became 2:" in report  # the barrier and the copy for which it waits, too
    assert gputrace("replay", str(small)).returncode == HANG
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = [sys.executable, str(small.with_suffix(".py"))]
    done = subprocess.run(script, env=given, capture_output=True, text=True)
    assert done.returncode == HANG, done.stdout + done.stderr
    assert "hang: queue 0, packet 0: waits for " in done.stdout
