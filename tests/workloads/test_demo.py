"""The demo, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

from gputrace.cli import demo
from gputrace.cli.main import run as main
from gputrace.replay.running import Request, play

ROOT = Path(demo.__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gputrace.cli.main", "demo", *arguments],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_the_demo_leads_from_a_program_that_hangs_to_the_packet_that_matters(tmp_path):
    done = run(tmp_path, "-o", "files", "--device", "emu:gfx1100")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) < 65
    assert max(map(len, lines)) <= 110
    assert sum(line.startswith("$ gputrace ") for line in lines) == 5
    assert "The missing signal belongs to compute 1" in done.stdout
    assert "packets became 1:" in done.stdout
    small = tmp_path / "files" / "small.gtrace"
    assert play(Request(str(small)), lambda: False).result.value == "hang"


def test_a_step_that_comes_out_otherwise_ends_the_demo(tmp_path):
    done = run(tmp_path, "-o", "files", "--device", "emu:gfx42")
    assert done.returncode == 2
    assert "exit status 2 instead of 1" in done.stderr
    assert "gfx42" in done.stderr


def test_the_values_are_there_for_programs(tmp_path, monkeypatch, capsys):
    first = demo.steps("emu:gfx942")[:3]
    monkeypatch.setattr(demo, "steps", lambda device: first)
    assert main(["demo", "--json", "-o", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path)
    assert [step["exit"] for step in told["steps"]] == [1, 0, 3]
    assert told["steps"][2]["data"]["result"] == "hang"
