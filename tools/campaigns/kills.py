"""A recorded program killed at random points: no doorbell that was rung is missing in its trace.

The witness is a page of shared memory. A stub around the device, inside of the recorder, counts
there each doorbell that really rings, with its value; gputrace knows nothing of it. Each family has
its turn.
"""

import mmap
import os
import signal
import struct
import time
from pathlib import Path
from random import Random
from typing import Any

from gputrace.capture.compare import Comparer
from gputrace.capture.recorder import Recorder
from gputrace.capture.session import header_of
from gputrace.devices.emulated import EmulatedKfd
from gputrace.driver import open_kfd
from gputrace.kfd import host
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.repair import repair
from gputrace.trace.writer import TraceWriter
from tools.campaigns import Campaign

COUNT, SAMPLE = 1000, 10
ROUNDS = 400
_ENTRY = struct.Struct("<QQ")
LONGEST = 0.15
"""Seconds from its start after which the program is killed at the latest."""


class Witness:
    """The device, but each doorbell is noted in shared memory as it rings."""

    def __init__(self, kfd: EmulatedKfd, page: mmap.mmap) -> None:
        self._kfd, self._page, self._count = kfd, page, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kfd, name)

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Ring, then count."""
        self._kfd.doorbell(address, value, bits)
        self._count += 1
        self._page[16 * self._count : 16 * self._count + 16] = _ENTRY.pack(self._count, value)
        self._page[:8] = self._count.to_bytes(8, "little")


def run(campaign: Campaign) -> None:
    """Start a program, kill it somewhere, and compare its trace with what the witness saw."""
    complete = seen = 0
    Comparer()  # compiled once, before there are children
    host.fence()
    for number in campaign.numbers():
        random, path = campaign.random(number), campaign.folder / "killed.gtrace"
        page = mmap.mmap(-1, 16 * (4 * ROUNDS + 2))
        child = os.fork()
        if not child:
            _program(path, page, random, campaign.target(number))
        while page[8] == 0:  # the program has a long way to its first doorbell
            time.sleep(0.001)
        time.sleep(random.random() * LONGEST)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        rung = int.from_bytes(page[:8], "little")
        complete += rung == 4 * ROUNDS
        seen += rung
        problem = _problem(path, page, rung)
        if problem:
            where = campaign.target(number)
            campaign.fail(f"kill {number} on {where}, {rung} doorbells: {problem}")
        path.unlink(missing_ok=True)
    campaign.facts["doorbells rung"] = seen
    campaign.facts["ended before the kill"] = complete


def _program(path: Path, page: mmap.mmap, random: Random, target: str) -> None:
    try:
        device = EmulatedKfd(target)
        writer = TraceWriter(path, header_of(device), level=random.choice([0, 1]))
        with open_kfd(Recorder(Witness(device, page), writer)) as opened:
            out = opened.alloc(1 << 16)
            queues = [opened.compute_queue(), opened.copy_queue()]
            page[8] = 1
            for turn in range(ROUNDS):
                out.write(random.randbytes(random.randrange(1, 1 << 12)), 1 << 12)
                for queue in queues:
                    queue.signal()
                queues[turn % 2].signal().wait()
                queues[1].fill(out, turn, 4096)
    finally:
        page[8] = 1
        os._exit(0)


def _problem(path: Path, page: mmap.mmap, rung: int) -> str:
    if not path.exists():
        return "no trace" if rung else ""
    expected = [_ENTRY.unpack_from(page, 16 * n) for n in range(1, rung + 1)]
    for repaired in (False, True):
        if repaired and expected:
            repair(path)
        with TraceReader(path) as reader:
            found = [
                (event.submission, event.value)
                for event in reader
                if isinstance(event, events.DoorbellIntent)
            ]
        # One more may be in the file: written down, and killed before it was rung or counted.
        if found[: len(expected)] != expected or len(found) > len(expected) + 1:
            what = "after repair, " if repaired else ""
            return f"{what}the trace has {len(found)} doorbells, or others"
    return ""
