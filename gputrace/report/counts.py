"""Count the packets of a trace by queue and kind, launches by kernel, and calls that failed."""

from collections import Counter
from dataclasses import dataclass, field
from errno import errorcode

from gputrace.report.walk import Decoded, Rung, Seen, Walk
from gputrace.trace.events import Ioctl
from gputrace.trace.source import Source


@dataclass(slots=True)
class Counts:
    """Packets of rings and indirect buffers alike.

    `kinds` counts by (queue's ordinal, name), `launches` by kernel, `undecoded` those that nothing
    explains or that the trace does not hold whole. `nested` of all stand inside another packet, in
    an indirect buffer mostly; the others are in the rings. `failed` counts calls that were refused
    by (name, errno).
    """

    kinds: Counter[tuple[int, str]] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    undecoded: int = 0
    nested: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def packets(self) -> int:
        """All packets that were decoded."""
        return self.kinds.total()


def errno_name(errno: int) -> str:
    """Return the name of an errno with its number, such as ENOMEM (12)."""
    return f"{errorcode.get(errno, 'errno')} ({errno})"


def count_packets(source: Source) -> Counts:
    """Decode every packet of a trace and count. Raises what `Stream` raises."""
    counts, ordinal = Counts(), 0
    for item in Walk(source):
        match item:
            case Rung():
                ordinal = item.submission.ordinal
                if item.submission.problem:
                    counts.problems[item.submission.problem] += 1
            case Seen(_, Ioctl() as call) if call.errno:
                counts.failed[call.record or f"ioctl {call.request:#x}", call.errno] += 1
            case Decoded(placed, launch):
                if placed.record is None:
                    counts.undecoded += 1
                    continue
                counts.kinds[ordinal, placed.record.CONCEPT] += 1
                counts.nested += placed.depth > 0
                if launch is not None:
                    counts.launches[launch.kernel or f"{launch.entry:#x}"] += 1
            case _:
                pass
    return counts
