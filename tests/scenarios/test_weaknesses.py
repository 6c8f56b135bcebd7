"""What small drivers get wrong, one test each: none of it may come back."""

import itertools
import struct

import numpy as np
import pytest

from gputrace import driver
from gputrace.code import Argument, KernelMetadata
from gputrace.driver.dispatch import pm4_dispatch, user_values
from gputrace.driver.kernargs import Arguments, Geometry
from gputrace.driver.scratch import NONE, scratch_for
from gputrace.errors import FieldError, KfdError, UsageError
from gputrace.families import FAMILIES, family
from gputrace.formats import ioctl as k
from gputrace.formats.descriptor import USER_SGPR_ITEMS, KernelDescriptor
from gputrace.formats.pm4 import DispatchDirect, SetShReg
from tests.scenarios.conftest import load, open_gpus

EVERY = pytest.mark.parametrize("target", FAMILIES)


def registers(target, descriptor, shape=None, scratch=NONE, user=None):
    """Give the COMPUTE_* registers of a launch by name, and the dispatch itself."""
    one = family(target)
    shape = shape or Geometry((64, 1, 1), (64, 1, 1))
    packets = pm4_dispatch(one, descriptor, 0x12345678_00, shape, scratch, user or {})
    found = {}
    for packet in packets:
        if isinstance(packet, SetShReg):
            for number, value in enumerate(packet.values, packet.register):
                found[one.registers.name(number)] = value
    (dispatch,) = (packet for packet in packets if isinstance(packet, DispatchDirect))
    return found, dispatch


# --- waits ----------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("kind", ["pm4", "aql", "copy"])
def test_a_wait_returns_within_a_millisecond_of_completion(target, kind):
    (device,) = open_gpus(target)
    with device:
        queue = device.copy_queue() if kind == "copy" else device.compute_queue(kind)
        stamp = device.alloc(4096, "gtt")
        queue.timestamp(stamp)
        queue.signal().wait(60.0)
        ended = int(stamp.view(np.uint64)[0]) * 1_000_000_000 // device.family.clock_hz
        assert device.session.kfd.clock() - ended < 1_000_000


def test_hundreds_of_events_have_slots_of_their_own_in_the_page():
    (device,) = open_gpus("gfx1100")
    with device:
        events = [device.session.make_event() for _ in range(700)]
        boxes = [device.session.mailbox(one) for one in events]
        page = device.session._event_page
        assert len(set(boxes)) == 700
        assert all(page.address <= box <= page.end - 8 for box in boxes)
        queue = device.compute_queue()
        assert queue.event.slot >= 512
        queue.signal().wait(1.0)


def test_an_event_of_something_else_does_not_end_a_wait():
    (device,) = open_gpus("gfx942")
    with device:
        first, second = device.compute_queue("pm4"), device.copy_queue()
        gate, buffer = device.timeline("gate"), device.alloc(4096)
        first.wait(gate.at(1))
        late = first.signal()
        for step in range(5):
            second.fill(buffer, step)
            second.signal()  # interrupts, and nobody waits for it
        with pytest.raises(driver.ProvenHang):
            late.wait(1.0)
        gate.set()
        late.wait(1.0)


# --- dispatches -----------------------------------------------------------------------------------

RSRC3 = {"gfx90a": 0x2E2D, "gfx942": 0x2E2D, "gfx950": 0x2E2D, "gfx1030": 0x2E28, "gfx1100": 0x2E28,
         "gfx1201": 0x2E28}  # fmt: skip


@EVERY
def test_every_register_of_a_launch_is_where_the_generation_has_it(target):
    descriptor = KernelDescriptor(compute_pgm_rsrc3=0x15, compute_pgm_rsrc1=0x00AF0001)
    found, dispatch = registers(target, descriptor)
    addresses = family(target).registers
    assert addresses.address("COMPUTE_PGM_RSRC3") == RSRC3[target]
    assert None not in found
    assert found["COMPUTE_PGM_RSRC3"] == 0x15
    assert found["COMPUTE_PGM_LO"] == 0x12345678
    privileged = addresses.layout("COMPUTE_PGM_RSRC1").decode([found["COMPUTE_PGM_RSRC1"]]).priv
    assert bool(privileged) == (target == "gfx1100")
    assert (dispatch.dim_x, dispatch.dim_y, dispatch.dim_z) == (1, 1, 1)


@pytest.mark.parametrize("target", ["gfx1030", "gfx1100", "gfx1201"])
@pytest.mark.parametrize("wave32", [0, 1])
def test_waves_have_the_size_that_the_code_was_made_for(target, wave32):
    _, dispatch = registers(target, KernelDescriptor(enable_wavefront_size32=wave32))
    assert dispatch.initiator >> 15 & 1 == wave32


