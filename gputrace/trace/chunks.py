"""Cut memory into chunks named by their content."""

from collections.abc import Iterator

import xxhash

from gputrace.trace.blocks import CHUNK_SIZE
from gputrace.trace.events import Chunk

INLINE_BELOW = 1 << 14
"""Changes shorter than this many bytes stand in the event itself."""
MAX_CHUNKS = 1 << 10
"""Most chunks that one event names; longer memory becomes several events."""

_digest = xxhash.xxh3_128_digest


def describe(piece: bytes | memoryview) -> Chunk:
    """Name a piece of memory by its content."""
    return Chunk(_digest(piece), len(piece))


def pieces(address: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the pieces of a range, cut where addresses are 64 KiB multiples."""
    offset = 0
    while offset < size:
        length = min(CHUNK_SIZE - (address + offset) % CHUNK_SIZE, size - offset)
        yield offset, length
        offset += length
