"""Work that goes on beside the caller's: compiling what will be used once it is there.

Threads that work for others must not count as the program's own (who waits for those, or looks
whether it is alone, counts them by `threading`), must have ended before the process is copied,
and must not be cut off inside LLVM when it ends.
"""

import _thread
import atexit
import os
from collections.abc import Callable


class Job:
    """Something that a thread of its own does, for which anybody may wait."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._running = _thread.allocate_lock()
        self._running.acquire()
        _JOBS.add(self)
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._running.release()
            _JOBS.discard(self)

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return not self._running.locked()

    def wait(self) -> None:
        """Return when it is over."""
        with self._running:
            pass


_JOBS: set[Job] = set()


def settle() -> None:
    """Return when nothing goes on any more."""
    for job in list(_JOBS):
        job.wait()


atexit.register(settle)
os.register_at_fork(before=settle)
