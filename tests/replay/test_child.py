"""A replay in a process of its own: verdicts come back, and so does every way of dying."""

import ctypes
import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import gputrace
from gputrace.errors import TraceError, UsageError
from gputrace.kfd import host
from gputrace.replay.child import run
from gputrace.replay.fresh import replay_fresh
from gputrace.replay.running import Request, replay
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Difference, Failure, Result, Signature, Verdict
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

Expired = Callable[[], bool]


def test_a_verdict_comes_back_as_it_was() -> None:
    failure = Failure(
        1, 0, 2, 3, "t", "memory", 4, "r", "saxpy", (1, 2, 3), 4, 5, "line",
        standing=("code", "s0=0x1"), registers={"s0": (1,), "v2": (3, 4)},
    )  # fmt: skip
    verdict = Verdict(
        Result.FAULT, "text", 1, 2,
        difference=Difference(3, 4, 1, b"\x01", b"\x02", "x", 5, "packet 7"),
        signature=Signature(Result.FAULT, 1, 2, "memory", "saxpy", 0), proven=True,
        reasons=("a", "b"),
        failures=(failure,),
        digest="00", steps=9, seconds=0.5,
    )  # fmt: skip
    assert run(lambda expired: verdict) == verdict
    assert Verdict.from_plain(verdict.to_plain()) == verdict


def test_a_child_that_dies_of_a_signal_is_a_host_crash() -> None:
    def crash(expired: Expired) -> Verdict:
        ctypes.string_at(8)
        raise AssertionError("not reached")

    verdict = run(crash)
    assert verdict.result is Result.HOST_CRASH
    assert "SIGSEGV" in verdict.text


def test_a_child_that_ends_without_a_verdict_is_a_host_crash() -> None:
    assert run(lambda expired: os._exit(3)).result is Result.HOST_CRASH


def test_an_error_of_ours_is_the_callers_error() -> None:
    def usage(expired: Expired) -> Verdict:
        raise UsageError("no such thing")

    def trace(expired: Expired) -> Verdict:
        raise TraceError("block 3", "torn")

    with pytest.raises(UsageError, match="no such thing"):
        run(usage)
    with pytest.raises(TraceError, match="block 3: torn"):
        run(trace)


def test_time_ends_a_replay_that_asks_and_kills_one_that_does_not() -> None:
    def asks(expired: Expired) -> Verdict:
        while not expired():
            time.sleep(0.01)
        return Verdict(Result.HANG, "asked")

    assert run(asks, Limits(seconds=0.1)).text == "asked"
    started = time.monotonic()
    verdict = run(lambda expired: time.sleep(60), Limits(seconds=0.1, grace=0.1))  # type: ignore
    assert verdict.result is Result.HANG
    assert time.monotonic() - started < 10


def refusals(expired: Expired) -> Verdict:
    found = []
    for name, attempt in {
        "fork": os.fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "socket": socket.socket,
        "kill": lambda: os.kill(os.getppid(), 0),
        "chmod": lambda: os.chmod("/tmp", 0o777),
    }.items():
        try:
            attempt()
        except OSError as error:
            found.append(f"{name} {errno.errorcode[error.errno or 0]}")
    return Verdict(Result.SAME, " ".join(found))


def test_a_child_has_no_processes_no_programs_and_no_network() -> None:
    assert run(refusals).text == "fork EPERM exec EPERM socket EPERM kill EPERM chmod EPERM"


def test_a_child_keeps_no_descriptors_but_its_own(tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)

    def looks(expired: Expired) -> Verdict:
        return Verdict(Result.SAME, " ".join(sorted(os.listdir("/proc/self/fd"), key=int)))

    seen = {int(text) for text in run(looks).text.split()}
    os.close(secret)
    assert secret not in seen
    assert len(seen) <= 5


def test_memory_beyond_the_limit_is_refused() -> None:
    def greedy(expired: Expired) -> Verdict:
        return Verdict(Result.SAME, str(len(bytearray(1 << 30))))

    verdict = run(greedy, Limits(memory=256 << 20))
    assert verdict.result is Result.HOST_CRASH
    assert "memory" in verdict.text


def test_a_recording_replays_in_a_child(tmp_path: Path) -> None:
    path = str(tmp_path / "t.gtrace")
    with gputrace.record(path), gputrace.open("emu:gfx1100,schedule=3") as device:
        buffer, queue = device.alloc(4096), device.compute_queue()
        queue.write(buffer, b"0123")
        queue.signal().wait()
    first = replay(Request(path))
    assert first.result is Result.SAME, first
    assert first.outcome == replay(Request(path)).outcome
    assert replay(Request(path, seed=4)).result is Result.SAME


def test_a_missing_file_and_a_nameless_device_are_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.gtrace: No such file"):
        replay(Request(str(tmp_path / "none.gtrace")))
    path = str(tmp_path / "t.gtrace")
    TraceWriter(path, events.Header("test")).close()
    with pytest.raises(UsageError, match="use --device"):
        replay(Request(path))


def test_the_parent_is_gone_and_so_is_the_child() -> None:
    reader, writer = os.pipe()
    middle = os.fork()
    if not middle:
        def sleeps(expired: Expired) -> Verdict:
            os.write(writer, str(os.getpid()).encode())
            time.sleep(60)
            raise AssertionError("not reached")

        run(sleeps, keep=[writer])
        os._exit(0)
    child = int(os.read(reader, 20))
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    os.close(reader)
    os.close(writer)
    for _ in range(100):
        try:
            stat = Path(f"/proc/{child}/stat").read_text()
        except FileNotFoundError:
            return
        if stat.split()[2] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the child lives on")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("child") / "t.gtrace")
    with gputrace.record(made), gputrace.open("emu:gfx942") as device:
        buffer, queue = device.alloc(4096), device.compute_queue()
        queue.write(buffer, b"0123")
        queue.signal().wait()
    return made


def test_a_new_process_without_address_randomisation_says_the_same(
    path: str, tmp_path: Path
) -> None:
    fresh = replay_fresh(Request(path))
    assert fresh.outcome == replay(Request(path)).outcome
    assert fresh.result is Result.SAME
    with pytest.raises(UsageError, match="gfx000"):
        replay_fresh(Request(path, device="emu:gfx000"))
    damaged = tmp_path / "damaged.gtrace"
    damaged.write_bytes(Path(path).read_bytes().replace(b"GTB", b"GTC", 2))
    with pytest.raises(UsageError, match="no block begins here"):
        replay_fresh(Request(str(damaged)))


def test_addresses_that_are_in_use_are_named_and_change_nothing(path: str) -> None:
    with TraceReader(path) as reader:
        first = next(one for one in reader if isinstance(one, events.Reserve))
    plain = replay(Request(path))
    assert not plain.moved
    taken = host.reserve(host.PAGE, first.address + host.PAGE)
    try:
        moved = replay(Request(path))
    finally:
        host.unmap(taken, host.PAGE)
    assert moved.moved == (f"{first.address:#x}+{first.size:#x}",)
    assert moved.outcome == plain.outcome
    assert moved.result is Result.SAME
