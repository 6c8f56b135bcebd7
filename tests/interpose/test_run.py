"""Programs that know nothing of gputrace, on an emulated GPU."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gputrace.cli.main import run as cli
from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.emulated.process import Client
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.errors import UsageError
from gputrace.families import FAMILIES
from gputrace.interpose import library, wire
from gputrace.interpose.emulated import emulated_programs
from gputrace.interpose.launch import Ended, find_program, run
from gputrace.interpose.program import Notice
from gputrace.interpose.server import Server
from gputrace.interpose.tree import write_tree
from gputrace.replay.running import Request, replay
from gputrace.replay.verdict import Result
from gputrace.trace import events
from gputrace.trace.reader import TraceReader

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def start(
    *command: str, target: str = "gfx942", strict: bool = False
) -> tuple[Ended, list[Notice]]:
    notices: list[Notice] = []
    ended = run(
        command,
        lambda client: EmulatedKfd(target, client=client),
        EmulatedKfd(target).topology,
        tell=notices.append,
        strict=strict,
    )
    return ended, notices


def _gfx942(client: Client) -> EmulatedKfd:
    return EmulatedKfd("gfx942", client=client)


def build(folder: Path, *flags: str) -> str:
    assert COMPILER is not None
    target = folder / "client"
    source = str(HERE / "client.c")
    command = [COMPILER, "-O1", *flags, source, "-o", str(target), "-lpthread", "-ldl"]
    subprocess.run(command, check=True)
    return str(target)


def test_both_sides_have_the_same_numbers() -> None:
    text = (HERE.parents[1] / "gputrace/interpose/protocol.h").read_text()
    numbers = {name: int(value) for name, value in re.findall(r"(\b[A-Z_]+) = (\d+)", text)}
    assert {kind.name: kind.value for kind in wire.Kind}.items() <= numbers.items()
    assert {f"NODE_{node.name}": node.value for node in wire.Node}.items() <= numbers.items()
    assert f"#define PROTOCOL_VERSION {wire.VERSION}\n" in text
    assert f"#define PAYLOAD_LIMIT {wire.PAYLOAD_LIMIT}\n" in text


@needs_compiler
@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize("name", ["gcc", "clang", "clang-19"])
def test_libraries_have_no_warnings(tmp_path: Path, tap: bool, name: str) -> None:
    compiler = shutil.which(name)
    if compiler is None:
        pytest.skip(f"{name} is not installed")
    library.compile_to(tmp_path / "library.so", compiler, *library.WARNINGS, tap=tap)


PATHS = re.compile(
    "_*(x|fx|lx|f|l)?stat(at|x)?(64)?|_*(f?re)?open(at|dir)?(64)?(_2)?|f?reopen(64)?|fopen(64)?|"
    "creat(64)?|scandir(at)?(64)?|glob(64)?|e?(uid)?access|faccessat|_*readlink(at)?(_chk)?|"
    "_*realpath(_chk)?|canonicalize_file_name|dup[23]?|f?cntl(64)?|close(_range|from)?|ioctl|"
    "mmap(64)?|munmap|mremap|ftw(64)?|nftw(64)?|fts(64)?_open|chdir|f?statv?fs(64)?"
)
"""Functions of the C library that take a path or a descriptor which may be ours."""
LEFT_OUT = {
    "__open", "__open64",  # what the C library itself calls
    "chdir", "ftw", "ftw64", "nftw", "nftw64", "fts_open", "fts64_open",  # a walk through sysfs
    "statfs", "statfs64", "statvfs", "statvfs64",  # the tree is on another file system
    "fstatfs", "fstatfs64", "fstatvfs", "fstatvfs64",
    "__fstat64",
}  # fmt: skip


@needs_compiler
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_all_functions_that_take_paths_are_the_librarys_own(tmp_path: Path) -> None:
    assert COMPILER is not None
    library.compile_to(tmp_path / "library.so", COMPILER)
    linked = subprocess.run(["ldd", sys.executable], capture_output=True, text=True).stdout
    found = re.search(r"libc\.so\.6 => (\S+)", linked)
    assert found is not None
    ours, theirs = (_exported(Path(one)) for one in (tmp_path / "library.so", found[1]))
    wanted = {name for name in theirs if PATHS.fullmatch(name)}
    assert {"open", "glob64", "__fxstatat64", "close_range", "statx", "__openat64_2"} <= wanted
    assert wanted - ours == LEFT_OUT & wanted
    source = (HERE.parents[1] / "gputrace/interpose/preload.c").read_text()
    looked_up = set(re.findall(r"OURS\((\w+)\)", source)) - {"name"}
    assert {name for name in ours if not name.startswith("_")} - looked_up == {"dlsym"}


def _exported(path: Path) -> set[str]:
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split() for line in shown.splitlines()]
    return {line[-1].split("@")[0] for line in lines if line[-2] in "TWi"}


@needs_compiler
@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201"])
def test_c_client(tmp_path: Path, target: str, capfd: pytest.CaptureFixture[str]) -> None:
    ended, _ = start(build(tmp_path), target=target)
    assert (ended.status, capfd.readouterr().out) == (0, "ok\n")


@needs_compiler
def test_c_client_under_address_sanitizer(tmp_path: Path) -> None:
    assert COMPILER is not None
    flags = ("-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer")
    made, tree = tmp_path / "library.so", tmp_path / "tree"
    library.compile_to(made, COMPILER, *flags)
    program = build(tmp_path, *flags)
    write_tree(tree, EmulatedKfd("gfx942").topology)
    names = ("libasan.so", "libubsan.so")
    asked = [[COMPILER, f"-print-file-name={name}"] for name in names]
    runtime = [subprocess.run(one, capture_output=True, text=True).stdout.strip() for one in asked]
    settings = {
        "LD_PRELOAD": " ".join([*runtime, str(made)]),  # the sanitizer must come first
        "ASAN_OPTIONS": "detect_leaks=0",
        "GPUTRACE_SOCKET": str(tmp_path / "socket"),
        "GPUTRACE_TREE": str(tree),
    }
    with Server(emulated_programs(_gfx942), tmp_path / "socket", lambda notice: None):
        done = subprocess.run([program], env=settings, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


DRIVER = """
import sys, numpy, gputrace
with gputrace.open("kfd:0") as device:
    a, b = device.alloc(8192), device.alloc(8192)
    a.write(numpy.arange(2048, dtype=numpy.uint32))
    copies, compute = device.copy_queue(), device.compute_queue()
    copies.copy(b, a, 8192)
    compute.wait(copies.signal())
    compute.timestamp(a, 4096)
    copies.timestamp(a, 4128)
    copies.signal().wait(10)
    compute.signal().wait(10)
    assert a.view(numpy.uint64)[512] > 1 << 30
    assert (b.view(numpy.uint32) == numpy.arange(2048)).all()
    print(device.target)
