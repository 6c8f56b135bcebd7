"""A name makes a device."""

import pytest

from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.kfd import RealKfd
from gputrace.devices.opening import make_device
from gputrace.errors import UsageError


def test_an_emulated_device_has_what_its_name_says():
    device = make_device("emu:gfx1100x2,vram=1G,schedule=3")
    assert isinstance(device, EmulatedKfd)
    assert device.name == "emu:gfx1100x2,vram=1G,schedule=3"
    assert device.schedule_seed == 3
    assert [node.target for node in device.topology.gpus] == ["gfx1100"] * 2
    assert device.topology.gpus[0].memory == 1 << 30


def test_a_real_device_is_one_of_the_kernel():
    assert isinstance(make_device("kfd:0"), RealKfd)


@pytest.mark.parametrize("name", ["emu:gfx700", "emu:gfx942,check=lines", "emu:gfx942,engine=fast"])
def test_what_is_not_there_is_a_usage_error(name):
    with pytest.raises(UsageError):
        make_device(name)
