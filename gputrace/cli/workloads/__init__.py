"""Workloads that fail the way real ones do, and one that passes: what the demo and `traces/` run.

Each module is a small program on the public interface (`gputrace.open`, `gputrace.record`, numpy)
with one bug of the kind that engineers chase, and says what is left when everything that the bug
does not need is taken away. Run one with

    python -m gputrace.cli.workloads.lost_signal --device emu:gfx942 --record hang.gtrace

It ends as any program would: what the bug brings about is an error of the driver, or the program's
own when it finds a wrong result.
"""

import importlib

from gputrace.cli.workloads.frame import Workload
from gputrace.errors import UsageError

NAMES = (
    "lost_signal",
    "deadlock",
    "use_after_free",
    "spin_lock",
    "missing_wait",
    "wrong_count",
    "overrun",
    "overlap",
)


def find(name: str) -> Workload:
    """Return a workload by name. Raises UsageError that lists the known ones."""
    if name not in NAMES:
        raise UsageError(f"no workload {name!r}; known are {', '.join(NAMES)}")
    found: Workload = importlib.import_module(f"gputrace.cli.workloads.{name}").WORKLOAD
    return found
