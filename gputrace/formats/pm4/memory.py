"""PM4 packets that move data: register writes, memory writes, copies, atomics."""

from gputrace.bits import Role, bits, tail, u32, u64
from gputrace.formats.operations import AtomicOperation, Compare
from gputrace.formats.pm4.enums import (
    AtomicCommand,
    CopyFrom,
    CopyTo,
    DmaFrom,
    DmaTo,
    WaitSpace,
    WriteTo,
)
from gputrace.formats.pm4.packet import (
    ALL,
    GFX10_UP,
    GFX11_UP,
    PM4_GFX11,
    PM4_GFX12,
    UP_TO_GFX11,
    Type3,
)

POLICY = "`CachePolicy`; gfx12: `Temporal`"
SH_BASE = 0x2C00  # dword number of the first shader register (nvd.h PACKET3_SET_SH_REG_START)
UCONFIG_BASE = 0xC000  # of the first user config register (nvd.h PACKET3_SET_UCONFIG_REG_START)
CONFIG_BASE = 0x2000  # of the first config register (nvd.h PACKET3_SET_CONFIG_REG_START)


class SetShReg(Type3, words=2, op=0x76, dialects=ALL, source="nvd.h PACKET3_SET_SH_REG"):
    """Write consecutive shader registers, such as COMPUTE_*."""

    offset: int = bits(1, 15, 0, "dword number of the first, minus 0x2c00")
    vmid_shift: int = bits(1, 27, 23, "where a VMID is inserted", default=0)
    index: int = bits(1, 31, 28, "1: insert the VMID", default=0)
    values: tuple[int, ...] = tail("one dword for each register")

    @property
    def register(self) -> int:
        """Absolute dword number of the first register."""
        return SH_BASE + self.offset


class SetUconfigReg(Type3, words=2, op=0x79, dialects=ALL, source="nvd.h PACKET3_SET_UCONFIG_REG"):
    """Write consecutive user config registers, such as GRBM_GFX_INDEX."""

    offset: int = bits(1, 15, 0, "dword number of the first, minus 0xc000")
    values: tuple[int, ...] = tail("one dword for each register")

    @property
    def register(self) -> int:
        """Absolute dword number of the first register."""
        return UCONFIG_BASE + self.offset


class WriteData(
    Type3,
    words=4,
    op=0x37,
    dialects=UP_TO_GFX11,
    source="nvd.h PACKET3_WRITE_DATA, PAL MEC_WRITE_DATA",
):
    """Write dwords from the packet to memory or registers."""

    dst_sel: WriteTo = bits(1, 11, 8, "where to", default=WriteTo.MEMORY, kind=WriteTo)
    one_address: bool = bits(1, 16, 16, "every dword to one address", default=0, kind=bool)
    wr_confirm: bool = bits(1, 20, 20, "wait until written", default=1, kind=bool)
    policy: int = bits(1, 26, 25, POLICY, default=0)
    engine_sel: int = bits(1, 31, 30, "graphics rings only", default=0)
    address: int = u64(
        2,
        "byte address, or register dword number",
        role=Role(uses="address", length="written", access="w"),
    )
    data: tuple[int, ...] = tail("dwords to write")

    @property
    def written(self) -> int:
        """Bytes of memory that are written; 0 when the target is not memory."""
        if self.dst_sel not in (WriteTo.MEMORY_SYNC, WriteTo.L2, WriteTo.MEMORY):
            return 0
        return 4 if self.one_address else 4 * len(self.data)


class WriteDataGfx12(
    WriteData,
    op=0x37,
    dialects=(PM4_GFX12,),
    concept="WriteData",
    source="nvd.h PACKET3_WRITE_DATA, PAL gfx12 MEC_WRITE_DATA",
):
    """Write dwords from the packet to memory or registers."""

    mode: int = bits(1, 21, 21, "register addressing mode", default=0)
    aid_id: int = bits(1, 24, 23, "die whose registers are meant", default=0)


