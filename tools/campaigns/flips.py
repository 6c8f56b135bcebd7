"""Every bit of a small trace flipped, one at a time: detected or harmless, never a wrong result.

A count below eight times the size takes a sample of places, with one bit each.
"""

from pathlib import Path

from gputrace.errors import TraceError
from gputrace.trace import TraceReader, check
from gputrace.trace import events as ev
from tools.campaigns import Campaign
from tools.material import places, small_traces

COUNT, SAMPLE = 0, 400  # 0: every bit


def contents(path: Path) -> list[object]:
    """Read everything that a replay would read."""
    with TraceReader(path) as reader:
        result: list[object] = []
        for event in reader:
            result.append(event)
            if isinstance(event, ev.Memory) or (isinstance(event, ev.Digest) and event.stored):
                result.append(reader.memory(event))
        return result


def run(campaign: Campaign) -> None:
    """Flip bits and compare what is read with what was there."""
    traces = small_traces(campaign.folder)
    total = 8 * sum(path.stat().st_size for path in traces)
    full, campaign.count = campaign.count == 0, campaign.count or total
    for path in traces:
        data, whole = path.read_bytes(), contents(path)
        share = 8 * len(data) if full else campaign.count // len(traces)
        for bit in places(campaign, share, 8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            problem = _problem(campaign.folder / "flip.gtrace", changed, whole)
            if problem:
                campaign.fail(f"{path.name}, bit {bit % 8} of byte {bit // 8}: {problem}")
            campaign.step()


def _problem(path: Path, data: bytearray, whole: list[object]) -> str:
    path.write_bytes(data)
    try:
        if contents(path) != whole:
            return "other contents were read, and no error"
    except TraceError:
        pass
    try:
        return "the check calls it sound" if check(path).sound else ""
    except TraceError:
        return ""
