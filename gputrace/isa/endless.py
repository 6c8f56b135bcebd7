"""Proof that waves will never end, found by running them dry.

When a dispatch has changed no memory for long, each wave that is not at a barrier is run on by
itself without any effect: nothing is stored, and its registers are put back. A wave that comes back
to the same registers and program counter, with the same memory and LDS, goes round for ever,
however the waves take turns. When all do, and no further group can start, the dispatch is endless
unless somebody else changes what the waves read on their way.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gputrace.isa.graph import Node
from gputrace.isa.launch import Endless, Place, RegisterImage, View
from gputrace.isa.numpy_atomics import ATOMICS
from gputrace.isa.numpy_engine import (
    BadAccess,
    Context,
    Halted,
    NoMeaning,
    NumpyEngine,
    Program,
)
from gputrace.isa.numpy_floats import Array
from gputrace.isa.waves import RUNNING, Group, Wave

_CALM = 1 << 17  # wave-instructions without a change of memory after which a proof is tried
_LEAST = 64  # instructions that a wave may take in a proof, or else ...
_SHARE = 1 << 12  # ... one in so many of those before it
_SEEN = 4096  # places in memory that an endless dispatch may depend on


class _Changes(Exception):
    # The wave would change memory, or looks at a clock.
    pass


class _Dry(Context):
    # Evaluates effects but stores nothing; keeps what is loaded from memory.

    def __init__(self, view: View, wave_size: int) -> None:
        super().__init__(view, wave_size)
        self.seen: dict[int, bytes] = {}

    def _load(self, node: Node, address: Array, mask: Array) -> Array:
        address = self._each(node, address)
        found = super()._load(node, address, mask)
        if node.attribute != "lds":
            self._keep(found, address, self._lanes(mask, address))
        return found

    def _keep(self, found: Array, address: Array, mask: Array) -> None:
        for lane in np.flatnonzero(mask):
            self.seen[int(address[lane])] = found[lane : lane + 1].tobytes()
        if len(self.seen) > _SEEN:
            raise _Changes

    def _store(self, node: Node, address: Array, value: Array, mask: Array) -> None:
        address = self._each(node, address)
        size = value.dtype.itemsize
        raw = np.array(self._lanes(value, address)).view(np.uint8).reshape(len(address), size)
        for data, offset, lanes in self._where(node.attribute, address, mask, size):
            if not np.array_equal(data[offset[:, None] + np.arange(size)], raw[lanes]):
                raise _Changes

    def _atomic(self, node: Node, address: Array, *args: Array) -> Array:
        # Each lane finds the same value, since no lane may change it.
        address = self._each(node, address)
        *data, mask = (self._lanes(value, address) for value in args)
        assert isinstance(node.attribute, tuple)
        space, operation = node.attribute
        old = Context._load(self, replace(node, attribute=space), address, mask)
        for lane in np.flatnonzero(self._lanes(mask, address)):
            cell = old[lane : lane + 1]
            new = ATOMICS[str(operation)](cell, *(d[lane : lane + 1] for d in data))
            if new.astype(cell.dtype).tobytes() != cell.tobytes():
                raise _Changes
        if space != "lds":
            self._keep(old, address, self._lanes(mask, address))
        return old

    def _clock(self, node: Node) -> Array:
        raise _Changes

    def _others(self, node: Node) -> Array:
        raise _Changes

    def _message(self, node: Node, value: Array) -> None:
        raise _Changes

    def _sync(self, node: Node, number: Array, value: Array) -> None:
        raise _Changes


class Watch:
    """Tries to prove that a dispatch never ends, again and again while it changes nothing."""

    def __init__(
        self, view: View, wave_size: int, program_at: Callable[[int], Program]
    ) -> None:
        self._view, self._wave_size, self._program_at = view, wave_size, program_at
        self._since = self._changes = 0
        self._patience = _CALM

    def due(self, now: int, changes: int) -> bool:
        """Whether a proof should be tried, after `now` instructions and `changes` of memory."""
        if changes != self._changes:
            self._since, self._changes, self._patience = now, changes, _CALM
        return now - self._since >= self._patience

    def prove(self, groups: Sequence[Group]) -> Endless | None:
        """Return what is endless when no wave of these groups will ever end or change memory."""
        limit = max(_LEAST, self._patience // _SHARE)
        self._patience *= 2
        trial = _Trial(self._view, self._wave_size, self._program_at)
        seen: dict[int, bytes] = {}
        first: Endless | None = None
        for group in groups:
            for wave in group.waves:
                if wave.status != RUNNING:
                    continue
                period = trial.period(wave, group, limit)
                if not period:
                    return None
                seen.update(trial.seen)
                if first is None:
                    image = RegisterImage(wave.scalars.copy(), wave.vectors.copy())
                    first = Endless(Place(group.place, wave.number, wave.address), period, image)
        if first is None or len(seen) > _SEEN:
            return None
        return Endless(first.place, first.period, first.registers, _merged(seen))


class _Trial:
    # Runs waves dry, one after another.

    def __init__(
        self, view: View, wave_size: int, program_at: Callable[[int], Program]
    ) -> None:
        self._context = _Dry(view, wave_size)
        self._engine = NumpyEngine(self._context, program_at)

    @property
    def seen(self) -> dict[int, bytes]:
        # What the last wave read in a period.
        return self._context.seen

    def period(self, wave: Wave, group: Group, limit: int) -> int:
        # Instructions after which the wave is where it was; 0 when that was not to be seen.
        before = wave.scalars.copy(), wave.vectors.copy(), wave.pc, wave.executed
        self._context.enter(wave, group.lds)
        self._context.stop = None
        try:
            with np.errstate(all="ignore"):
                return self._round_trip(wave, limit)
        except (BadAccess, Halted, NoMeaning, _Changes):
            return 0
        finally:
            wave.scalars[:], wave.vectors[:], wave.pc, wave.executed = before

    def _round_trip(self, wave: Wave, limit: int) -> int:
        # Brent's way: compare with a state kept, and keep a new one each time twice as late.
        scalars, vectors, pc = wave.scalars.copy(), wave.vectors.copy(), wave.pc
        self._context.seen = {}
        taken, keep_at = 0, 1
        for _ in range(limit):
            self._engine.step(wave, wave.pc)
            if self._context.stop is not None:
                return 0
            taken += 1
            if wave.pc == pc and _same(wave, scalars, vectors):
                return taken
            if taken == keep_at:
                scalars, vectors, pc = wave.scalars.copy(), wave.vectors.copy(), wave.pc
                self._context.seen = {}
                taken, keep_at = 0, 2 * keep_at
        return 0


def _same(
    wave: Wave, scalars: NDArray[np.uint32], vectors: NDArray[np.uint32]
) -> bool:
    return np.array_equal(wave.scalars, scalars) and np.array_equal(wave.vectors, vectors)


def _merged(seen: dict[int, bytes]) -> tuple[tuple[int, bytes], ...]:
    # Neighbours joined, by address.
    joined: list[tuple[int, bytearray]] = []
    for address, data in sorted(seen.items()):
        if joined and joined[-1][0] <= address <= joined[-1][0] + len(joined[-1][1]):
            start, whole = joined[-1]
            whole[address - start : address - start + len(data)] = data
        else:
            joined.append((address, bytearray(data)))
    return tuple((address, bytes(data)) for address, data in joined)
