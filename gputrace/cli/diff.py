"""`gputrace diff`: compare two traces packet by packet."""

from collections.abc import Iterator
from typing import Any

import click

from gputrace.cli.common import (
    damage_data,
    damage_lines,
    json_option,
    missing_end,
    show,
    skip_damage_option,
)
from gputrace.report.difference import Comparison, Hunk, Line, compare
from gputrace.trace.reader import TraceReader

LIMIT = 200


@click.command("diff")
@click.argument("first", type=click.Path(dir_okay=False))
@click.argument("second", type=click.Path(dir_okay=False))
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=0), default=LIMIT, show_default=True,
    help="Packets shown at most.",
)  # fmt: skip
@skip_damage_option
@json_option
@click.pass_context
def command(
    context: click.Context, first: str, second: str, limit: int, skip_damage: bool, as_json: bool
) -> None:
    """Compare what two traces submitted, queue by queue.

    Exit status 0: nothing differs; 1: something does; 2: one of them cannot be read.
    """
    with (
        TraceReader(first, skip_damage=skip_damage) as one,
        TraceReader(second, skip_damage=skip_damage) as two,
    ):
        found, sides = compare(one, two), ((first, one), (second, two))
        data = _data(first, second, found)
        data["incomplete"] = [path for path, side in sides if any(missing_end(side))]
        data["damage"] = {path: damage_data(side) for path, side in sides if side.damage}
        said = [
            f"{path}: {line}"
            for path, side in sides
            for line in (*damage_lines(side), *missing_end(side))
        ]
    show(as_json, data, [*_lines(first, second, found, limit, whole=not said), *said])
    context.exit(0 if found.same else 1)


def _data(first: str, second: str, found: Comparison) -> dict[str, Any]:
    return {
        "first": first,
        "second": second,
        "same": found.same,
        "packets": list(found.packets),
        "facts": [{"what": what, "first": a, "second": b} for what, a, b in found.facts],
        "hunks": [
            {
                "queue": hunk.queue,
                "common": hunk.common,
                "removed": [_packet(line) for line in hunk.removed],
                "added": [_packet(line) for line in hunk.added],
            }
            for hunk in found.hunks
        ],
    }


def _packet(line: Line) -> dict[str, Any]:
    return {"number": line.number, "depth": line.depth, "line": line.text}


def _lines(
    first: str, second: str, found: Comparison, limit: int, *, whole: bool
) -> Iterator[str]:
    if found.same:
        where = "" if whole else " in what can be read"
        yield f"no difference{where}: {found.packets[0]} packets in each"
        return
    yield f"--- {first}: {found.packets[0]} packets"
    yield f"+++ {second}: {found.packets[1]} packets"
    for what, mine, theirs in found.facts:
        yield f"{what}: {mine} | {theirs}"
    left = limit
    for hunk in found.hunks:
        if left <= 0:
            yield "... more; --limit shows it"
            break
        yield f"@@ queue #{hunk.queue}, after {hunk.common} packets that agree"
        shown = list(_hunk(hunk))
        yield from shown[:left]
        left -= len(shown)
    counts = found.counts
    yield f"{counts['removed']} packets only in the first, {counts['added']} only in the second"


def _hunk(hunk: Hunk) -> Iterator[str]:
    for sign, lines in (("-", hunk.removed), ("+", hunk.added)):
        for line in lines:
            yield f"{sign} {line.number:<5} {'  ' * line.depth}{line.text}"
