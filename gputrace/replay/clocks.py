"""Where a trace's packets store a clock: values that another schedule or device has otherwise."""

from gputrace.bits import Record
from gputrace.errors import UsageError
from gputrace.formats import aql, pm4, sdma
from gputrace.submitted.stream import submissions
from gputrace.trace.source import Source

Place = tuple[int, int]


def clock_places(source: Source) -> list[Place]:
    """Return the ranges (GPU address, size) that hold clocks, in rising order."""
    found: set[Place] = set()
    try:
        for submission in submissions(source):
            for placed in submission.packets:
                place = clock_place(placed.record) if placed.record is not None else None
                if place is not None:
                    found.add(place)
    except UsageError:  # a family without packets here
        return []
    return sorted(found)


def clock_place(record: Record) -> Place | None:
    """Return where a packet stores a clock, if it does."""
    match record:
        case pm4.ReleaseMem() if record.written and record.data_sel in (
            pm4.ReleaseData.GPU_CLOCK, pm4.ReleaseData.SYSTEM_CLOCK,
        ):  # fmt: skip
            return record.address, record.written
        case pm4.CopyData() if record.src_sel in (
            pm4.CopyFrom.GPU_CLOCK, pm4.CopyFrom.SYSTEM_CLOCK,
        ):  # fmt: skip
            return record.destination, record.size
        case sdma.TimestampGetLocal() | sdma.TimestampGetGlobal():
            return record.address, 8
        case aql.Packet() if record.completion_signal:
            return record.completion_signal + 32, 16  # start_ts and end_ts of an AmdSignal
    return None
