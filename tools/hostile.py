"""A client of the server that says whatever it is told to: the preloaded library, gone bad."""

import socket
import struct
from pathlib import Path
from random import Random

from gputrace.errors import DecodeError
from gputrace.formats.ioctl import IOCTLS, MAGIC
from gputrace.interpose.wire import PAYLOAD_LIMIT, VERSION, Gone, Kind, Message, receive, send

_HEAD = struct.Struct("<IIQQQ")
EDGES = (0, 1, 7, 8, 4095, 4096, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 47, 1 << 63, (1 << 64) - 1)


class Client:
    """One connection, answering what the server asks with memory that is made up."""

    def __init__(self, path: Path, image: int = 1) -> None:
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection.connect(str(path))
        self.connection.settimeout(20)
        self.random: Random | None = None
        """Decides what the server is told, when there is one; else the truth, which is zeros."""
        assert self.ask(Message(Kind.HELLO, VERSION, 0, image)).b == 0

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self, message: Message) -> Message:
        """Send a message, answer what the server asks, return its answer. Raises Gone."""
        send(self.connection, message)
        while True:
            asked = _without_descriptor(self.connection)
            if asked.kind is Kind.ANSWER:
                return asked
            send(self.connection, self._answer(asked))

    def _answer(self, asked: Message) -> Message:
        size = min(asked.b, PAYLOAD_LIMIT)
        if self.random is None:
            return Message(Kind.DONE, payload=bytes(size) if asked.kind is Kind.READ else b"")
        length = self.random.choice((size, 0, self.random.randrange(PAYLOAD_LIMIT)))
        failed = self.random.choice((0, 0, 0, 14, 1 << 40))
        kind = self.random.choice((Kind.DONE,) * 20 + (Kind.ANSWER, Kind.HELLO))
        return Message(kind, self.random.choice(EDGES), failed, 0, self.random.randbytes(length))

    def open(self, node: int = 1, minor: int = 0) -> int:
        """Open a node; return its handle."""
        return self.ask(Message(Kind.OPEN, node, minor)).a

    def ioctl(self, handle: int, request: int, argument: bytes = b"") -> Message:
        """Call an ioctl."""
        return self.ask(Message(Kind.IOCTL, handle, request, 0x1000, argument))


def _without_descriptor(connection: socket.socket) -> Message:
    raw = connection.recv(_HEAD.size + PAYLOAD_LIMIT)
    if not raw:
        raise Gone("closed")
    kind, _, a, b, c = _HEAD.unpack_from(raw)
    return Message(Kind(kind), a, b, c, raw[_HEAD.size :])


def misbehave(path: Path, seed: int, steps: int = 40) -> int:
    """Do what no library does, by the seed; return how often the server hung up."""
    random, gone = Random(seed), 0
    client: Client | None = None
    handles = [0]
    for _ in range(steps):
        try:
            if client is None:
                client, handles = Client(path, random.randrange(1 << 64)), [0]
                client.random = random
                handles += [client.open(), client.open(2, 128)]
            _one(client, random, handles)
        except (Gone, DecodeError, OSError, ValueError, AssertionError):
            gone += 1
            if client is not None:
                client.connection.close()
            client = None
    if client is not None:
        client.connection.close()
    return gone


def _one(client: Client, random: Random, handles: list[int]) -> None:
    match random.randrange(10):
        case 0:
            client.connection.send(random.randbytes(random.choice((0, 1, 31, 32, 33, 4096))))
            receive(client.connection)
        case 1:
            kind = random.choice(list(Kind))
            numbers = (random.choice(EDGES) for _ in range(3))
            client.ask(Message(kind, *numbers, random.randbytes(random.choice((0, 8, 24, 32)))))
        case 2:
            client.connection.send(_HEAD.pack(4, random.choice(EDGES) & 0xFFFF_FFFF, 1, 2, 3))
            receive(client.connection)
        case 3:
            handles.append(client.open(random.choice((1, 2, 3, 1 << 40)), random.choice(EDGES)))
        case _:
            number = random.choice([*IOCTLS, 0x60, 0xFF])
            if number == 0x0C:
                return  # waits as long as it is told to
            entry = IOCTLS.get(number)
            size = random.choice((entry.size if entry else 8, random.randrange(1 << 10)))
            words = [random.choice(EDGES) for _ in range(size // 8 + 1)]
            argument = struct.pack(f"<{len(words)}Q", *words)[:size]
            request = random.randrange(4) << 30 | size << 16 | MAGIC << 8 | number
            client.ioctl(random.choice(handles), request, argument)
