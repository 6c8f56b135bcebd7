"""The kernel's KFD as a tapped program has it: calls are made by the program's own threads.

KFD serves a process and no other, and user pointers, events and doorbells are that process's. So
nothing is opened here: while a thread of the program waits for us it makes the call that it was
about to make. Doorbells are rung by the ringer that the library has started in the program's
memory (tap.c), while the program stands still.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingOf
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import ENODEV
from pathlib import Path
from typing import Literal, NamedTuple

from gputrace.errors import KfdError, UsageError
from gputrace.formats.ioctl import (
    BY_RECORD,
    PROCESS_DOORBELL_BYTES,
    AcquireVm,
    CreateQueue,
    DestroyQueue,
    MmapOffset,
    MmapType,
    doorbell_parts,
    request_size,
)
from gputrace.interpose.client import RemoteClient
from gputrace.interpose.tap_memory import TapMemory
from gputrace.interpose.wire import Gone, Kind, Message, receive, send
from gputrace.kfd import host
from gputrace.kfd.port import Fault, Labelled, Mapping, Progress, Protection, R, Stall
from gputrace.kfd.topology import Topology
from gputrace.kfd.versions import kernel_versions

_CELLS = PROCESS_DOORBELL_BYTES // 8
_NEVER = (1 << 64) - 1
"""What a doorbell shows before the program stores to it: an AQL queue's first value is 0."""
_PATIENCE = 5.0
"""Seconds that a program may take to stand still, and its library to make a ringer."""


class Call(threading.local):
    """What this thread answers: its bytes, and what the kernel made of them."""

    asked: Message = Message(Kind.IOCTL)
    answer: bytes = b""
    descriptor: int = -1
    """Our copy of the descriptor that is mapped."""


@dataclass
class Frame:
    """The doorbells of one GPU: the page that the program sees, and where they really are."""

    address: int
    cells: memoryview
    seen: list[int]
    place: int
    real: int


class Rung(NamedTuple):
    """A doorbell that the program has rung: where it maps it, and the value."""

    address: int
    value: int


