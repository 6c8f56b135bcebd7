"""One program that is served: what its calls come to is up to the kind of device."""

import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from errno import EBADF
from pathlib import Path
from typing import NamedTuple

from gputrace.bits import Record
from gputrace.errors import KfdError
from gputrace.interpose.client import RemoteClient
from gputrace.interpose.wire import Gone, Message, Node


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the user should know.

    `what` is "refused", "fault", "recording", "unseen" (what of a program nobody serves) or
    "unchecked" (what a device does not check).
    """

    what: str
    process: int
    text: str


class Opened(NamedTuple):
    """What a handle stands for: the node, the device's own descriptor of it, its minor."""

    node: Node
    descriptor: int
    minor: int


class Program(ABC):
    """One program, from its first connection to its end or the next exec."""

    def __init__(self, process: int, image: int) -> None:
        self.process, self.image = process, image
        self.client = RemoteClient()
        self.ended = os.pidfd_open(process)
        """Descriptor that becomes readable when the process ends."""
        self.lock = threading.Lock()
        self.pumping = threading.RLock()
        """Held while it is pumped, and while it ends."""
        self.started = self.closed = False
        self.trace: Path | None = None
        """The file that it is recorded into, once it is."""
        self._opened: dict[int, Opened] = {}

    @property
    @abstractmethod
    def recorded(self) -> bool:
        """Whether the library has to tell of mappings."""

    def open(self, handle: int, node: Node, minor: int, descriptor: int) -> int | None:
        """Open a node under a handle; return the descriptor that the program gets, if any."""
        with self.lock:
            if not self.started:
                self._begin()
                self.started = True
            self._opened[handle] = Opened(node, self._open(handle, node, minor, descriptor), minor)
            return self._given()

    def close(self, handle: int) -> None:
        """Forget what the program has closed."""
        with self.lock:
            self._opened.pop(handle, None)

    def opened(self, handle: int) -> Opened | None:
        """Return what a handle stands for."""
        with self.lock:
            return self._opened.get(handle)

    def ioctl(self, asked: Message) -> Message:
        """Answer an ioctl. Raises KfdError."""
        found = self.opened(asked.a)
        if found is None:
            raise KfdError("ioctl", EBADF, {"handle": asked.a}, "it is not open")
        return self._ioctl(found, asked)

    def own_descriptors(self, record: Record, name: str) -> Record:
        """Return a record whose descriptors of the program are the device's own."""
        changes: dict[str, int] = {}
        for one in record.FIELDS:
            if one.role is None or one.role.uses != "fd" or one.role.out:
                continue
            known = self.opened(self.client.find(getattr(record, one.name), name))
            changes[one.name] = 0xFFFF_FFFF if known is None else known.descriptor
        return record.replace(**changes) if changes else record

    @abstractmethod
    def _begin(self) -> None:
        """Open the device: the program opens its first node."""

    @abstractmethod
    def _open(self, handle: int, node: Node, minor: int, descriptor: int) -> int:
        """Open a node; return the device's own descriptor of it. `descriptor` is a tap's."""

    @abstractmethod
    def _given(self) -> int | None:
        """Return the descriptor that the program gets for a node, None when it has one."""

    @abstractmethod
    def _ioctl(self, found: Opened, asked: Message) -> Message:
        """Answer an ioctl on what is open. Raises KfdError."""

    @abstractmethod
    def mapping(self, asked: Message) -> None:
        """Take note of a mapping that was made, or is about to go. Raises KfdError, Gone."""

    def take_ringer(self, connection: socket.socket) -> None:
        """Ring doorbells over this connection, until the program ends; only a tap has one."""
        raise Gone("the library offers to ring doorbells, which nobody asked for")

    @abstractmethod
    def pump(self) -> bool:
        """Do what is to be done beside the program's calls; return whether there was anything."""

    @abstractmethod
    def end(self) -> None:
        """Close device and trace: the program is gone. Called once, and only if it has begun."""

    def remark(self) -> str:
        """Return what should be said of its recording once it has ended, or nothing."""
        return ""

    @abstractmethod
    def refused(self) -> Mapping[str, int]:
        """Return what it asked for and is not modelled, by name, with how often."""

    @abstractmethod
    def faults(self) -> Sequence[str]:
        """Return the device's faults, one line each, oldest first."""


Maker = Callable[[int, int], Program]
"""Makes what answers a program: its process and the number of its image."""
