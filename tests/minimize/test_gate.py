"""The gate, the journal and the judges, one rule at a time."""

import pytest
from streams import Truth, dependent, independent

from gputrace.errors import TraceError, UsageError
from gputrace.minimize.bisect import first_failing
from gputrace.minimize.gate import Gate, Stream
from gputrace.minimize.graph import Graph, mask_of, members
from gputrace.minimize.journal import Journal
from gputrace.minimize.oracle import KofN, OracleLost, Outcome, Verdict
from gputrace.minimize.passes import Level, run_passes
from gputrace.minimize.search import StreamSearch

O = Outcome  # noqa: E741


class Script:
    """Answers runs from a list and notes the candidates."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.seen: list[int] = []

    def run(self, candidate: int) -> Verdict:
        self.seen.append(candidate)
        outcome = self.answers.pop(0)
        return Verdict(outcome, "fault" if outcome is O.OTHER else "", 2.0)


def gate_of(oracle, count=4, best=0b1111, needs=None, **more) -> Gate[int]:
    return Gate(Stream(Graph(needs or [()] * count)), oracle, best, **more)


def test_accepts_only_what_is_smaller_and_fails():
    gate = gate_of(Script(O.PASS, O.SAME))
    assert not gate.consider(0b1111)
    assert not gate.consider(0b0111)
    assert gate.consider(0b1011)
    assert gate.best == 0b1011
    assert not gate.consider(0b1101)  # as large, but later in the order
    assert gate.costs.total == 2


def test_a_refused_candidate_is_not_run_again():
    oracle = Script(O.PASS)
    gate = gate_of(oracle)
    assert not gate.consider(0b0111)
    assert not gate.consider(0b0111)
    assert oracle.seen == [0b0111]


def test_a_broken_edge_is_refused_without_a_run():
    oracle = Script()
    gate = gate_of(oracle, needs=[(), (0,), (), ()])
    assert not gate.consider(0b1110)
    assert oracle.seen == []


def test_another_failure_is_set_aside_and_never_taken():
    gate = gate_of(Script(O.OTHER, O.OTHER))
    assert not gate.consider(0b0111)
    assert not gate.consider(0b0011)
    assert gate.best == 0b1111
    assert [(a.candidate, a.signature) for a in gate.asides] == [(0b0011, "fault")]
    gate = gate_of(Script(O.OTHER, O.OTHER))
    assert not gate.consider(0b0011)
    assert not gate.consider(0b0111)  # larger than the one that is kept
    assert [a.candidate for a in gate.asides] == [0b0011]


def test_no_answer_is_asked_again_and_then_given_up():
    gate = gate_of(Script(O.INFRA, O.INFRA, O.SAME))
    assert gate.consider(0b0111)
    assert gate.costs.runs[O.INFRA] == 2
    assert gate.costs.cost[O.INFRA] == 4.0
    gate = gate_of(Script(O.INFRA, O.INFRA, O.INFRA))
    with pytest.raises(OracleLost, match="3 runs in a row"):
        gate.consider(0b0111)


@pytest.mark.parametrize(
    ("answers", "fails", "runs"),
    [
        ([O.SAME, O.SAME], True, 2),
        ([O.PASS, O.SAME, O.SAME], True, 3),
        ([O.PASS, O.PASS], False, 2),
        ([O.SAME, O.PASS, O.OTHER], False, 3),
        ([O.INVALID], False, 1),
    ],
)
def test_k_of_n_stops_when_it_is_settled(answers, fails, runs):
    script = Script(*answers)
    assert KofN(2, 3).fails(lambda: script.run(0).outcome) is fails
    assert len(script.seen) == runs


def test_k_of_n_refuses_impossible_numbers():
    with pytest.raises(UsageError, match="not 4 of 3"):
        KofN(4, 3)


def test_edges_must_point_back_in_time():
    with pytest.raises(UsageError, match="item 0 can need earlier items only, not 1"):
        Graph([(1,), ()])


def test_members_and_mask_of_are_inverse():
    assert list(members(mask_of([0, 3, 64, 70]))) == [0, 3, 64, 70]
    assert list(members(0)) == []


def test_first_failing_prefix_costs_the_logarithm():
    for count in (0, 1, 2, 7, 100):
        for answer in range(count + 1):
            asked: list[int] = []

            def fails(m: int, answer: int = answer, asked: list[int] = asked) -> bool:
                asked.append(m)
                return m >= answer

            assert first_failing(count, fails) == answer
            assert len(asked) <= max(count - 1, 0).bit_length() + 2
    assert first_failing(5, lambda m: False) is None


class Drop:
    """Removes one given item."""

    def __init__(self, item: int, level: Level, log: list[str]) -> None:
        self.item, self.level, self.log = item, level, log
        self.name = f"drop {item}"

    def run(self, gate: Gate[int]) -> None:
        self.log.append(self.name)
        gate.consider(gate.best & ~(1 << self.item))


def test_passes_run_coarse_to_fine_until_the_row_changes_nothing():
    log: list[str] = []
    gate = gate_of(Truth(independent(4, 1, 0)))
    best = run_passes(gate, [Drop(3, Level.PACKET, log), Drop(2, Level.QUEUE, log)])
    assert log[:2] == ["drop 2", "drop 3"]
    assert gate.fails(best)


def test_an_input_that_does_not_fail_is_refused():
    with pytest.raises(UsageError, match="its runs gave: pass"):
        run_passes(gate_of(Script(O.PASS)), [])


STREAM = dependent(300, 3, 0)


def reduce(path) -> tuple[int, int, int]:
    graph = STREAM.graph()
    with Journal(path, "stream") as journal:
        gate = Gate(Stream(graph), Truth(STREAM), graph.full, journal=journal)
        run_passes(gate, [StreamSearch(graph)])
    return gate.best, gate.costs.total, gate.recalled


def test_a_reduction_killed_at_any_line_goes_on_to_the_same_result(tmp_path):
    path = tmp_path / "whole"
    best, runs, recalled = reduce(path)
    assert recalled == 0
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == runs + 1
    for kept in range(len(lines) + 1):
        for torn in (0, 5, 30):
            cut = tmp_path / "cut"
            tail = lines[kept][:torn] if kept < len(lines) else b""
            cut.write_bytes(b"".join(lines[:kept]) + tail)
            done = max(kept - 1, 0)
            assert reduce(cut) == (best, runs - done, done)
            assert cut.read_bytes() == path.read_bytes()


def test_damage_before_the_last_line_is_refused(tmp_path):
    path = tmp_path / "journal"
    reduce(path)
    data = bytearray(path.read_bytes())
    lines = data.splitlines(keepends=True)
    middle = sum(map(len, lines[:3])) + 20
    data[middle] ^= 1
    path.write_bytes(data)
    with pytest.raises(TraceError, match="line 4: its checksum does not match"):
        Journal(path, "stream")


def test_the_journal_of_another_reduction_is_refused(tmp_path):
    path = tmp_path / "journal"
    Journal(path, "one").close()
    with pytest.raises(UsageError, match="belongs to another reduction"):
        Journal(path, "two")
