"""SDMA packets that order, signal and steer: fences, traps, polls, atomics, indirect buffers."""

from collections.abc import Sequence

from gputrace.bits import Record, Role, bits, tail, u32, u64
from gputrace.formats.operations import (
    AtomicOperation,
    CacheAction,
    Compare,
    GcrRange,
    GcrSequence,
    Gl1Range,
    Gl2Range,
)
from gputrace.formats.sdma.packet import (
    ALL,
    SDMA_4_4,
    SDMA_5_2,
    SDMA_6_0,
    SDMA_7_0,
    UP_TO_V6,
    V4,
    V5,
    V5_UP,
    V5_V6,
    V6,
    V7,
    Packet,
)

NO_REGISTERS = "registers are not reachable from user queues"
MALL = "memory-attached last level policy"


def _body_count(packet: Record) -> int:
    return packet.dwords - 1


class Nop(Packet, op=0, dialects=ALL, source=V4 + "SDMA_PKT_NOP"):
    """Skip `count` dwords after the header; zero dwords are one-dword packets of this kind."""

    count: int = bits(0, 29, 16, "dwords skipped (not minus one)", default=_body_count)
    body: tuple[int, ...] = tail("dwords that are skipped")

    @classmethod
    def length(cls, words: Sequence[int], at: int) -> int:
        """Return the dwords of the packet at `at`."""
        return 1 + (words[at] >> 16 & 0x3FFF)


class IndirectBuffer(Packet, words=6, op=4, dialects=(SDMA_4_4,), source=V4 + "SDMA_PKT_INDIRECT"):
    """Run packets from memory, then go on; must end on an 8-dword boundary of the ring."""

    vmid: int = bits(0, 19, 16, "address space; 0 from user queues", default=0)
    address: int = bits(
        1,
        63,
        5,
        "of the first packet",
        shift=5,
        role=Role(uses="address", length="size", access="x"),
    )
    dwords_there: int = bits(3, 19, 0, "length in dwords")
    csa_address: int = u64(4, "context save area", default=0, role=Role(uses="address"))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return 4 * self.dwords_there


class IndirectBufferV5(
    IndirectBuffer,
    op=4,
    dialects=V5_UP,
    concept="IndirectBuffer",
    source=V5 + "SDMA_PKT_INDIRECT",
):
    """Run packets from memory, then go on; must end on an 8-dword boundary of the ring."""

    priv: bool = bits(0, 31, 31, "privileged", default=0, kind=bool)


class Fence(Packet, words=4, op=5, dialects=(SDMA_4_4,), source=V4 + "SDMA_PKT_FENCE"):
    """Write a dword when all earlier packets are complete."""

    address: int = bits(
        1, 63, 2, "dword aligned", shift=2, role=Role(uses="address", length=4, access="w")
    )
    data: int = u32(3, "value")


class FenceV5(
    Fence,
    op=5,
    dialects=(SDMA_5_2,),
    concept="Fence",
    source=V5 + "SDMA_PKT_FENCE",
):
    """Write a dword when all earlier packets are complete."""

    mtype: int = bits(0, 18, 16, "memory type; clients write 3, uncached", default=3)
    gcc: bool = bits(0, 19, 19, "cache coherence", default=0, kind=bool)
    sys: bool = bits(0, 20, 20, "system memory", default=0, kind=bool)
    snoop: bool = bits(0, 22, 22, "snoop the host's caches", default=0, kind=bool)
    gpa: bool = bits(0, 23, 23, "guest physical address", default=0, kind=bool)
    l2_policy: int = bits(0, 25, 24, "L2 policy", default=0)


class FenceV6(
    FenceV5,
    op=5,
    dialects=(SDMA_6_0,),
    concept="Fence",
    source=V6 + "SDMA_PKT_FENCE",
):
    """Write a dword when all earlier packets are complete."""

    llc_policy: int = bits(0, 26, 26, "last level cache policy", default=0)
    cpv: bool = bits(0, 28, 28, "cache policy is valid", default=0, kind=bool)


