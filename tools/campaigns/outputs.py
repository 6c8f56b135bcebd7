"""Every output byte of the overlap workload, flipped in its recording, makes `differs`.

On each family the workload is replayed once and what each digest is compared with is kept; then
each byte of each output is flipped, one after the other, and the comparison made again. A few are
replayed whole.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import gputrace
from gputrace.cli.workloads.overlap import BATCHES, WORKLOAD
from gputrace.devices.opening import make_device
from gputrace.families import FAMILIES
from gputrace.replay.comparison import Comparison
from gputrace.replay.player import Player
from gputrace.replay.running import Request, play
from gputrace.trace import events
from gputrace.trace.chunks import describe, pieces
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter
from tools.campaigns import Campaign

COUNT, SAMPLE = 0, 300  # 0: every byte
BATCH_BYTES = 1024
WHOLE = 1
"""Flips that are replayed whole."""


class Looked(NamedTuple):
    """A digest, and the bytes that the replay compared with it."""

    number: int
    event: events.Digest
    live: bytes


def run(campaign: Campaign) -> None:
    """Flip one byte after the other, on one family after the other."""
    share, campaign.count = campaign.count // len(FAMILIES), 0
    for number, target in enumerate(FAMILIES):
        path = campaign.folder / f"overlap-{target}.gtrace"
        with gputrace.record(path), gputrace.open(f"emu:{target}") as device:
            WORKLOAD.run(device, campaign.seed)
        looked, outputs = replayed(path), output_ranges(path)
        places = list(output_bytes(looked, outputs))
        if len(places) != BATCHES * BATCH_BYTES:
            text = f"{len(places)} bytes of {BATCHES} batches of {BATCH_BYTES} bytes"
            campaign.fail(f"{target}: not all of the output is compared: {text}")
        _flip(campaign, path, places, share, campaign.random(number))


def _flip(
    campaign: Campaign, path: Path, places: list[tuple[Looked, int]], share: int, random: Random
) -> None:
    # So many of the bytes, or all of them; a few are replayed whole.
    chosen = random.sample(places, min(share, len(places))) if share else places
    campaign.count += len(chosen)
    for one, at in chosen:
        if not found(one, at, 1 << random.randrange(8)):
            where = f"byte {one.event.address + at:#x} of digest {one.number}"
            campaign.fail(f"{path.stem}: {where}")
        campaign.step()
    for one, at in random.sample(places, WHOLE):
        changed = flipped(path, one, at)
        verdict = play(Request(str(changed)), lambda: False)
        difference = verdict.difference
        if difference is None or difference.address != one.event.address + at:
            campaign.fail(f"{path.stem}: byte {at} of digest {one.number}: {verdict.text}")


def replayed(path: Path) -> list[Looked]:
    """Replay a trace; return what was compared."""
    looked: list[Looked] = []
    with TraceReader(path) as reader:
        device = make_device(str(reader.header.device["name"]))
        player = Player(reader, device, "steps", ended="ended")
        take = player.comparison.take

        def keep(number: int, event: events.Digest) -> None:
            if not event.unstable:
                live = bytes(player.places.view(event.address, event.size, writable=False))
                looked.append(Looked(number, event, live))
            take(number, event)

        player.comparison.take = keep  # type: ignore[method-assign]
        verdict = player.run()
    assert verdict.result.value == "same", verdict
    return looked


def output_ranges(path: Path) -> list[tuple[int, int]]:
    """Return where the pipeline's outputs are."""
    with TraceReader(path) as reader:
        return [
            (event.address, event.size)
            for event in reader
            if isinstance(event, events.Name) and event.name.endswith(" output")
        ]


def output_bytes(
    looked: list[Looked], outputs: list[tuple[int, int]]
) -> Iterator[tuple[Looked, int]]:
    """Yield each byte that a batch put out, by the digest that covers it."""
    for one in looked:
        for address, _ in outputs:
            start = address - one.event.address
            if 0 <= start < one.event.size:
                for at in range(start, start + BATCH_BYTES):
                    yield one, at


def found(one: Looked, at: int, bit: int) -> bool:
    """Say whether a flipped byte of the recording is found where it is, and nowhere else."""
    event, data = one.event, bytearray(one.live)
    data[at] ^= bit
    chunks = tuple(
        describe(bytes(data[offset : offset + length]))
        for offset, length in pieces(event.address, len(data))
    )
    held = {
        chunk: bytes(data[offset : offset + length])
        for chunk, (offset, length) in zip(chunks, pieces(event.address, len(data)), strict=True)
    }

    def read(address: int, size: int) -> bytes:
        return one.live[address - event.address : address - event.address + size]

    comparison = Comparison(read, held.__getitem__)
    comparison.take(one.number, replace(event, chunks=chunks, stored=True))
    difference = comparison.difference
    return difference is not None and difference.address == event.address + at


def flipped(path: Path, one: Looked, at: int) -> Path:
    """Write the trace with one byte of what it says of the GPU's work flipped."""
    target = path.with_name("flipped.gtrace")
    with TraceReader(path) as reader, TraceWriter(target, reader.header) as writer:
        for number, event in reader.numbered():
            match event:
                case events.Header():
                    continue
                case events.Memory() if event.chunks:
                    data = reader.memory(event)
                    writer.memory(event.address, data, event.provenance, event.step)
                case events.Digest(stored=True):
                    held = bytearray(reader.memory(event))
                    if number == one.number:
                        held[at] ^= 1
                    writer.digest(event.address, held, store=True, step=event.step)
                case _:
                    writer.append(event)
        writer.close(events.Outcome("ended"))
    return target
