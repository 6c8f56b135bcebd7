"""Spans that the GPU wrote become ranges: no byte lost, none twice, none cut where it need not."""

from hypothesis import given
from hypothesis import strategies as st

from gputrace.capture.digests import merged
from gputrace.kfd.tracking import Span

SPANS = st.sets(st.builds(Span, st.integers(0, 60), st.integers(1, 12)), max_size=12)


@given(SPANS)
def test_touching_spans_become_one_and_every_byte_stays(spans: set[Span]) -> None:
    found = merged(spans)
    covered = [at for span in found for at in range(span.address, span.address + span.size)]
    assert covered == sorted({at for s in spans for at in range(s.address, s.address + s.size)})
    ends = [span.address + span.size for span in found]
    assert all(end < after.address for end, after in zip(ends, found[1:], strict=False))
