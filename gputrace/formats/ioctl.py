"""Every ioctl of /dev/kfd: argument structs, request numbers, flags and mmap offsets.

Field names are the kernel's own. Unless a declaration says otherwise its source is the Linux
header `include/uapi/linux/kfd_ioctl.h` (interface 1.17, Linux 6.12).
Padding is not named: its bits are kept as unknown bits, so that nothing a client passes gets lost.

How the roles of pointer fields are to be read: `points` names what lies behind the pointer
("gpu", "queue", "bit", "byte", "dword" or the name of a record in this module), `count` the
field that counts those things, `length` the field that gives the size in bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from types import MappingProxyType

from gputrace.bits import Record, Role, bits, s32, tail, u32, u64

OUT = Role(out=True)
GPU = Role(uses="gpu")
EVENT = Role(uses="event")
QUEUE = Role(uses="queue")

PROCESS_DOORBELL_BYTES = 8192
"""Bytes of doorbells that a process has on one GPU: 1024 slots of 8 bytes (kfd_doorbell.c)."""
EVENT_SLOTS = 4096
"""Signal events of a process (KFD_SIGNAL_EVENT_LIMIT), each with 8 bytes of the event page."""
EVENT_PAGE_BYTES = EVENT_SLOTS * 8
UNSIGNALLED = 0xFFFF_FFFF_FFFF_FFFF
"""What a slot of the event page holds while its event is not signalled (kfd_events.h)."""
FIRST_NONSIGNAL_EVENT = 0x4000_0000
"""First id of an event that has no slot (kfd_events.h KFD_FIRST_NONSIGNAL_EVENT_ID)."""
MIN_RING_BYTES = 1024
"""A smaller ring is raised to this, KFD_MIN_QUEUE_RING_SIZE."""
MAX_QUEUE_PERCENTAGE = 100
MAX_QUEUE_PRIORITY = 15
WAIT_FOREVER = 0xFFFF_FFFF
"""The timeout of WAIT_EVENTS that never ends."""
INTERFACE_VERSION = (1, 17)
"""The interface version that the structs of this module describe."""


class QueueType(IntEnum):
    """What a queue executes: KFD_IOC_QUEUE_TYPE_*."""

    COMPUTE = 0
    SDMA = 1
    COMPUTE_AQL = 2
    SDMA_XGMI = 3
    SDMA_BY_ENG_ID = 4


_QUEUE_NAMES = ("PM4 compute", "SDMA", "AQL compute", "SDMA over links", "SDMA of one engine")


def queue_name(kind: int) -> str:
    """Name a type of queues for people; a type that is not known by its number."""
    return _QUEUE_NAMES[kind] if 0 <= kind < len(_QUEUE_NAMES) else f"type {kind}"


class EventType(IntEnum):
    """What raises an event: KFD_IOC_EVENT_*."""

    SIGNAL = 0
    NODECHANGE = 1
    DEVICESTATECHANGE = 2
    HW_EXCEPTION = 3
    SYSTEM_EVENT = 4
    DEBUG_EVENT = 5
    PROFILE_EVENT = 6
    QUEUE_EVENT = 7
    MEMORY = 8


class WaitResult(IntEnum):
    """How a wait ended: KFD_IOC_WAIT_RESULT_*."""

    COMPLETE = 0
    TIMEOUT = 1
    FAIL = 2


class MemoryErrorType(IntEnum):
    """`MemoryExceptionData.ErrorType`: KFD_MEM_ERR_*."""

    NO_RAS = 0
    SRAM_ECC = 1
    POISON_CONSUMED = 2
    GPU_HANG = 3


class ResetType(IntEnum):
    """`HwExceptionData.reset_type`: KFD_HW_EXCEPTION_*_RESET."""

    WHOLE_GPU = 0
    PER_ENGINE = 1


class ResetCause(IntEnum):
    """`HwExceptionData.reset_cause`."""

    GPU_HANG = 0
    ECC = 1


class CachePolicy(IntEnum):
    """KFD_IOC_CACHE_POLICY_*."""

    COHERENT = 0
    NONCOHERENT = 1


class AllocFlag(IntFlag):
    """Type and attributes of an allocation: KFD_IOC_ALLOC_MEM_FLAGS_*.

    The kernel tests the types in the order VRAM, GTT, USERPTR, DOORBELL, MMIO_REMAP.
    """

    VRAM = 1 << 0
    GTT = 1 << 1
    USERPTR = 1 << 2
    DOORBELL = 1 << 3
    MMIO_REMAP = 1 << 4
    CONTIGUOUS = 1 << 23
    EXT_COHERENT = 1 << 24
    UNCACHED = 1 << 25
    COHERENT = 1 << 26
    AQL_QUEUE_MEM = 1 << 27
    NO_SUBSTITUTE = 1 << 28
    PUBLIC = 1 << 29
    EXECUTABLE = 1 << 30
    WRITABLE = 1 << 31


class SvmOp(IntEnum):
    """enum kfd_ioctl_svm_op."""

    SET_ATTR = 0
    GET_ATTR = 1


class SvmAttr(IntEnum):
    """enum kfd_ioctl_svm_attr_type."""

    PREFERRED_LOC = 0
    PREFETCH_LOC = 1
    ACCESS = 2
    ACCESS_IN_PLACE = 3
    NO_ACCESS = 4
    SET_FLAGS = 5
    CLR_FLAGS = 6
    GRANULARITY = 7


class SvmFlag(IntFlag):
    """KFD_IOCTL_SVM_FLAG_*."""

    HOST_ACCESS = 0x01
    COHERENT = 0x02
    HIVE_LOCAL = 0x04
    GPU_RO = 0x08
    GPU_EXEC = 0x10
    GPU_READ_MOSTLY = 0x20
    GPU_ALWAYS_MAPPED = 0x40
    EXT_COHERENT = 0x80


SVM_LOCATION_SYSMEM = 0
SVM_LOCATION_UNDEFINED = 0xFFFF_FFFF


class SmiEvent(IntEnum):
    """enum kfd_smi_event; event n is bit n - 1 of the mask written to the SMI descriptor."""

    VMFAULT = 1
    THERMAL_THROTTLE = 2
    GPU_PRE_RESET = 3
    GPU_POST_RESET = 4
    MIGRATE_START = 5
    MIGRATE_END = 6
    PAGE_FAULT_START = 7
    PAGE_FAULT_END = 8
    QUEUE_EVICTION = 9
    QUEUE_RESTORE = 10
    UNMAP_FROM_GPU = 11
    ALL_PROCESS = 64


SMI_MESSAGE_BYTES = 96
"""Longest line of the SMI descriptor, KFD_SMI_EVENT_MSG_SIZE."""


class CriuOp(IntEnum):
    """enum kfd_criu_op."""

    PROCESS_INFO = 0
    CHECKPOINT = 1
    UNPAUSE = 2
    RESTORE = 3
    RESUME = 4


class DbgTrapOp(IntEnum):
    """enum kfd_dbg_trap_operations."""

    ENABLE = 0
    DISABLE = 1
    SEND_RUNTIME_EVENT = 2
    SET_EXCEPTIONS_ENABLED = 3
    SET_WAVE_LAUNCH_OVERRIDE = 4
    SET_WAVE_LAUNCH_MODE = 5
    SUSPEND_QUEUES = 6
    RESUME_QUEUES = 7
    SET_NODE_ADDRESS_WATCH = 8
    CLEAR_NODE_ADDRESS_WATCH = 9
    SET_FLAGS = 10
    QUERY_DEBUG_EVENT = 11
    QUERY_EXCEPTION_INFO = 12
    GET_QUEUE_SNAPSHOT = 13
    GET_DEVICE_SNAPSHOT = 14


class ExceptionCode(IntEnum):
    """enum kfd_dbg_trap_exception_code; code n is bit n - 1 of an exception mask."""

    QUEUE_WAVE_ABORT = 1
    QUEUE_WAVE_TRAP = 2
    QUEUE_WAVE_MATH_ERROR = 3
    QUEUE_WAVE_ILLEGAL_INSTRUCTION = 4
    QUEUE_WAVE_MEMORY_VIOLATION = 5
    QUEUE_WAVE_APERTURE_VIOLATION = 6
    QUEUE_PACKET_DISPATCH_DIM_INVALID = 16
    QUEUE_PACKET_DISPATCH_GROUP_SEGMENT_SIZE_INVALID = 17
    QUEUE_PACKET_DISPATCH_CODE_INVALID = 18
    QUEUE_PACKET_RESERVED = 19
    QUEUE_PACKET_UNSUPPORTED = 20
    QUEUE_PACKET_DISPATCH_WORK_GROUP_SIZE_INVALID = 21
    QUEUE_PACKET_DISPATCH_REGISTER_INVALID = 22
    QUEUE_PACKET_VENDOR_UNSUPPORTED = 23
    QUEUE_PREEMPTION_ERROR = 30
    QUEUE_NEW = 31
    DEVICE_QUEUE_DELETE = 32
    DEVICE_MEMORY_VIOLATION = 33
    DEVICE_RAS_ERROR = 34
    DEVICE_FATAL_HALT = 35
    DEVICE_NEW = 36
    PROCESS_RUNTIME = 48
    PROCESS_DEVICE_REMOVE = 49

    @property
    def mask(self) -> int:
        """Give the bit of this code in an exception mask (KFD_EC_MASK)."""
        return 1 << (self - 1)


class RuntimeMode(IntFlag):
    """Bits of `RuntimeEnable.mode_mask`: KFD_RUNTIME_ENABLE_MODE_*."""

    ENABLE = 1
    TTMP_SAVE = 2


# --- version, queues ------------------------------------------------------------------------------


class GetVersion(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_get_version_args"):
    """Ask for the version of the interface."""

    major_version: int = u32(0, "1 since the first release", default=0, role=OUT)
    minor_version: int = u32(1, "grows with each addition", default=0, role=OUT)


class CreateQueue(Record, words=24, source="kfd_ioctl.h struct kfd_ioctl_create_queue_args"):
    """Make a user queue out of buffers that are already mapped.

    The header calls both pointers "from KFD", but the kernel reads them (kfd_chardev.c
    set_queue_properties_from_user). Before 1.17 the struct ended after `ctl_stack_size`.
    """

    ring_base_address: int = u64(
        0, "where the ring begins", role=Role(uses="address", length="ring_size", access="r")
    )
    write_pointer_address: int = u64(
        2, "where the client keeps the write pointer", role=Role(uses="address", access="rw")
    )
    read_pointer_address: int = u64(
        4, "where the engine reports how far it has fetched", role=Role(uses="address", access="rw")
    )
    doorbell_offset: int = u64(
        6, "mmap offset of the process' doorbells plus the byte of this one", default=0, role=OUT
    )
    ring_size: int = u32(8, "bytes; power of two or 0")
    gpu_id: int = u32(9, role=GPU)
    queue_type: QueueType = bits(10, 31, 0, kind=QueueType)
    queue_percentage: int = bits(11, 7, 0, "0 to 100; 0 stops the queue", default=100)
    target_xcc: int = bits(11, 15, 8, "the XCC that runs a PM4 queue (KFD 1.14)", default=0)
    queue_priority: int = u32(12, "0 to 15", default=7)
    queue_id: int = u32(
        13, "the lowest that is free in the process", default=0, role=Role(makes="queue", out=True)
    )
    eop_buffer_address: int = u64(
        14, "end-of-pipe buffer of a compute queue",
        default=0, role=Role(uses="address", length="eop_buffer_size", access="rw")
    )
    eop_buffer_size: int = u64(16, "bytes", default=0)
    ctx_save_restore_address: int = u64(
        18, "where waves are saved when the queue is preempted",
        default=0, role=Role(uses="address", length="ctx_save_restore_size", access="rw")
    )
    ctx_save_restore_size: int = u32(20, "bytes for one XCC, without the debug area", default=0)
    ctl_stack_size: int = u32(21, "bytes of the above that are control stack", default=0)
    sdma_engine_id: int = u32(22, "engine of an SDMA_BY_ENG_ID queue", default=0)
    metadata_ring_size: int = u32(23, "bytes (KFD 1.22); padding before", default=0)


class DestroyQueue(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_destroy_queue_args"):
    """Stop a queue and forget it."""

    queue_id: int = u32(0, role=Role(uses="queue", destroys=True))


class UpdateQueue(Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_update_queue_args"):
    """Change ring, share or priority of a queue; a ring at 0 stops it."""

    ring_base_address: int = u64(
        0, "the new ring; 0 stops the queue",
        default=0, role=Role(uses="address", length="ring_size", access="r")
    )
    queue_id: int = u32(2, role=QUEUE)
    ring_size: int = u32(3, "bytes", default=0)
    queue_percentage: int = bits(4, 7, 0, "0 to 100", default=100)
    target_xcc: int = bits(4, 15, 8, "the XCC that runs a PM4 queue", default=0)
    queue_priority: int = u32(5, "0 to 15", default=7)


class SetCuMask(Record, words=4, source="kfd_ioctl.h struct kfd_ioctl_set_cu_mask_args"):
    """Restrict a queue to some compute units."""

    queue_id: int = u32(0, role=QUEUE)
    num_cu_mask: int = u32(1, "bits of the mask, a multiple of 32")
    cu_mask_ptr: int = u64(
        2, "one bit for each compute unit, engines taking turns",
        role=Role(points="bit", count="num_cu_mask", access="r")
    )


class GetQueueWaveState(
    Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_get_queue_wave_state_args"
):
    """Copy the control stack of a stopped queue and say how much of its save area is in use."""

    ctl_stack_address: int = u64(
        0, "where the copy goes", role=Role(points="byte", length="ctl_stack_used_size", access="w")
    )
    ctl_stack_used_size: int = u32(2, "bytes", default=0, role=OUT)
    save_area_used_size: int = u32(3, "bytes", default=0, role=OUT)
    queue_id: int = u32(4, role=QUEUE)


class AllocQueueGws(Record, words=4, source="kfd_ioctl.h struct kfd_ioctl_alloc_queue_gws_args"):
    """Give global wave sync barriers to a queue."""

    queue_id: int = u32(0, role=QUEUE)
    num_gws: int = u32(1, "barriers wanted; 0 gives them back")
    first_gws: int = u32(2, "always 0", default=0, role=OUT)


# --- process, apertures, clocks -------------------------------------------------------------------


class GetAvailableMemory(
    Record, words=4, source="kfd_ioctl.h struct kfd_ioctl_get_available_memory_args"
):
    """Ask how many bytes of VRAM can still be allocated."""

    available: int = u64(0, "bytes", default=0, role=OUT)
    gpu_id: int = u32(2, role=GPU)


class SetMemoryPolicy(
    Record, words=8, source="kfd_ioctl.h struct kfd_ioctl_set_memory_policy_args"
):
    """Choose cache policies; without effect on gfx9 and later, apart from the flag word."""

    alternate_aperture_base: int = u64(0, "where the alternate policy begins to hold", default=0)
    alternate_aperture_size: int = u64(2, "bytes", default=0)
    gpu_id: int = u32(4, role=GPU)
    default_policy: CachePolicy = bits(
        5, 31, 0, "everywhere else", kind=CachePolicy, default=CachePolicy.COHERENT
    )
    alternate_policy: CachePolicy = bits(
        6, 31, 0, "in the aperture", kind=CachePolicy, default=CachePolicy.COHERENT
    )
    misc_process_flag: int = u32(7, "bit 0: high precision MFMA (KFD 1.18)", default=0)


class GetClockCounters(
    Record, words=10, source="kfd_ioctl.h struct kfd_ioctl_get_clock_counters_args"
):
    """Read the clocks of the GPU and of the system at one moment."""

    gpu_clock_counter: int = u64(0, "ticks of the GPU's own clock", default=0, role=OUT)
    cpu_clock_counter: int = u64(2, "ns, raw monotonic clock", default=0, role=OUT)
    system_clock_counter: int = u64(4, "ns since boot", default=0, role=OUT)
    system_clock_freq: int = u64(6, "Hz", default=0, role=OUT)
    gpu_id: int = u32(8, role=GPU)


class ProcessDeviceApertures(
    Record, words=14, source="kfd_ioctl.h struct kfd_process_device_apertures"
):
    """Address ranges of one GPU; limits are the last byte."""

    lds_base: int = u64(0, "flat addresses from here on are LDS", default=0)
    lds_limit: int = u64(2, "last byte", default=0)
    scratch_base: int = u64(4, "flat addresses from here on are scratch", default=0)
    scratch_limit: int = u64(6, "last byte", default=0)
    gpuvm_base: int = u64(8, "first address for buffers", default=0)
    gpuvm_limit: int = u64(10, "last byte", default=0)
    gpu_id: int = u32(12, default=0, role=GPU)


class GetProcessApertures(
    Record, words=100, source="kfd_ioctl.h struct kfd_ioctl_get_process_apertures_args"
):
    """Ask for the apertures of up to seven GPUs, inline: word 0 starts `ProcessDeviceApertures`."""

    num_of_nodes: int = u32(98, "entries that were filled in", default=0, role=OUT)


class GetProcessAperturesNew(
    Record, words=4, source="kfd_ioctl.h struct kfd_ioctl_get_process_apertures_new_args"
):
    """Ask for the apertures of all GPUs, or with `num_of_nodes` 0 only for their number."""

    kfd_process_device_apertures_ptr: int = u64(
        0,
        default=0,
        role=Role(points="ProcessDeviceApertures", count="num_of_nodes", access="w"),
    )
    num_of_nodes: int = u32(2, "space in, number of GPUs out", default=0, role=OUT)


class AcquireVm(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_acquire_vm_args"):
    """Adopt the address space of an open render node for the process on one GPU."""

    drm_fd: int = u32(0, "an open render node of the same GPU", role=Role(uses="fd"))
    gpu_id: int = u32(1, role=GPU)


class SetScratchBackingVa(
    Record, words=4, source="kfd_ioctl.h struct kfd_ioctl_set_scratch_backing_va_args"
):
    """Set the scratch backing of the process; only without hardware scheduling."""

    va_addr: int = u64(0, "of the backing memory", role=Role(uses="address", access="rw"))
    gpu_id: int = u32(2, role=GPU)


class GetTileConfig(Record, words=10, source="kfd_ioctl.h struct kfd_ioctl_get_tile_config_args"):
    """Read the tiling tables of the GPU."""

    tile_config_ptr: int = u64(
        0, "GB_TILE_MODE registers",
        default=0, role=Role(points="dword", count="num_tile_configs", access="w")
    )
    macro_tile_config_ptr: int = u64(
        2, "GB_MACROTILE_MODE registers",
        default=0, role=Role(points="dword", count="num_macro_tile_configs", access="w")
    )
    num_tile_configs: int = u32(4, "space in, number out", default=0, role=OUT)
    num_macro_tile_configs: int = u32(5, "space in, number out", default=0, role=OUT)
    gpu_id: int = u32(6, role=GPU)
    gb_addr_config: int = u32(7, "the register GB_ADDR_CONFIG", default=0, role=OUT)
    num_banks: int = u32(8, "NOOFBANK of the register MC_ARB_RAMCFG", default=0, role=OUT)
    num_ranks: int = u32(9, "NOOFRANKS of the register MC_ARB_RAMCFG", default=0, role=OUT)


class SetTrapHandler(Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_set_trap_handler_args"):
    """Install a trap handler of the process."""

    tba_addr: int = u64(0, "code", role=Role(uses="address", access="x"))
    tma_addr: int = u64(2, "data", default=0, role=Role(uses="address", access="rw"))
    gpu_id: int = u32(4, role=GPU)


class SetXnackMode(Record, words=1, source="kfd_ioctl.h struct kfd_ioctl_set_xnack_mode_args"):
    """Turn retry of page faults on (1) or off (0), or ask (negative)."""

    xnack_enabled: int = s32(0, "1 on, 0 off, negative: ask", default=-1, role=OUT)


class RuntimeEnable(Record, words=4, source="kfd_ioctl.h struct kfd_ioctl_runtime_enable_args"):
    """Tell the kernel, for debuggers, that a runtime has started or ended."""

    r_debug: int = u64(0, "CPU address of the runtime's r_debug", default=0)
    mode_mask: RuntimeMode = u32(2, kind=RuntimeMode, default=RuntimeMode(0))
    capabilities_mask: int = u32(
        3, "what the kernel supports of it", default=0, role=OUT
    )


# --- memory ---------------------------------------------------------------------------------------


class AllocMemoryOfGpu(
    Record, words=10, source="kfd_ioctl.h struct kfd_ioctl_alloc_memory_of_gpu_args"
):
    """Make a buffer and give it a GPU address; it is not mapped yet."""

    va_addr: int = u64(0, role=Role(uses="address", length="size", access="rw"))
    size: int = u64(2, "bytes")
    handle: int = u64(4, "gpu_id << 32 | index", default=0, role=Role(makes="buffer", out=True))
    mmap_offset: int = u64(
        6, "CPU address of a user pointer in; offset on the render node out", default=0, role=OUT
    )
    gpu_id: int = u32(8, role=GPU)
    flags: AllocFlag = u32(9, kind=AllocFlag)


class FreeMemoryOfGpu(
    Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_free_memory_of_gpu_args"
):
    """Free a buffer that is mapped on no GPU any more."""

    handle: int = u64(0, role=Role(uses="buffer", destroys=True))


class MapMemoryToGpu(Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_map_memory_to_gpu_args"):
    """Map a buffer on GPUs; returns when their page tables are written."""

    handle: int = u64(0, role=Role(uses="buffer"))
    device_ids_array_ptr: int = u64(2, role=Role(points="gpu", count="n_devices", access="r"))
    n_devices: int = u32(4, "length of the array")
    n_success: int = u32(5, "GPUs done, from the start of the array", default=0, role=OUT)


class UnmapMemoryFromGpu(
    Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_unmap_memory_from_gpu_args"
):
    """Unmap a buffer from GPUs."""

    handle: int = u64(0, role=Role(uses="buffer"))
    device_ids_array_ptr: int = u64(2, role=Role(points="gpu", count="n_devices", access="r"))
    n_devices: int = u32(4, "length of the array")
    n_success: int = u32(5, "GPUs done, from the start of the array", default=0, role=OUT)


class GetDmabufInfo(Record, words=8, source="kfd_ioctl.h struct kfd_ioctl_get_dmabuf_info_args"):
    """Ask what lies behind a dma-buf."""

    size: int = u64(0, "bytes", default=0, role=OUT)
    metadata_ptr: int = u64(
        2, "what the exporter has put beside the buffer",
        default=0, role=Role(points="byte", length="metadata_size", access="w")
    )
    metadata_size: int = u32(4, "space in, size out, bytes", default=0, role=OUT)
    gpu_id: int = u32(5, "where the buffer was made", default=0, role=Role(uses="gpu", out=True))
    flags: AllocFlag = u32(
        6, "as it was allocated: VRAM or GTT, and more",
        kind=AllocFlag, default=AllocFlag(0), role=OUT
    )
    dmabuf_fd: int = u32(7, role=Role(uses="fd"))


class ImportDmabuf(Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_import_dmabuf_args"):
    """Make a buffer from a dma-buf and give it a GPU address."""

    va_addr: int = u64(0, role=Role(uses="address", access="rw"))
    handle: int = u64(2, default=0, role=Role(makes="buffer", out=True))
    gpu_id: int = u32(4, role=GPU)
    dmabuf_fd: int = u32(5, role=Role(uses="fd"))


class ExportDmabuf(Record, words=4, source="kfd_ioctl.h struct kfd_ioctl_export_dmabuf_args"):
    """Make a dma-buf of a buffer."""

    handle: int = u64(0, role=Role(uses="buffer"))
    flags: int = u32(2, "open flags of the new descriptor", default=0)
    dmabuf_fd: int = u32(3, default=0, role=Role(makes="fd", out=True))


class SvmAttribute(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_svm_attribute"):
    """One attribute of a shared virtual memory range."""

    type: SvmAttr = bits(0, 31, 0, kind=SvmAttr)
    value: int = u32(1, "gpu_id, location, flags or log2 of pages, by type", default=0)


class Svm(Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_svm_args"):
    """Set or get attributes of an address range; the attributes follow the header."""

    start_addr: int = u64(0, "page aligned", role=Role(uses="address", length="size", access="rw"))
    size: int = u64(2, "bytes, whole pages")
    op: SvmOp = bits(4, 31, 0, kind=SvmOp)
    nattr: int = u32(5, "number of attributes")
    attributes: tuple[int, ...] = tail("pairs of SvmAttribute.type and value")


# --- events ---------------------------------------------------------------------------------------


class CreateEvent(Record, words=8, source="kfd_ioctl.h struct kfd_ioctl_create_event_args"):
    """Make an event; the first one may bring the event page of the process."""

    event_page_offset: int = u64(
        0, "handle of the event page in, or its mmap offset out", default=0, role=OUT
    )
    event_trigger_data: int = u32(2, "what the GPU writes: the id", default=0, role=OUT)
    event_type: EventType = bits(3, 31, 0, kind=EventType, default=EventType.SIGNAL)
    auto_reset: int = u32(4, "1: a waiter consumes the event", default=0)
    node_id: int = u32(5, "only for some types", default=0)
    event_id: int = u32(6, default=0, role=Role(makes="event", out=True))
    event_slot_index: int = u32(7, "slot of the event page: the id", default=0, role=OUT)


class DestroyEvent(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_destroy_event_args"):
    """Forget an event; its waiters fail."""

    event_id: int = u32(0, role=Role(uses="event", destroys=True))


class SetEvent(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_set_event_args"):
    """Signal an event from the CPU."""

    event_id: int = u32(0, role=EVENT)


class ResetEvent(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_reset_event_args"):
    """Take a signal back."""

    event_id: int = u32(0, role=EVENT)


class WaitEvents(Record, words=6, source="kfd_ioctl.h struct kfd_ioctl_wait_events_args"):
    """Wait for one or all of several events."""

    events_ptr: int = u64(0, role=Role(points="EventData", count="num_events", access="rw"))
    num_events: int = u32(2, "length of the array")
    wait_for_all: int = u32(3, "1: all of them, 0: any", default=0)
    timeout: int = u32(4, "ms; 0 polls, 0xffffffff never ends", default=WAIT_FOREVER)
    wait_result: WaitResult = bits(5, 31, 0, kind=WaitResult, default=WaitResult.COMPLETE, role=OUT)


class EventData(Record, words=12, source="kfd_ioctl.h struct kfd_event_data"):
    """One event of a wait; words 0 to 7 are data by the event's type, see `EVENT_DATA`."""

    kfd_event_data_ext: int = u64(8, "pointer to an extension", default=0)
    event_id: int = u32(10, "what is waited for", role=EVENT)


