"""COMPUTE_* registers and a few related ones: addresses and bits per register generation.

Addresses are absolute dword addresses. Sources, which agree: Linux
`drivers/gpu/drm/amd/include/asic_reg/gc/gc_{9_4_2,9_4_3,10_3_0,11_0_0,12_0_0}_{offset,sh_mask}.h`
and PAL `gfx9_plus_merged_offset.h`, `gfx12_merged_offset.h`; Mesa's names carry four times the
address. What RSRC1 to RSRC3 mean is told by LLVM `AMDGPUUsage.rst`. Field names are the vendor's
in lower case.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from gputrace.bits import Record, bits, u32
from gputrace.errors import DefinitionError


class Register(Record, words=1, source="(base of all registers)"):
    """One 32-bit register."""


# --- dispatch -------------------------------------------------------------------------------------


class DispatchInitiatorGfx9(
    Register, source="gc_9_4_3_sh_mask.h COMPUTE_DISPATCH_INITIATOR", concept="DispatchInitiator"
):
    """Start a dispatch; also the last dword of DISPATCH_DIRECT and its kin."""

    compute_shader_en: int = bits(0, 0, 0, "must be 1", default=0)
    partial_tg_en: int = bits(0, 1, 1, "last groups use NUM_THREAD partial", default=0)
    force_start_at_000: int = bits(0, 2, 2, "ignore START", default=0)
    ordered_append_enbl: int = bits(0, 3, 3, default=0)
    ordered_append_mode: int = bits(0, 4, 4, default=0)
    use_thread_dimensions: int = bits(0, 5, 5, "DIM counts work-items", default=0)
    order_mode: int = bits(0, 6, 6, "groups start in order", default=0)
    scalar_l1_inv_vol: int = bits(0, 10, 10, default=0)
    vector_l1_inv_vol: int = bits(0, 11, 11, default=0)
    restore: int = bits(0, 14, 14, "context restore by firmware", default=0)


class DispatchInitiatorGfx10(
    DispatchInitiatorGfx9,
    source="gc_10_3_0_sh_mask.h COMPUTE_DISPATCH_INITIATOR",
    concept="DispatchInitiator",
):
    """Start a dispatch; also the last dword of DISPATCH_DIRECT and its kin."""

    tunnel_enable: int = bits(0, 13, 13, "high priority bypass", default=0)
    cs_w32_en: int = bits(0, 15, 15, "1: waves of 32", default=0)


class DispatchInitiatorGfx11(
    DispatchInitiatorGfx10,
    source="gc_11_0_0_sh_mask.h COMPUTE_DISPATCH_INITIATOR",
    concept="DispatchInitiator",
):
    """Start a dispatch; also the last dword of DISPATCH_DIRECT and its kin."""

    amp_shader_en: int = bits(0, 16, 16, default=0)
    disable_disp_prempt_en: int = bits(0, 17, 17, default=0)


class DispatchInitiatorGfx12(
    DispatchInitiatorGfx11,
    source="gc_12_0_0_sh_mask.h COMPUTE_DISPATCH_INITIATOR",
    concept="DispatchInitiator",
):
    """Start a dispatch; also the last dword of DISPATCH_DIRECT and its kin."""

    ping_pong_en: int = bits(0, 12, 12, default=0)
    interleave_2d_en: int = bits(0, 18, 18, default=0)
    ttrace_queue_id: int = bits(0, 31, 29, default=0)


class Count(Register, source="gc_*_sh_mask.h COMPUTE_DIM_X, COMPUTE_START_X, COMPUTE_RESTART_X"):
    """A number of groups, or of work-items, along one axis."""

    value: int = u32(0, default=0)


class NumThread(Register, source="gc_9_4_3_sh_mask.h COMPUTE_NUM_THREAD_X", concept="NumThread"):
    """Work-items of a group along one axis."""

    num_thread_full: int = bits(0, 15, 0, "work-items", default=0)
    num_thread_partial: int = bits(0, 31, 16, "work-items of the last group", default=0)


class NumThreadGfx12(
    Register, source="gc_12_0_0_sh_mask.h COMPUTE_NUM_THREAD_X", concept="NumThread"
):
    """Work-items of a group along one axis."""

    num_thread_full: int = bits(0, 12, 0, "work-items", default=0)
    interleave_bits: int = bits(0, 15, 13, default=0)
    num_thread_partial: int = bits(0, 31, 16, "work-items of the last group", default=0)


class AddressLo(Register, source="gc_*_sh_mask.h COMPUTE_PGM_LO, COMPUTE_DISPATCH_SCRATCH_BASE_LO"):
    """Bits 39:8 of an address that is a multiple of 256."""

    data: int = u32(0, "address >> 8", default=0)


class AddressHi(Register, source="gc_*_sh_mask.h COMPUTE_PGM_HI, COMPUTE_DISPATCH_SCRATCH_BASE_HI"):
    """Bits 47:40 of an address."""

    data: int = bits(0, 7, 0, "address >> 40", default=0)


class Enable(Register, source="gc_*_sh_mask.h COMPUTE_PERFCOUNT_ENABLE and its kin"):
    """A switch."""

    enable: int = bits(0, 0, 0, default=0)


class Vmid(Register, source="gc_*_sh_mask.h COMPUTE_VMID"):
    """The address space; set by firmware."""

    data: int = bits(0, 3, 0, default=0)


class UserData(Register, source="gc_*_sh_mask.h COMPUTE_USER_DATA_0"):
    """What a user SGPR holds when a wave starts."""

    data: int = u32(0, default=0)


# --- program --------------------------------------------------------------------------------------


class _Rsrc1(Register, source="AMDGPUUsage.rst compute_pgm_rsrc1", concept="PgmRsrc1"):
    """Registers, float mode and scheduling of a program: what all generations share."""

    vgprs: int = bits(0, 5, 0, "granules of VGPRs - 1", default=0)
    sgprs: int = bits(0, 9, 6, "granules of SGPRs, 0 where a wave has a fixed number", default=0)
    priority: int = bits(0, 11, 10, "set by firmware", default=0)
    float_round_mode_32: int = bits(0, 13, 12, "0 even, 1 +inf, 2 -inf, 3 zero", default=0)
    float_round_mode_16_64: int = bits(0, 15, 14, "0 even, 1 +inf, 2 -inf, 3 zero", default=0)
    float_denorm_mode_32: int = bits(
        0, 17, 16, "0 flush both, 1 flush results, 2 flush sources, 3 keep", default=0
    )
    float_denorm_mode_16_64: int = bits(
        0, 19, 18, "0 flush both, 1 flush results, 2 flush sources, 3 keep", default=0
    )
    priv: int = bits(0, 20, 20, "privileged", default=0)
    bulky: int = bits(0, 24, 24, default=0)
    fp16_ovfl: int = bits(0, 26, 26, "half overflow clamps", default=0)


class PgmRsrc1Gfx90a(
    _Rsrc1, source="gc_9_4_2_sh_mask.h COMPUTE_PGM_RSRC1, AMDGPUUsage.rst", concept="PgmRsrc1"
):
    """Registers, float mode and scheduling of a program."""

    dx10_clamp: int = bits(0, 21, 21, "clamping turns NaN into 0", default=0)
    ieee_mode: int = bits(0, 23, 23, "quiet signalling NaN", default=0)


class PgmRsrc1Gfx942(
    PgmRsrc1Gfx90a,
    source="gc_9_4_3_sh_mask.h COMPUTE_PGM_RSRC1, AMDGPUUsage.rst",
    concept="PgmRsrc1",
):
    """Registers, float mode and scheduling of a program."""

    debug_mode: int = bits(0, 22, 22, default=0)
    cdbg_user: int = bits(0, 25, 25, default=0)


class PgmRsrc1Gfx10(
    PgmRsrc1Gfx90a,
    source="gc_10_3_0_sh_mask.h and gc_11_0_0_sh_mask.h COMPUTE_PGM_RSRC1, AMDGPUUsage.rst",
    concept="PgmRsrc1",
):
    """Registers, float mode and scheduling of a program."""

    wgp_mode: int = bits(0, 29, 29, "a group may use both CUs of a pair", default=0)
    mem_ordered: int = bits(0, 30, 30, "loads return in order", default=0)
    fwd_progress: int = bits(0, 31, 31, "oldest wave first", default=0)


class PgmRsrc1Gfx12(
    _Rsrc1, source="gc_12_0_0_sh_mask.h COMPUTE_PGM_RSRC1, AMDGPUUsage.rst", concept="PgmRsrc1"
):
    """Registers, float mode and scheduling of a program."""

    wg_rr_en: int = bits(0, 21, 21, "round robin of groups", default=0)
    debug_mode: int = bits(0, 22, 22, default=0)
    disable_perf: int = bits(0, 23, 23, default=0)
    cdbg_user: int = bits(0, 25, 25, default=0)
    wgp_mode: int = bits(0, 29, 29, "a group may use both CUs of a pair", default=0)
    mem_ordered: int = bits(0, 30, 30, "loads return in order", default=0)
    fwd_progress: int = bits(0, 31, 31, "oldest wave first", default=0)


class _Rsrc2(Register, source="AMDGPUUsage.rst compute_pgm_rsrc2", concept="PgmRsrc2"):
    """What a wave starts with: what all generations share."""

    scratch_en: int = bits(0, 0, 0, "the program uses scratch", default=0)
    user_sgpr: int = bits(0, 5, 1, "number of user SGPRs", default=0)
    tgid_x_en: int = bits(0, 7, 7, "work-group id x", default=0)
    tgid_y_en: int = bits(0, 8, 8, "work-group id y", default=0)
    tgid_z_en: int = bits(0, 9, 9, "work-group id z", default=0)
    tg_size_en: int = bits(0, 10, 10, "work-group info", default=0)
    tidig_comp_cnt: int = bits(0, 12, 11, "work-item ids: 0 x, 1 x y, 2 x y z", default=0)
    excp_en_msb: int = bits(0, 14, 13, "bit 0 address watch, bit 1 memory violation", default=0)
    lds_size: int = bits(0, 23, 15, "granules of LDS", default=0)
    excp_en: int = bits(
        0,
        30,
        24,
        "from bit 0: invalid, denormal, division by 0, overflow, underflow, inexact, integer by 0",
        default=0,
    )


class PgmRsrc2Gfx9(
    _Rsrc2, source="gc_9_4_3_sh_mask.h COMPUTE_PGM_RSRC2, AMDGPUUsage.rst", concept="PgmRsrc2"
):
    """What a wave starts with."""

    trap_present: int = bits(0, 6, 6, "a trap handler is installed", default=0)
    skip_usgpr0: int = bits(0, 31, 31, default=0)


class PgmRsrc2Gfx10(
    _Rsrc2,
    source="gc_10_3_0_sh_mask.h and gc_11_0_0_sh_mask.h COMPUTE_PGM_RSRC2, AMDGPUUsage.rst",
    concept="PgmRsrc2",
):
    """What a wave starts with."""

    trap_present: int = bits(0, 6, 6, "a trap handler is installed", default=0)


class PgmRsrc2Gfx12(
    _Rsrc2, source="gc_12_0_0_sh_mask.h COMPUTE_PGM_RSRC2, AMDGPUUsage.rst", concept="PgmRsrc2"
):
    """What a wave starts with; work-group ids come in trap temporaries."""

    dynamic_vgpr: int = bits(0, 6, 6, default=0)
    wgp_takeover: int = bits(0, 31, 31, default=0)


class PgmRsrc3Gfx90a(
    Register,
    source="gc_9_4_2_sh_mask.h COMPUTE_PGM_RSRC3, AMDGPUUsage.rst",
    concept="PgmRsrc3",
):
    """Accumulation registers and threadgroup split."""

    accum_offset: int = bits(0, 5, 0, "first AGPR / 4 - 1", default=0)
    tg_split: int = bits(0, 16, 16, "waves of a group may run on several CUs", default=0)


class PgmRsrc3Gfx942(
    PgmRsrc3Gfx90a,
    source="gc_9_4_3_sh_mask.h COMPUTE_PGM_RSRC3, AMDGPUUsage.rst",
    concept="PgmRsrc3",
):
    """Accumulation registers and threadgroup split."""

    trap_on_start: int = bits(0, 10, 10, default=0)
    trap_on_end: int = bits(0, 11, 11, default=0)


class PgmRsrc3Gfx10(
    Register, source="gc_10_3_0_sh_mask.h COMPUTE_PGM_RSRC3, AMDGPUUsage.rst", concept="PgmRsrc3"
):
    """VGPRs that two halves of a wave64 share."""

    shared_vgpr_cnt: int = bits(0, 3, 0, "units of 8, wave64 only", default=0)


class PgmRsrc3Gfx11(
    PgmRsrc3Gfx10,
    source="gc_11_0_0_sh_mask.h COMPUTE_PGM_RSRC3, AMDGPUUsage.rst",
    concept="PgmRsrc3",
):
    """Shared VGPRs, instruction prefetch, traps."""

    inst_pref_size: int = bits(0, 9, 4, "instruction prefetch, units of 128 bytes", default=0)
    trap_on_start: int = bits(0, 10, 10, default=0)
    trap_on_end: int = bits(0, 11, 11, default=0)
    image_op: int = bits(0, 31, 31, "the program uses image instructions", default=0)


class PgmRsrc3Gfx12(
    PgmRsrc3Gfx10,
    source="gc_12_0_0_sh_mask.h COMPUTE_PGM_RSRC3, AMDGPUUsage.rst",
    concept="PgmRsrc3",
):
    """Instruction prefetch and group launch."""

    inst_pref_size: int = bits(0, 11, 4, "instruction prefetch, units of 128 bytes", default=0)
    glg_en: int = bits(0, 13, 13, "group launch guarantee", default=0)
    image_op: int = bits(0, 31, 31, "the program uses image instructions", default=0)


class TmpringSizeGfx9(
    Register,
    source="gc_9_4_3_sh_mask.h and gc_10_3_0_sh_mask.h COMPUTE_TMPRING_SIZE",
    concept="TmpringSize",
):
    """How much scratch there is: waves of one XCC, 1 KiB units."""

    waves: int = bits(0, 11, 0, "waves that may own scratch", default=0)
    wavesize: int = bits(0, 24, 12, "scratch of a wave, 1 KiB units", default=0)


class TmpringSizeGfx11(
    Register, source="gc_11_0_0_sh_mask.h COMPUTE_TMPRING_SIZE", concept="TmpringSize"
):
    """How much scratch there is: waves of one shader engine, 256-byte units."""

    waves: int = bits(0, 11, 0, "waves that may own scratch", default=0)
    wavesize: int = bits(0, 26, 12, "scratch of a wave, 256-byte units", default=0)


class TmpringSizeGfx12(
    Register, source="gc_12_0_0_sh_mask.h COMPUTE_TMPRING_SIZE", concept="TmpringSize"
):
    """How much scratch there is: waves of one shader engine, 256-byte units."""

    waves: int = bits(0, 11, 0, "waves that may own scratch", default=0)
    wavesize: int = bits(0, 29, 12, "scratch of a wave, 256-byte units", default=0)


# --- placement ------------------------------------------------------------------------------------


class ResourceLimits(
    Register, source="gc_10_3_0_sh_mask.h COMPUTE_RESOURCE_LIMITS", concept="ResourceLimits"
):
    """Bounds on what a dispatch may occupy; 0 is no bound."""

    waves_per_sh: int = bits(0, 9, 0, "0: no limit", default=0)
    tg_per_cu: int = bits(0, 15, 12, default=0)
    lock_threshold: int = bits(0, 21, 16, default=0)
    simd_dest_cntl: int = bits(0, 22, 22, default=0)
    force_simd_dist: int = bits(0, 23, 23, default=0)
    cu_group_count: int = bits(0, 26, 24, default=0)


class ResourceLimitsGfx9(
    ResourceLimits, source="gc_9_4_3_sh_mask.h COMPUTE_RESOURCE_LIMITS", concept="ResourceLimits"
):
    """Bounds on what a dispatch may occupy; 0 is no bound."""

    simd_disable: int = bits(0, 30, 27, default=0)


class StaticThreadMgmt(Register, source="gc_*_sh_mask.h COMPUTE_STATIC_THREAD_MGMT_SE0"):
    """Compute units of one shader engine that a dispatch may use."""

    sh0_cu_en: int = bits(0, 15, 0, default=0)
    sh1_cu_en: int = bits(0, 31, 16, default=0)


class ReqCtrl(Register, source="gc_10_3_0_sh_mask.h COMPUTE_REQ_CTRL"):
    """How eagerly groups are requested."""

    soft_grouping_en: int = bits(0, 0, 0, default=0)
    number_of_requests_per_cu: int = bits(0, 4, 1, default=0)
    soft_grouping_allocation_timeout: int = bits(0, 8, 5, default=0)
    hard_lock_hysteresis: int = bits(0, 9, 9, default=0)
    hard_lock_low_threshold: int = bits(0, 14, 10, default=0)
    producer_request_lockout: int = bits(0, 15, 15, default=0)
    global_scanning_en: int = bits(0, 16, 16, default=0)
    allocation_rate_throttling_threshold: int = bits(0, 19, 17, default=0)
    dedicated_preallocation_buffer_limit: int = bits(0, 26, 20, default=0)


class UserAccum(Register, source="gc_10_3_0_sh_mask.h COMPUTE_USER_ACCUM_0"):
    """Weight of a dispatch in an accumulator."""

    contribution: int = bits(0, 6, 0, default=0)


class TgChunkSize(Register, source="gc_9_4_3_sh_mask.h COMPUTE_TG_CHUNK_SIZE"):
    """Groups that go to one XCC before the next one has its turn."""

    data: int = bits(0, 15, 0, default=0)


class DispatchInterleaveGfx11(
    Register,
    source="gc_11_0_0_sh_mask.h COMPUTE_DISPATCH_INTERLEAVE",
    concept="DispatchInterleave",
):
    """Groups that go to one engine before the next one has its turn."""

    interleave: int = bits(0, 9, 0, default=0)


class DispatchInterleaveGfx12(
    Register,
    source="gc_12_0_0_sh_mask.h COMPUTE_DISPATCH_INTERLEAVE",
    concept="DispatchInterleave",
):
    """Groups that go to one engine before the next one has its turn."""

    interleave_1d: int = bits(0, 9, 0, default=0)
    interleave_2d_x_size: int = bits(0, 19, 16, default=0)
    interleave_2d_y_size: int = bits(0, 27, 24, default=0)


class DispatchTunnelGfx10(
    Register, source="gc_10_3_0_sh_mask.h COMPUTE_DISPATCH_TUNNEL", concept="DispatchTunnel"
):
    """Delay of the high priority bypass."""

    off_delay: int = bits(0, 9, 0, default=0)


class DispatchTunnelGfx11(
    DispatchTunnelGfx10,
    source="gc_11_0_0_sh_mask.h COMPUTE_DISPATCH_TUNNEL",
    concept="DispatchTunnel",
):
    """Delay of the high priority bypass."""

    immediate: int = bits(0, 10, 10, default=0)


class DispatchTunnelGfx12(
    Register, source="gc_12_0_0_sh_mask.h COMPUTE_DISPATCH_TUNNEL", concept="DispatchTunnel"
):
    """Delay of the high priority bypass."""

    off_delay: int = bits(0, 12, 0, default=0)


class Relaunch(Register, source="gc_*_sh_mask.h COMPUTE_RELAUNCH"):
    """A wave that comes back after a context switch."""

    payload: int = bits(0, 29, 0, default=0)
    is_event: int = bits(0, 30, 30, default=0)
    is_state: int = bits(0, 31, 31, default=0)


class MiscReserved(Register, source="gc_9_4_3_sh_mask.h COMPUTE_MISC_RESERVED"):
    """Bits for context switches."""

    send_seid: int = bits(0, 1, 0, default=0)
    wave_id_base: int = bits(0, 16, 5, default=0)


class MiscReservedGfx11(
    Register, source="gc_11_0_0_sh_mask.h COMPUTE_MISC_RESERVED", concept="MiscReserved"
):
    """Bits for context switches."""

    send_seid: int = bits(0, 2, 0, default=0)
    wave_id_base: int = bits(0, 16, 5, default=0)


class MiscReservedGfx12(
    Register, source="gc_12_0_0_sh_mask.h COMPUTE_MISC_RESERVED", concept="MiscReserved"
):
    """Bits for context switches."""

    send_seid: int = bits(0, 3, 0, default=0)
    wave_id_base: int = bits(0, 16, 5, default=0)


# --- beyond COMPUTE_ ------------------------------------------------------------------------------


class GrbmGfxIndex(Register, source="gc_9_4_3_sh_mask.h GRBM_GFX_INDEX", concept="GrbmGfxIndex"):
    """Which engine, array and instance later register writes go to."""

    instance_index: int = bits(0, 7, 0, default=0)
    sh_index: int = bits(0, 15, 8, default=0)
    se_index: int = bits(0, 23, 16, default=0)
    sh_broadcast_writes: int = bits(0, 29, 29, default=0)
    instance_broadcast_writes: int = bits(0, 30, 30, default=0)
    se_broadcast_writes: int = bits(0, 31, 31, default=0)


class GrbmGfxIndexGfx12(
    Register, source="gc_12_0_0_sh_mask.h GRBM_GFX_INDEX", concept="GrbmGfxIndex"
):
    """Which engine, array and instance later register writes go to."""

    instance_index: int = bits(0, 6, 0, default=0)
    sh_index: int = bits(0, 9, 8, default=0)
    se_index: int = bits(0, 19, 16, default=0)
    sh_broadcast_writes: int = bits(0, 29, 29, default=0)
    instance_broadcast_writes: int = bits(0, 30, 30, default=0)
    se_broadcast_writes: int = bits(0, 31, 31, default=0)


class ShMemBases(Register, source="gc_*_sh_mask.h SH_MEM_BASES"):
    """Apertures of flat addresses, bits 63:48; the kernel driver writes it."""

    private_base: int = bits(0, 15, 0, default=0)
    shared_base: int = bits(0, 31, 16, default=0)


# --- tables ---------------------------------------------------------------------------------------


class RegisterTable:
    """The registers of one generation: names, absolute dword addresses, layouts."""

    def __init__(
        self, name: str, addresses: Mapping[str, int], layouts: Mapping[str, type[Record]]
    ) -> None:
        self.label = name
        self.addresses = MappingProxyType(dict(addresses))
        self._layouts = dict(layouts)
        self._names: dict[int, str] = {}
        for register, address in addresses.items():
            other = self._names.setdefault(address, register)
            if other != register:
                raise DefinitionError(f"{name}: {register} and {other} are both at {address:#x}")
        for register in layouts:
            if register not in addresses:
                raise DefinitionError(f"{name}: {register} has a layout but no address")

    def __repr__(self) -> str:
        return f"<registers {self.label}: {len(self.addresses)}>"

    def __contains__(self, name: str) -> bool:
        return name in self.addresses

    def address(self, name: str) -> int:
        """Give the absolute dword address of a register; KeyError when it is absent here."""
        return self.addresses[name]

    def name(self, address: int) -> str | None:
        """Name the register at an absolute dword address, or give None."""
        return self._names.get(address)

    def layout(self, name: str) -> type[Record] | None:
        """Give the record of a register's bits, or None when its bits are not declared."""
        return self._layouts.get(name)

    def decode(self, address: int, value: int) -> Record | None:
        """Read the bits of a value for the register at an address, where it has a layout."""
        layout = self._layouts.get(self._names.get(address, ""))
        return None if layout is None else layout.decode([value])

    def describe(self, address: int, value: int) -> str:
        """Give "NAME = what its bits say", or the address when nothing is known."""
        name = self._names.get(address)
        if name is None:
            return f"register {address:#x} = {value:#x}"
        record = self.decode(address, value)
        return f"{name} = {value:#x}" + (f" {record.line()}" if record is not None else "")


