"""Read a trace: open and seek in milliseconds, verify what is read, skip damage only when asked."""

import os
import stat
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self

from gputrace.errors import TraceError, UsageError
from gputrace.trace.blocks import (
    BLOCK_MAGIC,
    HEADER_SIZE,
    PREAMBLE_SIZE,
    BlockHeader,
    BlockKind,
    check_preamble,
    event_range,
    pack_preamble,
    tag_numbers,
    unpack_header,
    unpack_payload,
)
from gputrace.trace.chunks import describe
from gputrace.trace.codec import Skipped, decode
from gputrace.trace.events import Chunk, ClockReads, Digest, Event, Header, Memory
from gputrace.trace.index import CHUNK_ENTRY, Index, Trailer
from gputrace.trace.losses import left
from gputrace.trace.state import State

FREELY_UNPACKED, MOST_UNPACKED = 16 << 20, 256
"""Bytes of events that any file may hold, and how many more for each byte of the file: real ones
come to a tenth of that, and a decompression bomb to more."""


class Torn(NamedTuple):
    """The tail of a file that was cut: where it begins and how many bytes are lost with it."""

    offset: int
    size: int


class Damage(NamedTuple):
    """A damaged place that was skipped."""

    where: str
    reason: str


@contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except TraceError as error:
        error.path = path
        raise


class BlockReader:
    """Read blocks of a file by offset; every header and payload is checked."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            # A pipe under that name must not keep us waiting for who writes into it.
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from error
        try:
            about = os.fstat(self.fd)
            if not stat.S_ISREG(about.st_mode):
                raise UsageError(f"cannot read {self.path}: it is not a regular file")
            self.size = about.st_size
            data = self._read(0, PREAMBLE_SIZE)
            if not pack_preamble().startswith(data):
                with _naming(self.path):
                    check_preamble(data)
        except BaseException:
            self.close()
            raise

    def header(self, offset: int) -> BlockHeader:
        """Give the header of the block at `offset`; its payload lies within the file."""
        # Offsets come from the file: they may be larger than the system call takes.
        data = self._read(offset, HEADER_SIZE) if offset < self.size else b""
        if len(data) < HEADER_SIZE:
            raise TraceError(f"byte {offset}", f"{len(data)} bytes are left, too few for a block")
        header = unpack_header(data, offset)
        if header.end > self.size:
            raise TraceError(header.where, f"cut: it ends {header.end - self.size} bytes later")
        return header

    def payload(self, header: BlockHeader) -> bytes:
        """Give the checked payload of a block."""
        return unpack_payload(header, self.stored(header))

    def stored(self, header: BlockHeader) -> bytes:
        """Give the payload of a block as it is stored."""
        return self._read(header.offset + HEADER_SIZE, header.stored)

    def torn(self, offset: int) -> bool:
        """Say whether the file simply ends at `offset`: cut inside a block, or zeros to the end."""
        data = self._read(offset, HEADER_SIZE)
        if len(data) < HEADER_SIZE:
            return True
        try:
            return unpack_header(data, offset).end > self.size
        except TraceError:
            return self._zeros(offset)

    def find(self, offset: int) -> int:
        """Give the offset of the first block header at or after `offset`, or the file's size."""
        step = 1 << 16
        while offset < self.size:
            data = self._read(offset, step + HEADER_SIZE)
            at = data.find(BLOCK_MAGIC)
            while 0 <= at < step and at + HEADER_SIZE <= len(data):
                try:
                    unpack_header(data[at : at + HEADER_SIZE], offset + at)
                except TraceError:
                    at = data.find(BLOCK_MAGIC, at + 1)
                else:
                    return offset + at
            offset += step
        return self.size

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _zeros(self, offset: int) -> bool:
        while offset < self.size:
            data = self._read(offset, 1 << 20)
            if data.count(0) != len(data):
                return False
            offset += len(data)
        return True

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self.fd, size, offset)
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from error


class Scan:
    """Walk over the blocks of a file from the start, by their headers only.

    Afterwards `torn` says where the file was cut, if it was. With `skip`, damaged places are listed
    in `damage` and passed over; without, they raise TraceError.
    """

    def __init__(self, file: BlockReader, *, skip: bool = False) -> None:
        self.file, self.skip = file, skip
        self.torn: Torn | None = None
        self.damage: list[Damage] = []
        self.ended = False

    def __iter__(self) -> Iterator[BlockHeader]:
        """Yield the headers in the order of the file."""
        offset, sequence = PREAMBLE_SIZE, 0
        if self.file.size < PREAMBLE_SIZE:
            self.torn = Torn(0, self.file.size)
        while offset < self.file.size:
            try:
                header = self.file.header(offset)
            except TraceError as error:
                if self.file.torn(offset):
                    self.torn = Torn(offset, self.file.size - offset)
                    return
                self._report(error)
                offset = self.file.find(offset + 1)
                continue
            if header.sequence != sequence or self.ended:
                self._report(TraceError(header.where, f"block {sequence} was expected here"))
            self.ended = header.kind is BlockKind.END
            sequence = header.sequence + 1
            yield header
            offset = header.end

    def _report(self, error: TraceError) -> None:
        if not self.skip:
            raise error
        self.damage.append(Damage(error.where, error.reason))


