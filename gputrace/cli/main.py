"""The `gputrace` command: find the sub-command, run it, turn errors into one line."""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from gputrace import __version__
from gputrace.errors import GputraceError, TraceError, visible

COMMANDS: dict[str, tuple[str, str]] = {
    "bisect": ("gputrace.cli.bisect", "Find the first packet with which a trace fails."),
    "check": ("gputrace.cli.check", "Verify every byte of a trace."),
    "devices": ("gputrace.cli.devices", "List real and emulated devices with their facts."),
    "demo": ("gputrace.cli.demo", "From a program that hangs to the packets that matter."),
    "diff": ("gputrace.cli.diff", "Compare two traces packet by packet."),
    "dump": ("gputrace.cli.dump", "Print a trace packet by packet."),
    "export": ("gputrace.cli.export", "Write a trace as text, HTML, JSON Lines or a timeline."),
    "info": ("gputrace.cli.info", "Say what a trace holds."),
    "isa": ("gputrace.cli.isa", "List the instructions of a target that can be emulated."),
    "run": ("gputrace.cli.run", "Run an unmodified program on an emulated GPU."),
    "minimize": ("gputrace.cli.minimize", "Reduce a trace to what still fails in the same way."),
    "record": ("gputrace.cli.record", "Run a program and write down what its GPUs are given."),
    "replay": ("gputrace.cli.replay", "Do a recorded run again and say what came of it."),
    "scrub": ("gputrace.cli.scrub", "Write a trace that can be sent to strangers."),
    "repair": ("gputrace.cli.repair", "Save what can be read of a cut or damaged trace."),
}
"""Name of a command: its module, and the line that `gputrace --help` shows."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, not when help lists it."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Give the names of the commands."""
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and give the command of this name; UsageError that names the nearest one."""
        if name not in COMMANDS:
            near = get_close_matches(name, COMMANDS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {name!r}{hint}", context)
        command: click.Command = importlib.import_module(COMMANDS[name][0]).command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(context)])


@click.group(cls=LazyGroup)
@click.version_option(__version__, prog_name="gputrace")
def cli() -> None:
    """Capture, replay and minimize what a process does to an AMD GPU."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 2 with one line on stderr for every error."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give the exit status.

    With `--json` an error is an object on stdout too, beside its line on stderr.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(given)
    except _Failure as failure:
        text = visible(" ".join(str(failure).split()))
        click.echo(f"gputrace: {text}", err=True)
        if _told_in_json(given):
            with suppress(OSError):  # the output may be what failed
                click.echo(json.dumps({"error": text, "exit_code": failure.status}))
        return failure.status


class _Failure(Exception):
    def __init__(self, text: str, status: int) -> None:
        self.status = status
        super().__init__(text)


def _run(given: list[str]) -> int:
    result: Any = 0
    try:
        # click's own `main` would end a run with status 1, a verdict, when the pipe is closed.
        with cli.make_context("gputrace", given) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        result = ended.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        raise _Failure("interrupted", 130) from None
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "gputrace"
        text = f"{error.format_message()} (see `{command} --help`)"
        raise _Failure(text, 2) from None
    except click.ClickException as error:
        raise _Failure(error.format_message(), 2) from None
    except TraceError as error:
        repair = f": `gputrace repair {error.path}` saves the rest"
        hint = repair if error.damage and error.path else ""
        raise _Failure(f"{error}{hint}", 2) from None
    except GputraceError as error:
        raise _Failure(str(error), 2) from None
    except BrokenPipeError:
        # The reader of our output has gone; do not let the interpreter complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise _Failure(f"{name}{error.strerror or error}", 2) from None
    return result if isinstance(result, int) else 0


def _told_in_json(given: Sequence[str]) -> bool:
    # The output of `record` and `run` is that of their program.
    own = given[: given.index("--")] if "--" in given else given
    return "--json" in own and own[0] not in ("record", "run")


if __name__ == "__main__":
    main()