class MemoryExceptionData(
    Record,
    words=12,
    source="kfd_ioctl.h struct kfd_hsa_memory_exception_data",
):
    """What a MEMORY event tells about the access that failed."""

    NotPresent: int = u32(0, "1: no page is mapped there", default=0)
    ReadOnly: int = u32(1, "1: a write to a page without write permission", default=0)
    NoExecute: int = u32(2, "1: a fetch from a page without permission to execute", default=0)
    imprecise: int = u32(3, "1: the address may not be the one that failed", default=0)
    va: int = u64(4, "address of the page", default=0, role=Role(uses="address", out=True))
    gpu_id: int = u32(6, default=0, role=GPU)
    ErrorType: MemoryErrorType = bits(
        7, 31, 0, kind=MemoryErrorType, default=MemoryErrorType.NO_RAS
    )
    kfd_event_data_ext: int = u64(8, "pointer to an extension", default=0)
    event_id: int = u32(10, role=EVENT)


class HwExceptionData(
    Record, words=12, source="kfd_ioctl.h struct kfd_hsa_hw_exception_data in struct kfd_event_data"
):
    """What a HW_EXCEPTION event tells about the reset."""

    reset_type: ResetType = bits(0, 31, 0, kind=ResetType, default=ResetType.WHOLE_GPU)
    reset_cause: ResetCause = bits(1, 31, 0, kind=ResetCause, default=ResetCause.GPU_HANG)
    memory_lost: int = u32(2, "1: contents of VRAM are lost", default=0)
    gpu_id: int = u32(3, default=0, role=GPU)
    kfd_event_data_ext: int = u64(8, "pointer to an extension", default=0)
    event_id: int = u32(10, role=EVENT)


