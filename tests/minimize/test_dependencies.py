"""The graph follows from what events do: one test per rule, and memory byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gputrace.errors import UsageError
from gputrace.minimize.dependencies import Event, LastWriters, Range, build


def edges(*events: Event) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    graph = build(events)
    return list(graph.needs), list(graph.soft)


def test_a_use_needs_what_made_the_name():
    hard, soft = edges(Event(makes=("b",)), Event(uses=("b", "before")), Event(destroys=("b",)))
    assert hard == [(), (0,), (0,)]
    assert soft == [(), (), ()]


def test_a_name_made_anew_needs_the_end_of_the_old_one():
    hard, _ = edges(
        Event(makes=("b",)), Event(destroys=("b",)), Event(makes=("b",)), Event(uses=("b",))
    )
    assert hard == [(), (0,), (1,), (2,)]


def test_use_after_free_keeps_the_free_in_sight():
    hard, soft = edges(Event(makes=("b",)), Event(destroys=("b",)), Event(uses=("b",)))
    assert hard[2] == (0,)
    assert soft[2] == (1,)


def test_a_read_follows_the_last_writers_only():
    _, soft = edges(
        Event(writes=(Range(0, 8),)),
        Event(writes=(Range(4, 8),)),
        Event(reads=(Range(4, 6),)),
        Event(reads=(Range(2, 6),)),
        Event(reads=(Range(8, 12),)),
    )
    assert soft[2:] == [(1,), (0, 1), ()]


def test_a_satisfied_wait_must_keep_its_signal():
    hard, _ = edges(Event(writes=(Range(64, 72),)), Event(waits=(Range(64, 68),)))
    assert hard[1] == (0,)


def test_a_doorbell_publishes_the_packets_since_the_last_one():
    hard, soft = edges(
        Event(queue="q"), Event(queue="q"), Event(doorbell="q"),
        Event(queue="r"), Event(queue="q"), Event(doorbell="q"), Event(doorbell="r"),
    )  # fmt: skip
    assert (hard[2], hard[5], hard[6]) == ((0, 1), (4,), (3,))
    assert (soft[2], soft[5], soft[6]) == ((), (2,), ())


def test_a_reversed_range_is_refused():
    with pytest.raises(UsageError, match="must end at or after its start"):
        build([Event(writes=(Range(8, 4),))])


ranges = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda p: Range(p[0], p[0] + p[1]))


@given(st.lists(ranges, max_size=30), ranges)
def test_last_writers_agree_with_one_owner_per_byte(writes, read):
    writers, owner = LastWriters(), {}
    for item, where in enumerate(writes):
        writers.write(where, item)
        owner.update(dict.fromkeys(range(*where), item))
    assert writers.of(read) == {owner[byte] for byte in range(*read) if byte in owner}
