"""Runs compiled code for one dispatch: the context, the tables, and the calls of `drive`."""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import jit_layout as at
from gputrace.isa import state
from gputrace.isa.initial import Initial
from gputrace.isa.jit_library import Library, Loaded
from gputrace.isa.launch import View
from gputrace.isa.numpy_engine import BadAccess
from gputrace.isa.stop import Why
from gputrace.isa.trace import Mode
from gputrace.isa.waves import INITIAL_VECTORS, Group, aligned, touched

_FEWEST: Final = 64  # entries of a table
_REASONS: Final = {
    at.DONE: Why.DONE,
    at.PAUSED: Why.PAUSED,
    at.MISSING: Why.MISSING,
    at.ROUND: Why.ROUND,
    at.FAULT: Why.FAULT,
}
_WORD: Final = (1 << 64) - 1

Ranges = NDArray[np.uint64]
"""Rows of what compiled code may touch: first address, end, host address - first, writable."""


class Table:
    """Compiled code by program counter: a hash table that compiled code searches.

    It owns the sites of that code: what its accesses remember of the ranges.
    """

    def __init__(self) -> None:
        self.entries: dict[int, tuple[int, int, int, int]] = {}
        self._sites: list[NDArray[np.uint64]] = []
        self._make_slots(_FEWEST)

    def _make_slots(self, count: int) -> None:
        made: NDArray[np.uint64] = aligned(count * at.ENTRY_SLOTS, np.uint64)
        self.slots = made.reshape(count, at.ENTRY_SLOTS)
        self.address = self.slots.ctypes.data

    def __contains__(self, pc: object) -> bool:
        return pc in self.entries

    def load(self, pc: int, found: Loaded) -> None:
        """Enter a region that lies at an address, at all its entries."""
        about = found.about
        sites: NDArray[np.uint64] = aligned(max(1, at.SITE_SLOTS * about.sites), np.uint64)
        self._sites.append(sites)
        for number, place in enumerate(about.entries):
            self.add(pc + place, found.address, sites.ctypes.data, pc, number)

    def forget_ranges(self) -> None:
        """Let every access look up its range anew."""
        for sites in self._sites:
            sites[:] = 0

    def add(self, pc: int, function: int, sites: int, base: int, number: int) -> None:
        """Enter the code for an address; an address that is there already is left alone."""
        if pc in self.entries:
            return
        self.entries[pc] = function, sites, base, number
        if 2 * len(self.entries) > len(self.slots):
            self._make_slots(2 * len(self.slots))
            for known, entry in self.entries.items():
                self._put(known, entry)
        else:
            self._put(pc, self.entries[pc])

    def _put(self, pc: int, entry: tuple[int, int, int, int]) -> None:
        place = pc >> 2 & (len(self.slots) - 1)
        while self.slots[place, 1]:
            place = (place + 1) & (len(self.slots) - 1)
        self.slots[place, :5] = pc, *entry


