"""The forms in which a trace is exported agree with what it holds."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

import gputrace
from gputrace.cli.main import run
from gputrace.driver import ProvenHang
from gputrace.report.html import html_lines
from gputrace.report.text import TextView
from gputrace.report.timeline import QUEUES, timeline_lines
from gputrace.submitted.stream import submissions
from gputrace.trace import events as ev
from gputrace.trace.reader import TraceReader

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def hang(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "hang.gtrace"

    def program() -> None:
        with gputrace.open("emu:gfx1100") as device:
            buffer = device.alloc(4096, name="a <b> & c")
            queue, gate = device.compute_queue("pm4"), device.timeline("gate")
            for turn in range(3):
                queue.write(buffer, b"abcd", 4 * turn)
            queue.synchronize(5.0)
            queue.wait(gate.at(1))
            queue.signal().wait(1.0)

    with pytest.raises(ProvenHang), gputrace.record(path):
        program()
    return path


class Page(HTMLParser):
    """Collects the texts of lines and their classes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, str]] = []
        self.open = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "p":
            self.lines.append((given.get("class") or "", given.get("id") or "", ""))
        self.open += tag == "details" and "open" in given

    def handle_data(self, data: str) -> None:
        if self.lines:
            kind, name, text = self.lines.pop()
            self.lines.append((kind, name, text + data))


def test_the_page_holds_every_line_and_opens_where_the_run_ended(hang: Path) -> None:
    with TraceReader(hang) as reader:
        outcome = next(event for event in reader if isinstance(event, ev.Outcome))
        page = Page("\n".join(html_lines(reader, "a <title>", outcome)))
        expected = [line for line in TextView(reader, outcome=outcome) if "submission" not in line]
    texts = [text for _, _, text in page.lines]
    assert [text.split("\n")[0] for text in texts] == expected
    (ended,) = [name for kind, name, _ in page.lines if kind == "end"]
    assert ended == f"q{outcome.queue}-{outcome.packet}"
    assert page.open == 1
    assert any("WriteData(address=a <b> & c+0x8" in text for text in texts)


def test_the_timeline_has_a_slice_for_each_submission(hang: Path) -> None:
    with TraceReader(hang) as reader:
        made = list(submissions(reader))
        text = "\n".join(timeline_lines(reader))
    objects = json.loads(text)["traceEvents"]
    begun = [one for one in objects if one["ph"] == "b"]
    ended = {one["id"]: one for one in objects if one["ph"] == "e"}
    assert len(begun) == len(made) == len(ended)
    assert [one["args"]["count"] for one in begun] == [len(one.packets) for one in made]
    assert all(ended[one["id"]]["ts"] >= one["ts"] for one in begun)
    fetched = [one["args"]["fetched"] for one in begun]
    assert fetched[0]
    assert not fetched[-1]  # the wait that held the queue
    names = {one["args"]["name"] for one in objects if one["ph"] == "M" and one["pid"] == QUEUES}
    assert "queue 0: PM4 compute" in names


@pytest.mark.parametrize("suffix", [".txt", ".html", ".jsonl", ".json"])
def test_the_suffix_chooses_the_form(hang: Path, suffix: str, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix}"
    assert run(["export", str(hang), "-o", str(output)]) == 0
    text = output.read_text()
    assert "WriteData" in text
    assert text.endswith("\n")
    if suffix == ".jsonl":
        assert all(json.loads(line) for line in text.splitlines())


def test_an_export_never_writes_over_its_trace(hang: Path, capsys: Capture) -> None:
    before = hang.read_bytes()
    assert run(["export", str(hang), "-o", str(hang), "--format", "text"]) == 2
    assert "is the trace itself" in capsys.readouterr().err
    assert hang.read_bytes() == before
    assert run(["export", str(hang), "-o", "x.pdf"]) == 2
    assert "expected a name that ends with .txt" in capsys.readouterr().err
