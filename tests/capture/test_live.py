"""What is kept of a long run, so that a part of it can begin, does not grow with the run."""

import os
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gputrace
from gputrace.capture.live import Live
from gputrace.capture.window import Part
from gputrace.formats import ioctl
from gputrace.replay.running import Request, play
from gputrace.replay.verdict import Result
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

GPUS = (0x1111, 0x2222, 0x3333)
Call = tuple[bool, frozenset[int]]
"""Whether it maps, and on which GPUs."""


def event_of(call: Call, handle: int = 7) -> events.Ioctl:
    maps, gpus = call
    kind = ioctl.MapMemoryToGpu if maps else ioctl.UnmapMemoryFromGpu
    ids = b"".join(gpu.to_bytes(4, "little") for gpu in sorted(gpus))
    before = kind(handle=handle, device_ids_array_ptr=1 << 20, n_devices=len(gpus))
    after = before.replace(n_success=len(gpus))
    payload = events.Payload("device_ids_array_ptr", 1 << 20, ids, b"")
    return events.Ioctl(
        "kfd", kind.__name__, 0, before.to_bytes(), after.to_bytes(), payloads=(payload,)
    )


def mapped(calls: list[events.Ioctl]) -> set[int]:
    """Return where a buffer is mapped after these calls, none of which fails."""
    found: set[int] = set()
    for one in calls:
        ids = one.payloads[0].before
        gpus = {int.from_bytes(ids[at : at + 4], "little") for at in range(0, len(ids), 4)}
        if one.record == "MapMemoryToGpu":
            found |= gpus
        else:
            assert found & gpus, "the kernel refuses to unmap what is nowhere mapped"
            found -= gpus
    return found


gpus = st.frozensets(st.sampled_from(GPUS), min_size=1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), gpus), max_size=30))
def test_the_calls_that_are_kept_leave_a_buffer_mapped_where_it_is(calls: list[Call]) -> None:
    live, made, there = Live(), list[events.Ioctl](), set[int]()
    for maps, some in calls:
        if not maps and not there & some:
            continue
        there = there | some if maps else there - some
        made.append(event_of((maps, some)))
        live.apply(made[-1])
        kept = [one for one in live.setup() if isinstance(one, events.Ioctl)]
        assert mapped(kept) == there
        assert len(kept) <= 2 * len(GPUS)
        places = [next(n for n, one in enumerate(made) if one is each) for each in kept]
        assert places == sorted(places)


def test_a_buffer_that_is_mapped_again_stays_mapped_since_before() -> None:
    # What was made of it meanwhile, such as a queue, needs it mapped.
    live, first = Live(), event_of((True, frozenset(GPUS[:1])))
    live.apply(first)
    for _ in range(5):
        live.apply(event_of((True, frozenset(GPUS[:1]))))
    assert live.setup() == [first]
    assert live.setup()[0] is first


def test_what_is_alive_does_not_grow(tmp_path: Path) -> None:
    def kept(turns: int) -> int:
        path = tmp_path / f"{turns}.gtrace"
        with gputrace.record(path), gputrace.open("emu:gfx942x2") as device:
            mechanism, ids = device.session.mechanism, [device.gpu_id, device.peers[0].gpu_id]
            memory, queue = device.alloc(4096), device.compute_queue("pm4")
            kfd = device.session.kfd
            for turn in range(turns):
                mechanism.map_gpu(memory.block, ids)
                mechanism.unmap_gpu(memory.block, ids[turn % 2 :])
                mechanism.map_gpu(memory.block, ids[:1])
                kfd.ioctl(ioctl.SetScratchBackingVa(gpu_id=ids[0], va_addr=4096 * turn))
                device.alloc(4096, name=f"passing {turn}").free()
                queue.write(memory, bytes(64))
                queue.signal().wait()
        live, most, number = Live(), 0, count()
        with TraceReader(path) as reader:
            for event in reader:
                if isinstance(event, events.Close):
                    break
                live.apply(event)
                if next(number) > 100:
                    most = max(most, len(live.setup()))
        return most

    assert kept(5) == kept(50)


def test_a_part_after_a_buffer_has_moved_between_gpus_replays(tmp_path: Path) -> None:
    path, part = tmp_path / "t.gtrace", Part(last=5)
    with gputrace.record(path, part=part), gputrace.open("emu:gfx942x2") as device:
        ids = [device.gpu_id, device.peers[0].gpu_id]
        memory = device.alloc(4096, peers=[device.peers[0]])
        queues = [one.compute_queue("pm4") for one in (device, device.peers[0])]
        for turn in range(30):
            gone = ids[turn % 2]
            device.session.mechanism.unmap_gpu(memory.block, [gone])
            queue = queues[1 - turn % 2]
            queue.write(memory, bytes([turn]) * 64)
            queue.signal().wait()
            device.session.mechanism.map_gpu(memory.block, [gone])
    with TraceReader(path) as reader:
        calls = [one for one in reader if isinstance(one, events.Ioctl)]
    assert sum(one.record.endswith("MemoryToGpu") for one in calls) < 60
    assert play(Request(str(path)), lambda: False).result is Result.SAME


@pytest.mark.parametrize("freed", [False, True])
def test_a_part_after_memory_was_shared_replays_or_says_why_not(
    tmp_path: Path, freed: bool
) -> None:
    path = tmp_path / "t.gtrace"
    with (
        gputrace.record(path, part=Part(start="submission:9")),
        gputrace.open("emu:gfx1100") as device,
    ):
        kfd, gpu = device.session.kfd, device.gpu_id
        memories = [device.alloc(4096) for _ in range(2)]
        queue, places = device.compute_queue("pm4"), [kfd.reserve(4096) for _ in memories]
        for memory, place in zip(memories, places, strict=True):
            made = kfd.ioctl(ioctl.ExportDmabuf(handle=memory.block.handle))
            shared = kfd.ioctl(
                ioctl.ImportDmabuf(va_addr=place, gpu_id=gpu, dmabuf_fd=made.dmabuf_fd)
            )
            os.close(made.dmabuf_fd)  # so that the next one has its number
            device.session.mechanism._on_gpus(ioctl.MapMemoryToGpu, shared.handle, [gpu])
        if freed:
            memories[0].free()
        for turn in range(10):
            queue.submit([queue.packets.write(places[1], bytes([turn] * 8))], "through the other")
            queue.signal().wait()
        assert memories[1].read(8) == bytes([9] * 8)
    verdict = play(Request(str(path)), lambda: False)
    if freed:
        assert verdict.result is Result.UNSUPPORTED
        assert "memory shared by a dma-buf of a buffer that is gone" in verdict.text
    else:
        assert verdict.result is Result.SAME, verdict.text
