"""What calls make, by the names that later events use."""

from collections.abc import Iterator

from gputrace.bits import Record
from gputrace.formats.ioctl import (
    CreateEvent,
    CreateQueue,
    DestroyEvent,
    doorbell_parts,
)
from gputrace.trace import events


def names_made(answer: Record) -> Iterator[events.Event]:
    """Yield what a successful call says about events."""
    match answer:
        case CreateEvent():
            slot = answer.event_slot_index
            yield events.EventMap(answer.event_id, int(answer.event_type), slot)
        case DestroyEvent():
            yield events.EventMap(answer.event_id, 0, 0, live=False)


def queue_map(answer: CreateQueue) -> events.QueueMap:
    """Return the event that describes a new queue."""
    return events.QueueMap(
        queue=answer.queue_id,
        gpu=answer.gpu_id,
        type=answer.queue_type,
        ring=answer.ring_base_address,
        ring_size=answer.ring_size,
        read_pointer=answer.read_pointer_address,
        write_pointer=answer.write_pointer_address,
        doorbell=answer.doorbell_offset,
    )


class Doorbells:
    """Which queue a doorbell's CPU address belongs to."""

    def __init__(self) -> None:
        self._queues: dict[int, int] = {}  # CPU address -> queue
        self._frames: dict[int, int] = {}  # mmap offset of doorbell pages -> CPU address
        self._offsets: dict[int, int] = {}  # queue -> mmap offset of its doorbell

    def queue(self, address: int) -> int:
        """Return the queue of a doorbell, -1 when none is known."""
        return self._queues.get(address, -1)

    def mapped(self, offset: int, address: int) -> None:
        """Say that doorbell pages were mapped."""
        self._frames[offset] = address
        self._name()

    def made(self, queue: int, offset: int) -> None:
        """Say which doorbell a new queue has."""
        self._offsets[queue] = offset
        self._name()

    def destroyed(self, queue: int) -> None:
        """Say that a queue is gone."""
        offset = self._offsets.pop(queue, None)
        if offset is not None:
            page, byte = doorbell_parts(offset)
            self._queues.pop(self._frames.get(page, 0) + byte, None)

    def _name(self) -> None:
        for queue, offset in self._offsets.items():
            page, byte = doorbell_parts(offset)
            if page in self._frames:
                self._queues[self._frames[page] + byte] = queue