def _run(first: int, names: str) -> dict[str, int]:
    # Names of registers one after another; "-" leaves a hole.
    return {f"COMPUTE_{name}": first + i for i, name in enumerate(names.split()) if name != "-"}


def _common() -> dict[str, int]:
    return (
        _run(0x2E00, "DISPATCH_INITIATOR DIM_X DIM_Y DIM_Z START_X START_Y START_Z")
        | _run(0x2E07, "NUM_THREAD_X NUM_THREAD_Y NUM_THREAD_Z")
        | _run(0x2E0A, "PIPELINESTAT_ENABLE PERFCOUNT_ENABLE PGM_LO PGM_HI")
        | _run(0x2E0E, "DISPATCH_PKT_ADDR_LO DISPATCH_PKT_ADDR_HI")
        | _run(0x2E10, "DISPATCH_SCRATCH_BASE_LO DISPATCH_SCRATCH_BASE_HI PGM_RSRC1 PGM_RSRC2")
        | _run(0x2E14, "VMID RESOURCE_LIMITS STATIC_THREAD_MGMT_SE0 STATIC_THREAD_MGMT_SE1")
        | _run(0x2E18, "TMPRING_SIZE STATIC_THREAD_MGMT_SE2 STATIC_THREAD_MGMT_SE3")
        | _run(0x2E1B, "RESTART_X RESTART_Y RESTART_Z THREAD_TRACE_ENABLE MISC_RESERVED")
        | _run(0x2E20, "DISPATCH_ID THREADGROUP_ID")
        | _run(0x2E40, " ".join(f"USER_DATA_{i}" for i in range(16)))
        | _run(0x2E7E, "DISPATCH_END NOWHERE")
    )


