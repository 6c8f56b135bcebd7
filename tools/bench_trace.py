"""Measure the trace file: writing, opening, seeking, memory used, start-up of the commands.

Every figure stands beside its budget. Data are pseudo-random with a given share of zero bytes, so
that compression has neither nothing nor everything to do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gputrace.trace import TraceReader, TraceWriter
from gputrace.trace import events as ev

HEADER = ev.Header(tool="bench", family="gfx942")


@dataclass(frozen=True)
class Figure:
    """One measured number; `budget` is None where none is set."""

    name: str
    value: float
    unit: str
    budget: str | None = None


def peak_mib() -> float:
    """Give the peak resident size of this process in MiB."""
    # Not getrusage: a process that was started by a larger one inherits that one's peak.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def sample_memory(kind: str, size: int, seed: int) -> bytes:
    """Make `size` bytes: "noise", "floats" (float32 from a normal), "half" zeros, "integers"."""
    rng = np.random.default_rng(seed)
    match kind:
        case "noise":
            return rng.bytes(size)
        case "floats":
            return rng.standard_normal(size // 4, dtype=np.float32).tobytes()
        case "integers":
            return (
                np.cumsum(rng.integers(0, 100, size // 4, dtype=np.int32)).astype("<i4").tobytes()
            )
        case _:
            data = np.frombuffer(rng.bytes(size), np.uint8).reshape(-1, 4096).copy()
            data[::2] = 0
            return data.tobytes()


def bench_memory(folder: Path, mib: int) -> list[Figure]:
    """Write changed memory of several kinds; the median of three after a first one."""
    figures = []
    for kind in ("noise", "floats", "integers", "half"):
        blocks = [sample_memory(kind, 1 << 24, seed) for seed in range(max(mib // 16, 1))]
        path = folder / "memory.gtrace"
        total = len(blocks) << 24
        rates = [write_rates(path, blocks) for _ in range(4)]
        processor, wall = (sorted(rate)[-2] for rate in zip(*rates[1:], strict=True))
        figures += [
            Figure(f"write {kind}", processor, "MB/s of processor", ">= 500"),
            Figure(f"write {kind}, wall", wall, "MB/s"),
            # The first file also pays for page cache that the machine has not touched yet.
            Figure(f"write {kind}, first file", rates[0][0], "MB/s of processor"),
            Figure(f"write {kind}, stored", path.stat().st_size / total, "of its size"),
        ]
        path.unlink()
    return figures


def write_rates(path: Path, blocks: list[bytes]) -> tuple[float, float]:
    """Write the blocks to a new file: MB/s of processor time and of wall time."""
    path.unlink(missing_ok=True)
    wall, processor = time.perf_counter(), time.process_time()
    with TraceWriter(path, HEADER) as writer:
        for number, block in enumerate(blocks):
            writer.memory(number << 24, block, "cpu")
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    total = sum(map(len, blocks)) / 1e6
    return total / processor, total / wall


def bench_events(folder: Path, count: int) -> list[Figure]:
    """Write `count` events with a flush every four, then open and seek in a fresh reader."""
    path = folder / "events.gtrace"
    start = time.perf_counter()
    with TraceWriter(path, HEADER) as writer:
        for number in range(count // 4):
            writer.append(ev.Memory(number << 12, "cpu", b"kernel arguments" * 4))
            writer.append(ev.Progress((ev.Observed("read", 0, number),), number))
            writer.append(ev.DoorbellIntent(number, 0, 0x1000, number, time=number))
            writer.append(ev.DoorbellDone(number, 0, time=number))
            writer.flush(intent=True)
    written = time.perf_counter() - start
    slowest, opened = 0.0, 0.0
    rng = np.random.default_rng(1)
    for wanted in [0, count - 1, *rng.integers(0, count, 20).tolist()]:
        start = time.perf_counter()
        with TraceReader(path) as reader:
            opened = max(opened, time.perf_counter() - start)
            reader.event(wanted)
        slowest = max(slowest, time.perf_counter() - start)
    start = time.perf_counter()
    with TraceReader(path) as reader:
        total = sum(1 for _ in reader)
    read = time.perf_counter() - start
    return [
        Figure("append event", written / count * 1e6, "us"),
        Figure(f"open, {total} events, slowest", opened * 1e3, "ms"),
        Figure("open and seek, slowest of 22", slowest * 1e3, "ms", "<= 50"),
        Figure("read all events", total / read, "events/s"),
    ]


def bench_doorbell(folder: Path, count: int) -> list[Figure]:
    """Write what one doorbell needs (4 KiB, ring slots, INTENT, DONE): microseconds each."""
    rng = np.random.default_rng(2)
    kernargs = [rng.bytes(4096) for _ in range(64)]
    figures = []
    for durable in (False, True):
        rounds = count if not durable else min(count, 200)
        with TraceWriter(folder / "doorbell.gtrace", HEADER, durable=durable) as writer:
            start = time.perf_counter()
            for number in range(rounds):
                writer.memory(0x10000, kernargs[number % 64], "cpu")
                writer.memory(0x20000, kernargs[0][:64], "cpu")
                writer.append(ev.DoorbellIntent(number, 0, 0x1000, number))
                writer.flush(intent=True)
                writer.append(ev.DoorbellDone(number, 0))
            spent = (time.perf_counter() - start) / rounds * 1e6
        name = "doorbell, durable" if durable else "doorbell"
        figures.append(Figure(name, spent, "us", None if durable else "<= 40"))
    return figures


def bench_resident(folder: Path, mib: int) -> list[Figure]:
    """Write and read `mib` of distinct memory in a process of its own: peak resident size."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench_trace", "--resident", str(folder), str(mib)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    before, wrote, read = (float(word) for word in done.stdout.split())
    return [
        Figure(f"peak while writing {mib} MiB", wrote, "MiB", f"bounded ({before:.0f} at start)"),
        Figure(f"peak while reading {mib} MiB", read, "MiB", "bounded"),
    ]


