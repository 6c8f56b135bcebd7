"""(f) An engine stops: one packet in the middle of a ring has a wrong count.

A telemetry writer appends samples from the compute queue and signals after each. At the end of a
page it flushes caches with an ACQUIRE_MEM of its own making, which was written for another
generation: gfx10 added a dword to that packet, so the header's count is one too high on gfx9 and,
from a port that went the other way, one too low on gfx11.
"""

import struct

import numpy as np

from gputrace.cli.workloads.frame import Workload, WrongResult, main
from gputrace.driver import Device

SAMPLES = 120
SAMPLE_WORDS = 8
PAGE_SAMPLES = 64
ACQUIRE_MEM = 0x58
ALL_MEMORY = (0xFFFF_FFFF, 0x00FF_FFFF, 0, 0, 10)
"""Size, base and poll interval of an ACQUIRE_MEM over everything."""


def flush_packet(right: int) -> bytes:
    """Build the cache flush, of another length than the `right` one of this generation."""
    words = [0, *ALL_MEMORY]
    if 1 + len(words) == right:
        words.append(0)  # the bug: gfx9 has no dword for GCR_CNTL
    # ... and the other bug: gfx10 and later need it
    header = 3 << 30 | (len(words) - 1) << 16 | ACQUIRE_MEM << 8
    return struct.pack(f"<{len(words) + 1}I", header, *words)


def run(device: Device, seed: int) -> str:
    """Write all samples and verify them."""
    queue = device.compute_queue("pm4")
    log = device.alloc(SAMPLES * SAMPLE_WORDS * 4, name="log")
    samples = np.random.default_rng(seed).integers(0, 1 << 32, (SAMPLES, SAMPLE_WORDS), np.uint32)
    for number, sample in enumerate(samples):
        if number and number % PAGE_SAMPLES == 0:
            right = device.family.pm4.packet("AcquireMem").WORDS
            queue.submit(flush_packet(right), "flush of a page")
        queue.write(log, sample.tobytes(), number * sample.nbytes)
        queue.signal()
    queue.synchronize(10.0)
    if log.read() != samples.tobytes():
        raise WrongResult("a sample is wrong")
    return f"{SAMPLES} samples are right"


WORKLOAD = Workload(
    name="wrong_count",
    letter="f",
    bug="The compute engine stops at a packet whose header has the wrong count.",
    ending="fault",
    verdict="fault",
    minimum=("compute 0: ACQUIRE_MEM with a count of another generation",),
    run=run,
)

if __name__ == "__main__":
    main(WORKLOAD)
