"""AQL packets on an emulated queue: signals, barriers, kernels, PM4 in vendor packets."""

import pytest

from gputrace.formats import aql, pm4
from gputrace.formats.descriptor import KernelDescriptor
from gputrace.formats.ioctl import CreateEvent, EventType, QueueType

AQL = QueueType.COMPUTE_AQL
S_ENDPGM = 0xBF810000


class Setup:
    def __init__(self, bench):
        self.bench = bench
        record, ring, self.shared = bench.queue_record(AQL)
        self.queue_at = self.shared.address
        self.set_queue()
        changes = {
            "write_pointer_address": self.queue_at + aql.WRITE_DISPATCH_ID,
            "read_pointer_address": self.queue_at + aql.READ_DISPATCH_ID,
        }
        answer = bench.kfd.ioctl(record.replace(**changes))
        page, byte = answer.doorbell_offset & ~0x1FFF, answer.doorbell_offset & 0x1FFF
        at = bench.kfd.reserve(8192)
        doorbells = bench.kfd.map(fd="kfd", offset=page, size=8192, address=at)
        self.doorbell = doorbells.address + byte
        self.ring, self.index = ring, 0
        for slot in range(64):
            ring.view[64 * slot] = aql.PacketType.INVALID
        self.data = bench.memory(8192)
        self.signals = 0

    def set_queue(self, **values):
        queue = aql.AmdQueue(**values)
        self.shared.view[: 4 * queue.WORDS] = queue.to_bytes()

    def signal(self, value=1, **more):
        at = 64 * self.signals
        self.signals += 1
        self.data.view[at : at + 64] = aql.AmdSignal(value=value, **more).to_bytes()
        return self.data.address + at

    def value(self, signal):
        at = signal - self.data.address + aql.SIGNAL_VALUE
        return int.from_bytes(self.data.view[at : at + 8], "little", signed=True)

    def put(self, *packets, ring=True):
        for packet in packets:
            at = 64 * (self.index % 64)
            self.ring.view[at : at + 64] = packet.to_bytes()
            self.index += 1
        if ring:
            self.bench.kfd.doorbell(self.doorbell, self.index - 1)

    def kernel(self, lanes=64, **more):
        code = self.bench.memory(4096)
        code.view[256:260] = S_ENDPGM.to_bytes(4, "little")
        descriptor = KernelDescriptor(
            kernel_code_entry_byte_offset=256, enable_wavefront_size32=int(lanes == 32)
        )
        code.view[:64] = descriptor.to_bytes()
        values = {
            "dimensions": 1,
            "workgroup_size_x": 64,
            "grid_size_x": 100,
            "kernel_object": code.address,
        }
        return aql.KernelDispatch(**(values | more))


@pytest.fixture
def setup(make_bench):
    return Setup(make_bench("gfx942"))


def test_barriers_complete_their_signals(setup):
    gate, one, two = setup.signal(1), setup.signal(1), setup.signal(1)
    setup.put(
        aql.BarrierAnd(dep_signal_0=gate, completion_signal=one),
        aql.BarrierAnd(completion_signal=two),
    )
    setup.bench.run()
    (stall,) = setup.bench.kfd.stalls()
    assert (stall.packet, stall.address) == (0, gate + aql.SIGNAL_VALUE)
    assert (setup.value(one), setup.value(two)) == (1, 1)
    setup.data.view[8] = 0
    setup.bench.run()
    assert (setup.value(one), setup.value(two)) == (0, 0)
    assert setup.ring.view[0] == setup.ring.view[64] == aql.PacketType.INVALID
    at = aql.READ_DISPATCH_ID
    assert int.from_bytes(setup.shared.view[at : at + 8], "little") == 2


@pytest.mark.parametrize(("values", "goes_on"), [((1, 0), True), ((1, 1), False)])
def test_an_or_barrier_needs_one(setup, values, goes_on):
    first, second = (setup.signal(value) for value in values)
    done = setup.signal(1)
    setup.put(aql.BarrierOr(dep_signal_0=first, dep_signal_3=second, completion_signal=done))
    setup.bench.run()
    assert setup.value(done) == (not goes_on)


def test_of_several_values_that_are_needed_one_that_nobody_writes_is_enough(setup):
    never, late = setup.signal(1), setup.signal(1)
    setup.put(
        aql.BarrierAnd(dep_signal_0=never, dep_signal_1=late),
        aql.BarrierAnd(completion_signal=late),
    )
    setup.bench.run()
    (stall,) = setup.bench.kfd.stalls()
    assert (stall.kind, stall.address) == ("stall", never + aql.SIGNAL_VALUE)
    assert "no packet that is left would write that" in stall.text


def test_of_several_values_of_which_one_is_needed_any_may_come(setup):
    never, late = setup.signal(1), setup.signal(1)
    setup.put(
        aql.BarrierOr(dep_signal_0=never, dep_signal_1=late),
        aql.BarrierAnd(completion_signal=late),
    )
    setup.bench.run()
    (stall,) = setup.bench.kfd.stalls()
    assert (stall.kind, stall.writer) == ("deadlock", (0, 0, 1))
    assert "packet 1 of queue 0 would free it" in stall.text


def test_an_or_barrier_of_nothing_never_completes(setup):
    setup.put(aql.BarrierOr())
    setup.bench.run()
    assert "no signals" in setup.bench.kfd.hang_report()


