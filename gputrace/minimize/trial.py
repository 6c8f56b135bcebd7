"""Candidates of a trace: what they are, and one run of one of them."""

import importlib
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

from gputrace.errors import GputraceError, UsageError
from gputrace.families import Family
from gputrace.isa.decode import decoder
from gputrace.kfd.port import Kfd, Progress
from gputrace.minimize import dependencies, oracle
from gputrace.minimize.checkpoint import Holder, Lost
from gputrace.minimize.contrast import Snapshots, differences
from gputrace.minimize.dependencies import Range
from gputrace.minimize.edit import Edited
from gputrace.minimize.effects import clocked, conditions, stores
from gputrace.minimize.failure import Root, roots
from gputrace.minimize.graph import Graph, members
from gputrace.minimize.history import History, Tap, descriptors, make_emulated
from gputrace.minimize.model import Item, Kind, Model
from gputrace.minimize.needs import Needs
from gputrace.minimize.oracle import Outcome
from gputrace.replay import child
from gputrace.replay.player import Player
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result, Verdict

WORTH, HOLDERS = 200, 4
"""Packets that a checkpoint has to save, and how many checkpoints there are at a time."""
UNGUARDED = "a race that the waits of the trace prevent"
"""What is said of a candidate that goes wrong only because it has lost a wait."""
SETTLE_STEPS = 1_000_000
"""Steps that a device may take before it counts as going on for ever."""


def warm(target: Family) -> None:
    """Make ready in this process what every run needs: a child has what its parent had.

    Only tables are built; nothing of a trace is run here.
    """
    for module in ("numpy.ma", "gputrace.isa.jit_engine", "gputrace.isa.jit_store"):
        importlib.import_module(module)
    try:
        for wave in target.waves:
            decoder(target.name, wave)
    except UsageError:
        return  # kernels of this target are not modelled: runs will say so


class NoAnswer(GputraceError):
    """A run ended without a verdict and without being killed: the fault is not the candidate's."""


@dataclass
class Case:
    """A trace ready for reduction: its items as they took place, and what each needs."""

    model: Model
    history: History
    items: list[Item] = field(init=False)
    graph: Graph = field(init=False)

    @cached_property
    def waits(self) -> int:
        """All packets that wait, and those that store what is waited for, with what they need."""
        numbered = enumerate(self.items)
        packets = {at: self.model.packet(i) for at, i in numbered if i.kind is Kind.PACKET}
        places = {one.address for p in packets.values() for r in p.records for one in conditions(r)}
        found = 0
        for at, packet in packets.items():
            waits = any(conditions(record) for record in packet.records)
            answers = (one.address in places for r in packet.records for one in stores(r))
            if waits or any(answers):
                found |= 1 << at
        return self.graph.closure(found)

    def __post_init__(self) -> None:
        """Order the items and build their graph."""
        self.items = ordered(self.model, self.history)
        warm(self.model.family)
        needs = Needs(self.model, self.history.retired)
        self.graph = dependencies.build([needs.describe(item) for item in self.items])

    def edited(self, candidate: int, late: int = -1) -> Edited:
        """Return the stream of a candidate, a mask of items; `late` is a queue that comes last."""
        return Edited(self.model, self.history, *self.kept(candidate), late)

    def kept(self, candidate: int) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
        """Return the events and the packets (queue, number) that a candidate keeps."""
        kept = [self.items[at] for at in members(candidate)]
        packets = frozenset((i.queue, i.number) for i in kept if i.kind is Kind.PACKET)
        events = frozenset(item.event for item in kept if item.kind is not Kind.PACKET)
        return events, packets

    def begins_alike(self, candidate: int, other: int) -> int:
        """Return the number of the first event at which two candidates differ."""
        differing = members(candidate ^ other)
        return min((self.items[at].event for at in differing), default=self.model.last + 1)

    def packets(self, candidate: int) -> int:
        """Count the packets of a candidate."""
        return sum(self.items[at].kind is Kind.PACKET for at in members(candidate))


