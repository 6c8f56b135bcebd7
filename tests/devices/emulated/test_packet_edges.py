"""Where two readings of a packet part: masks, last against first, depth, dies, ends of buffers."""

from itertools import product

import pytest

from gputrace.errors import Divergence
from gputrace.families import FAMILIES, family
from gputrace.formats import aql, pm4
from gputrace.formats.ioctl import CreateEvent, EventType, QueueType
from gputrace.formats.operations import AtomicOperation, Compare
from gputrace.formats.pm4 import CopyFrom, CopyTo, ReleaseData, ReleaseInterrupt, WriteTo
from tests.devices.emulated.test_architected import Setup
from tests.devices.emulated.test_packets import word

ADD = AtomicOperation.ADD_RTN_32


@pytest.fixture
def data(bench):
    return bench.memory(8192)


@pytest.fixture
def ring(bench, data):
    return bench.queue()


@pytest.fixture
def setup(make_bench):
    return Setup(make_bench("gfx942"))


def fill(mapping, at, *packets):
    """Write packets into memory; return their dwords' number."""
    words = [one for packet in packets for one in packet.encode()]
    mapping.view[at : at + 4 * len(words)] = b"".join(v.to_bytes(4, "little") for v in words)
    return len(words)


def fault(bench):
    """Return the text of the one fault, and whether what it names was counted as refused."""
    (one,) = bench.kfd.faults()
    return one.text, any(name in one.text for name in bench.kfd.refused)


def steps(bench):
    """Take one step after another until none can be taken."""
    while True:
        try:
            bench.kfd.advance(bench.kfd.step + 1, 0)
        except Divergence:
            return
        yield


# --- PM4 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [0x17, 0x18])
def test_conditional_writes_compare_under_their_mask(bench, ring, data, there):
    data.view[0] = there
    ring.put(
        pm4.CondWrite(
            function=Compare.EQ, poll_address=data.address, reference=7, mask=0x0F,
            write_address=data.address + 8, data=1,
        )
    )  # fmt: skip
    bench.run()
    assert word(data, 8) == (there & 0x0F == 7)


@pytest.mark.parametrize(("depth", "runs"), [(1, True), (2, True), (3, False)])
def test_buffers_nest_once(bench, ring, data, depth, runs):
    count = fill(data, 0x100, pm4.WriteData(address=data.address, data=(1,)))
    for level in range(1, depth):
        inner = data.address + 0x100 * level
        count = fill(data, 0x100 * (level + 1),
                     pm4.IndirectBuffer(address=inner, dwords_there=count))  # fmt: skip
    ring.put(pm4.IndirectBuffer(address=data.address + 0x100 * depth, dwords_there=count))
    bench.run()
    assert word(data, 0) == runs
    if not runs:
        assert fault(bench)[0].endswith("nested indirect buffer is not modelled")


def test_a_chained_buffer_is_jumped_to_and_a_chain_in_the_ring_is_refused(bench, ring, data):
    at = data.address
    second = fill(data, 0x200, pm4.WriteData(address=at, data=(1,)))
    first = fill(
        data, 0x100,
        pm4.IndirectBuffer(address=at + 0x200, dwords_there=second, chain=True),
        pm4.WriteData(address=at + 8, data=(1,)),
    )  # fmt: skip
    ring.put(
        pm4.IndirectBuffer(address=at + 0x100, dwords_there=first),
        pm4.WriteData(address=at + 16, data=(1,)),
    )
    bench.run()
    assert (word(data, 0), word(data, 8), word(data, 16)) == (1, 0, 1)
    ring.put(pm4.IndirectBuffer(address=at + 0x200, dwords_there=second, chain=True))
    bench.run()
    text, counted = fault(bench)
    assert "with chain in the ring itself is not modelled" in text
    assert counted


def test_many_dwords_to_one_address_leave_the_last(bench, ring, data):
    ring.put(pm4.WriteData(address=data.address, data=(1, 2, 3), one_address=True))
    bench.run()
    assert [word(data, at) for at in (0, 4, 8)] == [3, 0, 0]


def test_registers_are_written_in_order_and_read_back(bench, ring, data):
    first = pm4.SH_BASE + 0x240
    ring.put(
        pm4.SetShReg(offset=0x240, values=(5, 6, 7)),
        pm4.WriteData(dst_sel=WriteTo.REGISTER, address=first + 1, data=(8,)),
        *(
            pm4.CopyData(src_sel=CopyFrom.REGISTER, dst_sel=CopyTo.L2, source=first + at,
                         destination=data.address + 4 * at)
            for at in range(3)
        ),
    )  # fmt: skip
    bench.run()
    assert [word(data, 4 * at) for at in range(3)] == [5, 8, 7]


