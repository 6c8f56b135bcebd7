"""The layout of the context that Python and compiled code share: 64-bit slots, codes, tables."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import waves
from gputrace.isa.launch import Access
from gputrace.isa.numpy_floats import QUIET

# Slots of the context, in 64-bit units.
EXECUTED: Final = 0  # wave-instructions of the dispatch so far
LIMIT: Final = 1  # value of EXECUTED at which a wave returns at its next jump backwards
STOP_AT: Final = 2  # value of EXECUTED at which `drive` returns
TURN_END: Final = 3  # value of EXECUTED at which the wave's turn ends
PC: Final = 4
FAULT_ADDRESS: Final = 5
FAULT_LANES: Final = 6
FAULT_ACCESS: Final = 7  # number of the access in ACCESSES | bytes << 8
LDS_SIZE: Final = 8
RANGES: Final = 9  # address of RANGE_COUNT times (first, end, host - first, writable)
RANGE_COUNT: Final = 10
CHANGES: Final = 11  # stores that changed memory, clocks read
IGNORED: Final = 12  # takes counts that nobody reads
TABLE: Final = 13  # address of TABLE_MASK + 1 entries
TABLE_MASK: Final = 14
RECORDS: Final = 15  # address of the group's wave records
WAVE_COUNT: Final = 16
CURRENT: Final = 17  # number of the wave whose turn it is
IN_TURN: Final = 18  # 1: its turn has begun
LDS: Final = 19  # address of the group's LDS
GROUP_EXECUTED: Final = 20
PATIENCE: Final = 21  # GROUP_EXECUTED above which `drive` returns after a round
AGAIN_AT: Final = 22  # byte of a wave at which its accumulation registers begin
X: Final = 23  # place of the current group
Y: Final = 24
Z: Final = 25
MORE: Final = 26  # groups that `drive` may start by itself
FIRST_X: Final = 27
END_X: Final = 28
FIRST_Y: Final = 29
END_Y: Final = 30
TEMPLATES: Final = 31  # address of the initial words of each wave of a group
FIRST_BYTES: Final = 32  # distance of two waves there, and the bytes of each
USED: Final = 33  # bytes of other registers of a wave that its code can touch, behind those
USED_AGAIN: Final = 34  # bytes of its accumulation registers
ENTRY: Final = 35
X_AT: Final = 36  # word that takes the group's x, -1: none
Y_AT: Final = 37
Z_AT: Final = 38  # the word of y: z goes into its upper half
QUIET_16: Final = 39  # the NaN that arithmetic gives
QUIET_32: Final = 40
QUIET_64: Final = 41
HULLS: Final = 42  # address of what is touched of each range, for `find` to note; 0: it does not
SLOTS: Final = 48

RECORD_BYTES: Final = 32  # address of the words, pc, status, executed: see gputrace.isa.waves

# Slots of a table entry; pc 0 with function 0 is an empty one.
ENTRY_SLOTS: Final = 8  # pc, function, sites, base, number of the entry

# Why a region returns.
LEFT, END, BARRIER, TURN, FAULT = 0, 1, 2, 3, 4
# Why `drive` returns, beside FAULT.
DONE, PAUSED, MISSING, ROUND = 8, 9, 10, 11

HULL_SLOTS: Final = 4  # lowest address read, end of it, lowest written, end of it

ACCESSES: Final[tuple[Access, ...]] = ("read", "write", "atomic", "misaligned", "lds")

SITE_SLOTS: Final = 3  # the range that an access found last: first, starts in it, host - first


ATTRIBUTES: Final = """
attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }
!0 = !{!"branch_weights", i32 1, i32 2000}
!1 = !{!"branch_weights", i32 2000, i32 1}
"""
"""What all modules end with."""


def new_context() -> NDArray[np.uint64]:
    """Return a context in which nothing is set but the constants."""
    context: NDArray[np.uint64] = waves.aligned(SLOTS, np.uint64)
    context[[QUIET_16, QUIET_32, QUIET_64]] = [QUIET[bits] for bits in (16, 32, 64)]
    return context


def numbered(text: str) -> str:
    """Put the numbers of slots and codes for their names behind $."""
    names = {name: value for name, value in vars(waves).items() if isinstance(value, int)}
    names["FIRST_PATIENCE"] = waves.PATIENCE
    names |= {name: value for name, value in globals().items() if isinstance(value, int)}
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f"${name}", str(names[name]))
    return text
