"""Pack and unpack the blocks that make seeking fast: index entries and the trailer.

An index block covers the blocks written since the index block before it, whose offset is its tag;
the trailer's `last_index` begins the chain. So the writer never holds more than one of them.
"""

import struct
import sys
from array import array
from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack

from gputrace.errors import TraceError
from gputrace.trace.blocks import HEADER_SIZE, MAX_EVENTS
from gputrace.trace.codec import unpack

CHUNK_ENTRY = struct.Struct("<16sQ")
INDEX_EVERY = 1 << 14
"""Most entries of one index block."""


def _words(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values = array("Q", values)
        values.byteswap()
    return values.tobytes()


def _unwords(data: bytes, where: str) -> "array[int]":
    if len(data) % 16:
        raise TraceError(where, "index entries are cut")
    values = array("Q")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


@dataclass
class Index:
    """Where blocks stand: event blocks and keyframes as (offset, first event) pairs, and chunks."""

    events: "array[int]" = field(default_factory=lambda: array("Q"))
    keyframes: "array[int]" = field(default_factory=lambda: array("Q"))
    chunks: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        """Count the entries."""
        return (len(self.events) + len(self.keyframes)) // 2 + len(self.chunks) // CHUNK_ENTRY.size

    def pack(self) -> bytes:
        """Give the body of an index block."""
        body: bytes = msgpack.packb(
            (_words(self.events), _words(self.keyframes), bytes(self.chunks)), use_bin_type=True
        )
        return body

    def extend(self, body: bytes, where: str, size: int) -> None:
        """Add the entries of an index block; refuse more than a file of `size` bytes can hold."""
        parts = list(unpack(body, where))
        match parts:
            case [[bytes(events), bytes(keyframes), bytes(chunks)]]:
                pass
            case _:
                raise TraceError(where, "an index holds three byte strings")
        if len(chunks) % CHUNK_ENTRY.size:
            raise TraceError(where, "index entries are cut")
        self.events.extend(_unwords(events, where))
        self.keyframes.extend(_unwords(keyframes, where))
        self.chunks += chunks
        if len(self) * HEADER_SIZE > size:
            raise TraceError(where, f"{len(self)} index entries do not fit a file of {size} bytes")


_OPTIONAL = frozenset({"memory", "unique", "lost", "repaired", "summary"})


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a complete trace says at its end.

    `kinds` counts events by name, `outcome` repeats the Outcome event, `memory` counts bytes of
    memory recorded and `unique` those stored. `lost` counts events that a repair could not save,
    `summary` is what `Summary.pack` gives; files of older versions have none.
    """

    events: int
    blocks: int
    last_index: int
    kinds: dict[str, int]
    outcome: dict[str, Any]
    memory: int = 0
    unique: int = 0
    lost: int = 0
    repaired: bool = False
    summary: dict[str, Any] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Give the body of the trailer's block."""
        body: bytes = msgpack.packb(asdict(self), use_bin_type=True)
        return body

    @classmethod
    def unpack(cls, body: bytes, where: str) -> "Trailer":
        """Read a trailer's body; names that this version does not know are left out."""
        types = {
            "events": int, "blocks": int, "last_index": int, "kinds": dict, "outcome": dict,
            "memory": int, "unique": int, "lost": int, "repaired": bool, "summary": dict,
        }  # fmt: skip
        objects = list(unpack(body, where))
        if len(objects) != 1 or type(objects[0]) is not dict:
            raise TraceError(where, "a trailer is one map")
        given: dict[Any, Any] = objects[0]
        values: dict[str, Any] = {}
        for name, kind in types.items():
            if name not in given and name in _OPTIONAL:
                continue
            if type(given.get(name)) is not kind:
                raise TraceError(where, f"the trailer's {name} is not of type {kind.__name__}")
            values[name] = given[name]
        counts = [value for value in values.values() if type(value) is int]
        if not all(0 <= count <= MAX_EVENTS for count in counts):
            raise TraceError(where, f"the trailer counts up to {max(counts)}, from {min(counts)}")
        if any(type(count) is not int for count in values["kinds"].values()):
            raise TraceError(where, "the trailer counts kinds by something else than numbers")
        return cls(**values)
