"""Synthetic streams with a known minimum, and oracles that know the truth about them.

All choices come from `random.Random` with string seeds, so streams are the same on every machine.
"""

import random
from dataclasses import dataclass

from gputrace.minimize.graph import Graph, mask_of
from gputrace.minimize.oracle import Outcome, Verdict


@dataclass(frozen=True)
class Synthetic:
    """A stream: the needs of each item, the causes, and masking pairs (suppressor, partner)."""

    needs: list[list[int]]
    causes: list[int]
    pairs: list[tuple[int, int]]

    @property
    def edges(self) -> int:
        return sum(map(len, self.needs))

    @property
    def minimum(self) -> int:
        return Graph(self.needs).closure(mask_of(self.causes))

    def graph(self, share: float = 1.0) -> Graph:
        """The graph with a share of its edges known."""
        n = len(self.needs)
        if share == 1.0:
            return Graph(self.needs)
        rng = random.Random(f"pd/0/{n}/{len(self.causes)}")
        return Graph([[t for t in each if rng.random() < share] for each in self.needs])


def independent(n: int, k: int, seed: int) -> Synthetic:
    rng = random.Random(f"{n}/{k}/indep/{seed}")
    return Synthetic([[] for _ in range(n)], sorted(rng.sample(range(n), k)), [])


def nonmonotone(n: int, k: int, seed: int) -> Synthetic:
    rng = random.Random(f"{n}/{k}/nonmono/{seed}")
    causes = sorted(rng.sample(range(n), k))
    taken = set(causes)
    others = [item for item in range(n) if item not in taken]
    count = max(5, n // 100)
    drawn = rng.sample(others, 2 * count)
    pairs = [(min(p), max(p)) for p in zip(drawn[::2], drawn[1::2], strict=True)]
    return Synthetic([[] for _ in range(n)], causes, pairs)


def dependent(n: int, k: int, seed: int) -> Synthetic:
    """Allocs, maps, writes, states, dispatches and doorbells; causes are dispatches."""
    rng = random.Random(f"{n}/{k}/dep/{seed}")
    at: dict[str, list[int]] = {kind: [] for kind in "AMWSDB"}

    def recent(kind: str) -> int:
        back = int(rng.paretovariate(0.7)) - 1
        return at[kind][-1 - min(back, len(at[kind]) - 1)]

    needs: list[list[int]] = []
    for item in range(n):
        drawn = rng.random()
        wants: set[int] = set()
        if item < 6 or drawn < 0.04:
            kind = "A"
        elif drawn < 0.09 or not at["M"]:
            kind, wants = "M", {recent("A")}
        elif drawn < 0.30 or not at["W"]:
            kind, wants = "W", {recent("M")}
        elif drawn < 0.70 or not at["S"]:
            kind = "S"
            if rng.random() < 0.3:
                wants = {recent("M")}
        elif drawn < 0.90 or not at["D"]:
            kind, wants = "D", {recent("W")}
            for _ in range(rng.randint(1, 3)):
                wants.add(recent("M"))
            for _ in range(rng.randint(1, 2)):
                wants.add(recent("S"))
        else:
            kind, wants = "B", {at["D"][-1]}
        at[kind].append(item)
        needs.append(sorted(wants))
    return Synthetic(needs, sorted(rng.sample(at["D"], k)), [])


class Truth:
    """Runs a candidate by definition; with rates, failures come and go at random.

    `p` is the chance that a true failure shows, `f` that a sound candidate fails all the same.
    """

    def __init__(self, stream: Synthetic, p: float = 1.0, f: float = 0.0, seed: int = 0) -> None:
        self.stream, self.p, self.f = stream, p, f
        self.rng = random.Random(f"oracle/{seed}")
        self.graph = Graph(stream.needs)
        self.causes = mask_of(stream.causes)

    def truth(self, candidate: int) -> Outcome:
        if self.graph.broken(candidate) is not None:
            return Outcome.INVALID
        if self.causes & ~candidate:
            return Outcome.PASS
        for suppressor, partner in self.stream.pairs:
            if candidate >> suppressor & 1 and not candidate >> partner & 1:
                return Outcome.PASS
        return Outcome.SAME

    def run(self, candidate: int) -> Verdict:
        outcome = self.truth(candidate)
        if outcome is Outcome.SAME and self.p < 1.0:
            if self.rng.random() >= self.p:
                outcome = Outcome.PASS
        elif outcome is Outcome.PASS and self.f > 0.0 and self.rng.random() < self.f:
            outcome = Outcome.SAME
        return Verdict(outcome, "hang" if outcome is Outcome.SAME else "", 1.0)
