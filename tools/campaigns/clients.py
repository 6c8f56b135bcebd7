"""Programs that misbehave on the socket: the server answers on, and raises nothing anywhere.

Each case is one server, served or recording, and some clients that send messages out of turn, of
wrong lengths and kinds, wild pointers, handles of nobody, and answers that make no sense; then one
that behaves.
"""

import threading
from pathlib import Path
from random import Random

from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.interpose.emulated import emulated_programs
from gputrace.interpose.server import Server
from gputrace.trace.reader import TraceReader
from tools.campaigns import Campaign
from tools.hostile import Client, misbehave

COUNT, SAMPLE = 1_000, 12
TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")


def run(campaign: Campaign) -> None:
    """Serve bad programs and a good one."""
    raised: list[str] = []
    before = threading.excepthook
    threading.excepthook = lambda one: raised.append(f"{one.exc_type.__name__}: {one.exc_value}")
    try:
        for number in range(campaign.count):
            random = Random(f"{campaign.seed} {number}")
            problem = _case(campaign.folder / str(number), random)
            if raised:
                problem = f"a thread of the server raised {raised.pop()}"
                raised.clear()
            if problem:
                campaign.fail(f"case {number}: {problem}")
            campaign.step()
    finally:
        threading.excepthook = before


def _case(folder: Path, random: Random) -> str:
    folder.mkdir()
    target = random.choice(TARGETS)
    trace = folder / "bad.gtrace" if random.randrange(2) else None
    kind = RecordedKfd if trace else EmulatedKfd
    make = emulated_programs(lambda client: kind(target, client=client), trace)
    with Server(make, folder / "socket", lambda notice: None) as server:
        for _ in range(4):
            misbehave(folder / "socket", random.randrange(1 << 64))
        with Client(folder / "socket", 7) as good:
            answer = good.ioctl(good.open(), 0x80084B01)
    for path in server.traces:
        with TraceReader(path) as reader:
            if not reader.complete:
                return f"{path.name} has no end"
            if sum(1 for _ in reader) != len(reader):
                return f"{path.name} has {len(reader)} events but gives others"
    return "" if answer.b == 0 and answer.payload[:1] == b"\1" else "the good program was refused"
