"""A bounded ring of memory for what a submission points at: kernel arguments, indirect buffers.

Space is given out in order and taken again when the value that stands for its last use has been
reached on the queue's timeline, never before.
"""

from collections import deque
from collections.abc import Callable

from gputrace.driver.arena import round_up
from gputrace.driver.memory import Buffer
from gputrace.errors import UsageError

RESERVE = 512  # bytes that only a signal may take: it is what gives the others back
ALIGNMENT = 64  # bytes: a cache line; kernel arguments need 16, packets 4


class UploadRing:
    """Gives out parts of a buffer; `reached()` is the timeline's value, `wait(v)` waits for one.

    A part is asked for with `take`, filled through `memory`, and belongs to the value given to the
    next `hold`. Not safe against threads: the queue's lock guards it.
    """

    def __init__(
        self, buffer: Buffer, reached: Callable[[], int], wait: Callable[[int], None]
    ) -> None:
        self.buffer, self.memory = buffer, buffer.block.view
        self.size = len(self.memory)
        self._address, self._reached, self._wait = buffer.address, reached, wait
        self._head = self._held = self._tail = 0  # positions that never wrap; tail <= held <= head
        self._uses: deque[tuple[int, int]] = deque()  # (end, value), oldest first

    @property
    def in_use(self) -> int:
        """Bytes that may still be read by the engine, or are about to be."""
        return self._head - self._tail

    def _fits(self, size: int, urgent: bool) -> bool:
        self._reclaim()
        free = self.size - (self._head - self._tail)
        return self._need(size) <= (free if urgent else free - RESERVE)

    def take(self, size: int, *, urgent: bool = False) -> int:
        """Return the offset of `size` free bytes, waiting for old ones. Raises UsageError.

        With `urgent`, for a signal, the reserve may be taken too.
        """
        if size > self.size - RESERVE:
            raise UsageError(f"{size} bytes for one submission do not fit {self.size} of upload")
        while not self._fits(size, urgent):
            if not self._uses:
                raise UsageError(f"one submission takes more than {self.size} bytes of upload")
            self._wait(self._uses[0][1])
        offset = self._head % self.size
        if offset + size > self.size:
            self._head += self.size - offset
            offset = 0
        self._head += round_up(size, ALIGNMENT)
        return offset

    def address(self, offset: int) -> int:
        """Return the GPU address of an offset."""
        return self._address + offset

    def hold(self, value: int) -> None:
        """Keep all that was taken since the last call until the timeline reaches `value`."""
        if self._head != self._held:
            self._uses.append((self._head, value))
            self._held = self._head

    def drop(self) -> None:
        """Take back what no submission will use after all."""
        self._head = self._held

    def _need(self, size: int) -> int:
        whole = round_up(size, ALIGNMENT)
        left = self.size - self._head % self.size
        return whole if whole <= left else whole + left

    def _reclaim(self) -> None:
        uses = self._uses
        if not uses:
            if self._held == self._head:
                self._tail = self._head
            return
        reached = self._reached()
        while uses and uses[0][1] <= reached:
            self._tail = uses.popleft()[0]
