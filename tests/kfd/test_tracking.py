"""Write tracking, against memory that the test itself writes."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.errors import KfdError, UsageError
from gputrace.kfd import host
from gputrace.kfd.tracking import Span, WriteTracker

PAGES = 64
SIZE = PAGES * host.PAGE


@pytest.fixture
def shared() -> Iterator[tuple[int, int]]:
    """Yield two mappings of the same pages: the client's and the GPU's."""
    file = os.memfd_create("pages")
    os.ftruncate(file, SIZE)
    client = host.map_shared(file, 0, SIZE, None, 3)
    alias = host.map_shared(file, 0, SIZE, None, 3)
    yield client, alias
    host.unmap(client, SIZE)
    host.unmap(alias, SIZE)
    os.close(file)


@pytest.fixture
def tracker() -> Iterator[WriteTracker]:
    made = WriteTracker()
    yield made
    made.close()


def test_what_a_fresh_range_holds_counts_as_written(
    shared: tuple[int, int], tracker: WriteTracker
) -> None:
    tracker.watch(shared[0], SIZE)
    assert tracker.written() == [Span(shared[0], SIZE)]
    assert tracker.written() == []


def test_only_stores_through_the_clients_mapping_are_seen(
    shared: tuple[int, int], tracker: WriteTracker
) -> None:
    client, alias = shared
    tracker.watch(client, SIZE)
    tracker.written()
    host.view(alias, SIZE)[5 * host.PAGE] = 1
    assert tracker.written() == []
    host.view(client, SIZE)[7 * host.PAGE] = 1
    host.view(alias, SIZE)[7 * host.PAGE + 1] = 2
    assert tracker.written() == [Span(client + 7 * host.PAGE, host.PAGE)]
    assert tracker.written() == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, PAGES - 1)), max_size=4))
def test_each_round_names_just_the_pages_written_in_it(rounds: list[set[int]]) -> None:
    start = host._mmap(0, SIZE, 3, 0x22, -1, 0)
    tracker = WriteTracker()
    tracker.watch(start, SIZE)
    tracker.written()
    view = host.view(start, SIZE)
    for pages in rounds:
        for page in pages:
            view[page * host.PAGE + page] = 1
        found = {
            (span.address - start) // host.PAGE + i
            for span in tracker.written()
            for i in range(span.size // host.PAGE)
        }
        assert found == pages
    tracker.close()
    view.release()
    host.unmap(start, SIZE)


def test_a_forgotten_range_is_silent_and_wrong_ranges_are_refused(
    shared: tuple[int, int], tracker: WriteTracker
) -> None:
    tracker.watch(shared[0], SIZE)
    with pytest.raises(UsageError, match="is not watched"):
        tracker.forget(shared[0], host.PAGE)
    tracker.forget(shared[0], SIZE)
    host.view(shared[0], SIZE)[0] = 1
    assert tracker.written() == []
    with pytest.raises(UsageError, match="expected whole pages"):
        tracker.watch(shared[0], 100)
    with pytest.raises(KfdError, match="userfaultfd"):
        tracker.watch(1 << 46, host.PAGE)
