"""Build small traces for the tests; every kind of event occurs in `every_kind`."""

import random
from pathlib import Path

from gputrace.trace import events as ev
from gputrace.trace.writer import TraceWriter

HEADER = ev.Header(
    tool="0.1.0",
    family="gfx942",
    device={"name": "emu:gfx942", "vram": 1 << 33, "firmware": {"mec": 155}},
    topology={"nodes": [{"gpu_id": 0, "cpu_cores_count": 4}, {"gpu_id": 4711}]},
    layouts={"AllocMemory": [10, [["address", 0, 64], ["size", 64, 64]]]},
    schedule_seed=3,
    scheduler="1",
)


def every_kind() -> list[ev.Event]:
    """Give one event of each kind but Header and Outcome, with unusual values in some."""
    chunk = ev.Chunk(bytes(range(16)), 100)
    observed = (ev.Observed("fence", 0x7F00_0000_0000, 2**64 - 1), ev.Observed("read", 0, 5))
    payload = ev.Payload("devices", 0x1000, b"\1\0\0\0", b"\2\0\0\0")
    return [
        ev.Open("kfd", 0, 1),
        ev.Open("render:128", 1, 2),
        ev.Ioctl("kfd", "AllocMemory", 0xC0284B16, bytes(40), b"\xff" * 40, 12, (payload,), b"t"),
        ev.Map(0x7F00_0000_0000, 1 << 21, "render:128", 1 << 40, 3, 9),
        ev.Reserve(0x7E00_0000_0000, 1 << 40, 4096),
        ev.QueueMap(0, 4711, 0, 0x7F00_0000_0000, 4096, 0x7F00_0000_1000, 0x7F00_0000_1008, 64),
        ev.EventMap(7, 0, 6, 0x7F00_0000_2000),
        ev.Name(0x7F00_0000_0000, 4096, "ring", "compute 0 — ring"),
        ev.Memory(0x7F00_0000_3000, "cpu", b"kernel arguments", (), 10),
        ev.HostStore(0x7F00_0000_3010, b"\1", 11),
        ev.Progress(observed, 12),
        ev.DoorbellIntent(0, 0, 0x5000, 17, 64, 13, 1000, 1),
        ev.DoorbellDone(0, 0, 14, 1100),
        ev.WaitBegin(0, observed, -1, 15),
        ev.WaitEnd(0, "reached", observed, 99),
        ev.Digest(0x7F00_0000_4000, 100, (chunk,), False, True, 100),
        ev.Checkpoint(0, (ev.QueueState(0, 17, 17, 17),), False, "queue 0 is not idle"),
        ev.Unsupported("DbgTrap", "the debugger is not modelled", b"\0" * 8),
        ev.Cost(123456, 1 << 30, 0, 1),
        ev.Trigger("start", "submission 0"),
        ev.Note("time", "as it was"),
        ev.Lost(0x7F00_0000_5000, 4096, "digest", 101),
        ev.Unwritten((ev.Stretch(0x7F00_0000_6000, 100), ev.Stretch(0x7F00_0000_7000, 1)), 102),
        ev.ClockReads(0, (1, 2**64 - 1)),
        ev.QueueMap(0, 4711, 0, 0, 0, 0, 0, 0, live=False),
        ev.EventMap(7, 0, 6, live=False),
        ev.Name(0x7F00_0000_0000, 4096, "ring", ""),
        ev.Unmap(0x7F00_0000_0000, 1 << 21),
        ev.Release(0x7E00_0000_0000, 1 << 40),
        ev.Close("kfd", 0),
    ]


OUTCOME = ev.Outcome("hang", "queue 0 waits", 0, 12, 0x7F00_0000_2000, proven=True)


def write_small(path: Path) -> list[ev.Event]:
    """Write a small complete trace of several blocks and give its events as they were stored."""
    given = every_kind()
    rng = random.Random(1)
    with TraceWriter(path, HEADER) as writer:
        for number, event in enumerate(given):
            writer.append(event)
            if number % 5 == 4:
                writer.flush(intent=True)
        writer.memory(0x1000_0000, bytes(100), "cpu")
        writer.memory(0x1000_4000, rng.randbytes(300) * 60, "unknown", step=7)
        writer.memory(0x1001_0000, bytes(70_000), "cpu")
        writer.digest(0x2000_0000, b"result" * 50, store=True)
        writer.append(OUTCOME)
    return [writer.header, *given]
