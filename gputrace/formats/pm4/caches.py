"""PM4 packets that order work and caches: events, RELEASE_MEM, ACQUIRE_MEM."""

from gputrace.bits import Role, bits, u32, u64
from gputrace.formats.operations import CacheAction, GcrRange, GcrSequence, Gl1Range, Gl2Range
from gputrace.formats.pm4.enums import (
    Event,
    EventIndex,
    ReleaseData,
    ReleaseInterrupt,
    ReleaseTo,
)
from gputrace.formats.pm4.packet import (
    ALL,
    GFX10_UP,
    GFX11_UP,
    PM4_GFX9,
    PM4_GFX10,
    PM4_GFX11,
    PM4_GFX12,
    Type3,
)

POLICY = "`CachePolicy`; gfx12: `Temporal`"


class EventWrite(
    Type3, words=2, op=0x46, dialects=ALL, source="nvd.h PACKET3_EVENT_WRITE, PAL MEC_EVENT_WRITE"
):
    """Send an event down the pipeline; CS_PARTIAL_FLUSH waits for all earlier waves."""

    event_type: Event = bits(1, 5, 0, "which event", kind=Event)
    event_index: EventIndex = bits(1, 11, 8, "its group", default=EventIndex.OTHER, kind=EventIndex)
    pipestat_mode: int = bits(1, 30, 29, "pipeline statistics counter mode; gfx11+", default=0)
    offload_enable: bool = bits(1, 31, 31, "offload the event", default=0, kind=bool)


class EventWriteAddress(
    EventWrite,
    words=4,
    op=0x46,
    dialects=ALL,
    source="nvd.h PACKET3_EVENT_WRITE, PAL MEC_EVENT_WRITE",
    unsupported="samples of counters are not modelled",
):
    """Send an event that writes its result to memory, such as SAMPLE_PIPELINESTAT."""

    address: int = u64(2, "8-byte aligned", role=Role(uses="address", access="w"))


_RELEASE = "Mesa sid.h PKT3_RELEASE_MEM, "


class ReleaseMem(Type3, words=8, source=_RELEASE + "nvd.h PACKET3_RELEASE_MEM"):
    """When earlier work is done: flush caches, write, interrupt; what every layout has."""

    event_type: Event = bits(
        1, 5, 0, "what is waited for", default=Event.CACHE_FLUSH_AND_INV_TS_EVENT, kind=Event
    )
    event_index: EventIndex = bits(
        1, 11, 8, "its group", default=EventIndex.END_OF_PIPE, kind=EventIndex
    )
    policy: int = bits(1, 26, 25, POLICY, default=0)
    execute: bool = bits(1, 28, 28, "queue execution status", default=0, kind=bool)
    dst_sel: ReleaseTo = bits(2, 17, 16, "where to", default=ReleaseTo.MEMORY, kind=ReleaseTo)
    int_sel: ReleaseInterrupt = bits(
        2, 26, 24, "when to interrupt", default=ReleaseInterrupt.NONE, kind=ReleaseInterrupt
    )
    data_sel: ReleaseData = bits(
        2, 31, 29, "what to write", default=ReleaseData.NONE, kind=ReleaseData
    )
    address: int = u64(
        3,
        "4-byte aligned, for 64-bit data 8-byte",
        default=0,
        role=Role(uses="address", length="written", access="w"),
    )
    data: int = u64(5, "value, or what a conditional interrupt compares with", default=0)
    int_ctxid: int = u32(7, "interrupt context: the event id for KFD", default=0)

    @property
    def written(self) -> int:
        """Bytes of memory that are written: 0, 4 or 8."""
        if self.int_sel == ReleaseInterrupt.INTERRUPT_ONLY:
            return 0
        return {
            ReleaseData.LOW_32: 4,
            ReleaseData.DATA_64: 8,
            ReleaseData.GPU_CLOCK: 8,
            ReleaseData.SYSTEM_CLOCK: 8,
        }.get(self.data_sel, 0)


