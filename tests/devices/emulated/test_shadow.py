"""Which pages the client has stored into, through any of its mappings, also when it has forked."""

import os
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.devices.emulated.forks import copy_pages
from gputrace.devices.emulated.memory import Buffer, Pool, Space, Span
from gputrace.devices.emulated.shadow import Touched, leave_unwritten, unwritten
from gputrace.formats.ioctl import AllocFlag
from gputrace.kfd import host
from gputrace.kfd.host import PAGE
from gputrace.kfd.tracking import WriteTracker

PAGES = 4


class Bench:
    """A buffer of four pages in a pool."""

    def __init__(self) -> None:
        self.pool = Pool("test")
        self.touched = Touched(self.pool)
        self.pool.take(PAGE)
        self.offset, place = self.pool.take(PAGES * PAGE)
        self.shadow = self.touched.cover(self.offset, PAGES * PAGE)
        size = PAGES * PAGE
        buffer = Buffer(
            1, 1, AllocFlag.GTT, 1 << 40, size, size, place, self.offset, 1, shadow=self.shadow
        )
        space = Space(exact=True)
        space.map(buffer)
        found = space.find(1 << 40)
        assert found is not None
        self.span: Span = found

    def map(self, page: int = 0, pages: int = PAGES) -> int:
        """Map pages as the client does; return where they are."""
        place = self.offset + page * PAGE
        at = host.map_shared(self.pool.fd, place, pages * PAGE, None, 3)
        self.touched.mapped(at, place, pages * PAGE)
        return at

    def pages(self) -> list[int]:
        """Return the pages that count as written after a look at all of them."""
        self.touched.settle(self.span, 0, PAGES * PAGE)
        rows = self.shadow.reshape(PAGES, PAGE)
        assert all(row.all() == row.any() for row in rows)
        return [n for n, row in enumerate(rows) if row.any()]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.touched.close()
    made.pool.close()


def store(address: int, page: int, byte: int = 1) -> None:
    host.view(address + page * PAGE + 5, 1)[0] = byte


def test_stores_count_and_loads_do_not(bench: Bench) -> None:
    at = bench.map()
    assert host.view(at, PAGES * PAGE)[2 * PAGE] == 0
    assert bench.pages() == []
    store(at, 1)
    store(at, 3, 0)
    assert bench.pages() == [1, 3]


def test_a_part_that_is_mapped_beside_the_whole(bench: Bench) -> None:
    whole, part = bench.map(), bench.map(2, 2)
    store(part, 0)
    assert bench.pages() == [2]
    store(whole, 3)
    assert bench.pages() == [2, 3]


def test_a_mapping_that_is_gone_was_stored_into(bench: Bench) -> None:
    at = bench.map()
    store(at, 2)
    bench.touched.unmapped(at)
    host.unmap(at, PAGES * PAGE)
    assert bench.pages() == [2]


def test_what_somebody_else_saw_is_taken(bench: Bench) -> None:
    bench.touched.stored([])
    at, watcher = bench.map(), WriteTracker()
    watcher.watch(at, PAGES * PAGE, written=False)
    store(at, 3)
    assert watcher.written() == [(at + 3 * PAGE, PAGE)]
    bench.touched.stored([(at + 3 * PAGE - 1, 2), (1 << 20, 8)])
    watcher.close()
    bench.touched.unmapped(at + 1)
    assert bench.shadow.reshape(PAGES, PAGE).all(axis=1).tolist() == [False, False, True, True]


def test_memory_that_is_no_buffer_is_left_alone(bench: Bench) -> None:
    at = host.map_shared(bench.pool.fd, 0, PAGE, None, 3)
    bench.touched.mapped(at, 0, PAGE)
    store(at, 0)
    bench.touched.unmapped(at)
    assert bench.pages() == []


def test_a_fork_knows_what_was_stored_before_and_sees_what_it_stores(bench: Bench) -> None:
    at = bench.map()
    store(at, 1)
    child = os.fork()
    if not child:
        bench.touched.settle_all()
        copy_pages(bench.pool.fd)
        bench.touched.copied()
        store(at, 3)
        os._exit(bench.pages() != [1, 3])
    assert os.waitpid(child, 0)[1] == 0
    assert bench.pages() == [1]


def test_without_write_protection_pages_that_are_there_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.touched, "_protects", False)
    at = bench.map()
    store(at, 1)
    assert 1 in bench.pages()


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.integers(1, 9))
def test_what_nobody_has_written_is_told_and_taken_again(written: bytes, step: int) -> None:
    size = len(written)
    for each in (0, size):  # of a buffer that nobody looked at, and of one that is written whole
        shadow = np.array([one & 1 for one in written], np.uint8)
        buffer = Buffer(1, 1, AllocFlag.VRAM, 1 << 20, size, size, 0, 0, 1, shadow=shadow)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gputrace.devices.emulated.shadow._STEP", step)
            found = unwritten([buffer])
        missing = {at for first, end in found for at in range(first, end)}
        assert missing == {(1 << 20) + at for at, one in enumerate(written) if not one & 1}
        assert all(a[1] < b[0] for a, b in pairwise(found))
        other = Buffer(1, 1, AllocFlag.VRAM, 1 << 20, size, size, 0, 0, 1)
        other.shadow = np.zeros(size, np.uint8)
        other.shadow[:each] = 1
        leave_unwritten([other], [(5, 9), *found, (1 << 30, 1 << 31)])
        assert np.array_equal(other.shadow, shadow)
