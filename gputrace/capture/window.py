"""Write a part of a run: what came last, what lies between two triggers, what fits a size.

A part that does not begin with the run begins with a checkpoint: everything that is alive, and all
memory. It is taken where every queue has done all that it was given. Where no such moment comes in
time the recorder makes one, if the queues can come to their end; else the part begins all the same
and says that it cannot be replayed.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gputrace.capture.kernels import Kernels
from gputrace.capture.live import Live
from gputrace.capture.memory import WatchedMemory
from gputrace.capture.triggers import Trigger
from gputrace.code.demangle import function_name
from gputrace.errors import UsageError
from gputrace.kfd.pagemap import Region
from gputrace.trace import events
from gputrace.trace.blocks import Bytes
from gputrace.trace.chunks import pieces
from gputrace.trace.writer import TraceWriter

NEVER = ".never"
"""Ends the name of a file that says why a trace, whose name was kept for it, never began."""
MOST_STRETCHES = 1 << 16
"""Stretches of unwritten memory that a checkpoint tells; what is in others counts as written."""
NAMED = 5
"""Kernels that are named, at most, when the one that was waited for never came."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a run to write.

    `last` keeps that many submissions before the end, or some more; `last_bytes` at most so many
    bytes of what came last, beside the checkpoint that they begin with. `start` and `stop` are
    triggers: see `EXPECTED` in `gputrace.capture.triggers`. The submission of a trigger is in the
    part. `size` ends it when the file has that many bytes. Raises UsageError for what cannot be.
    """

    last: int = 0
    size: int = 0
    start: str = ""
    stop: str = ""
    last_bytes: int = 0

    def __post_init__(self) -> None:
        if self.last < 0 or self.size < 0 or self.last_bytes < 0:
            raise UsageError("a window and a size are at least 1")
        if self.last and self.last_bytes:
            raise UsageError("a window has a number of submissions or of bytes, not both")
        if self.rolling and (self.start or self.stop or self.size):
            raise UsageError("what came last cannot be had together with triggers or a size")
        for text in (self.start, self.stop):
            if text:
                Trigger(text)

    def listen(self) -> None:
        """Have this process listen for the signals of its triggers; only the main thread can."""
        for text in (self.start, self.stop):
            if text:
                Trigger(text).arm()

    @property
    def rolling(self) -> bool:
        """Whether it is what came last."""
        return bool(self.last or self.last_bytes)

    @property
    def reason(self) -> str:
        """Why it begins where it does, if that is not the beginning of the run."""
        if self.last:
            return f"the last {self.last} submissions"
        return f"the last {self.last_bytes} bytes" if self.last_bytes else self.start

    @property
    def whole(self) -> bool:
        """Whether this is the whole run."""
        return not (self.rolling or self.size or self.start or self.stop)

    @property
    def from_start(self) -> bool:
        """Whether it begins where the run does."""
        return not (self.rolling or self.start)


WHOLE: Part = Part()
"""All of a run."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is recorded: see `gputrace.record`."""

    mode: str = "light"
    durable: bool = False
    part: Part = WHOLE


USUAL: Settings = Settings()
"""All of a run, without waiting for anything."""


class _File:
    """A trace that is written: since which submission, and how large it was then."""

    def __init__(self, writer: TraceWriter, submission: int) -> None:
        self.writer, self.first, self._base = writer, submission, writer.size

    @property
    def history(self) -> int:
        """Bytes that were written since."""
        return self.writer.size - self._base