class ReleaseMemGfx9(
    ReleaseMem,
    op=0x49,
    dialects=(PM4_GFX9,),
    concept="ReleaseMem",
    source=_RELEASE + "kfd_pm4_headers_ai.h",
):
    """When earlier work is done: flush caches, then write a value and interrupt."""

    tcl1_vol: bool = bits(1, 12, 12, "volatile lines of vector L1 only", default=0, kind=bool)
    tc_vol: bool = bits(1, 13, 13, "volatile lines of L2 only", default=0, kind=bool)
    tc_wb: bool = bits(
        1, 15, 15, "write back L2", default=0, kind=bool, intent=CacheAction.WRITE_BACK_L2
    )
    tcl1: bool = bits(
        1,
        16,
        16,
        "invalidate vector L1",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_VECTOR,
    )
    tc: bool = bits(
        1, 17, 17, "invalidate L2", default=0, kind=bool, intent=CacheAction.INVALIDATE_L2
    )
    tc_nc: bool = bits(1, 19, 19, "non-coherent lines", default=0, kind=bool)
    tc_wc: bool = bits(1, 20, 20, "write-combined lines", default=0, kind=bool)
    tc_md: bool = bits(
        1,
        21,
        21,
        "invalidate metadata",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_METADATA,
    )


class _ReleaseMemGcr(ReleaseMem, source=_RELEASE + "nvd.h PACKET3_RELEASE_MEM"):
    """What RELEASE_MEM shares from gfx10 on."""

    glv_inv: bool = bits(
        1,
        14,
        14,
        "invalidate vector L0",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_VECTOR,
    )
    gl2_us: bool = bits(1, 16, 16, "unshared L2 lines", default=0, kind=bool)
    gl2_range: Gl2Range = bits(1, 18, 17, "which L2 lines", default=Gl2Range.ALL, kind=Gl2Range)
    gl2_discard: bool = bits(1, 19, 19, "drop dirty L2 lines", default=0, kind=bool)
    gl2_inv: bool = bits(
        1, 20, 20, "invalidate L2", default=0, kind=bool, intent=CacheAction.INVALIDATE_L2
    )
    gl2_wb: bool = bits(
        1, 21, 21, "write back L2", default=0, kind=bool, intent=CacheAction.WRITE_BACK_L2
    )
    seq: GcrSequence = bits(
        1, 23, 22, "order of the levels", default=GcrSequence.PARALLEL, kind=GcrSequence
    )
    mes_interrupt_pipe: int = bits(2, 21, 20, "pipe that a scheduler interrupt names", default=0)
    mes_action: int = bits(2, 23, 22, "tell the scheduler", default=0)


class _ReleaseMemGlm(_ReleaseMemGcr, source=_RELEASE + "nvd.h PACKET3_RELEASE_MEM"):
    """What RELEASE_MEM of gfx10 and gfx11 have beside: metadata cache and GL1."""

    glm_wb: bool = bits(
        1,
        12,
        12,
        "write back metadata",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_METADATA,
    )
    glm_inv: bool = bits(
        1,
        13,
        13,
        "invalidate metadata",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_METADATA,
    )
    gl1_inv: bool = bits(
        1, 15, 15, "invalidate GL1", default=0, kind=bool, intent=CacheAction.INVALIDATE_GL1
    )


class ReleaseMemGfx10(
    _ReleaseMemGlm,
    op=0x49,
    dialects=(PM4_GFX10,),
    concept="ReleaseMem",
    source=_RELEASE + "nvd.h PACKET3_RELEASE_MEM, PAL MEC_RELEASE_MEM",
):
    """When earlier work is done: flush caches, then write a value and interrupt."""


