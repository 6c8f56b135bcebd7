"""How a candidate failed, in terms of the trace: what makes two failures the same one.

Queues that stand still mostly wait for one another; only where that chain ends is the failure. The
end is a queue that waits for what no packet will write, or queues that wait for each other.
"""

import re
from dataclasses import dataclass

from gputrace.formats.ioctl import QueueType
from gputrace.minimize.edit import Edited
from gputrace.minimize.effects import Condition, conditions, reach, stores
from gputrace.minimize.model import Model, Packet
from gputrace.replay.verdict import Failure, Result, Verdict

RING = "ring of "
"""How the driver core's names of rings begin; what follows is the queue's name."""

_PLACE = re.compile(r"(?<!\S)(\d+)\.(\d+)(?!\S)")
_ACCESS = re.compile(r"(?<!\S)([rwx]) (?:(\w+)#(\d+)|nowhere)$")
_ACCESSES = {"r": "reads", "w": "writes", "x": "executes"}
_LIES = {
    "in": "{}",
    "unmapped": "{}, which is not mapped then",
    "missing": "{}, which was left out",
    "freed": "{}, which was freed",
    "beyond": "what follows {}",
}


@dataclass(frozen=True, slots=True)
class Root:
    """One cause of a failure: its signature, and the packets (queue, number) that it names."""

    signature: str
    packets: tuple[tuple[int, int], ...]
    text: str


@dataclass(slots=True)
class Stuck:
    """A queue that stands still: the packet, what it waits for, and who could still answer."""

    packet: Packet
    failure: Failure
    waits: list[Condition]
    answers: list[Packet]


def roots(verdict: Verdict, edited: Edited) -> list[Root]:
    """Return the causes of a failed run, by the packets of the trace; empty when it passed."""
    match verdict.result:
        case Result.HANG if verdict.failures:
            return _hang_roots(stuck_queues(verdict, edited))
        case Result.HANG:
            kind = verdict.signature.kind if verdict.signature else "time"
            return [Root(f"hang {kind}", (), verdict.text)]
        case Result.FAULT:
            return [_fault(verdict, edited)]
        case Result.HOST_CRASH:
            return [Root(f"host-crash {verdict.text}", (), verdict.text)]
    return []


def stuck_queues(verdict: Verdict, edited: Edited) -> list[Stuck]:
    """Return the queues that stand still at a packet of the trace."""
    found: list[Stuck] = []
    waiting: list[Packet] = []
    for failure in verdict.failures:
        packet = edited.packet(failure.ordinal, failure.packet)
        if packet is None:
            continue
        waiting += _behind(edited, failure)
        found.append(Stuck(packet, failure, _waits(packet, failure), []))
    for one in found:
        one.answers = [each for each in waiting if answers(each, one.waits)]
    return found


def answers(packet: Packet, waits: list[Condition]) -> bool:
    """Say whether a packet could store what is waited for."""
    return any(
        reach(None, stored, condition)
        for record in packet.records
        for stored in stores(record)
        for condition in waits
    )


def _behind(edited: Edited, failure: Failure) -> list[Packet]:
    queue = edited.original(failure.ordinal)
    ring = edited.rings[queue]
    facts = edited.model.queues[queue]
    return [facts.packet(number) for number in ring.places[failure.packet + 1 :] if number >= 0]


def _waits(packet: Packet, failure: Failure) -> list[Condition]:
    inner = [one.record for one in packet.inner if one.address == failure.place and one.record]
    records = inner or list(packet.records)
    found = [condition for record in records for condition in conditions(record)]
    here = [one for one in found if one.address == failure.address]
    return found if any(one.any_of for one in found) else here or found


def _hang_roots(stuck: list[Stuck]) -> list[Root]:
    by_queue = {one.packet.queue: one for one in stuck}
    edges = {
        one.packet.queue: {each.queue for each in one.answers if each.queue in by_queue}
        for one in stuck
    }
    reached = {queue: _reachable(queue, edges) for queue in edges}
    found, seen = [], set()
    for queue, one in by_queue.items():
        if not edges[queue]:
            found.append(_alone(one))
            continue
        circle = frozenset(reached[queue])
        closed = queue in circle and all(reached[each] == circle for each in circle)
        if closed and circle not in seen:
            seen.add(circle)
            found.append(_circle([by_queue[each] for each in sorted(circle)]))
    return found


