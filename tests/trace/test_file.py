"""Whole files: what was written comes back, cut, flipped and hostile files are handled as said."""

import errno
import os
import random
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from gputrace.errors import TraceError, UsageError
from gputrace.trace import TraceReader, TraceWriter, check, repair
from gputrace.trace import events as ev
from gputrace.trace.blocks import (
    HEADER_SIZE,
    BlockKind,
    number_tag,
    pack_block,
    tag_numbers,
)
from gputrace.trace.reader import BlockReader, Scan
from tests.trace.samples import HEADER, OUTCOME, write_small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "small.gtrace"
    write_small(path)
    return path


def contents(path: Path, *, skip_damage: bool = False) -> list[object]:
    """Read everything that a replay would read."""
    with TraceReader(path, skip_damage=skip_damage) as reader:
        result: list[object] = []
        for event in reader:
            result.append(event)
            if isinstance(event, ev.Memory) or (isinstance(event, ev.Digest) and event.stored):
                result.append(reader.memory(event))
        return result


def test_events_and_memory_come_back(tmp_path: Path) -> None:
    given = write_small(tmp_path / "t.gtrace")
    rng = random.Random(1)
    with TraceReader(tmp_path / "t.gtrace") as reader:
        events = list(reader)
        assert events[: len(given)] == given
        assert events[-1] == OUTCOME
        memory = {e.address: reader.memory(e) for e in events if isinstance(e, ev.Memory)}
        digest = next(e for e in events if isinstance(e, ev.Digest) and e.stored)
        assert reader.memory(digest) == b"result" * 50
        assert len(reader) == len(events)
        assert reader.trailer is not None
        assert sum(reader.trailer.kinds.values()) == len(events)
        assert reader.trailer.outcome["packet"] == 12
        assert [reader.event(n) for n in range(len(events))] == events
        with pytest.raises(IndexError):
            reader.event(len(events))
    assert memory[0x1000_0000] == bytes(100)
    assert memory[0x1000_4000] == rng.randbytes(300) * 60
    assert memory[0x1001_0000] == bytes(70_000)


def test_a_sound_trace_passes_the_check(small: Path) -> None:
    report = check(small)
    assert report.sound
    assert report.damage == []
    assert report.torn is None


def test_each_chunk_is_stored_once(tmp_path: Path) -> None:
    page = random.Random(2).randbytes(1 << 16)
    path = tmp_path / "t.gtrace"
    with TraceWriter(path, HEADER) as writer:
        for number in range(20):
            writer.memory(number << 16, page, "cpu")
    assert path.stat().st_size < 2 * len(page)
    assert check(path).chunks == 1


def test_memory_longer_than_one_event_holds_becomes_several(tmp_path: Path) -> None:
    size = (1 << 26) + 12345
    with TraceWriter(tmp_path / "t.gtrace", HEADER) as writer:
        writer.memory(0x8000, bytes(size), "cpu")
    with TraceReader(tmp_path / "t.gtrace") as reader:
        memories = [event for event in reader if isinstance(event, ev.Memory)]
        assert len(memories) == 2
        assert sum(memory.size for memory in memories) == size
        assert memories[1].address == memories[0].address + memories[0].size
        assert {(a + len(d)) % 65536 for m in memories for a, d in reader.pieces(m)} == {
            0, (0x8000 + size) % 65536
        }  # fmt: skip


def sample(size: int) -> list[int]:
    """Give 500 of the places below `size`, the first and the last among them."""
    places = random.Random(size).sample(range(size), min(size, 500))
    return sorted({0, size - 1, *places})


def event_blocks(path: Path) -> list[tuple[int, int]]:
    file = BlockReader(path)
    try:
        return [
            (h.end, sum(tag_numbers(h.tag)[:2])) for h in Scan(file) if h.kind is BlockKind.EVENTS
        ]
    finally:
        file.close()


def test_a_file_cut_at_any_byte_yields_every_event_before_the_cut_block(
    small: Path, tmp_path: Path
) -> None:
    data, whole, blocks = small.read_bytes(), contents_events(small), event_blocks(small)
    path = tmp_path / "cut.gtrace"
    for cut in sample(len(data)):  # the campaign takes every byte
        path.write_bytes(data[:cut])
        with TraceReader(path) as reader:
            expected = max((count for end, count in blocks if end <= cut), default=0)
            assert list(reader) == whole[:expected], f"cut at byte {cut}"
            assert len(reader) == expected
            assert not reader.complete


def contents_events(path: Path) -> list[ev.Event]:
    with TraceReader(path) as reader:
        return list(reader)


