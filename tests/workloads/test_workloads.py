"""Each workload fails as it says, on both targets, and its recording fails in the same way."""

import re

import pytest

from gputrace.cli import workloads
from gputrace.cli.workloads.frame import perform
from gputrace.devices.opening import make_device
from gputrace.replay.player import Player
from gputrace.trace.reader import TraceReader

TARGETS = ("gfx942", "gfx1100")
TEXTS = {
    "deadlock": ("queue 0: waits for .* >= 0x28, which is 0x27", "queue 1: waits for .* >= 0x28"),
    "wrong_count": ("packet 192 ", r"ACQUIRE_MEM has [78] dwords but its header says [78]"),
}
"""What the message of each failure names."""


@pytest.fixture(params=TARGETS)
def target(request):
    return request.param


@pytest.mark.parametrize("name", workloads.NAMES)
def test_a_workload_ends_as_it_says_and_so_does_its_replay(name, target, tmp_path):
    workload, path = workloads.find(name), tmp_path / "run.gtrace"
    done = perform(workload, f"emu:{target}", record=str(path))
    assert done.ending == workload.ending, done.text
    for text in TEXTS[name]:
        assert re.search(text, done.text), done.text
    with TraceReader(path) as trace:
        verdict = Player(trace, make_device(f"emu:{target}")).run()
    assert verdict.result.value == workload.ending
    for text in TEXTS[name]:
        assert re.search(text, verdict.text), verdict.text
