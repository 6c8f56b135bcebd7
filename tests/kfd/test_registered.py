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
            registered.leave(start)
            freed = {page for low, high in gone for page in range(low, high)}
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
        assert (registered.room_at(0) is None) == (not pieces)
    assert dropped


def test_neighbours_have_places_side_by_side_and_nothing_goes_beyond_its_room() -> None:
    registered = Registered(lambda length: length, lambda room: None)
    room = registered.room(ROOM + 10, ROOM + 20)
    registered.take(ROOM + 10, ROOM + 20)
    assert (room.start, room.length, room.place) == (ROOM, ROOM, ROOM)
    assert registered.room(ROOM, ROOM + 15) is room
    assert registered.holes(ROOM, ROOM + 30) == [(ROOM, ROOM + 10), (ROOM + 20, ROOM + 30)]
    with pytest.raises(UsageError, match="goes beyond the room"):
        registered.room(2 * ROOM - 5, 2 * ROOM + 5)
    assert registered.room(2 * ROOM + 5, 4 * ROOM + 5).length == 3 * ROOM