class CopyData(
    Type3,
    words=6,
    op=0x40,
    dialects=UP_TO_GFX11,
    source="Mesa sid.h PKT3_COPY_DATA, PAL MEC_COPY_DATA",
):
    """Copy 32 or 64 bits between memory, registers, counters, clocks and an immediate."""

    src_sel: CopyFrom = bits(1, 3, 0, "where from", kind=CopyFrom)
    dst_sel: CopyTo = bits(1, 11, 8, "where to", kind=CopyTo)
    src_policy: int = bits(1, 14, 13, POLICY, default=0)
    count_sel: bool = bits(1, 16, 16, "copy 64 bits, not 32", default=0, kind=bool)
    wr_confirm: bool = bits(1, 20, 20, "wait until written", default=1, kind=bool)
    dst_policy: int = bits(1, 26, 25, POLICY, default=0)
    pq_exe_status: int = bits(1, 29, 29, "queue execution status", default=0)
    source: int = u64(
        2,
        "byte address, register dword number or immediate",
        default=0,
        role=Role(uses="address", length="read"),
    )
    destination: int = u64(
        4,
        "byte address or register dword number",
        role=Role(uses="address", length="written", access="w"),
    )

    @property
    def size(self) -> int:
        """Bytes that are copied: 4 or 8."""
        return 8 if self.count_sel else 4

    @property
    def read(self) -> int:
        """Bytes of memory read; 0 when the source is not memory."""
        return self.size if self.src_sel in (CopyFrom.MEMORY, CopyFrom.L2) else 0

    @property
    def written(self) -> int:
        """Bytes of memory written; 0 when the target is not memory."""
        return self.size if self.dst_sel in (CopyTo.MEMORY, CopyTo.L2) else 0


class CopyDataGfx12(
    CopyData,
    op=0x40,
    dialects=(PM4_GFX12,),
    concept="CopyData",
    source="Mesa sid.h PKT3_COPY_DATA, PAL gfx12 MEC_COPY_DATA",
):
    """Copy 32 or 64 bits between memory, registers, counters, clocks and an immediate."""

    mode: int = bits(1, 21, 21, "register addressing mode", default=0)
    aid_id: int = bits(1, 24, 23, "die whose registers are meant", default=0)


class DmaData(
    Type3, words=7, op=0x50, dialects=ALL, source="nvd.h PACKET3_DMA_DATA, PAL MEC_DMA_DATA"
):
    """Copy bytes, or fill them with a dword, by the engine's own DMA."""

    engine: int = bits(1, 0, 0, "graphics rings only", default=0)
    src_policy: int = bits(1, 14, 13, POLICY, default=0)
    dst_sel: DmaTo = bits(1, 21, 20, "where to", default=DmaTo.L2, kind=DmaTo)
    dst_policy: int = bits(1, 26, 25, POLICY, default=0)
    src_sel: DmaFrom = bits(1, 30, 29, "where from", default=DmaFrom.L2, kind=DmaFrom)
    cp_sync: bool = bits(1, 31, 31, "graphics rings only", default=0, kind=bool)
    source: int = u64(
        2, "byte address, or the dword to fill with", role=Role(uses="address", length="read")
    )
    destination: int = u64(
        4, "byte address", role=Role(uses="address", length="written", access="w")
    )
    byte_count: int = bits(6, 25, 0, "bytes (not minus one)")
    sas: bool = bits(6, 26, 26, "source is registers; gfx9", default=0, kind=bool)
    das: bool = bits(6, 27, 27, "target is registers; gfx9", default=0, kind=bool)
    saic: bool = bits(6, 28, 28, "do not increment the source", default=0, kind=bool)
    daic: bool = bits(6, 29, 29, "do not increment the target", default=0, kind=bool)
    raw_wait: bool = bits(6, 30, 30, "wait for earlier DMA writes", default=0, kind=bool)
    dis_wc: bool = bits(6, 31, 31, "do not wait for write confirm", default=0, kind=bool)

    @property
    def read(self) -> int:
        """Bytes of memory read; 0 when the source is not memory."""
        memory = self.src_sel in (DmaFrom.ADDRESS, DmaFrom.L2) and not self.sas
        return min(4, self.byte_count) if memory and self.saic else self.byte_count * memory

    @property
    def written(self) -> int:
        """Bytes of memory written; 0 when the target is not memory."""
        memory = self.dst_sel in (DmaTo.ADDRESS, DmaTo.L2) and not self.das
        return min(4, self.byte_count) if memory and self.daic else self.byte_count * memory


class AtomicMem(
    Type3, words=9, op=0x1E, dialects=ALL, source="Mesa pkt3.json ATOMIC_MEM, PAL MEC_ATOMIC_MEM"
):
    """Do an atomic operation on 32 or 64 bits of memory, once or until a compare succeeds."""

    atomic: AtomicOperation = bits(1, 6, 0, "what to do", kind=AtomicOperation)
    command: AtomicCommand = bits(
        1, 11, 8, "how to go on", default=AtomicCommand.SINGLE_PASS, kind=AtomicCommand
    )
    policy: int = bits(1, 26, 25, POLICY, default=0)
    address: int = u64(2, "operand", role=Role(uses="address", length="size", access="rw"))
    source: int = u64(4, "operand from the packet")
    compare: int = u64(6, "for compare and swap, and for the loop", default=0)
    loop_interval: int = bits(8, 12, 0, "clocks between tries", default=10)

    @property
    def size(self) -> int:
        """Bytes of the operand: 4 or 8."""
        return 8 if self.atomic & 32 else 4


