"""The seam for passes: each proposes smaller candidates to the gate, coarse ones first."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol, TypeVar

from gputrace.errors import UsageError
from gputrace.minimize.gate import Gate

C = TypeVar("C")


class Level(IntEnum):
    """What a pass takes away; passes run in this order."""

    PROCESS = 0
    DEVICE = 1
    QUEUE = 2
    SUBMISSION = 3
    PACKET = 4
    GRID = 5
    BUFFER = 6
    BYTES = 7
    ARGUMENT = 8
    INSTRUCTION = 9


class Pass(Protocol[C]):
    """One way to make a candidate smaller."""

    @property
    def name(self) -> str:
        """Name for reports and progress."""

    @property
    def level(self) -> Level:
        """What it takes away."""

    def run(self, gate: Gate[C]) -> None:
        """Propose candidates until none of this kind is accepted."""


def run_passes(gate: Gate[C], passes: Sequence[Pass[C]]) -> C:
    """Confirm that the input fails, run the passes coarse to fine, and return the best candidate.

    Repeats the row of passes while a later one made the candidate smaller, since that can open
    chances for the earlier ones. Raises UsageError when the input does not fail.
    """
    if not gate.confirm():
        shown = ", ".join(outcome.value for outcome in gate.outcomes(gate.best)) or "not run"
        raise UsageError(f"the input must fail before it can be reduced; its runs gave: {shown}")
    ordered = sorted(passes, key=lambda each: each.level)
    while True:
        before = gate.subject.key(gate.best)
        settled = before
        for number, each in enumerate(ordered):
            each.run(gate)
            if number == 0:
                settled = gate.subject.key(gate.best)
        if gate.subject.key(gate.best) in (before, settled):
            return gate.best
