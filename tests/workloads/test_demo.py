"""The demo, as a user runs it."""

import json
import subprocess
import sys
from dataclasses import replace
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
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 110
    assert sum(line.startswith("$ gputrace ") for line in lines) == 5
    assert "The missing signal belongs to compute 1" in done.stdout
    assert "packets became 1:" in done.stdout
    small = tmp_path / "files" / "small.gtrace"
    assert play(Request(str(small)), lambda: False).result.value == "hang"


def test_a_step_that_comes_out_otherwise_ends_the_demo(tmp_path, monkeypatch, capsys):
    first = replace(demo.steps("emu:gfx942")[0], exit=0)
    monkeypatch.setattr(demo, "steps", lambda device: [first])
    assert main(["demo", "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "exit status 1 instead of 0" in error
    assert "hang.gtrace" in error


def test_the_values_are_there_for_programs(tmp_path, monkeypatch, capsys):
    first = demo.steps("emu:gfx942")[:3]
    monkeypatch.setattr(demo, "steps", lambda device: first)
    assert main(["demo", "--json", "-o", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path)
    assert [step["exit"] for step in told["steps"]] == [1, 0, 3]
    assert told["steps"][2]["data"]["result"] == "hang"
