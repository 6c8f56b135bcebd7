"""Know byte by byte what the CPU stored: watched ranges and a copy of what they last held.

A store of what was there before changes nothing and is not seen, with one exception: zeros that are
stored into memory that held only zeros. Whoever reads them reads what somebody has written.
"""

import mmap
from bisect import bisect_right, insort
from collections.abc import Iterator
from ctypes import Array, addressof, c_ubyte, c_uint64
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputrace.capture.compare import ROW, STEP, WORDS, Comparer, Job
from gputrace.kfd import host
from gputrace.kfd.pagemap import Region, Request
from gputrace.kfd.tracking import Span, Tracker, WriteTracker

SMALL_SPAN = 1 << 16
"""Where the GPU wrote more than this at once, no single dwords are looked for."""
FEW_WORDS = 32
"""More changed dwords than these in one page are data, not fences and signals."""
assert FEW_WORDS <= WORDS


Store = tuple[int, memoryview]
"""Bytes that the CPU stored, by their address."""


class Change(NamedTuple):
    """A dword that the GPU changed, by its address."""

    address: int
    was: int
    now: int


class Watched:
    """A range of the client, and its bytes as they were last known.

    The copy is memory of its own, so that pages which nobody touched cost nothing. `place` is where
    this process sees the range: its own address unless the client is another process.
    """

    __slots__ = (
        "_marks", "_pages", "address", "end", "known", "known_at", "marks", "marks_at", "place",
        "size",
    )  # fmt: skip

    def __init__(self, address: int, size: int, place: int) -> None:
        self.address, self.size, self.end, self.place = address, size, address + size, place
        self._pages = mmap.mmap(-1, size)
        self.known = memoryview(self._pages)
        self.known_at = addressof(c_ubyte.from_buffer(self._pages))
        self._marks = mmap.mmap(-1, size // host.PAGE)
        self.marks_at = addressof(c_ubyte.from_buffer(self._marks))
        self.marks = np.frombuffer(self._marks, np.uint8)
        """A byte for each page: 1 once the CPU has touched it."""


class WatchedMemory:
    """Tell the CPU's stores from the GPU's in memory that both can write.

    `tracker` names the pages that the CPU wrote. `absorb` takes over what the GPU wrote, so that
    it is never mistaken for the CPU's; call it after each call in which the GPU may have worked.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self._comparer = tracker, Comparer()
        self._tells_touched = isinstance(tracker, WriteTracker)
        self._ranges: dict[int, Watched] = {}
        self._starts: list[int] = []
        self._stretches: list[Region] = []
        self._requests: list[tuple[Request, Job, int]] = []  # and the job's address
        self._rows_of: list[Watched] | None = None
        self._rows: Array[c_uint64] = (c_uint64 * 0)()
        self.size = 0
        """Bytes watched."""
        self._scanned = 0

    @property
    def scanned(self) -> int:
        """Bytes compared so far."""
        return self._scanned + self._comparer.looked

    def watch(self, address: int, size: int, *, zeroed: bool, place: int | None = None) -> None:
        """Begin to watch whole pages; `zeroed` says that they hold nothing but zeros yet.

        `place` is where this process sees them when `address` is one of another process.
        """
        self._tracker.watch(address, size, written=not zeroed)
        made = Watched(address, size, address if place is None else place)
        self._ranges[address] = made
        if not (zeroed and self._tells_touched):
            made.marks[:] = 1  # zeros in it tell nothing
        self.size += size
        self._rows_of = None
        insort(self._starts, address)

    def forget(self, address: int, size: int) -> None:
        """Stop watching every range that lies in these bytes; they are about to go away."""
        end = address + size
        for start in [s for s in self._starts if address <= s and self._ranges[s].end <= end]:
            watched = self._ranges.pop(start)
            self._starts.remove(start)
            self.size -= watched.size
            self._rows_of = None
            self._tracker.forget(start, watched.size)

    def size_at(self, address: int) -> int:
        """Return the size of the range that begins at an address, 0 when none does."""
        return self._ranges[address].size if address in self._ranges else 0

    def around(self, address: int) -> tuple[int, int] | None:
        """Return start and end of the range around an address, None when it is not watched."""
        at = bisect_right(self._starts, address) - 1
        watched = self._ranges[self._starts[at]] if at >= 0 else None
        return (watched.address, watched.end) if watched and address < watched.end else None

    def written(self) -> list[Span]:
        """Return what the CPU may have written since the last call; `stores` has to see it."""
        return self._tracker.written()

    def stores(self, spans: list[Span] | None = None) -> list[Store]:
        """Return what the CPU stored since the last call, in rising order of addresses.

        `spans` is what `written` gave, if it was called before. The bytes are a view of what is
        known: good until the next call.
        """
        if spans is None and isinstance(self._tracker, WriteTracker) and not self._tracker.fresh:
            return self._quick_stores(self._tracker)
        found: list[Store] = []
        for span in self._tracker.written() if spans is None else spans:
            self._compare_span(span, found)
        return found

    def _compare_span(self, span: Span, found: list[Store]) -> None:
        for watched, low, high in self._parts(span):
            for at in range(low, high, STEP):
                self._compare(watched, at, min(at + STEP, high), found)
        self._add_zeros(span, found)

    def _add_zeros(self, span: Span, found: list[Store]) -> None:
        # Pages that the CPU has touched for the first time, and that hold only zeros.
        zeros: list[Store] = []
        for watched, low, high in self._parts(span):
            marks = watched.marks[low // host.PAGE : high // host.PAGE]
            new = np.flatnonzero(marks == 0)
            marks[new] = 1
            words = np.frombuffer(watched.known[low:high], "<u8").reshape(len(marks), -1)
            empty = new[~words[new].any(axis=1)] * host.PAGE + low
            for first, last in _runs(empty):
                zeros.append((watched.address + first, watched.known[first:last]))
        if zeros:
            found += zeros
            found.sort(key=itemgetter(0))

    def _quick_stores(self, tracker: WriteTracker) -> list[Store]:
        # Scan and compare in one compiled loop: before a doorbell every microsecond counts.
        stretches, found = tracker.stretches(), list[Store]()
        if stretches is not self._stretches or self._rows_of is None:
            self._prepare(tracker, stretches)
        rows = self._rows_of
        assert rows is not None
        for (_, end), (request, _, job) in zip(stretches, self._requests, strict=True):
            pieces = self._comparer.look(job)
            if isinstance(pieces, list):
                at = iter(pieces)
                for row, low, high, _ in zip(at, at, at, at, strict=True):
                    watched = rows[row]
                    found.append((watched.address + low, watched.known[low:high]))
                for low, high in request.regions(self._comparer.regions):
                    self._add_zeros(Span(low, high - low), found)
                continue
            start = request.start if pieces is None else request.reached
            for span in tracker.rest(request.regions(pieces or 0), start, end):
                self._compare_span(span, found)
        return found

    def _prepare(self, tracker: WriteTracker, stretches: list[Region]) -> None:
        self._stretches = stretches
        self._rows_of = rows = [self._ranges[start] for start in self._starts]
        values = [(one.address, one.end, one.place, one.known_at, one.marks_at) for one in rows]
        self._rows = (c_uint64 * (ROW * len(rows)))(*chain.from_iterable(values))
        pagemap, at = tracker.pagemap.descriptor, addressof(self._rows)
        self._requests.clear()
        for request in [Request(start, end) for start, end in stretches]:
            job = self._comparer.job(pagemap, request.at, at, len(rows))
            self._requests.append((request, job, addressof(job)))

    def absorb(self, spans: list[Span]) -> list[Change]:
        """Take what the GPU wrote in these spans as known; return single dwords that it changed."""
        changes: list[Change] = []
        for span in spans:
            for watched, low, high in self._parts(span):
                if high - low > SMALL_SPAN:
                    watched.known[low:high] = host.view(watched.place + low, high - low)
                else:
                    for at in range(low, high, host.PAGE):
                        changes += self._words(watched, at)
        return changes

    def absorb_all(self) -> tuple[list[Span], list[Change]]:
        """Take all that changed as known; return where that was, by page, and single dwords."""
        spans: list[Span] = []
        changes: list[Change] = []
        for watched in self._ranges.values():
            shape = (watched.size // host.PAGE, host.PAGE)
            live = np.frombuffer(host.view(watched.place, watched.size), np.uint8).reshape(shape)
            known = np.frombuffer(watched.known, np.uint8).reshape(shape)
            for page in np.flatnonzero((live != known).any(axis=1)).tolist():
                low = page * host.PAGE
                spans.append(Span(watched.address + low, host.PAGE))
                changes += self._words(watched, low)
        return spans, changes

    def edges(self) -> list[Change]:
        """Return the first and the last changed dword of each changed page, and take nothing."""
        found: list[Change] = []
        for watched in self._ranges.values():
            size = watched.size // 4 * 4
            live = np.frombuffer(host.view(watched.place, size), "<u4")
            known = np.frombuffer(watched.known[:size], "<u4")
            places = np.flatnonzero(live != known)
            pages = places // (host.PAGE // 4)
            ends = np.flatnonzero(np.diff(pages, prepend=-1, append=-1))  # where a page's run ends
            for at in sorted({*ends[:-1].tolist(), *(ends[1:] - 1).tolist()}):
                place = int(places[at])
                change = Change(watched.address + 4 * place, int(known[place]), int(live[place]))
                found.append(change)
        return found

    def known(self, span: Span) -> Iterator[tuple[int, memoryview]]:
        """Yield the watched parts of a span: address and bytes as last known."""
        for watched, low, high in self._parts(span):
            yield watched.address + low, watched.known[low:high]

    def word(self, address: int, size: int) -> int | None:
        """Return the little-endian integer last known at an address, None if it is not watched."""
        for watched, low, high in self._parts(Span(address, size)):
            if high - low == size:
                return int.from_bytes(watched.known[low:high], "little")
        return None

    def all(self) -> Iterator[tuple[int, memoryview]]:
        """Yield every range: address and bytes as last known."""
        for start in self._starts:
            yield start, self._ranges[start].known

    def close(self) -> None:
        """Stop watching everything."""
        for watched in list(self._ranges.values()):
            self.forget(watched.address, watched.size)

    def _parts(self, span: Span) -> list[tuple[Watched, int, int]]:
        address, size = span
        at = bisect_right(self._starts, address) - 1
        end = address + size
        if at >= 0:
            watched = self._ranges[self._starts[at]]
            if end <= watched.end:  # nearly always
                return [(watched, address - watched.address, end - watched.address)]
        parts = []
        for start in self._starts[max(at, 0) :]:
            if start >= end:
                break
            watched = self._ranges[start]
            low, high = max(address, start) - start, min(end, watched.end) - start
            if low < high:
                parts.append((watched, low, high))
        return parts

    def _compare(self, watched: Watched, low: int, high: int, found: list[Store]) -> None:
        self._scanned += high - low
        address, known = watched.address + low, watched.known
        runs = self._comparer.runs(watched.place + low, watched.known_at + low, high - low)
        for begin, end in runs:
            found.append((address + begin, known[low + begin : low + end]))

    def _words(self, watched: Watched, low: int) -> Iterator[Change]:
        address, there = watched.address + low, watched.place + low
        found = self._comparer.words(there, watched.known_at + low, host.PAGE, FEW_WORDS)
        return (Change(address + 4 * index, was, now) for index, was, now in found)


def _runs(pages: "NDArray[np.int64]") -> Iterator[tuple[int, int]]:
    # Pages that follow one another, as (first byte, byte after the last).
    if not len(pages):
        return
    cuts = np.flatnonzero(np.diff(pages) != host.PAGE) + 1
    for run in np.split(pages, cuts):
        yield int(run[0]), int(run[-1]) + host.PAGE
