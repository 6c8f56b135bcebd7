"""Write what is left as a trace of its own: the candidate runs once more and is recorded."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgpack

from gputrace import __version__
from gputrace.capture.outcomes import details
from gputrace.capture.recorder import Recorder
from gputrace.devices.names import parse_name
from gputrace.errors import UsageError
from gputrace.kfd.port import Kfd
from gputrace.minimize import trial
from gputrace.minimize.contrast import Snapshots
from gputrace.minimize.history import descriptors, make_emulated
from gputrace.minimize.reduce import Reduction
from gputrace.minimize.trial import Way
from gputrace.replay import child
from gputrace.replay.player import Player
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.chunks import describe
from gputrace.trace.events import Digest, Header, Memory, Note, Outcome
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

LEVEL = 19
"""Compression of a result: it is written once and sent around."""


def write_result(reduction: Reduction, path: Path, original: Path, seconds: float) -> Verdict:
    """Record the best candidate into `path`; return the verdict of that run.

    The file is never larger than the original: if it were, the original is copied, which fails as
    well. Raises UsageError when the run does not show the failure.
    """
    limits = Limits(seconds=seconds)
    for way in reduction.target.ways:
        folder = tempfile.mkdtemp(prefix=".minimize-", dir=path.parent)
        made = Path(folder) / path.name
        try:
            verdict = _record(reduction, made, way, limits)
            if not _shows(reduction, verdict):
                continue
            expected = made.with_suffix(".right")
            if expected.exists():
                found = msgpack.unpackb(expected.read_bytes(), strict_map_key=False)
                reduction.right.update(found)
            if made.stat().st_size > original.stat().st_size:
                shutil.copyfile(original, made)
            os.replace(made, path)
            return verdict
        finally:
            shutil.rmtree(folder)
    raise UsageError("the reduced trace did not fail when it was recorded; nothing was written")


def _shows(reduction: Reduction, verdict: Verdict) -> bool:
    return reduction.target.signature in verdict.reasons[::2]


def _record(reduction: Reduction, path: Path, way: Way, limits: Limits) -> Verdict:
    case, target = reduction.case, reduction.target
    seed = int(parse_name(way.device).options.get("schedule", 0))
    header = replace(
        case.model.header,
        tool=f"gputrace {__version__}",
        device={**case.model.header.device, "name": way.device},
        schedule_seed=seed,
        kinds={},
    )

    def task(expired: Callable[[], bool]) -> Verdict:
        writer = TraceWriter(path, header, level=LEVEL)

        def around(kfd: Kfd) -> Kfd:
            return Recorder(kfd, writer)

        verdict, found, memory, right = trial.play(case, reduction.best, way, expired, around)
        writer.append(Note("minimized", target.signature))
        ended = outcome_of(verdict)
        wrong = next((one.text for one in found if one.signature == target.signature), "")
        if target.contrast and wrong:
            ended = Outcome("differs", wrong)
        # A verdict names queues as the first recording did; this one has names of its own.
        made = writer.summary.queues
        if verdict.failures and 0 <= verdict.failures[0].ordinal < len(made):
            ended = replace(ended, queue=made[verdict.failures[0].ordinal]["queue"])
        writer.close(ended)
        if right is not None:
            expect(path, right, memory)
        return replace(verdict, reasons=tuple(x for r in found for x in (r.signature, r.text)))

    return child.run(task, limits, keep=descriptors(case.model.source))


def expect(path: Path, right: Snapshots, wrong: Snapshots) -> None:
    """Let a recorded wrong result expect the right bytes, so that its replay differs.

    Digests of memory as the recorded run left it become digests of what the other run left there;
    the right bytes are stored beside the trace, too.
    """
    changed = path.with_suffix(".changed")
    places = list(_differing(right, wrong))
    with TraceReader(path) as reader, TraceWriter(changed, reader.header, level=LEVEL) as writer:
        for event in reader:
            match event:
                case Header():
                    continue
                case Digest():
                    _write_digest(writer, event, places, reader)
                case Memory() if event.chunks:
                    data = reader.memory(event)
                    writer.memory(event.address, data, event.provenance, event.step)
                case _:
                    writer.append(event)
    os.replace(changed, path)
    path.with_suffix(".right").write_bytes(msgpack.packb(right.taken))


def _differing(right: Snapshots, wrong: Snapshots) -> Iterator[tuple[int, bytes, bytes]]:
    # (address, wrong bytes, right bytes) of each buffer that came out otherwise.
    for buffer in right.buffers:
        one, other = right.taken.get(buffer.made), wrong.taken.get(buffer.made)
        if one is not None and other is not None and one != other:
            yield buffer.where.start, other, one


def _write_digest(
    writer: TraceWriter,
    event: Digest,
    places: list[tuple[int, bytes, bytes]],
    reader: TraceReader,
) -> None:
    for address, wrong, right in places:
        at = low = event.address - address
        if low < 0 or low + event.size > len(wrong):
            continue
        agree = []
        for chunk in event.chunks:
            agree.append(describe(wrong[at : at + chunk.size]) == chunk)
            at += chunk.size
        if all(agree):
            writer.digest(event.address, right[low:at], store=True, step=event.step)
            return
    if event.stored:
        data = reader.memory(event)
        writer.digest(event.address, data, store=True, unstable=event.unstable, step=event.step)
    else:
        writer.append(event)


def outcome_of(verdict: Verdict) -> Outcome:
    """Return the outcome event that says what a verdict says."""
    if verdict.result not in (Result.HANG, Result.FAULT) or not verdict.failures:
        return Outcome("ended", verdict.text)
    first = verdict.failures[0]
    return Outcome(
        verdict.result.value,
        verdict.text,
        queue=first.queue,
        packet=first.packet,
        address=-1 if first.address is None else first.address,
        access=first.access or "",
        kernel=first.kernel or "",
        wave=-1 if first.wave is None else first.wave,
        proven=verdict.proven,
        details=details(first.place, first.pc, first.workgroup, first.registers),
    )


def replay_again(path: Path, seconds: float) -> Verdict:
    """Replay a result in a new process, exactly as it was recorded."""
    with TraceReader(path) as reader:
        name = str(reader.header.device.get("name", ""))
        ended = str((reader.trailer.outcome or {}).get("result", "")) if reader.trailer else ""

        def task(expired: Callable[[], bool]) -> Verdict:
            return Player(
                reader, make_emulated(name), "steps", ended=ended, expired=expired
            ).run()

        return child.run(task, Limits(seconds=seconds), keep=(reader.file.fd,))
