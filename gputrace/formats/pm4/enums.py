"""Values of PM4 fields, under the vendor's names."""

from enum import IntEnum


class WaitSpace(IntEnum):
    """What WAIT_REG_MEM and COND_WRITE poll (nvd.h WAIT_REG_MEM_MEM_SPACE)."""

    REGISTER = 0
    MEMORY = 1


class WaitOperation(IntEnum):
    """What WAIT_REG_MEM does (nvd.h WAIT_REG_MEM_OPERATION; 3 from PAL's MEC header)."""

    WAIT_REG_MEM = 0
    WR_WAIT_WR_REG = 1
    WAIT_MEM_PREEMPTABLE = 3


class WriteTo(IntEnum):
    """Where WRITE_DATA writes (nvd.h WRITE_DATA_DST_SEL)."""

    REGISTER = 0
    MEMORY_SYNC = 1
    L2 = 2
    GDS = 3
    MEMORY = 5
    PERSISTENT_STATE = 6


class CopyFrom(IntEnum):
    """Where COPY_DATA reads (Mesa sid.h COPY_DATA_*, PAL COPY_DATA src_sel)."""

    REGISTER = 0
    MEMORY = 1
    L2 = 2
    GDS = 3
    PERFCOUNTERS = 4
    IMMEDIATE = 5
    ATOMIC_RETURN = 6
    GDS_ATOMIC_RETURN_0 = 7
    GDS_ATOMIC_RETURN_1 = 8
    GPU_CLOCK = 9
    SYSTEM_CLOCK = 10


class CopyTo(IntEnum):
    """Where COPY_DATA writes (Mesa sid.h COPY_DATA_*, PAL COPY_DATA dst_sel)."""

    REGISTER = 0
    L2 = 2
    GDS = 3
    PERFCOUNTERS = 4
    MEMORY = 5
    REGISTER_DIRECT = 6


class DmaFrom(IntEnum):
    """Where DMA_DATA reads (nvd.h PACKET3_DMA_DATA_SRC_SEL)."""

    ADDRESS = 0
    GDS = 1
    DATA = 2
    L2 = 3


class DmaTo(IntEnum):
    """Where DMA_DATA writes (nvd.h PACKET3_DMA_DATA_DST_SEL; 2 from PAL's MEC header)."""

    ADDRESS = 0
    GDS = 1
    NOWHERE = 2
    L2 = 3


class AtomicCommand(IntEnum):
    """How ATOMIC_MEM goes on (PAL ATOMIC_MEM command)."""

    SINGLE_PASS = 0
    LOOP_UNTIL_COMPARE_SATISFIED = 1
    WAIT_FOR_WRITE_CONFIRMATION = 2
    SEND_AND_CONTINUE = 3


class Event(IntEnum):
    """Events of EVENT_WRITE and RELEASE_MEM (gc_10_1_0 VGT_EVENT_TYPE; vega10_enum.h)."""

    CACHE_FLUSH_TS = 0x04
    CS_PARTIAL_FLUSH = 0x07
    CACHE_FLUSH_AND_INV_TS_EVENT = 0x14
    ZPASS_DONE = 0x15
    CACHE_FLUSH_AND_INV_EVENT = 0x16
    PERFCOUNTER_START = 0x17
    PERFCOUNTER_STOP = 0x18
    PIPELINESTAT_START = 0x19
    PIPELINESTAT_STOP = 0x1A
    PERFCOUNTER_SAMPLE = 0x1B
    SAMPLE_PIPELINESTAT = 0x1E
    CS_CONTEXT_DONE = 0x23
    BOTTOM_OF_PIPE_TS = 0x28
    CS_DONE = 0x2F
    THREAD_TRACE_START = 0x33
    THREAD_TRACE_STOP = 0x34
    THREAD_TRACE_MARKER = 0x35
    THREAD_TRACE_FINISH = 0x37


class EventIndex(IntEnum):
    """Which group of events the type belongs to (nvd.h EVENT_INDEX)."""

    OTHER = 0
    ZPASS_DONE = 1
    SAMPLE_PIPELINESTAT = 2
    CS_PARTIAL_FLUSH = 4
    END_OF_PIPE = 5
    SHADER_DONE = 6


class ReleaseTo(IntEnum):
    """Where RELEASE_MEM writes (nvd.h PACKET3_RELEASE_MEM_DST_SEL; 2 and 3 from gfx11 on)."""

    MEMORY = 0
    L2 = 1
    QUEUE_WRITE_POINTER = 2
    QUEUE_WRITE_POINTER_POLL_MASK = 3


class ReleaseInterrupt(IntEnum):
    """When RELEASE_MEM interrupts (nvd.h PACKET3_RELEASE_MEM_INT_SEL)."""

    NONE = 0
    INTERRUPT_ONLY = 1
    AFTER_WRITE_CONFIRM = 2
    WRITE_CONFIRM_ONLY = 3
    CONTEXT_ID_ALWAYS = 4
    CONDITIONAL_32 = 5
    CONDITIONAL_64 = 6


class ReleaseData(IntEnum):
    """What RELEASE_MEM writes (nvd.h PACKET3_RELEASE_MEM_DATA_SEL)."""

    NONE = 0
    LOW_32 = 1
    DATA_64 = 2
    GPU_CLOCK = 3
    SYSTEM_CLOCK = 4
    GDS = 5

    @property
    def size(self) -> int:
        """Bytes written to memory."""
        return (0, 4, 8, 8, 8, 0)[self]
