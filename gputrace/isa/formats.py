"""Formats of typed buffers: how each generation numbers them, and what their elements look like.

A layout names its components from the highest bits down, as AMD does; the lowest is X. Source:
LLVM's SIDefines.h (MTBUFFormat, UfmtGFX10, UfmtGFX11), AMD's ISA manuals (MI300, RDNA2, RDNA3:
"Buffer Resource Descriptor", data and number formats).
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from gputrace.isa.behaviour import FormatNumbers


class Kind(IntEnum):
    """How the bits of a component are read: gfx9's numbers of number formats."""

    UNORM = 0
    SNORM = 1
    USCALED = 2
    SSCALED = 3
    UINT = 4
    SINT = 5
    FLOAT = 7


@dataclass(frozen=True, slots=True)
class Format:
    """The widths of the components from X on, in bits, and how they are read."""

    widths: tuple[int, ...]
    kind: Kind

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return sum(self.widths) // 8


_LAYOUTS = (
    "8", "16", "8_8", "32", "16_16", "10_11_11", "11_11_10", "10_10_10_2", "2_10_10_10", "8_8_8_8",
    "32_32", "16_16_16_16", "32_32_32", "32_32_32_32",
)  # fmt: skip
_ALL = tuple(Kind)
_NO_FLOAT = _ALL[:-1]
_WHOLE = (Kind.UINT, Kind.SINT, Kind.FLOAT)
_GFX10 = {
    "8": _NO_FLOAT, "8_8": _NO_FLOAT, "8_8_8_8": _NO_FLOAT, "10_10_10_2": _NO_FLOAT,
    "2_10_10_10": _NO_FLOAT, "32": _WHOLE, "32_32": _WHOLE, "32_32_32": _WHOLE,
    "32_32_32_32": _WHOLE,
}  # fmt: skip
_GFX11 = _GFX10 | {
    "10_11_11": (Kind.FLOAT,), "11_11_10": (Kind.FLOAT,),
    "10_10_10_2": (Kind.UNORM, Kind.SNORM, Kind.UINT, Kind.SINT),
}  # fmt: skip


def _widths(layout: str) -> tuple[int, ...]:
    return tuple(int(part) for part in reversed(layout.split("_")))


@cache
def formats(numbers: FormatNumbers) -> dict[int, Format]:
    """Return the formats of a generation by number; what is missing is invalid."""
    if numbers == "gfx9":  # the layout in the low four bits, the kind above them
        return {
            number | kind << 4: Format(_widths(layout), kind)
            for number, layout in enumerate(_LAYOUTS, 1)
            for kind in _GFX10.get(layout, _ALL)
        }
    kinds = _GFX10 if numbers == "gfx10" else _GFX11
    listed = [(layout, kind) for layout in _LAYOUTS for kind in kinds.get(layout, _ALL)]
    return {n: Format(_widths(layout), kind) for n, (layout, kind) in enumerate(listed, 1)}
