"""Minimize: candidates executed on synthetic streams, beside other reducers.

The streams are those of `tests/minimize/streams.py`. Yardsticks are lithium and picire when they
can be imported (`pip install --target DIR lithium-reducer==4.0.0 picire==21.8 "setuptools<81"` and
PYTHONPATH=DIR); "closed" means that they reduce dependency-closed units too: what a candidate lacks
takes away what needs it, so that no candidate of theirs is invalid.
"""

import contextlib
import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from statistics import median
from typing import Any

from gputrace.minimize.flaky import FlakySearch, Rates, SequentialTest
from gputrace.minimize.gate import Gate, Stream
from gputrace.minimize.graph import mask_of, members
from gputrace.minimize.oracle import Outcome
from gputrace.minimize.search import StreamSearch
from tests.minimize.streams import Synthetic, Truth, dependent, independent, nonmonotone
from tools.benches import Options, Row, at_least, at_most

Make = Callable[[int, int, int], Synthetic]
MANY = 50
"""Runs of the flaky search in a full measurement, of each kind of stream."""
GIVE_UP = 60.0
"""Seconds after which a yardstick is cut off."""


def rows(options: Options) -> Iterator[Row]:
    """Measure all rows."""
    sizes = [(1_000, 3, 62), (10_000, 3, 83), (100_000, 2, 105)][: 2 if options.quick else 3]
    for n, seeds, budget in sizes:
        yield searched(f"dependencies, {n:,}/5", dependent, n, 5, seeds, budget)
    yield searched("90 % of the edges, 10,000/5", dependent, 10_000, 5, 3, 150, share=0.9)
    yield searched("non-monotone, 10,000/20", nonmonotone, 10_000, 20, 3, 700)
    if not options.quick:
        yield searched("independent, 100,000/20", independent, 100_000, 20, 2, 365)
    yield from flaky(5 if options.quick else MANY)
    yield from yardsticks(1_000 if options.quick else 10_000)


def searched(
    name: str, make: Make, n: int, k: int, seeds: int, budget: float, share: float = 1.0
) -> Row:
    """Run the search on a few streams; the row is the median number of candidates."""
    runs, right = [], 0
    start = time.process_time()
    for seed in range(seeds):
        stream = make(n, k, seed)
        graph = stream.graph(share)
        gate = Gate(Stream(graph), Truth(stream), graph.full)
        StreamSearch(graph).run(gate)
        runs.append(gate.costs.total)
        right += gate.best == stream.minimum
    took = time.process_time() - start
    shown = " ".join(str(one) for one in runs)
    note = f"each {shown}; {right} of {seeds} at the true minimum; {took:.1f} s"
    return at_most(name, median(runs), "candidates", budget, note)


def flaky(count: int) -> Iterator[Row]:
    """Run the flaky search, which is told no rates: 70 % of failures show, 1 % are spurious."""
    runs, right = [], 0
    for make in (dependent, independent):
        for seed in range(count):
            stream = make(10_000, 5, seed)
            graph, rates = stream.graph(), Rates()
            gate = Gate(Stream(graph), Truth(stream, 0.7, 0.01, seed), graph.full,
                        judge=SequentialTest(rates))  # fmt: skip
            FlakySearch(graph, rates).run(gate)
            runs.append(gate.costs.total)
            right += gate.best == stream.minimum
    total = len(runs)
    note = f"median of {total}, {min(runs)} to {max(runs)}; rates learnt on the way"
    yield at_most("70 % show, 1 % spurious, 10,000/5", median(runs), "runs", 220, note)
    share = 100 * right / total
    yield at_least("  of them right", share, "%", 99, f"{right} of {total}")


def yardsticks(n: int) -> Iterator[Row]:
    """Run other reducers on stream 0 with dependencies."""
    stream = dependent(n, 5, 0)
    graph = stream.graph()
    gate = Gate(Stream(graph), Truth(stream), graph.full)
    StreamSearch(graph).run(gate)
    for name, reduce in (("lithium", _lithium), ("picire", _picire)):
        for closed in (False, True):
            label = f"{name}{', closed' if closed else ''}, dependencies, {n:,}/5"
            yield _yardstick(label, stream, reduce, closed, gate.costs.total)


class CutOff(Exception):
    """A yardstick took too long."""


class Counting:
    """A test function as other reducers want it, which counts distinct candidates."""

    def __init__(self, stream: Synthetic, closed: bool) -> None:
        self.truth, self.closed = Truth(stream), closed
        self.answers: dict[int, bool] = {}
        self.best = self.truth.graph.full
        self.end = time.monotonic() + GIVE_UP

    def fails(self, items: Sequence[int]) -> bool:
        """Tell whether a candidate fails; a known one is not counted again."""
        mask = self._sound(items) if self.closed else mask_of(items)
        if mask not in self.answers:
            if time.monotonic() > self.end:
                raise CutOff
            self.answers[mask] = self.truth.truth(mask) is Outcome.SAME
        if self.answers[mask] and mask.bit_count() < self.best.bit_count():
            self.best = mask
        return self.answers[mask]

    def _sound(self, items: Sequence[int]) -> int:
        needs, kept = self.truth.stream.needs, set(items)
        for item in sorted(kept):
            if not all(need in kept for need in needs[item]):
                kept.discard(item)
        return mask_of(kept)


def _yardstick(
    name: str,
    stream: Synthetic,
    reduce: Callable[[Counting, int], None],
    closed: bool,
    ours: int,
) -> Row:
    test, ended = Counting(stream, closed), ""
    try:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            reduce(test, len(stream.needs))
    except ImportError as problem:
        return Row(name, float("nan"), "candidates", note=f"not measured: {problem}")
    except CutOff:
        ended = f"; cut off after {GIVE_UP:.0f} s"
    except AssertionError:
        ended = "; it gave up with an assertion"
    count, left = len(test.answers), len(list(members(test.best)))
    minimum = stream.minimum.bit_count()
    note = f"{count / ours:.1f} times ours; ended at {left} items, the minimum is {minimum}{ended}"
    return Row(name, count, "candidates", note=note)


def _lithium(test: Counting, n: int) -> None:
    strategies = import_module("lithium.strategies")
    testcases = import_module("lithium.testcases")
    case = testcases.TestcaseLine()
    case.parts = [b"%d\n" % item for item in range(n)]
    case.reducible = [True] * n
    logging.getLogger("lithium").setLevel(logging.CRITICAL)
    attempts: Any = strategies.Minimize().reduce(case)
    for attempt in attempts:
        attempts.feedback(test.fails([int(part) for part in attempt.parts]))


def _picire(test: Counting, n: int) -> None:
    # It reads its settings as a program would; its log is not wanted here.
    picire = import_module("picire")
    logging.getLogger("picire").setLevel(logging.CRITICAL)
    outcome = picire.Outcome

    def run(config: Sequence[int], identity: object) -> Any:
        return outcome.FAIL if test.fails(config) else outcome.PASS

    with contextlib.redirect_stderr(io.StringIO()):
        picire.DD(run, cache=None)(list(range(n)))
