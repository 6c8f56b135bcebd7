"""(h) A pipeline over four queues that passes: copies and compute overlap, every batch verified.

Nothing is batched: each copy, wait, launch and signal rings a doorbell of its own, which is what
capture has to keep up with.
"""

from gputrace.cli.workloads.frame import Workload, main
from gputrace.cli.workloads.pipeline import Pipeline
from gputrace.driver import Device

BATCHES = 64


def run(device: Device, seed: int, batches: int = BATCHES) -> str:
    """Take all batches through the pipeline and verify each."""
    pipeline = Pipeline(device, seed)
    for batch in range(1, batches + 1):
        pipeline.submit(batch)
    return pipeline.end()


WORKLOAD = Workload(
    name="overlap",
    letter="h",
    bug="A pipeline over four queues that passes, with a doorbell for each step.",
    ending="passes",
    verdict="same",
    minimum=(),
    run=run,
)

if __name__ == "__main__":
    main(WORKLOAD)
