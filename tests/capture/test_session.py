"""`gputrace.record` around the driver core, and what a replay of it says."""

from pathlib import Path

import pytest

import gputrace
from gputrace.devices.opening import make_device
from gputrace.driver import ProvenHang
from gputrace.errors import UsageError
from gputrace.replay.player import Player
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.reader import TraceReader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.gtrace"


def replay(path: Path) -> Verdict:
    with TraceReader(path) as reader:
        return Player(reader, make_device(reader.header.device["name"])).run()  # type: ignore


@pytest.mark.parametrize("target", ["gfx942", "gfx1100", "gfx1201,schedule=5"])
def test_a_recorded_pipeline_of_two_engines_replays_to_the_same(path: Path, target: str) -> None:
    with gputrace.record(path), gputrace.open(f"emu:{target}") as device:
        source, target_buffer = device.alloc(1 << 20), device.alloc(1 << 20, kind="gtt")
        compute, copies = device.compute_queue(), device.copy_queue()
        for turn in range(8):
            source.write(bytes([turn]) * 4096, 4096 * turn)
            compute.write(source, b"by the GPU..", 100 + 4096 * turn)
            copies.wait(compute.signal())
            copies.copy(target_buffer, source, 1 << 20)
            copies.signal().wait(1.0)
        assert target_buffer.read(12, 100) == b"by the GPU.."
    with TraceReader(path) as reader:
        assert reader.complete
        assert reader.trailer is not None
    verdict = replay(path)
    assert verdict.result is Result.SAME, verdict
    assert verdict.compared >= 1 << 20


def test_a_hang_is_the_outcome_of_the_trace_and_of_its_replay(path: Path) -> None:
    def program() -> None:
        with gputrace.open("emu:gfx942") as device:
            queue, gate = device.compute_queue(), device.timeline("gate")
            queue.wait(gate.at(1))
            queue.signal().wait(1.0)

    with pytest.raises(ProvenHang), gputrace.record(path):
        program()
    with TraceReader(path) as reader:
        outcome = [event for event in reader if type(event).__name__ == "Outcome"]
    assert [(event.result, event.queue) for event in outcome] == [("hang", 0)]  # type: ignore
    verdict = replay(path)
    assert (verdict.result, verdict.proven) == (Result.HANG, True)


def test_wrong_use_is_refused_in_one_line(path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a name that ends with .gtrace"):
        gputrace.record("t.trace").__enter__()
    with pytest.raises(UsageError, match="no device was opened"), gputrace.record(path):
        pass
    with gputrace.record(path):
        gputrace.open("emu:gfx942").close()
        with pytest.raises(UsageError, match="records emu:gfx942 already"):
            gputrace.open("emu:gfx1100")