@EVERY
@pytest.mark.parametrize(("static", "dynamic", "granules", "large"), [
    (0, 0, 0, 0), (1, 0, 1, 1), (512, 0, 1, 1), (500, 13, 2, 1), (0, 65536, 128, 52),
])  # fmt: skip
def test_lds_is_allocated_in_whole_granules(target, static, dynamic, granules, large):
    granules = large if target == "gfx950" else granules  # of 1280 bytes, not 512
    shape = Geometry((64, 1, 1), (64, 1, 1), dynamic)
    found, _ = registers(target, KernelDescriptor(group_segment_fixed_size=static), shape)
    assert found["COMPUTE_PGM_RSRC2"] >> 15 & 0x1FF == granules


@EVERY
@pytest.mark.parametrize("lane_bytes", [4, 100, 4096])
def test_scratch_holds_every_wave_that_may_run(target, lane_bytes):
    one = family(target)
    node = one.node_properties()
    scratch = scratch_for(one, node, lane_bytes)
    ring = one.registers.layout("COMPUTE_TMPRING_SIZE").decode([scratch.tmpring])
    wave = ring.wavesize * one.scratch_wavesize_unit
    waves = ring.waves * (one.shape.engines if one.scratch_waves_scope == "engine" else 1)
    assert wave >= 64 * lane_bytes
    assert waves <= node["max_slots_scratch_cu"] * one.shape.cus
    assert scratch.size >= wave * waves


