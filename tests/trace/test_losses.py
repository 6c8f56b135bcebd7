"""Damage in blocks of memory: a repair saves all the rest, names the loss, and is sound."""

import random
from collections import Counter
from pathlib import Path

import pytest

import gputrace
from gputrace.cli.main import run
from gputrace.submitted.image import Image
from gputrace.trace import TraceReader, TraceWriter, check, repair
from gputrace.trace import events as ev
from gputrace.trace.blocks import MAX_LENGTH, BlockHeader, BlockKind, number_tag
from gputrace.trace.chunks import describe
from gputrace.trace.codec import encode
from gputrace.trace.reader import BlockReader, Scan
from gputrace.trace.writer import BlockFile
from tests.trace.samples import HEADER, write_small

TRACES = Path(__file__).parents[2] / "traces"

Kept = Counter[tuple[int, bytes]]


def chunk_headers(path: Path) -> list[BlockHeader]:
    file = BlockReader(path)
    try:
        return [header for header in Scan(file) if header.kind is BlockKind.CHUNK]
    finally:
        file.close()


def chunk_blocks(path: Path) -> list[range]:
    return [range(header.offset, header.end) for header in chunk_headers(path)]


def flipped(source: Path, at: int, bit: int, target: Path) -> Path:
    data = bytearray(source.read_bytes())
    data[at] ^= 1 << bit
    target.write_bytes(data)
    return target


def contents(path: Path, skip_damage: bool = False) -> tuple[list[ev.Event], Kept, Counter[int]]:
    """Give the events without chunks, pieces of memory by address, and bytes lost by address."""
    events, kept, lost = list[ev.Event](), Kept(), Counter[int]()
    with TraceReader(path, skip_damage=skip_damage) as reader:
        for event in reader:
            if isinstance(event, ev.Memory) or (isinstance(event, ev.Digest) and event.stored):
                kept.update(reader.pieces(event))
            elif isinstance(event, ev.Lost):
                lost[event.address] += event.size
            if not isinstance(event, ev.Memory | ev.Digest | ev.Lost):
                events.append(event)
    return events, kept, lost


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("losses") / "small.gtrace"
    write_small(path)
    return path


@pytest.mark.parametrize(
    ("name", "flips"), [("spin_lock-gfx1100", 15), ("hip_freed-gfx90a", 4), ("small", 20)]
)
def test_a_flip_in_a_block_of_memory_loses_that_memory_and_no_more(
    name: str, flips: int, small: Path, tmp_path: Path
) -> None:
    source = small if name == "small" else TRACES / f"{name}.gtrace"
    rng, out = random.Random(name), tmp_path / "out.gtrace"
    blocks = chunk_blocks(source)
    events, kept, before = contents(source)
    for _ in range(flips):
        at, bit = rng.choice(rng.choice(blocks)), rng.randrange(8)
        damaged = flipped(source, at, bit, tmp_path / "damaged.gtrace")
        result = repair(damaged, out)
        report = check(out)
        assert report.sound, f"bit {bit} of byte {at}: {report.damage}"
        assert contents(out) == contents(damaged, skip_damage=True)
        assert len(report.lost) - sum(before.values()) // 4096 == len(result.memory) > 0
        left, saved, lost = contents(out)
        assert left == events
        assert saved <= kept
        gone = Counter[int]()
        for address, data in (kept - saved).elements():
            gone[address] += len(data)
        assert gone == lost - before


def record_written(path: Path) -> bytes:
    """Record a run that copies what the CPU wrote, and give that."""
    data = random.Random(5).randbytes(1 << 16)
    with gputrace.record(path), gputrace.open("emu:gfx1100") as device:
        source, target = device.alloc(1 << 16, name="in"), device.alloc(1 << 16, name="out")
        source.write(data)
        queue = device.copy_queue()
        queue.copy(target, source)
        queue.synchronize(5.0)
    return data


def test_a_replay_is_refused_for_memory_that_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.gtrace"
    data = record_written(path)
    with TraceReader(path) as reader:
        written = next(
            event for event in reader
            if isinstance(event, ev.Memory) and reader.memory(event) == data
        )  # fmt: skip
    tagged = {header.tag: header for header in chunk_headers(path)}
    flipped(path, tagged[written.chunks[0].digest].end - 1, 0, path)
    name = f"{written.chunks[0].size} bytes at {written.address:#x}, written by the CPU"
    assert run(["replay", str(path)]) == 2
    assert "block" in capsys.readouterr().err
    for command in (["info"], ["dump"], ["dump", "--json"], ["dump", "--events"]):
        assert run([*command, "--skip-damage", str(path)]) == 0
        assert "checksum of the payload is wrong" in "".join(capsys.readouterr())
    assert run(["repair", str(path)]) == 0
    assert f"lost: {name}" in capsys.readouterr().out
    assert run(["check", str(path)]) == 0
    assert f"lost: {name}" in capsys.readouterr().out
    assert run(["replay", str(path)]) == 7
    assert name in capsys.readouterr().out
    assert run(["info", str(path)]) == 0
    assert f"cannot be replayed: lost with a damaged block: {name}" in capsys.readouterr().out
    for command in ("minimize", "bisect"):
        assert run([command, str(path)]) == 2
        assert name in capsys.readouterr().err