_OTHERS = {"GRBM_GFX_INDEX": 0xC200, "SCRATCH_REG0": 0xC040}
_GFX9_OTHERS = _OTHERS | {
    "CP_PERFMON_CNTL": 0xD808,
    "SPI_CONFIG_CNTL": 0xC440,
    "SH_MEM_BASES": 0x230A,
    "SH_MEM_CONFIG": 0x230D,
    "SQ_SHADER_TBA_LO": 0x231C,
}
_GFX11_OTHERS = _OTHERS | {
    "SPI_CONFIG_CNTL": 0xC440,
    "SH_MEM_BASES": 0xA9E3,
    "SH_MEM_CONFIG": 0xA9E4,
    "SQ_SHADER_TBA_LO": 0xA9E6,
}

_GFX9_RESTORE = _run(0x2E22, "RELAUNCH WAVE_RESTORE_ADDR_LO WAVE_RESTORE_ADDR_HI")
_GFX9_PROGRAM = _run(0x2E2C, "SHADER_CHKSUM PGM_RSRC3")
_GFX10_PROGRAM = (
    _run(0x2E22, "REQ_CTRL - USER_ACCUM_0 USER_ACCUM_1 USER_ACCUM_2 USER_ACCUM_3 PGM_RSRC3")
    | _run(0x2E29, "DDID_INDEX SHADER_CHKSUM")
    | _run(0x2E7D, "DISPATCH_TUNNEL")
)
_GFX11_PROGRAM = (
    _GFX10_PROGRAM
    | _run(0x2E2B, " ".join(f"STATIC_THREAD_MGMT_SE{i}" for i in range(4, 8)))
    | _run(0x2E2F, "DISPATCH_INTERLEAVE RELAUNCH WAVE_RESTORE_ADDR_LO WAVE_RESTORE_ADDR_HI")
    | _run(0x2E33, "RELAUNCH2")
)