def resident(folder: Path, mib: int) -> None:
    """Print peak sizes in MiB: at start, after writing, after reading."""
    block = bytearray(sample_memory("noise", 1 << 20, 3))
    before = peak_mib()
    path = folder / "large.gtrace"
    with TraceWriter(path, HEADER) as writer:
        for number in range(mib):
            block[::65536] = os.urandom(16)
            block[1::65536] = os.urandom(16)
            block[2::65536] = number.to_bytes(2, "little") * 8
            writer.memory(number << 20, block, "cpu")
    wrote = peak_mib()
    with TraceReader(path) as reader:
        for event in reader:
            if isinstance(event, ev.Memory):
                for _ in reader.pieces(event):
                    pass
    print(before, wrote, peak_mib())


def bench_commands(folder: Path) -> list[Figure]:
    """Start the commands: the fastest of five."""
    figures = []
    large = str(folder / "large.gtrace")
    for name, arguments, budget in (
        ("gputrace --help", ["--help"], "<= 150"),
        ("info on a large trace", ["info", large], "<= 300"),
    ):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            command = [sys.executable, "-m", "gputrace.cli.main", *arguments]
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        figures.append(Figure(name, min(times) * 1e3, "ms", budget))
    return figures


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--mib", type=int, default=1024, help="memory of the large trace")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--resident", nargs=2, metavar=("FOLDER", "MIB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resident:
        resident(Path(options.resident[0]), int(options.resident[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = bench_memory(folder, min(options.mib, 256))
        figures += bench_doorbell(folder, 5000)
        figures += bench_events(folder, options.events)
        figures += bench_resident(folder, options.mib)
        figures += bench_commands(folder)
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return
    for figure in figures:
        budget = f"   budget {figure.budget}" if figure.budget else ""
        print(f"{figure.name:<42}{figure.value:>14.2f} {figure.unit:<20}{budget}")


if __name__ == "__main__":
    main()
