"""How a program ended is known while it is a zombie, and on newer kernels after that."""

import os
import platform
import select
import signal
import subprocess
from collections.abc import Iterator

import pytest

from gputrace.interpose import ending

NEW = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2]) >= (6, 15)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def ended(descriptor: int) -> None:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    assert waiting.poll(60_000)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN + 3])
def test_a_signal_is_named(sleeper: "subprocess.Popen[bytes]", number: int) -> None:
    descriptor = os.pidfd_open(sleeper.pid)
    assert ending.outcome(sleeper.pid, descriptor).result == "ended"  # it was not killed so far
    sleeper.send_signal(number)
    ended(descriptor)
    found = ending.outcome(sleeper.pid, descriptor)
    assert found.result == "killed"
    assert found == ending.by_signal(number)
    sleeper.wait()
    if NEW:
        assert ending.outcome(sleeper.pid, descriptor) == found
    os.close(descriptor)


def test_an_exit_is_no_signal() -> None:
    with subprocess.Popen(["sh", "-c", "exit 9"]) as process:
        descriptor = os.pidfd_open(process.pid)
        ended(descriptor)
        assert ending.outcome(process.pid, descriptor).result == "ended"
        process.wait()
        assert ending.outcome(process.pid, descriptor).result == "ended"
        os.close(descriptor)


def test_signals_without_a_name_have_their_number() -> None:
    assert "signal 40" in ending.by_signal(40).text
    assert "SIGKILL" in ending.by_signal(9).text
