"""How a replayed run ends: whether its queues failed, asked as long as there are queues to ask."""

from gputrace.bits import Record
from gputrace.formats.ioctl import CreateQueue, DestroyQueue
from gputrace.kfd.port import Fault, Kfd, Stall
from gputrace.replay.names import Names
from gputrace.replay.pacing import Clock
from gputrace.replay.verdict import Failure, Result, Signature, Verdict


class Ending:
    """Keeps the first failure of a run, by the names that the recording uses.

    `complete` says that the recording holds all that the CPU did: then who waits for the CPU waits
    for ever. `beyond` is True when the device was let go further than was recorded.
    """

    def __init__(self, device: Kfd, names: Names, complete: bool) -> None:
        self._device, self._names, self.complete = device, names, complete
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

    def ordinal(self, queue: int) -> int:
        """Return how many queues were made before a live one, -1 for one that is not known."""
        return self._ordinals.get(queue, -1)

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
        failures = tuple(self._failure(one) for one in faults)
        first = failures[0]
        signature = Signature(
            Result.FAULT, first.queue, first.packet, first.kind, first.kernel or "", first.ordinal
        )
        return Verdict(
            Result.FAULT, first.text, signature=signature, proven=True, failures=failures
        )

    def _hang(self, stalls: tuple[Stall, ...]) -> Verdict:
        failures = tuple(self._failure(one) for one in stalls)
        first = failures[0]
        signature = Signature(
            Result.HANG, first.queue, first.packet, first.kind, first.kernel or "", first.ordinal
        )
        proven = stalls[0].proves_hang(alone=self.complete)
        return Verdict(
            Result.HANG, first.text, signature=signature, proven=proven, failures=failures
        )

    def _failure(self, one: Fault | Stall) -> Failure:
        return Failure(
            queue=self._recorded(one.queue),
            ordinal=self.ordinal(one.queue),
            packet=one.packet,
            place=one.place,
            text=one.text,
            kind=one.kind,
            address=one.address,
            access=one.access if isinstance(one, Fault) else None,
            kernel=one.kernel,
            workgroup=one.workgroup,
            wave=one.wave,
            pc=one.pc,
            registers=one.registers,
            lanes=one.lanes if isinstance(one, Fault) else None,
        )

    def _recorded(self, queue: int) -> int:
        return self._names.recorded("queue", queue)