class SignalEventData(
    Record, words=12, source="kfd_ioctl.h struct kfd_hsa_signal_event_data in struct kfd_event_data"
):
    """Age of a SIGNAL event (KFD 1.14); 0 turns ageing off."""

    last_event_age: int = u64(
        0, "age last seen in, age now out; a newer one ends the wait at once", default=0, role=OUT
    )
    kfd_event_data_ext: int = u64(8, "pointer to an extension", default=0)
    event_id: int = u32(10, role=EVENT)


EVENT_DATA: Mapping[EventType, type[Record]] = MappingProxyType(
    {
        EventType.SIGNAL: SignalEventData,
        EventType.MEMORY: MemoryExceptionData,
        EventType.HW_EXCEPTION: HwExceptionData,
    }
)
"""How the data of an event is laid out, for the types that have any; all are 48 bytes."""


class SmiEvents(Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_smi_events_args"):
    """Open a descriptor that reports what happens to a GPU."""

    gpuid: int = u32(0, role=GPU)
    anon_fd: int = u32(
        1, "reads lines of text; a mask of events is written to it",
        default=0, role=Role(makes="fd", out=True)
    )


# --- checkpoints, debugging -----------------------------------------------------------------------


class Criu(
    Record,
    words=14,
    source="kfd_ioctl.h struct kfd_ioctl_criu_args",
    unsupported="needs the kernel",
):
    """Checkpoint or restore another process."""

    devices: int = u64(0, default=0, role=Role(points="CriuDeviceBucket", count="num_devices"))
    bos: int = u64(2, default=0, role=Role(points="CriuBoBucket", count="num_bos"))
    priv_data: int = u64(
        4, "the driver's own state, which only the driver reads",
        default=0, role=Role(points="byte", length="priv_data_size")
    )
    priv_data_size: int = u64(6, "bytes", default=0)
    num_devices: int = u32(8, "length of `devices`", default=0)
    num_bos: int = u32(9, "length of `bos`", default=0)
    num_objects: int = u32(10, "queues, events and SVM ranges beside the buffers", default=0)
    pid: int = u32(11, "process that is saved or restored", default=0)
    op: CriuOp = bits(12, 31, 0, kind=CriuOp)


class CriuDeviceBucket(Record, words=4, source="kfd_ioctl.h struct kfd_criu_device_bucket"):
    """One GPU of a checkpoint."""

    user_gpu_id: int = u32(0, "as the process knows it", role=GPU)
    actual_gpu_id: int = u32(1, "as the kernel knows it", role=GPU)
    drm_fd: int = u32(2, "render node of the GPU", default=0, role=Role(uses="fd"))


class CriuBoBucket(Record, words=12, source="kfd_ioctl.h struct kfd_criu_bo_bucket"):
    """One buffer of a checkpoint."""

    addr: int = u64(0, role=Role(uses="address", length="size"))
    size: int = u64(2, "bytes")
    offset: int = u64(4, "mmap offset when it was saved", default=0)
    restored_offset: int = u64(6, "mmap offset after the restore", default=0)
    gpu_id: int = u32(8, role=GPU)
    alloc_flags: AllocFlag = u32(9, "as it was allocated", kind=AllocFlag, default=AllocFlag(0))
    dmabuf_fd: int = u32(
        10, "through which the contents are copied", default=0, role=Role(uses="fd")
    )


class DbgTrap(
    Record,
    words=8,
    source="kfd_ioctl.h struct kfd_ioctl_dbg_trap_args",
    unsupported="debugging of another process needs its kernel state",
):
    """Control another process as a debugger; words 2 to 7 depend on the operation."""

    pid: int = u32(0, "the process that is debugged")
    op: DbgTrapOp = bits(1, 31, 0, kind=DbgTrapOp)
    payload_0: int = u64(2, "by the operation", default=0)
    payload_1: int = u64(4, "by the operation", default=0)
    payload_2: int = u64(6, "by the operation", default=0)


class ContextSaveHeader(Record, words=10, source="kfd_ioctl.h struct kfd_context_save_area_header"):
    """The first bytes of each XCC's save area; offsets count from this header."""

    control_stack_offset: int = u32(0, "to the lowest byte of the control stack", default=0)
    control_stack_size: int = u32(1, "bytes in use", default=0)
    wave_state_offset: int = u32(
        2, "to the lowest byte of the waves' state", default=0
    )
    wave_state_size: int = u32(3, "bytes in use", default=0)
    debug_offset: int = u32(4, "bytes to the memory of the debugger", default=0)
    debug_size: int = u32(5, "bytes of it", default=0)
    err_payload_addr: int = u64(
        6, "where the cause of an error is written",
        default=0, role=Role(uses="address", access="rw")
    )
    err_event_id: int = u32(8, "the event that is set then", default=0, role=EVENT)


REFUSED = "the kernel refuses it with EPERM; DBG_TRAP took its place"


class DbgRegister(
    Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_dbg_register_args", unsupported=REFUSED
):
    """Attach the old debugger interface."""

    gpu_id: int = u32(0, role=GPU)


class DbgUnregister(
    Record, words=2, source="kfd_ioctl.h struct kfd_ioctl_dbg_unregister_args", unsupported=REFUSED
):
    """Detach the old debugger interface."""

    gpu_id: int = u32(0, role=GPU)


class DbgAddressWatch(
    Record,
    words=4,
    source="kfd_ioctl.h struct kfd_ioctl_dbg_address_watch_args",
    unsupported=REFUSED,
):
    """Set watch points by the old debugger interface."""

    content_ptr: int = u64(0, role=Role(points="byte", length="buf_size_in_bytes", access="r"))
    gpu_id: int = u32(2, role=GPU)
    buf_size_in_bytes: int = u32(3, "of the content")


class DbgWaveControl(
    Record,
    words=4,
    source="kfd_ioctl.h struct kfd_ioctl_dbg_wave_control_args",
    unsupported=REFUSED,
):
    """Control waves by the old debugger interface."""

    content_ptr: int = u64(0, role=Role(points="byte", length="buf_size_in_bytes", access="r"))
    gpu_id: int = u32(2, role=GPU)
    buf_size_in_bytes: int = u32(3, "of the content")


# --- interfaces outside the upstream header of 1.17 -----------------------------------------------

_DKMS = "only the out-of-tree driver has it"


class Profiler(
    Record,
    words=4,
    source="amd-gfx patches: struct kfd_ioctl_profiler_args",
    unsupported="the layout still differs between kernel trees",
):
    """Ask for profiling resources (KFD 1.23)."""

    op: int = u32(0, "0 PMC, 1 PC sampling, 2 version, 3 PTL")


class IpcImportHandle(
    Record, words=12, source="ROCm DKMS struct kfd_ioctl_ipc_import_handle_args", unsupported=_DKMS
):
    """Import a buffer of another process."""


class IpcExportHandle(
    Record, words=8, source="ROCm DKMS struct kfd_ioctl_ipc_export_handle_args", unsupported=_DKMS
):
    """Export a buffer to other processes."""


class DbgTrapDkms(
    Record,
    words=10,
    source="ROCm DKMS struct kfd_ioctl_dbg_trap_args_deprecated",
    unsupported=_DKMS,
):
    """Control another process by an interface that is older than DBG_TRAP."""


class CrossMemoryCopy(
    Record, words=12, source="ROCm DKMS struct kfd_ioctl_cross_memory_copy_args", unsupported=_DKMS
):
    """Copy between the memories of two processes."""


class RlcSpm(Record, words=8, source="ROCm DKMS struct kfd_ioctl_spm_args", unsupported=_DKMS):
    """Stream performance counters."""


class PcSample(
    Record, words=8, source="ROCm DKMS struct kfd_ioctl_pc_sample_args", unsupported=_DKMS
):
    """Sample program counters."""


class ProfilerDkms(
    Record, words=10, source="ROCm DKMS struct kfd_ioctl_profiler_args", unsupported=_DKMS
):
    """Ask for profiling resources by the out-of-tree driver."""


# --- request numbers ------------------------------------------------------------------------------


class Direction(IntFlag):
    """Who writes the argument: _IOC_WRITE (the caller) and _IOC_READ (the kernel)."""

    NONE = 0
    W = 1
    R = 2
    RW = 3


@dataclass(frozen=True, slots=True)
class Ioctl:
    """One ioctl of /dev/kfd. `record` is None when it takes no argument."""

    nr: int
    name: str
    direction: Direction
    record: type[Record] | None
    unsupported: str = ""

    @property
    def size(self) -> int:
        """Give the bytes of the argument, without a variable tail."""
        return self.record.WORDS * 4 if self.record is not None else 0

    @property
    def request(self) -> int:
        """Give the request word for an argument without a tail."""
        return self.request_for(self.size)

    def request_for(self, size: int) -> int:
        """Give the request word for an argument of `size` bytes (asm-generic/ioctl.h _IOC)."""
        if not 0 <= size < 1 << 14:
            raise ValueError(f"{self.name}: an argument has at most 16383 bytes, not {size}")
        return self.direction << 30 | size << 16 | MAGIC << 8 | self.nr


MAGIC = ord("K")
"""The type letter of every request, AMDKFD_IOCTL_BASE."""

_R, _W, _RW = Direction.R, Direction.W, Direction.RW

_TABLE: tuple[tuple[int, str, Direction, type[Record] | None], ...] = (
    (0x01, "GET_VERSION", _R, GetVersion),
    (0x02, "CREATE_QUEUE", _RW, CreateQueue),
    (0x03, "DESTROY_QUEUE", _RW, DestroyQueue),
    (0x04, "SET_MEMORY_POLICY", _W, SetMemoryPolicy),
    (0x05, "GET_CLOCK_COUNTERS", _RW, GetClockCounters),
    (0x06, "GET_PROCESS_APERTURES", _R, GetProcessApertures),
    (0x07, "UPDATE_QUEUE", _W, UpdateQueue),
    (0x08, "CREATE_EVENT", _RW, CreateEvent),
    (0x09, "DESTROY_EVENT", _W, DestroyEvent),
    (0x0A, "SET_EVENT", _W, SetEvent),
    (0x0B, "RESET_EVENT", _W, ResetEvent),
    (0x0C, "WAIT_EVENTS", _RW, WaitEvents),
    (0x0D, "DBG_REGISTER_DEPRECATED", _W, DbgRegister),
    (0x0E, "DBG_UNREGISTER_DEPRECATED", _W, DbgUnregister),
    (0x0F, "DBG_ADDRESS_WATCH_DEPRECATED", _W, DbgAddressWatch),
    (0x10, "DBG_WAVE_CONTROL_DEPRECATED", _W, DbgWaveControl),
    (0x11, "SET_SCRATCH_BACKING_VA", _RW, SetScratchBackingVa),
    (0x12, "GET_TILE_CONFIG", _RW, GetTileConfig),
    (0x13, "SET_TRAP_HANDLER", _W, SetTrapHandler),
    (0x14, "GET_PROCESS_APERTURES_NEW", _RW, GetProcessAperturesNew),
    (0x15, "ACQUIRE_VM", _W, AcquireVm),
    (0x16, "ALLOC_MEMORY_OF_GPU", _RW, AllocMemoryOfGpu),
    (0x17, "FREE_MEMORY_OF_GPU", _W, FreeMemoryOfGpu),
    (0x18, "MAP_MEMORY_TO_GPU", _RW, MapMemoryToGpu),
    (0x19, "UNMAP_MEMORY_FROM_GPU", _RW, UnmapMemoryFromGpu),
    (0x1A, "SET_CU_MASK", _W, SetCuMask),
    (0x1B, "GET_QUEUE_WAVE_STATE", _RW, GetQueueWaveState),
    (0x1C, "GET_DMABUF_INFO", _RW, GetDmabufInfo),
    (0x1D, "IMPORT_DMABUF", _RW, ImportDmabuf),
    (0x1E, "ALLOC_QUEUE_GWS", _RW, AllocQueueGws),
    (0x1F, "SMI_EVENTS", _RW, SmiEvents),
    (0x20, "SVM", _RW, Svm),
    (0x21, "SET_XNACK_MODE", _RW, SetXnackMode),
    (0x22, "CRIU_OP", _RW, Criu),
    (0x23, "AVAILABLE_MEMORY", _RW, GetAvailableMemory),
    (0x24, "EXPORT_DMABUF", _RW, ExportDmabuf),
    (0x25, "RUNTIME_ENABLE", _RW, RuntimeEnable),
    (0x26, "DBG_TRAP", _RW, DbgTrap),
    (0x27, "CREATE_PROCESS", Direction.NONE, None),
    (0x28, "PROFILER", _RW, Profiler),
    (0x80, "IPC_IMPORT_HANDLE", _RW, IpcImportHandle),
    (0x81, "IPC_EXPORT_HANDLE", _RW, IpcExportHandle),
    (0x82, "DBG_TRAP_DEPRECATED", _RW, DbgTrapDkms),
    (0x83, "CROSS_MEMORY_COPY", _RW, CrossMemoryCopy),
    (0x84, "RLC_SPM", _RW, RlcSpm),
    (0x85, "PC_SAMPLE", _RW, PcSample),
    (0x86, "PROFILER_DKMS", _RW, ProfilerDkms),
)

_NO_RECORD = "newer than the interface described here (KFD 1.19)"


def _ioctl(nr: int, name: str, direction: Direction, record: type[Record] | None) -> Ioctl:
    unsupported = _NO_RECORD if record is None else record.UNSUPPORTED
    return Ioctl(nr, name, direction, record, unsupported)


IOCTLS: Mapping[int, Ioctl] = MappingProxyType({row[0]: _ioctl(*row) for row in _TABLE})
"""Every ioctl by number."""

BY_RECORD: Mapping[type[Record], Ioctl] = MappingProxyType(
    {ioctl.record: ioctl for ioctl in IOCTLS.values() if ioctl.record is not None}
)
"""The ioctl that takes a record."""

RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {record.__name__: record for record in BY_RECORD}
)
"""Every ioctl's record by its name, as traces have it."""


