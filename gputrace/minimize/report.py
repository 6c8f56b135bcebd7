"""What a reduction found, as text for people and as values for JSON."""

from collections.abc import Iterator
from typing import Any

from gputrace.formats.ioctl import RECORDS
from gputrace.minimize.cause import explain
from gputrace.minimize.certificate import Need
from gputrace.minimize.failure import describe_queue, in_words
from gputrace.minimize.model import Item, Kind, Model
from gputrace.minimize.oracle import Outcome
from gputrace.minimize.reduce import Reduction, queues_left
from gputrace.trace import events

CAUSE = "Cause:"
"""The line under which every report names the cause."""


def item_line(model: Model, item: Item) -> str:
    """Write any other item as one line."""
    event = model.by_number[item.event]
    match event:
        case events.Ioctl():
            record = RECORDS[event.record].from_bytes(event.after)
            line = record.line()
            for buffer in model.buffers:
                if buffer.made == item.event:
                    line += f"  [{model.name_of(buffer.where.start)}]"
            return line
        case events.Memory() | events.HostStore():
            size = sum(one.end - one.start for one in item.ranges)
            return f"the CPU writes {size} bytes to {model.name_of(item.ranges[0].start)}"
        case events.Reserve() | events.Release() | events.Map() | events.Unmap():
            what = type(event).__name__.lower()
            return f"{what} {event.address:#x}, {event.size:#x} bytes"
    return type(event).__name__


def why(reduction: Reduction, need: Need) -> str:
    """Say why an item has to stay."""
    if need.user is not None:
        user = reduction.case.items[need.user]
        if user.kind is Kind.PACKET:
            return f"packet {user.number} of {describe_queue(reduction.whole, user.queue)} needs it"
        return f"event {user.event} needs it"
    if not need.outcomes:
        return "nothing is left without it"
    fates = {
        Outcome.PASS: "without it nothing fails",
        Outcome.OTHER: "without it the failure is another one",
        Outcome.INVALID: "without it the rest cannot run",
        Outcome.SAME: "it could go",
    }
    hits = sum(outcome is Outcome.SAME for outcome in need.outcomes)
    last = next(one for one in reversed(need.outcomes) if one is not Outcome.SAME or hits > 0)
    if len(need.outcomes) > 1:
        return f"{fates[last]} ({hits} of {len(need.outcomes)} runs failed)"
    return fates[last]


def _left(reduction: Reduction) -> Iterator[str]:
    model, needs = reduction.whole, {need.item: need for need in reduction.certificate.needs}
    at = {item: number for number, item in enumerate(reduction.case.items)}
    for queue in queues_left(reduction):
        yield f"  {describe_queue(model, queue)}:"
        packets = [i for i in reduction.kept if i.kind is Kind.PACKET and i.queue == queue]
        for item in sorted(packets, key=lambda one: one.number):
            packet = reduction.case.model.packet(item)
            yield f"    {item.number:6d}  {reduction.line(packet)}"
            for inner in packet.inner:
                if inner.record is not None:
                    yield f"            {'  ' * inner.depth}{inner.record.line()}"
            yield f"            {why(reduction, needs[at[item]])}"


def _around(reduction: Reduction) -> Iterator[str]:
    model, needs = reduction.whole, {need.item: need for need in reduction.certificate.needs}
    at = {item: number for number, item in enumerate(reduction.case.items)}
    for item in reduction.kept:
        if item.kind is not Kind.PACKET:
            yield f"    event {item.event:6d}  {item_line(model, item)}"
            yield f"                  {why(reduction, needs[at[item]])}"


