"""What has been reached, how far a device is let go, and what is compared: beside plain models."""

import ctypes
from random import Random

import pytest

from gputrace.errors import Divergence
from gputrace.formats.ioctl import QueueType
from gputrace.kfd.port import Progress
from gputrace.replay.comparison import Comparison
from gputrace.replay.pacing import SETTLE_NS, STRIDE, Clock, OutOfTime, Reached
from gputrace.trace.chunks import describe
from gputrace.trace.events import Chunk, Digest, Observed, QueueMap

BASE = 0x1000


class Memory:
    """Some memory at recorded addresses from BASE on."""

    def __init__(self, size: int = 64) -> None:
        self.buffer = ctypes.create_string_buffer(size)

    def live(self, address: int, size: int) -> int | None:
        inside = address >= BASE and address + size <= BASE + len(self.buffer)
        return ctypes.addressof(self.buffer) + address - BASE if inside else None

    def put(self, offset: int, value: int, size: int) -> None:
        self.buffer[offset : offset + size] = value.to_bytes(size, "little")


def queue(kind: QueueType, size: int = 4096) -> QueueMap:
    return QueueMap(7, 0, kind, 0, size, BASE + 16, BASE + 24, 0)


@pytest.mark.parametrize("what", ["fence", "signal"])
@pytest.mark.parametrize("wanted", [1, 5, (1 << 32) - 1, 1 << 32, (1 << 40) + 5])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_fences_grow_and_signals_fall(what: str, wanted: int, more: int) -> None:
    memory = Memory()
    memory.put(8, wanted + more, 8)
    missing = Reached(memory.live).missing([Observed(what, BASE + 8, wanted)])
    if wanted + more < 1 << 32 <= wanted or wanted < 1 << 32 <= wanted + more:
        return  # below 2**32 only the dword counts: see the next test
    assert (not missing) == (more >= 0 if what == "fence" else more <= 0)


def test_of_a_small_value_only_its_dword_counts() -> None:
    memory = Memory()
    memory.put(8, 0xFFFF_FFFF_0000_0004, 8)
    reached = Reached(memory.live)
    assert reached.missing([Observed("fence", BASE + 8, 5)])
    assert not reached.missing([Observed("fence", BASE + 8, 4)])
    assert not reached.missing([Observed("fence", BASE + 12, 5)])


def test_what_cannot_be_looked_at_is_not_waited_for() -> None:
    reached = Reached(Memory().live)
    for address in (0, BASE + 64, BASE + 2):
        assert not reached.missing([Observed("fence", address, 5)])
    assert not reached.missing([Observed("read", 99, 5), Observed("other", BASE, 5)])


@pytest.mark.parametrize("kind", [QueueType.COMPUTE_AQL, QueueType.SDMA])
def test_read_pointers_count_on(kind: QueueType) -> None:
    memory = Memory()
    reached = Reached(memory.live)
    reached.learn(queue(kind))
    memory.put(16, 70_000, 8)
    assert not reached.missing([Observed("read", 7, 70_000)])
    assert reached.missing([Observed("read", 7, 70_001)])


def test_read_pointers_of_pm4_are_dwords_of_the_ring_that_wrap() -> None:
    # Never more than a ring behind the last doorbell: 1024 dwords here.
    memory = Memory()
    reached = Reached(memory.live)
    reached.learn(queue(QueueType.COMPUTE))
    for rung, shown, read in ((100, 40, 40), (1024, 0, 1024), (1100, 60, 1084), (5000, 1000, 4072)):
        memory.put(16, shown, 4)
        reached.rang(7, rung)
        assert not reached.missing([Observed("read", 7, read)]), rung
        assert reached.missing([Observed("read", 7, read + 1)]), rung


def test_queues_that_are_gone_are_not_waited_for() -> None:
    memory = Memory()
    reached, made = Reached(memory.live), queue(QueueType.SDMA)
    reached.learn(made)
    assert reached.missing([Observed("read", 7, 1)])
    reached.learn(QueueMap(7, 0, QueueType.SDMA, 0, 0, 0, 0, 0, live=False))
    assert not reached.missing([Observed("read", 7, 1)])


class Device:
    """Takes up to `left` steps; each takes a nanosecond."""

    def __init__(self, left: int) -> None:
        self.left, self.step, self.now = left, 0, 100
        self.calls: list[int] = []

    def advance(self, step: int, clock_ns: int) -> None:
        self.calls.append(step - self.step)
        taken = min(self.left, max(step - self.step, 0))
        self.left -= taken
        self.step += taken
        if self.step != step:
            raise Divergence("scheduler step", step, self.step)
        self.now = max(self.now, clock_ns)

    def clock(self) -> int:
        return self.now

    def idle(self, until: int | None = None) -> Progress:
        if not self.left:
            return Progress.BLOCKED
        taken = min(self.left, 10)
        self.left, self.step = self.left - taken, self.step + taken
        return Progress.ADVANCED


def clock_of(left: int, expired: bool = False) -> tuple[Device, Clock]:
    device = Device(left)
    return device, Clock(device, lambda: expired, lambda: True)  # type: ignore[arg-type]


