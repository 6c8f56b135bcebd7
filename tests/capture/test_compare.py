"""The compiled comparison against one of a few lines: what is reported is what differs."""

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from gputrace.capture.compare import GAP, Comparer

SIZE = 512
COMPARER = Comparer()

# Stretches of bytes that change: none of it, single bytes, and whole blocks with ragged ends.
change = st.tuples(st.integers(0, SIZE - 1), st.integers(1, 300), st.integers(1, 255))


def naive(live: bytes, known: bytes) -> list[tuple[int, int]]:
    """Return (first, after last) of changed bytes, those of near words put together."""
    found: list[tuple[int, int]] = []
    for word in range(0, len(live), 8):
        changed = [at for at in range(word, word + 8) if live[at] != known[at]]
        if not changed:
            continue
        if found and changed[0] <= found[-1][1] + GAP:
            found[-1] = found[-1][0], changed[-1] + 1
        else:
            found.append((changed[0], changed[-1] + 1))
    return found


@given(st.binary(min_size=SIZE, max_size=SIZE), st.lists(change, max_size=5))
def test_runs_are_those_of_the_naive_comparison(
    before: bytes, changes: list[tuple[int, int, int]]
) -> None:
    after = bytearray(before)
    for start, size, flip in changes:
        for at in range(start, min(start + size, SIZE)):
            after[at] ^= flip
    live = (ctypes.c_uint8 * SIZE)(*after)
    known = (ctypes.c_uint8 * SIZE)(*before)
    runs = COMPARER.runs(ctypes.addressof(live), ctypes.addressof(known), SIZE)
    assert runs == naive(bytes(after), before)
    assert bytes(known) == bytes(after)
