"""Reduce a trace file: find out how it fails, search, certify, write what is left."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gputrace.devices.names import DeviceName, parse_name
from gputrace.errors import UsageError
from gputrace.formats.ioctl import DestroyQueue
from gputrace.minimize import trial
from gputrace.minimize.certificate import Certificate, certify
from gputrace.minimize.flaky import FlakySearch, Rates, SequentialTest
from gputrace.minimize.gate import Aside, Gate, Stream
from gputrace.minimize.graph import members
from gputrace.minimize.groups import DropDevices, DropQueues, DropSubmissions, TraceSearch
from gputrace.minimize.history import History, learn, make_emulated
from gputrace.minimize.journal import Journal
from gputrace.minimize.model import Item, Kind, Model, Packet, read_model
from gputrace.minimize.oracle import Costs, Judge, Once, Outcome
from gputrace.minimize.passes import Pass, run_passes
from gputrace.minimize.trial import Case, TraceOracle, TurnOracle, Way
from gputrace.replay.explain import Where, packet_lines
from gputrace.replay.needs import reasons
from gputrace.replay.running import in_doubt, lost_events, pacing_for, stand_in
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result
from gputrace.trace import events
from gputrace.trace.events import Header
from gputrace.trace.reader import TraceReader

PROBES = 4
"""Schedules under which the whole trace runs first, to see whether the failure is sure."""
RATED = 12
"""Runs that measure the rate of one that comes and goes."""
ENDLESS = ("hang time", "hang loop")
"""Failures that are seen by the time they take."""
SHORTEST, SLOWER, GRACE = 3.0, 4.0, 1.0
"""A candidate may take this many seconds, or this many times as long as the whole trace, and a
second more to end by itself."""
OVERLOOKED = 0.02
"""How often a failing candidate may be taken for one that passes, when failures come and go."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reduce. `seeds` schedules are used for a failure that comes and goes.

    `device` is the device's name, empty for that of the trace. `seconds` is the time limit of one
    run; with `spurious` the same failure may also come without its cause, so that candidates are
    judged by a sequential test. `tell` is given a line of text at each run.
    """

    journal: Path | None = None
    device: str = ""
    seeds: int = 64
    seconds: float = 120.0
    spurious: bool = False
    tell: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, slots=True)
class Target:
    """The failure that is being reduced, and the ways of running that show it.

    `sure` says that the first way is enough. `rate` is the share of `runs` ordinary runs, under
    schedules as they come, that failed; `rated` are the ways of these runs. `seconds` is what the
    slowest run of the whole trace took.
    """

    signature: str
    text: str
    ways: tuple[Way, ...]
    sure: bool
    rate: float
    runs: int
    rated: tuple[Way, ...]
    seconds: float

    @property
    def contrast(self) -> bool:
        """Whether it is a wrong result, seen beside a run that does one thing after another."""
        return self.ways[0].contrast


@dataclass
class Reduction:
    """What came of it: the case, the failure, the best candidate and why nothing more can go."""

    case: Case
    target: Target
    best: int
    certificate: Certificate
    costs: Costs
    recalled: int
    asides: list[Aside[int]]
    rate: float
    whole: Model
    resumed: int = 0
    """Runs that began at a checkpoint."""
    seconds: float = 0.0
    right: dict[int, bytes] = field(default_factory=dict)
    """Of a wrong result: what each buffer, by the event that made it, should hold."""
    lines: dict[Where, str] = field(default_factory=dict)
    """Packets that are left, by queue and number, in words: names, kernels, arguments."""

    @property
    def kept(self) -> list[Item]:
        """The items that are left, in the order in which they take place."""
        return [self.case.items[at] for at in members(self.best)]

    @property
    def packets(self) -> int:
        """How many packets are left."""
        return self.case.packets(self.best)

    def line(self, packet: Packet) -> str:
        """Return a packet on one line, in words if it is left."""
        return self.lines.get((packet.queue, packet.number)) or packet.line

    @property
    def device(self) -> str:
        """A device on which the result fails."""
        return self.target.ways[0].device


def prepare(reader: TraceReader, settings: Settings) -> tuple[Case, Target, Model]:
    """Read a trace, replay it once to learn what happened when, and find out how it fails.

    Raises UsageError when it does not fail, or holds what cannot be replayed.
    """
    whole = read_model(reader)
    problems = [*lost_events(reader), *whole.problems]
    if problems:
        raise UsageError(f"the trace cannot be reduced: {problems[0]}")
    if not whole.submissions:
        end = "ends" if reader.complete else "is cut"
        raise UsageError(f"the trace {end} before anything was submitted: nothing in it can fail")
    recorded = str(reader.header.device.get("name", ""))
    name = settings.device or _emulated(reader.header, recorded)
    if parse_name(name).scheme != "emu":
        raise UsageError(f"device {name!r}: candidates run on emulated devices, such as emu:gfx942")
    unfit = reasons(reader, make_emulated(name))
    if unfit:
        raise UsageError(f"the trace cannot be reduced on {name}: {'; '.join(unfit)}")
    outcome = (reader.trailer.outcome or {}) if reader.trailer else {}
    limits = Limits(seconds=settings.seconds)
    ended = str(outcome.get("result", ""))
    if ended == "differs":
        raise UsageError("it is reduced already, to a wrong result: take the trace it was made of")
    exact = not whole.part and _steps_hold(reader.header, recorded)
    history = (
        learn(whole, recorded, ended, limits)
        if exact
        else learn(whole, name, ended, limits, "progress")
    )
    if history.verdict.result is Result.DIFFERS and exact and in_doubt(whole.source):
        exact, history = False, learn(whole, name, ended, limits, "progress")
    if history.verdict.result is Result.DIFFERS and exact:
        text = history.verdict.text
        raise UsageError(f"the trace does not replay as it was recorded: {text}")
    model = whole if history.last < 0 else read_model(reader, _cut(whole, history))
    case = Case(model, history)
    return case, find_target(case, name, settings), whole


def _emulated(header: Header, recorded: str) -> str:
    return stand_in(header) if parse_name(recorded).scheme == "kfd" else recorded


def _steps_hold(header: Header, recorded: str) -> bool:
    # What hardware did, or an emulated device whose scheduler made other steps, goes by the
    # progress that was seen. Where nothing is said of steps, each event says whether it has one.
    if parse_name(recorded).scheme != "emu":
        return False
    return not header.scheduler or pacing_for(header, make_emulated(recorded)) == "steps"


def _cut(model: Model, history: History) -> int:
    # Nothing after the failure matters; a queue's end is where its failure was noticed.
    event = model.by_number.get(history.last)
    ends = isinstance(event, events.Ioctl) and event.record == DestroyQueue.__name__
    return history.last if ends else history.last + 1


def with_schedule(name: str, seed: int, **options: str) -> str:
    """Return a device's name with another schedule and other options."""
    parsed = parse_name(name)
    changed = {**parsed.options, "schedule": seed, **options}
    return str(DeviceName(parsed.scheme, parsed.index, parsed.target, parsed.count, changed))


