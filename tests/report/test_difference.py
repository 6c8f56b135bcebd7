"""Two traces compared: what was taken out, put in or ended otherwise."""

import json
from pathlib import Path

import pytest

import gputrace
from gputrace.cli.main import run
from gputrace.report import difference
from gputrace.report.difference import compare
from gputrace.trace.events import Header
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

Capture = pytest.CaptureFixture[str]


def record(path: Path, values: list[int], target: str = "gfx1100") -> Path:
    with gputrace.record(path), gputrace.open(f"emu:{target}") as device:
        buffer, queue = device.alloc(4096, name="buffer"), device.compute_queue("pm4")
        for value in values:
            queue.write(buffer, value.to_bytes(4, "little"), 4 * value)
        queue.synchronize(5.0)
    return path


def texts(lines: tuple[difference.Line, ...]) -> list[str]:
    return [line.text for line in lines]


def store(value: int) -> str:
    where = f"buffer+{4 * value:#x}" if value else "buffer"
    shown = f"{value:#x}"
    return f"WriteData(address={where}, data=[{shown}])"


def test_the_same_program_twice_does_not_differ(tmp_path: Path, capsys: Capture) -> None:
    one, two = (record(tmp_path / name, [1, 2, 3]) for name in ("a.gtrace", "b.gtrace"))
    assert run(["diff", str(one), str(two)]) == 0
    assert "no difference" in capsys.readouterr().out


def test_packets_taken_out_changed_and_put_in_are_told(tmp_path: Path) -> None:
    one = record(tmp_path / "a.gtrace", [1, 2, 3, 4, 5, 6])
    two = record(tmp_path / "b.gtrace", [1, 3, 4, 9, 6])
    with TraceReader(one) as a, TraceReader(two) as b:
        found = compare(a, b)
    assert not found.same
    assert [(texts(hunk.removed), texts(hunk.added)) for hunk in found.hunks] == [
        ([store(2)], []),
        ([store(5)], [store(9)]),
    ]
    assert [hunk.common for hunk in found.hunks] == [1, 2]
    assert found.facts == []
    assert found.counts == {"removed": 2, "added": 1}


def test_long_streams_are_compared_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "MOST", 3)
    one = record(tmp_path / "a.gtrace", [1, 2, 3, 4, 5, 6])
    two = record(tmp_path / "b.gtrace", [1, 9, 3, 4, 8, 6])
    with TraceReader(one) as a, TraceReader(two) as b:
        (hunk,) = compare(a, b).hunks
    assert texts(hunk.removed) == [store(value) for value in (2, 3, 4, 5)]
    assert texts(hunk.added) == [store(value) for value in (9, 3, 4, 8)]


def test_devices_and_outcomes_that_differ_are_facts(tmp_path: Path, capsys: Capture) -> None:
    one = record(tmp_path / "a.gtrace", [1])
    two = record(tmp_path / "b.gtrace", [1], "gfx1030")
    assert run(["diff", str(one), str(two)]) == 1
    out = capsys.readouterr().out
    assert "family: gfx1100 | gfx1030" in out
    assert run(["diff", "--json", str(one), str(two)]) == 1
    data = json.loads(capsys.readouterr().out)
    assert {"what": "device", "first": "emu:gfx1100", "second": "emu:gfx1030"} in data["facts"]


@pytest.mark.parametrize(
    ("one", "two", "differ"),
    [({"driver": "amdgpu 6.8"}, {"driver": "amdgpu 6.10"}, True),
     ({"kernel": "Linux 6.8"}, {"kernel": "Linux 6.8"}, False),
     ({}, {"driver": "amdgpu 6.8"}, False)],
)  # fmt: skip
def test_other_versions_are_a_fact_where_both_are_stated(
    tmp_path: Path, one: dict[str, str], two: dict[str, str], differ: bool
) -> None:
    paths = tmp_path / "a.gtrace", tmp_path / "b.gtrace"
    for path, device in zip(paths, (one, two), strict=True):
        TraceWriter(path, Header("test", device=device)).close()
    with TraceReader(paths[0]) as a, TraceReader(paths[1]) as b:
        assert [what for what, _, _ in compare(a, b).facts] == ["versions"] * differ


def test_only_so_many_packets_are_shown(tmp_path: Path, capsys: Capture) -> None:
    one = record(tmp_path / "a.gtrace", list(range(40)))
    two = record(tmp_path / "b.gtrace", [1])
    assert run(["diff", "--limit", "5", str(one), str(two)]) == 1
    out = capsys.readouterr().out
    assert out.count("\n- ") == 5
    assert "39 packets only in the first" in out
