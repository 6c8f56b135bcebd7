"""What waves tell the host: interrupts, traps, and barriers that never open."""

import pytest

from gputrace.formats import pm4
from gputrace.formats.ioctl import CreateEvent, EventType
from tests.devices.emulated.test_dispatch import program
from tests.isa.steps import encode


def put_code(bench, words):
    mapping = bench.memory(4096)
    view = mapping.view.cast("I")
    for at, word in enumerate(words):
        view[at] = word
    return mapping


def launch(bench, words, threads=32):
    ring, code = bench.queue(), put_code(bench, words)
    ring.put(
        *program(bench, code.address, NUM_THREAD_X=threads),
        pm4.DispatchDirect(dim_x=1, initiator=0x8005),
    )
    bench.run()


def test_a_wave_sets_the_event_that_its_message_names(bench):
    page = bench.memory(32768)
    buffers = bench.kfd._process.buffers.items()
    handle = next(handle for handle, one in buffers if one.address == page.address)
    event = bench.kfd.ioctl(CreateEvent(event_page_offset=handle, event_type=EventType.SIGNAL))
    other = bench.kfd.ioctl(CreateEvent(event_type=EventType.SIGNAL))
    ring, target = bench.queue(), "gfx1100"
    m0 = encode(target, "s_mov_b32", sdst=125, ssrc0=255, literal=event.event_id | 0xFF000000)
    code = put_code(
        bench, [*m0, *encode(target, "s_sendmsg", simm=1), *encode(target, "s_endpgm")]
    )
    ring.put(
        pm4.WriteData(address=page.address + 8 * event.event_slot_index, data=(1, 0)),
        *program(bench, code.address, NUM_THREAD_X=32),
        pm4.DispatchDirect(dim_x=1, initiator=0x8005),
    )
    bench.run()
    assert bench.kfd.faults() == ()
    assert bench.kfd._process.events.find(event.event_id, "").signalled
    assert not bench.kfd._process.events.find(other.event_id, "").signalled


@pytest.mark.parametrize(("name", "simm", "said"), [
    ("s_trap", 2, "trap 2"), ("s_code_end", 0, "illegal instruction s_code_end"),
])  # fmt: skip
def test_a_trap_stops_the_queue_and_is_told(bench, name, simm, said):
    launch(bench, encode("gfx1100", name, simm=simm))
    (fault,) = bench.kfd.faults()
    assert fault.kind == "kernel"
    assert said in fault.text


def test_a_barrier_that_a_wave_never_signals_is_told(make_bench):
    bench = make_bench("gfx1201")
    launch(bench, encode("gfx1201", "s_barrier_wait", simm=-1), threads=64)
    (stall,) = bench.kfd.stalls()
    assert "waits at a barrier to which not all waves will ever come" in str(stall)
