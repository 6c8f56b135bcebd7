"""When the program waits: from where it says so to where it says that it is over.

Of a program that does not, each call of WAIT_EVENTS is a wait, and so are calls of `idle` in a row.
"""

import threading
from collections.abc import Callable

from gputrace.bits import Record
from gputrace.capture.sink import Sink
from gputrace.formats.ioctl import WaitEvents
from gputrace.trace import events

NO_LIMIT = 0xFFFF_FFFE  # the kernel takes this timeout and the next one for no limit


class Waits:
    """Writes where waits of each thread begin and end."""

    def __init__(self, writer: Sink) -> None:
        self._writer = writer
        self._told: dict[int, int] = {}  # thread that says when its wait is over -> timeout
        self._open: dict[int, int] = {}  # thread -> number of its wait
        self._count = 0

    def expect(self, timeout: int) -> None:
        """Have the calls of this thread be one wait of at most `timeout` ns, up to `end`."""
        self._told[threading.get_ident()] = timeout

    def begin(self, record: Record, step: int, now: int) -> None:
        """Begin the wait that WAIT_EVENTS is."""
        assert isinstance(record, WaitEvents)
        timeout = -1 if record.timeout >= NO_LIMIT else record.timeout * 1_000_000
        self._begin(timeout, step, now)

    def idle(self, until_ns: int | None, step: int, clock: Callable[[], int]) -> None:
        """Begin a wait with its first call of `idle`."""
        if threading.get_ident() not in self._open:
            now = clock()
            self._begin(-1 if until_ns is None else max(until_ns - now, 0), step, now)

    def _begin(self, timeout: int, step: int, now: int) -> None:
        thread = threading.get_ident()
        if thread in self._open:
            return
        timeout = self._told.get(thread, timeout)
        self._count += 1
        self._open[thread] = self._count
        self._writer.append(
            events.WaitBegin(self._count, (), timeout, step, now, threading.get_native_id())
        )

    def end(self, result: str, step: int, now: int) -> None:
        """End the wait that this thread is in, if it has made a call that began one."""
        thread = threading.get_ident()
        self._told.pop(thread, None)
        number = self._open.pop(thread, None)
        if number is not None:
            self._writer.append(events.WaitEnd(number, result, (), step, now))

    @property
    def over(self) -> bool:
        """Whether this thread was in a wait that any other call ends."""
        thread = threading.get_ident()
        return thread in self._open and thread not in self._told
