"""What a replay says at the end, and the exit code that says it to a shell."""

from dataclasses import dataclass
from enum import Enum


class Result(Enum):
    """The class of a verdict; its value is the word printed."""

    SAME = "same"
    DIFFERS = "differs"
    HANG = "hang"
    FAULT = "fault"
    NOT_COMPARED = "not-compared"
    UNDECIDED = "undecided"
    UNSUPPORTED = "unsupported"
    HOST_CRASH = "host-crash"

    @property
    def exit_code(self) -> int:
        """The exit code of `gputrace replay`; 2 is left to wrong usage."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Result.SAME: 0,
    Result.DIFFERS: 1,
    Result.HANG: 3,
    Result.FAULT: 4,
    Result.NOT_COMPARED: 5,
    Result.UNDECIDED: 6,
    Result.UNSUPPORTED: 7,
    Result.HOST_CRASH: 8,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """The first byte that came out otherwise; `recorded` is None where the trace holds a hash."""

    event: int
    address: int
    recorded: bytes | None
    observed: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """What makes two failures the same one: numbers are -1 and texts empty where unknown."""

    result: Result
    queue: int = -1
    packet: int = -1
    kind: str = ""
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a replay ended.

    `compared` and `written` count bytes that the GPU wrote: those that were checked, and all.
    """

    result: Result
    text: str
    compared: int = 0
    written: int = 0
    difference: Difference | None = None
    signature: Signature | None = None
    proven: bool = False
    reasons: tuple[str, ...] = ()
