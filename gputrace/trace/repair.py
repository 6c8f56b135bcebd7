"""Make a complete trace of what can be read of a cut or damaged one."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from os.path import samefile

from gputrace.errors import TraceError, UsageError
from gputrace.trace.blocks import (
    MAX_LENGTH,
    BlockHeader,
    BlockKind,
    event_range,
    number_tag,
    repack_header,
    tag_numbers,
)
from gputrace.trace.chunks import describe
from gputrace.trace.codec import Skipped, decode, encode
from gputrace.trace.events import Chunk, Event, Header, Lost, Memory, Outcome
from gputrace.trace.index import CHUNK_ENTRY, INDEX_EVERY, Index, Trailer
from gputrace.trace.losses import left
from gputrace.trace.reader import BlockReader, Damage, Scan, Torn
from gputrace.trace.summary import Summary
from gputrace.trace.writer import BlockFile, append_index, finish


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair saved and what it could not; `kept` is where the file as it was is now.

    `kept` is empty when nothing was left out of it, and when the result has another name. `lost`
    counts events, `memory` is what else was lost: each such event stands in the result, too.
    """

    events: int
    lost: int
    torn: Torn | None
    damage: tuple[Damage, ...]
    outcome: str
    memory: tuple[Lost, ...] = ()
    kept: str = ""


def repair(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    outcome: Outcome | None = None,
) -> Repaired:
    """Write what can be read of `path` to `output` (default: in its place), with a new index.

    `outcome` becomes its last event if the trace does not say how the run ended. Blocks are copied
    as they are, but events whose memory was in a damaged one say what is lost. Damaged blocks are
    left out and reported, and then a file that would be replaced is kept under the name
    `path`.damaged. The result appears under its name when it is whole. Raises UsageError when
    nothing can be read or written.
    """
    source = os.fspath(path)
    target = source if output is None else os.fspath(output)
    temporary = f"{target}.repair"
    file = BlockReader(source)
    try:
        out = BlockFile(temporary, level=1)
        try:
            result = _Repair(file, out).run(outcome)
        except BaseException:
            out.close()
            os.unlink(temporary)
            raise
    finally:
        file.close()
    if (result.torn or result.damage) and os.path.exists(target) and samefile(source, target):
        result = replace(result, kept=_kept(source))
    os.replace(temporary, target)
    return result


def _kept(path: str) -> str:
    # A second name for the file, which then loses its first one: it has one at every moment.
    for number in count(1):
        name = f"{path}.damaged" if number == 1 else f"{path}.damaged-{number}"
        try:
            os.link(path, name)
        except FileExistsError:
            continue
        except OSError:  # no links on this file system
            if os.path.exists(name):
                continue
            os.rename(path, name)
        return name
    raise AssertionError("numbers do not end")


