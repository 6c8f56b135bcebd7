"""One hardware queue: its ring, its engine, what it waits for, and the back end of its pipe.

The queue carries out the effects of its engine on the memory of one GPU. A step runs the engine
from one boundary to the next: a packet, the part of an indirect buffer that is one packet, one
end of pipe. Everything that decides when a step happens is in the scheduler.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gputrace.devices.emulated import operations
from gputrace.devices.emulated.effects import (
    AtEnd,
    Atomic,
    Clock,
    Condition,
    Copy,
    Drain,
    Effect,
    Engine,
    EngineStop,
    Fill,
    Interrupt,
    Launch,
    Load,
    LoadBytes,
    More,
    Never,
    Next,
    Pass,
    Store,
    StoreBytes,
    Wait,
    Words,
)
from gputrace.devices.emulated.memory import Space, Span
from gputrace.formats.ioctl import QueueType

PACKET_NS = 100
"""Virtual time of one packet, in nanoseconds."""
BYTES_PER_NS = 32
"""Bytes that a copy moves in a nanosecond of virtual time."""


class Host(Protocol):
    """What a queue needs of its device beyond memory."""

    def clock_ticks(self) -> int:
        """Return the GPU's counter."""

    def interrupt(self, context: int) -> None:
        """Pass an interrupt on to the kernel's side."""

    def start(self, dispatch: Any, queue: "HardwareQueue") -> "Work":
        """Begin a dispatch."""


class Work(Protocol):
    """A dispatch under way."""

    def advance(self) -> bool:
        """Run a slice of waves; return whether all work-groups have ended."""

    @property
    def cost_ns(self) -> int:
        """Virtual time that the last slice took."""


@dataclass(eq=False, slots=True)
class Tail:
    """Something in the back end of the pipe, and the packet that put it there."""

    packet: int
    place: int
    work: Work | Engine
    then: Engine | None = None

    @property
    def is_work(self) -> bool:
        """Whether these are waves, not an end of pipe."""
        return not isinstance(self.work, Generator)