def by_request(request: int) -> Ioctl | None:
    """Find the ioctl of a request word, or None; as the kernel does, by type and number only."""
    return IOCTLS.get(request & 0xFF) if request >> 8 & 0xFF == MAGIC else None


def request_size(request: int) -> int:
    """Give the argument bytes that a request word announces."""
    return request >> 16 & 0x3FFF


def request_of(record: Record) -> int:
    """Give the request word for one argument, its tail included (SVM)."""
    return BY_RECORD[type(record)].request_for(record.dwords * 4)


# --- mmap offsets ---------------------------------------------------------------------------------


class MmapType(IntEnum):
    """What an mmap of /dev/kfd maps: bits 63:62 of the offset (kfd_priv.h KFD_MMAP_TYPE_*)."""

    MMIO = 0
    RESERVED_MEM = 1
    EVENTS = 2
    DOORBELL = 3


MMAP_BYTES: Mapping[MmapType, int] = MappingProxyType(
    {
        MmapType.MMIO: 4096,
        MmapType.RESERVED_MEM: 8192,
        MmapType.EVENTS: EVENT_PAGE_BYTES,
        MmapType.DOORBELL: PROCESS_DOORBELL_BYTES,
    }
)
"""Bytes of each mapping: exact, but for EVENTS, where it is the most."""

