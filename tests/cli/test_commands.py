"""The commands that only look at a trace, and how the command line fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gputrace
from gputrace.cli import common
from gputrace.cli.main import COMMANDS, LazyGroup, cli, run
from tests.trace.samples import write_small


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gtrace"
    write_small(path)
    return path


def test_help_lists_every_command_and_imports_none() -> None:
    script = (
        "import sys; from gputrace.cli.main import run; run(['--help']);"
        "print([n for n in ('numpy', 'zstandard', 'llvmlite', 'rich', 'msgpack') if n in "
        "sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("[]\n")
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_is_there_and_takes_json(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(cli, LazyGroup)
    assert run([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_check_of_a_sound_trace(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(small)]) == 0
    assert "sound: every checksum" in capsys.readouterr().out
    assert run(["check", str(small), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["sound"] is True
    assert data["damage"] == []


def test_check_names_the_damaged_block(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(small.read_bytes())
    data[100] ^= 1
    small.write_bytes(data)
    assert run(["check", str(small)]) == 1
    out = capsys.readouterr().out
    assert "damaged: block 0 (events, byte 16): the checksum of the payload is wrong" in out


def test_info_says_what_a_trace_holds(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(small)]) == 0
    out = capsys.readouterr().out
    assert "gfx942" in out
    assert "1 DoorbellIntent" in out
    assert "hang queue 0 waits" in out
    assert "cannot be replayed: DbgTrap: the debugger is not modelled (1 times)" in out
    assert run(["info", "--json", str(small)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["complete"] is True
    assert data["kinds"]["Header"] == 1
    assert data["outcome"]["address"] == 0x7F00_0000_2000


def test_info_says_which_driver_and_firmware_served_the_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx942x2"):
        pass
    assert run(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "gfx942: emu:gfx942x2, 2 GPUs\n" in out
    version = f"gputrace {gputrace.__version__}, emulated, KFD 1.17, firmware MEC 166 SDMA 22"
    assert f"  versions     {version}\n" in out
    assert run(["info", "--json", str(path)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["firmware"] == {"MEC": [166], "SDMA": [22]}
    assert data["versions"]["kfd"] == "1.17"


def test_info_of_a_trace_that_is_older_than_versions(capsys: pytest.CaptureFixture[str]) -> None:
    older = Path(__file__).parents[1] / "trace" / "data" / "version1.gtrace"
    assert run(["info", str(older)]) == 0
    assert "  versions     not stated\n" in capsys.readouterr().out


def test_a_cut_trace_is_told_and_repaired(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = small.read_bytes()
    small.write_bytes(data[:-300])
    assert run(["check", str(small)]) == 1
    assert run(["info", str(small)]) == 0
    assert "incomplete" in capsys.readouterr().out
    assert run(["repair", str(small)]) == 0
    assert f"{small}.damaged: the file as it was" in capsys.readouterr().out
    assert Path(f"{small}.damaged").read_bytes() == data[:-300]
    assert run(["check", str(small)]) == 0
    assert run(["repair", "--json", "-o", str(small) + ".out", str(small)]) == 0
    assert "lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "/no/such/file"], "cannot read /no/such/file: No such file or directory"),
        (["check", "/dev/null/x"], "Not a directory"),
        (["check"], "Missing argument 'TRACE'. (see `gputrace check --help`)"),
        (["fly"], "No such command 'fly' (see `gputrace --help`)"),
        (["dmup", "x"], "No such command 'dmup'; did you mean 'dump'?"),
        (["info", "--nonsense", "x"], "--nonsense"),
        (["repair", __file__], "preamble): not a .gtrace file"),
    ],
)
def test_an_error_is_one_line_and_exit_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("gputrace: ")
    assert message in captured.err


def test_a_reader_of_our_output_may_go_away(small: Path) -> None:
    shell = f"{sys.executable} -m gputrace.cli.main info {small} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in {"0", "141"}


def test_info_counts_packets_of_a_small_trace_and_tells_provenance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx1100") as device:
        buffer = device.alloc(4096, name="b")
        buffer.write(b"abcd")
        queue = device.compute_queue()
        queue.write(buffer, b"efgh", 64)
        queue.synchronize(5.0)
    assert run(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "PM4 compute on GPU 0x" in out
    assert "1 WriteData" in out
    assert "written by the GPU, compared by a replay" in out
    assert "everything that was seen can be replayed" in out
    assert run(["info", "--json", "--no-packets", str(path)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["packets"] is None
    assert data["provenance"]["cpu"] > 0
    assert data["submissions"] == sum(queue["submissions"] for queue in data["queues"]) > 0


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_for_terminals_and_leaves_nothing_behind(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with common.progress() as tell:
        tell("first")
        tell("too soon after it")
    said = capsys.readouterr().err
    assert said == ("\r\x1b[Kfirst\r\x1b[K" if terminal else "")
