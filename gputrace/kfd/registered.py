"""Memory of a program that it registers for the GPU, range by range, and ranges that overlap.

Where two registrations overlap they are the same memory, so they need places side by side: around
each range there is room for what lies near. What fits into no room and overlaps nothing gets one of
its own, even if some of its addresses are in another one's. Pages come into use in pieces, and each
piece is in use until no registration has any of it. Two who follow the same registrations, such as
a server and a replay, find the same pieces.
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

    def holds(self, start: int, end: int) -> bool:
        """Whether there is room for a range."""
        return self.start <= start and end <= self.start + self.length


@dataclass(eq=False, slots=True)
class Piece(Generic[Place]):
    """Pages that came into use together; `users` counts the registrations that have any of them."""

    start: int
    end: int
    room: Room[Place]
    users: int = 1


class Registered(Generic[Place]):
    """Rooms and pieces; `make` makes a place of so many bytes, `drop` takes a room's back."""

    def __init__(
        self, make: Callable[[int], Place], drop: Callable[[Room[Place]], None]
    ) -> None:
        self._make, self._drop = make, drop
        self._rooms: list[Room[Place]] = []
        self._pieces: list[Piece[Place]] = []

    def room_of(self, start: int, end: int) -> Room[Place] | None:
        """Return the one room in which all of a range is in use, None if there is none."""
        rooms = [piece.room for piece in self._within(start, end)]
        one = rooms and all(room is rooms[0] for room in rooms)
        return rooms[0] if one and not self.holes(start, end) else None

    def by_place(self, there: Callable[[Room[Place]], bool]) -> Room[Place] | None:
        """Return the first room of which a function of it is true."""
        return next((room for room in self._rooms if there(room)), None)

    def room(self, start: int, end: int) -> Room[Place]:
        """Return room for a range, made if there is none. Raises UsageError."""
        shared = [piece.room for piece in self._within(start, end)]
        fitting = [room for room in shared[:1] or self._rooms if room.holds(start, end)]
        if shared and (not fitting or any(room is not shared[0] for room in shared)):
            text = f"user memory at {start:#x} goes beyond the room made for what it overlaps"
            raise UsageError(text)
        if not fitting:
            first, last = start // ROOM, (end - 1) // ROOM
            length = (last + 1 - first) * ROOM
            fitting.append(Room(first * ROOM, length, self._make(length)))
            self._rooms.append(fitting[0])
        return fitting[0]

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
        room = self.room(start, end)
        made = [Piece(low, high, room) for low, high in self.holes(start, end)]
        for piece in self._within(start, end):
            piece.users += 1
        self._pieces = sorted([*self._pieces, *made], key=lambda one: one.start)

    def give(self, start: int, end: int) -> list[Piece[Place]]:
        """Undo `take`; return the pieces that are in use no more."""
        gone = []
        for piece in self._within(start, end):
            piece.users -= 1
            if not piece.users:
                self._pieces.remove(piece)
                gone.append(piece)
        return gone

    def leave(self) -> None:
        """Take rooms back in which no piece is."""
        empty = [one for one in self._rooms if all(one is not piece.room for piece in self._pieces)]
        self._rooms = [one for one in self._rooms if one not in empty]
        for room in empty:
            self._drop(room)

    def _within(self, start: int, end: int) -> list[Piece[Place]]:
        return [one for one in self._pieces if one.start < end and start < one.end]
