"""Packet numbers read from a trace are those that the device reports of the same run.

Each case is a random PM4 or SDMA queue, laps of its ring included, with indirect buffers and
conditions, that ends at a wait nobody satisfies or at a packet that faults.
"""

from pathlib import Path
from random import Random

from gputrace.families import FAMILIES
from gputrace.formats import pm4
from gputrace.formats.ioctl import QueueType
from gputrace.formats.operations import Compare
from gputrace.formats.packets import Packet
from gputrace.submitted.stream import Placed, submissions
from gputrace.trace.reader import TraceReader
from tests.devices.emulated.conftest import Bench, Ring
from tests.replay.recording import poll, put, recorded
from tools.campaigns import Campaign

COUNT, SAMPLE = 1_000, 12
NOWHERE = 0x1000
RING_DWORDS = 1024


def run(campaign: Campaign) -> None:
    """Record, look, compare."""
    path = campaign.folder / "numbers.gtrace"
    for number in campaign.numbers():
        rng = campaign.random(number)
        target = rng.choice(list(FAMILIES))
        with recorded(path, target) as bench:
            case = (_pm4 if rng.random() < 0.6 else _sdma)(bench, rng)
            faults = bench.kfd.faults()
            trouble = faults[0] if faults else bench.kfd.stalls()[0]
        told = trouble.packet, trouble.place
        found = [(one.number, one.address) for one in _packets(path) if one.record == case]
        if told not in found:
            campaign.fail(f"case {number} on {target}: {told} is not among {found[-3:]}")


def _packets(path: Path) -> list[Placed]:
    with TraceReader(path) as reader:
        return [placed for made in submissions(reader) for placed in made.packets]


def _pm4(bench: Bench, rng: Random) -> Packet:
    data, buffer, ring = bench.memory(4096), bench.memory(4096), bench.queue()
    data.view[128] = 1
    for _ in range(rng.randrange(1, 120)):
        put(ring, *(one for _ in range(rng.randrange(1, 9))
                    for one in _harmless(bench, rng, data.address)))  # fmt: skip
        if rng.random() < 0.3:
            _run_buffer(bench, ring, buffer, _harmless(bench, rng, data.address) * 3)
        bench.run()
    write = bench.family.pm4.packet("WriteData")
    last: Packet = rng.choice((poll(data.address), write(address=NOWHERE, data=(1, 2))))
    if rng.random() < 0.4:
        before = [pm4.Nop(body=range(rng.randrange(9))) for _ in range(rng.randrange(4))]
        _run_buffer(bench, ring, buffer, [*before, last])
    else:
        put(ring, last, pm4.Nop())
    bench.run()
    return last


def _run_buffer(bench: Bench, ring: Ring, buffer: object, packets: list[Packet]) -> None:
    raw = b"".join(packet.to_bytes() for packet in packets)
    buffer.view[: len(raw)] = raw  # type: ignore[attr-defined]
    address = buffer.address  # type: ignore[attr-defined]
    put(ring, pm4.IndirectBuffer(address=address, dwords_there=len(raw) // 4))
    bench.run()


def _harmless(bench: Bench, rng: Random, at: int) -> list[Packet]:
    write = bench.family.pm4.packet("WriteData")
    condition = pm4.CondExec(address=at + rng.choice((128, 256)), exec_count=4)
    return rng.choice((
        [pm4.Nop(body=range(rng.randrange(30)))],
        [pm4.Nop()],
        [pm4.Filler()],
        [write(address=at + 512, data=[rng.getrandbits(32)] * rng.randrange(1, 9))],
        [poll(at, 0)],
        [condition, pm4.Nop(body=(1,)), pm4.Filler(), pm4.Nop()],
    ))  # fmt: skip


def _sdma(bench: Bench, rng: Random) -> Packet:
    data, ring, dialect = bench.memory(4096), bench.queue(QueueType.SDMA), bench.family.sdma
    fence, nop, wait = (dialect.packet(name) for name in ("Fence", "Nop", "PollRegMem"))
    for turn in range(rng.randrange(1, 150)):
        for _ in range(rng.randrange(1, 5)):
            _whole(ring, fence(address=data.address + 64, data=turn), nop())
        bench.run()
    last: Packet = rng.choice((
        fence(address=NOWHERE, data=1),
        wait(function=Compare.GE, in_memory=True, address=data.address, reference=1,
             retry_count=0xFFF),
    ))  # fmt: skip
    _whole(ring, last, nop())
    bench.run()
    return last


def _whole(ring: Ring, packet: Packet, nop: Packet) -> None:
    left = RING_DWORDS - ring.at % RING_DWORDS
    put(ring, *[nop] * (left if left < packet.dwords else 0), packet)
