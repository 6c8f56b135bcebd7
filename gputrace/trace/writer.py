"""Write a trace: what was handed over is with the operating system when `flush` returns."""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from types import TracebackType
from typing import Self

from gputrace.errors import UsageError
from gputrace.trace.blocks import (
    HEADER_SIZE,
    MAX_LENGTH,
    NO_TAG,
    BlockKind,
    Bytes,
    number_tag,
    pack_block,
    pack_preamble,
)
from gputrace.trace.chunks import INLINE_BELOW, MAX_CHUNKS, describe, pieces
from gputrace.trace.codec import encode, encode_fields
from gputrace.trace.events import (
    Chunk,
    Digest,
    DoorbellDone,
    DoorbellIntent,
    Event,
    Header,
    HostStore,
    Memory,
    Outcome,
    Progress,
    WaitBegin,
    WaitEnd,
    kind_table,
)
from gputrace.trace.index import CHUNK_ENTRY, INDEX_EVERY, Index, Trailer
from gputrace.trace.state import State
from gputrace.trace.summary import Summary

BLOCK_TARGET = 1 << 17
"""Events are gathered until they are this many bytes, if nobody flushes before."""
KEYFRAME_EVERY = 1 << 12
"""Fewest events between two keyframes."""
HURRIED = -1
"""Level of zstd for the block before a doorbell: half the time of 1, a little larger."""
HURRIED_FROM = 512
"""Such a block that is shorter than this many bytes is stored as it is."""
LOOK_EVERY = 1 << 6
"""Blocks between two looks at whether an index is due."""
REMEMBERED = 1 << 18
"""Chunks that the writer remembers as stored (16 GiB); older ones may be stored again."""

_STATELESS = {DoorbellIntent, Digest, HostStore, Memory, Progress, WaitBegin, WaitEnd}


class BlockFile:
    """Append blocks to a file by `os.writev`: no buffer of ours can be lost with the process.

    When the file cannot be written any more, UsageError is raised; or, if there is a `failing`, it
    is called once with the reason, and whatever comes later is left out.
    """

    def __init__(
        self, path: str | os.PathLike[str], level: int, failing: Callable[[str], None] | None = None
    ) -> None:
        self.path, self.level, self._failing = os.fspath(path), level, failing
        self.failed = False
        """Whether the file could not be written."""
        self.offset = self.sequence = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            # Memory of a process stands in the file: nobody else may read it.
            self.fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        self._write(pack_preamble(), b"")

    def append(
        self,
        kind: BlockKind,
        payload: Bytes,
        tag: bytes = NO_TAG,
        level: int | None = None,
    ) -> int:
        """Write one block and give its offset."""
        head, stored = pack_block(
            kind, payload, self.sequence, tag, self.level if level is None else level
        )
        return self.append_raw(head, stored)

    def append_raw(self, head: bytes, stored: Bytes) -> int:
        """Write a block that is packed already, under the sequence number that comes next."""
        offset = self.offset
        self._write(head, stored)
        self.sequence += 1
        return offset

    def sync(self) -> None:
        """Wait until the file's bytes are on the disk."""
        if self.failed:
            return
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write(self, head: bytes, body: Bytes) -> None:
        if self.fd < 0:
            if self.failed and self._failing:
                return
            raise UsageError(f"{self.path} is closed")
        try:
            done = os.writev(self.fd, (head, body))
            if done < len(head) + len(body):
                self._write_rest(memoryview(head + body)[done:])
            self.offset += len(head) + len(body)
        except OSError as error:
            self._fail(error)

    def _write_rest(self, rest: memoryview) -> None:
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    # Part of a block may be there: whatever came after it would be out of the reader's sight.
    def _fail(self, error: OSError) -> None:
        self.failed = True
        with suppress(OSError):
            os.ftruncate(self.fd, self.offset)
        self.close()
        reason = f"cannot write {self.path}: {error.strerror}"
        if self._failing is None:
            raise UsageError(reason) from error
        self._failing(reason)


