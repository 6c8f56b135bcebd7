"""One hardware queue: its ring, its engine, what it waits for, and the back end of its pipe.

The queue carries out the effects of its engine on the memory of one GPU. A step runs the engine
from one boundary to the next: a packet, the part of an indirect buffer that is one packet, one
end of pipe. Everything that decides when a step happens is in the scheduler.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from gputrace.devices.emulated import operations
from gputrace.devices.emulated.effects import (
    AtEnd,
    Atomic,
    Clock,
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
    Next,
    Pass,
    Store,
    StoreBytes,
    Wait,
    Words,
)
from gputrace.devices.emulated.history import History
from gputrace.devices.emulated.memory import AccessFault, Space
from gputrace.formats.ioctl import QueueType
from gputrace.isa.launch import Place
from gputrace.isa.wave_sync import WaveSync
from gputrace.kfd.port import Registers

PACKET_NS = 100
_MESSAGE = 0xFFFFFF  # what M0 says in an interrupt of a wave (kfd_int_process_v9.c)
"""Virtual time of one packet, in nanoseconds."""
BYTES_PER_NS = 32
"""Bytes that a copy moves in a nanosecond of virtual time."""


class Host(Protocol):
    """What a queue needs of its device beyond memory."""

    def kernel_ended(self) -> None:
        """Hear that a kernel has ended, before what comes after it."""

    def loop_changed(self) -> None:
        """Hear that memory which endless waves look at has changed, before they look again."""

    def clock_ticks(self) -> int:
        """Return the GPU's counter."""

    def interrupt(self, context: int) -> None:
        """Pass an interrupt on to the kernel's side."""

    def start(self, dispatch: Any, queue: "HardwareQueue") -> "Work":
        """Begin a dispatch."""

    @property
    def settle(self) -> operations.Settle | None:
        """What brings shadows up to date, where there are any."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Waves that can never leave the states they go through, unless memory that they read changes.

    `seen` is that memory, as addresses and bytes; `place` is where one of the waves stands, and
    `registers` are its own. With `proven` unset the waves only used up what they were allowed to
    take.
    """

    seen: tuple[tuple[int, bytes], ...]
    kernel: str
    place: Place | None
    text: str
    proven: bool = True
    registers: Registers = field(default_factory=dict)


class Work(Protocol):
    """A dispatch under way."""

    def advance(self, alone: bool) -> bool:
        """Run a slice of waves; return whether all work-groups have ended.

        With `alone` nothing else on the device is ready to go or waits for memory.
        """

    def take_messages(self) -> list[int]:
        """Return the contexts of the interrupts that waves have raised since the last call."""

    def end(self) -> None:
        """Hear that this was the end: nobody asks any more."""

    @property
    def cost_ns(self) -> int:
        """Virtual time that the last slice took."""

    @property
    def loop(self) -> Loop | None:
        """Set while the waves go through the same states for ever unless memory changes."""


@dataclass(eq=False, slots=True)
class Tail:
    """Something in the back end of the pipe, and the packet that put it there."""

    packet: int
    place: int
    then: Engine | tuple[Effect, ...] | None
    work: Work | None = None
    """Waves, after which comes `then`; None where it comes at once."""


