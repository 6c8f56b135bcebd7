"""Fuzzed files: only declared errors, within 256 MiB of resident memory.

Half of the mutations set the checksums right again, so that what lies behind them is reached; of
these many change the values of events and leave them well-formed. Each file is checked, read,
repaired, counted, and printed as text and as JSON, with and without skipping of damage. The work is
done in processes of their own, whose peak resident size is measured.
"""

import io
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import xxhash
import zstandard

from gputrace.errors import GputraceError
from gputrace.report.counts import count_packets
from gputrace.report.jsonl import JsonView
from gputrace.report.text import TextView
from gputrace.trace import TraceReader, check, repair
from gputrace.trace import events as ev
from gputrace.trace.blocks import (
    CHECK,
    HEAD,
    HEADER_SIZE,
    MAX_LENGTH,
    PREAMBLE_SIZE,
    BlockKind,
    Codec,
)
from tools.campaigns import Campaign
from tools.material import small_traces

COUNT, SAMPLE = 10_000, 60
SLICE = 2_500
"""Files of one process."""
LIMIT = 256 << 20
EDGES = (0, 1, -1, 31, 64, 4095, 2**31, 2**32 - 1, 2**47, 2**63 - 1, -(2**63), 2**64 - 1)


def split(data: bytes) -> list[tuple[bytes, bytes]]:
    """Cut a sound file into (header, stored payload) of its blocks."""
    blocks, at = [], PREAMBLE_SIZE
    while at < len(data):
        head = data[at : at + HEADER_SIZE]
        stored = HEAD.unpack_from(head)[4]
        blocks.append((head, data[at + HEADER_SIZE : at + HEADER_SIZE + stored]))
        at += HEADER_SIZE + stored
    return blocks


def scramble(data: bytes, rng: random.Random) -> bytes:
    """Change, insert, delete or repeat a few bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del changed[at : at + rng.randrange(1, 9)]
            case 3:
                changed[at : at + 1] = (
                    rng.choice((b"\xdd", b"\xdf", b"\xc6", b"\xdb")) + b"\xff" * 4
                )
            case _:
                changed[at : at + 8] = rng.choice((0, 1, 2**63, 2**64 - 1)).to_bytes(8, "little")
    return bytes(changed)


def twist(value: Any, rng: random.Random) -> Any:
    """Change one value somewhere inside what msgpack holds."""
    match value:
        case list() if value:
            at = rng.randrange(len(value))
            return [*value[:at], twist(value[at], rng), *value[at + 1 :]]
        case dict() if value:
            key = rng.choice(list(value))
            return {**value, key: twist(value[key], rng)}
        case bool():
            return not value
        case int():
            near = (value + 1, value - 1, value ^ 1 << rng.randrange(40))
            return max(-(2**63), min(rng.choice((*EDGES, *near)), 2**64 - 1))
        case bytes() if value:
            return scramble(value, rng)
        case str():
            return rng.choice(("", "x", value + "x", "AllocMemoryOfGpu", "kernel", "\x00" * 70_000))
    return value


def rewrite(body: bytes, rng: random.Random) -> bytes:
    """Change the values of some events, and leave them well-formed and as many as they were."""
    try:
        events = list(msgpack.Unpacker(io.BytesIO(body), raw=False, strict_map_key=False))
    except (ValueError, msgpack.UnpackException):
        return scramble(body, rng)  # it was changed before
    if not events or not all(isinstance(event, list) and event for event in events):
        return scramble(body, rng)
    for _ in range(rng.choice((1, 1, 3, 10))):
        at = rng.randrange(len(events))
        if rng.random() < 0.15:
            events[at] = events[rng.randrange(len(events))]
        else:
            events[at] = [events[at][0], *twist(events[at][1:], rng)]
    return b"".join(msgpack.packb(event, use_bin_type=True) for event in events)


def rebuild(head: bytes, stored: bytes, rng: random.Random) -> bytes:
    """Give the block with something changed behind its checksums, which are right again."""
    values = list(HEAD.unpack_from(head))
    if rng.random() < 0.3:
        at = rng.choice((1, 2, 3, 4, 5, 6))
        values[at] = rng.choice((0, 1, 2, 3, 255)) if at < 3 else rng.randrange(1 << 16)
        if at == 6 or rng.random() < 0.3:
            values[7] = rng.randbytes(16)
    else:
        body = stored
        if values[2] == Codec.ZSTD:
            body = zstandard.ZstdDecompressor().decompress(stored)
        if values[1] == BlockKind.EVENTS and rng.random() < 0.6:
            body = rewrite(body, rng)
        else:
            body = scramble(body, rng) if rng.random() < 0.9 else bytes(rng.randrange(1 << 21))
        values[5] = min(len(body), MAX_LENGTH)
        stored = zstandard.ZstdCompressor(level=1).compress(body)
        values[2] = Codec.ZSTD
        if len(stored) > len(body):
            values[2], stored = Codec.RAW, body
        values[4] = len(stored)
    values[8] = xxhash.xxh3_64_intdigest(stored)
    head = HEAD.pack(*values)
    return head + CHECK.pack(xxhash.xxh3_64_intdigest(head)) + stored


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Give a mutated copy of a sound file."""
    if rng.random() < 0.4:
        return scramble(data, rng)
    blocks = [head + stored for head, stored in split(data)]
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(len(blocks))
        head, stored = blocks[at][:HEADER_SIZE], blocks[at][HEADER_SIZE:]
        match rng.randrange(6):
            case 0:
                blocks[at] = blocks[rng.randrange(len(blocks))]
            case 1:
                blocks.insert(at, blocks[rng.randrange(len(blocks))] * rng.choice((1, 1, 50)))
            case _ if HEAD.unpack_from(head)[4] == len(stored):
                blocks[at] = rebuild(head, stored, rng)
            case _:
                pass
    return data[:PREAMBLE_SIZE] + b"".join(blocks)