def ordered(model: Model, history: History) -> list[Item]:
    """Return the items as they took place; packets that never went on come last.

    A packet that waits takes place when it goes on, any other when its queue comes to it: so what
    is waited for comes before the wait. Among packets that never went on the ones at which a queue
    stands come first.
    """
    calls = {item.event: item for item in model.items if item.kind is not Kind.PACKET}
    order = _Order(model, history)
    found: list[Item] = []
    for kind, first, second in history.order:
        if kind == "p":
            found += order.retired(first, second)
        else:
            if first in calls:
                found.append(calls.pop(first))
            found += order.rung(first)
    found += sorted(calls.values(), key=lambda item: item.event)
    at = {queue.ordinal: queue.first + len(queue.packets) for queue in model.queues}
    for queue, number in order.left:
        at[queue] = min(at[queue], number)
    rest = order.left.values()
    return found + sorted(rest, key=lambda i: (i.number != at[i.queue], i.event, i.number))


class _Order:
    """Hands out packets when they take place."""

    def __init__(self, model: Model, history: History) -> None:
        self._model, self._history = model, history
        self.left = {(i.queue, i.number): i for i in model.items if i.kind is Kind.PACKET}
        self._next = [queue.first for queue in model.queues]  # the packet that each has come to
        self._doorbells: dict[int, set[int]] = {}
        for queue, number in self.left:
            event = model.queues[queue].packet(number).event
            self._doorbells.setdefault(event, set()).add(queue)
        self._event = -1

    def retired(self, queue: int, number: int) -> list[Item]:
        """Return a packet that went on, unless it was handed out, and those that begin now."""
        item = self.left.pop((queue, number), None)
        self._next[queue] = number + 1
        return ([item] if item is not None else []) + self._begin(queue)

    def rung(self, event: int) -> list[Item]:
        """Return the packets that begin with a doorbell."""
        self._event = event
        return [item for queue in self._doorbells.get(event, ()) for item in self._begin(queue)]

    def _begin(self, queue: int) -> list[Item]:
        item = self.left.get((queue, self._next[queue]))
        if item is None or item.event > self._event:
            return []
        packet = self._model.packet(item)
        waits = any(conditions(record) for record in packet.records)
        if waits or not self._history.retired(packet):
            return []
        return [self.left.pop((queue, item.number))]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one run showed: causes as signature -> text, and the verdict of the replay."""

    verdict: Verdict
    causes: dict[str, str]


class PausedCase:
    """A candidate, replayed up to an event; after a fork it goes on as another one."""

    def __init__(self, case: Case, base: int, device: str, event: int) -> None:
        self._case, self._event = case, event
        self._device = make_emulated(device)
        self._tap = Tap(self._device)
        self._edited = case.edited(base)

    def play(self, expired: Callable[[], bool], pause: Callable[[], None]) -> Verdict:
        """Replay the first candidate, with a pause at the event."""
        self._edited.pause_at, self._edited.pause = self._event, pause
        player = Player(self._edited, cast(Kfd, self._tap), "progress", expired=expired)
        return with_causes(player.run(), self._edited)

    def resume(self, candidate: int) -> None:
        """Go on as a candidate, with memory of this process's own."""
        self._device.forked()
        self._edited.become(*self._case.kept(candidate))


def with_causes(verdict: Verdict, edited: Edited) -> Verdict:
    """Return a verdict with its causes as reasons: signature and text by turns."""
    found = roots(verdict, edited)
    return replace(verdict, reasons=tuple(x for r in found for x in (r.signature, r.text)))


@dataclass(frozen=True, slots=True)
class Way:
    """How a candidate is run: the device's name, with its schedule, and which queue comes last.

    What the `late` queue is given comes when nothing else can go on.

    With `contrast` it runs twice, the first time with each submission's work done before the next;
    memory that comes out otherwise the second time is a failure as well.
    """

    device: str
    contrast: bool = False
    late: int = -1

    def __str__(self) -> str:
        return self.device + (f", queue {self.late} last" if self.late >= 0 else "")


def run_once(case: Case, candidate: int, way: Way, limits: Limits | None = None) -> Shown:
    """Run a candidate in a child process. Raises GputraceError when it cannot be replayed."""

    def task(expired: Callable[[], bool]) -> Verdict:
        verdict, found, _, _ = play(case, candidate, way, expired)
        return replace(verdict, reasons=tuple(x for r in found for x in (r.signature, r.text)))

    return shown_by(child.run(task, limits, keep=descriptors(case.model.source)))


