"""Devices: what `open` gives, and everything that is made from it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

from gputrace.driver.aql import AqlQueue
from gputrace.driver.compute import RING_BYTES, ComputeQueue
from gputrace.driver.memory import Buffer, Kind
from gputrace.driver.pm4 import Pm4Queue
from gputrace.driver.program import Program, Source
from gputrace.driver.queue import Queue
from gputrace.driver.sdma import SdmaQueue
from gputrace.driver.session import Session
from gputrace.driver.signals import Signal
from gputrace.driver.timeline import Timeline
from gputrace.driver.waiting import WaitTimeout
from gputrace.errors import DeviceFault, UsageError
from gputrace.families import by_target_version
from gputrace.formats.ioctl import MAX_QUEUE_PRIORITY, GetClockCounters, QueueType
from gputrace.kfd.port import Fault, Kfd, Labelled
from gputrace.kfd.topology import Node

Q = TypeVar("Q", bound=Queue)
DEFAULT_PRIORITY = 7  # in the middle: a queue at the top can starve a desktop
DRAIN_SECONDS = 5.0  # of work still queued when a device is closed


class Device:
    """One GPU. Made by `gputrace.open`; a context manager that closes what it opened."""

    def __init__(self, session: Session, node: Node, name: str) -> None:
        self.session, self.node, self.name = session, node, name
        self.family = by_target_version(node["gfx_target_version"])
        self.gpu_id = node.gpu_id
        self.queues: list[Queue] = []
        self._numbers: dict[str, int] = {}
        self._host_wrote = self._host_views = False
        session.acquire(node)

    def __repr__(self) -> str:
        return f"<Device {self.name} {self.target}>"

    @property
    def index(self) -> int:
        """Which GPU of its KFD it is, from 0."""
        return [one.gpu_id for one in self.session.kfd.topology.gpus].index(self.gpu_id)

    @property
    def target(self) -> str:
        """The LLVM name of the GPU, such as "gfx942"."""
        return self.family.name

    # --- memory -----------------------------------------------------------------------------------

    def alloc(
        self,
        size: int,
        kind: Kind = "vram",
        *,
        peers: Iterable[Device] = (),
        executable: bool = False,
        visible: bool = True,
        address: int | None = None,
        name: str = "",
        what: Labelled = "buffer",
        file: str | Path | None = None,
    ) -> Buffer:
        """Allocate `size` bytes that this GPU, `peers` and (when `visible`) the CPU can touch.

        An `address` asks for that very GPU address, which the CPU does not share when it is not in
        the arena; reports and traces show the `name`.
        User memory may lie in a `file`, such as one in /dev/shm, that other processes map too.
        Raises UsageError, KfdError and OSError.
        """
        return self.session.allocate(
            self.node,
            size,
            kind,
            executable=executable,
            visible=visible,
            peers=self._ids(peers),
            address=address,
            name=name,
            what=what,
            file=file,
            wrote=self._wrote if kind == "vram" else None,
        )

    def share(self, buffer: Buffer, *peers: Device) -> None:
        """Map a buffer on other GPUs too; repeating it does no harm."""
        self.session.map_on(buffer, self._ids(peers))

    def _ids(self, peers: Iterable[Device]) -> list[int]:
        others = list(peers)
        for one in others:
            if one.session is not self.session:
                raise UsageError(f"{one!r} is no peer of {self!r}: it was opened apart")
        return [one.gpu_id for one in others]

    def _wrote(self, view: bool) -> None:
        self._host_wrote = True
        self._host_views = self._host_views or view

    def flush_host_writes(self) -> None:
        """Make what the CPU wrote to VRAM visible to the engines; called before each doorbell.

        Unless an array over VRAM was handed out it does something only after a write.
        """
        if self._host_wrote:
            self.session.flush_host_path(self.node)
            self._host_wrote = self._host_views

    # --- programs ---------------------------------------------------------------------------------

    def load(self, source: Source) -> Program:
        """Load a code object or the fitting one of an offload bundle, from a path or bytes.

        Raises UsageError for what does not run here and DecodeError for a damaged file.
        """
        return Program(self, source)

    # --- queues -----------------------------------------------------------------------------------

    @overload
    def compute_queue(
        self, kind: Literal["pm4"], ring_size: int = ..., *, priority: int = ..., xcc: int = ...
    ) -> Pm4Queue: ...
    @overload
    def compute_queue(
        self, kind: Literal["aql"], ring_size: int = ..., *, priority: int = ...
    ) -> AqlQueue: ...
    @overload
    def compute_queue(
        self, kind: None = None, ring_size: int = ..., *, priority: int = ...
    ) -> ComputeQueue: ...

    def compute_queue(
        self,
        kind: Literal["pm4", "aql"] | None = None,
        ring_size: int = RING_BYTES,
        *,
        priority: int = DEFAULT_PRIORITY,
        xcc: int = 0,
    ) -> ComputeQueue:
        """Make a compute queue that takes PM4 or AQL packets.

        By default it is AQL where the node has several XCCs that a PM4 queue does not reach; there
        `xcc` says which of them a PM4 queue uses. `priority` is 0 to 15.
        """
        one_of_several = self.node.xccs > 1 and not self.family.pm4_queue_spans_xccs
        if kind is None:
            kind = "aql" if one_of_several else "pm4"
        if kind not in ("pm4", "aql"):
            raise UsageError(f"compute queue kind {kind!r}: expected 'pm4' or 'aql'")
        if not 0 <= priority <= MAX_QUEUE_PRIORITY:
            raise UsageError(f"a queue's priority is 0 to {MAX_QUEUE_PRIORITY}, not {priority}")
        if xcc and not (kind == "pm4" and one_of_several and 0 < xcc < self.node.xccs):
            raise UsageError(f"XCC {xcc}: a queue of {kind} packets cannot choose it on {self!r}")
        made = AqlQueue if kind == "aql" else Pm4Queue
        name = self._next("compute")
        return self._made(made(self, name, ring_size, queue_priority=priority, target_xcc=xcc))

    def copy_queue(self, engine: Literal["xgmi"] | int | None = None) -> SdmaQueue:
        """Make a copy queue: on any engine, on one of those for links, or on engine N."""
        name = self._next("copy")
        if engine is None:
            return self._made(SdmaQueue(self, name))
        if engine == "xgmi":
            if not self.node.get("num_sdma_xgmi_engines"):
                raise UsageError(f"{self!r} has no XGMI copy engines")
            return self._made(SdmaQueue(self, name, QueueType.SDMA_XGMI))
        engines = self.node["num_sdma_engines"] + self.node.get("num_sdma_xgmi_engines", 0)
        if not isinstance(engine, int) or not 0 <= engine < engines:
            raise UsageError(f"{self!r} has no copy engine {engine!r}, only 0 to {engines - 1}")
        return self._made(SdmaQueue(self, name, QueueType.SDMA_BY_ENG_ID, int(engine)))

    def _next(self, what: str) -> str:
        with self.session.lock:
            number = self._numbers.get(what, 0)
            self._numbers[what] = number + 1
        return f"{what} {number}"

    def _made(self, queue: Q) -> Q:
        self.queues.append(queue)
        return queue

    def forget(self, queue: Queue) -> None:
        """Drop a queue that was closed."""
        if queue in self.queues:
            self.queues.remove(queue)

    def timeline(self, name: str = "", file: str | Path | None = None) -> Timeline:
        """Make a timeline that all queues of all devices and the CPU may signal and wait for.

        With a `file`, such as one in /dev/shm, it is the same timeline in every process that names
        the file; a new one must be empty or zero.
        """
        return self.session.timeline(name, file)

    def signal(self, name: str = "", initial: int = 1) -> Signal:
        """Make a signal that AQL packets decrement and wait for."""
        return self.session.signal(name, initial)

    @property
    def clock_hz(self) -> int:
        """Ticks a second of the clock that timestamps and `clock` count."""
        return self.family.clock_hz

    def clock(self) -> tuple[int, int]:
        """Return the GPU's clock counter and, of the same moment, the CPU's in ns."""
        answer = self.session.kfd.ioctl(GetClockCounters(gpu_id=self.gpu_id))
        return answer.gpu_clock_counter, answer.cpu_clock_counter

    # --- peers and end ----------------------------------------------------------------------------

    @property
    def peers(self) -> tuple[Device, ...]:
        """The other GPUs of this KFD, opened when first asked for."""
        return tuple(one for one in _all_devices(self.session) if one is not self)

    def synchronize(self, timeout: float | None = 30.0) -> None:
        """Wait until everything submitted to this device's queues is done."""
        for point in [queue.signal() for queue in self.queues]:
            point.wait(timeout)

    def close(self) -> None:
        """Wait a little for queued work, then release everything of the whole KFD."""
        close_session(self.session, drain=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_session(self.session, drain=kind is None)


_devices: dict[Session, list[Device]] = {}
_devices_lock = threading.Lock()


def _all_devices(session: Session) -> Sequence[Device]:
    with _devices_lock:
        known = _devices.setdefault(session, [])
        have = {one.gpu_id for one in known}
        for index, node in enumerate(session.kfd.topology.gpus):
            if node.gpu_id not in have:
                known.append(Device(session, node, f"{session.kfd.name}#{index}"))
        order = [node.gpu_id for node in session.kfd.topology.gpus]
        return sorted(known, key=lambda one: order.index(one.gpu_id))


def _drained(queues: Iterable[Queue]) -> None:
    for queue in queues:
        try:
            queue.drain(DRAIN_SECONDS)
        except (WaitTimeout, DeviceFault):
            return  # closing is how a hung or faulted device is left


def close_session(session: Session, *, drain: bool) -> None:
    """Close every device of a session: queues, then memory and events, then the KFD.

    A fork of the process that opened it only forgets them: they are not its own.
    """
    if session.foreign:
        return
    with _devices_lock:
        devices = _devices.pop(session, [])
    queues = [queue for device in devices for queue in device.queues]
    if drain:
        _drained(queues)
    with ExitStack() as rest:  # in reverse order, and all of it whatever fails
        rest.callback(session.close)
        for queue in queues:
            rest.callback(queue.close)


def open_kfd(kfd: Kfd, index: int = 0) -> Device:
    """Open a device on a KFD that the caller made: its GPU number `index`."""
    gpus = kfd.topology.gpus
    if not 0 <= index < len(gpus):
        raise UsageError(f"{kfd.name}: there is no GPU {index}, only {len(gpus)}")
    session = Session(kfd)
    try:
        device = Device(session, gpus[index], kfd.name)
    except BaseException:
        session.close()
        raise
    with _devices_lock:
        _devices[session] = [device]
    session.blame = lambda: [
        queue.current() for one in _devices.get(session, []) for queue in one.queues
    ]
    session.describe = lambda fault: _submitted(session, fault)
    return device


def _submitted(session: Session, fault: Fault) -> str:
    for device in _devices.get(session, []):
        for queue in device.queues:
            if device.index == fault.device and queue.queue_id == fault.queue:
                return queue.submitted(fault.place, fault.packet)
    return ""
