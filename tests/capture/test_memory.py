"""Stores by the CPU and by the GPU into the same pages are told apart to the byte."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.capture.memory import WatchedMemory
from gputrace.kfd import host
from gputrace.kfd.tracking import WriteTracker

SIZE = 16 * host.PAGE


class Shared(NamedTuple):
    client: int
    alias: int
    memory: WatchedMemory
    gpu: WriteTracker


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = build()
    yield made
    tear_down(made)


def build() -> Shared:
    file = os.memfd_create("pages")
    os.ftruncate(file, SIZE)
    client = host.map_shared(file, 0, SIZE, None, 3)
    alias = host.map_shared(file, 0, SIZE, None, 3)
    os.close(file)
    memory, gpu = WatchedMemory(WriteTracker()), WriteTracker()
    memory.watch(client, SIZE, zeroed=True)
    gpu.watch(alias, SIZE, written=False)
    return Shared(client, alias, memory, gpu)


def tear_down(shared: Shared) -> None:
    shared.memory.forget(shared.client, SIZE)
    shared.memory._tracker.close()
    shared.gpu.close()
    host.unmap(shared.client, SIZE)
    host.unmap(shared.alias, SIZE)


def gpu_works(shared: Shared, writes: list[tuple[int, bytes]]) -> None:
    """Do what a call into the device does: GPU stores, then the recorder takes them over."""
    for offset, data in writes:
        host.view(shared.alias, SIZE)[offset : offset + len(data)] = data
    spans = [s._replace(address=s.address - shared.alias + shared.client)
             for s in shared.gpu.written()]
    shared.memory.absorb(spans)


def cpu_works(shared: Shared, writes: list[tuple[int, bytes]]) -> None:
    for offset, data in writes:
        host.view(shared.client, SIZE)[offset : offset + len(data)] = data


def test_stores_into_one_page_by_both_are_told_apart(shared: Shared) -> None:
    gpu_works(shared, [(100, b"gpu!")])
    cpu_works(shared, [(200, b"cpu!")])
    assert [(at - shared.client, data) for at, data in shared.memory.stores()] == [(200, b"cpu!")]
    gpu_works(shared, [(200, b"GPU!")])
    assert list(shared.memory.stores()) == []


@pytest.mark.parametrize("scanned_before", [False, True])
def test_zeros_are_found_where_only_zeros_were_and_once(
    shared: Shared, scanned_before: bool
) -> None:
    def found() -> list[tuple[int, bytes]]:
        spans = shared.memory.written() if scanned_before else None
        stores = shared.memory.stores(spans)
        return [(address - shared.client, bytes(data)) for address, data in stores]

    page, view = host.PAGE, host.view(shared.client, SIZE)
    gpu_works(shared, [(11 * page, b"the GPU's")])
    view[3 * page : 5 * page] = bytes(2 * page)
    view[7 * page + 5] = 0
    view[9 * page + 8] = 5
    view[11 * page + 64] = 0  # a page that holds more than zeros
    assert found() == [
        (3 * page, bytes(2 * page)), (7 * page, bytes(page)), (9 * page + 8, b"\5")
    ]  # fmt: skip
    view[3 * page] = view[9 * page] = view[11 * page] = 0
    assert found() == [(11 * page, b"\0")]


def test_edges_are_the_first_and_last_changed_words_of_each_page(shared: Shared) -> None:
    assert shared.memory.edges() == []
    cpu_works(shared, [(8, b"\1"), (20, b"\2"), (400, b"\3"), (host.PAGE + 40, b"\4")])
    offsets = [(one.address - shared.client, one.was, one.now) for one in shared.memory.edges()]
    assert offsets == [(8, 0, 1), (400, 0, 3), (host.PAGE + 40, 0, 4)]
    assert len(shared.memory.stores()) == 4 - 1  # nothing was taken; two are close


def test_close_changes_are_one_store_and_distant_ones_are_two(shared: Shared) -> None:
    cpu_works(shared, [(0, b"a"), (20, b"b"), (4096, b"c")])
    stores = [(at - shared.client, len(data)) for at, data in shared.memory.stores()]
    assert stores == [(0, 21), (4096, 1)]


write = st.tuples(st.integers(0, SIZE - 64), st.binary(min_size=1, max_size=64))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(write, max_size=3)), max_size=6))
def test_what_is_recorded_replays_to_the_same_memory(turns: list[tuple[bool, list]]) -> None:
    shared, image = build(), bytearray(SIZE)
    try:
        for by_gpu, writes in turns:
            if by_gpu:
                gpu_works(shared, writes)
                for offset, data in writes:
                    image[offset : offset + len(data)] = data
                continue
            cpu_works(shared, writes)
            touched = set()
            for offset, data in writes:
                touched |= set(range(offset, offset + len(data)))
            for address, data in shared.memory.stores():
                start, end = address - shared.client, address - shared.client + len(data)
                if any(data):
                    assert touched.issuperset((start, end - 1))
                else:  # zeros where there were only zeros: the pages are known, not the bytes
                    pages = range(start // host.PAGE * host.PAGE, end, host.PAGE)
                    assert all(touched & set(range(at, at + host.PAGE)) for at in pages)
                image[start : start + len(data)] = data
            assert bytes(image) == bytes(host.view(shared.client, SIZE))
    finally:
        tear_down(shared)
