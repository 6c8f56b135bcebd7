"""`gputrace scrub`: a trace that can be sent to strangers."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gputrace.cli.common import amount, check_place, json_option, show, trace_argument
from gputrace.replay.scrub import scrub
from gputrace.trace.events import Name
from gputrace.trace.reader import TraceReader
from gputrace.trace.scrub import Choice
from gputrace.trace.texts import texts

LISTED = 20
"""Texts that are printed; --texts and --json give all."""


@click.command("scrub")
@trace_argument
@click.option("-o", "output", metavar="FILE", type=click.Path(dir_okay=False),
              help="Where the result goes; default: T.scrubbed.gtrace.")  # fmt: skip
@click.option("--zero", multiple=True, metavar="NAME|ADDRESS[+SIZE]",
              help="Make the bytes of a buffer zero; may be given more than once.")  # fmt: skip
@click.option("--names", is_flag=True,
              help="Take away the names that the program gave; code keeps its own.")  # fmt: skip
@click.option("--no-check", is_flag=True, help="Write it without replaying trace and result.")
@click.option("--timeout", default=120.0, show_default=True, type=click.FloatRange(min=0.1),
              help="Seconds that a replay may take.")  # fmt: skip
@click.option("--texts", "listed", is_flag=True, help="List every text that memory still holds.")
@json_option
def command(
    trace: str,
    output: str | None,
    zero: tuple[str, ...],
    names: bool,
    no_check: bool,
    timeout: float,
    listed: bool,
    as_json: bool,
) -> None:
    """Write TRACE without what tells of people and machines, ending as it did before.

    Taken out: the message that the program ended with, names of files, numbers of threads, facts
    that tell which machine and card it was. Environment, arguments and host name are in no trace.
    Memory stays as it is but for --zero: look at what is listed before you send it. The result is
    replayed and has the verdict of TRACE, or nothing is written.
    """
    source = Path(trace)
    target = Path(output) if output else source.with_suffix(".scrubbed.gtrace")
    check_place(source, target)
    choice = Choice(names, zero)
    made = scrub(source, target, choice, checked=not no_check, seconds=timeout)
    with TraceReader(target) as reader:
        named = Counter(one.what for one in reader if isinstance(one, Name) and one.name)
        found = texts(reader)
    verdict = made.verdict
    data = {
        "trace": trace,
        "result": str(target),
        "bytes": {"before": source.stat().st_size, "after": target.stat().st_size},
        "removed": made.removed,
        "zeroed_bytes": made.zeroed_bytes,
        "verdict": None if verdict is None else verdict.result.value,
        "verdict_text": None if verdict is None else verdict.text,
        "names": dict(named),
        "texts": sorted(found),
    }
    show(as_json, data, _lines(data, None if listed else LISTED))


def _lines(data: dict[str, Any], most: int | None) -> Iterator[str]:
    yield f"{data['result']}: {amount(data['bytes']['after'])}"
    for what, count in sorted(data["removed"].items()):
        yield f"  taken out  {what} ({count})"
    if not data["removed"]:
        yield "  taken out  nothing: there was nothing"
    if data["zeroed_bytes"]:
        yield f"  made zero  {amount(data['zeroed_bytes'])} that were not"
    if data["verdict"] is None:
        yield "  not replayed: nobody knows whether it still ends as it did"
    else:
        yield f"  replays as before: {data['verdict']}: {data['verdict_text']}"
    named = ", ".join(f"{count} of kind {what}" for what, count in sorted(data["names"].items()))
    yield f"  still there  names: {named or 'none'}"
    yield f"  still there  {len(data['texts'])} different texts in memory"
    # Paths first; what has a point first are mostly keys of every code object's metadata.
    shown = sorted(data["texts"], key=lambda text: ("/" not in text, text.startswith("."), text))
    for text in shown[:most]:
        yield f"    {text}"
    if most is not None and len(shown) > most:
        yield f"    and {len(shown) - most} more: --texts lists them"
