"""The one gate: every candidate that replaces the best one came through `Gate.consider`."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

from gputrace.minimize.graph import Graph
from gputrace.minimize.journal import Journal
from gputrace.minimize.oracle import Costs, Judge, Once, Oracle, OracleLost, Outcome, Verdict

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)

# Runs without an answer (INFRA) in a row before the oracle is given up: one may be the reset that
# another program caused, and the second the reset after it.
INFRA_LIMIT = 3


class Subject(Protocol[C_contra]):
    """What is being reduced: an order, a name and a static check for its candidates."""

    def key(self, candidate: C_contra) -> tuple[Any, ...]:
        """Return the place of a candidate in a total order, smallest first."""

    def digest(self, candidate: C_contra) -> str:
        """Return the hash of the candidate's content."""

    def problem(self, candidate: C_contra) -> str | None:
        """Say why a candidate cannot be run at all; None when it can."""


class Stream:
    """A numbered stream of items with a graph; candidates are masks, ordered by size."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def key(self, candidate: int) -> tuple[int, int]:
        """Order by number of items, then by the items."""
        return candidate.bit_count(), candidate

    def digest(self, candidate: int) -> str:
        """Hash the mask."""
        raw = candidate.to_bytes(self.graph.count // 8 + 1, "little")
        return blake2b(raw, digest_size=16).hexdigest()

    def problem(self, candidate: int) -> str | None:
        """Name a hard need that the candidate lacks."""
        broken = self.graph.broken(candidate)
        return None if broken is None else f"item {broken[0]} needs item {broken[1]}"


@dataclass
class Aside(Generic[C]):
    """A candidate that failed in another way: kept for the report, never taken."""

    candidate: C
    signature: str


@dataclass
class Ledger:
    """All runs of one candidate."""

    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Share of the runs that showed the failure; 0 without runs."""
        hits = sum(verdict.outcome is Outcome.SAME for verdict in self.verdicts)
        return hits / len(self.verdicts) if self.verdicts else 0.0


class Gate(Generic[C]):
    """Holds the best candidate so far and decides what replaces it.

    `best` is taken to fail; `confirm` checks that. `costs` counts runs made by the oracle and
    `recalled` those that the journal answered.
    """

    def __init__(
        self,
        subject: Subject[C],
        oracle: Oracle[C],
        best: C,
        judge: Judge | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.subject, self.oracle, self.best = subject, oracle, best
        self.judge: Judge = judge if judge is not None else Once()
        self.journal = journal
        self.costs = Costs()
        self.recalled = 0
        self.ledgers: dict[str, Ledger] = {}
        self.asides: list[Aside[C]] = []
        self._answers: dict[str, bool] = {}

    def consider(self, candidate: C) -> bool:
        """Make `candidate` the best if it is smaller, was not refused before, and still fails."""
        if self.subject.key(candidate) >= self.subject.key(self.best):
            return False
        if not self.fails(candidate):
            return False
        self.best = candidate
        return True

    def fails(self, candidate: C) -> bool:
        """Tell whether a candidate shows the failure; a known answer costs nothing."""
        digest = self.subject.digest(candidate)
        if digest not in self._answers:
            if self.subject.problem(candidate) is not None:
                self._answers[digest] = False
            else:
                self._answers[digest] = self.judge.fails(lambda: self.sample(candidate))
        return self._answers[digest]

    def forget(self, candidate: C) -> None:
        """Drop the answer for a candidate, so that it is judged by new runs; old runs stay."""
        self._answers.pop(self.subject.digest(candidate), None)

    def confirm(self) -> bool:
        """Check that the best candidate does fail."""
        return self.fails(self.best)

    def sample(self, candidate: C) -> Outcome:
        """Run a candidate once more, or take the next of its runs from the journal.

        Raises OracleLost after three runs in a row without an answer.
        """
        digest = self.subject.digest(candidate)
        for _ in range(INFRA_LIMIT):
            verdict = self._run(candidate, digest)
            if verdict.outcome is not Outcome.INFRA:
                self.ledgers.setdefault(digest, Ledger()).verdicts.append(verdict)
                if verdict.outcome is Outcome.OTHER:
                    self._set_aside(candidate, verdict.signature)
                return verdict.outcome
        raise OracleLost(f"{INFRA_LIMIT} runs in a row gave no answer; the journal is kept")

    def outcomes(self, candidate: C) -> list[Outcome]:
        """Return the outcomes of all runs of a candidate, first to last."""
        ledger = self.ledgers.get(self.subject.digest(candidate))
        return [] if ledger is None else [verdict.outcome for verdict in ledger.verdicts]

    def _run(self, candidate: C, digest: str) -> Verdict:
        verdict = self.journal.recall(digest) if self.journal is not None else None
        if verdict is not None:
            self.recalled += 1
            return verdict
        verdict = self.oracle.run(candidate)
        self.costs.add(verdict)
        if self.journal is not None:
            self.journal.add(digest, verdict)
        return verdict

    def _set_aside(self, candidate: C, signature: str) -> None:
        # The smallest candidate of each other signature is enough for the report.
        for aside in self.asides:
            if aside.signature == signature:
                if self.subject.key(candidate) < self.subject.key(aside.candidate):
                    aside.candidate = candidate
                return
        self.asides.append(Aside(candidate, signature))
