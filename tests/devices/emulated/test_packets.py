"""PM4 packets on an emulated queue: what they do to memory, and what stops the engine."""

import pytest

from gputrace.formats import pm4
from gputrace.formats.ioctl import FreeMemoryOfGpu, QueueType
from gputrace.formats.operations import AtomicOperation, Compare
from gputrace.formats.pm4 import (
    CopyFrom,
    CopyTo,
    DmaFrom,
    Event,
    EventIndex,
    ReleaseData,
    ReleaseMemGfx11,
)

WRITE = ReleaseData.DATA_64


def word(mapping, at, size=4):
    return int.from_bytes(mapping.view[at : at + size], "little")


@pytest.fixture
def data(bench):
    return bench.memory(8192)


@pytest.fixture
def ring(bench, data):
    return bench.queue()


def wait(address, reference, function=Compare.GE):
    return pm4.WaitRegMem(function=function, address=address, reference=reference)


def test_write_data_stores_its_dwords(bench, ring, data):
    ring.put(pm4.WriteData(address=data.address + 4, data=(1, 2, 3)))
    bench.run()
    assert bytes(data.view[:20]) == b"".join(v.to_bytes(4, "little") for v in (0, 1, 2, 3, 0))
    assert bench.kfd.stalls() == ()
    assert ring.read == ring.at


def test_release_mem_writes_value_clock_or_half(bench, ring, data):
    at = data.address
    for place, kind in ((0, ReleaseData.LOW_32), (8, WRITE), (16, ReleaseData.GPU_CLOCK)):
        ring.put(ReleaseMemGfx11(address=at + place, data=0x1_0000_0002, data_sel=kind))
    bench.run()
    assert (word(data, 0, 8), word(data, 8, 8)) == (2, 0x1_0000_0002)
    assert 0 < word(data, 16, 8) <= bench.kfd.clock_ticks()


@pytest.mark.parametrize("kind", [ReleaseData.LOW_32, ReleaseData.GPU_CLOCK])
def test_without_an_end_of_pipe_buffer_a_release_faults_at_address_zero(bench, data, kind):
    ring = bench.queue(eop_buffer_address=0, eop_buffer_size=0)
    ring.put(ReleaseMemGfx11(address=data.address, data=1, data_sel=kind))
    bench.run()
    (fault,) = bench.kfd.faults()
    assert (fault.kind, fault.address, fault.access, fault.packet) == ("memory", 0, "w", 0)
    assert word(data, 0) == 0


@pytest.mark.parametrize(
    ("function", "value", "goes_on"),
    [(Compare.ALWAYS, 0, True), (Compare.LT, 4, True), (Compare.LT, 5, False),
     (Compare.LE, 5, True), (Compare.LE, 6, False), (Compare.EQ, 5, True), (Compare.EQ, 4, False),
     (Compare.NE, 4, True), (Compare.NE, 5, False), (Compare.GE, 5, True), (Compare.GE, 4, False),
     (Compare.GT, 6, True), (Compare.GT, 5, False)],
)  # fmt: skip
def test_a_wait_goes_on_when_its_comparison_holds(bench, ring, data, function, value, goes_on):
    data.view[0] = value
    ring.put(wait(data.address, 5, function), pm4.WriteData(address=data.address + 8, data=(1,)))
    bench.run()
    assert word(data, 8) == goes_on
    assert len(bench.kfd.stalls()) == (not goes_on)


def test_the_cpu_frees_a_wait_by_a_plain_store(bench, ring, data):
    ring.put(wait(data.address, 1), pm4.WriteData(address=data.address + 8, data=(1,)))
    bench.run()
    assert word(data, 8) == 0
    data.view[0] = 1
    bench.run()
    assert word(data, 8) == 1


def test_a_stall_names_queue_packet_address_and_condition(bench, ring, data):
    ring.put(pm4.Nop(body=(7,)), wait(data.address + 64, 9))
    bench.run()
    (stall,) = bench.kfd.stalls()
    assert (stall.queue, stall.packet, stall.address) == (0, 1, data.address + 64)
    assert stall.place == ring.address + 8
    assert f"[{data.address + 64:#x}] >= 0x9, which is 0x0" in bench.kfd.hang_report()


