"""AQL signals and barriers, and order between AQL, PM4, copies and the CPU."""

import itertools
import threading

import numpy as np
import pytest

from gputrace import driver
from gputrace.driver import ProvenHang
from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from gputrace.formats.aql import SignalCondition
from tests.driver.test_launch import built

KINDS = ("pm4", "aql", "copy", "cpu")


@pytest.fixture(params=FAMILIES)
def device(request):
    with driver.open(f"emu:{request.param}") as opened:
        yield opened


def make(device, kind):
    return device.copy_queue() if kind == "copy" else device.compute_queue(kind)


def put(queue, buffer, word, offset):
    """Let a queue store a dword."""
    if isinstance(queue, driver.SdmaQueue):
        queue.fill(buffer, word, 4, offset)
    else:
        queue.write(buffer, word.to_bytes(4, "little"), offset)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(KINDS, KINDS)))
def test_each_kind_waits_for_each_other_kind(first, second):
    with driver.open("emu:gfx942") as device:
        buffer, step = device.alloc(4096), device.timeline("step")
        if second != "cpu":
            late = make(device, second)
            late.wait(step.at(1))
            put(late, buffer, 2, 0)
            done = late.signal()
            with pytest.raises(ProvenHang):  # the gate holds
                done.wait(1.0)
            assert buffer.view(np.uint32)[0] == 0
        if first == "cpu":
            buffer.view(np.uint32)[:2] = 1
            step.set(1)
        else:
            early = make(device, first)
            put(early, buffer, 1, 0)
            put(early, buffer, 1, 4)
            early.signal(step, 1)
        step.at(1).wait(1.0)
        if second != "cpu":
            done.wait(1.0)
        assert buffer.view(np.uint32)[:2].tolist() == [1 if second == "cpu" else 2, 1]


def test_a_barrier_waits_for_all_its_signals(device):
    queue, buffer = device.compute_queue("aql"), device.alloc(4096)
    signals = [device.signal(f"dep {at}") for at in range(5)]
    queue.wait_all(signals)
    queue.write(buffer, b"past")
    done = queue.signal()
    for signal in signals:
        with pytest.raises(ProvenHang):
            done.wait(1.0)
        signal.set(0)
    done.wait(1.0)
    assert buffer.read(4) == b"past"


def test_a_barrier_waits_for_any_of_its_signals(device):
    queue, other = device.compute_queue("aql"), device.compute_queue("aql")
    first, second = device.signal(), device.signal()
    queue.wait_any([first, second])
    done = queue.signal()
    with pytest.raises(ProvenHang):
        done.wait(1.0)
    other.complete(second)
    done.wait(1.0)
    assert (first.value, second.value) == (1, 0)


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        (SignalCondition.EQ, [-5]),
        (SignalCondition.NE, [-6, 0, 7]),
        (SignalCondition.LT, [-6, -(1 << 63)]),
        (SignalCondition.GTE, [-5, 0, (1 << 63) - 1]),
    ],
)
def test_a_value_barrier_compares_signed(condition, passes):
    with driver.open("emu:gfx1100") as device:
        for value in (-(1 << 63), -6, -5, 0, 7, (1 << 63) - 1):
            queue, signal = device.compute_queue("aql"), device.signal(initial=value)
            queue.wait_signal(signal, -5, condition)
            done = queue.signal()
            expected = {
                SignalCondition.EQ: value == -5,
                SignalCondition.NE: value != -5,
                SignalCondition.LT: value < -5,
                SignalCondition.GTE: value >= -5,
            }[condition]
            assert not (value in passes and not expected)
            if expected:
                done.wait(1.0)
            else:
                with pytest.raises(ProvenHang):
                    done.wait(0.5)
            queue.close()


def test_completions_count_down_and_the_cpu_waits_for_them(device):
    queue, signal = device.compute_queue("aql"), device.signal("work", 3)
    for _ in range(3):
        queue.complete(signal)
    signal.wait(timeout=1.0)
    assert signal.value == 0
    assert signal.add(-2) == 0
    assert signal.value == -2
    with pytest.raises(ProvenHang, match="signal work < -2"):
        signal.wait(below=-2, timeout=0.5)


def test_a_kernel_completes_its_signal_with_the_time_of_its_work():
    with driver.open("emu:gfx942") as device:
        queue, out = device.compute_queue("aql"), device.alloc(1 << 16)
        busy, signal = device.load(built("gfx942"))["busy"], device.signal()
        start = device.clock()[0]
        done = queue.launch(busy, 8, 64, [out, 1, 200], completion=signal)
        signal.wait(timeout=5.0)
        first, last = signal.times
        assert start <= first < last <= device.clock()[0]
        done.wait(5.0)
        again = queue.launch(busy, 8, 64, [out, 1, 200])  # completes no signal
        again.wait(5.0)
        assert signal.value == 0


def test_what_no_barrier_can_express_is_refused(device):
    queue = device.compute_queue("aql")
    with pytest.raises(UsageError, match="takes 5 signals, found 6"):
        queue.wait_all([device.signal() for _ in range(6)])
    with pytest.raises(UsageError, match="never end"):
        queue.wait_any([])
    with pytest.raises(UsageError, match="signed 64-bit"):
        device.signal().set(1 << 63)


def test_many_signals_and_timelines_share_no_cells(device):
    lines = [device.timeline(f"line {at}") for at in range(100)]
    signals = [device.signal(initial=at) for at in range(100)]
    for at, line in enumerate(lines):
        line.set(at + 1)
    assert [line.value for line in lines] == list(range(1, 101))
    assert [signal.value for signal in signals] == list(range(100))


def test_a_thread_may_open_the_gate_that_another_waits_behind():
    with driver.open("emu:gfx1100") as device:
        queue, gate = device.compute_queue("aql"), device.signal("gate")
        queue.wait_all([gate])
        done = queue.signal()
        opener = threading.Timer(0.05, gate.set, [0])
        opener.start()
        done.wait(30.0)
        opener.join()
        assert gate.value == 0


@pytest.mark.parametrize(("first", "second"), list(itertools.product(KINDS[:3], KINDS[:3])))
def test_every_kind_of_queue_completes_signals_and_waits_for_them(device, first, second):
    early, late, buffer = make(device, first), make(device, second), device.alloc(4096)
    signals = [device.signal(initial=2), device.signal(initial=1)]
    late.wait_all(signals)
    put(late, buffer, 7, 0)
    done = late.signal()
    for signal in (signals[0], signals[1], signals[0]):
        with pytest.raises(ProvenHang):
            done.wait(0.5)
        early.complete(signal)
    done.wait(1.0)
    signals[0].wait(timeout=1.0)
    assert [signal.value for signal in signals] == [0, 0]
    assert buffer.view(np.uint32)[0] == 7