class FenceV7(
    Fence,
    op=5,
    dialects=(SDMA_7_0,),
    concept="Fence",
    source=V7 + "SDMA_PKT_FENCE, sdma_v7_0.c sdma_v7_0_ring_emit_fence",
):
    """Write a dword when all earlier packets are complete."""

    mtype: int = bits(0, 18, 16, "ignored; clients write 3 all the same", default=3)
    sys: bool = bits(0, 20, 20, "system memory", default=0, kind=bool)
    snoop: bool = bits(0, 22, 22, "snoop the host's caches", default=0, kind=bool)
    gpa: bool = bits(0, 23, 23, "guest physical address", default=0, kind=bool)
    mall: int = bits(0, 27, 26, MALL, default=0)


class FenceConditionalInterrupt(
    Packet,
    words=8,
    op=5,
    sub=1,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_FENCE_CONDITIONAL_INTERRUPT",
    unsupported="no client is known to send it",
):
    """Write a value, and interrupt when memory compares."""

    wide: bool = bits(0, 31, 31, "64 bits", default=0, kind=bool)
    address: int = u64(1, "where the value goes", role=Role(uses="address", access="w"))
    data: int = u64(3, "value")
    reference_address: int = u64(5, "compared with", role=Role(uses="address"))
    int_context: int = u32(7, "interrupt context", default=0)


class Trap(Packet, words=2, op=6, dialects=UP_TO_V6, source=V4 + "SDMA_PKT_TRAP"):
    """Interrupt the host; KFD wakes the event whose id is the context."""

    int_context: int = bits(1, 27, 0, "event id")


class TrapV7(Trap, op=6, dialects=(SDMA_7_0,), concept="Trap", source=V7 + "SDMA_PKT_TRAP"):
    """Interrupt the host; KFD wakes the event whose id is the context."""

    int_context: int = u32(1, "event id")


class PollRegMem(Packet, words=6, op=8, source=V4 + "SDMA_PKT_POLL_REGMEM"):
    """Poll a dword until it compares true; the fields that every version has.

    With `hdp_flush` the low half of `address` is the register that tells that the host data path
    is flushed and the high half the one that asks for it, both times four.
    """

    function: Compare = bits(0, 30, 28, "(value & mask) against reference", kind=Compare)
    in_memory: bool = bits(0, 31, 31, "poll memory, not a register", default=1, kind=bool)
    address: int = u64(
        1,
        "byte address, or register dword number times four",
        role=Role(uses="address", length="polled"),
    )
    reference: int = u32(3, "value compared with")
    mask: int = u32(4, "bits compared", default=0xFFFFFFFF)
    interval: int = bits(5, 15, 0, "clocks between polls", default=4)
    retry_count: int = bits(5, 27, 16, "0xfff: for ever", default=0xFFF)

    @property
    def polled(self) -> int:
        """Bytes of memory polled: 4, or 0 for a register."""
        return 4 if self.in_memory else 0


class PollRegMemV4(
    PollRegMem,
    op=8,
    dialects=(SDMA_4_4,),
    concept="PollRegMem",
    source=V4 + "SDMA_PKT_POLL_REGMEM",
):
    """Poll a dword until it compares true."""

    hdp_flush: bool = bits(0, 26, 26, "flush the host data path", default=0, kind=bool)


class PollRegMemV5(
    PollRegMemV4,
    op=8,
    dialects=V5_V6,
    concept="PollRegMem",
    source=V6 + "SDMA_PKT_POLL_REGMEM, PAL gfx10_merged_sdma_packets.h",
):
    """Poll a dword until it compares true."""

    policy: int = bits(0, 22, 20, "cache policy, when cpv", default=0)
    cpv: bool = bits(0, 24, 24, "cache policy is valid", default=0, kind=bool)


