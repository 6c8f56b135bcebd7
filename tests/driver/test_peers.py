"""Several GPUs, other kinds of memory, clocks, events and threads."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from gputrace import driver
from gputrace.driver import DeviceFault
from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from gputrace.formats.ioctl import QueueType
from tests.driver.test_launch import built


@pytest.fixture(params=FAMILIES)
def pair(request):
    with driver.open(f"emu:{request.param}x2") as device:
        yield device, device.peers[0]


def test_a_copy_goes_from_one_gpu_to_another_and_back(pair):
    first, second = pair
    data = np.random.default_rng(3).integers(0, 256, 10_000, np.uint8)
    start, there = first.alloc(10_000), second.alloc(10_000, peers=[first])
    back = first.alloc(10_000, peers=[second])
    start.write(data)
    out, home = first.copy_queue(), second.copy_queue()
    out.copy(there, start)
    home.wait(out.signal())
    home.copy(back, there)
    home.signal().wait(1.0)
    assert np.array_equal(back.view(), data)


def test_memory_that_was_not_shared_faults_on_the_other_gpu(pair):
    first, second = pair
    mine, theirs = first.alloc(4096, name="private"), second.alloc(4096)
    queue = second.copy_queue()
    queue.submit(
        [queue._copy(count=4095, source=mine.address, destination=theirs.address)], "a raw copy"
    )
    with pytest.raises(DeviceFault, match=r"'private' .* mapped on device 0, not on device 1"):
        queue.signal().wait(1.0)
    fault = second.session.kfd.faults()[0]
    assert (fault.address, fault.access) == (mine.address, "r")


def test_memory_that_is_mapped_nowhere_is_named_as_well(pair):
    first, _ = pair
    mine, near = first.alloc(4096, name="private"), first.alloc(4096, name="near")
    first.session.mechanism.unmap_gpu(near.block, near.block.mapped_on)
    queue = first.compute_queue("pm4")
    queue.submit([queue.packets.write(near.address, b"good")], "a raw write")
    with pytest.raises(DeviceFault, match=r"buffer 'near' .* which was unmapped at step"):
        queue.signal().wait(1.0)
    assert mine.read(4) == bytes(4)


def test_what_a_queue_is_given_must_be_mapped_on_its_gpu(pair):
    first, second = pair
    mine, theirs = first.alloc(4096, name="private"), second.alloc(4096)
    copies, compute = second.copy_queue(), second.compute_queue()
    uses = {
        "copy from": lambda: copies.copy(theirs, mine),
        "copy to": lambda: copies.copy(mine, theirs),
        "fill": lambda: copies.fill(mine),
        "write": lambda: compute.write(mine, b"data"),
        "wait_memory": lambda: compute.wait_memory(mine, 1),
        "timestamp": lambda: copies.timestamp(mine),
    }
    for what, use in uses.items():
        with pytest.raises(UsageError, match=f"{what}: .*'private'.* is not mapped on GPU 1"):
            use()
    first.share(mine, second)
    for use in uses.values():
        use()


def test_sharing_twice_does_no_harm_and_takes_effect(pair):
    first, second = pair
    mine, theirs = first.alloc(4096, "gtt"), second.alloc(4096)
    mine.fill(7)
    first.share(mine, second)
    first.share(mine, second, second)
    queue = second.copy_queue()
    queue.copy(theirs, mine)
    queue.signal().wait(1.0)
    assert theirs.read() == bytes([7]) * 4096


@pytest.mark.parametrize("kinds", [("pm4", "aql"), ("aql", "pm4"), ("pm4", "pm4")])
def test_a_queue_of_one_gpu_waits_for_one_of_another(pair, kinds):
    (first, second), (early, late) = pair, kinds
    line, shared = first.timeline("between"), first.alloc(4096, peers=[second])
    waiter, writer = second.compute_queue(late), first.compute_queue(early)
    waiter.wait(line.at(1))
    waiter.write(shared, b"next")
    done = waiter.signal(line, 2)
    with pytest.raises(driver.ProvenHang):
        done.wait(1.0)
    writer.write(shared, b"firstfir")
    writer.signal(line, 1)
    done.wait(1.0)
    assert shared.read(8) == b"nexttfir"


def test_every_gpu_copies_to_every_other_at_once():
    with driver.open("emu:gfx942x4") as device:
        everyone = [device, *device.peers]
        slots = [one.alloc(4 * 4096, peers=everyone) for one in everyone]
        sources = [one.alloc(4096) for one in everyone]
        for at, source in enumerate(sources):
            source.fill(at + 1)
        ends = []
        for at, one in enumerate(everyone):
            queue = one.copy_queue("xgmi")
            for slot in slots:
                queue.copy(slot, sources[at], destination_offset=at * 4096)
            ends.append(queue.signal())
        for end in ends:
            end.wait(5.0)
        expected = np.repeat(np.arange(1, 5, dtype=np.uint8), 4096)
        assert all(np.array_equal(slot.view(), expected) for slot in slots)


def test_kernels_run_on_each_gpu_and_their_results_meet():
    for target in FAMILIES:
        with driver.open(f"emu:{target}x2") as device:
            everyone, ends, parts = [device, *device.peers], [], []
            total = device.alloc(512, peers=everyone)
            for at, one in enumerate(everyone):
                part, queue = one.alloc(256, name=f"part {at}"), one.compute_queue()
                parts.append(part)
                done = queue.launch(one.load(built(target))["fill"], 1, 64, [part, 11 + at])
                copies = one.copy_queue()
                copies.wait(done)
                copies.copy(total, part, destination_offset=256 * at)
                ends.append(copies.signal())
            for end in ends:
                end.wait(5.0)
            assert total.view(np.uint32).tolist() == [11] * 64 + [12] * 64
            kernel = device.load(built(target))["fill"]
            with pytest.raises(UsageError, match="not mapped on this GPU"):
                device.compute_queue().launch(kernel, 1, 64, [parts[1], 0])


@pytest.mark.parametrize("target", FAMILIES)
def test_user_memory_is_seen_by_every_engine(target):
    with driver.open(f"emu:{target}") as device:
        mine = device.alloc(10_000, "userptr")
        assert mine.user is not None
        assert mine.user.address != mine.address  # CPU and GPU address differ here
        mine.write(np.arange(2500, dtype=np.uint32))
        vram, queue = device.alloc(10_000), device.copy_queue()
        queue.copy(vram, mine)
        queue.fill(mine, 5, 4096)
        queue.signal().wait(1.0)
        assert np.array_equal(vram.view(np.uint32), np.arange(2500))
        compute = device.compute_queue()
        compute.write(mine, b"wave", 8000)
        compute.signal().wait(1.0)
        assert mine.read(4, 8000) == b"wave"
        assert (mine.view(np.uint32, count=1024) == 5).all()
        view = mine.view()
        with pytest.raises(UsageError, match="in use"):
            mine.free()
        del view
        mine.free()


def test_copy_queues_are_made_for_an_engine_or_for_links():
    with driver.open("emu:gfx942x2") as device:
        made = [device.copy_queue(), device.copy_queue("xgmi"), device.copy_queue(3)]
        kinds = [queue.hardware.made_with.queue_type for queue in made]
        assert kinds == [QueueType.SDMA, QueueType.SDMA_XGMI, QueueType.SDMA_BY_ENG_ID]
        assert made[2].hardware.made_with.sdma_engine_id == 3
        with pytest.raises(UsageError, match="copy engine 99"):
            device.copy_queue(99)
    with driver.open("emu:gfx1100") as device, pytest.raises(UsageError, match="XGMI"):
        device.copy_queue("xgmi")


def test_timestamps_of_both_engines_show_that_work_overlapped():
    with driver.open("emu:gfx942") as device:
        compute, copies = device.compute_queue(), device.copy_queue()
        stamps, out = device.alloc(4096, "gtt"), device.alloc(1 << 16)
        kernel = device.load(built("gfx942"))["busy"]
        start = device.timeline("start")
        source, target = device.alloc(1 << 22), device.alloc(1 << 22)
        compute.wait(start.at(1))
        copies.wait(start.at(1))
        compute.timestamp(stamps, 0)
        compute.launch(kernel, 4, 64, [out, 1, 500])
        compute.timestamp(stamps, 32)
        copies.timestamp(stamps, 64)
        for _ in range(4):
            copies.copy(target, source)
        copies.timestamp(stamps, 96)
        before = device.clock()[0]
        start.set(1)
        compute.synchronize()
        copies.synchronize()
        begun, ended, first, last = stamps.view(np.uint64, count=16)[::4].tolist()
        assert before <= begun < ended <= device.clock()[0]
        assert before <= first < last <= device.clock()[0]
        assert max(begun, first) < min(ended, last)


def test_a_timeline_crosses_the_32_bit_border_on_every_kind_of_queue(pair):
    first, second = pair
    line = first.timeline("long")
    border = 1 << 32
    for value in (border - 2, border - 1):
        line.set(value)
    buffer = second.alloc(4096)
    queues = [first.compute_queue("pm4"), second.compute_queue("aql"), first.copy_queue()]
    watcher = second.compute_queue("pm4")
    watcher.wait(line.at(border + 2))
    watcher.write(buffer, b"past")
    done = watcher.signal()
    for step, queue in enumerate(queues):
        queue.wait(line.at(border + step - 1))
        with pytest.raises(driver.ProvenHang):
            done.wait(0.5)
        queue.signal(line, border + step).wait(1.0)
    done.wait(1.0)
    assert line.value == border + 2
    with pytest.raises(UsageError, match="would skip"):
        line.set(3 * border)


@pytest.mark.parametrize("target", FAMILIES)
def test_a_launch_crosses_the_32_bit_border_of_its_queues_timeline(target):
    with driver.open(f"emu:{target}") as device:
        kernel, out = device.load(built(target))["fill"], device.alloc(256)
        copies = device.copy_queue()
        for kind in ("pm4", "aql"):
            queue = device.compute_queue(kind)
            queue.timeline.set((1 << 32) - 3)
            for value in range(6):
                done = queue.launch(kernel, 1, 64, [out, value])
                copies.wait(done)  # engines look at one cell of the two only
                copies.signal().wait(5.0)
                assert (out.view(np.uint32) == value).all()
            assert queue.timeline.value == (1 << 32) + 3


@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201"])
@pytest.mark.parametrize("kind", ["pm4", "aql", "copy"])
def test_each_kind_of_queue_takes_a_timeline_over_the_border_alone(target, kind):
    with driver.open(f"emu:{target}") as device:
        line, waiter = device.timeline("long"), device.compute_queue("pm4")
        queue = device.copy_queue() if kind == "copy" else device.compute_queue(kind)
        line.set((1 << 32) - 1)
        waiter.wait(line.at((1 << 32) + 7))
        done = waiter.signal()
        queue.signal(line, (1 << 32) + 6).wait(5.0)
        assert not done.done
        queue.signal(line, (1 << 32) + 7)
        done.wait(5.0)
        with pytest.raises(UsageError, match="does not come after"):
            line.set((1 << 32) + 7)


@pytest.mark.parametrize("shared", [True, False])
def test_threads_submit_and_wait_at_once(shared):
    with driver.open("emu:gfx1100") as device:
        kernel = device.load(built("gfx1100"))["fill"]
        common = device.compute_queue("pm4")
        copies, failures = device.copy_queue(), []

        def work(number):
            try:
                queue = common if shared else device.compute_queue("aql")
                out, copied = device.alloc(256), device.alloc(256)
                for step in range(10):
                    value = 1000 * number + step
                    with copies.lock:
                        copies.wait(queue.launch(kernel, 1, 64, [out, value]))
                        copies.copy(copied, out)
                        done = copies.signal()
                    done.wait(60.0)
                    assert (copied.view(np.uint32) == value).all()
            except BaseException as problem:
                failures.append(problem)
                raise

        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


OTHER = """
import sys
from gputrace import driver
with driver.open("emu:gfx942") as device:
    line = device.timeline("shared", sys.argv[1])
    common = device.alloc(4096, "userptr", file=sys.argv[2])
    for step in range(0, 6, 2):
        queue = device.compute_queue()
        queue.wait(line.at(step + 1))
        queue.write(common, bytes([step + 1] * 4), 4 * step)
        queue.signal(line, step + 2).wait(60)
    line.at(7).wait(60)
    assert common.read(4, 24) == b"last"
    print("ended at", line.value)
