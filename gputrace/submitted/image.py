"""Memory at each point of a trace, put together without any device."""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from typing import NamedTuple, Protocol

from gputrace.formats.ioctl import AllocMemoryOfGpu, FreeMemoryOfGpu
from gputrace.trace import events
from gputrace.trace.events import Chunk, Digest, Event, HostStore, Ioctl, Map
from gputrace.trace.source import Source

PAGE = 4096
CACHED = 64
"""Chunks kept at hand: 4 MiB."""


class _Stored(NamedTuple):
    """A page that is in the trace: a chunk and where in it the page begins."""

    chunk: Chunk
    offset: int


class Memory(Protocol):
    """Memory at a point of a run, by GPU address; `Image` is what a trace tells of it."""

    def apply(self, event: Event) -> None:
        """Take an event into account."""

    def read(self, address: int, size: int) -> bytes | None:
        """Give `size` bytes, or None when some of them are not known."""

    def write(self, address: int, data: bytes) -> None:
        """Take note that an engine wrote bytes."""

    def extent(self, address: int) -> tuple[int, int] | None:
        """Give start and end of the allocation or mapping around an address, if there is one."""


class Image:
    """Sparse memory by GPU address: what the CPU wrote, and of the GPU's results those kept.

    A digest that holds its bytes tells of code or commands that the GPU copied into place. Memory
    that was allocated or mapped reads as zeros until something is stored to it, and so does the
    rest of a page of which some bytes were stored: a recorder leaves out what did not change.
    Chunks stay in the trace until they are read, so the image of a large trace is small. What a
    damaged file has lost is not known until something is stored there.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pages: dict[int, bytearray | _Stored] = {}
        self._starts: list[int] = []  # of the live ranges, ascending
        self._ends: dict[int, int] = {}
        self._handles: dict[int, tuple[int, int]] = {}
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._lost: list[tuple[int, int]] = []  # ranges that are not known

    def apply(self, event: Event) -> None:
        """Take an event into account; most kinds change nothing here."""
        match event:
            case events.Memory(data=b"") | Digest(stored=True, unstable=False):
                address = event.address
                for chunk in event.chunks:
                    self._store(address, chunk)
                    address += chunk.size
            case events.Memory() | HostStore():
                self.write(event.address, event.data)
            case events.Lost():
                self._lost.append((event.address, event.address + event.size))
            case Map() if event.target != "kfd":
                self._appear(event.address, event.size)
            case Ioctl(record="AllocMemoryOfGpu", errno=0):
                made = AllocMemoryOfGpu.from_bytes(event.after)
                self._handles[made.handle] = (made.va_addr, made.size)
                self._clear(made.va_addr, made.size)
                self._appear(made.va_addr, made.size)
            case Ioctl(record="FreeMemoryOfGpu", errno=0):
                gone = FreeMemoryOfGpu.from_bytes(event.before)
                if gone.handle in self._handles:
                    self._vanish(*self._handles.pop(gone.handle))

    def write(self, address: int, data: bytes) -> None:
        """Put bytes in place."""
        self._known(address, len(data))
        done = 0
        while done < len(data):
            number, at = divmod(address + done, PAGE)
            page = self._own(number)
            part = data[done : done + PAGE - at]
            page[at : at + len(part)] = part
            done += len(part)

    def read(self, address: int, size: int) -> bytes | None:
        """Give `size` bytes, or None when some lie where the trace puts no memory or lost it."""
        if any(start < address + size and address < end for start, end in self._lost):
            return None
        first, at = divmod(address, PAGE)
        if at + size <= PAGE:
            page = self._look(first)
            return None if page is None else bytes(page[at : at + size])
        parts = []
        left = size
        while left > 0:
            page = self._look(first)
            if page is None:
                return None
            parts.append(page[at : at + left])
            left -= len(parts[-1])
            first, at = first + 1, 0
        return b"".join(parts)

    def extent(self, address: int) -> tuple[int, int] | None:
        """Give start and end of the allocation or mapping around an address, if there is one."""
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._ends[self._starts[at]]:
            return None
        return self._starts[at], self._ends[self._starts[at]]

    def _known(self, address: int, size: int) -> None:
        if not self._lost:
            return
        still, low, high = [], address, address + size
        for start, end in self._lost:
            if start < low:
                still.append((start, min(end, low)))
            if high < end:
                still.append((max(start, high), end))
        self._lost = still

    # A chunk covers whole pages but for its ends.
    def _store(self, address: int, chunk: Chunk) -> None:
        self._known(address, chunk.size)
        end = address + chunk.size
        first, last = -(-address // PAGE), end // PAGE
        for number in range(first, last):
            self._pages[number] = _Stored(chunk, number * PAGE - address)
        if first > last:
            self.write(address, self._bytes(chunk))
            return
        if address < first * PAGE:
            self.write(address, self._bytes(chunk)[: first * PAGE - address])
        if last * PAGE < end:
            self.write(last * PAGE, self._bytes(chunk)[last * PAGE - address :])

    def _bytes(self, chunk: Chunk) -> bytes:
        data = self._cache.get(chunk.digest)
        if data is None:
            data = self._cache[chunk.digest] = self._source.chunk(chunk)
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return data

    def _own(self, number: int) -> bytearray:
        page = self._pages.get(number)
        if not isinstance(page, bytearray):
            page = bytearray(PAGE if page is None else self._load(page))
            self._pages[number] = page
        return page

    def _load(self, page: _Stored) -> bytes:
        return self._bytes(page.chunk)[page.offset : page.offset + PAGE]

    def _look(self, number: int) -> bytes | bytearray | None:
        page = self._pages.get(number)
        if page is None:
            return bytes(PAGE) if self.extent(number * PAGE) else None
        return self._load(page) if isinstance(page, _Stored) else page

    def _appear(self, address: int, size: int) -> None:
        if self.extent(address):
            return
        if address not in self._ends:
            insort(self._starts, address)
        self._ends[address] = address + size

    def _vanish(self, address: int, size: int) -> None:
        first = bisect_left(self._starts, address)
        last = bisect_left(self._starts, address + size)
        for start in self._starts[first:last]:
            del self._ends[start]
        del self._starts[first:last]
        self._clear(address, size)

    def _clear(self, address: int, size: int) -> None:
        self._known(address, size)
        pages = range(address // PAGE, -(-(address + size) // PAGE))
        for number in pages if len(pages) < len(self._pages) else list(self._pages):
            if number in pages:
                self._pages.pop(number, None)
