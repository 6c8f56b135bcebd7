"""What a recorder asks of an emulated device beside the port."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from gputrace.kfd.pagemap import Region
from gputrace.kfd.tracking import Span


class Lock(Protocol):
    """What a reentrant lock can do."""

    def acquire(self) -> bool:
        """Take the lock, once more if this thread has it."""

    def release(self) -> None:
        """Give the lock back as often as it was taken."""


@runtime_checkable
class Emulated(Protocol):
    """What an emulated device can say beside the port, and a real one cannot."""

    @property
    def step(self) -> int:
        """Steps that the scheduler has made; they decide everything that the GPU did."""

    def written_by_gpu(self) -> list[Span]:
        """Return what the GPU wrote since the last call, by addresses of the client's mappings."""

    def stored_by_cpu(self, stores: Iterable[tuple[int, int]]) -> None:
        """Take what the client stored, by addresses of its mappings and sizes."""

    @property
    def follows_writes(self) -> bool:
        """Whether it knows of all its memory if somebody has written it."""

    def unwritten(self) -> list[Region]:
        """Return the bytes of memory, first and end, that nobody has written."""

    def leave_unwritten(self, ranges: Sequence[Region]) -> None:
        """Take these bytes as written by nobody, and all others as written."""

    def leave_out(self, address: int) -> None:
        """Have `written_by_gpu` say no more about the mapping of the client at an address."""

    @property
    def quiet(self) -> bool:
        """Whether nothing in memory can change until the CPU acts."""

    def packets_done(self) -> dict[int, int]:
        """Return how many packets each queue has left behind."""

    @property
    def lock(self) -> Lock:
        """While a thread holds it the device stands still."""