class ReleaseMemGfx11(
    _ReleaseMemGlm,
    op=0x49,
    dialects=(PM4_GFX11,),
    concept="ReleaseMem",
    source=_RELEASE + "PAL MEC_RELEASE_MEM",
):
    """When earlier work is done: flush caches, then write a value and interrupt."""

    wait_sync: bool = bits(1, 7, 7, "wait for the event's completion", default=0, kind=bool)
    glk_wb: bool = bits(
        1,
        24,
        24,
        "write back scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_SCALAR,
    )
    glk_inv: bool = bits(
        1,
        30,
        30,
        "invalidate scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_SCALAR,
    )
    pws_enable: bool = bits(1, 31, 31, "pixel wait sync; graphics rings", default=0, kind=bool)


class ReleaseMemGfx12(
    _ReleaseMemGcr,
    op=0x49,
    dialects=(PM4_GFX12,),
    concept="ReleaseMem",
    source=_RELEASE + "PAL gfx12 MEC_RELEASE_MEM; glm_*, gl1_inv: tinygrad ops_amd.py release_mem",
):
    """When earlier work is done: flush caches, then write a value and interrupt."""

    glm_wb: bool = bits(1, 12, 12, "of a cache that is gone", default=0, kind=bool)
    glm_inv: bool = bits(1, 13, 13, "as glm_wb", default=0, kind=bool)
    gl1_inv: bool = bits(1, 15, 15, "as glm_wb", default=0, kind=bool)

    wait_sync: bool = bits(1, 7, 7, "wait for the event's completion", default=0, kind=bool)
    glk_wb: bool = bits(
        1,
        24,
        24,
        "write back scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_SCALAR,
    )
    glk_inv: bool = bits(
        1,
        30,
        30,
        "invalidate scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_SCALAR,
    )
    pws_enable: bool = bits(1, 31, 31, "pixel wait sync; graphics rings", default=0, kind=bool)


class AcquireMemGfx9(
    Type3,
    words=7,
    op=0x58,
    dialects=(PM4_GFX9,),
    concept="AcquireMem",
    source="soc15d.h PACKET3_ACQUIRE_MEM, gfx_v9_0.c gfx_v9_0_emit_mem_sync",
):
    """Write back and invalidate caches over a range, before later work reads; waits for no wave."""

    tc_nc: bool = bits(1, 3, 3, "non-coherent lines", default=0, kind=bool)
    tc_wc: bool = bits(1, 4, 4, "write-combined lines", default=0, kind=bool)
    inv_metadata: bool = bits(
        1,
        5,
        5,
        "invalidate metadata",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_METADATA,
    )
    tcl1_vol: bool = bits(1, 15, 15, "volatile lines of vector L1 only", default=0, kind=bool)
    tc_wb: bool = bits(
        1, 18, 18, "write back L2", default=0, kind=bool, intent=CacheAction.WRITE_BACK_L2
    )
    tcl1: bool = bits(
        1,
        22,
        22,
        "invalidate vector L1",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_VECTOR,
    )
    tc: bool = bits(
        1, 23, 23, "invalidate L2", default=0, kind=bool, intent=CacheAction.INVALIDATE_L2
    )
    cb: bool = bits(1, 25, 25, "colour caches; graphics", default=0, kind=bool)
    db: bool = bits(1, 26, 26, "depth caches; graphics", default=0, kind=bool)
    sh_kcache: bool = bits(
        1,
        27,
        27,
        "invalidate scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_SCALAR,
    )
    sh_kcache_vol: bool = bits(1, 28, 28, "volatile scalar lines only", default=0, kind=bool)
    sh_icache: bool = bits(
        1,
        29,
        29,
        "invalidate instruction cache",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_INSTRUCTION,
    )
    sh_kcache_wb: bool = bits(
        1,
        30,
        30,
        "write back scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_SCALAR,
    )
    engine: int = bits(1, 31, 31, "which engine acts; graphics rings", default=0)
    size: int = bits(2, 55, 0, "bytes; all ones: everything", default=((1 << 56) - 1) << 8, shift=8)
    size_spare: int = bits(3, 31, 24, "no part of the size, yet set by who means all", default=0)
    base: int = bits(
        4, 55, 0, "first byte", default=0, shift=8, role=Role(uses="address", length="flushed")
    )
    poll_interval: int = bits(6, 15, 0, "clocks between polls", default=10)

    @property
    def flushed(self) -> int:
        """Bytes behind `base`; 0 when the whole address space is meant and `base` names nothing."""
        return 0 if self.base == 0 else self.size