def _for_names(names: Iterable[str], layout: type[Record]) -> dict[str, type[Record]]:
    return {f"COMPUTE_{name}": layout for name in names}


def _common_layouts() -> dict[str, type[Record]]:
    axes = [f"{kind}_{axis}" for kind in ("DIM", "START", "RESTART") for axis in "XYZ"]
    low = ("PGM_LO", "DISPATCH_SCRATCH_BASE_LO")
    high = ("PGM_HI", "DISPATCH_SCRATCH_BASE_HI")
    switches = ("PIPELINESTAT_ENABLE", "PERFCOUNT_ENABLE", "THREAD_TRACE_ENABLE")
    return (
        _for_names(axes, Count)
        | _for_names(low, AddressLo)
        | _for_names(high, AddressHi)
        | _for_names(switches, Enable)
        | _for_names((f"USER_DATA_{i}" for i in range(16)), UserData)
        | _for_names((f"STATIC_THREAD_MGMT_SE{i}" for i in range(4)), StaticThreadMgmt)
        | _for_names(("VMID",), Vmid)
        | _for_names(("RELAUNCH",), Relaunch)
        | {"GRBM_GFX_INDEX": GrbmGfxIndex, "SH_MEM_BASES": ShMemBases}
    )


def _layouts(rows: Mapping[str, type[Record]]) -> dict[str, type[Record]]:
    # A generation's own layouts: keys without the COMPUTE_ of all of them; NUM_THREAD has axes.
    own: dict[str, type[Record]] = {}
    for name, layout in rows.items():
        axes = [f"{name}_{axis}" for axis in "XYZ"] if name == "NUM_THREAD" else [name]
        own |= _for_names(axes, layout)
    return _common_layouts() | own


