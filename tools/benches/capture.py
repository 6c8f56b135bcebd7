"""Capture and replay: what recording costs on the overlap workload and for each doorbell."""

import gc
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import numpy as np

import gputrace
from gputrace.cli.workloads.pipeline import Pipeline, Slot
from gputrace.driver import Device
from gputrace.replay.running import Request, play
from tools.benches import Options, Row, at_least, at_most

TARGET = "gfx942"
KERNELS = Path(__file__).parents[2] / "tests" / "kernels" / "built" / TARGET / "flow-O3.co"
DOORBELLS = 12
"""Of one batch: three to upload, three and four to compute, three to download, less one."""
WARM = 48
"""Batches before the clock starts: kernels are compiled and pages are there then."""
KERNARGS = 4096
MIB = 1 << 20


class Busy(Pipeline):
    """The overlap workload with one launch more in each batch, which keeps the GPU busy."""

    def __init__(self, device: Device, groups: int) -> None:
        super().__init__(device, 0)
        self.groups = groups
        self.collatz = device.load(KERNELS.read_bytes())["collatz"]
        self.numbers, self.steps = (device.alloc(256 * groups) for _ in range(2))
        self.numbers.write(np.random.default_rng(0).bytes(256 * groups))

    def finish(self, slot: Slot) -> None:
        """Launch it before the batch is said to be done."""
        self.second.launch(self.collatz, self.groups, 64, [self.steps, self.numbers, 400])
        super().finish(slot)


def rows(options: Options) -> Iterator[Row]:
    """Measure all rows."""
    turns = 2 if options.quick else 6
    yield from workload(options.folder, 32 if options.quick else 256, turns)
    yield from doorbells(options.folder, 100 if options.quick else 1000)


def once(batches: int, groups: int, trace: Path | None = None) -> tuple[float, float]:
    """Run the workload; return seconds of processor: of the steady part, and of all."""
    gc.collect()
    opened = time.process_time()
    around = gputrace.record(trace) if trace else nullcontext()
    with around, gputrace.open(f"emu:{TARGET}") as device:
        pipeline = Busy(device, groups)
        for batch in range(1, WARM + 1):
            pipeline.submit(batch)
        start = time.process_time()
        for batch in range(WARM + 1, WARM + batches + 1):
            pipeline.submit(batch)
        pipeline.end()
        steady = time.process_time() - start
    return steady, time.process_time() - opened


def busy_groups(batches: int) -> int:
    """Return how many work-groups make a doorbell come every 900 us or so on this machine."""
    few, many = 16, 256
    times = [min(once(batches, groups)[0] for _ in range(2)) for groups in (few, many)]
    each = (times[1] - times[0]) / batches / (many - few)
    left = DOORBELLS * 900e-6 - times[0] / batches
    return max(few, few + int(left / each))


def workload(folder: Path, batches: int, turns: int) -> Iterator[Row]:
    """Compare the overlap workload with and without capture, and its replay with it."""
    trace = folder / "overlap.gtrace"
    groups = busy_groups(32)
    rung = batches * DOORBELLS
    for name, work, count in (("", groups, batches), (", small kernels", 1, batches)):
        plain, recorded, whole, replayed = [], [], [], []
        for _ in range(turns):
            plain.append(once(count, work)[0])
            times = once(count, work, trace)
            recorded.append(times[0])
            whole.append(times[1])
            start = time.process_time()
            verdict = play(Request(str(trace)), lambda: False)
            replayed.append(time.process_time() - start)
            assert verdict.result.value == "same", verdict
        ratio = median(recorded) / median(plain)
        rate = rung / median(plain)
        note = f"{rate:,.0f} doorbells a second, medians of {turns} runs"
        if name:
            yield Row(f"overlap (h){name}, captured / not", ratio, "x", note=note)
        else:
            yield at_most("overlap (h), captured / not", ratio, "x", 1.10, note)
            yield at_least("overlap (h), doorbells", rate, "a second", 1000)
            again = median(replayed) / median(whole)
            yield at_most("overlap (h), replayed / captured", again, "x", 1.0)
        extra = (median(recorded) - median(plain)) / rung * 1e6
        yield Row(f"overlap (h){name}, capture adds", extra, "us/doorbell")
    yield Row("overlap (h), file", trace.stat().st_size / rung, "bytes/doorbell")


def doorbells(folder: Path, count: int) -> Iterator[Row]:
    """Measure one doorbell with little and with much memory watched."""
    found = {}
    for mib in (16, 272):
        with gputrace.record(folder / "d.gtrace"), gputrace.open(f"emu:{TARGET}") as device:
            kept = [device.alloc(16 * MIB) for _ in range(mib // 16)]
            for buffer in kept:
                buffer.fill(1)
            found[mib] = _ring_often(device, count)
    each = (found[272] - found[16]) / 256
    bare = found[16] - 16 * each
    yield at_most("a doorbell, 4 KiB of arguments changed", bare, "us", 40)
    yield at_most("and for each MiB watched", each, "us", 0.3)


def _ring_often(device: Device, count: int) -> float:
    queue, arguments = device.compute_queue("pm4"), device.alloc(KERNARGS, "gtt")
    view, times = arguments.view(), list[int]()
    ring = queue.ring._ring_doorbell

    def timed(address: int, value: int) -> None:
        start = time.thread_time_ns()
        ring(address, value)
        times.append(time.thread_time_ns() - start)

    for turn in range(count):
        view[:] = turn & 255
        queue.ring._ring_doorbell = timed
        queue.write(arguments, b"abcd")
        queue.ring._ring_doorbell = ring
        if turn % 32 == 31:
            queue.signal().wait()
    del view
    return median(times) / 1000
