"""One GPU: opening, memory, queues, first dispatches, copies."""

import itertools

import numpy as np
import pytest

from gputrace import driver
from gputrace.errors import UsageError
from gputrace.families import FAMILIES, family
from tests.scenarios.conftest import load, open_gpus, pattern, settle

# --- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", FAMILIES)
def test_an_open_device_says_what_it_is(target):
    (device,) = open_gpus(target)
    with device:
        assert device.target == target
        assert device.name == f"emu:{target}"
        assert repr(device) == f"<Device emu:{target} {target}>"
        assert device.node.memory == family(target).card.vram_bytes
        assert device.node["gfx_target_version"] == family(target).target_version
        assert device.gpu_id
    with pytest.raises(UsageError, match="closed"):
        device.alloc(4096)
    device.close()  # twice does no harm


@pytest.mark.parametrize("name", ["kfd:999", "emu:gfx1", "emu:gfx942x99", "gpu0", ""])
def test_a_device_that_is_not_there_is_refused_in_one_line(name):
    with pytest.raises(UsageError) as caught:
        driver.open(name)
    assert "\n" not in str(caught.value)


# --- memory ---------------------------------------------------------------------------------------

SIZES = (1, 4, 256, 4096, 4097, 1 << 20, 16 << 20)


@pytest.mark.parametrize("kind", ["vram", "gtt", "userptr"])
def test_memory_of_each_kind_and_size_keeps_what_is_written(device, kind):
    for size in SIZES:
        buffer = device.alloc(size, kind)
        assert buffer.size == size  # what was asked for, not whole pages
        assert buffer.address % 4096 == 0
        data = pattern("noise", min(size, 5000))
        buffer.write(data, size - len(data))
        assert buffer.read(len(data), size - len(data)) == data
        buffer.free()


@pytest.mark.parametrize("kind", ["vram", "gtt", "userptr"])
def test_fills_reads_and_partial_writes(device, kind):
    buffer = device.alloc(8192, kind)
    buffer.fill(0xFF)
    assert buffer.read() == b"\xff" * 8192
    buffer.write(b"\xab\xcd\xef\x01", 100)
    assert buffer.read(6, 99) == b"\xff\xab\xcd\xef\x01\xff"
    buffer.fill(0, 4096, 4096)
    assert buffer.read(2, 4095) == b"\xff\x00"


def test_many_buffers_do_not_overlap(device):
    buffers = [device.alloc(4096, kind) for kind in ("vram", "gtt") for _ in range(10)]
    for number, buffer in enumerate(buffers):
        buffer.fill(number)
    assert [set(buffer.read()) for buffer in buffers] == [{number} for number in range(20)]


# --- queues ---------------------------------------------------------------------------------------


def test_queues_of_every_kind_have_ids_doorbells_and_rings_of_their_own(device):
    made = [device.compute_queue(kind) for kind in ("pm4", "pm4", "aql")]
    made += [device.copy_queue() for _ in range(3)]
    assert len({queue.queue_id for queue in made}) == 6
    assert len({queue.hardware.doorbell for queue in made}) == 6
    assert len({queue.hardware.made_with.ring_base_address for queue in made}) == 6
    for number, queue in enumerate(made):
        buffer = device.alloc(4096)
        if isinstance(queue, driver.SdmaQueue):
            queue.fill(buffer, number)
        else:
            queue.write(buffer, number.to_bytes(4, "little"))
        queue.signal().wait(5.0)
        assert buffer.view(np.uint32)[0] == number


def test_empty_work_completes(device):
    queue = device.compute_queue("pm4")
    nop = device.family.pm4.packet("Nop")
    queue.submit([nop(body=(0,)) for _ in range(4)])
    queue.signal().wait(5.0)
    assert queue.ring.consumed == queue.ring.written


# --- dispatches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pm4", "aql"])
@pytest.mark.parametrize(("grid", "value"), [(4, 0xDEADBEEF), (1, 42)])
def test_a_fill_kernel_writes_every_word(runner, kind, grid, value):
    out, queue = runner.alloc(256 * grid + 256), runner.compute_queue(kind)
    queue.launch(load(runner)["fill"], grid, 64, [out, value]).wait(5.0)
    assert (out.view(np.uint32)[: 64 * grid] == value).all()
    assert not out.view(np.uint32)[64 * grid :].any()