@pytest.mark.parametrize("kind", ["set", "indexed", "write", "copy", "pairs"])
def test_registers_that_queues_may_not_write_are_refused(make_bench, kind):
    bench = make_bench("gfx1201")
    data, ring = bench.memory(4096), bench.queue()
    vmid = bench.family.registers.address("COMPUTE_VMID")
    offset = vmid - pm4.SH_BASE
    packet = {
        "set": pm4.SetShReg(offset=offset, values=(1,)),
        "indexed": pm4.SetShRegIndex(offset=offset, values=(1,)),
        "write": pm4.WriteDataGfx12(dst_sel=WriteTo.REGISTER, address=vmid, data=(1,)),
        "copy": pm4.CopyDataGfx12(
            src_sel=CopyFrom.IMMEDIATE, dst_sel=CopyTo.REGISTER, source=1, destination=vmid
        ),
        "pairs": pm4.SetShRegPairs(pairs=(offset, 1)),
    }[kind]
    ring.put(packet, pm4.WriteDataGfx12(address=data.address, data=(1,)))
    bench.run()
    text, counted = fault(bench)
    assert f"register {vmid:#x} is not modelled" in text
    assert counted
    assert word(data, 0) == 0


def test_indexed_registers_are_masks_of_units_and_no_others(bench, ring):
    masks = bench.family.registers.address("COMPUTE_STATIC_THREAD_MGMT_SE0") - pm4.SH_BASE
    ring.put(pm4.SetShRegIndex(offset=masks, values=(0xFFFF,)))
    bench.run()
    assert bench.kfd.faults() == ()
    ring.put(pm4.SetShRegIndex(offset=0x240, values=(1,)))
    bench.run()
    assert "SET_SH_REG_INDEX 3 of register 0x2e40" in fault(bench)[0]


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [((0x240, 1, 0x241), "half a pair"), ((0x10240, 1), "offset 0x10240 is not modelled")],
)
def test_pairs_are_whole_and_have_no_other_bits(make_bench, pairs, reason):
    bench = make_bench("gfx1201")
    bench.queue().put(pm4.SetShRegPairs(pairs=pairs))
    bench.run()
    assert reason in fault(bench)[0]


def test_pairs_write_registers_one_by_one(make_bench):
    bench = make_bench("gfx1201")
    data, ring = bench.memory(4096), bench.queue()
    ring.put(
        pm4.SetShRegPairs(pairs=(0x242, 9, 0x240, 4)),
        *(
            pm4.CopyDataGfx12(src_sel=CopyFrom.REGISTER, dst_sel=CopyTo.L2,
                              source=pm4.SH_BASE + 0x240 + at, destination=data.address + 4 * at)
            for at in range(3)
        ),
    )  # fmt: skip
    bench.run()
    assert [word(data, 4 * at) for at in range(3)] == [4, 0, 9]


def test_half_of_a_wide_immediate_is_copied(bench, ring, data):
    ring.put(
        pm4.CopyData(src_sel=CopyFrom.IMMEDIATE, dst_sel=CopyTo.L2, source=0x5_0000_0006,
                     destination=data.address),
        pm4.CopyData(src_sel=CopyFrom.IMMEDIATE, dst_sel=CopyTo.L2, source=0x5_0000_0006,
                     destination=data.address + 8, count_sel=True),
    )  # fmt: skip
    bench.run()
    assert (word(data, 0, 8), word(data, 8, 8)) == (6, 0x5_0000_0006)


@pytest.mark.parametrize("bit", ["sas", "das", "saic", "daic"])
def test_dma_of_registers_or_to_one_address_is_refused(bench, ring, data, bit):
    packet = pm4.DmaData(source=data.address, destination=data.address + 64, byte_count=8)
    ring.put(packet.replace(**{bit: True}))
    bench.run()
    assert "DMA_DATA with registers or a fixed address" in fault(bench)[0]


@pytest.mark.parametrize("kind", [32, 64])
def test_a_looping_swap_waits_for_its_value(bench, ring, data, kind):
    swap = AtomicOperation[f"CMPSWAP_RTN_{kind}"]
    ring.put(
        pm4.AtomicMem(
            atomic=swap, address=data.address, source=9, compare=4,
            command=pm4.AtomicCommand.LOOP_UNTIL_COMPARE_SATISFIED,
        ),
        pm4.WriteData(address=data.address + 16, data=(1,)),
    )  # fmt: skip
    bench.run()
    assert (word(data, 0), word(data, 16)) == (0, 0)
    data.view[0] = 4
    bench.run()
    assert (word(data, 0), word(data, 16)) == (9, 1)