def shown_by(verdict: Verdict) -> Shown:
    """Return what a run showed. Raises NoAnswer when its process ended by a fault of its own."""
    texts = verdict.reasons
    causes = dict(zip(texts[::2], texts[1::2], strict=True))
    if verdict.result is Result.HOST_CRASH:
        if "died of" not in verdict.text:
            raise NoAnswer(verdict.text)
        causes = {f"host-crash {verdict.text}": verdict.text}
    elif verdict.result is Result.HANG and not causes:
        causes = {"hang time": verdict.text}
    return Shown(verdict, causes)


def _same(kfd: Kfd) -> Kfd:
    return kfd


def play(
    case: Case,
    candidate: int,
    way: Way,
    expired: Callable[[], bool],
    around: Callable[[Kfd], Kfd] = _same,
) -> tuple[Verdict, list[Root], Snapshots, Snapshots | None]:
    """Replay a candidate in this process.

    Returns the verdict, its causes, memory at the end, and what that is compared with. `around`
    may put something around the device of the (second) run, such as a recorder.
    """
    if not way.contrast:
        return (*_play(case, candidate, way, expired, False, around), None)
    verdict, found, right = _play(case, candidate, way, expired, True, _same)
    if found:
        return verdict, found, right, None
    verdict, found, wrong = _play(case, candidate, way, expired, False, around)
    if not found:
        found = differences(case.model, right, wrong, clocks(case, candidate))
    return verdict, found, wrong, right


def _play(
    case: Case,
    candidate: int,
    way: Way,
    expired: Callable[[], bool],
    serial: bool,
    around: Callable[[Kfd], Kfd],
) -> tuple[Verdict, list[Root], Snapshots]:
    tap = Tap(make_emulated(way.device))
    if not case.model.header.knows_writes:  # a player that sees but a recorder cannot say so
        tap.take_all_as_written()
    edited = case.edited(candidate, -1 if serial else way.late)
    player = Player(edited, around(cast(Kfd, tap)), "progress", expired=expired)
    memory = Snapshots(case.model, edited.kept_events, player.places.live)

    def settle() -> None:
        limit = tap.step + SETTLE_STEPS
        while tap.idle(None) is not Progress.BLOCKED and tap.step < limit and not expired():
            pass

    def end() -> None:
        settle()
        memory.take()

    edited.settle = settle
    if serial:
        edited.after_doorbell = settle
    if way.contrast:
        edited.before_unmap, edited.at_end = memory.take, end
    verdict = player.run()
    return verdict, roots(verdict, edited), memory


def clocks(case: Case, candidate: int) -> list[Range]:
    """Return where the packets of a candidate store clocks."""
    items = (case.items[at] for at in members(candidate))
    packets = (case.model.packet(item) for item in items if item.kind is Kind.PACKET)
    return [one for packet in packets for record in packet.records for one in clocked(record)]


class Checkpoints:
    """Holders made where candidates begin like `base`; `resumed` counts the runs from there."""

    def __init__(self, case: Case, base: int, device: str, limits: Limits) -> None:
        self._case, self._base, self._device, self._limits = case, base, device, limits
        self._holders: dict[int, Holder] = {}
        kept = (case.items[at] for at in members(base))
        self._submitted = sorted(item.event for item in kept if item.kind is Kind.PACKET)
        self.resumed = 0

    def run(self, candidate: int) -> Shown | None:
        """Run a candidate from a checkpoint; None when there is none worth it."""
        event = self._case.begins_alike(candidate, self._base)
        at = max((each for each in self._holders if each <= event), default=0)
        if self._before(event) - self._before(at) >= WORTH:
            self._make(event)
            at = event
        if at not in self._holders:
            return None
        try:
            shown = shown_by(self._holders[at].run(candidate))
        except Lost:
            self._holders.pop(at).close()
            return None
        self.resumed += 1
        return shown

    def _before(self, event: int) -> int:
        return bisect_left(self._submitted, event)

    def _make(self, event: int) -> None:
        while len(self._holders) >= HOLDERS:
            self._holders.pop(next(iter(self._holders))).close()
        paused = PausedCase(self._case, self._base, self._device, event)
        self._holders[event] = Holder(paused, self._limits, descriptors(self._case.model.source))

    def close(self) -> None:
        """End all holders."""
        for holder in self._holders.values():
            holder.close()
        self._holders.clear()


