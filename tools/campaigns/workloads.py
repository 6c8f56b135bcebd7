"""Each failing workload, recorded, reduced to its known minimum, and replayed in a new process.

The facts are a table: packets before and after, runs of the oracle, seconds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from gputrace.cli import workloads
from gputrace.cli.workloads.frame import Workload, perform
from tools.campaigns import Campaign

TARGETS = ("gfx942", "gfx1100")
QUICK = ("wrong_count", "deadlock")
"""First, so that a sample is cheap."""
COUNT, SAMPLE = 14, 2
ROOT = Path(__file__).parents[2]
EXIT = {"differs": 1, "hang": 3, "fault": 4}


def cases() -> list[tuple[Workload, str]]:
    """Return the failing workloads on each target."""
    names = [*QUICK, *(name for name in workloads.NAMES if name not in QUICK)]
    found = [workloads.find(name) for name in names]
    return [(one, target) for one in found for target in TARGETS if one.minimum]


def run(campaign: Campaign) -> None:
    """Take the cases one after the other."""
    for number, (workload, target) in zip(campaign.numbers(), cases(), strict=False):
        where = f"{workload.name} on {target}"
        path = campaign.folder / f"{workload.name}-{target}.gtrace"
        small = path.with_suffix(".min.gtrace")
        done = perform(workload, workload.device(target), record=str(path), seed=campaign.seed)
        if done.ending != workload.ending:
            campaign.fail(f"case {number}, {where}: {done.ending}: {done.text}")
            continue
        made = command("minimize", str(path), "-o", str(small), "--json")
        if made.returncode:
            campaign.fail(f"case {number}, {where}: {made.stderr.strip()}")
            continue
        told = json.loads(made.stdout)
        packets, runs = told["packets"], told["runs"]
        if packets["after"] > len(workload.minimum) or not told["certificate"]["minimal"]:
            campaign.fail(f"case {number}, {where}: {packets['after']} packets are left")
        if small.stat().st_size > path.stat().st_size:
            campaign.fail(f"case {number}, {where}: the result is larger than what it came from")
        again = command("replay", str(small))
        if again.returncode != EXIT[workload.verdict]:
            campaign.fail(f"case {number}, {where}: the result replays to {again.returncode}")
        campaign.fact(
            where,
            f"{packets['before']} -> {packets['after']} packets, {runs['total']} runs, "
            f"{told['seconds']:.1f} s"
        )


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run gputrace in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gputrace.cli.main", *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
