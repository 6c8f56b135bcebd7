"""(c) A page fault: a kernel reads a buffer that was freed two submissions before.

A network of six layers is evaluated again and again by a plan of launches that was made once, with
addresses in it. Then a layer is pruned: its weights are freed, at a moment when no work is queued.
The plan still has the layer. Two launches later it reads the weights that are gone.
"""

import numpy as np

from gputrace.cli.workloads.frame import Workload, WrongResult, load, main
from gputrace.driver import Device

WORDS = 256
GROUP = 64
LAYERS = 6
ROUNDS = 10
PRUNED_ROUND, PRUNED_LAYER = 8, 2


def run(device: Device, seed: int) -> str:
    """Evaluate the network in every round and verify what comes out."""
    random = np.random.default_rng(seed)
    kernel, queue = load(device, "layer")["layer"], device.compute_queue("aql")
    values = [device.alloc(4 * WORDS, name=f"values {n}") for n in range(LAYERS + 1)]
    weights = [device.alloc(4 * WORDS, name=f"weights of layer {n}") for n in range(LAYERS)]
    numbers = random.random((LAYERS, WORDS), np.float32) * np.float32(2)
    for buffer, row in zip(weights, numbers, strict=True):
        buffer.write(row)
    plan = [[values[n + 1].address, values[n].address, weights[n].address] for n in range(LAYERS)]
    for number in range(ROUNDS):
        if number == PRUNED_ROUND:
            weights[PRUNED_LAYER].free()  # the bug: `plan` still launches this layer
        inputs = random.standard_normal(WORDS, np.float32)
        values[0].write(inputs)
        for arguments in plan:
            queue.launch(kernel, grid=WORDS // GROUP, block=GROUP, args=arguments)
        queue.synchronize(10.0)
        right = inputs
        for row in numbers:
            right = np.maximum(right * row, np.float32(0))
        if not np.array_equal(values[LAYERS].view(np.float32, 0, WORDS), right):
            raise WrongResult(f"round {number} is wrong")
    return f"{ROUNDS} rounds are right"


WORKLOAD = Workload(
    name="use_after_free",
    letter="c",
    bug="A kernel reads a buffer that was freed two submissions before.",
    ending="fault",
    verdict="fault",
    minimum=(),
    run=run,
)

if __name__ == "__main__":
    main(WORKLOAD)