class HardwareQueue:
    """A queue as the hardware sees it. `unit` is the size in bytes that its pointers count."""

    def __init__(
        self,
        *,
        queue_id: int,
        device: int,
        kind: QueueType,
        space: Space,
        host: Host,
        ring: tuple[int, int],
        pointers: tuple[int, int],
        doorbell: Callable[[], int],
        engine: Engine,
    ) -> None:
        self.queue_id, self.device, self.kind = queue_id, device, kind
        self.space, self.host, self.doorbell, self.engine = space, host, doorbell, engine
        self.base, self.size = ring
        self.write_address, self.read_address = pointers
        self.unit = {QueueType.COMPUTE: 4, QueueType.COMPUTE_AQL: 64}.get(kind, 1)
        self.units = self.size // self.unit
        self.read, self.packet, self.place = 0, 0, self.base
        self.pending: Effect = next(engine)
        self.pipe: deque[Tail] = deque()
        self.working: Tail | None = None
        self._turn = 0
        self.stopped = ""
        self.active = True
        self.cost_ns = 0

    # --- what the scheduler asks ---------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the front end can take a step. Raises AccessFault like the step itself would."""
        if self.stopped or not self.active:
            return False
        pending = self.pending
        if type(pending) is Next:
            return self.available() > 0
        if type(pending) is More:
            return self.available() * self.unit >= 4 * pending.needed
        if type(pending) is Wait:
            return self.holds(pending)
        if type(pending) is Drain:
            if pending.everything:
                return not self.pipe
            return not any(item.is_work for item in self.pipe)
        return type(pending) is not Never

    def available(self) -> int:
        """Units between read and write pointer. Raises EngineStop when they cannot be."""
        written = self.doorbell()
        if not 0 <= written - self.read <= self.units:
            text = f"write pointer {written:#x}, read pointer {self.read:#x}, ring {self.units:#x}"
            raise EngineStop(f"the doorbell leaves the ring: {text}")
        return written - self.read

    def holds(self, wait: Wait) -> bool:
        """Whether what a wait is for has come."""
        test = any if wait.any else all
        return test(condition.holds(self._value(condition)) for condition in wait.conditions)

    def _value(self, condition: Condition) -> int:
        return self._load(Load(condition.address, condition.size))

    def waiting(self) -> str:
        """Say in one line what the queue waits for, or nothing when it has all it was given."""
        pending = self.pending
        if isinstance(pending, Wait):
            texts = [
                f"{condition}, which is {self._value(condition):#x}"
                for condition in pending.conditions
            ]
            return "waits for " + (" or " if pending.any else " and ").join(texts)
        if isinstance(pending, More):
            there = self.available() * self.unit // 4
            return f"waits for a packet of {pending.needed} dwords, {there} are written"
        if isinstance(pending, Never):
            return f"waits for ever: {pending.reason}"
        if isinstance(pending, Drain):
            return "waits for its waves"
        return ""

    @property
    def address_waited_for(self) -> int | None:
        """The memory that the queue waits for."""
        pending = self.pending
        return pending.conditions[0].address if isinstance(pending, Wait) else None

    # --- steps ---------------------------------------------------------------------------------

    def step(self) -> None:
        """Take one step of the front end; it is ready."""
        self.cost_ns = PACKET_NS
        pending = self.pending
        value: Any = None
        if type(pending) is Next or type(pending) is More:
            value = self._ring_words()
        self.pending = self._run(self.engine, value)
        if type(self.pending) is Next:
            self._retire(self.pending.consumed)
        elif type(self.pending) is Pass and self.pending.place is not None:
            self.place = self.pending.place

    def _run(self, engine: Engine, value: Any) -> Effect:
        effects = self._EFFECTS
        while True:
            effect = engine.send(value)
            carry_out = effects.get(type(effect))
            if carry_out is None:  # a boundary
                return effect
            value = carry_out(self, effect)

    def _retire(self, consumed: int) -> None:
        self.read += consumed
        self.packet += 1
        self.place = self.base + self.read % self.units * self.unit
        shown = self.read % self.units if self.kind == QueueType.COMPUTE else self.read
        size = 4 if self.kind == QueueType.COMPUTE else 8
        self._store(Store(self.read_address, size, shown))

    def _ring_words(self) -> Sequence[int]:
        at = self.read % self.units * self.unit
        length = self.available() * self.unit // 4 * 4
        first = min(length, self.size - at)
        words = self._words(Words(self.base + at, first // 4))
        if first == length or self.unit == 1:  # an SDMA packet may not go over the end
            return words
        return [*words, *self._words(Words(self.base, (length - first) // 4))]

    def back_ready(self) -> bool:
        """Whether the back end of the pipe can take a step."""
        return bool(self.pipe) and not self.stopped

    def back_step(self) -> None:
        """Take one step of what is in the pipe: waves side by side, then the end after them."""
        self.cost_ns = PACKET_NS
        running = 0
        while running < len(self.pipe) and self.pipe[running].is_work:
            running += 1
        self._turn += 1
        at = self._turn % running if running else 0
        self.working = self.pipe[at]
        work = self.working.work
        if isinstance(work, Generator):
            self._finish(work)
        else:
            ended = work.advance()
            self.cost_ns = work.cost_ns
            if not ended:
                return
            if self.working.then is not None:
                self._finish(self.working.then)
        del self.pipe[at]

    def _finish(self, engine: Engine) -> None:
        value: Any = None
        while True:
            try:
                effect = engine.send(value)
            except StopIteration:
                return
            value = self._EFFECTS[type(effect)](self, effect)

    # --- effects -------------------------------------------------------------------------------

    def _span(self, address: int, size: int, access: str) -> Span:
        return self.space.span(address, size, access)

    def _words(self, effect: Words) -> Sequence[int]:
        if not effect.count:
            return ()
        span = self.space.find(effect.address)
        size = 4 * effect.count
        if span is not None and effect.address + size <= span.limit and not effect.address % 4:
            at = effect.address - span.start
            return span.view[at : at + size].cast("I")
        return memoryview(self.space.read(effect.address, size)).cast("I")

    def _load(self, effect: Load) -> int:
        span = self._span(effect.address, effect.size, "r")
        at = effect.address - span.start
        return int.from_bytes(span.view[at : at + effect.size], "little")

    def _store(self, effect: Store) -> None:
        span = self._span(effect.address, effect.size, "w")
        at = effect.address - span.start
        span.view[at : at + effect.size] = effect.value.to_bytes(effect.size, "little")

    def _load_bytes(self, effect: LoadBytes) -> bytes:
        return self.space.read(effect.address, effect.size)

    def _store_bytes(self, effect: StoreBytes) -> None:
        self.cost_ns += len(effect.data) // BYTES_PER_NS
        self.space.write(effect.address, effect.data)

    def _copy(self, effect: Copy) -> None:
        self.cost_ns += effect.size // BYTES_PER_NS
        operations.copy(self.space, effect.source, effect.destination, effect.size)

    def _fill(self, effect: Fill) -> None:
        self.cost_ns += effect.size // BYTES_PER_NS
        operations.fill(self.space, effect.address, effect.size, effect.pattern)

    def _atomic(self, effect: Atomic) -> int:
        size = effect.operation.size
        span = self._span(effect.address, size, "w")
        place = span.host + effect.address - span.start
        return operations.atomic(place, effect.operation, effect.source, effect.compare)

    def _interrupt(self, effect: Interrupt) -> None:
        self.host.interrupt(effect.context)

    def _clock(self, effect: Clock) -> int:
        return self.host.clock_ticks()

    def _launch(self, effect: Launch) -> None:
        work = self.host.start(effect.dispatch, self)
        self.pipe.append(Tail(self.packet, self.place, work, effect.then))

    def _at_end(self, effect: AtEnd) -> None:
        self.pipe.append(Tail(self.packet, self.place, effect.then))

    _EFFECTS: dict[type[Effect], Callable[..., Any]] = {  # noqa: RUF012
        Words: _words,
        Load: _load,
        Store: _store,
        LoadBytes: _load_bytes,
        StoreBytes: _store_bytes,
        Copy: _copy,
        Fill: _fill,
        Atomic: _atomic,
        Interrupt: _interrupt,
        Clock: _clock,
        Launch: _launch,
        AtEnd: _at_end,
    }
