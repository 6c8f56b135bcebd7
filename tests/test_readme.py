"""What README.md says is so: its commands, its numbers and its example."""

import re
import shutil
from pathlib import Path

from gputrace.cli import workloads
from gputrace.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TWO = (
    "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/gputrace demo",
    "python3 -m venv .venv && .venv/bin/pip install -q '.[test]' && .venv/bin/pytest",
)


def test_the_first_screen_has_the_two_commands():
    first = [line.strip() for line in README.splitlines()[:24]]
    assert [line for line in first if line.startswith("python3")] == list(TWO)


def test_every_command_and_option_it_names_is_there():
    named = set(re.findall(r"gputrace ([a-z]+) (?:-|[A-Z]|[a-z]+\.gtrace)", README))
    assert {"record", "replay", "minimize", "bisect", "run", "dump"} <= named <= set(COMMANDS)
    replay = cli.get_command(cli.make_context("gputrace", ["info"]), "replay")
    options = {name for one in replay.params for name in one.opts}
    assert {"--repeat", "--schedule", "--device"} <= options


def test_its_table_of_workloads_says_what_the_captures_say():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (\d+) \| ?(\d*) ?\|$", README, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(workloads.NAMES)
    for name, before, after in rows:
        assert len(workloads.find(name).minimum) == int(after or 0)
        if after:
            report = (ROOT / "traces" / f"{name}-gfx942.min.txt").read_text()
            assert f"{before} packets became {after}:" in report, name


def test_its_tour_shows_what_is_in_the_shipped_report():
    report = (ROOT / "traces" / "spin_lock-gfx942.min.txt").read_text()
    tour = README[README.index("450 packets became 5:") : README.index("Certificate:")]
    for line in tour.splitlines():
        if line.strip() not in ("", "..."):
            assert line.strip().removesuffix(" ...") in report


def test_its_example_runs(tmp_path, monkeypatch):
    shutil.copy(ROOT / "tests/kernels/built/gfx1100/seed-O3.co", tmp_path / "saxpy.co")
    monkeypatch.chdir(tmp_path)
    example = README[README.index("    import gputrace, numpy") :].split("\n\n")[0]
    lines = [line.removeprefix("    ") for line in example.splitlines()]
    exec(compile("\n".join(lines), "README.md", "exec"), {})
    assert (tmp_path / "T.gtrace").stat().st_size > 0
