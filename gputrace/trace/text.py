"""Render events as lines of text, as they are stored: raw bits and names, nothing decoded."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from gputrace.trace.events import Chunk, Event
from gputrace.trace.reader import TraceReader

SHOWN = 32
"""Bytes shown of a longer byte string."""
_HEXADECIMAL = frozenset(
    {"address", "offset", "ring", "read_pointer", "write_pointer", "doorbell", "request", "mailbox",
     "where", "value"}
)  # fmt: skip


def event_line(number: int, event: Event) -> str:
    """Render one event on one line; fields that have their default value are left out."""
    shown = []
    for each in fields(event):
        value = getattr(event, each.name)
        default = each.default if each.default_factory is MISSING else each.default_factory()
        if value != default:
            shown.append(f"{each.name}={_value(each.name, value)}")
    return f"{number} {type(event).__name__} {' '.join(shown)}".rstrip()


def trace_lines(reader: TraceReader) -> Iterator[str]:
    """Render a whole trace, one line for each event and one about its end."""
    for number, event in reader.numbered():
        yield event_line(number, event)
    if reader.torn is not None:
        yield f"torn at byte {reader.torn.offset}, {reader.torn.size} bytes lost"
    yield "complete" if reader.complete else "incomplete"


def _value(name: str, value: Any) -> str:
    match value:
        case Chunk():
            return f"{value.digest.hex()}:{value.size}"
        case bytes():
            more = f"..({len(value)})" if len(value) > SHOWN else ""
            return value[:SHOWN].hex() + more
        case bool() | str() | dict():
            return repr(value)
        case int() if name in _HEXADECIMAL and value >= 0:
            return f"{value:#x}"
        case tuple() if hasattr(value, "_fields"):
            names: tuple[str, ...] = value._fields
            pairs = zip(names, value, strict=True)
            return "(" + " ".join(f"{each}={_value(each, item)}" for each, item in pairs) + ")"
        case tuple():
            return "[" + ", ".join(_value(name, item) for item in value) + "]"
        case _:
            return str(value)


def amount(size: int) -> str:
    """Write a number of bytes for a reader: "512 bytes", "1.5 MiB"."""
    if size < 1024:
        return "1 byte" if size == 1 else f"{size} bytes"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
