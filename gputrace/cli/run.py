"""`gputrace run`: an unmodified program on an emulated GPU."""

import json
from collections.abc import Sequence

import click

from gputrace.cli.common import json_option


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
    from gputrace.cli.notices import Notices
    from gputrace.devices.names import parse_name
    from gputrace.devices.opening import emulated, served
    from gputrace.interpose.launch import run

    topology, notices = emulated(device).topology, Notices(as_json)
    ended = run(
        program,
        lambda client: served(device, client),
        topology,
        tell=notices.tell,
        strict=strict,
        exact=parse_name(device).exact,
    )
    notices.end()
    if as_json:
        end = {"what": "ended", "status": ended.status, "refused": dict(ended.refused)}
        click.echo(json.dumps(end), err=True)
    stopped = strict and bool(ended.refused)
    context.exit(125 if stopped else ended.status)
