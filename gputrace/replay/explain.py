"""Put a verdict into the trace's own words: packets decoded, memory by its names."""

from collections.abc import Iterable
from dataclasses import replace

from gputrace.devices.emulated import EmulatedKfd
from gputrace.errors import UsageError
from gputrace.replay.describe import Describer
from gputrace.replay.player import Player
from gputrace.replay.standing import standing
from gputrace.replay.verdict import Failure, Verdict
from gputrace.submitted.image import Image
from gputrace.submitted.stream import Stream
from gputrace.trace.source import Source

Where = tuple[int, int]
"""A packet: the queue's ordinal in the order of their making, and the packet's number."""


def explain(source: Source, verdict: Verdict) -> Verdict:
    """Add the decoded packet to each failure, and to a difference the name of what differs."""
    wanted = {(one.ordinal, one.packet) for one in verdict.failures}
    difference = verdict.difference
    if not wanted and difference is None:
        return verdict
    lines, names = packet_lines(source, wanted)
    failures = tuple(
        replace(one, line=lines.get((one.ordinal, one.packet), ""), standing=_standing(one, names))
        for one in verdict.failures
    )
    if difference is not None:
        label = names.labels.at(difference.address)
        if label is not None:
            difference = replace(
                difference, buffer=label.name, offset=difference.address - label.address
            )
    return replace(verdict, failures=failures, difference=difference)


def _standing(failure: Failure, names: Describer) -> tuple[str, ...]:
    if failure.pc is None:
        return ()
    return tuple(standing(names, failure.pc, failure.registers, failure.lanes or 0))


def packet_lines(source: Source, wanted: Iterable[Where]) -> tuple[dict[Where, str], Describer]:
    """Return the packets that are wanted in words, and the names that the trace gives.

    Names are those of the last event: what was freed has none.
    """
    left, lines = set(wanted), dict[Where, str]()
    stream = Stream(Image(source))
    describer = Describer(stream.image)
    for number, event in source.numbered():
        try:
            submission = stream.apply(number, event)
        except UsageError:  # a family without packets here: there is nothing to decode
            return lines, describer
        describer.apply(event)
        if submission is None:
            continue
        for placed in submission.packets:
            launch = describer.launch(placed)
            where = (submission.ordinal, placed.number)
            if where in left and placed.depth == 0:
                lines[where] = describer.line(placed, launch)
    return lines, describer


class Watch:
    """Finds out which packet changed some bytes last, while a Player replays up to an event.

    `address` is a recorded one. `writer` is None when it was the CPU or nobody; storing the value
    that is there already is no change.
    """

    def __init__(
        self, player: Player, device: EmulatedKfd, address: int, size: int, event: int
    ) -> None:
        self._player, self._device, self._event = player, device, event
        self._address, self._size = address, size
        self._seen: bytes | None = None
        self.writer: Where | None = None
        self.queue = -1
        player.clock.after_step = self._look
        player.after_event = self._renew

    def _now(self) -> bytes | None:
        if self._player.places.live(self._address, self._size) is None:
            return None
        return bytes(self._player.places.view(self._address, self._size, writable=False))

    def _renew(self, number: int) -> None:
        if number == self._event:
            self._player.clock.after_step = self._player.after_event = None
            return
        now = self._now()
        if now != self._seen:
            self._seen, self.writer = now, None

    def _look(self) -> None:
        now = self._now()
        if now == self._seen:
            return
        self._seen, turn = now, self._device.last_turn()
        if turn is not None:
            self.queue = self._player.names.recorded("queue", turn.queue)
            self.writer = (self._player.ordinal(turn.queue), turn.packet)
