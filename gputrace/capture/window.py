"""Write a part of a run: what came last, what lies between two triggers, what fits a size.

A part that does not begin with the run begins with a checkpoint: everything that is alive, and all
memory. It can be taken only where every queue has done all that it was given.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gputrace.capture.live import Live
from gputrace.errors import UsageError
from gputrace.trace import events
from gputrace.trace.blocks import Bytes
from gputrace.trace.chunks import pieces
from gputrace.trace.writer import TraceWriter


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a run to write.

    `last` keeps that many submissions before the end, or some more. `start` and `stop` are
    triggers: "submission:N" or "signal:USR1"; a part begins at the first checkpoint after its
    trigger. `size` ends it when the file has that many bytes. Raises UsageError for what cannot be.
    """

    last: int = 0
    size: int = 0
    start: str = ""
    stop: str = ""

    def __post_init__(self) -> None:
        if self.last < 0 or self.size < 0:
            raise UsageError("a window and a size are at least 1")
        if self.last and (self.start or self.stop or self.size):
            raise UsageError("the last submissions cannot be had together with triggers or a size")
        for text in (self.start, self.stop):
            if text:
                Trigger(text)

    @property
    def whole(self) -> bool:
        """Whether this is the whole run."""
        return not (self.last or self.size or self.start or self.stop)

    @property
    def from_start(self) -> bool:
        """Whether it begins where the run does."""
        return not (self.last or self.start)


WHOLE: Part = Part()
"""All of a run."""


class Trigger:
    """Something that is waited for: `reached` says whether it has come."""

    def __init__(self, text: str) -> None:
        self.text = text
        what, _, value = text.partition(":")
        self._submission = 0
        self._came = False
        if what == "submission" and value.isdecimal():
            self._submission = int(value)
        elif what == "signal" and f"SIG{value}" in signal.Signals.__members__:
            self.signal = signal.Signals[f"SIG{value}"]
        else:
            raise UsageError(f"trigger {text!r}: expected submission:N or signal:USR1")

    def arm(self) -> None:
        """Begin to listen; only the main thread can listen for signals."""
        if not self._submission and threading.current_thread() is threading.main_thread():
            signal.signal(self.signal, self._signalled)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._came = True

    def reached(self, submissions: int) -> bool:
        """Say whether it has come, with so many submissions made."""
        return self._came or bool(self._submission and submissions >= self._submission)


class PartWriter:
    """Takes what a `TraceWriter` takes and writes the part of it that is asked for.

    `make` opens a trace at a path. For the last submissions there are two files: an older one under
    the trace's name, and one that takes its place when it has enough of them.
    """

    def __init__(
        self, path: str | os.PathLike[str], part: Part, make: Callable[[str], TraceWriter]
    ) -> None:
        self._path, self._part, self._make = os.fspath(path), part, make
        self._next = f"{self._path}.next"
        self._live = Live()
        self._submissions = self._first = 0
        self._start = Trigger(part.start) if part.start else None
        self._stop = Trigger(part.stop) if part.stop else None
        for trigger in (self._start, self._stop):
            if trigger is not None:
                trigger.arm()
        self._current: TraceWriter | None = None if part.start else make(self._path)
        self._newer: TraceWriter | None = None
        self._stopped = ""
        self.header = self._current.header if self._current else _header(make)

    # What a recorder calls.

    def append(self, event: events.Event) -> int:
        """Take an event other than of a doorbell."""
        self._live.apply(event)
        for writer in self._writers():
            writer.append(event)
        return 0

    def intent(
        self, submission: int, queue: int, address: int, value: int, bits: int = 64,
        step: int = -1, time: int = 0, thread: int = 0,
    ) -> None:  # fmt: skip
        """Take a doorbell that is about to be rung."""
        self._submissions += 1
        self._look_for_end()
        for writer in self._writers():
            writer.intent(submission, queue, address, value, bits, step, time, thread)

    def done(self, submission: int, queue: int, step: int = -1, time: int = 0) -> None:
        """Take a doorbell that was rung."""
        for writer in self._writers():
            writer.done(submission, queue, step, time)

    def stores(
        self, found: Sequence[tuple[int, Bytes]], provenance: str, step: int = -1
    ) -> None:
        """Take memory."""
        for writer in self._writers():
            writer.stores(found, provenance, step)

    def digest(
        self, address: int, data: Bytes, *, store: bool = False, unstable: bool = False,
        step: int = -1,
    ) -> None:  # fmt: skip
        """Take a digest."""
        for writer in self._writers():
            writer.digest(address, data, store=store, unstable=unstable, step=step)

    def flush(self, *, intent: bool = False) -> None:
        """Hand what is pending to the operating system."""
        for writer in self._writers():
            writer.flush(intent=intent)

    def abandon(self) -> None:
        """Close the files as they are."""
        for writer in (self._current, self._newer):
            if writer is not None:
                writer.abandon()

    def close(self, outcome: events.Outcome | None = None) -> None:
        """Complete the trace."""
        if self._newer is not None:
            self._newer.abandon()
            Path(self._next).unlink(missing_ok=True)
        if self._current is not None:
            self._current.close(outcome)
        elif os.path.exists(self._path) and not os.path.getsize(self._path):
            os.unlink(self._path)  # somebody kept the name for us

    @property
    def missing(self) -> str:
        """Why there is no trace, or nothing."""
        return "" if self._current else f"{self._part.start} never came"

    # Checkpoints.

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a checkpoint would be of use now."""
        if self._stopped:
            return False
        if self._current is None:
            return self._start is not None and self._start.reached(self._submissions)
        return bool(self._part.last and self._newer is None)

    def checkpoint(
        self, memory: Iterable[tuple[int, memoryview]], queues: tuple[events.QueueState, ...]
    ) -> None:
        """Begin a file here: `memory` is all of it, and every queue is at its end."""
        writer = self._make(self._next if self._current is not None else self._path)
        for event in self._live.setup():
            writer.append(event)
        cause = self._part.start or f"the last {self._part.last}"
        writer.append(events.Trigger("start", cause, self._submissions + 1))
        places = [
            (address + offset, view[offset : offset + length])
            for address, view in memory
            for offset, length in pieces(address, len(view))
            if view[offset : offset + length].tobytes().strip(b"\0")
        ]
        writer.append(events.Checkpoint(len(places), queues))
        writer.stores(places, "cpu")
        writer.flush()
        if self._current is None:
            self._current = writer
        else:
            self._newer, self._first = writer, self._submissions

    # Inside.

    def _writers(self) -> list[TraceWriter]:
        if self._stopped:
            return []
        return [one for one in (self._current, self._newer) if one is not None]

    def _look_for_end(self) -> None:
        if self._newer is not None and self._submissions - self._first >= self._part.last:
            assert self._current is not None
            self._current.abandon()
            os.replace(self._next, self._path)
            self._current, self._newer = self._newer, None
        if self._stopped or self._current is None:
            return
        cause = ""
        if self._part.size and self._current.size >= self._part.size:
            cause = f"the file has {self._part.size} bytes"
        elif self._stop is not None and self._stop.reached(self._submissions):
            cause = self._part.stop
        if cause:
            self._stopped = cause
            self._current.append(events.Trigger("stop", cause, self._submissions))
            self._current.flush()


def _header(make: Callable[[str], TraceWriter]) -> events.Header:
    # Of a trace that does not exist yet.
    writer = make(os.devnull)
    writer.abandon()
    return writer.header
