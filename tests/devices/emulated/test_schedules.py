"""One seed is one run, bit for bit; other seeds are other runs, and races show in some of them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gputrace
from gputrace.errors import Divergence
from gputrace.families import FAMILIES
from gputrace.formats import pm4
from gputrace.formats.ioctl import QueueType
from gputrace.formats.operations import AtomicOperation, Compare
from gputrace.formats.pm4 import CopyFrom, CopyTo, ReleaseData, ReleaseMemGfx11

BUILT = Path(__file__).parents[2] / "kernels" / "built"
SCRIPT = """
import sys
from tests.devices.emulated.test_schedules import mixed
print(mixed(sys.argv[1]))
"""


def mixed(name):
    """Run kernels, copies and atomics on four queues; return a digest of all that came of it."""
    with gputrace.open(name) as device:
        kfd = device.session.kfd
        program = device.load(BUILT / device.family.name / "seed-O3.co")
        data = device.alloc(1 << 16, name="data")
        computes = [device.compute_queue(kind="pm4") for _ in range(2)]
        copies = [device.copy_queue() for _ in range(2)]
        for turn in range(6):
            for at, queue in enumerate(computes):
                queue.launch(program["fill"], grid=4, block=64, args=[data, turn * 2 + at])
                queue.timestamp(data, 0x8000 + 64 * turn + 8 * at)
            for at, queue in enumerate(copies):
                queue.copy(data, data, 512, source_offset=512 * at, destination_offset=4096)
        for queue in (*computes, *copies):
            queue.synchronize(5.0)
        found = hashlib.sha256(data.read(1 << 16))
        found.update(f"{kfd.step} {kfd.clock()} {kfd.statistics}".encode())
        return found.hexdigest()


def elsewhere(name, hashing):
    """Do the same in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": hashing}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        capture_output=True, text=True, check=True, env=environment, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.parametrize("target", sorted(FAMILIES))
def test_a_seed_is_the_same_run_again_and_another_seed_is_not(target):
    one, again, other = (mixed(f"emu:{target},schedule={seed}") for seed in (3, 3, 4))
    assert one == again
    assert one != other
    assert mixed(f"emu:{target},schedule=3,engine=numpy") == one


def test_a_run_is_the_same_in_every_process():
    name = "emu:gfx1100,schedule=7"
    assert {mixed(name), elsewhere(name, "1"), elsewhere(name, "2")} == {mixed(name)}


def race(make_bench, seed, *, waits):
    """Let a copy queue take what a compute queue makes in a few packets; return what it took."""
    bench = make_bench(schedule=seed)
    data = bench.memory(4096)
    compute, copies, at = bench.queue(), bench.queue(QueueType.SDMA), data.address
    packet = bench.family.sdma.packet
    for _ in range(4):
        compute.put(pm4.Nop(body=(0,)))
    compute.put(
        pm4.WriteData(address=at + 64, data=(1,)),
        ReleaseMemGfx11(address=at, data=1, data_sel=ReleaseData.DATA_64),
    )
    for _ in range(4):
        copies.put(packet("Fence")(address=at + 256, data=0))
    if waits:
        copies.put(packet("PollRegMem")(function=Compare.GE, address=at, reference=1))
    copies.put(packet("CopyLinear")(count=3, source=at + 64, destination=at + 128))
    bench.run()
    return data.view[128]


def test_a_missing_wait_shows_under_some_seeds_only(make_bench):
    seeds = range(40)
    wrong = sum(race(make_bench, seed, waits=False) == 0 for seed in seeds)
    assert 0 < wrong < len(seeds)
    assert all(race(make_bench, seed, waits=True) == 1 for seed in seeds)


def add(bench, queue, data, place):
    queue.put(
        pm4.AtomicMem(atomic=AtomicOperation.ADD_RTN_32, address=data.address, source=1),
        pm4.CopyData(
            src_sel=CopyFrom.ATOMIC_RETURN, dst_sel=CopyTo.L2, destination=data.address + place
        ),
    )


def played(make_bench, seed, drive):
    """Ring doorbells at steps that `drive` chooses; return memory, step, clock and the moments."""
    bench = make_bench(schedule=seed)
    data = bench.memory(4096)
    queues = [bench.queue() for _ in range(3)]
    moments = []
    for turn in range(12):
        for number, queue in enumerate(queues):
            moments.append(drive(bench.kfd, 3 * turn + number))
            add(bench, queue, data, 64 + 4 * (3 * turn + number))
    bench.run()
    return bytes(data.view), bench.kfd.step, bench.kfd.clock(), moments


def test_a_run_replays_by_its_steps(make_bench):
    def live(kfd, number):
        if not number % 5:
            kfd.idle(kfd.clock() + 1000)
        return kfd.step, kfd.clock()

    *first, moments = played(make_bench, 11, live)

    def replay(kfd, number):
        kfd.advance(*moments[number])
        return moments[number]

    *second, _ = played(make_bench, 11, replay)
    assert first == second
    with pytest.raises(Divergence):
        played(make_bench, 11, lambda kfd, number: kfd.advance(kfd.step + 100, 0))


def test_numbers_are_unlike_between_seeds(make_bench):
    def rush(kfd, number):
        return kfd.step

    orders = {np.frombuffer(played(make_bench, seed, rush)[0], np.uint32).tobytes()
              for seed in range(6)}  # fmt: skip
    assert len(orders) == 6
