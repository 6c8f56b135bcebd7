"""The Record class: everything that a declaration gives for free."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from inspect import cleandoc
from random import Random
from typing import Any, ClassVar, Self, dataclass_transform

from gputrace.bits import generate
from gputrace.bits.field import Field, Tail, bits, s32, s64, tail, u8, u16, u32, u64
from gputrace.errors import DecodeError, DefinitionError, FieldError


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(bits, u8, u16, u32, u64, s32, s64, tail),
)
class Record:
    """A little-endian integer of `words` dwords cut into named fields.

    Declare a format by subclassing with annotated fields:

        class Fence(Record, words=4, source="vega10_sdma_pkt_open.h SDMA_PKT_FENCE"):
            address: int = u64(1, "where the value goes")

    Class keywords: `words` (length of the fixed part, in dwords), `source` (file and symbol),
    `concept` (the name shared by layouts that mean the same), `unsupported` (why it is known but
    not handled), `fixed` (values that inherited fields always have). Instances are built by
    keyword and are not changed afterwards; bits that no field names survive in `unknown`.

    Raises `DefinitionError` at import for overlaps, overruns and defaults that do not fit.
    """

    FIELDS: ClassVar[tuple[Field, ...]] = ()
    BY_NAME: ClassVar[Mapping[str, Field]] = {}
    TAIL: ClassVar[Tail | None] = None
    WORDS: ClassVar[int] = 0
    UNKNOWN: ClassVar[int] = 0
    SOURCE: ClassVar[str] = ""
    CONCEPT: ClassVar[str] = ""
    UNSUPPORTED: ClassVar[str] = ""
    unknown: ClassVar[int]  # set on each instance; a ClassVar only so that it is no keyword

    def __init_subclass__(
        cls,
        *,
        words: int | None = None,
        source: str = "",
        concept: str = "",
        unsupported: str = "",
        fixed: Mapping[str, int] | None = None,
        **more: Any,
    ) -> None:
        super().__init_subclass__(**more)
        if words is not None:
            cls.WORDS = words
        cls.SOURCE = source or cls.SOURCE
        cls.CONCEPT = concept or cls.__name__
        cls.UNSUPPORTED = unsupported
        _collect(cls, dict(fixed or {}))
        _check(cls)
        cls._decode = staticmethod(generate.decoder(cls.FIELDS, cls.WORDS, cls.UNKNOWN))
        cls._encode = generate.encoder(cls.FIELDS, cls.WORDS)  # type: ignore[method-assign,assignment]

    _decode: ClassVar[Any]
    # What __init__ needs: fixed defaults, fields without one, all names, fields that follow others.
    _PLAIN: ClassVar[Mapping[str, Any]] = {}
    _NEEDED: ClassVar[frozenset[str]] = frozenset()
    _NAMES: ClassVar[frozenset[str]] = frozenset()
    _LATE: ClassVar[tuple[Field, ...]] = ()

    def _encode(self) -> list[int]:
        raise DefinitionError("Record itself has no fields")

    def __init__(self, **values: Any) -> None:
        mine = self.__dict__
        mine.update(self._PLAIN)
        mine.update(values)
        if not (self._NEEDED <= values.keys() <= self._NAMES):
            _refuse(type(self), values)
        if self.TAIL is not None:
            name = self.TAIL.name
            mine[name] = tuple(mine[name])
        for field in self._LATE:
            if field.name not in values:
                mine[field.name] = _computed(self, field)

    @property
    def dwords(self) -> int:
        """Return the length in dwords, tail included."""
        return self.WORDS + (len(getattr(self, self.TAIL.name)) if self.TAIL else 0)

    @classmethod
    def decode(cls, words: Sequence[int], at: int = 0, count: int | None = None) -> Self:
        """Read a record from dwords; `count` is its whole length where it has a tail.

        Raises `DecodeError` when fewer dwords are left than the record needs.
        """
        end = at + cls.WORDS
        if cls.TAIL is not None:
            return cls._decode_with_tail(words, at, end, count)
        if at < 0 or end > len(words):
            raise cls._too_short(words, at, end)
        self = cls.__new__(cls)
        self.__dict__ = cls._decode(words[at:end])
        return self

    @classmethod
    def _decode_with_tail(
        cls, words: Sequence[int], at: int, end: int, count: int | None
    ) -> Self:
        assert cls.TAIL is not None
        whole = len(words) if count is None else at + count
        if at < 0 or whole < end or whole > len(words):
            raise cls._too_short(words, at, max(end, whole))
        self = cls.__new__(cls)
        self.__dict__ = cls._decode(words[at:end])
        self.__dict__[cls.TAIL.name] = tuple(words[end:whole])
        return self

    @classmethod
    def _too_short(cls, words: Sequence[int], at: int, end: int) -> DecodeError:
        return DecodeError(
            f"dword {at}", words[at] if 0 <= at < len(words) else 0,
            f"{cls.__name__} needs {end - at} dwords, {max(0, len(words) - at)} are left",
        )  # fmt: skip

    def encode(self) -> list[int]:
        """Return the record as dwords; raises `FieldError` for a value that does not fit."""
        words = self._encode()
        if self.TAIL is not None:
            for value in getattr(self, self.TAIL.name):
                if not 0 <= value <= generate.FULL:
                    problem = f"must hold dwords, not {value:#x}"
                    raise FieldError(type(self).__name__, self.TAIL.name, problem)
                words.append(int(value))
        return words

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, offset: int = 0) -> Self:
        """Read a record from little-endian bytes; with a tail it takes all that follow."""
        room = (len(data) - offset) // 4
        count = room if cls.TAIL else min(room, cls.WORDS)
        if offset < 0 or count < cls.WORDS:
            reason = f"{cls.__name__} needs {4 * cls.WORDS} bytes, {len(data) - offset} are left"
            raise DecodeError(f"byte {offset}", bytes(data[max(0, offset) :][:16]), reason)
        return cls.decode(struct.unpack_from(f"<{count}I", data, offset))

    def to_bytes(self) -> bytes:
        """Return the record as little-endian bytes."""
        words = self.encode()
        return struct.pack(f"<{len(words)}I", *words)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; computed fields follow, unless given."""
        values = dict(self.__dict__)
        unknown = values.pop("unknown")
        for field in self.FIELDS:
            if callable(field.default) and values[field.name] == _computed(self, field):
                del values[field.name]
        copy = type(self)(**(values | changes))
        copy.__dict__["unknown"] = unknown
        return copy

    def problems(self) -> Iterator[str]:
        """Yield what is wrong or undocumented in this record, one text each."""
        for field in self.FIELDS:
            value = getattr(self, field.name)
            problem = field.misfit(value)
            if problem is None and field.kind not in (int, bool) and field.convert(value) != value:
                problem = f"is no {field.kind.__name__}: {value:#x}"
            if problem is None and field.fixed and value != field.default:
                problem = f"must be {field.default:#x}, not {value:#x}"
            if problem is None and not isinstance(value, field.kind) and field.kind is not bool:
                problem = f"is no {field.kind.__name__}: {value:#x}"
            if problem:
                yield f"{type(self).__name__}.{field.name} {problem}"
        if self.unknown:
            yield f"{type(self).__name__} has undocumented bits set: {self.unknown:#x}"

    def shown(self) -> Iterator[tuple[Field, int]]:
        """Yield the fields that differ from their defaults, with their values."""
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if value != (_computed(self, field) if callable(field.default) else field.default):
                yield field, value

    def line(self) -> str:
        """Return the record on one line; fields at their defaults are left out."""
        parts = [f"{field.name}={field.show(value)}" for field, value in self.shown()]
        if self.TAIL is not None:
            values = getattr(self, self.TAIL.name)
            more = f", ... {len(values)} dwords" if len(values) > 4 else ""
            parts.append(f"{self.TAIL.name}=[{', '.join(f'{v:#x}' for v in values[:4])}{more}]")
        if self.unknown:
            parts.append(f"unknown={self.unknown:#x}")
        return f"{type(self).__name__}({', '.join(parts)})"

    __repr__ = line

    def annotated(self) -> str:
        """Return every field with its place, value and meaning, one a line."""
        rows = [f"{type(self).__name__}: {(type(self).__doc__ or '').strip().splitlines()[0]}"]
        for field in sorted(self.FIELDS, key=lambda field: field.lo):
            value = getattr(self, field.name)
            rows.append(f"  {field.place:<14} {field.name} = {field.show(value)}  {field.doc}")
        if self.TAIL is not None:
            for i, value in enumerate(getattr(self, self.TAIL.name)):
                rows.append(f"  dw{self.WORDS + i:<12} {self.TAIL.name}[{i}] = {value:#x}")
        if self.unknown:
            rows.append(f"  undocumented bits set: {self.unknown:#x}")
        return "\n".join(rows)

    @classmethod
    def random(cls, rng: Random) -> Self:
        """Return a record with values that fit; fixed and computed fields keep theirs."""
        values: dict[str, Any] = {
            field.name: field.random(rng)
            for field in cls.FIELDS
            if not field.fixed and not callable(field.default)
        }
        if cls.TAIL is not None:
            values[cls.TAIL.name] = [rng.getrandbits(32) for _ in range(rng.randint(1, 8))]
        return cls(**values)

    @classmethod
    def manual(cls) -> str:
        """Return the manual page of this record as Markdown."""
        rows = [f"### {cls.__name__}", "", cleandoc(cls.__doc__ or ""), ""]
        if cls.SOURCE:
            rows += [f"Source: {cls.SOURCE}", ""]
        if cls.UNSUPPORTED:
            rows += [f"Not handled: {cls.UNSUPPORTED}", ""]
        rows += ["| bits | field | meaning |", "|---|---|---|"]
        for field in sorted(cls.FIELDS, key=lambda field: field.lo):
            meaning = field.meaning.replace("|", "\\|")  # else it would end the cell
            rows.append(f"| {field.place} | {field.name} | {meaning} |")
        if cls.TAIL is not None:
            rows.append(f"| dw{cls.WORDS}.. | {cls.TAIL.name} | {cls.TAIL.doc} |")
        return "\n".join(rows) + "\n"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), frozenset(self.__dict__.items())))

    def _misfit(self) -> None:
        # A value does not fit: say which.
        for field in self.FIELDS:
            problem = field.misfit(getattr(self, field.name))
            if problem is not None:
                raise FieldError(type(self).__name__, field.name, problem)

    def _restore(self, words: list[int]) -> None:
        # Put back the bits that nobody named.
        for i in range(len(words)):
            words[i] |= self.unknown >> 32 * i & generate.FULL