@EVERY
@pytest.mark.parametrize("threads", [(100, 1, 1), (64, 5, 1), (1, 1, 9), (65, 7, 3)])
def test_partial_groups_are_told_to_the_hardware(target, threads):
    block = (16, 4, 2)
    found, dispatch = registers(target, KernelDescriptor(), Geometry(threads, block))
    groups = [-(-n // b) for n, b in zip(threads, block, strict=True)]
    assert [dispatch.dim_x, dispatch.dim_y, dispatch.dim_z] == groups
    assert dispatch.initiator & 2  # PARTIAL_TG_EN
    for axis, n, b in zip("XYZ", threads, block, strict=True):
        value = found[f"COMPUTE_NUM_THREAD_{axis}"]
        assert (value & 0xFFFF, value >> 16) == (b, n % b or b)


def test_user_registers_follow_the_descriptor_bit_by_bit():
    contents = {name: 0x0102030405060708 * (at + 1) % (1 << 32 * count)
                for at, (name, count) in enumerate(USER_SGPR_ITEMS)}  # fmt: skip
    for chosen in itertools.product([0, 1], repeat=len(USER_SGPR_ITEMS)):
        bits = {f"enable_sgpr_{name}": on
                for (name, _), on in zip(USER_SGPR_ITEMS, chosen, strict=True)}  # fmt: skip
        values = user_values(KernelDescriptor(**bits), contents)
        expected = []
        for (name, count), on in zip(USER_SGPR_ITEMS, chosen, strict=True):
            if on:
                expected += [contents[name] >> 32 * n & 0xFFFFFFFF for n in range(count)]
        assert [values[n] for n in range(len(values))] == expected


def kernel_of(explicit_bytes):
    """Make the metadata of a kernel with so many bytes of explicit arguments and hidden ones."""
    args = [Argument(f"a{at}", 4 * at, 4, "by_value") for at in range(explicit_bytes // 4)]
    at = -(-explicit_bytes // 8) * 8
    hidden = [(f"hidden_block_count_{axis}", 4) for axis in "xyz"]
    hidden += [(f"hidden_group_size_{axis}", 2) for axis in "xyz"]
    hidden += [(f"hidden_remainder_{axis}", 2) for axis in "xyz"]
    for kind, size in hidden:
        args.append(Argument("", at, size, kind))
        at += size
    return KernelMetadata("k", "k.kd", tuple(args), at, 8, 0, 0, 64, 1024, 16, 16)


@pytest.mark.parametrize("explicit", range(4, 44, 4))
def test_hidden_arguments_lie_where_the_metadata_says(explicit):
    arguments = Arguments(kernel_of(explicit), 1)
    shape = Geometry((1000, 20, 3), (64, 4, 2))
    data = arguments.template(shape, {})
    arguments.fill(data, [0xA0 + at for at in range(explicit // 4)])
    at = -(-explicit // 8) * 8
    assert struct.unpack_from(f"<{explicit // 4}I", data) == tuple(
        0xA0 + at for at in range(explicit // 4)
    )
    assert struct.unpack_from("<3I6H", data, at) == (15, 5, 1, 64, 4, 2, 1000 % 64, 0, 1)


@pytest.mark.parametrize(
    ("size", "value", "raw"),
    [
        (1, 200, b"\xc8"), (1, -1, b"\xff"), (2, np.float16(1.5), b"\x00\x3e"),
        (4, 1.5, b"\x00\x00\xc0\x3f"), (8, 1.5, b"\x00\x00\x00\x00\x00\x00\xf8\x3f"),
        (4, np.int32(-2), b"\xfe\xff\xff\xff"), (12, b"123456789012", b"123456789012"),
        (8, np.arange(2, dtype=np.uint32), bytes([0, 0, 0, 0, 1, 0, 0, 0])),
    ],
)  # fmt: skip
def test_arguments_of_every_size_and_kind(size, value, raw):
    metadata = KernelMetadata(
        "k", "k.kd", (Argument("a", 0, size, "by_value"),), size, 8, 0, 0, 64, 1024, 16, 16
    )
    data = bytearray(size)
    Arguments(metadata, 1).fill(data, [value])
    assert bytes(data) == raw


@pytest.mark.parametrize(("size", "value"), [
    (1, 256), (1, -129), (4, 1 << 32), (4, np.int64(1)), (4, b"123"), (2, 1e10), (4, "x"),
    (4, None),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_by_number(size, value):
    metadata = KernelMetadata(
        "k", "k.kd", (Argument("a", 0, size, "by_value"),), size, 8, 0, 0, 64, 1024, 16, 16
    )
    with pytest.raises(UsageError, match="k, argument 0: "):
        Arguments(metadata, 1).fill(bytearray(size), [value])


# --- packets --------------------------------------------------------------------------------------


@EVERY
def test_caches_are_written_back_and_never_thrown_away(target):
    (device,) = open_gpus(target)
    with device:
        packets = device.compute_queue("pm4").packets
        acquire, release = packets.acquire(), packets.release(0x1000, 1)
        assert acquire.dwords == (7 if target in ("gfx90a", "gfx942", "gfx950") else 8)
        names = {field.name for field, _ in (*acquire.shown(), *release.shown())}
        assert not names & {"gl2_discard", "glm_discard"}
        expected = {"tc_wb"} if target in ("gfx90a", "gfx942", "gfx950") else {"gl2_wb"}
        assert expected <= names
        assert acquire.base == 0  # from the beginning, as far as there is anything


def test_a_packet_that_is_too_long_is_refused_and_not_cut():
    nop = family("gfx942").pm4.packet("Nop")
    with pytest.raises(FieldError, match="count"):
        nop(body=(0,) * 20_000).encode()


def test_a_queue_does_not_take_the_highest_priority():
    assert k.CreateQueue.BY_NAME["queue_priority"].default == 7


# --- memory and ends ------------------------------------------------------------------------------


@EVERY
def test_memory_is_not_used_after_it_was_freed_nor_freed_twice(target):
    (device,) = open_gpus(target)
    with device:
        buffer, other, queue = device.alloc(4096), device.alloc(4096), device.copy_queue()
        buffer.free()
        for use in (
            buffer.free, buffer.read, buffer.fill, buffer.view,
            lambda: buffer.write(b"x"), lambda: queue.copy(other, buffer),
            lambda: queue.fill(buffer), lambda: device.share(buffer, device),
        ):  # fmt: skip
            with pytest.raises(UsageError, match="was freed"):
                use()


def test_a_device_is_closed_with_work_pending_and_with_work_that_never_ends():
    for gate_opens in (True, False):
        (device,) = open_gpus("gfx942")
        with device:
            queue, gate, buffer = device.compute_queue(), device.timeline(), device.alloc(4096)
            queue.wait(gate.at(1))
            queue.write(buffer, b"abcd")
            queue.signal()
            if gate_opens:
                gate.set()
                seen = buffer
                device.close()
                assert seen.freed
        with pytest.raises(UsageError):
            buffer.read()


def test_freeing_thousands_of_buffers_takes_no_time_that_grows_with_them():
    (device,) = open_gpus("gfx1100")
    with device:
        buffers = [device.alloc(4096) for _ in range(2000)]
        addresses = {one.address for one in buffers}
        assert len(addresses) == 2000
        for buffer in reversed(buffers):
            buffer.free()
        assert device.alloc(4096).address in addresses


def test_a_machine_that_hides_the_host_path_register_still_opens(monkeypatch):
    from gputrace.devices.emulated import EmulatedKfd

    kfd = EmulatedKfd("gfx942")
    plain = kfd.ioctl

    def without_register(record, tail=None):
        if isinstance(record, k.AllocMemoryOfGpu) and record.flags & k.AllocFlag.MMIO_REMAP:
            raise KfdError("ALLOC_MEMORY_OF_GPU", 22)
        return plain(record, tail)

    monkeypatch.setattr(kfd, "ioctl", without_register)
    with driver.open_kfd(kfd) as device:
        buffer, queue = device.alloc(4096), device.compute_queue()
        buffer.write(b"abcd")
        queue.write(buffer, b"efgh", 4)
        queue.signal().wait(1.0)
        assert buffer.read(8) == b"abcdefgh"


def test_what_the_cpu_wrote_to_device_memory_is_flushed_before_the_doorbell(monkeypatch):
    (device,) = open_gpus("gfx942")
    with device:
        queue = device.compute_queue("pm4")
        near, far = device.alloc(4096), device.alloc(4096, "gtt")
        order = []
        flush = device.session.flush_host_path
        monkeypatch.setattr(
            device.session, "flush_host_path", lambda node: (order.append("flush"), flush(node))
        )
        plain = queue.ring._ring_doorbell
        queue.ring._ring_doorbell = lambda *a: (order.append("bell"), plain(*a))
        queue.write(near, b"abcd")
        far.write(b"abcd")
        queue.write(near, b"abcd")
        assert order == ["bell", "bell"]  # nothing of the CPU's was on its way
        near.write(b"abcd")
        queue.write(near, b"abcd")
        queue.write(near, b"abcd")
        assert order[2:] == ["flush", "bell", "bell"]
        array = near.view()
        for value in (1, 2):
            array[0] = value  # unseen from here on, so every doorbell flushes
            queue.write(near, b"abcd")
        assert order[5:] == ["flush", "bell"] * 2


def test_a_launch_takes_no_memory_of_its_own():
    (device,) = open_gpus("gfx942")
    with device:
        kernel, out = load(device)["fill"], device.alloc(256)
        for kind in ("pm4", "aql"):
            queue = device.compute_queue(kind)
            queue.launch(kernel, 1, 64, [out, 0]).wait(5.0)
            before = len(device.session.buffers), device.session.arena.used
            for value in range(50):
                queue.launch(kernel, 1, 64, [out, value])
            queue.synchronize()
            assert (len(device.session.buffers), device.session.arena.used) == before


def test_a_queue_gives_back_what_it_took():
    (device,) = open_gpus("gfx942")
    with device:
        kernel, out = load(device, level="O0")["fill"], device.alloc(256)
        device.compute_queue("pm4").launch(kernel, 1, 64, [out, 1]).wait(5.0)
        before = device.session.arena.used
        for kind in ("pm4", "aql", "copy"):
            queue = device.copy_queue() if kind == "copy" else device.compute_queue(kind)
            if kind == "copy":
                queue.fill(out, 1)
            else:
                queue.launch(kernel, 1, 64, [out, 1])
            queue.synchronize()
            queue.close()
            queue.close()
            with pytest.raises(UsageError, match="is closed"):
                queue.signal()
        assert device.session.arena.used <= before + 4096  # timelines share a page


@EVERY
def test_copy_engines_drop_stale_lines_after_a_wait_and_write_back_before_a_signal(target):
    (device,) = open_gpus(target)
    with device:
        queue, line = device.copy_queue(), device.timeline()
        sent = []
        queue.ring.put = lambda data, what: sent.append(device.family.sdma.stream(
            struct.unpack(f"<{len(data) // 4}I", data)))  # fmt: skip
        queue.wait(line.at(0))
        queue.signal()
        waited, signalled = ([packet for _, packet in stream] for stream in sent)
        names = [packet.CONCEPT for packet in (*waited, *signalled)]
        if target in ("gfx90a", "gfx942", "gfx950"):
            assert names == ["PollRegMem", "Fence", "Fence", "Trap"]
            return
        assert names == ["PollRegMem", "GcrRequest", "GcrRequest", "Fence", "Fence", "Trap"]
        drop, back = waited[1], signalled[0]
        assert drop.gl2_inv
        assert drop.glv_inv
        assert drop.gl2_wb
        assert back.gl2_wb
        assert not back.gl2_inv
        assert not (drop.gl2_discard)
        assert not (back.gl2_discard)
        assert {packet.mtype for packet in signalled if packet.CONCEPT == "Fence"} == {3}
