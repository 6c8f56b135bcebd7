"""Bad input to any command is one clear line and exit status 2, never a traceback."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import gputrace
from gputrace.cli.main import COMMANDS, run

Capture = pytest.CaptureFixture[str]


def loaded(name: str) -> click.Command:
    command: click.Command = importlib.import_module(COMMANDS[name][0]).command
    return command


def takes_a_trace(name: str) -> bool:
    return any(parameter.name == "trace" for parameter in loaded(name).params)


# These replay what they can read of a trace, again and again: a few cuts are enough for them.
SLOW = ("minimize", "bisect")
MORE = {"export": ["-o", "/dev/null", "--format", "html"]}
"""What a command needs besides a trace."""
LOOKERS = [name for name in COMMANDS if takes_a_trace(name)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bad") / "t.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx1100") as device:
        buffer, queue = device.alloc(4096, name="b"), device.compute_queue()
        queue.write(buffer, b"abcd", 64)
        queue.synchronize(5.0)
    return path.read_bytes()


def refused(arguments: list[str], capsys: Capture) -> str:
    """Run a command that must fail, and give its one line; with --json it is an object too."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    if "--json" in arguments:
        told = json.loads(captured.out.splitlines()[-1])
        assert told == {"error": captured.err.strip().removeprefix("gputrace: "), "exit_code": 2}
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("gputrace: ")
    return captured.err


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", LOOKERS)
def test_a_trace_that_cannot_be_read_is_one_line(
    name: str, as_json: bool, tmp_path: Path, capsys: Capture
) -> None:
    more = [*MORE.get(name, []), *(["--json"] if as_json else [])]
    missing, folder, text = tmp_path / "no.gtrace", tmp_path, tmp_path / "text.gtrace"
    text.write_text("this is no trace\n" * 100)
    assert "No such file" in refused([name, str(missing), *more], capsys)
    assert str(folder) in refused([name, str(folder), *more], capsys)
    assert "not a .gtrace file" in refused([name, str(text), *more], capsys)
    pipe = tmp_path / "pipe.gtrace"
    os.mkfifo(pipe)
    for strange in (str(pipe), "/dev/null"):
        line = refused([name, strange, *more], capsys)
        assert f"cannot read {strange}: it is not a regular file" in line


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_wrong_arguments_are_one_line_that_names_the_help(name: str, capsys: Capture) -> None:
    line = refused([name, "--no-such-option"], capsys)
    assert f"gputrace {name} --help" in line or "--no-such-option" in line
    required = [p for p in loaded(name).params if isinstance(p, click.Argument) and p.required]
    if required:
        assert "Missing argument" in refused([name, *MORE.get(name, [])], capsys)
    if name in LOOKERS:
        extra = [name, "a", "b", "c", *MORE.get(name, [])]
        assert "unexpected extra argument" in refused(extra, capsys)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (name, size)
        for name in LOOKERS
        for size in (0, 5, 12, 40, 0.1, 0.5, 0.95)[: 4 if name in SLOW else None]
    ],
)
def test_a_cut_trace_gives_a_result_or_one_line(
    name: str, size: float, recorded: bytes, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "cut.gtrace"
    path.write_bytes(recorded[: int(size if size >= 1 else size * len(recorded))])
    status = run([name, str(path), *MORE.get(name, [])])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    if status == 2:
        assert captured.err.count("\n") == 1, captured.err
    elif name in ("info", "check", "dump"):
        assert "cut" in captured.out


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (name, place)
        for name in LOOKERS
        for place in (3, 30, 80, 0.3, 0.7, 0.99)[: 3 if name in SLOW else None]
    ],
)
def test_a_damaged_trace_gives_a_result_or_one_line(
    name: str, place: float, recorded: bytes, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "damaged.gtrace"
    data = bytearray(recorded)
    data[int(place if place >= 1 else place * len(data))] ^= 0x20
    path.write_bytes(data)
    status = run([name, str(path), *MORE.get(name, [])])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    if status == 2:
        assert captured.err.count("\n") == 1, captured.err
    if name == "check":
        assert status != 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--packet", "x"], "expected a packet's number, or queue:number such as 0:12"),
        (["--packet", "1:"], "expected a packet's number"),
        (["--packet", "-1"], "expected a packet's number"),
        (["--queue", "1", "--packet", "0:1"], "--queue 1 and --packet 0:1 disagree"),
        (["--packet", "99999"], "has no such packet"),
        (["--submission", "99999"], "has no such packet"),
        (["--queue", "x"], "'x' is not a valid integer"),
    ],
)
def test_dump_says_what_is_wrong_with_a_choice(
    arguments: list[str], message: str, recorded: bytes, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "t.gtrace"
    path.write_bytes(recorded)
    assert message in refused(["dump", str(path), *arguments], capsys)


def test_a_reader_that_goes_away_is_no_error(recorded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    path.write_bytes(recorded)
    tool = f"{sys.executable} -m gputrace.cli.main dump --events {path}"
    shell = f"{tool} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in {"0", "141"}


@pytest.mark.parametrize("suffix", [".py", ".txt"])
def test_minimize_loses_no_file_beside_its_result(
    suffix: str, recorded: bytes, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "t.gtrace").write_bytes(recorded)
    own = (tmp_path / "small.gtrace").with_suffix(suffix)
    own.write_text("print('written by hand')\n")
    line = refused(
        ["minimize", str(tmp_path / "t.gtrace"), "-o", str(tmp_path / "small.gtrace")], capsys
    )
    assert str(own) in line
    assert own.read_text() == "print('written by hand')\n"


@pytest.mark.parametrize("device", ["emu:gfx000", "gpu:0", "emu:gfx942x99"])
def test_a_demo_of_no_device_makes_nothing(device: str, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "demo"
    refused(["demo", "--device", device, "-o", str(folder)], capsys)
    assert not folder.exists()
