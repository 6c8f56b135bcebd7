"""The facts of each family against published figures that were written down independently."""

import pytest

from gputrace.errors import UsageError
from gputrace.families import FAMILIES, by_target_version, family
from gputrace.families.queues import QueueSizes

# cwsr and control stack bytes; gfx1201's are from a captured node, the rest from kfd_queue.c.
PUBLISHED = {
    "gfx90a": (4096, 36864, 67170304),
    "gfx942": (1520, 12288, 23203840),
    "gfx950": (1280, 12288, 22687744),
    "gfx1030": (2560, 28672, 27881472),
    "gfx1100": (3072, 40960, 46047232),
    "gfx1201": (2048, 28672, 30699520),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_queue_sizes_are_the_published_ones(name: str) -> None:
    sizes = family(name).queue_sizes()
    assert (sizes.waves, sizes.ctl_stack_size, sizes.cwsr_size) == PUBLISHED[name]
    assert sizes.eop_size == 4096


def test_sizes_follow_the_node_that_is_there() -> None:
    mi210 = {
        "simd_count": 416,
        "simd_per_cu": 4,
        "array_count": 8,
        "simd_arrays_per_engine": 1,
        "num_xcc": 1,
    }
    assert family("gfx90a").queue_sizes(mi210).cwsr_size == 63508480
    del mi210["num_xcc"]  # kernels before multi-die parts do not print it
    assert family("gfx90a").queue_sizes(mi210).cwsr_size == 63508480


def test_save_areas_of_all_xccs_lie_before_their_debug_areas() -> None:
    sizes = family("gfx942").queue_sizes()
    assert (sizes.debug_size, sizes.xccs) == (0xBE00, 8)
    assert sizes.save_area_size == 186019840
    assert sizes.debug_offset(0) == 8 * sizes.cwsr_size
    assert sizes.debug_offset(7) == sizes.cwsr_size


def test_save_area_is_whole_pages() -> None:
    sizes = QueueSizes(
        waves=1, ctl_stack_size=4096, cwsr_size=4096, debug_size=64, xccs=1, eop_size=4096
    )
    assert sizes.save_area_size == 8192


# Captured nodes: MI300X in SPX mode, RX 7900 XTX, RX 9070 XT (partly).
CAPTURED = {
    "gfx942": {
        "simd_count": 1216,
        "max_waves_per_simd": 8,
        "lds_size_in_kb": 64,
        "wave_front_size": 64,
        "array_count": 32,
        "simd_arrays_per_engine": 1,
        "cu_per_simd_array": 10,
        "simd_per_cu": 4,
        "max_slots_scratch_cu": 32,
        "gfx_target_version": 90402,
        "vendor_id": 4098,
        "device_id": 29857,
        "num_sdma_engines": 2,
        "num_sdma_xgmi_engines": 14,
        "num_sdma_queues_per_engine": 8,
        "num_cp_queues": 24,
        "max_engine_clk_fcompute": 2100,
        "fw_version": 166,
        "sdma_fw_version": 22,
        "capability": 0x2C77A280,
        "debug_prop": 1511,
        "num_xcc": 8,
    },
    "gfx1100": {
        "simd_count": 192,
        "max_waves_per_simd": 16,
        "wave_front_size": 32,
        "array_count": 12,
        "simd_arrays_per_engine": 2,
        "cu_per_simd_array": 8,
        "simd_per_cu": 2,
        "gfx_target_version": 110000,
        "device_id": 29772,
        "num_sdma_engines": 2,
        "num_sdma_xgmi_engines": 0,
        "num_sdma_queues_per_engine": 6,
        "num_cp_queues": 8,
        "max_engine_clk_fcompute": 2482,
        "fw_version": 2140,
        "sdma_fw_version": 20,
        "capability": 0x2807A280,
        "debug_prop": 1495,
        "num_xcc": 1,
    },
    "gfx1201": {
        "simd_count": 128,
        "array_count": 8,
        "gfx_target_version": 120001,
        "cwsr_size": 30699520,
        "ctl_stack_size": 28672,
        "fw_version": 3010,
    },
    "gfx950": {"simd_count": 1024, "lds_size_in_kb": 160, "device_id": 30112, "num_xcc": 8},
    "gfx1030": {"simd_count": 160, "device_id": 29615},
    "gfx90a": {"simd_count": 440, "array_count": 8, "device_id": 29708},
}


@pytest.mark.parametrize("name", CAPTURED)
def test_emulated_nodes_look_like_captured_ones(name: str) -> None:
    shown = family(name).node_properties()
    assert {key: shown[key] for key in CAPTURED[name]} == CAPTURED[name]


# EF_AMDGPU_MACH of llvm/BinaryFormat/ELF.h.
MACH = {
    "gfx90a": 0x3F, "gfx942": 0x4C, "gfx950": 0x4F, "gfx1030": 0x36, "gfx1100": 0x41,
    "gfx1201": 0x4E,
}  # fmt: skip


def test_machine_numbers_are_llvms() -> None:
    assert {name: found.mach for name, found in FAMILIES.items()} == MACH


@pytest.mark.parametrize("name", FAMILIES)
def test_facts_of_a_family_agree_with_each_other(name: str) -> None:
    found = family(name)
    assert by_target_version(found.target_version) is found
    version = found.target_version
    digits = f"{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    assert found.name == f"gfx{digits}"
    assert found.wave in found.waves
    assert found.device_id in found.device_ids
    for table in (
        found.register_file.vgpr_granule,
        found.register_file.vgpr_allocation,
        found.register_file.vgprs_per_lane,
    ):
        assert set(table) == set(found.waves)
    assert found.private_segment_buffer == (found.flat_scratch == "absolute")
    assert found.has_agprs == (found.register_file.agprs > 0)
    assert found.copies.limit % 256 == 0


def test_unknown_targets_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'gfx803'; known are gfx90a, gfx942"):
        family("gfx803")
    with pytest.raises(UsageError, match=r"gfx_target_version 80003; known are 90010 \(gfx90a\)"):
        by_target_version(80003)