def find_target(case: Case, name: str, settings: Settings) -> Target:
    """Find out how the whole trace fails, trying what could show it from sure to rare."""
    seed = int(parse_name(name).options.get("schedule", case.model.header.schedule_seed))
    others = [other for other in range(settings.seeds) if other != seed]
    ways = [Way(with_schedule(name, each)) for each in (seed, *others)]
    if case.history.verdict.result in (Result.HANG, Result.FAULT, Result.HOST_CRASH):
        found = _probe(case, ways, (), settings)
        if found is not None:
            return found
    beside = [replace(way, contrast=True) for way in ways]
    queues = sorted({i.queue for i in case.items if i.kind is Kind.PACKET})
    last = [replace(beside[0], late=queue) for queue in queues] if len(queues) > 1 else []
    found = _probe(case, beside, last, settings)
    if found is not None:
        return found
    if parse_name(name).options.get("check") != "bytes":
        exact = [Way(with_schedule(name, seed, check="bytes"))]
        found = _probe(case, exact, (), settings)
        if found is not None:
            return found
    raise UsageError(
        f"the trace does not fail: replayed as recorded it ends {case.history.verdict.result.value}"
        f", under {len(ways)} schedules and with check=bytes nothing goes wrong either"
    )


def _probe(
    case: Case, ways: list[Way], special: Sequence[Way], settings: Settings
) -> Target | None:
    # Ordinary schedules tell how often it fails; a special way that shows it every time is what
    # candidates are run in.
    shown = _Probes(case, settings)
    shown.run(ways[:PROBES])
    if shown.by and not shown.always():
        shown.run(ways[PROBES:RATED])
    elif not shown.by and special:
        if _Probes(case, settings).run(special):
            shown.run(ways[PROBES:RATED])
        else:
            shown.run(ways[PROBES:], until_shown=True)
    runs, rated = shown.runs, tuple(ways[: shown.runs])
    counted = {signature: len(some) for signature, some in shown.by.items()}
    if not shown.always():
        shown.run(special)
    if not shown.by:
        return None
    signature = max(shown.by, key=lambda each: (len(shown.by[each]), each))
    failing, rate = shown.by[signature], counted.get(signature, 0) / runs
    chosen = [way for way in failing if way in special] or (failing if rate == 1.0 else [])
    # Schedules that showed it come first: what is left of the trace often fails under them, too.
    rest = [each for each in ways if each not in failing]
    picked = chosen[:1] or [*failing, *rest][: patience(rate, len(ways))]
    return Target(
        signature, shown.texts[signature], tuple(picked), bool(chosen), rate, runs, rated,
        shown.slowest,
    )  # fmt: skip


