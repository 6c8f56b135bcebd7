"""Which packets wrote what: for reports that name the last writer of an address."""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

KEPT = 1 << 18
"""Writes that are remembered."""


class Written(NamedTuple):
    """One write of an engine; `size` 0 is a kernel, which may have written anywhere."""

    address: int
    size: int
    device: int
    queue: int
    packet: int


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

    def last(self, address: int, size: int = 1) -> Writer | None:
        """Return the last packet that wrote any of some bytes; kernels are not writers by it."""
        kernels: list[tuple[int, int, int]] = []
        for one in reversed(self.log):
            if not one.size:
                kernels.append((one.device, one.queue, one.packet))
            elif one.address < address + size and address < one.address + one.size:
                return Writer(one.device, one.queue, one.packet, tuple(kernels))
        return None
