"""The queue ioctls, with every check that the kernel makes, in its order.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_chardev.c set_queue_properties_from_user, kfd_queue.c
kfd_queue_acquire_buffers, kfd_process_queue_manager.c, kfd_device_queue_manager.c.
"""

from errno import EBUSY, EFAULT, EINVAL, ENODEV, ENOMEM, ENOSPC, ESRCH

from gputrace.devices.emulated.engines import make_engine
from gputrace.devices.emulated.memory import Buffer
from gputrace.devices.emulated.process import Gpu, Process, Queue
from gputrace.devices.emulated.queue import HardwareQueue, Host
from gputrace.errors import KfdError
from gputrace.formats.ioctl import (
    MAX_QUEUE_PERCENTAGE,
    MAX_QUEUE_PRIORITY,
    MIN_RING_BYTES,
    AllocQueueGws,
    CreateQueue,
    DestroyQueue,
    MmapOffset,
    MmapType,
    QueueType,
    SetCuMask,
    UpdateQueue,
)
from gputrace.isa.wave_sync import Asking, BadSync, Operation, WaveSync
from gputrace.kfd.host import PAGE

ENOTSUPP = 524  # <linux/errno.h>; not one of the errno that user space knows
MAX_QUEUES = 1024
EOP_BYTES = 4096
_MOST_UNITS = 1024  # KFD_MAX_NUM_CUS of kfd_ioctl_set_cu_mask
_EVEN = int("01" * (_MOST_UNITS // 2), 2)
_COMPUTE = (QueueType.COMPUTE, QueueType.COMPUTE_AQL)
_USER_LIMIT = 1 << 47
_DOORBELLS = 1024
_SDMA_DOORBELLS = 0x100  # first doorbell of SDMA engine 0, AMDGPU_NAVI10_DOORBELL_sDMA_ENGINE0
_SDMA_SPACING = 10
_MIRROR = 512


def _refusal(record: CreateQueue, code: int, reason: str) -> KfdError:
    names = ("queue_type", "gpu_id", "ring_base_address", "ring_size")
    return KfdError("CREATE_QUEUE", code, {n: int(getattr(record, n)) for n in names}, reason)


def _check_numbers(record: CreateQueue) -> None:
    if record.queue_percentage > MAX_QUEUE_PERCENTAGE:
        raise _refusal(record, EINVAL, f"queue_percentage {record.queue_percentage}")
    if record.queue_priority > MAX_QUEUE_PRIORITY:
        raise _refusal(record, EINVAL, f"queue_priority {record.queue_priority}")
    for size, what in ((record.ring_size, "ring"), (record.metadata_ring_size, "metadata ring")):
        if size & (size - 1):
            raise _refusal(record, EINVAL, f"the {what} of {size} bytes is not a power of two")
    for name in (
        "ring_base_address", "write_pointer_address", "read_pointer_address",
        "eop_buffer_address", "ctx_save_restore_address",
    ):  # fmt: skip
        address = getattr(record, name)
        optional = name.startswith(("eop", "ctx"))
        if address >= _USER_LIMIT or (not address and not optional):
            raise _refusal(record, EFAULT, f"{name} {address:#x} is not a user address")
    if record.queue_type not in QueueType.__members__.values():
        raise _refusal(record, ENOTSUPP, f"queue_type {int(record.queue_type)}")


def _buffer(record: CreateQueue, gpu: Gpu, address: int, size: int, what: str) -> Buffer:
    # The mapping must begin at the page of the address and, when whole pages are asked for, end
    # where they end.
    span = gpu.space.find(address)
    page = address // PAGE * PAGE
    if span is None or span.start != page:
        raise _refusal(record, EINVAL, f"the {what} at {address:#x} does not begin a mapping")
    if size >= PAGE and span.end - span.start != size // PAGE * PAGE:
        have = span.end - span.start
        raise _refusal(record, EINVAL, f"the {what} has {size} bytes, its mapping has {have}")
    return span.buffer


def _buffers(process: Process, record: CreateQueue, gpu: Gpu, ring: int) -> list[Buffer]:
    found = [
        _buffer(record, gpu, record.write_pointer_address, PAGE, "write pointer"),
        _buffer(record, gpu, record.read_pointer_address, PAGE, "read pointer"),
        _buffer(record, gpu, record.ring_base_address, ring, "ring"),
    ]
    if record.queue_type not in _COMPUTE:
        return found
    if record.eop_buffer_address:
        if record.eop_buffer_size != EOP_BYTES:
            raise _refusal(record, EINVAL, f"the EOP buffer has {EOP_BYTES} bytes")
        found.append(_buffer(record, gpu, record.eop_buffer_address, EOP_BYTES, "EOP buffer"))
    sizes = process.family.queue_sizes(gpu.node.properties)
    if record.ctl_stack_size != sizes.ctl_stack_size:
        raise _refusal(record, EINVAL, f"ctl_stack_size must be {sizes.ctl_stack_size}")
    if record.ctx_save_restore_size < sizes.cwsr_size:
        raise _refusal(record, EINVAL, f"ctx_save_restore_size must be {sizes.cwsr_size} or more")
    whole = (record.ctx_save_restore_size + sizes.debug_size) * gpu.node.xccs
    whole = -(-whole // PAGE) * PAGE
    area = record.ctx_save_restore_address
    found.append(_buffer(record, gpu, area, whole, "context save area"))
    return found


def _sdma_slot(process: Process, record: CreateQueue, gpu: Gpu) -> int | None:
    # Queues are dealt to the engines of their kind in turn: slot = queue * engines + engine.
    copies = process.family.copies
    if record.queue_type in _COMPUTE:
        return None
    engines = copies.pcie + copies.xgmi
    if record.queue_type == QueueType.SDMA_BY_ENG_ID:
        choice = [record.sdma_engine_id]
    elif record.queue_type == QueueType.SDMA_XGMI:
        choice = list(range(copies.pcie, engines))
    else:
        choice = list(range(copies.pcie))
    for queue in range(copies.queues):
        for engine in choice:
            if queue * engines + engine not in gpu.sdma_queues:
                return queue * engines + engine
    raise _refusal(record, ENOMEM, "all SDMA queues are in use")


def _doorbell(process: Process, record: CreateQueue, gpu: Gpu, slot: int | None) -> int:
    copies = process.family.copies
    engines = copies.pcie + copies.xgmi
    last = _SDMA_DOORBELLS + _SDMA_SPACING * engines
    if slot is None:
        for index in range(_DOORBELLS):
            reserved = _SDMA_DOORBELLS <= index % _MIRROR < last
            if index not in gpu.used_doorbells and not reserved:
                return index
        raise _refusal(record, EBUSY, "no doorbell is free")
    queue, engine = divmod(slot, engines)
    index = _SDMA_DOORBELLS + _SDMA_SPACING * engine + queue // 2 + _MIRROR * (queue & 1)
    if index in gpu.used_doorbells:
        raise _refusal(record, EBUSY, "the queue's doorbell is in use")
    return index


def create_queue(process: Process, record: CreateQueue, host: Host) -> CreateQueue:
    """Make a queue, after every check; its doorbell is mapped at the offset returned."""
    _check_numbers(record)
    ring = max(record.ring_size, MIN_RING_BYTES)
    gpu = process.gpu(record.gpu_id, "CREATE_QUEUE")
    if gpu.acquired is None:
        raise _refusal(record, ESRCH, "ACQUIRE_VM was not called")
    copies = process.family.copies
    by_engine = record.queue_type == QueueType.SDMA_BY_ENG_ID
    if by_engine and record.sdma_engine_id >= copies.pcie + copies.xgmi:
        raise _refusal(record, EINVAL, f"there is no SDMA engine {record.sdma_engine_id}")
    buffers = _buffers(process, record, gpu, ring)
    mine = sum(queue.gpu is gpu for queue in process.queues.values())
    if mine >= process.family.queues_per_process:
        raise _refusal(record, ENOSPC, f"{mine} queues are the limit on one GPU")
    if len(process.queues) >= MAX_QUEUES:
        raise _refusal(record, ENOMEM, f"{MAX_QUEUES} queues are the limit of a process")
    slot = _sdma_slot(process, record, gpu)
    doorbell = _doorbell(process, record, gpu, slot)
    gpu.used_doorbells.add(doorbell)
    if slot is not None:
        gpu.sdma_queues[slot] = doorbell
    queue_id = min(set(range(len(process.queues) + 1)) - set(process.queues))
    hardware = _hardware(process, record, gpu, host, queue_id, doorbell, ring)
    process.queues[queue_id] = Queue(gpu, hardware, doorbell, slot, buffers)
    offset = MmapOffset(MmapType.DOORBELL, gpu.gpu_id, doorbell * 8).encode()
    return record.replace(queue_id=queue_id, doorbell_offset=offset)


def _hardware(
    process: Process,
    record: CreateQueue,
    gpu: Gpu,
    host: Host,
    queue_id: int,
    doorbell: int,
    ring: int,
) -> HardwareQueue:
    kind = QueueType(record.queue_type)
    cells = gpu.doorbells
    aql = kind == QueueType.COMPUTE_AQL
    cells[doorbell] = (1 << 64) - 1 if aql else 0

    def written() -> int:
        value = cells[doorbell]
        return (value + 1) & 0xFFFF_FFFF_FFFF_FFFF if aql else value

    queue = HardwareQueue(
        queue_id=queue_id,
        device=gpu.index,
        kind=kind,
        space=gpu.space,
        host=host,
        ring=(record.ring_base_address, ring),
        pointers=(record.write_pointer_address, record.read_pointer_address),
        doorbell=written,
        engine=lambda first: make_engine(process.family, record, ring, first),
        history=process.history,
    )
    queue.active = record.queue_percentage > 0 and record.ring_size > 0
    return queue


def destroy_queue(process: Process, record: DestroyQueue) -> DestroyQueue:
    """Stop a queue wherever it is and forget it."""
    queue = process.queues.pop(record.queue_id, None)
    if queue is None:
        raise KfdError("DESTROY_QUEUE", EINVAL, {"queue_id": record.queue_id}, "no such queue")
    queue.gpu.used_doorbells.discard(queue.doorbell)
    if queue.sdma_slot is not None:
        del queue.gpu.sdma_queues[queue.sdma_slot]
    return record


def update_queue(process: Process, record: UpdateQueue) -> UpdateQueue:
    """Change a queue's ring or stop it: a ring at 0 or a share of 0 stops it."""
    fields = {"queue_id": record.queue_id, "ring_size": record.ring_size}
    if record.queue_percentage > MAX_QUEUE_PERCENTAGE or record.queue_priority > MAX_QUEUE_PRIORITY:
        raise KfdError("UPDATE_QUEUE", EINVAL, fields, "percentage or priority out of range")
    if record.ring_size & (record.ring_size - 1):
        raise KfdError("UPDATE_QUEUE", EINVAL, fields, "the ring is not a power of two")
    if record.ring_base_address >= _USER_LIMIT:
        raise KfdError("UPDATE_QUEUE", EFAULT, fields, "the ring is not at a user address")
    queue = process.queues.get(record.queue_id)
    if queue is None:
        raise KfdError("UPDATE_QUEUE", EFAULT, fields, "no such queue")
    hardware = queue.hardware
    size = max(record.ring_size, MIN_RING_BYTES)
    if record.ring_base_address and (record.ring_base_address, size) != (
        hardware.base, hardware.size,
    ):  # fmt: skip
        process.refused["UPDATE_QUEUE with another ring"] += 1
        raise KfdError("UPDATE_QUEUE", EINVAL, fields, "moving a ring is not modelled")
    hardware.active = bool(record.ring_base_address and record.queue_percentage)
    return record


def set_cu_mask(process: Process, record: SetCuMask) -> SetCuMask:
    """Restrict a queue to some compute units: that changes nothing unless it leaves none."""
    name, fields = "SET_CU_MASK", {"queue_id": record.queue_id, "num_cu_mask": record.num_cu_mask}
    if not record.num_cu_mask or record.num_cu_mask % 32:
        raise KfdError(name, EINVAL, fields, "the mask has to have a multiple of 32 bits")
    size = min(record.num_cu_mask, _MOST_UNITS) // 8
    mask = int.from_bytes(process.client.read(record.cu_mask_ptr, size, name), "little")
    queue = process.queues.get(record.queue_id)
    if queue is None:
        raise KfdError(name, EFAULT, fields, "no such queue")
    if process.family.wgp_mode and mask & _EVEN != mask >> 1 & _EVEN:
        raise KfdError(name, EINVAL, fields, "units have to be enabled in pairs")
    properties = queue.gpu.node.properties
    units = properties["simd_count"] // properties["simd_per_cu"]
    queue.hardware.has_units = bool(mask & ((1 << units) - 1))
    return record


class _Formal(WaveSync):
    # What a queue has where asking for it is a formality.

    def carry_out(self, operation: Operation, number: int, value: int, who: Asking) -> bool:
        raise BadSync("the kernel driver lets no queue of this GPU use global wave sync")


def alloc_queue_gws(process: Process, record: AllocQueueGws) -> AllocQueueGws:
    """Give a queue all of its GPU's global wave sync, or take it back.

    Source: kfd_chardev.c kfd_ioctl_alloc_queue_gws, kfd_process_queue_manager.c pqm_set_gws.
    """
    name = "ALLOC_QUEUE_GWS"
    fields = {"queue_id": record.queue_id, "num_gws": record.num_gws}
    queue = process.queues.get(record.queue_id)
    if queue is None:
        raise KfdError(name, EINVAL, fields, "no such queue")
    if not queue.gpu.node.properties["num_gws"]:
        raise KfdError(name, ENODEV, fields, "the GPU has no global wave sync")
    held = [
        other for other in process.queues.values()
        if other.gpu is queue.gpu and other.hardware.wave_sync is not None
    ]  # fmt: skip
    if record.num_gws:
        if held:
            raise KfdError(name, EBUSY, fields, "one queue of a process has it already")
        queue.hardware.wave_sync = WaveSync() if process.family.wave_sync else _Formal()
    elif queue not in held:
        raise KfdError(name, EINVAL, fields, "the queue has none to give back")
    else:
        queue.hardware.wave_sync = None
    return record.replace(first_gws=0)
