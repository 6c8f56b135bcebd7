"""Write a changed copy of a trace, event by event."""

from collections.abc import Callable, Iterable
from pathlib import Path

from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

Change = Callable[[events.Event, bytes], Iterable[events.Event | tuple[events.Event, bytes]]]
"""Given an event and its bytes, what stands for it: events, with bytes where they have other."""


def rewrite(path: Path, change: Change, outcome: events.Outcome | None = None) -> Path:
    """Copy a trace, each event changed; return where the copy is."""
    target = path.with_name(f"{path.stem}-changed.gtrace")
    with TraceReader(path) as reader, TraceWriter(target, reader.header) as writer:
        for event in reader:
            if isinstance(event, events.Header):
                continue
            data = b""
            if isinstance(event, events.Memory) or (
                isinstance(event, events.Digest) and event.stored
            ):
                data = reader.memory(event)
            for one in change(event, data):
                write(writer, *(one if isinstance(one, tuple) else (one, data)))
        writer.close(outcome)
    return target


def write(writer: TraceWriter, event: events.Event, data: bytes) -> None:
    """Write an event with its bytes."""
    match event:
        case events.Memory():
            writer.memory(event.address, data, event.provenance, event.step)
        case events.Digest(stored=True):
            writer.digest(
                event.address, data, store=True, unstable=event.unstable, step=event.step
            )
        case _:
            writer.append(event)
