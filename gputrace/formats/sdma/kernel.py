"""SDMA packets that only the kernel sends, or that no client of KFD is known to send."""

from gputrace.bits import Role, bits, u32, u64
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

KERNEL = "kernel rings only"
NO_SEMAPHORES = "semaphores are not used by KFD clients"
DUMMY = "has no effect that is documented"


class PtePdeGenerate(
    Packet,
    words=10,
    op=12,
    sub=0,
    dialects=ALL,
    source=V4 + "SDMA_PKT_WRITE_INCR",
    unsupported=KERNEL,
):
    """Write a run of values that grow by an increment: page table entries."""

    destination: int = u64(1, "page table", role=Role(uses="address", access="w"))
    mask: int = u64(3, "bits that are kept")
    initial: int = u64(5, "first value")
    increment: int = u64(7, "added for each")
    count: int = bits(9, 18, 0, "entries minus one")


class PtePdeCopy(
    Packet,
    words=8,
    op=12,
    sub=1,
    dialects=ALL,
    source=V4 + "SDMA_PKT_PTEPDE_COPY",
    unsupported=KERNEL,
):
    """Copy page table entries."""

    ptepde_op: bool = bits(0, 31, 31, "which table", default=0, kind=bool)
    source: int = u64(1, "page table", role=Role(uses="address"))
    destination: int = u64(3, "page table", role=Role(uses="address", access="w"))
    mask: int = u64(5, "bits that are copied")
    count: int = bits(7, 18, 0, "entries")


class PtePdeModify(
    Packet,
    words=7,
    op=12,
    sub=2,
    dialects=(SDMA_4_4, SDMA_5_2),
    source=V4 + "SDMA_PKT_PTEPDE_RMW",
    unsupported=KERNEL,
):
    """Change some bits of a page table entry."""

    address: int = u64(1, "entry", role=Role(uses="address", length=8, access="rw"))
    mask: int = u64(3, "bits that change")
    value: int = u64(5, "their value")


class PtePdeModifyV6(
    PtePdeModify,
    words=8,
    op=12,
    sub=2,
    dialects=(SDMA_6_0, SDMA_7_0),
    concept="PtePdeModify",
    source=V6 + "SDMA_PKT_PTEPDE_RMW",
    unsupported=KERNEL,
):
    """Change some bits of page table entries."""

    entries: int = u32(7, "how many")


class PtePdeCopyBackwards(
    Packet,
    words=7,
    op=12,
    sub=3,
    dialects=ALL,
    source=V4 + "SDMA_PKT_PTEPDE_COPY_BACKWARDS",
    unsupported=KERNEL,
):
    """Copy page table entries from the last to the first."""

    source: int = u64(1, "page table", role=Role(uses="address"))
    destination: int = u64(3, "page table", role=Role(uses="address", access="w"))


class SrbmWrite(
    Packet,
    words=3,
    op=14,
    dialects=(SDMA_4_4,),
    source=V4 + "SDMA_PKT_SRBM_WRITE",
    unsupported=KERNEL,
):
    """Write a register."""

    byte_enable: int = bits(0, 31, 28, "bytes that are written", default=0xF)
    register: int = bits(1, 17, 0, "dword number")
    data: int = u32(2, "value")


class SrbmWriteV5(
    SrbmWrite,
    op=14,
    dialects=V5_V6,
    concept="SrbmWrite",
    source=V5 + "SDMA_PKT_SRBM_WRITE",
    unsupported=KERNEL,
):
    """Write a register."""

    aperture: int = bits(1, 31, 20, "aperture", default=0)


class RegisterWrite(
    Packet,
    words=3,
    op=14,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_REGISTER_WRITE, sdma_v7_0.c sdma_v7_0_ring_emit_wreg",
    unsupported=KERNEL,
):
    """Write a register; the kernel leaves PAL's last dword, for GRBM_GFX_INDEX, away."""

    register: int = bits(1, 31, 2, "byte address of the register", shift=2)
    data: int = u32(2, "value")


class DummyTrap(
    Packet,
    words=2,
    op=16,
    dialects=(SDMA_4_4,),
    source=V4 + "SDMA_PKT_DUMMY_TRAP",
    unsupported=DUMMY,
):
    """Trap that does not interrupt."""

    int_context: int = bits(1, 27, 0, "interrupt context")


