"""check=bytes in a replay: reads of what nobody has written, if the recording knows who wrote, and
the end of LDS, in any case.
"""

import shutil
import sys
from pathlib import Path

import pytest

import gputrace
from gputrace.capture.window import Part
from gputrace.cli.main import run as cli
from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.opening import recorded
from gputrace.driver import Device, DeviceFault
from gputrace.interpose.launch import run
from gputrace.replay.running import Request, play
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.about import UNWRITTEN
from gputrace.trace.reader import TraceReader

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "tests" / "kernels" / "built"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def work(device: Device, written: bool, read: bool = False) -> None:
    source, out = device.alloc(4096, name="source"), device.alloc(4096)
    if read:
        assert source.read(4096) == bytes(4096)
    if written:
        source.write(bytes(4096))  # zeros, as there were
    kernel = device.load(BUILT / device.target / "speed-O3.co")["add"]
    queue = device.compute_queue()
    for _ in range(3):
        queue.launch(kernel, grid=4, block=64, args=[out, source, source])
        queue.signal().wait(10)


def replayed(path: Path, target: str) -> Verdict:
    return play(Request(str(path), f"emu:{target},check=bytes"), lambda: False)


@pytest.mark.parametrize("options", ["", ",check=bytes"])
@pytest.mark.parametrize("target", ["gfx942", "gfx1030"])
def test_zeros_that_were_stored_are_written(tmp_path: Path, target: str, options: str) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path), gputrace.open(f"emu:{target}{options}") as device:
        work(device, written=True)
    assert replayed(path, target).result is Result.SAME


def test_what_nobody_stored_is_not(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        work(device, written=False)
    assert_unwritten(replayed(path, "gfx942"))


def test_reads_by_the_cpu_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    with pytest.raises(DeviceFault), gputrace.record(path):  # noqa: SIM117
        with gputrace.open("emu:gfx942,check=bytes") as device:
            work(device, written=False, read=True)
    assert_unwritten(replayed(path, "gfx942"))


def assert_unwritten(verdict: Verdict) -> None:
    assert verdict.result is Result.FAULT
    assert "read of 4 bytes that nobody has written" in verdict.text
    assert "buffer 'source'" in verdict.text


def later(device: Device, bad: bool) -> None:
    """Write half of a buffer by the CPU, and half of another by the GPU, long before they are read.

    The kernel reads either half, or more.
    """
    mine, its, out = (device.alloc(8192, name=name) for name in ("mine", "its", "out"))
    mine.write(bytes(4096))
    queue = device.compute_queue()
    copies = device.copy_queue()
    copies.fill(its, 0, 4096)
    copies.signal().wait(10)
    kernel = device.load(BUILT / device.target / "speed-O3.co")["add"]
    for turn in range(6):
        queue.launch(kernel, grid=4, block=64, args=[out, mine, its])
        queue.signal().wait(10)
        out.write(bytes([turn]) * 8)
    assert its.read(8192) == bytes(8192)
    if bad:
        queue.launch(kernel, grid=5, block=64, args=[out, mine, its])
        queue.signal().wait(10)


@pytest.mark.parametrize("part", [Part(start="submission:5"), Part(last=3), Part(last=100)])
@pytest.mark.parametrize("target", ["gfx942", "gfx1030"])
def test_a_part_knows_what_nobody_had_written_if_it_was_recorded_with_the_check(
    tmp_path: Path, target: str, part: Part
) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path, part=part), gputrace.open(f"emu:{target},check=bytes") as device:
        later(device, bad=False)
    verdict = replayed(path, target)
    assert (verdict.result, verdict.unchecked) == (Result.SAME, "")
    with pytest.raises(DeviceFault), gputrace.record(path, part=part):  # noqa: SIM117
        with gputrace.open(f"emu:{target},check=bytes") as device:
            later(device, bad=True)
    verdict = replayed(path, target)
    assert verdict.result is Result.FAULT
    with TraceReader(path) as reader:
        assert reader.trailer is not None
        assert verdict.text.splitlines()[0] in reader.trailer.outcome["text"]
    assert "read of 4 bytes that nobody has written" in verdict.text
    small = tmp_path / "small.gtrace"
    assert cli(["minimize", str(path), "-o", str(small)]) == 0
    assert "that nobody has written" in replayed(small, target).text


