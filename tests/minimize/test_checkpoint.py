"""Runs from a checkpoint are those from the start, and forked devices do not touch one another."""

import os
import random
from pathlib import Path

import pytest

import gputrace
from gputrace.minimize import trial
from gputrace.minimize.graph import below
from gputrace.minimize.history import learn
from gputrace.minimize.model import read_model
from gputrace.minimize.trial import Case, Checkpoints, Way, run_once
from gputrace.replay.sandbox import Limits
from gputrace.trace.reader import TraceReader
from tests.minimize import scenes

DEVICE = "emu:gfx942"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scenes.deadlock, DEVICE)
    model = read_model(TraceReader(path))
    return Case(model, learn(model, DEVICE, "hang"))


def test_a_run_from_a_checkpoint_ends_as_one_from_the_start(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "WORTH", 8)
    checkpoints = Checkpoints(case, case.graph.full, DEVICE, Limits(seconds=30))
    choose, count = random.Random(5), case.graph.count
    try:
        for number in range(12):
            size = count - choose.randrange(count // 3)
            candidate = below(size) | case.graph.closure(1 << choose.randrange(count))
            resumed = checkpoints.run(candidate)
            if resumed is None:
                continue
            whole = run_once(case, candidate, Way(DEVICE))
            assert resumed.causes == whole.causes, number
            assert resumed.verdict.steps == whole.verdict.steps
            assert resumed.verdict.failures == whole.verdict.failures
        assert checkpoints.resumed > 6
    finally:
        checkpoints.close()


def test_a_holder_that_cannot_answer_leaves_the_run_to_others(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "WORTH", 8)
    checkpoints = Checkpoints(case, case.graph.full, DEVICE, Limits(seconds=30))
    candidate = below(case.graph.count - 1)
    assert checkpoints.run(candidate) is not None
    for holder in checkpoints._holders.values():
        os.kill(holder._child, 9)
    assert checkpoints.run(candidate) is None
    checkpoints.close()


def test_a_forked_device_has_memory_of_its_own() -> None:
    with gputrace.open(DEVICE) as device:
        buffer, queue = device.alloc(8192), device.copy_queue()
        buffer.write(b"a" * 8192)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            device.session.kfd.forked()  # type: ignore[attr-defined]
            buffer.write(b"b" * 16)
            queue.fill(buffer, 0x63636363, 16, 16)
            queue.synchronize()
            os.write(writer, buffer.read(40))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 100) == b"b" * 16 + b"c" * 16 + b"a" * 8
        os.close(reader)
        os.close(writer)
        assert buffer.read(40) == b"a" * 40
        queue.fill(buffer, 0x64646464, 16, 32)
        queue.synchronize()
        assert buffer.read(50) == b"a" * 32 + b"d" * 16 + b"aa"