class _Repair:
    def __init__(self, file: BlockReader, out: BlockFile) -> None:
        self.file, self.out = file, out
        self.index = Index()
        self.last_index = 0
        self.header: Header | None = None
        self.outcome: Outcome | None = None
        self.kinds: Counter[str] = Counter()
        self.summary = Summary()
        self.events = self.next_event = self.memory = self.unique = 0
        self.shift = 0  # events more than there were
        self.chunks: set[Chunk] = set()
        self.lost: list[Lost] = []
        self.damage: list[Damage] = []

    def run(self, outcome: Outcome | None) -> Repaired:
        scan = Scan(self.file, skip=True)
        for header in scan:
            try:
                self._block(header)
            except TraceError as error:
                self.damage.append(Damage(error.where, error.reason))
        if self.header is None:
            raise UsageError(f"{self.file.path}: nothing to repair, its header event is lost")
        if outcome is not None and self.outcome is None:
            self._add(outcome)
        if len(self.index):
            self._write_index()
        lost = self.next_event - self.events
        finish(self.out, self._trailer(lost))
        ended = self.outcome.result if self.outcome is not None else "unknown"
        damage = tuple(scan.damage + self.damage)
        return Repaired(self.events, lost, scan.torn, damage, ended, tuple(self.lost))

    def _block(self, header: BlockHeader) -> None:
        if header.kind in (BlockKind.INDEX, BlockKind.TRAILER, BlockKind.END):
            return
        body = self.file.payload(header)
        offset, tag = self.out.offset, header.tag
        if header.kind is BlockKind.EVENTS:
            self._events(header, body)
            return
        if header.kind is BlockKind.KEYFRAME:
            number, part, parts = tag_numbers(header.tag)
            number += self.shift
            tag = number_tag(number, part, parts)
            for _ in decode(body, header.where, self.header):
                pass
            if part == 0:
                self.index.keyframes.extend((offset, number))
        elif describe(body).digest == header.tag:
            self.index.chunks += CHUNK_ENTRY.pack(header.tag, offset)
            self.chunks.add(describe(body))
            self.unique += len(body)
        else:
            raise TraceError(header.where, "the content hash is wrong")
        self._copy(header, tag)

    def _copy(self, header: BlockHeader, tag: bytes) -> None:
        head = repack_header(header, self.out.sequence, tag)
        self.out.append_raw(head, self.file.stored(header))
        if len(self.index) >= INDEX_EVERY:
            self._write_index()

    def _write(self, first: int, events: Sequence[Event | Skipped]) -> None:
        # More than one block when what was one event does not fit in any more.
        pending, count = bytearray(), 0
        for event in (*events, None):
            data = b"" if event is None else _encoded(event)
            if count and (event is None or len(pending) + len(data) > MAX_LENGTH):
                self.index.events.extend((self.out.offset, first))
                self.out.append(BlockKind.EVENTS, pending, number_tag(first, count))
                first, pending, count = first + count, bytearray(), 0
            pending += data
            count += 1

    def _add(self, outcome: Outcome) -> None:
        self._write(self.next_event, [outcome])
        self.outcome = outcome
        self.kinds["Outcome"] += 1
        self.events += 1
        self.next_event += 1

    def _events(self, header: BlockHeader, body: bytes) -> None:
        events = list(decode(body, header.where, self.header))
        first, count = event_range(header)
        if count != len(events) or first + self.shift < self.next_event:
            raise TraceError(header.where, f"{len(events)} events from number {first}")
        first += self.shift
        saved = [part for event in events for part in self._saved(event)]
        if all(part is event for part, event in zip(saved, events, strict=False)):
            self.index.events.extend((self.out.offset, first))
            self._copy(header, number_tag(first, count))
        else:
            self._write(first, saved)
        self.shift += len(saved) - count
        self._count(saved)
        self.events += len(saved)
        self.next_event = first + len(saved)

    def _saved(self, event: Event | Skipped) -> Iterator[Event | Skipped]:
        if isinstance(event, Skipped):
            yield event
            return
        for part in left(event, lambda chunk: chunk not in self.chunks):
            if isinstance(part, Lost) and part is not event:
                self.lost.append(part)
            yield part

    def _count(self, events: Sequence[Event | Skipped]) -> None:
        for event in events:
            if isinstance(event, Skipped):
                self.kinds[event.name] += 1
                continue
            self.kinds[type(event).__name__] += 1
            self.summary.apply(event)
            if isinstance(event, Header) and self.header is None:
                self.header = event
            elif isinstance(event, Outcome):
                self.outcome = event
            elif isinstance(event, Memory):
                self.memory += event.size
                self.unique += len(event.data)

    def _write_index(self) -> None:
        self.last_index = append_index(self.out, self.index, self.last_index)
        self.index = Index()

    def _trailer(self, lost: int) -> Trailer:
        return Trailer(
            events=self.next_event,
            blocks=self.out.sequence,
            last_index=self.last_index,
            kinds=dict(self.kinds),
            outcome={} if self.outcome is None else asdict(self.outcome),
            memory=self.memory,
            unique=self.unique,
            lost=lost,
            repaired=True,
            summary=self.summary.pack(),
        )


def _encoded(event: Event | Skipped) -> bytes:
    return event.data if isinstance(event, Skipped) else encode(event)
