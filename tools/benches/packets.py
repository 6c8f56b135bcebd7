"""Packets as values: decoding and encoding typical ones, and reading them back out of a trace."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import gputrace
from gputrace.formats import pm4, sdma
from gputrace.formats.operations import Compare
from gputrace.formats.packets import Dialect, Packet
from gputrace.report.text import TextView
from gputrace.submitted.stream import submissions
from gputrace.trace.reader import TraceReader
from tools.benches import Options, Row, at_most, seconds

ROUNDS = 9


def rows(options: Options) -> Iterator[Row]:
    """Measure all rows."""
    count = 2_000 if options.quick else 20_000
    wait = pm4.WaitRegMem(function=Compare.GE, address=0x7F00_0000_1000, reference=5)
    store = pm4.WriteData(address=0x7F00_0000_1000, data=(1, 2))
    copy = sdma.SDMA_6_0.packet("CopyLinear")(
        count=4095, source=0x7F00_0000_1000, destination=0x7F00_0000_2000
    )
    for dialect, packet in (
        (pm4.PM4_GFX9, wait), (pm4.PM4_GFX9, store), (sdma.SDMA_6_0, copy)
    ):  # fmt: skip
        yield from codec(dialect, packet, count)
    yield from looking(options.folder, 50 if options.quick else 500)


def codec(dialect: Dialect[Packet], packet: Packet, count: int) -> Iterator[Row]:
    """Time one packet there and back; the median of several rounds."""
    words, name = packet.encode(), packet.VENDOR_NAME

    def decode() -> None:
        for _ in range(count):
            dialect.decode(words, 0)

    def encode() -> None:
        for _ in range(count):
            packet.encode()

    for what, work in (("decode", decode), ("encode", encode)):
        times = [seconds(work, time.process_time) for _ in range(ROUNDS)]
        yield at_most(f"{what} {name} ({dialect.name})", median(times) / count * 1e6, "us", 3)


def looking(folder: Path, turns: int) -> Iterator[Row]:
    """Time how fast the packets of a trace are decoded and printed."""
    path = folder / "packets.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx1100") as device:
        buffer, queue = device.alloc(4096, name="buffer"), device.compute_queue("pm4")
        for turn in range(turns):
            for step in range(20):
                queue.write(buffer, turn.to_bytes(4, "little"), 4 * step)
            queue.synchronize(10.0)
    with TraceReader(path) as reader:
        start = time.process_time()
        count = sum(len(one.packets) for one in submissions(reader))
        yield Row("packets of a trace decoded", count / (time.process_time() - start), "a second")
        start = time.process_time()
        lines = sum(1 for _ in TextView(reader))
        yield Row("lines of dump", lines / (time.process_time() - start), "a second")
