"""What each item of a trace makes, uses, reads and writes: the events for `dependencies.build`.

Memory is one address space; what lies behind it are others, in the same numbers: that a range is
reserved, allocated, mapped on a GPU, mapped for the CPU, and the registers of each queue. A call
"writes" the range that it makes so, and whoever relies on that "waits" for its last writer: a hard
need. So an access to memory needs the call that mapped it, and one after the memory was given back
needs the call that took it away: the use after free keeps its free.
"""

import struct
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator

from gputrace.formats import aql, ioctl, pm4
from gputrace.formats.descriptor import KernelDescriptor
from gputrace.formats.ioctl import AllocFlag
from gputrace.minimize.dependencies import Event, Range
from gputrace.minimize.effects import conditions, stores, touched
from gputrace.minimize.model import Item, Kind, Model, Packet
from gputrace.submitted.image import Image
from gputrace.trace import events

_SPACE = 1 << 72
_RESERVED, _ALLOCATED, _CPU, _MAPPED = 1, 2, 3, 16
_REGISTERS = 1 << 90
_QUEUE_STRIDE = 1 << 24
KERNARG_BYTES = 4096
"""Most bytes of kernel arguments that are looked through for pointers."""
_KFD = "kfd"


def shadow(space: int, where: Range) -> Range:
    """Return a range in one of the spaces behind the addresses."""
    return Range(where.start + space * _SPACE, where.end + space * _SPACE)


