"""Make a complete trace of what can be read of a cut or damaged one."""

import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import count
from os.path import samefile

from gputrace.errors import TraceError, UsageError
from gputrace.trace.blocks import (
    BlockHeader,
    BlockKind,
    event_range,
    number_tag,
    repack_header,
    tag_numbers,
)
from gputrace.trace.chunks import describe
from gputrace.trace.codec import Skipped, decode, encode
from gputrace.trace.events import Header, Memory, Outcome
from gputrace.trace.index import CHUNK_ENTRY, INDEX_EVERY, Index, Trailer
from gputrace.trace.reader import BlockReader, Damage, Scan, Torn
from gputrace.trace.summary import Summary
from gputrace.trace.writer import BlockFile, append_index, finish


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair saved and what it could not; `kept` is where the file as it was is now.

    `kept` is empty when nothing was left out of it, and when the result has another name.
    """

    events: int
    lost: int
    torn: Torn | None
    damage: tuple[Damage, ...]
    outcome: str
    kept: str = ""


def repair(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    outcome: Outcome | None = None,
) -> Repaired:
    """Write what can be read of `path` to `output` (default: in its place), with a new index.

    `outcome` becomes its last event if the trace does not say how the run ended. Blocks are copied
    as they are; damaged ones are left out and reported, and then a file that would be replaced is
    kept under the name `path`.damaged. The result appears under its name when it is whole. Raises
    UsageError when nothing can be read or written.
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
        return Repaired(self.events, lost, scan.torn, tuple(scan.damage + self.damage), ended)

    def _block(self, header: BlockHeader) -> None:
        if header.kind in (BlockKind.INDEX, BlockKind.TRAILER, BlockKind.END):
            return
        body = self.file.payload(header)
        offset = self.out.offset
        if header.kind is BlockKind.EVENTS:
            self._events(header, body)
            self.index.events.extend((offset, tag_numbers(header.tag)[0]))
        elif header.kind is BlockKind.KEYFRAME:
            number, part, _ = tag_numbers(header.tag)
            for _ in decode(body, header.where, self.header):
                pass
            if part == 0:
                self.index.keyframes.extend((offset, number))
        elif describe(body).digest == header.tag:
            self.index.chunks += CHUNK_ENTRY.pack(header.tag, offset)
            self.unique += len(body)
        else:
            raise TraceError(header.where, "the content hash is wrong")
        self.out.append_raw(repack_header(header, self.out.sequence), self.file.stored(header))
        if len(self.index) >= INDEX_EVERY:
            self._write_index()

    def _add(self, outcome: Outcome) -> None:
        tag = number_tag(self.next_event, 1)
        offset = self.out.append(BlockKind.EVENTS, encode(outcome), tag)
        self.index.events.extend((offset, self.next_event))
        self.outcome = outcome
        self.kinds["Outcome"] += 1
        self.events += 1
        self.next_event += 1

    def _events(self, header: BlockHeader, body: bytes) -> None:
        events = list(decode(body, header.where, self.header))
        first, count = event_range(header)
        if count != len(events) or first < self.next_event:
            raise TraceError(header.where, f"{len(events)} events from number {first}")
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
        self.events += count
        self.next_event = first + count

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
