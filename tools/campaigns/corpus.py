"""The kernels of the tests, all targets and levels, on both engines and against computations.

Each case is one file of tests for one build: what they hold together is the memory that a kernel
leaves, its count of instructions, and what the test computes by itself.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.isa.corpus import LEVELS, TARGETS
from tools.campaigns import Campaign

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    (ROOT / "tests" / "isa").glob("test_kernels_*.py"), key=lambda path: path.stat().st_size
)
CASES = [
    (path, f"{target}-{level}")
    for level in sorted(LEVELS, reverse=True)
    for target in TARGETS
    for path in FILES
]
COUNT, SAMPLE = len(CASES), 1
NOTHING = 5
"""How pytest exits when no test of a file is for a build."""


def run(campaign: Campaign, **variables: str) -> None:
    """Run the files of tests, each in a process of its own, with more variables set."""
    for number in campaign.numbers():
        path, build = CASES[number % len(CASES)]
        environment = {
            **os.environ,
            "GPUTRACE_TEST_ENGINE": "both",
            "GPUTRACE_TEST_BUILDS": build,
            "XDG_CACHE_HOME": str(campaign.folder),
            **variables,
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line",
             path],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, NOTHING):
            campaign.fail(f"{path.name} for {build}: {done.stdout[-2000:]}")
