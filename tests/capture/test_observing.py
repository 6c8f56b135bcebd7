"""What the GPU changed is told as what a program can have seen: fences, signals, read pointers."""

import pytest

from gputrace.capture.memory import Change
from gputrace.capture.observing import LIMIT, Observations
from gputrace.formats.ioctl import QueueType
from gputrace.trace.events import Observed

AT = 0x1000
MAX = 0xFFFF_FFFF


def observed(*changes: tuple[int, int, int]) -> tuple[Observed, ...]:
    made = Observations(lambda address, size: None)
    made.add(Change(*change) for change in changes)
    return made.take()


@pytest.mark.parametrize(
    ("was", "now", "what"),
    [(0, 1, "fence"), (6, 7, "fence"), (0, MAX, "fence"),
     (1, 0, "signal"), (7, 6, "signal"), (MAX, 0, "signal")],
)  # fmt: skip
def test_what_grew_is_a_fence_and_what_fell_a_signal(was: int, now: int, what: str) -> None:
    assert observed((AT, was, now)) == (Observed(what, AT, now),)


def test_changes_since_the_last_look_count_as_one() -> None:
    assert observed((AT, 5, 9), (AT, 9, 6)) == (Observed("fence", AT, 6),)
    assert observed((AT, 5, 9), (AT, 9, 4)) == (Observed("signal", AT, 4),)


@pytest.mark.parametrize("order", [1, -1])
def test_two_dwords_that_changed_together_are_one_value_where_it_is_aligned(order: int) -> None:
    def both(address: int, was: int, now: int) -> Observed:
        halves = [(address, was & MAX, now & MAX), (address + 4, was >> 32, now >> 32)]
        return next(one for one in observed(*halves[::order]) if one.where == address)

    # The low half falls while the whole grows, and the other way round.
    assert both(AT, 0xFFFF_FFFF, 1 << 32) == Observed("fence", AT, 1 << 32)
    assert both(AT, 1 << 32, 0xFFFF_FFFF) == Observed("signal", AT, 0xFFFF_FFFF)
    assert both(AT + 4, 7, 1 << 32) == Observed("signal", AT + 4, 0)


def test_the_latest_values_are_kept() -> None:
    found = observed(*((AT + 4 * at, 0, 1) for at in range(LIMIT + 3)))
    assert [one.where for one in found] == [AT + 4 * at for at in range(3, LIMIT + 3)]


def test_a_read_pointer_is_told_as_its_queue_until_that_is_gone() -> None:
    made = Observations(lambda address, size: None)
    made.queue(7, QueueType.COMPUTE, 4096, AT)  # its pointer wraps with the ring of 1024 dwords
    made.rang(7, 1030)
    made.add([Change(AT, 1000, 4)])
    assert made.take() == (Observed("read", 7, 1028),)
    assert made.take() == ()
    made.forget(7)
    made.add([Change(AT, 4, 6)])
    assert made.take() == (Observed("fence", AT, 6),)
