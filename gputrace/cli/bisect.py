"""`gputrace bisect`: the first packet that never completes, or whose result differs."""

import click

from gputrace.cli.common import json_option, progress, show, trace_argument
from gputrace.minimize.failure import describe_queue
from gputrace.minimize.model import Kind
from gputrace.minimize.prefix import First, bisect
from gputrace.minimize.reduce import Settings
from gputrace.minimize.report import item_line
from gputrace.replay.explain import packet_lines
from gputrace.trace.reader import TraceReader


@click.command()
@trace_argument
@click.option("--device", default="", help="Run here instead of on the trace's device.")
@click.option("--seeds", default=64, show_default=True, type=click.IntRange(1, 100_000),
              help="Schedules to try for a failure that comes and goes.")  # fmt: skip
@click.option("--timeout", default=120.0, show_default=True, type=click.FloatRange(1.0),
              help="Seconds that one run may take.")  # fmt: skip
@json_option
def command(trace: str, device: str, seeds: int, timeout: float, as_json: bool) -> int:
    """Find the first packet with which TRACE fails, by binary search over prefixes."""
    with TraceReader(trace) as reader, progress() as tell:
        found = bisect(reader, Settings(device=device, seeds=seeds, seconds=timeout, tell=tell))
        model, item = found.case.model, found.item
        where, line = "the trace itself", "it fails before anything is done"
        if item is not None and item.kind is Kind.PACKET:
            where = f"{describe_queue(model, item.queue)}, packet {item.number}"
            wanted = item.queue, item.number
            line = packet_lines(reader, [wanted])[0].get(wanted) or model.packet(item).line
        elif item is not None:
            where, line = f"event {item.event}", item_line(model, item)
    show(as_json, _plain(found, where, line), _text(found, where, line))
    return 0


def _text(found: First, where: str, line: str) -> list[str]:
    total = len(found.case.items)
    return [
        f"{where}: {line}",
        f"  {found.text}",
        f"  It is number {found.elements} of {total} elements, as they took place: with those "
        f"before it all completes and agrees, with it no more ({found.runs} runs).",
    ]


def _plain(found: First, where: str, line: str) -> dict[str, object]:
    item = found.item
    packet = item is not None and item.kind is Kind.PACKET
    return {
        "where": where,
        "text": line,
        "queue": item.queue if item is not None and packet else None,
        "packet": item.number if item is not None and packet else None,
        "event": item.event if item is not None else None,
        "failure": found.text,
        "whole": {"signature": found.target.signature, "text": found.target.text},
        "elements": found.elements,
        "of": len(found.case.items),
        "runs": found.runs,
    }
