"""WAIT_EVENTS: how long it lasts, on the virtual clock."""

from errno import EDEADLK

import pytest

from gputrace.errors import KfdError
from gputrace.formats.ioctl import CreateEvent, EventData, EventType, WaitEvents, WaitResult

MILLISECOND = 1_000_000


def wait(bench, timeout):
    """Wait for an event that nobody sets; return the answer and the time that it took."""
    event = bench.kfd.ioctl(CreateEvent(event_type=EventType.HW_EXCEPTION)).event_id
    row = bench.memory(4096)
    row.view[: 4 * EventData.WORDS] = EventData(event_id=event).to_bytes()
    start = bench.kfd.clock()
    answer = bench.kfd.ioctl(
        WaitEvents(events_ptr=row.address, num_events=1, timeout=timeout)
    )
    return answer, bench.kfd.clock() - start


@pytest.mark.parametrize(
    ("timeout", "lasts"),
    [(0, 0), (1, 1), (5000, 5000), (0x7FFF_FFFF, 0x7FFF_FFFF), (0xFFFF_FFFE, 0x7FFF_FFFF)],
)
def test_every_timeout_but_the_last_is_a_number_of_milliseconds_up_to_a_limit(
    bench, timeout, lasts
):
    answer, took = wait(bench, timeout)
    assert answer.wait_result == WaitResult.TIMEOUT
    assert took == lasts * MILLISECOND


def test_the_last_one_is_for_ever_which_is_refused_where_nothing_can_come(bench):
    with pytest.raises(KfdError) as refused:
        wait(bench, 0xFFFF_FFFF)
    assert refused.value.errno == EDEADLK
