"""PM4 packets that steer the stream: padding, waits, indirect buffers, conditions, dispatches."""

from gputrace.bits import Role, bits, tail, u32, u64
from gputrace.formats.operations import Compare
from gputrace.formats.pm4.enums import WaitOperation, WaitSpace
from gputrace.formats.pm4.packet import (
    ALL,
    GFX10_UP,
    PM4_GFX9,
    PM4_GFX10,
    PM4_GFX12,
    Type3,
)

INTERLEAVED = "the interleaved order of work-groups is not modelled"
GRAPHICS = "it serves graphics, which is not modelled"


class Nop(Type3, op=0x10, dialects=ALL, source="nvd.h PACKET3_NOP, gfx_v9_0.c insert_nop"):
    """Skip the body, whatever it holds; without a body the packet is its header alone."""

    body: tuple[int, ...] = tail("dwords that are skipped")


class DispatchDirect(
    Type3, words=5, op=0x15, dialects=ALL, source="nvd.h PACKET3_DISPATCH_DIRECT, Mesa pkt3.json"
):
    """Launch a grid with the program in the COMPUTE_* registers; waits for nothing."""

    dim_x: int = u32(1, "work-groups along x (work-items under USE_THREAD_DIMENSIONS)")
    dim_y: int = u32(2, "work-groups along y", default=1)
    dim_z: int = u32(3, "work-groups along z", default=1)
    initiator: int = u32(4, "value of COMPUTE_DISPATCH_INITIATOR")


class DispatchIndirect(
    Type3, words=4, op=0x16, dialects=ALL, source="PAL MEC_DISPATCH_INDIRECT, Mesa pkt3.json"
):
    """Launch a grid whose three dimensions are read from memory."""

    address: int = u64(1, "of three dwords: x, y, z", role=Role(uses="address", length=12))
    initiator: int = u32(3, "value of COMPUTE_DISPATCH_INITIATOR")


class DispatchDirectInterleaved(
    Type3,
    words=5,
    op=0xA7,
    dialects=(PM4_GFX12,),
    source="PAL gfx12CmdUtil.cpp CmdUtil::BuildDispatchDirect",
    unsupported=INTERLEAVED,
):
    """Launch a grid whose work-groups are spread over the shader engines by squares."""

    dim_x: int = u32(1, "work-groups along x")
    dim_y: int = u32(2, "work-groups along y", default=1)
    dim_z: int = u32(3, "work-groups along z", default=1)
    initiator: int = u32(4, "value of COMPUTE_DISPATCH_INITIATOR")


class DispatchIndirectInterleaved(
    Type3,
    words=2,
    op=0xA8,
    dialects=(PM4_GFX12,),
    source="PAL gfx12_merged_pm4_it_opcodes.h IT_DISPATCH_INDIRECT_INTERLEAVED",
    unsupported=INTERLEAVED,
):
    """Launch such a grid with dimensions from memory; its form on compute queues is not public."""

    body: tuple[int, ...] = tail("unknown")


class _Wait(Type3, words=4, source="nvd.h PACKET3_WAIT_REG_MEM, PAL MEC_WAIT_REG_MEM"):
    """What the two widths of WAIT_REG_MEM share."""

    function: Compare = bits(1, 2, 0, "(value & mask) against reference", kind=Compare)
    space: WaitSpace = bits(
        1, 5, 4, "what `address` names", default=WaitSpace.MEMORY, kind=WaitSpace
    )
    operation: WaitOperation = bits(
        1, 7, 6, "wait, or write and wait", default=WaitOperation.WAIT_REG_MEM, kind=WaitOperation
    )
    engine: int = bits(1, 8, 8, "which engine waits; graphics rings only", default=0)
    mes_interrupt_pipe: int = bits(1, 23, 22, "pipe that a scheduler interrupt names", default=0)
    mes_action: bool = bits(1, 24, 24, "tell the scheduler", default=0, kind=bool)
    policy: int = bits(1, 26, 25, "`CachePolicy`; gfx12: `Temporal`", default=0)

    @property
    def polls_memory(self) -> bool:
        """True when a memory word is polled, not a register."""
        return self.space == WaitSpace.MEMORY and self.operation != WaitOperation.WR_WAIT_WR_REG