def test_two_queues_that_wait_for_each_other_are_both_named(bench, ring, data):
    other = bench.queue()
    for mine, his, queue in ((0, 8, ring), (8, 0, other)):
        queue.put(
            wait(data.address + his, 1),
            pm4.WriteData(address=data.address + mine, data=(1,)),
        )
    bench.run()
    assert [stall.queue for stall in bench.kfd.stalls()] == [0, 1]


def test_copies_between_memory_registers_and_clock(bench, ring, data):
    at = data.address
    data.view[0:8] = bytes(range(1, 9))
    register = pm4.SH_BASE + 0x240
    ring.put(
        pm4.CopyData(
            src_sel=CopyFrom.MEMORY, dst_sel=CopyTo.L2, source=at, destination=at + 16,
            count_sel=True,
        ),
        pm4.CopyData(
            src_sel=CopyFrom.IMMEDIATE, dst_sel=CopyTo.REGISTER, source=77, destination=register
        ),
        pm4.CopyData(
            src_sel=CopyFrom.REGISTER, dst_sel=CopyTo.L2, source=register, destination=at + 32
        ),
        pm4.CopyData(
            src_sel=CopyFrom.GPU_CLOCK, dst_sel=CopyTo.L2, destination=at + 40, count_sel=True
        ),
    )  # fmt: skip
    bench.run()
    assert bytes(data.view[16:24]) == bytes(range(1, 9))
    assert word(data, 32) == 77
    assert 0 < word(data, 40, 8) <= bench.kfd.clock_ticks()


def test_dma_data_copies_and_fills(bench, ring, data):
    at = data.address
    data.view[0:5] = b"hello"
    ring.put(
        pm4.DmaData(source=at, destination=at + 101, byte_count=5),
        pm4.DmaData(
            src_sel=DmaFrom.DATA, source=0x44434241, destination=at + 200, byte_count=6
        ),
    )
    bench.run()
    assert bytes(data.view[101:107]) == b"hello\0"
    assert bytes(data.view[200:207]) == b"ABCDAB\0"


@pytest.mark.parametrize(
    ("name", "old", "source", "new"),
    [("SWAP", 5, 9, 9), ("ADD", 2**32 - 1, 2, 1), ("SUB", 1, 2, 2**32 - 1),
     ("SMIN", 2**32 - 1, 1, 2**32 - 1), ("UMIN", 2**32 - 1, 1, 1), ("SMAX", 2**32 - 1, 1, 1),
     ("UMAX", 2**32 - 1, 1, 2**32 - 1), ("AND", 12, 10, 8), ("OR", 12, 10, 14),
     ("XOR", 12, 10, 6), ("INC", 9, 9, 0), ("INC", 8, 9, 9), ("DEC", 0, 9, 9), ("DEC", 5, 9, 4),
     ("DEC", 12, 9, 9), ("INC", 12, 9, 0), ("DEC", 9, 9, 8), ("CLAMP_SUB", 9, 9, 0),
     ("CLAMP_SUB", 8, 9, 0), ("CLAMP_SUB", 11, 9, 2), ("COND_SUB", 8, 9, 8), ("COND_SUB", 9, 9, 0),
     ("SMIN", 5, 2**31, 2**31), ("CMPSWAP", 3, 8, 8), ("CMPSWAP", 4, 8, 4)],
)  # fmt: skip
def test_atomics(bench, ring, data, name, old, source, new):
    data.view[0:4] = old.to_bytes(4, "little")
    operation = AtomicOperation[f"{name}_RTN_32"]
    ring.put(
        pm4.AtomicMem(atomic=operation, address=data.address, source=source, compare=3),
        pm4.CopyData(
            src_sel=CopyFrom.ATOMIC_RETURN, dst_sel=CopyTo.L2, destination=data.address + 8
        ),
    )
    bench.run()
    assert (word(data, 0), word(data, 8)) == (new, old)


