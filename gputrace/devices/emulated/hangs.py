"""Why queues stand still: what each waits for."""

from collections.abc import Iterator

from gputrace.devices.emulated.effects import Drain, More, Never, Wait
from gputrace.devices.emulated.queue import HardwareQueue
from gputrace.kfd.port import Stall


def stalls(queues: list[HardwareQueue]) -> Iterator[Stall]:
    """Yield one Stall for each queue that stands still; no engine can take a step."""
    for queue in queues:
        text = queue.stopped or waiting(queue)
        if text:
            address = _address(queue)
            yield Stall(queue.device, queue.queue_id, queue.packet, queue.place, address, text)


def waiting(queue: HardwareQueue) -> str:
    """Say in one line what a queue waits for, or nothing when it has all it was given."""
    pending = queue.pending
    if isinstance(pending, Wait):
        load = queue.space.load
        texts = [
            f"{one}, which is {load(one.address, one.size):#x}" for one in pending.conditions
        ]
        return "waits for " + (" or " if pending.any else " and ").join(texts)
    if isinstance(pending, More):
        there = queue.available() * queue.unit // 4
        return f"waits for a packet of {pending.needed} dwords, {there} are written"
    if isinstance(pending, Never):
        return f"waits for ever: {pending.reason}"
    if isinstance(pending, Drain):
        return "waits for its waves"
    return ""


def _address(queue: HardwareQueue) -> int | None:
    pending = queue.pending
    return pending.conditions[0].address if isinstance(pending, Wait) else None
