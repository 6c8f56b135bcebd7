"""The driver on emulated devices, which decode packets by the declarations and know no driver."""

import numpy as np
import pytest

from gputrace import driver
from gputrace.driver import ProvenHang
from gputrace.errors import UsageError
from gputrace.families import FAMILIES


@pytest.fixture(params=FAMILIES)
def device(request):
    with driver.open(f"emu:{request.param}") as opened:
        yield opened


@pytest.fixture(params=["pm4", "aql"])
def kind(request):
    return request.param


def test_an_engine_writes_and_the_cpu_waits_for_it(device, kind):
    queue, buffer = device.compute_queue(kind), device.alloc(4096)
    queue.write(buffer, b"abcdefgh", 8)
    queue.timestamp(buffer, 64)
    queue.signal().wait(1.0)
    assert buffer.read(16) == bytes(8) + b"abcdefgh"
    assert 0 < buffer.view(np.uint64, 64, 1)[0] <= device.clock()[0]


def test_nothing_passes_a_gate_that_the_cpu_holds(device, kind):
    queue, buffer, gate = device.compute_queue(kind), device.alloc(4096), device.timeline("gate")
    queue.wait(gate.at(1))
    queue.write(buffer, b"past")
    done = queue.signal()
    with pytest.raises(ProvenHang, match=r"queue 0: waits for \[0x"):
        done.wait(1.0)
    assert buffer.read(4) == bytes(4)
    gate.set(1)
    done.wait(1.0)
    assert buffer.read(4) == b"past"


def test_queues_wait_for_one_another(device, kind):
    first, second = device.compute_queue(), device.compute_queue(kind)
    line, buffer = device.timeline("line"), device.alloc(4096)
    second.wait(line.at(1))
    second.write(buffer, b"2222", 4)
    second.signal(line, 2)
    first.write(buffer, b"1111")
    first.signal(line, 1)
    line.at(2).wait(1.0)
    assert buffer.read(8) == b"11112222"


def test_a_full_ring_blocks_until_the_engine_made_room(device, kind):
    queue, buffer = device.compute_queue(kind, ring_size=4096), device.alloc(4096)
    for step in range(1000):
        queue.write(buffer, step.to_bytes(4, "little"), step % 1024 * 4)
    queue.signal().wait(1.0)
    assert np.array_equal(buffer.view(np.uint32)[:1000], np.arange(1000))


def test_a_buffer_may_have_a_gpu_address_where_the_process_has_memory_of_its_own():
    with driver.open("emu:gfx942") as device:
        here = np.zeros(4096, np.uint8)
        address = (here.ctypes.data + 4095) // 4096 * 4096
        queue, buffer = device.compute_queue(), device.alloc(4096, address=address)
        assert buffer.address == address
        queue.write(buffer, b"abcd", 8)
        queue.signal().wait(1.0)
        assert buffer.read(12)[8:] == b"abcd"
        assert not here.any()
        buffer.free()
        assert device.alloc(4096, "gtt", address=address).read(16) == bytes(16)


def test_a_name_that_means_nothing_is_refused():
    with pytest.raises(UsageError, match="expected kfd:0"):
        driver.open("gpu")


def test_without_a_name_the_choice_is_printed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("gputrace.driver.opening.REAL_NODE", tmp_path / "kfd")
    with driver.open() as device:
        assert device.target == "gfx942"
    assert capsys.readouterr().err == "gputrace: using emu:gfx942\n"


@pytest.mark.parametrize("wrong", [3, b"emu:gfx942", ["emu:gfx942"]])
def test_what_is_neither_a_name_nor_a_port_is_refused(wrong):
    with pytest.raises(UsageError, match=r"expected a name such as emu:gfx942, or a Kfd, not"):
        driver.open(wrong)
