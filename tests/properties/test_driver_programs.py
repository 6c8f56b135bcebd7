"""Random programs over several queues and GPUs do what the same steps do one after another.

Each step reads and writes ranges of shared buffers; it waits on the GPU for every earlier step of
another queue that touched what it touches, and for nothing else. Any schedule of the engines must
then leave the bytes that numpy gets.
"""

import random

import numpy as np
import pytest

from gputrace import driver
from gputrace.families import FAMILIES
from tests.scenarios.conftest import RUNNERS, load

BYTES = 2048
BLOCK = 256


class Model:
    """Buffers as numpy arrays, and who touched which block of them last."""

    def __init__(self, count):
        self.arrays = [np.zeros(BYTES, np.uint8) for _ in range(count)]
        self.writer, self.readers = {}, {}

    def wanted(self, reads, writes):
        """Give the steps that must come first: (queue, point)."""
        found = [self.writer[block] for block in (*reads, *writes) if block in self.writer]
        for block in writes:
            found += self.readers.get(block, [])
        return found

    def touched(self, step, reads, writes):
        for block in reads:
            self.readers.setdefault(block, []).append(step)
        for block in writes:
            self.writer[block] = step
            self.readers[block] = []


def blocks(buffer, offset, size):
    return [(buffer, at) for at in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1)]


class Program:
    """Steps on the queues of devices; every one leaves a point on its queue's timeline."""

    def __init__(self, devices, seed):
        self.rng = random.Random(seed)
        self.buffers = [
            self.rng.choice(devices).alloc(BYTES, kind, peers=devices)
            for kind in ("vram", "gtt", "userptr", "vram")
        ]
        self.model, self.queues, self.kernels = Model(len(self.buffers)), [], {}
        for device in devices:
            self.queues += [device.compute_queue("pm4"), device.compute_queue("aql")]
            self.queues += [device.copy_queue(), device.copy_queue()]
            if device.target in RUNNERS:
                self.kernels[device] = load(device)["fill"]

    def step(self):
        queue, rng = self.rng.choice(self.queues), self.rng
        if isinstance(queue, driver.SdmaQueue):
            return self.copy(queue) if rng.random() < 0.6 else self.fill(queue)
        if queue.device in self.kernels and rng.random() < 0.7:
            return self.launch(queue)
        return self.write(queue)

    def order(self, queue, reads, writes):
        for other, point in self.model.wanted(reads, writes):
            if other is not queue:
                queue.wait(point)

    def done(self, queue, point, reads, writes):
        self.model.touched((queue, point), reads, writes)

    def copy(self, queue):
        size = self.rng.randrange(1, BYTES // 2)
        source, target = self.rng.sample(range(len(self.buffers)), 2)
        start, to = self.rng.randrange(BYTES - size), self.rng.randrange(BYTES - size)
        reads, writes = blocks(source, start, size), blocks(target, to, size)
        self.order(queue, reads, writes)
        queue.copy(self.buffers[target], self.buffers[source], size, to, start)
        self.done(queue, queue.signal(), reads, writes)
        arrays = self.model.arrays
        arrays[target][to : to + size] = arrays[source][start : start + size]

    def fill(self, queue):
        target, value = self.rng.randrange(len(self.buffers)), self.rng.getrandbits(32)
        start = 4 * self.rng.randrange(BYTES // 8)
        size = 4 * self.rng.randrange(1, BYTES // 8)
        writes = blocks(target, start, size)
        self.order(queue, [], writes)
        queue.fill(self.buffers[target], value, size, start)
        self.done(queue, queue.signal(), [], writes)
        self.model.arrays[target].view(np.uint32)[start // 4 : (start + size) // 4] = value

    def write(self, queue):
        target, data = self.rng.randrange(len(self.buffers)), self.rng.randbytes(64)
        start = 4 * self.rng.randrange((BYTES - 64) // 4)
        writes = blocks(target, start, 64)
        self.order(queue, [], writes)
        queue.write(self.buffers[target], data, start)
        self.done(queue, queue.signal(), [], writes)
        self.model.arrays[target][start : start + 64] = np.frombuffer(data, np.uint8)

    def launch(self, queue):
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

    def check(self):
        for queue in self.queues:
            queue.synchronize(60.0)
        for buffer, array in zip(self.buffers, self.model.arrays, strict=True):
            assert buffer.read() == array.tobytes()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", FAMILIES)
def test_a_program_over_queues_of_two_gpus_does_what_its_steps_do(target, seed):
    with driver.open(f"emu:{target}x2,schedule={seed}") as device:
        program = Program([device, *device.peers], f"{target}{seed}")
        for _ in range(60):
            program.step()
        program.check()


@pytest.mark.parametrize("seed", range(2))
def test_small_rings_and_uploads_change_nothing(seed):
    with driver.open(f"emu:gfx942,schedule={seed}") as device:
        program = Program([device], seed)
        program.queues = [
            device.compute_queue("pm4", 4096), device.compute_queue("aql", 4096),
        ]  # fmt: skip
        for queue in program.queues:
            queue.upload_bytes = 4096
        for _ in range(150):
            program.step()
        program.check()
