"""One named run of bits, what it means to the tools, and the specifiers that declare it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, IntFlag
from random import Random
from typing import Any, Literal

from gputrace.errors import DefinitionError

Default = int | Callable[[Any], int] | None
Access = Literal["r", "w", "rw", "x"]


@dataclass(frozen=True, slots=True)
class Role:
    """Say what a field means to capture, replay and the minimizer.

    `uses`, `makes` and `points` name a kind of thing: "address" (a GPU address), "buffer",
    "queue", "event", "gpu", "fd", "cpu address". `points` is a CPU pointer to an array of that
    kind, with as many items as the field named by `count`. `length` names the field that holds
    the number of bytes behind an address, or is that number. `out` marks what the kernel writes.
    """

    uses: str | None = None
    makes: str | None = None
    points: str | None = None
    count: str | None = None
    length: str | int | None = None
    access: Access = "r"
    out: bool = False
    destroys: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A run of `width` bits from bit `lo` of the record's integer.

    The value is stored shifted right by `shift`; its low bits must be zero. A `default` of None
    makes the field required; a callable computes it from the finished record.
    """

    lo: int
    width: int
    doc: str = ""
    default: Default = None
    kind: type[int] = int
    shift: int = 0
    signed: bool = False
    intent: Any = None
    role: Role | None = None
    name: str = ""
    fixed: bool = False

    @property
    def meaning(self) -> str:
        """Say what the field means: its own text, and what role and kind tell."""
        told = self.doc, _role_text(self.role), _kind_text(self.kind)
        return "; ".join(text for text in told if text)

    @property
    def mask(self) -> int:
        """Return the field's bits, in place."""
        return ((1 << self.width) - 1) << self.lo

    @property
    def limits(self) -> tuple[int, int]:
        """Return the smallest and the largest value that fits."""
        if self.signed:
            return -(1 << self.width - 1) << self.shift, ((1 << self.width - 1) - 1) << self.shift
        return 0, ((1 << self.width) - 1) << self.shift

    @property
    def place(self) -> str:
        """Return where the field lies, as the vendor's tables write it: dw1[2:0]."""
        word, low = divmod(self.lo, 32)
        high = low + self.width - 1
        return f"dw{word}[{high}:{low}]" if self.width > 1 else f"dw{word}[{low}]"

    def misfit(self, value: object) -> str | None:
        """Say why `value` cannot be stored in this field, or return None."""
        if not isinstance(value, int):
            return f"must be an integer, not {value!r}"
        low, high = self.limits
        if not low <= value <= high:
            return f"must lie in {low:#x}..{high:#x}, not {value:#x}"
        if value & ((1 << self.shift) - 1):
            return f"must be a multiple of {1 << self.shift}, not {value:#x}"
        return None

    def convert(self, value: int) -> int:
        """Give a stored value its declared kind; a value that is no member stays an integer."""
        if self.kind is int:
            return value
        if issubclass(self.kind, IntEnum):
            return self.kind._value2member_map_.get(value, value)  # type: ignore[return-value]
        return self.kind(value)

    def show(self, value: int) -> str:
        """Render a value of this field for people."""
        if isinstance(value, IntEnum):
            return value.name
        if isinstance(value, bool):
            return str(value)
        return str(value) if -10 < value < 10 else f"{value:#x}"

    def random(self, rng: Random) -> int:
        """Return a value that fits, edges more often than chance."""
        if issubclass(self.kind, IntEnum):
            return rng.choice([m for m in self.kind if self.misfit(m.value) is None])
        low, high = self.limits
        value = rng.choice([low, high, rng.randint(low, high), rng.randint(low, high)])
        return self.kind(value & ~((1 << self.shift) - 1))

    def named(self, name: str) -> "Field":
        """Return this field under the name that its class gives it."""
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class Tail:
    """The dwords that follow the fixed part of a record."""

    doc: str = ""
    role: Role | None = None
    name: str = ""