_GFX9_LAYOUTS: dict[str, type[Record]] = {
    "DISPATCH_INITIATOR": DispatchInitiatorGfx9,
    "NUM_THREAD": NumThread,
    "PGM_RSRC2": PgmRsrc2Gfx9,
    "TMPRING_SIZE": TmpringSizeGfx9,
    "RESOURCE_LIMITS": ResourceLimitsGfx9,
    "MISC_RESERVED": MiscReserved,
}
_GFX10_LAYOUTS: dict[str, type[Record]] = {
    "RESOURCE_LIMITS": ResourceLimits,
    "REQ_CTRL": ReqCtrl,
    **{f"USER_ACCUM_{i}": UserAccum for i in range(4)},
}
_MORE_ENGINES: dict[str, type[Record]] = {
    f"STATIC_THREAD_MGMT_SE{i}": StaticThreadMgmt for i in range(4, 8)
}

GFX90A = RegisterTable(
    "gfx90a",
    _common()
    | _GFX9_RESTORE
    | _run(0x2E25, " ".join(f"STATIC_THREAD_MGMT_SE{i}" for i in range(4, 8)))
    | _run(0x2E29, "RESTART_X2 RESTART_Y2 RESTART_Z2")
    | _GFX9_PROGRAM
    | _GFX9_OTHERS,
    _layouts(
        _GFX9_LAYOUTS
        | _MORE_ENGINES
        | {
            "PGM_RSRC1": PgmRsrc1Gfx90a,
            "PGM_RSRC3": PgmRsrc3Gfx90a,
            "RESTART_X2": Count,
            "RESTART_Y2": Count,
            "RESTART_Z2": Count,
        }
    ),
)
"""gc_9_4_2: MI200."""