def events_of(bench):
    """Return an event, its id and the address of its slot."""
    page = bench.memory(32768)
    buffers = bench.kfd._process.buffers.items()
    handle = next(handle for handle, buffer in buffers if buffer.address == page.address)
    made = bench.kfd.ioctl(CreateEvent(event_page_offset=handle, event_type=EventType.SIGNAL))
    return made.event_id, page.address + 8 * made.event_slot_index


@pytest.mark.parametrize(
    ("interrupt", "stored", "sent"),
    [(ReleaseInterrupt.NONE, True, False), (ReleaseInterrupt.INTERRUPT_ONLY, False, False),
     (ReleaseInterrupt.AFTER_WRITE_CONFIRM, True, True),
     (ReleaseInterrupt.WRITE_CONFIRM_ONLY, True, False),
     (ReleaseInterrupt.CONTEXT_ID_ALWAYS, True, True)],
)  # fmt: skip
def test_a_release_interrupts_after_its_store(bench, ring, interrupt, stored, sent):
    # An interrupt that came before the store would find an empty mailbox and signal nothing.
    number, slot = events_of(bench)
    ring.put(
        pm4.ReleaseMemGfx11(
            address=slot, data=number, data_sel=ReleaseData.DATA_64, int_sel=interrupt,
            int_ctxid=number,
        )
    )  # fmt: skip
    bench.run()
    assert bench.kfd.faults() == ()
    event = bench.kfd._process.events.find(number, "")
    assert event.signalled == sent
    assert (bench.kfd._process.gpus[0].space.load(slot, 8) == number) == (stored and not sent)


@pytest.mark.parametrize("whole", [True, False])
def test_what_cond_exec_skips_has_to_be_there(bench, ring, data, whole):
    body = pm4.WriteData(address=data.address + 8, data=(1,)).encode()
    ring.put(pm4.CondExec(address=data.address, exec_count=len(body)))
    ring.dwords(body if whole else body[:3])
    bench.run()
    assert bench.kfd.faults() == ()
    assert len(bench.kfd.stalls()) == (not whole)
    assert word(data, 8) == 0


def test_dies_execute_the_same_stream_each_for_itself(setup):
    # Eight dies add, then two of them, then all again in the next buffer.
    at, code = setup.data.address + 4096, setup.bench.memory(4096)
    atomic = pm4.AtomicMem(atomic=ADD, address=at, source=1)
    count = fill(code, 0, atomic, pm4.PredExec(exec_count=atomic.dwords, xcc_select=0x41), atomic)
    xccs = setup.bench.node.xccs
    setup.put(aql.VendorPm4(ib_address=code.address, ib_size=count))
    setup.bench.run()
    assert word(setup.data, 4096) == xccs + 2
    setup.put(aql.VendorPm4(ib_address=code.address, ib_size=atomic.dwords))
    setup.bench.run()
    assert word(setup.data, 4096) == 2 * xccs + 2


@pytest.mark.parametrize("seed", range(6))
def test_a_barrier_waits_for_earlier_signals_and_not_for_waves_alone(make_bench, seed):
    setup = Setup(make_bench("gfx942", schedule=seed))
    first, second = setup.signal(1), setup.signal(1)
    code = setup.bench.memory(4096)
    count = fill(code, 0, pm4.Nop(body=(0,)))
    setup.put(
        setup.kernel(),
        aql.VendorPm4(ib_address=code.address, ib_size=count, completion_signal=first),
        aql.BarrierAnd(barrier=True, completion_signal=second),
    )
    seen = {(setup.value(first), setup.value(second)) for _ in steps(setup.bench)}
    assert seen == {(1, 1), (0, 1), (0, 0)}


def test_reserved_bits_of_a_slot_are_refused(setup):
    done = setup.signal(1)
    setup.put(aql.BarrierAnd(completion_signal=done), ring=False)
    setup.ring.view[3] = 1
    setup.bench.kfd.doorbell(setup.doorbell, 0)
    setup.bench.run()
    assert "BarrierAnd with reserved bits" in fault(setup.bench)[0]
    assert setup.value(done) == 1


@pytest.mark.parametrize(("size", "runs"), [(1024, True), (1025, False)])
def test_a_work_group_may_be_as_large_as_it_may(setup, size, runs):
    done = setup.signal(1)
    setup.put(setup.kernel(workgroup_size_x=size, grid_size_x=size, completion_signal=done))
    setup.bench.run()
    assert (setup.value(done) == 0) == (setup.bench.kfd.faults() == ()) == runs


