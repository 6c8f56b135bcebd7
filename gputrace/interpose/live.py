"""The recorder of a program that runs on while the GPU works."""

from collections.abc import Callable, Iterable

from gputrace.capture.digests import Digests
from gputrace.capture.observing import Observations
from gputrace.capture.recorder import Recorder
from gputrace.capture.window import PartWriter
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.interpose.memory import LiveMemory
from gputrace.interpose.tracker import RemoteTracker
from gputrace.kfd.port import Progress
from gputrace.kfd.tracking import Span
from gputrace.trace.writer import TraceWriter


class LiveRecorder(Recorder):
    """Records a program in another process; `read` reads its memory while it waits for an answer.

    Digests are taken whenever the device comes to rest: nobody knows when the program looks.
    """

    def __init__(
        self,
        kfd: RecordedKfd,
        writer: TraceWriter | PartWriter,
        tracker: RemoteTracker,
        read: Callable[[int, int], bytes],
    ) -> None:
        super().__init__(kfd, writer, tracker=tracker, read=read)
        self._served = kfd
        self._memory = self._live = LiveMemory(tracker, kfd)
        if self._part:
            self._part.watch(self._memory)
        self._observations = Observations(self._memory.word)
        self._digests = Digests(self._memory, writer, full=self._full)
        kfd.on_kernel_end, kfd.on_loop_change = self._absorb, self._see_stores

    def digest(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Write digests of what the GPU wrote in ranges (address, size) that may be about to go."""
        with self._hook():
            for address, size in ranges:
                self._digest_range(address, size)

    def idle(self, until_ns: int | None = None) -> Progress:
        """Let the engines work, after writing down what the program stored before."""
        with self._hook(gate=True), self._outside():
            progress = self._kfd.idle(until_ns)
        if self._digests.due and self._served.quiet:
            with self._hook(look=False):
                self._digests.take(self._step)
        return progress

    def keep(self, address: int, size: int) -> None:
        """Take what a new mapping holds as known: it was written down by another mapping."""
        with self._lock:
            self._memory.absorb([Span(address, size)])

    def _see_stores(self) -> None:
        self._absorb()
        self._catch_up(gate=True)

    def _absorb(self) -> None:
        spans = self._served.written_by_gpu()
        self._observations.add(self._memory.absorb(spans))
        self._digests.add(spans)
        doubtful = self._live.doubtful()
        if doubtful:
            # After what the GPU had done by then: it may have done it with these.
            self._write_progress()
            self._writer.stores(doubtful, "unknown", self._step)