def _reachable(queue: int, edges: dict[int, set[int]]) -> set[int]:
    found: set[int] = set()
    wanted = list(edges[queue])
    while wanted:
        each = wanted.pop()
        if each not in found:
            found.add(each)
            wanted += edges[each]
    return found


def _alone(one: Stuck) -> Root:
    packet = one.packet
    place = f"{packet.queue}.{packet.number}"
    kind = "wait" if one.waits else " ".join(one.failure.text.split()[:3])
    signature = f"hang {kind} {place}"
    every = [condition for record in packet.records for condition in conditions(record)]
    if len(every) > len(one.waits):  # of what it waits for, the rest has come
        signature += f" {one.failure.address:#x}"
    return Root(signature, ((packet.queue, packet.number),), one.failure.text)


def _circle(some: list[Stuck]) -> Root:
    packets = tuple((one.packet.queue, one.packet.number) for one in some)
    places = "+".join(f"{queue}.{number}" for queue, number in packets)
    text = "; ".join(one.failure.text for one in some)
    return Root(f"hang deadlock {places}", packets, text)


def _fault(verdict: Verdict, edited: Edited) -> Root:
    if not verdict.failures or verdict.signature is None:
        return Root(f"fault {verdict.text}", (), verdict.text)
    first = verdict.failures[0]
    packet = edited.packet(first.ordinal, first.packet)
    place = "?" if packet is None else f"{packet.queue}.{packet.number}"
    parts = ["fault", verdict.signature.kind, place]
    if first.kernel:
        parts.append(first.kernel)
    if first.address is not None and first.access is not None:
        parts += [first.access, lies_in(edited, first.address)]
    packets = () if packet is None else ((packet.queue, packet.number),)
    return Root(" ".join(parts), packets, first.text)


def lies_in(edited: Edited, address: int) -> str:
    """Say in which allocation of the trace, and in which state of it, an address lies.

    An address in none is told by the one that ends before it: just past the end of a buffer is
    another place than where the candidate left a buffer out, or a null pointer.
    """
    reached, model = edited.reached, edited.model
    happened = {number for number in edited.kept_events if number <= reached}
    for buffer in reversed(model.buffers):
        if not buffer.where.start <= address < buffer.where.end or buffer.made > reached:
            continue
        if buffer.freed in happened:
            return f"freed#{buffer.made}"
        if buffer.made in happened:
            there = buffer.mapped in happened and buffer.unmapped not in happened
            return f"in#{buffer.made}" if there else f"unmapped#{buffer.made}"
        if not 0 <= buffer.freed <= reached:
            return f"missing#{buffer.made}"
    below = [
        buffer
        for buffer in model.buffers
        if buffer.where.end <= address
        and buffer.made <= reached
        and not 0 <= buffer.freed <= reached
    ]
    last = max(below, key=lambda one: one.where.end, default=None)
    return "nowhere" if last is None else f"beyond#{last.made}"


def in_words(model: Model, signature: str) -> str:
    """Return a signature for people: with the names of its queues and buffers."""
    made = {buffer.made: buffer.where.start for buffer in model.buffers}

    def place(found: re.Match[str]) -> str:
        return f"at packet {found[2]} of {describe_queue(model, int(found[1]))}"

    def access(found: re.Match[str]) -> str:
        where = "memory that is in no buffer"
        if found[2] is not None:
            where = _LIES[found[2]].format(model.name_of(made[int(found[3])]))
        return f"{_ACCESSES[found[1]]} {where}"

    return _ACCESS.sub(access, _PLACE.sub(place, signature))


def describe_queue(model: Model, ordinal: int) -> str:
    """Return the name of a queue for people."""
    queue = model.queues[ordinal]
    name = model.name_of(queue.made.ring_base_address)
    if name.startswith(RING):
        return name.removeprefix(RING)
    kinds = {QueueType.COMPUTE: "compute", QueueType.COMPUTE_AQL: "compute (AQL)"}
    return f"queue {ordinal}, {kinds.get(QueueType(queue.made.queue_type), 'copy')}"