class AcquireMem(
    Type3,
    words=8,
    op=0x58,
    dialects=GFX10_UP,
    source="nvd.h PACKET3_ACQUIRE_MEM, PAL MEC_ACQUIRE_MEM",
):
    """Write back and invalidate caches over a range, before later work reads; waits for no wave."""

    engine: int = bits(1, 31, 31, "which engine acts; graphics rings", default=0)
    size: int = bits(2, 39, 0, "bytes; all ones: everything", default=((1 << 40) - 1) << 8, shift=8)
    size_spare: int = bits(3, 31, 8, "no part of the size, yet set by who means all", default=0)
    base: int = bits(
        4, 55, 0, "first byte", default=0, shift=8, role=Role(uses="address", length="flushed")
    )
    poll_interval: int = bits(6, 15, 0, "clocks between polls", default=10)
    gli_inv: GcrRange = bits(
        7,
        1,
        0,
        "invalidate the instruction cache",
        default=GcrRange.NONE,
        kind=GcrRange,
        intent=CacheAction.INVALIDATE_INSTRUCTION,
    )
    gl1_range: Gl1Range = bits(7, 3, 2, "which GL1 lines", default=Gl1Range.ALL, kind=Gl1Range)
    glm_wb: bool = bits(
        7,
        4,
        4,
        "write back metadata (needs glm_inv); not on gfx12",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_METADATA,
    )
    glm_inv: bool = bits(
        7,
        5,
        5,
        "invalidate metadata; not on gfx12",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_METADATA,
    )
    glk_wb: bool = bits(
        7,
        6,
        6,
        "write back scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.WRITE_BACK_SCALAR,
    )
    glk_inv: bool = bits(
        7,
        7,
        7,
        "invalidate scalar cache",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_SCALAR,
    )
    glv_inv: bool = bits(
        7,
        8,
        8,
        "invalidate vector L0",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_VECTOR,
    )
    gl1_inv: bool = bits(
        7,
        9,
        9,
        "invalidate GL1; not on gfx12",
        default=0,
        kind=bool,
        intent=CacheAction.INVALIDATE_GL1,
    )
    gl2_us: bool = bits(7, 10, 10, "unshared L2 lines", default=0, kind=bool)
    gl2_range: Gl2Range = bits(7, 12, 11, "which L2 lines", default=Gl2Range.ALL, kind=Gl2Range)
    gl2_discard: bool = bits(7, 13, 13, "drop dirty L2 lines", default=0, kind=bool)
    gl2_inv: bool = bits(
        7, 14, 14, "invalidate L2", default=0, kind=bool, intent=CacheAction.INVALIDATE_L2
    )
    gl2_wb: bool = bits(
        7, 15, 15, "write back L2", default=0, kind=bool, intent=CacheAction.WRITE_BACK_L2
    )
    seq: GcrSequence = bits(
        7, 17, 16, "order of the levels", default=GcrSequence.PARALLEL, kind=GcrSequence
    )
    range_is_pa: bool = bits(7, 18, 18, "the range is physical", default=0, kind=bool)

    @property
    def flushed(self) -> int:
        """Bytes behind `base`; 0 when the whole address space is meant and `base` names nothing."""
        return 0 if self.base == 0 else self.size


