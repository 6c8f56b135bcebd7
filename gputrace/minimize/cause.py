"""Why a trace fails, said with the whole trace in view, not only with what is left of it."""

from collections.abc import Iterator

from gputrace.minimize.effects import Condition, conditions, stores
from gputrace.minimize.failure import describe_queue
from gputrace.minimize.graph import members
from gputrace.minimize.model import Kind, Model, Packet
from gputrace.minimize.reduce import Reduction

SHOWN = 3
"""Earlier stores that a report shows."""
FAR = 1 << 20
"""An access that is more bytes behind a buffer has nothing to do with it."""


def explain(reduction: Reduction) -> list[str]:
    """Return the true cause in a few lines, the most important one first."""
    words = reduction.target.signature.split()
    whole = reduction.whole
    match words:
        case ["hang", "wait", place, *where]:
            return list(_unanswered(whole, reduction, _packet(whole, place), where))
        case ["hang", "deadlock", places]:
            some = [_packet(whole, place) for place in places.split("+")]
            return list(_circle(whole, some))
        case ["hang", _, *_, place] if "." in place:
            packet = _packet(whole, place)
            return [
                f"{_place(whole, packet)} never completes: {reduction.line(packet)}",
                f"  {reduction.target.text}",
            ]
        case ["fault", "memory", place, *rest]:
            return list(_memory_fault(whole, reduction, _packet(whole, place), rest))
        case ["fault", _, place, *_]:
            packet = _packet(whole, place)
            what = f"{_place(whole, packet)}: {reduction.line(packet)}"
            return [f"The engine stops at {what}", f"  {reduction.target.text}"]
    if reduction.target.contrast:
        return list(_race(whole, reduction))
    return [reduction.target.text]


def _packet(model: Model, place: str) -> Packet:
    queue, _, number = place.partition(".")
    return model.queues[int(queue)].packet(int(number))


def _place(model: Model, packet: Packet) -> str:
    return f"{describe_queue(model, packet.queue)}, packet {packet.number}"


def _waits(packet: Packet) -> list[Condition]:
    return [one for record in packet.records for one in conditions(record)]


def shown(model: Model, condition: Condition) -> str:
    """Write a condition with the name of what is polled."""
    whole = (1 << 8 * condition.size) - 1
    masked = "" if condition.mask & whole == whole else f" & {condition.mask:#x}"
    name = model.name_of(condition.address)
    return f"'{name}'{masked} {condition.sign} {condition.reference}"


def _stored(model: Model, condition: Condition) -> Iterator[tuple[Packet, int | None]]:
    # Who in the whole trace stores to what is waited for.
    end = condition.address + condition.size
    for queue in model.queues:
        for packet in queue.packets:
            for record in packet.records:
                for one in stores(record):
                    if one.address < end and condition.address < one.address + one.size:
                        yield packet, one.value


def _unanswered(
    model: Model, reduction: Reduction, packet: Packet, where: list[str]
) -> Iterator[str]:
    waits = [one for one in _waits(packet) if not where or f"{one.address:#x}" in where]
    texts = " and ".join(shown(model, one) for one in waits)
    yield f"{_place(model, packet)} waits for {texts}, and no packet of the trace stores that."
    for condition in waits:
        known = sorted(_stored(model, condition), key=lambda one: (one[0].event, one[0].number))
        if not known:
            yield f"  No packet ever stores to '{model.name_of(condition.address)}'."
            continue
        ran = [(other, value) for other, value in known if reduction.case.history.retired(other)]
        for other, value in ran[-SHOWN:]:
            text = "a value of the run" if value is None else str(value)
            yield f"  It was stored {text} by {_place(model, other)}."
        if len(ran) < len(known):
            yield f"  {len(known) - len(ran)} packets that would store there never came to run."
        odd = _out_of_order(model, packet, condition)
        if odd:
            yield odd
        else:
            yield from _missing(model, condition, known[-1][0])


def _out_of_order(model: Model, packet: Packet, condition: Condition) -> str:
    # What the queue waits for before and after it at the same place: values that rise.
    waits = [
        (each.number - packet.number, one.reference)
        for each in model.queues[packet.queue].packets
        for one in _waits(each)
        if one.address == condition.address
    ]
    before = max((wait for wait in waits if wait[0] < 0), default=None)
    after = min((wait for wait in waits if wait[0] > 0), default=None)
    if before is None or after is None or before[1] <= condition.reference <= after[1]:
        return ""
    return (
        f"  Before it {describe_queue(model, packet.queue)} waits for {before[1]} there, after it "
        f"for {after[1]}: {condition.reference} is out of their order."
    )


