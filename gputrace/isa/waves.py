"""The waves of a work-group in memory: what both engines read and write.

A group is one block of registers, one row for each wave in the layout of `gputrace.isa.state`, a
record of four 64-bit words for each wave (address of its registers, program counter, status,
instructions executed), and the LDS. Compiled code works on the same memory.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import state
from gputrace.isa.launch import Dimensions, Words
from gputrace.isa.state import ADDRESS, PASSED, SIGNALLED

RUNNING: Final = 0
WAITING: Final = 1
ENDED: Final = 2
HELD: Final = 3

SLICE: Final = 4096
"""Wave-instructions until the next wave of the group has its turn."""
PATIENCE: Final = 1 << 16
"""Wave-instructions for each of its waves that a group may take before another joins it."""

INITIAL_VECTORS: Final = 3
"""Vector registers that may hold something when a wave begins."""

RECORD_WORDS: Final = 4
_ALIGNMENT = 64
_SPARE_SHAPES, _SPARE_GROUPS = 8, 4


def aligned(count: int, kind: type[np.generic]) -> NDArray[Any]:
    """Return `count` zeros that begin at a multiple of 64 bytes."""
    size = count * np.dtype(kind).itemsize
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % _ALIGNMENT
    return raw[skip : skip + size].view(kind)


class Wave:
    """One wave of a group: its registers, and where it stands."""

    def __init__(
        self, number: int, words: Words, record: NDArray[np.uint64], wave_size: int
    ) -> None:
        self.number = number
        self.scalars = words[: state.SCALARS]
        """The scalar words."""
        self.vectors = words[state.SCALARS :].reshape(-1, wave_size)
        """The vector registers as (register, lane)."""
        self._record = record

    @property
    def pc(self) -> int:
        """Address of the next instruction."""
        return int(self._record[1])

    @pc.setter
    def pc(self, value: int) -> None:
        self._record[1] = value

    @property
    def address(self) -> int:
        """Address of the next instruction, without what the program counter says of MODE."""
        return self.pc & ADDRESS

    @property
    def status(self) -> int:
        """One of RUNNING, WAITING (at a barrier), HELD (by global wave sync) and ENDED."""
        return int(self._record[2])

    @status.setter
    def status(self, value: int) -> None:
        self._record[2] = value

    @property
    def executed(self) -> int:
        """Instructions that the wave has executed."""
        return int(self._record[3])

    @executed.setter
    def executed(self, value: int) -> None:
        self._record[3] = value


class Group:
    """One work-group that has been started."""

    def __init__(self, place: Dimensions, count: int, wave_size: int, lds_bytes: int) -> None:
        self.row = state.SCALARS + state.VECTORS * wave_size
        self.words: Words = aligned(count * self.row, np.uint32).reshape(count, self.row)
        self.records = aligned(count * RECORD_WORDS, np.uint64).reshape(count, RECORD_WORDS)
        # Compiled code reads whole vectors, which may begin at the last word.
        self.lds: NDArray[np.uint8] = aligned(lds_bytes + _ALIGNMENT, np.uint8)[:lds_bytes]
        self.records[:, 0] = self.words.ctypes.data + 4 * self.row * np.arange(count)
        self.waves = [Wave(n, self.words[n], self.records[n], wave_size) for n in range(count)]
        self.records_at, self.lds_at = self.records.ctypes.data, self.lds.ctypes.data
        self.shape = count, wave_size, lds_bytes
        self.stand_at(place)

    def stand_at(self, place: Dimensions) -> None:
        """Become the group at a place, before its first instruction; registers are zero."""
        self.place = place
        self.records[:, 1:] = 0
        self.executed = 0
        self.look_at = self.patience = PATIENCE * len(self.waves)
        """Count of its instructions from which on the end of a round is looked at."""
        self.slot = 0
        """Which part of the scratch memory the group has."""
        self.stuck = False
        """Whether, at the end of its round, only waves of other groups could let it go on."""
        self.turn = 0
        """Number of the wave whose turn it is in the round."""
        self.turn_end: int | None = None
        """Count of instructions at which that turn ends; None when it has not begun."""

    def clear(self, vectors: int, accumulators: int) -> None:
        """Make so many registers of each wave zero again, all scalar words and the LDS."""
        lanes = self.waves[0].vectors.shape[1]
        behind = state.SCALARS + state.FIRST_ACCUMULATOR * lanes
        self.words[:, : state.SCALARS + vectors * lanes] = 0
        self.words[:, behind : behind + accumulators * lanes] = 0
        self.lds[:] = 0

    def release(self) -> None:
        """Complete the barrier when each wave that lives has signalled; let waves pass it."""
        status = self.records[:, 2]
        signalled, passed = self.words[:, SIGNALLED], self.words[:, PASSED]
        if not self.ended and ((status == ENDED) | (signalled != 0)).all():
            signalled[:], passed[:] = 0, 1
        wake = (status == WAITING) & (passed != 0)
        status[wake], passed[wake] = RUNNING, 0

    def look(self) -> None:
        """See whether the group is stuck."""
        self.stuck = not (self.records[:, 2] == RUNNING).any() and not self.ended

    @property
    def ended(self) -> bool:
        """Whether no wave is left."""
        return bool((self.records[:, 2] == ENDED).all())


def touched(written: Iterable[int]) -> tuple[int, int]:
    """Return how many vector and accumulation registers from the first on are among these.

    Those that hold something when a wave begins always are.
    """
    vectors, accumulators = INITIAL_VECTORS, 0
    for index in written:
        if index < state.FIRST_ACCUMULATOR:
            vectors = max(vectors, index + 1)
        else:
            accumulators = max(accumulators, index + 1 - state.FIRST_ACCUMULATOR)
    return vectors, accumulators


class Spare:
    """Memory that was used before, which is quicker than new one: groups, cleared, and bytes."""

    def __init__(self) -> None:
        self._rooms: dict[int, NDArray[np.uint8]] = {}
        self._kept: dict[tuple[int, int, int], list[Group]] = {}

    def put(self, group: Group) -> None:
        """Keep a group that has ended and was cleared."""
        if len(self._kept) >= _SPARE_SHAPES:
            self._kept.clear()
        kept = self._kept.setdefault(group.shape, [])
        if len(kept) < _SPARE_GROUPS:
            kept.append(group)

    def take(self, count: int, wave_size: int, lds_bytes: int) -> Group | None:
        """Return a group of so many waves, None when there is none to spare."""
        kept = self._kept.get((count, wave_size, lds_bytes))
        return kept.pop() if kept else None

    def room(self, number: int, size: int) -> NDArray[np.uint8]:
        """Return so many bytes at least, of any content: the same ones for the same number."""
        found = self._rooms.get(number)
        if found is None or len(found) < size:
            found = self._rooms[number] = np.zeros(size + size // 4, np.uint8)
        return found
