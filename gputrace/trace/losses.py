"""Put what a file still holds, and a name for what it lost, in place of an event."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

from gputrace.trace.events import Chunk, Digest, Event, Lost, Memory


def references(event: Event) -> tuple[Chunk, ...]:
    """Return the chunks whose bytes an event needs to be in the file."""
    needed = isinstance(event, Memory) or (isinstance(event, Digest) and event.stored)
    return event.chunks if isinstance(event, Memory | Digest) and needed else ()


def left(event: Event, lost: Callable[[Chunk], bool]) -> Iterator[Event]:
    """Yield an event, or what is left of one that needs chunks of which `lost` says True.

    Ranges that are lost become Lost events. Of a digest the hashes are left, which a replay
    compares; only its bytes are not in the file any more.
    """
    chunks = references(event)
    if not isinstance(event, Memory | Digest) or not any(map(lost, chunks)):
        yield event
    elif isinstance(event, Memory) and event.data:  # the chunks beside it say nothing
        yield replace(event, chunks=())
    else:
        yield from _runs(event, lost)


def _runs(event: Memory | Digest, lost: Callable[[Chunk], bool]) -> Iterator[Event]:
    address = event.address
    for gone, found in groupby(event.chunks, key=lost):
        run = tuple(found)
        size = sum(chunk.size for chunk in run)
        match event:
            case Digest():
                yield replace(event, address=address, size=size, chunks=run, stored=not gone)
                if gone:
                    yield Lost(address, size, "digest", event.step)
            case Memory() if gone:
                yield Lost(address, size, event.provenance, event.step)
            case Memory():
                yield replace(event, address=address, chunks=run)
        address += size
