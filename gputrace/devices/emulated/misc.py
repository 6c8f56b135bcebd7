"""The remaining ioctls: version, apertures, clocks, events, and settings of the process.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_chardev.c and kfd_events.c.
"""

from errno import EBUSY, EEXIST, EINVAL, EPERM, ESRCH

from gputrace.devices.emulated.process import Process
from gputrace.errors import KfdError
from gputrace.formats.ioctl import (
    INTERFACE_VERSION,
    CreateEvent,
    DestroyEvent,
    EventType,
    GetClockCounters,
    GetProcessApertures,
    GetProcessAperturesNew,
    GetTileConfig,
    GetVersion,
    MmapOffset,
    MmapType,
    ProcessDeviceApertures,
    ResetEvent,
    RuntimeEnable,
    RuntimeMode,
    SetEvent,
    SetMemoryPolicy,
    SetScratchBackingVa,
    SetTrapHandler,
    SetXnackMode,
)

APERTURE_BYTES = 1 << 32
OLD_APERTURES = 7


def get_version(process: Process, record: GetVersion) -> GetVersion:
    """Tell the version of the interface."""
    major, minor = INTERFACE_VERSION
    return record.replace(major_version=major, minor_version=minor)


def _apertures(process: Process) -> list[ProcessDeviceApertures]:
    family = process.family
    return [
        ProcessDeviceApertures(
            lds_base=family.lds_aperture,
            lds_limit=family.lds_aperture + APERTURE_BYTES - 1,
            scratch_base=family.scratch_aperture,
            scratch_limit=family.scratch_aperture + APERTURE_BYTES - 1,
            gpuvm_base=family.gpuvm_base,
            gpuvm_limit=family.gpuvm_limit,
            gpu_id=gpu.gpu_id,
        )
        for gpu in process.gpus
    ]


def apertures_new(process: Process, record: GetProcessAperturesNew) -> GetProcessAperturesNew:
    """Tell the apertures of every GPU in topology order, or only how many there are."""
    rows = _apertures(process)
    if not record.num_of_nodes:
        return record.replace(num_of_nodes=len(rows))
    fitting = rows[: record.num_of_nodes]
    data = b"".join(row.to_bytes() for row in fitting)
    pointer = record.kfd_process_device_apertures_ptr
    process.client.write(pointer, data, "GET_PROCESS_APERTURES_NEW")
    return record.replace(num_of_nodes=len(fitting))


def apertures_old(process: Process, record: GetProcessApertures) -> GetProcessApertures:
    """Tell the apertures of up to seven GPUs inside the argument."""
    rows = _apertures(process)[:OLD_APERTURES]
    words = record.replace(num_of_nodes=len(rows)).encode()
    for index, row in enumerate(rows):
        words[index * row.WORDS : (index + 1) * row.WORDS] = row.encode()
    return GetProcessApertures.decode(words)


def clock_counters(process: Process, record: GetClockCounters) -> GetClockCounters:
    """Read the clocks; all follow the one virtual clock."""
    if record.gpu_id:
        process.gpu(record.gpu_id, "GET_CLOCK_COUNTERS")
    now = process.scheduler.now_ns
    return record.replace(
        gpu_clock_counter=now * process.family.clock_hz // 1_000_000_000,
        cpu_clock_counter=now,
        system_clock_counter=now,
        system_clock_freq=1_000_000_000,
    )


def memory_policy(process: Process, record: SetMemoryPolicy) -> SetMemoryPolicy:
    """Take a cache policy, which changes nothing where memory is coherent."""
    process.acquired(record.gpu_id, "SET_MEMORY_POLICY", ESRCH)
    for policy in (record.default_policy, record.alternate_policy):
        if int(policy) > 1:
            raise KfdError("SET_MEMORY_POLICY", EINVAL, {"policy": int(policy)}, "no such policy")
    if record.misc_process_flag:
        process.refused["SET_MEMORY_POLICY misc_process_flag"] += 1
        raise KfdError(
            "SET_MEMORY_POLICY", EINVAL, {"misc_process_flag": record.misc_process_flag},
            "newer than version 1.17",
        )  # fmt: skip
    return record


