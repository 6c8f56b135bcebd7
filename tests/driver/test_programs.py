"""Programs as toolchains make them: several versions, bundles, globals, relocations, limits."""

import struct
from pathlib import Path

import numpy as np
import pytest

from gputrace import driver
from gputrace.errors import DecodeError, UsageError
from gputrace.families import FAMILIES

DATA = Path(__file__).parents[1] / "code" / "data"
STORED = [
    ("gfx942", "gfx942"), ("gfx942", "gfx942-v4"), ("gfx1100", "gfx1100"),
    ("gfx1100", "gfx11-generic-v6"),
]  # fmt: skip


@pytest.fixture(params=[(*one, kind) for one in STORED for kind in ("pm4", "aql")],
                ids=lambda one: "-".join(one[1:]))  # fmt: skip
def setup(request):
    target, name, kind = request.param
    with driver.open(f"emu:{target}") as device:
        yield device, device.load(DATA / f"{name}.co"), device.compute_queue(kind)


@pytest.mark.parametrize(("threads", "block"), [(200, 64), (64, 64), (1000, 256), (70, 33)])
def test_kernels_know_the_size_of_their_groups(setup, threads, block):
    device, program, queue = setup  # by hidden arguments, or by the dispatch packet in version 4
    x, y = device.alloc(4096), device.alloc(4096)
    x.write(np.arange(1024, dtype=np.float32))
    y.write(np.full(1024, 5, np.float32))
    queue.launch(program["saxpy"], threads=threads, block=block, args=[y, x, 2.0, 1024]).wait(9.0)
    expected = np.full(1024, 5, np.float32)
    expected[:threads] += 2 * np.arange(threads, dtype=np.float32)
    assert np.array_equal(y.view(np.float32), expected)


def test_globals_constants_and_relocated_pointers(setup):
    device, program, queue = setup
    out = device.alloc(64)
    results = []
    for which in range(4):
        queue.launch(program["through"], 1, 1, [out, which]).wait(9.0)
        results.append(int(out.view(np.int32)[0]))
    assert results == [7 + 3, 7 + 1, 7 + 4, 7 + 1]
    assert program.read("counter") == struct.pack("<i", 7)
    program.write("counter", struct.pack("<i", 100))
    queue.launch(program["through"], 1, 1, [out, 2]).wait(9.0)
    assert out.view(np.int32)[0] == 104
    address, size = program.symbol("pointers")
    assert size == 16
    assert program.read("pointers") == struct.pack("<Q", program.symbol("counter")[0]) * 2
    assert program.memory.address <= address < program.memory.end
    with pytest.raises(UsageError, match="not inside 4 bytes"):
        program.write("counter", bytes(5))
    with pytest.raises(UsageError, match="known are"):
        program.read("countre")


def test_a_group_size_that_the_code_was_made_for_is_demanded(setup):
    device, program, queue = setup
    data = device.alloc(256)
    data.write(np.arange(64, dtype=np.int32))
    queue.launch(program["reverse"], 1, 64, [data]).wait(9.0)
    assert np.array_equal(data.view(np.int32), np.arange(64)[::-1])
    with pytest.raises(UsageError, match=r"block must be \(64, 1, 1\)"):
        queue.launch(program["reverse"], 1, 32, [data])


def test_scratch_of_a_kernel_that_spills(setup):
    device, program, queue = setup
    out = device.alloc(64)
    for n in (3, 13):
        queue.launch(program["spill"], 1, 1, [out, n]).wait(9.0)
        assert out.view(np.int32)[0] == (n & 15) * n


def bundle(codes):
    at = 32 + sum(24 + len(name) for name in codes)
    head, body = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(codes)), b""
    for name, code in codes.items():
        head += struct.pack("<QQQ", at + len(body), len(code), len(name)) + name.encode()
        body += code
    return head + body


@pytest.mark.parametrize("target", FAMILIES)
def test_the_fitting_object_of_a_bundle_is_taken(target):
    codes = {
        f"hipv4-amdgcn-amd-amdhsa--{one}": (DATA / f"{one}.co").read_bytes()
        for one in FAMILIES
    }
    with driver.open(f"emu:{target}") as device:
        program, out = device.load(bundle(codes)), device.alloc(64)
        assert program.code.target == target
        device.compute_queue().launch(program["through"], 1, 1, [out, 0]).wait(9.0)
        assert out.view(np.int32)[0] == 10
        others = {entry: code for entry, code in codes.items() if not entry.endswith(target)}
        with pytest.raises(UsageError, match=target):
            device.load(bundle(others))


def test_several_programs_live_side_by_side():
    with driver.open("emu:gfx942") as device:
        programs = [device.load(DATA / "gfx942.co") for _ in range(3)]
        queue, out = device.compute_queue(), device.alloc(64)
        for number, program in enumerate(programs):
            program.write("counter", struct.pack("<i", 1000 * number))
        for number, program in enumerate(programs):
            queue.launch(program["through"], 1, 1, [out, 0]).wait(9.0)
            assert out.view(np.int32)[0] == 1000 * number + 3


def test_what_is_no_code_object_is_refused_and_nothing_is_left():
    with driver.open("emu:gfx942") as device:
        used = device.session.arena.used
        good = (DATA / "gfx942.co").read_bytes()
        machine = bytearray(good)
        machine[18:20] = struct.pack("<H", 62)  # x86-64
        for bad in (b"", b"text", good[:200], good[: len(good) // 2], bytes(machine)):
            with pytest.raises((UsageError, DecodeError)) as caught:
                device.load(bad)
            assert "\n" not in str(caught.value)
        with pytest.raises(UsageError, match="nowhere"):
            device.load("/nowhere/kernel.co")
        flags = bytearray(good)
        flags[0x31] |= 0x03  # EF_AMDGPU_FEATURE_XNACK_ON_V4
        with pytest.raises(UsageError, match="xnack"):
            device.load(bytes(flags))
        assert device.session.arena.used == used
