"""Which bytes of the client's mappings the GPU wrote: the emulator's own mappings, tracked."""

from bisect import bisect_right

from gputrace.devices.emulated.memory import Pool
from gputrace.kfd.tracking import Span, WriteTracker


class GpuWrites:
    """Watches the emulator's mappings of a pool and names what it finds as the client sees it.

    A part is watched from the first call of `written` after it was taken; so there must be one
    between the call of the port that takes a part and the one that lets the GPU write to it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tracker = WriteTracker()
        self._watched: dict[int, tuple[int, int]] = {}  # emulator address -> pool offset, length
        self._clients: dict[int, tuple[int, int]] = {}  # client address -> pool offset, length
        self._left_out: set[int] = set()  # pool offsets
        self._parts: dict[int, tuple[int, int]] = {}  # of the pool, when it was last followed
        self._starts: list[int] = []
        self._views: dict[int, list[tuple[int, int, int]]] = {}

    def mapped(self, address: int, offset: int, length: int) -> None:
        """Say that the client maps a part of the pool at an address of its own."""
        self._clients[address] = offset, length
        self._views.clear()

    def unmapped(self, address: int) -> None:
        """Say that a mapping of the client is gone."""
        self._clients.pop(address, None)
        self._views.clear()

    def leave_out(self, address: int) -> None:
        """Watch the memory that the client maps at an address no more."""
        if address in self._clients:
            self._left_out.add(self._clients[address][0])
            self._parts.clear()  # so that the next call looks again

    def written(self) -> list[Span]:
        """Return what was written since the last call, once for each mapping of the client."""
        self._follow()
        found = self._tracker.written()
        if not found:
            return []
        spans = []
        for address, size in found:
            start = self._starts[bisect_right(self._starts, address) - 1]
            offset = self._watched[start][0] + address - start
            for client, first, length in self._seen_by(start):
                low, high = max(first, offset), min(first + length, offset + size)
                if low < high:
                    spans.append(Span(client + low - first, high - low))
        spans.sort()
        return spans

    def _seen_by(self, start: int) -> list[tuple[int, int, int]]:
        # The client's mappings of a watched part: address, pool offset, length.
        found = self._views.get(start)
        if found is None:
            offset, length = self._watched[start]
            found = self._views[start] = [
                (client, first, size)
                for client, (first, size) in self._clients.items()
                if first < offset + length and offset < first + size
            ]
        return found

    def _touched(self, address: int, size: int) -> list[tuple[int, int]]:
        shift = address - self._watched[address][0]
        parts = self._pool.touched(address - shift, size)
        return [(low + shift, high + shift) for low, high in parts]

    def close(self) -> None:
        """Stop watching."""
        self._tracker.close()

    def _follow(self) -> None:
        # The pool takes and drops parts; watch those that are there.
        parts = self._pool.parts
        if parts == self._parts:
            return
        self._parts = dict(parts)
        for address, (offset, length) in list(self._watched.items()):
            if parts.get(address) != (offset, length) or offset in self._left_out:
                self._tracker.forget(address, length)
                del self._watched[address]
        for address, (offset, length) in parts.items():
            if address not in self._watched and offset not in self._left_out:
                self._watched[address] = offset, length
                self._tracker.watch(address, length, written=False, touched=self._touched)
        self._starts = sorted(self._watched)
        self._views.clear()
