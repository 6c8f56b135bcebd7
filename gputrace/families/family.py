"""What a GPU target is: the facts that the rest of gputrace asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gputrace.families.queues import QueueSizes, SaveArea
from gputrace.formats.pm4 import Pm4Dialect
from gputrace.formats.registers import RegisterTable
from gputrace.formats.sdma import SdmaDialect

VENDOR_ID = 0x1002
"""PCI vendor of every GPU described here."""

FlatScratch = Literal["absolute", "architected"]
"""Who adds a wave's offset to the scratch base: the kernel's prolog, or the hardware."""
WorkGroupIds = Literal["sgpr", "ttmp"]
WavesScope = Literal["xcc", "engine"]
ByWave = Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many units one XCC has, and what KFD tells about the whole node.

    Sources: Linux amdkfd/kfd_topology.c and kfd_crat.c for the meaning; values captured from
    cards where a family's table says so, else taken from the driver's or the vendor's tables.
    """

    xccs: int
    cus: int
    """Compute units of one XCC."""
    simds_per_cu: int
    waves_per_simd: int
    engines: int
    """Shader engines of one XCC."""
    arrays_per_engine: int
    cus_per_array: int
    """What the node shows as cu_per_simd_array: a maximum, harvested units included."""
    scratch_slots: int = 32
    """Waves per CU that may own scratch, max_slots_scratch_cu."""

    @property
    def simds(self) -> int:
        """SIMDs of all XCCs, as the node's simd_count."""
        return self.cus * self.simds_per_cu * self.xccs

    @property
    def arrays(self) -> int:
        """Shader arrays of all XCCs, as the node's array_count."""
        return self.engines * self.arrays_per_engine * self.xccs


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """The SDMA engines of a node."""

    pcie: int
    xgmi: int
    queues: int
    """User queues of one engine."""
    count_bits: int
    """Width of the byte count of a linear copy."""

    @property
    def limit(self) -> int:
        """Most bytes of one linear copy: the last 255 of the range are unusable (Mesa sid.h)."""
        return (1 << self.count_bits) - 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One product of the family: what its emulated node calls itself.

    `captured` says that the numbers come from a real node; otherwise they are plausible choices.
    """

    product: str
    device_id: int
    node_name: str
    vram_bytes: int
    memory_width: int
    """Bits."""
    memory_mhz: int
    engine_mhz: int
    fw_version: int
    sdma_fw_version: int
    capability: int
    debug_prop: int
    cp_queues: int
    captured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IpVersions:
    """Versions of the hardware blocks, as major, minor, revision, that ip_discovery shows.

    Source: Linux drivers/gpu/drm/amd/amdgpu/amdgpu_discovery.c.
    """

    gc: tuple[int, int, int]
    sdma: tuple[int, int, int]
    nbif: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """Bytes of the caches and of their lines; 0 where there is none."""

    l1: int
    l1_line: int
    scalar_line: int
    l2: int
    """L2 of one XCC."""
    l2_line: int
    mall: int
    """Memory-side cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegisterFile:
    """Register files of a wave; mappings go from wave size to a number.

    Source: LLVM AMDGPUUsage.rst (kernel descriptor), AMDGPUBaseInfo.cpp IsaInfo.
    """

    vgpr_granule: ByWave
    """VGPRs per unit of RSRC1.VGPRS."""
    vgpr_allocation: ByWave
    """VGPRs per unit of the register file."""
    vgprs_per_lane: ByWave
    """VGPRs of one lane of a SIMD, shared by its waves."""
    vgprs: int = 256
    """VGPRs that an instruction can name."""
    agprs: int = 0
    sgprs: int = 106
    """SGPRs that an instruction can name, VCC apart."""
    sgpr_granule: int = 0
    """SGPRs per two units of RSRC1.SGPRS; 0: a wave always has 128."""
    user_sgprs: int = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """Everything that differs between GPU targets, as facts to ask for."""

    name: str
    """The LLVM name, such as "gfx942"."""
    target_version: int
    """KFD's gfx_target_version: major * 10000 + minor * 100 + stepping."""
    mach: int
    """EF_AMDGPU_MACH, bits 7:0 of a code object's e_flags."""
    generic_machs: tuple[int, ...]
    """EF_AMDGPU_MACH of the generic targets that run here."""
    features: tuple[str, ...]
    """Target features that a code object may ask for: "xnack", "sramecc"."""
    device_ids: tuple[int, ...]
    """PCI devices of this family."""
    waves: tuple[int, ...]
    """Wave sizes that can be launched."""
    wave: int
    """The native wave size, wave_front_size of the node."""
    pm4: Pm4Dialect
    """Packets of its compute queues."""
    sdma: SdmaDialect
    """Packets of its SDMA queues."""
    registers: RegisterTable
    """Addresses and bits of its COMPUTE_* registers."""
    shape: Shape
    copies: Copies
    caches: Caches
    register_file: RegisterFile
    save_area: SaveArea
    card: Card
    ip_versions: IpVersions
    drm_family: int
    """AMDGPU_FAMILY_* of amdgpu_drm.h, which render nodes tell."""
    flat_scratch: FlatScratch
    private_segment_buffer: bool
    """Kernels may want a buffer descriptor of their scratch in s[0:3]."""
    work_group_ids: WorkGroupIds
    packed_work_item_ids: bool
    """v0 holds x, y and z with ten bits each; otherwise they are in v0, v1 and v2."""
    kernarg_preload: bool
    scratch_wavesize_unit: int
    """Bytes per unit of TMPRING_SIZE.WAVESIZE."""
    scratch_waves_scope: WavesScope
    """What TMPRING_SIZE.WAVES counts: all waves of an XCC, or those of each shader engine."""
    wave32_initiator: bool
    """DISPATCH_INITIATOR has CS_W32_EN."""
    wgp_mode: bool
    """Two CUs may share a work-group (RSRC1.WGP_MODE); CU masks enable them in pairs."""
    priv_for_context_save: bool = False
    """PM4 dispatches set RSRC1.PRIV (Linux kfd_debug.h kfd_dbg_has_cwsr_workaround)."""
    xnack_retry: bool = False
    """Page faults can be retried."""
    pm4_queue_spans_xccs: bool = True
    """A PM4 ring reaches all XCCs; False: only the one that the queue names."""
    gds: bool = False
    """Packets may name global data share."""
    wave_sync: bool = False
    """Queues that ask for global wave sync are given the hardware's; for the others that is a
    formality (Linux kfd_process_queue_manager.c pqm_set_gws: GFX 9.4.3 to 9.5.0, and with MES)."""
    lds_bytes: int = 65536
    """LDS of one work-group."""
    lds_granule: int = 512
    """Bytes per unit of RSRC2.LDS_SIZE."""
    queues_per_process: int = 127
    """User queues of one process on one device (Linux kfd_process_queue_manager.c)."""
    max_flat_workgroup: int = 1024
    clock_hz: int = 100_000_000
    """Rate of the GPU's clock counter and of release timestamps."""
    lds_aperture: int = 0x0001_0000_0000_0000
    """Base of the 4 GiB of flat addresses that mean LDS (Linux kfd_flat_memory.c)."""
    scratch_aperture: int = 0x0002_0000_0000_0000
    """Base of the 4 GiB of flat addresses that mean scratch."""
    gpuvm_base: int = 0x1_0000
    gpuvm_limit: int = 0x7FFF_FFFF_FFFF
    """Last byte that a user may map."""

    @property
    def xccs(self) -> int:
        """XCCs of one node."""
        return self.shape.xccs

    @property
    def has_agprs(self) -> bool:
        """Whether waves have accumulation VGPRs (RSRC3.ACCUM_OFFSET)."""
        return self.register_file.agprs > 0

    @property
    def device_id(self) -> int:
        """PCI device of the emulated card."""
        return self.card.device_id

    def queue_sizes(self, node: Mapping[str, int] | None = None) -> QueueSizes:
        """Size the buffers of a compute queue for a node's properties, by default the card's own.

        Needs simd_count, simd_per_cu, array_count and simd_arrays_per_engine; num_xcc is 1 when
        the node lacks it. Raises KeyError for the others.
        """
        return self.save_area.sizes(self._shape_properties() if node is None else node)

    def node_properties(self) -> Mapping[str, int]:
        """Give the properties of an emulated node in sysfs order, but for place and links.

        The caller adds the counts of banks, caches and links, location_id, domain,
        drm_render_minor, hive_id and unique_id. Source: kfd_topology.c node_show.
        """
        card, copies, sizes = self.card, self.copies, self.queue_sizes()
        return MappingProxyType(
            {"cpu_cores_count": 0, "simd_id_base": 0x8000_0000}
            | self._shape_properties()
            | {
                "gds_size_in_kb": 0,
                "num_gws": 64,
                "gfx_target_version": self.target_version,
                "vendor_id": VENDOR_ID,
                "device_id": card.device_id,
                "num_sdma_engines": copies.pcie,
                "num_sdma_xgmi_engines": copies.xgmi,
                "num_sdma_queues_per_engine": copies.queues,
                "num_cp_queues": card.cp_queues,
                "cwsr_size": sizes.cwsr_size,
                "ctl_stack_size": sizes.ctl_stack_size,
                "max_engine_clk_fcompute": card.engine_mhz,
                "max_engine_clk_ccompute": 2400,
                "local_mem_size": 0,
                "fw_version": card.fw_version,
                "capability": card.capability,
                "debug_prop": card.debug_prop,
                "sdma_fw_version": card.sdma_fw_version,
            }
        )

    def _shape_properties(self) -> dict[str, int]:
        shape = self.shape
        return {
            "simd_count": shape.simds,
            "max_waves_per_simd": shape.waves_per_simd,
            "lds_size_in_kb": self.lds_bytes // 1024,
            "wave_front_size": self.wave,
            "array_count": shape.arrays,
            "simd_arrays_per_engine": shape.arrays_per_engine,
            "cu_per_simd_array": shape.cus_per_array,
            "simd_per_cu": shape.simds_per_cu,
            "max_slots_scratch_cu": shape.scratch_slots,
            "num_xcc": shape.xccs,
        }
