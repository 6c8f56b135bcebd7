"""Serve emulated KFDs to other processes, each process its own.

There is one thread for each connection (the library makes one for each thread of the program), one
that accepts them and one that lets the engines work. A program that is killed, sends garbage or
breaks the connection costs no other program anything.
"""

import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from errno import EBADF, EINVAL, ENODEV, ENOTTY
from pathlib import Path
from typing import Literal, NamedTuple

from gputrace.bits import Record
from gputrace.capture.program import claim
from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.emulated.process import Client
from gputrace.devices.emulated.served import ServedKfd
from gputrace.errors import DecodeError, FieldError, KfdError
from gputrace.formats import ioctl
from gputrace.formats.ioctl import PROCESS_DOORBELL_BYTES, MmapType
from gputrace.interpose.client import RemoteClient
from gputrace.interpose.recording import Recording
from gputrace.interpose.wire import VERSION, Gone, Kind, Message, Node, receive, send

Maker = Callable[[Client], EmulatedKfd]

_CREDENTIALS = struct.Struct("iII")
_BUSY_ROUNDS = 200  # looks at the doorbells before the pump begins to sleep between them
_SHORTEST, _LONGEST = 20e-6, 1e-3  # seconds of such a sleep


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the user of a program should know: `what` is "refused" or "fault"."""

    what: str
    process: int
    text: str


class Opened(NamedTuple):
    """What a handle stands for: the node, the device's own descriptor of it, its minor."""

    node: Node
    descriptor: int
    minor: int


@dataclass(eq=False)
class Session:
    """One program: its device, what it has open, and the memory behind its connections."""

    process: int
    image: int
    client: RemoteClient
    kfd: EmulatedKfd
    ended: int
    """Descriptor that becomes readable when the process ends."""
    recording: Recording | None = None
    opened: dict[int, Opened] = field(default_factory=dict)
    """What the program has open, by handle."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    started: bool = False
    closed: bool = False
    faults: int = 0
    """How many of the device's faults have been told."""

    @property
    def calls(self) -> EmulatedKfd | Recording:
        """What answers the program's calls."""
        return self.recording or self.kfd


