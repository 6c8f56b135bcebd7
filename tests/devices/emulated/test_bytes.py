"""check=bytes: what the page tables let through, named to the byte and the lane."""

from pathlib import Path

import numpy as np
import pytest

import gputrace
from gputrace.driver import DeviceFault

BUILT = Path(__file__).parents[2] / "kernels" / "built"


class Setup:
    def __init__(self, target, kind, check="bytes"):
        self.device = gputrace.open(f"emu:{target},check={check}")
        self.program = self.device.load(BUILT / target / "seed-O3.co")
        self.queue = self.device.compute_queue(kind=kind)

    def run(self, name, grid, *arguments, block=64):
        self.queue.launch(self.program[name], grid=grid, block=block, args=list(arguments))
        self.queue.synchronize(5.0)

    def fails(self, *arguments, **more):
        with pytest.raises(DeviceFault):
            self.run(*arguments, **more)
        return self.device.session.kfd.faults()[0]


@pytest.fixture(params=[("gfx942", "aql"), ("gfx942", "pm4"), ("gfx1100", "pm4")], ids="-".join)
def setup(request):
    made = Setup(*request.param)
    with made.device:
        yield made


def lanes_of(fault):
    return [lane for lane in range(64) if fault.lanes >> lane & 1]


def test_a_write_past_the_end_is_found_at_its_first_byte(setup):
    out = setup.device.alloc(4 * 100, name="out")
    neighbour = setup.device.alloc(4096, name="neighbour")
    fault = setup.fails("fill", 2, out, 7)
    assert (fault.kind, fault.access, fault.kernel) == ("memory", "w", "fill")
    assert (fault.address, fault.workgroup) == (out.address + 400, (1, 0, 0))
    first = (100 - 64) % setup.device.family.waves[0]
    assert lanes_of(fault)[0] == first
    assert "0x0 bytes after the end of buffer 'out'" in fault.text
    assert neighbour.read(4096) == bytes(4096)
    assert out.view(np.uint32)[64 + 100 - 64 - first :].sum() == 0  # nothing of that wave


def test_the_page_hides_it_without_the_check():
    made = Setup("gfx942", "pm4", check="pages")
    with made.device as device:
        out = device.alloc(4 * 100, name="out")
        made.run("fill", 2, out, 7)
        assert device.session.kfd.faults() == ()


def test_a_read_of_what_nobody_wrote_is_found(setup):
    x, y = (setup.device.alloc(4 * 64, name=name) for name in "xy")
    y.write(np.zeros(64, np.float32))
    fault = setup.fails("saxpy", 1, y, x, np.float32(2), np.int32(64))
    assert (fault.kind, fault.access, fault.address) == ("memory", "r", x.address)
    assert "that nobody has written" in fault.text
    assert "buffer 'x' + 0x0" in fault.near


def test_a_read_by_the_cpu_writes_nothing(setup):
    x, y = (setup.device.alloc(4 * 64, name=name) for name in "xy")
    y.write(np.zeros(64, np.float32))
    assert x.read(4 * 64) == bytes(4 * 64)
    fault = setup.fails("saxpy", 1, y, x, np.float32(2), np.int32(64))
    assert fault.address == x.address


def test_what_the_cpu_or_a_kernel_wrote_may_be_read(setup):
    x, y = (setup.device.alloc(4 * 64, name=name) for name in "xy")
    setup.run("fill", 1, x, 0x3F800000)
    y.write(np.zeros(64, np.float32))
    setup.run("saxpy", 1, y, x, np.float32(2), np.int32(64))
    assert (y.view(np.float32) == 2).all()


def test_a_copy_takes_the_state_along(setup):
    x, y, copied = (setup.device.alloc(4 * 64, name=name) for name in ("x", "y", "copied"))
    y.write(np.zeros(64, np.float32))
    setup.run("fill", 1, x, 0x3F800000)
    copies = setup.device.copy_queue()
    copies.copy(copied, x, 128)
    copies.signal().wait(5.0)
    fault = setup.fails("saxpy", 1, y, copied, np.float32(2), np.int32(64))
    assert fault.address == copied.address + 128
    assert lanes_of(fault)[0] == 32 % setup.device.family.waves[0]


def test_engines_stop_at_the_byte_too(setup):
    out = setup.device.alloc(100, name="out")
    copies = setup.device.copy_queue()
    copies.fill(out, 0, 100)
    copies.signal().wait(5.0)
    out.size = 104  # past the driver's own check
    copies.fill(out, 0, 104)
    with pytest.raises(DeviceFault):
        copies.signal().wait(5.0)
    (fault,) = setup.device.session.kfd.faults()
    assert (fault.address, fault.access) == (out.address + 100, "w")
    assert "past the end of the buffer" in fault.text


def test_lds_ends_where_it_was_asked_to(setup):
    x = setup.device.alloc(4 * 256, name="x")
    out = setup.device.alloc(4, name="out")
    x.write(np.ones(256, np.uint32))
    kernel = setup.program["reduce"]
    kernel.descriptor = kernel.descriptor.replace(group_segment_fixed_size=512)
    fault = setup.fails("reduce", 1, out, x, block=256)
    assert (fault.kind, fault.kernel) == ("kernel", "reduce")
    assert "of the LDS, beyond its end" in fault.text
    assert (fault.address, fault.wave) == (512, 128 // setup.device.family.waves[0])
