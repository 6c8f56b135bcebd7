"""Find which pages a program in another process wrote.

The library in the program registers its mappings with a userfaultfd of the program's own, for
asynchronous write protection; here the program's pagemap is scanned. What could not be registered
counts as written at each look, and so does everything once the program has ended.
"""

import ctypes
import fcntl
import os
import struct
from bisect import bisect_right, insort

from gputrace.kfd.tracking import Span

_SCAN_IOCTL = 0xC0606610  # PAGEMAP_SCAN of linux/fs.h
_LOOK, _PROTECT = 0, 1  # PM_SCAN_WP_MATCHING
_WRITTEN = 1 << 1  # PAGE_IS_WRITTEN
_REGIONS = 512
_SCAN, _REGION = struct.Struct("<12Q"), struct.Struct("<3Q")
_GAP = 1 << 36


class RemoteTracker:
    """Watches mappings of process `process`; a `kfd.tracking.Tracker`."""

    def __init__(self, process: int) -> None:
        self._pagemap = os.open(f"/proc/{process}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._ranges: dict[int, int] = {}
        self._starts: list[int] = []
        self._always: set[int] = set()
        self._fresh: set[int] = set()
        self._found = ctypes.create_string_buffer(_REGION.size * _REGIONS)
        self.ended = False
        """Set when the program has ended: nobody can be asked any more, so all is looked at."""

    def unregistered(self, address: int) -> None:
        """Say that the range to be watched at an address could not be registered."""
        self._always.add(address)

    def watch(self, address: int, size: int, *, written: bool = True) -> None:
        """Begin to watch a range that the library has registered."""
        self._ranges[address] = size
        insort(self._starts, address)
        if written:
            self._fresh.add(address)
        if address not in self._always:
            self._scan(address, address + size, [], _PROTECT)

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range."""
        del self._ranges[address]
        self._starts.remove(address)
        self._fresh.discard(address)
        self._always.discard(address)

    def written(self) -> list[Span]:
        """Return what the program may have written since the last call, in rising order."""
        if self.ended:
            return [Span(start, self._ranges[start]) for start in self._starts]
        found = self._scan_all(_PROTECT)
        whole = self._fresh | self._always
        self._fresh = set()
        spans = [Span(start, self._ranges[start]) for start in whole]
        return sorted(spans + [one for one in self._inside(found) if self._at(one) not in whole])

    def peek(self) -> list[Span]:
        """Return what the next `written` would, and leave it there."""
        if self.ended:
            return [Span(start, self._ranges[start]) for start in self._starts]
        whole = [Span(start, self._ranges[start]) for start in self._fresh | self._always]
        return self._inside(self._scan_all(_LOOK)) + whole

    def _scan_all(self, flags: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for start, end in self._stretches():
            self._scan(start, end, found, flags)
        return found

    def _at(self, span: Span) -> int:
        return self._starts[bisect_right(self._starts, span.address) - 1]

    def _inside(self, found: list[tuple[int, int]]) -> list[Span]:
        # What is found is cut where ranges end.
        spans = []
        for low, high in found:
            at = low
            while at < high:
                index = bisect_right(self._starts, at) - 1
                start = self._starts[index]
                end = min(high, start + self._ranges[start])
                if at < end:
                    spans.append(Span(at, end - at))
                    at = end
                elif index + 1 < len(self._starts):
                    at = max(at + 1, self._starts[index + 1])
                else:
                    break
        return spans

    def _stretches(self) -> list[tuple[int, int]]:
        # Few scans over many ranges: what lies between two is not registered and passed over.
        stretches: list[tuple[int, int]] = []
        for start in self._starts:
            end = start + self._ranges[start]
            if stretches and start - stretches[-1][1] <= _GAP:
                stretches[-1] = stretches[-1][0], end
            else:
                stretches.append((start, end))
        return stretches

    def _scan(self, start: int, end: int, found: list[tuple[int, int]], flags: int) -> None:
        vector = ctypes.addressof(self._found)
        while start < end and not self.ended:
            request = bytearray(
                _SCAN.pack(
                    _SCAN.size, flags, start, end, 0, vector, _REGIONS, 0,
                    0, _WRITTEN, 0, _WRITTEN,
                )
            )  # fmt: skip
            try:
                count = fcntl.ioctl(self._pagemap, _SCAN_IOCTL, request, True)
            except OSError:
                self.ended = True  # its memory is gone
                return
            raw = ctypes.string_at(vector, _REGION.size * count)
            found += [one[:2] for one in _REGION.iter_unpack(raw)]
            start = int.from_bytes(request[32:40], "little")

    def close(self) -> None:
        """Close the pagemap."""
        os.close(self._pagemap)
