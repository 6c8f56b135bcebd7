"""Know byte by byte what the CPU stored: watched ranges and a copy of what they last held."""

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputrace.kfd import host
from gputrace.kfd.tracking import Span, Tracker

GAP = 32
"""Unchanged bytes between two changes that are cheaper stored than split at."""
STEP = 1 << 20
"""Bytes compared at a time, which bounds the memory that a comparison needs."""

SMALL_SPAN = 1 << 16
"""In what the GPU wrote at once and is larger, no single words are looked for."""
FEW_WORDS = 16
"""More changed dwords than these in one page are data, not fences and signals."""
PAGE_WORDS = host.PAGE // 4

Bytes = NDArray[np.uint8]


class Change(NamedTuple):
    """A dword that the GPU changed, by its address."""

    address: int
    was: int
    now: int


class Store(NamedTuple):
    """Bytes that the CPU stored."""

    address: int
    data: bytes


class Watched(NamedTuple):
    """A range of this process: its bytes as they are, and as they were last known."""

    address: int
    live: Bytes
    known: Bytes

    @property
    def end(self) -> int:
        """Return the address after the last byte."""
        return self.address + len(self.live)


class WatchedMemory:
    """Tell the CPU's stores from the GPU's in memory that both can write.

    `tracker` names the pages that the CPU wrote. `absorb` takes over what the GPU wrote, so that
    it is never mistaken for the CPU's; call it after each call in which the GPU may have worked.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._ranges: dict[int, Watched] = {}
        self._starts: list[int] = []
        self.scanned = 0

    @property
    def size(self) -> int:
        """Return the bytes watched."""
        return sum(len(watched.live) for watched in self._ranges.values())

    def watch(self, address: int, size: int, *, zeroed: bool) -> None:
        """Begin to watch whole pages; `zeroed` says that they hold nothing but zeros yet."""
        self._tracker.watch(address, size, written=not zeroed)
        live = np.frombuffer(host.view(address, size), np.uint8)
        self._ranges[address] = Watched(address, live, np.zeros(size, np.uint8))
        insort(self._starts, address)

    def forget(self, address: int, size: int) -> None:
        """Stop watching every range that lies in these bytes; they are about to go away."""
        end = address + size
        for start in [s for s, w in self._ranges.items() if address <= s and w.end <= end]:
            watched = self._ranges.pop(start)
            self._starts.remove(start)
            self._tracker.forget(start, len(watched.live))

    def stores(self) -> Iterator[Store]:
        """Yield what the CPU stored since the last call, in rising order of addresses."""
        for span in self._tracker.written():
            watched = self._ranges[self._start(span.address)]
            first = span.address - watched.address
            for low in range(first, first + span.size, STEP):
                yield from self._compare(watched, low, min(low + STEP, first + span.size))

    def absorb(self, spans: list[Span]) -> list[Change]:
        """Take what the GPU wrote in these spans as known; return single dwords that it changed."""
        changes: list[Change] = []
        for span in spans:
            for watched, low, high in self._parts(span):
                live, known = watched.live[low:high], watched.known[low:high]
                if high - low <= SMALL_SPAN:
                    changes += _changes(watched.address + low, live, known)
                np.copyto(known, live)
        return changes

    def overlaps(self, span: Span) -> Iterator[tuple[int, memoryview]]:
        """Yield the watched parts of a span: address and bytes as they are."""
        for watched, low, high in self._parts(span):
            yield watched.address + low, watched.live[low:high].data

    def word(self, address: int, size: int) -> int | None:
        """Return the little-endian integer at an address, or None where nothing is watched."""
        for watched, low, high in self._parts(Span(address, size)):
            if high - low == size:
                return int.from_bytes(watched.live[low:high].tobytes(), "little")
        return None

    def _parts(self, span: Span) -> Iterator[tuple[Watched, int, int]]:
        at = max(bisect_right(self._starts, span.address) - 1, 0)
        end = span.address + span.size
        while at < len(self._starts) and self._starts[at] < end:
            watched = self._ranges[self._starts[at]]
            low = max(span.address, watched.address) - watched.address
            high = min(end, watched.end) - watched.address
            if low < high:
                yield watched, low, high
            at += 1

    def close(self) -> None:
        """Stop watching everything."""
        for watched in list(self._ranges.values()):
            self.forget(watched.address, len(watched.live))

    def _start(self, address: int) -> int:
        return self._starts[bisect_right(self._starts, address) - 1]

    def _compare(self, watched: Watched, low: int, high: int) -> Iterator[Store]:
        self.scanned += high - low
        live, known = watched.live[low:high], watched.known[low:high]
        differing = np.flatnonzero(live != known)
        if not len(differing):
            return
        cuts = np.flatnonzero(np.diff(differing) > GAP)
        starts = differing[np.concatenate(([0], cuts + 1))].tolist()
        ends = differing[np.concatenate((cuts, [len(differing) - 1]))].tolist()
        for start, last in zip(starts, ends, strict=True):
            data = live[start : last + 1].tobytes()
            known[start : last + 1] = np.frombuffer(data, np.uint8)
            yield Store(watched.address + low + start, data)


def _changes(address: int, live: Bytes, known: Bytes) -> Iterator[Change]:
    # Spans are whole pages: no dword is cut.
    now, was = live.view(np.uint32), known.view(np.uint32)
    where = np.flatnonzero(now != was)
    if not len(where) or len(where) > FEW_WORDS * -(-len(now) // PAGE_WORDS):
        return
    found = where.tolist()
    many = {page for page in {at // PAGE_WORDS for at in found}
            if sum(at // PAGE_WORDS == page for at in found) > FEW_WORDS}  # fmt: skip
    for at in found:
        if at // PAGE_WORDS not in many:
            yield Change(address + 4 * at, int(was[at]), int(now[at]))
