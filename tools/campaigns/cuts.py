"""A small trace cut at every byte: it opens and yields every event before the cut block.

What is left is also printed, checked and repaired. A count below the size takes a sample of places.
"""

from pathlib import Path

from gputrace.report.text import TextView
from gputrace.trace import Event, TraceReader, check, repair
from gputrace.trace.blocks import BlockKind, tag_numbers
from gputrace.trace.reader import BlockReader, Scan
from tools.campaigns import Campaign
from tools.material import places, read_events, small_traces

COUNT, SAMPLE = 0, 150  # 0: every byte


def event_blocks(path: Path) -> list[tuple[int, int]]:
    """Return where each block of events ends, and how many events there are up to it."""
    file = BlockReader(path)
    try:
        return [
            (block.end, sum(tag_numbers(block.tag)[:2]))
            for block in Scan(file)
            if block.kind is BlockKind.EVENTS
        ]
    finally:
        file.close()


def run(campaign: Campaign) -> None:
    """Cut each trace and look at what is left."""
    traces = small_traces(campaign.folder)
    total = sum(path.stat().st_size for path in traces)
    full, campaign.count = campaign.count == 0, campaign.count or total
    for path in traces:
        data, whole, blocks = path.read_bytes(), read_events(path), event_blocks(path)
        share = len(data) if full else campaign.count // len(traces)
        for cut in places(campaign, share, len(data)):
            expected = max((count for end, count in blocks if end <= cut), default=0)
            problem = _problem(campaign.folder / "cut.gtrace", data[:cut], whole[:expected])
            if problem:
                campaign.fail(f"{path.name} cut at byte {cut}: {problem}")
            campaign.step()


def _problem(path: Path, data: bytes, expected: list[Event]) -> str:
    path.write_bytes(data)
    with TraceReader(path) as reader:
        if list(reader) != expected:
            return "other events than those before the cut block"
        if reader.complete:
            return "it counts as complete"
        for _ in TextView(reader):
            pass
    if check(path).sound:
        return "it counts as sound"
    if expected:
        repair(path)
        if read_events(path) != expected or not check(path).sound:
            return "the repair did not save it"
    return ""
