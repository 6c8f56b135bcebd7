"""What the commands share: options, and printing as text or JSON."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from gputrace.errors import UsageError, visible
from gputrace.trace.events import Lost
from gputrace.trace.reader import TraceReader
from gputrace.trace.text import amount as amount  # the commands take it from here

LOSSES = 20
"""Ranges of lost memory that are printed one by one."""
SHOW_EVERY = 0.1
"""Seconds between two updates of a terminal."""
Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(function: Function) -> Function:
    """Add `--json`, passed to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(
        function
    )


def trace_argument(function: Function) -> Function:
    """Add the argument TRACE, passed to the command as `trace`."""
    return click.argument("trace", type=click.Path(dir_okay=False))(function)


def skip_damage_option(function: Function) -> Function:
    """Add `--skip-damage`, passed to the command as `skip_damage`."""
    return click.option(
        "--skip-damage", is_flag=True, help="Pass over damaged blocks and list them."
    )(function)


def show(as_json: bool, data: dict[str, Any], lines: Iterable[str]) -> None:
    """Print `data` as one JSON object, or `lines`."""
    if as_json:
        click.echo(json.dumps(data, indent=2, sort_keys=True, default=_plain))
        return
    for line in lines:
        click.echo(shown(line))


def shown(text: str) -> str:
    """Return what a trace says as it may stand on a terminal; lines after the first are indented.

    So nothing that a stranger wrote looks as if gputrace had said it.
    """
    return "\n  ".join(visible(line) for line in text.split("\n"))


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Give a function that shows a line on a terminal, over the one before; nothing in a pipe."""
    on_terminal, last = sys.stderr.isatty(), [0.0]

    def tell(text: str) -> None:
        now = time.monotonic()
        if on_terminal and now - last[0] >= SHOW_EVERY:
            last[0] = now
            click.echo(f"\r\x1b[K{visible(text)}", nl=False, err=True)

    try:
        yield tell
    finally:
        if last[0]:
            click.echo("\r\x1b[K", nl=False, err=True)


def check_place(source: Path, target: Path) -> None:
    """Raise UsageError when a trace made of another cannot go where it should."""
    if target.suffix != ".gtrace":
        raise UsageError(f"{target}: expected a name that ends with .gtrace")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise UsageError(f"{target}: there is no folder to write to")
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{target} is the trace itself: name another file for the result")


def lost_lines(lost: Sequence[Lost]) -> Iterator[str]:
    """Yield a line for each range of memory that damage took from a trace, not more than LOSSES."""
    for one in lost[:LOSSES]:
        yield f"lost: {one.text}"
    if len(lost) > LOSSES:
        yield f"lost: {len(lost) - LOSSES} more ranges of memory"


def lost_data(lost: Sequence[Lost]) -> list[dict[str, object]]:
    """Return what `lost_lines` prints as JSON has it, all of it."""
    return [
        {"address": one.address, "bytes": one.size, "provenance": one.provenance} for one in lost
    ]


def damage_lines(reader: TraceReader) -> Iterator[str]:
    """Yield what is to be said of the damage that was passed over."""
    for damage in reader.damage:
        yield f"damaged: {damage.where}: {damage.reason}"


def damage_data(reader: TraceReader) -> list[dict[str, object]]:
    """Return what `damage_lines` says as JSON has it."""
    return [damage._asdict() for damage in reader.damage]


def missing_end(reader: TraceReader) -> Iterator[str]:
    """Yield what is to be said of a trace that does not end as its writer meant it to."""
    if reader.torn is not None:
        yield f"cut at byte {reader.torn.offset}: {reader.torn.size} bytes cannot be read"
    if not reader.complete:
        yield "incomplete: the capture did not end in an orderly way"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no JSON for {type(value).__name__}")
