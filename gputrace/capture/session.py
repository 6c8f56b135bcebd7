"""Record what happens inside a `with` block."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from gputrace import __version__
from gputrace.bits import Record
from gputrace.capture.emulated import Emulated
from gputrace.capture.outcomes import of_fault, of_stall
from gputrace.capture.recorder import Recorder
from gputrace.capture.telling import costs, losses
from gputrace.capture.window import WHOLE, Part, PartWriter, part_writer
from gputrace.devices import opening
from gputrace.errors import DeviceFault, UsageError
from gputrace.families import by_target_version
from gputrace.formats.ioctl import BY_RECORD
from gputrace.kfd.port import Fault, Kfd
from gputrace.trace.events import Header, Note, Outcome
from gputrace.trace.writer import TraceWriter

Mode = Literal["light", "full"]
PATH = "GPUTRACE_RECORD"
"""Names the trace in the environment of programs that `gputrace record` started."""
COMPARED = (
    "memory is compared at every call, as its writes cannot be followed: slower, and it is not "
    "known whether CPU or GPU made a change"
)


@contextmanager
def record(
    path: str | os.PathLike[str],
    *,
    durable: bool = False,
    mode: Mode = "light",
    part: Part = WHOLE,
) -> Iterator[None]:
    """Record the device that is opened inside the block into a trace.

    `durable` waits for the disk before each doorbell, so that not even the end of the machine
    loses one. When the file cannot be written any more, which is said on stderr, the program goes
    on without. In mode "light" digests of what the GPU wrote are taken where the program waits
    itself, in "full" after each submission, which has to end first. `part` asks for a part of the
    run, such as `Part(last=100)` or `Part(start="kernel:saxpy")`. What may be lost is said on
    stderr first, and what the capture cost in the end.

    Raises UsageError for a path without the suffix .gtrace, another mode, a second device and when
    no device was opened at all.
    """
    made: list[Recording] = []

    def around(kfd: Kfd) -> Kfd:
        if made:
            raise UsageError(f"{kfd.name}: this trace records {made[0].recorder.name} already")
        made.append(start(kfd, path, durable=durable, mode=mode, part=part))
        return made[0].recorder

    check_name(path)
    if mode not in get_args(Mode):
        raise UsageError(f"mode {mode!r}: expected {' or '.join(get_args(Mode))}")
    outcome, begin = Outcome("ended"), time.monotonic()
    if PATH not in os.environ:  # else `gputrace record` has said it
        _tell(losses("durable=True", given=durable))
    try:
        with opening.wrapped(around):
            yield
    except BaseException as error:
        outcome = outcome_of(error, made[0].recorder if made else None)
        raise
    finally:
        for recording in made:
            recording.close(outcome)
            cost = costs(recording.recorder.cost, time.monotonic() - begin)
            _tell(f"{os.fspath(path)}: {cost}")
    reason = made[0].missing if made else "no device was opened inside the block"
    if reason:
        raise UsageError(f"nothing was recorded: {reason}")
    if made[0].remark:
        _tell(f"{os.fspath(path)}: {made[0].remark}")


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise UsageError for a path without the suffix .gtrace."""
    if Path(path).suffix != ".gtrace":
        raise UsageError(f"{os.fspath(path)}: expected a name that ends with .gtrace")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorder and the trace that it writes."""

    recorder: Recorder
    writer: TraceWriter | PartWriter

    @property
    def missing(self) -> str:
        """Why there is no trace, or nothing."""
        return self.writer.missing if isinstance(self.writer, PartWriter) else ""

    @property
    def remark(self) -> str:
        """What should be said of the trace when it is closed, or nothing."""
        return self.writer.remark if isinstance(self.writer, PartWriter) else ""

    def close(self, outcome: Outcome) -> None:
        """Close the device, if the program has not, and the trace."""
        self.recorder.close()
        self.writer.close(outcome)


def start(
    kfd: Kfd, path: str | os.PathLike[str], *, durable: bool, mode: str, part: Part = WHOLE
) -> Recording:
    """Put a recorder around a device; say so on stderr when provenance cannot be told."""
    header = replace(header_of(kfd), mode=mode)
    if not part.from_start:
        # Steps count from the beginning of a run.
        knows = isinstance(kfd, Emulated) and kfd.follows_writes
        header = replace(header, scheduler="", written=knows)

    def make(where: str) -> TraceWriter:
        return TraceWriter(where, header, durable=durable, failing=_tell_failure)

    writer = part_writer(path, part, make)
    recorder = Recorder(kfd, writer)
    if recorder.provenance != "cpu":
        writer.append(Note("provenance", COMPARED))
        _tell(COMPARED)
    return Recording(recorder, writer)


def _tell_failure(reason: str) -> None:
    # The program is worth more than its record.
    _tell(f"{reason}: the trace ends here, the program goes on")


def _tell(text: str) -> None:
    print(f"gputrace: {text}", file=sys.stderr)


def header_of(kfd: Kfd) -> Header:
    """Return the header of a trace that is recorded on a device."""
    nodes = kfd.topology.gpus
    target = by_target_version(nodes[0]["gfx_target_version"]).name if nodes else ""
    return Header(
        tool=f"gputrace {__version__}",
        family=target,
        device={
            "name": kfd.name,
            "gpus": len(nodes),
            "gpu_ids": [node.gpu_id for node in nodes],
            **kfd.versions,
        },
        topology={str(i): dict(node.properties) for i, node in enumerate(kfd.topology.nodes)},
        layouts={record.__name__: _layout(record) for record in BY_RECORD},
        schedule_seed=getattr(kfd, "schedule_seed", 0),
        scheduler=str(getattr(kfd, "scheduler_version", "")),
    )


def _layout(record: type[Record]) -> list[object]:
    return [record.WORDS, [[field.name, field.lo, field.width] for field in record.FIELDS]]


def outcome_of(error: BaseException, recorder: Recorder | None) -> Outcome:
    """Return how a run ended that was ended by an exception.

    The class of a failure is the device's word, not the name of an exception of the program.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, DeviceFault):
        return _of_fault(error, text, recorder.last_faults if recorder else ())
    if recorder and recorder.last_stalls:
        return of_stall(recorder.last_stalls[0], text, alone=recorder.alone)
    return Outcome("ended", text)


def _of_fault(error: DeviceFault, text: str, faults: Sequence[Fault]) -> Outcome:
    for fault in faults:
        if (fault.queue, fault.packet) == (error.queue, error.packet):
            return of_fault(fault, text)
    return Outcome(
        "fault", text,
        queue=-1 if error.queue is None else error.queue,
        packet=-1 if error.packet is None else error.packet,
        address=-1 if error.address is None else error.address,
        access=error.access or "", kernel=error.kernel or "",
        wave=-1 if error.wave is None else error.wave,
    )  # fmt: skip
