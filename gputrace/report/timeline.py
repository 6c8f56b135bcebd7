"""Write a trace as a timeline in the JSON that Perfetto and Chrome read.

A track for each thread of the client shows its calls and waits, a track for each queue shows what
is under way: from a doorbell until the engine was first seen to have fetched all of it. Times are
those of the device's clock at the events; on an emulated device that is virtual time.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gputrace.formats.ioctl import QueueType, queue_name
from gputrace.report.walk import Decoded, Rung, Seen, Walk
from gputrace.submitted.stream import Submission
from gputrace.trace import events as ev
from gputrace.trace.source import Source

Object = dict[str, Any]

CPU, QUEUES = 1, 2
SHOWN = 16
"""Packets of a submission that are listed with it."""


@dataclass
class _Open:
    """A submission that is not known to be fetched: `end` is in the read pointer's own unit."""

    name: str
    start: int
    end: int
    count: int
    packets: list[str] = field(default_factory=list)


class _Timeline:
    def __init__(self, source: Source) -> None:
        self._walk = Walk(source)
        self._now = 0
        self._waits: dict[int, ev.WaitBegin] = {}
        self._open: dict[int, list[_Open]] = {}  # by queue's id
        self._drawn = 0

    def objects(self) -> Iterator[Object]:
        yield _named("process_name", CPU, 0, "CPU")
        yield _named("process_name", QUEUES, 0, "queues")
        for item in self._walk:
            match item:
                case Seen():
                    self._now = max(self._now, getattr(item.event, "time", 0))
                    yield from self._event(item.event)
                case Rung():
                    self._submitted(item.submission)
                case Decoded():
                    self._packet(item)
        for queue in self._open:
            yield from self._fetched(queue, None)

    def _event(self, event: ev.Event) -> Iterator[Object]:
        match event:
            case ev.QueueMap(live=True):
                name = f"queue {event.queue}: {queue_name(event.type)}"
                yield _named("thread_name", QUEUES, event.queue, name)
            case ev.Ioctl():
                yield self._mark(event.record or "ioctl", event.thread, {"errno": event.errno})
            case ev.HostStore():
                where = self._walk.describer.labels.short(event.address)
                yield self._mark("store", 0, {"address": where, "data": event.data.hex()})
            case ev.DoorbellIntent():
                yield self._mark(f"doorbell {event.submission}", event.thread, {})
            case ev.WaitBegin():
                self._waits[event.wait] = event
            case ev.WaitEnd() if event.wait in self._waits:
                began = self._waits.pop(event.wait)
                yield {"name": "wait", "ph": "X", "pid": CPU, "tid": began.thread,
                       "ts": began.time / 1000, "dur": max(0, event.time - began.time) / 1000,
                       "args": {"result": event.result}}  # fmt: skip
            case ev.Progress():
                for one in event.values:
                    if one.what == "read":
                        yield from self._fetched(one.where, one.value)
            case ev.Outcome():
                yield self._mark(event.result, 0, {"text": event.text})

    def _submitted(self, made: Submission) -> None:
        unit = {QueueType.COMPUTE: 4, QueueType.COMPUTE_AQL: 64}.get(QueueType(made.queue.type), 1)
        opened = _Open(
            f"submission {made.number}", self._now, made.end // unit, len(made.packets)
        )
        self._open.setdefault(made.queue.queue, []).append(opened)

    def _packet(self, item: Decoded) -> None:
        opened = self._open[item.placed.queue][-1]
        if len(opened.packets) < SHOWN:
            opened.packets.append(self._walk.describer.line(item.placed, item.launch))
        if item.launch is not None and item.launch.kernel:
            opened.name = item.launch.kernel

    def _fetched(self, queue: int, upto: int | None) -> Iterator[Object]:
        waiting = self._open.get(queue, [])
        while waiting and (upto is None or waiting[0].end <= upto):
            one = waiting.pop(0)
            args = {"packets": one.packets, "count": one.count, "fetched": upto is not None}
            self._drawn += 1
            # Those of one queue overlap, which only asynchronous slices may.
            common = {"cat": "queue", "id": self._drawn, "name": one.name, "pid": QUEUES,
                      "tid": queue}  # fmt: skip
            yield {**common, "ph": "b", "ts": one.start / 1000, "args": args}
            yield {**common, "ph": "e", "ts": self._now / 1000}

    def _mark(self, name: str, thread: int, args: Object) -> Object:
        return {"name": name, "ph": "i", "s": "t", "pid": CPU, "tid": thread,
                "ts": self._now / 1000, "args": args}  # fmt: skip


def timeline_lines(source: Source) -> Iterator[str]:
    """Yield the lines of one JSON object."""
    yield '{"displayTimeUnit": "ns", "traceEvents": ['
    before = ""
    for one in _Timeline(source).objects():
        if before:
            yield before + ","
        before = json.dumps(one)
    yield before
    yield "]}"


def _named(what: str, process: int, thread: int, name: str) -> Object:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
