"""The flaky search ends at the true minimum without being told the rates."""

import pytest
from streams import Truth, dependent, independent

from gputrace.minimize.flaky import FlakySearch, Rates, SequentialTest
from gputrace.minimize.gate import Gate, Stream
from gputrace.minimize.oracle import Outcome


@pytest.mark.parametrize("make", [dependent, independent])
@pytest.mark.parametrize(("p", "f"), [(0.7, 0.0), (0.7, 0.01)])
def test_most_runs_end_at_the_minimum(make, p, f):
    right = 0
    for seed in range(5):
        stream = make(1000, 2, seed)
        graph = stream.graph()
        rates = Rates()
        gate = Gate(
            Stream(graph), Truth(stream, p, f, seed), graph.full, judge=SequentialTest(rates)
        )
        FlakySearch(graph, rates).run(gate)
        right += gate.best == stream.minimum
        assert gate.costs.total < 250
    assert right >= 4


def test_sequential_test_wants_three_failures():
    answers = iter([Outcome.SAME, Outcome.SAME, Outcome.SAME])
    assert SequentialTest(Rates()).fails(lambda: next(answers))
    assert next(answers, None) is None
    assert not SequentialTest(Rates()).fails(lambda: Outcome.PASS)
    assert not SequentialTest(Rates()).fails(lambda: Outcome.INVALID)