class TraceReader:
    """Read the events and the memory of a `.gtrace` file.

    Raises UsageError for a file that cannot be opened and TraceError, naming the block, for one
    that is damaged; `skip_damage` passes over damaged blocks and lists them in `damage`, and memory
    that was in them is told by Lost events, which share a number with what is left of their event.
    A file that was cut has `complete` False and `torn` set, and yields every event before the cut
    block.
    """

    def __init__(self, path: str | os.PathLike[str], *, skip_damage: bool = False) -> None:
        self.file = BlockReader(path)
        self.skip_damage = skip_damage
        self.damage: list[Damage] = []
        self.torn: Torn | None = None
        self.trailer: Trailer | None = None
        self.skipped: Counter[str] = Counter()
        self._index = Index()
        self._chunks: dict[bytes, int] | None = None
        self._lost: dict[Chunk, bool] = {}  # of the chunks that were looked at
        self._block: tuple[int, list[Event | Skipped]] = (-1, [])
        self._names: Header | None = None
        self._unpacked = 0
        try:
            with _naming(self.file.path):
                self._open()
                self.header = self._read_header()
        except BaseException:
            self.close()
            raise

    @property
    def complete(self) -> bool:
        """Say whether the trace ends with a trailer."""
        return self.trailer is not None

    def __len__(self) -> int:
        """Count the events, by the trailer or, without one, by the blocks that are there."""
        if self.trailer is not None:
            return self.trailer.events
        blocks = self._index.events
        if not blocks:
            return 0
        return sum(event_range(self.file.header(blocks[-2])))

    def __iter__(self) -> Iterator[Event]:
        """Yield all events; optional ones of unknown kinds are counted in `skipped`."""
        for _, event in self.numbered():
            yield event

    def clocks(self) -> dict[int, list[int]]:
        """Return the values of the GPU's clock that each queue has read, in their order."""
        found: dict[int, list[int]] = {}
        if not self.header.scheduler:
            for event in self:
                if isinstance(event, ClockReads):
                    found.setdefault(event.queue, []).extend(event.values)
        return found

    def numbered(self, start: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (number, event) from the event number `start` on."""
        with _naming(self.file.path):
            yield from self._numbered(start)

    def _numbered(self, start: int) -> Iterator[tuple[int, Event]]:
        blocks = self._index.events
        count = len(blocks) // 2
        position = bisect_right(range(count), start, key=lambda at: blocks[2 * at + 1]) - 1
        expected = 0 if position < 0 else blocks[2 * position + 1]
        self._unpacked = 0
        for at in range(max(position, 0), count):
            first, events = self._events_at(at)
            self._compare_numbers(expected, first)
            expected = first + len(events)
            for number, event in enumerate(events, first):
                if number < start:
                    continue
                if isinstance(event, Skipped):
                    self.skipped[event.name] += 1
                elif self.skip_damage:
                    yield from ((number, part) for part in left(event, self._is_lost))
                else:
                    yield number, event
        self._compare_numbers(expected, len(self))

    def event(self, number: int) -> Event:
        """Give one event; raises IndexError when there is none of this number."""
        for found, event in self.numbered(number):
            if found == number:
                return event
            break
        raise IndexError(f"no event {number} in a trace of {len(self)}")

    def state_at(self, number: int) -> State:
        """Give the state before the event `number`, from the keyframe before it."""
        start, state = 0, State(self.header)
        offsets, numbers = self._index.keyframes[0::2], self._index.keyframes[1::2]
        at = bisect_right(numbers, number) - 1
        if at >= 0:
            start = numbers[at]
            with _naming(self.file.path):
                for event in self._keyframe(offsets[at]):
                    state.apply(event)
        for found, event in self.numbered(start):
            if found >= number:
                break
            state.apply(event)
        return state

    def pieces(self, event: Memory | Digest) -> Iterator[tuple[int, bytes]]:
        """Yield (address, bytes) of what a Memory event, or a Digest that is stored, holds."""
        address = event.address
        if isinstance(event, Memory) and event.data:
            yield address, event.data
            return
        for chunk in event.chunks:
            yield address, self.chunk(chunk)
            address += chunk.size

    def memory(self, event: Memory | Digest) -> bytes:
        """Give the bytes that `pieces` yields, as one."""
        return b"".join(data for _, data in self.pieces(event))

    def chunk(self, chunk: Chunk) -> bytes:
        """Give the bytes of a chunk; raises TraceError if the file has no such chunk."""
        if self._chunks is None:
            self._chunks = dict(CHUNK_ENTRY.iter_unpack(self._index.chunks))
        offset = self._chunks.get(chunk.digest)
        name = f"chunk {chunk.digest.hex()}"
        with _naming(self.file.path):
            if offset is None:
                raise TraceError(name, "the file does not hold it")
            header = self._expect(offset, BlockKind.CHUNK)
            data = self.file.payload(header)
            if describe(data) != chunk:
                raise TraceError(header.where, f"its content is not that of {name}")
        return data

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> Self:
        """Give the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def _open(self) -> None:
        end = self.file.size - HEADER_SIZE
        try:
            ended = end >= PREAMBLE_SIZE and self.file.header(end).kind is BlockKind.END
        except TraceError:
            ended = False
        if ended:
            try:
                self._follow_index(end)
            except TraceError as error:
                self._skip(error)
                self._index, self.trailer = Index(), None
            else:
                return
        self._scan()

    def _follow_index(self, end: int) -> None:
        offset, _, _ = tag_numbers(self.file.header(end).tag)
        header = self._expect(offset, BlockKind.TRAILER)
        if header.end != end:
            raise TraceError(header.where, "the end block does not follow the trailer")
        self.trailer = Trailer.unpack(self.file.payload(header), header.where)
        chain: list[BlockHeader] = []
        offset = self.trailer.last_index
        while offset:
            chain.append(self._expect(offset, BlockKind.INDEX))
            previous, _, _ = tag_numbers(chain[-1].tag)
            if previous >= offset:
                raise TraceError(chain[-1].where, "the chain of index blocks does not go back")
            offset = previous
        for block in reversed(chain):
            self._index.extend(self.file.payload(block), block.where, self.file.size)

    def _scan(self) -> None:
        scan = Scan(self.file, skip=self.skip_damage)
        for header in scan:
            if header.kind is BlockKind.EVENTS:
                try:
                    self._index.events.extend((header.offset, event_range(header)[0]))
                except TraceError as error:
                    self._skip(error)
            elif header.kind is BlockKind.CHUNK:
                self._index.chunks += CHUNK_ENTRY.pack(header.tag, header.offset)
            elif header.kind is BlockKind.KEYFRAME and tag_numbers(header.tag)[1] == 0:
                self._index.keyframes.extend((header.offset, tag_numbers(header.tag)[0]))
        self.torn = scan.torn
        self.damage += scan.damage
        if scan.ended and not self.skip_damage:
            raise TraceError(f"byte {self.file.size}", "the last block is not where it should be")

    def _read_header(self) -> Header:
        if self._index.events and self._index.events[1] == 0:
            _, events = self._events_at(0)
            if events and isinstance(events[0], Header):
                return events[0]
        for offset in self._index.keyframes[0::2] if self.skip_damage else ():
            for event in self._keyframe(offset):
                if isinstance(event, Header):
                    return event
        if self.trailer is None and not self._index.events and not self.damage:
            return Header(tool="")
        raise TraceError("event 0", "the trace does not begin with a Header event")

    # Events are numbered without gaps, unless a repair said that it lost some.
    def _compare_numbers(self, expected: int, found: int) -> None:
        declared = self.trailer is not None and self.trailer.lost > 0
        if expected != found and not declared:
            self._skip(TraceError(f"event {expected}", f"the next event is number {found}"))

    def _events_at(self, at: int) -> tuple[int, list[Event | Skipped]]:
        offset, first = self._index.events[2 * at : 2 * at + 2]
        if self._block[0] == at:
            return first, self._block[1]
        try:
            header = self._expect(offset, BlockKind.EVENTS)
            tagged, count = event_range(header)
            events = self._decode(header)
            if (tagged, count) != (first, len(events)):
                raise TraceError(header.where, f"{len(events)} events from {first}, not {count}")
        except TraceError as error:
            self._skip(error)
            events = []
        self._block = (at, events)
        return first, events

    def _decode(self, header: BlockHeader) -> list[Event | Skipped]:
        events: list[Event | Skipped] = []
        self._unpacked += header.length
        if self._unpacked > FREELY_UNPACKED + MOST_UNPACKED * self.file.size:
            raise TraceError(header.where, f"more than {MOST_UNPACKED} times the file come out")
        for event in decode(self.file.payload(header), header.where, self._names):
            if isinstance(event, Header) and self._names is None:
                self._names = event
            events.append(event)
        return events

    def _keyframe(self, offset: int) -> Iterator[Event]:
        header = self._expect(offset, BlockKind.KEYFRAME)
        number, _, parts = tag_numbers(header.tag)
        for part in range(parts):
            if tag_numbers(header.tag) != (number, part, parts):
                raise TraceError(header.where, f"not part {part} of keyframe {number}")
            for event in self._decode(header):
                if isinstance(event, Event):
                    yield event
            if part + 1 < parts:
                header = self._expect(header.end, BlockKind.KEYFRAME)

    def _is_lost(self, chunk: Chunk) -> bool:
        if chunk not in self._lost:
            self._lost[chunk] = False
            try:
                self.chunk(chunk)
            except TraceError as error:
                self._skip(error)
                self._lost[chunk] = True
        return self._lost[chunk]

    def _skip(self, error: TraceError) -> None:
        if not self.skip_damage:
            raise error
        damage = Damage(error.where, error.reason)
        if damage not in self.damage:
            self.damage.append(damage)

    def _expect(self, offset: int, kind: BlockKind) -> BlockHeader:
        header = self.file.header(offset)
        if header.kind is not kind:
            raise TraceError(header.where, f"a block of kind {kind.name.lower()} was expected")
        return header
