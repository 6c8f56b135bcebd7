"""Several replays as one verdict; a verdict held against the outcome that was recorded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gputrace
from gputrace.cli.main import run
from gputrace.replay.repeats import Recorded, judge
from gputrace.replay.verdict import Failure, Result, Signature, Verdict

SAME = Verdict(Result.SAME, "same", 10, 10, digest="aa")
HANG = Verdict(
    Result.HANG, "hang", signature=Signature(Result.HANG, 1, 7, "stall"), proven=True,
    failures=(Failure(1, 0, 7, 0x1000, "waits"), Failure(2, 1, 3, 0x2000, "waits")),
)  # fmt: skip
FAULT = Verdict(
    Result.FAULT, "fault", signature=Signature(Result.FAULT, 1, 7, "memory"),
    failures=(Failure(1, 0, 7, 0x1000, "read", "memory", 0x5123, "r"),),
)  # fmt: skip


def test_replays_that_agree_keep_their_verdict() -> None:
    again = replace(SAME, seconds=2.0, text="other words")
    assert judge([SAME, again, SAME]) == SAME


def test_replays_that_disagree_are_undecided_with_their_rates() -> None:
    verdict = judge([SAME, HANG, SAME, SAME])
    assert verdict.result is Result.UNDECIDED
    assert verdict.result.exit_code == 6
    assert verdict.text == "4 replays had 2 distinct outcomes: same 75%, hang 25%"
    other = replace(SAME, digest="bb")
    assert judge([SAME, other]).text == "2 replays had 2 distinct outcomes: same 100%"


def test_undecided_is_told_with_each_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    answers, trace = iter([SAME, HANG, SAME]), tmp_path / "t.gtrace"
    with gputrace.record(trace), gputrace.open("emu:gfx942"):
        pass
    monkeypatch.setattr("gputrace.cli.replay.replay", lambda request, limits: next(answers))
    names = "emu:gfx942", "emu:gfx942"
    monkeypatch.setattr("gputrace.cli.replay.where", lambda request: names)
    assert run(["replay", str(trace), "--repeat", "3"]) == 6
    text = capsys.readouterr().out
    assert "3 replays, 2 distinct outcomes" in text
    assert "2 (66.7%) same" in text
    assert "1 (33.3%) hang" in text


@pytest.mark.parametrize(
    ("recorded", "verdict", "again"),
    [
        (Recorded("ended"), SAME, True),
        (Recorded("ended"), replace(SAME, result=Result.NOT_COMPARED), False),
        (Recorded("ended"), HANG, False),
        (Recorded("hang", {"queue": 2, "packet": 3}), HANG, True),
        (Recorded("hang", {"queue": 2, "packet": 4}), HANG, False),
        (Recorded("hang"), HANG, True),
        (Recorded("hang"), FAULT, False),
        (Recorded("fault", {"queue": 1, "packet": 7, "address": 0x5FFF}), FAULT, True),
        (Recorded("fault", {"queue": 1, "packet": 7, "address": 0x6000}), FAULT, False),
        (Recorded("fault", {"queue": 1, "packet": 7, "access": "w", "address": 0x5000}), FAULT,
         False),
    ],
)  # fmt: skip
def test_an_outcome_comes_again_with_its_signature(
    recorded: Recorded, verdict: Verdict, again: bool
) -> None:
    assert recorded.came_again(verdict) is again
