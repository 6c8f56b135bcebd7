"""Groups of a dispatch on two cores against one, beside what the machine itself gives two threads.

By the wall, since two threads work: each round runs all that is compared one after another, and the
median of the rounds' ratios counts, so that other work on the machine takes from all alike.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import numpy as np

from gputrace.isa.machine import Machine
from tools.benches import Options, Row, at_least, seconds
from tools.benches.kernels import CASES, ENDLESS

KERNELS = (
    ("gfx1100", "matmul", 1024), ("gfx942", "matmul", 1024), ("gfx942", "gather", 2048),
    ("gfx942", "add", 1024), ("gfx942", "add4", 1024), ("gfx1100", "add", 1024),
)  # fmt: skip
Works = tuple[Callable[[], object], Callable[[], object]]
"""The same work on one core and on two."""


def _kernel(target: str, name: str, size: int) -> Works:
    case = CASES[name](target, size)

    def run(cores: int) -> Callable[[], object]:
        machine = Machine(target, "jit", cores)
        return lambda: machine.start(case.launch, case.memory).run(ENDLESS)

    return run(1), run(2)


def _sums(count: int, times: int) -> Works:
    # What "add" does, by numpy: halves on two threads.
    a, b, out = (np.ones(count, np.float32) for _ in range(3))

    def add(low: int, high: int) -> None:
        for _ in range(times):
            np.add(a[low:high], b[low:high], out=out[low:high])

    def both() -> None:
        other = threading.Thread(target=add, args=(count // 2, count))
        other.start()
        add(0, count // 2)
        other.join()

    return partial(add, 0, count), both


def rows(options: Options) -> Iterator[Row]:
    """Measure all in turn."""
    if len(os.sched_getaffinity(0)) < 2:
        return
    os.environ["XDG_CACHE_HOME"] = str(options.folder)
    smaller, rounds = (4, 3) if options.quick else (1, 9)
    works = {
        f"{target} {name} on two cores": _kernel(target, name, size // smaller)
        for target, name, size in KERNELS
    }
    count = (1024 // smaller) ** 2 * 16
    own = {
        "the machine's own, in memory": _sums(count, 2),
        "the machine's own, in the cache": _sums(1 << 14, 4096 // smaller),
    }
    ratios: dict[str, list[float]] = {name: [] for name in (*works, *own)}
    for number in range(rounds + 1):
        for name, (one, two) in (works | own).items():
            ratio = seconds(one, time.monotonic) / seconds(two, time.monotonic)
            if number:  # the first round compiles, and touches memory first
                ratios[name].append(ratio)
    note = f"load of the machine {os.getloadavg()[0]:.1f}"
    for name, found in ratios.items():
        if name in own:
            yield Row(name, median(found), "times one thread", note=note)
        else:
            yield at_least(name, median(found), "times one core", 1.7, note)
