"""What happens when a queue cannot go on: who stops, what is kept, which events the client gets."""

from gputrace.devices.emulated.ahead import name_at
from gputrace.devices.emulated.effects import EngineStop
from gputrace.devices.emulated.kernels import KernelStop
from gputrace.devices.emulated.memory import AccessFault, Buffer
from gputrace.devices.emulated.process import Gpu, Process
from gputrace.devices.emulated.queue import HardwareQueue
from gputrace.devices.emulated.scheduler import Trouble
from gputrace.errors import DecodeError
from gputrace.formats.ioctl import (
    EventType,
    HwExceptionData,
    MemoryExceptionData,
    QueueType,
    ResetCause,
    ResetType,
)
from gputrace.kfd.host import PAGE
from gputrace.kfd.port import Fault


def report(process: Process, queue: HardwareQueue, back: bool, problem: Trouble, step: int) -> None:
    """Stop what must stop, keep a Fault with all that is known, and set the events."""
    refused = getattr(problem, "refused", "")
    if refused:
        process.refused[refused] += 1
    fault = _fault(process, queue, back, problem, step)
    process.faults.append(fault)
    queue.stopped = fault.text
    gpu = process.gpus[queue.device]
    if fault.kind == "memory":
        _memory_fault(process, gpu, queue, fault)
    else:
        _engine_stop(process, gpu)


def _fault(
    process: Process, queue: HardwareQueue, back: bool, problem: Trouble, step: int
) -> Fault:
    tail = queue.working if back else None
    packet, place = (tail.packet, tail.place) if tail else (queue.packet, queue.place)
    stop = problem if isinstance(problem, KernelStop) else None
    address = getattr(problem, "address", None)
    access = getattr(problem, "access", None)
    kind = "memory" if access else "kernel" if stop else "packet"
    near = "" if address is None or not access else nearest(process, queue.device, address)
    wave = stop.place if stop else None
    return Fault(
        kind, _text(process, queue, (packet, place), problem, near),
        queue.device, queue.queue_id, packet, place, address, access,
        (stop.kernel or None) if stop else None,
        wave.group if wave else None, wave.wave if wave else None, wave.pc if wave else None,
        step, stop.lanes if stop else None, stop.size if stop else None, near,
        stop.registers if stop else {},
    )  # fmt: skip


def _text(
    process: Process, queue: HardwareQueue, at: tuple[int, int], problem: Trouble, near: str
) -> str:
    packet, place = at
    where = f"queue {queue.queue_id} of device {queue.device}, packet {packet}"
    name = name_at(queue, process.family, place)
    if not name and isinstance(problem, KernelStop):
        name = "KERNEL_DISPATCH"  # its slot of an AQL ring has been given back
    where += f" ({name} at {place:#x})" if name else f" at {place:#x}"
    said = str(problem)
    if isinstance(problem, KernelStop):
        kernel = f"kernel {problem.kernel}: " if problem.kernel else ""
        said = f"{kernel}{said}{_symbol(process, problem)}"
    elif near and isinstance(problem, AccessFault):
        said = f"{_ACCESSES[problem.access]} at {problem.address:#x}: {problem.reason}"
    hardware = _on_hardware(queue, problem)
    end = (f": {near}" if near else "") + (f"; hardware {hardware}" if hardware else "")
    return f"{where}: {said}{end}"


def _on_hardware(queue: HardwareQueue, problem: Trouble) -> str:
    # What the GPU does with such a packet, where that is known.
    if isinstance(problem, EngineStop):
        return problem.hardware
    if not isinstance(problem, DecodeError):
        return ""
    if "its header says" in problem.reason:
        return "takes as many dwords as the header says, and misreads what follows"
    if queue.kind in (QueueType.COMPUTE, QueueType.COMPUTE_AQL):
        return "raises the bad-opcode interrupt and stands still"  # soc15_int.h, source id 183
    return "reports an illegal instruction"  # sdma_v4_0.c sdma_v4_0_process_illegal_inst_irq


_ACCESSES = {"r": "read", "w": "write", "x": "execution"}


def _symbol(process: Process, stop: KernelStop) -> str:
    # The address in the code by name.
    if stop.place is None or process.labels.at(stop.place.pc) is None:
        return ""
    return f", in {process.labels.short(stop.place.pc)}"


def nearest(process: Process, device: int, address: int) -> str:
    """Say which allocation an address is in, was in, or is next to on a device."""
    space = process.gpus[device].space
    below, above = space.around(address)
    if below is not None and address < below.end:
        past = address - below.limit
        if past >= 0:
            return f"{past:#x} bytes after the end of {_buffer(process, below.buffer)}"
        return _buffer(process, below.buffer, address)
    gone = space.gone(address)
    held = _elsewhere(process, process.gpus[device].gpu_id, address)
    if held is not None and (gone is None or (held.mapped and gone.buffer is not held)):
        devices = " and ".join(
            f"device {gpu.index}" for gpu in process.gpus if gpu.gpu_id in held.mapped
        )
        where = f"{devices}, not on device {device}" if devices else "no device"
        return f"{_buffer(process, held, address)}, which is mapped on {where}"
    if gone is not None:
        how = "freed" if gone.buffer.freed else "unmapped"
        return f"{_buffer(process, gone.buffer, address)}, which was {how} at step {gone.step}"
    found = []
    if below is not None:
        past = address - below.end
        found.append((past, f"{past:#x} bytes after the end of {_buffer(process, below.buffer)}"))
    if above is not None:
        gap = above.start - address
        found.append((gap, f"{gap:#x} bytes before {_buffer(process, above.buffer)}"))
    return min(found)[1] if found else "nothing is mapped"


def _elsewhere(process: Process, gpu_id: int, address: int) -> Buffer | None:
    # Memory that the client has at an address, but not in this GPU's page table.
    found = [one for one in process.buffers.values() if one.holds(address)]
    return next((one for one in found if gpu_id not in one.mapped), None)


def _buffer(process: Process, buffer: Buffer, address: int | None = None) -> str:
    # A buffer by the name that it has or had, with an address in it as an offset.
    start = buffer.address
    label = process.labels.at(start) if not buffer.freed else process.labels.was(start)
    named = label is not None and label.address == start
    past = f" + {address - start:#x}" if address is not None else ""
    if label is None or not named:
        return f"a buffer{past} ({buffer.describe(buffer.size)})"
    return f"{label.what} {label.name!r}{past} ({buffer.describe(label.size)})"


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
