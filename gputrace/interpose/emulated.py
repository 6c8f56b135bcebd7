"""Programs on emulated devices, each on one of its own."""

import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from errno import EBADF, ENOTTY
from pathlib import Path
from typing import Literal

from gputrace.bits import Record
from gputrace.capture.program import claim
from gputrace.capture.window import USUAL, Settings
from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.emulated.process import Client
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.errors import KfdError
from gputrace.formats import ioctl
from gputrace.formats.ioctl import PROCESS_DOORBELL_BYTES, MmapType
from gputrace.interpose.ending import outcome
from gputrace.interpose.program import Maker, Opened, Program
from gputrace.interpose.recording import Recording
from gputrace.interpose.wire import Gone, Kind, Message, Node

MakeDevice = Callable[[Client], EmulatedKfd]


def emulated_programs(
    make: MakeDevice, trace: Path | None = None, settings: Settings = USUAL
) -> Maker:
    """Return what makes programs whose devices `make` makes; RecordedKfds for those recorded.

    With `trace` they are recorded: the first into this file, further ones into files beside it.
    """
    return lambda process, image: EmulatedProgram(process, image, make, trace, settings)


class EmulatedProgram(Program):
    """A program with an emulated device of its own."""

    def __init__(
        self, process: int, image: int, make: MakeDevice, trace: Path | None, settings: Settings
    ) -> None:
        super().__init__(process, image)
        self._kfd, self._wanted, self._settings = make(self.client), trace, settings
        self._recording: Recording | None = None
        self._unknown: Counter[str] = Counter()

    @property
    def recorded(self) -> bool:
        """Whether it is recorded."""
        return self._wanted is not None

    @property
    def _calls(self) -> EmulatedKfd | Recording:
        return self._recording or self._kfd

    def _begin(self) -> None:
        # A program is recorded from its first open on: one that opens nothing leaves no file.
        if self._wanted is not None:
            assert isinstance(self._kfd, RecordedKfd)
            self.trace = claim(self._wanted, self.process)
            self._recording = Recording(
                self.trace, self.process, self._kfd, self.client, self._settings
            )
        self._calls.open()

    def _open(self, handle: int, node: Node, minor: int, descriptor: int) -> int:
        return self._calls.open_render(minor) if node is Node.RENDER else 0

    def _given(self) -> int | None:
        return self._kfd.memory_file

    def _ioctl(self, found: Opened, asked: Message) -> Message:
        if found.node is Node.RENDER:
            data = bytearray(asked.payload)
            self._calls.render_ioctl(found.minor, asked.b, data)
            return Message(Kind.ANSWER, payload=bytes(data))
        return Message(Kind.ANSWER, payload=self._kfd_ioctl(asked))

    def _kfd_ioctl(self, asked: Message) -> bytes:
        entry = ioctl.by_request(asked.b)
        if entry is None or entry.record is None:
            name = f"ioctl {asked.b:#x}" if entry is None else entry.name
            self._unknown[name] += 1
            raise KfdError(name, ENOTTY, {"request": asked.b}, "not modelled")
        # As the kernel does: a shorter argument is extended with zeros, the rest of a longer one
        # is left alone.
        size = 4 * entry.record.WORDS
        record = entry.record.from_bytes(asked.payload[:size].ljust(size, b"\0"))
        tail = bytearray(asked.payload[size:]) if entry.record is ioctl.Svm else None
        record = self.own_descriptors(record, entry.name)
        answer = _file_offsets(self._kfd, self._calls.ioctl(record, tail))
        made = answer.to_bytes() + bytes(tail or b"")
        return made[: ioctl.request_size(asked.b)]

    def mapping(self, asked: Message) -> None:
        """Write down a mapping, or its end."""
        if self._recording is None:
            raise Gone("the library tells of a mapping of a program that has opened nothing")
        if asked.kind is Kind.UNMAPPED:
            self._recording.unmapped(asked.a)
            return
        handle, protection, found, kept = mapping_facts(asked)
        known = self.opened(handle)
        if known is None:
            raise KfdError("mmap", EBADF, {"handle": handle}, "it is not open")
        node: Literal["kfd"] | int = "kfd" if known.node is Node.KFD else known.descriptor
        self._recording.mapped(
            node, asked.a, asked.b, asked.c, protection, bool(found), kept=bool(kept)
        )

    def pump(self) -> bool:
        """Let the engines work."""
        return (self._recording or self._kfd).pump()

    def end(self) -> None:
        """Close device and trace."""
        if self._recording is not None:
            self._recording.refused(self.refused())
            self._recording.end(outcome(self.process, self.ended))
        self._kfd.close()

    def remark(self) -> str:
        """Return what should be said of the recording."""
        return self._recording.remark if self._recording is not None else ""

    def refused(self) -> Mapping[str, int]:
        """Return what is not modelled."""
        return Counter(self._kfd.refused) + self._unknown

    def faults(self) -> Sequence[str]:
        """Return the device's faults."""
        return [fault.text for fault in self._kfd.faults()]


def mapping_facts(asked: Message) -> tuple[int, int, int, int]:
    """Return handle, protection, whether stores are found, and whether it is not new."""
    if len(asked.payload) != 32:
        raise Gone("a mapping without its facts")
    handle, protection, found, kept = struct.unpack("<4Q", asked.payload)
    return handle, protection, found, kept


def _file_offsets(kfd: EmulatedKfd, answer: Record) -> Record:
    # Programs map at true offsets of the memory file, where the kernel has numbers of its own.
    match answer:
        case ioctl.CreateQueue():
            page, byte = ioctl.doorbell_parts(answer.doorbell_offset)
            return answer.replace(
                doorbell_offset=kfd.file_offset(page, PROCESS_DOORBELL_BYTES) + byte
            )
        case ioctl.AllocMemoryOfGpu() if answer.flags & ioctl.AllocFlag.MMIO_REMAP:
            size = ioctl.MMAP_BYTES[MmapType.MMIO]
            return answer.replace(mmap_offset=kfd.file_offset(answer.mmap_offset, size))
        case _:
            return answer
