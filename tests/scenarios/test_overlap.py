"""Kernels and copies at the same time: what overlaps, what waits, what a full machine does.

That work overlaps is shown by timestamps of both engines; that order holds, by gates that the CPU
keeps shut until it has seen that nothing went past them. Every byte of every result is compared.
"""

import numpy as np
import pytest

from gputrace import driver
from tests.scenarios.conftest import RUNNERS, load, open_gpus, pattern, settle

WORDS = 256


@pytest.fixture(params=[(target, kind) for target in RUNNERS for kind in ("pm4", "aql")],
                ids=lambda pair: "-".join(pair))  # fmt: skip
def setup(request):
    target, kind = request.param
    (device,) = open_gpus(target)
    with device:
        yield device, device.compute_queue(kind), device.copy_queue()


@pytest.fixture(params=RUNNERS)
def pair(request):
    everyone = open_gpus(request.param, 2)
    with everyone[0]:
        yield everyone


class Filler:
    """Fills of a buffer by a kernel, and what they should have left."""

    def __init__(self, device, queue, words=WORDS):
        self.device, self.queue, self.words = device, queue, words
        self.kernel, self.made = load(device)["fill"], []

    def __call__(self, value, out=None):
        out = out or self.device.alloc(4 * self.words)
        self.made.append((out, value))
        return self.queue.launch(self.kernel, self.words // 64, 64, [out, value])

    def check(self):
        latest = dict(self.made)
        assert all((out.view(np.uint32) == value).all() for out, value in latest.items())


def noise(device, size, **more):
    source, target = device.alloc(size), device.alloc(size, **more)
    source.write(pattern("noise", size))
    return source, target


# --- one GPU --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["kernel first", "copy first", "together"])
@pytest.mark.parametrize("size", [4096, 16 << 20])
def test_a_kernel_and_a_copy(setup, order, size):
    device, compute, copies = setup
    fill, (source, target) = Filler(device, compute), noise(device, size)
    start = device.timeline("start")
    if order == "together":
        compute.wait(start.at(1))
        copies.wait(start.at(1))
    if order != "copy first":
        kernel_end = fill(7)
    copies.copy(target, source)
    copy_end = copies.signal()
    if order == "copy first":
        kernel_end = fill(7)
    start.set()
    settle(kernel_end, copy_end)
    fill.check()
    assert target.read() == source.read()


def test_kernels_and_copies_by_turns_and_one_wait(setup):
    device, compute, copies = setup
    fill, moved = Filler(device, compute), []
    for number in range(4):
        last = fill(100 + number)
        source, target = noise(device, 4096 + number)
        copies.copy(target, source)
        moved.append((source, target))
    settle(last, copies.signal())
    fill.check()
    assert all(source.read() == target.read() for source, target in moved)


def test_timestamps_show_the_overlap_and_the_lack_of_it(setup):
    device, compute, copies = setup
    stamps, start = device.alloc(4096, "gtt"), device.timeline("start")
    fill, (source, target) = Filler(device, compute, 1024), noise(device, 1 << 20)

    def intervals(ordered):
        gate = start.at(start.last + 1)
        compute.wait(gate)
        compute.timestamp(stamps, 0)
        for number in range(4):
            done = fill(number)
        compute.timestamp(stamps, 32)
        copies.wait(compute.signal() if ordered else gate)
        copies.timestamp(stamps, 64)
        for _ in range(4):
            copies.copy(target, source)
        copies.timestamp(stamps, 96)
        end = copies.signal()
        start.set()
        settle(done, end, compute.signal())
        return stamps.view(np.uint64, count=16)[::4].tolist()

    first, first_end, second, second_end = intervals(ordered=False)
    assert max(first, second) < min(first_end, second_end)
    first, first_end, second, second_end = intervals(ordered=True)
    assert first < first_end <= second < second_end


def test_a_copy_waits_for_the_kernel_that_makes_its_source(setup):
    device, compute, copies = setup
    gate, target = device.timeline("gate"), device.alloc(4 * WORDS)
    fill = Filler(device, compute)
    compute.wait(gate.at(1))
    done = fill(0xABCD)
    copies.wait(done)
    copies.copy(target, fill.made[0][0])
    end = copies.signal()
    with pytest.raises(driver.ProvenHang):
        end.wait(1.0)
    assert not target.view().any()  # the copy did not run ahead
    gate.set()
    settle(end)
    assert (target.view(np.uint32) == 0xABCD).all()


@pytest.mark.parametrize("place", ["vram", "gtt"])
def test_a_kernel_waits_for_a_word_that_a_copy_engine_stores(setup, place):
    device, compute, copies = setup
    flag, fill, go = device.alloc(4096, place), Filler(device, compute), device.timeline("go")
    compute.wait_memory(flag, 0x55)
    done = fill(9)
    copies.wait(go.at(1))
    copies.fill(flag, 0x55, 4)
    copies.signal()
    with pytest.raises(driver.ProvenHang):
        done.wait(1.0)
    assert not fill.made[0][0].view().any()
    go.set()
    settle(done)
    fill.check()


@pytest.mark.parametrize("place", ["vram", "gtt", "userptr"])
def test_engines_wait_for_a_word_that_the_cpu_stores(setup, place):
    device, compute, copies = setup
    flag, fill = device.alloc(4096, place), Filler(device, compute)
    source, target = noise(device, 4096)
    compute.wait_memory(flag, 2)
    copies.wait_memory(flag, 1)
    copies.copy(target, source)
    kernel_end, copy_end = fill(3), copies.signal()
    with pytest.raises(driver.ProvenHang):
        copy_end.wait(1.0)
    flag.write(b"\1\0\0\0")
    settle(copy_end)
    with pytest.raises(driver.ProvenHang):
        kernel_end.wait(1.0)
    flag.write(b"\2\0\0\0")
    settle(kernel_end)
    fill.check()
    assert target.read() == source.read()


def test_ten_kernels_and_ten_copies(setup):
    device, compute, copies = setup
    fill, (source, target) = Filler(device, compute), noise(device, 10 << 16)
    for number in range(10):
        last = fill(number)
        copies.copy(target, source, 1 << 16, number << 16, number << 16)
    settle(last, copies.signal())
    fill.check()
    assert target.read() == source.read()


# --- pipelines ------------------------------------------------------------------------------------


def test_a_double_buffer_sends_one_half_while_the_other_is_made(setup):
    device, compute, copies = setup
    halves = [device.alloc(4 * WORDS) for _ in range(2)]
    out = device.alloc(4 * WORDS * 8)
    fill, sent = Filler(device, compute), [None, None]
    for step in range(8):
        half = step % 2
        if sent[half] is not None:
            compute.wait(sent[half])  # the half may be made anew once it was sent
        copies.wait(fill(1000 + step, halves[half]))
        copies.copy(out, halves[half], destination_offset=4 * WORDS * step)
        sent[half] = copies.signal()
    settle(*sent)
    expected = np.repeat(np.arange(1000, 1008, dtype=np.uint32), WORDS)
    assert np.array_equal(out.view(np.uint32), expected)


def test_one_gpu_makes_and_the_other_receives(pair):
    first, second = pair
    compute, copies = first.compute_queue(), first.copy_queue()
    fill, there = Filler(first, compute), second.alloc(4 * WORDS * 3, peers=[first])
    other, other_fill = second.compute_queue(), None
    for chunk in range(3):
        copies.wait(fill(chunk + 1))
        copies.copy(there, fill.made[-1][0], destination_offset=4 * WORDS * chunk)
    arrived = copies.signal()
    other_fill = Filler(second, other)
    busy = other_fill(77)  # while it receives
    other.wait(arrived)
    doubled = second.alloc(4 * WORDS * 3)
    moving = second.copy_queue()
    moving.wait(arrived)
    moving.copy(doubled, there)
    settle(busy, moving.signal())
    other_fill.check()
    assert np.array_equal(doubled.view(np.uint32), np.repeat(np.uint32([1, 2, 3]), WORDS))


def test_every_gpu_computes_and_passes_round_a_ring(pair):
    ends, checks = [], []
    for at, one in enumerate(pair):
        other = pair[1 - at]
        fill = Filler(one, one.compute_queue())
        source, target = one.alloc(4096), other.alloc(4096, peers=[one])
        source.write(pattern("noise", 4095 + at).ljust(4096, b"\0"))
        queue = one.copy_queue()
        ends.append(fill(at + 50))
        queue.copy(target, source)
        ends.append(queue.signal())
        checks.append((fill, source, target))
    settle(*ends)
    for fill, source, target in checks:
        fill.check()
        assert source.read() == target.read()


# --- long kernels, many operations ----------------------------------------------------------------


def expected_busy(count, seed, rounds):
    values = np.uint32(seed) + np.arange(count, dtype=np.uint32)
    for _ in range(rounds):
        values = values * np.uint32(2654435761) + np.uint32(1)
    return values


@pytest.mark.parametrize("copy_bytes", [0, 4 << 20])
@pytest.mark.parametrize("repeats", [1, 4])
def test_long_kernels_with_and_without_copies(setup, copy_bytes, repeats):
    device, compute, copies = setup
    busy, count, rounds = load(device)["busy"], 1024, 50
    outs = [device.alloc(4 * count) for _ in range(repeats)]
    moved = []
    for number, out in enumerate(outs):
        last = compute.launch(busy, count // 64, 64, [out, 17 * number, rounds])
        if copy_bytes:
            source, target = noise(device, copy_bytes + 4 * number)
            copies.copy(target, source)
            moved.append((source, target))
    settle(last, copies.signal())
    for number, out in enumerate(outs):
        expected = expected_busy(count, 17 * number, rounds)
        assert np.array_equal(out.view(np.uint32), expected)
    assert all(source.read() == target.read() for source, target in moved)


def test_a_reduction_compares_every_sum(setup):
    device, compute, _ = setup
    groups = 16
    data = np.random.default_rng(11).integers(0, 1 << 32, 256 * groups, np.uint32)
    source, out = device.alloc(data.nbytes), device.alloc(4 * groups)
    source.write(data)
    compute.launch(load(device)["reduce"], groups, 256, [out, source]).wait(60.0)
    assert np.array_equal(out.view(np.uint32), data.reshape(groups, 256).sum(1, np.uint32))


@pytest.mark.parametrize("repeats", [1, 3])
def test_every_gpu_computes_copies_locally_and_sends_on(pair, repeats):
    size, ends, checks = 1 << 18, [], []
    for at, one in enumerate(pair):
        other, fill = pair[1 - at], Filler(one, one.compute_queue())
        local, ring = one.copy_queue(), one.copy_queue("xgmi" if one.target == "gfx942" else None)
        source, near = noise(one, size)
        far = other.alloc(size, peers=[one])
        for number in range(repeats):
            ends.append(fill(10 * at + number))
            local.copy(near, source)
            ring.copy(far, source)
        ends += [local.signal(), ring.signal()]
        checks.append((fill, source, near, far))
    settle(*ends)
    for fill, source, near, far in checks:
        fill.check()
        assert source.read() == near.read() == far.read()


@pytest.mark.parametrize("repeats", [1, 8])
def test_large_dispatches_back_to_back(setup, repeats):
    device, compute, _ = setup
    fill = Filler(device, compute, words=1 << 13)
    out = device.alloc(4 << 13)
    for number in range(repeats):
        last = fill(number + 1, out)
    settle(last)
    fill.check()


def test_all_gpus_send_to_all_others_four_times():
    everyone = open_gpus("gfx942", 4)
    with everyone[0]:
        size = 1 << 18
        sources = [one.alloc(size) for one in everyone]
        ends, targets = [], {}
        for at, one in enumerate(everyone):
            sources[at].write(pattern("noise", size - at).ljust(size, b"\0"))
            for other in everyone:
                if other is not one:
                    target = targets[one.index, other.index] = other.alloc(size, peers=[one])
                    queue = one.copy_queue("xgmi")
                    for _ in range(4):
                        queue.copy(target, sources[at])
                    ends.append(queue.signal())
        settle(*ends)
        for (start, _), target in targets.items():
            assert target.read() == sources[start].read()


def test_a_reduction_over_gpus_by_two_ring_phases():
    everyone = open_gpus("gfx942", 4)
    with everyone[0]:
        count, groups = len(everyone), 4
        # Phase one: every GPU makes a part; phase two: the parts go round until all have all.
        parts = [one.alloc(256 * count * groups, peers=everyone) for one in everyone]
        done = {}
        for at, one in enumerate(everyone):
            queue, kernel = one.compute_queue(), load(one)["fill"]
            mine = parts[at].address + 256 * groups * at
            done[at] = queue.launch(kernel, groups, 64, [mine, at + 1])
        queues = [one.copy_queue() for one in everyone]
        for hop in range(count - 1):
            before = dict(done)
            for at, queue in enumerate(queues):
                chunk, to = (at - hop) % count, (at + 1) % count
                queue.wait(before[at])
                offset = 256 * groups * chunk
                queue.copy(parts[to], parts[at], 256 * groups, offset, offset)
                done[to] = queue.signal()
        settle(*done.values())
        expected = np.repeat(np.arange(1, count + 1, dtype=np.uint32), 64 * groups)
        assert all(np.array_equal(part.view(np.uint32), expected) for part in parts)