def test_time_goes_on_with_work(setup):
    setup.set_queue(queue_properties=aql.QueueProperty.ENABLE_PROFILING)
    signals = [setup.signal(1) for _ in range(3)]
    for signal in signals:
        setup.put(setup.kernel(completion_signal=signal, barrier=True))
    setup.bench.run()
    base = setup.data.address
    times = [
        aql.AmdSignal.from_bytes(setup.data.view[one - base : one - base + 64]) for one in signals
    ]
    marks = [mark for one in times for mark in (one.start_ts, one.end_ts)]
    assert sorted(marks) == marks
    assert all(one.start_ts < one.end_ts for one in times)


# --- SDMA ---------------------------------------------------------------------------------------


@pytest.fixture(params=FAMILIES)
def engine(request, make_bench):
    bench = make_bench(request.param)
    return bench, bench.queue(QueueType.SDMA), bench.memory(8192), family(request.param).sdma.packet


@pytest.mark.parametrize("before", [0, 1, 3, 6])
def test_buffers_end_at_eight_dwords_and_nowhere_else(engine, before):
    bench, ring, data, packet = engine
    fill(data, 4096, packet("Fence")(address=data.address, data=7))
    ring.dwords([0] * before)
    ring.put(packet("IndirectBuffer")(address=data.address + 4096, dwords_there=4))
    bench.run()
    assert "not at a multiple of 8" in fault(bench)[0]
    assert word(data, 0) == 0


@pytest.mark.parametrize(("there", "reference"), list(product([0, 1, 2], repeat=2)))
def test_cond_exec_compares_with_its_reference(engine, there, reference):
    bench, ring, data, packet = engine
    data.view[0] = there
    fence = packet("Fence")(address=data.address + 8, data=1)
    ring.put(
        packet("CondExec")(address=data.address, reference=reference, exec_count=fence.dwords),
        fence,
    )
    bench.run()
    assert word(data, 8) == (there == reference)


def test_what_the_copy_engine_skips_has_to_be_there(engine):
    bench, ring, data, packet = engine
    ring.put(packet("CondExec")(address=data.address, reference=1, exec_count=4))
    ring.dwords([0])
    bench.run()
    assert bench.kfd.faults() == ()
    assert len(bench.kfd.stalls()) == 1


def polls(packet, at):
    """Give polls that the engine would do otherwise than the emulation can."""
    poll = packet("PollRegMem")(function=Compare.GE, address=at, reference=1)
    yield poll.replace(retry_count=5), "with 5 retries"
    yield poll.replace(in_memory=False), "of register"
    yield poll.replace(hdp_flush=1), "of memory with a flush"


@pytest.mark.parametrize("number", range(3))
def test_polls_that_end_otherwise_are_refused(engine, number):
    bench, ring, data, packet = engine
    data.view[0] = 1
    poll, reason = list(polls(packet, data.address))[number]
    ring.put(poll)
    bench.run()
    text, counted = fault(bench)
    assert reason in text
    assert counted


def test_fills_of_words_and_copies_backwards_onto_themselves_are_refused(engine):
    bench, ring, data, packet = engine
    ring.put(packet("ConstantFill")(destination=data.address, data=1, count=7, fill_size=1))
    bench.run()
    assert "CONSTANT_FILL of size 1" in fault(bench)[0]


def test_a_copy_backwards_is_done_where_it_makes_no_difference(make_bench):
    for apart, well in ((64, True), (63, False)):
        bench = make_bench("gfx1100")
        ring, data = bench.queue(QueueType.SDMA), bench.memory(4096)
        data.view[:64] = bytes(range(64))
        ring.put(
            bench.family.sdma.packet("CopyLinear")(
                count=63, source=data.address, destination=data.address + apart, backwards=True
            )
        )
        bench.run()
        assert (bench.kfd.faults() == ()) == well
        assert (bytes(data.view[apart : apart + 64]) == bytes(range(64))) == well


def test_long_copies_and_fills_leave_turns_to_others(engine):
    bench, ring, _, packet = engine
    long = bench.memory(1 << 20)
    for many, size in ((1, 256 << 10), (4, 1 << 20)):
        for made in (
            packet("ConstantFill")(destination=long.address, data=7, count=size - 1, fill_size=2),
            packet("CopyLinear")(count=size - 1, source=long.address, destination=long.address),
        ):
            before = bench.kfd.step
            ring.put(made)
            bench.run()
            assert bench.kfd.step - before == many


def test_a_looping_atomic_of_the_copy_engine_waits(engine):
    bench, ring, data, packet = engine
    swap = AtomicOperation.CMPSWAP_RTN_64
    ring.put(
        packet("Atomic")(atomic=swap, address=data.address, source=9, compare=4, loop=True),
        packet("Fence")(address=data.address + 16, data=1),
    )
    bench.run()
    assert word(data, 16) == 0
    data.view[0] = 4
    bench.run()
    assert (word(data, 0, 8), word(data, 16)) == (9, 1)
