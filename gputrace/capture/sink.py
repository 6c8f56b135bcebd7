"""What the parts of a recorder write to."""

from typing import Protocol

from gputrace.trace.blocks import Bytes
from gputrace.trace.events import Event


class Sink(Protocol):
    """A trace, or the part of it that is asked for."""

    def append(self, event: Event) -> int:
        """Take one event."""

    def digest(
        self, address: int, data: Bytes, *, store: bool = False, unstable: bool = False,
        step: int = -1,
    ) -> None:  # fmt: skip
        """Take a digest of memory that the GPU wrote."""
