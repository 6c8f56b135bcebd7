"""The event schema and the `.gtrace` file.

Grammar (integers little-endian, checksums xxh3-64 unless said):

    file      := preamble block*
    preamble  := 89 'gtrace' 0a, version u32 (1), low half of the checksum of these 12 bytes u32
    block     := header payload
    header    := b5 'GTB', kind u8, codec u8 (0 raw, 1 zstd), 0 u16, stored length u32, length u32,
                 sequence u64, tag 16 bytes, checksum of the stored payload u64,
                 checksum of the header so far u64                                      (56 bytes)

Blocks are numbered by `sequence` from 0 without gaps; `length` counts payload bytes before
compression, at most 1 MiB. What a block holds and what its tag says, by kind:

    1 EVENTS    events one after the other      tag: number of the first u64, count u32, 0 u32
    2 CHUNK     at most 64 KiB of memory        tag: xxh3-128 of it
    3 KEYFRAME  events that rebuild the state   tag: number of the next event, part, parts
    4 INDEX     [events, keyframes, chunks]     tag: offset of the index block before u64 (0: none)
    5 TRAILER   a map of counts and the outcome
    6 END       nothing; the last 56 bytes      tag: offset of the trailer u64

An event is a msgpack array `[kind, field, ...]`; `events` declares the kinds. The first event is
the Header. In an INDEX, events and keyframes are byte strings of (offset u64, event number u64),
chunks one of (hash 16 bytes, offset u64), for the blocks since the index block before. Chunks stand
before the first event that names them.

A file without END is incomplete: what precedes the cut is read by walking over the headers. A
header that checks but whose payload runs over the end of the file is a cut; a header that does not
check is damage, reported by block, unless nothing but zero bytes follows.
"""

from gputrace.trace.check import Report, check
from gputrace.trace.events import Chunk, Event, Header
from gputrace.trace.reader import Damage, Torn, TraceReader
from gputrace.trace.repair import Repaired, repair
from gputrace.trace.state import State
from gputrace.trace.text import event_line, trace_lines
from gputrace.trace.writer import TraceWriter

__all__ = [
    "Chunk", "Damage", "Event", "Header", "Repaired", "Report", "State", "Torn", "TraceReader",
    "TraceWriter", "check", "event_line", "repair", "trace_lines",
]  # fmt: skip
