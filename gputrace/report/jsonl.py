"""Write a trace as JSON Lines: one object for each event, submission and packet."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum
from typing import Any

from gputrace.bits import Record
from gputrace.replay.describe import Describer, is_memory
from gputrace.report.walk import Decoded, Rung, Seen, Walk, Wanted
from gputrace.trace.source import Source


class JsonView:
    """A trace as one JSON object a line; `type` is "event", "submission" or "packet".

    Events are given when nothing is left out or `every_event` asks for them; bytes are hexadecimal.
    `packets` counts those that were yielded.
    """

    def __init__(
        self, source: Source, wanted: Wanted | None = None, *, every_event: bool = False
    ) -> None:
        self._walk = Walk(source, wanted)
        self._events = every_event or wanted is None or wanted.everything
        self.packets = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the lines; once."""
        for item in self._walk:
            match item:
                case Seen() if self._events:
                    name = type(item.event).__name__
                    yield _line("event", item.number, event=name, fields=asdict(item.event))
                case Rung():
                    made = item.submission
                    yield _line("submission", made.number, event=made.event,
                                queue=made.queue.queue, ordinal=made.ordinal,
                                packets=len(made.packets), problem=made.problem)  # fmt: skip
                case Decoded():
                    self.packets += 1
                    yield _packet(item, self._walk.describer)


def _packet(item: Decoded, describer: Describer) -> str:
    placed, launch = item.placed, item.launch
    more: dict[str, Any] = {}
    if placed.record is not None:
        more = {
            "record": type(placed.record).__name__,
            "fields": _fields(placed.record),
            "names": _names(placed.record, describer),
        }
    if launch is not None:
        more["launch"] = {
            "kernel": launch.kernel,
            "entry": launch.entry,
            "groups": launch.groups,
            "block": launch.block,
            "kernarg": launch.kernarg,
            "arguments": None if launch.arguments is None else [
                {"name": one.name, "raw": one.raw, "text": one.text} for one in launch.arguments
            ],
        }  # fmt: skip
    return _line(
        "packet", placed.number, queue=placed.queue, submission=placed.submission,
        address=placed.address, depth=placed.depth, skipped=placed.skipped,
        problem=placed.problem, words=[f"{word:08x}" for word in placed.words],
        line=describer.line(placed, launch), **more,
    )  # fmt: skip


def _fields(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field in record.FIELDS:
        value = getattr(record, field.name)
        fields[field.name] = value.name if isinstance(value, Enum) else value
    if record.TAIL is not None:
        fields[record.TAIL.name] = list(getattr(record, record.TAIL.name))
    if record.unknown:
        fields["unknown"] = record.unknown
    return fields


def _names(record: Record, describer: Describer) -> dict[str, str]:
    return {
        field.name: describer.labels.short(getattr(record, field.name))
        for field in record.FIELDS
        if is_memory(record, field) and getattr(record, field.name)
    }


def _line(kind: str, number: int, **more: Any) -> str:
    return json.dumps({"type": kind, "number": number, **more}, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no JSON for {type(value).__name__}")
