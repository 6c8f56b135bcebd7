"""`gputrace minimize`: the smallest trace that fails as a given one does."""

import time
from pathlib import Path

import click

from gputrace.cli.common import (
    amount,
    check_place,
    json_option,
    progress,
    show,
    shown,
    trace_argument,
)
from gputrace.errors import UsageError
from gputrace.minimize import report
from gputrace.minimize.reduce import Reduction, Settings, reduce
from gputrace.minimize.result import replay_again, write_result
from gputrace.minimize.script import SIGNED, script
from gputrace.trace.reader import TraceReader


@click.command()
@trace_argument
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Where the result goes.")
@click.option("--journal", type=click.Path(dir_okay=False), help="Keep runs here, to go on later.")
@click.option("--device", default="", help="Run candidates here instead of the trace's device.")
@click.option("--seeds", default=64, show_default=True, type=click.IntRange(1, 100_000),
              help="Schedules to try for a failure that comes and goes.")  # fmt: skip
@click.option("--timeout", default=120.0, show_default=True, type=click.FloatRange(1.0),
              help="Seconds that one run may take.")  # fmt: skip
@click.option("--spurious", is_flag=True,
              help="The failure may come without its cause: judge by statistics.")  # fmt: skip
@json_option
def command(
    trace: str,
    output: str | None,
    journal: str | None,
    device: str,
    seeds: int,
    timeout: float,
    spurious: bool,
    as_json: bool,
) -> None:
    """Reduce TRACE to what still fails in the same way.

    Beside the result, T.min.gtrace unless -o says otherwise, stand a report (.txt) and a Python
    script (.py) that rebuilds the failure. A reduction that was killed goes on from its journal.
    """
    source = Path(trace)
    target = Path(output) if output else source.with_suffix(".min.gtrace")
    check_paths(source, target)
    start = time.monotonic()
    with TraceReader(trace) as reader, progress() as tell:
        kept = Path(journal) if journal else None
        settings = Settings(kept, device, seeds, timeout, spurious, tell)
        reduction = reduce(reader, settings)
        write_result(reduction, target, source, timeout)
        again = replay_again(target, timeout)
        reduction.seconds = time.monotonic() - start
        data = report.plain(reduction)
        lines, short = list(report.text(reduction)), list(report.text(reduction, full=False))
        target.with_suffix(".py").write_text(script(reduction))
    before, after = source.stat().st_size, target.stat().st_size
    replayed = f"Replayed in a new process: {again.result.value}: {again.text}"
    report_lines = [shown(line) for line in [*lines, replayed]]
    target.with_suffix(".txt").write_text("\n".join(report_lines) + "\n")
    data |= {"trace": trace, "result": str(target), "seconds": reduction.seconds,
             "bytes": {"before": before, "after": after},
             "replayed": {"result": again.result.value, "text": again.text}}  # fmt: skip
    beside = f"{target.with_suffix('.txt')}, {target.with_suffix('.py')}"
    sizes = f"{amount(before)} became {amount(after)}, in {reduction.seconds:.1f} s"
    show(as_json, data, [*short, replayed, f"{target}: {sizes}; beside it {beside}"])


def check_paths(source: Path, target: Path) -> None:
    """Raise UsageError when a result, and what stands beside it, cannot go where it should."""
    check_place(source, target)
    for suffix, mark in ((".py", SIGNED), (".txt", f"\n{report.CAUSE}\n")):
        beside = target.with_suffix(suffix)
        if beside.exists() and mark not in _head(beside):
            raise UsageError(f"{beside} is no earlier result and would be lost: name another file")


def _head(path: Path) -> str:
    # Enough of a file to tell whether an earlier reduction wrote it.
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(65536)


__all__ = ["Reduction", "check_paths", "command"]