def _missing(model: Model, condition: Condition, last: Packet) -> Iterator[str]:
    # Work that carries the same number, on the queue that stored before: there the store lacks.
    queue = model.queues[last.queue]
    packets = queue.packets[last.number + 1 - queue.first :]
    same = [
        each
        for each in packets
        if any(one.reference == condition.reference for one in _waits(each))
        or any(one.value == condition.reference for r in each.records for one in stores(r))
    ]
    if not same:
        yield f"  {describe_queue(model, last.queue)} stores nothing there after that."
        return
    first = same[0]
    after = next((each for each in packets if each.number > first.number and _waits(each)), None)
    until = f" and packet {after.number}" if after is not None else ""
    yield (
        f"  The missing signal belongs to {describe_queue(model, last.queue)}"
        f"{', between' if until else ', after'} packet {first.number}{until}: packet "
        f"{first.number} ({first.line}) belongs to {condition.reference}, and what follows it "
        f"does not store {condition.reference} to '{model.name_of(condition.address)}'."
    )


def _circle(model: Model, some: list[Packet]) -> Iterator[str]:
    names = " and ".join(describe_queue(model, one.queue) for one in some)
    yield f"{names} wait for each other: each stores what the other needs only after its own wait."
    for one, other in zip(some, [*some[1:], some[0]], strict=True):
        for condition in _waits(one):
            answers = [
                each
                for each, value in _stored(model, condition)
                if each.queue == other.queue
                and each.number > other.number
                and (value is None or condition.holds(value))
            ]
            behind = (
                f"; {_place(model, answers[0])} would store it, behind the wait at packet "
                f"{other.number}"
                if answers
                else ""
            )
            yield f"  {_place(model, one)} waits for {shown(model, condition)}{behind}."


def _memory_fault(
    model: Model, reduction: Reduction, packet: Packet, rest: list[str]
) -> Iterator[str]:
    yield f"{_place(model, packet)} touches memory that it may not: {reduction.line(packet)}"
    yield f"  {reduction.target.text}"
    where = rest[-1] if rest else ""
    state, _, made = where.partition("#")
    buffer = next((one for one in model.buffers if str(one.made) == made), None)
    if buffer is None:
        return
    name = model.name_of(buffer.where.start)
    if state == "freed":
        submissions = {
            each.event
            for queue in model.queues
            for each in queue.packets
            if buffer.freed < each.event <= packet.event
        }
        yield (
            f"  It uses '{name}', which the program freed (event {buffer.freed}) "
            f"{len(submissions)} submissions before: use after free."
        )
    elif state == "unmapped":
        yield f"  '{name}' was unmapped from the GPU (event {buffer.unmapped}) before."
    elif state == "beyond":
        size = buffer.where.end - buffer.where.start
        beyond = _address(reduction, packet) - buffer.where.end
        if beyond > FAR:
            yield f"  No buffer is near: the last one before it, '{name}', ends {beyond:#x} before."
        else:
            yield f"  The last buffer before that address is '{name}', {size:#x} bytes: overrun."
    else:
        yield f"  That is in the pages of '{name}', which are mapped."


def _address(reduction: Reduction, packet: Packet) -> int:
    # Where the packet faulted in the recorded run; 0 where that is not known.
    for one in reduction.case.history.verdict.failures:
        if (one.ordinal, one.packet) == (packet.queue, packet.number) and one.address is not None:
            return one.address
    return 0


def _race(model: Model, reduction: Reduction) -> Iterator[str]:
    yield f"The result depends on the schedule: {reduction.target.text}."
    made = int(reduction.target.signature.partition("#")[2])
    buffer = next(one for one in model.buffers if one.made == made)
    packets = [
        reduction.case.model.packet(reduction.case.items[at])
        for at in members(reduction.best)
        if reduction.case.items[at].kind is Kind.PACKET
    ]
    writers = [
        each
        for each in packets
        if any(
            one.address < buffer.where.end and buffer.where.start < one.address + one.size
            for record in each.records
            for one in stores(record)
        )
    ]
    last = {packet.queue: packet for packet in packets}  # of each queue
    for each in writers:
        for other in (last[queue] for queue in sorted(last) if queue != each.queue):
            # Done one after another they give what is right: the later one has to wait.
            first, second = sorted((each, other), key=lambda packet: packet.event)
            yield (
                f"  {_place(model, second)} ({reduction.line(second)}) does not wait for "
                f"{_place(model, first)} ({reduction.line(first)}) and may overtake it: "
                "a wait is missing before it."
            )
