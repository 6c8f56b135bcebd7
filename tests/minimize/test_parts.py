"""Parts of a run are reduced too: they begin with memory and queues as they were."""

from pathlib import Path

import pytest

import gputrace
from gputrace.cli.workloads.frame import load
from gputrace.driver import Device, ProvenHang
from gputrace.errors import DeviceFault
from gputrace.families import FAMILIES
from gputrace.minimize.cause import explain
from gputrace.minimize.model import Kind, read_model
from gputrace.minimize.prefix import bisect
from gputrace.minimize.reduce import Reduction, Settings, reduce
from gputrace.minimize.result import replay_again, write_result
from gputrace.replay.verdict import Result
from gputrace.trace.reader import TraceReader

SEEDS = Settings(seeds=4)
ROUNDS = 60


def hang(device: Device) -> None:
    """Work for a while over three kinds of queues, then wait for what nobody stores."""
    old, new = device.alloc(4096, name="old"), device.alloc(4096, name="new")
    pm4, aql = device.compute_queue("pm4"), device.compute_queue("aql")
    copies = device.copy_queue()
    for turn in range(ROUNDS):
        copies.copy(new, old, 64)
        aql.wait(copies.signal())
        pm4.wait(aql.signal())
        pm4.write(old, bytes([turn]) * 8)
        if turn % 3 == 0:
            pm4.signal().wait()
    pm4.wait(device.timeline("gate").at(1))
    pm4.signal().wait()


def late(device: Device) -> None:
    """Make memory and a queue when others have worked for a while; then wait in vain."""
    old, first = device.alloc(4096), device.compute_queue("pm4")
    for turn in range(ROUNDS):
        first.write(old, bytes([turn]) * 8)
        first.signal().wait()
    new, second = device.alloc(4096), device.compute_queue("pm4")
    for turn in range(ROUNDS):
        second.write(new, bytes([turn]) * 8)
        second.signal().wait()
    second.wait(device.timeline("gate").at(1))
    second.signal().wait()


def fault(device: Device) -> None:
    """Launch kernels for a while, then one that reads a buffer which is gone."""
    kernels, queue = load(device, "pipeline"), device.compute_queue("pm4")
    source, middle, result = (device.alloc(4096, name=name) for name in ("a", "b", "c"))
    for turn in range(ROUNDS):
        queue.launch(kernels["scale"], 4, 64, [middle, source, turn])
        if turn % 5 == 0:
            queue.signal().wait()
    queue.signal().wait()
    source.free()
    queue.launch(kernels["transform"], 4, 64, [result, middle, 255])
    queue.launch(kernels["scale"], 4, 64, [middle, source.address, 1])
    queue.signal().wait()


def reduced(path: Path) -> Reduction:
    return reduce(TraceReader(path), SEEDS)


def test_what_was_made_late_is_made_at_once_in_a_part(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    part = gputrace.Part(last=20)
    with pytest.raises(ProvenHang), gputrace.record(path, part=part):  # noqa: SIM117
        with gputrace.open("emu:gfx1100") as device:
            late(device)
    (item,) = [one for one in reduced(path).kept if one.kind is Kind.PACKET]
    assert item.queue == 1


@pytest.mark.parametrize("target", sorted(FAMILIES))
def test_a_hang_in_a_window_is_reduced_to_its_wait(tmp_path: Path, target: str) -> None:
    path = tmp_path / "t.gtrace"
    with (
        pytest.raises(ProvenHang),
        gputrace.record(path, part=gputrace.Part(last=20)),
        gputrace.open(f"emu:{target}") as device,
    ):
        hang(device)
    whole = read_model(TraceReader(path))
    waits = whole.queues[0]
    assert waits.first > 100  # packets count from the beginning of the run
    reduction = reduced(path)
    (item,) = [one for one in reduction.kept if one.kind is Kind.PACKET]
    packet = reduction.case.model.packet(item)
    assert reduction.line(packet).startswith("WaitRegMem(function=GE, address=timeline gate")
    last = [one.number for one in waits.packets if one.line.startswith("WaitRegMem")][-1]
    assert packet.number == item.number == last
    assert reduction.certificate.minimal
    assert f"compute 0, packet {packet.number} waits for 'timeline gate'" in explain(reduction)[0]
    made = tmp_path / "m.gtrace"
    write_result(reduction, made, path, 60)
    assert replay_again(made, 60).result is Result.HANG
    assert made.stat().st_size < path.stat().st_size / 2
    first = bisect(TraceReader(path), SEEDS)
    assert first.item == item


def test_a_fault_in_the_part_that_a_kernel_begins_is_reduced(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    with (
        pytest.raises(DeviceFault),
        gputrace.record(path, part=gputrace.Part(start="kernel:transform")),
        gputrace.open("emu:gfx942") as device,
    ):
        fault(device)
    reduction = reduced(path)
    model = reduction.case.model
    lines = [model.packet(one).line for one in reduction.kept if one.kind is Kind.PACKET]
    assert [line.partition("(")[0] for line in lines].count("DispatchDirect") == 1
    assert reduction.certificate.minimal
    assert reduction.target.signature.startswith("fault memory")
