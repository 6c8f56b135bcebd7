"""Files whose every checksum is right and whose parts contradict one another."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from gputrace.errors import TraceError, UsageError
from gputrace.trace import events as ev
from gputrace.trace import writer as writing
from gputrace.trace.blocks import (
    HEADER_SIZE,
    BlockHeader,
    BlockKind,
    number_tag,
    pack_block,
    tag_numbers,
)
from gputrace.trace.check import check
from gputrace.trace.chunks import describe
from gputrace.trace.codec import MAX_ITEMS, decode, encode
from gputrace.trace.index import CHUNK_ENTRY, Index, Trailer
from gputrace.trace.reader import BlockReader, Scan, TraceReader
from gputrace.trace.repair import repair
from gputrace.trace.state import State
from gputrace.trace.summary import Summary
from gputrace.trace.writer import BlockFile, TraceWriter, append_index, finish
from tests.trace.samples import HEADER, OUTCOME, every_kind, write_small

RIGHT, OTHER = bytes(range(256)) * 80, bytes(20480)
STORED = ev.Memory(0x1000, "cpu", b"", (describe(RIGHT),))


class Lying:
    """A file that is put together block by block."""

    def __init__(self, path: Path) -> None:
        self.path, self.index, self.events = path, Index(), 0
        self.file = BlockFile(path, level=0)
        self.add(HEADER)

    def add(self, *given: ev.Event, count: int | None = None, first: int | None = None) -> None:
        """Add a block of events, with numbers of its own if given."""
        start = self.events if first is None else first
        tag = number_tag(start, len(given) if count is None else count)
        body = b"".join(map(encode, given))
        self.index.events.extend((self.file.append(BlockKind.EVENTS, body, tag), start))
        self.events = start + len(given)

    def chunk(self, name: bytes, body: bytes, *, listed: bool = True) -> None:
        """Add a chunk under a name."""
        offset = self.file.append(BlockKind.CHUNK, body, name)
        if listed:
            self.index.chunks += CHUNK_ENTRY.pack(name, offset)

    def end(self, **changes: object) -> None:
        """Write index and trailer, with changes to the trailer."""
        last = append_index(self.file, self.index, 0)
        counts = {"Header": 1, "Memory": self.events - 1} if self.events > 1 else {"Header": 1}
        trailer = Trailer(self.events, self.file.sequence, last, counts, {})
        finish(self.file, replace(trailer, **changes))


@pytest.fixture
def lying(tmp_path: Path) -> Lying:
    return Lying(tmp_path / "lie.gtrace")


def read(path: Path) -> None:
    """Read all events and all memory of a trace."""
    with TraceReader(path) as reader:
        for event in reader:
            if isinstance(event, ev.Memory):
                reader.memory(event)


def reasons(path: Path) -> str:
    """Return what a check finds wrong."""
    return "\n".join(damage.reason for damage in check(path).damage)


def test_what_is_put_together_like_this_is_sound_without_a_lie(lying: Lying) -> None:
    lying.chunk(describe(RIGHT).digest, RIGHT)
    lying.add(STORED)
    lying.end()
    assert check(lying.path).sound
    read(lying.path)


def test_a_chunk_that_is_not_what_its_name_says(lying: Lying) -> None:
    lying.chunk(describe(RIGHT).digest, OTHER)
    lying.add(STORED)
    lying.end()
    with pytest.raises(TraceError, match="its content is not that of chunk"):
        read(lying.path)
    assert "the content hash is wrong" in reasons(lying.path)


def test_a_chunk_that_is_not_there(lying: Lying) -> None:
    lying.add(STORED)
    lying.end()
    with pytest.raises(TraceError, match="the file does not hold it"):
        read(lying.path)
    assert "which is not there" in reasons(lying.path)


def test_a_chunk_that_the_index_leaves_out(lying: Lying) -> None:
    lying.chunk(describe(RIGHT).digest, RIGHT, listed=False)
    lying.add(STORED)
    lying.end()
    assert "the index does not agree" in reasons(lying.path)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_block_that_holds_other_events_than_it_says(lying: Lying, count: int) -> None:
    lying.add(ev.Memory(0, "cpu", b"1"), ev.Memory(1, "cpu", b"2"), count=count)
    lying.end()
    with pytest.raises(TraceError, match=f"2 events from 1, not {count}"):
        read(lying.path)
    assert "the count of events is wrong" in reasons(lying.path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"events": 7}, "the count of events"), ({"kinds": {"Header": 2}}, "the counts of kinds"),
     ({"last_index": 16}, "the last index")],
)  # fmt: skip
def test_a_trailer_that_counts_otherwise(
    lying: Lying, changes: dict[str, object], reason: str
) -> None:
    lying.end(**changes)
    assert f"{reason} does not agree with the blocks" in reasons(lying.path)


def test_event_numbers_that_go_back_are_no_events_to_keep(lying: Lying, tmp_path: Path) -> None:
    kept = ev.Memory(0, "cpu", b"kept")
    lying.add(kept)
    lying.add(ev.Memory(0, "cpu", b"again"), first=1)
    lying.file.close()
    with pytest.raises(TraceError, match="the next event is number 1"):
        read(lying.path)
    done = repair(lying.path, tmp_path / "new.gtrace")
    assert len(done.damage) == 1
    with TraceReader(tmp_path / "new.gtrace") as reader:
        assert list(reader)[1:] == [kept]


def test_blocks_out_of_their_order(lying: Lying) -> None:
    head, stored = pack_block(BlockKind.EVENTS, encode(OUTCOME), 5, number_tag(1, 1), 0)
    lying.file.append_raw(head, stored)
    lying.file.close()
    with pytest.raises(TraceError, match="block 1 was expected here"):
        read(lying.path)
    assert "block 1 was expected here" in reasons(lying.path)


def test_an_index_that_follows_itself(lying: Lying) -> None:
    at = lying.file.offset
    assert append_index(lying.file, lying.index, at) == at
    finish(lying.file, Trailer(1, 2, at, {"Header": 1}, {}))
    with pytest.raises(TraceError, match="does not go back"):
        read(lying.path)


def test_an_index_of_more_blocks_than_the_file_could_hold(lying: Lying) -> None:
    lying.index.events.extend((16, 1) * 100)
    lying.end()
    with pytest.raises(TraceError, match=r"101 index entries do not fit"):
        read(lying.path)


@pytest.mark.parametrize("count", [-1, (1 << 62) + 1])
def test_a_trailer_that_counts_beyond_all_bounds(lying: Lying, count: int) -> None:
    lying.end(events=count)
    with pytest.raises(TraceError, match="the trailer counts up to"):
        read(lying.path)


def test_something_between_the_trailer_and_the_end(lying: Lying) -> None:
    last = append_index(lying.file, lying.index, 0)
    at = lying.file.append(BlockKind.TRAILER, Trailer(1, 2, last, {"Header": 1}, {}).pack())
    lying.chunk(describe(RIGHT).digest, RIGHT)
    lying.file.append(BlockKind.END, b"", number_tag(at))
    lying.file.close()
    with pytest.raises(TraceError, match="the end block does not follow the trailer"):
        read(lying.path)


@pytest.mark.parametrize("value", [1.0, True, "1", b"1", None, [1], {}])
def test_numbers_are_numbers_in_every_event(value: object) -> None:
    tried = 0
    for event in [*every_kind(), HEADER, OUTCOME]:
        (plain,) = msgpack.unpackb(b"\x91" + encode(event), raw=False)
        for at, given in enumerate(plain[1:], 1):
            if type(given) is int:
                tried += 1
                with pytest.raises(TraceError, match="expected an integer"):
                    list(decode(msgpack.packb([*plain[:at], value, *plain[at + 1 :]]), "x", None))
    assert tried > 50


@pytest.mark.parametrize(("items", "well"), [(MAX_ITEMS, True), (MAX_ITEMS + 1, False)])
def test_arrays_are_bounded_before_they_are_made(items: int, well: bool) -> None:
    body = msgpack.packb((ev.ClockReads.KIND, 0, [0] * items))
    if well:
        assert len(list(decode(body, "x", HEADER))) == 1
    else:
        with pytest.raises(TraceError, match="max_array_len"):
            list(decode(body, "x", HEADER))


# --- what a writer holds to -----------------------------------------------------------------------


def test_a_system_that_takes_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole.gtrace", tmp_path / "parts.gtrace"
    write_small(whole)
    real: Callable[..., int] = os.writev

    def some(descriptor: int, buffers: list[memoryview]) -> int:
        first = memoryview(buffers[0])
        if len(first) > 1:
            return real(descriptor, [first[: len(first) // 2 + 1]])
        return real(descriptor, buffers[:1])

    monkeypatch.setattr(writing.os, "writev", some)
    write_small(parts)
    assert parts.read_bytes() == whole.read_bytes()


def test_after_a_write_that_failed_nothing_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What came after half a block would be out of every reader's sight.
    path, real = tmp_path / "t.gtrace", os.writev
    writer = TraceWriter(path, HEADER)

    def full(descriptor: int, buffers: list[bytes]) -> int:
        real(descriptor, [buffers[0][:7]])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "writev", full)
    writer.append(OUTCOME)
    with pytest.raises(UsageError, match="No space left on device"):
        writer.flush()
    monkeypatch.setattr(writing.os, "writev", real)
    size = path.stat().st_size
    writer.append(OUTCOME)
    with pytest.raises(UsageError, match="is closed"):
        writer.flush()
    writer.close()
    assert path.stat().st_size == size
    with TraceReader(path) as reader:
        assert [type(one) for one in reader] == [ev.Header]


def test_memory_of_a_process_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_small(tmp_path / "t.gtrace")
    finally:
        os.umask(before)
    assert (tmp_path / "t.gtrace").stat().st_mode & 0o777 == 0o600


def test_chunks_that_are_forgotten_are_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REMEMBERED", 3)
    path = tmp_path / "t.gtrace"
    with TraceWriter(path, HEADER) as writer:
        for number in (0, 1, 2, 0, 3, 4, 0, 1):
            writer.memory(0x10000, bytes([number]) * 0x10000, "cpu")
            assert len(writer._known) <= 3
    assert check(path).sound
    assert check(path).chunks == 6  # 0 was used in between, 1 was not
    with TraceReader(path) as reader:
        found = [reader.memory(one)[0] for one in reader if isinstance(one, ev.Memory)]
    assert found == [0, 1, 2, 0, 3, 4, 0, 1]


def test_what_has_ended_is_not_alive() -> None:
    state = State(HEADER)
    for event in every_kind():
        state.apply(event)
    assert list(state.rebuild()) == [HEADER, ev.Open("render:128", 1, 2)]


def test_unstable_digests_are_counted_apart() -> None:
    summary = Summary()
    for unstable, size in ((True, 10), (False, 7), (False, 5)):
        summary.apply(ev.Digest(0, size, (ev.Chunk(bytes(16), size),), False, unstable))
    assert summary.memory == {"unstable": 10, "compared": 12}


def test_chunks_end_where_addresses_are_multiples_of_their_size(tmp_path: Path) -> None:
    # So memory that is recorded from another address on has most chunks in common.
    path, data = tmp_path / "t.gtrace", os.urandom(0x30000)
    with TraceWriter(path, HEADER) as writer:
        writer.memory(0x7000_0000, data, "cpu")
        writer.memory(0x7000_8000, data[0x8000:], "cpu")
    assert check(path).chunks == 4


def blocks(path: Path) -> list[BlockHeader]:
    """Return the blocks of a file."""
    file = BlockReader(path)
    try:
        return list(Scan(file))
    finally:
        file.close()


def test_a_reader_begins_at_the_keyframe_before(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    with TraceWriter(path, HEADER) as writer:
        for number in range(20_000):
            writer.append(ev.Name(number << 12, 4096, "buffer", f"{number}"))
    found = [one for one in blocks(path) if one.kind is BlockKind.KEYFRAME]
    starts = sorted({tag_numbers(one.tag)[0] for one in found})
    for number in (starts[-1] - 1, starts[-1], starts[-1] + 1):
        with TraceReader(path) as reader:
            assert len(reader.state_at(number).names) == number - 1
    assert all(one.end - one.offset >= HEADER_SIZE for one in found)
