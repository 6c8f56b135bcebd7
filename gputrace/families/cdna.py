"""CDNA targets: gfx90a (MI200), gfx942 (MI300) and gfx950 (MI350).

Sources: Linux amdkfd and amdgpu (identity, shape, SDMA, save area), LLVM AMDGPUUsage.rst and
AMDGPUBaseInfo.cpp (registers, initial state), libdrm data/amdgpu.ids (products).
"""

from dataclasses import replace

from gputrace.families.family import Caches, Card, Copies, Family, IpVersions, RegisterFile, Shape
from gputrace.families.queues import SaveArea
from gputrace.formats import registers
from gputrace.formats.pm4 import PM4_GFX9
from gputrace.formats.sdma import SDMA_4_4

_REGISTER_FILE = RegisterFile(
    vgpr_granule={64: 8},
    vgpr_allocation={64: 8},
    vgprs_per_lane={64: 512},
    agprs=256,
    sgprs=102,
    sgpr_granule=16,
)

_SAVE_AREA = SaveArea(
    waves_per_cu=40, engine_limits_waves=True, wave_record_bytes=8, vgpr_bytes=0x80000
)

GFX90A = Family(
    name="gfx90a",
    target_version=90010,
    mach=0x3F,
    generic_machs=(),
    features=("sramecc", "xnack"),
    device_ids=(0x7408, 0x740C, 0x740F, 0x7410),
    waves=(64,),
    wave=64,
    pm4=PM4_GFX9,
    sdma=SDMA_4_4,
    registers=registers.GFX90A,
    shape=Shape(
        xccs=1,
        cus=110,
        simds_per_cu=4,
        waves_per_simd=8,
        engines=8,
        arrays_per_engine=1,
        cus_per_array=16,
    ),
    copies=Copies(pcie=2, xgmi=3, queues=8, count_bits=22),
    caches=Caches(l1=16 << 10, l1_line=64, scalar_line=64, l2=8 << 20, l2_line=128, mall=0),
    register_file=_REGISTER_FILE,
    save_area=_SAVE_AREA,
    card=Card(
        product="AMD Instinct MI250X",
        device_id=0x740C,
        node_name="aldebaran",
        vram_bytes=64 << 30,
        memory_width=4096,
        memory_mhz=1600,
        engine_mhz=1700,
        fw_version=78,
        sdma_fw_version=8,
        capability=0x2C77A280,
        debug_prop=1494,
        cp_queues=24,
        captured=False,
    ),
    ip_versions=IpVersions(gc=(9, 4, 2), sdma=(4, 4, 0), nbif=(7, 4, 4)),
    drm_family=141,
    flat_scratch="absolute",
    private_segment_buffer=True,
    work_group_ids="sgpr",
    packed_work_item_ids=True,
    kernarg_preload=True,
    scratch_wavesize_unit=1024,
    scratch_waves_scope="xcc",
    wave32_initiator=False,
    wgp_mode=False,
    xnack_retry=True,
    gds=True,
    wave_sync=True,
    clock_hz=25_000_000,
)

GFX942 = Family(
    name="gfx942",
    target_version=90402,
    mach=0x4C,
    generic_machs=(0x5F,),
    features=("sramecc", "xnack"),
    device_ids=(0x74A0, 0x74A1, 0x74A2, 0x74A5, 0x74A8, 0x74A9, 0x74B5, 0x74B6, 0x74BD),
    waves=(64,),
    wave=64,
    pm4=PM4_GFX9,
    sdma=SDMA_4_4,
    registers=registers.GFX942,
    shape=Shape(
        xccs=8,
        cus=38,
        simds_per_cu=4,
        waves_per_simd=8,
        engines=4,
        arrays_per_engine=1,
        cus_per_array=10,
    ),
    copies=Copies(pcie=2, xgmi=14, queues=8, count_bits=22),
    caches=Caches(
        l1=32 << 10, l1_line=128, scalar_line=64, l2=4 << 20, l2_line=128, mall=256 << 20
    ),
    register_file=_REGISTER_FILE,
    save_area=_SAVE_AREA,
    card=Card(
        product="AMD Instinct MI300X",
        device_id=0x74A1,
        node_name="ip discovery",
        vram_bytes=192 << 30,
        memory_width=8192,
        memory_mhz=1300,
        engine_mhz=2100,
        fw_version=166,
        sdma_fw_version=22,
        capability=0x2C77A280,
        debug_prop=1511,
        cp_queues=24,
        captured=True,
    ),
    ip_versions=IpVersions(gc=(9, 4, 3), sdma=(4, 4, 2), nbif=(7, 9, 0)),
    drm_family=141,
    flat_scratch="architected",
    private_segment_buffer=False,
    work_group_ids="sgpr",
    packed_work_item_ids=True,
    kernarg_preload=True,
    scratch_wavesize_unit=1024,
    scratch_waves_scope="xcc",
    wave32_initiator=False,
    wgp_mode=False,
    xnack_retry=True,
    pm4_queue_spans_xccs=False,
    gds=True,
    queues_per_process=255,
)

_LARGE_LDS = 160 << 10

GFX950 = replace(
    GFX942,
    name="gfx950",
    target_version=90500,
    mach=0x4F,
    device_ids=(0x75A0, 0x75A3, 0x75B0, 0x75B3),
    shape=replace(GFX942.shape, cus=32),
    save_area=replace(_SAVE_AREA, lds_bytes=_LARGE_LDS),
    card=replace(
        GFX942.card,
        product="AMD Instinct MI350X",
        device_id=0x75A0,
        vram_bytes=288 << 30,
        memory_mhz=2000,
        engine_mhz=2200,
        captured=False,
    ),
    ip_versions=IpVersions(gc=(9, 5, 0), sdma=(4, 4, 5), nbif=(7, 9, 1)),
    lds_bytes=_LARGE_LDS,
    lds_granule=1280,
)
"""MI350: what differs from MI300.

Sources beside those above: LLVM AMDGPU.td FeatureISAVersion9_5_0 (LDS of 160 KiB), SIDefines.h and
AMDGPUBaseInfo.cpp getLdsDwGranularity (1280 bytes), amdkfd/kfd_queue.c (LDS in the save area).
"""