class DummyTrapV5(
    DummyTrap,
    op=32,
    dialects=V5_V6,
    concept="DummyTrap",
    source=V5 + "SDMA_PKT_DUMMY_TRAP",
    unsupported=DUMMY,
):
    """Trap that does not interrupt."""


class DummyTrapV7(
    DummyTrapV5,
    op=32,
    dialects=(SDMA_7_0,),
    concept="DummyTrap",
    source=V7 + "SDMA_PKT_DUMMY_TRAP",
    unsupported=DUMMY,
):
    """Trap that does not interrupt."""

    int_context: int = u32(1, "interrupt context")


class GpuvmInvalidate(
    Packet, words=4, op=16, dialects=V5_UP, source=V5 + "SDMA_PKT_GPUVM_INV", unsupported=KERNEL
):
    """Drop address translations."""

    vmids: int = bits(1, 15, 0, "address spaces")
    flush_type: int = bits(1, 18, 16, "flush type", default=0)


class GcrRequestKernel(
    Packet,
    words=5,
    op=17,
    sub=0,
    dialects=V5_V6,
    source=V5 + "SDMA_PKT_GCR_REQ",
    unsupported=KERNEL,
):
    """Write back and invalidate caches for an address space that the packet names."""

    base: int = bits(1, 47, 7, "first byte", default=0, shift=7, role=Role(uses="address"))
    control: int = bits(2, 34, 16, "as GCR_CNTL of ACQUIRE_MEM", default=0)
    limit: int = bits(3, 47, 7, "last byte", default=0, shift=7)
    vmid: int = bits(4, 27, 24, "address space", default=0)


class GcrRequestKernelV7(
    GcrRequestKernel,
    op=17,
    sub=0,
    dialects=(SDMA_7_0,),
    concept="GcrRequestKernel",
    source=V7 + "SDMA_PKT_GCR_REQ",
    unsupported=KERNEL,
):
    """Write back and invalidate caches for an address space that the packet names."""

    all_dies: bool = bits(1, 1, 1, "caches of all dies", default=0, kind=bool)
    control: int = bits(2, 35, 16, "as GCR_CNTL of ACQUIRE_MEM", default=0)


class CopyDirtyPage(
    Packet,
    words=7,
    op=1,
    sub=7,
    dialects=ALL,
    source=V4 + "SDMA_PKT_COPY_DIRTY_PAGE",
    unsupported=KERNEL,
):
    """Copy pages that are dirty."""

    source: int = u64(3, "byte address", role=Role(uses="address"))
    destination: int = u64(5, "byte address", role=Role(uses="address", access="w"))


class CopyPhysicalLinear(
    Packet,
    words=7,
    op=1,
    sub=8,
    dialects=UP_TO_V6,
    source=V4 + "SDMA_PKT_COPY_PHYSICAL_LINEAR",
    unsupported=KERNEL,
):
    """Copy between physical addresses."""

    count: int = bits(1, 21, 0, "bytes minus one")
    source: int = u64(3, "physical byte address")
    destination: int = u64(5, "physical byte address")


class CopyPhysicalLinearV7(
    Packet,
    words=8,
    op=1,
    sub=8,
    dialects=(SDMA_7_0,),
    concept="CopyPhysicalLinear",
    source=V7 + "SDMA_PKT_COPY_PHYSICAL_LINEAR",
    unsupported=KERNEL,
):
    """Copy between physical addresses."""

    count: int = bits(1, 21, 0, "bytes minus one")
    source: int = u64(4, "physical byte address")
    destination: int = u64(6, "physical byte address")


class CopyPageTransfer(
    Packet,
    words=11,
    op=1,
    sub=12,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_COPY_PAGE_TRANSFER",
    unsupported=KERNEL,
):
    """Move a page between device and system memory and change its page table entry."""

    page_table_entry: int = bits(5, 63, 3, "of the page", shift=3, role=Role(uses="address"))
    local: int = u64(7, "physical byte address in device memory")
    system: int = u64(9, "physical byte address in system memory")


