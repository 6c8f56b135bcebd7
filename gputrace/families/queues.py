"""How large the buffers of a compute queue must be, as the kernel computes it.

Source: Linux amdkfd/kfd_queue.c kfd_queue_ctx_save_restore_size, and for the layout of the save
area with several XCCs libhsakmt queues.c.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PAGE = 4096
HEADER_BYTES = 40
"""The context save header at the start of each XCC's save area."""
DEBUG_BYTES_PER_WAVE = 32
EOP_BYTES = 4096
"""End-of-pipe buffer of every compute queue on gfx9 and later."""
WAVES_PER_ENGINE = 512


def round_up(value: int, unit: int) -> int:
    """Round up to a multiple of `unit`."""
    return -(-value // unit) * unit


@dataclass(frozen=True, slots=True)
class QueueSizes:
    """Bytes of the buffers of one compute queue; all but `save_area_size` are for one XCC."""

    waves: int
    ctl_stack_size: int
    cwsr_size: int
    """What CREATE_QUEUE takes as ctx_save_restore_size; includes the control stack."""
    debug_size: int
    xccs: int
    eop_size: int = EOP_BYTES

    @property
    def save_area_size(self) -> int:
        """Bytes to allocate for context save and debug areas of all XCCs."""
        return round_up((self.cwsr_size + self.debug_size) * self.xccs, PAGE)

    def debug_offset(self, xcc: int) -> int:
        """Give the debug area's distance from the header of one XCC: debug areas come last."""
        return (self.xccs - xcc) * self.cwsr_size


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveArea:
    """What the kernel reckons for a family when it sizes the save area."""

    waves_per_cu: int
    engine_limits_waves: bool
    """At most 512 waves per shader engine are saved."""
    wave_record_bytes: int
    """Control stack bytes of one wave."""
    vgpr_bytes: int
    """VGPRs of one CU."""
    sgpr_bytes: int = 0x4000
    lds_bytes: int = 0x10000
    hardware_bytes: int = 0x1000
    ctl_stack_limit: int | None = None

    def sizes(self, node: Mapping[str, int]) -> QueueSizes:
        """Compute the sizes from a node's properties; `Family.queue_sizes` says which."""
        xccs = max(1, node.get("num_xcc", 1))
        cus = node["simd_count"] // node["simd_per_cu"] // xccs
        waves = cus * self.waves_per_cu
        if self.engine_limits_waves:
            engines = node["array_count"] // xccs // node["simd_arrays_per_engine"]
            waves = min(waves, engines * WAVES_PER_ENGINE)
        stack = round_up(HEADER_BYTES + waves * self.wave_record_bytes + 8, PAGE)
        if self.ctl_stack_limit is not None:
            stack = min(stack, self.ctl_stack_limit)
        per_cu = self.vgpr_bytes + self.sgpr_bytes + self.lds_bytes + self.hardware_bytes
        return QueueSizes(
            waves=waves,
            ctl_stack_size=stack,
            cwsr_size=stack + round_up(cus * per_cu, PAGE),
            debug_size=round_up(waves * DEBUG_BYTES_PER_WAVE, 64),
            xccs=xccs,
        )
