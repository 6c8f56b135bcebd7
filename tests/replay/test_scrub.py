"""A scrubbed trace ends as the whole one, and has nothing left of what was taken out."""

import json
from pathlib import Path

import pytest

from gputrace.cli.main import run
from gputrace.driver import Device
from gputrace.replay.repeats import recorded_outcome
from gputrace.replay.running import Request, replay
from gputrace.replay.verdict import Result
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from tests.minimize import scenes

SECRET = b"the weights of alice"
Capture = pytest.CaptureFixture[str]


def copied(device: Device) -> None:
    """What one buffer holds is copied on, to where the CPU reads it."""
    source, target = device.alloc(4096, name="weights"), device.alloc(4096, name="copy")
    other = device.alloc(4096, name="other")
    source.write(SECRET, offset=100)
    other.write(b"anybody's", offset=0)
    queue = device.copy_queue()
    queue.copy(target, source)
    queue.copy(target, other, 16)
    queue.synchronize(1.0)
    assert target.read()[100 : 100 + len(SECRET)] == SECRET


def data_of(path: Path) -> bytes:
    parts: list[bytes] = []
    with TraceReader(path) as reader:
        for event in reader:
            if isinstance(event, events.Memory) or getattr(event, "stored", False):
                parts.append(reader.memory(event))  # type: ignore[arg-type]
            elif isinstance(event, events.HostStore):
                parts.append(event.data)
    return b"".join(parts)


def scrub(path: Path, capsys: Capture, *options: str) -> Path:
    assert run(["scrub", str(path), *options]) == 0, capsys.readouterr().err
    return path.with_suffix(".scrubbed.gtrace")


def test_secret_bytes_are_gone_with_what_came_of_them_and_the_rest_is_compared(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, copied)
    assert data_of(path).count(SECRET) == 2  # what was written, and what the GPU made of it
    made = scrub(path, capsys, "--zero", "weights")
    assert f"made zero  {len(SECRET)} bytes" in capsys.readouterr().out
    assert SECRET not in data_of(made)
    assert b"anybody's" in data_of(made)
    again = replay(Request(str(made)))
    assert (again.result, again.compared) == (Result.SAME, again.written)
    assert again.compared == replay(Request(str(path))).compared > 0


def test_by_address_too(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, copied)
    with TraceReader(path) as reader:
        named = next(e for e in reader if isinstance(e, events.Name) and e.name == "weights")
    made = scrub(path, capsys, "--zero", f"{named.address:#x}+{100 + len(SECRET)}")
    assert SECRET not in data_of(made)
    assert SECRET not in data_of(scrub(path, capsys, "--zero", str(named.address + 5)))


@pytest.mark.parametrize(
    ("scene", "zero", "status"),
    [
        (scenes.lost_value, ["source"], 3),
        (scenes.lost_gate, [], 3),
        (scenes.freed_source, ["source 0"], 4),
    ],
)
def test_a_failure_stays_the_same_failure(
    tmp_path: Path, capsys: Capture, scene: scenes.Scene, zero: list[str], status: int
) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scene)
    options = [part for name in zero for part in ("--zero", name)]
    made = scrub(path, capsys, "--names", *options)
    assert run(["replay", str(made)]) == status
    assert recorded_outcome(str(made)).came_again(replay(Request(str(made))))
    with TraceReader(path) as one, TraceReader(made) as two:
        assert one.trailer is not None
        assert two.trailer is not None
        same = ("result", "queue", "packet", "address", "access", "proven")
        assert [one.trailer.outcome[k] for k in same] == [two.trailer.outcome[k] for k in same]
        names = [e.name for e in two if isinstance(e, events.Name)]
    assert not [name for name in names if "source" in name or "gate" in name]


def test_a_wrong_result_stays_wrong_at_the_same_place(tmp_path: Path, capsys: Capture) -> None:
    path = Path(__file__).parents[2] / "traces" / "missing_wait-gfx942.min.gtrace"
    before = replay(Request(str(path)))
    assert before.result is Result.DIFFERS
    made = tmp_path / "t.gtrace"
    assert run(["scrub", str(path), "-o", str(made), "--zero", "surface 0"]) == 0
    after = replay(Request(str(made)))
    assert before.difference is not None
    assert after.difference is not None
    assert (after.result, after.difference.address) == (Result.DIFFERS, before.difference.address)


def test_what_decides_how_it_ends_cannot_become_zero_and_is_named(
    tmp_path: Path, capsys: Capture
) -> None:
    path = Path(__file__).parents[2] / "traces" / "spin_lock-gfx942.gtrace"
    made = tmp_path / "t.gtrace"
    arguments = ["scrub", str(path), "-o", str(made), "--zero", "balance", "--zero", "amounts"]
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert "with amounts zero it would end otherwise, nothing was written; was hang" in said
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_replayed_or_is_cut_is_refused(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, copied)
    assert run(["scrub", str(path), "--no-check", "--zero", "weights"]) == 2
    assert "has to be replayed" in capsys.readouterr().err
    assert run(["scrub", str(path), "-o", str(path)]) == 2
    assert "is the trace itself" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-300])
    assert run(["scrub", str(path)]) == 2
    assert "`gputrace repair` it first" in capsys.readouterr().err


def test_without_a_check_nobody_replays(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, copied)
    made = scrub(path, capsys, "--no-check", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] is None
    assert "the weights of alice" in told["texts"]
    assert data_of(made) == data_of(path)
