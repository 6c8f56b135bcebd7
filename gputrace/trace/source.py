"""What readers of events need: a trace on disk, or a stream that was edited in memory."""

from collections.abc import Iterator
from typing import Protocol

from gputrace.trace.events import Chunk, Digest, Event, Memory


class Source(Protocol):
    """Numbered events, and the bytes that they name; `TraceReader` is one."""

    def numbered(self, start: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (number, event) from the event number `start` on; event 0 is the Header."""

    def clocks(self) -> dict[int, list[int]]:
        """Return the values of the GPU's clock that each queue has read, in their order.

        Empty where the clock follows from the steps of an emulated device.
        """

    def pieces(self, event: Memory | Digest) -> Iterator[tuple[int, bytes]]:
        """Yield (address, bytes) of what a Memory event, or a Digest that is stored, holds."""

    def chunk(self, chunk: Chunk) -> bytes:
        """Give the bytes of a chunk; raises TraceError if the source has no such chunk."""
