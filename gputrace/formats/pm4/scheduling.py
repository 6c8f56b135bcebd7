"""PM4 packets by which the kernel maps queues; a user queue never sends them."""

from gputrace.bits import Role, bits, u32, u64
from gputrace.formats.pm4.packet import ALL, PM4_GFX9, PM4_GFX10, Type3

SOURCE = "kfd_pm4_headers_ai.h "
KERNEL = "kernel scheduling queues only"


class SetResources(
    Type3,
    words=8,
    op=0xA0,
    dialects=ALL,
    source=SOURCE + "struct pm4_mes_set_resources",
    unsupported=KERNEL,
):
    """Tell the scheduler which queues and resources it may use."""

    vmid_mask: int = bits(1, 15, 0, "address spaces")
    unmap_latency: int = bits(1, 23, 16, "time allowed for unmapping")
    queue_type: int = bits(1, 31, 29, "for whom")
    queue_mask: int = u64(2, "queues")
    gws_mask: int = u64(4, "global wave sync")
    oac_mask: int = bits(6, 15, 0, "ordered append counters")
    gds_heap_base: int = bits(7, 9, 0, "global data share")
    gds_heap_size: int = bits(7, 20, 11, "global data share")


class MapProcess(
    Type3,
    words=16,
    op=0xA1,
    dialects=(PM4_GFX9, PM4_GFX10),
    source=SOURCE + "struct pm4_mes_map_process",
    unsupported=KERNEL,
):
    """Give the scheduler a process."""

    pasid: int = bits(1, 15, 0, "process")
    cleaner_shader: bool = bits(1, 17, 17, "wipe before", default=0, kind=bool)
    debug_vmid: int = bits(1, 21, 18, "address space that is debugged", default=0)
    new_debug: bool = bits(1, 22, 22, "debugging begins", default=0, kind=bool)
    diq: bool = bits(1, 24, 24, "has a debug queue", default=0, kind=bool)
    quantum: int = bits(1, 31, 25, "time slice", default=0)
    page_table_base: int = u64(2, "page table")
    sh_mem_bases: int = u32(4, "SH_MEM_BASES")
    sh_mem_config: int = u32(5, "SH_MEM_CONFIG")
    trap_base: int = u64(6, "trap handler")
    trap_memory: int = u64(8, "trap handler's data")
    gds_address: int = u64(11, "global data share", default=0)
    num_gws: int = bits(13, 6, 0, "global wave sync", default=0)
    sdma_enable: bool = bits(13, 7, 7, "has SDMA queues", default=0, kind=bool)
    num_oac: int = bits(13, 11, 8, "ordered append counters", default=0)
    num_queues: int = bits(13, 31, 22, "queues", default=0)
    completion_signal: int = u64(14, "signal", default=0, role=Role(uses="address"))


class MapQueues(
    Type3,
    words=7,
    op=0xA2,
    dialects=ALL,
    source=SOURCE + "struct pm4_mes_map_queues",
    unsupported=KERNEL,
):
    """Give the scheduler a queue."""

    extended_engine_sel: int = bits(1, 3, 2, "engine group", default=0)
    queue_sel: int = bits(1, 5, 4, "how the slot is chosen")
    gws_control_queue: bool = bits(1, 12, 12, "controls wave sync", default=0, kind=bool)
    queue_type: int = bits(1, 23, 21, "what kind")
    engine_sel: int = bits(1, 28, 26, "0 compute, 2 and 3 SDMA")
    num_queues: int = bits(1, 31, 29, "how many")
    check_disable: bool = bits(2, 1, 1, "skip checks", default=0, kind=bool)
    doorbell_offset: int = bits(2, 27, 2, "doorbell")
    mqd_address: int = u64(3, "queue descriptor", role=Role(uses="address"))
    wptr_address: int = u64(5, "write pointer", role=Role(uses="address"))


class UnmapQueues(
    Type3,
    words=6,
    op=0xA3,
    dialects=ALL,
    source=SOURCE + "struct pm4_mes_unmap_queues",
    unsupported=KERNEL,
):
    """Take queues from the scheduler."""

    action: int = bits(1, 1, 0, "0 preempt, 1 reset, 2 disable process")
    extended_engine_sel: int = bits(1, 3, 2, "engine group", default=0)
    queue_sel: int = bits(1, 5, 4, "0 listed, 1 of a process, 2 all, 3 all that are not static")
    engine_sel: int = bits(1, 28, 26, "0 compute, 2 and 3 SDMA")
    num_queues: int = bits(1, 31, 29, "how many are listed")
    pasid_or_doorbell_0: int = u32(2, "process, or first doorbell", default=0)
    doorbell_1: int = u32(3, "doorbell", default=0)
    doorbell_2: int = u32(4, "doorbell", default=0)
    doorbell_3: int = u32(5, "doorbell", default=0)


class QueryStatus(
    Type3,
    words=7,
    op=0xA4,
    dialects=ALL,
    source=SOURCE + "struct pm4_mes_query_status",
    unsupported=KERNEL,
):
    """Write a value when the scheduler has done all that was asked before."""

    context_id: int = bits(1, 27, 0, "interrupt context")
    interrupt_sel: int = bits(1, 29, 28, "when to interrupt")
    command: int = bits(1, 31, 30, "what is asked")
    pasid_or_doorbell: int = u32(2, "process, or doorbell and engine", default=0)
    address: int = u64(3, "where the value goes", role=Role(uses="address", length=8, access="w"))
    data: int = u64(5, "value")


class RunList(
    Type3,
    words=4,
    op=0xA5,
    dialects=(PM4_GFX9, PM4_GFX10),
    source=SOURCE + "struct pm4_mes_runlist",
    unsupported=KERNEL,
):
    """Give the scheduler the buffer that lists all processes and queues."""

    address: int = u64(1, "of the list", role=Role(uses="address", access="x"))
    dwords_there: int = bits(3, 19, 0, "length in dwords")
    chain: bool = bits(3, 20, 20, "a further list follows", default=0, kind=bool)
    offload_polling: bool = bits(3, 21, 21, "let another engine poll", default=0, kind=bool)
    chained_idle_disable: bool = bits(3, 22, 22, "do not idle between", default=0, kind=bool)
    valid: bool = bits(3, 23, 23, "the list may run", default=1, kind=bool)
    process_count: int = bits(3, 27, 24, "processes")
