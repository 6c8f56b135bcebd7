"""Candidates of a trace: what they are, and one run of one of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from gputrace.errors import GputraceError, UsageError
from gputrace.kfd.port import Kfd, Progress
from gputrace.minimize import dependencies, oracle
from gputrace.minimize.contrast import Snapshots, differences
from gputrace.minimize.dependencies import Range
from gputrace.minimize.edit import Edited
from gputrace.minimize.effects import clocked
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

SETTLE_STEPS = 1_000_000
"""Steps that a device may take before it counts as going on for ever."""


@dataclass
class Case:
    """A trace ready for reduction: its items as they took place, and what each needs."""

    model: Model
    history: History
    items: list[Item] = field(init=False)
    graph: Graph = field(init=False)

    def __post_init__(self) -> None:
        """Order the items and build their graph."""
        self.items = ordered(self.model, self.history)
        needs = Needs(self.model, self.history.retired)
        self.graph = dependencies.build([needs.describe(item) for item in self.items])

    def edited(self, candidate: int, tap: Tap) -> Edited:
        """Return the stream of a candidate, a mask of items."""
        kept = [self.items[at] for at in members(candidate)]
        packets = frozenset((i.queue, i.number) for i in kept if i.kind is Kind.PACKET)
        events = frozenset(item.event for item in kept if item.kind is not Kind.PACKET)
        return Edited(self.model, self.history, events, packets, tap.made)

    def packets(self, candidate: int) -> int:
        """Count the packets of a candidate."""
        return sum(self.items[at].kind is Kind.PACKET for at in members(candidate))


def ordered(model: Model, history: History) -> list[Item]:
    """Return the items as they took place; packets that never went on come last.

    Among these the ones at which a queue stands come first.
    """
    calls = {item.event: item for item in model.items if item.kind is not Kind.PACKET}
    packets = {(i.queue, i.number): i for i in model.items if i.kind is Kind.PACKET}
    found = []
    for kind, first, second in history.order:
        item = packets.pop((first, second), None) if kind == "p" else calls.pop(first, None)
        if item is not None:
            found.append(item)
    found += sorted(calls.values(), key=lambda item: item.event)
    at = {queue.ordinal: len(queue.packets) for queue in model.queues}
    for queue, number in packets:
        at[queue] = min(at[queue], number)
    rest = sorted(packets.values(), key=lambda i: (i.number != at[i.queue], i.event, i.number))
    return found + rest


@dataclass(frozen=True, slots=True)
class Shown:
    """What one run showed: causes as signature -> text, and the verdict of the replay."""

    verdict: Verdict
    causes: dict[str, str]


def run_once(
    case: Case, candidate: int, device: str, limits: Limits | None = None, *, contrast: bool = False
) -> Shown:
    """Run a candidate in a child process. Raises GputraceError when it cannot be replayed.

    With `contrast` it runs twice, the first time with each submission's work done before the next;
    memory that comes out otherwise the second time is a failure as well.
    """

    def task(expired: Callable[[], bool]) -> Verdict:
        verdict, found, right = play(case, candidate, device, expired, serial=contrast)
        if contrast and not found:
            verdict, found, wrong = play(case, candidate, device, expired)
            if not found:
                found = differences(case.model, right, wrong, clocks(case, candidate))
        return replace(verdict, reasons=tuple(x for r in found for x in (r.signature, r.text)))

    verdict = child.run(task, limits, keep=descriptors(case.model.source))
    texts = verdict.reasons
    causes = dict(zip(texts[::2], texts[1::2], strict=True))
    if verdict.result is Result.HOST_CRASH:
        causes = {f"host-crash {verdict.text}": verdict.text}
    elif verdict.result is Result.HANG and not causes:
        causes = {"hang time": verdict.text}
    return Shown(verdict, causes)


def play(
    case: Case,
    candidate: int,
    device: str,
    expired: Callable[[], bool],
    *,
    serial: bool = False,
    around: Callable[[Kfd], Kfd] = lambda kfd: kfd,
) -> tuple[Verdict, list[Root], Snapshots]:
    """Replay a candidate in this process; return the verdict, its causes, and memory at the end.

    `around` may put something around the device, such as a recorder.
    """
    tap = Tap(make_emulated(device))
    edited = case.edited(candidate, tap)
    player = Player(edited, around(cast(Kfd, tap)), "progress", expired=expired)
    memory = Snapshots(case.model, edited.kept_events, player.places.live)

    def settle() -> None:
        limit = tap.step + SETTLE_STEPS
        while tap.idle(None) is not Progress.BLOCKED and tap.step < limit and not expired():
            pass

    def end() -> None:
        settle()
        memory.take()

    if serial:
        edited.after_doorbell = settle
    edited.before_unmap, edited.at_end = memory.take, end
    verdict = player.run()
    return verdict, roots(verdict, edited), memory


def clocks(case: Case, candidate: int) -> list[Range]:
    """Return where the packets of a candidate store clocks."""
    items = (case.items[at] for at in members(candidate))
    packets = (case.model.packet(item) for item in items if item.kind is Kind.PACKET)
    return [one for packet in packets for record in packet.records for one in clocked(record)]


class TraceOracle:
    """Runs candidates on emulated devices, under the schedules of `devices` in turn."""

    def __init__(
        self,
        case: Case,
        target: str,
        devices: list[str],
        limits: Limits | None = None,
        *,
        contrast: bool = False,
    ) -> None:
        if not devices:
            raise UsageError("a candidate needs at least one schedule to run under")
        self.case, self.target, self.devices, self.limits = case, target, devices, limits
        self.contrast = contrast
        self._next: dict[int, int] = {}

    def run(self, candidate: int) -> oracle.Verdict:
        """Run a candidate once; every new run of it takes the next schedule."""
        at = self._next.get(candidate, 0)
        self._next[candidate] = at + 1
        device, start = self.devices[at % len(self.devices)], time.monotonic()
        try:
            shown = run_once(self.case, candidate, device, self.limits, contrast=self.contrast)
        except GputraceError as problem:
            return oracle.Verdict(Outcome.INVALID, str(problem), time.monotonic() - start)
        seconds = time.monotonic() - start
        if self.target in shown.causes:
            return oracle.Verdict(Outcome.SAME, self.target, seconds)
        if shown.causes:
            return oracle.Verdict(Outcome.OTHER, next(iter(shown.causes)), seconds)
        if shown.verdict.result is Result.DIFFERS:
            return oracle.Verdict(Outcome.INVALID, shown.verdict.text, seconds)
        return oracle.Verdict(Outcome.PASS, "", seconds)