class PollRegMemV7(
    PollRegMem,
    op=8,
    dialects=(SDMA_7_0,),
    concept="PollRegMem",
    source=V7 + "SDMA_PKT_POLL_REGMEM, sdma_v7_0.c sdma_v7_0_ring_emit_reg_wait",
):
    """Poll a dword until it compares true."""

    die: int = bits(0, 17, 16, "whose register", default=0)
    domain: int = bits(0, 18, 18, "register domain", default=0)
    bridge: int = bits(0, 19, 19, "register bridge", default=0)
    mall: int = bits(0, 23, 22, MALL, default=0)
    hdp_flush: int = bits(0, 27, 26, "flush the host data path", default=0)


class PollRegWriteMem(
    Packet,
    words=4,
    op=8,
    sub=1,
    dialects=UP_TO_V6,
    source=V4 + "SDMA_PKT_POLL_REG_WRITE_MEM",
    unsupported=NO_REGISTERS,
):
    """Poll a register and write what it held."""

    register: int = bits(1, 31, 2, "byte address of the register", shift=2)
    destination: int = u64(2, "where to", role=Role(uses="address", length=4, access="w"))


class PollRegWriteMemV7(
    PollRegWriteMem,
    words=5,
    op=8,
    sub=1,
    dialects=(SDMA_7_0,),
    concept="PollRegWriteMem",
    source=V7 + "SDMA_PKT_POLL_REG_WRITE_MEM",
    unsupported=NO_REGISTERS,
):
    """Poll a register and write what it held; the last dword is a GRBM_GFX_INDEX."""


class CondExec(
    Packet,
    words=5,
    op=9,
    dialects=(SDMA_4_4, SDMA_5_2),
    source=V4 + "SDMA_PKT_COND_EXE",
):
    """Skip the following dwords unless a memory dword equals the reference.

    Known use: reference 1, memory 1 to run and 0 to skip; other values are not documented.
    """

    address: int = u64(1, "of the dword", role=Role(uses="address", length=4))
    reference: int = u32(3, "value compared with", default=1)
    exec_count: int = bits(4, 13, 0, "dwords skipped or run")


class CondExecV6(
    CondExec, op=9, dialects=(SDMA_6_0,), concept="CondExec", source=V6 + "SDMA_PKT_COND_EXE"
):
    """Skip the following dwords unless a memory dword equals the reference."""

    policy: int = bits(0, 26, 24, "cache policy, when cpv", default=0)
    cpv: bool = bits(0, 28, 28, "cache policy is valid", default=0, kind=bool)


class CondExecV7(
    CondExec, op=9, dialects=(SDMA_7_0,), concept="CondExec", source=V7 + "SDMA_PKT_COND_EXE"
):
    """Skip the following dwords unless a memory dword equals the reference."""

    mall: int = bits(0, 27, 26, MALL, default=0)


class Atomic(Packet, words=8, op=10, dialects=(SDMA_4_4,), source=V4 + "SDMA_PKT_ATOMIC"):
    """Do an atomic operation on 32 or 64 bits of memory."""

    loop: bool = bits(0, 16, 16, "until the compare succeeds", default=0, kind=bool)
    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    atomic: AtomicOperation = bits(0, 31, 25, "what to do", kind=AtomicOperation)
    address: int = u64(1, "operand", role=Role(uses="address", length="size", access="rw"))
    source: int = u64(3, "operand from the packet")
    compare: int = u64(5, "for compare and swap, and for the loop", default=0)
    loop_interval: int = bits(7, 12, 0, "clocks between tries", default=0)

    @property
    def size(self) -> int:
        """Bytes of the operand: 4 or 8."""
        return 8 if self.atomic & 32 else 4


