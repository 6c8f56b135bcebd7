"""The memory of a program in another process, reached through its own library.

While a thread of the program waits for the answer to an ioctl, the library in it reads and writes
memory for us and moves pages into the memory file. Everything goes through the connection of the
thread that waits.
"""

import socket
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EFAULT, EINVAL

from gputrace.devices.emulated.memory import Pool
from gputrace.devices.emulated.process import Client
from gputrace.errors import KfdError
from gputrace.interpose.wire import PAYLOAD_LIMIT, Gone, Kind, Message, receive, send


@dataclass(slots=True)
class Shared:
    """A range of the program's pages that lies in the memory file."""

    address: int
    length: int
    offset: int
    place: int
    stores_found: bool
    """Whether the kernel tells which of these pages the program writes."""
    users: int = 1


class RemoteClient(Client):
    """Reads, writes and shares memory of the program whose calls are being answered."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._shared: list[Shared] = []  # by address, no two overlap

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

        Pages that were shared before stay where they are, so that two registrations of the same
        memory are one. Raises KfdError EINVAL for a range that overlaps another in part.
        """
        at = bisect_right(self._shared, address, key=lambda one: one.address) - 1
        if at >= 0 and address + length <= self._shared[at].address + self._shared[at].length:
            found = self._shared[at]
            found.users += 1
            return found.offset + address - found.address, found.place + address - found.address
        end = self._shared[at].address + self._shared[at].length if at >= 0 else 0
        after = self._shared[at + 1].address if at + 1 < len(self._shared) else 1 << 64
        if address < end or address + length > after:
            fields = {"address": address, "size": length}
            reason = "it overlaps another user pointer in part, which is not modelled"
            raise KfdError("ALLOC_MEMORY_OF_GPU", EINVAL, fields, reason)
        offset, place = pool.take(length)
        try:
            message = Message(Kind.SHARE, address, length, offset)
            done = self._ask(message, "ALLOC_MEMORY_OF_GPU", pool.fd)
        except (KfdError, Gone):
            pool.drop(offset, length, place)
            raise
        one = Shared(address, length, offset, place, bool(done.a))
        self._shared.insert(at + 1, one)
        return offset, place

    @property
    def shared(self) -> tuple[Shared, ...]:
        """What is shared now, by address."""
        return tuple(self._shared)

    def detach(self, pool: Pool, place: int) -> None:
        """Give pages back to the program, with what they hold now."""
        for index, one in enumerate(self._shared):
            if one.place <= place < one.place + one.length:
                one.users -= 1
                if not one.users:
                    del self._shared[index]
                    message = Message(Kind.DETACH, one.address, one.length)
                    self._ask(message, "FREE_MEMORY_OF_GPU")
                    pool.drop(one.offset, one.length, one.place)
                return