def test_zeros_at_the_end_count_as_a_cut(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    end, count = event_blocks(small)[2]
    path = tmp_path / "zeros.gtrace"
    path.write_bytes(data[:end] + bytes(1000))
    with TraceReader(path) as reader:
        assert len(list(reader)) == count
        assert reader.torn is not None
        assert reader.torn.size == 1000


def test_every_flipped_byte_is_detected_or_harmless(small: Path, tmp_path: Path) -> None:
    whole, data = contents(small), small.read_bytes()
    path = tmp_path / "flip.gtrace"
    rng = random.Random(3)
    for at in sample(len(data)):  # the campaign takes every bit of every byte
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with suppress(TraceError):
            assert contents(path) == whole, f"flip at byte {at}"
        assert not looks_sound(path), f"flip at byte {at}"


def looks_sound(path: Path) -> bool:
    try:
        return check(path).sound
    except TraceError:
        return False


def test_flips_in_a_trace_without_a_trailer_are_detected(small: Path, tmp_path: Path) -> None:
    end, count = event_blocks(small)[3]
    data = small.read_bytes()[:end]
    path = tmp_path / "flip.gtrace"
    for at in sample(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(TraceError):
            contents(path)
    path.write_bytes(data)
    assert len(contents_events(path)) == count


def test_damage_is_skipped_only_when_asked(small: Path, tmp_path: Path) -> None:
    data = bytearray(small.read_bytes())
    (_, before), (end, after) = event_blocks(small)[1:3]
    data[end - 1] ^= 1
    path = tmp_path / "damaged.gtrace"
    path.write_bytes(data)
    with pytest.raises(TraceError, match=r"block \d+ \(events, byte \d+\): the checksum"):
        contents(path)
    whole = contents_events(small)
    with TraceReader(path, skip_damage=True) as reader:
        assert list(reader) == whole[:before] + whole[after:]
        assert any("checksum" in damage.reason for damage in reader.damage)
        assert reader.torn is None


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9, 1.0])
def test_repair_makes_a_cut_trace_complete(small: Path, tmp_path: Path, cut: float) -> None:
    data = small.read_bytes()
    size = int(len(data) * cut)
    path = tmp_path / "cut.gtrace"
    path.write_bytes(data[:size])
    events = contents_events(path)
    result = repair(path)
    assert result.events == len(events)
    assert contents_events(path) == events
    report = check(path)
    assert report.sound, report.damage
    assert {path, *(Path(one) for one in [result.kept] if one)} == set(tmp_path.iterdir())


def test_repair_leaves_damage_out_and_says_what_is_lost(small: Path, tmp_path: Path) -> None:
    data = bytearray(small.read_bytes())
    (_, before), (end, after) = event_blocks(small)[1:3]
    data[end - 1] ^= 1
    path = tmp_path / "damaged.gtrace"
    path.write_bytes(data)
    result = repair(path, tmp_path / "out.gtrace")
    whole = contents_events(small)
    assert result.lost == after - before
    assert result.events == len(whole) - result.lost
    assert result.outcome == "hang"
    assert contents_events(tmp_path / "out.gtrace") == whole[:before] + whole[after:]
    assert check(tmp_path / "out.gtrace").sound
    assert path.read_bytes() == data