class HdpFlush(Type3, words=2, op=0x95, dialects=GFX10_UP, source="PAL MEC header IT_HDP_FLUSH"):
    """Flush the path by which the host writes device memory."""


class InvalidateTlbs(
    Type3,
    words=2,
    op=0x98,
    dialects=ALL,
    source="nvd.h PACKET3_INVALIDATE_TLBS",
    unsupported="kernel rings only",
):
    """Drop address translations."""

    dst_sel: int = bits(1, 2, 0, "1: of the process")
    mmhub: int = bits(1, 4, 3, "which hubs beside", default=0)
    pasid: int = bits(1, 20, 5, "process")
    mmhub_flush_type: int = bits(1, 27, 25, "flush type of those hubs", default=0)
    flush_type: int = bits(1, 31, 29, "flush type", default=0)


class PrimeUtcl2(
    Type3, words=5, op=0x5D, dialects=GFX10_UP, source="PAL MEC_PRIME_UTCL2, Mesa pkt3.json"
):
    """Load address translations before they are needed."""

    permissions: int = bits(1, 2, 0, "read, write, execute")
    wait: bool = bits(1, 3, 3, "wait until done", default=0, kind=bool)
    address: int = u64(2, "of the first page", role=Role(uses="address"))
    pages: int = bits(4, 13, 0, "how many")


class Timestamp(
    Type3, words=6, op=0xB2, dialects=GFX11_UP, source="PAL MEC_TIMESTAMP, Mesa pkt3.json"
):
    """Write clocks, 64 bits each, when earlier work ends and when the packet is reached."""

    bottom: bool = bits(1, 0, 0, "write when earlier work ends", default=0, kind=bool)
    top: bool = bits(1, 1, 1, "write at once", default=0, kind=bool)
    soc_clock: bool = bits(1, 2, 2, "the system's clock, not the GPU's", default=0, kind=bool)
    bottom_address: int = u64(
        2,
        "8-byte aligned",
        default=0,
        role=Role(uses="address", length="bottom_size", access="w"),
    )
    top_address: int = u64(
        4, "8-byte aligned", default=0, role=Role(uses="address", length="top_size", access="w")
    )

    @property
    def bottom_size(self) -> int:
        """Bytes behind `bottom_address`."""
        return 8 if self.bottom else 0

    @property
    def top_size(self) -> int:
        """Bytes behind `top_address`."""
        return 8 if self.top else 0


class PerfmonControl(
    Type3,
    words=3,
    op=0x54,
    dialects=GFX10_UP,
    source="PAL MEC_PERFMON_CONTROL",
    unsupported="performance monitors are not modelled",
):
    """Choose what a performance monitor counts."""

    pmc_id: int = bits(1, 2, 0, "which counter")
    enable: bool = bits(1, 15, 15, "count", default=0, kind=bool)
    unit_mask: int = bits(1, 23, 16, "which units", default=0)
    event: int = bits(2, 13, 0, "what is counted")


class PerfCounterWindow(
    Type3,
    words=2,
    op=0x3D,
    dialects=(PM4_GFX11,),
    source="PAL MEC_PERF_COUNTER_WINDOW",
    unsupported="performance monitors are not modelled",
):
    """Begin or end a window in which performance counters count."""

    operation: int = bits(1, 1, 0, "what to do")


class PerfCounterWindowGfx12(
    PerfCounterWindow,
    op=0x3D,
    dialects=(PM4_GFX12,),
    concept="PerfCounterWindow",
    source="PAL gfx12 MEC_PERF_COUNTER_WINDOW",
    unsupported="performance monitors are not modelled",
):
    """Begin or end a window in which performance counters count."""

    operation: int = bits(1, 2, 0, "what to do")


class RunCleanerShader(
    Type3,
    words=2,
    op=0xD2,
    dialects=ALL,
    source="nvd.h PACKET3_RUN_CLEANER_SHADER",
    unsupported="kernel rings only",
):
    """Wipe registers and local memory between processes."""
