"""`gputrace dump`: print a trace packet by packet."""

from typing import Any

import click

from gputrace.cli.common import (
    damage_lines,
    json_option,
    missing_end,
    shown,
    skip_damage_option,
    trace_argument,
)
from gputrace.errors import UsageError
from gputrace.report.jsonl import JsonView
from gputrace.report.text import TextView
from gputrace.report.walk import Wanted
from gputrace.trace.events import Outcome
from gputrace.trace.reader import TraceReader


class PacketNumber(click.ParamType[tuple[int | None, int]]):
    """N, or Q:N for the packet N of queue Q."""

    name = "[Q:]N"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[int | None, int]:
        """Give (queue or None, number)."""
        if isinstance(value, tuple):
            return value
        queue, colon, number = value.rpartition(":")
        if not number.isdecimal() or (colon and not queue.isdecimal()):
            self.fail(f"{value!r}: expected a packet's number, or queue:number such as 0:12")
        return int(queue) if colon else None, int(number)


@click.command("dump")
@trace_argument
@click.option("--packet", type=PacketNumber(), help="Only packet N (of queue Q), bit by bit.")
@click.option("--queue", metavar="Q", type=click.IntRange(min=0), help="Only packets of queue Q.")
@click.option("--submission", metavar="N", type=click.IntRange(min=0), help="Only submission N.")
@click.option("--events", is_flag=True, help="Also every event as it is stored.")
@skip_damage_option
@json_option
def command(
    trace: str,
    packet: tuple[int | None, int] | None,
    queue: int | None,
    submission: int | None,
    events: bool,
    skip_damage: bool,
    as_json: bool,
) -> None:
    """Print TRACE: a line for each packet, and what the CPU did between them.

    With --json one object a line: events, submissions and packets.
    """
    number = None
    if packet is not None:
        if queue is not None and packet[0] not in (None, queue):
            raise UsageError(f"--queue {queue} and --packet {packet[0]}:{packet[1]} disagree")
        queue, number = packet[0] if packet[0] is not None else queue, packet[1]
    wanted = Wanted(queue, number, submission)
    with TraceReader(trace, skip_damage=skip_damage) as reader:
        outcome, whole = recorded_outcome(reader), number is not None
        view = (
            JsonView(reader, wanted, every_event=events)
            if as_json
            else TextView(reader, wanted, outcome=outcome, every_event=events, whole=whole)
        )
        for line in view:
            click.echo(shown(line))
        if not wanted.everything and not view.packets:
            rest = "" if reader.complete and not reader.damage else " in what can be read of it"
            raise UsageError(f"{reader.file.path} has no such packet{rest}")
        for line in (*damage_lines(reader), *missing_end(reader)):
            click.echo(line, err=as_json)


def recorded_outcome(reader: TraceReader) -> Outcome | None:
    """Give how the run ended as the trailer tells it; None for a trace without one."""
    if reader.trailer is None or not reader.trailer.outcome:
        return None
    known = set(Outcome.__dataclass_fields__)
    return Outcome(**{name: v for name, v in reader.trailer.outcome.items() if name in known})
