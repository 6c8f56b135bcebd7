"""Why queues stand still: what each waits for, who would free it, and who waits in a circle.

It is asked when no engine can take a step. Then a packet that would free a queue stands behind a
queue that stands still itself, so that the waits form a graph: its circles are deadlocks, and the
queues that nobody would free wait for the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gputrace.devices.emulated.ahead import Upcoming, upcoming, would_free
from gputrace.devices.emulated.effects import Condition, Drain, More, Never, Wait
from gputrace.devices.emulated.memory import AccessFault
from gputrace.devices.emulated.process import Process
from gputrace.devices.emulated.queue import HardwareQueue, Loop, Tail
from gputrace.kfd.port import Stall

_FIRST = ("endless", "budget", "packet", "never", "deadlock", "stall", "blocked", "stopped")
"""Kinds in the order in which they explain one another."""


@dataclass(eq=False, slots=True)
class _Standing:
    # A queue that stands still; `freed_by` are packets that would let it go on.
    queue: HardwareQueue
    stall: Stall
    conditions: Sequence[Condition] = ()
    freed_by: list[Upcoming] = field(default_factory=list)


def stalls(process: Process) -> tuple[Stall, ...]:
    """Return one Stall for each queue that stands still, causes before their consequences."""
    found = [one for queue in process.hardware if (one := _standing(process, queue)) is not None]
    if any(one.conditions for one in found):
        left = [up for queue in process.hardware for up in upcoming(queue, process.family)]
        for one in found:
            one.freed_by = _freed_by(one, left)
        _classify(process, found)
    told = [one.stall for one in found]
    return tuple(sorted(told, key=lambda stall: _FIRST.index(stall.kind)))


def _standing(process: Process, queue: HardwareQueue) -> _Standing | None:
    def stall(text: str, kind: str) -> Stall:
        place = queue.device, queue.queue_id, queue.packet, queue.place
        return Stall(*place, None, text, kind)

    pending = queue.pending
    if queue.stopped:
        return _Standing(queue, stall(queue.stopped, "stopped"))
    for tail in queue.pipe:
        if tail.work is not None and tail.work.loop is not None:
            return _Standing(queue, _endless(process, queue, tail, tail.work.loop))
    if not queue.has_units and any(tail.work is not None for tail in queue.pipe):
        text = "waits for ever: its compute unit mask leaves no unit to run waves on"
        return _Standing(queue, stall(text, "never"))
    if isinstance(pending, Wait):
        return _waiting(process, queue, pending, stall("", "stall"))
    if isinstance(pending, More):
        there = queue.available() * queue.unit // 4
        text = f"waits for a packet of {pending.needed} dwords, {there} are written"
        return _Standing(queue, stall(text, "packet"))
    if isinstance(pending, Never):
        return _Standing(queue, stall(f"waits for ever: {pending.reason}", "never"))
    if isinstance(pending, Drain):
        return _Standing(queue, stall("waits for its waves", "blocked"))
    return None


def _endless(process: Process, queue: HardwareQueue, tail: Tail, loop: Loop) -> Stall:
    text = f"kernel {loop.kernel} {loop.text}" if loop.kernel else f"a kernel {loop.text}"
    address = loop.seen[0][0] if loop.seen else None
    if address is not None:
        held = loop.seen[0][1]
        value = int.from_bytes(held[:8], "little")
        text += f"; it reads [{address:#x}]{_named(process, address)}, which is {value:#x}"
    stall = Stall(
        queue.device, queue.queue_id, tail.packet, tail.place, address, text,
        "endless" if loop.proven else "budget", kernel=loop.kernel or None,
    )  # fmt: skip
    place = loop.place
    if place is None:
        return stall
    if process.labels.at(place.pc) is not None:
        stall = replace(stall, text=f"{text}; the wave is in {process.labels.short(place.pc)}")
    return replace(
        stall, workgroup=place.group, wave=place.wave, pc=place.pc, registers=loop.registers
    )


def _waiting(process: Process, queue: HardwareQueue, wait: Wait, stall: Stall) -> _Standing:
    texts, open_ones = [], []
    for one in wait.conditions:
        try:
            value = queue.space.load(one.address, one.size)
        except AccessFault as problem:
            texts.append(f"{one}: {problem}")
            continue
        texts.append(f"{one}{_named(process, one.address)}, which is {value:#x}")
        if not one.holds(value):
            open_ones.append(one)
    text = "waits for " + (" or " if wait.any else " and ").join(texts)
    # All of several conditions are needed: the first open one is enough to stand still.
    conditions = open_ones if wait.any else open_ones[:1]
    address = conditions[0].address if conditions else wait.conditions[0].address
    return _Standing(queue, replace(stall, address=address, text=text), conditions)


def _named(process: Process, address: int) -> str:
    named = process.labels.describe(address) if process.labels.at(address) else ""
    return f" ({named})" if named else ""


def _freed_by(one: _Standing, left: Sequence[Upcoming]) -> list[Upcoming]:
    # A packet that the queue has begun does not free it; one in its pipe may.
    found = []
    for up in left:
        if up.queue is one.queue and up.number == one.queue.packet and up.place == one.queue.place:
            continue
        if any(would_free(up.packet, condition) for condition in one.conditions):
            found.append(up)
    return found


def _classify(process: Process, found: Sequence[_Standing]) -> None:
    behind = {one.queue: one for one in found}
    for one in found:
        if not one.conditions:
            continue
        if not one.freed_by:
            one.stall = _alone(process, one.stall)
            continue
        first = one.freed_by[0]
        cycle = _cycle(one, behind)
        kind = "deadlock" if cycle and not _a_way_out(one, behind) else "blocked"
        text = f"{one.stall.text}; packet {first.number} of {_queue(first.queue)} would free it"
        if kind == "deadlock":
            path = " -> ".join(f"packet {packet} of queue {queue}" for _, queue, packet in cycle)
            text += f"; a circle: {path} -> back"
        elif first.queue in behind and first.queue is not one.queue:
            text += ", which stands still itself"
        one.stall = replace(
            one.stall, text=text, kind=kind, cycle=cycle if kind == "deadlock" else (),
            writer=first.key,
        )  # fmt: skip


def _alone(process: Process, stall: Stall) -> Stall:
    assert stall.address is not None
    text = f"{stall.text}; no packet that is left would write that"
    writer = process.history.last(stall.address, 4)
    if writer is None:
        before = "none has" if process.history.whole else "none of the last packets has"
        return replace(stall, text=f"{text}, and {before} written there")
    text += f"; packet {writer.packet} of queue {writer.queue} wrote there last"
    return replace(stall, text=text, writer=(writer.device, writer.queue, writer.packet))


def _queue(queue: HardwareQueue) -> str:
    return f"queue {queue.queue_id}"


def _cycle(
    start: _Standing, behind: dict[HardwareQueue, _Standing]
) -> tuple[tuple[int, int, int], ...]:
    # The shortest way round from a queue back to it, over packets that would free the one before.
    ways: list[list[_Standing]] = [[start]]
    been = set()
    while ways:
        way = ways.pop(0)
        for up in way[-1].freed_by:
            if up.queue is start.queue:
                stalls = [one.stall for one in way]
                return tuple((stall.device, stall.queue, stall.packet) for stall in stalls)
            if up.queue in behind and up.queue not in been:
                been.add(up.queue)
                ways.append([*way, behind[up.queue]])
    return ()


def _a_way_out(start: _Standing, behind: dict[HardwareQueue, _Standing]) -> bool:
    # Whether some queue that could free this one, over any number of others, waits for the CPU.
    seen, ahead = {start.queue}, [start]
    while ahead:
        one = ahead.pop()
        if not one.freed_by:
            return True
        for up in one.freed_by:
            if up.queue not in seen and up.queue in behind:
                seen.add(up.queue)
                ahead.append(behind[up.queue])
    return False


def told(stalls: Sequence[Stall]) -> str:
    """Return a line for each queue that waits; nothing when none does."""
    return "\n".join(
        f"queue {one.queue} of device {one.device}, packet {one.packet} at {one.place:#x}: "
        f"{one.text}"
        for one in stalls
    )
