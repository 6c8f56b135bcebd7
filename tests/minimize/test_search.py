"""The search ends at the true minimum within its budget of runs, and keeps its promises."""

from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Synthetic, Truth, dependent, independent, nonmonotone

from gputrace.minimize.certificate import certify
from gputrace.minimize.gate import Gate, Stream
from gputrace.minimize.graph import Graph, below, mask_of, members
from gputrace.minimize.search import StreamSearch, delete_chunks, remove_sinks


def reduce(stream: Synthetic, share: float = 1.0) -> Gate[int]:
    graph = stream.graph(share)
    gate = Gate(Stream(graph), Truth(stream), graph.full)
    StreamSearch(graph).run(gate)
    return gate


@pytest.mark.parametrize(
    ("make", "n", "k", "share", "seeds", "budget"),
    [
        (dependent, 1_000, 5, 1.0, 3, 62),
        (dependent, 10_000, 5, 1.0, 3, 83),
        (dependent, 100_000, 5, 1.0, 1, 105),
        (dependent, 10_000, 5, 0.9, 3, 150),
        (independent, 10_000, 20, 1.0, 1, 305),
        (nonmonotone, 10_000, 20, 1.0, 3, 700),
        # Without a graph the search still repairs itself: about c log2(n) runs.
        (dependent, 1_000, 5, 0.0, 3, 450),
    ],
)
def test_median_runs_stay_within_budget_and_end_at_the_minimum(make, n, k, share, seeds, budget):
    runs = []
    for seed in range(seeds):
        stream = make(n, k, seed)
        gate = reduce(stream, share)
        assert gate.best == stream.minimum
        runs.append(gate.costs.total)
    assert median(runs) <= budget


def test_certificate_after_the_search_costs_nothing_and_names_each_reason():
    stream = dependent(1000, 5, 1)
    graph = stream.graph()
    gate = Gate(Stream(graph), Truth(stream), graph.full)
    StreamSearch(graph).run(gate)
    before = gate.costs.total
    proof = certify(gate, graph)
    assert gate.costs.total == before
    assert proof.minimal
    assert mask_of(need.item for need in proof.needs) == stream.minimum
    assert [need.item for need in proof.needs if need.user is None] == stream.causes


def test_certificate_finds_what_is_superfluous():
    stream = independent(50, 2, 0)
    graph = stream.graph()
    extra = next(item for item in range(50) if item not in stream.causes)
    gate = Gate(Stream(graph), Truth(stream), stream.minimum | 1 << extra)
    assert gate.confirm()
    proof = certify(gate, graph)
    assert proof.superfluous == (extra,)
    assert not proof.minimal
    assert proof.rate == 1.0


def test_masks_at_both_ends_are_left_to_chunk_deletion():
    n, causes = 2000, [400, 1500]
    free = [item for item in range(n) if item not in causes]
    forward = [(free[i], free[i + 900]) for i in range(0, 900, 6)]
    backward = [(free[i + 900], free[i]) for i in range(3, 900, 6)]
    stream = Synthetic([[] for _ in range(n)], causes, forward + backward)
    gate = reduce(stream)
    assert gate.best == stream.minimum


def test_chunk_deletion_takes_what_stands_on_a_chunk_with_it():
    stream = dependent(1000, 2, 0)
    graph = stream.graph()
    gate = Gate(Stream(graph), Truth(stream), graph.full)
    delete_chunks(gate, graph)
    remove_sinks(gate, graph)
    assert gate.best == stream.minimum
    assert all(
        verdict == 0 for outcome, verdict in gate.costs.runs.items() if outcome.value == "invalid"
    )


def test_many_sinks_go_in_groups():
    stream = independent(4096, 1, 3)
    graph = stream.graph()
    gate = Gate(Stream(graph), Truth(stream), graph.full)
    remove_sinks(gate, graph)
    assert gate.best == stream.minimum
    assert gate.costs.total < 100


@st.composite
def streams(draw) -> tuple[Synthetic, Graph]:
    """Small streams with any needs, causes and masks, and a graph that knows some of the edges."""
    n = draw(st.integers(1, 24))
    needs = [
        draw(st.lists(st.integers(0, item - 1), max_size=3, unique=True)) if item else []
        for item in range(n)
    ]
    item = st.integers(0, n - 1)
    causes = draw(st.lists(item, max_size=4, unique=True))
    pairs = draw(st.lists(st.tuples(item, item).filter(lambda p: p[0] != p[1]), max_size=4))
    known = [[t for t in each if draw(st.integers(0, 9)) > 0] for each in needs]
    split = [draw(st.integers(0, len(each))) for each in known]
    hard = [each[:cut] for each, cut in zip(known, split, strict=True)]
    soft = [each[cut:] for each, cut in zip(known, split, strict=True)]
    return Synthetic(needs, sorted(causes), pairs), Graph(hard, soft)


@settings(max_examples=300, deadline=None)
@given(streams())
def test_result_is_closed_fails_is_1_minimal_and_never_larger(case):
    stream, graph = case
    oracle = Truth(stream)
    gate = Gate(Stream(graph), oracle, graph.full)
    assert gate.confirm()
    StreamSearch(graph).run(gate)
    best = gate.best
    assert graph.broken(best) is None
    assert oracle.truth(best).value == "same"
    assert best & ~below(graph.count) == 0
    for item in members(graph.sinks(best)):
        assert oracle.truth(best & ~(1 << item)).value != "same"
