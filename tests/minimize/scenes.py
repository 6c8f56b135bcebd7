"""Small programs on the emulated device, each with one bug among work that is right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import gputrace
from gputrace.driver import Device, ProvenHang, WaitTimeout
from gputrace.errors import DeviceFault

KERNELS = Path(__file__).parents[1] / "kernels" / "built"
Scene = Callable[[Device], None]
STEPS = 12


def record(path: Path, scene: Scene, device: str = "emu:gfx942") -> None:
    """Record a scene; how it ends is in the trace."""
    try:
        with gputrace.record(path), gputrace.open(device) as opened:
            scene(opened)
    except (ProvenHang, WaitTimeout, DeviceFault):
        pass


def lost_value(device: Device) -> None:
    """Two queues hand work on in steps; one step is never signalled."""
    first, second = device.compute_queue("pm4"), device.copy_queue()
    source, target = device.alloc(4096, name="source"), device.alloc(4096, name="target")
    done = device.timeline("done")
    for step in range(1, 9):
        first.write(source, step.to_bytes(4, "little"), 4 * step)
        if step != 8:
            first.signal(done, step)
        second.wait(done.at(step))
        second.copy(target, source, 64)
        point = second.signal()
        if step < 7:
            point.wait()
    second.synchronize(1.0)


def lost_gate(device: Device) -> None:
    """An architected queue, whose packets stay in the ring, waits for what nobody stores."""
    queue, gate, data = device.compute_queue("aql"), device.timeline("gate"), device.alloc(4096)
    for step in range(STEPS):
        queue.write(data, bytes([step]) * 16, 16 * step)
        queue.signal()
    queue.wait(gate.at(1))
    queue.write(data, b"late")
    queue.synchronize(1.0)


def deadlock(device: Device) -> None:
    """Two queues exchange values; in one step both wait before they send."""
    queues = [device.compute_queue("pm4"), device.compute_queue("pm4")]
    lines = [device.timeline("left"), device.timeline("right")]
    data = device.alloc(4096)
    for step in range(1, STEPS + 1):
        for me, queue in enumerate(queues):
            queue.write(data, bytes(8), 64 * me)
            if step == 9:
                queue.wait(lines[1 - me].at(step))
                queue.signal(lines[me], step)
            else:
                queue.signal(lines[me], step)
                queue.wait(lines[1 - me].at(step))
    queues[0].synchronize(1.0)


def freed_source(device: Device) -> None:
    """A copy reads a buffer that was freed after the copy before it."""
    queue = device.copy_queue()
    target = device.alloc(4096, name="target")
    sources = [device.alloc(4096, name=f"source {i}") for i in range(3)]
    make = device.family.sdma.packet("CopyLinear")
    plan = [make(count=63, source=one.address, destination=target.address) for one in sources]
    for step in range(STEPS):
        sources[step % 3].write(bytes([step]) * 64)
        queue.submit([plan[step % 3]])
        queue.synchronize()
    sources[1].free()  # the bug: the plan still has it
    for step in range(4):
        queue.submit([plan[step % 3]])
    queue.synchronize(1.0)


def wrong_count(device: Device) -> None:
    """A packet in the middle of a ring says that it is longer than it is."""
    queue = device.compute_queue("pm4")
    data = device.alloc(4096)
    for step in range(STEPS):
        queue.write(data, bytes([step]) * 16, 16 * step)
        if step == 7:
            header = 3 << 30 | 9 << 16 | 0x3C << 8  # WAIT_REG_MEM has 7 dwords, not 11
            words = [header, 0x13, data.address & 0xFFFF_FFFF, data.address >> 32, 0, 0, 4]
            queue.submit(b"".join(word.to_bytes(4, "little") for word in words))
    queue.synchronize(1.0)


def missing_wait(device: Device) -> None:
    """A copy does not wait for the queue that writes its source."""
    writer, copies = device.compute_queue("pm4"), device.copy_queue()
    source, film = device.alloc(4096, name="surface"), device.alloc(4096, "gtt", name="film")
    drawn, copied = device.timeline("drawn"), device.timeline("copied")
    for step in range(1, STEPS + 1):
        if step > 1:
            writer.wait(copied.at(step - 1))
        writer.write(source, step.to_bytes(4, "little") * 16)
        writer.signal(drawn, step)
        if step != 7:
            copies.wait(drawn.at(step))
        copies.copy(film, source, 64, destination_offset=64 * step)
        copies.signal(copied, step)
    copies.synchronize()
    writer.synchronize()


def overwritten(device: Device) -> None:
    """Two buffers by turns: the writer waits for the copy before the last one too late."""
    writer, copies = device.compute_queue("pm4"), device.copy_queue()
    surfaces = [device.alloc(4096, name=f"surface {i}") for i in range(2)]
    film, table = device.alloc(4096, "gtt", name="film"), device.alloc(4096, "gtt", name="table")
    drawn, copied = device.timeline("drawn"), device.timeline("copied")
    for step in range(1, STEPS + 1):
        table.write(bytes([step]), offset=step)  # what the CPU does meanwhile
        if step > 2:
            writer.wait(copied.at(step - 2 if step != 7 else step - 4))
        writer.write(surfaces[step % 2], step.to_bytes(4, "little") * 16)
        writer.signal(drawn, step)
        copies.wait(drawn.at(step))
        copies.copy(film, surfaces[step % 2], 64, destination_offset=64 * step)
        copies.signal(copied, step)
    copies.synchronize()
    writer.synchronize()


def too_high(device: Device) -> None:
    """One of many waits of a queue is for a value that belongs to much later."""
    first, second = device.compute_queue("pm4"), device.copy_queue()
    ping, pong = device.timeline("ping"), device.timeline("pong")
    for step in range(1, STEPS + 1):
        first.signal(ping, step)
        second.wait(ping.at(step if step != 7 else 70))
        second.signal(pong, step)
        first.wait(pong.at(step))
    second.synchronize(1.0)


def wild(device: Device) -> None:
    """A copy reads where nothing ever was."""
    queue, target = device.copy_queue(), device.alloc(4096, name="target")
    make = device.family.sdma.packet("CopyLinear")
    for step in range(STEPS):
        source = target.address + (0x1234_0000 if step == 7 else 0)
        queue.submit([make(count=63, source=source, destination=target.address)])
    queue.synchronize(1.0)


def passing(device: Device) -> None:
    """Work over three queues, one of them architected, with a ring that wraps many times."""
    queue = device.compute_queue("pm4", ring_size=4096)
    other, copies = device.compute_queue("aql"), device.copy_queue()
    data, copy = device.alloc(8192, name="data"), device.alloc(8192, name="copy")
    written, passed = device.timeline("written"), device.timeline("passed")
    for step in range(1, 60):
        queue.write(data, step.to_bytes(4, "little") * 8, 32 * step)
        queue.signal(written, step)
        other.wait(written.at(step))
        other.signal(passed, step)
        copies.wait(passed.at(step))
        copies.copy(copy, data, 32, destination_offset=32 * step, source_offset=32 * step)
        if step % 7 == 0:
            copies.signal().wait()
    for one in (queue, other, copies):
        one.synchronize()
    assert copy.read() == data.read()


def too_few(device: Device) -> None:
    """Work-groups meet again and again; once there are fewer than the barrier was told."""
    grid = KERNELS / device.family.name / "grid-O3.co"
    queue, kernels = device.compute_queue("aql"), device.load(grid)
    values, groups = device.alloc(4096, name="values"), 5
    queue.take_wave_sync()
    for step in range(4):
        queue.launch(kernels["prepare"], 1, 64, [np.uint32(groups - 1), np.uint32(step)])
        numbers = [np.uint32(number) for number in (groups, 2, step)]
        meeting = groups - 1 if step == 2 else groups
        queue.launch(kernels["rounds"], meeting, 64, [values, *numbers])
    queue.synchronize(1.0)
