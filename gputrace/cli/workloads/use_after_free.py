"""(c) A page fault: a kernel reads a buffer that was freed two submissions before.

A network of six layers is evaluated for one batch after another, each uploaded before and
downloaded after, by a plan of launches that was made once, with addresses in it. Then a layer is
pruned: its weights are freed, when the batch before is done. The plan still has the layer. The
second launch from there reads the weights that are gone.
"""

import numpy as np
import numpy.typing as npt

from gputrace.cli.workloads.frame import Workload, WrongResult, load, main
from gputrace.driver import Buffer, Device

WORDS = 256
GROUP = 64
LAYERS = 6
BATCHES = 16
PRUNED_BATCH, PRUNED_LAYER = 14, 1

Array = npt.NDArray[np.float32]


class Network:
    """The queues, the layers' memory, and the plan."""

    def __init__(self, device: Device, numbers: Array) -> None:
        self.kernel, self.numbers = load(device, "layer")["layer"], numbers
        self.copies, self.compute = device.copy_queue(), device.compute_queue("aql")
        self.staging = device.alloc(4 * WORDS, "gtt", name="batch")
        self.output = device.alloc(4 * WORDS, "gtt", name="output")
        self.values = [device.alloc(4 * WORDS, name=f"values {n}") for n in range(LAYERS + 1)]
        self.weights: list[Buffer] = []
        for number, row in enumerate(numbers):
            self.weights.append(device.alloc(4 * WORDS, name=f"weights of layer {number}"))
            self.weights[-1].write(row)
        self.plan = [
            [self.values[n + 1].address, self.values[n].address, self.weights[n].address]
            for n in range(LAYERS)
        ]

    def evaluate(self, batch: Array, pruned: int | None = None) -> None:
        """Take a batch through all layers and verify what comes out. Raises WrongResult.

        A layer is `pruned` before the launches of this batch.
        """
        self.staging.write(batch)
        self.copies.copy(self.values[0], self.staging)
        self.compute.wait(self.copies.signal())
        if pruned is not None:
            self.weights[pruned].free()  # the bug: `plan` still launches it
        for arguments in self.plan:
            done = self.compute.launch(self.kernel, WORDS // GROUP, GROUP, arguments)
        self.copies.wait(done)
        self.copies.copy(self.output, self.values[LAYERS])
        self.copies.synchronize(10.0)
        right = batch
        for row in self.numbers:
            right = np.maximum(right * row, np.float32(0))
        if not np.array_equal(self.output.view(np.float32, 0, WORDS), right):
            raise WrongResult("what came out of the network is wrong")


def run(device: Device, seed: int) -> str:
    """Evaluate all batches."""
    random = np.random.default_rng(seed)
    network = Network(device, random.random((LAYERS, WORDS), np.float32) * np.float32(2))
    for number in range(1, BATCHES + 1):
        pruned = PRUNED_LAYER if number == PRUNED_BATCH else None
        network.evaluate(random.standard_normal(WORDS, np.float32), pruned)
    return f"{BATCHES} batches are right"


WORKLOAD = Workload(
    name="use_after_free",
    letter="c",
    bug="A kernel reads a buffer that was freed two submissions before.",
    ending="fault",
    verdict="fault",
    minimum=("compute 0: the dispatch of 'layer' that reads 'weights of layer 1'",),
    run=run,
)

if __name__ == "__main__":
    main(WORKLOAD)
