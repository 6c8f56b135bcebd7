"""Traces that were made to do harm are refused or shown in part, within bounded memory."""

import tracemalloc
from pathlib import Path

import pytest

from gputrace.errors import TraceError
from gputrace.formats.ioctl import QueueType
from gputrace.report.text import TextView
from gputrace.trace import events as ev
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

BASE = 0x7F00_0000_0000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.gtrace"


def shown(path: Path) -> list[str]:
    with TraceReader(path) as reader:
        return list(TextView(reader))


def write(path: Path, *events: ev.Event) -> None:
    with TraceWriter(path, ev.Header("test", family="gfx942")) as writer:
        for event in events:
            writer.append(event)


def test_memory_that_expands_without_end_is_a_bomb(path: Path) -> None:
    data = bytes(1 << 19)
    with TraceWriter(path, ev.Header("test")) as writer:
        for number in range(60):
            writer.append(ev.Memory(BASE + (number << 20), "cpu", data))
    assert path.stat().st_size < 40_000
    tracemalloc.start()
    with pytest.raises(TraceError, match="256 times the file come out"):
        shown(path)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_a_chunk_that_claims_any_size_is_refused(path: Path) -> None:
    for size in (1 << 62, 0, -5, (1 << 16) + 1):
        write(path, ev.Memory(BASE, "cpu", b"", (ev.Chunk(bytes(16), size),)))
        with pytest.raises(TraceError, match=r"a chunk with its hash|trailer counts"):
            shown(path)


@pytest.mark.parametrize("bits", [-1, 0, 1 << 62, 63])
def test_a_doorbell_of_any_width_is_shown_as_wrong(path: Path, bits: int) -> None:
    ring = ev.QueueMap(0, 1, QueueType.COMPUTE, BASE, 4096, 0, 0, 0)
    write(path, ring, ev.DoorbellIntent(1, 0, 0, 4, bits))
    assert f"  ?? a doorbell of {bits} bits" in shown(path)


@pytest.mark.parametrize("size", [-1, 0, 1 << 63, 4096])
@pytest.mark.parametrize("value", [-1, 1 << 63, 17])
@pytest.mark.parametrize("kind", [-1, 0, 1, 2, 99])
def test_queues_of_any_shape_do_no_harm(path: Path, size: int, value: int, kind: int) -> None:
    ring = ev.QueueMap(0, 1, kind, BASE, size, 0, 0, 0)
    mapped = ev.Map(BASE, 1 << 62, "fd:3", 0, 3)
    write(path, mapped, ring, ev.DoorbellIntent(1, 0, 0, value))
    assert shown(path)


def test_names_are_kept_in_bounds(path: Path) -> None:
    write(path, ev.Name(BASE, 64, "buffer", "n" * 100_000), ev.HostStore(BASE, b"\x01"))
    assert max(map(len, shown(path))) < 300
    assert shown(path)[-1] == "cpu stored 01 at " + "n" * 200
