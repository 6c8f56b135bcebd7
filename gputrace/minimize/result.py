"""Write what is left as a trace of its own: the candidate runs once more and is recorded."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gputrace import __version__
from gputrace.capture.recorder import Recorder
from gputrace.devices.names import parse_name
from gputrace.errors import UsageError
from gputrace.kfd.port import Kfd
from gputrace.minimize import trial
from gputrace.minimize.contrast import differences
from gputrace.minimize.history import descriptors, make_emulated
from gputrace.minimize.reduce import Reduction
from gputrace.replay import child
from gputrace.replay.player import Player
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.events import Note, Outcome
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
    for device in reduction.target.devices:
        folder = tempfile.mkdtemp(prefix=".minimize-", dir=path.parent)
        made = Path(folder) / path.name
        try:
            verdict = _record(reduction, made, device, limits)
            if not _shows(reduction, verdict):
                continue
            if made.stat().st_size > original.stat().st_size:
                shutil.copyfile(original, made)
            os.replace(made, path)
            return verdict
        finally:
            shutil.rmtree(folder)
    raise UsageError("the reduced trace did not fail when it was recorded; nothing was written")


def _shows(reduction: Reduction, verdict: Verdict) -> bool:
    return reduction.target.signature in verdict.reasons[::2]


def _record(reduction: Reduction, path: Path, device: str, limits: Limits) -> Verdict:
    case, target = reduction.case, reduction.target
    seed = int(parse_name(device).options.get("schedule", 0))
    header = replace(
        case.model.header,
        tool=f"gputrace {__version__}",
        device={**case.model.header.device, "name": device},
        schedule_seed=seed,
        kinds={},
    )

    def task(expired: Callable[[], bool]) -> Verdict:
        right = None
        if target.contrast:
            _, _, right = trial.play(case, reduction.best, device, expired, serial=True)
        writer = TraceWriter(path, header, level=LEVEL)

        def around(kfd: Kfd) -> Kfd:
            return Recorder(kfd, writer)

        verdict, found, memory = trial.play(
            case, reduction.best, device, expired, around=around
        )
        if right is not None and not found:
            clocks = trial.clocks(case, reduction.best)
            found = differences(case.model, right, memory, clocks)
        writer.append(Note("minimized", target.signature))
        writer.close(outcome_of(verdict, target.text if target.contrast else ""))
        return replace(verdict, reasons=tuple(x for r in found for x in (r.signature, r.text)))

    return child.run(task, limits, keep=descriptors(case.model.source))


def outcome_of(verdict: Verdict, text: str) -> Outcome:
    """Return the outcome event that says what a verdict says."""
    if verdict.result not in (Result.HANG, Result.FAULT) or not verdict.failures:
        return Outcome("ended", text or verdict.text)
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
