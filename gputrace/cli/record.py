"""`gputrace record`: run a program and write down what it does to its GPUs."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gputrace.cli.common import amount, json_option
from gputrace.errors import GputraceError, UsageError
from gputrace.trace.events import Cost
from gputrace.trace.reader import TraceReader
from gputrace.trace.repair import repair

if TYPE_CHECKING:
    from gputrace.capture.window import Settings
    from gputrace.interpose.launch import Served

_FATAL = 128
ONLY_OURS = (
    "on real GPUs parts of a run are recorded of programs that use gputrace; others are recorded "
    "from their beginning to their end"
)


@click.command("record", context_settings={"ignore_unknown_options": True})
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The trace.")
@click.option("--durable", is_flag=True, help="Wait for the disk before each doorbell.")
@click.option(
    "--mode", type=click.Choice(["light", "full"]), default="light", show_default=True,
    help="When to take digests: at the program's own waits, or after each submission.",
)  # fmt: skip
@click.option("--device", help="For programs that name none: such as emu:gfx1100.")
@click.option("--last", type=click.IntRange(min=1), default=None, metavar="N",
              help="Keep the last N submissions, from a checkpoint on.")  # fmt: skip
@click.option("--last-bytes", metavar="SIZE",
              help="Keep so many bytes of what came last, beside the checkpoint: 64M.")  # fmt: skip
@click.option("--max-size", metavar="SIZE", help="Stop at that size: 64K, 100M, 2G.")
@click.option("--start", metavar="TRIGGER",
              help="Begin with submission:N, kernel:NAME, its Nth launch kernel:NAME#N (NAME may "
                   "have * and ?), or signal:USR1.")  # fmt: skip
@click.option("--stop", metavar="TRIGGER", help="End after such a submission, or a signal.")
@json_option
@click.argument("program", nargs=-1, type=click.UNPROCESSED, required=True)
def command(
    output: str, durable: bool, mode: str, device: str | None, as_json: bool,
    program: Sequence[str], last: int | None, last_bytes: str | None, max_size: str | None,
    start: str | None, stop: str | None,
) -> int:  # fmt: skip
    """Run PROGRAM and record what it does to its GPUs, whether it knows of gputrace or not.

    A program that opens /dev/kfd by itself gets the emulated GPU that `--device` names. Exit
    status: the program's own, 128 and the signal's number if one ended it; 2 when it opened no
    device. With `--json` what was recorded is a line of JSON on stderr. Signals that begin or end
    a part are for the program if it uses gputrace, else for this command.
    """
    # Imported here: help should not wait for the device layers.
    from gputrace.capture.program import environment
    from gputrace.capture.session import check_name
    from gputrace.capture.window import Part, Settings
    from gputrace.devices.names import FALLBACK, parse_name
    from gputrace.devices.opening import REAL_NODE

    check_name(output)
    sizes = [0 if one is None else _at_least_one(one) for one in (max_size, last_bytes)]
    part = Part(last or 0, sizes[0], start or "", stop or "", sizes[1])
    wanted = environment(output, durable=durable, mode=mode, part=part)
    best = "kfd:0" if REAL_NODE.exists() else FALLBACK
    name = device or os.environ.get("GPUTRACE_DEVICE") or best
    parse_name(name)  # which says what is wrong with it
    wanted["GPUTRACE_DEVICE"] = name  # else it would take the nodes that are there for others
    found, before = _find(program[0]), time.monotonic()
    with _room(output):
        with _served(name, output, as_json, Settings(mode, durable, part)) as served:
            told = () if as_json else _at_start(durable)
            status = _run([found, *program[1:]], {**os.environ, **wanted}, served, told)
        seconds, missing = time.monotonic() - before, _missing(output, start)
        if not (traces := _traces(output)):
            why = next(iter(missing.values()), "opened no device")
            raise UsageError(f"{program[0]} (exit status {status}): {why}: there is no trace")
    _mark_killed(output, status)
    never = [{"trace": name, "status": status, "missing": why} for name, why in missing.items()]
    for data in (*never, *(_data(path, seconds, status) for path in traces)):
        for line in [json.dumps(data, sort_keys=True)] if as_json else _lines(data):
            click.echo(line, err=True)
    return status


def _missing(output: str, start: str | None) -> dict[str, str]:
    # Names that were kept for traces which never began, and why; they are given up.
    from gputrace.capture.window import NEVER

    why: dict[str, str] = {}
    for one in _traces(output):
        if not one.stat().st_size:
            why[str(one)] = f"{start} never came" if start else "ended before its trace began"
            one.unlink()
    for one in _traces(output, NEVER):
        why[str(one).removesuffix(NEVER)] = one.read_text()
        one.unlink()
    return why


def _at_least_one(text: str) -> int:
    from gputrace.devices.names import parse_size

    size = parse_size(text)
    if not size:
        raise UsageError(f"size {text!r}: expected at least 1 byte")
    return size


def _find(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"{name}: no such program")
    return found


@contextmanager
def _served(
    name: str, output: str, as_json: bool, settings: "Settings"
) -> "Iterator[Served | None]":
    # A program may open the device nodes itself: they are emulated ones, or tapped.
    from gputrace.cli.notices import Notices
    from gputrace.devices.names import parse_name
    from gputrace.devices.opening import emulated, recorded
    from gputrace.interpose.launch import serving, tapping
    from gputrace.interpose.library import preload_library

    tap = not name.startswith("emu:")
    try:
        preload_library(tap=tap)
    except UsageError as problem:
        if not as_json:
            click.echo(f"gputrace: {problem}; those that use gputrace are recorded", err=True)
        yield None
        return
    notices, trace = Notices(as_json), Path(output)
    if tap:
        if not settings.part.whole and not as_json:
            click.echo(f"gputrace: {ONLY_OURS}", err=True)
        served = tapping(notices.tell, trace, mode=settings.mode, durable=settings.durable)
    else:
        served = serving(
            lambda client: recorded(name, client), emulated(name).topology, notices.tell, trace,
            settings, exact=parse_name(name).exact,
        )  # fmt: skip
        settings.part.listen()
    with served as server:
        yield server
    notices.end()


@contextmanager
def _room(output: str) -> Iterator[None]:
    # Older traces of this name stand aside until there is a new one; without one they come back.
    from gputrace.capture.window import NEVER

    folder = Path(output).parent
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such directory")
    aside = [(one, one.with_name(f"{one.name}.old")) for one in _traces(output)]
    try:
        for old, kept in aside:
            old.rename(kept)
        for left in (Path(f"{output}.next"), *_traces(output, NEVER)):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot replace {output}: {error.strerror}") from error
    try:
        yield
    finally:
        made = bool(_traces(output))
        for old, kept in aside:
            if made:
                kept.unlink()
            else:
                kept.rename(old)


def _traces(output: str, ending: str = "") -> list[Path]:
    # The first device's trace, then those of further devices and of child processes. With an
    # `ending` files of such names that end so.
    path, first = Path(output), Path(output + ending)
    more = sorted(path.parent.glob(f"{_literal(path.stem)}-*-*{path.suffix}{ending}"))
    numbers = slice(len(path.stem) + 1, -len(path.suffix + ending))
    mine = [one for one in more if all(p.isdecimal() for p in one.name[numbers].split("-"))]
    return [one for one in [first, *mine] if one.exists()]


def _literal(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _at_start(durable: bool) -> Iterator[str]:
    from gputrace.capture.telling import losses

    yield losses("--durable", given=durable)
    yield (
        "on emulated devices stores of CPU and GPU are told apart; beside a real GPU the program "
        "stands still while a submission is under way, and what changes then is the GPU's"
    )


def _run(
    program: Sequence[str], given: dict[str, str], served: "Served | None", told: Iterable[str]
) -> int:
    from gputrace.capture.program import NODES
    from gputrace.interpose.attend import attend
    from gputrace.interpose.launch import find_program

    if served is not None:
        find_program(program[0])  # which says why it could not be served, before all else
    for line in told:
        click.echo(f"gputrace: {line}", err=True)
    if served is None:
        return attend(program, given)
    return served.attend(program, {**given, NODES: "1"})


def _mark_killed(output: str, status: int) -> None:
    # A program that a signal ended could not say so itself, nor tidy up.
    Path(f"{output}.next").unlink(missing_ok=True)
    if status <= _FATAL or not Path(output).exists():
        return
    with TraceReader(output) as reader:
        if reader.complete:
            return
    from gputrace.interpose.ending import by_signal

    try:
        done = repair(output, outcome=by_signal(status - _FATAL))
    except UsageError as problem:
        click.echo(f"gputrace: {problem}; the trace is as the program left it", err=True)
        return
    if done.kept:
        click.echo(f"gputrace: {done.kept}: the trace as the program left it", err=True)


def _data(path: Path, seconds: float, status: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "trace": str(path), "bytes": path.stat().st_size, "seconds": seconds, "status": status,
    }  # fmt: skip
    try:
        with TraceReader(path) as reader:
            data["events"] = len(reader)
            trailer = reader.trailer
    except GputraceError as error:
        return {**data, "problem": str(error)}
    data["complete"] = trailer is not None
    if trailer is not None:
        data["outcome"] = trailer.outcome.get("result", "unknown")
        data["doorbells"] = trailer.kinds.get("DoorbellIntent", 0)
        data["cost"] = trailer.summary.get("cost", {}) if trailer.summary else {}
    return data


def _lines(data: dict[str, Any]) -> Iterator[str]:
    if "missing" in data:
        yield f"gputrace: {data['trace']}: {data['missing']}: there is no such trace"
        return
    head = f"gputrace: {data['trace']}: {amount(data['bytes'])}"
    if "problem" in data:
        yield f"{head}: {data['problem']}"
        return
    if not data["complete"]:
        why = "the program could not close it, or it could not be written to its end"
        yield f"{head}, {data['events']} events; incomplete: {why}"
        return
    yield f"{head}, {data['events']} events, {data['doorbells']} doorbells, {data['outcome']}"
    if data["cost"]:
        from gputrace.capture.telling import costs

        yield f"gputrace: {costs(Cost(**data['cost']), data['seconds'])}"