class _Probes:
    """Runs of the whole trace, by what they showed."""

    def __init__(self, case: Case, settings: Settings) -> None:
        self._case, self.limits = case, Limits(seconds=settings.seconds)
        self._tell = settings.tell
        self.by: dict[str, list[Way]] = {}
        self.texts: dict[str, str] = {}
        self.runs = 0
        self.slowest = 0.0

    def run(self, ways: Sequence[Way], *, until_shown: bool = False) -> bool:
        """Run the whole trace in each way, or until one fails; tell whether any did."""
        for way in ways:
            if until_shown and self.by:
                break
            self.runs += 1
            self._tell(f"the whole trace, run {self.runs}: {way}")
            start = time.monotonic()
            shown = trial.run_once(self._case, self._case.graph.full, way, self.limits)
            self.slowest = max(self.slowest, time.monotonic() - start)
            for signature, text in shown.causes.items():
                self.texts.setdefault(signature, text)
                self.by.setdefault(signature, []).append(way)
        return bool(self.by)

    def always(self) -> bool:
        """Whether something was shown every time."""
        return any(len(some) == self.runs for some in self.by.values())


def patience(rate: float, most: int) -> int:
    """Return how many schedules without the failure say that a candidate does not have it.

    Enough for a failure as rare as in the whole trace to be overlooked once in fifty times.
    """
    if rate >= 1.0:
        return 1
    return max(1, min(most, math.ceil(math.log(OVERLOOKED) / math.log(1.0 - rate))))


def reduce(reader: TraceReader, settings: Settings) -> Reduction:
    """Reduce a trace. Raises UsageError when it does not fail, Undecided when it fails too rarely.

    With a journal that holds runs of this reduction these are not made again.
    """
    case, target, whole = prepare(reader, settings)
    limits, rates = patient(target, settings), Rates()
    oracle = TraceOracle(case, target.signature, target.ways, limits)
    judge: Judge = Once()
    if settings.spurious:
        oracle = TurnOracle(case, target.signature, target.ways, limits)
        judge = SequentialTest(rates)
    journal = None
    if settings.journal is not None:
        journal = Journal(settings.journal, subject_name(reader, target))
    gate = _Told(case, oracle, judge, journal, settings.tell)
    passes: Sequence[Pass[int]] = [
        DropDevices(case), DropQueues(case), DropSubmissions(case), TraceSearch(case, oracle)
    ]  # fmt: skip
    if settings.spurious:
        passes = [FlakySearch(case.graph, rates)]
    try:
        best = run_passes(gate, passes)
        certificate = certify(gate, case.graph)
        rated = TurnOracle(case, target.signature, target.rated, limits)
        rate = measure(rated, best, target.runs)
    finally:
        oracle.close()
        if journal is not None:
            journal.close()
    left = {(i.queue, i.number) for i in map(case.items.__getitem__, members(best))}
    return Reduction(
        case, target, best, certificate, gate.costs, gate.recalled, gate.asides, rate, whole,
        resumed=oracle.resumed, lines=packet_lines(reader, left)[0],
    )  # fmt: skip


def patient(target: Target, settings: Settings) -> Limits:
    """Return how long a candidate may take: what is left out can make the rest run for ever."""
    if target.signature in ENDLESS:
        return Limits(seconds=settings.seconds)
    seconds = min(settings.seconds, max(SHORTEST, SLOWER * target.seconds))
    return Limits(seconds=seconds, grace=GRACE)


def measure(oracle: TurnOracle, candidate: int, runs: int) -> float:
    """Run a candidate so often, under schedules as they come; return how often it failed."""
    outcomes = [oracle.run(candidate).outcome for _ in range(runs)]
    return sum(outcome is Outcome.SAME for outcome in outcomes) / runs


def subject_name(reader: TraceReader, target: Target) -> str:
    """Return what a journal is about: this trace, this failure."""
    digest = hashlib.blake2b(digest_size=16)
    with open(reader.file.path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{digest.hexdigest()} {target.signature} {target.ways[0]}"


class _Told(Gate[int]):
    """A gate that tells of each run."""

    def __init__(
        self,
        case: Case,
        oracle: TraceOracle,
        judge: Judge,
        journal: Journal | None,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(Stream(case.graph), oracle, case.graph.full, judge, journal)
        self._case, self._tell = case, tell
        self._shown = (-1, 0)

    def sample(self, candidate: int) -> Outcome:
        """Run a candidate and tell of it."""
        outcome = super().sample(candidate)
        if self._shown[0] != self.best:
            self._shown = self.best, self._case.packets(self.best)
        run, packets, items = self.costs.total, self._shown[1], self.best.bit_count()
        self._tell(f"run {run}: {outcome.value}; {packets} packets, {items} elements left")
        return outcome


def queues_left(reduction: Reduction) -> list[int]:
    """Return the ordinals of the queues whose packets are left."""
    return sorted({item.queue for item in reduction.kept if item.kind is Kind.PACKET})
