"""`gputrace repair`: save what can be read of a cut or damaged trace."""

from collections.abc import Iterator

import click

from gputrace.cli.common import amount, json_option, lost_data, lost_lines, show, trace_argument
from gputrace.trace.repair import Repaired, repair


@click.command("repair")
@trace_argument
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="Write here, leave TRACE as it is."
)
@json_option
def command(trace: str, output: str | None, as_json: bool) -> None:
    """Write the index of TRACE anew, leaving out what is cut off or damaged.

    When anything is left out, the file as it was is kept beside it, as TRACE.damaged.
    """
    result = repair(trace, output)
    show(as_json, _data(output or trace, result), _lines(output or trace, result))


def _data(path: str, result: Repaired) -> dict[str, object]:
    torn = result.torn
    return {
        "trace": path,
        "events": result.events,
        "lost": result.lost,
        "lost_memory": lost_data(result.memory),
        "outcome": result.outcome,
        "torn": None if torn is None else {"offset": torn.offset, "bytes": torn.size},
        "damage": [{"where": where, "reason": reason} for where, reason in result.damage],
        "kept": result.kept or None,
    }


def _lines(path: str, result: Repaired) -> Iterator[str]:
    for where, reason in result.damage:
        yield f"left out: {where}: {reason}"
    if result.torn is not None:
        yield f"cut off: {amount(result.torn.size)} from byte {result.torn.offset}"
    yield from lost_lines(result.memory)
    memory = amount(sum(one.size for one in result.memory))
    yield (
        f"{path}: {result.events} events saved, {result.lost} events and {memory} of memory known "
        "to be lost"
    )
    if result.kept:
        yield f"{result.kept}: the file as it was, with all that is left out"