@pytest.mark.parametrize("kind", ["pm4", "aql"])
@pytest.mark.parametrize("level", ["O0", "O1", "O3"])
def test_kernels_with_scratch_calls_and_recursion(runner, kind, level):
    program, queue = load(runner, "flow", level), runner.compute_queue(kind)
    data = np.random.default_rng(5).integers(0, 12, 64, np.uint32)
    for name in ("private_array", "recurse", "call_pointers", "private_array"):
        source, out = runner.alloc(256), runner.alloc(256)
        source.write(data)
        queue.launch(program[name], 1, 64, [out, source], stack=1024).wait(60.0)
        assert out.view(np.uint32).tolist() == [EXPECTED[name](int(v)) for v in data]


def _array(value):
    at, total = value % 24, 0
    for _ in range(24):
        total, at = (total * 31 + value * (at + 1)) % (1 << 32), (at + 7) % 24
    return total


def _fibonacci(n):
    return n if n < 2 else _fibonacci(n - 1) + _fibonacci(n - 2)


EXPECTED = {
    "private_array": _array,
    "recurse": lambda v: _fibonacci(v % 9),
    "call_pointers": lambda v: (2 * v, v * v, v ^ 0xABCD)[v % 3] + 1,
}


# --- copies ---------------------------------------------------------------------------------------

WAYS = list(itertools.product(("vram", "gtt", "userptr"), repeat=2))


@pytest.mark.parametrize(("start", "end"), WAYS)
def test_copies_between_every_two_kinds_of_memory(device, start, end):
    source, target = device.alloc(8192, start), device.alloc(8192, end)
    source.write(pattern("noise", 8192))
    target.fill(0x11)
    queue = device.copy_queue()
    queue.copy(target, source, 4096)
    queue.signal().wait(5.0)
    assert target.read(4096) == source.read(4096)
    assert target.read(4096, 4096) == b"\x11" * 4096  # no byte further


@pytest.mark.parametrize(
    ("size", "what"),
    [
        (1, 0xAA), (3, "all"), (255, "all"), (256, 0xCD), (1000, "noise"), (4096, "all"),
        (4096, 0x55), (4096, 0xAA), (4096, "count"), (1 << 20, "noise"), (8 << 20, "noise"),
    ],
)  # fmt: skip
def test_copies_of_every_size_and_pattern_are_exact(device, size, what):
    source, target, queue = device.alloc(size), device.alloc(size + 64), device.copy_queue()
    source.write(pattern(what, size))
    queue.copy(target, source)  # no size: the smaller of the two
    queue.signal().wait(30.0)
    assert target.read(size) == source.read()
    assert target.read(64, size) == bytes(64)


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("target", ["gfx90a", "gfx942"])
def test_a_copy_around_the_limit_of_a_packet(target, extra):
    (device,) = open_gpus(target)
    with device:
        size = device.family.copies.limit + extra
        source, end, queue = device.alloc(size), device.alloc(size), device.copy_queue()
        source.write(pattern("noise", size))
        queue.copy(end, source)
        queue.signal().wait(30.0)
        assert end.read() == source.read()


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (3, 1000), (4093, 7)])
def test_copies_at_odd_offsets(device, first, second):
    source, target, queue = device.alloc(8192), device.alloc(8192), device.copy_queue()
    source.write(pattern("noise", 8192))
    queue.copy(target, source, 1001, destination_offset=first, source_offset=second)
    queue.signal().wait(5.0)
    expected = bytearray(8192)
    expected[first : first + 1001] = source.read(1001, second)
    assert target.read() == expected


def test_one_copy_after_another_sees_what_the_last_one_wrote(device):
    a, b, c = (device.alloc(4096) for _ in range(3))
    queue = device.copy_queue()
    for value in (0x11, 0x22, 0x33, 0x44, 0xFF):  # chained, without a wait in between
        queue.fill(a, value * 0x01010101)
        queue.copy(b, a)
        queue.copy(c, b)
        queue.signal().wait(5.0)
        assert c.read() == bytes([value]) * 4096


def test_independent_copies_and_one_wait(device):
    queue, pairs = device.copy_queue(), []
    for number in range(4):
        source, target = device.alloc(4096), device.alloc(4096)
        source.write(pattern("noise", 4096 - number) + bytes(number))
        queue.copy(target, source)
        pairs.append((source, target))
    queue.synchronize()
    assert all(source.read() == target.read() for source, target in pairs)


def test_copies_and_synchronisation_by_turns(device):
    source, target, queue = device.alloc(4096), device.alloc(4096), device.copy_queue()
    for number in range(5):
        source.fill(number + 1)
        queue.copy(target, source)
        device.synchronize(5.0)
        assert target.read() == bytes([number + 1]) * 4096


def test_synchronisation_with_nothing_to_do(device):
    device.synchronize(1.0)
    queue = device.copy_queue()
    device.synchronize(1.0)
    queue.synchronize(1.0)
    device.synchronize(1.0)
    settle(queue.timeline.at(0))
