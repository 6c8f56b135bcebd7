"""Declare what a trace says: one small frozen class per kind of event.

An event is stored as a msgpack array `[kind, field, field, ...]` in the order of the declaration.
Fields hold raw bits and the name of the record that explains them, never decoded values. A field
may be added at the end with a default; nothing may be reordered or removed. Kinds are required
(a reader that does not know one refuses the trace) or optional (skipped and counted).

Integers are between -2**63 and 2**64 - 1. `step` is the step of the emulated device's scheduler at
which the event happened, -1 where there is none. `time` is nanoseconds of the host's monotonic
clock, `thread` the number of the client's thread; both are 0 where nobody looked.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple


class Chunk(NamedTuple):
    """A piece of memory by its content: xxh3-128 (16 bytes) and length in bytes."""

    digest: bytes
    size: int


class Payload(NamedTuple):
    """What a pointer field of an ioctl pointed at, before and after the call."""

    field: str
    address: int
    before: bytes
    after: bytes


class Observed(NamedTuple):
    """One value that had been reached.

    `what` is "read" (a queue's read pointer: `where` is the queue), "fence", "signal" (`where` is
    the address) or "event" (`where` is the event's id).
    """

    what: str
    where: int
    value: int


class Stretch(NamedTuple):
    """Bytes of memory: the GPU address of the first one, and how many."""

    address: int
    size: int


class QueueState(NamedTuple):
    """A queue at a checkpoint: id, read and write pointer, last doorbell value, packets done."""

    queue: int
    read: int
    write: int
    doorbell: int
    packets: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Base of every event."""

    KIND: ClassVar[int] = 0
    REQUIRED: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Header(Event):
    """Say who wrote the trace, on what, and how to read it. The first event of every trace.

    `device` holds facts about device, firmware and kernel driver; `topology` nodes as the kernel
    names them; `layouts` the layout of each record used: name -> [dwords, [[field, first bit,
    width], ...]]; `kinds` the kinds that may occur: number as text -> [name, required]. `mode` is
    "light" or "full". `written` says of a trace that may begin in the middle of a run that it tells
    what nobody had written by then (see `Unwritten`).
    """

    KIND: ClassVar[int] = 1
    tool: str
    schema: int = 1
    family: str = ""
    device: dict[str, Any] = field(default_factory=dict)
    topology: dict[str, Any] = field(default_factory=dict)
    layouts: dict[str, Any] = field(default_factory=dict)
    schedule_seed: int = 0
    scheduler: str = ""
    mode: str = "light"
    durable: bool = False
    kinds: dict[str, Any] = field(default_factory=dict)
    written: bool = False

    @property
    def knows_writes(self) -> bool:
        """Whether it is known of all memory, at any time, if somebody has written it."""
        return bool(self.scheduler) or self.written


@dataclass(frozen=True, slots=True)
class Open(Event):
    """A device node was opened: target "kfd" or "render:<minor>"; `handle` names it from now on."""

    KIND: ClassVar[int] = 2
    target: str
    handle: int = 0
    step: int = -1


@dataclass(frozen=True, slots=True)
class Close(Event):
    """What `Open` opened was closed."""

    KIND: ClassVar[int] = 3
    target: str
    handle: int = 0
    step: int = -1


@dataclass(frozen=True, slots=True)
class Ioctl(Event):
    """An ioctl returned: bits before and after, and what its pointers pointed at.

    `record` names the layout of `before` and `after`; `errno` is 0 for success.
    """

    KIND: ClassVar[int] = 4
    target: str
    record: str
    request: int
    before: bytes
    after: bytes
    errno: int = 0
    payloads: tuple[Payload, ...] = ()
    tail: bytes = b""
    step: int = -1
    time: int = 0
    thread: int = 0


@dataclass(frozen=True, slots=True)
class Map(Event):
    """Memory was mapped: `offset` is what the kernel handed out for mmap, `protection` PROT_*."""

    KIND: ClassVar[int] = 5
    address: int
    size: int
    target: str
    offset: int
    protection: int
    step: int = -1


@dataclass(frozen=True, slots=True)
class Unmap(Event):
    """Memory was unmapped."""

    KIND: ClassVar[int] = 6
    address: int
    size: int
    step: int = -1


@dataclass(frozen=True, slots=True)
class Reserve(Event):
    """A range of addresses was reserved without memory behind it."""

    KIND: ClassVar[int] = 7
    address: int
    size: int
    alignment: int = 0


@dataclass(frozen=True, slots=True)
class Release(Event):
    """A reserved range of addresses was given back."""

    KIND: ClassVar[int] = 8
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class QueueMap(Event):
    """A queue exists: its id, where its ring and pointers are, which doorbell rings it.

    `type` is the KFD's queue type; `live` is False when it was destroyed.
    """

    KIND: ClassVar[int] = 9
    queue: int
    gpu: int
    type: int
    ring: int
    ring_size: int
    read_pointer: int
    write_pointer: int
    doorbell: int
    name: str = ""
    live: bool = True


@dataclass(frozen=True, slots=True)
class EventMap(Event):
    """A KFD event exists: its id, type, slot and the address of its mailbox (0 when none)."""

    KIND: ClassVar[int] = 10
    event: int
    type: int
    slot: int
    mailbox: int = 0
    live: bool = True


@dataclass(frozen=True, slots=True)
class Name(Event):
    """A range of GPU addresses has a name.

    `what` is "buffer", "kernel", "symbol", "ring" or "code". An empty name takes the name away.
    """

    KIND: ClassVar[int] = 11
    REQUIRED: ClassVar[bool] = False
    address: int
    size: int
    what: str
    name: str


@dataclass(frozen=True, slots=True)
class Memory(Event):
    """Memory held these bytes from here on; small ones inline in `data`, else `chunks` in order.

    `provenance` is "cpu" (an input of the GPU's work), "gpu" (its result, never restored) or
    "unknown" (restored, never counted as compared).
    """

    KIND: ClassVar[int] = 12
    address: int
    provenance: str
    data: bytes = b""
    chunks: tuple[Chunk, ...] = ()
    step: int = -1

    @property
    def size(self) -> int:
        """Give the number of bytes."""
        return len(self.data) or sum(chunk.size for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class DoorbellIntent(Event):
    """A doorbell is about to be rung: written to the file before the store."""

    KIND: ClassVar[int] = 13
    submission: int
    queue: int
    address: int
    value: int
    bits: int = 64
    step: int = -1
    time: int = 0
    thread: int = 0


@dataclass(frozen=True, slots=True)
class DoorbellDone(Event):
    """The doorbell of the intent with the same submission number was rung."""

    KIND: ClassVar[int] = 14
    submission: int
    queue: int
    step: int = -1
    time: int = 0


@dataclass(frozen=True, slots=True)
class HostStore(Event):
    """The CPU stored `data` at `address` and rang no doorbell."""

    KIND: ClassVar[int] = 15
    address: int
    data: bytes
    step: int = -1
    time: int = 0


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """At least this much had happened when the events after it were caused."""

    KIND: ClassVar[int] = 16
    values: tuple[Observed, ...]
    step: int = -1


@dataclass(frozen=True, slots=True)
class WaitBegin(Event):
    """A thread began to wait until `values` are reached, at most `timeout` ns (-1: for ever)."""

    KIND: ClassVar[int] = 17
    wait: int
    values: tuple[Observed, ...] = ()
    timeout: int = -1
    step: int = -1
    time: int = 0
    thread: int = 0


@dataclass(frozen=True, slots=True)
class WaitEnd(Event):
    """The wait with this number ended: "reached", "timeout", "hang", "fault", "interrupted"."""

    KIND: ClassVar[int] = 18
    wait: int
    result: str
    values: tuple[Observed, ...] = ()
    step: int = -1
    time: int = 0


@dataclass(frozen=True, slots=True)
class Digest(Event):
    """What the GPU had written: a replay compares it.

    `chunks` covers `size` bytes in order, cut where `Memory` would be cut; `stored` says that the
    chunks' bytes are in the file too. `unstable` ranges had a writer outstanding and are not
    compared.
    """

    KIND: ClassVar[int] = 19
    address: int
    size: int
    chunks: tuple[Chunk, ...]
    stored: bool = False
    unstable: bool = False
    step: int = -1


@dataclass(frozen=True, slots=True)
class Checkpoint(Event):
    """A replay can start here: the `memories` Memory events after it hold all live memory.

    `complete` is False when something could not be taken, with the reason in `text`.
    """

    KIND: ClassVar[int] = 20
    memories: int
    queues: tuple[QueueState, ...] = ()
    complete: bool = True
    text: str = ""
    step: int = -1


@dataclass(frozen=True, slots=True)
class Unsupported(Event):
    """Something was seen that cannot be replayed: its name, why, and its bits."""

    KIND: ClassVar[int] = 21
    what: str
    reason: str
    raw: bytes = b""
    step: int = -1


@dataclass(frozen=True, slots=True)
class Cost(Event):
    """What the capture cost so far: nanoseconds in hooks, bytes of memory read, stalls added."""

    KIND: ClassVar[int] = 22
    REQUIRED: ClassVar[bool] = False
    nanoseconds: int
    scanned: int
    stalls: int
    doorbells: int = 0


@dataclass(frozen=True, slots=True)
class Outcome(Event):
    """How the captured run ended: "ended", "hang", "fault" or "killed", and the signature of it.

    A trace that expects other results than its packets give has "differs". Numbers are -1 where
    they do not apply; `proven` says that a hang was proven, not timed out.
    """

    KIND: ClassVar[int] = 23
    result: str
    text: str = ""
    queue: int = -1
    packet: int = -1
    address: int = -1
    access: str = ""
    kernel: str = ""
    wave: int = -1
    proven: bool = False
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trigger(Event):
    """Capture started or stopped: "start" or "stop", and what caused it."""

    KIND: ClassVar[int] = 24
    REQUIRED: ClassVar[bool] = False
    what: str
    cause: str
    submission: int = 0


THREADS = "threads"
"""What the Note is about that says that some stores may have come before their step."""


@dataclass(frozen=True, slots=True)
class Note(Event):
    """Free text that explains something to a reader."""

    KIND: ClassVar[int] = 25
    REQUIRED: ClassVar[bool] = False
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class ClockReads(Event):
    """A queue read the GPU's clock: the values in order. A replay gives the same ones again."""

    KIND: ClassVar[int] = 26
    queue: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """A damaged block took these bytes from the file: memory had them here.

    `provenance` is that of the Memory event which held them, or "digest" for what the GPU had
    written and a Digest event kept; of that the hash is left.
    """

    KIND: ClassVar[int] = 27
    address: int
    size: int
    provenance: str
    step: int = -1

    @property
    def restored(self) -> bool:
        """Whether a replay would have put the bytes in place, and so lacks them."""
        return self.provenance not in ("gpu", "digest")

    @property
    def text(self) -> str:
        """The loss on one line."""
        whose = {"cpu": "written by the CPU", "gpu": "written by the GPU",
                 "digest": "written by the GPU, their hash is left"}  # fmt: skip
        by = whose.get(self.provenance, "written by whom is not known")
        return f"{self.size} bytes at {self.address:#x}, {by}"


@dataclass(frozen=True, slots=True)
class Unwritten(Event):
    """Nobody has written these bytes by now, and somebody all others.

    It follows the memories of a checkpoint.
    """

    KIND: ClassVar[int] = 28
    REQUIRED: ClassVar[bool] = False
    ranges: tuple[Stretch, ...]
    step: int = -1


ALL: tuple[type[Event], ...] = (
    Header, Open, Close, Ioctl, Map, Unmap, Reserve, Release, QueueMap, EventMap, Name, Memory,
    DoorbellIntent, DoorbellDone, HostStore, Progress, WaitBegin, WaitEnd, Digest, Checkpoint,
    Unsupported, Cost, Outcome, Trigger, Note, ClockReads, Lost, Unwritten,
)  # fmt: skip
KINDS: dict[int, type[Event]] = {kind.KIND: kind for kind in ALL}


def kind_table() -> dict[str, list[object]]:
    """Give the table of known kinds as a header carries it."""
    return {str(kind.KIND): [kind.__name__, kind.REQUIRED] for kind in ALL}
