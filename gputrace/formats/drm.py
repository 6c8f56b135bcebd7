"""The few ioctls of a render node that KFD clients call before they trust it.

Sources: Linux include/uapi/drm/drm.h and include/uapi/drm/amdgpu_drm.h; the sizes are those of a
64-bit client.
"""

from enum import IntEnum

from gputrace.bits import Record, Role, u32, u64

MAGIC = ord("d")
"""Type byte of every DRM ioctl (DRM_IOCTL_BASE)."""
VERSION = 0x00
"""Number of DRM_IOCTL_VERSION."""
AMDGPU_INFO = 0x45
"""Number of DRM_IOCTL_AMDGPU_INFO: DRM_COMMAND_BASE + DRM_AMDGPU_INFO."""
QUESTIONS = frozenset({VERSION, AMDGPU_INFO})
"""Calls that only ask: a replay leaves them out."""


class InfoQuery(IntEnum):
    """What AMDGPU_INFO is asked for: AMDGPU_INFO_*."""

    ACCEL_WORKING = 0x00
    READ_MMR_REG = 0x15
    DEV_INFO = 0x16


class DrmVersion(Record, words=16, source="drm.h struct drm_version"):
    """Ask for version and names of the driver; each length is that of the room, then the whole."""

    version_major: int = u32(0, default=0, role=Role(out=True))
    version_minor: int = u32(1, default=0, role=Role(out=True))
    version_patchlevel: int = u32(2, default=0, role=Role(out=True))
    name_len: int = u64(4, "bytes")
    name: int = u64(6, role=Role(points="byte", length="name_len", access="w"))
    date_len: int = u64(8, "bytes")
    date: int = u64(10, role=Role(points="byte", length="date_len", access="w"))
    desc_len: int = u64(12, "bytes")
    desc: int = u64(14, role=Role(points="byte", length="desc_len", access="w"))


class AmdgpuInfo(Record, words=8, source="amdgpu_drm.h struct drm_amdgpu_info"):
    """Ask amdgpu one question."""

    return_pointer: int = u64(0, role=Role(points="byte", length="return_size", access="w"))
    return_size: int = u32(2, "bytes")
    query: int = u32(3, "which question, an `InfoQuery`")
    dword_offset: int = u32(4, "first register, for READ_MMR_REG", default=0)
    count: int = u32(5, "registers, for READ_MMR_REG", default=0)
    instance: int = u32(6, "shader engine and array, for READ_MMR_REG", default=0)
    flags: int = u32(7, "0", default=0)


class DeviceInfo(Record, words=92, source="amdgpu_drm.h struct drm_amdgpu_info_device"):
    """The answer to DEV_INFO, as far as a client of 2022 knows it; the names are the header's."""

    device_id: int = u32(0, "PCI device id")
    chip_rev: int = u32(1, "revision within the family, from 0", default=0)
    external_rev: int = u32(2, "revision as the family counts it", default=0)
    pci_rev: int = u32(3, "PCI revision id", default=0)
    family: int = u32(4, "AMDGPU_FAMILY_*")
    num_shader_engines: int = u32(5, "of the GPU")
    num_shader_arrays_per_engine: int = u32(6, "of each engine")
    gpu_counter_freq: int = u32(7, "kHz")
    max_engine_clock: int = u64(8, "kHz")
    max_memory_clock: int = u64(10, "kHz")
    cu_active_number: int = u32(12, "compute units in use")
    num_hw_gfx_contexts: int = u32(32, "graphics states that the hardware holds", default=8)
    ids_flags: int = u64(34, "AMDGPU_IDS_FLAGS_*", default=0)
    virtual_address_offset: int = u64(36, "first GPU address for buffers")
    virtual_address_max: int = u64(38, "end of the GPU addresses")
    virtual_address_alignment: int = u32(40, "bytes", default=4096)
    pte_fragment_size: int = u32(41, "bytes that one page table entry may cover", default=2 << 20)
    gart_page_size: int = u32(42, "bytes", default=4096)
    vram_bit_width: int = u32(45, "bits of the memory bus")
    wave_front_size: int = u32(60, "lanes")
    num_shader_visible_vgprs: int = u32(61, "vector registers that a wave may have")
    num_cu_per_sh: int = u32(62, "compute units of a shader array, at most")
