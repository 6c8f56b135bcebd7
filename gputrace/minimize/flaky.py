"""The search for failures that come and go: Bayesian prefix bisection with rates learnt on the way.

With p the chance that a run fails when its candidate holds the cause, and f the chance that it
fails without it, one search asks where the last missing item is. Hypothesis t: the prefix of t
items (plus what is known) holds the cause and the one of t - 1 does not; t = 0: what is known is
enough; t = high + 1: not even the whole window holds it, because an earlier search stepped over a
required item. The last one is the way out of an error that would otherwise never end.

Neither rate has to be given. Each starts as a weak Beta distribution; after every run both are
estimated anew from the outcomes, each counted with the posterior chance that its candidate held the
cause (a step of expectation maximisation), and every settled search hands its counts on. All
hypotheses between two tested prefixes are equally likely given the runs, so the posterior is kept
per stretch between tested prefixes, not per item.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, log, log2

from gputrace.errors import GputraceError
from gputrace.minimize.gate import Gate
from gputrace.minimize.graph import Graph
from gputrace.minimize.oracle import Outcome, Sample
from gputrace.minimize.passes import Level
from gputrace.minimize.search import remove_sinks

# A search is settled when one hypothesis has this probability.
SETTLED = 0.995
# Chance given in advance to "what is known is enough": of k + 1 searches one ends so, and small
# results (about six searches) are what most reductions come to.
ENOUGH = 0.15
# ... and to "the window lost the cause": the chance of a wrong step that SETTLED allows.
LOST = 1.0 - SETTLED
# Odds at which a sequential test stops: an error of 0.5 %, as for SETTLED.
ODDS = log(1.0 / (1.0 - SETTLED))
# Three failures at least: some of the many candidates of a search meet two spurious ones in a row.
HITS = 3
FLOOR = 1e-4
RESTARTS = 20
# A run tells at least 1/50 bit unless the two rates are nearly equal; 8 bits settle the odds.
RUNS_PER_BIT = 50


class Undecided(GputraceError):
    """The failure is too rare, or too often spurious, for the search to settle."""


@dataclass
class Rate:
    """A chance of failing, as a Beta distribution: `fails` and `passes` counts so far."""

    fails: float
    passes: float

    @property
    def mean(self) -> float:
        """Expected chance."""
        return self.fails / (self.fails + self.passes)

    def learn(self, fails: float, passes: float) -> None:
        """Add outcomes."""
        self.fails += fails
        self.passes += passes


@dataclass
class Rates:
    """Both chances: with the cause present, and absent.

    The start is weak, two failures of three runs with the cause and one of a hundred without it
    (weighing ten), so that a handful of real outcomes outweighs it.
    """

    present: Rate = field(default_factory=lambda: Rate(2.0, 1.0))
    absent: Rate = field(default_factory=lambda: Rate(0.1, 9.9))

    @property
    def p(self) -> float:
        """Expected chance of failing with the cause; kept inside (0, 1)."""
        return min(max(self.present.mean, 2 * FLOOR), 1.0 - FLOOR)

    @property
    def f(self) -> float:
        """Expected chance of failing without it; at most half of `p`."""
        return min(max(self.absent.mean, FLOOR), self.p / 2)


class SequentialTest:
    """A judge: runs a candidate until the odds for rate p against rate f are clear."""

    def __init__(self, rates: Rates) -> None:
        self.rates = rates

    def fails(self, sample: Sample) -> bool:
        """Tell which of the two rates the runs follow."""
        p, f = self.rates.p, self.rates.f
        odds, hits = 0.0, 0
        while -ODDS < odds < ODDS or (odds >= ODDS and hits < HITS):
            outcome = sample()
            if outcome is Outcome.INVALID:
                return False
            if outcome is Outcome.SAME:
                hits += 1
                odds += log(p / f)
            else:
                odds += log((1 - p) / (1 - f))
        return odds > 0


def entropy(x: float) -> float:
    """Return the entropy of a yes or no with chance x, in bits."""
    return 0.0 if x <= 0.0 or x >= 1.0 else -x * log2(x) - (1 - x) * log2(1 - x)


def information(x: float, p: float, f: float) -> float:
    """Return what one run tells, in bits, when its candidate holds the cause with chance x."""
    return entropy(x * p + (1 - x) * f) - x * entropy(p) - (1 - x) * entropy(f)


@dataclass
class Stretch:
    """Hypotheses first..last, which all outcomes so far treat alike, and their joint weight."""

    first: int
    last: int
    weight: float


class Posterior:
    """What the runs of one search say about where the last missing item is."""

    def __init__(self, high: int, rates: Rates) -> None:
        self.high, self.rates = high, rates
        self.runs: dict[int, list[int]] = {}  # prefix -> [fails, passes]
        self.floor = 0  # an invalid prefix: the cause is surely above it
        self.now = rates
        self.stretches = self._weigh()

    def add(self, prefix: int, outcome: Outcome) -> None:
        """Take the outcome of one run of a prefix."""
        if outcome is Outcome.INVALID:
            self.floor = max(self.floor, prefix + 1)
        else:
            counts = self.runs.setdefault(prefix, [0, 0])
            counts[outcome is not Outcome.SAME] += 1
        self.stretches = self._weigh()
        self.now = self._estimate()

    def totals(self, t: int) -> tuple[int, int, int, int]:
        """Return fails and passes with the cause present, then absent, if hypothesis t holds."""
        present, absent = [0, 0], [0, 0]
        for prefix, (fails, passes) in self.runs.items():
            side = present if prefix >= t else absent
            side[0] += fails
            side[1] += passes
        return present[0], present[1], absent[0], absent[1]

    def _estimate(self) -> Rates:
        present = Rate(self.rates.present.fails, self.rates.present.passes)
        absent = Rate(self.rates.absent.fails, self.rates.absent.passes)
        for each in self.stretches:
            in_fails, in_passes, out_fails, out_passes = self.totals(each.last)
            present.learn(each.weight * in_fails, each.weight * in_passes)
            absent.learn(each.weight * out_fails, each.weight * out_passes)
        return Rates(present, absent)

    def _weigh(self) -> list[Stretch]:
        cuts = sorted({0, self.high, *self.runs, max(self.floor - 1, 0)})
        spans = [(0, 0)]
        spans += [(low + 1, end) for low, end in pairwise(cuts)]
        spans.append((self.high + 1, self.high + 1))
        p, f = self.now.p, self.now.f
        logs = []
        for first, last in spans:
            in_fails, in_passes, out_fails, out_passes = self.totals(last)
            weight = log(self._prior(first, last))
            weight += in_fails * log(p) + in_passes * log(1 - p)
            weight += out_fails * log(f) + out_passes * log(1 - f)
            logs.append(weight if first >= self.floor else -1e9)
        most = max(logs)
        total = sum(exp(each - most) for each in logs)
        return [
            Stretch(first, last, exp(each - most) / total)
            for (first, last), each in zip(spans, logs, strict=True)
        ]

    def _prior(self, first: int, last: int) -> float:
        if first == 0:
            return ENOUGH
        if first > self.high:
            return LOST
        return (1.0 - ENOUGH - LOST) * (last - first + 1) / self.high

    def settled(self) -> int | None:
        """Return the hypothesis that is as good as certain."""
        best = max(self.stretches, key=lambda each: each.weight)
        return best.first if best.first == best.last and best.weight >= SETTLED else None

    def query(self) -> int:
        """Return the prefix whose run tells the most."""
        p, f = self.now.p, self.now.f
        choice, most, below = 0, -1.0, 0.0
        for each in self.stretches:
            size = each.last - each.first + 1
            for m in _candidates(each, below, _best_share(p, f)):
                share = below + each.weight * (m - each.first + 1) / size
                gain = information(min(share, 1.0), p, f)
                if m <= self.high and gain > most:
                    choice, most = m, gain
            below += each.weight
        return choice


def _best_share(p: float, f: float) -> float:
    # The share of weight at which a run tells most: information is concave, so thirds converge.
    low, high = 0.0, 1.0
    for _ in range(40):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if information(left, p, f) < information(right, p, f):
            low = left
        else:
            high = right
    return (low + high) / 2


def _candidates(each: Stretch, below: float, share: float) -> list[int]:
    # Within a stretch the weight grows evenly: its end, and around the point of the best share.
    if each.weight <= 0.0:
        return [each.last]
    size = each.last - each.first + 1
    at = each.first - 1 + int((share - below) / each.weight * size)
    return [m for m in (at, at + 1) if each.first <= m <= each.last] + [each.last]


class FlakySearch:
    """Reduce a stream whose failure comes and goes."""

    name = "bisect items, flaky"
    level = Level.PACKET

    def __init__(self, graph: Graph, rates: Rates) -> None:
        """Take the graph and the rates; the gate's judge should be a SequentialTest of the same."""
        self.graph, self.rates = graph, rates
        self._narrowed = False
        self._start = graph.full

    def run(self, gate: Gate[int]) -> None:
        """Search until what is known fails alone, then remove sinks.

        Raises Undecided when the search had to start over too often.
        """
        if not self._narrowed:
            self._narrow(gate)
        self._narrowed = True
        remove_sinks(gate, self.graph)

    def _narrow(self, gate: Gate[int]) -> None:
        known, high = 0, self.graph.count
        self._start = gate.best
        restarts = 0
        while True:
            found = self._search(gate, known, high)
            if 0 < found <= high:
                known |= self.graph.closure(1 << (found - 1)) & self._start
                high = found - 1
                continue
            if found == 0 and known:
                gate.forget(known)
                if known == gate.best or gate.consider(known):
                    return
            restarts += 1
            if restarts > RESTARTS:
                raise Undecided(
                    f"the search started over {RESTARTS} times; rates seen: {self.rates.p:.2f} "
                    f"with the cause, {self.rates.f:.4f} without; narrow the failure signature"
                )
            high = self.graph.count

    def _search(self, gate: Gate[int], known: int, high: int) -> int:
        posterior = Posterior(high, self.rates)
        runs = 0
        while (found := posterior.settled()) is None:
            runs += 1
            if runs > RUNS_PER_BIT * (high.bit_length() + 8):
                raise Undecided(f"one search took {runs} runs; narrow the failure signature")
            prefix = posterior.query()
            posterior.add(prefix, gate.sample(self.graph.stretch(0, prefix) & self._start | known))
        in_fails, in_passes, out_fails, out_passes = posterior.totals(found)
        if found <= high:
            self.rates.present.learn(in_fails, in_passes)
            self.rates.absent.learn(out_fails, out_passes)
        return found
