"""A reduction as a Python program on the driver core, which needs nothing but gputrace."""

import base64
import json
import textwrap
import zlib
from collections.abc import Iterator

from gputrace.driver.arena import ARENA_BASE, ARENA_COUNT, ARENA_SIZE
from gputrace.errors import visible
from gputrace.formats import ioctl
from gputrace.formats.ioctl import AllocFlag, QueueType
from gputrace.minimize.cause import explain
from gputrace.minimize.dependencies import Range
from gputrace.minimize.edit import Ring
from gputrace.minimize.effects import touched
from gputrace.minimize.failure import describe_queue
from gputrace.minimize.model import BufferFacts, Item, Kind, Packet, QueueFacts
from gputrace.minimize.reduce import Reduction
from gputrace.trace import events

SIGNED = "Written by gputrace."
"""What the head of every script says: a file without it is somebody's own."""

_FRAME = '''"""{title}

{cause}

{signed} Run it with

    python {name} [DEVICE]

It exits with 3 for a hang, 4 for a fault, 1 for a wrong result and 0 when nothing went wrong.
"""

import base64
import sys
import zlib

import gputrace
from gputrace.errors import DeviceFault, Divergence
from gputrace.kfd.port import Progress

DEVICES = [
{devices}
]


def step(device):
    """Let the device take the smallest step it can; False when nothing can go on."""
    kfd = device.session.kfd
    if not hasattr(kfd, "advance"):
        return kfd.idle(kfd.clock() + 1_000_000) is not Progress.BLOCKED
    try:
        kfd.advance(kfd.step + 1, 0)
    except Divergence:
        return False
    return True


def settle(device):
    """Let the device go on until nothing can, or for long."""
    limit = 1_000_000
    while limit and step(device):
        limit -= 1
    return limit > 0


def fetched(device, queue, size):
    """Wait until a queue has taken `size` bytes from its ring, or never can."""
    while queue.ring.consumed < size and step(device):
        pass


def stored(device, buffer, offset, value):
    """Wait until the GPU has stored at least `value`, or never can."""
    size = 8 if value >> 32 else 4
    while int.from_bytes(buffer.read(size, offset), "little") < value and step(device):
        pass


def fallen(device, buffer, offset, value):
    """Wait until the GPU has counted a signal down to at most `value`, or never can."""
    size = 8 if value >> 32 else 4
    while int.from_bytes(buffer.read(size, offset), "little") > value and step(device):
        pass


def unpack(text):
    """Give the bytes that a text stands for."""
    return zlib.decompress(base64.b85decode(text))


def submit(queue, *packets):
    """Put packets, given by their dwords, into a queue's ring and ring its doorbell."""
    words = [word for packet in packets for word in packet]
    queue.submit(b"".join(word.to_bytes(4, "little") for word in words))


def run(device):
    """Do what is left of the trace."""
{body}

def main(name):
    """Run on one device and return what came of it."""
    with gputrace.open(name) as device:
        try:
            wrong = run(device)
        except DeviceFault as fault:
            print(f"fault: {{fault}}")
            return 4
        ended = settle(device)
        faults, stalls = device.session.kfd.faults(), device.session.kfd.stalls()
        for fault in faults:
            print(f"fault: {{fault.text}}")
        for stall in () if faults else stalls:
            print(f"hang: queue {{stall.queue}}, packet {{stall.packet}}: {{stall.text}}")
        if faults or stalls:
            return 4 if faults else 3
        if not ended:
            print("hang: the device goes on for ever")
            return 3
        return wrong() if wrong else 0


if __name__ == "__main__":
    codes = [main(name) for name in (sys.argv[1:] or DEVICES)]
    if len(codes) > 1:
        print(f"{{sum(map(bool, codes))}} of {{len(codes)}} schedules fail")
    sys.exit(max(codes))
'''
SHOWN_DEVICES = 16
"""Schedules that a script tries for a failure that comes and goes."""