def bits(
    word: int,
    hi: int,
    lo: int,
    doc: str = "",
    *,
    default: Default = None,
    kind: type[int] = int,
    shift: int = 0,
    signed: bool = False,
    intent: Any = None,
    role: Role | None = None,
) -> Any:
    """Declare bits hi..lo of dword `word`; hi may run on into the dwords that follow."""
    if not 0 <= lo <= hi:
        raise DefinitionError(f"bits({word}, {hi}, {lo}): high bit first, then low bit")
    place = 32 * word + lo
    return Field(place, hi - lo + 1, doc, default, kind, shift, signed, intent, role)


def _whole(width: int, signed: bool, unit: int) -> Callable[..., Any]:
    def declare(
        at: int,
        doc: str = "",
        *,
        default: Default = None,
        kind: type[int] = int,
        shift: int = 0,
        role: Role | None = None,
    ) -> Any:
        return Field(unit * at, width, doc, default, kind, shift, signed, None, role)

    return declare


_u32, _u64 = _whole(32, False, 32), _whole(64, False, 32)
_s32, _s64 = _whole(32, True, 32), _whole(64, True, 32)
_u8, _u16 = _whole(8, False, 8), _whole(16, False, 8)


LISTED = 12
"""Most values of a field that a manual lists."""


def _role_text(role: Role | None) -> str:
    if role is None:
        return ""
    size = "" if role.length is None else f" of {role.length} bytes"
    if role.points is not None:
        count = f"{role.count} x " if role.count else ""
        text = f"CPU address{size}" if size else f"CPU address of {count}{role.points}"
    elif role.uses == "address":
        text = f"GPU address{size}"
    elif role.makes is not None:
        text = f"names the new {role.makes}"
    else:
        text = f"names the {role.uses}" if role.uses else ""
    return ", ".join(filter(None, (text, "written by the kernel" if role.out else "")))


def _kind_text(kind: type[int]) -> str:
    if not issubclass(kind, Enum):
        return ""
    values = list(kind)
    if len(values) > LISTED:
        return kind.__name__
    sign = "#x" if issubclass(kind, IntFlag) else "d"
    return ", ".join(f"{value.value:{sign}} {value.name}" for value in values)


def u32(
    at: int,
    doc: str = "",
    *,
    default: Default = None,
    kind: type[int] = int,
    shift: int = 0,
    role: Role | None = None,
) -> Any:
    """Declare dword `at`."""
    return _u32(at, doc, default=default, kind=kind, shift=shift, role=role)


def u64(
    at: int,
    doc: str = "",
    *,
    default: Default = None,
    kind: type[int] = int,
    shift: int = 0,
    role: Role | None = None,
) -> Any:
    """Declare the 64 bits that begin at dword `at`, low dword first."""
    return _u64(at, doc, default=default, kind=kind, shift=shift, role=role)


def s32(at: int, doc: str = "", *, default: Default = None, role: Role | None = None) -> Any:
    """Declare dword `at` as a signed integer."""
    return _s32(at, doc, default=default, role=role)


def s64(at: int, doc: str = "", *, default: Default = None, role: Role | None = None) -> Any:
    """Declare the signed 64 bits that begin at dword `at`."""
    return _s64(at, doc, default=default, role=role)


def u8(
    at: int,
    doc: str = "",
    *,
    default: Default = None,
    kind: type[int] = int,
    role: Role | None = None,
) -> Any:
    """Declare the byte at byte offset `at`."""
    return _u8(at, doc, default=default, kind=kind, role=role)


def u16(
    at: int,
    doc: str = "",
    *,
    default: Default = None,
    kind: type[int] = int,
    role: Role | None = None,
) -> Any:
    """Declare the 16 bits at byte offset `at`."""
    return _u16(at, doc, default=default, kind=kind, role=role)


def tail(doc: str = "", *, role: Role | None = None) -> Any:
    """Declare the dwords that follow the fixed part; the value is a tuple of integers."""
    return Tail(doc, role)
