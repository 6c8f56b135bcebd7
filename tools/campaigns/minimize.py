"""Every failing workload on gfx942 and gfx1100 is reduced to its known minimum, and fails again.

What is left is replayed in a new process, and the script that rebuilds it is run; both must fail.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from gputrace.cli import workloads
from gputrace.cli.workloads.frame import Workload, perform
from gputrace.minimize.reduce import Settings, reduce
from gputrace.minimize.result import replay_again, write_result
from gputrace.minimize.script import script
from gputrace.replay.verdict import Result
from gputrace.trace.reader import TraceReader
from tools.campaigns import Campaign

TARGETS = ("gfx942", "gfx1100")
QUICK = "wrong_count"
FAILING = (QUICK, *(name for name in workloads.NAMES if name not in ("overlap", QUICK)))
COUNT, SAMPLE = len(TARGETS) * len(FAILING), 1
SECONDS = 120.0
ROOT = Path(__file__).resolve().parents[2]


def run(campaign: Campaign) -> None:
    """Reduce one workload after another."""
    cases = [(name, target) for name in FAILING for target in TARGETS]
    for number in campaign.numbers():
        name, target = cases[number % len(cases)]
        _reduce(campaign, workloads.find(name), target)


def _reduce(campaign: Campaign, workload: Workload, target: str) -> None:
    what = f"{workload.name} on {target}"
    trace, made = campaign.folder / "t.gtrace", campaign.folder / "m.gtrace"
    ended = perform(workload, workload.device(target), record=str(trace))
    if ended.ending != workload.ending:
        campaign.fail(f"{what} ended otherwise: {ended.ending}: {ended.text}")
        return
    start = time.monotonic()
    with TraceReader(trace) as reader:
        reduction = reduce(reader, Settings(seconds=SECONDS))
        write_result(reduction, made, trace, SECONDS)
        program = campaign.folder / "failure.py"
        program.write_text(script(reduction))
    seconds = time.monotonic() - start
    campaign.fact(
        what,
        f"{reduction.whole.packets} packets became {reduction.packets} in {reduction.costs.total} "
        f"runs, {seconds:.1f} s"
    )
    if reduction.packets > len(workload.minimum):
        campaign.fail(f"{what}: {reduction.packets} packets, not {len(workload.minimum)}")
    if not reduction.certificate.minimal:
        campaign.fail(f"{what}: more could go")
    if made.stat().st_size > trace.stat().st_size:
        campaign.fail(f"{what}: the result is larger than the trace")
    again = replay_again(made, SECONDS)
    if again.result not in (Result.HANG, Result.FAULT, Result.DIFFERS):
        campaign.fail(f"{what}: replayed in a new process it ends {again.result.value}")
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode not in (1, 3, 4) or "Traceback" in done.stderr:
        campaign.fail(f"{what}: the script ends with {done.returncode}: {done.stderr[-200:]}")
