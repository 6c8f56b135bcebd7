"""The captures in `traces/` replay to what their programs say, the reduced ones too."""

from pathlib import Path

import pytest

from gputrace.cli import workloads
from gputrace.replay.running import Request, play
from gputrace.trace.check import check
from gputrace.trace.reader import TraceReader
from tools.foreign import STORED, Foreign, stored

TRACES = Path(__file__).parents[2] / "traces"
TARGETS = ("gfx942", "gfx1100")
MOST_BYTES = 2 << 20
OTHERS = stored()
CASES = [(name, target) for name in workloads.NAMES for target in TARGETS]


def verdict(path: Path, device: str | None = None) -> str:
    return play(Request(str(path), device), lambda: False).result.value


@pytest.mark.parametrize(("name", "target"), CASES)
def test_a_capture_replays_to_what_its_workload_says(name, target):
    workload, path = workloads.find(name), TRACES / f"{name}-{target}.gtrace"
    assert path.stat().st_size <= MOST_BYTES
    with TraceReader(path) as trace:
        assert trace.complete
        assert trace.header.family == target
    device = f"emu:{target}{workload.replayed}" if workload.replayed else None
    assert verdict(path, device) == workload.verdict


@pytest.mark.parametrize(("name", "target"), CASES)
def test_a_capture_has_its_text_beside_it(name, target):
    text = (TRACES / f"{name}-{target}.txt").read_text()
    assert f"of emu:{target}" in text.splitlines()[0]
    packets = sum(line[:2] == "  " and line[2].isdigit() and ":" in line for line in
                  text.splitlines() if len(line) > 3)  # fmt: skip
    assert 200 <= packets <= 5000


@pytest.mark.parametrize(("name", "target"), CASES)
def test_what_is_left_of_a_capture_fails_in_the_same_way(name, target):
    workload = workloads.find(name)
    path = TRACES / f"{name}-{target}.min.gtrace"
    if not workload.minimum:
        assert not path.exists()
        return
    assert path.stat().st_size <= (TRACES / f"{name}-{target}.gtrace").stat().st_size
    assert verdict(path) == workload.verdict
    report = path.with_suffix(".txt").read_text()
    assert f"packets became {len(workload.minimum)}:" in report


@pytest.mark.parametrize("one", OTHERS, ids=STORED)
def test_what_programs_of_others_did_is_replayed_without_them(one: Foreign):
    path = TRACES / f"{one.name}-{one.target}.gtrace"
    assert path.stat().st_size <= MOST_BYTES
    assert path.with_suffix(".txt").read_text().startswith("trace by gputrace")
    assert verdict(path) == one.verdict
    small = path.with_suffix(".min.gtrace")
    assert small.exists() == bool(one.minimum)
    if one.minimum:
        assert verdict(small) == one.verdict
        assert f"packets became {one.minimum}:" in small.with_suffix(".txt").read_text()


def test_nothing_lies_beside_the_captures_that_no_workload_explains():
    stems = {f"{name}-{target}" for name, target in CASES}
    stems |= {f"{one.name}-{one.target}" for one in OTHERS}
    assert {path.name.split(".")[0] for path in TRACES.iterdir()} == stems


def test_every_byte_of_a_capture_is_covered_by_a_checksum():
    for path in TRACES.glob("*.gtrace"):
        assert check(path).sound


@pytest.mark.parametrize(("name", "target"), CASES)
def test_no_capture_reads_what_nobody_has_written(name, target):
    workload, path = workloads.find(name), TRACES / f"{name}-{target}.gtrace"
    options = workload.replayed or workload.options
    options = options if "check=bytes" in options else f"{options},check=bytes"
    assert verdict(path, f"emu:{target}{options}") == workload.verdict
