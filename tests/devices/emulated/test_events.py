"""Events, as kfd_events.c has them: slots, ages, automatic reset, interrupts."""

from errno import EINVAL, ENOSPC

import pytest

from gputrace.devices.emulated.events import EventTable
from gputrace.errors import KfdError
from gputrace.formats.ioctl import (
    EVENT_PAGE_BYTES,
    UNSIGNALLED,
    EventType,
    MemoryExceptionData,
    WaitResult,
)


@pytest.fixture
def table():
    made = EventTable()
    made.adopt_page(memoryview(bytearray(EVENT_PAGE_BYTES)))
    return made


def test_the_page_starts_unsignalled_and_is_set_once(table):
    assert set(table.page) == {UNSIGNALLED}
    with pytest.raises(KfdError) as refused:
        table.adopt_page(memoryview(bytearray(EVENT_PAGE_BYTES)))
    assert refused.value.errno == EINVAL


def test_a_page_that_is_too_small_is_refused():
    with pytest.raises(KfdError, match="32768"):
        EventTable().adopt_page(memoryview(bytearray(4096)))


def test_ids_are_slots_from_one_and_other_types_count_elsewhere(table):
    assert [table.create(EventType.SIGNAL, True).event_id for _ in range(3)] == [1, 2, 3]
    assert table.create(EventType.MEMORY, True).event_id == 0x40000000
    assert table.create(EventType.HW_EXCEPTION, True).event_id == 0x40000001
    table.destroy(2)
    assert table.create(EventType.SIGNAL, True).event_id == 2


def test_slots_run_out(table):
    for _ in range(4095):
        table.create(EventType.SIGNAL, True)
    with pytest.raises(KfdError) as refused:
        table.create(EventType.SIGNAL, True)
    assert refused.value.errno == ENOSPC


def test_an_interrupt_sets_the_event_whose_slot_was_written_and_resets_the_slot(table):
    one, two = (table.create(EventType.SIGNAL, False) for _ in range(2))
    table.page[2] = 2
    assert table.interrupt(2) == [2]
    assert (one.signalled, two.signalled, table.page[2]) == (False, True, UNSIGNALLED)
    assert two.age == 2


@pytest.mark.parametrize("context", [0, 1, 99])
def test_a_wrong_context_makes_the_kernel_look_at_every_slot(table, context):
    for _ in range(3):
        table.create(EventType.SIGNAL, False)
    table.page[2] = table.page[3] = 7
    assert table.interrupt(context) == [2, 3]


def test_an_interrupt_without_a_written_slot_sets_nothing(table):
    table.create(EventType.SIGNAL, False)
    assert table.interrupt(1) == []


def test_a_set_event_ends_a_wait_at_once_and_auto_reset_consumes_it(table):
    table.create(EventType.SIGNAL, True)
    table.set_by_cpu(1)
    assert table.wait([(1, 0)], False).result is WaitResult.COMPLETE
    assert table.wait([(1, 0)], False).result is None


def test_without_auto_reset_an_event_stays_set_until_reset(table):
    table.create(EventType.SIGNAL, False)
    table.set_by_cpu(1)
    for _ in range(2):
        assert table.wait([(1, 0)], False).result is WaitResult.COMPLETE
    table.reset_by_cpu(1)
    assert table.wait([(1, 0)], False).result is None


def test_a_waiter_that_is_there_consumes_an_auto_reset_event(table):
    event = table.create(EventType.SIGNAL, True)
    wait = table.wait([(1, 0)], False)
    table.set(event)
    assert wait.result is WaitResult.COMPLETE
    assert not event.signalled


def test_one_or_all(table):
    for _ in range(2):
        table.create(EventType.SIGNAL, False)
    one, both = (table.wait([(1, 0), (2, 0)], wait_for_all) for wait_for_all in (False, True))
    table.set_by_cpu(1)
    assert (one.result, both.result) == (WaitResult.COMPLETE, None)
    table.set_by_cpu(2)
    assert both.result is WaitResult.COMPLETE
    assert table.wait([], True).result is WaitResult.COMPLETE


def test_an_old_age_ends_a_wait_at_once(table):
    event = table.create(EventType.SIGNAL, True)
    assert table.wait([(1, event.age)], False).result is None
    table.set(event)
    assert table.wait([(1, event.age - 1)], False).result is WaitResult.COMPLETE


def test_destroying_an_event_fails_its_waiters(table):
    table.create(EventType.SIGNAL, True)
    wait = table.wait([(1, 0)], False)
    table.destroy(1)
    assert wait.result is WaitResult.FAIL


def test_leaving_takes_the_waiter_away(table):
    event = table.create(EventType.SIGNAL, True)
    table.wait([(1, 0)], False).leave()
    table.set(event)
    assert event.signalled


@pytest.mark.parametrize("call", ["destroy", "set_by_cpu", "reset_by_cpu"])
def test_unknown_events_are_einval(table, call):
    with pytest.raises(KfdError) as refused:
        getattr(table, call)(5)
    assert refused.value.errno == EINVAL


@pytest.mark.parametrize("call", ["set_by_cpu", "reset_by_cpu"])
def test_only_signal_events_are_set_by_the_cpu(table, call):
    event = table.create(EventType.MEMORY, True)
    with pytest.raises(KfdError) as refused:
        getattr(table, call)(event.event_id)
    assert refused.value.errno == EINVAL


def test_an_exception_sets_every_event_of_its_type_with_its_data(table):
    events = [table.create(EventType.MEMORY, True) for _ in range(2)]
    data = MemoryExceptionData(NotPresent=1, va=0x1000, gpu_id=3, event_id=0)
    table.exception(EventType.MEMORY, data)
    assert all(event.signalled and event.data == data for event in events)
