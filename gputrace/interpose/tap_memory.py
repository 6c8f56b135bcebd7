"""The memory of a tapped program, as the recorder sees it.

Mappings of the GPU's memory are mapped here as well, from the program's own descriptors. Pages of
the program's own that it has registered (user pointers) stay what they are: they are copied here
before each look, through the kernel, so that nothing of the program changes and no page of it is
ever write-protected; that could evict its queues.
"""

import ctypes
import mmap
from bisect import bisect_right, insort

from gputrace.capture.comparing import ComparingTracker
from gputrace.kfd import host
from gputrace.kfd.tracking import Span

_libc = ctypes.CDLL(None, use_errno=True)
_libc.process_vm_readv.restype = ctypes.c_ssize_t


class _Vector(ctypes.Structure):
    _fields_ = (("address", ctypes.c_uint64), ("size", ctypes.c_uint64))


def copy_from(process: int, address: int, here: int, size: int) -> int:
    """Copy bytes of another process to an address of this one; return how many could be read."""
    local, remote = _Vector(here, size), _Vector(address, size)
    done = _libc.process_vm_readv(
        process, ctypes.byref(local), 1, ctypes.byref(remote), 1, ctypes.c_ulong(0)
    )
    return max(int(done), 0)


class TapMemory(ComparingTracker):
    """What is watched of a program; looks at all of it each time."""

    def __init__(self, process: int) -> None:
        super().__init__()
        self._process = process
        self._views: dict[int, tuple[int, int]] = {}  # the program's address: size, place here
        self._starts: list[int] = []
        self._copies: dict[int, mmap.mmap] = {}  # the program's own pages, by address

    # --- mappings of the GPU's memory -------------------------------------------------------------

    def map(self, descriptor: int, address: int, offset: int, size: int) -> int:
        """Map here what the program has mapped; return where. Raises KfdError."""
        place = host.map_shared(descriptor, offset, size, None, 3)
        self._views[address] = size, place
        insort(self._starts, address)
        return place

    def unmap(self, address: int) -> None:
        """Take away what was mapped here for the program's mapping at an address."""
        size, place = self._views.pop(address)
        self._starts.remove(address)
        host.unmap(place, size)

    # --- the program's own pages ------------------------------------------------------------------

    def copy(self, address: int, size: int) -> int:
        """Make room for a copy of pages that are about to be watched; return where it is."""
        self._copies[address] = room = mmap.mmap(-1, size)
        return _place(room)

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range."""
        super().forget(address, size)
        self._copies.pop(address, None)

    def written(self) -> list[Span]:
        """Return every range; the copies are as the program's pages are now."""
        self.refresh()
        return super().written()

    def refresh(self) -> None:
        """Copy the program's own pages."""
        for address, room in self._copies.items():
            copy_from(self._process, address, _place(room), len(room))

    # --- reading ----------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the program; fewer where it has none."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            start = self._starts[at]
            length, place = self._views[start]
            if address + size <= start + length:
                return bytes(host.view(place + address - start, size, writable=False))
        room = ctypes.create_string_buffer(size)
        done = copy_from(self._process, address, ctypes.addressof(room), size)
        return room.raw[:done]

    def close(self) -> None:
        """Unmap everything."""
        for address in list(self._views):
            self.unmap(address)


def _place(room: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(room))
