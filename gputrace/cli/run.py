"""`gputrace run`: an unmodified program on an emulated GPU."""

import json
import sys
from collections.abc import Sequence

import click

from gputrace.cli.common import json_option

LIMIT = 20  # faults shown; a broken kernel may fault in every wave


@click.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--device", default="emu:gfx942", show_default=True, help="The emulated GPU.")
@click.option("--strict", is_flag=True, help="Kill the program when something is not modelled.")
@json_option
@click.argument("program", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def command(
    context: click.Context, device: str, strict: bool, as_json: bool, program: Sequence[str]
) -> None:
    """Run PROGRAM, which may know nothing of gputrace, on an emulated GPU.

    The program sees /dev/kfd, a render node and their sysfs. What it asks for and is not modelled
    fails as the kernel would fail it, and is named once on stderr. With `--json` each such notice,
    and how it ended, is a line of JSON there. Exit status: the program's own; 125 when `--strict`
    stopped it.
    """
    # Imported here: help should not wait for the emulator.
    from gputrace.devices.opening import emulated
    from gputrace.interpose.launch import run
    from gputrace.interpose.server import Notice

    topology = emulated(device).topology
    shown = 0

    def tell(notice: Notice) -> None:
        nonlocal shown
        shown += notice.what == "fault"
        if as_json:
            line = {"what": notice.what, "process": notice.process, "text": notice.text}
            print(json.dumps(line), file=sys.stderr, flush=True)
        elif notice.what == "refused" or shown <= LIMIT:
            print(f"gputrace: {notice.what}: {notice.text}", file=sys.stderr, flush=True)

    ended = run(
        program,
        lambda client: emulated(device, client),
        topology,
        tell=tell,
        strict=strict,
    )
    if as_json:
        end = {"what": "ended", "status": ended.status, "refused": dict(ended.refused)}
        click.echo(json.dumps(end), err=True)
    elif shown > LIMIT:
        click.echo(f"gputrace: {shown - LIMIT} further faults are not shown", err=True)
    stopped = strict and bool(ended.refused)
    context.exit(125 if stopped else ended.status)