class Runner:
    """One context and what compiled code finds through it: a thread runs one at a time."""

    def __init__(self, drive: Callable[[int], int], initial: Initial) -> None:
        self._drive, self._initial = drive, initial
        self.context = at.new_context()
        self._address = self.context.ctypes.data
        self.table = Table()
        self._ranges: Ranges = np.zeros((0, 4), np.uint64)
        self._template: NDArray[np.uint32] = np.zeros((0, 0), np.uint32)
        self._describe()

    def _describe(self) -> None:
        # What does not change during the dispatch.
        launch, context = self._initial.launch, self.context
        words = self._initial.place_words
        first, count = launch.first_group, launch.groups
        context[at.ENTRY] = launch.entry
        for slot, word in ((at.X_AT, words.x), (at.Y_AT, words.y), (at.Z_AT, words.z)):
            context[slot] = word & _WORD
        context[at.FIRST_X], context[at.END_X] = first[0], first[0] + count[0]
        context[at.FIRST_Y], context[at.END_Y] = first[1], first[1] + count[1]
        context[at.LDS_SIZE] = launch.lds_bytes
        context[at.FIRST_BYTES] = 4 * (state.SCALARS + INITIAL_VECTORS * launch.wave_size)
        context[at.AGAIN_AT] = 4 * (
            state.SCALARS + state.FIRST_ACCUMULATOR * launch.wave_size
        )

    def see(self, ranges: Ranges) -> None:
        """Let code touch these ranges, sorted by address, and no others."""
        self._ranges = np.ascontiguousarray(ranges)
        self.context[at.RANGES] = self._ranges.ctypes.data
        self.context[at.RANGE_COUNT] = len(ranges)
        self.table.forget_ranges()

    def attach(
        self,
        group: Group,
        now: int,
        changes: int,
        stop_at: int,
        alone: bool,
        used: tuple[int, int],
    ) -> None:
        """Make ready to run a group from where it stands; if not alone, for one round.

        `used` are the vector and accumulation registers, from the first on, that code may write.
        """
        context, lanes = self.context, self._initial.launch.wave_size
        context[at.EXECUTED], context[at.CHANGES] = now, changes
        context[at.STOP_AT] = min(stop_at, (1 << 63) - 1)
        context[at.PATIENCE] = group.look_at if alone else 0
        context[at.TABLE], context[at.TABLE_MASK] = self.table.address, len(self.table.slots) - 1
        context[at.RECORDS], context[at.WAVE_COUNT] = group.records_at, len(group.waves)
        context[at.LDS], context[at.GROUP_EXECUTED] = group.lds_at, group.executed
        context[at.CURRENT], context[at.IN_TURN] = group.turn, group.turn_end is not None
        context[at.TURN_END] = group.turn_end or 0
        context[at.X : at.Z + 1] = group.place
        context[at.USED] = 4 * (used[0] - INITIAL_VECTORS) * lanes
        context[at.USED_AGAIN] = 4 * used[1] * lanes
        context[at.MORE] = 0

    def allow(self, group: Group, most: int) -> int:
        """Let `drive` start groups of the same size after this one, and return how many."""
        more = min(most, self._initial.same_size_after(group.place))
        if more:
            self._template = self._initial.template(self._initial.size_of(group.place))
            self.context[at.TEMPLATES] = self._template.ctypes.data
        self.context[at.MORE] = more
        return more

    def drive(self) -> Why:
        """Run; return why it stopped. Other threads of Python go on meanwhile."""
        return _REASONS[self._drive(self._address)]

    def counts(self) -> tuple[int, int]:
        """Return the instructions executed and the changes made in the dispatch so far."""
        return int(self.context[at.EXECUTED]), int(self.context[at.CHANGES])

    def detach(self, group: Group, alone: bool) -> int:
        """Write back where the group stands, which may be a later one of the same memory.

        Returns how many groups `drive` could have started but has not.
        """
        context = self.context
        if alone:
            group.look_at = int(context[at.PATIENCE])
        group.executed = int(context[at.GROUP_EXECUTED])
        group.turn = int(context[at.CURRENT])
        group.turn_end = int(context[at.TURN_END]) if context[at.IN_TURN] else None
        group.place = (int(context[at.X]), int(context[at.Y]), int(context[at.Z]))
        return int(context[at.MORE])

    def fault(self) -> BadAccess:
        """Return what the wave whose turn it is must not touch."""
        word = int(self.context[at.FAULT_ACCESS])
        lanes = int(self.context[at.FAULT_LANES])
        address = int(self.context[at.FAULT_ADDRESS])
        return BadAccess(address, at.ACCESSES[word & 0xFF], word >> 8, lanes)


class JitEngine(Runner):
    """The compiled side of one dispatch: finds or makes the code that is missing."""

    def __init__(self, library: Library, view: View, mode: Mode, initial: Initial) -> None:
        super().__init__(library.drive(mode.wave_size), initial)
        self._library, self._view, self._mode = library, view, mode
        self._vectors, self._accumulators = INITIAL_VECTORS, 0
        self.refused: set[int] = set()
        """Addresses from which on nothing can be compiled."""
        self.loaded: list[tuple[int, Loaded]] = []
        """The regions in the table and where they lie."""
        self._code: list[tuple[int, bytes]] = []

    def runner(self) -> Runner:
        """Return another one for the same dispatch, which has no code and no ranges."""
        return Runner(self._drive, self._initial)

    def refresh(self) -> None:
        """Take in the ranges of memory, and forget what was found in the old ones."""
        self.table = Table()
        self.loaded, self._code = [], []
        self.refused.clear()
        self.see(self.ranges())

    def holds(self) -> bool:
        """Return whether the code in memory still is what was compiled."""
        self.refused.clear()
        return all(self._view.fetch(place, len(code)) == code for place, code in self._code)

    def ranges(self) -> Ranges:
        """Return all that waves may touch."""
        rows = [
            (one.gpu_address, one.gpu_address + one.size,
             (one.host_address - one.gpu_address) & _WORD, one.writable)
            for one in self._view.ranges
        ]  # fmt: skip
        return np.array(rows, np.uint64).reshape(len(rows), 4)

    def enter(self, pc: int, make: bool) -> bool:
        """Find or make compiled code for an address; return whether there is some now."""
        if pc in self.table:
            return True
        if pc in self.refused:
            return False
        found = self._library.find(self._mode.at(pc), self._view.fetch, pc, make)
        if found is None:
            if make:
                self.refused.add(pc)
            return False
        self.loaded.append((pc, found))
        for place, size in found.about.spans:
            self._code.append((pc + place, self._view.fetch(pc + place, size) or b""))
        self.table.load(pc, found)
        self.touch(found.about.written)
        return True

    def touch(self, written: Iterable[int]) -> None:
        """Count on code that writes these vector registers, accumulators counted on."""
        vectors, accumulators = touched(written)
        self._vectors = max(self._vectors, vectors)
        self._accumulators = max(self._accumulators, accumulators)

    @property
    def touched(self) -> tuple[int, int]:
        """How many vector and accumulation registers, from the first on, may not be zero."""
        return self._vectors, self._accumulators
