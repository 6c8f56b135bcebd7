"""Device names: every form, and messages that say what was expected."""

import pytest

from gputrace.devices.names import DeviceName, parse_name, parse_size
from gputrace.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kfd:0", DeviceName("kfd", index=0)),
        ("kfd:11", DeviceName("kfd", index=11)),
        ("emu:gfx942", DeviceName("emu", target="gfx942")),
        ("emu:gfx90a", DeviceName("emu", target="gfx90a")),
        ("emu:gfx1100x2", DeviceName("emu", target="gfx1100", count=2)),
        (
            "emu:gfx942x8,vram=8G,check=bytes,schedule=3",
            DeviceName(
                "emu",
                target="gfx942",
                count=8,
                options={"vram": 8 << 30, "check": "bytes", "schedule": 3},
            ),
        ),
        ("emu:gfx942,schedule=seed:7", DeviceName("emu", target="gfx942", options={"schedule": 7})),
    ],
)
def test_names_are_taken_apart(text, name):
    assert parse_name(text) == name
    assert parse_name(str(name)) == name


@pytest.mark.parametrize(
    "text",
    ["", "gfx942", "emu:", "gpu:0", "kfd:x", "emu:0", "kfd:0x2", "kfd:0,vram=1G", "emu:gfx942x0",
     "emu:gfx942x9", "emu:gfx942,vram", "emu:gfx942,vram=big", "emu:gfx942,check=words",
     "emu:gfx942,schedule=x", "emu:gfx942,vram=1G,vram=2G", "emu:gfx942,other=1"],
)  # fmt: skip
def test_a_wrong_name_says_what_was_expected(text):
    with pytest.raises(UsageError, match=r"expected|twice"):
        parse_name(text)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("4096", 4096), ("2k", 2048), ("1T", 2**40)])
def test_sizes(text, size):
    assert parse_size(text) == size
