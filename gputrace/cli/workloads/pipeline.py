"""An overlap pipeline over four queues: upload, two stages of compute, download; all verified.

Batches go through four slots. Each stage of a slot has a timeline whose value is the number of the
batch that it has done; before the host reuses a slot it waits until the batch in it was downloaded.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gputrace.cli.workloads.frame import WrongResult, load
from gputrace.driver import Buffer, Device, Timeline

SLOTS = 4
GROUP = 64
FACTOR = 2654435761
"""What `transform` multiplies an index by; see kernels/pipeline.cl."""
WAIT_SECONDS = 10.0

Array = npt.NDArray[np.uint32]


@dataclass(slots=True)
class Slot:
    """Memory and timelines of one batch under way; `batch` is the one in it, 0 for none."""

    staging: Buffer
    source: Buffer
    middle: Buffer
    result: Buffer
    output: Buffer
    uploaded: Timeline
    scaled: Timeline
    transformed: Timeline
    downloaded: Timeline
    data: Array
    batch: int = 0


class Pipeline:
    """The queues, the slots and the kernels. `words` is the size of a batch."""

    def __init__(self, device: Device, seed: int, words: int = 4 * GROUP) -> None:
        self.words, self.verified = words, 0
        self._random = np.random.default_rng(seed)
        program = load(device, "pipeline")
        self.scale, self.transform = program["scale"], program["transform"]
        self.upload, self.download = device.copy_queue(), device.copy_queue()
        self.first, self.second = device.compute_queue("pm4"), device.compute_queue("aql")
        self.slots = [self._slot(device, number) for number in range(SLOTS)]

    def _slot(self, device: Device, number: int) -> Slot:
        def memory(name: str, kind: Literal["vram", "gtt"]) -> Buffer:
            return device.alloc(4 * self.words, kind, name=f"slot {number} {name}")

        def line(stage: str) -> Timeline:
            return device.timeline(f"slot {number} {stage}")

        return Slot(
            staging=memory("staging", "gtt"),
            source=memory("source", "vram"),
            middle=memory("middle", "vram"),
            result=memory("result", "vram"),
            output=memory("output", "gtt"),
            uploaded=line("uploaded"),
            scaled=line("scaled"),
            transformed=line("transformed"),
            downloaded=line("downloaded"),
            data=np.zeros(0, np.uint32),
        )

    def submit(self, batch: int) -> None:
        """Send batch number `batch`, from 1 on, through all stages."""
        slot = self.slots[batch % SLOTS]
        self.collect(slot)
        slot.batch, slot.data = batch, self._random.integers(0, 1 << 32, self.words, np.uint32)
        slot.staging.write(slot.data)
        self.upload.copy(slot.source, slot.staging)
        self.upload.signal(slot.uploaded, batch)
        groups, last = self.words // GROUP, self.words - 1
        self.first.wait(slot.uploaded.at(batch))
        self.first.launch(self.scale, groups, GROUP, [slot.middle, slot.source, batch])
        self.first.signal(slot.scaled, batch)
        self.second.wait(slot.scaled.at(batch))
        self.second.launch(self.transform, groups, GROUP, [slot.result, slot.middle, last])
        self.finish(slot)
        self.download.wait(slot.transformed.at(batch))
        self.download.copy(slot.output, slot.result)
        self.download.signal(slot.downloaded, batch)

    def finish(self, slot: Slot) -> None:
        """Let the second compute queue say that the batch in a slot is done."""
        self.second.signal(slot.transformed, slot.batch)

    def collect(self, slot: Slot) -> None:
        """Wait until the batch in a slot was downloaded and verify it. Raises WrongResult."""
        if not slot.batch:
            return
        slot.downloaded.at(slot.batch).wait(WAIT_SECONDS)
        found = np.frombuffer(slot.output.read(), np.uint32)
        index = np.arange(self.words, dtype=np.uint32)
        right = (slot.data * np.uint32(slot.batch))[::-1] ^ index * np.uint32(FACTOR)
        if not np.array_equal(found, right):
            at = int(np.argmax(found != right))
            raise WrongResult(
                f"batch {slot.batch}, word {at}: {found[at]:#x} instead of {right[at]:#x}"
            )
        self.verified += 1

    def end(self) -> str:
        """Collect what is under way and say what was verified."""
        for slot in sorted(self.slots, key=lambda one: one.batch):
            self.collect(slot)
        return f"{self.verified} batches of {4 * self.words} bytes are right"
