"""Which packets wrote what: for reports that name the last writer of an address."""

from collections import deque
from dataclasses import dataclass

KEPT = 1 << 16
"""Writes that are remembered."""


Written = tuple[int, int, tuple[int, int], int]
"""Address, size, (device, queue) and packet; size 0 is a kernel, which may write anywhere."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The packet that wrote an address last, as far as it is known.

    `kernels` are dispatches after it, newest first, which may have written there since.
    """

    device: int
    queue: int
    packet: int
    kernels: tuple[tuple[int, int, int], ...] = ()


class History:
    """The last writes, oldest first."""

    def __init__(self) -> None:
        self.log: deque[Written] = deque(maxlen=KEPT)

    @property
    def whole(self) -> bool:
        """Whether nothing has been forgotten."""
        return len(self.log) < KEPT

    def last(self, address: int, size: int = 1) -> Writer | None:
        """Return the last packet that wrote any of some bytes; kernels are not writers by it."""
        kernels: list[tuple[int, int, int]] = []
        for start, length, (device, queue), packet in reversed(self.log):
            if not length:
                kernels.append((device, queue, packet))
            elif start < address + size and address < start + length:
                return Writer(device, queue, packet, tuple(kernels))
        return None
