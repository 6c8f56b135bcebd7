"""(g) A wrong result: a kernel writes past the end of its buffer into the neighbour.

A signal of 1,000 samples is smoothed again and again, its history kept beside it. Once, the grid is
taken from the history's length by mistake: the work-items behind the last sample write past
the buffer's end, over the rest of its page, which nobody sees, and into the history.
By the hardware's rules all of that is memory of this process; only the result is wrong.
"""

import numpy as np

from gputrace.cli.workloads.frame import Workload, WrongResult, load, main
from gputrace.driver import Device

SAMPLES = 1000
HISTORY = 1088
GROUP = 64
ROUNDS = 24
WRONG_ROUND = 17


def smoothed(signal: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> np.ndarray[
    tuple[int], np.dtype[np.uint32]
]:
    """Return what kernels/smooth.cl makes of a signal."""
    left, right = np.roll(signal, 1), np.roll(signal, -1)
    left[0], right[-1] = signal[0], signal[-1]
    return left // 4 + signal // 2 + right // 4


def run(device: Device, seed: int) -> str:
    """Smooth the signal in every round and verify it and the history."""
    kernel, queue = load(device, "smooth")["smooth"], device.compute_queue("pm4")
    random = np.random.default_rng(seed)
    signal = random.integers(0, 1 << 32, SAMPLES, np.uint32)
    past = random.integers(0, 1 << 32, HISTORY, np.uint32)
    source = device.alloc(4 * SAMPLES, name="signal")
    target = device.alloc(4 * SAMPLES, name="smoothed signal")
    history = device.alloc(4 * HISTORY, name="history")
    history.write(past)
    for number in range(1, ROUNDS + 1):
        source.write(signal)
        size = HISTORY if number == WRONG_ROUND else SAMPLES  # the bug
        queue.launch(kernel, threads=size, block=GROUP, args=[target, source, SAMPLES])
        queue.synchronize(10.0)
        signal = smoothed(signal)
        if not np.array_equal(target.view(np.uint32, 0, SAMPLES), signal):
            raise WrongResult(f"round {number}: the signal is wrong")
    found = history.view(np.uint32, 0, HISTORY)
    if not np.array_equal(found, past):
        at = int(np.argmax(found != past))
        raise WrongResult(f"the history has changed from word {at} on, and nobody writes to it")
    return f"{ROUNDS} rounds are right"


WORKLOAD = Workload(
    name="overrun",
    letter="g",
    bug="A kernel writes past the end of its buffer into the neighbour.",
    ending="wrong",
    verdict="fault",
    minimum=(
        "compute 0: SET_SH_REG of the size of a work-group",
        "compute 0: SET_SH_REG of the program's address",
        "compute 0: SET_SH_REG of its resources",
        "compute 0: SET_SH_REG of the address of its arguments",
        "compute 0: DISPATCH_DIRECT of 'smooth', round 17",
    ),
    run=run,
    replayed=",check=bytes",
)

if __name__ == "__main__":
    main(WORKLOAD)
