"""Coarse passes: whole devices and whole queues at once, with all that stands on them."""

from collections.abc import Iterable

from gputrace.formats import ioctl
from gputrace.minimize.gate import Gate
from gputrace.minimize.graph import mask_of
from gputrace.minimize.model import RECORDS, Kind
from gputrace.minimize.passes import Level
from gputrace.minimize.trial import Case
from gputrace.trace import events


class DropQueues:
    """Take away one queue after another, its packets and whatever needs it."""

    name = "drop queues"
    level = Level.QUEUE

    def __init__(self, case: Case) -> None:
        self.case = case

    def run(self, gate: Gate[int]) -> None:
        """Propose each queue once, the last made first; a trace with one queue is left alone."""
        queues = [queue.event for queue in self.case.model.queues]
        if len(queues) > 1:
            _drop(gate, self.case, queues)


class DropDevices:
    """Take away one GPU after another."""

    name = "drop devices"
    level = Level.DEVICE

    def __init__(self, case: Case) -> None:
        self.case = case

    def run(self, gate: Gate[int]) -> None:
        """Propose each GPU once; a trace with one GPU is left alone."""
        found = []
        for item in self.case.items:
            event = self.case.model.by_number[item.event]
            acquires = isinstance(event, events.Ioctl) and issubclass(
                RECORDS[event.record], ioctl.AcquireVm
            )
            if item.kind is Kind.CALL and acquires:
                found.append(item.event)
        if len(found) > 1:
            _drop(gate, self.case, found)


def _drop(gate: Gate[int], case: Case, calls: Iterable[int]) -> None:
    at = {item.event: i for i, item in enumerate(case.items) if item.kind is Kind.CALL}
    for call in sorted(calls, reverse=True):
        if call not in at:
            continue
        chunk = mask_of([at[call]]) & gate.best
        if chunk:
            gate.consider(gate.best & ~case.graph.cone(chunk, gate.best))
