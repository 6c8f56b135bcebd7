"""The ioctls of an emulated render node: what runtimes ask before they trust it.

Source: Linux drivers/gpu/drm/drm_ioctl.c drm_version, amdgpu/amdgpu_kms.c amdgpu_info_ioctl.
"""

from errno import EFAULT, EINVAL, ENOTTY
from typing import TypeVar

from gputrace.devices.emulated.process import Gpu, Process
from gputrace.errors import KfdError
from gputrace.formats import drm
from gputrace.formats.drm import AmdgpuInfo, DeviceInfo, DrmVersion, InfoQuery

R = TypeVar("R", DrmVersion, AmdgpuInfo)

_VERSION = (3, 57, 0)  # of the amdgpu driver of Linux 6.8
_NAMES = {"name": b"amdgpu", "date": b"20150101", "desc": b"AMD GPU"}
_CONFIG_REGISTER = 0x263E  # GB_ADDR_CONFIG of gfx9 in dwords, which libdrm reads at start


def render_ioctl(process: Process, minor: int, request: int, data: bytearray) -> None:
    """Answer a DRM ioctl into `data`; what is not modelled is refused by name."""
    kind, number = request >> 8 & 0xFF, request & 0xFF
    gpu = next(gpu for gpu in process.gpus if gpu.node.render_minor == minor)
    if kind == drm.MAGIC and number == drm.VERSION:
        data[:] = _version(process, _argument(DrmVersion, data)).to_bytes()[: len(data)]
    elif kind == drm.MAGIC and number == drm.AMDGPU_INFO:
        _info(process, gpu, _argument(AmdgpuInfo, data))
    else:
        name = f"ioctl {request:#x} of a render node"
        process.refused[name] += 1
        raise KfdError(name, ENOTTY, {"minor": minor}, "not modelled")


def _argument(layout: type[R], data: bytearray) -> R:
    # The kernel extends what a client of another age passes with zeros.
    size = 4 * layout.WORDS
    return layout.from_bytes(bytes(data[:size]).ljust(size, b"\0"))


def _version(process: Process, record: DrmVersion) -> DrmVersion:
    lengths = {}
    for name, text in _NAMES.items():
        room, address = getattr(record, f"{name}_len"), getattr(record, name)
        if room and address:
            process.client.write(address, text[:room], "DRM_IOCTL_VERSION")
        lengths[f"{name}_len"] = len(text)
    major, minor, patch = _VERSION
    return record.replace(
        version_major=major, version_minor=minor, version_patchlevel=patch, **lengths
    )


def _info(process: Process, gpu: Gpu, record: AmdgpuInfo) -> None:
    name = "AMDGPU_INFO"
    if not record.return_size or not record.return_pointer:
        raise KfdError(name, EINVAL, {"query": record.query}, "nowhere to put the answer")
    if record.query == InfoQuery.ACCEL_WORKING:
        answer = (1).to_bytes(4, "little")
    elif record.query == InfoQuery.DEV_INFO:
        answer = _device(process, gpu).to_bytes()
    elif record.query == InfoQuery.READ_MMR_REG:
        answer = _registers(process, record)
    else:
        process.refused[f"{name} query {record.query:#x}"] += 1
        raise KfdError(name, EINVAL, {"query": record.query}, "this question is not modelled")
    process.client.write(record.return_pointer, answer[: record.return_size], name)


def _registers(process: Process, record: AmdgpuInfo) -> bytes:
    if record.dword_offset != _CONFIG_REGISTER or record.count != 1:
        fields = {"dword_offset": record.dword_offset, "count": record.count}
        process.refused[f"AMDGPU_INFO register {record.dword_offset:#x}"] += 1
        raise KfdError("AMDGPU_INFO", EFAULT, fields, "only GB_ADDR_CONFIG can be read")
    return bytes(4)  # no tiling


def _device(process: Process, gpu: Gpu) -> DeviceInfo:
    family = process.family
    shape, card = family.shape, family.card
    return DeviceInfo(
        device_id=card.device_id,
        family=family.drm_family,
        num_shader_engines=shape.engines * shape.xccs,
        num_shader_arrays_per_engine=shape.arrays_per_engine,
        gpu_counter_freq=family.clock_hz // 1000,
        max_engine_clock=card.engine_mhz * 1000,
        max_memory_clock=card.memory_mhz * 1000,
        cu_active_number=shape.cus * shape.xccs,
        virtual_address_offset=family.gpuvm_base,
        virtual_address_max=family.gpuvm_limit + 1,
        vram_bit_width=card.memory_width,
        wave_front_size=family.wave,
        num_shader_visible_vgprs=family.register_file.vgprs,
        num_cu_per_sh=shape.cus_per_array,
    )
