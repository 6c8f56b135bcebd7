"""Find what reads as text in the memory of a trace: what a stranger would read there."""

import re
from collections.abc import Iterator

from gputrace.trace.events import Chunk, Digest, HostStore, Ioctl, Memory
from gputrace.trace.source import Source

SHORTEST = 6
"""Characters of a text; machine code is full of shorter ones."""
MOST = 10_000
"""Different texts that are kept."""
_TEXT = re.compile(rb"[\x20-\x7e]{%d,}" % SHORTEST)
_WORD = re.compile(rb"[A-Za-z0-9_./:'\- ]")
_WORDY = 0.9


def texts(source: Source) -> set[str]:
    """Return the texts in memory, stored results and arguments of calls.

    A text is a run of printable characters nine tenths of which stand in names, paths and words.
    """
    found: set[str] = set()
    for data in _bytes(source):
        for run in _TEXT.findall(data):
            wordy = len(_WORD.findall(run)) >= _WORDY * len(run)
            if wordy and _letters(run) and len(found) < MOST:
                found.add(run.decode("ascii"))
    return found


def _letters(run: bytes) -> bool:
    return sum(byte in b"/_." or chr(byte).isalpha() for byte in set(run)) >= SHORTEST // 2


def _bytes(source: Source) -> Iterator[bytes]:
    seen: set[bytes] = set()

    def fresh(chunks: tuple[Chunk, ...]) -> bool:
        names = {chunk.digest for chunk in chunks}
        known = names <= seen
        seen.update(names)
        return not known

    for _, event in source.numbered():
        match event:
            case Memory() if event.data or fresh(event.chunks):
                yield b"".join(data for _, data in source.pieces(event))
            case Digest(stored=True) if fresh(event.chunks):
                yield b"".join(data for _, data in source.pieces(event))
            case HostStore():
                yield event.data
            case Ioctl():
                yield event.tail
                for payload in event.payloads:
                    yield payload.before
                    yield payload.after
