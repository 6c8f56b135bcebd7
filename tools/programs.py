"""Random programs over several queues and GPUs, beside what their steps leave one after another.

Each step reads and writes ranges of shared buffers; it waits on the GPU for every earlier step of
another queue that touched what it touches, and for nothing else. Any schedule of the engines must
then leave the bytes that numpy gets.
"""

import random
from pathlib import Path

import numpy as np

from gputrace import driver
from gputrace.driver.memory import Kind

KERNELS = Path(__file__).parents[1] / "tests" / "kernels" / "built"
BYTES = 2048
BLOCK = 256
KINDS: tuple[Kind, ...] = ("vram", "gtt", "userptr", "vram")
Block = tuple[int, int]
Step = tuple[driver.Queue, driver.Point]


class Model:
    """Buffers as numpy arrays, and who touched which block of them last."""

    def __init__(self, count: int) -> None:
        self.arrays = [np.zeros(BYTES, np.uint8) for _ in range(count)]
        self.writer: dict[Block, Step] = {}
        self.readers: dict[Block, list[Step]] = {}

    def wanted(self, reads: list[Block], writes: list[Block]) -> list[Step]:
        """Give the steps that must come first: (queue, point)."""
        found = [self.writer[block] for block in (*reads, *writes) if block in self.writer]
        for block in writes:
            found += self.readers.get(block, [])
        return found

    def touched(self, step: Step, reads: list[Block], writes: list[Block]) -> None:
        """Note what a step read and wrote."""
        for block in reads:
            self.readers.setdefault(block, []).append(step)
        for block in writes:
            self.writer[block] = step
            self.readers[block] = []


def blocks(buffer: int, offset: int, size: int) -> list[Block]:
    """Give the blocks of a range of a buffer."""
    return [(buffer, at) for at in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1)]


class Program:
    """Steps on the queues of devices; every one leaves a point on its queue's timeline."""

    def __init__(self, devices: list[driver.Device], seed: int | str) -> None:
        self.rng = random.Random(seed)
        self.buffers = [
            self.rng.choice(devices).alloc(BYTES, kind, peers=devices) for kind in KINDS
        ]
        self.model = Model(len(self.buffers))
        self.queues: list[driver.Queue] = []
        self.kernels: dict[driver.Device, driver.Kernel] = {}
        for device in devices:
            self.queues += [device.compute_queue("pm4"), device.compute_queue("aql")]
            self.queues += [device.copy_queue(), device.copy_queue()]
            code = KERNELS / device.target / "seed-O3.co"
            if code.exists():
                self.kernels[device] = device.load(code)["fill"]

    def small_rings(self) -> None:
        """Use queues whose rings and uploads are full after a few steps instead."""
        devices = dict.fromkeys(queue.device for queue in self.queues)
        self.queues.clear()
        for device in devices:
            compute = device.compute_queue("pm4", 4096), device.compute_queue("aql", 4096)
            for queue in compute:
                queue.upload_bytes = 4096
            self.queues += [*compute, device.copy_queue()]

    def step(self) -> None:
        """Let some queue do something."""
        queue, rng = self.rng.choice(self.queues), self.rng
        if isinstance(queue, driver.SdmaQueue):
            self.copy(queue) if rng.random() < 0.6 else self.fill(queue)
            return
        assert isinstance(queue, driver.ComputeQueue)
        if queue.device in self.kernels and rng.random() < 0.7:
            self.launch(queue)
        else:
            self.write(queue)

    def order(self, queue: driver.Queue, reads: list[Block], writes: list[Block]) -> None:
        """Let a queue wait for what must come before."""
        for other, point in self.model.wanted(reads, writes):
            if other is not queue:
                queue.wait(point)

    def done(
        self, queue: driver.Queue, point: driver.Point, reads: list[Block], writes: list[Block]
    ) -> None:
        """Note the step that has just been submitted."""
        self.model.touched((queue, point), reads, writes)

    def copy(self, queue: driver.SdmaQueue) -> None:
        """Copy bytes of one buffer to another."""
        size = self.rng.randrange(1, BYTES // 2)
        source, target = self.rng.sample(range(len(self.buffers)), 2)
        start, to = self.rng.randrange(BYTES - size), self.rng.randrange(BYTES - size)
        reads, writes = blocks(source, start, size), blocks(target, to, size)
        self.order(queue, reads, writes)
        queue.copy(self.buffers[target], self.buffers[source], size, to, start)
        self.done(queue, queue.signal(), reads, writes)
        arrays = self.model.arrays
        arrays[target][to : to + size] = arrays[source][start : start + size]

    def fill(self, queue: driver.SdmaQueue) -> None:
        """Fill dwords of a buffer."""
        target, value = self.rng.randrange(len(self.buffers)), self.rng.getrandbits(32)
        start = 4 * self.rng.randrange(BYTES // 8)
        size = 4 * self.rng.randrange(1, BYTES // 8)
        writes = blocks(target, start, size)
        self.order(queue, [], writes)
        queue.fill(self.buffers[target], value, size, start)
        self.done(queue, queue.signal(), [], writes)
        self.model.arrays[target].view(np.uint32)[start // 4 : (start + size) // 4] = value

    def write(self, queue: driver.ComputeQueue) -> None:
        """Store 64 bytes from the packet."""
        target, data = self.rng.randrange(len(self.buffers)), self.rng.randbytes(64)
        start = 4 * self.rng.randrange((BYTES - 64) // 4)
        writes = blocks(target, start, 64)
        self.order(queue, [], writes)
        queue.write(self.buffers[target], data, start)
        self.done(queue, queue.signal(), [], writes)
        self.model.arrays[target][start : start + 64] = np.frombuffer(data, np.uint8)

    def launch(self, queue: driver.ComputeQueue) -> None:
        """Fill dwords of a buffer by a kernel with a partial last group."""
        target, value = self.rng.randrange(len(self.buffers)), self.rng.getrandbits(32)
        words = self.rng.randrange(1, BYTES // 4)
        start = 4 * self.rng.randrange(BYTES // 4 - words)
        writes = blocks(target, start, 4 * words)
        self.order(queue, [], writes)
        place = self.buffers[target].address + start
        point = queue.launch(
            self.kernels[queue.device], threads=words, block=64, args=[place, value]
        )
        self.done(queue, point, [], writes)
        self.model.arrays[target].view(np.uint32)[start // 4 : start // 4 + words] = value

    def differing(self) -> list[int]:
        """Wait for everything; give the numbers of buffers that are not what they should be."""
        for queue in self.queues:
            queue.synchronize(60.0)
        pairs = zip(self.buffers, self.model.arrays, strict=True)
        return [at for at, (buffer, array) in enumerate(pairs) if buffer.read() != array.tobytes()]
