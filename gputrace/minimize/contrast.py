"""Memory as two runs of one candidate left it, side by side.

What is compared is what a program could read: memory mapped for the CPU, apart from what queues
and events are made of and where the GPU stores clocks.
"""

from collections.abc import Callable

import numpy as np

from gputrace.formats.ioctl import CreateEvent
from gputrace.kfd import host
from gputrace.minimize.dependencies import Range
from gputrace.minimize.effects import touched
from gputrace.minimize.failure import Root
from gputrace.minimize.model import BufferFacts, Model
from gputrace.trace import events

_EVERYTHING = Range(0, 1 << 64)


class Snapshots:
    """Takes the bytes of each buffer before it goes away, and of the others at the end.

    `live` gives the address here of recorded bytes, or None where they are not mapped.
    """

    def __init__(
        self, model: Model, kept: frozenset[int], live: Callable[[int, int], int | None]
    ) -> None:
        self._live = live
        self.buffers = comparable(model, kept)
        self.taken: dict[int, bytes] = {}

    def take(self, where: Range = _EVERYTHING) -> None:
        """Take what lies in a range, or everything."""
        for buffer in self.buffers:
            start, end = buffer.where
            if end <= where.start or start >= where.end:
                continue
            at = self._live(start, end - start)
            if at is not None:
                self.taken[buffer.made] = bytes(host.view(at, end - start, writable=False))


def comparable(model: Model, kept: frozenset[int]) -> list[BufferFacts]:
    """Return the kept buffers that a program computes in."""
    taken = [one.where for queue in model.queues for one in touched(queue.made)]
    for queue in model.queues:
        pointer = queue.made.write_pointer_address
        taken.append(Range(pointer, pointer + 8))
    pages = {
        CreateEvent.from_bytes(event.before).event_page_offset
        for event in model.by_number.values()
        if isinstance(event, events.Ioctl) and event.record == "CreateEvent"
    }
    return [
        buffer
        for buffer in model.buffers
        if buffer.made in kept
        and buffer.handle not in pages
        and not any(o.start < buffer.where.end and buffer.where.start < o.end for o in taken)
    ]


def differences(
    model: Model, right: Snapshots, wrong: Snapshots, clocks: list[Range]
) -> list[Root]:
    """Return a cause for each buffer whose bytes differ, in the order of their making."""
    found = []
    for buffer in model.buffers:
        one, other = right.taken.get(buffer.made), wrong.taken.get(buffer.made)
        if one is None or other is None or one == other:
            continue
        differing = np.flatnonzero(np.frombuffer(one, np.uint8) != np.frombuffer(other, np.uint8))
        start = buffer.where.start
        at = next(
            (int(i) for i in differing if not any(c.start <= start + i < c.end for c in clocks)),
            None,
        )
        if at is None:
            continue
        at -= at % 4  # values are told by the dword
        text = (
            f"{model.name_of(start + at)} is {other[at : at + 4].hex()} and would be "
            f"{one[at : at + 4].hex()} if each submission's work were done before the next"
        )
        found.append(Root(f"differs#{buffer.made}", (), text))
    return found
