"""Global wave sync of queues: who may have it, and kernels that use it."""

from errno import EBUSY, EINVAL
from pathlib import Path

import numpy as np
import pytest

import gputrace
from gputrace.devices.emulated.kernels import KernelRun
from gputrace.driver import ProvenHang
from gputrace.errors import DeviceFault, KfdError
from gputrace.families import FAMILIES
from gputrace.formats.ioctl import AllocQueueGws, DestroyQueue
from gputrace.isa.machine import Machine
from gputrace.isa.wave_sync import WaveSync
from tests.isa.launching import Arrays, Program
from tests.isa.test_wave_sync import GRID, rounds

BUILT = Path(__file__).parents[2] / "kernels" / "built"
GIVEN = ("gfx90a", "gfx1030")
"""Whose queues the kernel driver lets use it."""


def give(bench, queue_id, count=64):
    return bench.kfd.ioctl(AllocQueueGws(queue_id=queue_id, num_gws=count))


def refused(bench, queue_id, count=64):
    with pytest.raises(KfdError) as error:
        give(bench, queue_id, count)
    return error.value.errno


@pytest.mark.parametrize("target", FAMILIES)
def test_one_queue_of_a_process_has_it_on_each_gpu(make_bench, target):
    bench = make_bench(target)
    bench.queue(), bench.queue()
    assert refused(bench, 7) == EINVAL
    assert refused(bench, 0, 0) == EINVAL
    assert give(bench, 0, 1).first_gws == 0
    assert refused(bench, 0) == refused(bench, 1) == EBUSY
    assert refused(bench, 1, 0) == EINVAL
    give(bench, 0, 0)
    give(bench, 1)
    bench.kfd.ioctl(DestroyQueue(queue_id=1))
    give(bench, 0)


class Grid:
    def __init__(self, target, kind):
        self.device = gputrace.open(f"emu:{target}")
        self.queue = self.device.compute_queue(kind)
        self.kernels = self.device.load(BUILT / target / "grid-O3.co")

    def prepare(self, count, resource):
        return self.queue.launch(
            self.kernels["prepare"], grid=1, block=64, args=[np.uint32(count), np.uint32(resource)]
        )

    def rounds(self, values, groups, arriving, resource):
        args = [values, *(np.uint32(n) for n in (groups, 2, resource))]
        return self.queue.launch(self.kernels["rounds"], grid=arriving, block=128, args=args)


@pytest.mark.parametrize(("target", "kind"), [("gfx90a", "aql"), ("gfx1030", "pm4")])
def test_kernels_meet_and_one_too_few_is_a_proven_hang(target, kind):
    grid, groups = Grid(target, kind), 6
    with grid.device:
        grid.queue.take_wave_sync()
        values = grid.device.alloc(8 * groups, name="values")
        values.write(np.arange(2 * groups, dtype=np.uint32))
        grid.prepare(groups - 1, 5)
        grid.rounds(values, groups, groups, 5).wait(20.0)
        left = values.view(np.uint32).tolist()
        assert left == rounds(list(range(2 * groups)), groups, 2)
        lost = grid.rounds(values, groups, groups - 2, 5)
        with pytest.raises(ProvenHang, match=r"barrier 5, to which 2 more waves have to come"):
            lost.wait(5.0)
        (stall,) = grid.device.session.kfd.stalls()
        assert (stall.kernel, stall.workgroup, stall.wave) == ("rounds", (0, 0, 0), 0)


@pytest.mark.parametrize("target", GRID)
def test_who_was_not_given_any_is_told_so(target):
    for taken in (False, True):
        grid = Grid(target, None)
        if taken and target in GIVEN:
            grid.queue.take_wave_sync()
            grid.queue.drop_wave_sync()
        elif taken:
            grid.queue.take_wave_sync()
        done = grid.prepare(0, 1)
        with pytest.raises(DeviceFault) as fault:
            done.wait(5.0)
        assert "ds_gws_init is not modelled: " in str(fault.value)
        formal = taken and target not in GIVEN
        why = "lets no queue of this GPU use" if formal else "the queue was given no"
        assert f"{why} global wave sync" in str(fault.value)
        grid.device.close()


@pytest.mark.parametrize("engine", ["numpy", "jit"])
def test_dispatches_side_by_side_wait_for_one_another(engine):
    sync, machine = WaveSync(), Machine("gfx90a", engine)
    program, memory = Program("gfx90a", "grid-O3"), Arrays()
    numbers = [np.uint32(2), np.uint32(1), np.uint32(3)]

    def start(kernel, *args):
        launch = program.launch(kernel, (1,), (64,), memory, args)
        return KernelRun(machine, launch, memory, 1 << 20, None, sync)

    prepare = start("prepare", np.uint32(1), np.uint32(3))
    assert prepare.advance(alone=True)
    runs = []
    for _ in range(2):
        memory = Arrays()
        values = memory.add(np.zeros(4, np.uint32))
        runs.append(start("rounds", values, *numbers))
    first, second = runs
    assert not first.advance(alone=True)
    assert "global barrier 3, to which 1 more wave has to come" in first.loop.text
    assert not second.advance(alone=True)  # it has let the first one go and waits for it
    assert first.loop is None
    assert second.loop is not None
    assert first.advance(alone=True)
    assert second.loop is None
    assert second.advance(alone=True)