class AtomicGds(
    Type3,
    words=11,
    op=0x1D,
    dialects=UP_TO_GFX11,
    source="nvd.h PACKET3_ATOMIC_GDS",
    unsupported="global data share is not modelled",
):
    """Do an atomic operation on the global data share."""


class CondWrite(
    Type3, words=9, op=0x45, dialects=ALL, source="nvd.h PACKET3_COND_WRITE, PAL MEC_COND_WRITE"
):
    """Write a dword to memory or a register when another compares true; does not wait."""

    function: Compare = bits(1, 2, 0, "(value & mask) against reference", kind=Compare)
    poll_space: WaitSpace = bits(
        1, 4, 4, "what `poll_address` names", default=WaitSpace.MEMORY, kind=WaitSpace
    )
    write_space: int = bits(1, 9, 8, "0 register, 1 memory, 2 scratch", default=1)
    wr_confirm: bool = bits(1, 20, 20, "wait until written", default=1, kind=bool)
    poll_address: int = u64(
        2, "byte address, or register dword number", role=Role(uses="address", length="polled")
    )
    reference: int = u32(4, "value compared with")
    mask: int = u32(5, "bits compared", default=0xFFFFFFFF)
    write_address: int = u64(
        6,
        "byte address, or register dword number",
        role=Role(uses="address", length="written", access="w"),
    )
    data: int = u32(8, "value")

    @property
    def polled(self) -> int:
        """Bytes of memory polled: 4, or 0 for a register."""
        return 4 if self.poll_space == WaitSpace.MEMORY else 0

    @property
    def written(self) -> int:
        """Bytes of memory written: 4, or 0 for a register."""
        return 4 if self.write_space == 1 else 0


class DmaDataFillMulti(
    Type3,
    words=7,
    op=0x9A,
    dialects=GFX10_UP,
    source="PAL MEC_DMA_DATA_FILL_MULTI",
    unsupported="no client is known to send it",
):
    """Fill several places at a fixed distance."""

    memlog_clear: bool = bits(1, 10, 10, "clear the log", default=0, kind=bool)
    dst_sel: DmaTo = bits(1, 21, 20, "where to", default=DmaTo.L2, kind=DmaTo)
    dst_policy: int = bits(1, 26, 25, POLICY, default=0)
    src_sel: DmaFrom = bits(1, 30, 29, "where from", default=DmaFrom.DATA, kind=DmaFrom)
    byte_stride: int = u32(2, "from one place to the next")
    dma_count: int = u32(3, "places")
    destination: int = u64(4, "byte address", role=Role(uses="address", access="w"))
    byte_count: int = bits(6, 25, 0, "bytes for each")


class SetConfigReg(
    Type3,
    words=2,
    op=0x68,
    dialects=ALL,
    source="nvd.h PACKET3_SET_CONFIG_REG",
    unsupported="user queues may not write config registers",
):
    """Write consecutive config registers."""

    offset: int = bits(1, 15, 0, "dword number of the first, minus 0x2000")
    vmid_shift: int = bits(1, 27, 23, "where a VMID is inserted", default=0)
    index: int = bits(1, 31, 28, "1: insert the VMID", default=0)
    values: tuple[int, ...] = tail("one dword for each register")

    @property
    def register(self) -> int:
        """Absolute dword number of the first register."""
        return CONFIG_BASE + self.offset


class SetContextReg(
    Type3,
    words=2,
    op=0x69,
    dialects=ALL,
    source="nvd.h PACKET3_SET_CONTEXT_REG",
    unsupported="graphics rings only",
):
    """Write consecutive graphics context registers."""

    offset: int = bits(1, 15, 0, "dword number of the first, minus 0xa000")
    values: tuple[int, ...] = tail("one dword for each register")


class SetQueueReg(
    Type3,
    words=2,
    op=0x78,
    dialects=ALL,
    source="PAL MEC_SET_QUEUE_REG",
    unsupported="queue state belongs to the kernel",
):
    """Write registers of a queue."""

    offset: int = bits(1, 7, 0, "which register")
    defer: bool = bits(1, 15, 15, "write later", default=0, kind=bool)
    vqid: int = bits(1, 25, 16, "which queue", default=0)
    values: tuple[int, ...] = tail("one dword for each register")


