"""The memory of a program in another process, reached through its own library.

While a thread of the program waits for the answer to an ioctl, the library in it reads and writes
memory for us and moves pages into the memory file. Everything goes through the connection of the
thread that waits.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EFAULT, EINVAL

from gputrace.devices.emulated.memory import Pool
from gputrace.devices.emulated.process import Client
from gputrace.errors import KfdError, UsageError
from gputrace.interpose.wire import PAYLOAD_LIMIT, Gone, Kind, Message, receive, send
from gputrace.kfd.registered import Registered


@dataclass(slots=True)
class Shared:
    """A range of the program's pages that lies in the memory file."""

    address: int
    length: int
    offset: int
    stores_found: bool
    """Whether the kernel tells which of these pages the program writes."""


class RemoteClient(Client):
    """Reads, writes and shares memory of the program whose calls are being answered."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._shared: dict[int, Shared] = {}  # by address; no two overlap
        self._registered: Registered[tuple[int, int]] | None = None

    @contextmanager
    def through(self, connection: socket.socket) -> Iterator[None]:
        """Use this connection for everything that this thread does inside."""
        self._local.connection = connection
        try:
            yield
        finally:
            self._local.connection = None

    def call(self, argument: bytes, ioctl: str) -> bytes:
        """Have the thread that waits call its ioctl with this argument; return it afterwards.

        Raises KfdError with the kernel's errno.
        """
        return self._ask(Message(Kind.CALL, payload=argument), ioctl).payload

    def shadow(self, address: int, size: int, descriptor: int) -> int:
        """Show the program a page of ours where it has mapped doorbells; return where they are."""
        return self._ask(Message(Kind.SHADOW, address, size), "mmap", descriptor).a

    def _ask(self, message: Message, ioctl: str, descriptor: int | None = None) -> Message:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            raise KfdError(ioctl, EFAULT, {"address": message.a}, "no thread of the program waits")
        send(connection, message, descriptor)
        answer = receive(connection)
        if answer.kind is not Kind.DONE:
            raise Gone(f"the library answers {message.kind.name} with {answer.kind.name}")
        if answer.b:
            fields = {"address": message.a, "size": message.b or len(message.payload)}
            raise KfdError(ioctl, min(answer.b, 4095), fields, f"{message.kind.name} failed")
        return answer

    def read(self, address: int, size: int, ioctl: str) -> bytes:
        """Return bytes of the program. Raises KfdError EFAULT where it has none."""
        parts = []
        for start in range(address, address + size, PAYLOAD_LIMIT):
            length = min(PAYLOAD_LIMIT, address + size - start)
            part = self._ask(Message(Kind.READ, start, length), ioctl).payload
            if len(part) != length:
                raise Gone(f"the library gave {len(part)} of {length} bytes")
            parts.append(part)
        return b"".join(parts)

    def write(self, address: int, data: bytes, ioctl: str) -> None:
        """Store bytes in the program. Raises KfdError EFAULT where it has no memory."""
        for start in range(0, len(data), PAYLOAD_LIMIT):
            part = data[start : start + PAYLOAD_LIMIT]
            self._ask(Message(Kind.WRITE, address + start, payload=part), ioctl)

    def find(self, descriptor: int, ioctl: str) -> int:
        """Return the handle of what the program has open as `descriptor`, 0 for anything else."""
        return self._ask(Message(Kind.FIND, descriptor), ioctl).a

    # --- user pointers ----------------------------------------------------------------------------

    def share(self, pool: Pool, address: int, length: int) -> tuple[int, int]:
        """Move pages of the program into the memory file, and map them there in their place.

        Pages that were shared before stay where they are: where two registrations overlap they are
        the same memory. Raises KfdError, with EINVAL where there is no room for that.
        """
        registered = self._rooms(pool)
        try:
            room = registered.room(address, address + length)
        except UsageError as problem:
            fields = {"address": address, "size": length}
            raise KfdError("ALLOC_MEMORY_OF_GPU", EINVAL, fields, str(problem)) from None
        offset, place = room.place
        shift = offset - room.start
        try:
            for low, high in registered.holes(address, address + length):
                self._shared[low] = self._move(pool, low, high - low, low + shift)
        except KfdError:
            self._undo(registered, address, length)
            raise
        registered.take(address, address + length)
        return address + shift, place + address - room.start

    def _rooms(self, pool: Pool) -> Registered[tuple[int, int]]:
        if self._registered is None:
            self._registered = Registered(
                pool.take, lambda room: pool.drop(room.place[0], room.length, room.place[1])
            )
        return self._registered

    def _move(self, pool: Pool, address: int, length: int, offset: int) -> Shared:
        message = Message(Kind.SHARE, address, length, offset)
        done = self._ask(message, "ALLOC_MEMORY_OF_GPU", pool.fd)
        return Shared(address, length, offset, bool(done.a))

    def _undo(self, registered: Registered[tuple[int, int]], address: int, length: int) -> None:
        for low, _ in registered.holes(address, address + length):
            if low in self._shared:
                self._move_back(self._shared.pop(low))
        registered.leave()

    def _move_back(self, one: Shared) -> None:
        self._ask(Message(Kind.DETACH, one.address, one.length), "FREE_MEMORY_OF_GPU")

    @property
    def shared(self) -> tuple[Shared, ...]:
        """What is shared now."""
        return tuple(self._shared.values())

    def detach(self, pool: Pool, place: int, length: int) -> None:
        """Give pages back to the program, with what they hold now, unless others have them too."""
        registered = self._rooms(pool)
        room = registered.by_place(lambda one: 0 <= place - one.place[1] < one.length)
        if room is None:
            return
        address = room.start + place - room.place[1]
        for piece in registered.give(address, address + length):
            self._move_back(self._shared.pop(piece.start))
        registered.leave()
