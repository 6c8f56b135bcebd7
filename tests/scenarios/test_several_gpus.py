"""Several GPUs: peers, memory across them, copies in every direction, chains, order."""

import itertools

import numpy as np
import pytest

from gputrace import driver
from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from tests.scenarios.conftest import RUNNERS, load, open_gpus, pattern, settle

# --- the group ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 8])
def test_peers_are_all_the_gpus_in_order(count):
    everyone = open_gpus("gfx942", count)
    with everyone[0] as first:
        assert len(everyone) == count
        assert [one.index for one in everyone] == list(range(count))
        assert len({one.gpu_id for one in everyone}) == count
        assert len({one.name for one in everyone}) == count
        assert first.peers[0].peers[0] is first  # asking again gives the same objects
        assert first.peers == tuple(everyone[1:])
        assert {one.target for one in everyone} == {"gfx942"}
    for one in everyone:
        with pytest.raises(UsageError, match="closed"):
            one.alloc(4096)


def test_one_gpu_has_no_peers():
    (device,) = open_gpus("gfx1100")
    with device:
        assert device.peers == ()


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vram", "gtt", "userptr"])
def test_memory_mapped_on_peers_is_one_memory(gpus, kind):
    first, second = gpus
    buffer = first.alloc(4096, kind, peers=[second])
    assert set(buffer.block.mapped_on) == {first.gpu_id, second.gpu_id}
    for number, one in enumerate(gpus):
        queue = one.compute_queue()
        queue.write(buffer, bytes([number + 1] * 4), 4 * number)
        queue.signal().wait(5.0)
    assert buffer.read(8) == b"\1\1\1\1\2\2\2\2"


def test_mapping_both_ways_and_on_all():
    everyone = open_gpus("gfx942", 4)
    with everyone[0]:
        buffers = [one.alloc(4096) for one in everyone]
        for buffer in buffers:
            everyone[0].share(buffer, *everyone)
            everyone[0].share(buffer, *everyone)  # again does no harm
        ids = {one.gpu_id for one in everyone}
        assert all(set(buffer.block.mapped_on) == ids for buffer in buffers)
        assert all(len(buffer.block.mapped_on) == 4 for buffer in buffers)


def test_memory_of_each_gpu_is_apart(gpus):
    buffers = [one.alloc(1 << 20, kind) for one in gpus for kind in ("vram", "gtt")]
    for number, buffer in enumerate(buffers):
        buffer.fill(number + 1)
    for number, buffer in enumerate(buffers):
        assert set(buffer.read()) == {number + 1}


# --- copies ---------------------------------------------------------------------------------------

SHAPES = [
    (4096, "noise"), (1000, "all"), (4096, "count"), (4096, 0x55), (4096, "all"),
    (1 << 20, "noise"), (8 << 20, "noise"),
]  # fmt: skip


def transfer(source_gpu, target, source, engine=None, **more):
    queue = source_gpu.copy_queue(engine)
    queue.copy(target, source, **more)
    return queue.signal()


@pytest.mark.parametrize(("size", "what"), SHAPES)
def test_a_copy_to_a_peer_is_exact(gpus, size, what):
    first, second = gpus
    source, target = first.alloc(size), second.alloc(size + 64, peers=[first])
    source.write(pattern(what, size))
    settle(transfer(first, target, source))
    assert target.read(size) == source.read()
    assert target.read(64, size) == bytes(64)


def test_a_copy_of_a_part_leaves_the_rest(gpus):
    first, second = gpus
    source, target = first.alloc(8192), second.alloc(8192, peers=[first])
    source.write(pattern("noise", 8192))
    target.fill(0xEE)
    settle(transfer(first, target, source, size=4096))
    assert target.read() == source.read(4096) + b"\xee" * 4096


def test_five_copies_one_after_another(gpus):
    first, second = gpus
    source, target = first.alloc(4096), second.alloc(4096, peers=[first])
    queue = first.copy_queue()
    for value in range(5):
        source.fill(value + 1)
        queue.copy(target, source)
        queue.synchronize(5.0)
        assert set(target.read()) == {value + 1}


def test_both_directions_at_once(gpus):
    ends, pairs = [], []
    for one, other in (gpus, gpus[::-1]):
        source, target = one.alloc(65536), other.alloc(65536, peers=[one])
        source.write(pattern("noise", 65536 - one.index) + bytes(one.index))
        ends.append(transfer(one, target, source))
        pairs.append((source, target))
    settle(*ends)
    assert all(source.read() == target.read() for source, target in pairs)


@pytest.mark.parametrize("engine", [None, "xgmi", 0])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_every_ordered_pair(count, engine):
    everyone = open_gpus("gfx942", count)
    with everyone[0]:
        queues = {one: one.copy_queue(engine) for one in everyone}
        sources = {one: one.alloc(4096) for one in everyone}
        for one, source in sources.items():
            source.write(pattern("noise", 4000 + one.index).ljust(4096, b"\0"))
        targets = {
            (one, other): other.alloc(4096, peers=[one])
            for one, other in itertools.permutations(everyone, 2)
        }
        for (one, _), target in targets.items():
            queues[one].copy(target, sources[one])
        settle(*(queue.signal() for queue in queues.values()))
        assert all(
            target.read() == sources[one].read() for (one, _), target in targets.items()
        )


@pytest.mark.parametrize("target", FAMILIES)
def test_a_chain_goes_round_and_back(target):
    everyone = open_gpus(target, 3)
    with everyone[0]:
        buffers = [one.alloc(4096, peers=everyone) for one in everyone]
        back = everyone[0].alloc(4096, peers=everyone)
        buffers[0].write(pattern("noise", 4096))
        done = None
        for at, one in enumerate(everyone):  # no wait on the CPU in between
            queue = one.copy_queue()
            if done is not None:
                queue.wait(done)
            queue.copy([*buffers[1:], back][at], buffers[at])
            done = queue.signal()
        settle(done)
        assert back.read() == buffers[0].read()


@pytest.mark.parametrize("target", FAMILIES)
def test_broadcast_and_gather(target):
    everyone = open_gpus(target, 3)
    with everyone[0] as first:
        source = first.alloc(4096)
        source.write(pattern("noise", 4096))
        copies = [one.alloc(4096, peers=everyone) for one in everyone[1:]]
        gathered = first.alloc(8192, peers=everyone)
        queue = first.copy_queue()
        for copy in copies:
            queue.copy(copy, source)
        sent, ends = queue.signal(), []
        for at, (one, copy) in enumerate(zip(everyone[1:], copies, strict=True)):
            queue = one.copy_queue()
            queue.wait(sent)
            queue.copy(gathered, copy, destination_offset=4096 * at)
            ends.append(queue.signal())
        settle(*ends)
        assert gathered.read() == 2 * source.read()


# --- order and dispatches -------------------------------------------------------------------------


def test_waiting_for_one_gpu_for_all_and_for_nothing(gpus):
    for one in gpus:
        one.synchronize(1.0)
    source = [one.alloc(4096, peers=gpus) for one in gpus]
    target = [one.alloc(4096, peers=gpus) for one in gpus]
    for number, one in enumerate(gpus):
        source[number].fill(number + 5)
        one.copy_queue().copy(target[1 - number], source[number])
    gpus[0].synchronize(5.0)
    assert set(target[1].read()) == {5}
    for _ in range(2):
        for one in gpus:
            one.synchronize(5.0)
    assert set(target[0].read()) == {6}


def test_a_signal_is_seen_by_every_gpu():
    everyone = open_gpus("gfx942", 4)
    with everyone[0] as first:
        start, target = first.timeline("start"), first.alloc(4096, peers=everyone)
        ends = []
        for number, one in enumerate(everyone):
            queue = one.compute_queue()
            queue.wait(start.at(1))
            queue.write(target, bytes([number + 1] * 4), 4 * number)
            ends.append(queue.signal())
        with pytest.raises(driver.ProvenHang):
            ends[0].wait(1.0)
        assert target.read(16) == bytes(16)
        start.set()
        settle(*ends)
        assert target.read(16) == b"\1\1\1\1\2\2\2\2\3\3\3\3\4\4\4\4"


@pytest.mark.parametrize("target", RUNNERS)
def test_kernels_on_each_gpu_of_queues_of_each(target):
    everyone = open_gpus(target, 2)
    with everyone[0]:
        results, ends = [], []
        for one in everyone:
            kernel = load(one)["fill"]
            for kind in ("pm4", "aql", "pm4"):
                out, queue = one.alloc(1024), one.compute_queue(kind)
                value = 0xDEAD0000 + len(results)
                ends.append(queue.launch(kernel, 4, 64, [out, value]))
                results.append((out, value))
        settle(*ends)
        assert all((out.view(np.uint32) == value).all() for out, value in results)


def test_ten_small_buffers_on_each_gpu_ten_times(gpus):
    queue, other = gpus[0].copy_queue(), gpus[1].copy_queue()
    there = [gpus[1].alloc(256, peers=gpus) for _ in range(10)]
    here = [gpus[0].alloc(256, peers=gpus) for _ in range(10)]
    back = [gpus[0].alloc(256, peers=gpus) for _ in range(10)]
    for round_ in range(10):
        for number in range(10):
            here[number].fill(10 * round_ + number)
            queue.copy(there[number], here[number])
        other.wait(queue.signal())
        for number in range(10):
            other.copy(back[number], there[number])
        settle(other.signal())
        assert [set(one.read()) for one in back] == [{10 * round_ + n} for n in range(10)]
