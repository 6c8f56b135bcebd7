"""Names that a client gave to ranges of GPU addresses: for reports of any kind."""

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

    @property
    def end(self) -> int:
        """Return the address after the last byte."""
        return self.address + self.size

    def holds(self, address: int) -> bool:
        """Whether an address is inside."""
        return self.address <= address < self.end


class Labels:
    """All names. A range may lie inside another; two of the same start replace one another."""

    def __init__(self) -> None:
        self._labels: list[Label] = []
        self._former: deque[Label] = deque(maxlen=KEPT)
        self._around: list[int] | None = None  # for each label the one before that may reach it

    def __len__(self) -> int:
        return len(self._labels)

    def put(self, label: Label) -> None:
        """Name a range, or take the name of what starts there away when the new one is empty."""
        at = bisect_left(self._labels, label.address, key=_address)
        if at < len(self._labels) and self._labels[at].address == label.address:
            self._former.append(self._labels.pop(at))
        if label.name:
            insort(self._labels, label)
        self._around = None

    def at(self, address: int) -> Label | None:
        """Return the named range around an address that begins last."""
        if self._around is None:
            self._around = self._nest()
        at = bisect_right(self._labels, address, key=_address) - 1
        while at >= 0 and not self._labels[at].holds(address):
            at = self._around[at]
        return self._labels[at] if at >= 0 else None

    def kernel(self, entry: int) -> str:
        """Return the name of the kernel that an entry address belongs to, or nothing."""
        found = self.at(entry)
        return found.name if found is not None and found.what == "kernel" else ""

    def short(self, address: int) -> str:
        """Write an address as name+offset, or as a number where nothing has a name."""
        found = self.at(address)
        if found is not None:
            past = address - found.address
            return f"{found.name}+{past:#x}" if past else found.name
        gone = self._gone(address)
        if gone is not None:
            return f"{address:#x} (freed {gone.name}+{address - gone.address:#x})"
        return f"{address:#x}"

    def was(self, address: int) -> Label | None:
        """Return the last range around an address whose name was taken away."""
        return next((one for one in reversed(self._former) if one.holds(address)), None)

    def describe(self, address: int) -> str:
        """Say what an address is in, or was in, by name; empty where nothing has one."""
        found = self.at(address)
        if found is not None:
            return f"{found.what} {found.name!r} + {address - found.address:#x}"
        gone = self.was(address)
        if gone is not None:
            return f"{gone.what} {gone.name!r} + {address - gone.address:#x}, which is gone"
        lower = self._labels[: bisect_right(self._labels, address, key=_address)]
        below = max(lower, key=lambda one: one.end, default=None)
        if below is None:
            return ""
        return f"{address - below.end:#x} bytes after the end of {below.what} {below.name!r}"

    def _gone(self, address: int) -> Label | None:
        return next((one for one in reversed(self._former) if one.holds(address)), None)

    # A label that ends before the next begins can hold nothing that lies later.
    def _nest(self) -> list[int]:
        around, open_ones = [], [-1]
        for at, label in enumerate(self._labels):
            while open_ones[-1] >= 0 and self._labels[open_ones[-1]].end <= label.address:
                open_ones.pop()
            around.append(open_ones[-1])
            open_ones.append(at)
        return around


def _address(label: Label) -> int:
    return label.address