def _refuse(cls: type[Record], values: Mapping[str, Any]) -> None:
    for field in cls.FIELDS:
        if field.default is None and field.name not in values:
            raise TypeError(f"{cls.__name__} needs {field.name}")
    odd = ", ".join(name for name in values if name not in cls._NAMES)
    raise TypeError(f"{cls.__name__} has no field {odd}")


def _computed(record: Record, field: Field) -> int:
    assert callable(field.default)
    return field.default(record)


def _collect(cls: type[Record], fixed: dict[str, int]) -> None:
    # Inherited fields first, then those of the class body, in the order written.
    fields = {field.name: field for field in cls.FIELDS}
    for name, value in list(cls.__dict__.items()):
        if isinstance(value, Field):
            fields[name] = value.named(name)
        elif isinstance(value, Tail):
            cls.TAIL = Tail(value.doc, value.role, name)
    for name, constant in fixed.items():
        if name not in fields:
            raise DefinitionError(f"{cls.__name__} fixes {name}, which is no field of it")
        old = fields[name]
        fields[name] = Field(
            old.lo, old.width, old.doc, constant, old.kind, old.shift, old.signed, old.intent,
            old.role, name, True,
        )
    cls.FIELDS = tuple(fields.values())
    cls.BY_NAME = fields
    _prepare(cls)
    for name, field in fields.items():
        setattr(cls, name, field)


