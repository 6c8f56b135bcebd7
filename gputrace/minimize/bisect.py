"""The first failing prefix, by binary search."""

from collections.abc import Callable


def first_failing(count: int, fails: Callable[[int], bool]) -> int | None:
    """Return the smallest m in 0..count for which the prefix of m items fails, or None.

    `fails(m)` runs the items 0 to m - 1. `None` means that the whole stream does not fail. When
    failing is not monotone, the result still fails and the prefix one shorter does not. Costs
    ceil(log2(count)) + 2 runs at most.
    """
    if not fails(count):
        return None
    if count == 0 or fails(0):
        return 0
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if fails(middle):
            high = middle
        else:
            low = middle
    return high
