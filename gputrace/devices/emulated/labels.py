"""Names that the client gave to ranges of GPU addresses: for the texts of faults and hangs."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass

KEPT = 256
"""Names taken away that are still remembered, for accesses after a free."""


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """A range with a name; `what` is the kind of thing that the port names."""

    address: int
    size: int
    what: str
    name: str

    def holds(self, address: int) -> bool:
        """Whether an address is inside."""
        return self.address <= address < self.address + self.size


class Labels:
    """All names. A range may lie inside another; two of the same start replace one another."""

    def __init__(self) -> None:
        self._labels: list[Label] = []
        self._former: deque[Label] = deque(maxlen=KEPT)

    def put(self, label: Label) -> None:
        """Name a range, or take the name of what starts there away when the new one is empty."""
        at = bisect_left(self._labels, label.address, key=lambda one: one.address)
        if at < len(self._labels) and self._labels[at].address == label.address:
            self._former.append(self._labels.pop(at))
        if label.name:
            insort(self._labels, label)

    def at(self, address: int) -> Label | None:
        """Return the smallest named range around an address."""
        around = [one for one in self._below(address) if one.holds(address)]
        return min(around, key=lambda one: one.size, default=None)

    def kernel(self, entry: int) -> str:
        """Return the name of the kernel that an entry address belongs to, or nothing."""
        found = self.at(entry)
        return found.name if found is not None and found.what == "kernel" else ""

    def describe(self, address: int) -> str:
        """Say what an address is in, or was in, by name; empty where nothing has one."""
        found = self.at(address)
        if found is not None:
            return f"{found.what} {found.name!r} + {address - found.address:#x}"
        for one in reversed(self._former):
            if one.holds(address):
                return f"{one.what} {one.name!r} + {address - one.address:#x}, which is gone"
        below = max(self._below(address), key=lambda one: one.address + one.size, default=None)
        if below is None:
            return ""
        past = address - below.address - below.size
        return f"{past:#x} bytes after the end of {below.what} {below.name!r}"

    def _below(self, address: int) -> list[Label]:
        return self._labels[: bisect_right(self._labels, address, key=lambda one: one.address)]
