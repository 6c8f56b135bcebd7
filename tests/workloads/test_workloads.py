"""Each workload fails as it says, on every family, and its recording fails in the same way."""

import re
from types import SimpleNamespace

import pytest

from gputrace.cli import workloads
from gputrace.cli.workloads.frame import load, perform, rate
from gputrace.cli.workloads.missing_wait import WORKLOAD as MISSING_WAIT
from gputrace.cli.workloads.overlap import BATCHES
from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from gputrace.replay.running import Request, play

TARGETS = tuple(FAMILIES)
RUN_TEXTS = {
    "lost_signal": ("slot 1 downloaded >= 37: will never", "queue 1: waits for .*>= 0x25"),
    "deadlock": (
        "queue 0.*: waits for .* >= 0x28 .*which is 0x27; packet 158 of queue 1 would free it",
        "queue 1.*: waits for .* >= 0x28 .*which is 0x27; packet 158 of queue 0 would free it",
    ),
    "use_after_free": ("read of 4 bytes .* by lanes 0-", "'weights of layer 1'.* which was freed"),
    "spin_lock": ("kernel book loops for ever: wave 0 of work-group .*'lock'.*which is 0x1",),
    "missing_wait": ("frame 20 was copied before it was drawn: it is frame 18",),
    "wrong_count": ("packet 192 ", r"ACQUIRE_MEM has [78] dwords but its header says [78]"),
    "overrun": ("the history has changed from word 0 on",),
    "overlap": (f"{BATCHES} batches of 1024 bytes are right",),
}
"""What the program says."""
REPLAY_TEXTS = {
    "lost_signal": (
        "packet [0-9]+: waits for .* >= 0x25 .*'timeline slot 1 transformed'",
        "no packet that is left would write that",
    ),
    "deadlock": (
        "packet 156: .*timeline compute 1 sent.*which is 0x27; packet 158 of queue 1 would free it",
        "packet 156: .*timeline compute 0 sent.*which is 0x27; packet 158 of queue 0 would free it",
    ),
    "use_after_free": RUN_TEXTS["use_after_free"],
    "spin_lock": RUN_TEXTS["spin_lock"],
    "missing_wait": ("film", "CopyLinear"),
    "wrong_count": RUN_TEXTS["wrong_count"],
    "overrun": ("write of 4 bytes .* by lanes .*0x0 bytes after the end of .*'smoothed signal'",),
    "overlap": (r"^([0-9]{6,}) of \1 bytes that the GPU wrote were compared",),
}
"""What the replay of the capture says."""


@pytest.fixture(params=TARGETS)
def target(request):
    return request.param


def assert_says(patterns: tuple[str, ...], text: str) -> None:
    for pattern in patterns:
        assert re.search(pattern, text), text


@pytest.mark.parametrize("name", workloads.NAMES)
def test_a_workload_ends_as_it_says_and_so_does_the_replay_of_its_capture(name, target, tmp_path):
    workload, path = workloads.find(name), tmp_path / "run.gtrace"
    done = perform(workload, workload.device(target), record=str(path))
    assert done.ending == workload.ending, done.text
    assert_says(RUN_TEXTS[name], done.text)
    verdict = play(Request(str(path), f"emu:{target}{workload.replayed}"), lambda: False)
    assert verdict.result.value == workload.verdict, verdict.text
    said = [verdict.text, *(f"packet {one.packet}: {one.text}" for one in verdict.failures)]
    if verdict.difference is not None:
        said += [verdict.difference.buffer, verdict.difference.writer]
    assert_says(REPLAY_TEXTS[name], "\n".join(said))


def test_the_race_is_lost_under_some_schedules_only(target):
    endings = rate(MISSING_WAIT, target, range(12))
    assert set(endings) == {"passes", "wrong"}
    assert endings["passes"] > endings["wrong"]


def test_a_workload_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="known are lost_signal"):
        workloads.find("crash")


def test_a_target_without_kernels_is_refused_by_name():
    device = SimpleNamespace(target="gfx803")
    with pytest.raises(UsageError, match=r"built for .*gfx1100.*gfx942.*, not gfx803"):
        load(device, "pipeline")
