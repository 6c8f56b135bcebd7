"""Work-groups on several cores, with the result of one.

The groups ahead are cut into parts that follow one another. The first part runs as it always does;
the others run beside it as a guess that is taken back when it was wrong. What makes the result
that of one core:

- Code with atomics on memory, global wave sync or a look at the clock never runs in parts.
- For a few groups every access is noted, which gives for each range of memory the hull of what a
  group reads and writes, and how the hulls move with the group's place. From that follows what each
  part should touch. Parts are made only if no part should touch what another one writes.
- Each part sees that and no other memory. One that wants more stops in front of the access, like
  in front of a fault: so no part ever sees what another one writes.
- When a part stops early, those behind it are undone (what they may write was copied before), and
  the rest runs one group after another as ever. A fault that a wave runs into is found again then,
  with everything in front of it done and nothing behind it. The same goes for a part that ends
  behind a place at which the dispatch has to pause.
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import jit_layout as at
from gputrace.isa.initial import Initial
from gputrace.isa.jit_engine import JitEngine, Ranges, Runner
from gputrace.isa.launch import Dimensions
from gputrace.isa.stop import Why
from gputrace.isa.waves import Group, Spare, aligned

_LEAST: Final = 150_000  # wave-instructions that a part is expected to have at least ...
_MOST: Final = 8_000_000  # ... and at most
_MOST_BYTES: Final = 64 << 20  # that one part may write ...
_GOOD_BYTES: Final = 16 << 20  # ... and should: the copy of it stays in the cache
_COPYING: Final = 150  # bytes that are copied in the time of one wave-instruction
_PATIENCE: Final = 3  # parts that may stop early before a dispatch stays on one core
_NEVER: Final = (1 << 63) - 1

Hulls = NDArray[np.int64]
"""For each range: lowest address read and end of it, lowest address written and end of it."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one part is to do: so many groups, which see these ranges.

    `windows` are host address and bytes of what they may write.
    """

    count: int
    ranges: Ranges
    windows: tuple[tuple[int, int], ...]

    @property
    def bytes(self) -> int:
        """Size of all windows."""
        return sum(size for _, size in self.windows)


@dataclass(slots=True)
class Part:
    """A share on its way on one thread, with the registers of the group that runs."""

    share: Share
    runner: Runner
    group: Group
    kept: NDArray[np.uint8]
    """Room for a copy of all windows."""
    why: Why = Why.DONE

    def guess(self) -> None:
        """Run it in a way that can be undone."""
        at = self.kept.ctypes.data
        for host, size in self.share.windows:
            ctypes.memmove(at, host, size)
            at += size
        self.why = self.runner.drive()

    def undo(self) -> None:
        """Put back what it has written."""
        at = self.kept.ctypes.data
        for host, size in self.share.windows:
            ctypes.memmove(host, at, size)
            at += size


@dataclass(slots=True)
class Progress:
    """How far parts have come: the group that stands last, and what was done to get there.

    `started` counts the groups begun after the first one; `over` are groups whose registers nobody
    needs any more.
    """

    group: Group
    executed: int = 0
    changes: int = 0
    started: int = 0
    over: list[Group] = field(default_factory=list)


class Cores:
    """Plans the parts of one dispatch for `count` threads."""

    def __init__(self, jit: JitEngine, initial: Initial, spare: Spare, count: int) -> None:
        self._jit, self._initial, self._spare = jit, initial, spare
        self._runners = [jit.runner() for _ in range(count)]
        self._learner = jit.runner()
        self._loaded = self._failures = 0
        self._base: tuple[Dimensions, Hulls] | None = None
        self._slopes: dict[int, Hulls] = {}
        self._bytes = 0.0  # that a group may write, as far as is known
        self._groups = initial.launch.groups
        self._ranges = jit.ranges()
        notes = aligned(len(self._ranges) * at.HULL_SLOTS, np.uint64)
        self._notes: NDArray[np.uint64] = notes.reshape(-1, at.HULL_SLOTS)
        self.useful = _apart(self._ranges)
        """Whether parts may still come; the dispatch stays on one core when not."""

    # --- what groups touch

    def unknown(self, place: Dimensions) -> bool:
        """Whether the group at a place should be run by `learner`."""
        for pc, found in self._jit.loaded[self._loaded :]:
            for runner in (self._learner, *self._runners):
                runner.table.load(pc, found)
            self.useful = self.useful and not found.about.ordered
        self._loaded = len(self._jit.loaded)
        return self.useful and (self._base is None or bool(self._new_axes(place)))

    def _new_axes(self, place: Dimensions) -> list[int]:
        assert self._base is not None
        base = self._base[0]
        return [n for n in range(3) if place[n] != base[n] and n not in self._slopes]

    def learner(self) -> Runner:
        """Return what runs one group and notes all that it touches."""
        self._notes[:, 0::2], self._notes[:, 1::2] = _NEVER, 0
        self._learner.see(self._ranges)
        self._learner.context[at.HULLS] = self._notes.ctypes.data
        return self._learner

    def learn(self, place: Dimensions) -> None:
        """Take in what the group at this place has touched, which has just ended."""
        hulls: Hulls = self._notes.astype(np.int64)
        axes = self._new_axes(place) if self._base is not None else []
        if self._base is None or len(axes) != 1:
            self._base = place, hulls
            return
        if ((hulls == _NEVER) != (self._base[1] == _NEVER)).any():
            self.useful = False
            return
        axis = axes[0]
        moved = hulls - self._hulls(np.array([place]))[0]
        self._slopes[axis] = moved // (place[axis] - self._base[0][axis])

    def _hulls(self, places: NDArray[np.int64]) -> Hulls:
        # Of each group, as far as the slopes tell.
        assert self._base is not None
        base, hulls = self._base
        found = np.repeat(hulls[None], len(places), 0)
        for axis, slope in self._slopes.items():
            found += (places[:, axis] - base[axis])[:, None, None] * slope
        return found

    # --- parts

    def known(self, place: Dimensions) -> int:
        """Return of how many groups from a place on it is known what they touch."""
        if self._base is None:
            return 0
        (x, y, z), base = self._groups, self._base[0]
        known = [n in self._slopes or self._groups[n] == 1 for n in range(3)]
        if all(known):
            return x * y * z
        if not known[0] or place[2] != base[2] or (not known[1] and place[1] != base[1]):
            return 0
        size = x * y if known[1] else x
        return size - self._initial.number(place) % size

    def worth(self, groups: int, each: float) -> bool:
        """Whether so many groups are worth being run in parts; `each` is what one group takes."""
        return self.useful and groups * each >= len(self._runners) * _LEAST

    def plan(self, place: Dimensions, most: int, each: float) -> list[Share]:
        """Cut up to `most` groups from a place on into parts.

        There are none when they are not worth it, or would touch what another one writes.
        """
        count = len(self._runners)
        whole = min(most, self.known(place), int(count * _MOST / each))
        if not self.worth(whole, each):
            return []
        start, row = self._initial.number(place), self._groups[0]
        if not self._bytes:
            self._bytes = self._share(whole, self._window(start, start + whole)).bytes / whole
        if whole * self._bytes > count * _GOOD_BYTES:
            fewer = max(count * _GOOD_BYTES / self._bytes, count * _LEAST / each + 1)
            whole = min(whole, int(fewer))
        ends = self._ends(each)
        for step in dict.fromkeys((1, row, row * self._groups[1])):
            cuts = [int(start + whole * part) // step * step for part in ends]
            shares = self._shares([start, *cuts])
            if shares:
                return shares
        return []

    def _ends(self, each: float) -> list[float]:
        # Where parts end, as shares of all: the first one copies nothing and takes more.
        more = 1 + min(0.3, self._bytes / each / _COPYING)
        count = len(self._runners)
        return [(more + n) / (more + count - 1) for n in range(count)]

    def _shares(self, cuts: Sequence[int]) -> list[Share]:
        assert self._base is not None
        if any(low >= high for low, high in pairwise(cuts)):
            return []
        windows = [self._window(low, high) for low, high in pairwise(cuts)]
        written = self._base[1][:, 2] != _NEVER
        for one, other in combinations(windows, 2):
            if (written & (one[:, 0] < other[:, 1]) & (other[:, 0] < one[:, 1])).any():
                return []
        counts = [high - low for low, high in pairwise(cuts)]
        shares = [self._share(*both) for both in zip(counts, windows, strict=True)]
        return shares if all(share.bytes <= _MOST_BYTES for share in shares) else []

    def _window(self, low: int, high: int) -> NDArray[np.int64]:
        # The first address of each range that some groups touch, and the end.
        assert self._base is not None
        hulls = self._hulls(np.array(self._corners(low, high - 1)))
        never = self._base[1][:, 0::2] == _NEVER
        lows = np.where(never, _NEVER, hulls[:, :, 0::2].min(0)).min(1)
        ends = np.where(never, 0, hulls[:, :, 1::2].max(0)).max(1)
        bounds = self._ranges.astype(np.int64)
        return np.stack([np.maximum(lows, bounds[:, 0]), np.minimum(ends, bounds[:, 1])], 1)

    def _corners(self, low: int, high: int) -> list[Dimensions]:
        # Of the groups between two: those at which what moves evenly can lie furthest out.
        (x, y, _), first = self._groups, self._initial.launch.first_group
        axes: list[set[int]] = [{0, x - 1}, {0, y - 1}, set()]
        for number, step in ((low, 1), (high, -1)):
            places = number % x, number // x % y, number // (x * y)
            for axis, one, size in zip(axes, places, self._groups, strict=True):
                axis.update({one, one + step} & {*range(max(0, one - 1), min(one + 2, size))})
        return [
            (first[0] + a, first[1] + b, first[2] + c)
            for a, b, c in product(*axes)
            if low <= a + x * (b + y * c) <= high
        ]

    def _share(self, count: int, window: NDArray[np.int64]) -> Share:
        assert self._base is not None
        read, written = (self._base[1][:, slot] != _NEVER for slot in (0, 2))
        ranges = self._ranges.copy()
        ranges[:, 3] &= written
        ranges[written, :2] = window[written].astype(np.uint64)
        good = (read | written) & (ranges[:, 0] < ranges[:, 1])
        windows = tuple(
            ((int(first) + int(distance)) & ((1 << 64) - 1), int(end) - int(first))
            for first, end, distance, _ in ranges[good & written]
        )
        return Share(count, ranges[good], windows)

    # --- running

    def run(
        self,
        first: Group,
        shares: Sequence[Share],
        budget: int,
        begin: Callable[[Dimensions], Group],
    ) -> Progress:
        """Run parts, the first from a group on that has just begun; `begin` gives the others.

        All that was done in the end is what one core would have done within the budget.
        """
        number = self._initial.number(first.place)
        parts: list[Part] = []
        for share, runner in zip(shares, self._runners, strict=True):
            group = begin(self._initial.place(number)) if parts else first
            stop_at = _NEVER if parts else budget
            runner.see(share.ranges)
            runner.attach(group, 0, 0, stop_at, True, self._jit.touched)
            runner.allow(group, share.count - 1)
            parts.append(Part(share, runner, group, self._spare.room(len(parts), share.bytes)))
            number += share.count
        threads = [threading.Thread(target=part.guess, daemon=True) for part in parts[1:]]
        for thread in threads:
            thread.start()
        parts[0].why = parts[0].runner.drive()
        for thread in threads:
            thread.join()
        return self._join(parts, budget)

    def _join(self, parts: Sequence[Part], budget: int) -> Progress:
        found, open_end = Progress(parts[0].group), True
        for part in parts:
            executed, changes = part.runner.counts()
            left = part.runner.detach(part.group, alone=True)
            guessed = part is not parts[0]
            if guessed and (not open_end or found.executed + executed >= budget):
                part.undo()
                found.over.append(part.group)
                open_end = False
                continue
            if guessed:
                found.over.append(found.group)
            if part.group.turn_end is not None:
                part.group.turn_end += found.executed
            found.group = part.group
            found.started += part.share.count - left - (not guessed)
            found.executed += executed
            found.changes += changes
            open_end = part.why is Why.DONE
            if part.why not in (Why.DONE, Why.PAUSED):
                self._failures += 1
        self.useful = self.useful and self._failures < _PATIENCE
        return found


def _apart(ranges: Ranges) -> bool:
    # Whether no two ranges are the same memory of the host.
    starts = ranges[:, 0] + ranges[:, 2]
    order = np.argsort(starts)
    ends = (starts + ranges[:, 1] - ranges[:, 0])[order]
    return bool((ends[:-1] <= starts[order][1:]).all())
