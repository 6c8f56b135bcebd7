"""AQL: the 64-byte packets of architected queues, and the signal and queue they refer to."""

from enum import IntEnum, IntFlag

from gputrace.bits import Record, Role, bits, s64, u8, u16, u32, u64
from gputrace.errors import DecodeError

PACKET_BYTES = 64
_HSA = "hsa.h "
_AMD = "hsa_ext_amd.h "


class PacketType(IntEnum):
    """What a slot holds (hsa.h hsa_packet_type_t)."""

    VENDOR_SPECIFIC = 0
    INVALID = 1
    KERNEL_DISPATCH = 2
    BARRIER_AND = 3
    AGENT_DISPATCH = 4
    BARRIER_OR = 5


class VendorFormat(IntEnum):
    """What an AMD vendor packet holds (hsa_ext_amd.h hsa_amd_packet_type_t; 1 from ROCr)."""

    PM4_IB = 1
    BARRIER_VALUE = 2
    AIE_ERT = 3


class FenceScope(IntEnum):
    """How far an acquire or release reaches (hsa.h hsa_fence_scope_t)."""

    NONE = 0
    AGENT = 1
    SYSTEM = 2


class SignalCondition(IntEnum):
    """How BarrierValue compares, signed 64-bit (hsa.h hsa_signal_condition_t)."""

    EQ = 0
    NE = 1
    LT = 2
    GTE = 3


class SignalKind(IntEnum):
    """What a signal is (amd_hsa_signal.h amd_signal_kind_t)."""

    INVALID = 0
    USER = 1
    DOORBELL = -1
    LEGACY_DOORBELL = -2


class QueueProperty(IntFlag):
    """Bits of AmdQueue.queue_properties (amd_hsa_queue.h amd_queue_properties_t)."""

    ENABLE_TRAP_HANDLER = 1
    IS_PTR64 = 2
    ENABLE_TRAP_HANDLER_DEBUG_SGPRS = 4
    ENABLE_PROFILING = 8
    USE_SCRATCH_ONCE = 16


class QueueError(IntFlag):
    """Codes of the queue-inactive signal (ROCr amd_aql_queue.cpp DynamicQueueEventsHandler)."""

    SCRATCH_WAVE64 = 0x1
    INVALID_DIMENSIONS = 0x2
    INVALID_GROUP_MEMORY = 0x4
    INVALID_CODE_OBJECT = 0x8
    INVALID_PACKET = 0x20
    WORK_GROUP_TOO_LARGE = 0x40
    OUT_OF_VGPRS = 0x80
    INVALID_VENDOR_PACKET = 0x100
    RECLAIM_SCRATCH = 0x200
    SCRATCH_WAVE32 = 0x400
    APERTURE_VIOLATION = 0x20000000
    ILLEGAL_INSTRUCTION = 0x40000000
    TRAP = 0x80000000
    TERMINATE = 1 << 63


class Packet(Record, words=16, source=_HSA + "hsa_packet_header_t"):
    """Any AQL packet: 16 bits of header, a body, and the signal that tells of completion."""

    type: PacketType = bits(0, 7, 0, "what the slot holds", default=1, kind=PacketType)
    barrier: bool = bits(0, 8, 8, "after all earlier packets are complete", default=0, kind=bool)
    acquire: FenceScope = bits(
        0, 10, 9, "fence before the work", default=FenceScope.NONE, kind=FenceScope
    )
    release: FenceScope = bits(
        0, 12, 11, "fence after the work", default=FenceScope.NONE, kind=FenceScope
    )
    completion_signal: int = u64(
        14,
        "address of an AmdSignal, or 0",
        default=0,
        role=Role(uses="address", length="signal_bytes", access="rw"),
    )

    @property
    def signal_bytes(self) -> int:
        """Bytes behind `completion_signal`; 0 when there is none."""
        return 64 if self.completion_signal else 0


class Invalid(Packet, fixed={"type": 1}, source=_HSA + "HSA_PACKET_TYPE_INVALID"):
    """An empty slot: the packet processor waits until its header changes."""


class KernelDispatch(Packet, fixed={"type": 2}, source=_HSA + "hsa_kernel_dispatch_packet_t"):
    """Launch a grid of work-items with the kernel that a descriptor describes."""

    dimensions: int = bits(0, 17, 16, "1 to 3")
    workgroup_size_x: int = u16(4, "work-items")
    workgroup_size_y: int = u16(6, "work-items", default=1)
    workgroup_size_z: int = u16(8, "work-items", default=1)
    grid_size_x: int = u32(3, "work-items, not groups; need not be a multiple of the group")
    grid_size_y: int = u32(4, "work-items", default=1)
    grid_size_z: int = u32(5, "work-items", default=1)
    private_segment_size: int = u32(6, "bytes of scratch for each work-item", default=0)
    group_segment_size: int = u32(7, "bytes of LDS for each group", default=0)
    kernel_object: int = u64(
        8, "address of the kernel descriptor", role=Role(uses="address", length=64)
    )
    kernarg_address: int = u64(
        10, "address of the arguments, 16-byte aligned", default=0, role=Role(uses="address")
    )


