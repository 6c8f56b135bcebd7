"""Messages between the preloaded library and the server; protocol.h has the same numbers.

One message is one packet of a SOCK_SEQPACKET socket: a head, then a payload of `PAYLOAD_LIMIT`
bytes at most. Descriptors travel beside it.
"""

import array
import os
import socket
import struct
from enum import IntEnum
from typing import NamedTuple

from gputrace.errors import DecodeError

VERSION = 2
PAYLOAD_LIMIT = 65536
_HEAD = struct.Struct("<IIQQQ")
_MASK = (1 << 64) - 1
_BESIDE = socket.CMSG_SPACE(64 * 4)


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


_KINDS = {int(kind): kind for kind in Kind}
# Flags are plain numbers here: one message is a matter of a few microseconds.
_CUT, _QUIET = int(socket.MSG_TRUNC), int(socket.MSG_NOSIGNAL)


class Message(NamedTuple):
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
    kind, a, b, c, payload, _ = message
    packet = _HEAD.pack(kind, len(payload), a & _MASK, b & _MASK, c & _MASK) + payload
    try:
        if descriptor is None:
            connection.send(packet, _QUIET)
        else:
            beside = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            connection.sendmsg([packet], [beside], _QUIET)
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
        raw, beside, flags, _ = connection.recvmsg(_HEAD.size + PAYLOAD_LIMIT, _BESIDE)
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
    return message._replace(descriptor=came[0]) if came else message


def _decode(raw: bytes, flags: int) -> Message:
    if not raw:
        raise Gone("the program has closed the connection")
    if len(raw) < _HEAD.size or flags & _CUT:
        raise DecodeError("message", len(raw), "not a message of the preloaded library")
    number, size, a, b, c = _HEAD.unpack_from(raw)
    kind = _KINDS.get(number)
    if kind is None or size != len(raw) - _HEAD.size:
        reason = f"{size} bytes announced, {len(raw) - _HEAD.size} came"
        raise DecodeError("message", number, reason)
    return Message(kind, a, b, c, raw[_HEAD.size :])


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
