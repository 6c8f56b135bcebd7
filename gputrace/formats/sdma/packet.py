"""The SDMA header, and the four dialects of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gputrace.bits import bits
from gputrace.errors import DecodeError
from gputrace.formats import packets
from gputrace.formats.packets import Dialect, vendor_name

V4, V5, V6, V7 = (
    "vega10_sdma_pkt_open.h ",
    "navi10_sdma_pkt_open.h ",
    "sdma_v6_0_0_pkt_open.h ",
    "PAL gfx12_merged_sdma_packets.h ",
)


class SdmaDialect(Dialect["Packet"]):
    """The SDMA packets that one version of the engine accepts."""

    def check_distinct(self, cls: type[Packet], other: type[Packet]) -> None:
        """Raise DefinitionError unless some header bit tells the two layouts apart."""
        mine, theirs = cls.HEADER, other.HEADER
        if not mine[0] & theirs[0] & (mine[1] ^ theirs[1]):
            super().check_distinct(cls, other)

    def layout(self, words: Sequence[int], at: int, end: int) -> tuple[type[Packet], int]:
        """Return the layout of the packet at `at` and its length; raise DecodeError for none."""
        header = words[at]
        for layout in self._layouts.get(header & 0xFFFF, ()):
            mask, value = layout.HEADER
            if header & mask == value:
                room = end - at
                return layout, layout.WORDS if room < layout.WORDS else layout.length(words, at)
        raise DecodeError(
            f"{self.name} dword {at}",
            header,
            f"unknown opcode {header & 0xFF} with sub-opcode {header >> 8 & 0xFF}",
        )


SDMA_4_4 = SdmaDialect("SDMA_4_4", "sdma", "engines of gfx90a, gfx942 and gfx950")
SDMA_5_2 = SdmaDialect("SDMA_5_2", "sdma", "engines of gfx10.3 parts")
SDMA_6_0 = SdmaDialect("SDMA_6_0", "sdma", "engines of gfx11 parts")
SDMA_7_0 = SdmaDialect("SDMA_7_0", "sdma", "engines of gfx12 parts")
ALL = (SDMA_4_4, SDMA_5_2, SDMA_6_0, SDMA_7_0)
V5_V6 = (SDMA_5_2, SDMA_6_0)
V5_UP = (SDMA_5_2, SDMA_6_0, SDMA_7_0)
UP_TO_V6 = (SDMA_4_4, SDMA_5_2, SDMA_6_0)


class Packet(packets.Packet, words=1, source=V4 + "SDMA_PKT_*_HEADER"):
    """Any SDMA packet; the header's other bits belong to each packet.

    A layout that other header bits tell from its siblings fixes those fields.
    """

    opcode: int = bits(0, 7, 0, "which packet", default=0)
    sub_opcode: int = bits(0, 15, 8, "which form of it", default=0)

    OP: ClassVar[int] = -1
    SUB: ClassVar[int] = 0
    HEADER: ClassVar[tuple[int, int]] = (0, 0)
    DIALECTS: ClassVar[tuple[SdmaDialect, ...]] = ()

    def __init_subclass__(
        cls,
        *,
        op: int | None = None,
        sub: int = 0,
        dialects: tuple[SdmaDialect, ...] = (),
        fixed: Mapping[str, int] | None = None,
        **keywords: Any,
    ) -> None:
        """Declare a layout: `op` and `sub` are its opcodes on `dialects`."""
        if op is None:
            super().__init_subclass__(fixed=fixed, **keywords)
            return
        told = {**(fixed or {}), "opcode": op, "sub_opcode": sub}
        super().__init_subclass__(fixed=told, **keywords)
        cls.OP, cls.SUB, cls.DIALECTS = op, sub, dialects
        cls.VENDOR_NAME = vendor_name(cls.CONCEPT)
        header = [cls.BY_NAME[name] for name in told if cls.BY_NAME[name].lo < 32]
        cls.HEADER = (
            sum(field.mask for field in header),
            sum(told[field.name] << field.lo for field in header),
        )
        for dialect in dialects:
            dialect.add(op | sub << 8, cls)

    @classmethod
    def length(cls, words: Sequence[int], at: int) -> int:
        """Return the dwords of the packet at `at`, of which at least `WORDS` are there."""
        return cls.WORDS
