"""check=bytes in a replay: a read of what nobody has written, if the recording knows who wrote."""

from pathlib import Path

import pytest

import gputrace
from gputrace.capture.window import Part
from gputrace.driver import Device
from gputrace.replay.running import Request, play
from gputrace.replay.verdict import Result, Verdict

BUILT = Path(__file__).parents[1] / "kernels" / "built"


def work(device: Device, written: bool) -> None:
    source, out = device.alloc(4096, name="source"), device.alloc(4096)
    if written:
        source.write(bytes(4096))  # zeros, as there were
    kernel = device.load(BUILT / device.target / "speed-O3.co")["add"]
    queue = device.compute_queue()
    for _ in range(3):
        queue.launch(kernel, grid=4, block=64, args=[out, source, source])
        queue.signal().wait(10)


def replayed(path: Path, target: str) -> Verdict:
    return play(Request(str(path), f"emu:{target},check=bytes"), lambda: False)


@pytest.mark.parametrize("options", ["", ",check=bytes"])
@pytest.mark.parametrize("target", ["gfx942", "gfx1030"])
def test_zeros_that_were_stored_are_written(tmp_path: Path, target: str, options: str) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path), gputrace.open(f"emu:{target}{options}") as device:
        work(device, written=True)
    assert replayed(path, target).result is Result.SAME


def test_what_nobody_stored_is_not(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        work(device, written=False)
    verdict = replayed(path, "gfx942")
    assert verdict.result is Result.FAULT
    assert "read of 4 bytes that nobody has written" in verdict.text
    assert "buffer 'source'" in verdict.text


@pytest.mark.parametrize("written", [False, True])
def test_a_part_of_a_run_does_not_know_what_was_written_before(
    tmp_path: Path, written: bool
) -> None:
    path = tmp_path / "t.gtrace"
    part = Part(start="submission:3")
    with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
        work(device, written)
    assert replayed(path, "gfx942").result is Result.SAME