class WaitRegMem(
    _Wait, words=7, op=0x3C, dialects=ALL, source="nvd.h PACKET3_WAIT_REG_MEM, PAL MEC_WAIT_REG_MEM"
):
    """Stall the queue until a memory dword or a register compares true.

    With WR_WAIT_WR_REG the reference is first written to `write_register`, then `poll_register`
    is polled: the flush of the host data path works so.
    """

    address: int = u64(
        2, "byte address, or register dword number", role=Role(uses="address", length="polled")
    )
    reference: int = u32(4, "value compared with")
    mask: int = u32(5, "bits compared", default=0xFFFFFFFF)
    interval: int = bits(6, 15, 0, "clocks between polls", default=4)
    optimize_ace_offload: bool = bits(
        6, 31, 31, "let the queue be parked while it waits", default=0, kind=bool
    )

    @property
    def polled(self) -> int:
        """Bytes of memory polled: 4, or 0 for a register."""
        return 4 if self.polls_memory else 0

    @property
    def write_register(self) -> int:
        """With WR_WAIT_WR_REG: dword number of the register that is written."""
        return self.address & 0xFFFFFFFF

    @property
    def poll_register(self) -> int:
        """Dword number of the register that is polled, unless memory is."""
        write_first = self.operation == WaitOperation.WR_WAIT_WR_REG
        return self.address >> 32 if write_first else self.address & 0xFFFFFFFF


class IndirectBuffer(
    Type3, words=4, op=0x3F, dialects=ALL, source="nvd.h PACKET3_INDIRECT_BUFFER, PAL"
):
    """Run packets from memory, then return; with `chain`, go there for good."""

    address: int = bits(
        1,
        63,
        2,
        "of the first packet",
        shift=2,
        role=Role(uses="address", length="size", access="x"),
    )
    dwords_there: int = bits(3, 19, 0, "length in dwords")
    chain: bool = bits(3, 20, 20, "jump, do not return", default=0, kind=bool)
    offload_polling: bool = bits(3, 21, 21, "let another engine poll", default=0, kind=bool)
    valid: bool = bits(3, 23, 23, "the packet may run", default=1, kind=bool)
    vmid: int = bits(3, 27, 24, "address space; the kernel fills it", default=0)
    policy: int = bits(3, 29, 28, "`CachePolicy`; gfx12: `Temporal`", default=0)
    inherit_vmid: bool = bits(3, 30, 30, "scheduler rings only", default=0, kind=bool)
    privileged: bool = bits(3, 31, 31, "kernel only, gfx9", default=0, kind=bool)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return 4 * self.dwords_there


class CondExec(
    Type3, words=5, op=0x22, dialects=ALL, source="Mesa sid.h PKT3_COND_EXEC, PAL MEC_COND_EXEC"
):
    """Skip the following dwords when a memory dword is zero."""

    address: int = u64(1, "of the dword", role=Role(uses="address", length=4))
    policy: int = bits(3, 26, 25, "`CachePolicy`; gfx12: `Temporal`", default=0)
    exec_count: int = bits(4, 13, 0, "dwords skipped or run")


class PredExec(
    Type3,
    words=2,
    op=0x23,
    dialects=(PM4_GFX9,),
    source="soc15d.h PACKET3_PRED_EXEC, tinygrad ops_amd.py pred_exec",
):
    """Run the following dwords only on the chosen compute dies; others skip them.

    On parts with several dies it is honoured inside indirect buffers, not in the ring itself.
    """

    exec_count: int = bits(1, 13, 0, "dwords concerned")
    xcc_select: int = bits(1, 31, 24, "one bit for each die that runs them")


class WaitRegMem64(
    _Wait, words=9, op=0x93, dialects=GFX10_UP, source="PAL MEC_WAIT_REG_MEM64, Mesa pkt3.json"
):
    """Stall the queue until 64 bits in memory or registers compare true."""

    address: int = u64(
        2, "byte address, or register dword number", role=Role(uses="address", length="polled")
    )
    reference: int = u64(4, "value compared with")
    mask: int = u64(6, "bits compared", default=(1 << 64) - 1)
    interval: int = bits(8, 15, 0, "clocks between polls", default=4)
    optimize_ace_offload: bool = bits(
        8, 31, 31, "let the queue be parked while it waits", default=0, kind=bool
    )

    @property
    def polled(self) -> int:
        """Bytes of memory polled: 8, or 0 for a register."""
        return 8 if self.polls_memory else 0