def test_an_indirect_buffer_runs_and_returns(bench, ring, data):
    code = bench.memory(4096)
    body = [
        *pm4.WriteData(address=data.address, data=(1,)).encode(),
        *wait(data.address + 8, 5).encode(),
        *pm4.WriteData(address=data.address + 16, data=(1,)).encode(),
    ]
    code.view.cast("I")[: len(body)] = memoryview(
        b"".join(v.to_bytes(4, "little") for v in body)
    ).cast("I")
    ring.put(
        pm4.IndirectBuffer(address=code.address, dwords_there=len(body)),
        pm4.WriteData(address=data.address + 24, data=(1,)),
    )
    bench.run()
    (stall,) = bench.kfd.stalls()
    assert stall.place == code.address + 4 * 5
    assert [data.view[at] for at in (0, 16, 24)] == [1, 0, 0]
    data.view[8] = 5
    bench.run()
    assert [data.view[at] for at in (0, 16, 24)] == [1, 1, 1]


@pytest.mark.parametrize("gate", [0, 1])
def test_cond_exec_skips_dwords_when_memory_is_zero(bench, ring, data, gate):
    data.view[0] = gate
    body = pm4.WriteData(address=data.address + 8, data=(1,))
    ring.put(
        pm4.CondExec(address=data.address, exec_count=body.dwords),
        body,
        pm4.WriteData(address=data.address + 16, data=(1,)),
    )
    bench.run()
    assert (data.view[8], data.view[16]) == (gate, 1)


def test_packets_straddle_the_end_of_the_ring(bench, data):
    ring = bench.queue(size=4096)
    for value in range(1, 900):
        ring.put(pm4.WriteData(address=data.address, data=(value, value)))
        if not value % 100:
            bench.run()
    bench.run()
    assert word(data, 4) == 899
    assert ring.read == ring.at % 1024


STOPS = [
    ([0xC0015500, 0, 0], "unknown opcode 0x55"),
    ([0xC0015500, 0, 0], "; hardware raises the bad-opcode interrupt and stands still"),
    ([0x40000000], "type 1"),
    ([0xC0013C00, 0, 0], "WAIT_REG_MEM has 7"),
    ([0xC0013C00, 0, 0], "; hardware takes as many dwords as the header says"),
    (pm4.WriteData(address=2, data=(1,)).encode(), "; hardware drops the low bits of the address"),
    (pm4.WriteData(address=2, data=(1,)).encode(), "not a multiple of 4"),
    (ReleaseMemGfx11(address=4, data_sel=WRITE).encode(), "not a multiple of 8"),
    (pm4.IndirectBuffer(address=4096, dwords_there=1, valid=False).encode(), "valid bit"),
    (pm4.SetUconfigReg(offset=1, values=(1,)).encode(), "register 0xc001 is not modelled"),
    (
        pm4.WriteData(address=0, data=(1,), engine_sel=1).encode(),
        "WRITE_DATA with engine_sel is not modelled",
    ),
    (
        wait(4096, 1).replace(mes_action=True, engine=1).encode(),
        "with engine and mes_action is not modelled",
    ),
    (pm4.Rewind().encode(), "REWIND is not modelled"),
    (ReleaseMemGfx11(execute=True).encode(), "RELEASE_MEM with execute is not modelled"),
    (
        pm4.EventWrite(event_type=Event.CS_PARTIAL_FLUSH).encode(),
        "CS_PARTIAL_FLUSH with index OTHER is not modelled",
    ),
    (
        pm4.EventWrite(event_type=Event.THREAD_TRACE_START, event_index=EventIndex.OTHER).encode(),
        "EVENT_WRITE of THREAD_TRACE_START is not modelled",
    ),
]


@pytest.mark.parametrize(("words", "reason"), STOPS, ids=[reason for _, reason in STOPS])
def test_a_bad_packet_stops_the_queue_with_a_reason(bench, ring, data, words, reason):
    ring.dwords(words)
    ring.put(pm4.WriteData(address=data.address, data=(1,)))
    bench.run()
    (fault,) = bench.kfd.faults()
    assert (fault.kind, fault.queue, fault.packet) == ("packet", 0, 0)
    assert reason in fault.text
    assert data.view[0] == 0
    named = [name for name in bench.kfd.refused if name in fault.text]
    assert bool(named) == ("not modelled" in reason)


