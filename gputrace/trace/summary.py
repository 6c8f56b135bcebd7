"""What a trace holds in numbers, gathered while it is written and kept in its trailer."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from gputrace.trace.events import (
    Checkpoint,
    Cost,
    Digest,
    DoorbellIntent,
    Event,
    Lost,
    Memory,
    Note,
    QueueMap,
    Trigger,
    Unsupported,
)

MOST = 1 << 10
"""Most queues, and most kinds of unsupported things, that are listed one by one."""
LONGEST = 500
"""Characters of a text that are kept."""


class Summary:
    """Counts of one trace; every event goes through `apply`.

    `memory` holds bytes by provenance ("cpu", "gpu", "unknown"), of digests ("compared",
    "unstable") and of what damage took ("lost"), `queues` a map of facts for each queue in the
    order of their making, `unsupported` counts by (what, reason), `refused` what the device refused
    as not modelled, `cost` what the capture cost. `part` says, for a part of a run, what began and
    ended it: (what, cause, submission) in order, where "start" is before a submission, "stop" after
    one, and "note" a text.
    """

    def __init__(self) -> None:
        self.memory: Counter[str] = Counter()
        self.queues: list[dict[str, int]] = []
        self.unsupported: Counter[tuple[str, str]] = Counter()
        self.refused: list[str] = []
        self.cost: dict[str, int] = {}
        self.windowed = False
        self.part: list[tuple[str, str, int]] = []
        self._alive: dict[int, dict[str, int]] = {}

    def apply(self, event: Event) -> None:
        """Take an event into account; most kinds change nothing."""
        method = self._METHODS.get(type(event))
        if method is not None:
            method(self, event)

    def pack(self) -> dict[str, Any]:
        """Give the summary as a trailer holds it."""
        return {
            "memory": dict(self.memory),
            "queues": self.queues,
            "unsupported": [[*key, count] for key, count in self.unsupported.items()],
            "refused": self.refused,
            "cost": self.cost,
            "windowed": self.windowed,
            "part": [list(row) for row in self.part],
        }

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> "Summary | None":
        """Read what `pack` gave; None for anything else."""
        made = cls()
        match data:
            case {
                "memory": dict(memory),
                "queues": list(queues),
                "unsupported": list(unsupported),
                "cost": dict(cost),
                "windowed": bool(windowed),
            }:
                pass
            case _:
                return None
        rows = [row for row in unsupported if _is_row(row)]
        if not (_counts(memory) and _counts(cost) and all(map(_counts, queues))):
            return None
        if len(rows) != len(unsupported) or not all(queue.keys() >= _FACTS for queue in queues):
            return None
        made.memory.update(memory)
        refused = data.get("refused", [])  # traces of earlier versions say nothing of it
        if not isinstance(refused, list) or not all(isinstance(one, str) for one in refused):
            return None
        made.refused = refused
        part = data.get("part", [])
        if not isinstance(part, list) or not all(map(_is_row, part)):
            return None
        made.part = [(what, cause, number) for what, cause, number in part]
        made.queues, made.cost, made.windowed = queues, cost, windowed
        made.unsupported.update({(what, reason): count for what, reason, count in rows})
        return made

    def _memory(self, event: Memory) -> None:
        self.memory[event.provenance] += event.size

    def _lost(self, event: Lost) -> None:
        self.memory["lost"] += event.size
        if event.restored:
            self._unsupported(Unsupported("lost with a damaged block", event.text))

    def _digest(self, event: Digest) -> None:
        size = sum(chunk.size for chunk in event.chunks)
        self.memory["unstable" if event.unstable else "compared"] += size

    def _queue(self, event: QueueMap) -> None:
        if not event.live:
            self._alive.pop(event.queue, None)
            return
        facts = {
            "queue": event.queue, "type": event.type, "gpu": event.gpu,
            "ring_size": event.ring_size, "submissions": 0,
        }  # fmt: skip
        self._alive[event.queue] = facts
        if len(self.queues) < MOST:
            self.queues.append(facts)

    def rang(self, queue: int) -> None:
        """Take a doorbell of a queue into account: what `apply` does with its intent."""
        facts = self._alive.get(queue)
        if facts is not None:
            facts["submissions"] += 1

    def _doorbell(self, event: DoorbellIntent) -> None:
        self.rang(event.queue)

    def _unsupported(self, event: Unsupported) -> None:
        key = event.what[:LONGEST], event.reason[:LONGEST]
        if key in self.unsupported or len(self.unsupported) < MOST:
            self.unsupported[key] += 1

    def _note(self, event: Note) -> None:
        if event.what == "refused" and len(self.refused) < MOST:
            self.refused.append(event.text[:LONGEST])
        elif event.what == "trigger":
            self._add_to_part("note", event.text, 0)

    def _trigger(self, event: Trigger) -> None:
        self._add_to_part(event.what, event.cause, event.submission)

    def _add_to_part(self, what: str, cause: str, submission: int) -> None:
        if len(self.part) < MOST:
            self.part.append((what[:LONGEST], cause[:LONGEST], submission))

    def _cost(self, event: Cost) -> None:
        self.cost = asdict(event)

    def _checkpoint(self, event: Checkpoint) -> None:
        self.windowed = True
        if not event.complete:
            self._unsupported(Unsupported("checkpoint", event.text))

    _METHODS: dict[type[Event], Callable[["Summary", Any], None]] = {  # noqa: RUF012
        Memory: _memory,
        Digest: _digest,
        Lost: _lost,
        QueueMap: _queue,
        DoorbellIntent: _doorbell,
        Unsupported: _unsupported,
        Note: _note,
        Cost: _cost,
        Checkpoint: _checkpoint,
        Trigger: _trigger,
    }


_FACTS = {"queue", "type", "gpu", "ring_size", "submissions"}


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(count) is int for count in value.values())


def _is_row(row: Any) -> bool:
    match row:
        case [str(), str(), int()]:
            return True
    return False