GFX942 = RegisterTable(
    "gfx942",
    _common() | _GFX9_RESTORE | _run(0x2E27, "TG_CHUNK_SIZE") | _GFX9_PROGRAM | _GFX9_OTHERS,
    _layouts(
        _GFX9_LAYOUTS
        | {
            "PGM_RSRC1": PgmRsrc1Gfx942,
            "PGM_RSRC3": PgmRsrc3Gfx942,
            "TG_CHUNK_SIZE": TgChunkSize,
        }
    ),
)
"""gc_9_4_3: MI300, and MI350, for which the kernel has no header of its own."""

GFX10 = RegisterTable(
    "gfx10.3",
    _common()
    | _GFX10_PROGRAM
    | _run(0x2E2B, "RELAUNCH WAVE_RESTORE_ADDR_LO WAVE_RESTORE_ADDR_HI RELAUNCH2")
    | _OTHERS
    | {
        "CP_PERFMON_CNTL": 0xD808,
        "SPI_CONFIG_CNTL": 0x244C,
        "SH_MEM_BASES": 0x230A,
        "SH_MEM_CONFIG": 0x230D,
        "SQ_SHADER_TBA_LO": 0x2312,
    },
    _layouts(
        _GFX10_LAYOUTS
        | {
            "DISPATCH_INITIATOR": DispatchInitiatorGfx10,
            "NUM_THREAD": NumThread,
            "PGM_RSRC1": PgmRsrc1Gfx10,
            "PGM_RSRC2": PgmRsrc2Gfx10,
            "PGM_RSRC3": PgmRsrc3Gfx10,
            "TMPRING_SIZE": TmpringSizeGfx9,
            "DISPATCH_TUNNEL": DispatchTunnelGfx10,
            "MISC_RESERVED": MiscReserved,
        }
    ),
)
"""gc_10_3_0: RDNA2. PAL places RELAUNCH at 0x2E30; the kernel's header is followed here."""

