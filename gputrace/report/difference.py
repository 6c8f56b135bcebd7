"""Compare two traces by what they submitted: queue by queue, packet by packet.

Queues are paired by the order of their making. Packets are compared as `dump` prints them, by the
names of what lies at their addresses, so traces of the same program compare well even where memory
lay elsewhere; where nothing has a name the addresses count.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from gputrace.formats.ioctl import queue_name
from gputrace.report.walk import Decoded, Rung, Seen, Walk
from gputrace.trace.about import versions, versions_line
from gputrace.trace.events import Header, Outcome
from gputrace.trace.source import Source

MOST = 2000
"""Packets between the first and last difference that are matched one by one; more in blocks."""


@dataclass(frozen=True, slots=True)
class Line:
    """A packet: its number, its text, and how deep in indirect buffers it is."""

    number: int
    depth: int
    text: str


@dataclass
class Side:
    """What one trace submitted."""

    header: Header = field(default_factory=lambda: Header(tool=""))
    outcome: Outcome | None = None
    queues: dict[int, str] = field(default_factory=dict)
    packets: dict[int, list[Line]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hunk:
    """A place where two packet streams differ; `common` packets stand before it in both."""

    queue: int
    common: int
    removed: tuple[Line, ...]
    added: tuple[Line, ...]


@dataclass
class Comparison:
    """How two traces differ: `facts` are (what, first, second), `hunks` in order of queues."""

    facts: list[tuple[str, str, str]]
    hunks: list[Hunk]
    packets: tuple[int, int]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.facts and not self.hunks

    @property
    def counts(self) -> Counter[str]:
        """Count packets removed and added."""
        return Counter(
            removed=sum(len(hunk.removed) for hunk in self.hunks),
            added=sum(len(hunk.added) for hunk in self.hunks),
        )


def compare(first: Source, second: Source) -> Comparison:
    """Compare two traces. Raises what `Stream` raises."""
    one, two = _side(first), _side(second)
    hunks: list[Hunk] = []
    for queue in sorted(one.queues.keys() | two.queues.keys()):
        hunks += _hunks(queue, one.packets.get(queue, []), two.packets.get(queue, []))
    totals = tuple(sum(map(len, side.packets.values())) for side in (one, two))
    return Comparison(list(_facts(one, two)), hunks, (totals[0], totals[1]))


def _side(source: Source) -> Side:
    side, walk, queue = Side(), Walk(source), 0
    for item in walk:
        match item:
            case Seen(_, Header() as header):
                side.header = header
            case Seen(_, Outcome() as outcome):
                side.outcome = outcome
            case Rung(made):
                queue = made.ordinal
                side.queues[queue] = queue_name(made.queue.type)
            case Decoded(placed, launch):
                text = walk.describer.line(placed, launch)
                side.packets.setdefault(queue, []).append(Line(placed.number, placed.depth, text))
            case _:
                pass
    return side


def _facts(one: Side, two: Side) -> Iterator[tuple[str, str, str]]:
    rows: list[tuple[str, object, object]] = [
        ("written by", one.header.tool, two.header.tool),
        ("family", one.header.family, two.header.family),
        ("device", one.header.device.get("name"), two.header.device.get("name")),
        *_versions(one.header, two.header),
        ("schedule seed", one.header.schedule_seed, two.header.schedule_seed),
        ("outcome", _ended(one), _ended(two)),
    ]
    for queue in sorted(one.queues.keys() | two.queues.keys()):
        kinds = one.queues.get(queue, "absent"), two.queues.get(queue, "absent")
        rows.append((f"queue #{queue}", *kinds))
    for name, mine, theirs in rows:
        if mine != theirs:
            yield name, str(mine), str(theirs)


def _versions(one: Header, two: Header) -> list[tuple[str, object, object]]:
    # A trace that states none differs from no other.
    if not (versions(one) and versions(two)):
        return []
    return [("versions", versions_line(one), versions_line(two))]


def _ended(side: Side) -> str:
    outcome = side.outcome
    if outcome is None:
        return "none"
    where = f" at packet {outcome.queue}:{outcome.packet}" if outcome.packet >= 0 else ""
    return f"{outcome.result}{where}"


def _hunks(queue: int, one: Sequence[Line], two: Sequence[Line]) -> Iterator[Hunk]:
    mine, theirs = [line.text for line in one], [line.text for line in two]
    start = _shared(mine, theirs)
    end = _shared(mine[start:][::-1], theirs[start:][::-1])
    middle = mine[start : len(mine) - end], theirs[start : len(theirs) - end]
    if not any(middle):
        return
    if max(map(len, middle)) > MOST:
        yield Hunk(queue, start, tuple(one[start : len(one) - end]),
                   tuple(two[start : len(two) - end]))  # fmt: skip
        return
    common = start
    for what, a, b, c, d in SequenceMatcher(None, *middle, autojunk=False).get_opcodes():
        if what == "equal":
            common += b - a
            continue
        yield Hunk(queue, common, tuple(one[start + a : start + b]),
                   tuple(two[start + c : start + d]))  # fmt: skip
        common = 0


def _shared(one: Sequence[str], two: Sequence[str]) -> int:
    count = 0
    for mine, theirs in zip(one, two, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