class Server:
    """Answers the programs that connect to the socket at `path`.

    `make` makes the device of a program. The folder of `path` must be closed to other users, and
    only processes of this user are answered. `tell` is called with each thing that is refused
    because it is not modelled, once, and with each fault. With `trace` programs are recorded: the
    first into this file, further ones into files beside it; `make` makes ServedKfds then. Use it
    as a context manager.
    """

    def __init__(
        self,
        make: Maker,
        path: Path,
        tell: Callable[[Notice], None],
        trace: Path | None = None,
    ) -> None:
        self._make, self._path, self._tell, self._trace = make, path, tell, trace
        self.traces: list[Path] = []
        """The files that programs were recorded into."""
        self._sessions: dict[int, Session] = {}
        self._handles = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._pumps: list[threading.Thread] = []
        self._told: set[str] = set()
        self._refused: Counter[str] = Counter()

    def __enter__(self) -> "Server":
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._threads.append(_started(self._accept))
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pump in self._pumps:
            pump.join()
        with self._lock:
            for session in list(self._sessions.values()):
                self._end(session)  # which ends waits for events, too
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    # --- connections ------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            process, user, _ = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if user != os.geteuid():
                connection.close()
                continue
            with self._lock:
                self._connections.add(connection)
            self._threads.append(_started(self._serve, connection, process))

    def _serve(self, connection: socket.socket, process: int) -> None:
        try:
            hello = receive(connection)
            if hello.kind is not Kind.HELLO or hello.a != VERSION:
                send(connection, Message(Kind.ANSWER, b=EINVAL))
                return
            session = self._session(process, hello.c)
            send(connection, Message(Kind.ANSWER, a=int(self._trace is not None)))
            while True:
                self._answer(session, connection, receive(connection))
        except (Gone, DecodeError, OSError):
            return  # a program that left, or sends what no library of ours does
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _session(self, process: int, image: int) -> Session:
        with self._lock:
            known = self._sessions.get(process)
            if known is not None and known.image == image and not known.closed:
                return known
            if known is not None:
                self._end(known)  # exec has replaced the program
            client = RemoteClient()
            ended = os.pidfd_open(process)
            session = Session(process, image, client, self._make(client), ended)
            self._sessions[process] = session
            return session

    def _end(self, session: Session) -> None:
        if session.closed:
            return
        session.closed = True
        if session.started:
            self._look(session)
            self._refused.update(session.kfd.refused)
            if session.recording is not None:
                session.recording.end()
            session.kfd.close()
        os.close(session.ended)
        self._sessions.pop(session.process, None)

    @property
    def refused(self) -> Counter[str]:
        """What the programs that have ended asked for and is not modelled, by name."""
        return self._refused

    def _look(self, session: Session) -> None:
        # Tell what is new: each refusal once, every fault.
        for name in session.kfd.refused:
            if name not in self._told:
                self._told.add(name)
                self._tell(Notice("refused", session.process, f"{name} is not modelled"))
        for fault in session.kfd.faults()[session.faults :]:
            session.faults += 1
            self._tell(Notice("fault", session.process, fault.text))

    # --- requests ---------------------------------------------------------------------------------

    def _answer(self, session: Session, connection: socket.socket, asked: Message) -> None:
        descriptor: int | None = None
        try:
            if asked.kind is Kind.OPEN:
                reply, descriptor = self._open(session, asked)
            elif asked.kind is Kind.CLOSE:
                with session.lock:
                    session.opened.pop(asked.a, None)
                reply = Message(Kind.ANSWER)
            elif asked.kind is Kind.IOCTL:
                with session.client.through(connection):
                    reply = self._ioctl(session, asked)
            elif asked.kind in (Kind.MAPPED, Kind.UNMAPPED) and session.recording is not None:
                _note_mapping(session, session.recording, asked)
                reply = Message(Kind.ANSWER)
            else:
                raise Gone(f"the library asks {asked.kind.name}")
        except KfdError as error:
            reply = Message(Kind.ANSWER, b=error.errno)
            if session.started and not session.closed:
                self._look(session)
        except FieldError:
            reply = Message(Kind.ANSWER, b=EINVAL)
        send(connection, reply, descriptor)

    def _open(self, session: Session, asked: Message) -> tuple[Message, int]:
        if asked.a not in Node.__members__.values():
            raise KfdError("open", ENODEV, {"node": asked.a})
        node = Node(asked.a)
        with session.lock:
            if not session.started:
                self._begin(session)
            own = session.calls.open_render(asked.b) if node is Node.RENDER else 0
            with self._lock:
                self._handles += 1
                handle = self._handles
            session.opened[handle] = Opened(node, own, asked.b)
        return Message(Kind.ANSWER, handle), session.kfd.memory_file

    def _begin(self, session: Session) -> None:
        # A program is recorded from its first open on: one that opens nothing leaves no file.
        if self._trace is not None:
            assert isinstance(session.kfd, ServedKfd)
            path = claim(self._trace, session.process)
            self.traces.append(path)
            session.recording = Recording(path, session.process, session.kfd, session.client)
        session.calls.open()
        session.started = True
        self._pumps.append(_started(self._pump, session))

    def _ioctl(self, session: Session, asked: Message) -> Message:
        with session.lock:
            found = session.opened.get(asked.a)
        if found is None:
            raise KfdError("ioctl", EBADF, {"handle": asked.a}, "it is not open")
        if found.node is Node.RENDER:
            data = bytearray(asked.payload)
            session.calls.render_ioctl(found.minor, asked.b, data)
            return Message(Kind.ANSWER, payload=bytes(data))
        return Message(Kind.ANSWER, payload=self._kfd_ioctl(session, asked))

    def _kfd_ioctl(self, session: Session, asked: Message) -> bytes:
        entry = ioctl.by_request(asked.b)
        if entry is None or entry.record is None:
            name = f"ioctl {asked.b:#x}" if entry is None else entry.name
            self._refused[name] += 1
            self._tell(Notice("refused", session.process, f"{name} is not modelled"))
            raise KfdError(name, ENOTTY, {"request": asked.b}, "not modelled")
        # As the kernel does: a shorter argument is extended with zeros, the rest of a longer one
        # is left alone.
        size = 4 * entry.record.WORDS
        record = entry.record.from_bytes(asked.payload[:size].ljust(size, b"\0"))
        tail = bytearray(asked.payload[size:]) if entry.record is ioctl.Svm else None
        record = self._own_descriptors(session, record, entry.name)
        answer = session.calls.ioctl(record, tail)
        answer = _file_offsets(session.kfd, answer)
        made = answer.to_bytes() + bytes(tail or b"")
        return made[: ioctl.request_size(asked.b)]

    def _own_descriptors(self, session: Session, record: Record, name: str) -> Record:
        changes: dict[str, int] = {}
        for one in record.FIELDS:
            if one.role is None or one.role.uses != "fd" or one.role.out:
                continue
            handle = session.client.find(getattr(record, one.name), name)
            with session.lock:
                known = session.opened.get(handle)
            changes[one.name] = 0xFFFF_FFFF if known is None else known.descriptor
        return record.replace(**changes) if changes else record

    # --- engines ----------------------------------------------------------------------------------

    def _pump(self, session: Session) -> None:
        idle, pause = 0, _SHORTEST
        engines = session.recording or session.kfd
        while not self._stopping.is_set() and not session.closed:
            if engines.pump():
                self._look(session)
                idle, pause = 0, _SHORTEST
                continue
            idle += 1
            if idle <= _BUSY_ROUNDS:
                time.sleep(0)
                continue
            if select.select([session.ended], [], [], pause)[0]:
                with self._lock:
                    self._end(session)
                return
            pause = min(2 * pause, _LONGEST)


def _started(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def _note_mapping(session: Session, recording: Recording, asked: Message) -> None:
    if asked.kind is Kind.UNMAPPED:
        recording.unmapped(asked.a)
        return
    if len(asked.payload) != 24:
        raise Gone("a mapping without its facts")
    handle, protection, found = struct.unpack("<3Q", asked.payload)
    with session.lock:
        known = session.opened.get(handle)
    if known is None:
        raise KfdError("mmap", EBADF, {"handle": handle}, "it is not open")
    node: Literal["kfd"] | int = "kfd" if known.node is Node.KFD else known.descriptor
    recording.mapped(node, asked.a, asked.b, asked.c, protection, bool(found))


def _file_offsets(kfd: EmulatedKfd, answer: Record) -> Record:
    # Programs map at true offsets of the memory file, where the kernel has numbers of its own.
    match answer:
        case ioctl.CreateQueue():
            page, byte = ioctl.doorbell_parts(answer.doorbell_offset)
            return answer.replace(
                doorbell_offset=kfd.file_offset(page, PROCESS_DOORBELL_BYTES) + byte
            )
        case ioctl.AllocMemoryOfGpu() if answer.flags & ioctl.AllocFlag.MMIO_REMAP:
            size = ioctl.MMAP_BYTES[MmapType.MMIO]
            return answer.replace(mmap_offset=kfd.file_offset(answer.mmap_offset, size))
        case _:
            return answer


