"""The boundary that everything meets, at the level of the kernel's own interface.

A `Kfd` takes typed records, and gives them back with the outputs filled in. GPU address and CPU
address are separate things here: that a client maps a buffer where the GPU sees it is the
client's convention. Waiting is part of the port because an emulated device has no thread: it
advances inside calls of the port and in `idle`, never beside them.
"""

from collections.abc import Mapping as ReadMapping
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Literal, Protocol, TypeVar, runtime_checkable

from gputrace.bits import Record
from gputrace.kfd.topology import Topology

R = TypeVar("R", bound=Record)

Labelled = Literal["buffer", "kernel", "symbol", "ring", "code"]
"""What a named range of GPU addresses is."""
WaitEnding = Literal["reached", "timeout", "hang", "fault", "interrupted"]
"""How a wait of a program ended: "hang" is a proven one, "interrupted" an exception of its own."""
Registers = ReadMapping[str, tuple[int, ...]]
"""Registers of a wave by name: s4 and exec_lo with one word, v4 and a4 with one for each lane.

Scalar registers that are zero are left out, and vector registers that the instruction at the
program counter does not name."""


class Protection(IntFlag):
    """What the CPU may do in a mapping; the values of PROT_* in <sys/mman.h>."""

    NONE = 0
    READ = 1
    WRITE = 2
    BOTH = 3


@dataclass(eq=False, slots=True)
class Mapping:
    """Bytes that the CPU sees at `address`.

    `view` is a writable memoryview of unsigned bytes for a mapping that may be written, a
    read-only one when it may only be read, and an empty one for `Protection.NONE`. It is released
    by `Kfd.unmap`.
    """

    address: int
    size: int
    view: memoryview
    offset: int = 0


class Progress(Enum):
    """What came of a call of `Kfd.idle`."""

    ADVANCED = "the device did some work, or other threads may have"
    EXPIRED = "the time given has passed"
    BLOCKED = "every engine waits or has nothing to do; only the CPU can change that"


@dataclass(frozen=True, slots=True)
class Stall:
    """A queue that cannot go on by itself.

    `packet` counts from the queue's first packet, `place` is the address of the packet's first
    dword. `address` is what it waits for (None when it does not wait for memory) and `text` one
    line with the condition and the value seen. `kind` is one of:

        "stall"     waits for memory that no packet left on the device would write: only the CPU can
        "deadlock"  waits in a circle, in which each queue waits for a packet behind another's wait
        "blocked"   waits for a packet behind the wait of another queue, outside of a circle
        "endless"   runs waves that are proven never to end unless memory that they read changes
        "budget"    runs waves that have used up what they may take; nothing is proven
        "packet"    has a part of a packet only
        "never"     waits for what cannot come, such as a register that nobody writes
        "stopped"   was stopped by a fault, its own or another queue's

    Queues of the first kinds above that explain others come first. `cycle` goes round a circle from
    this queue on, as (device, queue, packet). `writer` is the packet that would free it, or that
    wrote `address` last, as the text says. `kernel` to `pc` place a wave of a kernel,
    `registers` are its own.
    """

    device: int
    queue: int
    packet: int
    place: int
    address: int | None
    text: str
    kind: str = "stall"
    cycle: tuple[tuple[int, int, int], ...] = ()
    writer: tuple[int, int, int] | None = None
    kernel: str | None = None
    workgroup: tuple[int, int, int] | None = None
    wave: int | None = None
    pc: int | None = None
    registers: Registers = field(default_factory=dict, compare=False, repr=False)

    def proves_hang(self, *, alone: bool) -> bool:
        """Whether the queue will never go on; `alone` says that the CPU stores nothing more."""
        return self.kind != "budget" if alone else self.kind in ("deadlock", "never")


