"""What happens when a queue cannot go on: who stops, what is kept, which events the client gets."""

from gputrace.devices.emulated.kernels import KernelStop
from gputrace.devices.emulated.memory import AccessFault
from gputrace.devices.emulated.process import Gpu, Process
from gputrace.devices.emulated.queue import HardwareQueue
from gputrace.devices.emulated.scheduler import Trouble
from gputrace.formats.ioctl import (
    EventType,
    HwExceptionData,
    MemoryExceptionData,
    ResetCause,
    ResetType,
)
from gputrace.kfd.host import PAGE
from gputrace.kfd.port import Fault


def report(process: Process, queue: HardwareQueue, back: bool, problem: Trouble, step: int) -> None:
    """Stop what must stop, keep a Fault with all that is known, and set the events."""
    gpu = process.gpus[queue.device]
    tail = queue.working if back else None
    packet, place = (tail.packet, tail.place) if tail else (queue.packet, queue.place)
    where = f"queue {queue.queue_id} of device {queue.device}, packet {packet} at {place:#x}"
    refused = getattr(problem, "refused", "")
    if refused:
        process.refused[refused] += 1
    address = getattr(problem, "address", None)
    access = getattr(problem, "access", None)
    kernel = problem.kernel if isinstance(problem, KernelStop) else ""
    text = f"{where}: {f'kernel {kernel}, ' if kernel else ''}{problem}"
    if access is not None and address is not None:
        text += f" ({access} of {address:#x}); {gpu.space.near(address)}"
        named = process.labels.describe(address)
        text += f": {named}" if named else ""
    kind, wave = "packet", None
    if isinstance(problem, KernelStop):
        kind, wave = "kernel", problem.place
    if access is not None:
        kind = "memory"
    fault = Fault(
        kind,
        text,
        queue.device,
        queue.queue_id,
        packet,
        place,
        address,
        access,
        kernel or None,
        wave.group if wave else None,
        wave.wave if wave else None,
        wave.pc if wave else None,
        step,
    )
    process.faults.append(fault)
    queue.stopped = text
    if isinstance(problem, AccessFault) or access is not None:
        _memory_fault(process, gpu, queue, fault)
    else:
        _engine_stop(process, gpu)


def _memory_fault(process: Process, gpu: Gpu, queue: HardwareQueue, fault: Fault) -> None:
    for other in process.queues.values():
        if other.gpu is gpu and not other.hardware.stopped:
            other.hardware.stopped = f"evicted by the fault of queue {queue.queue_id}"
    address = fault.address or 0
    data = MemoryExceptionData(
        NotPresent=int(gpu.space.find(address) is None),
        ReadOnly=int(fault.access == "w"),
        va=address // PAGE * PAGE,
        gpu_id=gpu.gpu_id,
        event_id=0,
    )
    process.events.exception(EventType.MEMORY, data)


def _engine_stop(process: Process, gpu: Gpu) -> None:
    data = HwExceptionData(
        reset_type=ResetType.PER_ENGINE,
        reset_cause=ResetCause.GPU_HANG,
        memory_lost=0,
        gpu_id=gpu.gpu_id,
        event_id=0,
    )
    process.events.exception(EventType.HW_EXCEPTION, data)
