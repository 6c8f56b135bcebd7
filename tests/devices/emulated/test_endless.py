"""Kernels that never end on a queue: told as such, and freed by whoever writes what they read."""

from pathlib import Path

import numpy as np
import pytest

import gputrace
from gputrace.driver import ProvenHang

BUILT = Path(__file__).parents[2] / "kernels" / "built"


class Setup:
    def __init__(self, name, kind="pm4"):
        self.device = gputrace.open(name)
        self.kfd = self.device.session.kfd
        target = self.device.family.name
        flow = self.device.load(BUILT / target / "flow-O3.co")
        self.lock = self.device.alloc(4, name="lock")
        self.total = self.device.alloc(4, name="total")
        self.lock.write(np.array([1], np.uint32))
        self.queue = self.device.compute_queue(kind)
        arguments = [self.lock, self.total]
        self.done = self.queue.launch(flow["spin_lock"], grid=2, block=64, args=arguments)


@pytest.mark.parametrize(("target", "kind"), [("gfx942", "aql"), ("gfx1100", "pm4")])
def test_an_endless_kernel_is_a_proven_hang(target, kind):
    made = Setup(f"emu:{target}", kind)
    with made.device:
        with pytest.raises(ProvenHang, match=r"kernel spin_lock loops for ever.*buffer 'lock'"):
            made.done.wait(5.0)
        (stall,) = made.kfd.stalls()
        assert (stall.kind, stall.address) == ("endless", made.lock.address)
        assert (stall.kernel, stall.workgroup, stall.wave) == ("spin_lock", (0, 0, 0), 0)
        assert stall.pc is not None
        assert made.kfd.faults() == ()


def test_the_cpu_sets_it_free():
    made = Setup("emu:gfx1100")
    with made.device:
        with pytest.raises(ProvenHang):
            made.done.wait(5.0)
        made.lock.write(np.array([0], np.uint32))
        made.done.wait(5.0)
        assert made.total.view(np.uint32)[0] == 4


def test_a_recorder_hears_of_the_store_before_the_waves_answer_it(monkeypatch):
    # The waves store into the same place: a look after they ran finds nothing of the CPU's.
    made, heard = Setup("emu:gfx1100"), []
    with made.device:
        with pytest.raises(ProvenHang):
            made.done.wait(5.0)
        monkeypatch.setattr(
            made.kfd, "loop_changed", lambda: heard.append(made.lock.view(np.uint32)[0])
        )
        made.lock.write(np.array([0], np.uint32))
        made.done.wait(5.0)
        assert heard
        assert set(heard) == {0}


def test_another_engine_sets_it_free():
    made = Setup("emu:gfx1100")
    with made.device:
        with pytest.raises(ProvenHang):
            made.done.wait(5.0)
        copies = made.device.copy_queue()
        copies.fill(made.lock, 0, 4)
        copies.signal()
        made.done.wait(5.0)
        assert made.kfd.stalls() == ()
        assert made.total.view(np.uint32)[0] == 4


def test_a_budget_ends_what_is_not_proven():
    made = Setup("emu:gfx1100,budget=64K")
    with made.device:
        with pytest.raises(ProvenHang, match="wave-instructions and still runs"):
            made.done.wait(5.0)
        (stall,) = made.kfd.stalls()
        assert stall.kind == "budget"
