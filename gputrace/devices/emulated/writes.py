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

    def mapped(self, address: int, offset: int, length: int) -> None:
        """Say that the client maps a part of the pool at an address of its own."""
        self._clients[address] = offset, length

    def unmapped(self, address: int) -> None:
        """Say that a mapping of the client is gone."""
        self._clients.pop(address, None)

    def written(self) -> list[Span]:
        """Return what was written since the last call, once for each mapping of the client."""
        self._follow()
        spans = []
        starts = sorted(self._watched)
        for found in self._tracker.written():
            start = starts[bisect_right(starts, found.address) - 1]
            offset = self._watched[start][0] + found.address - start
            for address, (first, length) in self._clients.items():
                low, high = max(first, offset), min(first + length, offset + found.size)
                if low < high:
                    spans.append(Span(address + low - first, high - low))
        return sorted(spans)

    def close(self) -> None:
        """Stop watching."""
        self._tracker.close()

    def _follow(self) -> None:
        # The pool takes and drops parts; watch those that are there.
        for address in [address for address in self._watched if address not in self._pool.parts]:
            self._tracker.forget(address, self._watched.pop(address)[1])
        for address, (offset, length) in self._pool.parts.items():
            if address not in self._watched:
                self._tracker.watch(address, length, written=False)
                self._watched[address] = offset, length
