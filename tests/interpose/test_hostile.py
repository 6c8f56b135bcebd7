"""Programs that misbehave cost nobody else anything; what is not modelled is refused by name."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.emulated.device import _HANDLERS
from gputrace.devices.emulated.process import Client as ClientOf
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.formats.ioctl import IOCTLS, CreateQueue, WaitEvents
from gputrace.interpose.emulated import emulated_programs
from gputrace.interpose.launch import run
from gputrace.interpose.program import Notice
from gputrace.interpose.server import Server
from gputrace.trace.events import Note
from gputrace.trace.reader import TraceReader
from tools.hostile import Client

MODELLED = {IOCTLS[nr].name for nr in IOCTLS if IOCTLS[nr].record in {*_HANDLERS, CreateQueue}}


def _plain(client: ClientOf) -> EmulatedKfd:
    return EmulatedKfd("gfx1100", client=client)


def _recorded(client: ClientOf) -> EmulatedKfd:
    return RecordedKfd("gfx1100", client=client)


@pytest.fixture(params=["served", "recorded"])
def server(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    notices: list[Notice] = []
    trace = tmp_path / "one.gtrace" if request.param == "recorded" else None
    make = emulated_programs(_recorded if trace else _plain, trace)
    with Server(make, tmp_path / "socket", notices.append) as made:
        yield made, tmp_path / "socket", notices


def _works(path: Path) -> bool:
    # A good client, in another process: it is no other program's fault.
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from tools.hostile import Client\n"
        "with Client(Path(sys.argv[1]), 7) as one:\n"
        "    found = one.ioctl(one.open(), 0x80084b01)\n"
        "    assert found.b == 0 and found.payload[:4] == bytes((1, 0, 0, 0)), found\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(path), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode == 0 and not done.stderr


def test_a_program_that_cannot_be_served_any_more_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(EmulatedKfd):
        def pump(self) -> bool:
            raise RuntimeError("a mistake of ours")

    problems: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda one: problems.append(str(one.exc_value)))
    ended = run(
        [sys.executable, "-c", "import time; open('/dev/kfd'); time.sleep(600)"],
        lambda client: Broken("gfx1100", client=client),
        EmulatedKfd("gfx1100").topology,
        tell=lambda notice: None,
    )
    assert ended.status == 128 + signal.SIGKILL
    assert problems == ["a mistake of ours"]


def test_what_two_threads_find_at_once_is_told_once(tmp_path: Path) -> None:
    notices: list[Notice] = []
    with Server(emulated_programs(_plain), tmp_path / "socket", notices.append) as server:
        program = server._program(os.getpid(), 1)
        meet = threading.Barrier(2)

        class Told(set[str]):
            def __contains__(self, name: object) -> bool:
                known = super().__contains__(name)
                with suppress(threading.BrokenBarrierError):
                    meet.wait(0.2)  # until both threads know, if they can
                return known

        server._told = Told()
        program.refused = lambda: {"SVM": 1}  # type: ignore[method-assign]
        program.faults = lambda: []  # type: ignore[method-assign]
        threads = [threading.Thread(target=server._look, args=(program,)) for _ in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert [one.text for one in notices] == ["SVM is not modelled"]


def test_each_ioctl_is_modelled_or_refused_by_name_once(tmp_path: Path) -> None:
    notices: list[Notice] = []
    trace = tmp_path / "one.gtrace"
    asked = [entry for entry in IOCTLS.values() if entry.record is not WaitEvents]
    with Server(
        emulated_programs(_recorded, trace), tmp_path / "socket", notices.append
    ) as server, Client(tmp_path / "socket") as client:
        handle = client.open()
        for entry in asked * 2:
            answer = client.ioctl(handle, entry.request, bytes(entry.size))
            if entry.name not in MODELLED:
                assert answer.b in (1, 13, 25), entry.name  # EPERM, EACCES, ENOTTY
        assert client.ioctl(handle, 0xC0084B70, bytes(8)).b == 25
        assert client.ioctl(handle, 0xC0084D01, bytes(8)).b == 25  # of another driver
    wanted = {entry.name for entry in asked} - MODELLED
    refused = [notice.text for notice in notices if notice.what == "refused"]
    for name in wanted:
        assert refused.count(f"{name} is not modelled") == 1, name
        assert server.refused[name] == 2
    assert len(refused) == len(wanted) + 2
    with TraceReader(trace) as reader:
        told = [one.text for one in reader if isinstance(one, Note) and one.what == "refused"]
    assert {text.partition(",")[0] for text in told} == set(server.refused)
    assert f"{next(iter(wanted))}, 2 times" in told


def test_thousands_of_connections_and_of_open_nodes(
    server: tuple[Server, Path, list[Notice]],
) -> None:
    _, path, _ = server
    silent = []
    for _ in range(300):  # which say nothing, for as long as they like
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.connect(str(path))
        silent.append(one)
    with Client(path) as client:
        handles = [client.open() for _ in range(2000)]
        assert len(set(handles)) == 2000
        assert client.ioctl(handles[0], 0x80084B01).b == 0
    assert _works(path)
    for one in silent:
        one.close()


def test_a_program_that_is_killed_in_the_middle(
    server: tuple[Server, Path, list[Notice]],
) -> None:
    _, path, _ = server
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from tools.hostile import Client\n"
        "one = Client(Path(sys.argv[1]), 7)\n"
        "handle = one.open()\n"
        "one._answer = lambda asked: os.kill(os.getpid(), 9)\n"
        "one.ioctl(handle, 0xc0104b14, bytes([0] * 8 + [9] * 8))\n"  # has a pointer behind it
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(path), root], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert _works(path)
