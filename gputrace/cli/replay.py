"""`gputrace replay`: do a recorded run again and say what came of it."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import click

from gputrace.cli.common import (
    amount,
    json_option,
    missing_end,
    progress,
    show,
    trace_argument,
)
from gputrace.devices.names import parse_name
from gputrace.replay.fresh import replay_fresh
from gputrace.replay.repeats import Recorded, judge, recorded_outcome
from gputrace.replay.running import Request, replay, where
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Difference, Failure, Result, Verdict
from gputrace.trace.reader import TraceReader

MOST_SEEDS = 1_000_000
"""Seeds of one range."""
REASONS = 20
"""Lines of reasons, failures or outcomes that are printed."""


def _seeds(context: click.Context, option: click.Parameter, text: str | None) -> range | None:
    if text is None:
        return None
    match = re.fullmatch(r"(?:seed:)?([0-9]{1,18})(?:\.\.([0-9]{1,18}))?", text)
    if match is None:
        raise click.BadParameter(f"{text!r}: expected seed:N, such as seed:3, or seed:0..99")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 0 <= last - first < MOST_SEEDS:
        wanted = f"rising seeds, {MOST_SEEDS} at most"
        raise click.BadParameter(f"{text!r}: expected {wanted}")
    return range(first, last + 1)


@click.command("replay")
@trace_argument
@click.option("--device", help="Where to replay; by default where it was recorded.")
@click.option(
    "--repeat", type=click.IntRange(min=1),
    help="Replay so many times; by default once, or once for each seed of --schedule.",
)
@click.option(
    "--schedule", callback=_seeds, metavar="seed:N[..M]",
    help="Another order of an emulated device; with N..M each replay takes the next seed.",
)
@click.option(
    "--expect",
    type=click.Choice(["recorded"]),
    help="Exit with 0 if the recorded outcome came again, else with 1.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=300.0, show_default=True,
    help="Seconds that one replay may take.",
)  # fmt: skip
@json_option
def command(
    trace: str, device: str | None, repeat: int | None, schedule: range | None, expect: str | None,
    timeout: float, as_json: bool,
) -> int:  # fmt: skip
    """Replay TRACE and exit by what happened.

    0 same, 1 differs, 3 hang, 4 fault, 5 nothing could be compared, 6 repeats disagree, 7 cannot
    be replayed on this device, 8 the replaying process died; 2 is wrong usage.
    """
    seeds: Sequence[int | None] = schedule if schedule is not None else (None,)
    repeat = repeat or len(seeds)
    request, limits = Request(trace, device, seeds[0]), Limits(seconds=timeout)
    recorded = recorded_outcome(trace) if expect else None
    name, recorded_on = where(request)
    with TraceReader(trace) as reader:
        missing = list(missing_end(reader))
    on_hardware = parse_name(name).scheme == "kfd"
    if device is None and parse_name(recorded_on).scheme == "kfd" and not on_hardware:
        text = f"recorded on {recorded_on}, and there is no real GPU here: replayed on {name}"
        click.echo(f"gputrace: {text}", err=True)
    once = replay_fresh if on_hardware else replay
    verdicts: list[Verdict] = []
    with progress() as tell:
        for number in range(1, repeat + 1):
            tell(f"replay {number} of {repeat}")
            seed = seeds[(number - 1) % len(seeds)]
            verdicts.append(once(replace(request, seed=seed), limits))
            if verdicts[-1].result is Result.UNSUPPORTED:
                break
    verdict = judge(verdicts)
    status = verdict.result.exit_code
    if recorded is not None:
        status = 0 if recorded.came_again(verdict) else 1
    data = {**_data(trace, verdict, verdicts, recorded, schedule), "exit_code": status}
    data["incomplete"] = missing
    # Whoever reads "same" must know that it is of what the trace still holds.
    ended = [f"  trace     {line}" for line in missing]
    show(as_json, data, [*_lines(verdict, verdicts, recorded, schedule), *ended])
    return status


def _data(
    trace: str, verdict: Verdict, verdicts: list[Verdict], recorded: Recorded | None,
    seeds: range | None,
) -> dict[str, Any]:  # fmt: skip
    data = {"trace": trace, **verdict.to_plain(), "repeats": len(verdicts)}
    data["outcomes"] = [
        {"count": count, "result": one.result.value, "text": one.text, "digest": one.digest,
         "seeds": _seeds_of(one, verdicts, seeds)}
        for one, count in _distinct(verdicts)
    ]
    if recorded is not None:
        data["recorded"] = {"result": recorded.result, "came_again": recorded.came_again(verdict)}
    return data


def _distinct(verdicts: list[Verdict]) -> list[tuple[Verdict, int]]:
    counts = Counter(one.outcome for one in verdicts)
    first = {one.outcome: one for one in reversed(verdicts)}
    return [(first[outcome], count) for outcome, count in counts.most_common()]


def _seeds_of(outcome: Verdict, verdicts: list[Verdict], seeds: range | None) -> list[int]:
    # Which seeds of a range had an outcome, in the order of their replays.
    if seeds is None:
        return []
    return list(dict.fromkeys(
        seeds[at % len(seeds)] for at, one in enumerate(verdicts) if one.outcome == outcome.outcome
    ))  # fmt: skip


def _lines(
    verdict: Verdict, verdicts: list[Verdict], recorded: Recorded | None, seeds: range | None
) -> Iterator[str]:
    proof = ""
    if verdict.result is Result.HANG:
        proof = " (proven)" if verdict.proven else " (not proven)"
    if verdict.failures:
        places = [f"queue {one.queue} at packet {one.packet}" for one in verdict.failures]
        yield f"{verdict.result.value}{proof}: {', '.join(places[:REASONS])}"
    else:
        first, *rest = verdict.text.splitlines()
        yield f"{verdict.result.value}{proof}: {first}"
        yield from (f"  {line}" for line in rest)
    yield from _details(verdict)
    if verdict.device:
        paced = {
            "steps": "each event at its recorded step",
            "progress": "each event after the progress that was recorded",
        }
        yield f"  device    {verdict.device}" + (
            f", {paced[verdict.pacing]}" if verdict.pacing else ""
        )
    if verdict.unchecked:
        yield f"  unchecked {verdict.unchecked}"
    if verdict.moved:
        ranges = ", ".join(verdict.moved[:REASONS])
        yield f"  moved     {ranges}: in use here, so the CPU has them elsewhere"
    if verdict.result not in (Result.UNSUPPORTED, Result.HOST_CRASH):
        yield f"  compared  {amount(verdict.compared)} of {amount(verdict.written)}"
    if len(verdicts) > 1:
        yield from _repeats(verdicts, seeds)
    if recorded is not None:
        came = "came again" if recorded.came_again(verdict) else "did not come again"
        yield f"  recorded  {recorded.text}: {came}"


def _details(verdict: Verdict) -> Iterator[str]:
    for reason in verdict.reasons[:REASONS]:
        yield f"  - {reason}"
    for failure in verdict.failures[:REASONS]:
        yield from _failure(failure)
    if verdict.difference is not None:
        yield from _difference(verdict.difference)


def _failure(failure: Failure) -> Iterator[str]:
    place = f" at {failure.place:#x}" if failure.place else ""
    yield f"  queue {failure.queue}, packet {failure.packet}{place}: {failure.line or '?'}"
    yield f"    {failure.text}"
    wave = [
        f"kernel {failure.kernel}" if failure.kernel else "",
        f"work-group {failure.workgroup}" if failure.workgroup else "",
        f"wave {failure.wave}" if failure.wave is not None else "",
        f"pc {failure.pc:#x}" if failure.pc is not None else "",
    ]
    if any(wave):
        yield f"    {', '.join(part for part in wave if part)}"
    yield from (f"    {line}" for line in failure.standing)


def _difference(found: Difference) -> Iterator[str]:
    name = f"{found.buffer} + {found.offset:#x}" if found.buffer else "memory without a name"
    yield f"  at {found.address:#x}, {name}"
    if found.recorded is None or found.observed is None:
        yield f"    among {found.size} bytes of which the trace keeps a hash only"
    else:
        yield f"    recorded {found.recorded.hex(' ')}"
        yield f"    observed {found.observed.hex(' ')}"
    yield f"    written last by {found.writer or 'the CPU, or by no packet that changed it'}"


def _repeats(verdicts: list[Verdict], seeds: range | None) -> Iterator[str]:
    distinct = _distinct(verdicts)
    many = len(verdicts)
    if len(distinct) == 1:
        under = f", seeds {seeds[0]} to {seeds[-1]}" if seeds is not None and len(seeds) > 1 else ""
        yield f"  repeats   {many} of {many} agree to the last bit that was compared{under}"
        return
    yield f"  repeats   {many} replays, {len(distinct)} distinct outcomes"
    for one, count in distinct[:REASONS]:
        text = one.text.splitlines()[0]
        yield f"    {count:>5} ({count / many:.1%}) {one.result.value}: {text}"
        if seeds is not None and len(seeds) > 1:
            found = _seeds_of(one, verdicts, seeds)
            more = f", and {len(found) - REASONS} more" if len(found) > REASONS else ""
            yield f"          seeds {', '.join(map(str, found[:REASONS]))}{more}"

