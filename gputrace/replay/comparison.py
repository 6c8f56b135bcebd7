"""Compare what the GPU wrote in a replay with the digests of the recording."""

from collections.abc import Callable

from xxhash import xxh3_128

from gputrace.replay.verdict import Difference
from gputrace.trace.chunks import describe
from gputrace.trace.events import Chunk, Digest

SHOWN = 16
"""Bytes that a difference shows from the first differing one on."""


class Comparison:
    """What was compared so far, and the first difference.

    `read` gives the bytes that are at a recorded address here, `chunk` those of a recorded chunk.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], chunk: Callable[[Chunk], bytes]
    ) -> None:
        self._read, self._chunk = read, chunk
        self._hash = xxh3_128()
        self.compared = self.written = 0
        self.difference: Difference | None = None

    @property
    def digest(self) -> str:
        """A hash of all bytes that were compared, as they are here."""
        return self._hash.hexdigest()

    def take(self, number: int, event: Digest) -> None:
        """Compare the range of a digest, unless somebody may still have been writing to it."""
        self.written += event.size
        if event.unstable:
            return
        address = event.address
        for chunk in event.chunks:
            live = self._read(address, chunk.size)
            found = describe(live)
            self._hash.update(found.digest)
            if found != chunk and self.difference is None:
                recorded = self._chunk(chunk) if event.stored else None
                self.difference = first_difference(number, address, recorded, live)
            self.compared += chunk.size
            address += chunk.size


def first_difference(
    number: int, address: int, recorded: bytes | None, live: bytes
) -> Difference:
    """Say where two ranges differ first; without the recorded bytes it is somewhere in all."""
    if recorded is None or len(recorded) != len(live):
        return Difference(number, address, len(live), None, None)
    at = next(i for i, (was, now) in enumerate(zip(recorded, live, strict=True)) if was != now)
    shown = slice(at, at + SHOWN)
    return Difference(number, address + at, 1, recorded[shown], live[shown])
