"""Several replays as one verdict, and a verdict beside the outcome that was recorded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gputrace.errors import UsageError
from gputrace.replay.verdict import Result, Verdict
from gputrace.trace.reader import TraceReader

PAGE = 4096


def judge(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of several replays: theirs if they agree, else undecided."""
    counts = Counter(one.outcome for one in verdicts)
    first = verdicts[0]
    if len(counts) == 1:
        return first
    common = Counter(one.result.value for one in verdicts).most_common()
    parts = ", ".join(f"{name} {count / len(verdicts):.0%}" for name, count in common)
    text = f"{len(verdicts)} replays had {len(counts)} distinct outcomes: {parts}"
    return replace(
        first, result=Result.UNDECIDED, text=text, difference=None, signature=None, failures=(),
        proven=False, digest="",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a recorded run ended: "ended", "differs", "hang" or "fault", and the signature of it."""

    result: str
    signature: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The outcome on one line."""
        if self.result in ("ended", "differs"):
            return self.result
        return f"{self.result} of queue {self._number('queue')}, packet {self._number('packet')}"

    def _number(self, name: str) -> int:
        return int(self.signature.get(name, -1))

    def came_again(self, verdict: Verdict) -> bool:
        """Whether a replay ended the same way: class, queue, packet and address where known."""
        match self.result:
            case "ended":
                return verdict.result is Result.SAME
            case "differs":
                return verdict.result is Result.DIFFERS
            case "hang":
                alike = verdict.result is Result.HANG
            case _:
                alike = verdict.result is Result.FAULT and self._same_access(verdict)
        return alike and self._same_place(verdict)

    def _same_place(self, verdict: Verdict) -> bool:
        places = {(one.queue, one.packet) for one in verdict.failures}
        queue, packet = self._number("queue"), self._number("packet")
        return queue < 0 or (queue, packet) in places

    def _same_access(self, verdict: Verdict) -> bool:
        address, access = self._number("address"), self.signature.get("access", "")
        if address < 0 or not verdict.failures:
            return True
        first = verdict.failures[0]
        page = -1 if first.address is None else first.address // PAGE
        return page == address // PAGE and (not access or access == first.access)


def recorded_outcome(path: str) -> Recorded:
    """Return how the recorded run ended. Raises UsageError where the trace does not say."""
    with TraceReader(path) as reader:
        outcome = reader.trailer.outcome if reader.trailer is not None else {}
    result = str(outcome.get("result", ""))
    if result not in ("ended", "differs", "hang", "fault"):
        found = f"it was {result}" if result else "the capture did not end in an orderly way"
        raise UsageError(f"{path}: no outcome to expect: {found}")
    return Recorded(result, outcome)