@pytest.mark.parametrize(
    ("condition", "value", "goes_on"),
    [(0, -3, True), (0, 3, False), (1, 3, True), (1, -3, False), (2, -4, True), (2, -3, False),
     (2, 5, False), (3, -3, True), (3, 0, True), (3, -4, False)],
)  # fmt: skip
def test_barrier_value_compares_signed(setup, condition, value, goes_on):
    signal, done = setup.signal(value), setup.signal(1)
    condition = aql.SignalCondition(condition)
    setup.put(
        aql.BarrierValue(signal=signal, value=-3, condition=condition, completion_signal=done)
    )
    setup.bench.run()
    assert setup.value(done) == (not goes_on)


def test_a_kernel_runs_and_completes_with_times_when_profiled(setup):
    setup.set_queue(queue_properties=aql.QueueProperty.ENABLE_PROFILING)
    done = setup.signal(1)
    setup.put(setup.kernel(completion_signal=done))
    setup.bench.run()
    assert setup.bench.kfd.faults() == ()
    assert setup.value(done) == 0
    signal = aql.AmdSignal.from_bytes(setup.data.view[:64])
    assert 0 < signal.start_ts <= signal.end_ts


def test_a_completion_interrupts_through_its_mailbox(setup):
    bench = setup.bench
    page = bench.memory(32768)
    handle = next(
        handle
        for handle, buffer in bench.kfd._process.buffers.items()
        if buffer.address == page.address
    )
    event = bench.kfd.ioctl(CreateEvent(event_page_offset=handle, event_type=EventType.SIGNAL))
    mailbox = page.address + 8 * event.event_slot_index
    done = setup.signal(1, event_mailbox_ptr=mailbox, event_id=event.event_id)
    setup.put(aql.BarrierAnd(completion_signal=done))
    bench.run()
    assert bench.kfd._process.events.find(event.event_id, "").signalled


def test_a_slot_that_is_not_published_holds_the_queue(setup):
    done = setup.signal(1)
    setup.put(aql.Invalid())
    setup.bench.run()
    assert len(setup.bench.kfd.stalls()) == 1
    setup.index = 0
    setup.put(aql.BarrierAnd(completion_signal=done))
    setup.bench.run()
    assert setup.value(done) == 0


def test_pm4_in_a_vendor_packet(setup):
    words = [
        *pm4.PredExec(exec_count=5, xcc_select=2).encode(),
        *pm4.WriteData(address=setup.data.address + 4096, data=(1,)).encode(),
        *pm4.PredExec(exec_count=5, xcc_select=0).encode(),
        *pm4.WriteData(address=setup.data.address + 4100, data=(1,)).encode(),
        *pm4.WriteData(address=setup.data.address + 4104, data=(1,)).encode(),
    ]
    code = setup.bench.memory(4096)
    code.view[: 4 * len(words)] = b"".join(v.to_bytes(4, "little") for v in words)
    done = setup.signal(1)
    setup.put(
        aql.VendorPm4(ib_address=code.address, ib_size=len(words), completion_signal=done)
    )
    setup.bench.run()
    assert setup.bench.kfd.faults() == ()
    assert [setup.data.view[4096 + at] for at in (0, 4, 8)] == [1, 0, 1]
    assert setup.value(done) == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"grid_size_x": 0}, "INVALID_DIMENSIONS"),
        ({"workgroup_size_x": 2048}, "WORK_GROUP_TOO_LARGE"),
        ({"group_segment_size": 1 << 17}, "INVALID_GROUP_MEMORY"),
        ({"kernel_object": 0}, "INVALID_CODE_OBJECT"),
    ],
)
def test_a_dispatch_that_cannot_be_goes_to_the_inactive_signal(setup, changes, code):
    inactive = setup.signal(0)
    setup.set_queue(queue_inactive_signal=inactive)
    setup.put(setup.kernel(**changes))
    setup.bench.run()
    assert code in setup.bench.kfd.faults()[0].text
    assert setup.value(inactive) == aql.QueueError[code]


def test_scratch_is_asked_for_and_the_packet_tried_again(setup):
    inactive, done = setup.signal(0), setup.signal(1)
    setup.set_queue(queue_inactive_signal=inactive)
    setup.put(setup.kernel(private_segment_size=64, completion_signal=done))
    setup.bench.run()
    assert setup.value(inactive) == aql.QueueError.SCRATCH_WAVE64
    read = int.from_bytes(setup.shared.view[128:136], "little")
    setup.set_queue(
        queue_inactive_signal=inactive, scratch_wave64_lane_byte_size=64, read_dispatch_id=read
    )
    setup.data.view[8:16] = bytes(8)
    setup.bench.run()
    assert setup.value(done) == 0


@pytest.mark.parametrize(
    ("lanes", "size", "code"),
    [(64, 64, 0), (64, 65, aql.QueueError.SCRATCH_WAVE64),
     (32, 128, 0), (32, 129, aql.QueueError.SCRATCH_WAVE32)],
)  # fmt: skip
def test_room_for_scratch_counts_by_waves_of_64_lanes(make_bench, lanes, size, code):
    setup = Setup(make_bench("gfx1030"))
    inactive, done = setup.signal(0), setup.signal(1)
    setup.set_queue(queue_inactive_signal=inactive, scratch_wave64_lane_byte_size=64)
    setup.put(setup.kernel(lanes, private_segment_size=size, completion_signal=done))
    setup.bench.run()
    assert (setup.value(inactive), setup.value(done)) == (code, int(code != 0))


def test_the_ring_wraps(setup):
    done = setup.signal(200)
    for _ in range(200):
        setup.put(aql.BarrierAnd(completion_signal=done, barrier=True))
        setup.bench.run()
    assert setup.value(done) == 0
