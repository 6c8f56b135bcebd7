"""Go through a trace once and yield what a reader wants to see, in its order."""

from collections.abc import Iterator
from dataclasses import dataclass

from gputrace.replay.describe import Describer
from gputrace.submitted.image import Image
from gputrace.submitted.launches import Launch
from gputrace.submitted.stream import Placed, Stream, Submission
from gputrace.trace.events import Event
from gputrace.trace.source import Source


@dataclass(frozen=True, slots=True)
class Seen:
    """An event, with its number in the trace."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class Rung:
    """A doorbell; its packets follow."""

    submission: Submission


@dataclass(frozen=True, slots=True)
class Decoded:
    """A packet, and what it launches."""

    placed: Placed
    launch: Launch | None


Item = Seen | Rung | Decoded


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which packets are of interest; None where it does not matter."""

    queue: int | None = None
    packet: int | None = None
    submission: int | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.queue is None and self.packet is None and self.submission is None

    def rung(self, submission: Submission) -> bool:
        """Whether a submission may hold such packets."""
        wrong_queue = self.queue is not None and submission.queue.queue != self.queue
        wrong_number = self.submission is not None and submission.number != self.submission
        return not (wrong_queue or wrong_number)

    def placed(self, placed: Placed) -> bool:
        """Whether a packet of such a submission is one of them."""
        return self.packet is None or placed.number == self.packet


class Walk:
    """One pass over a trace. While it goes on, `describer` and `stream` are those of the moment."""

    def __init__(self, source: Source, wanted: Wanted | None = None) -> None:
        self._source = source
        self._wanted = wanted or Wanted()
        self.stream = Stream(Image(source))
        self.describer = Describer(self.stream.image)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items; a doorbell's event comes before its submission."""
        for number, event in self._source.numbered():
            self.describer.apply(event)
            submission = self.stream.apply(number, event)
            yield Seen(number, event)
            if submission is not None:
                yield from self._packets(submission)

    # Packets that are not wanted count, too: they set registers.
    def _packets(self, submission: Submission) -> Iterator[Item]:
        shown = self._wanted.rung(submission)
        chosen = []
        for placed in submission.packets:
            launch = self.describer.launch(placed)
            if shown and self._wanted.placed(placed):
                chosen.append(Decoded(placed, launch))
        if shown and (chosen or self._wanted.packet is None):
            yield Rung(submission)
            yield from chosen
