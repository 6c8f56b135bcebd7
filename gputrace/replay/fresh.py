"""Replay in a process that is started anew, with its addresses as a recording left them.

For real devices: a forked child would share the parent's descriptors of the kernel driver, and the
recorded addresses must be free, so the process starts without address randomisation. The request
comes as JSON on standard input, the verdict goes out the same way.
"""

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import asdict

from gputrace.errors import GputraceError, UsageError
from gputrace.replay.child import run
from gputrace.replay.running import Request, play
from gputrace.replay.sandbox import Limits
from gputrace.replay.verdict import Result, Signature, Verdict

_ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h
_SERVED = "GPUTRACE_SOCKET"  # set by the interposer in the programs that it serves


def replay_fresh(request: Request, limits: Limits | None = None) -> Verdict:
    """Replay in a new process. Raises UsageError for a trace or a device that cannot be used."""
    limits = limits or Limits()
    libc = ctypes.CDLL(None)
    done = subprocess.run(
        [sys.executable, "-m", "gputrace.replay.fresh"],
        input=json.dumps({"request": asdict(request), "limits": asdict(limits)}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        preexec_fn=lambda: libc.personality(_ADDR_NO_RANDOMIZE),
    )
    if done.returncode:
        text = f"the replaying process ended with status {done.returncode}"
        return Verdict(Result.HOST_CRASH, text, signature=Signature(Result.HOST_CRASH, kind=text))
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise UsageError(answer["error"])
    return Verdict.from_plain(answer["verdict"])


def main() -> None:
    """Read a request, replay it in a child of this process, write the verdict."""
    given = json.load(sys.stdin)
    request, limits = Request(**given["request"]), Limits(**given["limits"])
    # Where another process serves /dev/kfd the GPU's code runs there, and is reached over a socket.
    confined = _SERVED not in os.environ
    try:
        verdict = run(lambda expired: play(request, expired), limits, confined=confined)
        answer: dict[str, object] = {"verdict": verdict.to_plain()}
    except GputraceError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