HDP_MEM_FLUSH = 0
"""Byte in the MMIO page that flushes host writes to VRAM (KFD_MMIO_REMAP_HDP_MEM_FLUSH_CNTL)."""
HDP_REG_FLUSH = 4
"""Byte in the MMIO page, KFD_MMIO_REMAP_HDP_REG_FLUSH_CNTL."""


@dataclass(frozen=True, slots=True)
class MmapOffset:
    """The offset of an mmap on /dev/kfd: type in bits 63:62, gpu_id in 61:46, bytes below."""

    type: MmapType
    gpu_id: int = 0
    offset: int = 0

    def encode(self) -> int:
        """Give the 64-bit offset; ValueError when a part does not fit."""
        if not 0 <= self.gpu_id < 1 << 16:
            raise ValueError(f"a gpu_id in an mmap offset has 16 bits, not {self.gpu_id:#x}")
        if not 0 <= self.offset < 1 << 46:
            raise ValueError(f"bytes in an mmap offset have 46 bits, not {self.offset:#x}")
        return self.type << 62 | self.gpu_id << 46 | self.offset

    @classmethod
    def decode(cls, value: int) -> "MmapOffset":
        """Split a 64-bit offset, given signed or unsigned."""
        value &= (1 << 64) - 1
        return cls(MmapType(value >> 62), value >> 46 & 0xFFFF, value & (1 << 46) - 1)


def doorbell_parts(doorbell_offset: int) -> tuple[int, int]:
    """Split what CREATE_QUEUE returns into (offset to mmap, byte of the doorbell in it)."""
    byte = doorbell_offset & (PROCESS_DOORBELL_BYTES - 1)
    return doorbell_offset - byte, byte


def pack(records: Iterable[Record]) -> bytes:
    """Join records into the array that a pointer field points to."""
    return b"".join(record.to_bytes() for record in records)