def read(path: Path, skip: bool) -> None:
    """Read all of a file."""
    with TraceReader(path, skip_damage=skip) as reader:
        for event in reader:
            if isinstance(event, ev.Memory | ev.Digest):
                for _ in reader.pieces(event):
                    pass
        reader.state_at(len(reader) // 2)


def show(path: Path, skip: bool) -> None:
    """Decode and print all of a file."""
    with TraceReader(path, skip_damage=skip) as reader:
        for _ in TextView(reader):
            pass
        for _ in JsonView(reader):
            pass
        count_packets(reader)


def visit(path: Path, output: Path) -> None:
    """Do with a file all that the package can do; only declared errors are let pass."""
    steps: list[Callable[[], object]] = [
        lambda: read(path, False), lambda: read(path, True),
        lambda: show(path, False), lambda: show(path, True),
        lambda: check(path), lambda: repair(path, output),
    ]  # fmt: skip
    for step in steps:
        with suppress(GputraceError):
            step()


def peak() -> int:
    """Return the peak resident size of this process in bytes."""
    # Not getrusage: a process that was started by a larger one inherits that one's peak.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run(campaign: Campaign) -> None:
    """Fuzz slices of files, each in a process of its own."""
    traces = small_traces(campaign.folder)
    largest = 0
    for first in range(0, campaign.count, SLICE):
        last = min(first + SLICE, campaign.count)
        command = [sys.executable, "-m", "tools.campaigns.fuzz", str(campaign.seed), str(first),
                   str(last), str(campaign.folder), *map(str, traces)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        campaign.step(last - first)
        if done.returncode:
            campaign.fail(f"files {first} to {last}: {done.stderr.strip()[-2000:]}")
            continue
        largest = max(largest, int(done.stdout))
    campaign.facts["peak MiB"] = largest >> 20
    if largest > LIMIT:
        campaign.fail(f"peak resident size {largest >> 20} MiB, the limit is {LIMIT >> 20} MiB")


def work(seed: str, first: int, last: int, folder: Path, traces: list[Path]) -> None:
    """Fuzz one slice and print the peak."""
    sound = [path.read_bytes() for path in traces]
    path, output = folder / "fuzz.gtrace", folder / "out.gtrace"
    for number in range(first, last):
        rng = random.Random(f"{seed} {number}")
        path.write_bytes(mutate(rng.choice(sound), rng))
        try:
            visit(path, output)
        except BaseException:
            print(f"seed {seed}, file {number}", file=sys.stderr)
            raise
    print(peak())


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]),
         [Path(name) for name in sys.argv[5:]])  # fmt: skip
