"""EmulatedKfd: the port, served by emulated GPUs in this process.

No thread goes on by itself: engines advance inside `idle` and WAIT_EVENTS only, in an order that
the seed fixes, on a virtual clock. A client with several threads takes turns at the port's lock.
"""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import replace
from errno import EACCES, EBADF, EBUSY, EDEADLK, EINVAL, EIO, ENODEV, ENOTTY, EPERM
from types import MappingProxyType
from typing import Any, Literal, cast

from gputrace import __version__
from gputrace.bits import Record
from gputrace.devices.emulated import awaiting, buffers, hangs, misc, queues, sharing
from gputrace.devices.emulated.effects import EngineStop
from gputrace.devices.emulated.history import Writer
from gputrace.devices.emulated.kernels import KernelRun
from gputrace.devices.emulated.operations import Settle
from gputrace.devices.emulated.process import Client, Process
from gputrace.devices.emulated.queue import HardwareQueue, Work
from gputrace.devices.emulated.render import render_ioctl
from gputrace.devices.emulated.scheduler import VERSION, Scheduler, Trouble
from gputrace.devices.emulated.shadow import KernelChecks, byte_exact
from gputrace.devices.emulated.troubles import report
from gputrace.devices.emulated.writes import GpuWrites
from gputrace.errors import Divergence, KfdError, UsageError
from gputrace.families import family as find_family
from gputrace.formats import ioctl
from gputrace.formats.ioctl import (
    BY_RECORD,
    MMAP_BYTES,
    MmapOffset,
    MmapType,
    WaitEvents,
)
from gputrace.isa.machine import Machine
from gputrace.kfd import host
from gputrace.kfd.generate import emulated_topology
from gputrace.kfd.host import PAGE
from gputrace.kfd.labels import Label
from gputrace.kfd.pagemap import Region
from gputrace.kfd.port import Fault, Labelled, Mapping, Progress, Protection, R, Stall
from gputrace.kfd.topology import Topology
from gputrace.kfd.tracking import Span

BUDGET = 1 << 32
"""Wave-instructions of one dispatch after which it counts as running for ever."""
EngineName = Literal["auto", "jit", "numpy"]
SLICE = 256
"""Steps that one call of `idle` takes at most."""
SLICE_NS = 1 << 25
"""Virtual time after which it takes no further step."""
_PUBLISHED = 0.0005  # seconds that a blocked wait leaves to other threads of the client

_HANDLERS: MappingOf[type[Record], Callable[[Process, Any], Record]] = MappingProxyType(
    {
        ioctl.GetVersion: misc.get_version,
        ioctl.GetProcessAperturesNew: misc.apertures_new,
        ioctl.GetProcessApertures: misc.apertures_old,
        ioctl.GetClockCounters: misc.clock_counters,
        ioctl.SetMemoryPolicy: misc.memory_policy,
        ioctl.SetScratchBackingVa: misc.scratch_backing,
        ioctl.SetTrapHandler: misc.trap_handler,
        ioctl.GetTileConfig: misc.tile_config,
        ioctl.SetXnackMode: misc.xnack_mode,
        ioctl.RuntimeEnable: misc.runtime_enable,
        ioctl.CreateEvent: misc.create_event,
        ioctl.DestroyEvent: misc.destroy_event,
        ioctl.SetEvent: misc.set_event,
        ioctl.ResetEvent: misc.reset_event,
        ioctl.AcquireVm: buffers.acquire_vm,
        ioctl.AllocMemoryOfGpu: buffers.alloc,
        ioctl.FreeMemoryOfGpu: buffers.free,
        ioctl.MapMemoryToGpu: buffers.map_to_gpu,
        ioctl.UnmapMemoryFromGpu: buffers.unmap_from_gpu,
        ioctl.GetAvailableMemory: buffers.available_memory,
        ioctl.ExportDmabuf: sharing.export_dmabuf,
        ioctl.ImportDmabuf: sharing.import_dmabuf,
        ioctl.GetDmabufInfo: sharing.dmabuf_info,
        ioctl.SetCuMask: queues.set_cu_mask,
        ioctl.DestroyQueue: queues.destroy_queue,
        ioctl.UpdateQueue: queues.update_queue,
        ioctl.AllocQueueGws: queues.alloc_queue_gws,
    }
)
_REFUSALS: MappingOf[type[Record], int] = MappingProxyType(
    {
        ioctl.Svm: EPERM,  # what a kernel without HMM answers
        ioctl.Criu: EACCES,
        ioctl.DbgRegister: EPERM,
        ioctl.DbgUnregister: EPERM,
        ioctl.DbgAddressWatch: EPERM,
        ioctl.DbgWaveControl: EPERM,
    }
)


