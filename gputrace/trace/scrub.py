"""A trace without what tells of people and machines, event by event; replays need none of it.

A trace holds no environment, no command line and no name of a host. What it may hold: the message
of the error that ended the program, names of files that code came from, numbers of processes, where
a GPU sits in its machine and which one it is, how a kernel was named by who built it, answers to
questions about the machine, names that the program gave, and memory.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gputrace.errors import UsageError
from gputrace.formats import drm
from gputrace.formats.ioctl import AllocMemoryOfGpu
from gputrace.trace import events
from gputrace.trace.events import Chunk, Digest, Event, HostStore, Memory
from gputrace.trace.source import Source

DEVICE_FACTS = ("name", "gpus", "gpu_ids", "driver", "kfd")
"""What a header keeps of its device, beside the number of the kernel's version."""
PLACES = ("unique_id", "hive_id", "location_id", "domain")
"""Properties of a node that say which card of which machine it is (kfd_topology.c)."""
NOTES = ("threads", "provenance", "refused", "minimized", "trigger")
"""Notes that hold words of gputrace's own."""
DETAILS = ("place", "pc", "workgroup")
"""What an outcome keeps beside its signature."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to take out beside the usual: all `names`, and the bytes of buffers.

    `zero` holds names of buffers, addresses in them, or ADDRESS+SIZE.
    """

    names: bool = False
    zero: tuple[str, ...] = ()


class Range(NamedTuple):
    """Bytes at GPU addresses."""

    start: int
    end: int


def zeroed(address: int, data: bytes, ranges: list[Range]) -> bytes:
    """Return the bytes at an address with those in ranges as zero."""
    changed: bytearray | None = None
    for one in ranges:
        low, high = max(one.start - address, 0), min(one.end - address, len(data))
        if low < high:
            changed = changed or bytearray(data)
            changed[low:high] = bytes(high - low)
    return data if changed is None else bytes(changed)


def touches(address: int, size: int, ranges: list[Range]) -> bool:
    """Whether a range of memory has bytes in any of others."""
    return any(one.start < address + size and address < one.end for one in ranges)


@dataclass
class Plan:
    """Which memory becomes zero: always, and while it has one of some names."""

    ranges: list[Range] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


def plan(source: Source, choice: Choice) -> Plan:
    """Find what is to become zero. Raises UsageError for what the trace does not have."""
    made = Plan()
    if not choice.zero:
        return made
    names: dict[str, None] = {}
    buffers: set[Range] = set()
    for _, event in source.numbered():
        match event:
            case events.Name(name=name) if name:
                names[name] = None
            case events.Ioctl(record="AllocMemoryOfGpu", errno=0):
                record = AllocMemoryOfGpu.from_bytes(event.after)
                buffers.add(Range(record.va_addr, record.va_addr + record.size))
    for text in choice.zero:
        if text in names:
            made.names.add(text)
        else:
            made.ranges += _places(text, buffers, list(names))
    return made


def _places(text: str, buffers: set[Range], names: list[str]) -> list[Range]:
    found = re.fullmatch(r"(0[xX][0-9a-fA-F]+|[0-9]+)(?:\+(0[xX][0-9a-fA-F]+|[0-9]+))?", text)
    if found is None:
        known = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if names[10:] else "")
        raise UsageError(f"--zero {text!r}: no buffer has this name; names: {known or 'none'}")
    address = int(found[1], 0) if found[1][:2] in ("0x", "0X") else int(found[1])
    if found[2] is not None:
        size = int(found[2], 0) if found[2][:2] in ("0x", "0X") else int(found[2])
        return [Range(address, address + size)]
    around = [one for one in buffers if one.start <= address < one.end]
    if not around:
        raise UsageError(f"--zero {text}: no buffer of the trace was at this address")
    return around


