"""The emulated KFD for a program in another process, as a recorder wants it.

What the program rings is held back until somebody has looked (`rung`, then `doorbell`), so that a
doorbell can be written down before the device sees it. Mappings are the program's; the views given
for them are the emulator's own. Values of the GPU's clock are kept, since no replay could guess
them.
"""

from array import array
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from gputrace.devices.emulated.device import EmulatedKfd
from gputrace.devices.emulated.history import KEPT, Written
from gputrace.devices.emulated.process import Gpu, Process
from gputrace.errors import KfdError, UsageError
from gputrace.formats.ioctl import (
    PROCESS_DOORBELL_BYTES,
    CreateQueue,
    MmapOffset,
    MmapType,
    doorbell_parts,
)
from gputrace.kfd import host
from gputrace.kfd.host import PAGE
from gputrace.kfd.port import Mapping, Progress, Protection, R
from gputrace.kfd.tracking import Span

_DOORBELLS = PROCESS_DOORBELL_BYTES // 8


class _Log(deque[Written]):
    """The history's log, which also keeps what is new for somebody else."""

    def __init__(self) -> None:
        super().__init__(maxlen=KEPT)
        self.news: list[Written] = []

    def append(self, item: Written) -> None:
        """Take one more write."""
        super().append(item)
        self.news.append(item)


class Rung(NamedTuple):
    """A doorbell that the program has rung: where the program maps it, and the value."""

    address: int
    value: int


