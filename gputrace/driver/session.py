"""One open KFD and everything that was made on it: addresses, events, memory, waits."""

import errno
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from gputrace.bits import Record
from gputrace.driver.arena import (
    ARENA_BASE,
    ARENA_COUNT,
    ARENA_SIZE,
    HUGE_PAGE,
    PAGE,
    Arena,
    round_up,
)
from gputrace.driver.mechanism import Block, Event, Mechanism
from gputrace.driver.memory import FLAGS, Buffer, Kind, UserMemory
from gputrace.driver.signals import SIGNAL_BYTES, Signal
from gputrace.driver.timeline import TIMELINE_BYTES, Timeline
from gputrace.driver.waiting import Waiter
from gputrace.errors import KfdError, UsageError
from gputrace.formats.ioctl import (
    EVENT_PAGE_BYTES,
    HDP_MEM_FLUSH,
    AllocFlag,
    EventType,
    HwExceptionData,
    MemoryExceptionData,
    SignalEventData,
)
from gputrace.kfd import host
from gputrace.kfd.port import Fault, Kfd, Labelled
from gputrace.kfd.topology import Node

_event_pages: dict[int, Block] = {}  # by process: a fork has none of its own yet


class Session:
    """What the devices of one open KFD share. Everything is released by `close`."""

    def __init__(self, kfd: Kfd) -> None:
        self.kfd, self.mechanism = kfd, Mechanism(kfd)
        self.lock = threading.RLock()
        self.closed = False
        self._pid = os.getpid()
        self.buffers: dict[int, Buffer] = {}
        self._allocated = 0
        self.acquired: dict[int, Node] = {}
        self.blame: Callable[[], list[str]] = list
        self.describe: Callable[[Fault], str] = lambda fault: ""
        self.checks: list[Callable[[], Fault | None]] = []
        self._queue_numbers, self._cells = itertools.count(), itertools.count()
        self._signals: list[Signal] = []
        self._signal_event: Event | None = None
        self._host_paths: dict[int, Block | None] = {}
        self._shared: list[Block] = []
        self._places: dict[int, int] = {}  # what the arena gave for each buffer
        self._timelines: list[Timeline] = []
        self._cell_page: Buffer | None = None
        self._events: list[Event] = []
        self._faults: tuple[Event, Event] | None = None
        self._event_page: Buffer | None = None
        self._page_in_use = self._kept = False
        self.waiter = Waiter(
            kfd, self.sleep, lambda: self.blame(), lambda one: self.describe(one), self.checks
        )
        kfd.open()
        try:
            self.arena = self._reserve()
            try:
                self.apertures = self.mechanism.apertures()
            except BaseException:
                kfd.release(self.arena.base, self.arena.size)
                raise
        except BaseException:
            kfd.close()
            raise

    def _reserve(self) -> Arena:
        for slot in range(ARENA_COUNT):
            base = ARENA_BASE + slot * ARENA_SIZE
            try:
                self.kfd.reserve(ARENA_SIZE, base)
            except KfdError as problem:
                if problem.errno != errno.EEXIST:
                    raise
                continue
            return Arena(base, ARENA_SIZE)
        raise UsageError(f"{ARENA_COUNT} devices are open in this process: close one first")

    def acquire(self, node: Node) -> None:
        """Make a GPU usable; memory that all share is mapped there too."""
        if node.gpu_id in self.acquired:
            return
        self.mechanism.acquire(node)
        self.acquired[node.gpu_id] = node
        for block in self._shared:
            self.mechanism.map_gpu(block, [node.gpu_id])
        if self._event_page is None:
            self._event_page = self._kept_page(node) or self.allocate(
                node, EVENT_PAGE_BYTES, "gtt", shared=True, name="event page"
            )

    def _kept_page(self, node: Node) -> Buffer | None:
        # A process has one event page as long as it lives, on a KFD that keeps it.
        block = _event_pages.get(os.getpid()) if self.kfd.lasting else None
        if block is None:
            return None
        if self.arena.base <= block.address < self.arena.base + self.arena.size:
            self.arena.take_at(block.address, block.size)
        if node.gpu_id not in block.mapped_on:
            self.mechanism.map_gpu(block, [node.gpu_id])
        self._shared.append(block)
        self._page_in_use = True
        return Buffer(block, EVENT_PAGE_BYTES, "gtt", self._release, None, None, "event page", self)

    # --- memory -----------------------------------------------------------------------------------

    def allocate(
        self,
        node: Node,
        size: int,
        kind: Kind,
        *,
        executable: bool = False,
        visible: bool = True,
        shared: bool = False,
        peers: Sequence[int] = (),
        address: int | None = None,
        wrote: Callable[[bool], None] | None = None,
        name: str = "",
        what: Labelled = "buffer",
        file: str | Path | None = None,
    ) -> Buffer:
        """Allocate; map on the GPU and `peers` (or all), and for the CPU when `visible`.

        Tools are told the size that was asked for, under a made-up name where none is given.
        """
        self._check_request(size, kind, file)
        name, size = self._name(name, kind), int(size)
        whole, flags = round_up(size, PAGE), _flags(kind, executable, visible)
        with self.lock, ExitStack() as undo:
            place = self._take(whole, address)
            undo.callback(self.arena.give_back, place)
            at = place if address is None else address
            user = UserMemory(whole, file) if kind == "userptr" else None
            self.waiter.others = self.waiter.others or file is not None
            if user is not None:
                undo.callback(user.close)
            block = self._make(node, at, whole, flags, user, place if visible else None)
            undo.callback(self.mechanism.free, block)
            self._map_gpus(block, None if shared else [node.gpu_id, *peers])
            buffer = Buffer(block, size, kind, self._release, wrote, user, name, self)
            self.buffers[at] = buffer
            self._places[at] = place
            undo.pop_all()
        self.kfd.label(at, size, what, name)
        return buffer

    def _check_request(self, size: int, kind: str, file: str | Path | None) -> None:
        if self.closed:
            raise UsageError("the device is closed")
        if kind not in FLAGS:
            raise UsageError(f"memory kind {kind!r}: expected {', '.join(FLAGS)}")
        if not isinstance(size, int | np.integer) or size <= 0:
            raise UsageError(f"cannot allocate {size!r} bytes")
        if file is not None and kind != "userptr":
            raise UsageError(f"memory of kind {kind!r} cannot lie in a file: expected 'userptr'")

    def _name(self, given: str, kind: Kind) -> str:
        self._allocated += 1
        return given or f"{kind} {self._allocated}"

    def _map_gpus(self, block: Block, gpu_ids: Sequence[int] | None) -> None:
        # None: on those that are there, and on those that are acquired later.
        every = [*self.acquired] if gpu_ids is None else gpu_ids
        self.mechanism.map_gpu(block, list(dict.fromkeys(every)))
        if gpu_ids is None:
            self._shared.append(block)

    # Where the CPU maps it. What the GPU sees outside of the arena, where this process may have
    # memory of its own, has a place inside.
    def _take(self, size: int, address: int | None) -> int:
        arena = self.arena
        if address is None or not arena.base <= address < arena.base + arena.size:
            return arena.take(size, HUGE_PAGE if size >= HUGE_PAGE else PAGE)
        arena.take_at(address, size)
        return address

    def _make(
        self,
        node: Node,
        address: int,
        size: int,
        flags: AllocFlag,
        user: UserMemory | None,
        place: int | None,
    ) -> Block:
        where = user.address if user is not None else 0
        block = self.mechanism.allocate(node.gpu_id, address, size, flags, user_memory=where)
        if place is not None and user is None:
            try:
                self.mechanism.map_cpu(block, node, address=place)
            except BaseException:
                self.mechanism.free(block)
                raise
        return block

    def flush_host_path(self, node: Node) -> None:
        """Make the CPU's stores to VRAM arrive; nothing where a node hides the register for it.

        Source: ROCr amd_gpu_agent.cpp, Linux amdgpu_amdkfd_gpuvm.c (allocations of MMIO_REMAP).
        """
        if node.gpu_id not in self._host_paths:
            with self.lock:
                self._host_paths[node.gpu_id] = self._map_registers(node)
        block = self._host_paths[node.gpu_id]
        if block is not None:
            host.ring(block.address + HDP_MEM_FLUSH, 1, 32)
            host.load(block.address + HDP_MEM_FLUSH, 32)  # comes back when the flush is done

    def _map_registers(self, node: Node) -> Block | None:
        at = self.arena.take(PAGE)
        flags = AllocFlag.WRITABLE | AllocFlag.MMIO_REMAP
        try:
            return self._make(node, at, PAGE, flags, None, at)
        except KfdError:
            self.arena.give_back(at)
            return None

    def map_on(self, buffer: Buffer, gpu_ids: Sequence[int]) -> None:
        """Map a buffer on more GPUs; those that have it already are left alone."""
        buffer.check(0, 0, "map")
        new = [one for one in gpu_ids if one not in buffer.block.mapped_on]
        if new:
            self.mechanism.map_gpu(buffer.block, new)

    def _release(self, buffer: Buffer) -> None:
        with self.lock:
            if buffer.user is not None:
                buffer.user.detach()
            self.mechanism.free(buffer.block)
            if buffer.user is not None:
                buffer.user.close()
            if buffer.block in self._shared:
                self._shared.remove(buffer.block)
            self.kfd.label(buffer.address, buffer.size, "buffer", "")
            del self.buffers[buffer.address]
            self.arena.give_back(self._places.pop(buffer.address))

    def locate(self, address: int) -> str:
        """Say which buffer an address is in, or which lie nearest."""
        below = max((b for b in self.buffers.values() if b.address <= address),
                    key=lambda b: b.address, default=None)  # fmt: skip
        if below is None:
            return "below every buffer"
        offset = address - below.address
        if offset < below.size:
            return f"byte {offset:#x} of {below!r}"
        return f"{offset - below.size:#x} bytes after the end of {below!r}"

    # --- events and waits -------------------------------------------------------------------------

    def make_event(self) -> Event:
        """Make a SIGNAL event; the first one brings the event page and the two fault events."""
        with self.lock:
            page = self._event_page
            if page is None:
                raise UsageError("no GPU was acquired yet")
            handle = 0 if self._page_in_use else page.block.handle
            event = self.mechanism.make_event(EventType.SIGNAL, handle)
            if self.kfd.lasting and not self._page_in_use:
                _event_pages[os.getpid()] = page.block
            self._page_in_use = True
            self._events.append(event)
            if self._faults is None:
                self._faults = self._fault_events()
            return event

    def _fault_events(self) -> tuple[Event, Event]:
        memory = self.mechanism.make_event(EventType.MEMORY, auto_reset=False)
        try:
            return memory, self.mechanism.make_event(EventType.HW_EXCEPTION, auto_reset=False)
        except BaseException:
            self.mechanism.destroy_event(memory)
            raise

    def drop_event(self, event: Event) -> None:
        """Give an event back; nothing sends it any more."""
        with self.lock:
            self._events.remove(event)
            self.mechanism.destroy_event(event)

    def mailbox(self, event: Event) -> int:
        """Return the address of an event's slot, where the GPU writes the event's id."""
        assert self._event_page is not None
        return self._event_page.address + 8 * event.slot

    def sleep(self, nanoseconds: int) -> Fault | None:
        """Block until an event or for that long; return the fault if that was the reason."""
        if self._faults is None:
            self.kfd.idle(self.kfd.clock() + nanoseconds)
            return None
        memory, hardware = self._faults
        with self.lock:
            events = tuple(self._events)
        records: list[Record] = [
            MemoryExceptionData(event_id=memory.event_id),
            HwExceptionData(event_id=hardware.event_id),
            *(SignalEventData(event_id=one.event_id) for one in events),
        ]
        milliseconds = max(1, round_up(nanoseconds, 1_000_000) // 1_000_000)
        try:
            answer = self.mechanism.wait(records, milliseconds)
        except KfdError:
            if events != tuple(self._events):
                return None  # another thread took one of them away
            raise
        known = self.kfd.faults()
        if known:
            return known[0]
        return self._fault(
            MemoryExceptionData.from_bytes(answer.data[0]),
            HwExceptionData.from_bytes(answer.data[1]),
        )

    def _fault(self, memory: MemoryExceptionData, reset: HwExceptionData) -> Fault | None:
        if memory.gpu_id:
            access = "x" if memory.NoExecute else "w" if memory.ReadOnly else "r"
            why = "not mapped" if memory.NotPresent else "not allowed"
            text = (
                f"page fault at {memory.va:#x} on GPU {memory.gpu_id:#x}: {why}; "
                f"{self.locate(memory.va)}"
            )
            return Fault("memory", text, memory.gpu_id, -1, -1, 0, memory.va, access)
        if reset.gpu_id:
            cause = "uncorrectable memory error" if reset.reset_cause else "hang"
            lost = ", its memory is lost" if reset.memory_lost else ""
            text = f"GPU {reset.gpu_id:#x} was reset after a {cause}{lost}"
            return Fault("packet", text, reset.gpu_id, -1, -1, 0)
        return None

    def timeline(self, name: str = "", file: str | Path | None = None) -> Timeline:
        """Make a timeline in memory that every GPU of the session sees, or other processes too."""
        with self.lock:
            page, at = self._cell() if file is None else (self._shared_page(file), 0)
            label = name or f"timeline {len(self._timelines)}"
            cells = page.memory[at : at + 16].cast("Q")
            timeline = Timeline(
                label,
                page.address + at,
                cells,
                self.waiter.until,
                shared=file is not None,
                owner=self,
            )
            self._timelines.append(timeline)
            self.kfd.label(page.address + at, 16, "symbol", f"timeline {label}" if name else label)
            return timeline

    def signal(self, name: str = "", initial: int = 1) -> Signal:
        """Make an AQL signal in memory that every GPU of the session sees."""
        with self.lock:
            if self._signal_event is None:
                self._signal_event = self.make_event()
            event = self._signal_event
            page, at = self._cell()
            label = name or f"signal {len(self._signals)}"
            memory = page.block.view[at : at + SIGNAL_BYTES]
            address = page.address + at
            made = Signal(label, address, memory, self.waiter.until, event, self.mailbox(event))
            memory[:] = made.describe(initial).to_bytes()
            self._signals.append(made)
            self.kfd.label(address, SIGNAL_BYTES, "symbol", f"signal {label}" if name else label)
            return made

    def _shared_page(self, file: str | Path) -> Buffer:
        node = next(iter(self.acquired.values()))
        return self.allocate(node, PAGE, "userptr", shared=True, file=file)

    def _cell(self) -> tuple[Buffer, int]:
        index = next(self._cells) % (PAGE // TIMELINE_BYTES)
        if index == 0:
            node = next(iter(self.acquired.values()))
            self._cell_page = self.allocate(node, PAGE, "gtt", shared=True)
        assert self._cell_page is not None
        return self._cell_page, index * TIMELINE_BYTES

    def next_queue_number(self) -> int:
        """Return a number that no other queue of this session has."""
        return next(self._queue_numbers)

    @property
    def foreign(self) -> bool:
        """Whether this is a copy, by fork, in another process than that which opened the KFD."""
        return self._pid != os.getpid()

    def close(self) -> None:
        """Free all memory and events and close the KFD. Queues must be gone."""
        if self.closed:
            return
        self.closed = True
        with ExitStack() as rest:  # in reverse order, and all of it whatever fails
            rest.callback(self.kfd.close)
            rest.callback(self._give_addresses_back)
            rest.callback(self.mechanism.close)
            for buffer in self.buffers.values():
                rest.callback(self._give_up, buffer)
            for block in self._host_paths.values():
                if block is not None:
                    rest.callback(self.mechanism.free, block)
            for timeline in self._timelines:
                rest.callback(timeline.detach)
            for signal in self._signals:
                rest.callback(signal.detach)
            for event in (*(self._faults or ()), *self._events):
                rest.callback(self.mechanism.destroy_event, event)

    def _give_addresses_back(self) -> None:
        if not self._kept:  # an array lives on: its addresses must stay
            self.kfd.release(self.arena.base, self.arena.size)

    def _give_up(self, buffer: Buffer) -> None:
        """Free a buffer, unless an array over it lives on."""
        buffer.poison()
        try:
            self.mechanism.unmap_cpu(buffer.block)
            if buffer.user is not None:
                buffer.user.detach()
        except UsageError:
            self._kept = True
            return
        if buffer is not self._event_page or not self._page_in_use:
            # The kernel keeps an event page that is in use until the process lets go of KFD.
            self.mechanism.free(buffer.block)
        if buffer.user is not None:
            buffer.user.close()


def _flags(kind: Kind, executable: bool, visible: bool) -> AllocFlag:
    flags = FLAGS[kind] | (AllocFlag.EXECUTABLE if executable else AllocFlag(0))
    return flags & ~AllocFlag.PUBLIC if kind == "vram" and not visible else flags
