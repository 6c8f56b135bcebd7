"""The frame of the bench: what a row says, and that a group can be run from anywhere."""

import json
import subprocess
import sys
from pathlib import Path

from tools import benches

TOOL = [sys.executable, str(Path(__file__).resolve().parents[2] / "tools" / "bench")]


def test_a_row_says_whether_its_budget_is_kept() -> None:
    low, high = benches.at_most("a", 10.0, "us", 15), benches.at_least("b", 10.0, "MB/s", 500)
    assert (low.met, high.met, benches.Row("c", 1.0, "us").met) == (True, False, None)
    assert low.line().split() == ["a", "10.00", "us", "<=", "15", "kept"]
    assert high.line().split() == ["b", "10.00", "MB/s", ">=", "500", "MISSED"]
    assert benches.Row("c", 1234567.0, "us", note="why").line().split() == [
        "c", "1,234,567", "us", "why"
    ]  # fmt: skip


def test_groups_are_listed_and_one_is_measured_as_json() -> None:
    listed = subprocess.run([*TOOL, "--list"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == benches.names()
    command = [*TOOL, "packets", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    rows = json.loads(done.stdout)["rows"]["packets"]
    assert {"name", "value", "unit", "budget", "met"} <= rows[0].keys()
    assert all(row["value"] > 0 for row in rows)
