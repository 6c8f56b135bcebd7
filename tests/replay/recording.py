"""Record a client that knows the port and no driver: what the tests of this folder look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gputrace.capture.recorder import Recorder
from gputrace.devices.emulated import EmulatedKfd
from gputrace.formats import pm4
from gputrace.formats.operations import Compare
from gputrace.formats.packets import Packet
from gputrace.trace import events
from gputrace.trace.writer import TraceWriter
from tests.devices.emulated.conftest import Bench, Ring


@contextmanager
def recorded(path: Path, target: str = "gfx1100") -> Iterator[Bench]:
    """Give a bench whose device is recorded; the trace is whole when the block ends."""
    with TraceWriter(path, events.Header("test", family=target)) as writer:

        def around(kfd: EmulatedKfd) -> Recorder:
            return Recorder(kfd, writer)

        bench = Bench(target, around=around)
        yield bench
        bench.kfd.close()
        bench.kfd.release(bench.base, 1 << 30)


def put(ring: Ring, *packets: Packet) -> None:
    """Put packets into a ring and ring its doorbell once."""
    ring.dwords([word for packet in packets for word in packet.encode()])


def poll(address: int, reference: int = 1) -> pm4.WaitRegMem:
    """Wait until a dword has at least this value."""
    return pm4.WaitRegMem(function=Compare.GE, address=address, reference=reference)
