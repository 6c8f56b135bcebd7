"""Messages between the preloaded library and the server; protocol.h has the same numbers.

One message is one packet of a SOCK_SEQPACKET socket: a head, then a payload of `PAYLOAD_LIMIT`
bytes at most. Descriptors travel beside it.
"""

import array
import os
import socket
import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from gputrace.errors import DecodeError

VERSION = 2
PAYLOAD_LIMIT = 65536
_HEAD = struct.Struct("<IIQQQ")
_MASK = (1 << 64) - 1


class Kind(IntEnum):
    """What a message says; 1 to 7 ask the server, 16 to 23 the library, the others answer."""

    HELLO = 1
    OPEN = 2
    CLOSE = 3
    IOCTL = 4
    MAPPED = 5
    UNMAPPED = 6
    RINGER = 7
    READ = 16
    WRITE = 17
    SHARE = 18
    DETACH = 19
    FIND = 20
    CALL = 21
    SHADOW = 22
    RING = 23
    ANSWER = 32
    DONE = 33


class Node(IntEnum):
    """What a program opens."""

    KFD = 1
    RENDER = 2


@dataclass(frozen=True, slots=True)
class Message:
    """One message: three numbers, whose meaning depends on the kind, and bytes.

    `descriptor` came along with it, -1 for none; whoever takes the message closes it.
    """

    kind: Kind
    a: int = 0
    b: int = 0
    c: int = 0
    payload: bytes = b""
    descriptor: int = -1


class Gone(ConnectionError):
    """The other side has closed the connection, or its process has ended."""


def send(connection: socket.socket, message: Message, descriptor: int | None = None) -> None:
    """Send one message. Raises Gone."""
    numbers = (value & _MASK for value in (message.a, message.b, message.c))
    head = _HEAD.pack(message.kind, len(message.payload), *numbers)
    beside = []
    if descriptor is not None:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    try:
        connection.sendmsg([head, message.payload], beside, socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Gone("the program is gone") from error


def receive(connection: socket.socket) -> Message:
    """Wait for one message. Raises Gone, and DecodeError for what no library of ours sends."""
    message = _receive(connection)
    if message.descriptor >= 0 and message.kind is not Kind.OPEN:
        os.close(message.descriptor)
        raise DecodeError("message", message.kind, "a descriptor came along with it")
    return message


def _receive(connection: socket.socket) -> Message:
    try:
        raw, beside, flags, _ = connection.recvmsg(
            _HEAD.size + PAYLOAD_LIMIT, socket.CMSG_SPACE(64 * 4)
        )
    except ConnectionResetError as error:
        raise Gone("the program is gone") from error
    came = [
        descriptor
        for level, kind, data in beside
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for descriptor in array.array("i", data[: len(data) // 4 * 4])
    ]
    try:
        message = _decode(raw, flags)
    except (Gone, DecodeError):
        _close(came)
        raise
    _close(came[1:])
    return replace(message, descriptor=came[0]) if came else message


def _decode(raw: bytes, flags: int) -> Message:
    if not raw:
        raise Gone("the program has closed the connection")
    if len(raw) < _HEAD.size or flags & socket.MSG_TRUNC:
        raise DecodeError("message", len(raw), "not a message of the preloaded library")
    kind, size, a, b, c = _HEAD.unpack_from(raw)
    if kind not in Kind.__members__.values() or size != len(raw) - _HEAD.size:
        raise DecodeError("message", kind, f"{size} bytes announced, {len(raw) - _HEAD.size} came")
    return Message(Kind(kind), a, b, c, raw[_HEAD.size :])


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