def _prepare(cls: type[Record]) -> None:
    # Sort the fields by what __init__ has to do for them.
    ready = [one for one in cls.FIELDS if one.default is not None and not callable(one.default)]
    plain: dict[str, Any] = {"unknown": 0, **{field.name: field.default for field in ready}}
    cls._NEEDED = frozenset(field.name for field in cls.FIELDS if field.default is None)
    cls._LATE = tuple(field for field in cls.FIELDS if callable(field.default))
    cls._NAMES = frozenset(cls.BY_NAME)
    if cls.TAIL is not None:
        plain[cls.TAIL.name] = ()
        cls._NAMES |= {cls.TAIL.name}
    cls._PLAIN = plain


def _check(cls: type[Record]) -> None:
    taken, whole = 0, (1 << 32 * cls.WORDS) - 1
    for field in cls.FIELDS:
        if field.name in _RESERVED:
            raise DefinitionError(f"{cls.__name__}.{field.name} has the name of a method")
        if field.mask & ~whole:
            raise DefinitionError(
                f"{cls.__name__}.{field.name} at {field.place} overruns {cls.WORDS} dwords"
            )
        if field.mask & taken:
            both = [f.name for f in cls.FIELDS if f.mask & field.mask and f is not field]
            raise DefinitionError(f"{cls.__name__}.{field.name} overlaps {', '.join(both)}")
        taken |= field.mask
        if field.default is not None and not callable(field.default):
            problem = field.misfit(field.default)
            if problem:
                raise DefinitionError(f"default of {cls.__name__}.{field.name} {problem}")
    cls.UNKNOWN = whole & ~taken


_RESERVED = frozenset(name for name in vars(Record) if not name.startswith("__"))
