"""`gputrace info`: say what a trace holds."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from gputrace.cli.common import (
    amount,
    damage_data,
    json_option,
    show,
    skip_damage_option,
    trace_argument,
)
from gputrace.formats.ioctl import queue_name
from gputrace.trace.about import UNWRITTEN, device_line, firmware, versions, versions_line
from gputrace.trace.events import Header, Outcome
from gputrace.trace.reader import TraceReader
from gputrace.trace.summary import Summary

SMALL_FILE, FEW_EVENTS = 16 << 20, 50_000
"""Up to here packets are counted without being asked for; it takes a second at most."""
_LOSS = {
    True: "nothing: each doorbell was on the disk before it rang",
    False: "what a crash of the machine kept from the disk; nothing when only the process died",
}


@click.command("info")
@trace_argument
@click.option(
    "--packets/--no-packets", default=None,
    help="Count packets by kind, and calls that failed; default: if it is small.",
)
@skip_damage_option
@json_option
def command(trace: str, packets: bool | None, skip_damage: bool, as_json: bool) -> None:
    """Say who wrote TRACE, on what, what it holds and how the run ended."""
    with TraceReader(trace, skip_damage=skip_damage) as reader:
        if packets is None:
            packets = reader.file.size <= SMALL_FILE and len(reader) <= FEW_EVENTS
        data = _data(reader)
        data["packets"] = _packets(reader) if packets else None
        data["damage"] = damage_data(reader)
        header = reader.header
    show(as_json, data, _lines(data, header))


def _data(reader: TraceReader) -> dict[str, Any]:
    header, trailer = reader.header, reader.trailer
    kinds, outcome, summary = _contents(reader)
    return {
        "trace": reader.file.path,
        "bytes": reader.file.size,
        "tool": header.tool,
        "schema": header.schema,
        "family": header.family,
        "device": header.device,
        "versions": versions(header),
        "firmware": firmware(header),
        "mode": header.mode,
        "durable": header.durable,
        "loss_window": _LOSS[header.durable],
        "schedule_seed": header.schedule_seed,
        "scheduler": header.scheduler,
        "records": sorted(header.layouts),
        "unchecked": _unchecked(header),
        "complete": reader.complete,
        "windowed": summary.windowed,
        "part": [
            {"what": what, "cause": cause, "submission": number}
            for what, cause, number in summary.part
        ],
        "repaired": trailer is not None and trailer.repaired,
        "lost": 0 if trailer is None else trailer.lost,
        "torn": None if reader.torn is None else reader.torn._asdict(),
        "events": len(reader),
        "kinds": kinds,
        "skipped": dict(reader.skipped),
        "submissions": kinds.get("DoorbellIntent", 0),
        "queues": summary.queues,
        "memory": None if trailer is None else trailer.memory,
        "unique": None if trailer is None else trailer.unique,
        "provenance": dict(summary.memory),
        "cost": summary.cost,
        "outcome": outcome,
        "refused": summary.refused,
        "unsupported": [
            {"what": what, "reason": reason, "count": count}
            for (what, reason), count in sorted(summary.unsupported.items())
        ],
    }


# The trailer answers for a complete trace; for any other the events are read.
def _contents(reader: TraceReader) -> tuple[dict[str, int], dict[str, Any], Summary]:
    trailer = reader.trailer
    if trailer is not None:
        summary = Summary.unpack(trailer.summary)
        if summary is not None:
            return trailer.kinds, trailer.outcome, summary
    kinds: Counter[str] = Counter()
    outcome: dict[str, Any] = {}
    summary = Summary()
    for event in reader:
        kinds[type(event).__name__] += 1
        summary.apply(event)
        if isinstance(event, Outcome):
            outcome = asdict(event)
    return dict(kinds + reader.skipped), outcome, summary


def _unchecked(header: Header) -> str:
    # What was checked when the trace was recorded, perhaps, and cannot be in a replay.
    options = str(header.device.get("name", "")).split(",")
    return "" if header.knows_writes or "check=bytes" not in options else UNWRITTEN


# Imported only here: a large trace is told in the time that it takes to start.
def _packets(reader: TraceReader) -> dict[str, Any]:
    from gputrace.report.counts import count_packets, errno_name

    counts = count_packets(reader)
    queues: dict[str, dict[str, int]] = {}
    for (ordinal, name), count in sorted(counts.kinds.items()):
        queues.setdefault(str(ordinal), {})[name] = count
    return {
        "total": counts.packets,
        "nested": counts.nested,
        "undecoded": counts.undecoded,
        "by_queue": queues,
        "launches": dict(counts.launches),
        "problems": dict(counts.problems),
        "failed": [
            {"call": call, "errno": errno, "name": errno_name(errno), "count": count}
            for (call, errno), count in sorted(counts.failed.items())
        ],
    }


def _lines(data: dict[str, Any], header: Header) -> Iterator[str]:
    yield f"{data['trace']}: {amount(data['bytes'])}, {data['events']} events"
    yield f"  written by   {data['tool'] or '?'}, schema {data['schema']}"
    yield f"  device       {device_line(header)}"
    yield f"  versions     {versions_line(header)}"
    seed = f", schedule seed {data['schedule_seed']}" if data["scheduler"] else ""
    durable = "durable" if data["durable"] else "not durable"
    window = ", from a checkpoint on" if data["windowed"] else ""
    yield f"  capture      mode {data['mode']}, {durable}{seed}{window}"
    yield from _part(data)
    if data["unchecked"]:
        yield f"  unchecked    {data['unchecked']}"
    yield f"  may be lost  {data['loss_window']}"
    yield from _ending(data)
    yield from _memory(data)
    yield from _cost(data["cost"])
    yield from _queues(data)
    yield from _counted(data["packets"])
    yield f"  events       {data['events']}"
    for name, count in sorted(data["kinds"].items()):
        yield f"    {count:>9} {name}"
    for name, count in sorted(data["skipped"].items()):
        yield f"    {count:>9} {name}: optional, not known to this version, skipped"
    for text in data["refused"]:
        yield f"  refused      {text}: not modelled"
    if not data["unsupported"]:
        yield "  replay       everything that was seen can be replayed"
    for entry in data["unsupported"]:
        yield f"  cannot be replayed: {entry['what']}: {entry['reason']} ({entry['count']} times)"


_PART = {"start": "begins with submission {}: ", "stop": "ends after submission {}: "}


def _part(data: dict[str, Any]) -> Iterator[str]:
    for row in data["part"]:
        place = _PART.get(row["what"], "").format(row["submission"])
        yield f"  part         {place}{row['cause']}"


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
    yield from (f"  run          {line}" if at == 0 else f"    {line}"
                for at, line in enumerate(ended.splitlines()))  # fmt: skip


_PROVENANCE = {
    "cpu": "written by the CPU",
    "gpu": "written by the GPU, kept for readers",
    "unknown": "changed by whom is not known: restored, never compared",
    "compared": "written by the GPU, compared by a replay",
    "unstable": "written by the GPU, not compared: a writer was outstanding",
    "lost": "lost with damaged blocks",
}


def _memory(data: dict[str, Any]) -> Iterator[str]:
    if data["memory"] is not None:
        yield f"  memory       {amount(data['memory'])} recorded, {amount(data['unique'])} stored"
    for name, meaning in _PROVENANCE.items():
        if data["provenance"].get(name):
            yield f"    {amount(data['provenance'][name]):>12} {meaning}"


def _cost(cost: dict[str, int]) -> Iterator[str]:
    if cost:
        yield (
            f"  cost         {cost['nanoseconds'] / 1e9:.3f} s in the capture of "
            f"{cost['doorbells']} doorbells, {amount(cost['scanned'])} of memory looked through, "
            f"{cost['stalls']} stalls"
        )


def _queues(data: dict[str, Any]) -> Iterator[str]:
    count = len(data["queues"])
    yield f"  submissions  {data['submissions']} to {count} {'queue' if count == 1 else 'queues'}"
    for ordinal, queue in enumerate(data["queues"]):
        where = f"on GPU {queue['gpu']:#x}, ring {amount(queue['ring_size'])}"
        kind, count = queue_name(queue["type"]), queue["submissions"]
        yield f"    queue {queue['queue']} (#{ordinal}): {kind} {where}, {count} submissions"


def _places(packets: dict[str, Any]) -> str:
    nested = packets["nested"]
    return f": {packets['total'] - nested} in rings, {nested} inside them" if nested else ""


def _counted(packets: dict[str, Any] | None) -> Iterator[str]:
    if packets is None:
        yield "  packets      not counted, nor calls that failed; --packets counts them"
        return
    strange = f", {packets['undecoded']} that cannot be decoded" if packets["undecoded"] else ""
    yield f"  packets      {packets['total']}{_places(packets)}{strange}"
    for ordinal, kinds in packets["by_queue"].items():
        listed = ", ".join(f"{count} {name}" for name, count in kinds.items())
        yield f"    queue #{ordinal}: {listed}"
    for kernel, count in sorted(packets["launches"].items()):
        yield f"    {count:>9} launches of {kernel}"
    for problem, count in packets["problems"].items():
        yield f"    {count:>9} submissions: {problem}"
    if packets["failed"]:
        yield f"  failed       {sum(one['count'] for one in packets['failed'])} calls"
    for one in packets["failed"]:
        yield f"    {one['count']:>9} {one['call']}: {one['name']}"
