"""Do without write protection: every watched byte is compared, each time."""

from gputrace.errors import UsageError
from gputrace.kfd.tracking import Span, Tracker, WriteTracker


def usual_tracker() -> Tracker:
    """Return what finds the stores of this process: by write protection, or by comparing."""
    try:
        return WriteTracker()
    except UsageError:
        return ComparingTracker()


class ComparingTracker:
    """Says that everything may have been written; what was not is found to be equal.

    For kernels without asynchronous write protection. It cannot tell who wrote.
    """

    def __init__(self) -> None:
        self._ranges: dict[int, int] = {}

    def watch(self, address: int, size: int, *, written: bool = True) -> None:
        """Begin to watch."""
        self._ranges[address] = size

    def forget(self, address: int, size: int) -> None:
        """Stop watching a range."""
        del self._ranges[address]

    def written(self) -> list[Span]:
        """Return every range."""
        return [Span(*one) for one in sorted(self._ranges.items())]

    def close(self) -> None:
        """Give nothing back."""