class _Script:
    """Writes the body of `run`, step by step in the order of the trace."""

    def __init__(self, reduction: Reduction) -> None:
        self.reduction, self.model = reduction, reduction.case.model
        self.lines: list[str] = []
        self.buffers: dict[int, str] = {}  # event that made it -> variable
        self.sizes: dict[int, int] = {}
        self.queues: dict[int, str] = {}
        self.kept = {i.event: i for i in reduction.kept if i.kind is not Kind.PACKET}
        self.packets: dict[int, list[Packet]] = {}
        for item in reduction.kept:
            if item.kind is Kind.PACKET:
                packet = self.model.packet(item)
                self.packets.setdefault(packet.event, []).append(packet)
        for some in self.packets.values():
            some.sort(key=lambda one: one.number)
        self._packets = {(one.queue, one.number) for some in self.packets.values() for one in some}
        self._stores = sorted(reduction.case.history.stores, reverse=True)
        self._rings: dict[int, Ring] = {}
        self._fetched: dict[int, int] = {}
        self._owned = [one for queue in self.model.queues for one in _owned(queue)]

    def write(self) -> list[str]:
        """Return the lines."""
        self._early_buffers()
        late = self.reduction.target.ways[0].late
        held: list[int] = []
        for number in sorted({*self.kept, *self.packets}):
            if number in self.packets and self.packets[number][0].queue == late:
                held.append(number)
            elif number in self.packets:
                self._submit(number, self.packets[number])
            else:
                if not isinstance(self.model.by_number[number], events.Memory | events.HostStore):
                    held = self._release(held)
                self._other(number, self.kept[number])
        self._release(held)
        self._wrong()
        return self.lines

    # One queue may have to come last for the failure to show: then all others go first.
    def _release(self, held: list[int]) -> list[int]:
        for number in held:
            self._add("settle(device)")
            self._submit(number, self.packets[number])
        return []

    def _add(self, line: str) -> None:
        self.lines.append(line)

    # Memory comes first, at its recorded addresses; what the driver makes for itself goes around.
    def _early_buffers(self) -> None:
        taken: list[Range] = []
        for buffer in self.model.buffers:
            if buffer.made not in self.kept or self._is_owned(buffer.where):
                continue
            if any(one.start < buffer.where.end and buffer.where.start < one.end for one in taken):
                continue
            taken.append(buffer.where)
            self._buffer(buffer)
        for _, name in self.model.names:
            if name.what == "kernel" and name.name and self._place(name.address) is not None:
                self._add(f"device.session.kfd.label({name.address:#x}, {name.size:#x}, "
                          f'"kernel", {name.name!r})')  # fmt: skip

    def _is_owned(self, where: Range) -> bool:
        return any(one.start < where.end and where.start < one.end for one in self._owned)

    def _buffer(self, buffer: BufferFacts) -> None:
        event = self.model.by_number[buffer.made]
        assert isinstance(event, events.Ioctl)
        made = ioctl.AllocMemoryOfGpu.from_bytes(event.after)
        if self._event_page(buffer):
            return
        name = f"b{len(self.buffers)}"
        kind = "vram" if made.flags & AllocFlag.VRAM else "gtt"
        executable = ", executable=True" if made.flags & AllocFlag.EXECUTABLE else ""
        self.buffers[buffer.made] = name
        device = self._device(made.gpu_id)
        label, size = self._label(buffer, made.size)
        self.sizes[buffer.made] = size
        self._add(f'{name} = {device}.alloc({size:#x}, "{kind}", address={made.va_addr:#x}'
                  f"{executable}{label})")  # fmt: skip

    # A buffer's name has its exact size, which check=bytes goes by; the allocation has whole pages.
    def _label(self, buffer: BufferFacts, size: int) -> tuple[str, int]:
        for number, name in self.model.names:
            here = number >= buffer.made and name.address == buffer.where.start
            if here and name.what == "buffer" and name.name:
                return f", name={name.name!r}", min(name.size, size)
        return "", size

    # The driver makes its event page when a device is opened: at the same place as when recorded,
    # unless that was another driver's.
    def _event_page(self, buffer: BufferFacts) -> bool:
        if not ARENA_BASE <= buffer.where.start < ARENA_BASE + ARENA_COUNT * ARENA_SIZE:
            return False
        for event in self.model.by_number.values():
            if isinstance(event, events.Ioctl) and event.record == "CreateEvent":
                page = ioctl.CreateEvent.from_bytes(event.before).event_page_offset
                return page == buffer.handle
        return False

    def _device(self, gpu_id: int) -> str:
        order = []
        for event in self.model.by_number.values():
            if isinstance(event, events.Ioctl) and event.record == "AcquireVm":
                order.append(ioctl.AcquireVm.from_bytes(event.before).gpu_id)
        at = order.index(gpu_id) if gpu_id in order else 0
        return "device" if at == 0 else f"device.peers[{at - 1}]"

    def _other(self, number: int, item: Item) -> None:
        event = self.model.by_number[number]
        if isinstance(event, events.Memory | events.HostStore):
            self._progress(number)
            self._memory(event, item.ranges)
            return
        if not isinstance(event, events.Ioctl):
            return
        record = ioctl.RECORDS[event.record].from_bytes(event.after)
        match record:
            case ioctl.CreateQueue():
                self._queue(number, record)
            case ioctl.AllocQueueGws():
                made = [one for one in self.model.queues if one.made.queue_id == record.queue_id]
                last = max((one for one in made if one.event < number), key=lambda one: one.event)
                verb = "take" if record.num_gws else "drop"
                self._add(f"{self.queues[last.ordinal]}.{verb}_wave_sync()")
            case ioctl.AllocMemoryOfGpu() if number not in self.buffers:
                late = next(one for one in self.model.buffers if one.made == number)
                if not self._is_owned(late.where):
                    self._buffer(late)
            case ioctl.FreeMemoryOfGpu():
                for buffer in self.model.buffers:
                    if buffer.freed == number and buffer.made in self.buffers:
                        self._progress(number)
                        self._add(f"{self.buffers[buffer.made]}.free()")

    def _queue(self, number: int, record: ioctl.CreateQueue) -> None:
        queue = next(one for one in self.model.queues if one.event == number)
        name = f"q{queue.ordinal}"
        self.queues[queue.ordinal] = name
        self._rings[queue.ordinal] = Ring(queue)
        device = self._device(record.gpu_id)
        made = {
            QueueType.COMPUTE: f'compute_queue("pm4", {queue.size:#x})',
            QueueType.COMPUTE_AQL: f'compute_queue("aql", {queue.size:#x})',
            QueueType.SDMA_XGMI: 'copy_queue("xgmi")',
            QueueType.SDMA_BY_ENG_ID: f"copy_queue({record.sdma_engine_id})",
        }.get(QueueType(record.queue_type), "copy_queue()")
        described = visible(describe_queue(self.model, queue.ordinal))
        self._add(f"{name} = {device}.{made}  # {described}")

    def _memory(self, event: events.Memory | events.HostStore, ranges: tuple[Range, ...]) -> None:
        pieces = (
            list(self.model.source.pieces(event))
            if isinstance(event, events.Memory)
            else [(event.address, event.data)]
        )
        for address, data in pieces:
            for one in ranges:
                low, high = max(one.start, address), min(one.end, address + len(data))
                if low < high:
                    self._store(low, data[low - address : high - address])

    def _store(self, address: int, data: bytes) -> None:
        found = self._place(address)
        if found is None:
            return  # of a queue: the driver fills that in
        text = base64.b85encode(zlib.compress(data, 9)).decode()
        name, offset = found
        parts = textwrap.wrap(text, 80) or [""]
        self._add(f"{name}.write(unpack(")
        self.lines += [f'    "{part}"' for part in parts]  # base 85 has no quotes
        self._add(f"), {offset:#x})  # {len(data)} bytes")

    def _place(self, address: int) -> tuple[str, int] | None:
        for buffer in reversed(self.model.buffers):
            inside = buffer.where.start <= address < buffer.where.end
            if inside and buffer.made in self.buffers:
                return self.buffers[buffer.made], address - buffer.where.start
        return None

    def _progress(self, number: int) -> None:
        history = self.reduction.case.history
        for queue, count in enumerate(history.counts.get(number, ())):
            ring = self._rings.get(queue)
            wanted = ring.until(count) * ring.queue.unit if ring is not None else 0
            if wanted > self._fetched.get(queue, 0):
                self._fetched[queue] = wanted
                self._add(f"fetched(device, {self.queues[queue]}, {wanted:#x})")
        while self._stores and self._stores[-1] <= number:
            for one in history.stores[self._stores.pop()]:
                place = self._place(one.address)
                if (one.queue, one.packet) in self._packets and place is not None:
                    wait = "stored" if one.what == "fence" else "fallen"
                    self._add(f"{wait}(device, {place[0]}, {place[1]:#x}, {one.value:#x})")

    def _submit(self, number: int, packets: list[Packet]) -> None:
        queue = packets[0].queue
        if queue not in self.queues:
            return
        self._progress(number)
        self._add("submit(")
        self._add(f"    {self.queues[queue]},")
        for packet in packets:
            self._rings[queue].put(packet)
            self._add(f"    # packet {packet.number}: {visible(self.reduction.line(packet))}")
            words = ", ".join(f"{word:#x}" for word in packet.words)
            self.lines += textwrap.wrap(
                f"[{words}],", 90, initial_indent="    ", subsequent_indent="     "
            )
        self._add(")")

    def _wrong(self) -> None:
        if not self.reduction.target.contrast:
            self._add("return None")
            return
        right = self.reduction.right
        self._add("right = {")
        for made, name in self.buffers.items():
            if made in right:
                data = right[made][: self.sizes[made]]
                text = base64.b85encode(zlib.compress(data, 9)).decode()
                self._add(f"    {name}: unpack(")
                self.lines += [f'        "{part}"' for part in textwrap.wrap(text, 80)]
                self._add("    ),")
        self.lines += textwrap.dedent('''\
            }

            def wrong():
                for buffer, wanted in right.items():
                    found = buffer.read(len(wanted))
                    if found != wanted:
                        at = next(i for i, byte in enumerate(found) if byte != wanted[i])
                        print(f"wrong: {buffer!r} + {at:#x} is {found[at:at + 4].hex()}, "
                              f"not {wanted[at:at + 4].hex()}")
                        return 1
                return 0

            return wrong''').splitlines()


def _owned(queue: QueueFacts) -> Iterator[Range]:
    """Yield what the driver makes for a queue itself."""
    made = queue.made
    for one in touched(made):
        yield one.where
    for pointer in (made.write_pointer_address, made.read_pointer_address):
        yield Range(pointer & ~4095, (pointer | 4095) + 1)


def _quoted(text: str) -> str:
    # As it may stand in a docstring: names in a trace are a stranger's, and must not end it.
    return visible(text).replace("\\", "/").replace('"', "'")


def script(reduction: Reduction, name: str = "script.py") -> str:
    """Return the text of the program."""
    body = "\n".join(f"    {line}".rstrip() for line in _Script(reduction).write())
    devices = [way.device for way in reduction.target.ways[:SHOWN_DEVICES]]
    cause = "\n".join(
        wrapped
        for line in explain(reduction)
        for wrapped in textwrap.wrap(_quoted(line), 96, subsequent_indent="  ")
    )
    title = f"{reduction.packets} packets that fail as the trace of {reduction.whole.packets} did."
    return _FRAME.format(
        title=title,
        signed=SIGNED,
        cause=cause,
        name=name,
        devices="\n".join(f"    {json.dumps(one)}," for one in devices),
        body=body + "\n",
    )
