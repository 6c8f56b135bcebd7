"""Traces that were made to do harm: what they name is checked before anything is touched."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import gputrace
from gputrace.errors import GputraceError
from gputrace.formats import ioctl
from gputrace.formats.ioctl import WaitResult
from gputrace.replay.running import Request, replay
from gputrace.replay.verdict import Result
from gputrace.trace import events
from tests.replay.editing import rewrite

Edit = Callable[[events.Event], events.Event]

EDITS: dict[str, Edit] = {
    "a doorbell of 63 bits": lambda e: (
        replace(e, bits=63) if isinstance(e, events.DoorbellIntent) else e
    ),
    "a doorbell between two": lambda e: (
        replace(e, address=e.address + 4) if isinstance(e, events.DoorbellIntent) else e
    ),
    "a mapping in the middle of a page": lambda e: (
        replace(e, address=e.address + 4) if isinstance(e, events.Map) else e
    ),
    "a mapping beyond all memory": lambda e: (
        replace(e, offset=e.offset + (8 << 30))
        if isinstance(e, events.Map) and e.target != "kfd"
        else e
    ),
    "a mapping longer than its buffer": lambda e: (
        replace(e, size=e.size + (1 << 20))
        if isinstance(e, events.Map) and e.target != "kfd"
        else e
    ),
    "memory that may not be touched": lambda e: (
        replace(e, protection=0) if isinstance(e, events.Map) else e
    ),
    "another node": lambda e: (
        replace(e, target="render:x") if isinstance(e, events.Open) and e.handle else e
    ),
    "a mapping of nothing": lambda e: (
        replace(e, target="fd:x") if isinstance(e, events.Map) and e.target != "kfd" else e
    ),
    "pointers into this process": lambda e: (
        replace(e, record="WaitEvents", payloads=(), before=b"\x10" * 24, after=b"\x10" * 24)
        if isinstance(e, events.Ioctl) and e.record == "AllocMemoryOfGpu"
        else e
    ),
    "more items than bytes": lambda e: (
        replace(e, before=e.before[:16] + b"\xff\xff\xff\x00" + e.before[20:])
        if isinstance(e, events.Ioctl) and e.record == "MapMemoryToGpu"
        else e
    ),
    "a reservation of everything": lambda e: (
        replace(e, address=0x1000, size=1 << 46) if isinstance(e, events.Reserve) else e
    ),
    "stores elsewhere": lambda e: (
        replace(e, address=0x7FFF_0000_0000) if isinstance(e, events.Memory) else e
    ),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("harm") / "t.gtrace"
    with gputrace.record(made), gputrace.open("emu:gfx1100") as device:
        out, queue = device.alloc(4096), device.compute_queue()
        queue.write(out, b"1234")
        queue.signal().wait()
    return made


@pytest.mark.parametrize("name", EDITS)
def test_no_trace_ends_the_replaying_process(path: Path, name: str) -> None:
    changed = rewrite(path, lambda event, data: [EDITS[name](event)])
    assert list(changed.parent.glob("*changed*"))
    refusal, verdict = "", None
    try:
        verdict = replay(Request(str(changed)))
    except GputraceError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert verdict is None or verdict.result not in (Result.HOST_CRASH, Result.SAME), verdict


def refuse(event: events.Event) -> events.Event:
    if isinstance(event, events.Ioctl) and event.record == "AllocMemoryOfGpu":
        return replace(event, errno=12)
    return event


def ask_for_nothing(event: events.Event) -> events.Event:
    if isinstance(event, events.Ioctl) and event.record == "AllocMemoryOfGpu":
        record = ioctl.AllocMemoryOfGpu.from_bytes(event.before)
        return replace(event, before=record.replace(size=0).to_bytes())
    return event


def time_out(event: events.Event) -> events.Event:
    if isinstance(event, events.Ioctl) and event.record == "WaitEvents":
        answer = ioctl.WaitEvents.from_bytes(event.after)
        return replace(event, after=answer.replace(wait_result=WaitResult.TIMEOUT).to_bytes())
    return event


@pytest.mark.parametrize(
    ("edit", "reason"),
    [(refuse, "AllocMemoryOfGpu.errno: recorded 12, observed 0"),
     (ask_for_nothing, "AllocMemoryOfGpu.errno: recorded 0, observed 22"),
     (time_out, "WaitEvents.wait_result: recorded <WaitResult.TIMEOUT")],
)  # fmt: skip
def test_answers_that_were_others_are_told(
    tmp_path: Path, edit: Callable[[events.Event], events.Event], reason: str
) -> None:
    made = tmp_path / "t.gtrace"
    with gputrace.record(made), gputrace.open("emu:gfx1100") as device:
        kfd, event = device.session.kfd, device.session.make_event()
        device.compute_queue().signal().wait()
        kfd.ioctl(ioctl.SetEvent(event_id=event.event_id))
        device.session.mechanism.wait([ioctl.SignalEventData(event_id=event.event_id)], 10)
    assert replay(Request(str(made))).result is not Result.DIFFERS
    verdict = replay(Request(str(rewrite(made, lambda event, data: [edit(event)]))))
    assert verdict.result is Result.DIFFERS
    assert reason in verdict.text
