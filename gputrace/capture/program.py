"""Record a whole program: `gputrace record` starts it with an environment that asks for this.

The first device that the program opens is recorded into the trace that the environment names. More
devices, and those of child processes, get traces of their own beside it: T-<process>-<number>.
"""

import atexit
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType

from gputrace.capture.session import PATH, Recording, outcome_of, start
from gputrace.capture.window import WHOLE, Part
from gputrace.devices import opening
from gputrace.errors import UsageError
from gputrace.kfd.port import Kfd
from gputrace.trace.events import Outcome

NODES = "GPUTRACE_RECORD_NODES"
"""Set to 1 in programs whose calls of /dev/kfd another process records."""
DURABLE, MODE = "GPUTRACE_RECORD_DURABLE", "GPUTRACE_RECORD_MODE"
PART = "GPUTRACE_RECORD_PART"


def environment(
    path: str, *, durable: bool, mode: str, part: Part = WHOLE
) -> dict[str, str]:
    """Return what a program's environment must say to be recorded."""
    values = {PATH: os.path.abspath(path), DURABLE: str(int(durable)), MODE: mode, NODES: "0"}
    return values if part.whole else {**values, PART: json.dumps(asdict(part))}


def claim(path: Path, process: int) -> Path:
    """Make an empty file for a trace of this process: `path`, or one beside it when that is taken.

    Raises UsageError for a place that cannot be written.
    """
    number, place = 0, path
    while True:
        try:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            number += 1
            place = path.with_name(f"{path.stem}-{process}-{number}{path.suffix}")
        except OSError as error:
            raise UsageError(f"cannot write {place}: {error.strerror}") from error
        else:
            return place


class _Program:
    """The traces of this process."""

    def __init__(self, path: str, durable: bool, mode: str, part: Part) -> None:
        self._path, self._durable, self._mode, self._part = Path(path), durable, mode, part
        self._process = os.getpid()
        self._made: list[Recording] = []
        self._error: BaseException | None = None
        self._before = sys.excepthook

    def around(self, kfd: Kfd) -> Kfd:
        """Put a recorder around a device."""
        if os.getpid() != self._process:  # a child by fork: what was made is its parent's
            self._process, self._made = os.getpid(), []
        if os.environ.get(NODES) == "1" and kfd.name.startswith("kfd:"):
            return kfd  # whoever stands behind the device nodes records it
        path = claim(self._path, os.getpid())
        made = start(kfd, path, durable=self._durable, mode=self._mode, part=self._part)
        self._made.append(made)
        return made.recorder

    def failed(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Keep what ended the program; then do what is done with it otherwise."""
        self._error = error
        self._before(kind, error, trace)

    def end(self) -> None:
        """Close the traces: the program has come to its end."""
        self._close(None)

    def terminated(self, number: int, frame: FrameType | None) -> None:
        """Close the traces and let the signal do what it would have done."""
        self._close(Outcome("killed", signal.Signals(number).name))
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _close(self, outcome: Outcome | None) -> None:
        if os.getpid() != self._process:
            return
        made, self._made = self._made, []
        for one in made:
            ended = Outcome("ended")
            if self._error is not None:
                ended = outcome_of(self._error, one.recorder)
            one.close(outcome or ended)
            if one.remark:
                print(f"gputrace: {one.remark}", file=sys.stderr)


def install(variables: Mapping[str, str]) -> None:
    """Record this process as its environment asks; call it once."""
    part = Part(**json.loads(variables[PART])) if PART in variables else WHOLE
    durable, mode = variables.get(DURABLE) == "1", variables.get(MODE, "light")
    program = _Program(variables[PATH], durable, mode, part)
    opening.wrap_all(program.around)
    sys.excepthook = program.failed
    atexit.register(program.end)
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, program.terminated)