def test_a_repair_in_place_keeps_a_file_of_which_it_leaves_something_out(
    small: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.gtrace"
    whole, (end, _) = small.read_bytes(), event_blocks(small)[2]
    damaged = whole[: end - 1] + bytes([whole[end - 1] ^ 1]) + whole[end:]
    cut = whole[: end + 5]
    for number, data in enumerate((damaged, cut, whole[:end], whole)):
        path.write_bytes(data)
        result = repair(path, path if number == 1 else None)
        assert check(path).sound
        names = ["t.gtrace.damaged", "t.gtrace.damaged-2"]
        assert result.kept == (str(tmp_path / names[number]) if number < 2 else "")
        assert sorted(one.name for one in tmp_path.glob("t.gtrace.*")) == names[: number + 1]
    assert (tmp_path / "t.gtrace.damaged").read_bytes() == damaged
    assert (tmp_path / "t.gtrace.damaged-2").read_bytes() == cut


def test_a_repair_under_another_name_leaves_the_file_where_it_is(
    small: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.gtrace"
    path.write_bytes(small.read_bytes()[:-100])
    result = repair(path, tmp_path / "out.gtrace")
    assert result.torn is not None
    assert not result.kept
    assert path.read_bytes() == small.read_bytes()[:-100]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.gtrace", "t.gtrace"]


def test_a_repair_keeps_the_file_where_no_links_can_be_made(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr("os.link", refused)
    path = tmp_path / "t.gtrace"
    for number in (1, 2):
        path.write_bytes(small.read_bytes()[:-100])
        assert repair(path).kept
        assert len(list(tmp_path.glob("t.gtrace.damaged*"))) == number


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("room", [1000, 10_000, 70_000])
def test_a_full_disk_ends_a_trace_after_a_whole_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, lenient: bool
) -> None:
    path, reasons, writev = tmp_path / "t.gtrace", list[str](), os.writev

    def limited(fd: int, parts: Sequence[bytes]) -> int:
        left = room - os.fstat(fd).st_size
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return writev(fd, [memoryview(b"".join(parts))[:left]])

    monkeypatch.setattr("os.writev", limited)
    monkeypatch.setattr("os.write", lambda fd, data: limited(fd, [data]))
    with pytest.raises(UsageError, match="No space left") if not lenient else nullcontext():
        writer = TraceWriter(path, HEADER, failing=reasons.append if lenient else None)
        for number in range(500):
            writer.memory(number << 12, random.Random(number).randbytes(300), "cpu")
            writer.intent(number, 0, 0x1000, number)
            writer.done(number, 0)
        writer.close()
    assert reasons == [f"cannot write {path}: No space left on device"] * lenient
    with TraceReader(path) as reader:
        assert (reader.complete, reader.torn) == (False, None)
        rung = [one.submission for one in reader if isinstance(one, ev.DoorbellIntent)]
    assert rung == list(range(len(rung)))
    assert room - 1000 < path.stat().st_size <= room


def test_nothing_to_repair_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    path.write_bytes(b"\x89gtrace\n")
    with pytest.raises(UsageError, match="nothing to repair"):
        repair(path)
    assert list(tmp_path.iterdir()) == [path]


def test_keyframes_give_the_state_that_the_events_give(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    rng = random.Random(4)
    with TraceWriter(path, HEADER) as writer:
        for number in range(20_000):
            address = rng.randrange(64) << 16
            made = ev.Map(address, 4096, "kfd", number, 3)
            writer.append(made if rng.random() < 0.6 else ev.Unmap(address, 4096))
    with TraceReader(path) as reader:
        assert len(reader._index.keyframes) >= 4
        events = list(reader)
        for number in (0, 1, 4096, 9999, 19_999, 20_001):
            live: dict[int, ev.Map] = {}
            for event in events[:number]:
                if isinstance(event, ev.Map):
                    live[event.address] = event
                elif isinstance(event, ev.Unmap):
                    live.pop(event.address, None)
            assert reader.state_at(number).maps == live
    assert check(path).sound


def test_a_flush_before_a_doorbell_reaches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    writer = TraceWriter(path, HEADER)
    intent = ev.DoorbellIntent(0, 0, 0x1000, 1)
    writer.memory(0, b"packet", "cpu")
    writer.append(intent)
    writer.flush(intent=True)
    with TraceReader(path) as reader:
        assert list(reader)[-1] == intent
    writer.append(ev.DoorbellDone(0, 0))
    writer.abandon()
    with TraceReader(path) as reader:
        assert list(reader)[-1] == intent
        assert not reader.complete
        assert reader.torn is None


@pytest.mark.parametrize("done", [False, True])
def test_index_and_keyframes_are_written_though_every_flush_is_for_a_doorbell(
    tmp_path: Path, done: bool
) -> None:
    path = tmp_path / "t.gtrace"
    count = 40_000
    with TraceWriter(path, HEADER) as writer:
        for number in range(count):
            writer.append(ev.DoorbellIntent(number, 0, 0x1000, number))
            writer.flush(intent=True)
            if done:
                writer.append(ev.DoorbellDone(number, 0))
    assert check(path).sound
    with TraceReader(path) as reader:
        assert len(reader._index.keyframes) >= 8
        middle = reader.event(count // 2)
        assert isinstance(middle, ev.DoorbellIntent | ev.DoorbellDone)


def test_a_durable_writer_syncs_before_the_doorbell_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fdatasync", synced.append)
    for durable in (False, True):
        with TraceWriter(tmp_path / "t.gtrace", HEADER, durable=durable) as writer:
            writer.append(ev.DoorbellIntent(0, 0, 0x1000, 1))
            writer.flush(intent=True)
            assert len(synced) == durable
            writer.flush()
            assert len(synced) == durable
    with TraceReader(tmp_path / "t.gtrace") as reader:
        assert reader.header.durable


def test_a_full_disk_is_one_error_and_ends_the_writing() -> None:
    with pytest.raises(UsageError, match="cannot write /dev/full: No space left"):
        TraceWriter("/dev/full", HEADER)


def test_files_that_are_no_trace_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    for data in (b"\x7fELF" + bytes(100), bytes(10)):
        path.write_bytes(data)
        with pytest.raises(TraceError, match="preamble"):
            TraceReader(path)
    with pytest.raises(UsageError, match="No such file"):
        TraceReader(tmp_path / "missing")
    with pytest.raises(UsageError, match="it is not a regular file"):
        TraceReader(tmp_path)


@pytest.mark.parametrize("offset", [0, 3, 2**62, 2**63, 2**64 - 1])
def test_an_end_block_that_points_nowhere_is_damage(
    small: Path, tmp_path: Path, offset: int
) -> None:
    data = small.read_bytes()[:-HEADER_SIZE]
    head, _ = pack_block(BlockKind.END, b"", check(small).blocks - 1, number_tag(offset))
    path = tmp_path / "t.gtrace"
    path.write_bytes(data + head)
    with pytest.raises(TraceError):
        TraceReader(path)
    assert not check(path).sound
    assert repair(path).lost == 0
    assert check(path).sound