@pytest.mark.parametrize("written", [False, True])
def test_a_part_of_a_run_does_not_know_what_was_written_before(
    tmp_path: Path, written: bool
) -> None:
    path = tmp_path / "t.gtrace"
    part = Part(start="submission:3")
    with gputrace.record(path, part=part), gputrace.open("emu:gfx942") as device:
        work(device, written)
    verdict = replayed(path, "gfx942")
    assert verdict.result is Result.SAME
    assert verdict.unchecked == UNWRITTEN
    assert play(Request(str(path)), lambda: False).unchecked == ""


def overrun(device: Device) -> None:
    x, out = device.alloc(4 * 256, name="x"), device.alloc(4)
    x.write(b"\1" * 4 * 256)
    good, bad = (device.load(BUILT / device.target / "seed-O3.co")["reduce"] for _ in range(2))
    bad.descriptor = bad.descriptor.replace(group_segment_fixed_size=512)
    queue = device.compute_queue()
    for kernel in (good, good, good, bad):
        queue.launch(kernel, grid=1, block=256, args=[out, x])
        queue.signal().wait(10)


@pytest.mark.parametrize("start", ["", "submission:3"], ids=["whole", "part"])
@pytest.mark.parametrize("target", ["gfx942", "gfx1100"])
def test_lds_ends_where_it_did_in_the_recording(tmp_path: Path, target: str, start: str) -> None:
    path = tmp_path / "t.gtrace"
    with pytest.raises(DeviceFault), gputrace.record(path, part=Part(start=start)):  # noqa: SIM117
        with gputrace.open(f"emu:{target},check=bytes") as device:
            overrun(device)
    verdict = replayed(path, target)
    assert verdict.result is Result.FAULT
    assert "access to 4 bytes at 0x200 of the LDS, beyond its end" in verdict.text


# What another program does: its kernels have 512 bytes of LDS, or read what nobody has written.
OTHER = """
import sys, gputrace
from gputrace.errors import DeviceFault
with gputrace.open("kfd:0") as device:
    source, out = device.alloc(4096), device.alloc(4096)
    kernel = device.load(sys.argv[1])[sys.argv[2]]
    kernel.descriptor = kernel.descriptor.replace(group_segment_fixed_size=512)
    arguments = [out, source] if sys.argv[2] == "reduce" else [out, source, source]
    try:
        device.compute_queue().launch(kernel, grid=1, block=256, args=arguments).wait(10)
    except DeviceFault:
        sys.exit(3)
"""


def foreign(path: Path, code: str, kernel: str) -> int:
    target = "gfx1100"
    ended = run(
        (sys.executable, "-c", OTHER, str(BUILT / target / code), kernel),
        lambda client: recorded(f"emu:{target},check=bytes", client),
        EmulatedKfd(target).topology,
        tell=lambda notice: None,
        trace=path,
    )
    return ended.status


@needs_compiler
def test_lds_of_another_program_ends_where_it_did_in_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = tmp_path / "t.gtrace"
    assert foreign(path, "seed-O3.co", "reduce") == 3
    verdict = replayed(path, "gfx1100")
    assert verdict.result is Result.FAULT
    assert "access to 4 bytes at 0x200 of the LDS, beyond its end" in verdict.text


@needs_compiler
def test_what_another_program_wrote_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = tmp_path / "t.gtrace"
    assert foreign(path, "speed-O3.co", "add") == 0
    assert replayed(path, "gfx1100").result is Result.SAME
    capfd.readouterr()
    for command in (["info"], ["replay"]):
        cli([*command, str(path)])
        said = [line.split() for line in capfd.readouterr().out.splitlines()]
        assert ["unchecked", *UNWRITTEN.split()] in said
