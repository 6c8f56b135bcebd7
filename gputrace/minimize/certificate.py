"""Proof that nothing more can go: each remaining element taken away once more."""

from dataclasses import dataclass

from gputrace.minimize.gate import Gate
from gputrace.minimize.graph import Graph, members
from gputrace.minimize.oracle import Outcome


@dataclass(frozen=True)
class Need:
    """Why one item is left.

    `user` is a kept item that needs it; without one, `outcomes` are the runs of the result without
    the item, none of which carried the failure.
    """

    item: int
    user: int | None
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Certificate:
    """The failing result and the reason for each of its items.

    `rate` is the share of the result's runs that failed, over `runs` runs.
    """

    rate: float
    runs: int
    needs: tuple[Need, ...]
    superfluous: tuple[int, ...]

    @property
    def minimal(self) -> bool:
        """No item could be taken away alone."""
        return not self.superfluous


def certify(gate: Gate[int], graph: Graph) -> Certificate:
    """Take each item of the best candidate away once more and say why it has to stay.

    An item that another one needs (hard edge) costs no run. Answers that the gate has are used, so
    after a sink pass the certificate is free.
    """
    users: dict[int, int] = {}
    for item in members(gate.best):
        for target in graph.needs[item]:
            users.setdefault(target, item)
    needs, superfluous = [], []
    for item in members(gate.best):
        if item in users:
            needs.append(Need(item, users[item], ()))
            continue
        without = gate.best & ~(1 << item)
        if gate.fails(without):
            superfluous.append(item)
        needs.append(Need(item, None, tuple(gate.outcomes(without))))
    outcomes = gate.outcomes(gate.best)
    hits = sum(outcome is Outcome.SAME for outcome in outcomes)
    rate = hits / len(outcomes) if outcomes else 0.0
    return Certificate(rate, len(outcomes), tuple(needs), tuple(superfluous))
