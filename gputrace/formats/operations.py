"""Operand values that PM4 and SDMA share: comparisons, atomics, cache policies and actions."""

import operator
from collections.abc import Callable
from enum import Enum, IntEnum


class Compare(IntEnum):
    """How a polled value, after masking, is compared with the reference (both unsigned).

    Source: gfx9_plus_merged_f32_mec_pm4_packets.h WAIT_REG_MEM function, sdma_v6_0_0_pkt_open.h
    POLL_REGMEM func.
    """

    ALWAYS = 0
    LT = 1
    LE = 2
    EQ = 3
    NE = 4
    GE = 5
    GT = 6

    def holds(self, value: int, reference: int) -> bool:
        """Say whether `value` compares true with `reference`."""
        return _TESTS[self](value, reference)


_TESTS: tuple[Callable[[int, int], bool], ...] = (
    lambda value, reference: True,
    operator.lt,
    operator.le,
    operator.eq,
    operator.ne,
    operator.ge,
    operator.gt,
)


class AtomicOperation(IntEnum):
    """What an atomic packet does; RTN forms return the old value to the engine.

    Source: Mesa sid.h TC_OP_ATOMIC_*, kfdtest SDMAPacket.cpp, PAL ATOMIC_MEM atomic.
    """

    SWAP_RTN_32 = 7
    CMPSWAP_RTN_32 = 8
    ADD_RTN_32 = 15
    SUB_RTN_32 = 16
    SMIN_RTN_32 = 17
    UMIN_RTN_32 = 18
    SMAX_RTN_32 = 19
    UMAX_RTN_32 = 20
    AND_RTN_32 = 21
    OR_RTN_32 = 22
    XOR_RTN_32 = 23
    INC_RTN_32 = 24
    DEC_RTN_32 = 25
    CLAMP_SUB_RTN_32 = 26
    COND_SUB_RTN_32 = 27
    SWAP_RTN_64 = 39
    CMPSWAP_RTN_64 = 40
    ADD_RTN_64 = 47
    SUB_RTN_64 = 48
    SMIN_RTN_64 = 49
    UMIN_RTN_64 = 50
    SMAX_RTN_64 = 51
    UMAX_RTN_64 = 52
    AND_RTN_64 = 53
    OR_RTN_64 = 54
    XOR_RTN_64 = 55
    INC_RTN_64 = 56
    DEC_RTN_64 = 57
    SWAP_32 = 71
    CMPSWAP_32 = 72
    ADD_32 = 79
    SUB_32 = 80
    SMIN_32 = 81
    UMIN_32 = 82
    SMAX_32 = 83
    UMAX_32 = 84
    AND_32 = 85
    OR_32 = 86
    XOR_32 = 87
    INC_32 = 88
    DEC_32 = 89
    SWAP_64 = 103
    CMPSWAP_64 = 104
    ADD_64 = 111
    SUB_64 = 112
    SMIN_64 = 113
    UMIN_64 = 114
    SMAX_64 = 115
    UMAX_64 = 116
    AND_64 = 117
    OR_64 = 118
    XOR_64 = 119
    INC_64 = 120
    DEC_64 = 121

    @property
    def size(self) -> int:
        """Bytes of the memory operand: 4 or 8."""
        return 8 if self & 32 else 4

    @property
    def returns(self) -> bool:
        """True when the old value goes back to the engine."""
        return not self & 64


class CachePolicy(IntEnum):
    """How long a line touched by the packet stays in L2 (gfx9 to gfx11).

    Source: gfx9_plus_merged_f32_mec_pm4_packets.h cache_policy, Mesa sid.h.
    """

    LRU = 0
    STREAM = 1
    NOA = 2
    BYPASS = 3


class Temporal(IntEnum):
    """How long a line touched by the packet stays in L2 (gfx12).

    Source: gfx12 PAL MEC packets temporal.
    """

    RT = 0
    NT = 1
    HT = 2
    LU = 3


class GcrRange(IntEnum):
    """Which instruction-cache lines an action concerns (nvd.h PACKET3_ACQUIRE_MEM_GCR_CNTL_GLI)."""

    NONE = 0
    ALL = 1
    RANGE = 2
    FIRST_LAST = 3


class Gl1Range(IntEnum):
    """Which GL1 lines an action concerns (nvd.h PACKET3_ACQUIRE_MEM_GCR_CNTL_GL1_RANGE)."""

    ALL = 0
    RANGE = 2
    FIRST_LAST = 3


class Gl2Range(IntEnum):
    """Which GL2 lines an action concerns (nvd.h PACKET3_ACQUIRE_MEM_GCR_CNTL_GL2_RANGE)."""

    ALL = 0
    VOLATILE = 1
    RANGE = 2
    FIRST_LAST = 3


class GcrSequence(IntEnum):
    """In which order the cache levels act (nvd.h PACKET3_ACQUIRE_MEM_GCR_CNTL_SEQ)."""

    PARALLEL = 0
    FORWARD = 1
    REVERSE = 2


class CacheAction(Enum):
    """What a cache bit means, whatever its place: the hinge for translation between families."""

    INVALIDATE_INSTRUCTION = "invalidate the instruction cache"
    INVALIDATE_SCALAR = "invalidate the scalar data cache"
    WRITE_BACK_SCALAR = "write back the scalar data cache"
    INVALIDATE_VECTOR = "invalidate the vector caches nearest to the shaders"
    INVALIDATE_GL1 = "invalidate the shader array's cache"
    INVALIDATE_L2 = "invalidate L2"
    WRITE_BACK_L2 = "write back L2"
    INVALIDATE_METADATA = "invalidate the metadata cache"
    WRITE_BACK_METADATA = "write back the metadata cache"
