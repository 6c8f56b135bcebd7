"""Undivided memory operations and mappings, against the memory itself."""

import errno
import os
import threading

import pytest

from gputrace.errors import KfdError
from gputrace.kfd import host


@pytest.fixture
def words():
    memory = host.reserve(8192)
    fd = os.memfd_create("words")
    os.ftruncate(fd, 8192)
    host.map_shared(fd, 0, 8192, memory, 3)
    yield memory
    host.unmap(memory, 8192)
    os.close(fd)


def test_a_store_is_seen_whole_and_only_where_it_belongs(words):
    host.store(words + 8, 0x1122334455667788)
    host.store(words + 4, 0xAABBCCDD, 32)
    assert bytes(host.view(words, 16)) == bytes.fromhex("00000000ddccbbaa8877665544332211")


def test_a_negative_value_is_stored_modulo_its_width(words):
    host.store(words, -1)
    host.ring(words + 8, -2, 32)
    assert (host.load(words), host.load(words + 8, 32)) == (2**64 - 1, 2**32 - 2)


def test_addition_gives_the_old_value_and_wraps(words):
    host.store(words, 5)
    assert host.add(words, -7) == 5
    assert host.load(words) == 2**64 - 2


def test_additions_of_two_threads_are_all_there(words):
    def work() -> None:
        for _ in range(2000):
            host.add(words, 1)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert host.load(words) == 4000


def test_swap_happens_only_on_the_expected_value(words):
    host.store(words, 3)
    assert host.swap_if(words, 4, 9) == 3
    assert host.load(words) == 3
    assert host.swap_if(words, 3, 9) == 3
    assert host.load(words) == 9
    assert host.swap_if(words, 9, 1 << 31, 32) == 9
    assert host.load(words) == 1 << 31


@pytest.mark.parametrize(("address", "bits"), [(2, 32), (4, 64), (0, 16)])
def test_what_could_tear_is_refused(words, address, bits):
    with pytest.raises(ValueError, match="bits"):
        host.store(words + address, 0, bits)


def test_a_reservation_is_aligned_and_exclusive():
    start = host.reserve(1 << 16, alignment=1 << 21)
    assert start % (1 << 21) == 0
    with pytest.raises(KfdError) as refused:
        host.reserve(4096, start + 4096)
    assert refused.value.errno == errno.EEXIST
    host.unmap(start, 1 << 16)
    assert host.reserve(4096, start) == start
    host.unmap(start, 4096)


def test_two_mappings_of_one_file_show_the_same_bytes(words):
    fd = os.memfd_create("alias")
    os.ftruncate(fd, 4096)
    one, two = (host.map_shared(fd, 0, 4096, None, 3) for _ in range(2))
    host.view(one, 4096)[5] = 77
    assert host.view(two, 4096, writable=False)[5] == 77
    with pytest.raises(TypeError):
        host.view(two, 4096, writable=False)[5] = 1
    for address in (one, two):
        host.unmap(address, 4096)
    os.close(fd)


def test_a_bad_descriptor_is_an_error_with_its_errno():
    with pytest.raises(KfdError) as refused:
        host.map_shared(-1, 0, 4096, None, 3)
    assert refused.value.errno == errno.EBADF
