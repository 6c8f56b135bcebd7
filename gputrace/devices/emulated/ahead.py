"""What queues have still to execute, read without executing it: who would write an address.

Packets are decoded by their declarations; what a packet writes follows from the roles of its
fields. It serves the reports of queues that stand still, where nothing moves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gputrace.bits import Record
from gputrace.devices.emulated.effects import Condition
from gputrace.devices.emulated.memory import AccessFault
from gputrace.devices.emulated.queue import HardwareQueue
from gputrace.errors import DecodeError
from gputrace.families import Family
from gputrace.formats import aql, pm4, sdma
from gputrace.formats.ioctl import QueueType
from gputrace.formats.packets import Dialect, vendor_name
from gputrace.formats.pm4 import ReleaseData

_HANDLE_SIGNALS = (aql.KernelDispatch, aql.BarrierAnd, aql.BarrierOr, aql.BarrierValue,
                   aql.VendorPm4)  # fmt: skip
_DATA = ("WriteData", "WriteLinear")


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A packet that has not been executed, or not to its end."""

    queue: HardwareQueue
    number: int
    place: int
    packet: Record

    @property
    def key(self) -> tuple[int, int, int]:
        """Device, queue and packet as reports name them."""
        return self.queue.device, self.queue.queue_id, self.number


def upcoming(queue: HardwareQueue, family: Family) -> Iterator[Upcoming]:
    """Yield what a queue has in its pipe, then what lies in its ring; stops at what is no packet.

    Dwords that COND_EXEC would skip are taken for packets of their own.
    """
    for tail in queue.pipe:
        yield from _at(queue, family, tail.packet, tail.place)
    words, number = queue.unread(), queue.packet
    try:
        if queue.kind == QueueType.COMPUTE_AQL:
            yield from _slots(queue, family, words, number)
        else:
            yield from _stream(queue, _dialect(queue, family), words, number)
    except (DecodeError, AccessFault):
        return


def _dialect(queue: HardwareQueue, family: Family) -> Dialect[Any]:
    compute = queue.kind in (QueueType.COMPUTE, QueueType.COMPUTE_AQL)
    return family.pm4 if compute else family.sdma


def _at(queue: HardwareQueue, family: Family, number: int, place: int) -> Iterator[Upcoming]:
    # The one packet at an address: of a ring or of an indirect buffer.
    in_ring = queue.base <= place < queue.base + queue.size
    try:
        if in_ring and queue.kind == QueueType.COMPUTE_AQL:
            data = queue.space.read(place, aql.PACKET_BYTES)
            yield Upcoming(queue, number, place, aql.decode_packet(data))
            return
        words = queue.words_at(place)
        packet = _dialect(queue, family).decode(words)
    except (DecodeError, AccessFault):
        return
    yield Upcoming(queue, number, place, packet)


def name_at(queue: HardwareQueue, family: Family, place: int) -> str:
    """Return the vendor's name of the packet at an address, or nothing where none can be read."""
    for up in _at(queue, family, 0, place):
        if not isinstance(up.packet, aql.Invalid):  # a slot that was given back
            return getattr(up.packet, "VENDOR_NAME", "") or vendor_name(type(up.packet).__name__)
    return ""


def _stream(
    queue: HardwareQueue, dialect: Dialect[Any], words: Sequence[int], number: int
) -> Iterator[Upcoming]:
    at = 0
    while at < len(words):
        packet = dialect.decode(words, at)
        place = queue.base + (queue.read * queue.unit + 4 * at) % queue.size
        yield Upcoming(queue, number, place, packet)
        if isinstance(packet, pm4.IndirectBuffer | sdma.IndirectBuffer):
            yield from _inside(queue, dialect, packet.address, packet.dwords_there, number)
        at, number = at + packet.dwords, number + 1


def _inside(
    queue: HardwareQueue, dialect: Dialect[Any], address: int, count: int, number: int
) -> Iterator[Upcoming]:
    # The rest of an indirect buffer when the queue stands in it, else all of it.
    data = memoryview(queue.space.read(address, 4 * count)).cast("I")
    inside = number == queue.packet and address <= queue.place < address + 4 * count
    at = (queue.place - address) // 4 if inside else 0
    while at < count:
        packet = dialect.decode(data, at)
        yield Upcoming(queue, number, address + 4 * at, packet)
        at += packet.dwords


def _slots(
    queue: HardwareQueue, family: Family, words: Sequence[int], number: int
) -> Iterator[Upcoming]:
    size = aql.PACKET_BYTES // 4
    for at in range(0, len(words), size):
        data = b"".join(word.to_bytes(4, "little") for word in words[at : at + size])
        packet = aql.decode_packet(data)
        place = queue.base + (queue.read * queue.unit + 4 * at) % queue.size
        if isinstance(packet, aql.Invalid):
            return
        if isinstance(packet, aql.VendorPm4):
            yield from _inside(queue, family.pm4, packet.ib_address, packet.ib_size, number)
        yield Upcoming(queue, number, place, packet)
        number += 1


def writes(packet: Record) -> Iterator[tuple[int, int]]:
    """Yield (address, bytes) of the memory that a packet writes by itself, kernels apart."""
    if isinstance(packet, _HANDLE_SIGNALS):
        if packet.completion_signal:
            yield packet.completion_signal + aql.SIGNAL_VALUE, 8
        return
    for field in packet.FIELDS:
        role = field.role
        if role is None or role.uses != "address" or "w" not in role.access:
            continue
        length = role.length
        size = getattr(packet, length) if isinstance(length, str) else length or 8
        if size:
            yield getattr(packet, field.name), size


def would_free(packet: Record, condition: Condition) -> bool:
    """Whether a packet writes what a condition looks at, with a value that may satisfy it."""
    address, size = condition.address, condition.size
    for start, length in writes(packet):
        if start < address + size and address < start + length:
            value = _value(packet, address, size, start)
            return value is None or condition.holds(value)
    return False


def _value(packet: Any, address: int, size: int, start: int) -> int | None:
    # What the packet leaves in all of an operand, where that is known without executing it.
    if isinstance(packet, pm4.ReleaseMem):
        wide = packet.data_sel == ReleaseData.DATA_64
        plain = wide or packet.data_sel == ReleaseData.LOW_32
        fits = start == address and size <= (8 if wide else 4)
        return packet.data & ((1 << 8 * size) - 1) if plain and fits else None
    if isinstance(packet, sdma.Fence):
        return int(packet.data) if start == address and size == 4 else None
    if packet.CONCEPT in _DATA and not (address - start) % 4 and address >= start:
        found = packet.data[(address - start) // 4 :][: size // 4]
        if len(found) == size // 4:
            return sum(int(word) << 32 * at for at, word in enumerate(found))
    return None
