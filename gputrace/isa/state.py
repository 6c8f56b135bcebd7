"""Where the registers of a wave lie: the layout that both engines share.

A wave is one array of 32-bit words: first the scalar words in the order below, then 512 vector
registers (v0..v255, a0..a255) of one word for each lane.
"""

from typing import Final

SGPRS: Final = 106
VCC: Final = 106
TTMP: Final = 108
M0: Final = 124
NULL: Final = 125
EXEC: Final = 126
SCC: Final = 128
FLAT_SCRATCH: Final = 129
XNACK_MASK: Final = 131
MODE: Final = 133
"""The bits of MODE that no instruction looks at, and how many forks are open (CSP)."""
STATUS: Final = 134
"""The bits of STATUS that do not change."""
SIGNALLED: Final = 135
"""1: the wave has said that it has come to the barrier of its group."""
PASSED: Final = 136
"""1: the barrier that the wave has not waited for yet is complete."""
SCALARS: Final = 144

ADDRESS: Final = (1 << 48) - 1
"""The bits of a program counter that are an address of the code."""
CHANGE_AT: Final = 48
"""Above them: how the wave's MODE differs from the launch's (`gputrace.isa.trace.Mode`)."""

VECTORS: Final = 512
FIRST_ACCUMULATOR: Final = 256

_NAMED = {
    VCC: "vcc_lo",
    VCC + 1: "vcc_hi",
    M0: "m0",
    NULL: "null",
    EXEC: "exec_lo",
    EXEC + 1: "exec_hi",
    SCC: "scc",
    FLAT_SCRATCH: "flat_scratch_lo",
    FLAT_SCRATCH + 1: "flat_scratch_hi",
    XNACK_MASK: "xnack_mask_lo",
    XNACK_MASK + 1: "xnack_mask_hi",
}


def scalar_name(index: int) -> str:
    """Return the name of a scalar word, "" for one that no register uses."""
    if index < SGPRS:
        return f"s{index}"
    if TTMP <= index < TTMP + 16:
        return f"ttmp{index - TTMP}"
    return _NAMED.get(index, "")
