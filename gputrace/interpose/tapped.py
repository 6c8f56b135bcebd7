"""Programs on the machine's own GPUs, recorded: each by a tap in its calls and doorbells."""

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from errno import EBADF
from pathlib import Path
from typing import Literal

from gputrace.capture.program import claim
from gputrace.capture.session import header_of
from gputrace.errors import KfdError
from gputrace.families import by_target_version
from gputrace.formats import ioctl
from gputrace.interpose.emulated import mapping_facts
from gputrace.interpose.ending import outcome
from gputrace.interpose.program import Maker, Opened, Program
from gputrace.interpose.tap_kfd import TapKfd
from gputrace.interpose.tap_memory import TapMemory
from gputrace.interpose.tap_recorder import TapRecorder
from gputrace.interpose.wire import Kind, Message, Node
from gputrace.kfd.port import Mapping as Mapped
from gputrace.kfd.port import Protection
from gputrace.kfd.topology import Topology
from gputrace.trace.events import Outcome
from gputrace.trace.writer import TraceWriter

_LOOKS = 0.01
"""Seconds between two looks at what a submission does that the program did not wait for."""


def tapped_programs(topology: Topology, trace: Path, mode: str, durable: bool) -> Maker:
    """Return what makes programs that are recorded: into `trace`, further ones beside it."""

    def writer(path: Path, kfd: TapKfd) -> TraceWriter:
        return TraceWriter(path, replace(header_of(kfd), mode=mode, scheduler=""), durable=durable)

    return lambda process, image: TappedProgram(process, image, topology, trace, writer)


class TappedProgram(Program):
    """A program whose calls go to the kernel, and are recorded on the way."""

    recorded = True

    def __init__(
        self, process: int, image: int, topology: Topology, trace: Path,
        make_writer: Callable[[Path, TapKfd], TraceWriter],
    ) -> None:  # fmt: skip
        super().__init__(process, image)
        self._wanted, self._make_writer = trace, make_writer
        self._kfd = TapKfd(process, self.ended, self.client, topology, TapMemory(process))
        self._mappings: dict[int, Mapped] = {}
        self._bells = threading.RLock()
        self._looked = 0.0

    def _begin(self) -> None:
        self.trace = claim(self._wanted, self.process)
        self._writer = self._make_writer(self.trace, self._kfd)
        family = by_target_version(self._kfd.topology.gpus[0]["gfx_target_version"])
        self._recorder = TapRecorder(self._kfd, self._writer, family)
        self._recorder.open()

    def _open(self, handle: int, node: Node, minor: int, descriptor: int) -> int:
        self._kfd.opened(handle, descriptor)
        return 0 if node is Node.KFD else self._recorder.open_render(minor)

    def _given(self) -> int | None:
        return None

    # --- calls ------------------------------------------------------------------------------------

    def _ioctl(self, found: Opened, asked: Message) -> Message:
        call = self._kfd.call
        call.asked, call.answer = asked, b""
        try:
            self._call(found, asked)
        except KfdError as error:
            return Message(Kind.ANSWER, b=error.errno)
        return Message(Kind.ANSWER, payload=call.answer[: ioctl.request_size(asked.b)])

    def _call(self, found: Opened, asked: Message) -> None:
        if found.node is Node.RENDER:
            self._recorder.render_ioctl(found.minor, asked.b, bytearray(asked.payload))
            return
        entry = ioctl.by_request(asked.b)
        if entry is None or entry.record is None:
            name = f"ioctl {asked.b:#x}" if entry is None else entry.name
            self._kfd.unknown(name)
            self._recorder.unknown(name, asked.payload, "nobody knows what it does")
            return
        self.pump()  # doorbells that were rung before the call
        size = 4 * entry.record.WORDS
        record = entry.record.from_bytes(asked.payload[:size].ljust(size, b"\0"))
        tail = bytearray(asked.payload[size:]) if entry.record is ioctl.Svm else None
        self._recorder.ioctl(self.own_descriptors(record, entry.name), tail)

    # --- mappings ---------------------------------------------------------------------------------

    def mapping(self, asked: Message) -> None:
        """Write down a mapping, or its end; doorbells are shown a page of ours."""
        self.pump()
        if asked.kind is Kind.UNMAPPED:
            known = self._mappings.pop(asked.a, None)
            if known is not None:
                self._recorder.unmap(known)
                self._kfd.forget_shadow(asked.a)
            return
        handle, protection, _, _ = mapping_facts(asked)
        found = self.opened(handle)
        if found is None:
            raise KfdError("mmap", EBADF, {"handle": handle}, "it is not open")
        node: Literal["kfd"] | int = "kfd" if found.node is Node.KFD else found.descriptor
        self._kfd.call.descriptor = self._kfd.descriptor(handle)
        offset, doorbells = asked.c, self._kfd.doorbells(asked.c) if node == "kfd" else None
        if doorbells is not None:
            self._kfd.shadow(asked.a, offset, asked.b)
            offset = doorbells
        self._mappings[asked.a] = self._recorder.map(
            fd=node, offset=offset, size=asked.b, address=asked.a,
            protection=Protection(protection & 3),
        )  # fmt: skip

    # --- doorbells --------------------------------------------------------------------------------

    def take_ringer(self, connection: socket.socket) -> None:
        """Ring doorbells over this connection."""
        self._kfd.ringer(connection)

    def pump(self) -> bool:
        """Ring what the program has rung, one doorbell after the other."""
        with self._bells:
            rung = self._kfd.rung()
            for address, value in rung:
                with suppress(KfdError):  # the program is gone: nobody rings any more
                    self._recorder.doorbell(address, value)
        now = time.monotonic()
        if now - self._looked > _LOOKS:
            self._looked = now
            self._recorder.look(under_way=True)
        return bool(rung)

    def end(self) -> None:
        """Close the trace: what was not done then is how the program ended."""
        self._recorder.look()
        text = self._recorder.unfinished
        if not text and not self._recorder.at_rest:
            text = "a submission was not done when the program ended"
        self._recorder.close()
        how = Outcome("hang", text) if text else outcome(self.process, self.ended)
        self._writer.close(how)

    def refused(self) -> Mapping[str, int]:
        """Return nothing: the kernel models all that it offers."""
        return {}

    def faults(self) -> Sequence[str]:
        """Return nothing: faults of hardware come as KFD events."""
        return ()
