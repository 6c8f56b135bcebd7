"""A replay in a new process, again and again: bit-identical, down to steps and clocks.

Each family has its turn, with a trace of its own.
"""

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
    first: dict[str, dict[str, object]] = {}
    for number in campaign.numbers():
        target = campaign.target(number)
        path = campaign.folder / f"overlap-{target}.gtrace"
        if not path.exists():
            record(path, target, campaign.seed)
        command = [sys.executable, "-m", "gputrace.cli.main", "replay", str(path), "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        case = f"replay {number} on {target}"
        if done.returncode:
            campaign.fail(f"{case} ended with {done.returncode}: {done.stderr.strip()}")
            continue
        verdict = {name: value for name, value in json.loads(done.stdout).items() if name in SAME}
        expected = first.setdefault(target, verdict)
        if verdict != expected or verdict["result"] != "same":
            campaign.fail(f"{case}: {verdict}, at first {expected}")
    for target, verdict in first.items():
        campaign.facts[f"bytes compared on {target}"] = verdict["compared"]
    campaign.facts["distinct outcomes"] = "more than one" if campaign.failures else "one a family"


def record(path: Path, target: str, seed: int) -> None:
    """Record eight batches of the overlap workload."""
    with gputrace.record(path), gputrace.open(f"emu:{target},schedule=7") as device:
        pipeline = Pipeline(device, seed)
        for batch in range(1, 9):
            pipeline.submit(batch)
        pipeline.end()
