"""Traces that were made to do harm: what they name is checked before anything is touched."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import gputrace
from gputrace.errors import GputraceError
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
