"""`gputrace demo`: a hang, from the program that hangs to the packets that make it hang."""

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import gputrace
from gputrace.cli.common import json_option
from gputrace.devices.names import FALLBACK, parse_name
from gputrace.errors import GputraceError, UsageError
from gputrace.families import by_target_version, family

PROGRAM = "gputrace.cli.workloads.lost_signal"
WIDTH = 100
HANG = 3


class DemoFailed(GputraceError):
    """A step did not come out as the demo promises."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command: what is said before it, its arguments, how it exits, which lines are shown."""

    says: str
    arguments: tuple[str, ...]
    exit: int
    shown: str


def steps(device: str) -> list[Step]:
    """Return the steps of the demo.

    What a real GPU did is looked into on an emulated one of its kind: dozens of hangs on purpose
    are nothing to do to hardware, and nobody can prove them there.
    """
    program = (sys.executable, "-m", PROGRAM, "--device", device)
    there = ("--device", f"emu:{_target(device)}") if device.startswith("kfd:") else ()
    return [
        Step(
            "A program hangs: batches go through four queues, and at batch 37 it stops. Record it.",
            ("record", "-o", "hang.gtrace", "--", *program), 1, r".*(Hang: |events)|  queue",
        ),
        Step(
            "What did it send to the GPU?",
            ("info", "hang.gtrace"), 0, r"hang\.gtrace|  submissions|    queue .* ring|"
            "  packets|launches",
        ),
        Step(
            "Does it hang again from the file alone, without the program?",
            ("replay", *there, "hang.gtrace"), HANG, "hang|  queue|    waits|  compared",
        ),
        Step(
            "Which packets does the hang need? Take away whatever it does not.",
            ("minimize", *there, "hang.gtrace", "-o", "small.gtrace"), 0,
            "Cause:|  copy| *The missing|.* became | *[0-9]+  |"
            "Certificate|  what is left|  [0-9]+ runs",
        ),
        Step(
            "Is what is left enough, in a new process?", ("replay", *there, "small.gtrace"), HANG,
            "hang|    waits",
        ),
    ]  # fmt: skip


def _target(device: str) -> str:
    from gputrace.devices.opening import make_device

    return by_target_version(make_device(device).topology.gpus[0]["gfx_target_version"]).name


@click.command("demo")
@click.option("-o", "--output", type=click.Path(file_okay=False), help="A folder for the files.")
@click.option("--device", default=FALLBACK, show_default=True, help="A device.")
@json_option
def command(output: str | None, device: str, as_json: bool) -> None:
    """Record a program that hangs, replay it, reduce it to the packets that matter.

    Each step is a command that is run as you would run it. Without -o the files go to a new folder
    below the one for temporary files.
    """
    start = time.monotonic()
    wanted = parse_name(device)  # a wrong one is told before anything is made
    if wanted.scheme == "emu":
        family(wanted.target)
    try:
        if output is not None:
            Path(output).mkdir(parents=True, exist_ok=True)
        folder = Path(output or tempfile.mkdtemp(prefix="gputrace-demo-")).resolve()
    except OSError as error:
        raise UsageError(f"cannot make {output}: {error.strerror}") from error
    done = [_run(step, folder, as_json) for step in steps(device)]
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "steps": done}, indent=2))
        return
    click.echo(f"\n# {time.monotonic() - start:.0f} seconds. The files are in {folder}:")
    for name in ("hang.gtrace", "small.gtrace", "small.txt", "small.py"):
        path = folder / name
        if not path.exists():
            raise DemoFailed(f"{name} was not written")
        click.echo(f"  {path.stat().st_size:>8,} bytes  {name:<14}{_FILES[name]}")


_FILES = {
    "hang.gtrace": "the recorded run",
    "small.gtrace": "what it takes to hang",
    "small.txt": "the whole report",
    "small.py": "a script that rebuilds the hang",
}


def _run(step: Step, folder: Path, as_json: bool) -> dict[str, Any]:
    shown = ["python" if one == sys.executable else one for one in step.arguments]
    line = f"gputrace {' '.join(shown)}"
    if not as_json:
        click.echo(f"\n# {step.says}\n$ {line}")
    arguments = (step.arguments[0], *(["--json"] if as_json else []), *step.arguments[1:])
    done = _call(arguments, folder)
    output = (done.stderr + done.stdout).rstrip().splitlines()
    if done.returncode != step.exit:
        last = " ".join(output[-3:])
        raise DemoFailed(f"{line}: exit status {done.returncode} instead of {step.exit}: {last}")
    if not as_json:
        _show([one for one in output if re.match(step.shown, one)], len(output))
        return {}
    data = json.loads(done.stdout) if done.stdout else None
    return {"says": step.says, "command": line, "exit": done.returncode, "data": data}


def _show(lines: Sequence[str], whole: int) -> None:
    for line in lines:
        inner = " " * (len(line) - len(line.lstrip()) + 6)
        for part in textwrap.wrap(line, WIDTH - 2, subsequent_indent=inner):
            click.echo(f"  {part}")
    if whole > len(lines):
        more = whole - len(lines)
        click.echo(f"  ... and {more} more line{'s' * (more > 1)}")


def _call(arguments: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    # From a source tree that is not installed the package is found all the same.
    here = str(Path(gputrace.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    return subprocess.run(
        [sys.executable, "-m", "gputrace.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{known}" if known else here},
        capture_output=True,
        text=True,
        check=False,
    )
