"""A bounded reader of 64-bit little-endian ELF files: every offset is checked before it is used.

Source: System V ABI, chapters 4 and 5; names are the ABI's. Code objects come from strangers, so
the only error that damage can cause is DecodeError.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gputrace.errors import DecodeError

MAGIC = b"\x7fELF"
MAX_PROGRAMS = 128
"""More program headers are refused: each may name the whole file."""
ET_REL, ET_DYN = 1, 3
PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
PF_X, PF_W, PF_R = 1, 2, 4
SHT_SYMTAB, SHT_NOBITS, SHT_DYNSYM = 2, 8, 11
SHN_UNDEF = 0
STB_WEAK = 2
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_STRSZ = 4, 5, 6, 7, 8, 10
DT_PLTRELSZ, DT_RELRSZ = 2, 35

_HEADER = struct.Struct("<4s5B7xHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_DYNAMIC = struct.Struct("<QQ")
_NOTE = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says about itself."""

    osabi: int
    abi_version: int
    type: int
    machine: int
    flags: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the memory image; addresses count from the load address."""

    vaddr: int
    memsize: int
    filesize: int
    data: bytes
    flags: int
    align: int

    @property
    def writable(self) -> bool:
        """Whether the program may write it."""
        return bool(self.flags & PF_W)

    @property
    def executable(self) -> bool:
        """Whether it holds code."""
        return bool(self.flags & PF_X)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the file."""

    name: str
    type: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name; `defined` is False when another object has to provide it."""

    name: str
    address: int
    size: int
    kind: int
    defined: bool
    weak: bool


@dataclass(frozen=True, slots=True)
class Relocation:
    """A place of the image that depends on the load address or on a symbol."""

    offset: int
    type: int
    symbol: int
    addend: int


class Elf:
    """One ELF file. Raises DecodeError for anything that does not lie inside the file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        fields = self._unpack(_HEADER, 0, "the file header")
        magic, bits, order = fields[0], fields[1], fields[2]
        if magic != MAGIC:
            raise DecodeError("byte 0", data[:4], "no ELF file")
        if (bits, order) != (2, 1):
            raise DecodeError("byte 4", data[4:6], "no 64-bit little-endian ELF file")
        self.header = Header(fields[4], fields[5], fields[6], fields[7], fields[12])
        if fields[15] > MAX_PROGRAMS:
            raise DecodeError("the file header", fields[15], f"more than {MAX_PROGRAMS} segments")
        self._programs = self._table(_PROGRAM, fields[10], fields[14], fields[15], "segments")
        self._sections = self._table(_SECTION, fields[11], fields[16], fields[17], "sections")
        self._names = fields[18]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments in the order of the file."""
        found = []
        for kind, flags, offset, vaddr, _, filesize, memsize, align in self._programs:
            if kind != PT_LOAD:
                continue
            if filesize > memsize:
                raise DecodeError(f"segment at {vaddr:#x}", filesize, "larger in file than memory")
            data = self.slice(offset, filesize, f"segment at {vaddr:#x}")
            found.append(Segment(vaddr, memsize, filesize, data, flags, align))
        return tuple(found)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All sections; none when the headers were stripped."""
        if not self._sections:
            return ()
        names = b""
        if self._names < len(self._sections):
            row = self._sections[self._names]
            names = self.slice(row[4], row[5], "section names")
        return tuple(
            Section(_string(names, row[0]), row[1], row[4], row[5], row[6])
            for row in self._sections
        )

    def section(self, name: str) -> bytes | None:
        """Give the bytes of a section, or None when there is no such section."""
        for found in self.sections:
            if found.name == name:
                if found.type == SHT_NOBITS:
                    return b""
                return self.slice(found.offset, found.size, f"section {name}")
        return None

    @cached_property
    def dynamic(self) -> dict[int, int]:
        """Values of the dynamic table by tag."""
        for kind, _, offset, _, _, filesize, _, _ in self._programs:
            if kind == PT_DYNAMIC:
                data = self.slice(offset, filesize, "the dynamic table")
                whole = len(data) // _DYNAMIC.size * _DYNAMIC.size
                found: dict[int, int] = {}
                for tag, value in _DYNAMIC.iter_unpack(data[:whole]):
                    if tag == 0:
                        break
                    found[tag] = value
                return found
        return {}

    @cached_property
    def dynamic_symbols(self) -> tuple[Symbol, ...]:
        """The symbols that relocations index, from the dynamic table."""
        table = self.dynamic
        if DT_SYMTAB not in table or DT_HASH not in table:
            return ()
        _, count = struct.unpack("<II", self.at_address(table[DT_HASH], 8, "the hash table"))
        raw = self.at_address(table[DT_SYMTAB], count * _SYMBOL.size, "dynamic symbols")
        names = self.at_address(table.get(DT_STRTAB, 0), table.get(DT_STRSZ, 0), "symbol names")
        return _symbols(raw, names)

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """Dynamic symbols first, then those of the symbol tables, local ones included."""
        found = list(self.dynamic_symbols)
        # One of each kind is what the ABI allows.
        for section in {each.type: each for each in self.sections}.values():
            if section.type not in (SHT_SYMTAB, SHT_DYNSYM):
                continue
            raw = self.slice(section.offset, section.size, f"section {section.name}")
            if section.link >= len(self.sections):
                raise DecodeError(f"section {section.name}", section.link, "no such names section")
            names = self.sections[section.link]
            text = self.slice(names.offset, names.size, f"section {names.name}")
            found += _symbols(raw, text)
        return tuple(found)

    @cached_property
    def relocations(self) -> tuple[Relocation, ...]:
        """The dynamic relocations; raises DecodeError for kinds of tables nobody emits."""
        table = self.dynamic
        for tag, name in ((DT_PLTRELSZ, "DT_JMPREL"), (DT_RELRSZ, "DT_RELR")):
            if table.get(tag):
                raise DecodeError("the dynamic table", table[tag], f"{name} is not handled")
        if DT_RELA not in table:
            return ()
        raw = self.at_address(table[DT_RELA], table.get(DT_RELASZ, 0), "relocations")
        whole = len(raw) // _RELA.size * _RELA.size
        return tuple(
            Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)
            for offset, info, addend in _RELA.iter_unpack(raw[:whole])
        )

    def notes(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield name, type and content of every note."""
        for kind, _, offset, _, _, filesize, _, _ in self._programs:
            if kind == PT_NOTE:
                yield from _notes(self.slice(offset, filesize, "notes"))

    def at_address(self, address: int, size: int, what: str) -> bytes:
        """Read file bytes by their address in the image."""
        for segment in self.segments:
            start = address - segment.vaddr
            if start >= 0 and start + size <= segment.filesize:
                return segment.data[start : start + size]
        raise DecodeError(f"address {address:#x}", size, f"{what}: in no segment of the file")

    def slice(self, offset: int, size: int, what: str) -> bytes:
        """Read bytes of the file by offset."""
        if offset + size > len(self.data):
            reason = f"{what}: {size} bytes end behind the file's {len(self.data)}"
            raise DecodeError(f"byte {offset:#x}", size, reason)
        return self.data[offset : offset + size]

    def _unpack(self, layout: struct.Struct, offset: int, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.slice(offset, layout.size, what))

    def _table(
        self, layout: struct.Struct, offset: int, size: int, count: int, what: str
    ) -> list[tuple[int, ...]]:
        if count == 0 or offset == 0:
            return []
        if size != layout.size:
            raise DecodeError("the file header", size, f"{what} have {layout.size} bytes each")
        raw = self.slice(offset, size * count, f"table of {what}")
        return list(layout.iter_unpack(raw))


def file_from_memory(memory: bytes) -> bytes:
    """Give the file that a loaded image is of: without sections, offsets equal to addresses.

    `memory` begins at the load address. Raises DecodeError where no ELF header is, or where the
    program headers are not in memory.
    """
    image = bytearray(memory)
    if memory[: len(MAGIC)] != MAGIC or len(image) < _HEADER.size:
        raise DecodeError("byte 0", memory[:4], "no ELF file was loaded here")
    fields = list(_HEADER.unpack_from(image))
    start, size, count = fields[10], fields[14], fields[15]
    if size != _PROGRAM.size or start + size * count > len(image):
        raise DecodeError("the file header", start, "the program headers are not in memory")
    fields[11], fields[16:19] = 0, (0, 0, 0)
    _HEADER.pack_into(image, 0, *fields)
    for at in range(start, start + size * count, size):
        row = list(_PROGRAM.unpack_from(image, at))
        row[2] = row[3]
        _PROGRAM.pack_into(image, at, *row)
    return bytes(image)


def _string(table: bytes, at: int) -> str:
    if at >= len(table):
        return ""
    end = table.find(b"\0", at)
    return table[at : end if end >= 0 else len(table)].decode("utf-8", "replace")


def _symbols(raw: bytes, names: bytes) -> tuple[Symbol, ...]:
    whole = len(raw) // _SYMBOL.size * _SYMBOL.size
    return tuple(
        Symbol(
            _string(names, name), value, size, info & 15, where != SHN_UNDEF, info >> 4 == STB_WEAK
        )
        for name, info, _, where, value, size in _SYMBOL.iter_unpack(raw[:whole])
    )


def _notes(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    at = 0
    while at + _NOTE.size <= len(data):
        name_size, size, kind = _NOTE.unpack_from(data, at)
        name_at = at + _NOTE.size
        content_at = name_at + (name_size + 3 & ~3)
        if content_at + size > len(data):
            raise DecodeError(f"note at byte {at}", size, "note ends behind its segment")
        name = data[name_at : name_at + name_size].rstrip(b"\0").decode("utf-8", "replace")
        yield name, kind, data[content_at : content_at + size]
        at = content_at + (size + 3 & ~3)
