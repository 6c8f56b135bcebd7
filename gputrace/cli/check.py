"""`gputrace check`: verify every byte of a trace."""

from collections.abc import Iterator

import click

from gputrace.cli.common import amount, json_option, lost_data, lost_lines, show, trace_argument
from gputrace.trace.check import Report, check


@click.command("check")
@trace_argument
@json_option
@click.pass_context
def command(context: click.Context, trace: str, as_json: bool) -> None:
    """Verify every byte of TRACE and what its parts say about one another.

    Exit status 0: complete and sound; 1: cut or damaged; 2: not a trace.
    """
    report = check(trace)
    show(as_json, _data(report), _lines(report))
    context.exit(0 if report.sound else 1)


def _data(report: Report) -> dict[str, object]:
    torn = report.torn
    return {
        "trace": report.path,
        "sound": report.sound,
        "complete": report.complete,
        "bytes": report.size,
        "blocks": report.blocks,
        "events": report.events,
        "chunks": report.chunks,
        "skipped": dict(report.skipped),
        "torn": None if torn is None else {"offset": torn.offset, "bytes": torn.size},
        "lost": lost_data(report.lost),
        "lost_events": 0 if report.trailer is None else report.trailer.lost,
        "damage": [{"where": where, "reason": reason} for where, reason in report.damage],
    }


def _lines(report: Report) -> Iterator[str]:
    yield (
        f"{report.path}: {amount(report.size)}, {report.blocks} blocks, {report.events} events, "
        f"{report.chunks} memory chunks"
    )
    for name, count in sorted(report.skipped.items()):
        yield f"  skipped: {count} optional events of the unknown kind {name}"
    yield from (f"  {line}" for line in lost_lines(report.lost))
    if report.trailer is not None and report.trailer.lost:
        yield f"  lost: {report.trailer.lost} events"
    for where, reason in report.damage:
        yield f"  damaged: {where}: {reason}"
    if report.torn is not None:
        yield f"  cut: at byte {report.torn.offset}, {amount(report.torn.size)} unreadable"
    if report.sound:
        repaired = report.lost or (report.trailer is not None and report.trailer.lost)
        beside = ", beside what a repair could not save" if repaired else ""
        yield f"sound: every checksum, the index and the counts agree{beside}"
    else:
        yield f"not sound: `gputrace repair {report.path}` saves what can be read"