"""
AGAIN = """
import gputrace
for _ in range(3):  # the process keeps what KFD keeps for it
    with gputrace.open("kfd:0") as device:
        device.compute_queue().signal().wait(10)
first, second = gputrace.open("kfd:0"), gputrace.open("kfd:0")
for device in (second, first, second):
    device.compute_queue().signal().wait(10)
first.close()
second.copy_queue().signal().wait(10)
second.close()
print("again")
"""


@needs_compiler
@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201"])
def test_own_driver_through_the_real_device_nodes(
    target: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ended, notices = start(sys.executable, "-c", DRIVER, target=target)
    assert (ended.status, capfd.readouterr().out, notices) == (0, f"{target}\n", [])


@needs_compiler
def test_a_process_may_open_its_devices_again_and_twice(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ended, notices = start(sys.executable, "-c", AGAIN)
    assert (ended.status, capfd.readouterr().out, notices) == (0, "again\n", [])


@needs_compiler
@pytest.mark.skipif(shutil.which("rocminfo") is None, reason="rocminfo is not installed")
@pytest.mark.parametrize(("target", "units"), [("gfx90a", 110), ("gfx1030", 80)])
def test_rocminfo(target: str, units: int, capfd: pytest.CaptureFixture[str]) -> None:
    ended, _ = start("rocminfo", target=target)
    out = capfd.readouterr().out
    assert ended.status == 0
    assert re.search(rf"Name: +{target}", out)
    assert re.search(rf"Compute Unit: +{units}", out)
    assert "*** Done ***" in out


@needs_compiler
@pytest.mark.parametrize("target", sorted(set(FAMILIES) - {"gfx950"}))  # as gfx942, and takes long
def test_scenarios_through_the_real_device_nodes(target: str) -> None:
    # Left out: what only a device that can prove a hang can say, and the device's own name.
    chosen = f"{target} and not says_what and not waits_for_a_word"
    files = ["tests/scenarios/test_one_gpu.py", "tests/scenarios/test_several_gpus.py"]
    served = [sys.executable, "-m", "gputrace.cli.main", "run", "--device", f"emu:{target}x2", "--"]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files]
    done = subprocess.run([*served, *tests], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout or "100%" in done.stdout


@needs_compiler
def test_the_demo_through_the_real_device_nodes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gputrace.cli.main"]
    demo = [*command, "demo", "--device", "kfd:0", "-o", str(tmp_path / "files")]
    done = subprocess.run(
        [*command, "run", "--device", "emu:gfx942", "--", *demo],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost_signal --device kfd:0" in done.stdout
    assert "packets became 1:" in done.stdout


@needs_compiler
def test_run_and_record_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script, trace = tmp_path / "driver.py", tmp_path / "driver.gtrace"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{DRIVER}")
    program = ["--", sys.executable, str(script)]
    assert cli(["run", "--device", "emu:gfx90a", *program]) == 0
    assert capfd.readouterr().out == "gfx90a\n"
    assert cli(["record", "-o", str(trace), "--device", "emu:gfx1100", *program]) == 0
    assert capfd.readouterr().out == "gfx1100\n"
    assert cli(["replay", str(trace), "--expect", "recorded"]) == 0
    assert capfd.readouterr().out.startswith("same: ")


@needs_compiler
def test_strict_stops_at_what_is_not_modelled(tmp_path: Path) -> None:
    source = tmp_path / "asks.c"
    source.write_text(
        "#include <fcntl.h>\n#include <sys/ioctl.h>\n#include <unistd.h>\n"
        'int main(void) { int f = open("/dev/kfd", O_RDWR); char b[64] = {0};\n'
        "return ioctl(f, 0xc0184b1b, b) != -1 || sleep(20); }\n"
    )
    program = tmp_path / "asks"
    subprocess.run([str(COMPILER), str(source), "-o", str(program)], check=True)
    ended, notices = start("/bin/sh", "-c", f"{program}; sleep 20", strict=True)  # of a child, too
    assert ended.status == 128 + 9
    assert [notice.what for notice in notices] == ["refused"]
    assert "GET_QUEUE_WAVE_STATE" in notices[0].text


def test_garbage_on_the_socket_hurts_nobody_else(tmp_path: Path) -> None:
    with Server(emulated_programs(_gfx942), tmp_path / "socket", lambda notice: None) as server:
        for raw in (b"", b"x", b"\xff" * 32, b"\1" + bytes(31), bytes(40)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
                other.connect(str(tmp_path / "socket"))
                other.send(raw)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as good:
            good.connect(str(tmp_path / "socket"))
            wire.send(good, wire.Message(wire.Kind.HELLO, wire.VERSION, 0, 1))
            assert wire.receive(good).b == 0
            for handle, request in ((99, 0x80084B01), (0, 0), (1 << 63, 1 << 63)):
                wire.send(good, wire.Message(wire.Kind.IOCTL, handle, request))
                assert wire.receive(good).b != 0
        assert not server.refused


@needs_compiler
def test_programs_out_of_reach_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    static = tmp_path / "static"
    subprocess.run([str(COMPILER), "-static", str(source), "-o", str(static)], check=True)
    with pytest.raises(UsageError, match="statically linked"):
        find_program(str(static))
    record = ["record", "-o", str(tmp_path / "t.gtrace"), "--device", "emu:gfx942", str(static)]
    assert cli(record) == 2
    assert "statically linked" in capsys.readouterr().err
    own = tmp_path / "own"
    subprocess.run([str(COMPILER), str(source), "-o", str(own)], check=True)
    other = tmp_path / "other"
    other.write_bytes(own.read_bytes().replace(b"ld-linux-x86-64.so", b"ld-musl-x86_64.so\0"))
    other.chmod(0o755)
    with pytest.raises(UsageError, match="another C library"):
        find_program(str(other))
    narrow = bytearray(own.read_bytes())
    narrow[4] = 1  # ELFCLASS32; nothing behind it is looked at
    other.write_bytes(narrow)
    with pytest.raises(UsageError, match="32-bit program"):
        find_program(str(other))
    own.chmod(0o4755)
    with pytest.raises(UsageError, match="set-user-ID"):
        find_program(str(own))
    with pytest.raises(UsageError, match="no such program"):
        find_program("no-such-program-anywhere")


@needs_compiler
@pytest.mark.skipif(shutil.which("objcopy") is None, reason="objcopy is not installed")
def test_what_goes_unseen_of_a_go_program_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "go"
    (tmp_path / "section").write_bytes(b"\xff Go buildinf:")
    section = ["--add-section", f".go.buildinfo={tmp_path / 'section'}"]
    subprocess.run(["objcopy", *section, shutil.which("true"), program], check=True)
    ended, notices = start(str(program))
    assert ended.status == 0
    assert [one.what for one in notices] == ["unseen"]
    assert "Go" in notices[0].text
    assert not start("true")[1]
    emulated = ["--device", "emu:gfx942"]
    assert cli(["record", "-o", str(tmp_path / "t.gtrace"), *emulated, str(program)]) == 2
    assert "is a Go program" in capfd.readouterr().err


@needs_compiler
def test_a_program_beside_the_user_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("/bin/true", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert find_program("./mine") == tmp_path / "mine"
    assert start("./mine")[0].status == 0


@needs_compiler
@pytest.mark.parametrize("target", ["gfx90a", "gfx942", "gfx1100"])
def test_a_recorded_program_replays_the_same(
    tmp_path: Path, target: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ended = run(
        (sys.executable, "-c", DRIVER),
        lambda client: RecordedKfd(target, client=client),
        RecordedKfd(target).topology,
        tell=lambda notice: None,
        trace=tmp_path / "program.gtrace",
    )
    assert (ended.status, capfd.readouterr().out) == (0, f"{target}\n")
    assert ended.traces == [tmp_path / "program.gtrace"]
    verdict = replay(Request(str(ended.traces[0])))
    assert verdict.result is Result.SAME
    assert verdict.compared == verdict.written > 8192


@needs_compiler
def test_calls_that_failed_fail_again_and_those_that_did_not_do_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = _record(tmp_path / "client.gtrace", build(tmp_path))
    assert (ended.status, capfd.readouterr().out) == (0, "ok\n")
    assert len(ended.traces) == 2  # it forks, and the child opens the KFD
    for trace in ended.traces:
        verdict = replay(Request(str(trace)))
        assert verdict.result is Result.NOT_COMPARED, verdict.text  # no GPU did anything


def _record(trace: Path, *program: str, target: str = "gfx1100") -> Ended:
    return run(
        program,
        lambda client: RecordedKfd(target, client=client),
        RecordedKfd(target).topology,
        tell=lambda notice: None,
        trace=trace,
    )


@needs_compiler
def test_parts_of_mappings_go_and_move(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert COMPILER is not None
    program, trace = tmp_path / "parts", tmp_path / "parts.gtrace"
    source = str(HERE / "clients" / "parts.c")
    subprocess.run([COMPILER, "-O1", source, "-o", str(program)], check=True)
    assert _record(trace, str(program)).status == 0
    start, moved = (int(one, 16) for one in capfd.readouterr().out.split())
    page = 4096
    with TraceReader(trace) as reader:
        known = list(reader)
        maps = [(one.address, one.size) for one in known if isinstance(one, events.Map)]
        stores = {
            (one.address, bytes(one.data)) for one in known if isinstance(one, events.Memory)
        }
    assert maps == [
        (start, 5 * page),
        (start, page), (start + 2 * page, 3 * page),
        (start + 2 * page, 2 * page),
        (moved, 2 * page),
    ]  # fmt: skip
    seen = {(address, data.rstrip(b"\0")) for address, data in stores if data}
    wanted = [(start, b"firs"), (start + 2 * page, b"thir"), (start + 3 * page, b"fourth")]
    for address, data in [*wanted, (moved, b"mov")]:
        assert any(at == address and text.startswith(data[:1]) for at, text in seen), seen
    assert replay(Request(str(trace))).result is Result.NOT_COMPARED


LARGE = """
import sys, numpy, gputrace
with gputrace.open("kfd:0") as device:
    large, small = device.alloc(48 << 20), device.alloc(1 << 20)
    kernel = device.load(sys.argv[1])["saxpy"]
    queue, n = device.compute_queue(), 1 << 16
    small.write(numpy.arange(1 << 18, dtype=numpy.float32))
    large.write(bytes(range(1, 255)), 20 << 20)
    for factor in (2, 3):
        args = [large, small, numpy.float32(factor), numpy.int32(n)]
        queue.launch(kernel, n // 64, 64, args).wait(30)
    large.write(b"seen", 4096)
    queue.signal().wait(30)
    print(large.address, large.view(numpy.float32)[1])
"""


@needs_compiler
def test_in_large_memory_stores_of_both_are_told_apart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    trace, kernel = tmp_path / "large.gtrace", ROOT / "tests/kernels/built/gfx1100/seed-O3.co"
    assert _record(trace, sys.executable, "-c", LARGE, str(kernel)).status == 0
    start, value = capfd.readouterr().out.split()
    assert float(value) == 5.0
    with TraceReader(trace) as reader:
        stores = [
            (one.address - int(start), one.size)
            for one in reader
            if isinstance(one, events.Memory) and 0 <= one.address - int(start) < 48 << 20
        ]
    assert stores == [(20 << 20, 254), (4096, 4)]
    assert replay(Request(str(trace))).result is Result.SAME
