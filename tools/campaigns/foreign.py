"""Programs of others: run, recorded, dumped and replayed; those that fail are reduced as well.

For each the facts tell packets, bytes of the trace, processor seconds of `run` and `record`, the
verdict and the packets after minimizing. What needs programs that are not installed is left out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gputrace.errors import UsageError
from tools.campaigns import Campaign
from tools.foreign import FOREIGN, ROOT, Foreign, perform

COUNT, SAMPLE = len(FOREIGN), 1


def run(campaign: Campaign) -> None:
    """Take one program after another."""
    for number in campaign.numbers():
        one = FOREIGN[number % len(FOREIGN)]
        folder = campaign.folder / str(number)
        folder.mkdir()
        try:
            campaign.fact(f"{one.name} {one.target}", facts(campaign, one, folder))
        except UsageError as problem:
            campaign.fact(one.name, f"left out: {problem}")


def facts(campaign: Campaign, one: Foreign, folder: Path) -> dict[str, object]:
    """Run, record, replay and minimize a program; say what came of it."""
    command, trace = one.command(folder), folder / "t.gtrace"
    variables = {**one.variables, "CACHEDB": str(folder / "cache")}
    perform(["run", "--device", one.device, "--", *command], variables)  # warms the caches
    before = _seconds()
    perform(["run", "--device", one.device, "--", *command], variables)
    middle = _seconds()
    perform(["record", "-o", str(trace), "--device", one.device, "--", *command], variables)
    last = _seconds()
    queues = _told("info", str(trace))["packets"]["by_queue"]
    lines = _called("dump", str(trace)).stdout.count("\n")
    if lines < 10:
        campaign.fail(f"{one.name} {one.target}: a dump of {lines} lines")
    found: dict[str, object] = {
        "run": round(middle - before, 1),
        "record": round(last - middle, 1),
        "bytes": trace.stat().st_size,
        "packets": sum(sum(kinds.values()) for kinds in queues.values()),
        "verdict": _told("replay", str(trace))["result"],
    }
    if found["verdict"] != one.verdict:
        campaign.fail(f"{one.name} {one.target}: {found['verdict']}, not {one.verdict}")
    if one.minimum:
        small = folder / "small.gtrace"
        found["minimized"] = _told("minimize", str(trace), "-o", str(small))["packets"]["after"]
        again = _told("replay", str(small))["result"]
        if (found["minimized"], again) != (one.minimum, one.verdict):
            campaign.fail(f"{one.name}: {found['minimized']} packets, {again}")
    return found


def _called(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gputrace.cli.main", *arguments]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def _told(*arguments: str) -> dict[str, Any]:
    done = _called(*arguments, "--json")
    if not done.stdout:
        return {"result": done.stderr.strip(), "packets": {"after": -1, "by_queue": {}}}
    return dict(json.loads(done.stdout))


def _seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system