class SetBase(
    Type3,
    words=4,
    op=0x11,
    dialects=ALL,
    source="nvd.h PACKET3_SET_BASE, Mesa pkt3.json",
    unsupported="indirect bases are for graphics and work graphs",
):
    """Set a base address that later indirect packets use."""

    base_index: int = bits(1, 3, 0, "which base")
    address: int = u64(2, "base", role=Role(uses="address"))


class CondIndirectBuffer(
    Type3,
    words=14,
    op=0x3F,
    dialects=GFX10_UP,
    source="PAL MEC_COND_INDIRECT_BUFFER",
    unsupported="no client is known to send it",
):
    """Run one of two indirect buffers, by a comparison of 64 bits in memory."""

    mode: int = bits(1, 1, 0, "1 if, 2 if and else")
    function: Compare = bits(1, 10, 8, "(value & mask) against reference", kind=Compare)
    compare_address: int = u64(2, "of the 64 bits", role=Role(uses="address", length=8))
    mask: int = u64(4, "bits compared", default=(1 << 64) - 1)
    reference: int = u64(6, "value compared with")
    address_1: int = u64(8, "run when true", role=Role(uses="address", length="size_1", access="x"))
    dwords_1: int = bits(10, 19, 0, "length in dwords")
    policy_1: int = bits(10, 29, 28, "`CachePolicy`; gfx12: `Temporal`", default=0)
    address_2: int = u64(
        11, "run when false", default=0, role=Role(uses="address", length="size_2", access="x")
    )
    dwords_2: int = bits(13, 19, 0, "length in dwords", default=0)
    policy_2: int = bits(13, 29, 28, "`CachePolicy`; gfx12: `Temporal`", default=0)

    @property
    def size_1(self) -> int:
        """Length of the first buffer in bytes."""
        return 4 * self.dwords_1

    @property
    def size_2(self) -> int:
        """Length of the second buffer in bytes."""
        return 4 * self.dwords_2


class Rewind(
    Type3,
    words=2,
    op=0x59,
    dialects=ALL,
    source="nvd.h PACKET3_REWIND, Mesa pkt3.json",
    unsupported="no client of a compute queue is known to send it",
):
    """Stall until the valid bit of this very packet is set in memory."""

    offload_enable: bool = bits(1, 24, 24, "let another engine poll", default=0, kind=bool)
    valid: bool = bits(1, 31, 31, "go on", default=0, kind=bool)


class MemSemaphore(
    Type3,
    words=4,
    op=0x39,
    dialects=(PM4_GFX9, PM4_GFX10),
    source="nvd.h PACKET3_MEM_SEMAPHORE",
    unsupported="semaphores are not used by KFD clients",
):
    """Wait for a semaphore in memory, or signal it."""

    address: int = bits(
        1, 63, 3, "8-byte aligned", shift=3, role=Role(uses="address", length=8, access="rw")
    )
    use_mailbox: bool = bits(3, 16, 16, "use the mailbox", default=0, kind=bool)
    signal_type: bool = bits(3, 20, 20, "write 1, do not increment", default=0, kind=bool)
    select: int = bits(3, 31, 29, "6 signal, 7 wait")


class IndirectBufferPasid(
    Type3,
    words=5,
    op=0x5C,
    dialects=GFX10_UP,
    source="PAL MEC header IT_INDIRECT_BUFFER_PASID",
    unsupported="kernel rings only",
):
    """Run an indirect buffer in the address space of a process."""


class ContextControl(
    Type3,
    words=3,
    op=0x28,
    dialects=ALL,
    source="nvd.h PACKET3_CONTEXT_CONTROL",
    unsupported="graphics rings only",
):
    """Say which graphics state is loaded and shadowed."""


class ClearState(
    Type3,
    words=2,
    op=0x12,
    dialects=ALL,
    source="nvd.h PACKET3_CLEAR_STATE",
    unsupported="graphics rings only",
):
    """Set graphics state to its defaults."""


