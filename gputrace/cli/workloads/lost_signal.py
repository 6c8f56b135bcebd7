"""(a) A hang: four queues overlap copies and compute, and one late value is never signalled.

The pipeline of `pipeline.py`, in which every 37th batch goes through a second branch that also
stores the time. That branch forgets to signal, so the download of batch 37 waits for ever, and
after three more batches the host with it.
"""

from gputrace.cli.workloads.frame import Workload, main
from gputrace.cli.workloads.pipeline import Pipeline, Slot
from gputrace.driver import Device

BATCHES = 48
TIMED_EVERY = 37


class TimedPipeline(Pipeline):
    """The pipeline with the branch that was added later."""

    def __init__(self, device: Device, seed: int) -> None:
        super().__init__(device, seed)
        self.times = device.alloc(4096, "gtt", name="times")

    def finish(self, slot: Slot) -> None:
        """Say that the batch in a slot is done, and at times when that was."""
        if slot.batch % TIMED_EVERY == 0:
            self.second.timestamp(self.times, slot.batch // TIMED_EVERY * 8)
            return  # the bug: this branch should signal, too
        super().finish(slot)


def run(device: Device, seed: int) -> str:
    """Take all batches through the pipeline and verify each."""
    pipeline = TimedPipeline(device, seed)
    for batch in range(1, BATCHES + 1):
        pipeline.submit(batch)
    return pipeline.end()


WORKLOAD = Workload(
    name="lost_signal",
    letter="a",
    bug="A pipeline over four queues hangs: one late timeline value is never signalled.",
    ending="hang",
    verdict="hang",
    minimum=("copy 1: POLL_REGMEM of 'slot 1 transformed' >= 37",),
    run=run,
)

if __name__ == "__main__":
    main(WORKLOAD)
