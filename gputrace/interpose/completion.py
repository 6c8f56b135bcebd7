"""Tell from its packets when a submission is done: the values that its last packets store.

A read pointer says what an engine has fetched, not what is done. What a packet stores when
everything before it is done (a fence, a signal) says it.
"""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gputrace.errors import DecodeError
from gputrace.families import Family
from gputrace.formats import aql
from gputrace.formats.aql import PACKET_BYTES, SIGNAL_VALUE
from gputrace.formats.ioctl import QueueType
from gputrace.formats.pm4 import Pm4Dialect
from gputrace.formats.pm4.caches import ReleaseMem
from gputrace.formats.pm4.enums import ReleaseData
from gputrace.formats.pm4.flow import IndirectBuffer, WaitRegMem, WaitRegMem64
from gputrace.formats.sdma import SdmaDialect
from gputrace.formats.sdma.control import Atomic, Fence, PollRegMem

MAX_DEPTH = 4
_IDLE = ("Nop", "Filler", "Trap", "WaitRegMem", "PollRegMem", "AcquireMem", "PredExec")
"""Packets that change no memory, by concept."""

Read = Callable[[int, int], bytes]
"""Returns bytes of the program's memory: address and size; fewer where there is nothing."""


class Sign(NamedTuple):
    """A word that a packet stores at its end: what it was before, and is then (None: another)."""

    address: int
    size: int
    before: int
    wanted: int | None

    def seen(self, read: Read) -> bool:
        """Whether the packet has stored it."""
        now = int.from_bytes(read(self.address, self.size), "little")
        return now != self.before or now == self.wanted


class Gate(NamedTuple):
    """A word that a packet waits for, and whether a value of it lets the packet go on."""

    address: int
    size: int
    opens: Callable[[int], bool]

    def open(self, read: Read) -> bool:
        """Whether the packet may go on."""
        return self.opens(int.from_bytes(read(self.address, self.size), "little"))


class Signs:
    """What was found in the packets of one submission, in their order."""

    def __init__(self, read: Read, taken_back: Callable[[int], bool]) -> None:
        self._read, self._taken_back = read, taken_back
        self._found: dict[int, Sign] = {}
        self.gates: list[Gate] = []
        """What its packets wait for."""
        self.complete = True
        """Whether no packet that does something comes after the last sign."""
        self.all_before = False
        """Whether a sign tells of earlier submissions of the queue, too."""

    @property
    def found(self) -> list[Sign]:
        """Every sign; all must be seen."""
        return list(self._found.values())

    def expect(self, address: int, size: int, wanted: int | None, *, all_before: bool) -> None:
        """Take note of a store that comes when a packet is done, and maybe all before it."""
        if self._taken_back(address):
            return
        before = int.from_bytes(self._read(address, size), "little")
        self._found[address] = Sign(address, size, before, wanted)
        self.complete |= all_before
        self.all_before |= all_before


class Completion:
    """Reads submissions of one program's queues on GPUs of one family.

    `taken_back` says whether the kernel takes back what is stored at an address: in the event page.
    """

    def __init__(self, family: Family, read: Read, taken_back: Callable[[int], bool]) -> None:
        self._family, self._read, self._taken_back = family, read, taken_back

    def signs(self, kind: QueueType, packets: bytes) -> Signs:
        """Return the signs in packets of a queue, which must not have been rung yet."""
        signs = Signs(self._read, self._taken_back)
        try:
            if kind == QueueType.COMPUTE_AQL:
                for at in range(0, len(packets), PACKET_BYTES):
                    self._architected(aql.decode_packet(packets, at), signs)
            else:
                compute = kind == QueueType.COMPUTE
                self._stream(self._family.pm4 if compute else self._family.sdma, packets, signs, 0)
        except DecodeError:
            signs.complete = False
        return signs

    def _architected(self, packet: aql.Packet, signs: Signs) -> None:
        ordered = packet.barrier or isinstance(packet, aql.BarrierAnd)
        if isinstance(packet, aql.KernelDispatch) and not packet.completion_signal:
            signs.complete = False
        if isinstance(packet, aql.BarrierAnd):
            signs.gates += [
                Gate(one + SIGNAL_VALUE, 8, _is_zero) for one in packet.dep_signals if one
            ]
        elif isinstance(packet, aql.BarrierOr | aql.BarrierValue):
            signs.gates.append(Gate(0, 0, _never))  # simply taken for one that the program opens
        if isinstance(packet, aql.VendorPm4):
            code = self._read(packet.ib_address, packet.ib_bytes)
            self._stream(self._family.pm4, code, signs, 1)
        if packet.completion_signal:
            place = packet.completion_signal + SIGNAL_VALUE
            signs.expect(place, 8, None, all_before=ordered)

    def _stream(
        self, dialect: Pm4Dialect | SdmaDialect, packets: bytes, signs: Signs, depth: int
    ) -> None:
        words: Sequence[int] = struct.unpack(f"<{len(packets) // 4}I", packets)
        for _, packet in dialect.stream(words):
            match packet:
                case IndirectBuffer() if depth < MAX_DEPTH:
                    inner = self._read(packet.address, packet.size)
                    self._stream(dialect, inner, signs, depth + 1)
                case WaitRegMem() | PollRegMem() if packet.polled:
                    signs.gates.append(Gate(packet.address, 4, _polls(packet)))
                case ReleaseMem() if packet.written:
                    clock = packet.data_sel in (ReleaseData.GPU_CLOCK, ReleaseData.SYSTEM_CLOCK)
                    wanted = None if clock else packet.data & (1 << 8 * packet.written) - 1
                    signs.expect(packet.address, packet.written, wanted, all_before=True)
                case Fence():
                    signs.expect(packet.address, 4, packet.data, all_before=True)
                case Atomic():
                    signs.expect(packet.address, packet.size, None, all_before=True)
                case WaitRegMem64():
                    signs.gates.append(Gate(0, 0, _never))
                case _ if packet.CONCEPT not in _IDLE:
                    signs.complete = False


def _is_zero(value: int) -> bool:
    return value == 0


def _never(value: int) -> bool:
    return False


def _polls(packet: WaitRegMem | PollRegMem) -> Callable[[int], bool]:
    return lambda value: packet.function.holds(value & packet.mask, packet.reference)
