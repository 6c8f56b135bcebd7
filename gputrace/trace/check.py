"""Check every byte of a trace and everything that one part of it says about another."""

import os
from collections import Counter
from dataclasses import dataclass, field

from gputrace.errors import TraceError
from gputrace.trace.blocks import BlockHeader, BlockKind, event_range, tag_numbers
from gputrace.trace.chunks import describe
from gputrace.trace.codec import Skipped, decode
from gputrace.trace.events import Chunk, Event, Header, Lost
from gputrace.trace.index import CHUNK_ENTRY, Index, Trailer
from gputrace.trace.losses import references
from gputrace.trace.reader import BlockReader, Damage, Scan, Torn


@dataclass
class Report:
    """What `check` found: `damage` is wrong bytes, `torn` a cut tail; neither in a sound trace.

    `lost` is memory that a repair of the trace could not save.
    """

    path: str
    size: int
    blocks: int = 0
    events: int = 0
    chunks: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    damage: list[Damage] = field(default_factory=list)
    torn: Torn | None = None
    trailer: Trailer | None = None
    lost: list[Lost] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Say whether the trace ends as its writer meant it to."""
        return self.trailer is not None and self.torn is None

    @property
    def sound(self) -> bool:
        """Say whether the trace is complete and nothing in it is wrong."""
        return self.complete and not self.damage


def check(path: str | os.PathLike[str]) -> Report:
    """Read all of a trace and report; raises UsageError or TraceError only if it is no trace."""
    file = BlockReader(path)
    try:
        return _Checker(file).run()
    finally:
        file.close()


class _Checker:
    def __init__(self, file: BlockReader) -> None:
        self.file = file
        self.report = Report(file.path, file.size)
        self.header: Header | None = None
        self.stored: set[Chunk] = set()
        self.found = Index()
        self.listed = Index()
        self.last_index = 0
        self.trailer_at = -1
        self.next_event = 0
        self.gaps: list[tuple[Damage, int]] = []
        self.ended = False

    def run(self) -> Report:
        scan = Scan(self.file, skip=True)
        for header in scan:
            self.report.blocks += 1
            try:
                self._block(header)
            except TraceError as error:
                self._wrong(error.where, error.reason)
        self.report.torn = scan.torn
        self.report.damage += scan.damage
        if scan.torn is None and not self.ended:
            self.report.torn = Torn(self.file.size, 0)
        if self.header is None and self.report.torn is None:
            self._wrong("event 0", "the trace does not begin with a Header event")
        self._compare()
        return self.report

    def _block(self, header: BlockHeader) -> None:
        body = self.file.payload(header)
        match header.kind:
            case BlockKind.EVENTS:
                self._events(header, body)
            case BlockKind.CHUNK:
                self._chunk(header, body)
            case BlockKind.KEYFRAME:
                number, part, _ = tag_numbers(header.tag)
                if part == 0:
                    self.found.keyframes.extend((header.offset, number))
                for _ in decode(body, header.where, self.header):
                    pass
            case BlockKind.INDEX:
                self.listed.extend(body, header.where, self.file.size)
                previous, _, _ = tag_numbers(header.tag)
                self._expect(header, previous == self.last_index, "previous index")
                self.last_index = header.offset
            case BlockKind.TRAILER:
                self.report.trailer = Trailer.unpack(body, header.where)
                self.trailer_at = header.offset
            case BlockKind.END:
                at, _, _ = tag_numbers(header.tag)
                self._expect(header, at == self.trailer_at, "place of the trailer")
                self.ended = True

    def _events(self, header: BlockHeader, body: bytes) -> None:
        first, count = event_range(header)
        self.found.events.extend((header.offset, first))
        if first != self.next_event:
            reason = f"event {self.next_event} expected, it begins with {first}"
            self.gaps.append((Damage(header.where, reason), first - self.next_event))
        self.next_event = first + count
        seen = 0
        for event in decode(body, header.where, self.header):
            seen += 1
            self.report.events += 1
            if isinstance(event, Skipped):
                self.report.skipped[event.name] += 1
            else:
                self._event(header, event)
        self._expect(header, seen == count, "count of events")

    def _event(self, header: BlockHeader, event: Event) -> None:
        self.report.kinds[type(event).__name__] += 1
        if self.header is None and isinstance(event, Header):
            self.header = event
        if isinstance(event, Lost):
            self.report.lost.append(event)
        for chunk in references(event):
            if chunk not in self.stored:
                self._wrong(header.where, f"names chunk {chunk.digest.hex()}, which is not there")

    def _chunk(self, header: BlockHeader, body: bytes) -> None:
        chunk = describe(body)
        self._expect(header, chunk.digest == header.tag, "content hash")
        self.report.chunks += 1
        self.stored.add(chunk)
        self.found.chunks += CHUNK_ENTRY.pack(chunk.digest, header.offset)

    def _compare(self) -> None:
        trailer = self.report.trailer
        # A repair says in the trailer how many events it could not save; any other gap is damage.
        if trailer is None or trailer.lost != sum(missing for _, missing in self.gaps):
            self.report.damage += [damage for damage, _ in self.gaps]
        if trailer is None:
            return
        same = (
            self.found.events == self.listed.events
            and self.found.keyframes == self.listed.keyframes
            and self.found.chunks == self.listed.chunks
        )
        for what, agrees in (
            ("the index", same),
            ("the last index", trailer.last_index == self.last_index),
            ("the count of events", trailer.events == self.next_event),
            ("the counts of kinds", trailer.kinds == self.report.kinds + self.report.skipped),
        ):
            if not agrees:
                self._wrong("trailer", f"{what} does not agree with the blocks")

    def _expect(self, header: BlockHeader, holds: bool, what: str) -> None:
        if not holds:
            self._wrong(header.where, f"the {what} is wrong")

    def _wrong(self, where: str, reason: str) -> None:
        self.report.damage.append(Damage(where, reason))
