"""Items in submission order, what each needs, and sets of them as bit masks.

A candidate is an `int`: bit i is set when item i is kept. Edges point back in time: an item needs
earlier items only, so every prefix of the stream is closed. *Hard* edges make a candidate invalid
when broken; *soft* ones are observed data flow: followed when a set grows, ignored when it shrinks.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gputrace.errors import UsageError


def mask_of(items: Iterable[int]) -> int:
    """Return the mask that holds `items`."""
    mask = 0
    for item in items:
        mask |= 1 << item
    return mask


def below(end: int) -> int:
    """Return the mask of the items 0 to end - 1."""
    return (1 << end) - 1


def members(mask: int) -> Iterator[int]:
    """Yield the items of a mask, first to last."""
    # One linear conversion: clearing the lowest bit of a long integer each time would be quadratic.
    digits = format(mask, "b")[::-1]
    at = digits.find("1")
    while at >= 0:
        yield at
        at = digits.find("1", at + 1)


class Graph:
    """What each item of a stream needs; sets of items come and go as masks."""

    def __init__(
        self, needs: Sequence[Iterable[int]], soft: Sequence[Iterable[int]] | None = None
    ) -> None:
        """Take the hard needs of each item and, optionally, its soft ones.

        Raises UsageError when an edge does not point back in time or the lengths differ.
        """
        self.count = len(needs)
        self.needs = tuple(tuple(sorted(set(each))) for each in needs)
        extra: Sequence[Iterable[int]] = soft if soft is not None else [()] * self.count
        if len(extra) != self.count:
            raise UsageError(f"soft edges must cover {self.count} items, not {len(extra)}")
        self.soft = tuple(
            tuple(sorted(set(each) - set(hard)))
            for each, hard in zip(extra, self.needs, strict=True)
        )
        for item, (hard, weak) in enumerate(zip(self.needs, self.soft, strict=True)):
            for target in hard + weak:
                if not 0 <= target < item:
                    raise UsageError(f"item {item} can need earlier items only, not {target}")
        self._users: list[list[int]] | None = None
        pairs = [(item, target) for item, hard in enumerate(self.needs) for target in hard]
        self._edges = np.array(pairs, dtype=np.int64).reshape(-1, 2).T

    @property
    def full(self) -> int:
        """The mask of all items."""
        return below(self.count)

    def closure(self, mask: int) -> int:
        """Return `mask` and everything that its items need, over hard and soft edges."""
        wanted = list(members(mask))
        kept = set(wanted)
        while wanted:
            item = wanted.pop()
            for target in self.needs[item] + self.soft[item]:
                if target not in kept:
                    kept.add(target)
                    wanted.append(target)
                    mask |= 1 << target
        return mask

    def stretch(self, start: int, end: int) -> int:
        """Return the closure of the items start to end - 1."""
        mask = below(end) & ~below(start) if start < end else 0
        return mask if start == 0 else self.closure(mask)

    def broken(self, mask: int) -> tuple[int, int] | None:
        """Return an item of `mask` and a hard need that `mask` lacks; None when it is closed."""
        raw = mask.to_bytes(self.count // 8 + 1, "little")
        kept = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), bitorder="little")
        bad = np.flatnonzero(kept[self._edges[0]] > kept[self._edges[1]])
        if not bad.size:
            return None
        return int(self._edges[0][bad[0]]), int(self._edges[1][bad[0]])

    def sinks(self, mask: int) -> int:
        """Return the items of `mask` that no other item of it needs (hard edges)."""
        needed: set[int] = set()
        for item in members(mask):
            needed.update(self.needs[item])
        return mask & ~mask_of(needed)

    def cone(self, chunk: int, mask: int) -> int:
        """Return `chunk` and all items of `mask` that stand on it (hard edges)."""
        if self._users is None:
            self._users = [[] for _ in range(self.count)]
            for item, targets in enumerate(self.needs):
                for target in targets:
                    self._users[target].append(item)
        gone = set(members(chunk))
        wanted = list(gone)
        while wanted:
            for user in self._users[wanted.pop()]:
                if user not in gone and mask >> user & 1:
                    gone.add(user)
                    wanted.append(user)
        return mask_of(gone) & mask
