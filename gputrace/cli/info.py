"""`gputrace info`: say what a trace holds, without reading its memory."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from gputrace.cli.common import amount, json_option, show, trace_argument
from gputrace.trace.events import Outcome, Unsupported
from gputrace.trace.reader import TraceReader


@click.command("info")
@trace_argument
@click.option("--skip-damage", is_flag=True, help="Pass over damaged blocks and list them.")
@json_option
def command(trace: str, skip_damage: bool, as_json: bool) -> None:
    """Say who wrote TRACE, on what, what it holds and how the run ended."""
    with TraceReader(trace, skip_damage=skip_damage) as reader:
        data = _data(reader)
    show(as_json, data, _lines(data))


def _data(reader: TraceReader) -> dict[str, Any]:
    header, trailer = reader.header, reader.trailer
    kinds, outcome, unsupported = _contents(reader)
    return {
        "trace": reader.file.path,
        "bytes": reader.file.size,
        "tool": header.tool,
        "schema": header.schema,
        "family": header.family,
        "device": header.device,
        "mode": header.mode,
        "durable": header.durable,
        "schedule_seed": header.schedule_seed,
        "scheduler": header.scheduler,
        "records": sorted(header.layouts),
        "complete": reader.complete,
        "repaired": trailer is not None and trailer.repaired,
        "lost": 0 if trailer is None else trailer.lost,
        "torn": None if reader.torn is None else reader.torn._asdict(),
        "damage": [damage._asdict() for damage in reader.damage],
        "events": len(reader),
        "kinds": kinds,
        "skipped": dict(reader.skipped),
        "memory": None if trailer is None else trailer.memory,
        "unique": None if trailer is None else trailer.unique,
        "outcome": outcome,
        "unsupported": unsupported,
    }


# The trailer answers for a complete trace; otherwise, or to list reasons, the events are read.
def _contents(reader: TraceReader) -> tuple[dict[str, int], dict[str, Any], list[dict[str, str]]]:
    trailer = reader.trailer
    if trailer is not None and not trailer.kinds.get("Unsupported"):
        return trailer.kinds, trailer.outcome, []
    kinds: Counter[str] = Counter()
    outcome: dict[str, Any] = {}
    refused: Counter[tuple[str, str]] = Counter()
    for event in reader:
        kinds[type(event).__name__] += 1
        if isinstance(event, Outcome):
            outcome = asdict(event)
        elif isinstance(event, Unsupported):
            refused[event.what, event.reason] += 1
    listed = [
        {"what": what, "reason": reason, "count": str(count)}
        for (what, reason), count in sorted(refused.items())
    ]
    return dict(kinds + reader.skipped), outcome, listed


def _lines(data: dict[str, Any]) -> Iterator[str]:
    yield f"{data['trace']}: {amount(data['bytes'])}, {data['events']} events"
    yield f"  written by   gputrace {data['tool'] or '?'}, schema {data['schema']}"
    facts = ", ".join(f"{name} {value}" for name, value in sorted(data["device"].items()))
    yield f"  device       {data['family'] or '?'}{': ' + facts if facts else ''}"
    durable = "durable" if data["durable"] else "not durable"
    yield f"  capture      mode {data['mode']}, {durable}, schedule seed {data['schedule_seed']}"
    yield from _ending(data)
    if data["memory"] is not None:
        yield f"  memory       {amount(data['memory'])} recorded, {amount(data['unique'])} stored"
    for name, count in sorted(data["kinds"].items()):
        yield f"    {count:>9} {name}"
    for name, count in sorted(data["skipped"].items()):
        yield f"    {count:>9} {name}: optional, not known to this version, skipped"
    for entry in data["unsupported"]:
        yield f"  cannot be replayed: {entry['what']}: {entry['reason']} ({entry['count']} times)"


def _ending(data: dict[str, Any]) -> Iterator[str]:
    if data["complete"]:
        state = "complete" + (f", repaired, {data['lost']} events lost" * data["repaired"])
    else:
        state = "incomplete: the capture did not end in an orderly way"
    yield f"  file         {state}"
    if data["torn"] is not None:
        yield f"  cut          {amount(data['torn']['size'])} from byte {data['torn']['offset']}"
    for damage in data["damage"]:
        yield f"  damaged      {damage['where']}: {damage['reason']}"
    outcome = data["outcome"]
    ended = f"{outcome['result']} {outcome.get('text', '')}".rstrip() if outcome else "not recorded"
    yield f"  run          {ended}"