class HardwareQueue:
    """A queue as the hardware sees it. `unit` is the size in bytes that its pointers count.

    `engine` makes the engine that begins at a position of the ring.
    """

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
        engine: Callable[[int], Engine],
        history: History,
    ) -> None:
        self.queue_id, self.device, self.kind = queue_id, device, kind
        self.space, self.host, self.doorbell = space, host, doorbell
        self._make_engine, self.engine = engine, engine(0)
        self.base, self.size = ring
        self.write_address, self.read_address = pointers
        self.unit = {QueueType.COMPUTE: 4, QueueType.COMPUTE_AQL: 64}.get(kind, 1)
        self.units = self.size // self.unit
        span = space.span(self.base, self.size, "r")  # the kernel keeps it mapped
        at = self.base - span.start
        self._ring = span.view[at : at + self.size].cast("I")
        self._there = 0  # units that `ready` saw between read and write pointer
        self._whose = device, queue_id
        self._read_cell = self._cell(self.read_address, 4 if self.unit == 4 else 8)
        self.read, self.packet, self.place = 0, 0, self.base
        self.pending: Effect = next(self.engine)
        self.pipe: deque[Tail] = deque()
        self.working: Tail | None = None
        self._log, self._author = history.log, 0
        self._turn = 0
        self.stopped = ""
        self.active = True
        self.has_units = True
        """Whether the compute unit mask leaves any; without one waves wait for ever."""
        self.wave_sync: WaveSync | None = None
        """What its waves may wait at across work-groups, when it has been given that."""
        self.cost_ns = 0

    def stand_at(self, read: int, packets: int) -> None:
        """Begin at a position that is not the first, after so many packets."""
        self.packet = packets
        self.read, self.place = read, self.base + read % self.units * self.unit
        self.engine = self._make_engine(read)
        self.pending = next(self.engine)

    def _cell(self, address: int, size: int) -> memoryview | None:
        # One operand of memory that the kernel keeps mapped; None where it may not be written.
        span = self.space.find(address)
        if span is None or not span.writable or address + size > span.limit:
            return None
        at = address - span.start
        span.written(at, size)
        return span.view[at : at + size].cast("I" if size == 4 else "Q")

    # --- what the scheduler asks ---------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the front end can take a step. Raises AccessFault like the step itself would."""
        if self.stopped or not self.active:
            return False
        pending = self.pending
        kind = type(pending)
        if kind is Next:
            # One look only: a client in another process may ring between two.
            self._there = self.doorbell() - self.read
            if not 0 <= self._there <= self.units:
                self._there = self.available()
            return self._there > 0
        return kind is Pass or self._goes_on(pending)

    @property
    def waits(self) -> bool:
        """Whether the front end waits until memory holds a value."""
        return type(self.pending) is Wait

    def _goes_on(self, pending: Effect) -> bool:
        # Whether the engine has what it stands at a boundary for.
        kind = type(pending)
        if kind is Wait:
            return self.holds(cast(Wait, pending))
        if kind is More:
            self._there = self.available()
            return self._there * self.unit >= 4 * cast(More, pending).needed
        if kind is Drain:
            if cast(Drain, pending).everything:
                return not self.pipe
            return not any(item.work for item in self.pipe)
        return False

    def available(self) -> int:
        """Units between read and write pointer. Raises EngineStop when they cannot be."""
        count = self.doorbell() - self.read
        if 0 <= count <= self.units:
            return count
        written = count + self.read
        text = f"write pointer {written:#x}, read pointer {self.read:#x}, ring {self.units:#x}"
        reason = f"the doorbell leaves the ring: {text}"
        raise EngineStop(reason, hardware="executes old dwords of the ring")

    def holds(self, wait: Wait) -> bool:
        """Whether what a wait is for has come."""
        load = self.space.load
        for one in wait.conditions:
            if one.holds(load(one.address, one.size)) == wait.any:
                return wait.any
        return not wait.any

    def back_ready(self) -> bool:
        """Whether the back end of the pipe can take a step."""
        if not self.pipe or self.stopped:
            return False
        if self.pipe[0].work is None:
            return True
        return any(self._can_run(work) for work in self._side_by_side())

    def _side_by_side(self) -> list[Work]:
        # Dispatches at the head of the pipe run side by side; an end of pipe waits for them.
        works: list[Work] = []
        for tail in self.pipe:
            if tail.work is None:
                break
            works.append(tail.work)
        return works

    def _can_run(self, work: Work) -> bool:
        if not self.has_units or work.loop is None:
            return self.has_units
        if not self.changed(work.loop):
            return False
        self.host.loop_changed()
        return True

    def changed(self, loop: Loop) -> bool:
        """Whether memory that endless waves look at has changed, or is there no more."""
        read = self.space.read
        try:
            return any(read(address, len(data)) != data for address, data in loop.seen)
        except AccessFault:
            return True

    # --- for reports ---------------------------------------------------------------------------

    def unread(self) -> list[int]:
        """Return the dwords between read and write pointer."""
        count = min(self.available(), self.units) * self.unit // 4
        at = self.read % self.units * self.unit // 4
        first = self._ring[at : at + count]
        return [*first, *self._ring[: count - len(first)]]

    def words_at(self, place: int) -> Sequence[int]:
        """Return dwords from an address on: of the ring, round its end, or of other memory."""
        if self.base <= place < self.base + self.size:
            at = (place - self.base) // 4
            return [*self._ring[at:], *self._ring[:at]]
        span = self.space.span(place, 4, "r")
        return span.dwords[(place - span.start) // 4 :]

    # --- steps ---------------------------------------------------------------------------------

    @property
    def author(self) -> int:
        """The packet that the step taken last belonged to."""
        return self._author

    def step(self) -> None:
        """Take one step of the front end, which is ready: from one boundary to the next.

        A boundary at which the engine has what it asks for already is none.
        """
        self.cost_ns, self._author = PACKET_NS, self.packet
        send, effects = self.engine.send, self._EFFECTS
        pending = self.pending
        while True:
            value: Any = None
            if type(pending) is Next:
                value = self._words_there(0)
            elif type(pending) is More:
                value = self._words_there(pending.needed)
            effect = send(value)
            while (carry_out := effects.get(type(effect))) is not None:
                effect = send(carry_out(self, effect))
            self.pending = pending = effect  # a boundary
            if type(pending) is Next:
                self._retire(pending.consumed)
                return
            if type(pending) is Pass:
                if pending.place is not None:
                    self.place = pending.place
                return
            if not self._goes_on(pending):
                return

    def _retire(self, consumed: int) -> None:
        self.read += consumed
        self.packet += 1
        position = self.read % self.units
        self.place = self.base + position * self.unit
        shown = position if self.unit == 4 else self.read
        if self._read_cell is not None:
            self._read_cell[0] = shown
        else:
            self.space.store(self.read_address, 4 if self.unit == 4 else 8, shown)

    def _words_there(self, needed: int) -> Sequence[int]:
        # Dwords from the read pointer on: to the end of the ring, or `needed` of them.
        at = self.read % self.units * self.unit // 4
        there = self._ring[at : at + self._there * self.unit // 4]
        if len(there) >= needed or self.unit == 1:
            return there
        return [*there, *self._ring[: needed - len(there)]]

    def back_step(self, alone: bool) -> None:
        """Take one step of what is in the pipe: waves side by side, then the end after them.

        With `alone` no other engine is ready to go or waits for memory.
        """
        self.cost_ns = PACKET_NS
        at = 0
        if self.pipe[0].work is not None:
            works = self._side_by_side()
            able = [at for at, work in enumerate(works) if self._can_run(work)]
            alone = alone and len(works) == 1
            self._turn += 1
            at = able[self._turn % len(able)]
        self.working = tail = self.pipe[at]
        self._author = tail.packet
        if tail.work is not None:
            try:
                ended = tail.work.advance(alone)
            finally:
                for context in tail.work.take_messages():
                    self.host.interrupt(context & _MESSAGE)
            self.cost_ns = tail.work.cost_ns
            if not ended:
                return
            self.host.kernel_ended()
            tail.work.end()
        if tail.then is not None:
            self._finish(tail.then)
        del self.pipe[at]

    def _finish(self, then: Engine | tuple[Effect, ...]) -> None:
        effects = self._EFFECTS
        if isinstance(then, tuple):
            for effect in then:
                effects[type(effect)](self, effect)
            return
        value: Any = None
        while True:
            try:
                effect = then.send(value)
            except StopIteration:
                return
            value = effects[type(effect)](self, effect)

    # --- effects -------------------------------------------------------------------------------

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
        return self.space.load(effect.address, effect.size)

    def _store(self, effect: Store) -> None:
        address, size = effect.address, effect.size
        self._log.append((address, size, self._whose, self._author))
        self.space.store(address, size, effect.value)

    def _wrote(self, address: int, size: int) -> None:
        self._log.append((address, size, self._whose, self._author))

    def _load_bytes(self, effect: LoadBytes) -> bytes:
        return self.space.read(effect.address, effect.size)

    def _store_bytes(self, effect: StoreBytes) -> None:
        self.cost_ns += len(effect.data) // BYTES_PER_NS
        self._wrote(effect.address, len(effect.data))
        self.space.write(effect.address, effect.data)

    def _copy(self, effect: Copy) -> None:
        self.cost_ns += effect.size // BYTES_PER_NS
        self._wrote(effect.destination, effect.size)
        settle = self.host.settle
        operations.copy(self.space, effect.source, effect.destination, effect.size, settle)

    def _fill(self, effect: Fill) -> None:
        self.cost_ns += effect.size // BYTES_PER_NS
        self._wrote(effect.address, effect.size)
        operations.fill(self.space, effect.address, effect.size, effect.pattern)

    def _atomic(self, effect: Atomic) -> int:
        size = effect.operation.size
        self._wrote(effect.address, size)
        span = self.space.span(effect.address, size, "w")
        place = span.host + effect.address - span.start
        span.written(effect.address - span.start, size)
        return operations.atomic(place, effect.operation, effect.source, effect.compare)

    def _interrupt(self, effect: Interrupt) -> None:
        self.host.interrupt(effect.context)

    def _clock(self, effect: Clock) -> int:
        return self.host.clock_ticks()

    def _launch(self, effect: Launch) -> None:
        work = self.host.start(effect.dispatch, self)
        self._wrote(0, 0)
        self.pipe.append(Tail(self.packet, self.place, effect.then, work))

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
