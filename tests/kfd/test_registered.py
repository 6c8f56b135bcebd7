"""Registered memory: places side by side, pieces that overlapping registrations share."""

import random

import pytest

from gputrace.errors import UsageError
from gputrace.kfd.registered import ROOM, Registered, Room

PAGES = 24


def test_pieces_are_in_use_as_long_as_any_registration_has_a_page_of_them() -> None:
    rng, dropped = random.Random(5), list[Room[int]]()
    registered = Registered(lambda length: 0, dropped.append)
    live: list[tuple[int, int]] = []
    pieces: dict[int, set[int]] = {}  # page -> the piece that it came into use with
    for _ in range(400):
        if live and rng.random() < 0.5:
            start, end = live.pop(rng.randrange(len(live)))
            gone = registered.give(start, end)
            registered.leave()
            freed = {page for one in gone for page in range(one.start, one.end)}
            used = {page for low, high in live for page in range(low, high)}
            for page, piece in pieces.items():
                assert (page in freed) == (not piece & used)
            for page in freed:
                del pieces[page]
        else:
            start = rng.randrange(PAGES - 1)
            end = rng.randrange(start + 1, PAGES)
            registered.room(start, end)
            for low, high in registered.holes(start, end):
                piece = set(range(low, high))
                pieces.update((page, piece) for page in piece)
            registered.take(start, end)
            live.append((start, end))
            assert registered.holes(start, end) == []
        assert (registered.by_place(lambda room: True) is None) == (not pieces)
    assert dropped


def test_neighbours_have_places_side_by_side_and_nothing_goes_beyond_its_room() -> None:
    registered = Registered(lambda length: length, lambda room: None)
    room = registered.room(ROOM + 10, ROOM + 20)
    registered.take(ROOM + 10, ROOM + 20)
    assert (room.start, room.length, room.place) == (ROOM, ROOM, ROOM)
    assert registered.room(ROOM, ROOM + 15) is room
    assert registered.holes(ROOM, ROOM + 30) == [(ROOM, ROOM + 10), (ROOM + 20, ROOM + 30)]
    with pytest.raises(UsageError, match="goes beyond the room"):
        registered.room(ROOM + 15, 2 * ROOM + 5)
    assert registered.room(2 * ROOM + 5, 4 * ROOM + 5).length == 3 * ROOM


def test_what_lies_across_the_end_of_a_room_gets_one_of_its_own() -> None:
    made: list[int] = []

    def make(length: int) -> int:
        made.append(length)
        return len(made)

    registered = Registered(make, lambda room: None)
    low, high = (10, 20), (ROOM + 10, ROOM + 20)
    across = ROOM - 5, ROOM + 5
    for start, end in (low, high, across):  # whatever came first
        registered.room(start, end)
        registered.take(start, end)
    assert made == [ROOM, ROOM, 2 * ROOM]
    rooms = [registered.room_of(*one) for one in (low, high, across)]
    assert [room and room.place for room in rooms] == [1, 2, 3]
    inside = ROOM - 2, ROOM + 9  # which overlaps it, and so lies beside it
    assert registered.room(*inside) is rooms[2]
    registered.take(*inside)
    assert registered.room_of(ROOM + 5, ROOM + 9) is rooms[2]
    assert registered.room_of(ROOM + 8, ROOM + 12) is None
    with pytest.raises(UsageError, match="goes beyond the room"):
        registered.room(ROOM + 5, ROOM + 15)  # pages of two rooms
    assert [(one.start, one.end) for one in registered.give(*across)] == []
    registered.leave()
    assert registered.room_of(*inside) is rooms[2]