@pytest.mark.parametrize("holds", [0, 1])
def test_cond_write_and_wide_waits(bench, ring, data, holds):
    at = data.address
    data.view[0] = 7 * holds
    data.view[8:16] = (1 << 40).to_bytes(8, "little")
    ring.put(
        pm4.CondWrite(
            function=Compare.EQ, poll_address=at, reference=7, write_address=at + 64, data=9
        ),
        pm4.WaitRegMem64(function=Compare.GE, address=at + 8, reference=1 << 40),
        pm4.Timestamp(bottom=True, bottom_address=at + 72, top=True, top_address=at + 80),
    )
    bench.run()
    assert bench.kfd.faults() == () == bench.kfd.stalls()
    assert word(data, 64) == 9 * holds
    assert 0 < word(data, 80, 8) <= word(data, 72, 8)


def test_a_skip_beyond_an_indirect_buffer_stops_the_queue(bench, ring, data):
    body = pm4.CondExec(address=data.address, exec_count=4).encode()
    data.view.cast("I")[64 : 64 + len(body)] = memoryview(
        b"".join(v.to_bytes(4, "little") for v in body)
    ).cast("I")
    ring.put(pm4.IndirectBuffer(address=data.address + 256, dwords_there=len(body)))
    bench.run()
    assert "COND_EXEC skips 4 dwords beyond the buffer" in bench.kfd.faults()[0].text


def test_a_packet_that_is_not_all_written_stalls(bench, ring, data):
    ring.dwords(pm4.WriteData(address=data.address, data=(1, 2)).encode()[:4])
    bench.run()
    assert "packet of 6 dwords, 4 are written" in bench.kfd.hang_report()


def test_a_write_pointer_beyond_the_ring_stops_the_queue(bench, ring):
    bench.kfd.doorbell(ring.doorbell, 5000)
    bench.run()
    assert "leaves the ring" in bench.kfd.faults()[0].text


def test_a_fault_names_packet_address_access_and_neighbour(bench, ring, data):
    ring.put(pm4.Nop(body=()), pm4.WriteData(address=data.address + 8192, data=(1,)))
    bench.run()
    (fault,) = bench.kfd.faults()
    assert (fault.kind, fault.queue, fault.packet) == ("memory", 0, 1)
    assert (fault.address, fault.access) == (data.address + 8192, "w")
    neighbour = f"a buffer (GTT, 0x2000 bytes at {data.address:#x})"
    assert fault.near == f"0x0 bytes after the end of {neighbour}"
    assert f"packet 1 (WRITE_DATA at {ring.address + 4:#x}): write at" in fault.text


def test_a_use_after_free_names_the_buffer_that_was_there(bench, ring):
    record = bench.allocate(4096)
    at = record.va_addr
    bench.map_gpu(record.handle)
    bench.kfd.label(at, 4096, "buffer", "weights")
    bench.run()
    bench.kfd.label(at, 0, "buffer", "")
    bench.unmap_gpu(record.handle)
    bench.kfd.ioctl(FreeMemoryOfGpu(handle=record.handle))
    ring.put(pm4.WriteData(address=at + 12, data=(1,)))
    bench.run()
    (fault,) = bench.kfd.faults()
    assert fault.near == (
        f"buffer 'weights' + 0xc (GTT, 0x1000 bytes at {at:#x}), which was freed at step 0"
    )


def test_a_fault_evicts_every_queue_of_the_gpu(bench, ring, data):
    other = bench.queue(QueueType.COMPUTE)
    ring.put(pm4.WriteData(address=data.address + 8192, data=(1,)))
    bench.run()
    other.put(pm4.WriteData(address=data.address, data=(1,)))
    bench.run()
    assert data.view[0] == 0
    assert "evicted" in bench.kfd.hang_report()


def order(make_bench, seed):
    bench = make_bench(schedule=seed)
    data = bench.memory(4096)
    queues = [bench.queue() for _ in range(3)]
    add = AtomicOperation.ADD_RTN_32
    for number, queue in enumerate(queues):
        for turn in range(8):
            target = data.address + 64 + 32 * number + 4 * turn
            queue.put(
                pm4.AtomicMem(atomic=add, address=data.address, source=1),
                pm4.CopyData(
                    src_sel=CopyFrom.ATOMIC_RETURN, dst_sel=CopyTo.L2, destination=target
                ),
            )
    bench.run()
    return bytes(data.view[64:160])


def test_a_seed_is_an_interleaving(make_bench):
    orders = [order(make_bench, seed) for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert len(set(orders)) > 2
    for one in orders:
        numbers = memoryview(one).cast("I")
        assert sorted(numbers) == list(range(24))
