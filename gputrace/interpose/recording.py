"""Record a program in another process: calls, mappings, stores and doorbells, into one trace."""

import time
from collections.abc import Mapping as MappingOf
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from gputrace.capture.outcomes import of_fault, of_stall
from gputrace.capture.pointers import read_pointed
from gputrace.capture.session import header_of
from gputrace.capture.window import PartWriter, Settings, part_writer
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.errors import KfdError
from gputrace.formats.ioctl import FreeMemoryOfGpu, WaitEvents
from gputrace.interpose.client import RemoteClient, Shared
from gputrace.interpose.live import LiveRecorder
from gputrace.interpose.tracker import RemoteTracker
from gputrace.kfd.port import Mapping, Protection, R
from gputrace.trace.events import ClockReads, Note, Outcome
from gputrace.trace.writer import TraceWriter

MOST_READS = 4096
"""Clock values in one event of the trace."""
LAST_SECONDS = 5.0
"""How long the engines may go on when the program has ended."""


class Recording:
    """The trace of one program; every method is called in the order in which things happen."""

    def __init__(
        self, path: Path, process: int, kfd: RecordedKfd, client: RemoteClient,
        settings: Settings,
    ) -> None:  # fmt: skip
        self.path = path
        self._kfd, self._client = kfd, client
        # No order of steps can be replayed: the program's stores come at any time between them.
        header = replace(header_of(kfd), scheduler="", mode=settings.mode)
        self._failures: list[str] = []
        self._writer = part_writer(
            path, settings.part,
            lambda where: TraceWriter(
                where, header, durable=settings.durable, failing=self._failures.append
            ),
        )  # fmt: skip
        self._tracker = RemoteTracker(process, kfd.touched)
        self._recorder = LiveRecorder(kfd, self._writer, self._tracker, self._read)
        self._ended = False
        self._mappings: dict[int, Mapping] = {}
        self._own: dict[int, Shared] = {}  # the program's pages that are watched

    def _read(self, address: int, size: int) -> bytes:
        # The device answers a wild pointer itself; here it is only not written down.
        with suppress(KfdError):
            return self._client.read(address, size, "record")
        return b""

    # --- calls ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the device."""
        self._recorder.open()

    def open_render(self, minor: int) -> int:
        """Open a render node."""
        return self._recorder.open_render(minor)

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Answer a call. A wait lasts as long as it may: nothing is held meanwhile."""
        if isinstance(record, WaitEvents):
            return self._wait(record)
        if isinstance(record, FreeMemoryOfGpu) and self._own:  # which may take pages back
            self._recorder.digest((one.address, one.length) for one in self._own.values())
        answer = self._recorder.ioctl(record, tail)
        self._watch_own()
        return answer

    def _wait(self, record: R) -> R:
        pointed = read_pointed(record, "r", self._read)
        try:
            answer = self._kfd.ioctl(record)
        except KfdError as error:
            if not self._ended:
                self._recorder.answered(record, record, pointed, failure=error)
            raise
        self._recorder.answered(record, answer, pointed)
        return answer

    def render_ioctl(self, minor: int, request: int, data: bytearray) -> None:
        """Answer a call on a render node."""
        self._recorder.render_ioctl(minor, request, data)

    # --- memory -----------------------------------------------------------------------------------

    def mapped(
        self, node: Literal["kfd"] | int, address: int, size: int, offset: int,
        protection: int, stores_found: bool, kept: bool = False,
    ) -> None:  # fmt: skip
        """Take a mapping that the program has made; `kept` says that it was part of another."""
        if not stores_found:
            self._tracker.unregistered(address)
        self._mappings[address] = self._recorder.map(
            fd=node,
            offset=self._kfd.kernel_offset(node, offset),
            size=size,
            address=address,
            protection=Protection(protection & 3),
        )
        if kept:
            self._recorder.keep(address, size)

    def unmapped(self, address: int) -> None:
        """Take note that a mapping is about to go."""
        mapping = self._mappings.pop(address, None)
        if mapping is not None:
            self._recorder.unmap(mapping)

    def _watch_own(self) -> None:
        shared = {one.address: one for one in self._client.shared}
        for address, one in list(self._own.items()):
            if shared.get(address) is not one:
                del self._own[address]
                self._recorder.forget(address, one.length)
        for address, one in shared.items():
            if address not in self._own:
                self._own[address] = one
                if not one.stores_found:
                    self._tracker.unregistered(address)
                place = self._kfd.shared(address, one.offset, one.length)
                self._recorder.watch(address, one.length, place)

    # --- engines ----------------------------------------------------------------------------------

    def pump(self) -> bool:
        """Write down what was rung, then let the engines work; return whether anything happened."""
        rung = self._kfd.rung()
        for address, value in rung:
            self._recorder.doorbell(address, value)
        if not rung and self._kfd.quiet and not self._kfd.stalls():
            return False
        worked = self._recorder.idle().name == "ADVANCED"
        for queue, values in self._kfd.clock_reads().items():
            for at in range(0, len(values), MOST_READS):
                self._writer.append(ClockReads(queue, tuple(values[at : at + MOST_READS])))
        return worked or bool(rung)

    def refused(self, names: MappingOf[str, int]) -> None:
        """Write down what was refused because it is not modelled, with how often."""
        for name, count in names.items():
            times = "once" if count == 1 else f"{count} times"
            self._writer.append(Note("refused", f"{name}, {times}"))

    def end(self, ended: Outcome) -> None:
        """Close device and trace; what the program rang last is in it, and what came of that.

        `ended` is how the program ended, which is said unless the device tells more.
        """
        self._ended = self._tracker.ended = True
        limit = time.monotonic() + LAST_SECONDS
        while self.pump() and time.monotonic() < limit:
            pass
        # The threads of a program that a signal ended might have freed what waits for the CPU.
        outcome = self._outcome(alone=ended.result != "killed") or ended
        self._recorder.close()
        self._writer.close(outcome)

    @property
    def remark(self) -> str:
        """What should be said of the trace once it has ended, or nothing."""
        if self._failures:
            return f"{self._failures[0]}: the trace ends there, the program went on"
        return self._writer.remark if isinstance(self._writer, PartWriter) else ""

    def _outcome(self, *, alone: bool) -> Outcome | None:
        faults, stalls = self._kfd.faults(), self._kfd.stalls()
        if faults:
            return of_fault(faults[0], faults[0].text)
        if stalls:
            text = "; ".join(f"queue {stall.queue}: {stall.text}" for stall in stalls)
            return of_stall(stalls[0], text, alone=alone)
        return None

