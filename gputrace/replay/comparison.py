"""Compare what the GPU wrote in a replay with the digests of the recording."""

from collections.abc import Callable, Sequence

from xxhash import xxh3_128

from gputrace.replay.verdict import Difference
from gputrace.trace.chunks import describe
from gputrace.trace.events import Chunk, Digest

SHOWN = 16
"""Bytes that a difference shows from the first differing one on."""


class Comparison:
    """What was compared so far, and the first difference.

    `read` gives the bytes that are at a recorded address here, `chunk` those of a recorded chunk.
    `clocks` are ranges (address, size) in which the GPU stores its clock: where that may run
    otherwise they are left out.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], chunk: Callable[[Chunk], bytes]
    ) -> None:
        self._read, self._chunk = read, chunk
        self.clocks: Sequence[tuple[int, int]] = ()
        self._hash = xxh3_128()
        self.compared = self.written = 0
        self.difference: Difference | None = None

    @property
    def digest(self) -> str:
        """A hash of all bytes that were compared, as they are here."""
        return self._hash.hexdigest()

    def agrees(self, event: Digest) -> bool:
        """Whether the range of a digest holds now what it held then."""
        address = event.address
        for chunk in event.chunks:
            if describe(self._read(address, chunk.size)) != chunk:
                return False
            address += chunk.size
        return True

    def take(self, number: int, event: Digest) -> None:
        """Compare the range of a digest, unless somebody may still have been writing to it."""
        self.written += event.size
        if event.unstable:
            return
        address = event.address
        for chunk in event.chunks:
            live = self._read(address, chunk.size)
            clocks = [one for one in self.clocks if _inside(one, address, chunk.size)]
            if clocks:
                self._without(number, address, live, chunk if event.stored else None, clocks)
                address += chunk.size
                continue
            found = describe(live)
            self._hash.update(found.digest)
            if found != chunk and self.difference is None:
                recorded = self._chunk(chunk) if event.stored else None
                self.difference = first_difference(number, address, recorded, live)
            self.compared += chunk.size
            address += chunk.size

    def _without(
        self, number: int, address: int, live: bytes, chunk: Chunk | None,
        clocks: Sequence[tuple[int, int]],
    ) -> None:  # fmt: skip
        # What only a hash is known of cannot be compared in part.
        if chunk is None:
            return
        recorded, here, left = bytearray(self._chunk(chunk)), bytearray(live), 0
        for start, size in clocks:
            low, high = max(start - address, 0), min(start + size - address, len(here))
            recorded[low:high] = here[low:high] = bytes(high - low)
            left += high - low
        self._hash.update(here)
        if recorded != here and self.difference is None:
            found = first_difference(number, address, bytes(recorded), bytes(here))
            self.difference = found
        self.compared += len(here) - left


def _inside(clock: tuple[int, int], address: int, size: int) -> bool:
    return clock[0] < address + size and address < clock[0] + clock[1]


def first_difference(
    number: int, address: int, recorded: bytes | None, live: bytes
) -> Difference:
    """Say where two ranges differ first; without the recorded bytes it is somewhere in all."""
    if recorded is None or len(recorded) != len(live):
        return Difference(number, address, len(live), None, None)
    at = next(i for i, (was, now) in enumerate(zip(recorded, live, strict=True)) if was != now)
    shown = slice(at, at + SHOWN)
    return Difference(number, address + at, 1, recorded[shown], live[shown])
