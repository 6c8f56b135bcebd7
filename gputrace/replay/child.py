"""Run a replay in a process of its own, so that whatever becomes of it is a verdict.

`run` forks: quick, and right for emulated devices. The child has no rights that a replay does not
need (`sandbox`), a limited time, and hands back a verdict as JSON over a pipe.
"""

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from gputrace.errors import GputraceError, TraceError, UsageError
from gputrace.replay.sandbox import Limits, restrict
from gputrace.replay.verdict import Result, Signature, Verdict

Task = Callable[[Callable[[], bool]], Verdict]
"""What a child does: given a function that says when its time is over, it returns a verdict."""


def run(
    task: Task, limits: Limits | None = None, *, keep: Iterable[int] = (), confined: bool = True
) -> Verdict:
    """Run `task` in a child process and return its verdict.

    A child that dies gives host-crash, one that does not end in time gives hang. `keep` names the
    descriptors that the task uses; whatever else it needs it opens itself. Without `confined` it
    keeps all rights. Raises UsageError and TraceError as the task does.
    """
    limits = limits or Limits()
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _be_child(task, limits, writer, keep if confined else None)
    os.close(writer)
    deadline = time.monotonic() + limits.seconds + limits.grace
    try:
        data, late = _receive(reader, deadline)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(reader)
    if late:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return _verdict(data, late, status, limits)


def _be_child(task: Task, limits: Limits, writer: int, keep: Iterable[int] | None) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        end = time.monotonic() + limits.seconds
        if keep is not None:
            restrict(limits, (writer, *keep))
        answer = _answer(task, lambda: time.monotonic() > end)
        _send(writer, json.dumps(answer).encode())
        status = 0
    finally:
        if status:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)  # nothing of the parent's may be finished here


def _answer(task: Task, expired: Callable[[], bool]) -> dict[str, Any]:
    try:
        return {"verdict": task(expired).to_plain()}
    except TraceError as error:
        parts = "where", "reason", "path", "damage"
        return {"error": "trace", "told": {name: getattr(error, name) for name in parts}}
    except GputraceError as error:
        return {"error": "usage", "reason": str(error)}
    except MemoryError:
        text = "the replay needs more memory than its process may have"
        return {"verdict": Verdict(Result.HOST_CRASH, text).to_plain()}


def _send(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _receive(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return b"", True
        part = os.read(descriptor, 1 << 16)
        if not part:
            return b"".join(parts), False
        parts.append(part)


def _verdict(data: bytes, late: bool, status: int, limits: Limits) -> Verdict:
    if late:
        text = f"the replay did not end within {limits.seconds + limits.grace:g} s and was killed"
        return Verdict(Result.HANG, text, signature=Signature(Result.HANG, kind="time"))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        text = f"the replaying process died of {signal.Signals(number).name}"
        return Verdict(Result.HOST_CRASH, text, signature=Signature(Result.HOST_CRASH, kind=text))
    if os.WEXITSTATUS(status) or not data:
        text = f"the replaying process ended with status {os.WEXITSTATUS(status)} and no verdict"
        return Verdict(Result.HOST_CRASH, text, signature=Signature(Result.HOST_CRASH, kind=text))
    answer = json.loads(data)
    match answer.get("error"):
        case "trace":
            raise TraceError(**answer["told"])
        case "usage":
            raise UsageError(answer["reason"])
    return Verdict.from_plain(answer["verdict"])
