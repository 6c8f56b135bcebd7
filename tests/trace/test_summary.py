"""The numbers in a trailer are those that reading the events gives."""

from pathlib import Path

import pytest

from gputrace.trace import TraceReader, repair
from gputrace.trace import events as ev
from gputrace.trace.summary import Summary
from gputrace.trace.writer import TraceWriter
from tests.trace.samples import write_small


def by_reading(path: Path) -> Summary:
    summary = Summary()
    with TraceReader(path) as reader:
        for event in reader:
            summary.apply(event)
    return summary


def in_trailer(path: Path) -> Summary:
    with TraceReader(path) as reader:
        assert reader.trailer is not None
        summary = Summary.unpack(reader.trailer.summary)
    assert summary is not None
    return summary


def test_the_trailer_says_what_the_events_say_also_after_a_repair(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    write_small(path)
    expected = by_reading(path).pack()
    assert in_trailer(path).pack() == expected
    path.write_bytes(path.read_bytes()[:-300])
    repair(path)
    assert in_trailer(path).pack() == by_reading(path).pack()


def test_queues_are_told_apart_when_their_ids_come_again(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    with TraceWriter(path, ev.Header("test")) as writer:
        for kind, rings in ((0, 2), (1, 1)):
            writer.append(ev.QueueMap(5, 1, kind, 0x1000, 4096, 0, 0, 0))
            for _ in range(rings):
                writer.append(ev.DoorbellIntent(1, 5, 0, 1))
            writer.append(ev.QueueMap(5, 1, kind, 0, 0, 0, 0, 0, live=False))
        writer.append(ev.DoorbellIntent(1, 5, 0, 1))
        for _ in range(3):
            writer.append(ev.Unsupported("DbgTrap", "not modelled"))
        writer.memory(0x1000, b"abc", "unknown")
        writer.digest(0x1000, bytes(100), unstable=True)
    summary = in_trailer(path)
    assert [(one["type"], one["submissions"]) for one in summary.queues] == [(0, 2), (1, 1)]
    assert summary.unsupported == {("DbgTrap", "not modelled"): 3}
    assert summary.memory == {"unknown": 3, "unstable": 100}


@pytest.mark.parametrize(
    "change",
    [
        {"memory": []}, {"memory": {"cpu": "x"}}, {"queues": [{}]}, {"queues": [3]},
        {"unsupported": [[1, 2, 3]]}, {"cost": 1}, {"windowed": 0}, {"part": 3}, {"part": [["x"]]},
    ],
)  # fmt: skip
def test_a_summary_that_nobody_wrote_is_none(change: dict[str, object]) -> None:
    assert Summary.unpack(Summary().pack()) is not None
    assert Summary.unpack(Summary().pack() | change) is None


def test_a_summary_of_before_parts_were_told_says_nothing_of_them() -> None:
    older = Summary().pack()
    del older["part"]
    summary = Summary.unpack(older)
    assert summary is not None
    assert summary.part == []


def test_a_checkpoint_that_lacks_something_is_told_as_what_cannot_be_replayed() -> None:
    summary = Summary()
    summary.apply(ev.Checkpoint(0))
    assert not summary.unsupported
    summary.apply(ev.Checkpoint(0, (), False, "queue 0 is not idle"))
    assert summary.unsupported == {("checkpoint", "queue 0 is not idle"): 1}


def test_memory_counts_the_same_by_event_and_by_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "a.gtrace", tmp_path / "b.gtrace"
    with TraceWriter(one, ev.Header("test")) as writer:
        writer.memory(0x1000, b"abc", "cpu")
        writer.memory(0x10000, bytes(70_000), "unknown")
    with TraceReader(one) as reader, TraceWriter(two, ev.Header("test")) as writer:
        for event in reader:
            if isinstance(event, ev.Memory):
                writer.append(event)
    trailers = []
    for path in (one, two):
        with TraceReader(path) as reader:
            assert reader.trailer is not None
            trailers.append((reader.trailer.memory, reader.trailer.summary["memory"]))
    assert trailers == [(70_003, {"cpu": 3, "unknown": 70_000})] * 2
