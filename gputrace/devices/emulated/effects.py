"""What an engine asks for: the only way in which command processors and SDMA engines touch
anything.

An engine is a generator. It yields effects and is sent their results; memory, clock and
interrupts belong to whoever runs it. `Next`, `More`, `Pass`, `Wait` and `Drain` are where other
engines may run.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from gputrace.errors import GputraceError
from gputrace.formats.operations import AtomicOperation, Compare


class EngineStop(GputraceError):
    """A packet that the engine cannot take; `hardware` says what that would do, where known."""

    def __init__(
        self, reason: str, address: int | None = None, refused: str = "", hardware: str = ""
    ) -> None:
        self.reason, self.address, self.refused = reason, address, refused
        self.hardware = hardware
        super().__init__(reason)


def refuse(what: str) -> EngineStop:
    """Return the stop for something that the hardware does and the emulation does not."""
    return EngineStop(f"{what} is not modelled", refused=what)


@dataclass(slots=True)
class Next:
    """The packet before is done and `consumed` units long; give the units of the ring that follow.

    Returns dwords from the read pointer on, at least one; as many as lie before the write pointer
    and the end of the ring.
    """

    consumed: int


@dataclass(slots=True)
class More:
    """Give dwords from the same place once there are `needed`, over the end of the ring too.

    An SDMA packet may not go over the end: its engine gets no more than lie before it.
    """

    needed: int


@dataclass(slots=True)
class Pass:
    """Let others go first; the next packet lies at `place`, or the same one goes on."""

    place: int | None


@dataclass(slots=True)
class Words:
    """Return `count` dwords from an address, to be executed."""

    address: int
    count: int


@dataclass(slots=True)
class Load:
    """Return an operand of 4 or 8 bytes."""

    address: int
    size: int


@dataclass(slots=True)
class Store:
    """Store an operand of 4 or 8 bytes."""

    address: int
    size: int
    value: int


@dataclass(slots=True)
class LoadBytes:
    """Return bytes."""

    address: int
    size: int


@dataclass(slots=True)
class StoreBytes:
    """Store bytes."""

    address: int
    data: bytes


@dataclass(slots=True)
class Copy:
    """Copy bytes, lowest address first."""

    source: int
    destination: int
    size: int


@dataclass(slots=True)
class Fill:
    """Fill `size` bytes with the bytes of `pattern` again and again."""

    address: int
    size: int
    pattern: bytes


@dataclass(slots=True)
class Atomic:
    """Do an undivided operation on 4 or 8 bytes; return what was there before."""

    address: int
    operation: AtomicOperation
    source: int
    compare: int


@dataclass(slots=True)
class Condition:
    """Memory that compares true: (value & mask) `function` reference."""

    address: int
    size: int
    function: Compare
    reference: int
    mask: int
    signed: bool = False

    def holds(self, value: int) -> bool:
        """Whether the condition is met by this value."""
        value &= self.mask
        if self.signed:
            value -= (value >> 63) << 64
        return self.function.holds(value, self.reference)

    def __str__(self) -> str:
        sign = ("always", "<", "<=", "==", "!=", ">=", ">")[self.function]
        whole = (1 << 8 * self.size) - 1
        masked = f" & {self.mask:#x}" if self.mask & whole != whole else ""
        return f"[{self.address:#x}]{masked} {sign} {self.reference:#x}"


@dataclass(slots=True)
class Wait:
    """Go on when all conditions hold, or any one of them."""

    conditions: Sequence[Condition]
    any: bool = False


@dataclass(slots=True)
class Never:
    """Wait for something that cannot come."""

    reason: str


@dataclass(slots=True)
class Interrupt:
    """Interrupt the host with a context."""

    context: int


@dataclass(slots=True)
class Clock:
    """Return the counter of the GPU."""


@dataclass(slots=True)
class Drain:
    """Go on when the waves that this queue launched have ended; or everything, signals too."""

    everything: bool = False


@dataclass(slots=True)
class Launch:
    """Begin a dispatch; it runs beside the packets that follow. At its end comes `then`."""

    dispatch: Any
    then: "Engine | None" = None


@dataclass(slots=True)
class AtEnd:
    """Do this when everything launched before has ended, beside the packets that follow."""

    then: "Engine | tuple[Effect, ...]"


Effect = (
    Next | More | Pass | Words | Load | Store | LoadBytes | StoreBytes | Copy | Fill | Atomic | Wait
    | Never | Interrupt | Clock | Drain | Launch | AtEnd
)  # fmt: skip
Engine = Generator[Effect, Any, None]