class _Barrier(Packet, source=_HSA + "hsa_barrier_and_packet_t"):
    """What the two barriers share."""

    dep_signal_0: int = u64(2, "signal, 0: unused", default=0, role=Role(uses="address"))
    dep_signal_1: int = u64(4, "signal, 0: unused", default=0, role=Role(uses="address"))
    dep_signal_2: int = u64(6, "signal, 0: unused", default=0, role=Role(uses="address"))
    dep_signal_3: int = u64(8, "signal, 0: unused", default=0, role=Role(uses="address"))
    dep_signal_4: int = u64(10, "signal, 0: unused", default=0, role=Role(uses="address"))

    @property
    def dep_signals(self) -> tuple[int, ...]:
        """The five signals, zero where unused."""
        return (
            self.dep_signal_0,
            self.dep_signal_1,
            self.dep_signal_2,
            self.dep_signal_3,
            self.dep_signal_4,
        )


class BarrierAnd(_Barrier, fixed={"type": 3}, source=_HSA + "hsa_barrier_and_packet_t"):
    """Complete when every used signal is 0."""


class BarrierOr(_Barrier, fixed={"type": 5}, source=_HSA + "hsa_barrier_or_packet_t"):
    """Complete when any used signal is 0; with none used it never completes."""


class AgentDispatch(
    Packet,
    fixed={"type": 4},
    source=_HSA + "hsa_agent_dispatch_packet_t",
    unsupported="for CPU agents; a GPU queue need not accept it",
):
    """Call a function of the agent."""

    function: int = u16(2, "function code")
    return_address: int = u64(2, "where the result goes", default=0, role=Role(uses="address"))
    arg_0: int = u64(4, "argument", default=0)
    arg_1: int = u64(6, "argument", default=0)
    arg_2: int = u64(8, "argument", default=0)
    arg_3: int = u64(10, "argument", default=0)


class Vendor(Packet, fixed={"type": 0}, source=_AMD + "hsa_amd_vendor_packet_header_t"):
    """An AMD packet; its format says what it holds."""

    format: VendorFormat = u8(2, "what the body holds", default=0, kind=VendorFormat)


class VendorPm4(Vendor, fixed={"type": 0, "format": 1}, source="ROCr amd_aql_queue.cpp ExecutePM4"):
    """Run a PM4 indirect buffer from an AQL queue."""

    ib_header: int = u32(1, "header of a PM4 INDIRECT_BUFFER", default=0xC0023F00)
    ib_address: int = bits(
        2,
        63,
        2,
        "of the first packet",
        shift=2,
        role=Role(uses="address", length="ib_bytes", access="x"),
    )
    ib_size: int = bits(4, 19, 0, "length in dwords")
    ib_chain: bool = bits(4, 20, 20, "jump, do not return", default=0, kind=bool)
    ib_valid: bool = bits(4, 23, 23, "the packet may run", default=1, kind=bool)
    remain: int = u32(5, "dwords that remain", default=10)

    @property
    def ib_bytes(self) -> int:
        """Length of the indirect buffer in bytes."""
        return 4 * self.ib_size


class BarrierValue(
    Vendor, fixed={"type": 0, "format": 2}, source=_AMD + "hsa_amd_barrier_value_packet_t"
):
    """Complete when a signal's value, after masking, compares true (signed)."""

    signal: int = u64(2, "address of an AmdSignal", role=Role(uses="address", length=64))
    value: int = s64(4, "compared with")
    value_mask: int = u64(6, "bits compared", default=(1 << 64) - 1)
    condition: SignalCondition = u32(8, "how to compare", kind=SignalCondition)


class VendorAie(
    Vendor,
    fixed={"type": 0, "format": 3},
    source=_AMD + "HSA_AMD_PACKET_TYPE_AIE_ERT",
    unsupported="for neural processors",
):
    """A command for a neural processor."""


PACKETS = (
    Invalid,
    KernelDispatch,
    BarrierAnd,
    BarrierOr,
    AgentDispatch,
    VendorPm4,
    BarrierValue,
    VendorAie,
)
_BY_TYPE = {cls.BY_NAME["type"].default: cls for cls in PACKETS if not issubclass(cls, Vendor)}
_BY_FORMAT = {cls.BY_NAME["format"].default: cls for cls in PACKETS if issubclass(cls, Vendor)}


def decode_packet(data: bytes | bytearray | memoryview, offset: int = 0) -> Packet:
    """Decode the 64 bytes at `offset`; raise DecodeError for an unknown type or format."""
    if len(data) - offset < PACKET_BYTES or offset < 0:
        raise DecodeError(
            f"AQL byte {offset}", bytes(data[max(0, offset) :][:16]), "a packet has 64 bytes"
        )
    kind, form = data[offset], data[offset + 2]
    layout: type[Packet] | None = _BY_TYPE.get(kind)
    if kind == PacketType.VENDOR_SPECIFIC:
        layout = _BY_FORMAT.get(form)
    if layout is None:
        what = f"unknown vendor format {form}" if kind == 0 else f"unknown packet type {kind}"
        raise DecodeError(f"AQL byte {offset}", bytes(data[offset : offset + 16]), what)
    return layout.from_bytes(data[offset : offset + PACKET_BYTES])