class PfpSyncMe(
    Type3,
    words=2,
    op=0x42,
    dialects=ALL,
    source="nvd.h PACKET3_PFP_SYNC_ME",
    unsupported="graphics rings only; it hangs a compute queue",
):
    """Let the prefetch engine wait for the other."""


class DispatchTaskStateInit(
    Type3,
    words=3,
    op=0xA9,
    dialects=GFX10_UP,
    source="PAL MEC_DISPATCH_TASK_STATE_INIT",
    unsupported=GRAPHICS,
):
    """Say where the rings between task and mesh shaders are."""

    address: int = bits(
        1, 63, 8, "256-byte aligned", shift=8, role=Role(uses="address", access="rw")
    )


class DispatchTaskmeshDirectAce(
    Type3,
    words=6,
    op=0xAA,
    dialects=GFX10_UP,
    source="PAL MEC_DISPATCH_TASKMESH_DIRECT_ACE",
    unsupported=GRAPHICS,
):
    """Launch task shaders."""

    dim_x: int = u32(1, "work-groups along x")
    dim_y: int = u32(2, "work-groups along y", default=1)
    dim_z: int = u32(3, "work-groups along z", default=1)
    initiator: int = u32(4, "value of COMPUTE_DISPATCH_INITIATOR")
    ring_entry_register: int = bits(5, 15, 0, "user register for the ring entry")


class DispatchTaskmeshIndirectMultiAce(
    Type3,
    words=11,
    op=0xAD,
    dialects=GFX10_UP,
    source="PAL MEC_DISPATCH_TASKMESH_INDIRECT_MULTI_ACE",
    unsupported=GRAPHICS,
):
    """Launch task shaders, many times, with dimensions from memory."""

    address: int = bits(1, 63, 2, "of the dimensions", shift=2, role=Role(uses="address"))
    most: int = u32(6, "most launches")
    count_address: int = bits(7, 63, 2, "of their number", shift=2, role=Role(uses="address"))
    stride: int = u32(9, "bytes from one to the next")
    initiator: int = u32(10, "value of COMPUTE_DISPATCH_INITIATOR")


class DispatchDrawPreambleAce(
    Type3,
    words=2,
    op=0x8C,
    dialects=(PM4_GFX10,),
    source="PAL MEC_DISPATCH_DRAW_PREAMBLE_ACE",
    unsupported=GRAPHICS,
):
    """Prepare draws that a compute queue culls."""


class DispatchDrawAce(
    Type3,
    words=6,
    op=0x8D,
    dialects=(PM4_GFX10,),
    source="PAL MEC_DISPATCH_DRAW_ACE",
    unsupported=GRAPHICS,
):
    """Cull a draw on a compute queue."""

    dim_x: int = u32(2, "work-groups along x")
    dim_y: int = u32(3, "work-groups along y", default=1)
    dim_z: int = u32(4, "work-groups along z", default=1)
    initiator: int = u32(5, "value of COMPUTE_DISPATCH_INITIATOR")


class ExecuteIndirectV2(
    Type3,
    words=13,
    op=0xB4,
    dialects=(PM4_GFX12,),
    source="PAL gfx12 MEC_EXECUTE_INDIRECT_V2",
    unsupported="commands made by the GPU itself are not modelled",
):
    """Run commands whose arguments are read from memory."""

    count_address: int = bits(2, 47, 2, "of their number", shift=2, role=Role(uses="address"))
    max_count: int = u32(4, "most commands")
    stride: int = u32(5, "bytes from one to the next")
    address: int = bits(6, 47, 2, "of the arguments", shift=2, role=Role(uses="address"))
    spill_table: int = bits(9, 47, 2, "spilled user data", shift=2, role=Role(uses="address"))


class WaitOnCeCounter(
    Type3,
    words=2,
    op=0x86,
    dialects=(PM4_GFX10,),
    source="PAL MEC_WAIT_ON_CE_COUNTER",
    unsupported=GRAPHICS,
):
    """Wait for the constant engine."""

    conditional_acquire: bool = bits(1, 0, 0, "acquire when needed", default=0, kind=bool)
    force_sync: bool = bits(1, 1, 1, "always wait", default=0, kind=bool)
