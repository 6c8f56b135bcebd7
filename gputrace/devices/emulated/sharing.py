"""The dma-buf ioctls: memory that has several handles.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_chardev.c kfd_ioctl_export_dmabuf,
kfd_ioctl_import_dmabuf and kfd_ioctl_get_dmabuf_info; amdgpu_amdkfd_gpuvm.c.
"""

import os
from errno import EBADF, EINVAL, ENODEV

from gputrace.devices.emulated.buffers import check_place
from gputrace.devices.emulated.memory import Buffer
from gputrace.devices.emulated.process import Process
from gputrace.errors import KfdError
from gputrace.formats.ioctl import AllocFlag, ExportDmabuf, GetDmabufInfo, ImportDmabuf
from gputrace.kfd.host import PAGE

_SHARED = AllocFlag.VRAM | AllocFlag.GTT
_MODES = os.O_CLOEXEC | os.O_RDWR


def export_dmabuf(process: Process, record: ExportDmabuf) -> ExportDmabuf:
    """Give a descriptor for a buffer; its memory stays until the device is closed."""
    name, fields = "EXPORT_DMABUF", {"handle": record.handle, "flags": record.flags}
    process.gpu(record.handle >> 32, name)
    if process.foreign:
        process.refused[name] += 1
        reason = "not modelled for a client in another process"
        raise KfdError(name, EINVAL, fields, reason)
    buffer = process.buffers.get(record.handle)
    if buffer is None or not buffer.flags & _SHARED:
        raise KfdError(name, EINVAL, fields, "no such buffer, or none of VRAM or GTT")
    if record.flags & ~_MODES:
        raise KfdError(name, EINVAL, fields, "flags other than O_CLOEXEC and O_RDWR")
    owner = buffer.owner or buffer
    owner.references += 1
    descriptor = os.dup(process.pool.fd)
    process.exported[descriptor] = owner
    return record.replace(dmabuf_fd=descriptor)


def _exported(process: Process, descriptor: int, name: str) -> Buffer:
    found = process.exported.get(descriptor)
    if found is None:
        fields = {"dmabuf_fd": descriptor}
        raise KfdError(name, EBADF, fields, "not a dma-buf of this device")
    return found


def import_dmabuf(process: Process, record: ImportDmabuf) -> ImportDmabuf:
    """Make a further handle of exported memory, at a GPU address of its own."""
    name = "IMPORT_DMABUF"
    gpu = process.gpu(record.gpu_id, name)
    owner = _exported(process, record.dmabuf_fd, name)
    if gpu.acquired is None:
        raise KfdError(name, ENODEV, {"gpu_id": record.gpu_id}, "ACQUIRE_VM was not called")
    reason = check_place(process.family, record.va_addr, owner.length)
    if reason:
        raise KfdError(name, EINVAL, {"va_addr": record.va_addr}, reason)
    owner.references += 1
    handle = gpu.gpu_id << 32 | gpu.handles
    gpu.handles += 1
    process.next_buffer += 1
    kind = owner.flags & _SHARED
    process.buffers[handle] = Buffer(
        handle=handle,
        gpu_id=gpu.gpu_id,
        flags=kind | AllocFlag.WRITABLE | AllocFlag.EXECUTABLE,
        address=record.va_addr,
        size=owner.size,
        length=owner.length,
        host=owner.host,
        offset=owner.offset,
        number=process.next_buffer,
        owner=owner,
        shadow=owner.shadow,
    )
    return record.replace(handle=handle)


def dmabuf_info(process: Process, record: GetDmabufInfo) -> GetDmabufInfo:
    """Tell size, GPU and kind of exported memory; it has no metadata."""
    owner = _exported(process, record.dmabuf_fd, "GET_DMABUF_INFO")
    flags = owner.flags & (_SHARED | AllocFlag.PUBLIC)
    return record.replace(
        size=owner.length, gpu_id=owner.gpu_id, flags=flags, metadata_size=0
    )


def place_in(buffer: Buffer, offset: int, size: int) -> int:
    """Return where in the memory file a part of exported memory lies."""
    if offset % PAGE or offset < 0 or offset + size > buffer.length:
        fields = {"offset": offset, "size": size}
        raise KfdError("mmap", EINVAL, fields, f"the dma-buf has {buffer.length:#x} bytes")
    return buffer.offset + offset
