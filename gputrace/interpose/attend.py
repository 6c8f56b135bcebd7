"""Start a program and stay with it to its end; signals that are meant for it reach it."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from gputrace.errors import UsageError

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
KILLED = 128
"""What a shell adds to the number of the signal that ended a program."""


def attend(
    program: Sequence[str],
    environment: Mapping[str, str],
    started: Callable[["subprocess.Popen[bytes]"], None] = lambda child: None,
    ended: Callable[[int], None] = lambda process: None,
) -> int:
    """Run a program to its end and return its status, as a shell shows it.

    `ended` is called with its process number when it has ended, while the kernel still knows it.

    A signal that would end us goes to the program, which decides; so what is recorded of it has an
    end, and nothing is left behind. Raises UsageError for what cannot be started.
    """
    with _passing_on() as take:
        try:
            child = subprocess.Popen(list(program), env=dict(environment))
        except OSError as error:
            raise UsageError(f"{program[0]}: {error.strerror}") from error
        take(child)
        started(child)
        try:
            with suppress(ChildProcessError):  # a signal that came late has had it waited for
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            ended(child.pid)
            status = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
    return status if status >= 0 else KILLED - status


@contextmanager
def _passing_on() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not children:
            early.append(number)
        elif not (number in (signal.SIGINT, signal.SIGQUIT) and _typed()):
            children[0].send_signal(number)

    def take(child: "subprocess.Popen[bytes]") -> None:
        children.append(child)
        for number in early:
            child.send_signal(number)

    # What is ignored stays so, as under nohup; and only the main thread has a say here.
    main = threading.current_thread() is threading.main_thread()
    mine = [one for one in _PASSED_ON if main and signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in mine}
    try:
        yield take
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _typed() -> bool:
    # A key of the terminal that we are in front of: then the program has the signal already.
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
