"""Rings and upload memory, beside an engine that only knows the rules of the pointers."""

from random import Random
from types import SimpleNamespace

import pytest

from gputrace.driver.ring import Ring
from gputrace.driver.upload import ALIGNMENT, RESERVE, UploadRing
from gputrace.errors import UsageError

SIZE = 1024
KINDS = {"pm4": (4, True, False), "sdma": (1, False, False), "aql": (64, True, True)}


class Memory(bytearray):
    """Memory that writes down which bytes were stored, in order."""

    def __init__(self, size, log):
        super().__init__(size)
        self.log = log

    def __setitem__(self, where, value):
        self.log.append((where.start or 0, len(value)))
        super().__setitem__(where, value)


class Engine:
    """Fetches what a ring publishes; `stored` is what happened in memory and at the doorbell."""

    def __init__(self, kind):
        self.unit, straddle, last = KINDS[kind]
        self.kind, self.stored, self.taken = kind, [], bytearray()
        self.memory = Memory(SIZE, self.stored)
        self.read, self.write = bytearray(8), bytearray(8)
        port = SimpleNamespace(doorbell=self.doorbell)
        pointers = memoryview(self.read), memoryview(self.write)
        self.ring = Ring(
            port, self.memory, pointers, 0xD00, unit=self.unit, straddle=straddle, last_packet=last
        )
        self.at = self.rung = 0  # in units

    def doorbell(self, address, value):
        assert address == 0xD00
        assert int.from_bytes(self.write, "little") == (value + (self.kind == "aql"))
        self.stored.append("doorbell")
        self.rung = value + (self.kind == "aql")

    def fetch(self, units):
        """Take up to so many units from between the pointers."""
        for _ in range(min(units, self.rung - self.at)):
            start = self.at * self.unit % SIZE
            self.taken += self.memory[start : start + self.unit]
            self.at += 1
        # The read pointer of PM4 that firmware shows wraps at the ring's size.
        shown = self.at % (SIZE // 4) if self.kind == "pm4" else self.at
        self.read[:] = shown.to_bytes(8, "little")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_gets_every_byte_once_and_in_order(kind, seed):
    rng, engine = Random(seed), Engine(kind)
    ring, sent = engine.ring, bytearray()
    most = SIZE // 2 if kind == "sdma" else SIZE
    step = max(4, engine.unit)
    for _ in range(300):
        size = step * rng.randint(1, most // step // rng.choice([1, 4, 16]))
        data = bytes(rng.randint(1, 255) for _ in range(size))
        if kind == "pm4" and size > SIZE - 4:
            continue
        while ring.free < ring.need(size):
            before = ring.free
            ring.ring()
            engine.fetch(rng.randint(1, SIZE))
            assert ring.free > before or engine.at < engine.rung
        start = ring.written % SIZE
        ring.put(data, f"{size} bytes")
        if kind == "sdma" and start + size > SIZE:
            sent += bytes(SIZE - start)
        sent += data
        if rng.random() < 0.5:
            ring.ring()
            engine.fetch(rng.choice([0, 1, 7, SIZE]))
    ring.ring()
    engine.fetch(SIZE)
    assert engine.taken == sent
    assert ring.consumed == ring.written == len(sent)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ring_is_full_when_it_cannot_be_told_from_an_empty_one(kind):
    engine = Engine(kind)
    room = {"pm4": SIZE - 4, "sdma": SIZE - 1, "aql": SIZE}[kind]
    assert engine.ring.free == room
    part = 256 - (4 if kind != "aql" else 0)
    for _ in range(4):
        engine.ring.put(bytes([7]) * part, "part")
    assert engine.ring.free == room - 4 * part < part


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_fits_is_refused_wherever_the_ring_stands(kind):
    engine = Engine(kind)
    step, most = max(4, engine.unit), {"pm4": 1020, "sdma": 512, "aql": 1024}[kind]
    for _ in range(0, 2 * SIZE, step):
        assert engine.ring.need(most) <= SIZE
        with pytest.raises(UsageError, match=f"which takes {most}: split it"):
            engine.ring.need(most + step)
        engine.ring.put(bytes(step), "a step")
        engine.ring.ring()
        engine.fetch(SIZE)


def test_what_ends_at_the_end_needs_no_padding():
    engine = Engine("sdma")
    for size in (512, 256):
        engine.ring.put(bytes(size), "")
        engine.ring.ring()
        engine.fetch(SIZE)
    assert engine.ring.padding(256) == 0
    assert engine.ring.padding(260) == 256


def test_the_doorbell_comes_last_and_headers_after_their_bodies():
    engine = Engine("aql")
    engine.ring.put(bytes(128), "two packets")
    engine.ring.ring()
    assert engine.stored == [(4, 60), (0, 4), (68, 60), (64, 4), "doorbell"]


def test_reports_name_the_submission_that_is_being_fetched():
    engine = Engine("pm4")
    for number in range(5):
        engine.ring.put(bytes(40), f"number {number}")
    engine.ring.ring()
    engine.fetch(10 * 3 + 2)
    assert engine.ring.current() == "at number 3, byte 8 of 40"
    assert engine.ring.submitted(79) == "number 1"
    assert engine.ring.submitted(200) == ""


class Timeline:
    """Values that an engine reaches later."""

    def __init__(self, size):
        self.reached = self.promised = 0
        self.buffer = SimpleNamespace(
            block=SimpleNamespace(view=memoryview(bytearray(size))), address=0x10000
        )
        self.uploads = UploadRing(self.buffer, lambda: self.reached, self.wait)

    def wait(self, value):
        assert self.reached < value <= self.promised
        self.reached = value


@pytest.mark.parametrize("seed", range(20))
def test_no_byte_is_given_out_while_an_engine_may_read_it(seed):
    rng, size = Random(seed), 4096
    line = Timeline(size)
    uploads, alive = line.uploads, []
    for _ in range(500):
        wanted = rng.choice([1, 63, 64, 65, 200, 1000])
        offset = uploads.take(wanted, urgent=rng.random() < 0.1)
        assert offset % ALIGNMENT == 0
        assert 0 <= offset <= size - wanted
        alive = [one for one in alive if one[2] > line.reached]
        for start, end, _ in alive:
            assert offset + wanted <= start or end <= offset
        line.promised += 1
        alive.append((offset, offset + wanted, line.promised))
        uploads.hold(line.promised)
        line.reached = max(line.reached, line.promised - rng.randint(0, 8))
    assert uploads.address(64) == 0x10040
    line.reached = line.promised
    uploads.take(1)
    assert uploads.in_use <= size


def test_a_reserve_is_left_for_signals_and_too_much_is_refused():
    line = Timeline(4096)
    with pytest.raises(UsageError, match="do not fit 4096"):
        line.uploads.take(4096 - RESERVE + 1)
    line.uploads.take(4096 - RESERVE)
    with pytest.raises(UsageError, match="one submission takes more"):
        line.uploads.take(64)
    assert line.uploads.take(64, urgent=True) == 4096 - RESERVE
    line.uploads.drop()
    assert line.uploads.take(64) == 0
