"""Measure what it costs programs that know nothing of gputrace to be served and to be recorded."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from gputrace.devices.opening import emulated, recorded, served
from gputrace.families import family
from gputrace.interpose.launch import run
from tools.benches import Options, Row, at_most

TARGET = "gfx942"
HERE = Path(__file__).parent
TINY = HERE.parents[1] / "tests" / "interpose" / "clients" / "tiny.py"


class Cost(NamedTuple):
    """What a program printed, and the processor's seconds that serving it took."""

    output: str
    seconds: float


def _cost(options: Options, program: list[str], *, record: bool, target: str = TARGET) -> Cost:
    name, trace = f"emu:{target}", options.folder / "program.gtrace"
    trace.unlink(missing_ok=True)
    out = options.folder / "out"
    script = ["/bin/sh", "-c", '"$@" > "$0"', str(out), *program]
    before = time.process_time()
    ended = run(
        script,
        lambda client: recorded(name, client) if record else served(name, client),
        emulated(name).topology,
        tell=lambda notice: print(f"  {notice.text}", file=sys.stderr),
        trace=trace if record else None,
    )
    if ended.status:
        raise RuntimeError(f"{program[0]} ended with status {ended.status}")
    return Cost(out.read_text(), time.process_time() - before)


def _sizes() -> list[str]:
    facts, node = family(TARGET), emulated(f"emu:{TARGET}").topology.gpus[0]
    sizes = facts.queue_sizes(node.properties)
    area = (sizes.cwsr_size + sizes.debug_size) * node.xccs
    return [str(one) for one in (sizes.ctl_stack_size, sizes.cwsr_size, -(-area // 4096) * 4096)]


def doorbells(options: Options, bells: str) -> Iterator[Row]:
    """Measure calls, launches and rings of a program in C."""
    few, many = (320, 1280) if options.quick else (640, 6400)

    def each(call: str, record: bool, *more: str, times: int = 1) -> float:
        # What a ring costs the server, without what comes once: start-up and the end.
        costs = [
            _cost(options, [bells, call, str(count), *_sizes(), *more], record=record).seconds
            for count in (few * times, (few + many) * times)
        ]
        return (costs[1] - costs[0]) / (many * times) * 1e6

    calls = _cost(options, [bells, "ioctl", str(many)], record=False)
    yield at_most("ioctl round trip", float(calls.output), "us", 40, "fastest batch")
    launch = _cost(options, [bells, "launch", str(many), *_sizes()], record=False)
    yield at_most("empty kernel, launch and wait", float(launch.output), "us", 150, "fastest batch")
    flood = each("flood", False, times=20), each("flood", True, times=20)
    yield at_most("rings alone, recorded : served", flood[1] / flood[0], "ratio", 2)
    plain, with_record = each("ring", False), each("ring", True)
    yield Row("ring and wait, served", plain, "us of server")
    yield Row("ring and wait, recorded", with_record, "us of server", note="each has its own look")
    for record, without in ((False, plain), (True, with_record)):
        untouched = each("ring", record, "8192")
        name = "recorded" if record else "served"
        yield Row(f"with 8 GiB more mapped, {name}", untouched / without, "times as much")


def training(options: Options) -> Iterator[Row]:
    """Measure fifty steps of a small network in tinygrad, recorded and not."""
    if find_spec("tinygrad") is None or find_library("LLVM-19") is None:
        print("  tinygrad's training is left out: tinygrad or libllvm19 is not installed")
        return
    variables = ["env", "DEV=KFD+AMD:LLVM", f"CACHEDB={options.folder}/cache.db"]
    program = [*variables, sys.executable, str(TINY), "train"]
    times = []
    for record in (False, False, True):  # the first fills the caches of compiled kernels
        times.append(_cost(options, program, record=record, target="gfx1100").seconds)
    yield at_most("training, recorded : served", times[2] / times[1], "ratio", 1.25)


def rows(options: Options) -> Iterator[Row]:
    """Measure everything here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("  programs are left out: there is no C compiler")
        return
    bells = options.folder / "bells"
    subprocess.run([compiler, "-O1", str(HERE / "bells.c"), "-o", str(bells)], check=True)
    yield from doorbells(options, str(bells))
    if not options.quick:
        yield from training(options)
