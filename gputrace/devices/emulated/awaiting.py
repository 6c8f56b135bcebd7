"""WAIT_EVENTS: what the client asks for, and what it is told.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_events.c kfd_wait_on_events.
"""

from errno import EIO

from gputrace.devices.emulated.events import Wait
from gputrace.devices.emulated.process import Process
from gputrace.errors import KfdError
from gputrace.formats.ioctl import WAIT_FOREVER, EventData, WaitEvents, WaitResult

_ROW = 4 * EventData.WORDS
_DATA = 32  # bytes of a row that belong to its event
_LONGEST = 0x7FFF_FFFF  # milliseconds; user_timeout_to_jiffies cuts longer ones to this


def begin(process: Process, record: WaitEvents) -> Wait:
    """Begin the wait that a call asks for."""
    raw = b""
    if record.num_events:
        raw = process.client.read(record.events_ptr, _ROW * record.num_events, "WAIT_EVENTS")
    starts = range(0, len(raw), _ROW)
    ids = [EventData.from_bytes(raw, at).event_id for at in starts]
    ages = [int.from_bytes(raw[at : at + 8], "little") for at in starts]
    return process.events.wait(list(zip(ids, ages, strict=True)), bool(record.wait_for_all))


def deadline(record: WaitEvents, now_ns: int) -> int | None:
    """Return when a wait that begins now is over, None for never."""
    if record.timeout == WAIT_FOREVER:
        return None
    return now_ns + min(record.timeout, _LONGEST) * 1_000_000


def answer(process: Process, record: WaitEvents, wait: Wait) -> WaitEvents:
    """Tell the client how its wait ended, and the data of the events that came."""
    result = wait.result
    if result is WaitResult.FAIL:
        fields = {"wait_result": int(WaitResult.FAIL)}
        raise KfdError("WAIT_EVENTS", EIO, fields, "an event was destroyed")
    if result is None:
        return record.replace(wait_result=WaitResult.TIMEOUT)
    for at, waiter in enumerate(wait.waiters):
        place, event = record.events_ptr + at * _ROW, waiter.event
        if waiter.activated and event.data is not None:
            told = event.data.replace(event_id=event.event_id).to_bytes()
            process.client.write(place, told[:_DATA], "WAIT_EVENTS")
        elif waiter.activated and waiter.ageing:
            process.client.write(place, event.age.to_bytes(8, "little"), "WAIT_EVENTS")
    return record.replace(wait_result=WaitResult.COMPLETE)