class PartWriter:
    """Takes what a `TraceWriter` takes and writes the part of it that is asked for.

    `make` opens a trace at a path. For what came last there are two files: an older one under the
    trace's name, and one that takes its place when it has enough, or the older one too much.
    """

    def __init__(
        self, path: str | os.PathLike[str], part: Part, make: Callable[[str], TraceWriter]
    ) -> None:
        self._path, self._part, self._make = os.fspath(path), part, make
        self._next = f"{self._path}.next"
        self._live = Live()
        self._submissions = 0
        self._start = Trigger(part.start) if part.start else None
        self._stop = Trigger(part.stop) if part.stop else None
        part.listen()
        self._kernels: Kernels | None = None
        self._seen: dict[str, None] = {}  # names of kernels
        self._current = None if part.start else _File(make(self._path), 0)
        self._newer: _File | None = None
        self._stopped = ""
        self.header = self._current.writer.header if self._current else _header(make)

    def watch(self, memory: WatchedMemory) -> None:
        """Say where the client's memory is: it tells which kernels are started."""
        if any(trigger and trigger.kernel for trigger in (self._start, self._stop)):
            self._kernels = Kernels(memory, self.header)

    # What a recorder calls.

    def append(self, event: events.Event) -> int:
        """Take an event other than of a doorbell."""
        self._live.apply(event)
        if self._kernels:
            self._kernels.apply(event)
        for writer in self._writers():
            writer.append(event)
        if self._stopped and self._current and isinstance(event, events.Cost):
            self._current.writer.append(event)  # of the whole run
        return 0

    def intent(
        self, submission: int, queue: int, address: int, value: int, bits: int = 64,
        step: int = -1, time: int = 0, thread: int = 0,
    ) -> None:  # fmt: skip
        """Take a doorbell that is about to be rung, after `ringing`."""
        self._submissions += 1
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
        for file in (self._current, self._newer):
            if file is not None:
                file.writer.abandon()

    def close(self, outcome: events.Outcome | None = None) -> None:
        """Complete the trace."""
        if self._newer is not None:
            self._newer.writer.abandon()
            Path(self._next).unlink(missing_ok=True)
        if self._current is not None:
            if self.remark:
                self._current.writer.append(events.Note("trigger", self.remark))
            self._current.writer.close(outcome)
        elif os.path.exists(self._path) and not os.path.getsize(self._path):
            Path(f"{self._path}{NEVER}").write_text(self.missing)  # somebody kept the name for us
            os.unlink(self._path)

    @property
    def missing(self) -> str:
        """Why there is no trace, or nothing."""
        return "" if self._current or not self._start else self._never(self._start)

    @property
    def remark(self) -> str:
        """What did not come that the part should have ended with, or nothing."""
        if self._stop is None or self._stop.came or self._current is None:
            return ""
        return f"{self._never(self._stop)}: the trace goes on to the end of the run"

    def _never(self, trigger: Trigger) -> str:
        text = f"{trigger.text} never came"
        if not trigger.kernel:
            rung = f" in {self._submissions} submissions"
            return text + rung * trigger.text.startswith("submission")
        names = list(dict.fromkeys(map(function_name, self._seen)))
        more = len(names) - NAMED
        listed = ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{text}; kernels that were started: {listed or 'none'}"

    # Checkpoints.

    def ringing(self, queue: int, address: int, value: int, bits: int) -> None:
        """Look at a doorbell that is about to be rung: whether the part begins or ends with it."""
        if not self._stopped:
            self._roll()
            self._end()
        if self._stopped:
            return
        kernels = self._kernels.started(queue, address, value, bits) if self._kernels else []
        self._seen.update(dict.fromkeys(kernels))
        number = self._submissions + 1
        if self._start is not None and not self._start.came:
            self._start.see(number, kernels)
            if not self._start.came:
                return
        if self._stop is not None:
            self._stop.see(number, kernels)

    @property
    def ending(self) -> str:
        """Why the part ends before the next submission, or nothing."""
        if self._stopped or self._current is None:
            return ""
        if self._part.size and self._current.writer.size >= self._part.size:
            return f"the file has {self._part.size} bytes"
        return self._part.stop if self._stop is not None and self._stop.came else ""

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a checkpoint would be of use now."""
        if self._stopped:
            return False
        if self._current is None:
            return self._start is not None and self._start.came
        if not self._part.rolling or self._newer is not None:
            return False
        return self._current.history >= self._part.last_bytes // 3

    @property
    def needs_checkpoint(self) -> bool:
        """Whether it cannot be waited for any longer."""
        if self._current is None:
            return True
        if self._part.last:
            return self._submissions - self._current.first >= 2 * self._part.last
        return self._current.history >= self._part.last_bytes * 2 // 3

    def checkpoint(
        self,
        memory: Iterable[tuple[int, memoryview]],
        queues: tuple[events.QueueState, ...],
        problem: str = "",
        unwritten: events.Unwritten | None = None,
    ) -> None:
        """Begin a file here: `memory` is all that is watched, and every queue is at its end.

        `problem` says why it is not so, `unwritten` what nobody has written, if that is known.
        """
        writer = self._make(self._next if self._current is not None else self._path)
        held = list(memory)
        unseen = self._live.unseen((address, len(view)) for address, view in held)
        if unseen and not problem:
            size, first = sum(size for _, size in unseen), unseen[0][0]
            problem = f"{size} bytes of memory that the CPU cannot see, the first at {first:#x}"
        if self._live.wave_sync and not problem:
            problem = "the counters of global wave sync, which only waves can see"
        if self._live.orphaned and not problem:
            problem = "memory shared by a dma-buf of a buffer that is gone"
        for event in self._live.setup():
            writer.append(event)
        writer.append(events.Trigger("start", self._part.reason, self._submissions + 1))
        places = [
            (address + offset, view[offset : offset + length])
            for address, view in held
            for offset, length in pieces(address, len(view))
            if view[offset : offset + length].tobytes().strip(b"\0")
        ]
        writer.append(events.Checkpoint(len(places), queues, not problem, problem))
        writer.stores(places, "cpu")
        if unwritten is not None:
            writer.append(unwritten)
        writer.flush()
        made = _File(writer, self._submissions)
        if self._current is None:
            self._current = made
        else:
            self._newer = made

    # Inside.

    def _writers(self) -> list[TraceWriter]:
        if self._stopped:
            return []
        return [one.writer for one in (self._current, self._newer) if one is not None]

    def _roll(self) -> None:
        if self._newer is None or self._newer.writer.failed:
            return  # the older file has more
        if self._enough():
            assert self._current is not None
            self._current.writer.abandon()
            os.replace(self._next, self._path)
            self._current, self._newer = self._newer, None

    def _end(self) -> None:
        self._stopped = self.ending
        if self._stopped and self._current is not None:
            writer = self._current.writer
            writer.append(events.Trigger("stop", self._stopped, self._submissions))
            writer.flush()

    # Whether the newer file has enough for the window, or the older one more than that.
    def _enough(self) -> bool:
        assert self._current is not None
        assert self._newer is not None
        if self._part.last:
            return self._submissions - self._newer.first >= self._part.last
        return self._current.history >= self._part.last_bytes


def unwritten_event(ranges: Iterable[Region]) -> events.Unwritten:
    """Return what says that nobody has written these bytes: the longest, if there are many."""
    found = [events.Stretch(first, end - first) for first, end in ranges]
    longest = sorted(found, key=lambda one: one.size, reverse=True)[:MOST_STRETCHES]
    return events.Unwritten(tuple(sorted(longest)))


def part_writer(
    path: str | os.PathLike[str], part: Part, make: Callable[[str], TraceWriter]
) -> TraceWriter | PartWriter:
    """Return what writes a part of a run to a file; `make` opens a trace at a path."""
    return make(os.fspath(path)) if part.whole else PartWriter(path, part, make)


def _header(make: Callable[[str], TraceWriter]) -> events.Header:
    # Of a trace that does not exist yet.
    writer = make(os.devnull)
    writer.abandon()
    return writer.header