def test_a_device_is_let_go_to_the_very_step_and_no_further() -> None:
    device, clock = clock_of(100_000)
    clock.advance(10, 0)
    assert device.step == 10
    clock.advance(10, 500)
    assert (device.step, device.now) == (10, 500)
    clock.advance(10 + 3 * STRIDE, 0)
    assert device.step == 10 + 3 * STRIDE
    assert max(device.calls) <= STRIDE
    with pytest.raises(Divergence, match="recorded 9, observed"):
        clock.advance(9, 0)


def test_steps_that_a_device_does_not_have_are_a_divergence() -> None:
    _, clock = clock_of(5)
    with pytest.raises(Divergence, match="recorded 6, observed 5"):
        clock.advance(6, 0)


def test_time_that_is_over_ends_it() -> None:
    _, clock = clock_of(10 * STRIDE, expired=True)
    with pytest.raises(OutOfTime):
        clock.advance(10 * STRIDE, 0)
    with pytest.raises(OutOfTime):
        clock.finish(1000)


@pytest.mark.parametrize(("left", "ended"), [(50, True), (5000, False)])
def test_a_device_that_goes_on_is_told_from_one_that_ends(left: int, ended: bool) -> None:
    device, clock = clock_of(left)
    assert clock.finish(1000) is ended
    assert device.step == (left if ended else 1000)
    stepped, single = clock_of(left)
    seen: list[int] = []
    single.after_step = lambda: seen.append(stepped.step)
    assert single.finish(1000) is ended
    assert seen == list(range(1, len(seen) + 1))


class Hardware:
    """Counts no steps; the queues have fetched all after a while, and time goes on by itself."""

    def __init__(self, fetches_for: int) -> None:
        self.now, self.fetches_for = 0, fetches_for

    def clock(self) -> int:
        return self.now

    def idle(self, until: int) -> Progress:
        self.now = until
        return Progress.EXPIRED


def test_hardware_is_given_time_after_its_queues_have_fetched_all() -> None:
    device = Hardware(fetches_for=3_000_000_000)
    fetched = lambda: device.now >= device.fetches_for  # noqa: E731
    clock = Clock(device, lambda: False, fetched)  # type: ignore[arg-type]
    assert clock.finish(1000)
    assert abs(device.now - device.fetches_for - SETTLE_NS) <= 1_000_000
    early = Hardware(fetches_for=3_000_000_000)
    done = Clock(early, lambda: False, lambda: False)  # type: ignore[arg-type]
    assert done.finish(1000, lambda: early.now >= 5_000_000)
    assert early.now == 5_000_000


def compared(
    recorded: bytes, live: bytes, clocks: list[tuple[int, int]], *, stored: bool = True
) -> Comparison:
    memory = {BASE + at: byte for at, byte in enumerate(live)}
    held = {describe(recorded): recorded}
    made = Comparison(
        lambda address, size: bytes(memory[address + at] for at in range(size)),
        lambda chunk: held[Chunk(*chunk)],
    )
    made.clocks = clocks
    made.take(3, Digest(BASE, len(recorded), (describe(recorded),), stored, False, 0))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_the_first_byte_that_differs_beside_all_clocks_is_found(seed: int) -> None:
    rng = Random(seed)
    recorded = bytes(rng.randrange(256) for _ in range(96))
    live = bytearray(recorded)
    for _ in range(rng.randrange(4)):
        live[rng.randrange(96)] ^= 1 << rng.randrange(8)
    starts = sorted(rng.sample(range(-8, 112, 8), rng.randrange(4)))
    clocks = [(BASE + start, 8) for start in starts]
    left_out = {at for start in starts for at in range(start, start + 8)}
    wrong = [at for at in range(96) if live[at] != recorded[at] and at not in left_out]
    found = compared(recorded, bytes(live), clocks)
    assert found.compared == 96 - len(left_out & set(range(96)))
    assert found.written == 96
    if not wrong:
        assert found.difference is None
        return
    assert found.difference is not None
    assert (found.difference.event, found.difference.address) == (3, BASE + wrong[0])
    assert found.difference.observed is not None
    assert found.difference.observed[0] == live[wrong[0]]


def test_equal_runs_have_equal_hashes_and_others_have_not() -> None:
    one, same = compared(b"a" * 64, b"a" * 64, []), compared(b"a" * 64, b"a" * 64, [])
    other = compared(b"a" * 64, b"b" + b"a" * 63, [])
    assert one.digest == same.digest != other.digest
    clock = [(BASE, 8)]
    assert compared(b"a" * 64, b"b" + b"a" * 63, clock).digest == compared(
        b"a" * 64, b"a" * 64, clock
    ).digest


def test_of_a_hash_alone_nothing_is_compared_in_part() -> None:
    found = compared(b"a" * 64, b"b" * 64, [(BASE + 60, 8)], stored=False)
    assert (found.compared, found.written, found.difference) == (0, 64, None)
    whole = compared(b"a" * 64, b"b" * 64, [], stored=False)
    assert whole.difference is not None
    assert (whole.difference.recorded, whole.difference.size) == (None, 64)
