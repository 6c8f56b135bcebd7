"""What `dump` prints, held against what was recorded."""

import json
from pathlib import Path

import numpy as np
import pytest

import gputrace
from gputrace.capture.window import WHOLE, Part
from gputrace.cli.dump import recorded_outcome
from gputrace.cli.main import run
from gputrace.cli.workloads import spin_lock
from gputrace.cli.workloads.frame import perform
from gputrace.driver import Device
from gputrace.errors import DeviceFault
from gputrace.formats import pm4
from gputrace.formats.ioctl import AllocFlag, AllocMemoryOfGpu, FreeMemoryOfGpu
from gputrace.replay.describe import Describer
from gputrace.replay.standing import code_lines, stored_registers
from gputrace.report.jsonl import JsonView
from gputrace.report.text import TextView
from gputrace.report.walk import Wanted
from gputrace.submitted.image import Image
from gputrace.submitted.stream import Stream, submissions
from gputrace.trace import events as ev
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter
from tests.replay.recording import poll, put, recorded
from tests.report.conftest import KERNELS, record

TARGETS = ("gfx942", "gfx1100")
TRACES = Path(__file__).parents[2] / "traces"


def saxpy(device: Device, count: int = 256) -> None:
    """Launch one kernel on named buffers."""
    x, y = (device.alloc(4 * count, name=name) for name in ("x", "y"))
    x.write(np.arange(count, dtype=np.float32))
    kernel = device.load(KERNELS / device.family.name / "seed-O3.co")["saxpy"]
    queue = device.compute_queue()
    queue.launch(kernel, grid=(count // 64, 1, 1), block=(64, 1, 1),
                 args=[x, y, np.float32(2.5), np.int32(count)])  # fmt: skip
    queue.synchronize(5.0)


def text(path: Path, **options: object) -> list[str]:
    with TraceReader(path) as reader:
        return list(TextView(reader, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
def test_a_dispatch_shows_kernel_shape_and_arguments_by_name(path: Path, target: str) -> None:
    record(path, target, saxpy)
    lines = text(path)
    (launch,) = [line for line in lines if "saxpy(" in line]
    assert "=x, " in launch
    assert "=y, " in launch
    assert "=2.5, " in launch or "=0x40200000, " in launch
    assert "=256), 4 groups of 64" in launch
    assert any(line.startswith("alloc x: 0x1000 bytes of vram at 0x") for line in lines)
    assert "cpu wrote 1018 bytes at x+0x6" in lines  # the bytes before are zero
    assert lines[-1] == "outcome: ended"


def test_every_packet_has_one_line_and_one_object(path: Path) -> None:
    record(path, "gfx942", saxpy)
    with TraceReader(path) as reader:
        placed = [one for made in submissions(reader) for one in made.packets]
    printed = [line.split()[0] for line in text(path) if line.startswith("  ") and ":" in line]
    assert printed == [f"{one.queue}:{one.number}" for one in placed]
    with TraceReader(path) as reader:
        objects = [json.loads(line) for line in JsonView(reader)]
    packets = [one for one in objects if one["type"] == "packet"]
    assert [(one["queue"], one["number"], one["address"]) for one in packets] == [
        (one.queue, one.number, one.address) for one in placed
    ]
    assert [tuple(int(word, 16) for word in one["words"]) for one in packets] == [
        one.words for one in placed
    ]
    (launch,) = [one["launch"] for one in packets if "launch" in one]
    assert (launch["kernel"], launch["groups"], launch["block"]) == ("saxpy", [4, 1, 1], [64, 1, 1])
    assert [bytes.fromhex(one["raw"]) for one in launch["arguments"]][2:] == [
        np.float32(2.5).tobytes(), np.int32(256).tobytes()
    ]  # fmt: skip
    events = [one["event"] for one in objects if one["type"] == "event"]
    assert events[0] == "Header"
    assert events[-1] == "Outcome"


def test_one_packet_is_shown_bit_by_bit(path: Path) -> None:
    with recorded(path) as bench:
        data = bench.memory(4096)
        bench.kfd.label(data.address, 4096, "buffer", "flags")
        ring = bench.queue()
        put(ring, pm4.Nop(), poll(data.address + 64))
        bench.run()
    lines = text(path, wanted=Wanted(packet=1), whole=True)
    assert lines[0].startswith("packet 0:1 at 0x")
    for expected in (
        f"  dw0    c0053c00 00000015 {data.address + 64 & 0xFFFFFFFF:08x}",
        "  dw1[2:0]       function = GE  (value & mask) against reference",
        "  dw5[31:0]      mask = 0xffffffff  bits compared",
        f"  address {data.address + 64:#x}: buffer 'flags' + 0x40",
    ):
        assert any(line.startswith(expected) for line in lines), expected


def test_filters_leave_the_rest_out_but_follow_it(path: Path) -> None:
    with recorded(path) as bench:
        data = bench.memory(4096)
        first, second = bench.queue(), bench.queue()
        for turn in range(3):
            put(first, pm4.WriteData(address=data.address, data=(turn,)), pm4.Nop())
            put(second, pm4.Nop(body=(turn,)))
            bench.run()
    assert text(path, wanted=Wanted(queue=1, packet=2)) == [
        "submission 6 to queue 1: 1 packet", "  1:2     Nop(body=[0x2])"
    ]  # fmt: skip
    assert len(text(path, wanted=Wanted(submission=3))) == 3
    assert text(path, wanted=Wanted(queue=7)) == []


def test_the_packet_of_the_outcome_is_marked(path: Path) -> None:
    with recorded(path) as bench:
        ring = bench.queue()
        put(ring, pm4.Nop(), pm4.WriteData(address=0x5000, data=(1,)))
        bench.run()
    lines = text(path, outcome=ev.Outcome("fault", queue=0, packet=1))
    (marked,) = [line for line in lines if line.endswith("<== fault")]
    assert "0:1 " in marked
    assert "WriteData(address=0x5000, data=[0x1])" in marked


def test_what_cannot_be_decoded_is_shown_as_words(path: Path) -> None:
    with recorded(path) as bench:
        ring = bench.queue()
        ring.dwords([3 << 30 | 4 << 16 | 0xFE << 8, 1, 2, 3, 4, 5])
        bench.run()
    (line,) = [line for line in text(path) if "??" in line]
    assert line == (
        "  0:0     ?? unknown opcode 0xfe: c004fe00 00000001 00000002 00000003 .. 6 dwords"
    )


def test_registers_have_their_names(path: Path) -> None:
    with recorded(path) as bench:
        ring = bench.queue()
        table = bench.family.registers
        offset = table.address("COMPUTE_PGM_LO") - pm4.SH_BASE
        put(ring, pm4.SetShReg(offset=offset, values=(0x12, 0x34)))
        bench.run()
    assert any("SetShReg(COMPUTE_PGM_LO=0x12, COMPUTE_PGM_HI=0x34)" in line for line in text(path))


@pytest.mark.parametrize("target", TARGETS)
def test_a_fault_is_shown_with_the_code_around_it(path: Path, target: str) -> None:
    def work(device: Device) -> None:
        y = device.alloc(1024)
        kernel = device.load(KERNELS / target / "seed-O3.co")["saxpy"]
        queue = device.compute_queue()
        queue.launch(kernel, grid=(4, 1, 1), block=(64, 1, 1),
                     args=[0x5000_0000, y, np.float32(1), np.int32(256)])  # fmt: skip
        queue.synchronize(5.0)

    with pytest.raises(DeviceFault):
        record(path, target, work)
    lines = text(path)
    start = next(n for n, line in enumerate(lines) if line.startswith("outcome: fault at packet"))
    ending = "\n".join(lines[start:])
    assert "code of saxpy at 0x" in ending
    (stopped,) = [line for line in lines[start:] if line.startswith("  => 0x")]
    assert "global_load" in stopped or "flat_load" in stopped
    assert "=0x50000000" in ending  # a pointer of ours, in a register
    with TraceReader(path) as reader:
        outcome = next(event for event in reader if isinstance(event, ev.Outcome))
    bad = [words for words in stored_registers(outcome.details).values() if len(words) > 1]
    lanes = 64 if target == "gfx942" else 32
    assert tuple(range(0x5000_0000, 0x5000_0000 + 4 * lanes, 4)) in bad
    wanted = Wanted(outcome.queue, outcome.packet)
    whole = text(path, wanted=wanted, outcome=outcome, whole=True)
    assert "the run ended here" in whole
    assert stopped in whole


def test_code_that_is_not_there_is_told(path: Path) -> None:
    record(path, "gfx942", saxpy)
    with TraceReader(path) as reader:
        stream = Stream(Image(reader))
        describer = Describer(stream.image)
        for number, event in reader.numbered():
            describer.apply(event)
            stream.apply(number, event)
        assert list(code_lines(describer, 0x1234)) == ["  no code in the trace at 0x1234"]


def test_events_as_they_are_stored_and_others_in_words(path: Path) -> None:
    with TraceWriter(path, ev.Header("test", family="gfx942")) as writer:
        for event in (
            ev.HostStore(0x1000, b"\x07"),
            ev.WaitBegin(1, (ev.Observed("fence", 0x7F0000001000, 5),)),
            ev.WaitEnd(1, "timeout"),
            ev.Unsupported("DbgTrap", "the debugger is not modelled"),
            ev.Checkpoint(0, (), False, "queue 0 is not idle"),
            ev.Note("time", "as it was"),
            ev.Memory(0x9000, "gpu", b"abc"),
        ):
            writer.append(event)
        writer.append(ev.Outcome("hang", "two lines\nof text", 1, 5, 0x1000, proven=True))
    assert text(path)[2:] == [
        "cpu stored 07 at 0x1000",
        "cpu waits for fence 0x7f0000001000 to reach 0x5",
        "cpu wait ended: timeout",
        "cannot be replayed: DbgTrap: the debugger is not modelled",
        "checkpoint, not complete: queue 0 is not idle",
        "note: time: as it was",
        "gpu wrote 3 bytes at 0x9000",
        "outcome: hang, proven at packet 1:5",
        "  address 0x1000",
        "  two lines",
        "  of text",
    ]
    raw = text(path, every_event=True)
    assert raw[1] == "1 HostStore address=0x1000 data=07"
    assert len(raw) == 9


def test_allocations_without_names_are_told_by_their_kind(path: Path) -> None:
    with recorded(path) as bench:
        kept, gone = bench.memory(4096), bench.allocate(8192)
        bench.kfd.ioctl(FreeMemoryOfGpu(handle=gone.handle))
    lines = text(path)
    assert f"alloc gtt0: 0x1000 bytes of gtt at {kept.address:#x}" in lines
    at = lines.index(f"alloc gtt1: 0x2000 bytes of gtt at {gone.va_addr:#x}")
    assert lines[at + 1] == f"free gtt1: 0x2000 bytes at {gone.va_addr:#x}"


def test_a_call_that_failed_says_what_was_asked_for_and_why_not(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = AllocMemoryOfGpu(va_addr=1 << 44, size=1 << 42, gpu_id=1, flags=AllocFlag.VRAM)
    raw = asked.to_bytes()
    with TraceWriter(path, ev.Header("test", family="gfx1100")) as writer:
        for number in (12, 12, 22):
            writer.append(ev.Ioctl("kfd", "AllocMemoryOfGpu", 1, raw, raw, number))
        writer.append(ev.Ioctl("kfd", "AllocMemoryOfGpu", 1, raw[:8], raw[:8], 999))
        writer.append(ev.Ioctl("render:128", "", 0x40, b"", b"", 13))
    lines = [line for line in text(path) if " failed: " in line]
    assert lines == [
        *[f"{asked.line()} failed: {name}" for name in ("ENOMEM (12)", "ENOMEM (12)")],
        f"{asked.line()} failed: EINVAL (22)",
        "AllocMemoryOfGpu failed: errno (999)",
        "ioctl 0x40 of render:128 failed: EACCES (13)",
    ]
    assert "size=0x40000000000" in lines[0]
    assert run(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "  failed       5 calls\n            2 AllocMemoryOfGpu: ENOMEM (12)\n" in out
    assert "            1 ioctl 0x40: EACCES (13)\n" in out
    assert run(["info", "--json", str(path)]) == 0
    failed = json.loads(capsys.readouterr().out)["packets"]["failed"]
    assert [(one["errno"], one["count"]) for one in failed] == [(12, 2), (22, 1), (999, 1), (13, 1)]


def test_an_endless_loop_is_shown_with_its_code(path: Path) -> None:
    ended = perform(spin_lock.WORKLOAD, spin_lock.WORKLOAD.device("gfx942"), record=str(path))
    assert ended.ending == "hang"
    lines = text(path)
    told = "outcome: hang, proven at packet"
    start = lines.index(next(line for line in lines if line.startswith(told)))
    (stopped,) = [line for line in lines[start:] if line.startswith("  => 0x")]
    assert any("s_cbranch_execnz" in line for line in lines[start:])
    assert lines.index(stopped) > start


def test_a_part_of_a_run_shows_the_end_of_the_whole(path: Path) -> None:
    def work(device: Device) -> None:
        buffer = device.alloc(4096, name="b")
        compute, architected, copies = (
            device.compute_queue("pm4"), device.compute_queue("aql"), device.copy_queue()
        )  # fmt: skip
        for turn in range(12):
            compute.write(buffer, turn.to_bytes(4, "little"), 4 * turn)
            architected.wait(compute.signal())
            architected.signal().wait(5.0)
            copies.copy(buffer, buffer, 64)
            copies.signal().wait(5.0)

    shown = []
    for part in (WHOLE, Part(last=10)):
        with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
            work(device)
        lines = [line for line in text(path) if line.startswith("  ")]
        shown.append([line.split(maxsplit=1)[1] for line in lines])
    whole, last = shown
    assert 10 < len(last) < len(whole) / 2
    assert last == whole[-len(last) :]


@pytest.mark.parametrize("name", ["lost_signal", "use_after_free", "spin_lock", "wrong_count"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_text_beside_a_shipped_trace_is_what_dump_prints(name: str, target: str) -> None:
    path = TRACES / f"{name}-{target}.gtrace"
    with TraceReader(path) as reader:
        outcome = recorded_outcome(reader)
        lines = list(TextView(reader, outcome=outcome))
    assert lines == path.with_suffix(".txt").read_text().splitlines()
