"""The PM4 header, and the four dialects that compute queues speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gputrace.bits import Record, bits
from gputrace.errors import DecodeError
from gputrace.formats import packets
from gputrace.formats.packets import Dialect, vendor_name

HEADER_ONLY = 0x3FFF  # count of a NOP that is nothing but its header
NOP = 0x10


class Pm4Dialect(Dialect["Packet"]):
    """The PM4 packets that the compute micro-engine of one hardware generation accepts."""

    def __init__(self, name: str, engine: str, doc: str) -> None:
        super().__init__(name, engine, doc)
        self._fixed: dict[int, tuple[type[Packet], int]] = {}  # by the header's upper 24 bits

    def add(self, key: int, cls: type[Packet]) -> None:
        """Register a layout under its opcode; raise DefinitionError when the name is taken."""
        super().add(key, cls)
        if cls.TAIL is None:
            self._fixed[3 << 22 | cls.WORDS - 2 << 8 | key] = cls, cls.WORDS

    def check_distinct(self, cls: type[Packet], other: type[Packet]) -> None:
        """Raise DefinitionError unless the sizes tell the two layouts apart."""
        if cls.WORDS == other.WORDS or cls.TAIL or other.TAIL:
            super().check_distinct(cls, other)

    def layout(self, words: Sequence[int], at: int, end: int) -> tuple[type[Packet], int]:
        """Return the layout of the packet at `at` and its length; raise DecodeError for none."""
        header = words[at]
        fixed = self._fixed.get(header >> 8)
        if fixed is not None:
            return fixed
        where = f"{self.name} dword {at}"
        if header >> 30 != 3:
            return self._filler(header, where)
        opcode, count = header >> 8 & 0xFF, header >> 16 & 0x3FFF
        layouts = self._layouts.get(opcode)
        if layouts is None:
            raise DecodeError(where, header, f"unknown opcode {opcode:#04x}")
        size = 1 if opcode == NOP and count == HEADER_ONLY else count + 2
        for layout in layouts:
            if size == layout.WORDS or (layout.TAIL and size > layout.WORDS):
                return layout, size
        sizes = " or ".join(str(layout.WORDS) for layout in layouts)
        more = " or more" if layouts[-1].TAIL else ""
        raise DecodeError(
            where,
            header,
            f"{layouts[0].VENDOR_NAME} has {sizes}{more} dwords but its header says {size}",
        )

    def _filler(self, header: int, where: str) -> tuple[type[Packet], int]:
        if header >> 30 != 2:
            raise DecodeError(where, header, f"a packet of type {header >> 30}, not 3 or 2")
        return Filler, 1


PM4_GFX9 = Pm4Dialect("PM4_GFX9", "pm4", "compute queues of gfx9 and CDNA parts")
PM4_GFX10 = Pm4Dialect("PM4_GFX10", "pm4", "compute queues of gfx10.3 parts")
PM4_GFX11 = Pm4Dialect("PM4_GFX11", "pm4", "compute queues of gfx11 parts")
PM4_GFX12 = Pm4Dialect("PM4_GFX12", "pm4", "compute queues of gfx12 parts")
ALL = (PM4_GFX9, PM4_GFX10, PM4_GFX11, PM4_GFX12)
GFX10_UP = (PM4_GFX10, PM4_GFX11, PM4_GFX12)
GFX11_UP = (PM4_GFX11, PM4_GFX12)
UP_TO_GFX11 = (PM4_GFX9, PM4_GFX10, PM4_GFX11)


class Packet(packets.Packet, words=1):
    """Any PM4 packet; bits 31:30 of the header hold its type."""

    type: int = bits(0, 31, 30, "packet type", default=3)


class Filler(Packet, fixed={"type": 2}, source="nvd.h PACKET_TYPE2"):
    """Do nothing for one dword; the rest of the dword is ignored."""

    VENDOR_NAME = "FILLER"


def _count(packet: Record) -> int:
    size = packet.dwords
    return size - 2 if size > 1 else HEADER_ONLY


class Type3(Packet, fixed={"type": 3}, source="soc15d.h and nvd.h PACKET3"):
    """A packet with an opcode; `count` follows from the length."""

    predicate: bool = bits(0, 0, 0, "skip under predication; 0 on compute", default=0, kind=bool)
    compute: bool = bits(
        0, 1, 1, "shader type compute; the compute micro-engine ignores it", default=0, kind=bool
    )
    opcode: int = bits(0, 15, 8, "which packet", default=0)
    count: int = bits(0, 29, 16, "dwords after the header, minus one", default=_count)

    OP: ClassVar[int] = -1
    DIALECTS: ClassVar[tuple[Pm4Dialect, ...]] = ()

    def __init_subclass__(
        cls,
        *,
        op: int | None = None,
        dialects: tuple[Pm4Dialect, ...] = (),
        fixed: Mapping[str, int] | None = None,
        **keywords: Any,
    ) -> None:
        """Declare a layout: `op` is its opcode on `dialects`; without one it is a mere base."""
        if op is None:
            super().__init_subclass__(fixed=fixed, **keywords)
            return
        super().__init_subclass__(fixed={**(fixed or {}), "opcode": op}, **keywords)
        cls.OP, cls.DIALECTS = op, dialects
        cls.VENDOR_NAME = vendor_name(cls.CONCEPT)
        for dialect in dialects:
            dialect.add(op, cls)
