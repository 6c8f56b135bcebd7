"""Launches on both kinds of compute queue, run from machine code by the emulated device."""

from pathlib import Path

import numpy as np
import pytest

from gputrace import driver
from gputrace.errors import UsageError
from gputrace.families import FAMILIES

BUILT = Path(__file__).parents[1] / "kernels" / "built"
RUNS = [
    (target, kind, level)
    for target in FAMILIES
    for kind in ("pm4", "aql")
    for level in ("O0", "O1", "O3")
]


def opened(target):
    return driver.open(f"emu:{target}")


def built(target, level="O3"):
    return BUILT / target / f"seed-{level}.co"


@pytest.fixture(params=FAMILIES)
def device(request):
    with opened(request.param) as one:
        yield one


@pytest.fixture
def program(device):
    return device.load(built(device.target))


@pytest.fixture(params=["pm4", "aql"])
def queue(request, device):
    return device.compute_queue(request.param)


@pytest.mark.parametrize(("target", "kind", "level"), RUNS)
def test_kernels_of_every_level_run_on_every_kind_of_queue(target, kind, level):
    rng = np.random.default_rng(7)
    with opened(target) as device:
        program, queue = device.load(built(target, level)), device.compute_queue(kind)
        count = 1000  # the last group is partial in effect: the kernel compares with n
        x, y = rng.random((2, count), np.float32)
        first, second = device.alloc(x.nbytes), device.alloc(y.nbytes)
        first.write(x)
        second.write(y)
        queue.launch(
            program["saxpy"], 16, 64, [second, first, np.float32(2.5), np.int32(count)]
        ).wait(5.0)
        assert np.allclose(second.view(np.float32), np.float32(2.5) * x + y)
        data = rng.integers(0, 1 << 32, 2048, np.uint32)
        source, sums = device.alloc(data.nbytes), device.alloc(32)
        source.write(data)
        queue.launch(program["reduce"], 8, 256, [sums, source]).wait(5.0)  # LDS and barriers
        assert np.array_equal(sums.view(np.uint32), data.reshape(8, 256).sum(1, np.uint32))


def test_threads_may_leave_the_last_group_partial(device, program, queue):
    out = device.alloc(4096)
    queue.launch(program["fill"], threads=100, block=64, args=[out, 7]).wait(5.0)
    assert (out.view(np.uint32)[:100] == 7).all()
    assert not out.view(np.uint32)[100:].any()


def test_launches_of_a_queue_see_what_those_before_them_wrote(device, program, queue):
    out = device.alloc(256)
    for value in range(1, 20):
        last = queue.launch(program["fill"], 1, 64, [out, value])
    chain = device.alloc(256)
    chain.write(np.ones(64, np.float32))
    for _ in range(10):
        last = queue.launch(program["saxpy"], 1, 64, [chain, chain, 1.0, 64])
    last.wait(5.0)
    assert (out.view(np.uint32) == 19).all()
    assert (chain.view(np.float32) == 1024).all()


def test_upload_memory_is_used_again_only_after_the_launch_that_used_it(device, program, queue):
    queue.upload_bytes = 4096
    queue.launch(program["fill"], 1, 64, [device.alloc(256), 0]).wait(5.0)
    uploads, gate = queue.uploads, device.timeline("gate")
    queue.wait(gate.at(1))
    outs = [device.alloc(256) for _ in range(4)]
    for step, out in enumerate(outs):
        queue.launch(program["fill"], 1, 64, [out, 100 + step])
    held = uploads.in_use
    assert held > 0
    gate.set()
    queue.synchronize()
    assert [int(out.view(np.uint32)[63]) for out in outs] == [100, 101, 102, 103]
    rounds = 2 * uploads.size // (held // 4) // 4 * 4
    with queue.batch():  # the memory runs out before the batch ends
        for step in range(rounds):
            last = queue.launch(program["fill"], 1, 64, [outs[step % 4], step])
    last.wait(30.0)
    assert [int(out.view(np.uint32)[0]) for out in outs] == [*range(rounds - 4, rounds)]
    for step in range(rounds):  # so do indirect buffers that no signal follows
        queue.commands([queue.packets.write(outs[0].address, step.to_bytes(4, "little"))])
    queue.synchronize()
    assert int(outs[0].view(np.uint32)[0]) == rounds - 1