class SetUconfigRegIndex(
    Type3,
    words=2,
    op=0x7A,
    dialects=ALL,
    source="nvd.h PACKET3_SET_UCONFIG_REG_INDEX, Mesa sid.h",
    unsupported="its manners concern graphics registers",
):
    """Write consecutive user config registers in the manner that the index chooses."""

    offset: int = bits(1, 15, 0, "dword number of the first, minus 0xc000")
    index: int = bits(1, 31, 28, "manner", default=0)
    values: tuple[int, ...] = tail("one dword for each register")

    @property
    def register(self) -> int:
        """Absolute dword number of the first register."""
        return UCONFIG_BASE + self.offset


class SetShRegIndex(
    Type3, words=2, op=0x9B, dialects=GFX10_UP, source="nvd.h PACKET3_SET_SH_REG_INDEX"
):
    """Write consecutive shader registers; index 3 masks with the kernel's compute units."""

    offset: int = bits(1, 15, 0, "dword number of the first, minus 0x2c00")
    vmid_shift: int = bits(1, 27, 23, "where a VMID is inserted", default=0)
    index: int = bits(1, 31, 28, "3: AND with the compute unit mask", default=3)
    values: tuple[int, ...] = tail("one dword for each register")

    @property
    def register(self) -> int:
        """Absolute dword number of the first register."""
        return SH_BASE + self.offset


class _Pairs(Type3, source="Mesa pkt3.json"):
    """What the pair packets share."""

    reset_filter_cam: bool = bits(0, 2, 2, "forget filtered writes", default=0, kind=bool)
    pairs: tuple[int, ...] = tail("offset, value, offset, value, ...")


class SetShRegPairs(
    _Pairs, op=0xBA, dialects=(PM4_GFX12,), source="Mesa pkt3.json SET_SH_REG_PAIRS, PAL gfx12"
):
    """Write shader registers anywhere: offset from 0x2c00 and value by turns."""


class SetUconfigRegPairs(
    _Pairs,
    op=0xBE,
    dialects=(PM4_GFX12,),
    source="Mesa pkt3.json SET_UCONFIG_REG_PAIRS",
    unsupported="no client of a compute queue is known to send it",
):
    """Write user config registers anywhere: offset from 0xc000 and value by turns."""


class SetShRegPairsPacked(
    Type3,
    words=2,
    op=0xBB,
    dialects=(PM4_GFX11,),
    source="Mesa pkt3.json SET_SH_REG_PAIRS_PACKED, PAL MEC header",
    unsupported="needs register shadowing, which compute queues do not have",
):
    """Write an even number of shader registers: two offsets in a dword, then two values."""

    reset_filter_cam: bool = bits(0, 2, 2, "forget filtered writes", default=0, kind=bool)
    register_count: int = bits(1, 15, 0, "registers, even")
    pairs: tuple[int, ...] = tail("offsets, value, value, ...")


class SetShRegPairsPackedN(
    SetShRegPairsPacked,
    op=0xBD,
    dialects=GFX11_UP,
    source="Mesa pkt3.json SET_SH_REG_PAIRS_PACKED_N, PAL MEC header",
    unsupported="needs register shadowing, which compute queues do not have",
):
    """Write at most 14 shader registers: two offsets in a dword, then two values."""


class SetShRegPairsPackedGfx12(
    SetShRegPairsPacked,
    op=0xBC,
    dialects=(PM4_GFX12,),
    concept="SetShRegPairsPacked",
    source="PAL gfx12_merged_pm4_it_opcodes.h IT_SET_SH_REG_PAIRS_PACKED, MEC header",
    unsupported="needs register shadowing, which compute queues do not have",
):
    """Write an even number of shader registers: two offsets in a dword, then two values."""


class LoadShRegIndex(
    Type3,
    words=5,
    op=0x63,
    dialects=GFX10_UP,
    source="nvd.h PACKET3_LOAD_SH_REG_INDEX, PAL MEC header",
    unsupported="register shadowing is not modelled",
):
    """Load shader registers from memory."""

    index: int = bits(1, 1, 0, "0 direct, 2 indirect")
    address: int = bits(1, 63, 2, "of the values", shift=2, role=Role(uses="address"))
    offset: int = bits(3, 15, 0, "dword number of the first, minus 0x2c00")
    data_format: int = bits(3, 31, 31, "0 offset and size, 1 pairs of offset and data", default=0)
    registers: int = bits(4, 13, 0, "how many")
