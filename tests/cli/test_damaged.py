"""What is said of damaged and cut traces names the file, the place and what helps."""

import json
from itertools import takewhile
from pathlib import Path

import pytest

from gputrace.cli.main import run
from gputrace.trace.blocks import BlockKind
from gputrace.trace.events import DoorbellIntent, Header
from gputrace.trace.reader import BlockReader, Scan, TraceReader
from gputrace.trace.writer import TraceWriter

TRACES = Path(__file__).parents[2] / "traces"
Capture = pytest.CaptureFixture[str]


def damage(name: str, path: Path) -> None:
    data = bytearray((TRACES / name).read_bytes())
    file = BlockReader(TRACES / name)
    for header in Scan(file):
        if header.kind is BlockKind.EVENTS:
            at = header.offset  # the last one in the end
    file.close()
    data[at + 9] ^= 1 << 6
    path.write_bytes(data)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = tmp_path / "damaged.gtrace"
    damage("spin_lock-gfx1100.gtrace", path)
    return path


def cut(name: str, size: int, tmp_path: Path) -> Path:
    path = tmp_path / "cut.gtrace"
    path.write_bytes((TRACES / name).read_bytes()[:size])
    return path


@pytest.mark.parametrize("name", ["info", "dump", "replay", "minimize", "bisect", "diff"])
def test_an_error_about_damage_names_the_file_and_what_helps(
    name: str, damaged: Path, capsys: Capture
) -> None:
    whole = TRACES / "spin_lock-gfx1100.gtrace"
    for paths in [[whole, damaged], [damaged, whole]] if name == "diff" else [[damaged]]:
        assert run([name, *map(str, paths)]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"gputrace: {damaged}: byte ")
        assert ": the checksum of the block's header is wrong" in line
        assert line.endswith(f": `gputrace repair {damaged}` saves the rest\n")


@pytest.mark.parametrize("suffix", ["txt", "html", "jsonl", "json"])
def test_export_writes_all_that_a_damaged_trace_still_holds(
    suffix: str, damaged: Path, tmp_path: Path, capsys: Capture
) -> None:
    damage("overlap-gfx1100.gtrace", damaged)
    out = tmp_path / f"out.{suffix}"
    assert run(["export", str(damaged), "-o", str(out)]) == 2
    line = capsys.readouterr().err
    assert line.endswith(f": `gputrace repair {damaged}` saves the rest\n")
    assert [one.name for one in tmp_path.iterdir()] == [damaged.name]
    assert run(["export", "--skip-damage", str(damaged), "-o", str(out)]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{out}: ")
    assert second.startswith("damaged: byte ")
    assert "transform" in out.read_text()
    assert run(["export", "--skip-damage", "--json", str(damaged), "-o", str(out)]) == 0
    first, *_ = json.loads(capsys.readouterr().out)["damage"]
    assert first["where"].startswith("byte ")


def test_diff_compares_all_that_a_damaged_trace_still_holds(
    damaged: Path, capsys: Capture
) -> None:
    whole = TRACES / "spin_lock-gfx1100.gtrace"
    pair = [str(whole), str(damaged)]
    assert run(["diff", "--skip-damage", *pair]) == 1
    lines = capsys.readouterr().out.splitlines()
    (counts,) = (line for line in lines if line.endswith("only in the second"))
    assert counts.endswith("packets only in the first, 0 only in the second")
    assert lines[lines.index(counts) + 1].startswith(f"{damaged}: damaged: byte ")
    assert run(["diff", "--skip-damage", "--json", *pair]) == 1
    assert list(json.loads(capsys.readouterr().out)["damage"]) == [str(damaged)]
    assert run(["diff", "--skip-damage", str(damaged), str(damaged)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("no difference in what can be read: ")
    assert all(line.startswith(f"{damaged}: damaged: ") for line in rest)


def test_what_no_repair_can_help_is_not_told_to_be_repaired(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "t.gtrace"
    path.write_bytes(b"this is no trace\n")
    assert run(["info", str(path)]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"gputrace: {path}: byte 0 (preamble): not a .gtrace file")
    assert "gputrace repair" not in line


@pytest.mark.parametrize("name", ["minimize", "bisect"])
def test_a_trace_cut_before_anything_was_submitted_is_no_failure(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "cut.gtrace"
    with TraceReader(TRACES / "deadlock-gfx1100.min.gtrace") as reader:
        writer = TraceWriter(path, reader.header)
        for event in takewhile(lambda one: not isinstance(one, DoorbellIntent), reader):
            if not isinstance(event, Header):
                writer.append(event)
        writer.flush()
        writer.abandon()
    assert run([name, str(path)]) == 2
    assert "the trace is cut before anything was submitted" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "choice", [["--queue", "99"], ["--packet", "9999"], ["--submission", "99"]]
)
def test_dump_of_what_is_not_there_is_an_error_as_text_and_as_json(
    choice: list[str], as_json: bool, tmp_path: Path, capsys: Capture
) -> None:
    more = ["--json"] if as_json else []
    whole = TRACES / "deadlock-gfx1100.min.gtrace"
    assert run(["dump", *choice, *more, str(whole)]) == 2
    assert capsys.readouterr().err == f"gputrace: {whole} has no such packet\n"
    part = cut("deadlock-gfx1100.min.gtrace", -100, tmp_path)
    assert run(["dump", *choice, *more, str(part)]) == 2
    line = f"gputrace: {part} has no such packet in what can be read of it\n"
    assert capsys.readouterr().err == line


def test_dump_tells_of_a_cut_beside_its_json(tmp_path: Path, capsys: Capture) -> None:
    path = cut("deadlock-gfx1100.min.gtrace", -100, tmp_path)
    assert run(["dump", "--json", str(path)]) == 0
    captured = capsys.readouterr()
    assert all(json.loads(line)["type"] for line in captured.out.splitlines())
    assert "incomplete" in captured.err


def test_diff_says_which_trace_is_incomplete(tmp_path: Path, capsys: Capture) -> None:
    whole = TRACES / "deadlock-gfx1100.gtrace"
    path = cut(whole.name, -100, tmp_path)
    for paths in ([whole, path], [path, whole]):
        assert run(["diff", *map(str, paths)]) == 0
        out = capsys.readouterr().out
        assert f"{path}: incomplete: the capture did not end in an orderly way" in out
        assert f"{whole}: incomplete" not in out
        assert run(["diff", "--json", *map(str, paths)]) == 0
        assert json.loads(capsys.readouterr().out)["incomplete"] == [str(path)]
    assert run(["diff", str(whole), str(whole)]) == 0
    assert "incomplete" not in capsys.readouterr().out


def test_a_replay_of_a_cut_trace_says_so(tmp_path: Path, capsys: Capture) -> None:
    whole = TRACES / "overlap-gfx1100.gtrace"
    path = cut(whole.name, 200_000, tmp_path)
    assert run(["replay", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("same: ")
    ended = [line for line in said if line.startswith("  trace     ")]
    assert ended[0].startswith("  trace     cut at byte ")
    assert ended[-1] == "  trace     incomplete: the capture did not end in an orderly way"
    assert run(["replay", "--json", str(path)]) == 0
    assert len(json.loads(capsys.readouterr().out)["incomplete"]) == len(ended)
    assert run(["replay", str(whole)]) == 0
    assert "  trace     " not in capsys.readouterr().out