class Scrubbed:
    """The events of a trace without what is private: a `Source` of its own.

    `removed` counts what was taken out, `zeroed_bytes` the bytes that were not zero before; both
    are those of the last walk over all events. `ranges` are zero at the event that was yielded
    last.
    """

    def __init__(self, source: Source, choice: Choice) -> None:
        self._source, self._choice = source, choice
        self._plan = plan(source, choice)
        self._begin()

    def _begin(self) -> None:
        self.removed: Counter[str] = Counter()
        self.zeroed_bytes = 0
        self.ranges = list(self._plan.ranges)
        self._named: dict[int, Range] = {}
        self._threads: dict[int, int] = {0: 0}
        self._renamed: dict[tuple[str, str], str] = {}
        self._counts: Counter[str] = Counter()

    def clocks(self) -> dict[int, list[int]]:
        """Return the values of the clock that each queue has read."""
        return self._source.clocks()

    def numbered(self, start: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (number, event): the numbers are those of the trace, some events are left out."""
        self._begin()
        for number, event in self._source.numbered():
            for one in self._cleaned(event):
                if number >= start:
                    yield number, one

    def pieces(self, event: Memory | Digest) -> Iterator[tuple[int, bytes]]:
        """Yield (address, bytes) of what an event of `numbered` holds."""
        return self._source.pieces(event)

    def chunk(self, chunk: Chunk) -> bytes:
        """Give the bytes of a chunk."""
        return self._source.chunk(chunk)

    def _cleaned(self, event: Event) -> Iterator[Event]:
        match event:
            case Memory():
                yield from self._memory(event)
            case HostStore():
                data = zeroed(event.address, event.data, self.ranges)
                self._count_zeroed(event.data, data)
                yield replace(event, data=data)
            case events.Ioctl() if event.target != "kfd" and event.request & 0xFF in drm.QUESTIONS:
                self.removed["answers about the machine"] += 1
            case events.Unmap():
                self._unnamed(event)
                yield event
            case _:
                yield self._plain(event)

    def _plain(self, event: Event) -> Event:
        match event:
            case events.Header():
                return self._header(event)
            case events.Ioctl() | events.DoorbellIntent() | events.WaitBegin():
                return replace(event, thread=self._thread(event.thread))
            case events.Name():
                return self._name(event)
            case events.QueueMap():
                return replace(event, name=self._other_name("queue", event.name))
            case events.Outcome():
                return self._outcome(event)
            case events.Trigger():
                return replace(event, cause=self._other_name("trigger", event.cause))
            case events.Note():
                return self._note(event)
            case events.Unsupported() if event.raw:
                self.removed["bits of calls that cannot be replayed"] += 1
                return replace(event, raw=b"")
        return event

    # --- facts ---------------------------------------------------------------------------------

    def _header(self, header: events.Header) -> events.Header:
        device = {name: header.device[name] for name in DEVICE_FACTS if name in header.device}
        kernel = re.match(r"\w+ \d+\.\d+", str(header.device.get("kernel", "")))
        if kernel:
            device["kernel"] = kernel[0]
        self.removed["facts about the device"] += len(
            [name for name, value in header.device.items() if device.get(name) != value]
        )
        topology = {name: self._node(node) for name, node in header.topology.items()}
        return replace(header, device=device, topology=topology)

    def _node(self, node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        known = [name for name in PLACES if node.get(name)]
        self.removed["numbers that tell which card it was"] += len(known)
        return {**node, **dict.fromkeys(known, 0)}

    def _thread(self, thread: int) -> int:
        if thread not in self._threads:
            self.removed["numbers of threads"] += 1
            self._threads[thread] = len(self._threads)
        return self._threads[thread]

    def _outcome(self, event: events.Outcome) -> events.Outcome:
        text = ""
        if event.result != "ended" and event.queue >= 0:
            text = f"queue {event.queue}, packet {event.packet}"
        self.removed["the message that the run ended with"] += event.text not in ("", text)
        details = {name: event.details[name] for name in DETAILS if name in event.details}
        self.removed["registers in the outcome"] += "registers" in event.details
        kernel = self._other_name("kernel", event.kernel)
        return replace(event, text=text, details=details, kernel=kernel)

    def _note(self, event: events.Note) -> events.Note:
        if event.what in NOTES and not (self._choice.names and event.what == "trigger"):
            return event
        self.removed["notes"] += 1
        return replace(event, text="")

    # --- names ---------------------------------------------------------------------------------

    def _name(self, event: events.Name) -> events.Name:
        if event.name in self._plan.names:
            place = Range(event.address, event.address + event.size)
            self._named[event.address] = place
            self.ranges.append(place)
        if event.what == "code" and event.name:  # the name of a file
            return replace(event, name=self._renaming("code", event.name))
        return replace(event, name=self._other_name(event.what, event.name))

    def _unnamed(self, event: events.Unmap) -> None:
        # Not when its name is taken away: what was stored before comes after that.
        for address, place in list(self._named.items()):
            if touches(event.address, event.size, [place]):
                del self._named[address]
                self.ranges.remove(place)

    def _other_name(self, what: str, name: str) -> str:
        return self._renaming(what, name) if name and self._choice.names else name

    def _renaming(self, what: str, name: str) -> str:
        if (what, name) not in self._renamed:
            self._counts[what] += 1
            self.removed["names of files" if what == "code" else "names"] += 1
            self._renamed[what, name] = f"{what} {self._counts[what]}"
        return self._renamed[what, name]

    # --- memory --------------------------------------------------------------------------------

    def _memory(self, event: Memory) -> Iterator[Memory]:
        if not touches(event.address, event.size, self.ranges):
            yield event
            return
        for address, data in self._source.pieces(event):
            clean = zeroed(address, data, self.ranges)
            self._count_zeroed(data, clean)
            yield replace(event, address=address, data=clean, chunks=())

    def _count_zeroed(self, before: bytes, after: bytes) -> None:
        self.zeroed_bytes += after.count(0) - before.count(0)
