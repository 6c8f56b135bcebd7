"""Keep what a reader must know at a point of a trace: live mappings, queues, events, names."""

from collections.abc import Iterator

from gputrace.trace.events import (
    Close,
    Event,
    EventMap,
    Header,
    Map,
    Name,
    Open,
    QueueMap,
    Release,
    Reserve,
    Unmap,
)


class State:
    """What is alive after the events applied so far.

    A keyframe stores it as the events that rebuild it, so it needs no encoding of its own.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.opened: dict[tuple[str, int], Open] = {}
        self.maps: dict[int, Map] = {}
        self.reserved: dict[int, Reserve] = {}
        self.queues: dict[int, QueueMap] = {}
        self.events: dict[int, EventMap] = {}
        self.names: dict[int, Name] = {}

    def apply(self, event: Event) -> None:
        """Take one event into account; kinds that make or end nothing change nothing."""
        match event:
            case Open():
                self.opened[event.target, event.handle] = event
            case Close():
                self.opened.pop((event.target, event.handle), None)
            case Map():
                self.maps[event.address] = event
            case Unmap():
                self.maps.pop(event.address, None)
            case Reserve():
                self.reserved[event.address] = event
            case Release():
                self.reserved.pop(event.address, None)
            case QueueMap(live=True):
                self.queues[event.queue] = event
            case QueueMap():
                self.queues.pop(event.queue, None)
            case EventMap(live=True):
                self.events[event.event] = event
            case EventMap():
                self.events.pop(event.event, None)
            case Name(name=""):
                self.names.pop(event.address, None)
            case Name():
                self.names[event.address] = event
            case _:
                pass

    def rebuild(self) -> Iterator[Event]:
        """Yield the events that make this state out of nothing, the header first."""
        yield self.header
        for table in (
            self.opened, self.reserved, self.maps, self.queues, self.events, self.names
        ):  # fmt: skip
            yield from table.values()
