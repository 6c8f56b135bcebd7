"""`gputrace export`: write a trace in a form that other tools and people read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from gputrace.cli.common import (
    amount,
    damage_data,
    damage_lines,
    json_option,
    missing_end,
    show,
    shown,
    skip_damage_option,
    trace_argument,
)
from gputrace.cli.dump import recorded_outcome
from gputrace.errors import UsageError
from gputrace.report.html import html_lines
from gputrace.report.jsonl import JsonView
from gputrace.report.text import TextView
from gputrace.report.timeline import timeline_lines
from gputrace.trace.reader import TraceReader

FORMATS = {".txt": "text", ".html": "html", ".jsonl": "jsonl", ".json": "perfetto"}
"""What the suffix of the output asks for."""


@click.command("export")
@trace_argument
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The file.")
@click.option(
    "--format", "chosen", type=click.Choice(sorted(FORMATS.values())),
    help="By default what the suffix says: .txt, .html, .jsonl or .json (Perfetto).",
)  # fmt: skip
@skip_damage_option
@json_option
def command(
    trace: str, output: str, chosen: str | None, skip_damage: bool, as_json: bool
) -> None:
    """Write TRACE as text, as one HTML page, as JSON Lines, or as a timeline for Perfetto."""
    form = chosen or FORMATS.get(Path(output).suffix)
    if form is None:
        known = ", ".join(FORMATS)
        raise UsageError(f"{output}: expected a name that ends with {known}, or --format")
    with TraceReader(trace, skip_damage=skip_damage) as reader:
        if os.path.exists(output) and os.path.samefile(trace, output):
            raise UsageError(f"{output} is the trace itself")
        with _written(Path(output)) as file:
            for line in _lines(reader, form):
                file.write(shown(line) + "\n")
        said, damage, complete = _said(reader), damage_data(reader), reader.complete
    size = os.path.getsize(output)
    data = {"output": output, "format": form, "bytes": size}
    show(
        as_json,
        {**data, "damage": damage, "complete": complete},
        [f"{output}: {form}, {amount(size)}", *said],
    )


@contextmanager
def _written(output: Path) -> Iterator[TextIO]:
    # A file that has its name when it is whole; what is no plain file is written to as it is.
    place = output
    if output.is_file() or not output.exists():
        place = output.with_name(f"{output.name}.part")
    try:
        with place.open("w", encoding="utf-8") as file:
            yield file
        if place != output:
            place.replace(output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
    finally:
        if place != output:
            place.unlink(missing_ok=True)


def _said(reader: TraceReader) -> list[str]:
    return [*damage_lines(reader), *missing_end(reader)]


def _lines(reader: TraceReader, form: str) -> Iterator[str]:
    outcome = recorded_outcome(reader)
    if form == "text":
        yield from TextView(reader, outcome=outcome)
    elif form == "html":
        yield from html_lines(reader, Path(reader.file.path).name, outcome)
    elif form == "jsonl":
        yield from JsonView(reader)
    else:
        yield from timeline_lines(reader)