class Needs:
    """Describes items one after another, in the order in which they took place.

    `retired` tells which packets went on in the recorded run: only these surely found what they
    waited for and touched memory that was there.
    """

    def __init__(self, model: Model, retired: Callable[[Packet], bool]) -> None:
        self.model, self._retired = model, retired
        self._image = Image(model.source)
        self._buffers: dict[int, tuple[int, Range, int]] = {}  # handle -> gpu, range, mmap offset
        self._places: list[tuple[int, int]] = []  # the same ranges, by address
        self._gpus: dict[int, int] = {}
        self._doorbells: dict[int, int] = {}  # mmap offset of a doorbell page -> gpu
        self._registers: dict[int, dict[int, int]] = {}
        self._live_queues: dict[int, int] = {}  # recorded id -> ordinal
        self._ordinals = {queue.event: queue.ordinal for queue in model.queues}

    def describe(self, item: Item) -> Event:
        """Return what an item does; call it for every item, in order."""
        event = self.model.by_number[item.event]
        if item.kind is Kind.PACKET:
            return self._packet(self.model.packet(item))
        self._image.apply(event)
        if isinstance(event, events.Ioctl):
            return self._call(item.event, event)
        if isinstance(event, events.Memory | events.HostStore):
            cpu = tuple(shadow(_CPU, one) for one in item.ranges)
            return Event(writes=item.ranges, waits=cpu)
        return self._range(event)

    # --- calls and ranges ----------------------------------------------------------------------

    def _gpu(self, gpu_id: int) -> int:
        return _MAPPED + self._gpus.setdefault(gpu_id, len(self._gpus))

    def _range(self, event: events.Event) -> Event:
        match event:
            case events.Reserve():
                where = Range(event.address, event.address + event.size)
                return Event(writes=(shadow(_RESERVED, where),))
            case events.Release():
                where = Range(event.address, event.address + event.size)
                old = (shadow(_RESERVED, where), shadow(_CPU, where))
                return Event(waits=old, writes=old)
            case events.Map():
                return self._mapping(event)
            case events.Unmap():
                where = Range(event.address, event.address + event.size)
                return Event(waits=(shadow(_CPU, where),), writes=(shadow(_CPU, where),))
        return Event()

    def _mapping(self, event: events.Map) -> Event:
        where = Range(event.address, event.address + event.size)
        waits = [shadow(_RESERVED, where)]
        makes: tuple[object, ...] = ()
        if event.target == _KFD:
            makes = (("doorbells", event.offset),)
        for _, buffer, offset in self._buffers.values():
            if event.target != _KFD and offset == event.offset:
                waits.append(shadow(_ALLOCATED, buffer))
        return Event(makes=makes, waits=tuple(waits), writes=(shadow(_CPU, where),))

    def _call(self, number: int, event: events.Ioctl) -> Event:
        after = ioctl.RECORDS[event.record].from_bytes(event.after)
        match after:
            case ioctl.AcquireVm():
                return Event(makes=(("gpu", after.gpu_id),))
            case ioctl.AllocMemoryOfGpu():
                return self._alloc(after)
            case ioctl.FreeMemoryOfGpu():
                return self._free(after.handle)
            case ioctl.MapMemoryToGpu() | ioctl.UnmapMemoryFromGpu():
                return self._map_on_gpus(after, event)
            case ioctl.CreateQueue():
                return self._create_queue(number, after)
            case ioctl.DestroyQueue():
                ordinal = self._live_queues.pop(after.queue_id, -1)
                name = ("queue", ordinal)
                return Event(uses=(name,), destroys=(name,))
            case ioctl.UpdateQueue() | ioctl.SetCuMask() | ioctl.AllocQueueGws():
                return Event(uses=(("queue", self._live_queues.get(after.queue_id, -1)),))
            case ioctl.CreateEvent():
                return self._create_event(after)
            case ioctl.DestroyEvent() | ioctl.SetEvent() | ioctl.ResetEvent():
                destroys = isinstance(after, ioctl.DestroyEvent)
                name = ("event", after.event_id)
                return Event(uses=(name,), destroys=(name,) if destroys else ())
        gpu_id = getattr(after, "gpu_id", None)
        return Event(uses=(("gpu", gpu_id),) if gpu_id else ())

    def _alloc(self, after: ioctl.AllocMemoryOfGpu) -> Event:
        where = Range(after.va_addr, after.va_addr + after.size)
        self._buffers[after.handle] = after.gpu_id, where, after.mmap_offset
        insort(self._places, (where.start, where.end))
        waits = [shadow(_ALLOCATED, where)]
        if after.flags & AllocFlag.USERPTR:
            waits.append(shadow(_CPU, where))
        return Event(
            uses=(("gpu", after.gpu_id),),
            waits=tuple(waits),
            writes=(shadow(_ALLOCATED, where),),
        )

    def _free(self, handle: int) -> Event:
        if handle not in self._buffers:
            return Event()
        gpu, where, _ = self._buffers.pop(handle)
        self._places.remove((where.start, where.end))
        # Free, then allocate again: in this order, or two live at one address.
        old = (shadow(_ALLOCATED, where), shadow(self._gpu(gpu), where))
        return Event(waits=old, writes=old[:1])

    def _map_on_gpus(
        self, after: ioctl.MapMemoryToGpu | ioctl.UnmapMemoryFromGpu, event: events.Ioctl
    ) -> Event:
        _, where, _ = self._buffers.get(after.handle, (0, Range(0, 0), 0))
        ids = [
            gpu
            for payload in event.payloads
            if payload.field == "device_ids_array_ptr"
            for (gpu,) in struct.iter_unpack("<I", payload.before[: 4 * after.n_devices])
        ]
        there = tuple(shadow(self._gpu(gpu), where) for gpu in ids)
        old = there if isinstance(after, ioctl.UnmapMemoryFromGpu) else ()
        needs = (shadow(_ALLOCATED, where), *old)
        return Event(uses=tuple(("gpu", gpu) for gpu in ids), waits=needs, writes=there)

    def _create_queue(self, number: int, after: ioctl.CreateQueue) -> Event:
        ordinal = self._ordinals.get(number, -1)
        self._live_queues[after.queue_id] = ordinal
        gpu = self._gpu(after.gpu_id)
        named = [one.where for one in touched(after)]
        for pointer in (after.read_pointer_address, after.write_pointer_address):
            named.append(Range(pointer, pointer + 8))
        queue = Range(after.write_pointer_address & ~4095, (after.write_pointer_address | 4095) + 1)
        return Event(
            makes=(("queue", ordinal),),
            uses=(("gpu", after.gpu_id),),
            waits=tuple(shadow(gpu, where) for where in named),
            reads=(*named, queue),
        )

    def _create_event(self, after: ioctl.CreateEvent) -> Event:
        page = self._buffers.get(after.event_page_offset)
        waits = (shadow(_ALLOCATED, page[1]),) if page is not None else ()
        return Event(makes=(("event", after.event_id),), waits=waits)

    # --- packets -------------------------------------------------------------------------------

    def _packet(self, packet: Packet) -> Event:
        queue = self.model.queues[packet.queue]
        gpu, sure = self._gpu(queue.made.gpu_id), self._retired(packet)
        page, _ = ioctl.doorbell_parts(queue.made.doorbell_offset)
        hard = [shadow(_CPU, one) for one in queue.owned()]
        reads: list[Range] = []
        writes: list[Range] = []
        for record in packet.records:
            for one in touched(record):
                (hard if sure else reads).append(shadow(gpu, one.where))
                if "r" in one.access or "x" in one.access:
                    reads.append(one.where)
            for condition in conditions(record):
                where = Range(condition.address, condition.address + condition.size)
                (hard if sure else reads).append(where)
            writes += [Range(one.address, one.address + one.size) for one in stores(record)]
            more_reads, more_writes = self._state(packet.queue, gpu, record)
            reads += more_reads
            writes += more_writes
        return Event(
            uses=(("queue", packet.queue), ("doorbells", page)),
            reads=tuple(reads),
            writes=tuple(writes),
            waits=tuple(hard),
        )

    def _state(self, queue: int, gpu: int, record: object) -> tuple[list[Range], list[Range]]:
        match record:
            case pm4.SetShReg() | pm4.SetUconfigReg():
                known = self._registers.setdefault(queue, {})
                known.update(enumerate(record.values, record.register))
                count = len(record.values)
                return [], [_registers(queue, record.register, record.register + count)]
            case pm4.DispatchDirect() | pm4.DispatchIndirect():
                used = [_registers(queue, 0, 1 << 20)]
                return used + list(self._launched(queue, gpu)), []
            case aql.KernelDispatch():
                return list(self._architected(gpu, record)), []
        return [], []

    def _launched(self, queue: int, gpu: int) -> Iterator[Range]:
        """Yield what the user data registers point at, and the code."""
        known = self._registers.get(queue, {})
        table = self.model.family.registers
        program = table.address("COMPUTE_PGM_LO")
        low, high = known.get(program), known.get(program + 1, 0)
        if low is not None:
            yield from self._code((low | high << 32) << 8, gpu)
        first = table.address("COMPUTE_USER_DATA_0")
        for at in range(first, first + 15):
            pointer = known.get(at, 0) | known.get(at + 1, 0) << 32
            yield from self._arguments(pointer, gpu, KERNARG_BYTES)

    def _architected(self, gpu: int, record: aql.KernelDispatch) -> Iterator[Range]:
        descriptor = self._image.read(record.kernel_object, 64)
        size = KERNARG_BYTES
        if descriptor is not None:
            made = KernelDescriptor.from_bytes(descriptor)
            size = min(int(made.kernarg_size) or KERNARG_BYTES, KERNARG_BYTES)
        yield from self._code(record.kernel_object, gpu)
        yield from self._arguments(record.kernarg_address, gpu, size)

    def _code(self, address: int, gpu: int) -> Iterator[Range]:
        inside = self._inside(address)
        if inside is not None:
            yield inside
            yield shadow(gpu, inside)

    def _arguments(self, address: int, gpu: int, size: int) -> Iterator[Range]:
        inside = self._inside(address)
        if inside is None:
            return
        where = Range(address, min(inside.end, address + size))
        yield where
        yield shadow(gpu, where)
        data = self._image.read(where.start, (where.end - where.start) // 8 * 8)
        for (pointer,) in struct.iter_unpack("<Q", data or b""):
            behind = self._inside(pointer)
            if behind is not None:
                yield behind
                yield shadow(gpu, behind)

    def _inside(self, address: int) -> Range | None:
        at = bisect_right(self._places, (address, 1 << 64)) - 1
        if at < 0 or address >= self._places[at][1]:
            return None
        return Range(*self._places[at])


def _registers(queue: int, first: int, end: int) -> Range:
    base = _REGISTERS + queue * _QUEUE_STRIDE
    return Range(base + 4 * first, base + 4 * end)
