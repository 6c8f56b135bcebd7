"""Answer programs in other processes, each process for itself.

There is one thread for each connection (the library makes one for each thread of the program), one
that accepts them and one for each program that lets its engines work. A program that is killed,
sends garbage or breaks the connection costs no other program anything.
"""

import os
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from errno import ECONNABORTED, EINVAL, EMFILE, ENFILE, ENODEV
from pathlib import Path

from gputrace.errors import DecodeError, FieldError, KfdError
from gputrace.interpose.program import Maker, Notice, Program
from gputrace.interpose.wire import VERSION, Gone, Kind, Message, Node, receive, send

_CREDENTIALS = struct.Struct("iII")
_BUSY_ROUNDS = 200  # looks at the doorbells before the pump begins to sleep between them
_SHORTEST, _LONGEST = 20e-6, 1e-3  # seconds of such a sleep


class Server:
    """Answers the programs that connect to the socket at `path`.

    `make` makes what answers one program. The folder of `path` must be closed to other users, and
    only processes of this user are answered. `tell` is called with each thing that is refused
    because it is not modelled, once, and with each fault. Use it as a context manager.
    """

    def __init__(self, make: Maker, path: Path, tell: Callable[[Notice], None]) -> None:
        self._make, self._path, self.tell = make, path, tell
        self.traces: list[Path] = []
        """The files that programs were recorded into."""
        self._programs: dict[int, Program] = {}
        self._handles = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._pumps: list[threading.Thread] = []
        self._pumped: set[Program] = set()
        self._told: set[str] = set()
        self._faults: Counter[int] = Counter()
        self._refused: Counter[str] = Counter()

    def __enter__(self) -> "Server":
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with suppress(ValueError, OSError):  # a connection for each thread of each program
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._listener.bind(str(self._path))
        self._listener.listen(1024)
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
            programs = list(self._programs.values())
        for program in programs:
            self._end(program)  # which ends waits for events, too
        with self._lock:
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
            except OSError as error:
                if error.errno not in (EMFILE, ENFILE, ECONNABORTED):
                    return  # the listener is closed
                time.sleep(_LONGEST)  # until a program that holds many connections lets some go
                continue
            process, user, _ = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if user != os.geteuid():
                connection.close()
                continue
            with self._lock:
                self._connections.add(connection)
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(_started(self._serve, connection, process))

    def _serve(self, connection: socket.socket, process: int) -> None:
        try:
            hello = receive(connection)
            if hello.kind is not Kind.HELLO or hello.a != VERSION:
                send(connection, Message(Kind.ANSWER, b=EINVAL))
                return
            program = self._program(process, hello.c)
            send(connection, Message(Kind.ANSWER, a=int(program.recorded)))
            with program.client.through(connection):
                while True:
                    self._answer(program, connection, receive(connection))
        except (Gone, DecodeError, OSError):
            return  # a program that left, or sends what no library of ours does
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _program(self, process: int, image: int) -> Program:
        with self._lock:
            known = self._programs.get(process)
            if known is not None and known.image == image and not known.closed:
                return known
            program = self._programs[process] = self._make(process, image)
        if known is not None:
            self._end(known)  # exec has replaced the program
        return program

    def gone(self, process: int) -> None:
        """Hear that a process has ended: what it was served by is closed when this returns."""
        with self._lock:
            program = self._programs.get(process)
        if program is not None:
            self._end(program)

    def _end(self, program: Program) -> None:
        # Nothing that another program needs is held: writing down the last of a run takes time.
        with self._lock:
            if program.closed:
                return
            program.closed = True
            self._pumped.discard(program)
            if self._programs.get(program.process) is program:
                del self._programs[program.process]
        with program.pumping:
            if program.started:
                self._look(program)
                refused = program.refused()
                program.end()
                if remark := program.remark():
                    self.tell(Notice("recording", program.process, remark))
                with self._lock:
                    self._refused.update(refused)
            os.close(program.ended)

    @property
    def refused(self) -> Counter[str]:
        """What the programs that have ended asked for and is not modelled, by name."""
        return self._refused

    def _look(self, program: Program) -> None:
        # Tell what is new: each refusal once, every fault. Several threads may look at once.
        with self._lock:
            names = [name for name in program.refused() if name not in self._told]
            faults = program.faults()[self._faults[program.process] :]
            self._told.update(names)
            self._faults[program.process] += len(faults)
        for name in names:
            self.tell(Notice("refused", program.process, f"{name} is not modelled"))
        for text in faults:
            self.tell(Notice("fault", program.process, text))

    # --- requests ---------------------------------------------------------------------------------

    def _answer(self, program: Program, connection: socket.socket, asked: Message) -> None:
        descriptor: int | None = None
        reply = Message(Kind.ANSWER)
        try:
            match asked.kind:
                case Kind.OPEN:
                    reply, descriptor = self._open(program, asked)
                case Kind.CLOSE:
                    program.close(asked.a)
                case Kind.IOCTL:
                    reply = program.ioctl(asked)
                case Kind.MAPPED | Kind.UNMAPPED:
                    program.mapping(asked)
                case Kind.RINGER:
                    program.take_ringer(connection)
                    return
                case _:
                    raise Gone(f"the library asks {asked.kind.name}")
        except KfdError as error:
            reply = Message(Kind.ANSWER, b=error.errno)
            if program.started and not program.closed:
                self._look(program)
        except FieldError:
            reply = Message(Kind.ANSWER, b=EINVAL)
        send(connection, reply, descriptor)

    def _open(self, program: Program, asked: Message) -> tuple[Message, int | None]:
        try:
            if asked.a not in Node.__members__.values():
                raise KfdError("open", ENODEV, {"node": asked.a})
            with self._lock:
                self._handles += 1
                handle = self._handles
            given = program.open(handle, Node(asked.a), asked.b, asked.descriptor)
        finally:
            if asked.descriptor >= 0:
                os.close(asked.descriptor)
        with self._lock:
            if program not in self._pumped:
                self._pumped.add(program)
                self._pumps.append(_started(self._pump, program))
                self.traces += [program.trace] if program.trace is not None else []
        return Message(Kind.ANSWER, handle), given

    # --- engines ----------------------------------------------------------------------------------

    def _pump(self, program: Program) -> None:
        try:
            self._pump_on(program)
        except BaseException:
            # A mistake of ours. The program would wait for ever: nobody serves it any more.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(program.ended, signal.SIGKILL)
            raise

    def _pump_on(self, program: Program) -> None:
        idle, pause = 0, _SHORTEST
        ended = select.poll()
        ended.register(program.ended, select.POLLIN)
        while not self._stopping.is_set():
            with program.pumping:
                if program.closed:
                    return
                worked = program.pump()
                if worked:
                    self._look(program)
            if worked:
                idle, pause = 0, _SHORTEST
                continue
            idle += 1
            if idle <= _BUSY_ROUNDS:
                time.sleep(0)
                continue
            if ended.poll(1e3 * pause):
                self._end(program)
                return
            pause = min(2 * pause, _LONGEST)


def _started(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread
