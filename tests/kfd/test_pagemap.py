"""Regions of written pages, cut where ranges end and asked for in few calls."""

from hypothesis import given
from hypothesis import strategies as st

from gputrace.kfd.pagemap import Ranges, stretches

lengths = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=6)


def laid_out(gaps_and_sizes: list[tuple[int, int]]) -> Ranges:
    ranges, at = Ranges(), 0
    for gap, size in gaps_and_sizes:
        ranges.add(at + gap, size)
        at += gap + size
    return ranges


@given(lengths, st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=4))
def test_what_is_found_is_cut_where_ranges_end(
    gaps_and_sizes: list[tuple[int, int]], found: list[tuple[int, int]]
) -> None:
    ranges = laid_out(gaps_and_sizes)
    regions = [(low, low + size) for low, size in found]
    owner = {at: s for s, size in ranges.sizes.items() for at in range(s, s + size)}
    wanted = [at for low, high in regions for at in range(low, high) if at in owner]
    pieces = ranges.cut(regions)
    assert [at for low, high in pieces for at in range(low, high)] == wanted
    for low, high in pieces:
        assert owner[low] == owner[high - 1] == ranges.start_of(low)


def test_a_range_that_was_removed_is_not_found() -> None:
    ranges = laid_out([(0, 4), (2, 4)])
    ranges.remove(0)
    assert ranges.starts == [6]
    assert ranges.cut([(0, 8)]) == [(6, 8)]


def test_near_ranges_are_asked_for_at_once_and_never_over_another_s() -> None:
    sizes = {0: 10, 20: 10, 40: 10, 1 << 40: 10}
    assert stretches([0, 20, 40, 1 << 40], sizes) == [(0, 50), (1 << 40, (1 << 40) + 10)]
    assert stretches([0, 20, 30, 40], sizes) == [(0, 30), (40, 50)]
    assert stretches([], sizes) == []
