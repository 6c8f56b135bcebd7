"""Scratch memory: how much a kernel's waves need and how registers describe it.

Sources: ROCr amd_aql_queue.cpp (AqlQueue::InitScratchSRD, FillComputeTmpRingSize), tinygrad
ops_amd.py _ensure_has_local_memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gputrace.driver.arena import round_up
from gputrace.families import Family

LANES = 64  # the driver sizes for the larger wave, so that both kinds fit
MAX_WAVES = (1 << 12) - 1  # TMPRING_SIZE.WAVES
_SWIZZLE = 1 << 31  # word 1 of a buffer descriptor
_SELECT_XYZW = 0xFAC
_ADD_TID = 1 << 23
_STRIDES = {32: 2 << 21, 64: 3 << 21, None: 0}


@dataclass(frozen=True, slots=True)
class Scratch:
    """Scratch for launches of up to `lane_bytes` per lane: `size` bytes for each XCC."""

    lane_bytes: int
    tmpring: int
    size: int
    base: int = 0

    def descriptor(self, family: Family, wave: int | None) -> tuple[int, int, int, int]:
        """Return the buffer descriptor of the private segment, for kernels that want one.

        `wave` is their number of lanes; None leaves it to the packet processor to fill in.
        """
        high = self.base >> 32 & 0xFFFF | _SWIZZLE
        return self.base & 0xFFFF_FFFF, high, self.size, _word3(family, wave)


NONE = Scratch(0, 0, 0)


def _word3(family: Family, wave: int | None) -> int:
    if family.wave32_initiator:
        # gfx10: format 32_UINT 20, resource level 1, no bounds check in swizzle mode 2.
        return _SELECT_XYZW | 20 << 12 | _STRIDES[wave] | _ADD_TID | 1 << 24 | 2 << 28
    # gfx9: number format UINT 4, data format 32 4, element size 1 (4 bytes).
    return _SELECT_XYZW | 4 << 12 | 4 << 15 | 1 << 19 | _STRIDES[wave] | _ADD_TID


def scratch_for(family: Family, node: Mapping[str, int], lane_bytes: int) -> Scratch:
    """Size the scratch of one XCC for every wave that the node may run at a time."""
    if not lane_bytes:
        return NONE
    xccs = max(1, node.get("num_xcc", 1))
    cus = node["simd_count"] // node["simd_per_cu"] // xccs
    engines = max(1, node["array_count"] // xccs // node["simd_arrays_per_engine"])
    waves = min(node["max_slots_scratch_cu"] * cus // engines, MAX_WAVES // engines)
    unit = family.scratch_wavesize_unit
    wave_bytes = round_up(lane_bytes * LANES, unit)
    counted = waves if family.scratch_waves_scope == "engine" else waves * engines
    layout = family.registers.layout("COMPUTE_TMPRING_SIZE")
    assert layout is not None
    tmpring = layout(waves=counted, wavesize=wave_bytes // unit)
    return Scratch(lane_bytes, tmpring.encode()[0], wave_bytes * waves * engines)
