"""Memory of a program that it registers for the GPU, range by range, and ranges that overlap.

Where two registrations overlap they are the same memory, so neighbours need places side by side:
around each range there is room for what lies near. Pages come into use in pieces, and each piece is
in use until no registration has any of it. Two who follow the same registrations, such as a server
and a replay, find the same pieces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gputrace.errors import UsageError

ROOM = 1 << 24
"""Bytes for which room is made at a time, at multiples of it."""

Place = TypeVar("Place")


@dataclass(eq=False, slots=True)
class Room(Generic[Place]):
    """Addresses from `start` on, `length` bytes, and where they have their place."""

    start: int
    length: int
    place: Place


@dataclass(eq=False, slots=True)
class Piece:
    """Pages that came into use together; `users` counts the registrations that have any of them."""

    start: int
    end: int
    users: int = 1


class Registered(Generic[Place]):
    """Rooms and pieces; `make` makes a place of so many bytes, `drop` takes a room's back."""

    def __init__(
        self, make: Callable[[int], Place], drop: Callable[[Room[Place]], None]
    ) -> None:
        self._make, self._drop = make, drop
        self._rooms: dict[int, Room[Place]] = {}  # by each multiple of ROOM in them
        self._pieces: list[Piece] = []

    def room_at(self, address: int) -> Room[Place] | None:
        """Return the room around an address."""
        return self._rooms.get(address // ROOM)

    def by_place(self, there: Callable[[Room[Place]], bool]) -> Room[Place] | None:
        """Return the first room of which a function of it is true."""
        return next((room for room in self._rooms.values() if there(room)), None)

    def room(self, start: int, end: int) -> Room[Place]:
        """Return room for a range, made if there is none. Raises UsageError."""
        first, last = start // ROOM, (end - 1) // ROOM
        found = next((room for at, room in self._rooms.items() if first <= at <= last), None)
        if found is None:
            length = (last + 1 - first) * ROOM
            found = Room(first * ROOM, length, self._make(length))
            self._rooms.update(dict.fromkeys(range(first, last + 1), found))
        elif start < found.start or found.start + found.length < end:
            text = f"user memory at {start:#x} goes beyond the room made for what lies beside it"
            raise UsageError(text)
        return found

    def holes(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of a range that are in no piece, in rising order."""
        found, at = list[tuple[int, int]](), start
        for piece in self._within(start, end):
            if at < piece.start:
                found.append((at, piece.start))
            at = piece.end
        return [*found, (at, end)] if at < end else found

    def take(self, start: int, end: int) -> None:
        """Register a range of whole pages for which there is room."""
        made = [Piece(low, high) for low, high in self.holes(start, end)]
        for piece in self._within(start, end):
            piece.users += 1
        self._pieces = sorted([*self._pieces, *made], key=lambda one: one.start)

    def give(self, start: int, end: int) -> list[tuple[int, int]]:
        """Undo `take`; return the pieces that are in use no more."""
        gone = []
        for piece in self._within(start, end):
            piece.users -= 1
            if not piece.users:
                self._pieces.remove(piece)
                gone.append((piece.start, piece.end))
        return gone

    def leave(self, address: int) -> None:
        """Take the room around an address back if no piece is in it."""
        room = self.room_at(address)
        if room is None or self._within(room.start, room.start + room.length):
            return
        for at in range(room.start // ROOM, (room.start + room.length) // ROOM):
            del self._rooms[at]
        self._drop(room)

    def _within(self, start: int, end: int) -> list[Piece]:
        return [one for one in self._pieces if one.start < end and start < one.end]
