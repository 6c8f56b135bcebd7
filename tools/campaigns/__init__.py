"""The heavy counts: each module here is one campaign, found by its name.

A module has a docstring (its first line is the help), `COUNT`, what a full run does, `SAMPLE`,
what pytest does, and `run(campaign)`, which calls `campaign.step()` once for each of
`campaign.count` cases and `campaign.fail(text)` for each that is wrong. Every case must follow from
the seed and its number alone, so that one can be run again.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from random import Random
from typing import Any

from gputrace.families import FAMILIES

MOST_FAILURES = 20
"""A campaign ends after so many."""


class TooMany(Exception):
    """So many cases failed that going on tells nothing new."""


@dataclass
class Campaign:
    """One run of a campaign; `folder` is empty and for its use."""

    count: int
    seed: int
    folder: Path
    progress: Callable[["Campaign"], None] = lambda campaign: None
    tell: Callable[[str], None] = lambda text: None
    """Takes what is known before the campaign ends."""
    done: int = 0
    failures: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What is worth telling beside the count, such as a peak of memory."""

    def random(self, number: int) -> Random:
        """Return the random numbers of one case."""
        return Random(f"{self.seed} {number}")

    def target(self, number: int) -> str:
        """Return the family whose turn it is in a case: each has its turn after the others."""
        return list(FAMILIES)[number % len(FAMILIES)]

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the cases, counting each as done."""
        for number in range(self.count):
            yield number
            self.step()

    def step(self, cases: int = 1) -> None:
        """Say that cases are done."""
        self.done += cases
        self.progress(self)

    def fact(self, name: str, value: object) -> None:
        """Keep a fact, and tell it now."""
        self.facts[name] = value
        self.tell(f"{name}: {value}")

    def fail(self, text: str) -> None:
        """Note a case that is wrong; raises TooMany in the end."""
        self.failures.append(text)
        self.tell(f"failed: {text}")
        if len(self.failures) >= MOST_FAILURES:
            raise TooMany


def names() -> list[str]:
    """Return the names of all campaigns."""
    return sorted(module.name for module in iter_modules(__path__))


def module(name: str) -> Any:
    """Import a campaign by its name."""
    return import_module(f"tools.campaigns.{name}")


def perform(name: str, campaign: Campaign) -> Campaign:
    """Run a campaign of this name to its end."""
    with suppress(TooMany):
        module(name).run(campaign)
    return campaign


def terminal_progress() -> Callable[[Campaign], None]:
    """Return what shows a count that goes up on a terminal, and nothing in a pipe."""
    if not sys.stderr.isatty():
        return lambda campaign: None
    last = [0.0]

    def show(campaign: Campaign) -> None:
        now = time.monotonic()
        if now - last[0] > 0.2:
            last[0] = now
            print(f"\r{campaign.done}/{campaign.count}", end="", file=sys.stderr)

    return show
