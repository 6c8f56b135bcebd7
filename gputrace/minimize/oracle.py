"""What one run of a candidate can answer, what it cost, and how several runs make one answer."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeVar

from gputrace.errors import GputraceError, UsageError

C_contra = TypeVar("C_contra", contravariant=True)


class Outcome(Enum):
    """The answer of one run; only SAME counts as the failure that is being reduced."""

    SAME = "same"  # failed with the signature that is being reduced
    OTHER = "other"  # failed in another way
    PASS = "pass"  # ran to its end
    INVALID = "invalid"  # lacks something that one of its items depends on
    INFRA = "infra"  # no answer: the machine, not the candidate, was at fault


@dataclass(frozen=True)
class Verdict:
    """One run: its outcome, the signature of a failure, and its cost (unit of the oracle)."""

    outcome: Outcome
    signature: str = ""
    cost: float = 1.0


class Oracle(Protocol[C_contra]):
    """Runs candidates; the search sees nothing else of the world."""

    def run(self, candidate: C_contra) -> Verdict:
        """Run `candidate` once."""


class OracleLost(GputraceError):
    """The oracle gave no answer several times in a row; the reduction stops with its best."""


@dataclass
class Costs:
    """Runs and their cost, by outcome, so that failures (timeout, reset) count apart."""

    runs: Counter[Outcome] = field(default_factory=Counter)
    cost: dict[Outcome, float] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Count one run."""
        self.runs[verdict.outcome] += 1
        self.cost[verdict.outcome] = self.cost.get(verdict.outcome, 0.0) + verdict.cost

    @property
    def total(self) -> int:
        """Number of runs."""
        return self.runs.total()


Sample = Callable[[], Outcome]


class Judge(Protocol):
    """Turns runs of one candidate into one answer; runs it as often as it needs."""

    def fails(self, sample: Sample) -> bool:
        """Tell whether the candidate shows the failure."""


class Once:
    """Believes one run: for failures that come every time."""

    def fails(self, sample: Sample) -> bool:
        """Run once."""
        return sample() is Outcome.SAME


@dataclass(frozen=True)
class KofN:
    """Fails when at least `k` of `n` runs fail; stops as soon as that is settled."""

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise UsageError(f"k of n needs 1 <= k <= n, not {self.k} of {self.n}")

    def fails(self, sample: Sample) -> bool:
        """Run at most n times; an invalid candidate is not run again."""
        hits = 0
        for done in range(1, self.n + 1):
            outcome = sample()
            if outcome is Outcome.INVALID:
                return False
            hits += outcome is Outcome.SAME
            if hits >= self.k:
                return True
            if hits + self.n - done < self.k:
                return False
        return False