@dataclass(frozen=True, slots=True)
class Fault:
    """What stopped a queue; a part that does not apply is None.

    `kind` is "memory" for an access that the page tables refuse, "packet" for a packet that the
    engine cannot take, "kernel" for one that a wave cannot go on from. `access` is one of "r",
    "w", "x". `lanes` is a mask of the lanes of the wave that made the bad access, `size` the bytes
    that each of them touched, `near` tells which allocation is nearest to the address. `registers`
    are the wave's.
    """

    kind: str
    text: str
    device: int
    queue: int
    packet: int
    place: int
    address: int | None = None
    access: str | None = None
    kernel: str | None = None
    workgroup: tuple[int, int, int] | None = None
    wave: int | None = None
    pc: int | None = None
    step: int = 0
    lanes: int | None = None
    size: int | None = None
    near: str = ""
    registers: Registers = field(default_factory=dict, compare=False, repr=False)


class Kfd(Protocol):
    """A KFD: /dev/kfd, the render nodes beside it, and the memory that they hand out."""

    @property
    def name(self) -> str:
        """The name that opens this device again, such as "kfd:0" or "emu:gfx942"."""

    @property
    def topology(self) -> Topology:
        """The nodes as sysfs shows them; known before `open`."""

    @property
    def versions(self) -> ReadMapping[str, str]:
        """Versions of what serves the port, by name: "driver", "kernel" and "kfd" (the interface).

        What is not known is left out.
        """

    @property
    def lasting(self) -> bool:
        """Whether what was made and not freed outlives `close`, as long as the process lives."""

    def open(self) -> None:
        """Open /dev/kfd. Doing it twice is an error (KfdError EBUSY)."""

    def close(self) -> None:
        """Give everything back to the kernel; a closed device stays closed. May be called twice."""

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Call the ioctl whose argument `record` is and return the record with its outputs.

        Pointers in the record are addresses in this process and the caller keeps what they point at
        alive. `tail` holds what follows the fixed part (SVM attributes); it is changed in place.
        Raises KfdError with the kernel's errno. EINTR is handled below the port.
        """

    def render_ioctl(self, minor: int, request: int, data: bytearray) -> None:
        """Call a DRM ioctl on render node `minor`; `data` is changed in place. Raises KfdError."""

    def open_render(self, minor: int) -> int:
        """Return the descriptor of render node `minor`, opened once; what ACQUIRE_VM takes."""

    def map(
        self,
        *,
        fd: Literal["kfd"] | int,
        offset: int,
        size: int,
        address: int | None = None,
        protection: Protection = Protection.BOTH,
    ) -> Mapping:
        """Map what lies at `offset` of /dev/kfd, a render node or a dma-buf, shared.

        With an `address` the mapping replaces what is there, so the address must lie in a range
        that `reserve` returned. Raises KfdError("mmap", ...).
        """

    def unmap(self, mapping: Mapping) -> None:
        """Take a mapping away but keep its range. Raises UsageError while views of it live."""

    def reserve(self, size: int, address: int | None = None, alignment: int = 4096) -> int:
        """Keep `size` bytes of this process's addresses free of anything else; return where.

        With an `address` exactly that range. Raises KfdError("mmap", EEXIST) when it is in use.
        """

    def release(self, address: int, size: int) -> None:
        """Give a reserved range back, with whatever is mapped in it."""

    def label(self, address: int, size: int, what: Labelled, name: str) -> None:
        """Tell what lies at a range of GPU addresses, for reports; it changes nothing else.

        An empty name takes away what was said about the range that starts there.
        """

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Store `value` at the CPU address of a doorbell as one store, after a store fence."""

    def clock(self) -> int:
        """Return nanoseconds of the clock that deadlines are measured with; it never goes back."""

    def idle(self, until_ns: int | None = None) -> Progress:
        """Let time pass until something may have changed, at most until `until_ns` of `clock`.

        A real device lets the processor go for a moment. An emulated one works; once it is BLOCKED
        and a deadline was given, its clock moves on to the deadline.
        """

    def stalls(self) -> Sequence[Stall]:
        """Return the queues that wait and cannot go on, as far as the device can tell."""

    def faults(self) -> Sequence[Fault]:
        """Return the faults known in detail, oldest first; KFD events tell that there are any."""


@runtime_checkable
class WaitListener(Protocol):
    """What a Kfd has beside the port that wants to know which calls make up one wait."""

    def wait_begins(self, timeout: int) -> None:
        """The calling thread waits from here on, for at most `timeout` ns (-1: for ever)."""

    def wait_ends(self, result: WaitEnding) -> None:
        """The wait of the calling thread is over."""