class AtomicV5(Atomic, op=10, dialects=V5_V6, concept="Atomic", source=V6 + "SDMA_PKT_ATOMIC"):
    """Do an atomic operation on 32 or 64 bits of memory."""

    policy: int = bits(0, 22, 20, "cache policy, when cpv", default=0)
    cpv: bool = bits(0, 24, 24, "cache policy is valid", default=0, kind=bool)


class AtomicV7(
    Atomic, op=10, dialects=(SDMA_7_0,), concept="Atomic", source=V7 + "SDMA_PKT_ATOMIC"
):
    """Do an atomic operation on 32 or 64 bits of memory."""

    mall: int = bits(0, 23, 22, MALL, default=0)


class TimestampSetLocal(
    Packet,
    words=3,
    op=13,
    sub=0,
    dialects=ALL,
    source=V4 + "SDMA_PKT_TIMESTAMP_SET",
    unsupported="engines share one clock, which nobody sets",
):
    """Set the engine's own counter."""

    initial: int = u64(1, "value")


class TimestampGetLocal(
    Packet,
    words=3,
    op=13,
    sub=1,
    dialects=(SDMA_4_4, SDMA_5_2),
    source=V4 + "SDMA_PKT_TIMESTAMP_GET",
):
    """Write the engine's own counter, 64 bits, to memory."""

    address: int = bits(
        1,
        63,
        3,
        "8-byte aligned; clients keep to 32",
        shift=3,
        role=Role(uses="address", length=8, access="w"),
    )


class TimestampGetGlobal(
    Packet,
    words=3,
    op=13,
    sub=2,
    dialects=(SDMA_4_4, SDMA_5_2),
    source=V4 + "SDMA_PKT_TIMESTAMP_GET_GLOBAL",
):
    """Write the system-wide counter that KFD's clock counters show, 64 bits, to memory."""

    address: int = bits(
        1,
        63,
        3,
        "8-byte aligned; clients keep to 32",
        shift=3,
        role=Role(uses="address", length=8, access="w"),
    )


class TimestampGetLocalV6(
    TimestampGetLocal,
    op=13,
    sub=1,
    dialects=(SDMA_6_0,),
    concept="TimestampGetLocal",
    source=V6 + "SDMA_PKT_TIMESTAMP_GET",
):
    """Write the engine's own counter, 64 bits, to memory."""

    l2_policy: int = bits(0, 25, 24, "L2 policy, when cpv", default=0)
    llc_policy: int = bits(0, 26, 26, "last level cache policy, when cpv", default=0)
    cpv: bool = bits(0, 28, 28, "cache policies are valid", default=0, kind=bool)


class TimestampGetLocalV7(
    TimestampGetLocal,
    op=13,
    sub=1,
    dialects=(SDMA_7_0,),
    concept="TimestampGetLocal",
    source=V7 + "SDMA_PKT_TIMESTAMP_GET",
):
    """Write the engine's own counter, 64 bits, to memory."""

    mall: int = bits(0, 27, 26, MALL, default=0)


class TimestampGetGlobalV6(
    TimestampGetGlobal,
    op=13,
    sub=2,
    dialects=(SDMA_6_0,),
    concept="TimestampGetGlobal",
    source=V6 + "SDMA_PKT_TIMESTAMP_GET_GLOBAL",
):
    """Write the system-wide counter that KFD's clock counters show, 64 bits, to memory."""

    l2_policy: int = bits(0, 25, 24, "L2 policy, when cpv", default=0)
    llc_policy: int = bits(0, 26, 26, "last level cache policy, when cpv", default=0)
    cpv: bool = bits(0, 28, 28, "cache policies are valid", default=0, kind=bool)


class TimestampGetGlobalV7(
    TimestampGetGlobal,
    op=13,
    sub=2,
    dialects=(SDMA_7_0,),
    concept="TimestampGetGlobal",
    source=V7 + "SDMA_PKT_TIMESTAMP_GET_GLOBAL",
):
    """Write the system-wide counter that KFD's clock counters show, 64 bits, to memory."""

    mall: int = bits(0, 27, 26, MALL, default=0)