class TraceOracle:
    """Runs candidates in the ways given, one after another, until one shows the failure.

    On an emulated device each way gives the same answer every time, so the answer for a candidate
    is as sure as its number of ways.
    """

    def __init__(
        self, case: Case, target: str, ways: Sequence[Way], limits: Limits | None = None
    ) -> None:
        if not ways:
            raise UsageError("a candidate needs at least one way to run")
        self.case, self.target, self.ways, self.limits = case, target, ways, limits
        self._checkpoints: Checkpoints | None = None
        self._resumed = 0

    @property
    def resumed(self) -> int:
        """How many runs began at a checkpoint."""
        return self._resumed + (self._checkpoints.resumed if self._checkpoints else 0)

    def stand_on(self, candidate: int) -> None:
        """Say that the candidates to come begin like this one, for the first way of running."""
        self.close()
        way = self.ways[0]
        if not way.contrast and way.late < 0:
            limits = self.limits or Limits()
            self._checkpoints = Checkpoints(self.case, candidate, way.device, limits)

    def close(self) -> None:
        """End the processes that hold checkpoints."""
        self._resumed = self.resumed
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._checkpoints = None

    def _from_checkpoint(self, candidate: int, way: Way) -> Shown | None:
        if self._checkpoints is None or way != self.ways[0]:
            return None
        return self._checkpoints.run(candidate)

    def run(self, candidate: int) -> oracle.Verdict:
        """Run a candidate in one way after another."""
        start = time.monotonic()
        answer = oracle.Verdict(Outcome.PASS)
        for way in self.ways:
            found = self.once(candidate, way)
            if found.outcome in (Outcome.SAME, Outcome.INVALID, Outcome.INFRA):
                answer = found
                break
            if found.outcome is Outcome.OTHER:
                answer = found
        return replace(answer, cost=time.monotonic() - start)

    def once(self, candidate: int, way: Way) -> oracle.Verdict:
        """Run a candidate in one way."""
        try:
            shown = self._from_checkpoint(candidate, way)
            if shown is None:
                shown = run_once(self.case, candidate, way, self.limits)
        except NoAnswer as problem:
            return oracle.Verdict(Outcome.INFRA, str(problem))
        except GputraceError as problem:
            return oracle.Verdict(Outcome.INVALID, str(problem))
        if self.target in shown.causes:
            if way.contrast and not self._own_waits_stand(candidate, way):
                return oracle.Verdict(Outcome.OTHER, UNGUARDED)
            return oracle.Verdict(Outcome.SAME, self.target)
        if shown.causes:
            return oracle.Verdict(Outcome.OTHER, next(iter(shown.causes)))
        if shown.verdict.result is Result.DIFFERS:
            return oracle.Verdict(Outcome.INVALID, shown.verdict.text)
        return oracle.Verdict(Outcome.PASS)


    def _own_waits_stand(self, candidate: int, way: Way) -> bool:
        # Whoever takes a wait away makes a race. The one that is looked for is there with all
        # waits of the trace, and the packets that answer them; where these hang nobody knows.
        guarded = candidate | self.case.waits
        if guarded == candidate:
            return True
        shown = run_once(self.case, guarded, way, self.limits)
        return bool(shown.causes)


class TurnOracle(TraceOracle):
    """Runs a candidate once, each time in the next way: for judges that count."""

    def __init__(
        self, case: Case, target: str, ways: Sequence[Way], limits: Limits | None = None
    ) -> None:
        super().__init__(case, target, ways, limits)
        self._next: dict[int, int] = {}

    def run(self, candidate: int) -> oracle.Verdict:
        """Run a candidate once."""
        at = self._next.get(candidate, 0)
        self._next[candidate] = at + 1
        start = time.monotonic()
        found = self.once(candidate, self.ways[at % len(self.ways)])
        return replace(found, cost=time.monotonic() - start)
