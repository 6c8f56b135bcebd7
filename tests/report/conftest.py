"""Traces to look at: recorded through the driver core on emulated devices."""

from collections.abc import Callable
from pathlib import Path

import pytest

import gputrace
from gputrace.driver import Device

KERNELS = Path(__file__).parents[1] / "kernels" / "built"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.gtrace"


def record(path: Path, target: str, work: Callable[[Device], None]) -> None:
    """Record `work` on an emulated device of its own."""
    with gputrace.record(path), gputrace.open(f"emu:{target}") as device:
        work(device)
