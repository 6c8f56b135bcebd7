"""The memory ioctls: VM, allocation, mapping, freeing.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_chardev.c, amdgpu_amdkfd_gpuvm.c.
"""

from errno import EBUSY, EINVAL, ENODEV, ENOMEM, EPERM

from gputrace.devices.emulated.memory import Buffer, pages
from gputrace.devices.emulated.process import Gpu, Process
from gputrace.errors import KfdError
from gputrace.families import Family
from gputrace.formats.ioctl import (
    PROCESS_DOORBELL_BYTES,
    AcquireVm,
    AllocFlag,
    AllocMemoryOfGpu,
    FreeMemoryOfGpu,
    GetAvailableMemory,
    MapMemoryToGpu,
    MmapOffset,
    MmapType,
    UnmapMemoryFromGpu,
)
from gputrace.kfd.host import PAGE

_TYPES = (
    AllocFlag.VRAM, AllocFlag.GTT, AllocFlag.USERPTR, AllocFlag.DOORBELL, AllocFlag.MMIO_REMAP,
)  # fmt: skip
_KNOWN = AllocFlag(sum(AllocFlag))
_AVAILABLE_ALIGNMENT = 2 << 20


def acquire_vm(process: Process, record: AcquireVm) -> AcquireVm:
    """Adopt the VM of a render node; a second time only with the same descriptor."""
    fields = {"drm_fd": record.drm_fd, "gpu_id": record.gpu_id}
    gpu = process.gpu(record.gpu_id, "ACQUIRE_VM")
    if process.render.get(gpu.node.render_minor) != record.drm_fd:
        raise KfdError("ACQUIRE_VM", EINVAL, fields, "not a descriptor of this GPU's render node")
    if gpu.acquired not in (None, record.drm_fd):
        raise KfdError("ACQUIRE_VM", EBUSY, fields, "acquired with another descriptor")
    gpu.acquired = record.drm_fd
    return record


def _kind(record: AllocMemoryOfGpu) -> AllocFlag:
    flags = AllocFlag(record.flags)
    kind = next((kind for kind in _TYPES if flags & kind), None)
    if kind is None:
        raise _refusal(record, EINVAL, "no memory type in the flags")
    return kind


def _refusal(record: AllocMemoryOfGpu, code: int, reason: str) -> KfdError:
    fields = {name: getattr(record, name) for name in ("va_addr", "size", "gpu_id", "flags")}
    return KfdError("ALLOC_MEMORY_OF_GPU", code, fields, reason)


def _check(record: AllocMemoryOfGpu, kind: AllocFlag) -> None:
    if kind == AllocFlag.USERPTR and not record.mmap_offset:
        raise _refusal(record, EINVAL, "a user pointer needs its CPU address in mmap_offset")
    if kind == AllocFlag.DOORBELL and record.size != PROCESS_DOORBELL_BYTES:
        raise _refusal(record, EINVAL, f"doorbells have {PROCESS_DOORBELL_BYTES} bytes")
    if kind == AllocFlag.MMIO_REMAP and record.size != PAGE:
        raise _refusal(record, EINVAL, f"the MMIO page has {PAGE} bytes")


def check_place(family: Family, address: int, length: int) -> str:
    """Say what is wrong with the GPU address of a buffer, if anything is."""
    if address % PAGE:
        return "the GPU address is not of a page"
    if family.gpuvm_base <= address and address + length - 1 <= family.gpuvm_limit:
        return ""
    return "the GPU address is outside the aperture"


def alloc(process: Process, record: AllocMemoryOfGpu) -> AllocMemoryOfGpu:
    """Make a buffer and give it its GPU address."""
    if not record.size:
        raise _refusal(record, EINVAL, "size is 0")
    gpu = process.gpu(record.gpu_id, "ALLOC_MEMORY_OF_GPU")
    kind = _kind(record)
    _check(record, kind)
    if gpu.acquired is None:
        raise _refusal(record, ENODEV, "ACQUIRE_VM was not called")
    if record.flags & AllocFlag.AQL_QUEUE_MEM or record.flags & ~_KNOWN:
        process.refused["ALLOC_MEMORY_OF_GPU flags"] += 1
        raise _refusal(record, EINVAL, "AQL_QUEUE_MEM and unknown flags are not modelled")
    length = pages(record.size)
    reason = check_place(process.family, record.va_addr, length)
    if reason:
        raise _refusal(record, EINVAL, reason)
    buffer = _back(process, gpu, record, kind, length)
    process.buffers[buffer.handle] = buffer
    offset = record.mmap_offset if kind == AllocFlag.USERPTR else buffer.offset
    if kind == AllocFlag.MMIO_REMAP:
        offset = MmapOffset(MmapType.MMIO, gpu.gpu_id).encode()
    return record.replace(handle=buffer.handle, mmap_offset=offset)


