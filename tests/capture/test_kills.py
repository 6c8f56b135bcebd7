"""That the campaign of kills would find a recorder which writes too late."""

from pathlib import Path

import pytest

from gputrace.trace.writer import TraceWriter
from tools import campaigns


def test_a_recorder_that_writes_after_the_ring_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = TraceWriter.flush

    def late(self: TraceWriter, *, intent: bool = False) -> None:
        if not intent:
            flush(self)

    monkeypatch.setattr(TraceWriter, "flush", late)
    campaign = campaigns.Campaign(12, 3, tmp_path)
    assert campaigns.perform("kills", campaign).failures