class TraceWriter:
    """Write events and memory to a `.gtrace` file.

    `durable` makes `flush(intent=True)` wait for the disk. `level` is zstd's (0 stores raw). Raises
    UsageError when the file cannot be made, and when it cannot be written any more, unless there is
    a `failing`: then that is called once with the reason, and what comes later is left out.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: Header,
        *,
        durable: bool = False,
        level: int = 1,
        failing: Callable[[str], None] | None = None,
    ) -> None:
        self.header = replace(header, durable=durable, kinds=kind_table())
        self.durable = durable
        self.events = 0
        self.kinds: Counter[str] = Counter()
        self.unique_bytes = 0
        self.outcome: Outcome | None = None
        self.state = State(self.header)
        self.summary = Summary()
        self._pending = bytearray()
        self._pending_events = 0
        self._index = Index()
        self._last_index = 0
        self._look_at = LOOK_EVERY  # the number of a block
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._since_keyframe = self._bytes_since_keyframe = self._keyframe_size = 0
        self._file = BlockFile(path, level, failing)
        self.append(self.header)
        self.flush()

    @property
    def size(self) -> int:
        """Give the bytes of the file so far, with those that still wait for a flush."""
        return self._file.offset + len(self._pending)

    @property
    def failed(self) -> bool:
        """Whether the file could not be written any more."""
        return self._file.failed

    @property
    def memory_bytes(self) -> int:
        """Give the bytes of memory recorded, stored once or not."""
        return sum(self.summary.memory[who] for who in ("cpu", "gpu", "unknown"))

    def append(self, event: Event) -> int:
        """Take one event and give its number; raises ValueError if it is too large to store."""
        number, kind = self.events, type(event)
        self._take(encode(event), kind.__name__)
        self.summary.apply(event)
        if kind is DoorbellDone:
            self._housekeeping()
        elif isinstance(event, Memory):
            self.unique_bytes += len(event.data)
        elif kind not in _STATELESS:
            self.state.apply(event)
            if isinstance(event, Outcome):
                self.outcome = event
        if len(self._pending) >= BLOCK_TARGET:
            self.flush()
        return number

    def _take(self, data: bytes, name: str) -> None:
        if len(self._pending) + len(data) > MAX_LENGTH:
            self.flush()
        self._pending += data
        self._pending_events += 1
        self.events += 1
        self.kinds[name] += 1

    def memory(self, address: int, data: Bytes, provenance: str, step: int = -1) -> None:
        """Record what memory holds: short data inline, the rest as chunks stored once each."""
        self.stores(((address, data),), provenance, step)

    def stores(
        self, found: Iterable[tuple[int, Bytes]], provenance: str, step: int = -1
    ) -> None:
        """Record what memory holds at several addresses, each as `memory` does."""
        pending, count, total = self._pending, 0, 0
        for address, data in found:
            size = len(data)
            if size >= INLINE_BELOW:
                for start, chunks in self._store(address, data):
                    self.append(Memory(address + start, provenance, b"", chunks, step))
            elif size:
                pending += encode_fields(Memory, address, provenance, data, (), step)
                self._pending_events += 1
                self.events += 1
                count += 1
                total += size
                if len(pending) >= BLOCK_TARGET:
                    self.flush()
        self.kinds["Memory"] += count
        self.unique_bytes += total
        self.summary.memory[provenance] += total

    def intent(
        self, submission: int, queue: int, address: int, value: int, bits: int = 64,
        step: int = -1, time: int = 0, thread: int = 0,
    ) -> None:  # fmt: skip
        """Take a DoorbellIntent by its fields; it is with the system, or on disk, on return."""
        fields = submission, queue, address, value, bits, step, time, thread
        self._take(encode_fields(DoorbellIntent, *fields), "DoorbellIntent")
        self.summary.rang(queue)
        self.flush(intent=True)

    def done(self, submission: int, queue: int, step: int = -1, time: int = 0) -> None:
        """Take a DoorbellDone by its fields."""
        self._take(encode_fields(DoorbellDone, submission, queue, step, time), "DoorbellDone")
        self._housekeeping()

    def digest(
        self,
        address: int,
        data: Bytes,
        *,
        store: bool = False,
        unstable: bool = False,
        step: int = -1,
    ) -> None:
        """Record a digest of memory that the GPU wrote; `store` keeps the bytes in the file too."""
        for start, chunks in self._store(address, data, store):
            size = sum(chunk.size for chunk in chunks)
            self.append(Digest(address + start, size, chunks, store, unstable, step))

    def flush(self, *, intent: bool = False) -> None:
        """Hand all that is pending to the operating system; `intent`: to the disk if durable."""
        size = len(self._pending)
        if size:
            count, level = self._pending_events, self._file.level
            if intent and level:
                level = HURRIED if size >= HURRIED_FROM else 0
            first = self.events - count
            tag = number_tag(first, count)
            offset = self._file.append(BlockKind.EVENTS, self._pending, tag, level)
            self._index.events.extend((offset, first))
            self._since_keyframe += count
            self._bytes_since_keyframe += size
            self._pending.clear()
            self._pending_events = 0
        if intent and self.durable:
            self._file.sync()
        self._housekeeping(2 if intent else 1)

    def close(self, outcome: Outcome | None = None) -> None:
        """Write what is pending, then index and trailer; a second call does nothing."""
        if self._file.fd < 0:
            return
        if outcome is not None:
            self.append(outcome)
        self.flush()
        self._write_index()
        finish(self._file, self._trailer())

    def abandon(self) -> None:
        """Close the file as it is, without index and trailer: as if the process had died."""
        self._file.close()

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the trace."""
        self.close()

    # Yields (offset in data, chunks of one event), storing the chunks that the file lacks.
    def _store(
        self, address: int, data: Bytes, store: bool = True
    ) -> list[tuple[int, tuple[Chunk, ...]]]:
        view = memoryview(data).cast("B")
        result: list[tuple[int, tuple[Chunk, ...]]] = []
        chunks: list[Chunk] = []
        start = 0
        for offset, length in pieces(address, len(view)):
            piece = view[offset : offset + length]
            chunk = describe(piece)
            chunks.append(chunk)
            if store:
                self._store_chunk(chunk, piece)
            if len(chunks) == MAX_CHUNKS:
                result.append((start, tuple(chunks)))
                chunks, start = [], offset + length
        if chunks:
            result.append((start, tuple(chunks)))
        return result

    def _store_chunk(self, chunk: Chunk, piece: memoryview) -> None:
        if chunk.digest in self._known:
            self._known.move_to_end(chunk.digest)
            return
        offset = self._file.append(BlockKind.CHUNK, piece, chunk.digest)
        self._index.chunks += CHUNK_ENTRY.pack(chunk.digest, offset)
        self.unique_bytes += chunk.size
        self._known[chunk.digest] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self._housekeeping()

    # Before a doorbell every microsecond counts, so there it is put off, once over; and whether an
    # index is due is looked at now and then only.
    def _housekeeping(self, patience: int = 1) -> None:
        if self._since_keyframe >= patience * KEYFRAME_EVERY:
            if self._bytes_since_keyframe >= 4 * self._keyframe_size:
                self._write_keyframe()
        elif self._file.sequence < self._look_at:
            return
        if len(self._index) >= patience * INDEX_EVERY:
            self._write_index()
        self._look_at = self._file.sequence + LOOK_EVERY

    def _write_keyframe(self) -> None:
        parts: list[bytes] = [b""]
        for event in self.state.rebuild():
            data = encode(event)
            if len(parts[-1]) + len(data) > MAX_LENGTH:
                parts.append(b"")
            parts[-1] += data
        for number, part in enumerate(parts):
            tag = number_tag(self.events, number, len(parts))
            offset = self._file.append(BlockKind.KEYFRAME, part, tag)
            if number == 0:
                self._index.keyframes.extend((offset, self.events))
        self._keyframe_size = sum(map(len, parts))
        self._since_keyframe = self._bytes_since_keyframe = 0

    def _write_index(self) -> None:
        if len(self._index):
            self._last_index = append_index(self._file, self._index, self._last_index)
            self._index = Index()

    def _trailer(self) -> Trailer:
        return Trailer(
            events=self.events,
            blocks=self._file.sequence,
            last_index=self._last_index,
            kinds=dict(self.kinds),
            outcome={} if self.outcome is None else asdict(self.outcome),
            memory=self.memory_bytes,
            unique=self.unique_bytes,
            summary=self.summary.pack(),
        )


def append_index(file: BlockFile, index: Index, previous: int) -> int:
    """Write an index block that follows the one at `previous` (0: none) and give its offset."""
    return file.append(BlockKind.INDEX, index.pack(), number_tag(previous))


def finish(file: BlockFile, trailer: Trailer) -> None:
    """Write the trailer and the end block that points at it, and close the file."""
    offset = file.append(BlockKind.TRAILER, trailer.pack())
    file.append(BlockKind.END, b"", number_tag(offset))
    file.close()


END_SIZE = HEADER_SIZE
"""The end block has no payload, so it is the last bytes of a complete file."""