def test_a_replay_is_refused_for_events_that_are_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.gtrace"
    record_written(path)
    file = BlockReader(path)
    blocks = [header for header in Scan(file) if header.kind is BlockKind.EVENTS]
    file.close()
    flipped(path, blocks[len(blocks) // 2].end - 1, 0, path)
    assert run(["repair", str(path)]) == 0
    capsys.readouterr()
    assert run(["check", str(path)]) == 0
    assert "lost: " in capsys.readouterr().out
    assert run(["replay", str(path)]) == 7
    assert "of its events were lost" in capsys.readouterr().out


def test_a_result_of_which_the_hash_is_left_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, path = TRACES / "spin_lock-gfx1100.gtrace", tmp_path / "t.gtrace"
    with TraceReader(source) as reader:
        kept = next(one for one in reader if isinstance(one, ev.Digest) and one.stored)
    (block,) = [one for one in chunk_headers(source) if one.tag == kept.chunks[0].digest]
    flipped(source, block.offset + 9, 6, path)
    assert run(["repair", str(path)]) == 0
    assert "0 events and " in capsys.readouterr().out
    assert run(["check", str(path)]) == 0
    assert "their hash is left" in capsys.readouterr().out
    assert run(["replay", "--expect", "recorded", str(path)]) == 0
    capsys.readouterr()
    assert run(["dump", str(path)]) == 0
    name = f"{kept.chunks[0].size} bytes at {kept.address:#x}, written by the GPU"
    assert f"lost with a damaged block: {name}" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(4))
def test_lost_memory_is_not_known_until_it_is_stored_anew(tmp_path: Path, seed: int) -> None:
    rng, base, size = random.Random(seed), 0x7F00_0000_0000, 1 << 16
    model: list[int | None] = [0] * size
    path = tmp_path / "t.gtrace"
    with TraceWriter(path, HEADER) as writer:
        writer.append(ev.Map(base, size, "fd:3", 0, 3))
        for _ in range(60):
            at = rng.randrange(size)
            length = min(rng.choice((1, 300, 5000, 20_000)), size - at)
            if rng.random() < 0.3:
                writer.append(ev.Lost(base + at, length, "cpu"))
                model[at : at + length] = [None] * length
            else:
                data = rng.randbytes(length)
                writer.memory(base + at, data, "cpu")
                model[at : at + length] = data
    with TraceReader(path) as reader:
        image = Image(reader)
        for event in reader:
            image.apply(event)
        for _ in range(300):
            at = rng.randrange(size)
            length = min(rng.choice((1, 16, 3000)), size - at)
            known = [byte for byte in model[at : at + length] if byte is not None]
            expected = bytes(known) if len(known) == length else None
            assert image.read(base + at, length) == expected


def test_what_becomes_too_long_for_its_block_goes_into_several(tmp_path: Path) -> None:
    path, pieces = tmp_path / "t.gtrace", [random.Random(n).randbytes(64) for n in range(2)]
    mixed = tuple(describe(pieces[at % 2]) for at in range(1000))
    events = [HEADER, *(ev.Memory(number << 32, "cpu", b"", mixed) for number in range(30))]
    file = BlockFile(path, level=1)
    for piece in pieces:
        file.append(BlockKind.CHUNK, piece, describe(piece).digest)
    body = b"".join(map(encode, events))
    file.append(BlockKind.EVENTS, body, number_tag(0, len(events)))
    file.close()
    assert MAX_LENGTH // 2 < len(body) <= MAX_LENGTH
    flipped(path, chunk_blocks(path)[0].stop - 1, 0, path)
    assert len(repair(path).memory) == 30 * 500
    report = check(path)
    assert report.sound, report.damage
    with TraceReader(path) as reader:
        saved = [event for event in reader if isinstance(event, ev.Memory | ev.Lost)]
        assert len(reader) == len(saved) + 1 == 30 * 1000 + 1
    assert [(one.address, one.size) for one in saved] == [
        ((number << 32) + 64 * at, 64) for number in range(30) for at in range(1000)
    ]
