"""Device names, everywhere a device is asked for.

    kfd:0                       the first real GPU
    emu:gfx942                  one emulated GPU
    emu:gfx1100x2               two of them, peers
    emu:gfx942,vram=8G,check=bytes,schedule=3
    emu:gfx942,budget=16M       a kernel that takes more instructions of waves counts as endless
    emu:gfx942,cores=1          kernels run on one core of this machine, not on all: nothing differs
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gputrace.errors import UsageError

FALLBACK = "emu:gfx942"
"""The device where there is no real GPU and none was named."""
MAX_DEVICES = 8
MAX_CORES = 64
_NAME = re.compile(r"(?P<scheme>[a-z]+):(?P<what>gfx[0-9a-f]+|[0-9]+)(?:x(?P<count>[0-9]+))?$")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Option = int | str


def parse_size(text: str) -> int:
    """Return bytes for "4096", "64K", "8M", "16G" or "1T". Raises UsageError."""
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", text, re.IGNORECASE)
    if not match:
        raise UsageError(f"size {text!r}: expected a number with K, M, G or T, such as 8G")
    return int(match[1]) * _UNITS[match[2].upper()]


def write_size(size: int) -> str:
    """Write bytes as `parse_size` reads them, in the largest unit that fits."""
    for unit in "TGMK":
        if size and not size % _UNITS[unit]:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _schedule(text: str) -> int:
    match = re.fullmatch(r"(?:seed:)?([0-9]+)", text)
    if not match:
        raise UsageError(f"schedule {text!r}: expected a seed, such as 3")
    return int(match[1])


def _check(text: str) -> str:
    if text not in ("pages", "bytes"):
        raise UsageError(f"check {text!r}: expected pages (as the hardware) or bytes")
    return text


def _engine(text: str) -> str:
    if text not in ("auto", "jit", "numpy"):
        raise UsageError(f"engine {text!r}: expected auto, jit or numpy")
    return text


def _cores(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_CORES:
        raise UsageError(f"cores {text!r}: expected a number from 1 to {MAX_CORES}")
    return int(text)


OPTIONS: Mapping[str, Callable[[str], Option]] = MappingProxyType(
    {
        "vram": parse_size,
        "check": _check,
        "schedule": _schedule,
        "engine": _engine,
        "budget": parse_size,
        "cores": _cores,
    }
)
"""What may follow the target of an emulated device, and how each value is read."""
_SIZES = ("vram", "budget")


@dataclass(frozen=True, slots=True)
class DeviceName:
    """A device name taken apart: `scheme` "kfd" has an `index`, "emu" a `target` and a `count`."""

    scheme: str
    index: int = 0
    target: str = ""
    count: int = 1
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def exact(self) -> bool:
        """Whether accesses are checked by the byte, not only by the page."""
        return self.options.get("check") == "bytes"

    def __str__(self) -> str:
        if self.scheme == "kfd":
            return f"kfd:{self.index}"
        several = f"x{self.count}" if self.count > 1 else ""
        options = "".join(
            f",{name}={write_size(value) if name in _SIZES and isinstance(value, int) else value}"
            for name, value in self.options.items()
        )
        return f"emu:{self.target}{several}{options}"


def _options(parts: list[str]) -> Mapping[str, Option]:
    found: dict[str, Option] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or name not in OPTIONS:
            raise UsageError(f"option {part!r}: expected one of {', '.join(OPTIONS)} with a value")
        if name in found:
            raise UsageError(f"option {name!r} is given twice")
        found[name] = OPTIONS[name](value)
    return MappingProxyType(found)


def parse_name(text: str) -> DeviceName:
    """Take a device name apart. Raises UsageError that says what was expected."""
    head, *parts = text.split(",")
    match = _NAME.match(head)
    if not match or match["scheme"] not in ("kfd", "emu"):
        raise UsageError(f"device {text!r}: expected kfd:0, emu:gfx942 or emu:gfx1100x2")
    numbered = match["what"].isdecimal()
    if match["scheme"] == "kfd":
        if not numbered or match["count"] or parts:
            raise UsageError(f"device {text!r}: expected the number of a GPU, such as kfd:0")
        return DeviceName("kfd", index=int(match["what"]))
    count = int(match["count"] or 1)
    if numbered:
        raise UsageError(f"device {text!r}: expected the name of a target, such as emu:gfx942")
    if not 1 <= count <= MAX_DEVICES:
        raise UsageError(f"device {text!r}: expected 1 to {MAX_DEVICES} devices, found {count}")
    return DeviceName("emu", target=match["what"], count=count, options=_options(parts))
