"""Dispatches by PM4: registers in, work-groups out, and waves that cannot go on."""

import pytest

from gputrace.formats import pm4
from gputrace.formats.pm4 import Event, EventIndex, ReleaseData, ReleaseMemGfx11

S_ENDPGM = {"gfx1100": 0xBFB00000, "gfx942": 0xBF810000}


def registers(family, **values):
    table = family.registers
    for name, value in values.items():
        offset = table.address(f"COMPUTE_{name}") - pm4.SH_BASE
        yield pm4.SetShReg(offset=offset, values=(value,))


def program(bench, address, **more):
    values = {
        "PGM_LO": address >> 8 & 0xFFFFFFFF,
        "PGM_HI": address >> 40,
        "NUM_THREAD_X": 64,
        "NUM_THREAD_Y": 1,
        "NUM_THREAD_Z": 1,
    }
    return list(registers(bench.family, **(values | more)))


@pytest.fixture
def code(bench):
    mapping = bench.memory(4096)
    mapping.view.cast("I")[:4] = memoryview(
        b"".join(v.to_bytes(4, "little") for v in [S_ENDPGM["gfx1100"]] * 4)
    ).cast("I")
    return mapping


def test_a_release_comes_after_the_waves(bench, code):
    ring, data = bench.queue(), bench.memory(4096)
    ring.put(
        *program(bench, code.address),
        pm4.DispatchDirect(dim_x=3, initiator=0x8005),
        ReleaseMemGfx11(address=data.address, data=7, data_sel=ReleaseData.LOW_32),
        pm4.EventWrite(event_type=Event.CS_PARTIAL_FLUSH, event_index=EventIndex.CS_PARTIAL_FLUSH),
        pm4.WriteData(address=data.address + 8, data=(1,)),
    )
    bench.run()
    assert bench.kfd.faults() == ()
    assert (data.view[0], data.view[8]) == (7, 1)


def test_code_that_is_not_there_is_a_fault_of_a_wave(bench, code):
    ring = bench.queue()
    ring.put(
        *program(bench, code.address + 4096),
        pm4.DispatchDirect(dim_x=1, initiator=0x8005),
    )
    bench.run()
    (fault,) = bench.kfd.faults()
    assert (fault.kind, fault.access, fault.address) == ("memory", "x", code.address + 4096)
    assert (fault.workgroup, fault.wave, fault.pc) == ((0, 0, 0), 0, code.address + 4096)
    assert fault.packet == 5


@pytest.mark.parametrize(
    ("changes", "initiator", "reason"),
    [
        ({"NUM_THREAD_X": 0}, 0x8005, "a work-group of 0 x 1 x 1"),
        ({"NUM_THREAD_X": 2048}, 0x8005, "a work-group of 2048 x 1 x 1"),
        ({"PERFCOUNT_ENABLE": 1}, 0x8005, "COMPUTE_PERFCOUNT_ENABLE 0x1 is not modelled"),
        ({"PGM_RSRC1": 1 << 26}, 0x8005, "fp16_ovfl 0x1 in PGM_RSRC1 is not modelled"),
        ({"PGM_RSRC2": 3 << 24}, 0x8005, "excp_en 0x3 in PGM_RSRC2 is not modelled"),
        ({}, 0x8004, "does not enable"),
        ({}, 0x800D, "ordered_append_enbl in its initiator is not modelled"),
    ],
)
def test_a_dispatch_that_cannot_be_stops_the_queue(bench, code, changes, initiator, reason):
    ring = bench.queue()
    ring.put(
        *program(bench, code.address, **changes),
        pm4.DispatchDirect(dim_x=1, initiator=initiator),
    )
    bench.run()
    assert reason in bench.kfd.faults()[0].text


@pytest.mark.parametrize(
    ("target", "name", "value", "reason"),
    [("gfx90a", "RESTART_Y2", 1, "COMPUTE_RESTART_Y2 0x1 is not modelled"),
     ("gfx1201", "NUM_THREAD_X", 64 | 1 << 13, "interleave_bits in COMPUTE_NUM_THREAD")],
)  # fmt: skip
def test_registers_of_one_family_that_would_change_the_order_of_work(
    make_bench, target, name, value, reason
):
    bench = make_bench(target)
    bench.queue().put(
        *program(bench, bench.memory(4096).address, **{name: value}),
        pm4.DispatchDirect(dim_x=1, initiator=5),
    )
    bench.run()
    assert reason in bench.kfd.faults()[0].text


@pytest.mark.parametrize("left", [0, 2])
def test_a_dispatch_needs_a_compute_unit(bench, code, left):
    names = [name.removeprefix("COMPUTE_") for name in bench.family.registers.addresses
             if "STATIC_THREAD_MGMT_SE" in name]  # fmt: skip
    masks = dict.fromkeys(names, 0) | {names[-1]: left}
    bench.queue().put(
        *program(bench, code.address, **masks), pm4.DispatchDirect(dim_x=1, initiator=0x8005)
    )
    bench.run()
    text = "".join(fault.text for fault in bench.kfd.faults())
    assert ("all compute units masked is not modelled" in text) == (not left)


def test_an_empty_grid_launches_nothing(bench):
    ring = bench.queue()
    ring.put(*program(bench, 0), pm4.DispatchDirect(dim_x=0, initiator=0x8005))
    bench.run()
    assert bench.kfd.faults() == ()