def test_a_ring_smaller_than_the_work_only_makes_it_wait(device, program):
    for kind in ("pm4", "aql"):
        queue, out = device.compute_queue(kind, ring_size=4096), device.alloc(256)
        for value in range(200):
            last = queue.launch(program["fill"], 1, 64, [out, value])
        last.wait(30.0)
        assert (out.view(np.uint32) == 199).all()


def test_a_node_with_several_dies_gets_an_aql_queue_by_default():
    for target, kind in (("gfx942", driver.AqlQueue), ("gfx1100", driver.Pm4Queue)):
        with opened(target) as device:
            assert type(device.compute_queue()) is kind
    with pytest.raises(UsageError, match="expected 'pm4' or 'aql'"), opened("gfx942") as device:
        device.compute_queue("cuda")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": 1, "block": 64, "args": [1]}, "takes 2 arguments"),
        ({"grid": 1, "block": 64, "args": [1, 2, 3]}, "takes 2 arguments"),
        ({"grid": 1, "block": 64, "args": [1, 1 << 33]}, "argument 1"),
        ({"grid": 1, "block": 64, "args": ["x", 2]}, "argument 0"),
        ({"grid": 1, "block": 64, "args": [np.int32(4096), 2]}, "argument 0.*8 bytes"),
        ({"grid": 1, "block": 2048, "args": [0, 2]}, "2048 work-items"),
        ({"grid": 0, "block": 64, "args": [0, 2]}, "at least 1"),
        ({"grid": (1, 1, 1, 1), "block": 64, "args": [0, 2]}, "one to three"),
        ({"block": 64, "args": [0, 2]}, "either grid"),
        ({"grid": 1, "threads": 1, "block": 64, "args": [0, 2]}, "either grid"),
        ({"grid": 1, "block": 64, "args": [0, 2], "dynamic_lds": 1 << 20}, "LDS"),
    ],
)
def test_what_a_kernel_cannot_take_is_refused_before_anything_is_written(
    device, program, queue, arguments, message
):
    before = queue.ring.written
    with pytest.raises(UsageError, match=message):
        queue.launch(program["fill"], **arguments)
    assert queue.ring.written == before
    assert queue.timeline.last == 0


def test_a_kernel_of_freed_memory_or_of_another_device_is_refused(device, program, queue):
    kernel, out = program["fill"], device.alloc(256)
    queue.launch(kernel, 1, 64, [out, 3]).wait(5.0)
    with opened(device.target) as other, pytest.raises(UsageError, match="another device"):
        other.compute_queue().launch(kernel, 1, 64, [0, 3])
    program.free()
    with pytest.raises(UsageError, match="was freed"):
        queue.launch(kernel, 1, 64, [out, 4])
    out.free()
    with pytest.raises(UsageError, match="was freed"):
        queue.launch(device.load(built(device.target))["fill"], 1, 64, [out, 4])


def test_an_unknown_kernel_lists_the_known_ones(program):
    with pytest.raises(UsageError, match="known are busy, fill, reduce, saxpy"):
        program["sgemm"]


def test_a_code_object_of_another_target_is_refused(device):
    other = "gfx1100" if device.target != "gfx1100" else "gfx942"
    with pytest.raises(UsageError, match=f"is for {other}"):
        device.load(built(other))


def test_a_fault_names_kernel_buffer_packet_and_queue(device, program, queue):
    out = device.alloc(1 << 21, name="results")
    queue.launch(program["fill"], 1, 64, [out, 1]).wait(5.0)
    out.free()
    bad = queue.launch(program["fill"], 1, 64, [out.address + 256, 1])
    with pytest.raises(driver.DeviceFault, match=r"kernel fill.*'results' \+ 0x") as caught:
        bad.wait(5.0)
    assert caught.value.kernel == "fill"
    assert caught.value.address == out.address + 256
    assert caught.value.queue == queue.queue_id


