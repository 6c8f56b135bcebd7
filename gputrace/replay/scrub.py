"""Write a trace without what is private, and see that it ends as before.

Where bytes become zero the GPU's results become others: then the trace is replayed while it is
written, and expects what came of it. A result that was wrong before stays wrong: where a replay of
the whole trace did not agree with it, the trace goes on expecting what it expected.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from gputrace.devices.opening import make_device
from gputrace.errors import UsageError
from gputrace.replay import child
from gputrace.replay.pacing import Pacing
from gputrace.replay.player import Player
from gputrace.replay.running import Request, device_name, player_for, replay
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.events import Digest, Event, Header, Memory
from gputrace.trace.reader import TraceReader
from gputrace.trace.scrub import Choice, Scrubbed, touches
from gputrace.trace.writer import TraceWriter

LEVEL = 19
"""Compression of the result: it is written once and sent around."""
SEEN_AGAIN = (Result.SAME, Result.DIFFERS, Result.HANG, Result.FAULT, Result.NOT_COMPARED)
"""Verdicts that a second replay can have as well."""


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """What was taken out, how many bytes became zero, and the verdict, if it was looked for."""

    removed: dict[str, int]
    zeroed_bytes: int
    verdict: Verdict | None


def scrub(
    path: Path, target: Path, choice: Choice, *, checked: bool = True, seconds: float = 120.0
) -> Scrubbing:
    """Write what is left of a trace to `target`, which appears when it is whole and ends alike.

    `checked` replays trace and result, each for so many `seconds` at most, and compares; bytes can
    become zero only then. Raises UsageError when it cannot be done, and names what was to become
    zero where that changes how it ends.
    """
    limits = Limits(seconds=seconds)
    _check(path, target, choice, checked)
    before = replay(Request(str(path)), limits) if checked else None
    if before is not None and before.result not in SEEN_AGAIN:
        raise UsageError(f"{path}: no replay to compare with: {before.result.value}: {before.text}")
    folder = Path(tempfile.mkdtemp(prefix=".scrub-", dir=target.parent))
    try:
        made = folder / target.name
        after = _written(path, made, choice, before, limits)
        if before is not None and after is not None and not alike(before, after):
            raise UsageError(_refusal(path, made, choice, before, after, limits))
        os.replace(made, target)
    finally:
        shutil.rmtree(folder)
    with TraceReader(path) as reader:
        source = Scrubbed(reader, choice)
        for _ in source.numbered():
            pass
    return Scrubbing({k: n for k, n in source.removed.items() if n}, source.zeroed_bytes, after)


def _check(path: Path, target: Path, choice: Choice, checked: bool) -> None:
    if choice.zero and not checked:
        raise UsageError("what becomes zero has to be replayed: it goes with the check only")
    with TraceReader(path) as reader:
        if not reader.complete:
            raise UsageError(f"{path} is incomplete: `gputrace repair` it first")
        Scrubbed(reader, choice)
    if target.exists() and target.samefile(path):
        raise UsageError(f"{target} is the trace itself: name another file for the result")


def alike(one: Verdict, two: Verdict) -> bool:
    """Whether two replays ended in the same way: kernels may have other names in the second."""
    return _ending(one) == _ending(two)


def _ending(verdict: Verdict) -> tuple[object, ...]:
    signature = verdict.signature and replace(verdict.signature, kernel="")
    difference = verdict.difference and (verdict.difference.address, verdict.difference.size)
    failures = [(one.queue, one.packet, one.kind, one.address) for one in verdict.failures]
    return verdict.result, verdict.proven, signature, difference, failures


def _refusal(
    path: Path, made: Path, choice: Choice, before: Verdict, after: Verdict, limits: Limits
) -> str:
    # Of several things that were to become zero, say which one it is.
    at_fault = list(choice.zero)
    if len(choice.zero) > 1:
        alone = {text: replace(choice, zero=(text,)) for text in choice.zero}
        ends = {text: _written(path, made, one, before, limits) for text, one in alone.items()}
        at_fault = [text for text, end in ends.items() if end and not alike(before, end)]
    what = f"with {', '.join(at_fault or choice.zero)} zero" if choice.zero else "without them"
    was, now = f"{before.result.value}: {before.text}", f"{after.result.value}: {after.text}"
    return f"{path}: {what} it would end otherwise, nothing was written; was {was}; would be {now}"


def _written(
    path: Path, made: Path, choice: Choice, before: Verdict | None, limits: Limits
) -> Verdict | None:
    # Write the result; with a verdict to compare with, return the one that it has.
    with TraceReader(path) as reader:
        if choice.zero and before is not None:
            _write_with_results(reader, made, choice, before, limits)
        else:
            with _Writing(made, Scrubbed(reader, choice)) as writing:
                writing.rest()
    return None if before is None else replay(Request(str(made)), limits)


class _Writing:
    """Writes the events of a scrubbed trace, digests as they are or as they are told."""

    def __init__(self, path: Path, source: Scrubbed) -> None:
        self._source = source
        self._events = source.numbered()
        first = next(self._events)[1]
        assert isinstance(first, Header)
        self._writer = TraceWriter(path, first, level=LEVEL)
        self._next: tuple[int, Event] | None = next(self._events, None)

    def __enter__(self) -> "_Writing":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def until(self, number: int, found: Callable[[int, Digest], bytes | None]) -> None:
        """Write the events up to one, digests with the bytes that are `found`, if any."""
        for at, event in self._upto(number):
            data = None
            if isinstance(event, Digest) and not event.unstable:
                data = found(at, event)
            if isinstance(event, Digest) and data is not None:
                store = event.stored and not self._in_zero(event)
                self._writer.digest(event.address, data, store=store, step=event.step)
            else:
                self._write(event, hidden=True)

    def rest(self, *, hidden: bool = False) -> None:
        """Write the events that are left; `hidden` keeps the bytes of results out."""
        for _, event in self._upto(1 << 64):
            self._write(event, hidden)

    def _upto(self, number: int) -> Iterator[tuple[int, Event]]:
        while self._next is not None and self._next[0] <= number:
            yield self._next
            self._next = next(self._events, None)

    def _in_zero(self, event: Digest) -> bool:
        return touches(event.address, event.size, self._source.ranges)

    def _write(self, event: Event, hidden: bool) -> None:
        match event:
            case Memory() if event.size:
                data = b"".join(data for _, data in self._source.pieces(event))
                self._writer.memory(event.address, data, event.provenance, event.step)
            case Digest(stored=True) if not hidden:
                data = b"".join(data for _, data in self._source.pieces(event))
                self._writer.digest(
                    event.address, data, store=True, unstable=event.unstable, step=event.step
                )
            case Digest():
                self._writer.append(replace(event, stored=False))
            case _:
                self._writer.append(event)


def _write_with_results(
    reader: TraceReader, made: Path, choice: Choice, before: Verdict, limits: Limits
) -> None:
    name = device_name(reader.header, Request(reader.file.path))
    pacing = cast(Pacing, before.pacing)

    def task(expired: Callable[[], bool]) -> Verdict:
        wrong = _disagreeing(player_for(reader, make_device(name), pacing, expired), reader)
        source = Scrubbed(reader, choice)
        player = player_for(reader, make_device(name), pacing, expired, source)
        with _Writing(made, Scrubbed(reader, choice)) as writing:

            def found(number: int, event: Digest) -> bytes | None:
                live = bytes(player.places.view(event.address, event.size, writable=False))
                if number not in wrong:
                    return live
                if not event.stored:
                    return None
                return _still_wrong(reader.memory(event), wrong[number], live)

            player.after_event = lambda number: writing.until(number, found)
            verdict = player.run()
            writing.rest(hidden=True)
        return verdict

    child.run(task, limits, keep=(reader.file.fd,))


def _disagreeing(player: Player, reader: TraceReader) -> dict[int, bytes]:
    # By the number of a digest: what a replay of the trace shows where it expects something else.
    wrong: dict[int, bytes] = {}

    def look(number: int) -> None:
        event = digests.get(number)
        if event is not None and not player.comparison.agrees(event):
            live = player.places.view(event.address, event.size, writable=False)
            wrong[number] = bytes(live)

    digests = {n: e for n, e in reader.numbered() if isinstance(e, Digest) and not e.unstable}
    player.after_event = look
    player.run()
    return wrong


def _still_wrong(right: bytes, before: bytes, live: bytes) -> bytes:
    # Where the trace expected what came, it expects what comes now.
    compared = zip(right, before, live, strict=True)
    return bytes(now if was == wanted else wanted for wanted, was, now in compared)
