"""Capture and replay: what recording costs on the overlap workload and for each doorbell."""

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean, median

import gputrace
from gputrace.cli import workloads
from gputrace.cli.workloads.overlap import run as overlap
from gputrace.driver import Device
from gputrace.replay.running import Request, play
from gputrace.trace.reader import TraceReader
from tools.benches import Options, Row, at_least, at_most

TARGET = "gfx942"
KERNARGS = 4096
MIB = 1 << 20


def rows(options: Options) -> Iterator[Row]:
    """Measure all rows."""
    yield from workload(options.folder, 64 if options.quick else 512, 2 if options.quick else 6)
    yield from doorbells(options.folder, 100 if options.quick else 1000)


def once(batches: int, trace: Path | None) -> tuple[float, float]:
    """Run the overlap workload; return seconds of processor and of wall."""
    name = workloads.find("overlap").device(TARGET)
    gc.collect()
    wall, start = time.perf_counter(), time.process_time()
    if trace is None:
        with gputrace.open(name) as device:
            overlap(device, 0, batches)
    else:
        with gputrace.record(trace), gputrace.open(name) as device:
            overlap(device, 0, batches)
    return time.process_time() - start, time.perf_counter() - wall


def workload(folder: Path, batches: int, turns: int) -> Iterator[Row]:
    """Compare the overlap workload with and without capture, and its replay with it."""
    trace = folder / "overlap.gtrace"
    once(8, None)
    plain, recorded, replayed = [], [], []
    for _ in range(turns):
        plain.append(once(batches, None)[0])
        recorded.append(once(batches, trace)[0])
        start = time.process_time()
        verdict = play(Request(str(trace)), lambda: False)
        replayed.append(time.process_time() - start)
        assert verdict.result.value == "same", verdict
    with TraceReader(trace) as reader:
        assert reader.trailer is not None
        kinds, cost = reader.trailer.kinds, reader.trailer.summary["cost"]
    rung = kinds["DoorbellIntent"]
    ratios = [one / other for one, other in zip(recorded, plain, strict=True)]
    note = f"{min(ratios):.2f} to {max(ratios):.2f} in {turns} runs each"
    yield at_most("overlap (h), captured / not", geometric_mean(ratios), "x", 1.10, note)
    yield at_least("overlap (h), doorbells", rung / median(plain), "a second", 1000)
    yield Row("overlap (h), time in the hooks", cost["nanoseconds"] / 1e3 / rung, "us/doorbell")
    yield Row("overlap (h), file", trace.stat().st_size / rung, "bytes/doorbell")
    ratio = geometric_mean(one / other for one, other in zip(replayed, recorded, strict=True))
    yield at_most("overlap (h), replayed / captured", ratio, "x", 1.0)


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
