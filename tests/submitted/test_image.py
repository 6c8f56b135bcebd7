"""The image of memory, held against a plain dictionary of bytes."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gputrace.formats.ioctl import AllocMemoryOfGpu, FreeMemoryOfGpu
from gputrace.submitted.image import PAGE, Image
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

BASE = 0x7F00_0000_0000
SIZE = 1 << 20


def alloc(handle: int, address: int, size: int) -> events.Ioctl:
    made = AllocMemoryOfGpu(va_addr=address, size=size, gpu_id=1, flags=0, handle=handle)
    raw = made.to_bytes()
    return events.Ioctl("kfd", "AllocMemoryOfGpu", 0, raw, raw)


def free(handle: int) -> events.Ioctl:
    raw = FreeMemoryOfGpu(handle=handle).to_bytes()
    return events.Ioctl("kfd", "FreeMemoryOfGpu", 0, raw, raw)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.gtrace"


def images(path: Path) -> Iterator[tuple[events.Event, Image]]:
    with TraceReader(path) as reader:
        image = Image(reader)
        for event in reader:
            image.apply(event)
            yield event, image


@pytest.mark.parametrize("seed", range(4))
def test_reads_give_what_was_stored_last(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    model = bytearray(SIZE)
    after = []
    with TraceWriter(path, events.Header("test")) as writer:
        writer.append(alloc(1, BASE, SIZE))
        for _ in range(60):
            at = rng.randrange(SIZE)
            size = min(rng.choice((1, 8, 300, 5000, 20_000, 200_000)), SIZE - at)
            data = rng.randbytes(size)
            writer.memory(BASE + at, data, "cpu")
            model[at : at + size] = data
        writer.append(events.HostStore(BASE + 77, b"gate"))
        model[77:81] = b"gate"
        after = [(rng.randrange(SIZE), rng.randrange(1, 70_000)) for _ in range(50)]
    with TraceReader(path) as reader:
        image = Image(reader)
        for event in reader:
            image.apply(event)
        for at, size in [(0, SIZE), *((at, min(size, SIZE - at)) for at, size in after)]:
            assert image.read(BASE + at, size) == model[at : at + size]


def test_holes_are_told_from_zeros_and_freed_memory_is_gone(path: Path) -> None:
    with TraceWriter(path, events.Header("test")) as writer:
        writer.append(alloc(1, BASE, 2 * PAGE))
        writer.append(events.Map(BASE, 2 * PAGE, "fd:3", 0, 3))
        writer.memory(BASE, b"code", "cpu")
        writer.append(free(1))
        writer.append(alloc(2, BASE, PAGE))
    seen = [
        (image.read(BASE, 4), image.read(BASE + PAGE, 4), image.read(BASE + PAGE - 2, 4))
        for event, image in images(path)
        if not isinstance(event, events.Header)
    ]
    zeros = bytes(4)
    assert seen == [
        (zeros, zeros, zeros),
        (zeros, zeros, zeros),
        (b"code", zeros, zeros),
        (None, None, None),
        (zeros, None, None),
    ]


def test_what_the_gpu_left_is_known_where_the_trace_keeps_it(path: Path) -> None:
    with TraceWriter(path, events.Header("test")) as writer:
        writer.append(alloc(1, BASE, 4 * PAGE))
        writer.memory(BASE + 8, b"by the CPU", "cpu")
        writer.digest(BASE, b"G" * PAGE, store=True)
        writer.digest(BASE + PAGE, b"U" * PAGE, store=True, unstable=True)
        writer.digest(BASE + 2 * PAGE, b"H" * PAGE, store=False)
        writer.memory(BASE + 100, b"again", "cpu")
    with TraceReader(path) as reader:
        image = Image(reader)
        for event in reader:
            image.apply(event)
        assert image.read(BASE, 4) == b"GGGG"
        assert image.read(BASE + 98, 8) == b"GGagainG"
        assert image.read(BASE + PAGE, 4) == image.read(BASE + 2 * PAGE, 4) == bytes(4)
