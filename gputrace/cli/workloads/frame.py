"""What the workloads share: how one describes itself, how it is run, what came of it."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import click

import gputrace
from gputrace.devices.names import FALLBACK
from gputrace.driver import Device, Program, ProvenHang, WaitTimeout
from gputrace.errors import DeviceFault, GputraceError, UsageError
from gputrace.families import FAMILIES

Ending = Literal["passes", "hang", "fault", "wrong"]


class WrongResult(GputraceError):
    """The workload ended and what it computed is not what it should be."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A program with one bug.

    `run` drives a device and returns a line on what it verified; `ending` is how it ends on an
    emulated device with `options`; a capture of that run gives `verdict` when it is replayed with
    `replayed`. `minimum` has one line for each packet that the failure needs, in order: the
    smallest capture that fails in the same way.
    """

    name: str
    letter: str
    bug: str
    ending: Ending
    verdict: str
    minimum: tuple[str, ...]
    run: Callable[[Device, int], str]
    options: str = ""
    replayed: str = ""

    def device(self, target: str) -> str:
        """Return the name of the emulated device on which it ends as it says."""
        return f"emu:{target}{self.options}"


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of a workload ended: its class, and the message of the error or of success."""

    ending: Ending
    text: str


def perform(workload: Workload, device: str, *, record: str = "", seed: int = 0) -> Run:
    """Run a workload on a device of this name, recording it where a path is given.

    `seed` varies the data. Raises what the workload's end does not explain.
    """
    try:
        with gputrace.record(record) if record else nullcontext(), gputrace.open(device) as opened:
            return Run("passes", workload.run(opened, seed))
    except WrongResult as problem:
        return Run("wrong", str(problem))
    except DeviceFault as problem:
        return Run("fault", str(problem))
    except (ProvenHang, WaitTimeout) as problem:
        return Run("hang", str(problem))


def rate(workload: Workload, target: str, schedules: Iterable[int]) -> Counter[Ending]:
    """Run a workload under each of these schedules and count how it ended."""
    names = (f"emu:{target},schedule={schedule}" for schedule in schedules)
    return Counter(perform(workload, name).ending for name in names)


def load(device: Device, name: str) -> Program:
    """Load the workloads' code object of this name. Raises UsageError for another target."""
    folder = files("gputrace.cli.workloads") / "kernels" / "built"
    found = folder / device.target / f"{name}-O3.co"
    if not found.is_file():
        known = ", ".join(sorted(one.name for one in folder.iterdir()))
        raise UsageError(f"the kernels of workloads are built for {known}, not {device.target}")
    return device.load(found.read_bytes())


def _device(workload: Workload) -> str:
    # Where `gputrace record --device` wants it, with what it needs to end as it says.
    name = os.environ.get("GPUTRACE_DEVICE") or FALLBACK
    target = name.removeprefix("emu:")
    return workload.device(target) if target in FAMILIES else name


def main(workload: Workload, arguments: Sequence[str] | None = None) -> None:
    """Run a workload as a command; it ends as any program would, so a bug ends it by an error."""

    @click.command(name=workload.name, help=workload.bug)
    @click.option("--device", default=_device(workload), show_default=True,
                  help="Where to run it.")  # fmt: skip
    @click.option("--record", default="", metavar="T.gtrace", help="Record the run.")
    @click.option("--seed", default=0, show_default=True, help="Vary the data.")
    @click.option("--schedules", default=0, metavar="N", help="Count endings under N schedules.")
    def command(device: str, record: str, seed: int, schedules: int) -> None:
        if schedules:
            target = device.removeprefix("emu:").partition(",")[0]
            for ending, count in sorted(rate(workload, target, range(schedules)).items()):
                click.echo(f"{ending}: {count} of {schedules}")
            return
        with gputrace.record(record) if record else nullcontext(), gputrace.open(device) as opened:
            click.echo(workload.run(opened, seed))

    sys.tracebacklimit = 0  # the error says enough
    try:
        command.main(args=arguments, standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        sys.exit(2)
    except UsageError as problem:
        click.echo(f"{workload.name}: {problem}", err=True)
        sys.exit(2)
