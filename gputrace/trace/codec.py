"""Turn events into msgpack and back; believe nothing that comes out of a file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgpack

from gputrace.errors import DefinitionError, TraceError
from gputrace.trace.blocks import CHUNK_SIZE, MAX_LENGTH
from gputrace.trace.events import ALL, Chunk, Event, Header

MAX_ITEMS = 1 << 12
"""Most items of an array or a map inside an event."""
DIGEST_SIZE = 16
"""Bytes of an xxh3-128."""

Check = Callable[[Any], Any]
_packer = msgpack.Packer(use_bin_type=True, strict_types=False)


class Skipped(NamedTuple):
    """An optional event of a kind that this version does not know; `data` is its encoding."""

    kind: int
    name: str
    data: bytes = b""


# A check gives the value as the declaration wants it, or raises ValueError with what was expected.


def _integer(value: Any) -> Any:
    if type(value) is not int:
        raise ValueError("an integer")
    return value


def _plain(kind: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{kind.__name__}")
        return value

    return check


def _named_tuple(kind: Any) -> Check:
    checks = [_check_for(hint) for hint in get_type_hints(kind).values()]
    needed = len(checks) - len(kind._field_defaults)

    def check(value: Any) -> Any:
        if type(value) is not list or not needed <= len(value) <= len(checks):
            raise ValueError(f"{kind.__name__} of {len(checks)} fields")
        return kind(*[each(item) for each, item in zip(checks, value, strict=False)])

    return check


def _chunk(value: Any) -> Any:
    match value:
        case [bytes(digest), int(size)] if len(digest) == DIGEST_SIZE and 0 < size <= CHUNK_SIZE:
            return Chunk(digest, size)
    raise ValueError(f"a chunk with its hash and 1 to {CHUNK_SIZE} bytes")


def _many(of: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise ValueError("an array")
        return tuple([of(item) for item in value])

    return check


def _check_for(hint: Any) -> Check:
    origin = get_origin(hint)
    if hint is int:
        return _integer
    if hint in (str, bytes, bool):
        return _plain(hint)
    if origin is dict:
        return _plain(dict)
    if origin is tuple:
        return _many(_check_for(get_args(hint)[0]))
    if hint is Chunk:
        return _chunk
    if isinstance(hint, type) and issubclass(hint, tuple):
        return _named_tuple(hint)
    raise DefinitionError(f"no encoding for a field of type {hint}")


class _Layout:
    """How one kind of event is taken apart and put together."""

    def __init__(self, kind: type[Event]) -> None:
        hints = get_type_hints(kind)
        declared = fields(kind)
        self.kind = kind
        self.names = tuple(each.name for each in declared)
        self.checks = tuple(_check_for(hints[name]) for name in self.names)
        self.needed = sum(
            each.default is MISSING and each.default_factory is MISSING for each in declared
        )
        self.get = attrgetter(*self.names)
        self.arrays = tuple(n for n in self.names if get_origin(hints[n]) is tuple)

    def build(self, values: list[Any], where: str) -> Event:
        if not self.needed <= len(values) <= len(self.names):
            raise TraceError(
                where,
                f"{self.kind.__name__} has {len(values)} fields, this gputrace knows "
                f"{self.needed} to {len(self.names)}",
            )
        try:
            arguments = [check(value) for check, value in zip(self.checks, values, strict=False)]
        except ValueError as error:
            raise TraceError(where, f"{self.kind.__name__}: expected {error}") from error
        return self.kind(*arguments)


_LAYOUTS: Mapping[int, _Layout] = {kind.KIND: _Layout(kind) for kind in ALL}


def encode(event: Event) -> bytes:
    """Encode one event; raise ValueError for one that no reader would take back."""
    layout = _LAYOUTS[event.KIND]
    for name in layout.arrays:
        if len(getattr(event, name)) > MAX_ITEMS:
            raise ValueError(f"{type(event).__name__}.{name} has more than {MAX_ITEMS} items")
    try:
        data: bytes = _packer.pack((event.KIND, *layout.get(event)))
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{type(event).__name__} cannot be stored: {error}") from error
    if len(data) > MAX_LENGTH:
        raise ValueError(f"{type(event).__name__} of {len(data)} bytes, limit {MAX_LENGTH}")
    return data


def encode_fields(kind: type[Event], *values: object) -> bytes:
    """Encode an event by its first fields in order, without making it: for what doorbells write."""
    data: bytes = _packer.pack((kind.KIND, *values))
    return data


def unpack(data: bytes, where: str) -> Iterator[Any]:
    """Yield the msgpack objects in `data`, at most 1 MiB; TraceError for anything else in it."""
    unpacker = msgpack.Unpacker(
        raw=False, strict_map_key=True, max_buffer_size=MAX_LENGTH, max_array_len=MAX_ITEMS,
        max_map_len=MAX_ITEMS, max_ext_len=0,
    )  # fmt: skip
    done = 0
    try:
        unpacker.feed(data)
        while done < len(data):
            value = unpacker.unpack()
            done = unpacker.tell()
            yield value
    except msgpack.OutOfData as error:
        raise TraceError(where, f"{len(data) - done} bytes are no whole object") from error
    except (msgpack.UnpackException, ValueError, RecursionError) as error:
        raise TraceError(where, f"bad msgpack: {error or type(error).__name__}") from error


def decode(data: bytes, where: str, header: Header | None) -> Iterator[Event | Skipped]:
    """Yield the events in `data`; `header` names kinds that this version does not know."""
    for value in unpack(data, where):
        if type(value) is not list or not value or type(value[0]) is not int:
            raise TraceError(where, "an event must be an array that begins with its kind")
        layout = _LAYOUTS.get(value[0])
        if layout is None:
            yield _unknown(value, where, header)
        else:
            yield layout.build(value[1:], where)


def _unknown(value: list[Any], where: str, header: Header | None) -> Skipped:
    kind = value[0]
    entry = header.kinds.get(str(kind)) if header is not None else None
    match entry:
        case [str(name), False]:
            return Skipped(kind, name, _packer.pack(value))
        case [str(name), True]:
            tool = header.tool if header is not None else "?"
            text = f"event kind {name} ({kind}) is required and not known; written by {tool}"
            raise TraceError(where, text, damage=False)
    text = f"event kind {kind} is not known and the header does not name it"
    raise TraceError(where, text, damage=False)
