"""Know byte by byte what the CPU stored: watched ranges and a copy of what they last held."""

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

Bytes = NDArray[np.uint8]


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

    def forget(self, address: int, size: int) -> None:
        """Stop watching every range that lies in these bytes; they are about to go away."""
        end = address + size
        for start in [s for s, w in self._ranges.items() if address <= s and w.end <= end]:
            watched = self._ranges.pop(start)
            self._tracker.forget(start, len(watched.live))

    def stores(self) -> Iterator[Store]:
        """Yield what the CPU stored since the last call, in rising order of addresses."""
        for span in self._tracker.written():
            watched = self._ranges[self._start(span.address)]
            first = span.address - watched.address
            for low in range(first, first + span.size, STEP):
                yield from self._compare(watched, low, min(low + STEP, first + span.size))

    def absorb(self, spans: list[Span]) -> None:
        """Take what the GPU wrote in these spans as known."""
        for span in spans:
            for address, live in self.overlaps(span):
                watched = self._ranges[self._start(address)]
                low = address - watched.address
                watched.known[low : low + len(live)] = live

    def overlaps(self, span: Span) -> Iterator[tuple[int, memoryview]]:
        """Yield the watched parts of a span: address and bytes as they are."""
        for watched in self._ranges.values():
            low = max(span.address, watched.address) - watched.address
            high = min(span.address + span.size, watched.end) - watched.address
            if low < high:
                yield watched.address + low, watched.live[low:high].data

    def close(self) -> None:
        """Stop watching everything."""
        for watched in list(self._ranges.values()):
            self.forget(watched.address, len(watched.live))

    def _start(self, address: int) -> int:
        return max(start for start in self._ranges if start <= address)

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