class RecordedKfd(EmulatedKfd):
    """An emulated KFD whose client's stores to doorbells wait for `doorbell`."""

    _pages: dict[int, memoryview]
    on_kernel_end: Callable[[], None] | None = None
    """Called in a step of the engines, when a kernel has ended and nobody knows yet."""
    on_loop_change: Callable[[], None] | None = None
    """Called between steps, when waves that waited in a loop are about to see another value."""

    def open(self) -> None:
        """Open the device; its engines look at doorbells of their own from here on."""
        super().open()
        process = self._opened("open")
        self._log = process.history.log = _Log()
        self._pages = {}
        for gpu in process.gpus:
            self._pages[gpu.gpu_id] = gpu.doorbells
            gpu.doorbells = memoryview(array("Q", bytes(PROCESS_DOORBELL_BYTES)))
        self._views: dict[int, tuple[int, int]] = {}  # the program's: address: offset, length
        self._frames: dict[int, int] = {}  # gpu_id: where the program maps the doorbells
        self._reads: defaultdict[int, list[int]] = defaultdict(list)
        self._kernel_ended = False

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Answer an ioctl; a new queue's doorbell shows the program what the engine sees."""
        answer = super().ioctl(record, tail)
        if isinstance(answer, CreateQueue):
            gpu = self._gpu(answer.gpu_id)
            _, byte = doorbell_parts(answer.doorbell_offset)
            self._pages[gpu.gpu_id][byte // 8] = gpu.doorbells[byte // 8]
        return answer

    def close(self) -> None:
        """Give all memory back."""
        if self._process is not None:
            for gpu in self._process.gpus:
                gpu.doorbells = self._pages[gpu.gpu_id]
        super().close()

    def _gpu(self, gpu_id: int) -> Gpu:
        return self._opened("recorded").by_id[gpu_id]

    # --- doorbells --------------------------------------------------------------------------------

    def rung(self) -> list[Rung]:
        """Return the doorbells whose values the engines have not been shown, queue by queue."""
        found = []
        with self._lock:
            for queue in self._opened("rung").queues.values():
                value = self._pages[queue.gpu.gpu_id][queue.doorbell]
                frame = self._frames.get(queue.gpu.gpu_id)
                if frame is not None and value != queue.gpu.doorbells[queue.doorbell]:
                    found.append(Rung(frame + 8 * queue.doorbell, value))
        return found

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Show the engines what the program has stored at the doorbell that it maps there."""
        with self._lock:
            for gpu_id, frame in self._frames.items():
                if frame <= address < frame + PROCESS_DOORBELL_BYTES:
                    self._gpu(gpu_id).doorbells[(address - frame) // 8] = value
                    return
        raise UsageError(f"{address:#x} is no doorbell of this program")

    # --- mappings of the program ------------------------------------------------------------------

    def map(
        self,
        *,
        fd: Literal["kfd"] | int,
        offset: int,
        size: int,
        address: int | None = None,
        protection: Protection = Protection.BOTH,
    ) -> Mapping:
        """Take note that the program maps part of the memory file; the view is the emulator's."""
        assert address is not None
        with self._lock:
            process = self._opened("mmap")
            place = self._kfd_offset(process, offset, size) if fd == "kfd" else offset
            where = MmapOffset.decode(offset)
            if fd == "kfd" and where.type is MmapType.DOORBELL:
                self._frames[where.gpu_id] = address
            length = -(-size // PAGE) * PAGE
            view = host.view(self._view(address, place, length), size)
            return Mapping(address, size, view, offset)

    def unmap(self, mapping: Mapping) -> None:
        """Take note that the program has unmapped it."""
        with self._lock:
            self._views.pop(mapping.address, None)
            if self._writes is not None:
                self._writes.unmapped(mapping.address)
            for gpu_id in [one for one, at in self._frames.items() if at == mapping.address]:
                del self._frames[gpu_id]
        mapping.view.release()

    def shared(self, address: int, offset: int, length: int) -> int:
        """Take note of pages of the program's own in the memory file; return where they are."""
        with self._lock:
            return self._view(address, offset, length)

    def touched(self, address: int, size: int) -> list[tuple[int, int]]:
        """Return the parts of a range that have pages: (first, end). The rest holds zeros."""
        with self._lock:
            view = self._views.get(address)
            if view is None:
                return [(address, address + size)]
            shift = address - view[0]
            parts = self._opened("touched").pool.touched(view[0], size)
            return [(low + shift, high + shift) for low, high in parts]

    def packet_writes(self) -> list[Span]:
        """Return what packets wrote since the last call, as the program maps it.

        Read pointers are among it; what kernels wrote is not.
        """
        with self._lock:
            process = self._opened("packet writes")
            news, self._log.news = self._log.news, []
            wanted = [(address, size, place[0]) for address, size, place, _ in news if size]
            for queue in process.queues.values():
                wanted.append((queue.hardware.read_address, 8, queue.hardware.device))
            found = []
            for address, size, device in dict.fromkeys(wanted):
                span = process.gpus[device].space.find(address)
                if span is not None:
                    offset = span.buffer.offset + address - span.start
                    found += self._of_client(offset, size)
            return found

    def kernels_ran(self) -> bool:
        """Whether any kernel may have written since the last call."""
        with self._lock:
            queues = self._opened("kernels").queues.values()
            ran, self._kernel_ended = self._kernel_ended, False
            return ran or any(tail.work for one in queues for tail in one.hardware.pipe)

    def _of_client(self, offset: int, size: int) -> list[Span]:
        # Bytes of the memory file where the program maps them, once for each mapping.
        found = []
        for address, (first, length) in self._views.items():
            low, high = max(first, offset), min(first + length, offset + size)
            if low < high:
                found.append(Span(address + low - first, high - low))
        return found

    def _view(self, address: int, offset: int, length: int) -> int:
        self._views[address] = offset, length
        if self._writes is not None:
            self._writes.mapped(address, offset, length)
        return _alias(self._opened("mmap"), offset, length)

    def kernel_offset(self, node: Literal["kfd"] | int, offset: int) -> int:
        """Return the offset that a real /dev/kfd would have had the program map."""
        if node != "kfd":
            return offset
        for gpu in self._opened("mmap").gpus:
            if offset == gpu.doorbell_offset:
                return MmapOffset(MmapType.DOORBELL, gpu.gpu_id).encode()
            if offset == gpu.mmio_offset:
                return MmapOffset(MmapType.MMIO, gpu.gpu_id).encode()
        return MmapOffset(MmapType.EVENTS).encode()

    # --- time -------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """-1: in what order the program's stores and the engines' steps came nobody can tell."""
        return -1

    def idle(self, until_ns: int | None = None) -> Progress:
        """Let the engines work a while."""
        return Progress.ADVANCED if self.pump() else Progress.BLOCKED

    def kernel_ended(self) -> None:
        """Let the recorder look at what a kernel wrote, before any packet tells the program."""
        self._kernel_ended = True
        if self.on_kernel_end is not None:
            self.on_kernel_end()

    def loop_changed(self) -> None:
        """Let the recorder see the program's store before waves answer it, in the same place."""
        if self.on_loop_change is not None:
            self.on_loop_change()

    def clock_ticks(self) -> int:
        """Return the counter of the GPUs, and keep what was returned."""
        ticks = super().clock_ticks()
        turn = self._scheduler.turn
        if turn is not None:
            self._reads[turn[0].queue_id].append(ticks)
        return ticks

    def clock_reads(self) -> dict[int, list[int]]:
        """Return the values of the clock that each queue has read since the last call."""
        with self._lock:
            reads, self._reads = self._reads, defaultdict(list)
            return reads


def _alias(process: Process, offset: int, length: int) -> int:
    for address, (start, size) in process.pool.parts.items():
        if start <= offset and offset + length <= start + size:
            return address + offset - start
    fields = {"offset": offset, "size": length}
    raise KfdError("mmap", 22, fields, "no part of the memory file that was handed out")
