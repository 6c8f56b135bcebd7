"""Names in a trace are a stranger's: they do nothing on a terminal and nothing in a script."""

import ast
from pathlib import Path

import pytest

import gputrace
from gputrace.cli.main import run
from gputrace.driver import ProvenHang
from gputrace.errors import visible

Capture = pytest.CaptureFixture[str]
EVIL = '\x1b[2J"""\nevil = 1\n#\r\x9b\u202e\'\\'
COMMANDS = [
    ["info"], ["dump"], ["dump", "--events"], ["replay"], ["bisect"], ["minimize"],
    ["scrub", "--zero", "nobody"], ["check"],
]  # fmt: skip


def hang(path: Path) -> None:
    """Record a hang in which everything that can have a name has an evil one."""
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        queue, data = device.compute_queue("pm4"), device.alloc(4096, name=EVIL)
        for buffer in list(device.session.buffers.values()):
            if buffer.name.startswith("ring of "):
                where = buffer.address, buffer.size
                device.session.kfd.label(*where, "ring", f"ring of {EVIL}")
        queue.write(data, b"abcd")
        queue.wait(device.timeline(EVIL).at(1))
        queue.synchronize(1.0)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "t.gtrace"
    with pytest.raises(ProvenHang):
        hang(path)
    return path


def harmless(text: str) -> bool:
    inert = all(visible(line) == line for line in text.split("\n"))
    return inert and not any(line.startswith("evil") for line in text.split("\n"))


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_that_a_trace_says_works_on_a_terminal(
    command: list[str], trace: Path, capsys: Capture
) -> None:
    run([*command, str(trace)])
    captured = capsys.readouterr()
    assert "evil = 1" in captured.out + captured.err or command == ["check"]
    assert harmless(captured.out)
    assert harmless(captured.err)


@pytest.mark.parametrize("form", ["text", "html", "jsonl", "perfetto"])
def test_nor_in_what_is_written(form: str, trace: Path, tmp_path: Path) -> None:
    assert run(["export", str(trace), "--format", form, "-o", str(tmp_path / "out")]) == 0
    assert harmless((tmp_path / "out").read_text())


def test_nor_in_the_script_and_the_report_of_a_reduction(trace: Path, tmp_path: Path) -> None:
    assert run(["minimize", str(trace), "-o", str(tmp_path / "small.gtrace")]) == 0
    assert harmless((tmp_path / "small.txt").read_text())
    script = (tmp_path / "small.py").read_text()
    assert "evil" in script
    assert harmless(script)
    names = {node.id for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Name)}
    assert "evil" not in names


def test_what_is_hidden_is_shown() -> None:
    assert visible("a\tb\nc\x7f\x85\u2066é") == r"a\x09b\x0ac\x7f\x85\u2066é"
