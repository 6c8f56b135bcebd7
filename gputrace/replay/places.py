"""Where the recorded addresses of the CPU are in this process, and what is mapped there.

Every range is asked for at its recorded address. Where that is in use it goes elsewhere if it may:
doorbells and user memory always may, for GPUs do not see these addresses; other memory only on a
device that keeps the addresses of GPU and CPU apart, as the emulated one does.
"""

import ctypes
import mmap
from bisect import bisect_right, insort
from dataclasses import dataclass

from gputrace.errors import KfdError, UsageError
from gputrace.kfd import host
from gputrace.kfd.port import Kfd, Mapping
from gputrace.kfd.registered import Registered


@dataclass(slots=True)
class Range:
    """A reserved range: its recorded address, its size and where it is now."""

    recorded: int
    size: int
    live: int


@dataclass(slots=True)
class Mapped:
    """A mapping: recorded address, size, address here."""

    recorded: int
    size: int
    live: int
    writable: bool
    mapping: Mapping


class Places:
    """Reservations and mappings of one replay."""

    def __init__(self, device: Kfd) -> None:
        self._device = device
        self._reserved: dict[int, Range] = {}
        self._mapped: dict[int, Mapped] = {}
        self._starts: list[int] = []
        self._user = Registered(_pages, lambda room: None)
        self.moved: list[tuple[int, int]] = []
        """Ranges (recorded address, size) that could not be had where they were."""

    # --- reservations --------------------------------------------------------------------------

    def reserve(self, address: int, size: int, alignment: int) -> None:
        """Reserve a recorded range, elsewhere when its addresses are in use here."""
        try:
            live = self._device.reserve(size, address, alignment)
        except KfdError:
            live = self._device.reserve(size, None, alignment or host.PAGE)
            self.moved.append((address, size))
        self._reserved[address] = Range(address, size, live)

    def release(self, address: int, size: int) -> None:
        """Give a range back, with the mappings in it. Raises UsageError if it is not one."""
        known = self._reserved.get(address)
        if known is None or known.size != size:
            raise UsageError(f"the trace releases {address:#x}+{size:#x}, which it did not reserve")
        del self._reserved[address]
        for start in [start for start in self._mapped if address <= start < address + size]:
            self.unmap(start)
        self._device.release(known.live, size)

    def place(self, address: int, size: int) -> int:
        """Return where a mapping at a recorded address goes, reserving the range if need be.

        Raises UsageError unless it begins at a page.
        """
        if address % host.PAGE:
            raise UsageError(f"the trace maps {address:#x}, where no page begins")
        for known in self._reserved.values():
            if known.recorded <= address and address + size <= known.recorded + known.size:
                return known.live + address - known.recorded
        self.reserve(address, -(-size // host.PAGE) * host.PAGE, host.PAGE)
        return self._reserved[address].live

    # --- mappings ------------------------------------------------------------------------------

    def add(
        self, address: int, mapping: Mapping, *, writable: bool = True, skip: int = 0
    ) -> None:
        """Take note of a mapping that was made for a recorded address, but for its first bytes."""
        size, live = mapping.size - skip, mapping.address + skip
        self._insert(Mapped(address, size, live, writable, mapping))

    def own(self, address: int, size: int) -> int:
        """Make whole pages that stand for the recorded process's own; return where it is.

        What was made before for pages near stays where it is, and what overlaps is the same.
        """
        start, end = _whole(address, size)
        pages = self._user.room(start, end)
        self._user.take(start, end)
        return pages.place[0] + address - pages.start

    def disown(self, address: int, size: int) -> None:
        """Undo `own`: pages that nothing else has hold zeros when they come back."""
        for piece in self._user.give(*_whole(address, size)):
            live, length = piece.room.place[0] - piece.room.start, piece.end - piece.start
            host.view(live + piece.start, length)[:] = bytes(length)
        self._user.leave()

    def _insert(self, mapped: Mapped) -> None:
        if mapped.recorded in self._mapped:
            raise UsageError(f"the trace maps {mapped.recorded:#x} twice")
        self._mapped[mapped.recorded] = mapped
        insort(self._starts, mapped.recorded)

    def unmap(self, address: int) -> None:
        """Undo what `add` took note of. Raises UsageError if nothing is there."""
        known = self._mapped.pop(address, None)
        if known is None:
            raise UsageError(f"the trace unmaps {address:#x}, where it maps nothing")
        self._starts.remove(address)
        self._device.unmap(known.mapping)

    def live(self, address: int, size: int) -> int | None:
        """Return where recorded bytes are; None if no one mapping that may be written has them."""
        at = bisect_right(self._starts, address) - 1
        known = self._mapped[self._starts[at]] if at >= 0 else None
        if known is None or address + size > known.recorded + known.size or not known.writable:
            return self._own_memory(address, size)
        return known.live + address - known.recorded

    def _own_memory(self, address: int, size: int) -> int | None:
        room = self._user.room_of(address, address + size)
        return None if room is None else room.place[0] + address - room.start

    def inside(self, address: int, size: int) -> int:
        """Like `live`. Raises UsageError: a trace may name any address, it gets only its own."""
        live = self.live(address, size)
        if live is None:
            text = f"the trace touches {size} bytes at {address:#x}, where it maps nothing"
            raise UsageError(text)
        return live

    def view(self, address: int, size: int, *, writable: bool = True) -> memoryview:
        """Return the bytes that a recorded range is now. Raises UsageError."""
        return host.view(self.inside(address, size), size, writable)

    def close(self) -> None:
        """Give everything back."""
        for address, known in list(self._reserved.items()):
            self.release(address, known.size)
        for address in list(self._mapped):
            self.unmap(address)


def _whole(address: int, size: int) -> tuple[int, int]:
    end = -(-(address + size) // host.PAGE) * host.PAGE
    return address // host.PAGE * host.PAGE, end


def _pages(length: int) -> tuple[int, mmap.mmap]:
    try:
        pages = mmap.mmap(-1, length)
    except (OSError, OverflowError, ValueError) as error:
        raise UsageError(f"the trace needs {length} bytes of its own: {error}") from None
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(pages)), pages
