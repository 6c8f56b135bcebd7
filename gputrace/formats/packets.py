"""What PM4 and SDMA have in common: packets with a header, and dialects that tell them apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Generic, TypeVar

from gputrace.bits import Record
from gputrace.errors import DecodeError, DefinitionError


def vendor_name(name: str) -> str:
    """Turn a concept such as `WaitRegMem64` into the vendor's spelling, `WAIT_REG_MEM64`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


class Packet(Record, words=1):
    """A record whose first dword is a header that says which packet it is.

    An address field's `Role.length` may name a property instead of a field. Such a property is 0
    when the field does not name memory in this packet (but a register, or an immediate value).
    """

    VENDOR_NAME: ClassVar[str] = ""


P = TypeVar("P", bound=Packet)


class Dialect(Generic[P]):
    """The packets that one engine version understands.

    Packets enter by `add` when their class is declared; two layouts that a header cannot tell
    apart raise DefinitionError.
    """

    def __init__(self, name: str, engine: str, doc: str) -> None:
        self.name, self.engine, self.doc = name, engine, doc
        self._layouts: dict[int, list[type[P]]] = {}
        self._concepts: dict[str, type[P]] = {}

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self._concepts)} packets>"

    @property
    def packets(self) -> Mapping[int, type[P]]:
        """The packets by opcode; where one opcode has several layouts, the shortest."""
        return MappingProxyType({key: layouts[0] for key, layouts in self._layouts.items()})

    @property
    def all(self) -> tuple[type[P], ...]:
        """Every layout of this dialect in the order of opcodes."""
        return tuple(cls for key in sorted(self._layouts) for cls in self._layouts[key])

    def add(self, key: int, cls: type[P]) -> None:
        """Register a layout under its opcode; raise DefinitionError when the name is taken."""
        if cls.CONCEPT in self._concepts:
            raise DefinitionError(f"{self.name} has two packets named {cls.CONCEPT}")
        layouts = self._layouts.setdefault(key, [])
        for other in layouts:
            self.check_distinct(cls, other)
        layouts.append(cls)
        layouts.sort(key=lambda layout: layout.WORDS)
        self._concepts[cls.CONCEPT] = cls

    def check_distinct(self, cls: type[P], other: type[P]) -> None:
        """Raise DefinitionError unless the two layouts of one opcode differ."""
        raise DefinitionError(f"{cls.__name__} and {other.__name__} share an opcode on {self.name}")

    def packet(self, concept: str) -> type[P]:
        """Return the layout that this dialect uses for `concept`, for example "ReleaseMem".

        Raise KeyError that names the dialect when it has no such packet.
        """
        if concept not in self._concepts:
            raise KeyError(f"{self.name} has no packet {concept}")
        return self._concepts[concept]

    def decode(self, words: Sequence[int], at: int = 0, end: int | None = None) -> P:
        """Decode the packet at dword `at`; its length in dwords is `.dwords`.

        `end` bounds the packet (default: all of `words`). Raise DecodeError for an unknown opcode
        or type and for a packet that runs past the end.
        """
        end = len(words) if end is None else end
        if not 0 <= at < end <= len(words):
            raise DecodeError(f"{self.name} dword {at}", 0, "no dword here to decode")
        layout, size = self.layout(words, at, end)
        if at + size > end:
            raise DecodeError(
                f"{self.name} dword {at}",
                words[at],
                f"{layout.VENDOR_NAME} has {size} dwords but only {end - at} are there",
            )
        return layout.decode(words, at, size)

    def layout(self, words: Sequence[int], at: int, end: int) -> tuple[type[P], int]:
        """Return the layout of the packet at `at` and its length in dwords."""
        raise NotImplementedError

    def stream(self, words: Sequence[int]) -> Iterator[tuple[int, P]]:
        """Decode packet after packet; yield (dword offset, packet) until the words are used up."""
        at = 0
        while at < len(words):
            packet = self.decode(words, at)
            yield at, packet
            at += packet.dwords

    def manual(self) -> str:
        """Return the manual page of this dialect: each packet with its fields and source."""
        return f"## {self.name}: {self.doc}\n\n" + "\n".join(cls.manual() for cls in self.all)
