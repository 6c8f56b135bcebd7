"""The first packet with which a trace fails: binary search over prefixes of what took place."""

from dataclasses import dataclass

from gputrace.errors import UsageError
from gputrace.minimize import trial
from gputrace.minimize.bisect import first_failing
from gputrace.minimize.graph import below
from gputrace.minimize.model import Item
from gputrace.minimize.reduce import Settings, Target, prepare
from gputrace.minimize.trial import Case
from gputrace.replay.sandbox import Limits
from gputrace.trace.reader import TraceReader

TRIES = 8
"""Schedules under which a prefix runs before it counts as passing, when the failure is not sure."""


@dataclass(frozen=True, slots=True)
class First:
    """The element with which the first failure comes: None when even nothing at all fails.

    `text` says how, `elements` counts those up to and with it, `runs` those that found it.
    """

    case: Case
    target: Target
    item: Item | None
    text: str
    elements: int
    runs: int


def bisect(reader: TraceReader, settings: Settings) -> First:
    """Find the first element with which a trace fails: with less everything completes and agrees.

    Elements are in the order in which they took place in the recorded run; what never completed
    comes after everything that did. Raises UsageError when the trace does not fail.
    """
    case, target, _ = prepare(reader, settings)
    limits = Limits(seconds=settings.seconds)
    ways = target.ways[:TRIES]
    runs = 0
    texts: dict[int, str] = {}

    def fails(count: int) -> bool:
        nonlocal runs
        for way in ways:
            runs += 1
            settings.tell(f"run {runs}: the first {count} of {case.graph.count} elements")
            shown = trial.run_once(case, below(count), way, limits)
            if shown.causes:
                texts[count] = next(iter(shown.causes.values()))
                return True
        return False

    count = first_failing(case.graph.count, fails)
    if count is None:
        raise UsageError("the failure did not come again: try more schedules with --seeds")
    item = case.items[count - 1] if count else None
    return First(case, target, item, texts[count], count, runs + target.runs)