def text(reduction: Reduction, *, full: bool = True) -> Iterator[str]:
    """Yield the lines of the report; in `full` with the calls and memory around the packets."""
    model, costs = reduction.whole, reduction.costs
    before, after = model.packets, reduction.packets
    yield f"Failure: {reduction.target.text}"
    yield ""
    yield CAUSE
    for line in explain(reduction):
        yield f"  {line}"
    yield ""
    yield f"{before} packets became {after}:"
    yield from _left(reduction)
    yield ""
    if full:
        yield "What they need around them:"
        yield from _around(reduction)
        yield ""
    yield "Removed:"
    yield from (f"  {line}" for line in removed(reduction))
    yield ""
    sign = reduction.certificate
    yield (
        "Certificate: each element was removed once more and the failure went away."
        if sign.minimal
        else f"Not minimal: {len(sign.superfluous)} elements could still go."
    )
    rate, again = reduction.target.rate, reduction.rate
    runs = reduction.target.runs
    yield f"  Of {runs} runs under different schedules {rate:.0%} failed before, {again:.0%} after."
    yield f"  Candidates ran on {_ways(reduction)}."
    seconds = sum(costs.cost.values())
    kinds = ", ".join(f"{costs.runs[one]} {one.value}" for one in Outcome if costs.runs[one])
    yield f"  {costs.total} runs ({kinds}) in {seconds:.1f} s; {recalled(reduction)}"
    if reduction.asides and not full:
        yield f"  Candidates also failed in {len(reduction.asides)} other ways, set aside."
    for aside in reduction.asides if full else ():
        yield f"  Set aside, it fails otherwise: {in_words(model, aside.signature)}"


def _ways(reduction: Reduction) -> str:
    count = len(reduction.target.ways)
    more = f" and in up to {count - 1} other ways" if count > 1 else ""
    return str(reduction.target.ways[0]) + more


def recalled(reduction: Reduction) -> str:
    """Say how many runs began at a checkpoint, and how many the journal answered."""
    began = f"{reduction.resumed} began at a checkpoint, "
    return f"{began}{reduction.recalled} were known from the journal."


def removed(reduction: Reduction) -> Iterator[str]:
    """Yield what is gone, by kind."""
    model = reduction.whole
    kept = set(reduction.kept)
    for queue in model.queues:
        left = sum(i.kind is Kind.PACKET and i.queue == queue.ordinal for i in kept)
        gone = len(queue.packets) - left
        name = describe_queue(model, queue.ordinal)
        whole = "" if left else " (the whole queue)"
        yield f"{gone} of {len(queue.packets)} packets of {name}{whole}"
    doorbells = {reduction.case.model.packet(i).event for i in kept if i.kind is Kind.PACKET}
    yield f"{model.submissions - len(doorbells)} of {model.submissions} submissions"
    for kind, name in ((Kind.CALL, "calls"), (Kind.RANGE, "mappings"), (Kind.MEMORY, "writes")):
        total = sum(item.kind is kind for item in model.items)
        left = sum(item.kind is kind for item in kept)
        yield f"{total - left} of {total} {name}"


def plain(reduction: Reduction) -> dict[str, Any]:
    """Return the report as values that JSON knows."""
    model, sign = reduction.whole, reduction.certificate
    needs = {need.item: need for need in sign.needs}
    at = {item: number for number, item in enumerate(reduction.case.items)}
    left = [
        {
            "queue": describe_queue(model, item.queue),
            "ordinal": item.queue,
            "packet": item.number,
            "text": reduction.line(reduction.case.model.packet(item)),
            "why": why(reduction, needs[at[item]]),
        }
        for item in reduction.kept
        if item.kind is Kind.PACKET
    ]
    return {
        "failure": {"signature": reduction.target.signature, "text": reduction.target.text},
        "cause": explain(reduction),
        "packets": {"before": model.packets, "after": reduction.packets, "left": left},
        "elements": {"before": len(model.items), "after": len(reduction.kept)},
        "removed": list(removed(reduction)),
        "certificate": {
            "minimal": sign.minimal,
            "before": {"rate": reduction.target.rate, "runs": reduction.target.runs},
            "after": {"rate": reduction.rate, "runs": reduction.target.runs},
        },
        "runs": {
            "total": reduction.costs.total,
            "recalled": reduction.recalled,
            "resumed": reduction.resumed,
            "seconds": sum(reduction.costs.cost.values()),
            **{one.value: reduction.costs.runs[one] for one in Outcome},
        },
        "ways": [str(way) for way in reduction.target.ways],
        "aside": [aside.signature for aside in reduction.asides],
    }