class AmdSignal(Record, words=16, source="amd_hsa_signal.h amd_signal_s"):
    """A signal: a value that packets decrement, an interrupt, and the times of the work."""

    kind: int = s64(0, "`SignalKind`", default=1)
    value: int = s64(2, "the value; for doorbell kinds the doorbell's address", default=0)
    event_mailbox_ptr: int = u64(
        4,
        "event slot that event_id is written to; 0: no interrupt",
        default=0,
        role=Role(uses="address", length=8, access="w"),
    )
    event_id: int = u32(6, "KFD event", default=0, role=Role(uses="event"))
    start_ts: int = u64(8, "GPU time when the work began", default=0)
    end_ts: int = u64(10, "GPU time when the work ended", default=0)
    queue_ptr: int = u64(12, "AmdQueue of a doorbell signal", default=0, role=Role(uses="address"))


class AmdQueue(Record, words=64, source="amd_hsa_queue.h amd_queue_v2_s"):
    """The queue as runtime and packet processor share it.

    The second form goes on for 128 x 16 bytes: the last used scratch index of each die.
    """

    type: int = u32(0, "0 many producers, 1 one, 2 cooperative", default=0)
    features: int = u32(1, "1 kernel dispatch, 2 agent dispatch", default=1)
    base_address: int = u64(2, "of the ring", default=0, role=Role(uses="address"))
    doorbell_signal: int = u64(4, "doorbell", default=0, role=Role(uses="address", length=64))
    size: int = u32(6, "packets", default=0)
    id: int = u64(8, "unique in the process", default=0)
    caps: int = u32(10, "bit 0: the device may reclaim scratch, 1: the runtime can", default=0)
    write_dispatch_id: int = u64(14, "packets reserved by producers", default=0)
    group_segment_aperture_base_hi: int = u32(16, "bits 63:32 of the LDS aperture", default=0)
    private_segment_aperture_base_hi: int = u32(17, "of the scratch aperture", default=0)
    max_cu_id: int = u32(18, "compute units minus one", default=0)
    max_wave_id: int = u32(19, "waves per compute unit minus one", default=0)
    max_legacy_doorbell_dispatch_id_plus_1: int = u64(20, "old doorbell protocol", default=0)
    legacy_doorbell_lock: int = u32(22, "old doorbell protocol", default=0)
    read_dispatch_id: int = u64(32, "packets begun; their slots may be reused", default=0)
    read_dispatch_id_field_base_byte_offset: int = u32(
        34, "distance of read_dispatch_id from the start", default=128
    )
    compute_tmpring_size: int = u32(35, "COMPUTE_TMPRING_SIZE", default=0)
    scratch_resource_descriptor: int = bits(36, 127, 0, "buffer descriptor", default=0)
    scratch_backing_memory_location: int = u64(
        40,
        "scratch",
        default=0,
        role=Role(uses="address", length="scratch_backing_memory_byte_size", access="rw"),
    )
    scratch_backing_memory_byte_size: int = u64(42, "bytes; second form", default=0)
    scratch_wave64_lane_byte_size: int = u32(44, "bytes per lane of 64-lane waves", default=0)
    queue_properties: int = u32(45, "`QueueProperty`", default=0)
    scratch_max_use_index: int = u64(46, "second form", default=0)
    queue_inactive_signal: int = u64(
        48,
        "signal that takes `QueueError` codes",
        default=0,
        role=Role(uses="address", length=64, access="rw"),
    )
    alt_scratch_max_use_index: int = u64(50, "second form", default=0)
    alt_scratch_resource_descriptor: int = bits(52, 127, 0, "second form", default=0)
    alt_scratch_backing_memory_location: int = u64(
        56, "second form", default=0, role=Role(uses="address", access="rw")
    )
    alt_scratch_dispatch_limit_x: int = u32(58, "second form", default=0)
    alt_scratch_dispatch_limit_y: int = u32(59, "second form", default=0)
    alt_scratch_dispatch_limit_z: int = u32(60, "second form", default=0)
    alt_scratch_wave64_lane_byte_size: int = u32(61, "second form", default=0)
    alt_compute_tmpring_size: int = u32(62, "second form", default=0)


# Byte offsets that code outside this module needs: fields at which the device is pointed.
WRITE_DISPATCH_ID = AmdQueue.BY_NAME["write_dispatch_id"].lo // 8
READ_DISPATCH_ID = AmdQueue.BY_NAME["read_dispatch_id"].lo // 8
SIGNAL_VALUE = AmdSignal.BY_NAME["value"].lo // 8
