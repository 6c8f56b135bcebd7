"""What a part of a run begins or ends with: a submission, a kernel, a signal."""

import re
import signal
import threading
from collections import Counter
from fnmatch import fnmatchcase
from types import FrameType

from gputrace.code.demangle import demangled, function_name
from gputrace.errors import UsageError

EXPECTED = "submission:N, kernel:NAME, kernel:NAME#N (the N-th launch of it) or signal:USR1"

_signals: Counter[int] = Counter()  # how often each has come


class Trigger:
    """Something that is waited for: `came` says whether it has come.

    A kernel's name is its symbol, or that in C++ words, with or without types; * and ? stand for
    any letters. Raises UsageError for a text that is no trigger.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.kernel = ""
        self._came = False
        self._submission, self._left = 0, 1
        self._signal: signal.Signals | None = None
        what, _, value = text.partition(":")
        if what == "submission" and value.isdecimal() and int(value):
            self._submission = int(value)
        elif what == "signal" and f"SIG{value}" in signal.Signals.__members__:
            self._signal = signal.Signals[f"SIG{value}"]
        elif what == "kernel" and (found := re.fullmatch(r"([^#]+)(?:#0*([1-9][0-9]*))?", value)):
            self.kernel, self._left = found[1], int(found[2] or 1)
        else:
            raise UsageError(f"trigger {text!r}: expected {EXPECTED}")
        self._before = _signals[self._signal] if self._signal else 0

    def arm(self) -> None:
        """Have this process listen for a signal; only the main thread can."""
        if self._signal and threading.current_thread() is threading.main_thread():
            signal.signal(self._signal, _signalled)

    @property
    def came(self) -> bool:
        """Whether it has come."""
        return self._came or bool(self._signal and _signals[self._signal] > self._before)

    def see(self, submission: int, kernels: list[str]) -> None:
        """Take a submission into account that is about to be rung, and what it starts."""
        if self._submission and submission >= self._submission:
            self._came = True
        if self.kernel:
            self._left -= sum(is_named(symbol, self.kernel) for symbol in kernels)
            self._came = self._came or self._left <= 0


def _signalled(number: int, frame: FrameType | None) -> None:
    _signals[number] += 1


def is_named(symbol: str, pattern: str) -> bool:
    """Say whether a kernel's symbol, or its name in C++ words, fits a pattern with * and ?."""
    names = {symbol, demangled(symbol), function_name(symbol)}
    # Brackets are letters of names here, not sets of letters.
    literal = re.sub(r"[\[\]]", lambda found: f"[{found[0]}]", pattern)
    return any(fnmatchcase(name, literal) for name in names)
