"""A device on several cores of this machine is the device on one: memory, clock and steps."""

from pathlib import Path

import numpy as np
import pytest

import gputrace
from gputrace.devices.names import parse_name
from gputrace.errors import UsageError
from gputrace.isa import jit_cores

BUILT = Path(__file__).parents[2] / "kernels" / "built"
N = 512


def product(name):
    """Multiply two matrices; return the result, the virtual clock, the steps, and a timestamp."""
    rng = np.random.default_rng(1)
    with gputrace.open(name) as device:
        kfd = device.session.kfd
        program = device.load(BUILT / device.family.name / "speed-O3.co")
        a, b, out = (device.alloc(4 * N * N) for _ in range(3))
        for matrix in (a, b):
            matrix.write(rng.integers(-9, 9, (N, N)).astype(np.float32))
        queue = device.compute_queue(kind="pm4")
        groups = (N // 16, N // 16, 1)
        args = [out, a, b, np.uint32(N)]
        queue.launch(program["matmul"], grid=groups, block=(16, 16, 1), args=args).wait(60)
        queue.timestamp(a, 0)
        queue.signal().wait(60)
        return out.read(4 * N * N), kfd.clock(), kfd.step, a.read(8)


def test_nothing_tells_how_many_cores_there_are(monkeypatch):
    ran = []
    run = jit_cores.Cores.run
    monkeypatch.setattr(jit_cores.Cores, "run", lambda *a: ran.append(1) or run(*a))
    one = product("emu:gfx1100,cores=1")
    assert not ran
    assert product("emu:gfx1100,cores=3") == one
    assert ran


@pytest.mark.parametrize("text", ["0", "x", "-1", "65", ""])
def test_a_wrong_number_of_cores_is_refused(text):
    with pytest.raises(UsageError, match="expected a number from 1 to 64"):
        parse_name(f"emu:gfx942,cores={text}")
