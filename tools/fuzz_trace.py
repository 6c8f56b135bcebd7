"""Open mutated copies of a trace and fail on anything but the declared errors.

Half of the mutations set the checksums right again, so that what lies behind them is reached. The
process reports its peak resident size and fails above the limit.
"""

import argparse
import random
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import xxhash
import zstandard

from gputrace.errors import TraceError, UsageError
from gputrace.trace import TraceReader, check, repair
from gputrace.trace import events as ev
from gputrace.trace.blocks import CHECK, HEAD, HEADER_SIZE, MAX_LENGTH, PREAMBLE_SIZE, Codec

LIMIT = 256 << 20


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


def visit(path: Path, output: Path) -> None:
    """Do with a file all that the package can do; only declared errors are let pass."""
    for skip in (False, True):
        with (
            suppress(TraceError, UsageError),
            TraceReader(path, skip_damage=skip) as reader,
        ):
            for event in reader:
                if isinstance(event, ev.Memory | ev.Digest):
                    for _ in reader.pieces(event):
                        pass
            reader.state_at(len(reader) // 2)
    with suppress(TraceError, UsageError):
        check(path)
    with suppress(TraceError, UsageError):
        repair(path, output)


def main() -> int:
    """Fuzz and report; the exit status is 1 if more memory was used than allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, help="a sound trace to start from")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", default="0")
    options = parser.parse_args()
    data = options.trace.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "fuzz.gtrace", Path(folder) / "out.gtrace"
        for number in range(options.count):
            path.write_bytes(mutate(data, random.Random(f"{options.seed} {number}")))
            try:
                visit(path, output)
            except BaseException:
                print(f"seed {options.seed!r}, file {number}", file=sys.stderr)
                raise
    # Not getrusage: a process that was started by a larger one inherits that one's peak.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    print(f"{options.count} files, peak resident size {peak / (1 << 20):.0f} MiB")
    return 0 if peak <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
