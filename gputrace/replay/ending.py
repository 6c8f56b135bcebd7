"""How a replayed run ends: whether its queues failed, asked as long as there are queues to ask."""

from gputrace.bits import Record
from gputrace.formats.ioctl import CreateQueue, DestroyQueue
from gputrace.kfd.port import Fault, Kfd, Stall
from gputrace.replay.names import Names
from gputrace.replay.pacing import Clock
from gputrace.replay.verdict import Failure, Result, Signature, Verdict


class Ending:
    """Keeps the first failure of a run, by the names that the recording uses.

    `beyond` is True when the device was let go further than was recorded.
    """

    def __init__(self, device: Kfd, names: Names) -> None:
        self._device, self._names = device, names
        self._ordinals: dict[int, int] = {}  # live queue -> how many were made before it
        self._queues: set[int] = set()
        self._made = 0
        self.failure: Verdict | None = None
        self.beyond = False
        self.opened = False

    def queue(self, live: Record) -> None:
        """Take note of a queue that was made or destroyed."""
        match live:
            case CreateQueue():
                self._ordinals[live.queue_id] = self._made
                self._made += 1
                self._queues.add(live.queue_id)
            case DestroyQueue():
                self._queues.discard(live.queue_id)

    def look(self, clock: Clock, steps: int) -> None:
        """See whether the device has failed, letting it work on for up to `steps` before."""
        if self.failure is not None or not self._queues or not self.opened:
            return
        before = clock.step
        ended = clock.finish(steps) if steps else True
        self.beyond = clock.step > before
        faults, stalls = self._device.faults(), self._device.stalls()
        if faults:
            self.failure = self._fault(tuple(faults))
        elif stalls:
            self.failure = self._hang(tuple(stalls))
        elif not ended:
            text = f"the device goes on for ever: {steps} more steps did not end it"
            self.failure = Verdict(Result.HANG, text, signature=Signature(Result.HANG, kind="loop"))

    def out_of_time(self) -> Verdict:
        """Return the verdict of a replay whose time is over."""
        signature = Signature(Result.HANG, kind="time")
        return Verdict(Result.HANG, "not ended in the time given", signature=signature)

    def _fault(self, faults: tuple[Fault, ...]) -> Verdict:
        failures = tuple(
            Failure(
                self._recorded(one.queue), self._ordinals.get(one.queue, -1), one.packet, one.place,
                one.text, one.address, one.access, one.kernel, one.workgroup, one.wave, one.pc,
            )
            for one in faults
        )  # fmt: skip
        first = failures[0]
        signature = Signature(
            Result.FAULT, first.queue, first.packet, faults[0].kind, first.kernel or "",
            first.ordinal,
        )  # fmt: skip
        return Verdict(
            Result.FAULT, first.text, signature=signature, proven=True, failures=failures
        )

    def _hang(self, stalls: tuple[Stall, ...]) -> Verdict:
        failures = tuple(
            Failure(
                self._recorded(one.queue), self._ordinals.get(one.queue, -1), one.packet, one.place,
                one.text, one.address,
            )
            for one in stalls
        )  # fmt: skip
        first = failures[0]
        signature = Signature(
            Result.HANG, first.queue, first.packet, "stall", ordinal=first.ordinal
        )
        text = "; ".join(f"queue {one.queue}, packet {one.packet}: {one.text}" for one in failures)
        return Verdict(Result.HANG, text, signature=signature, proven=True, failures=failures)

    def _recorded(self, queue: int) -> int:
        return self._names.recorded("queue", queue)