"""


def test_a_timeline_crosses_processes(tmp_path):
    files = [str(tmp_path / "line"), str(tmp_path / "memory")]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with driver.open("emu:gfx1100") as device:
        line = device.timeline("shared", files[0])
        common = device.alloc(4096, "userptr", file=files[1])
        command = [sys.executable, "-c", OTHER, *files]
        other = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        queue = device.copy_queue()
        for step in range(0, 6, 2):
            queue.signal(line, step + 1)
            queue.wait(line.at(step + 2))
            queue.signal().wait(60.0)  # what only the other process frees is no proven hang
            assert common.read(4, 4 * step) == bytes([step + 1] * 4)
        common.write(b"last", 24)
        line.set()
        assert other.communicate(timeout=60) == ("ended at 7\n", None)
        with pytest.raises(UsageError, match="expected 'userptr'"):
            device.alloc(4096, "vram", file=files[0])


def test_things_of_a_device_that_was_opened_apart_are_refused():
    with driver.open("emu:gfx942") as one, driver.open("emu:gfx942") as other:
        mine, theirs = one.alloc(4096), other.alloc(4096)
        copies, compute = one.copy_queue(), one.compute_queue()
        kernel = one.load(built("gfx942"))["fill"]
        for use in (
            lambda: copies.copy(mine, theirs),
            lambda: copies.copy(theirs, mine),
            lambda: copies.fill(theirs),
            lambda: compute.write(theirs, b"abcd"),
            lambda: compute.launch(kernel, 1, 64, [theirs, 1]),
            lambda: compute.wait(other.timeline().at(1)),
            lambda: copies.signal(other.timeline()),
            lambda: one.share(mine, other),
            lambda: one.alloc(4096, peers=[other]),
        ):
            with pytest.raises(UsageError, match="opened apart"):
                use()
        compute.launch(kernel, 1, 64, [mine, 1]).wait(5.0)
