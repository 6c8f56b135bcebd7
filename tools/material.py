"""Small traces for campaigns: one with every kind of event, one recorded from a device."""

from collections.abc import Iterator
from pathlib import Path

import gputrace
from gputrace.trace import Event, TraceReader
from tests.trace.samples import write_small
from tools.campaigns import Campaign


def small_traces(folder: Path) -> list[Path]:
    """Write the traces into a folder, once, and give their paths."""
    made, recorded = folder / "every_kind.gtrace", folder / "recorded.gtrace"
    if not made.exists():
        write_small(made)
        _record(recorded)
    return [made, recorded]


def _record(path: Path) -> None:
    with gputrace.record(path), gputrace.open("emu:gfx1100") as device:
        source, target = device.alloc(8192, name="source"), device.alloc(8192, name="target")
        compute, copies = device.compute_queue(), device.copy_queue()
        for turn in range(3):
            source.write(bytes([turn + 1]) * 300, 100 * turn)
            compute.write(source, b"by the GPU..", 4096 + 16 * turn)
            copies.wait(compute.signal())
            copies.copy(target, source, 8192)
            copies.signal().wait(1.0)


def read_events(path: Path) -> list[Event]:
    """Read all events of a trace."""
    with TraceReader(path) as reader:
        return list(reader)


def places(campaign: Campaign, share: int, size: int) -> Iterator[int]:
    """Yield all places below `size`, or a sample of `share` of them where that is less."""
    if share >= size:
        yield from range(size)
        return
    rng = campaign.random(size)
    yield from (rng.randrange(size) for _ in range(share))