class PollDirtyBitWriteMem(
    Packet,
    words=5,
    op=8,
    sub=2,
    dialects=ALL,
    source=V4 + "SDMA_PKT_POLL_DBIT_WRITE_MEM",
    unsupported=KERNEL,
):
    """Write which pages are dirty."""

    destination: int = u64(1, "where to", role=Role(uses="address", access="w"))


class PollMemVerify(
    Packet,
    words=13,
    op=8,
    sub=3,
    dialects=ALL,
    source=V4 + "SDMA_PKT_POLL_MEM_VERIFY",
    unsupported="no client is known to send it",
):
    """Compare two ranges of memory, or one with a pattern."""

    mode: bool = bits(0, 31, 31, "what is compared", default=0, kind=bool)
    pattern: int = u32(1, "pattern")
    first_start: int = u64(2, "range", role=Role(uses="address"))
    first_end: int = u64(4, "its end")
    second_start: int = u64(6, "range", role=Role(uses="address"))
    second_end: int = u64(8, "its end")
    record: int = u64(10, "where the result goes", role=Role(uses="address", access="w"))


class RegisterModify(
    Packet,
    words=5,
    op=14,
    sub=1,
    dialects=(SDMA_6_0,),
    source=V6 + "SDMA_PKT_REGISTER_RMW",
    unsupported=KERNEL,
):
    """Change some bits of registers."""

    register: int = bits(1, 19, 0, "dword number")
    aperture: int = bits(1, 31, 20, "aperture", default=0)
    mask: int = u32(2, "bits that change")
    data: int = u32(3, "their value")


class RegisterModifyV7(
    Packet,
    words=5,
    op=14,
    sub=1,
    dialects=(SDMA_7_0,),
    concept="RegisterModify",
    source=V7 + "SDMA_PKT_REGISTER_RMW",
    unsupported=KERNEL,
):
    """Change some bits of a register."""

    register: int = bits(1, 31, 2, "byte address of the register", shift=2)
    mask: int = u32(2, "bits that change")
    data: int = u32(3, "their value")


class VmInvalidate(
    Packet,
    words=4,
    op=8,
    sub=4,
    dialects=V5_UP,
    source=V6 + "SDMA_PKT_VM_INVALIDATION",
    unsupported=KERNEL,
):
    """Drop address translations and wait until it is done."""

    request: int = u32(1, "invalidation request")
    range_low: int = u32(2, "low bits of the address range")


class Semaphore(
    Packet,
    words=3,
    op=7,
    dialects=ALL,
    source=V4 + "SDMA_PKT_SEMAPHORE",
    unsupported=NO_SEMAPHORES,
):
    """Wait for a semaphore in memory, or signal it."""

    write_one: bool = bits(0, 29, 29, "write 1, do not increment", default=0, kind=bool)
    signal: bool = bits(0, 30, 30, "signal, do not wait", default=0, kind=bool)
    mailbox: bool = bits(0, 31, 31, "use the mailbox", default=0, kind=bool)
    address: int = u64(1, "of the semaphore", role=Role(uses="address", length=8, access="rw"))


class SemaphoreIncrement(
    Packet,
    words=3,
    op=7,
    sub=1,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_MEM_INCR",
    unsupported=NO_SEMAPHORES,
):
    """Increment 64 bits in memory."""

    address: int = bits(
        1, 63, 3, "8-byte aligned", shift=3, role=Role(uses="address", length=8, access="rw")
    )
    mall: int = bits(0, 27, 26, "memory-attached last level policy", default=0)


class SemaphoreIncrementV5(
    Packet,
    words=3,
    op=7,
    sub=1,
    dialects=V5_V6,
    concept="SemaphoreIncrement",
    source=V6 + "SDMA_PKT_MEM_INCR, PAL gfx10DmaCmdBuffer.cpp SDMA_SUBOP_MEM_INCR",
    unsupported=NO_SEMAPHORES,
):
    """Increment 64 bits in memory."""

    address: int = bits(
        1, 63, 3, "8-byte aligned", shift=3, role=Role(uses="address", length=8, access="rw")
    )
    l2_policy: int = bits(0, 25, 24, "L2 policy, when cpv", default=0)
    llc_policy: int = bits(0, 26, 26, "last level cache policy, when cpv", default=0)
    cpv: bool = bits(0, 28, 28, "cache policies are valid", default=0, kind=bool)
