"""A replay in a new process, again and again: bit-identical, down to steps and clocks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gputrace
from gputrace.cli.workloads.pipeline import Pipeline
from tools.campaigns import Campaign

COUNT, SAMPLE = 100, 2
ROOT = Path(__file__).parents[2]
SAME = ("result", "digest", "steps", "compared", "written", "text", "proven", "failures")
"""What must be equal in the verdicts of all replays."""


def run(campaign: Campaign) -> None:
    """Record the overlap workload with clocks, then replay it in one process after the other."""
    path = campaign.folder / "overlap.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx942,schedule=7") as device:
        pipeline = Pipeline(device, campaign.seed)
        for batch in range(1, 9):
            pipeline.submit(batch)
        pipeline.end()
    first: dict[str, object] = {}
    for number in campaign.numbers():
        command = [sys.executable, "-m", "gputrace.cli.main", "replay", str(path), "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            campaign.fail(f"replay {number} ended with {done.returncode}: {done.stderr.strip()}")
            continue
        verdict = {name: value for name, value in json.loads(done.stdout).items() if name in SAME}
        first = first or verdict
        if verdict != first or verdict["result"] != "same":
            campaign.fail(f"replay {number}: {verdict}, at first {first}")
    campaign.facts["distinct outcomes"] = 1 if not campaign.failures else "more than one"
    campaign.facts["bytes compared"] = first.get("compared")
