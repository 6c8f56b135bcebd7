"""Measure the driver: the Python of a launch, and packets from their fields to their completion."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from gputrace import driver
from gputrace.driver.packets import Pm4Packets
from gputrace.formats.operations import Compare
from gputrace.formats.packets import Packet
from tools.benches import Options, Row, at_least, at_most, seconds

KERNELS = Path(__file__).parents[2] / "tests" / "kernels" / "built"
ROUNDS, LAUNCHES = 15, 100
GROUPS = 256  # submissions of four packets in one round


def _seconds(work: Callable[[], object]) -> float:
    return seconds(work, time.process_time)


def launch(target: str, kind: str) -> Row:
    """Time `launch` of a prebuilt kernel with four arguments, doorbell store included."""
    with driver.open(f"emu:{target}") as device:
        kernel = device.load(KERNELS / target / "seed-O3.co")["saxpy"]
        queue = device.compute_queue(kind, ring_size=1 << 20)  # type: ignore[call-overload]
        x, y = device.alloc(4096), device.alloc(4096)
        args = [y, x, np.float32(2.0), np.int32(64)]
        queue.launch(kernel, 1, 64, args).wait()

        def work() -> None:
            for _ in range(LAUNCHES):
                queue.launch(kernel, 1, 64, args)

        times = []
        for _ in range(ROUNDS):
            times.append(_seconds(work) / LAUNCHES)
            queue.synchronize(None)
        return at_most(f"launch, {kind}, {target}", median(times) * 1e6, "us", 15)


def four(packets: Pm4Packets, address: int, step: int) -> list[Packet]:
    """Make one of each kind: a store, an end of pipe, a wait that is satisfied, an acquire."""
    return [
        packets.write(address, step.to_bytes(4, "little")),
        packets.release(address + 8, step),
        packets.wait(address + 16, 0, Compare.GE),
        packets.acquire(),
    ]


def packets(target: str) -> Iterator[Row]:
    """Time packets through encoder, ring, command processor and completion, and the halves."""
    with driver.open(f"emu:{target}") as device:
        queue, buffer = device.compute_queue("pm4", ring_size=1 << 20), device.alloc(4096)

        def submit() -> None:
            for step in range(GROUPS):
                queue.submit(four(queue.packets, buffer.address, step))

        before, after = [], []
        for _ in range(ROUNDS):
            before.append(_seconds(submit))
            done = queue.signal()
            after.append(_seconds(lambda: done.wait(None)))  # noqa: B023
        count = 4 * GROUPS
        both = count / median(a + b for a, b in zip(before, after, strict=True))
        yield at_least(f"packets, {target}", both, "a second", 100_000)
        yield Row(f"packets into the ring, {target}", count / median(before), "a second")
        yield Row(f"packets executed, {target}", count / median(after), "a second")


def rows(options: Options) -> Iterator[Row]:
    """Measure everything here."""
    for target in ("gfx942", "gfx1100"):
        for kind in ("pm4", "aql"):
            yield launch(target, kind)
        yield from packets(target)