def _back(
    process: Process, gpu: Gpu, record: AllocMemoryOfGpu, kind: AllocFlag, length: int
) -> Buffer:
    if kind == AllocFlag.VRAM:
        if gpu.vram_used + length > gpu.node.memory:
            raise _refusal(record, ENOMEM, f"{available(gpu):#x} bytes of VRAM are left")
        gpu.vram_used += length
    if kind in (AllocFlag.VRAM, AllocFlag.GTT):
        offset, place = process.pool.take(length)
    elif kind == AllocFlag.USERPTR:
        offset, place = process.client.share(process.pool, record.mmap_offset, length)
    elif kind == AllocFlag.DOORBELL:
        offset, place = gpu.doorbell_offset, gpu.doorbell_host
    else:
        offset, place = gpu.mmio_offset, gpu.mmio_host
    handle = gpu.gpu_id << 32 | gpu.handles
    gpu.handles += 1
    process.next_buffer += 1
    shadow = None
    if process.touched is not None and kind in (AllocFlag.VRAM, AllocFlag.GTT):
        shadow = process.touched.cover(offset, length)
    return Buffer(
        handle=handle,
        gpu_id=gpu.gpu_id,
        flags=AllocFlag(record.flags),
        address=record.va_addr,
        size=record.size,
        length=length,
        host=place,
        offset=offset,
        number=process.next_buffer,
        shadow=shadow,
    )


def free(process: Process, record: FreeMemoryOfGpu) -> FreeMemoryOfGpu:
    """Give a buffer back that is mapped on no GPU."""
    fields = {"handle": record.handle}
    process.gpu(record.handle >> 32, "FREE_MEMORY_OF_GPU")
    buffer = process.buffers.get(record.handle)
    if buffer is None:
        raise KfdError("FREE_MEMORY_OF_GPU", EINVAL, fields, "no such buffer")
    if buffer is process.event_buffer:
        raise KfdError("FREE_MEMORY_OF_GPU", EPERM, fields, "this is the event page")
    if buffer.mapped:
        raise KfdError("FREE_MEMORY_OF_GPU", EBUSY, fields, "still mapped on a GPU")
    del process.buffers[record.handle]
    buffer.freed = True
    owner = buffer.owner or buffer
    owner.references -= 1
    if not owner.references:
        process.drop(owner)
    return record


def _devices(
    process: Process, record: MapMemoryToGpu | UnmapMemoryFromGpu, name: str
) -> tuple[Buffer, list[int]]:
    fields = {"handle": record.handle, "n_devices": record.n_devices}
    if not record.n_devices:
        raise KfdError(name, EINVAL, fields, "no GPU given")
    if record.n_success > record.n_devices:
        raise KfdError(name, EINVAL, fields, "n_success is larger than n_devices")
    raw = process.client.read(record.device_ids_array_ptr, 4 * record.n_devices, name)
    ids = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
    process.gpu(record.handle >> 32, name)
    buffer = process.buffers.get(record.handle)
    if buffer is None:
        raise KfdError(name, ENOMEM, fields, "no such buffer")
    return buffer, ids


def map_to_gpu(process: Process, record: MapMemoryToGpu) -> MapMemoryToGpu:
    """Enter a buffer into the page tables of GPUs, from the n_success-th of the list on."""
    name = "MAP_MEMORY_TO_GPU"
    buffer, ids = _devices(process, record, name)
    done = record.n_success
    for gpu_id in ids[record.n_success :]:
        gpu = process.acquired(gpu_id, name)
        if gpu_id not in buffer.mapped:
            if gpu.space.overlaps(buffer.address, buffer.address + buffer.length):
                fields = {"va_addr": buffer.address, "gpu_id": gpu_id, "n_success": done}
                raise KfdError(name, EINVAL, fields, "something is mapped at these addresses")
            gpu.space.map(buffer)
            buffer.mapped.add(gpu_id)
        done += 1
    return record.replace(n_success=done)


def unmap_from_gpu(process: Process, record: UnmapMemoryFromGpu) -> UnmapMemoryFromGpu:
    """Take a buffer out of the page tables of GPUs."""
    name = "UNMAP_MEMORY_FROM_GPU"
    buffer, ids = _devices(process, record, name)
    done = record.n_success
    for gpu_id in ids[record.n_success :]:
        gpu = process.gpu(gpu_id, name)
        if any(buffer in queue.buffers and queue.gpu is gpu for queue in process.queues.values()):
            fields = {"handle": record.handle, "gpu_id": gpu_id, "n_success": done}
            raise KfdError(name, EBUSY, fields, "a queue is made of it")
        gpu.space.unmap(buffer, process.scheduler.step)
        buffer.mapped.discard(gpu_id)
        done += 1
    return record.replace(n_success=done)


def available(gpu: Gpu) -> int:
    """Bytes of VRAM that can still be allocated."""
    left = gpu.node.memory - gpu.vram_used
    return left // _AVAILABLE_ALIGNMENT * _AVAILABLE_ALIGNMENT


def available_memory(process: Process, record: GetAvailableMemory) -> GetAvailableMemory:
    """Tell how much VRAM is left."""
    return record.replace(available=available(process.gpu(record.gpu_id, "AVAILABLE_MEMORY")))
