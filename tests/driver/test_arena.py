"""Addresses given out of a fixed range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gputrace.driver.arena import PAGE, Arena
from gputrace.errors import UsageError

BASE = 0x1000_0000_0000


def test_the_lowest_free_range_is_taken_and_comes_back():
    arena = Arena(BASE, 16 * PAGE)
    first, second = arena.take(PAGE), arena.take(3 * PAGE)
    assert (first, second) == (BASE, BASE + PAGE)
    arena.give_back(first)
    assert arena.take(PAGE) == first
    assert arena.used == 4 * PAGE


def test_a_range_can_be_taken_where_it_is_wanted():
    arena = Arena(BASE, 16 * PAGE)
    arena.take_at(BASE + 4 * PAGE, 2 * PAGE)
    with pytest.raises(UsageError, match="not free"):
        arena.take_at(BASE + 5 * PAGE, PAGE)
    assert arena.take(5 * PAGE) == BASE + 6 * PAGE


def test_alignment_leaves_the_gap_usable():
    arena = Arena(BASE, 64 * PAGE)
    arena.take(PAGE)
    assert arena.take(PAGE, 16 * PAGE) == BASE + 16 * PAGE
    assert arena.take(PAGE) == BASE + PAGE


@pytest.mark.parametrize(("size", "alignment"), [(0, PAGE), (100, PAGE), (PAGE, 100), (PAGE, 1)])
def test_only_whole_pages_are_given(size, alignment):
    with pytest.raises(UsageError, match="whole pages"):
        Arena(BASE, 16 * PAGE).take(size, alignment)


def test_an_unknown_address_cannot_come_back():
    with pytest.raises(UsageError, match="was not given out"):
        Arena(BASE, PAGE).give_back(BASE)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(0, 3)), max_size=60))
def test_ranges_never_overlap_and_all_of_it_comes_back(steps):
    arena, taken = Arena(BASE, 64 * PAGE), []
    for give, pages, shift in steps:
        if give and taken:
            arena.give_back(taken.pop(pages % len(taken))[0])
            continue
        try:
            address = arena.take(pages * PAGE, PAGE << shift)
        except UsageError:
            continue
        assert address % (PAGE << shift) == 0
        assert address >= BASE
        assert address + pages * PAGE <= BASE + 64 * PAGE
        assert all(address + pages * PAGE <= a or b <= address for a, b in taken)
        taken.append((address, address + pages * PAGE))
    for start, _ in taken:
        arena.give_back(start)
    assert arena.take(64 * PAGE) == BASE