class PreExec(
    Packet,
    words=2,
    op=15,
    dialects=ALL,
    source=V4 + "SDMA_PKT_PRE_EXE",
    unsupported="device select means nothing to a single engine",
):
    """Run the following dwords only on the chosen devices."""

    dev_sel: int = bits(0, 23, 16, "devices", default=0)
    exec_count: int = bits(1, 13, 0, "dwords skipped or run")


class GcrRequest(
    Packet,
    words=5,
    op=17,
    sub=1,
    dialects=V5_V6,
    source=V5 + "SDMA_PKT_GCR_REQ, ROCr sdma_registers.h SDMA_PKT_GCR",
):
    """Write back and invalidate caches; base and limit 0 mean everything."""

    base: int = bits(
        1, 47, 7, "first byte", default=0, shift=7, role=Role(uses="address", length="flushed")
    )
    gli_inv: GcrRange = bits(
        2,
        17,
        16,
        "invalidate the instruction cache",
        default=GcrRange.NONE,
        kind=GcrRange,
        intent=CacheAction.INVALIDATE_INSTRUCTION,
    )
    gl1_range: Gl1Range = bits(2, 19, 18, "which GL1 lines", default=Gl1Range.ALL, kind=Gl1Range)
    glm_wb: bool = bits(
        2,
        20,
        20,
        "write back metadata",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_METADATA,
    )
    glm_inv: bool = bits(
        2,
        21,
        21,
        "invalidate metadata",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_METADATA,
    )
    glk_wb: bool = bits(
        2,
        22,
        22,
        "write back scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_SCALAR,
    )
    glk_inv: bool = bits(
        2,
        23,
        23,
        "invalidate scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_SCALAR,
    )
    glv_inv: bool = bits(
        2,
        24,
        24,
        "invalidate vector L0",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_VECTOR,
    )
    gl1_inv: bool = bits(
        2, 25, 25, "invalidate GL1", default=0, kind=bool, intent=CacheAction.INVALIDATE_GL1
    )
    gl2_us: bool = bits(2, 26, 26, "unshared L2 lines", default=0, kind=bool)
    gl2_range: Gl2Range = bits(2, 28, 27, "which L2 lines", default=Gl2Range.ALL, kind=Gl2Range)
    gl2_discard: bool = bits(2, 29, 29, "drop dirty L2 lines", default=0, kind=bool)
    gl2_inv: bool = bits(
        2, 30, 30, "invalidate L2", default=0, kind=bool, intent=CacheAction.INVALIDATE_L2
    )
    gl2_wb: bool = bits(
        2, 31, 31, "write back L2", default=0, kind=bool, intent=CacheAction.WRITE_BACK_L2
    )
    seq: GcrSequence = bits(
        3, 1, 0, "order of the levels", default=GcrSequence.PARALLEL, kind=GcrSequence
    )
    range_is_pa: bool = bits(3, 2, 2, "the range is physical", default=0, kind=bool)
    limit: int = bits(3, 47, 7, "last byte", default=0, shift=7)
    vmid: int = bits(4, 27, 24, "address space; ignored in this form", default=0)

    @property
    def flushed(self) -> int:
        """Bytes behind `base`; 0 when everything is meant."""
        return max(0, self.limit - self.base) if self.limit else 0


class GcrRequestV7(
    GcrRequest,
    op=17,
    sub=1,
    dialects=(SDMA_7_0,),
    concept="GcrRequest",
    source=V7 + "SDMA_PKT_GCR_USER, ROCr sdma_registers.h SDMA_PKT_GCR",
):
    """Write back and invalidate caches; base and limit 0 mean everything."""

    all_dies: bool = bits(1, 1, 1, "caches of all dies", default=0, kind=bool)
    control_19: bool = bits(
        3, 3, 3, "highest bit of the control; no name is known", default=0, kind=bool
    )
