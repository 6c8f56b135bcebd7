"""What a replay says at the end, and the exit code that says it to a shell."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any, Self

from gputrace.kfd.port import Registers


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
    """The first byte that came out otherwise; the two are None where the trace holds a hash only.

    `event` is the Digest that found it, `address` the first differing byte or, when the recorded
    bytes are not known, the beginning of the `size` bytes among which it is.
    """

    event: int
    address: int
    size: int
    recorded: bytes | None
    observed: bytes | None
    buffer: str = ""
    offset: int = 0
    writer: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """What makes two failures the same one: numbers are -1 and texts empty where unknown.

    `queue` is the id that the recording knows the queue by, `ordinal` counts the queues made
    before it. `packet` counts from the queue's first one.
    """

    result: Result
    queue: int = -1
    packet: int = -1
    kind: str = ""
    kernel: str = ""
    ordinal: int = -1


@dataclass(frozen=True, slots=True)
class Failure:
    """One queue that hangs or faulted: as `kfd.port.Stall` and `Fault` say, by recorded names.

    `lanes` is the mask of those that made a bad access, `line` the packet in words and `standing`
    where the wave stands: the code around its program counter and its `registers`, where the trace
    was decoded.
    """

    queue: int
    ordinal: int
    packet: int
    place: int
    text: str
    kind: str = ""
    address: int | None = None
    access: str | None = None
    kernel: str | None = None
    workgroup: tuple[int, int, int] | None = None
    wave: int | None = None
    pc: int | None = None
    line: str = ""
    standing: tuple[str, ...] = ()
    registers: Registers = field(default_factory=dict, repr=False)
    lanes: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a replay ended.

    `compared` and `written` count bytes that the GPU wrote: those that were checked, and all.
    `digest` is a hash of all that was compared, as it was here: equal replays have equal ones.
    `steps` are the device's at the end (0 where it does not count them), `seconds` the time taken.
    `device` and `pacing` say how it was replayed. Recorded addresses of the CPU that were in use
    here were `moved`. `unchecked` is what the device was asked to check and could not.
    """

    result: Result
    text: str
    compared: int = 0
    written: int = 0
    difference: Difference | None = None
    signature: Signature | None = None
    proven: bool = False
    reasons: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    digest: str = ""
    steps: int = 0
    seconds: float = 0.0
    device: str = ""
    pacing: str = ""
    moved: tuple[str, ...] = ()
    unchecked: str = ""

    @property
    def outcome(self) -> tuple[object, ...]:
        """What must be equal for two replays to have had the same outcome."""
        return self.result, self.signature, self.proven, self.digest

    def to_plain(self) -> dict[str, Any]:
        """Return the verdict as values that JSON knows; bytes as hexadecimal text."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Undo `to_plain`."""
        values = dict(plain)
        values["result"] = Result(values["result"])
        values["reasons"], values["moved"] = tuple(values["reasons"]), tuple(values["moved"])
        if values["difference"] is not None:
            values["difference"] = _difference(values["difference"])
        if values["signature"] is not None:
            given = values["signature"]
            values["signature"] = Signature(**{**given, "result": Result(given["result"])})
        values["failures"] = tuple(_failure(one) for one in values["failures"])
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def _plain(value: object) -> object:
    match value:
        case Result():
            return value.value
        case bytes():
            return value.hex()
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
    return value


def _difference(plain: Mapping[str, Any]) -> Difference:
    both = {
        name: None if plain[name] is None else bytes.fromhex(plain[name])
        for name in ("recorded", "observed")
    }
    return Difference(**{**plain, **both})


def _failure(plain: Mapping[str, Any]) -> Failure:
    group = plain["workgroup"]
    tuples = {
        "workgroup": None if group is None else tuple(group),
        "registers": {name: tuple(words) for name, words in plain["registers"].items()},
        "standing": tuple(plain["standing"]),
    }
    return Failure(**{**plain, **tuples})