class TapKfd:
    """The port, towards the kernel of one program that is tapped."""

    def __init__(
        self, process: int, pidfd: int, client: RemoteClient, topology: Topology, memory: TapMemory
    ) -> None:
        self._process, self._pidfd, self._client = process, pidfd, client
        self._topology, self.memory = topology, memory
        self.call = Call()
        self._render: dict[int, int] = {}
        self._descriptors: dict[int, int] = {}  # our number of a node: our copy of its descriptor
        self._pages: dict[int, int] = {}  # mmap offset of doorbells: the one that a trace has
        self._queues: dict[int, tuple[int, int]] = {}  # queue: that, and its byte there
        self._frames: dict[int, Frame] = {}  # by mmap offset
        self._ringer: socket.socket | None = None
        self._ready = threading.Event()
        self._over = threading.Event()
        self._held = 0

    name = "kfd:0"
    lasting = True

    @property
    def versions(self) -> MappingOf[str, str]:
        """Those of this machine; the program asks for that of the interface itself."""
        return kernel_versions()

    @property
    def topology(self) -> Topology:
        """The nodes of this machine."""
        return self._topology

    def open(self) -> None:
        """Do nothing: the program has opened it."""

    def close(self) -> None:
        """Let go of the program's descriptors and of its ringer."""
        self._over.set()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        for frame in self._frames.values():
            frame.cells.release()
            host.unmap(frame.place, PROCESS_DOORBELL_BYTES)
        self._frames.clear()

    # --- calls ------------------------------------------------------------------------------------

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Have the program's thread make its call as it stands. Raises KfdError."""
        entry = BY_RECORD[type(record)]
        raw = self.unknown(entry.name)
        size = 4 * record.WORDS
        answer = type(record).from_bytes(raw[:size].ljust(size, b"\0"))
        if tail is not None:
            tail[:] = raw[size:]
        if isinstance(record, AcquireVm):
            return record  # with the number that the trace knows the node by
        if isinstance(answer, CreateQueue):
            offset, byte = self._queues[answer.queue_id] = doorbell_parts(answer.doorbell_offset)
            self._quiet(answer.queue_id)
            self._pages[offset] = MmapOffset(MmapType.DOORBELL, answer.gpu_id).encode()
            return answer.replace(doorbell_offset=self._pages[offset] + byte)
        if isinstance(record, DestroyQueue):
            self._queues.pop(record.queue_id, None)
        return answer

    def render_ioctl(self, minor: int, request: int, data: bytearray) -> None:
        """Have the program's thread make its call on a render node. Raises KfdError."""
        data[:] = self.unknown(f"renderD{minor}")

    def unknown(self, name: str) -> bytes:
        """Have the program's thread make its call, whatever it is. Raises KfdError."""
        asked = self.call.asked
        argument = asked.payload.ljust(request_size(asked.b), b"\0")
        self.call.answer = self._client.call(argument, name)
        return self.call.answer

    def opened(self, handle: int, descriptor: int) -> None:
        """Take our own copy of a descriptor that the program has opened."""
        self._descriptors[handle] = os.dup(descriptor)

    def open_render(self, minor: int) -> int:
        """Return the number that stands for a render node: one for all its descriptors."""
        return self._render.setdefault(minor, minor)

    # --- mappings of the program ------------------------------------------------------------------

    def map(
        self,
        *,
        fd: Literal["kfd"] | int,
        offset: int,
        size: int,
        address: int | None = None,
        protection: Protection = Protection.BOTH,
    ) -> Mapping:
        """Take note of a mapping of the program; the view is of one of our own. Raises KfdError."""
        assert address is not None
        view = memoryview(b"")
        if fd != "kfd" and protection & Protection.WRITE:
            view = host.view(self.memory.map(self.call.descriptor, address, offset, size), size)
        return Mapping(address, size, view, offset)

    def descriptor(self, handle: int) -> int:
        """Return our copy of a descriptor. Raises KfdError."""
        if handle not in self._descriptors:
            raise KfdError("mmap", ENODEV, {"handle": handle}, "it is not open")
        return self._descriptors[handle]

    def unmap(self, mapping: Mapping) -> None:
        """Take note that a mapping is gone."""
        if len(mapping.view):
            self.memory.unmap(mapping.address)

    def reserve(self, size: int, address: int | None = None, alignment: int = 4096) -> int:
        """Refuse: the program has its own addresses."""
        raise UsageError("addresses of a tapped program are its own")

    def release(self, address: int, size: int) -> None:
        """Refuse, as `reserve`."""
        raise UsageError("addresses of a tapped program are its own")

    def label(self, address: int, size: int, what: Labelled, name: str) -> None:
        """Keep nothing: the kernel has no place for names."""

    # --- doorbells --------------------------------------------------------------------------------

    def doorbells(self, offset: int) -> int | None:
        """Return the kernel's offset of doorbells that are mapped at an offset of /dev/kfd.

        None when there are none. The two differ where a served /dev/kfd is tapped.
        """
        return self._pages.get(offset)

    def shadow(self, address: int, offset: int, size: int) -> None:
        """Have the program find a page of ours where it has mapped doorbells."""
        descriptor = os.memfd_create("doorbells", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            place = host.map_shared(descriptor, 0, size, None, 3)
            cells = host.view(place, size).cast("Q")
            for index in range(len(cells)):
                cells[index] = _NEVER
            real = self._client.shadow(address, size, descriptor)
        finally:
            os.close(descriptor)
        self._frames[offset] = Frame(address, cells, [_NEVER] * len(cells), place, real)

    def forget_shadow(self, address: int) -> None:
        """Take note that the program has unmapped its doorbells."""
        for offset in [one for one, frame in self._frames.items() if frame.address == address]:
            frame = self._frames.pop(offset)
            frame.cells.release()
            host.unmap(frame.place, PROCESS_DOORBELL_BYTES)

    def _quiet(self, queue: int) -> None:
        # A doorbell that a destroyed queue had may be a new one's: nobody has rung that.
        offset, byte = self._queues[queue]
        frame = self._frames.get(offset)
        if frame is not None:
            frame.cells[byte // 8] = frame.seen[byte // 8] = _NEVER

    def rung(self) -> list[Rung]:
        """Return the doorbells that the program has rung since the last call, queue by queue."""
        found = []
        for offset, byte in list(self._queues.values()):
            frame = self._frames.get(offset)
            if frame is None:
                continue
            value = frame.cells[byte // 8]
            if value != frame.seen[byte // 8]:
                frame.seen[byte // 8] = value
                found.append(Rung(frame.address + byte, value))
        return found

    def ringer(self, connection: socket.socket) -> None:
        """Have doorbells rung over this connection; returns when the device is closed."""
        self._ringer = connection
        self._ready.set()
        self._over.wait()

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Ring a doorbell of the kernel. Raises KfdError when the program is gone."""
        frame = next(
            one for one in self._frames.values()
            if one.address <= address < one.address + PROCESS_DOORBELL_BYTES
        )  # fmt: skip
        fields = {"address": address, "value": value}
        if not self._ready.wait(_PATIENCE) or self._ringer is None:
            raise KfdError("doorbell", ENODEV, fields, "nobody is there to ring it")
        place = frame.real + address - frame.address
        try:
            send(self._ringer, Message(Kind.RING, place, value, bits))
            receive(self._ringer)
        except (Gone, OSError):
            raise KfdError("doorbell", ENODEV, fields, "the program is gone") from None

    # --- standing still ---------------------------------------------------------------------------

    @contextmanager
    def still(self) -> Iterator[None]:
        """Within this block the program stands still, so that memory changes by the GPU only."""
        if not self._held:
            self._stop()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._signal(signal.SIGCONT)

    def _stop(self) -> None:
        self._signal(signal.SIGSTOP)
        end = time.monotonic() + _PATIENCE
        while not _stopped(self._process) and time.monotonic() < end:
            time.sleep(20e-6)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    # --- time -------------------------------------------------------------------------------------

    def clock(self) -> int:
        """Return nanoseconds of the monotonic clock."""
        return time.monotonic_ns()

    def idle(self, until_ns: int | None = None) -> Progress:
        """Say that nothing is to be done here: the GPU works by itself."""
        return Progress.BLOCKED

    def stalls(self) -> Sequence[Stall]:
        """Return nothing: hardware does not tell what its queues wait for."""
        return ()

    def faults(self) -> Sequence[Fault]:
        """Return nothing: faults of hardware come as KFD events."""
        return ()


def _stopped(process: int) -> bool:
    # Threads that sleep in the kernel and cannot be woken store nothing either.
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return True  # it has ended
    try:
        states = [(one / "stat").read_text().rpartition(")")[2].split()[0] for one in tasks]
    except (OSError, IndexError):
        return False  # a thread has ended just now: look again
    return all(state in "TtDZX" for state in states)
