"""Where a wave stands, from traces that hold much or little of it."""

from pathlib import Path

import pytest

from gputrace.replay.running import Request, replay
from gputrace.replay.standing import register_lines, stored_registers

TRACES = Path(__file__).parents[2] / "traces"


@pytest.mark.parametrize("target", ["gfx942", "gfx1100"])
def test_code_whose_object_is_gone_is_shown_by_the_kernels_name(target: str) -> None:
    (failure,) = replay(Request(str(TRACES / f"spin_lock-{target}.min.gtrace"))).failures
    assert failure.standing[0].startswith("code of book at 0x")
    (here,) = [line for line in failure.standing if line.startswith("  => ")]
    assert failure.pc is not None
    assert f"{failure.pc:#x}" in here
    assert any("atomic_swap" in line for line in failure.standing)
    (words,) = [line for line in failure.standing if "exec_lo=0x1" in line]
    assert "s0=" in "".join(failure.standing)
    assert words.startswith("  ")


def test_registers_of_another_shape_are_nothing() -> None:
    shapes: list[object] = [
        None, 5, [1], {"s0": 1}, {"s0": []}, {"s0": ["x"]}, {5: [1]}, {"s0": [1] * 65},
        {f"s{n}": [1] for n in range(2000)},
    ]  # fmt: skip
    assert [dict(stored_registers({"registers": one})) for one in shapes] == [{}] * len(shapes)
    kept = stored_registers({"registers": {"s0": [7], "v1": [2] * 64, "bad": [None]}})
    assert kept == {"s0": (7,), "v1": (2,) * 64}


def test_vector_registers_are_shown_short() -> None:
    lines = list(register_lines({"v1": tuple(range(64))}, 0b110 << 20))
    assert lines == ["v1 0x15 0x16 0x17 0x18 0x19 0x1a 0x1b 0x1c in lanes 21-28 of 64"]
    (line,) = register_lines({"v1": tuple(range(64))}, 1 << 63)
    assert line.endswith("0x3f in lanes 56-63 of 64")
    lines = list(register_lines({"s3": (16,), "v1": tuple(range(32)), "v2": (5,) * 32}))
    assert lines == [
        "scalar registers, all others are zero:",
        "  s3=0x10",
        "v1 0x0 0x1 0x2 0x3 0x4 0x5 0x6 0x7 in lanes 0-7 of 32",
        "v2 0x5 in all 32 lanes",
    ]
