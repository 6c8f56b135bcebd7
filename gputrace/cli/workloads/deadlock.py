"""(b) A deadlock: two compute queues exchange the edges of their halves and wait for each other.

Each queue owns half of a field that is stepped forward. In every step it stores its edge where the
neighbour reads it, signals, and waits for the neighbour's edge. To take the newest edge into its
snapshots, each side waits before it sends in some of the steps: the first one in every eighth, the
second one in every fifth. That is right as long as only one of them does so; in step 40 both do,
and neither ever sends.
"""

import numpy as np

from gputrace.cli.workloads.frame import Workload, WrongResult, main
from gputrace.driver import Device

STEPS = 60
EDGE = 16
SNAPSHOTS = (8, 5)
"""Steps from one snapshot to the next, of each side: both take one in step 40."""


class Side:
    """One half: its queue, what it sends, where it receives."""

    def __init__(self, device: Device, snapshots: int) -> None:
        self.queue, self.snapshots = device.compute_queue("pm4"), snapshots
        self.sent = device.timeline(f"{self.queue.name} sent")
        self.inbox = device.alloc(STEPS * EDGE * 4, name=f"inbox of {self.queue.name}")

    def step(self, number: int, edge: bytes, other: "Side") -> None:
        """Queue one step: exchange edges with the other side."""
        with self.queue.batch():
            if number % self.snapshots == 0:
                self.queue.wait(other.sent.at(number))
                self.send(number, edge, other)
            else:
                self.send(number, edge, other)
                self.queue.wait(other.sent.at(number))

    def send(self, number: int, edge: bytes, other: "Side") -> None:
        """Store the edge of a step where the other side reads it, and say so."""
        self.queue.write(other.inbox, edge, (number - 1) * len(edge))
        self.queue.signal(self.sent, number)


def run(device: Device, seed: int) -> str:
    """Step the field and verify every edge that arrived."""
    sides = [Side(device, snapshots) for snapshots in SNAPSHOTS]
    edges = np.random.default_rng(seed).integers(0, 1 << 32, (2, STEPS, EDGE), np.uint32)
    for number in range(1, STEPS + 1):
        for side, other, edge in zip(sides, reversed(sides), edges, strict=True):
            side.step(number, edge[number - 1].tobytes(), other)
    for side in sides:
        side.queue.synchronize(10.0)
    for side, sent in zip(sides, reversed(edges), strict=True):
        arrived = np.frombuffer(side.inbox.read(sent.nbytes), np.uint32)
        if not np.array_equal(arrived, sent.reshape(-1)):
            raise WrongResult(f"{side.queue.name}: an edge arrived wrong")
    return f"{2 * STEPS} edges arrived right"


WORKLOAD = Workload(
    name="deadlock",
    letter="b",
    bug="Two compute queues wait for each other: each would send after it has received.",
    ending="hang",
    verdict="hang",
    minimum=(
        "compute 0: WAIT_REG_MEM of 'compute 1 sent' >= 40",
        "compute 0: RELEASE_MEM that stores 40 to 'compute 0 sent'",
        "compute 1: WAIT_REG_MEM of 'compute 0 sent' >= 40",
        "compute 1: RELEASE_MEM that stores 40 to 'compute 1 sent'",
    ),
    run=run,
)

if __name__ == "__main__":
    main(WORKLOAD)
