"""Devices of every family, and work that each of them can do."""

import os
from pathlib import Path

import numpy as np
import pytest

from gputrace import driver
from gputrace.families import FAMILIES

BUILT = Path(__file__).parents[1] / "kernels" / "built"
RUNNERS = tuple(FAMILIES)


def open_gpus(target, count=1):
    """Open `count` peers of a family; return all of them."""
    if "GPUTRACE_SOCKET" in os.environ:  # under `gputrace run`: the device nodes that it serves
        device = driver.open("kfd:0")
        if device.target != target or len(device.peers) < count - 1:
            device.close()
            pytest.skip(f"{count} {device.target} served, {target} wanted")
    else:
        device = driver.open(f"emu:{target}" + (f"x{count}" if count > 1 else ""))
    return [device, *device.peers] if count > 1 else [device]


@pytest.fixture(params=FAMILIES)
def device(request):
    (one,) = open_gpus(request.param)
    with one:
        yield one


@pytest.fixture(params=RUNNERS)
def runner(request):
    (one,) = open_gpus(request.param)
    with one:
        yield one


@pytest.fixture(params=FAMILIES)
def gpus(request):
    """Two peers."""
    everyone = open_gpus(request.param, 2)
    with everyone[0]:
        yield everyone


def load(device, name="seed", level="O3"):
    return device.load(BUILT / device.target / f"{name}-{level}.co")


def pattern(kind, size):
    """Give bytes of a test pattern: a byte, "count", "all" byte values or "noise"."""
    if isinstance(kind, int):
        return np.full(size, kind, np.uint8).tobytes()
    if kind == "count":
        return np.arange(-(-size // 4), dtype=np.uint32).tobytes()[:size]
    if kind == "all":
        return (np.arange(size) % 256).astype(np.uint8).tobytes()
    return np.random.default_rng(size).bytes(size)


def settle(*points, timeout=60.0):
    """Wait for points one after another."""
    for point in points:
        point.wait(timeout)