GFX11 = RegisterTable(
    "gfx11",
    _common() | _GFX11_PROGRAM | _GFX11_OTHERS | {"CP_PERFMON_CNTL": 0xD808},
    _layouts(
        _GFX10_LAYOUTS
        | _MORE_ENGINES
        | {
            "DISPATCH_INITIATOR": DispatchInitiatorGfx11,
            "NUM_THREAD": NumThread,
            "PGM_RSRC1": PgmRsrc1Gfx10,
            "PGM_RSRC2": PgmRsrc2Gfx10,
            "PGM_RSRC3": PgmRsrc3Gfx11,
            "TMPRING_SIZE": TmpringSizeGfx11,
            "DISPATCH_INTERLEAVE": DispatchInterleaveGfx11,
            "DISPATCH_TUNNEL": DispatchTunnelGfx11,
            "MISC_RESERVED": MiscReservedGfx11,
        }
    ),
)
"""gc_11_0_0: RDNA3."""

GFX12 = RegisterTable(
    "gfx12",
    _common()
    | _GFX11_PROGRAM
    | _run(0x2E23, "STATIC_THREAD_MGMT_SE8")
    | _run(0x2E35, "PRESCALED_DIM_X PRESCALED_DIM_Y PRESCALED_DIM_Z")
    | _GFX11_OTHERS
    | {"CP_PERFMON_CNTL_1": 0xD808},
    _layouts(
        _GFX10_LAYOUTS
        | _MORE_ENGINES
        | {
            "STATIC_THREAD_MGMT_SE8": StaticThreadMgmt,
            "PRESCALED_DIM_X": Count,
            "PRESCALED_DIM_Y": Count,
            "PRESCALED_DIM_Z": Count,
            "DISPATCH_INITIATOR": DispatchInitiatorGfx12,
            "NUM_THREAD": NumThreadGfx12,
            "PGM_RSRC1": PgmRsrc1Gfx12,
            "PGM_RSRC2": PgmRsrc2Gfx12,
            "PGM_RSRC3": PgmRsrc3Gfx12,
            "TMPRING_SIZE": TmpringSizeGfx12,
            "DISPATCH_INTERLEAVE": DispatchInterleaveGfx12,
            "DISPATCH_TUNNEL": DispatchTunnelGfx12,
            "MISC_RESERVED": MiscReservedGfx12,
        }
    )
    | {"GRBM_GFX_INDEX": GrbmGfxIndexGfx12},
)
"""gc_12_0_0: RDNA4."""

TABLES: Mapping[str, RegisterTable] = MappingProxyType(
    {table.label: table for table in (GFX90A, GFX942, GFX10, GFX11, GFX12)}
)
"""Every table by its label."""
