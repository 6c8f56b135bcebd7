"""Reduce a trace file: find out how it fails, search, certify, write what is left."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gputrace.devices.names import DeviceName, parse_name
from gputrace.errors import UsageError
from gputrace.formats.ioctl import DestroyQueue
from gputrace.minimize import trial
from gputrace.minimize.certificate import Certificate, certify
from gputrace.minimize.flaky import FlakySearch, Rates, SequentialTest
from gputrace.minimize.gate import Aside, Gate, Stream
from gputrace.minimize.graph import members
from gputrace.minimize.groups import DropDevices, DropQueues
from gputrace.minimize.history import History, learn
from gputrace.minimize.journal import Journal
from gputrace.minimize.model import Item, Kind, Model, read_model
from gputrace.minimize.oracle import Costs, Judge, Once, Outcome
from gputrace.minimize.passes import Pass, run_passes
from gputrace.minimize.search import StreamSearch
from gputrace.minimize.trial import Case, TraceOracle
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

PROBES = 4
"""Other schedules under which the whole trace runs first, to see whether the failure is sure."""
REPEATS = 3
"""Runs that measure the rate of a failure that came every time so far."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reduce. `seeds` schedules are used for a failure that comes and goes.

    `device` is the device's name, empty for that of the trace. `seconds` is the time limit of one
    run, `progress` is told each outcome and the best candidate's (packets, items).
    """

    journal: Path | None = None
    device: str = ""
    seeds: int = 64
    seconds: float = 120.0
    progress: Callable[[Outcome, int, int], None] = lambda outcome, packets, items: None


@dataclass(frozen=True, slots=True)
class Target:
    """The failure that is being reduced, and where it shows.

    `sure` says that it came under every schedule tried; `contrast` that it is a wrong result, seen
    beside a run in which each submission's work was done before the next.
    """

    signature: str
    text: str
    devices: tuple[str, ...]
    sure: bool
    contrast: bool
    rate: float
    runs: int


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
    runs: int
    whole: Model
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> list[Item]:
        """The items that are left, in the order in which they take place."""
        return [self.case.items[at] for at in members(self.best)]

    @property
    def packets(self) -> int:
        """How many packets are left."""
        return self.case.packets(self.best)

    @property
    def device(self) -> str:
        """A device on which the result fails."""
        return self.target.devices[0]


def prepare(reader: TraceReader, settings: Settings) -> tuple[Case, Target, Model]:
    """Read a trace, replay it once to learn what happened when, and find out how it fails.

    Raises UsageError when it does not fail, or holds what cannot be replayed.
    """
    whole = read_model(reader)
    if whole.problems:
        raise UsageError(f"the trace cannot be reduced: {whole.problems[0]}")
    recorded = str(reader.header.device.get("name", ""))
    name = settings.device or recorded
    if parse_name(name).scheme != "emu":
        raise UsageError(f"device {name!r}: candidates run on emulated devices, such as emu:gfx942")
    outcome = (reader.trailer.outcome or {}) if reader.trailer else {}
    limits = Limits(seconds=settings.seconds)
    history = learn(whole, recorded, str(outcome.get("result", "")), limits)
    if history.verdict.result is Result.DIFFERS:
        text = history.verdict.text
        raise UsageError(f"the trace does not replay as it was recorded: {text}")
    model = whole if history.last < 0 else read_model(reader, _cut(whole, history))
    case = Case(model, history)
    return case, find_target(case, name, settings), whole


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
    devices = [with_schedule(name, each) for each in (seed, *others)]
    if case.history.verdict.result in (Result.HANG, Result.FAULT, Result.HOST_CRASH):
        found = _probe(case, devices, settings, contrast=False)
        if found is not None:
            return found
    found = _probe(case, devices, settings, contrast=True)
    if found is not None:
        return found
    if parse_name(name).options.get("check") != "bytes":
        exact = [with_schedule(name, seed, check="bytes")]
        found = _probe(case, exact, settings, contrast=False)
        if found is not None:
            return found
    raise UsageError(
        f"the trace does not fail: replayed as recorded it ends {case.history.verdict.result.value}"
        f", under {len(devices)} schedules and with check=bytes nothing goes wrong either"
    )


def _probe(
    case: Case, devices: list[str], settings: Settings, *, contrast: bool
) -> Target | None:
    # The first devices tell whether the failure is sure; a rare one is looked for under them all.
    limits = Limits(seconds=settings.seconds)
    texts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    runs = 0
    for runs, device in enumerate(devices, 1):
        shown = trial.run_once(case, case.graph.full, device, limits, contrast=contrast)
        for signature, text in shown.causes.items():
            texts.setdefault(signature, text)
            counts[signature] += 1
        if runs > PROBES and counts:
            break
        if not counts and not contrast and runs > PROBES:
            return None
    if not counts:
        return None
    signature, hits = counts.most_common(1)[0]
    sure = hits == runs
    chosen = devices[:1] if sure else devices
    return Target(signature, texts[signature], tuple(chosen), sure, contrast, hits / runs, runs)


def reduce(reader: TraceReader, settings: Settings) -> Reduction:
    """Reduce a trace. Raises UsageError when it does not fail, Undecided when it fails too rarely.

    With a journal that holds runs of this reduction these are not made again.
    """
    case, target, whole = prepare(reader, settings)
    limits = Limits(seconds=settings.seconds)
    oracle = TraceOracle(case, target.signature, list(target.devices), limits,
                         contrast=target.contrast)  # fmt: skip
    rates = Rates()
    judge: Judge = Once() if target.sure else SequentialTest(rates)
    journal = None
    if settings.journal is not None:
        journal = Journal(settings.journal, subject_name(reader, target))
    gate = _Told(case, oracle, judge, journal, settings.progress)
    search: Pass[int] = (
        StreamSearch(case.graph) if target.sure else FlakySearch(case.graph, rates)
    )
    passes: Sequence[Pass[int]] = [search]
    if target.sure:
        passes = [DropDevices(case), DropQueues(case), search]
    try:
        best = run_passes(gate, passes)
        certificate = certify(gate, case.graph)
        rate, runs = measure(gate, best, REPEATS if target.sure else 4 * REPEATS)
    finally:
        if journal is not None:
            journal.close()
    return Reduction(
        case, target, best, certificate, gate.costs, gate.recalled, gate.asides, rate, runs, whole
    )


def measure(gate: Gate[int], candidate: int, runs: int) -> tuple[float, int]:
    """Run a candidate until it has run `runs` times; return its rate and the number of runs."""
    while len(gate.outcomes(candidate)) < runs:
        gate.sample(candidate)
    outcomes = gate.outcomes(candidate)
    hits = sum(outcome is Outcome.SAME for outcome in outcomes)
    return hits / len(outcomes), len(outcomes)


def subject_name(reader: TraceReader, target: Target) -> str:
    """Return what a journal is about: this trace, this failure."""
    digest = hashlib.blake2b(digest_size=16)
    with open(reader.file.path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{digest.hexdigest()} {target.signature} {target.devices[0]}"


class _Told(Gate[int]):
    """A gate that tells of each run."""

    def __init__(
        self,
        case: Case,
        oracle: TraceOracle,
        judge: Judge,
        journal: Journal | None,
        tell: Callable[[Outcome, int, int], None],
    ) -> None:
        super().__init__(Stream(case.graph), oracle, case.graph.full, judge, journal)
        self._case, self._tell = case, tell
        self._shown = (-1, 0)

    def sample(self, candidate: int) -> Outcome:
        """Run a candidate and tell of it."""
        outcome = super().sample(candidate)
        if self._shown[0] != self.best:
            self._shown = self.best, self._case.packets(self.best)
        self._tell(outcome, self._shown[1], self.best.bit_count())
        return outcome


def queues_left(reduction: Reduction) -> list[int]:
    """Return the ordinals of the queues whose packets are left."""
    return sorted({item.queue for item in reduction.kept if item.kind is Kind.PACKET})


def file_size(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a file."""
    return os.stat(path).st_size