def test_code_and_kernels_are_named_for_reports(make_fake):
    fake = make_fake("gfx942")
    with driver.open_kfd(fake) as device:
        program = device.load(built("gfx942"))
        entry = program["saxpy"].entry_address
        named = {(what, name): at for at, _, what, name in fake.labels}
        assert named["code", "seed-O3.co"] == program.memory.address
        assert named["kernel", "saxpy"] == entry
        assert named["symbol", "saxpy.kd"] == program["saxpy"].descriptor_address
        program.free()
        assert [name for at, _, _, name in fake.labels if at == entry] == ["saxpy", ""]


def test_a_queue_has_the_priority_and_the_die_that_were_asked_for():
    with opened("gfx942") as device:
        kernel, out = device.load(built("gfx942"))["fill"], device.alloc(256)
        for xcc in (0, 7):
            queue = device.compute_queue("pm4", priority=11, xcc=xcc)
            made = queue.hardware.made_with
            assert (made.queue_priority, made.target_xcc, made.queue_percentage) == (11, xcc, 100)
            queue.launch(kernel, 1, 64, [out, xcc]).wait(5.0)
            assert (out.view(np.uint32) == xcc).all()
        for wrong in ({"xcc": 8}, {"xcc": -1}, {"priority": 16}):
            with pytest.raises(UsageError):
                device.compute_queue("pm4", **wrong)
        with pytest.raises(UsageError, match="cannot choose"):
            device.compute_queue("aql", xcc=1)
    with opened("gfx1100") as device, pytest.raises(UsageError, match="cannot choose"):
        device.compute_queue("pm4", xcc=1)


@pytest.mark.parametrize("grid", [(2, 1, 1), [2], 2, np.int64(2), np.array([2, 1, 1]), (2,)])
def test_sizes_may_be_given_in_every_usual_form(device, program, queue, grid):
    out = device.alloc(512)
    queue.launch(program["fill"], grid, [64], [out, 9]).wait(5.0)
    assert (out.view(np.uint32) == 9).all()


@pytest.mark.parametrize(
    "use",
    [
        lambda d, q, k, x: q.launch("fill", 1, 64, [x, 1]),
        lambda d, q, k, x: q.launch(k, 1.5, 64, [x, 1]),
        lambda d, q, k, x: q.launch(k, "1", 64, [x, 1]),
        lambda d, q, k, x: q.launch(k, {}, 64, [x, 1]),
        lambda d, q, k, x: q.launch(k, 1, 64, None),
        lambda d, q, k, x: q.launch(k, 1, 64, [np.zeros(4), 1]),
        lambda d, q, k, x: q.wait(5),
        lambda d, q, k, x: d.copy_queue().copy(x, 5),
        lambda d, q, k, x: d.copy_queue("pcie"),
        lambda d, q, k, x: x.write("text"),
        lambda d, q, k, x: x.write([1, 2]),
        lambda d, q, k, x: d.alloc(4096.0),
        lambda d, q, k, x: d.alloc("4096"),
        lambda d, q, k, x: d.alloc(1 << 50),
        lambda d, q, k, x: d.alloc(4096, "sysmem"),
        lambda d, q, k, x: d.compute_queue("pm4", ring_size=5000),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(use):
    with opened("gfx1100") as device:
        kernel = device.load(built("gfx1100"))["fill"]
        queue, buffer = device.compute_queue("pm4"), device.alloc(256)
        with pytest.raises(UsageError) as caught:
            use(device, queue, kernel, buffer)
        assert "\n" not in str(caught.value)
        queue.launch(kernel, 1, 64, [buffer, 3]).wait(5.0)
        assert (buffer.view(np.uint32) == 3).all()
