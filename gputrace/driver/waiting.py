"""Waits with one deadline that end with the value, a fault, a proven hang or a reasoned timeout."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gputrace.errors import DeviceFault, GputraceError
from gputrace.kfd.port import Fault, Kfd, Progress, WaitEnding, WaitListener

POLL_NS = 200_000  # a wait shorter than this never sleeps in the kernel
OTHERS_TURN = 0.0005  # seconds left to other processes when nothing here can go on
OTHERS_NS = 1_000_000  # how long to sleep where somebody else may have stored the value
SLEEP_NS = 100_000_000  # sleep at most this long before looking at memory again


class WaitTimeout(GputraceError, TimeoutError):
    """A wait ended without its value; the message names the packets that were being executed."""


class ProvenHang(WaitTimeout):
    """No engine can go on and no thread is left that could free one: waiting longer is useless."""


_ENDINGS: tuple[tuple[type[BaseException], WaitEnding], ...] = (
    (ProvenHang, "hang"), (WaitTimeout, "timeout"), (DeviceFault, "fault"),
    (BaseException, "interrupted"),
)  # fmt: skip
"""How a wait ended that an exception ended: the first kind that it is of."""


class Waiter:
    """Waits on behalf of all threads of a session.

    `sleep(ns)` blocks in the kernel until an event of the session or for that long; `blame()`
    returns lines on what each queue is doing; `describe(fault)` says what was
    submitted there; `checks` are asked for faults that only they see.
    """

    def __init__(
        self,
        kfd: Kfd,
        sleep: Callable[[int], Fault | None],
        blame: Callable[[], list[str]],
        describe: Callable[[Fault], str],
        checks: Sequence[Callable[[], Fault | None]] = (),
    ) -> None:
        self._kfd, self._sleep, self._blame, self._checks = kfd, sleep, blame, checks
        self._describe = describe
        self._listener = kfd if isinstance(kfd, WaitListener) else None
        self._waiting = 0
        self.others = False  # whether another process may write what is waited for
        self._lock = threading.Lock()

    def until(self, reached: Callable[[], bool], what: str, timeout: float | None) -> None:
        """Return once `reached()` is true.

        Raises DeviceFault, ProvenHang or WaitTimeout; a `timeout` of None waits for ever, any
        other is in seconds of the port's clock.
        """
        if reached():
            return
        start = self._kfd.clock()
        deadline = None if timeout is None else start + int(timeout * 1e9)
        with self._lock:
            self._waiting += 1
        try:
            with self._told(-1 if deadline is None else deadline - start):
                self._loop(reached, what, start, deadline)
        finally:
            with self._lock:
                self._waiting -= 1

    @contextmanager
    def _told(self, timeout: int) -> Iterator[None]:
        # Who records the port cannot see in its calls where a wait begins and how it ends.
        if self._listener is None:
            yield
            return
        self._listener.wait_begins(timeout)
        ending: WaitEnding = "reached"
        try:
            yield
        except BaseException as error:
            ending = next(word for kind, word in _ENDINGS if isinstance(error, kind))
            raise
        finally:
            self._listener.wait_ends(ending)

    def _loop(
        self, reached: Callable[[], bool], what: str, start: int, deadline: int | None
    ) -> None:
        poll_end = start + POLL_NS
        while not reached():
            self.check_faults()
            now = self._kfd.clock()
            if deadline is not None and now >= deadline:
                seconds = (now - start) / 1e9
                raise WaitTimeout(self._explain(f"{what}: not reached after {seconds:.3g} s"))
            if now < poll_end:
                self._poll(reached, what, deadline)
                continue
            left = SLEEP_NS if deadline is None else min(SLEEP_NS, deadline - now)
            if self.others:  # which send us no interrupts
                time.sleep(OTHERS_TURN)
                left = min(left, OTHERS_NS)
            self._raise(self._sleep(left))
            poll_end = self._kfd.clock() + POLL_NS

    def _poll(self, reached: Callable[[], bool], what: str, deadline: int | None) -> None:
        if self._kfd.idle(None) is not Progress.BLOCKED or reached():
            return
        self.check_faults()
        if self.others:
            time.sleep(OTHERS_TURN)
        elif self._waiting >= threading.active_count():
            raise ProvenHang(self._explain(f"{what}: will never be reached"))
        # Another thread may still open a gate: let its work through before looking again.
        self._raise(self._sleep(OTHERS_NS))

    def check_faults(self) -> None:
        """Raise DeviceFault for the first fault that the device knows of."""
        known = self._kfd.faults()
        if known:
            self._raise(known[0])
        for check in self._checks:
            self._raise(check())

    def _raise(self, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.queue < 0:  # the kernel says that something happened: a queue may know more
            fault = next((told for check in self._checks if (told := check())), fault)
        submitted = self._describe(fault)
        text = f"{fault.text}; submitted as: {submitted}" if submitted else fault.text
        if fault.queue < 0:  # hardware does not tell who did it: say what all were doing
            text = "\n".join([text, *(f"  {line}" for line in self._blame())])
        raise DeviceFault(
            text,
            address=fault.address,
            access=fault.access,
            queue=fault.queue,
            packet=fault.packet,
            kernel=fault.kernel,
            wave=fault.wave,
        )

    def _explain(self, first: str) -> str:
        lines = [f"  queue {stall.queue}: {stall.text}" for stall in self._kfd.stalls()]
        return "\n".join([first, *(lines or [f"  {line}" for line in self._blame()])])
