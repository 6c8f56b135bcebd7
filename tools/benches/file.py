"""The trace file: writing, opening, seeking, memory used, and the commands' start.

Data are pseudo-random with a given share of zero bytes, so that compression has neither nothing nor
everything to do.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from gputrace.trace import TraceReader, TraceWriter
from gputrace.trace import events as ev
from tools.benches import Options, Row, at_least, at_most, seconds

ROOT = Path(__file__).parents[2]
HEADER = ev.Header(tool="bench", family="gfx942")


def rows(options: Options) -> Iterator[Row]:
    """Measure all rows."""
    large = 64 if options.quick else 1024
    yield from write_memory(options.folder, min(large, 256))
    yield from doorbells(options.folder, 500 if options.quick else 5000)
    yield from many_events(options.folder, 20_000 if options.quick else 1_000_000)
    yield from resident(options.folder, large)
    yield from commands(options.folder, large)


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


def write_memory(folder: Path, mib: int) -> Iterator[Row]:
    """Write changed memory of several kinds; the median of three files after a first one."""
    path = folder / "memory.gtrace"
    for kind in ("noise", "floats", "integers", "half"):
        blocks = [sample_memory(kind, 1 << 24, seed) for seed in range(max(mib // 16, 1))]
        total = len(blocks) << 24

        # The first file also pays for page cache that the machine has not touched yet.
        times = [seconds(lambda: write_file(path, blocks), time.process_time)  # noqa: B023
                 for _ in range(4)]  # fmt: skip
        stored = f"stored {path.stat().st_size / total:.2f} of its size"
        rate = total / median(times[1:]) / 1e6
        yield at_least(f"changed memory into the file, {kind}", rate, "MB/s", 500, stored)
        path.unlink()


def write_file(path: Path, blocks: list[bytes]) -> None:
    """Write the blocks to a new file."""
    path.unlink(missing_ok=True)
    with TraceWriter(path, HEADER) as writer:
        for number, block in enumerate(blocks):
            writer.memory(number << 24, block, "cpu")


def many_events(folder: Path, count: int) -> Iterator[Row]:
    """Write `count` events with a flush every four, then open and seek in a fresh reader."""
    path = folder / "events.gtrace"
    start = time.process_time()
    with TraceWriter(path, HEADER) as writer:
        for number in range(count // 4):
            writer.append(ev.Memory(number << 12, "cpu", b"kernel arguments" * 4))
            writer.append(ev.Progress((ev.Observed("read", 0, number),), number))
            writer.append(ev.DoorbellIntent(number, 0, 0x1000, number, time=number))
            writer.append(ev.DoorbellDone(number, 0, time=number))
            writer.flush(intent=True)
    yield Row("one event into the file", (time.process_time() - start) / count * 1e6, "us")
    rng = np.random.default_rng(1)
    wanted = [0, count - 1, *rng.integers(0, count, 20).tolist()]
    slowest = max(seconds(lambda: open_and_seek(path, n), time.process_time)  # noqa: B023
                  for n in wanted)  # fmt: skip
    name = f"open and seek in {count:,} events, slowest of 22"
    yield at_most(name, slowest * 1e3, "ms", 50)
    with TraceReader(path) as reader:
        spent = seconds(lambda: sum(1 for _ in reader), time.process_time)
    yield Row("events read", count / spent, "a second")


def open_and_seek(path: Path, number: int) -> None:
    """Read one event of a file that was not open."""
    with TraceReader(path) as reader:
        reader.event(number)


def doorbells(folder: Path, count: int) -> Iterator[Row]:
    """Write what one doorbell needs: 4 KiB of arguments, ring slots, INTENT, DONE."""
    rng = np.random.default_rng(2)
    kernargs = [rng.bytes(4096) for _ in range(64)]
    for durable in (False, True):
        rounds = count if not durable else min(count, 200)
        clock = time.perf_counter if durable else time.process_time
        with TraceWriter(folder / "doorbell.gtrace", HEADER, durable=durable) as writer:
            start = clock()
            for number in range(rounds):
                writer.memory(0x10000, kernargs[number % 64], "cpu")
                writer.memory(0x20000, kernargs[0][:64], "cpu")
                writer.append(ev.DoorbellIntent(number, 0, 0x1000, number))
                writer.flush(intent=True)
                writer.append(ev.DoorbellDone(number, 0))
            spent = (clock() - start) / rounds * 1e6
        if durable:
            yield Row("a doorbell's part of the file, durable", spent, "us")
        else:
            yield at_most("a doorbell's part of the file", spent, "us", 40)


def resident(folder: Path, mib: int) -> Iterator[Row]:
    """Write and read `mib` of distinct memory in a process of its own: peak resident size."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.benches.file", str(folder), str(mib)],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    before, wrote, read = (float(word) for word in done.stdout.split())
    note = f"{before:.0f} at the start; bounded"
    yield Row(f"peak while {mib} MiB are written", wrote, "MiB", note=note)
    yield Row(f"peak while {mib} MiB are read", read, "MiB", note=note)


def write_and_read(folder: Path, mib: int) -> None:
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


def commands(folder: Path, mib: int) -> Iterator[Row]:
    """Start the commands: the fastest of seven, and what it took of the processor."""
    large = str(folder / "large.gtrace")
    for name, arguments, budget in (
        ("gputrace --help", ["--help"], 150.0),
        (f"info on a trace of {mib} MiB", ["info", large], 300.0),
    ):
        runs = sorted(start([sys.executable, "-m", "gputrace.cli.main", *arguments])
                      for _ in range(7))  # fmt: skip
        wall, processor = runs[0]
        yield at_most(name, wall * 1e3, "ms", budget, f"{processor * 1e3:.0f} ms of the processor")


def start(command: list[str]) -> tuple[float, float]:
    """Run a command to its end: seconds of the wall and of the processor."""
    before = os.times()
    wall = seconds(
        lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT),
        time.perf_counter,
    )
    after = os.times()
    spent = after.children_user + after.children_system
    return wall, spent - before.children_user - before.children_system


if __name__ == "__main__":
    write_and_read(Path(sys.argv[1]), int(sys.argv[2]))
