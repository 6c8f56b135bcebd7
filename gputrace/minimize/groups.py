"""Passes that know what items are: whole devices and queues first, then what surrounds packets."""

from collections.abc import Iterable

from gputrace.formats import ioctl
from gputrace.minimize.gate import Gate
from gputrace.minimize.graph import mask_of, members
from gputrace.minimize.model import Kind
from gputrace.minimize.passes import Level
from gputrace.minimize.search import bisect_window, delete_chunks, remove_sinks
from gputrace.minimize.trial import Case, TraceOracle
from gputrace.trace import events

MANY = 64
"""Packets from which on single submissions are too many to try."""
FEW = 4
"""Items that are no longer halved; single ones are tried at the end."""


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
                ioctl.RECORDS[event.record], ioctl.AcquireVm
            )
            if item.kind is Kind.CALL and acquires:
                found.append(item.event)
        if len(found) > 1:
            _drop(gate, self.case, found)


class DropSubmissions:
    """Take away what one doorbell published, as a whole.

    Worth its runs only on what the bisection left: packets that go together or not at all.
    """

    name = "drop submissions"
    level = Level.SUBMISSION

    def __init__(self, case: Case) -> None:
        self.case = case

    def run(self, gate: Gate[int]) -> None:
        """Propose each submission of several packets once, the last first."""
        if gate.best == self.case.graph.full:
            return
        together: dict[int, list[int]] = {}
        for at in members(gate.best):
            if self.case.items[at].kind is Kind.PACKET:
                together.setdefault(self.case.items[at].event, []).append(at)
        if sum(map(len, together.values())) > MANY:
            return
        for event in sorted(together, reverse=True):
            chunk = mask_of(together[event]) & gate.best
            if chunk.bit_count() > 1:
                gate.consider(gate.best & ~self.case.graph.cone(chunk, gate.best))


class TraceSearch:
    """Bisect the items of a trace, then drop what only seemed to matter, then single items.

    The bisection follows observed data flow, so around the packets it finds stand writes and calls
    that they may not need; most go in a few runs. `oracle` is told what candidates begin like.
    """

    name = "bisect items"
    level = Level.PACKET

    def __init__(self, case: Case, oracle: TraceOracle) -> None:
        self.case, self._oracle = case, oracle
        self._bisected = False

    def run(self, gate: Gate[int]) -> None:
        """Bisect the first time, then thin out and remove single items."""
        graph = self.case.graph
        if not self._bisected:
            self._bisect(gate)
        self.thin(gate)
        remove_sinks(gate, graph)

    def _bisect(self, gate: Gate[int]) -> None:
        self._bisected = True
        self._oracle.stand_on(gate.best)
        if bisect_window(gate, self.case.graph):
            delete_chunks(gate, self.case.graph)
        self._oracle.close()

    def thin(self, gate: Gate[int]) -> None:
        """Drop what no packet surely needs: all of it, or halves, down to a few at a time."""
        packets = [i for i in members(gate.best) if self.case.items[i].kind is Kind.PACKET]
        extra = list(members(gate.best & ~self._hard(packets)))
        groups = [extra] if extra else []
        while groups:
            group = groups.pop()
            chunk = mask_of(group) & gate.best
            if not chunk or gate.consider(gate.best & ~self.case.graph.cone(chunk, gate.best)):
                continue
            if len(group) > FEW:
                middle = len(group) // 2
                groups += [group[:middle], group[middle:]]

    def _hard(self, wanted: list[int]) -> int:
        kept = set(wanted)
        while wanted:
            for need in self.case.graph.needs[wanted.pop()]:
                if need not in kept:
                    kept.add(need)
                    wanted.append(need)
        return mask_of(kept)


def _drop(gate: Gate[int], case: Case, calls: Iterable[int]) -> None:
    at = {item.event: i for i, item in enumerate(case.items) if item.kind is Kind.CALL}
    for call in sorted(calls, reverse=True):
        if call not in at:
            continue
        chunk = mask_of([at[call]]) & gate.best
        if chunk:
            gate.consider(gate.best & ~case.graph.cone(chunk, gate.best))