class EmulatedKfd:
    """One to eight emulated GPUs of one family, peers of one another.

    With a `client` the program is another process: then the clock follows the machine's, and
    whoever made the device calls `pump` beside the program's calls. `cores` is how many threads a
    dispatch may run on while the port is in a call, 0: as many as the process may use.
    """

    def __init__(
        self,
        target: str,
        count: int = 1,
        *,
        vram: int | None = None,
        schedule: int = 0,
        name: str = "",
        client: Client | None = None,
        budget: int = BUDGET,
        engine: EngineName = "auto",
        exact: bool = False,
        cores: int = 0,
    ) -> None:
        self._exact, self._shadowed = exact, exact and client is None
        self._budget, self._engine, self._cores = budget, engine, cores
        family = find_family(target)
        self._client = client
        self._name = name or f"emu:{target}" + (f"x{count}" if count > 1 else "")
        self._topology = emulated_topology(family, count, vram)
        self.schedule_seed, self.scheduler_version = schedule, VERSION
        self._scheduler, self._family = Scheduler(schedule, self._trouble), family
        self._process: Process | None = None
        self._writes: GpuWrites | None = None
        self._machine: Machine | None = None
        self._closed = False
        self._pid = os.getpid()
        """The process that opened the device; memory is shared with its forks."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._counts: Counter[str] = Counter()
        self._fed: dict[int, deque[int]] = {}

    # --- identity ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name that opens this device again."""
        return self._name

    @property
    def versions(self) -> MappingOf[str, str]:
        """This program's own: no kernel has a part in it."""
        interface = ".".join(map(str, ioctl.INTERFACE_VERSION))
        return {"driver": f"gputrace {__version__}, emulated", "kfd": interface}

    @property
    def lasting(self) -> bool:
        """False: `close` gives everything back."""
        return False

    @property
    def topology(self) -> Topology:
        """The emulated nodes."""
        return self._topology

    @property
    def step(self) -> int:
        """How many steps the scheduler has taken."""
        return self._scheduler.step

    @property
    def statistics(self) -> MappingOf[str, int]:
        """How often each ioctl was called, packets executed and steps taken."""
        return MappingProxyType({**self._counts, "steps": self.step})

    @property
    def progress(self) -> MappingOf[int, int]:
        """How many packets of its ring each queue has left behind, by queue id."""
        hardware = self._opened("progress").hardware
        return MappingProxyType({queue.queue_id: queue.packet for queue in hardware})

    @property
    def refused(self) -> MappingOf[str, int]:
        """What was asked for and is not modelled, by name, with how often."""
        return MappingProxyType(dict(self._opened("refused").refused))

    # --- opening and closing -------------------------------------------------------------------

    def open(self) -> None:
        """Open the emulated /dev/kfd."""
        with self._lock:
            if self._process is not None or self._closed:
                raise KfdError("open", EBUSY, {"device": self.name}, "opened before")
            self._process = Process(
                self._family, self._topology, self._scheduler, self._client,
                exact=self._exact, shadowed=self._shadowed,
            )  # fmt: skip
            self._pid = os.getpid()

    def take_all_as_written(self) -> None:
        """Fault no read of what nobody has written: before `open`, by who does not know that."""
        self._shadowed = False

    @property
    def follows_writes(self) -> bool:
        """Whether it knows of all its memory if somebody has written it."""
        return self._shadowed

    def unwritten(self) -> list[Region]:
        """Return the bytes of memory, first and end, that nobody has written."""
        return self._opened("unwritten").unwritten()

    def leave_unwritten(self, ranges: Sequence[Region]) -> None:
        """Take these bytes as written by nobody, and all others as written."""
        self._opened("leave unwritten").leave_unwritten(ranges)

    def close(self) -> None:
        """Give all memory back; a fork has a copy of the device and nothing to give back."""
        with self._lock:
            if self._pid != os.getpid():
                return
            self._closed = True
            self._changed.notify_all()
            if self._writes is not None:
                self._writes.close()
                self._writes = None
            if self._process is not None:
                self._process.close()
                self._process = None

    def _opened(self, what: str) -> Process:
        if self._process is None:
            raise KfdError(what, EBADF, {"device": self.name}, "the device is not open")
        if self._pid != os.getpid():
            raise UsageError(
                f"{self.name} was opened by process {self._pid} and this is a fork of it: "
                "open the device after the fork"
            )
        return self._process

    # --- ioctls --------------------------------------------------------------------------------

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Answer an ioctl as the kernel would; what is not modelled is refused by name."""
        kind = type(record)
        found = BY_RECORD.get(kind)
        name = found.name if found else kind.__name__
        with self._lock:
            process = self._opened(name)
            self._counts[name] += 1
            self._follow_host()
            handler = _HANDLERS.get(kind)
            if handler is not None:
                answer = handler(process, record)
                self._changed.notify_all()
                return cast(R, answer)
            if isinstance(record, ioctl.CreateQueue):
                return cast(R, queues.create_queue(process, record, self))
            if isinstance(record, WaitEvents):
                return cast(R, self._wait_events(process, record))
            process.refused[name] += 1
            raise KfdError(name, _REFUSALS.get(kind, ENOTTY), {}, "not modelled")

    def render_ioctl(self, minor: int, request: int, data: bytearray) -> None:
        """Answer what runtimes ask a render node; the rest is refused by name."""
        with self._lock:
            render_ioctl(self._opened("render ioctl"), minor, request, data)

    # --- descriptors and mappings --------------------------------------------------------------

    def open_render(self, minor: int) -> int:
        """Return a descriptor of an emulated render node."""
        with self._lock:
            process = self._opened("open render node")
            if minor not in {node.render_minor for node in self._topology.gpus}:
                raise KfdError("open", ENODEV, {"minor": minor}, "no such render node")
            return process.open_render(minor)

    def map(
        self,
        *,
        fd: Literal["kfd"] | int,
        offset: int,
        size: int,
        address: int | None = None,
        protection: Protection = Protection.BOTH,
    ) -> Mapping:
        """Map emulated memory, doorbells, the MMIO page or the event page."""
        with self._lock:
            process = self._opened("mmap")
            if fd == "kfd":
                place = self._kfd_offset(process, offset, size)
            elif fd in process.render.values():
                if not process.pool.holds(offset, size):  # as drm_gem_mmap looks it up
                    fields = {"offset": offset, "size": size}
                    raise KfdError("mmap", EINVAL, fields, "no buffer of that size is there")
                place = offset
            elif fd in process.exported:
                place = sharing.place_in(process.exported[fd], offset, size)
            else:
                raise KfdError("mmap", EBADF, {"fd": fd}, "not a descriptor of this device")
            length = -(-size // PAGE) * PAGE
            at = host.map_shared(process.pool.fd, place, length, address, protection)
            if self._writes is not None:
                self._writes.mapped(at, place, length)
            if process.touched is not None:
                process.touched.mapped(at, place, length)
        readable = bool(protection & Protection.READ)
        view = host.view(at, size if readable else 0, bool(protection & Protection.WRITE))
        return Mapping(at, size, view, offset)

    @property
    def memory_file(self) -> int:
        """The descriptor of the file that all memory of the device lies in."""
        return self._opened("memory file").pool.fd

    def file_offset(self, offset: int, size: int) -> int:
        """Return where in the memory file that lies which /dev/kfd has at `offset`."""
        with self._lock:
            return self._kfd_offset(self._opened("mmap"), offset, size)

    def _kfd_offset(self, process: Process, offset: int, size: int) -> int:
        where = MmapOffset.decode(offset)
        fields = {"offset": offset, "size": size}
        right = MMAP_BYTES[where.type]
        if where.type == MmapType.EVENTS:
            if size > right or process.event_offset is None:
                raise KfdError("mmap", EINVAL, fields, "no event page of the kernel's")
            return process.event_offset
        gpu = process.gpu(where.gpu_id, "mmap", ENODEV)
        if size != right:
            raise KfdError("mmap", EINVAL, fields, f"{where.type.name} has {right} bytes")
        if where.type == MmapType.DOORBELL:
            return gpu.doorbell_offset
        if where.type == MmapType.MMIO:
            return gpu.mmio_offset
        raise KfdError("mmap", EINVAL, fields, "reserved memory is for APUs")

    def unmap(self, mapping: Mapping) -> None:
        """Take a mapping away and keep its range reserved."""
        try:
            mapping.view.release()
        except BufferError:
            raise UsageError(f"the mapping at {mapping.address:#x} is still in use") from None
        if self._writes is not None:
            self._writes.unmapped(mapping.address)
        if self._process is not None and self._process.touched is not None:
            self._process.touched.unmapped(mapping.address)
        host.cover(mapping.address, -(-mapping.size // PAGE) * PAGE)

    def reserve(self, size: int, address: int | None = None, alignment: int = PAGE) -> int:
        """Keep a range of this process's addresses free."""
        return host.reserve(size, address, alignment)

    def release(self, address: int, size: int) -> None:
        """Give a reserved range back."""
        host.unmap(address, size)

    def label(self, address: int, size: int, what: Labelled, name: str) -> None:
        """Keep a name for the texts of faults, and of kernels by their entry address."""
        with self._lock:
            process = self._opened("label")
            process.labels.put(Label(address, size, what, name))
            if what == "buffer" and name:
                for gpu in process.gpus:
                    gpu.space.shorten(address, size)

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Store to a doorbell; the queue sees it when the device next advances."""
        host.ring(address, value, bits)

    # --- time ----------------------------------------------------------------------------------

    def clock(self) -> int:
        """Return the virtual clock."""
        return self._scheduler.now_ns

    def clock_ticks(self) -> int:
        """Return the counter of the GPUs, or what `feed_clock` gave for the queue that asks."""
        turn = self._scheduler.turn
        fed = self._fed.get(turn[0].queue_id) if self._fed and turn else None
        if fed:
            return fed.popleft()
        return self._scheduler.now_ns * self._family.clock_hz // 1_000_000_000

    def kernel_ended(self) -> None:
        """Do nothing: whoever waits for a kernel waits for a packet after it."""

    def loop_changed(self) -> None:
        """Do nothing: who stores into memory in this process is known already."""

    def feed_clock(self, queue: int, values: Iterable[int]) -> None:
        """Have a queue read these values of the clock next, in order, before its own again."""
        self._fed.setdefault(queue, deque()).extend(values)

    def idle(self, until_ns: int | None = None) -> Progress:
        """Take up to SLICE steps. When none can be taken the clock moves on to `until_ns`."""
        with self._lock:
            process = self._opened("idle")
            scheduler = self._scheduler
            if self._advance(process):
                late = until_ns is not None and scheduler.now_ns >= until_ns
                return Progress.EXPIRED if late else Progress.ADVANCED
            if until_ns is not None:
                scheduler.now_ns = max(scheduler.now_ns, until_ns)
            return Progress.BLOCKED

    def pump(self) -> bool:
        """Let the engines work for a client in another process; return whether they did."""
        with self._lock:
            if self._process is None:
                return False
            self._follow_host()
            taken = self._advance(self._process)
            if taken:
                self._changed.notify_all()
            return taken > 0

    def _follow_host(self) -> None:
        if self._client is not None:
            self._scheduler.now_ns = max(self._scheduler.now_ns, time.monotonic_ns())

    def advance(self, step: int, clock_ns: int) -> None:
        """Take steps until `step` have been taken, then move the clock on to `clock_ns`.

        Before `open` there are none to take. Raises Divergence when nothing can go on before.
        """
        with self._lock:
            scheduler = self._scheduler
            if self._process is not None and scheduler.step < step:
                scheduler.run(self._process.hardware, step - scheduler.step)
            if scheduler.step != step:
                raise Divergence("scheduler step", step, scheduler.step)
            scheduler.now_ns = max(scheduler.now_ns, clock_ns)

    def forked(self) -> None:
        """Make this device independent of the one it was forked from; call it first in a child."""
        with self._lock:
            self._pid = os.getpid()
            self._opened("forked").forked()

    def written_by_gpu(self) -> list[Span]:
        """Return what the GPUs wrote since the last call, by addresses of the client's mappings.

        Watching begins with the first call, which must come before anything is mapped.
        """
        with self._lock:
            process = self._opened("written_by_gpu")
            if self._writes is None:
                self._writes = GpuWrites(process.pool)
            return self._writes.written()

    def stored_by_cpu(self, stores: Iterable[tuple[int, int]]) -> None:
        """Take what the client stored, by addresses of its mappings and sizes.

        Whoever watches these mappings calls it, for the first time before anything is mapped.
        """
        with self._lock:
            touched = self._opened("stored_by_cpu").touched
            if touched is not None:
                touched.stored(stores)

    def _advance(self, process: Process) -> int:
        taken = self._scheduler.run(process.hardware, SLICE, SLICE_NS)
        self._counts["packets"] = sum(queue.packet for queue in process.hardware)
        return taken

    def stalls(self) -> Sequence[Stall]:
        """Return the queues that wait, when no engine can take a step."""
        with self._lock:
            process = self._opened("stalls")
            if not self._scheduler.blocked(process.hardware):
                return ()
            return hangs.stalls(process)

    def last_writer(self, address: int, size: int = 1) -> Writer | None:
        """Return the packet that last wrote any of some bytes at a GPU address, if one did."""
        with self._lock:
            return self._opened("last writer").history.last(address, size)

    @property
    def lock(self) -> Any:
        """A reentrant lock: while a thread holds it no engine takes a step."""
        return self._lock

    @property
    def quiet(self) -> bool:
        """Whether no engine can take a step: memory stays as it is until the CPU acts."""
        with self._lock:
            process = self._process
            return process is None or self._scheduler.blocked(process.hardware)

    def last_turn(self) -> Writer | None:
        """Return the packet that the step taken last belonged to."""
        turn = self._scheduler.turn
        if turn is None:
            return None
        queue, _ = turn
        return Writer(queue.device, queue.queue_id, queue.author)

    def packets_done(self) -> dict[int, int]:
        """Return how many packets of its ring each queue has left behind, by queue id."""
        return dict(self.progress)

    def resume_queue(self, queue_id: int, read: int, doorbell: int, packets: int = 0) -> None:
        """Let a new queue stand where it stood when memory was saved: nothing is left to fetch.

        `packets` is how many it has left behind.
        """
        with self._lock:
            queue = self._opened("resume").queues.get(queue_id)
            if queue is None:
                raise KfdError("resume", EINVAL, {"queue_id": queue_id}, "no such queue")
            queue.gpu.doorbells[queue.doorbell] = doorbell
            queue.hardware.stand_at(read, packets)

    def leave_out(self, address: int) -> None:
        """Have `written_by_gpu` say no more about the mapping of the client at an address."""
        with self._lock:
            if self._writes is not None:
                self._writes.leave_out(address)

    def hang_report(self) -> str:
        """Say what every stalled queue waits for, one line each; empty when none is."""
        return hangs.told(self.stalls())

    def faults(self) -> Sequence[Fault]:
        """Return the faults so far."""
        return tuple(self._opened("faults").faults)

    # --- what the engines need -----------------------------------------------------------------

    def interrupt(self, context: int) -> None:
        """Take an interrupt of an engine."""
        self._opened("interrupt").events.interrupt(context)

    def start(self, dispatch: Any, queue: HardwareQueue) -> Work:
        """Begin a dispatch."""
        if self._machine is None:
            try:
                self._machine = Machine(self._family.name, self._engine, self._cores or None)
            except UsageError as problem:
                raise EngineStop(str(problem), refused=f"kernels of {self._family.name}") from None
        process = self._opened("dispatch")
        name = process.labels.kernel(dispatch.entry)
        launch = replace(dispatch, kernel=name) if name else dispatch
        launch, checks = byte_exact(launch) if self._exact else launch, None
        if process.touched is not None:
            checks = KernelChecks(queue.space, process.touched, launch.scratch_base)
        memory = process.gpus[queue.device].shaders
        return KernelRun(self._machine, launch, memory, self._budget, checks, queue.wave_sync)

    @property
    def settle(self) -> Settle | None:
        """What brings the shadows of memory up to date, with check=bytes."""
        touched = self._opened("copy").touched
        return None if touched is None else touched.settle

    def _trouble(self, queue: HardwareQueue, back: bool, problem: Trouble) -> None:
        report(self._opened("fault"), queue, back, problem, self.step)

    # --- waiting for events --------------------------------------------------------------------

    def _wait_events(self, process: Process, record: WaitEvents) -> WaitEvents:
        wait = awaiting.begin(process, record)
        end = awaiting.deadline(record, self._scheduler.now_ns)
        try:
            while wait.result is None and (end is None or self._scheduler.now_ns < end):
                if self._client is not None:
                    self._await_pump(end)
                elif not self._advance(process):
                    self._blocked(end)
            return awaiting.answer(process, record, wait)
        finally:
            wait.leave()

    def _await_pump(self, deadline: int | None) -> None:
        left = None if deadline is None else (deadline - self._scheduler.now_ns) / 1e9
        self._changed.wait(left)
        if self._closed:
            raise KfdError("WAIT_EVENTS", EIO, {}, "the device was closed")
        self._follow_host()

    def _blocked(self, deadline: int | None) -> None:
        # Nothing can happen on the device. Other threads of the client may still free it.
        if threading.active_count() > 1:
            self._lock.release()
            try:
                time.sleep(_PUBLISHED)
            finally:
                self._lock.acquire()
            self._scheduler.now_ns += int(_PUBLISHED * 1e9)
        elif deadline is not None:
            self._scheduler.now_ns = max(self._scheduler.now_ns, deadline)
        else:
            reason = self.hang_report() or "no event can come: every queue has ended"
            raise KfdError("WAIT_EVENTS", EDEADLK, {}, reason)
