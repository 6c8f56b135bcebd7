"""Checkpoints: processes that stand where many candidates begin alike, and fork for each.

A holder replays the whole trace up to one event. A candidate that lacks nothing before that event
goes on from there, in a child of the holder with memory of its own. On an emulated device that is
the same run as one from the start, to the step.
"""

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from gputrace.errors import GputraceError
from gputrace.replay.sandbox import Limits, restrict
from gputrace.replay.verdict import Result, Signature, Verdict


class Paused(Protocol):
    """A replay that stops at an event: what a holder runs."""

    def play(self, expired: Callable[[], bool], pause: Callable[[], None]) -> Verdict:
        """Replay; call `pause` at the event, once."""

    def resume(self, candidate: int) -> None:
        """After a fork: go on as this candidate."""


@dataclass(slots=True)
class Lost(Exception):
    """A holder has no answer; the candidate has to run from the start."""

    reason: str


class Holder:
    """A process that stands at an event; `run` lets a child of it go on as a candidate."""

    def __init__(self, paused: Paused, limits: Limits, keep: tuple[int, ...]) -> None:
        self._limits, self._buffer = limits, b""
        commands, self._commands = os.pipe()
        self._results, results = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        if not self._child:
            _hold(paused, limits, commands, results, keep)
        os.close(commands)
        os.close(results)

    def run(self, candidate: int) -> Verdict:
        """Run a candidate from here. Raises Lost when the holder cannot."""
        deadline = time.monotonic() + self._limits.seconds + self._limits.grace
        try:
            os.write(self._commands, b"%x\n" % candidate)
        except BrokenPipeError:
            raise Lost("the holder has ended") from None
        child = 0
        while True:
            answer = self._line(deadline)
            if answer is None:
                if child:
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                text = f"the replay did not end within {self._limits.seconds:g} s and was killed"
                return Verdict(Result.HANG, text, signature=Signature(Result.HANG, kind="time"))
            match answer:
                case {"pid": int(pid)}:
                    child = pid
                case {"verdict": dict(plain)}:
                    return Verdict.from_plain(plain)
                case {"died": 0} | {"error": str()}:
                    raise Lost("the candidate had no answer")
                case {"died": int(number)} if number != signal.SIGKILL:
                    text = f"the replaying process died of {signal.Signals(number).name}"
                    return Verdict(Result.HOST_CRASH, text)

    def _line(self, deadline: float) -> dict[str, Any] | None:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._results], [], [], left)[0]:
                return None
            part = os.read(self._results, 1 << 16)
            if not part:
                raise Lost("the holder has ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the holder."""
        os.close(self._commands)
        os.close(self._results)
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)


def _hold(
    paused: Paused, limits: Limits, commands: int, results: int, keep: tuple[int, ...]
) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        kept = (commands, results, *keep)
        restrict(limits, kept, forks=True)
        end = [time.monotonic() + limits.seconds]
        here = os.getpid()

        def pause() -> None:
            candidate = _serve(commands, results)
            # What the holder opened since its own start belongs to the replay.
            restrict(limits, [int(one) for one in os.listdir("/proc/self/fd")])
            end[0] = time.monotonic() + limits.seconds
            paused.resume(candidate)

        answer: dict[str, Any]
        try:
            verdict = paused.play(lambda: time.monotonic() > end[0], pause)
            answer = {"verdict": verdict.to_plain()}
        except GputraceError as problem:
            answer = {"error": str(problem)}
        if os.getpid() != here:  # else the event was never reached: there is nothing to hold
            _say(results, answer)
        status = 0
    finally:
        if status:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)  # nothing of the parent's may be finished here


def _serve(commands: int, results: int) -> int:
    """Fork for each candidate; return in the child which one it is."""
    waiting = b""
    while True:
        while b"\n" not in waiting:
            part = os.read(commands, 1 << 16)
            if not part:
                os._exit(0)
            waiting += part
        line, _, waiting = waiting.partition(b"\n")
        child = os.fork()
        if not child:
            return int(line, 16)
        _say(results, {"pid": child})
        _, status = os.waitpid(child, 0)
        if status:
            _say(results, {"died": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0})


def _say(results: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(results, data) :]
