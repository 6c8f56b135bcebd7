"""Replay a trace file on a device by name: choose the device and the pacing, play, judge."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.names import DeviceName, parse_name
from gputrace.devices.opening import REAL_NODE, make_device
from gputrace.errors import UsageError
from gputrace.families import by_target_version
from gputrace.kfd.port import Kfd
from gputrace.replay.child import run
from gputrace.replay.clocks import clock_places
from gputrace.replay.explain import Watch, explain, packet_lines
from gputrace.replay.needs import reasons
from gputrace.replay.pacing import Pacing
from gputrace.replay.player import Player
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.about import UNWRITTEN
from gputrace.trace.events import THREADS, Header, Note
from gputrace.trace.reader import TraceReader
from gputrace.trace.source import Source


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay and where; `device` and `seed` of None are those of the recording."""

    trace: str
    device: str | None = None
    seed: int | None = None


def device_name(header: Header, request: Request) -> str:
    """Return the name of the device that a replay runs on, schedule included.

    Raises UsageError for a wrong name and for a trace that does not say where it was recorded.
    """
    text = request.device or usual_device(header)
    if not text:
        raise UsageError("the trace does not say on which device it was recorded: use --device")
    name = parse_name(text)
    if name.scheme != "emu":
        return text
    seed = request.seed
    if seed is None and "schedule" not in name.options:
        seed = header.schedule_seed
    return text if seed is None else str(_scheduled(name, seed))


def recorded_on(header: Header) -> str:
    """Return the name of the device that a trace was recorded on, empty if it does not say."""
    name = header.device.get("name", "")
    return name if isinstance(name, str) else ""


def usual_device(header: Header) -> str:
    """Return where a trace runs again if nobody says: where it was recorded.

    In place of a real GPU that is an emulated one of its target where there is no real one.
    """
    recorded = recorded_on(header)
    if recorded and parse_name(recorded).scheme == "kfd" and not REAL_NODE.exists():
        return stand_in(header)
    return recorded


def stand_in(header: Header) -> str:
    """Return the name of emulated GPUs like those that a trace was recorded on."""
    count = header.device.get("gpus", 1)
    return f"emu:{header.family}" + (f"x{count}" if count != 1 else "")


def where(request: Request) -> tuple[str, str]:
    """Return the device that a request is for, and the one of the recording or nothing.

    Raises UsageError as `device_name` does.
    """
    with TraceReader(request.trace) as reader:
        return device_name(reader.header, request), recorded_on(reader.header)


def _scheduled(name: DeviceName, seed: int) -> DeviceName:
    return replace(name, options=MappingProxyType({**name.options, "schedule": seed}))


def pacing_for(header: Header, device: object) -> Pacing:
    """Return "steps" when a device does the very same as the recorded one did, else "progress"."""
    if not isinstance(device, EmulatedKfd) or not header.scheduler:
        return "progress"
    target = by_target_version(device.topology.gpus[0]["gfx_target_version"]).name
    here = (str(device.scheduler_version), device.schedule_seed, target, len(device.topology.gpus))
    gpus = header.device.get("gpus", len(device.topology.gpus))
    recorded = (header.scheduler, header.schedule_seed, header.family, gpus)
    return "steps" if recorded == here else "progress"


def play(request: Request, expired: Callable[[], bool]) -> Verdict:
    """Replay in this process. Raises UsageError and TraceError."""
    with TraceReader(request.trace) as reader:
        name = device_name(reader.header, request)
        device = make_device(name)
        found = [*lost_events(reader), *reasons(reader, device)]
        if found:
            text = f"cannot be replayed on {name}: {'; '.join(found)}"
            return Verdict(Result.UNSUPPORTED, text, reasons=tuple(found), device=name)
        pacing = pacing_for(reader.header, device)
        verdict = player_for(reader, device, pacing, expired).run()
        if pacing == "steps" and not _as_recorded(reader, verdict) and in_doubt(reader):
            pacing = "progress"
            verdict = player_for(reader, make_device(name), pacing, expired).run()
        if verdict.difference is not None and verdict.difference.observed is not None:
            verdict = _with_writer(reader, name, verdict, pacing, expired)
        verdict = explain(reader, verdict)
        return replace(verdict, device=name, unchecked=unchecked(reader.header, name))


def unchecked(header: Header, device: str) -> str:
    """Return what a replay cannot check of what a device would, or nothing."""
    name = parse_name(device)
    return UNWRITTEN if name.exact and not header.knows_writes else ""


def lost_events(reader: TraceReader) -> list[str]:
    """Return why a repaired trace cannot be replayed: what it lacks may be anything."""
    lost = reader.trailer.lost if reader.trailer is not None else 0
    return [f"{lost} of its events were lost with damaged blocks"] if lost else []


def in_doubt(source: Source) -> bool:
    """Say whether a trace notes that threads stored at steps that are not known for sure.

    At the steps of the recording it does the same again as long as nothing looked at those stores
    before they were found; otherwise the recorded progress is all that there is to go by.
    """
    return any(isinstance(one, Note) and one.what == THREADS for _, one in source.numbered())


def _ended(reader: TraceReader) -> str:
    trailer = reader.trailer
    return str(trailer.outcome.get("result", "")) if trailer is not None else ""


def _as_recorded(reader: TraceReader, verdict: Verdict) -> bool:
    classes = {"hang": Result.HANG, "fault": Result.FAULT, "differs": Result.DIFFERS}
    wanted = classes.get(_ended(reader))
    return verdict.result is wanted if wanted else verdict.result is not Result.DIFFERS


def player_for(
    reader: TraceReader,
    device: Kfd,
    pacing: Pacing,
    expired: Callable[[], bool],
    source: Source | None = None,
) -> Player:
    """Return what replays a trace, or a `source` that was made of it, as its end tells to."""
    trailer, ended = reader.trailer, _ended(reader)
    complete = ended not in ("", "killed")
    source = source or reader
    player = Player(source, device, pacing, ended=ended, complete=complete, expired=expired)
    if pacing == "progress" and not (trailer and trailer.kinds.get("ClockReads")):
        player.comparison.clocks = clock_places(reader)
    return player


def _with_writer(
    reader: TraceReader, name: str, verdict: Verdict, pacing: Pacing, expired: Callable[[], bool]
) -> Verdict:
    # Who wrote a byte last is seen by replaying once more with an eye on it.
    device, difference = make_device(name), verdict.difference
    if not isinstance(device, EmulatedKfd) or difference is None:
        return verdict
    player = player_for(reader, device, pacing, expired)
    watch = Watch(player, device, difference.address, 1, difference.event)
    player.run()
    if watch.writer is None:
        return verdict
    lines, _ = packet_lines(reader, [watch.writer])
    text = f"queue {watch.queue}, packet {watch.writer[1]}: {lines.get(watch.writer, '?')}"
    return replace(verdict, difference=replace(difference, writer=text))


def replay(request: Request, limits: Limits | None = None) -> Verdict:
    """Replay in a child process: also what would end this one is a verdict."""
    return run(lambda expired: play(request, expired), limits)
