"""RDNA targets: gfx1030 (RDNA2), gfx1100 (RDNA3) and gfx1201 (RDNA4).

Sources: Linux amdkfd and amdgpu (identity, shape, SDMA, save area), LLVM AMDGPUUsage.rst and
AMDGPUBaseInfo.cpp (registers, initial state), libdrm data/amdgpu.ids (products).
"""

from gputrace.families.family import Caches, Card, Copies, Family, IpVersions, RegisterFile, Shape
from gputrace.families.queues import SaveArea
from gputrace.formats import registers
from gputrace.formats.pm4 import PM4_GFX10, PM4_GFX11, PM4_GFX12
from gputrace.formats.sdma import SDMA_5_2, SDMA_6_0, SDMA_7_0

_LARGE_FILE = RegisterFile(
    vgpr_granule={32: 8, 64: 4},
    vgpr_allocation={32: 24, 64: 12},
    vgprs_per_lane={32: 1536, 64: 768},
)

_LARGE_SAVE_AREA = SaveArea(
    waves_per_cu=32, engine_limits_waves=False, wave_record_bytes=12, vgpr_bytes=0x60000
)

GFX1030 = Family(
    name="gfx1030",
    target_version=100300,
    mach=0x36,
    generic_machs=(0x53,),
    features=(),
    device_ids=(
        *(0x73A0, 0x73A1, 0x73A2, 0x73A3, 0x73A5, 0x73A8, 0x73A9),
        *(0x73AB, 0x73AC, 0x73AD, 0x73AE, 0x73AF, 0x73BF),
    ),
    waves=(32, 64),
    wave=32,
    pm4=PM4_GFX10,
    sdma=SDMA_5_2,
    registers=registers.GFX10,
    shape=Shape(
        xccs=1,
        cus=80,
        simds_per_cu=2,
        waves_per_simd=16,
        engines=4,
        arrays_per_engine=2,
        cus_per_array=10,
    ),
    copies=Copies(pcie=4, xgmi=0, queues=8, count_bits=30),
    caches=Caches(
        l1=16 << 10, l1_line=128, scalar_line=64, l2=4 << 20, l2_line=128, mall=128 << 20
    ),
    register_file=RegisterFile(
        vgpr_granule={32: 8, 64: 4},
        vgpr_allocation={32: 16, 64: 8},
        vgprs_per_lane={32: 1024, 64: 512},
    ),
    save_area=SaveArea(
        waves_per_cu=32,
        engine_limits_waves=False,
        wave_record_bytes=12,
        vgpr_bytes=0x40000,
        ctl_stack_limit=0x7000,
    ),
    card=Card(
        product="AMD Radeon RX 6900 XT",
        device_id=0x73AF,
        node_name="sienna_cichlid",
        vram_bytes=16 << 30,
        memory_width=256,
        memory_mhz=1000,
        engine_mhz=2660,
        fw_version=118,
        sdma_fw_version=83,
        capability=0x2807A280,
        debug_prop=1495,
        cp_queues=8,
        captured=False,
    ),
    ip_versions=IpVersions(gc=(10, 3, 0), sdma=(5, 2, 0), nbif=(3, 3, 0)),
    drm_family=143,
    flat_scratch="absolute",
    private_segment_buffer=True,
    work_group_ids="sgpr",
    packed_work_item_ids=False,
    kernarg_preload=False,
    scratch_wavesize_unit=1024,
    scratch_waves_scope="xcc",
    wave32_initiator=True,
    wgp_mode=True,
    gds=True,
    wave_sync=True,
)

GFX1100 = Family(
    name="gfx1100",
    target_version=110000,
    mach=0x41,
    generic_machs=(0x54,),
    features=(),
    device_ids=(0x7448, 0x7449, 0x744A, 0x744B, 0x744C, 0x745E),
    waves=(32, 64),
    wave=32,
    pm4=PM4_GFX11,
    sdma=SDMA_6_0,
    registers=registers.GFX11,
    shape=Shape(
        xccs=1,
        cus=96,
        simds_per_cu=2,
        waves_per_simd=16,
        engines=6,
        arrays_per_engine=2,
        cus_per_array=8,
    ),
    copies=Copies(pcie=2, xgmi=0, queues=6, count_bits=30),
    caches=Caches(
        l1=32 << 10, l1_line=128, scalar_line=64, l2=6 << 20, l2_line=128, mall=96 << 20
    ),
    register_file=_LARGE_FILE,
    save_area=_LARGE_SAVE_AREA,
    card=Card(
        product="AMD Radeon RX 7900 XTX",
        device_id=0x744C,
        node_name="ip discovery",
        vram_bytes=24 << 30,
        memory_width=384,
        memory_mhz=1249,
        engine_mhz=2482,
        fw_version=2140,
        sdma_fw_version=20,
        capability=0x2807A280,
        debug_prop=1495,
        cp_queues=8,
        captured=True,
    ),
    ip_versions=IpVersions(gc=(11, 0, 0), sdma=(6, 0, 0), nbif=(4, 3, 0)),
    drm_family=145,
    flat_scratch="architected",
    private_segment_buffer=False,
    work_group_ids="sgpr",
    packed_work_item_ids=True,
    kernarg_preload=False,
    scratch_wavesize_unit=256,
    scratch_waves_scope="engine",
    wave32_initiator=True,
    wgp_mode=True,
    priv_for_context_save=True,
    gds=True,
)

GFX1201 = Family(
    name="gfx1201",
    target_version=120001,
    mach=0x4E,
    generic_machs=(0x59,),
    features=(),
    device_ids=(0x7550, 0x7551),
    waves=(32, 64),
    wave=32,
    pm4=PM4_GFX12,
    sdma=SDMA_7_0,
    registers=registers.GFX12,
    shape=Shape(
        xccs=1,
        cus=64,
        simds_per_cu=2,
        waves_per_simd=16,
        engines=4,
        arrays_per_engine=2,
        cus_per_array=8,
    ),
    copies=Copies(pcie=2, xgmi=0, queues=6, count_bits=30),
    caches=Caches(
        l1=32 << 10, l1_line=128, scalar_line=64, l2=8 << 20, l2_line=128, mall=64 << 20
    ),
    register_file=_LARGE_FILE,
    save_area=_LARGE_SAVE_AREA,
    card=Card(
        product="AMD Radeon RX 9070 XT",
        device_id=0x7550,
        node_name="ip discovery",
        vram_bytes=16 << 30,
        memory_width=256,
        memory_mhz=1258,
        engine_mhz=2970,
        fw_version=3010,
        sdma_fw_version=838,
        capability=0x6807A280,
        debug_prop=1495,
        cp_queues=8,
        captured=False,
    ),
    ip_versions=IpVersions(gc=(12, 0, 1), sdma=(7, 0, 1), nbif=(6, 3, 1)),
    drm_family=152,
    flat_scratch="architected",
    private_segment_buffer=False,
    work_group_ids="ttmp",
    packed_work_item_ids=True,
    kernarg_preload=False,
    scratch_wavesize_unit=256,
    scratch_waves_scope="engine",
    wave32_initiator=True,
    wgp_mode=True,
)
