"""Which kernels a doorbell is about to start, told by memory as it is just then."""

from gputrace.capture.memory import WatchedMemory
from gputrace.families import family
from gputrace.kfd.labels import Label, Labels
from gputrace.kfd.tracking import Span
from gputrace.submitted.launches import Launches
from gputrace.submitted.stream import Stream
from gputrace.trace import events


class Present:
    """Memory of the client as it is now; a `submitted.image.Memory`."""

    def __init__(self, memory: WatchedMemory) -> None:
        self._memory = memory

    def apply(self, event: events.Event) -> None:
        """Do nothing: the memory is there without being told of."""

    def write(self, address: int, data: bytes) -> None:
        """Do nothing: the engines write it themselves."""

    def read(self, address: int, size: int) -> bytes | None:
        """Give bytes as they were last seen, or None when some of them are not watched."""
        found = b"".join(bytes(part) for _, part in self._memory.known(Span(address, size)))
        return found if len(found) == size else None

    def extent(self, address: int) -> tuple[int, int] | None:
        """Give start and end of the watched range around an address."""
        return self._memory.around(address)


class Kernels:
    """Follows the queues of a run and names the kernels that each doorbell starts."""

    def __init__(self, memory: WatchedMemory, header: events.Header) -> None:
        image, self._labels = Present(memory), Labels()
        self._stream, self._launches = Stream(image), Launches(image, self._labels)
        self._stream.apply(0, header)
        self._launches.family = family(header.family)

    def apply(self, event: events.Event) -> None:
        """Take an event into account."""
        self._stream.apply(0, event)
        match event:
            case events.QueueMap(live=True):
                self._launches.forget(event.queue)
            case events.Name():
                self._labels.put(Label(event.address, event.size, event.what, event.name))

    def started(self, queue: int, address: int, value: int, bits: int) -> list[str]:
        """Return the symbols of the kernels that a doorbell starts, in order.

        Of code that has no name that could be read it is the address, in words.
        """
        intent = events.DoorbellIntent(0, queue, address, value, bits)
        submission = self._stream.apply(0, intent)
        if submission is None:
            return []
        launches = [self._launches.apply(placed) for placed in submission.packets]
        started = [one for one in launches if one is not None]
        return [one.kernel or f"the code at {one.entry:#x}" for one in started]