def scratch_backing(process: Process, record: SetScratchBackingVa) -> SetScratchBackingVa:
    """Take an address that only parts without a hardware scheduler would use."""
    process.acquired(record.gpu_id, "SET_SCRATCH_BACKING_VA", ESRCH)
    return record


def trap_handler(process: Process, record: SetTrapHandler) -> SetTrapHandler:
    """Take a trap handler of the client's; a wave that traps is reported instead of run there."""
    process.acquired(record.gpu_id, "SET_TRAP_HANDLER", ESRCH)
    return record


def tile_config(process: Process, record: GetTileConfig) -> GetTileConfig:
    """Tell that there are no tiling tables, as on every part since gfx9."""
    process.gpu(record.gpu_id, "GET_TILE_CONFIG")
    return record.replace(num_tile_configs=0, num_macro_tile_configs=0)


def xnack_mode(process: Process, record: SetXnackMode) -> SetXnackMode:
    """Tell that retry of page faults is off, or turn it off; it cannot be turned on here."""
    if record.xnack_enabled < 0:
        return record.replace(xnack_enabled=0)
    fields = {"xnack_enabled": record.xnack_enabled}
    if process.queues:
        raise KfdError("SET_XNACK_MODE", EBUSY, fields, "there are queues")
    if record.xnack_enabled:
        process.refused["SET_XNACK_MODE on"] += 1
        raise KfdError("SET_XNACK_MODE", EPERM, fields, "retry of page faults is not modelled")
    return record


def runtime_enable(process: Process, record: RuntimeEnable) -> RuntimeEnable:
    """Note that a runtime has started; before any queue and only once."""
    fields = {"mode_mask": int(record.mode_mask)}
    if not record.mode_mask & RuntimeMode.ENABLE:
        process.runtime_enabled = False
        return record
    if process.runtime_enabled:
        raise KfdError("RUNTIME_ENABLE", EBUSY, fields, "enabled already")
    if process.queues:
        raise KfdError("RUNTIME_ENABLE", EEXIST, fields, "there are queues")
    process.runtime_enabled = True
    return record


# --- events -----------------------------------------------------------------------------------


def create_event(process: Process, record: CreateEvent) -> CreateEvent:
    """Make an event; the first may bring the event page as the handle of a buffer."""
    name = "CREATE_EVENT"
    if record.event_page_offset:
        fields = {"event_page_offset": record.event_page_offset}
        process.gpu(record.event_page_offset >> 32, name)
        buffer = process.buffers.get(record.event_page_offset)
        if buffer is None:
            raise KfdError(name, EINVAL, fields, "no such buffer")
        process.events.adopt_page(process.bytes_of(buffer))
        process.event_buffer = buffer
    slotted = record.event_type in (EventType.SIGNAL, EventType.DEBUG_EVENT)
    if slotted:
        process.own_event_page()
    event = process.events.create(record.event_type, bool(record.auto_reset))
    return record.replace(
        event_id=event.event_id,
        event_trigger_data=event.event_id,
        event_slot_index=event.event_id if slotted else 0,
        event_page_offset=MmapOffset(MmapType.EVENTS).encode() if slotted else 0,
    )


def destroy_event(process: Process, record: DestroyEvent) -> DestroyEvent:
    """Forget an event."""
    process.events.destroy(record.event_id)
    return record


def set_event(process: Process, record: SetEvent) -> SetEvent:
    """Signal an event from the CPU."""
    process.events.set_by_cpu(record.event_id)
    return record


def reset_event(process: Process, record: ResetEvent) -> ResetEvent:
    """Take a signal back."""
    process.events.reset_by_cpu(record.event_id)
    return record
