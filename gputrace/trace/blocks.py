"""Frame blocks: a fixed header with checksums around bytes that are compressed one block at a time.

The layout is written down in the docstring of the package. Nothing here knows what a block means;
this module packs and unpacks headers and payloads and refuses what does not fit its limits before
anything of the size that the file claims is allocated.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import xxhash
import zstandard

from gputrace.errors import TraceError

PREAMBLE_MAGIC = b"\x89gtrace\n"
VERSION = 1
PREAMBLE = struct.Struct("<8sII")
PREAMBLE_SIZE = PREAMBLE.size

BLOCK_MAGIC = b"\xb5GTB"
HEAD = struct.Struct("<4sBBHIIQ16sQ")
CHECK = struct.Struct("<Q")
HEADER_SIZE = HEAD.size + CHECK.size

MAX_LENGTH = 1 << 20
"""Most bytes that a block may hold before compression."""
CHUNK_SIZE = 1 << 16
"""Most bytes of memory in one chunk; chunks end at addresses that are multiples of this."""
COMPRESS_FROM = 128
"""Payloads shorter than this many bytes are stored as they are."""
MAX_EVENTS = 1 << 62
"""Bound on event numbers and on every other count that a file states."""

NO_TAG = bytes(16)
_PAIR = struct.Struct("<QII")


class BlockKind(IntEnum):
    """What a block holds; the number stands in the file."""

    EVENTS = 1
    CHUNK = 2
    KEYFRAME = 3
    INDEX = 4
    TRAILER = 5
    END = 6


class Codec(IntEnum):
    """How the payload of a block is stored."""

    RAW = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The header of a block: where it stands and what it claims about its payload."""

    offset: int
    kind: BlockKind
    codec: Codec
    stored: int
    length: int
    sequence: int
    tag: bytes
    checksum: int

    @property
    def end(self) -> int:
        """Give the byte offset of the first byte after the block."""
        return self.offset + HEADER_SIZE + self.stored

    @property
    def where(self) -> str:
        """Name the block for a message."""
        return f"block {self.sequence} ({self.kind.name.lower()}, byte {self.offset})"


def number_tag(number: int, first: int = 0, second: int = 0) -> bytes:
    """Pack the tag of a block that carries a 64-bit number and two 32-bit ones."""
    return _PAIR.pack(number, first, second)


def tag_numbers(tag: bytes) -> tuple[int, int, int]:
    """Unpack what `number_tag` packed."""
    number, first, second = _PAIR.unpack(tag)
    return number, first, second


def event_range(header: BlockHeader) -> tuple[int, int]:
    """Give the number of the first event of an event block, and how many events it holds."""
    first, count, _ = tag_numbers(header.tag)
    if first > MAX_EVENTS:
        raise TraceError(header.where, f"it begins with event {first}, limit {MAX_EVENTS}")
    return first, count


def pack_preamble(version: int = VERSION) -> bytes:
    """Give the first bytes of a file: magic, version, checksum of both."""
    head = struct.pack("<8sI", PREAMBLE_MAGIC, version)
    return head + struct.pack("<I", xxhash.xxh3_64_intdigest(head) & 0xFFFFFFFF)


def check_preamble(data: bytes) -> int:
    """Give the version of the file that begins with `data`; raise TraceError when it has none."""
    where = "byte 0 (preamble)"
    if len(data) < PREAMBLE_SIZE:
        raise TraceError(where, f"{len(data)} bytes are too few for a .gtrace file", damage=False)
    magic, version, checksum = PREAMBLE.unpack(data[:PREAMBLE_SIZE])
    if magic != PREAMBLE_MAGIC:
        raise TraceError(where, f"not a .gtrace file: it begins with {magic.hex()}", damage=False)
    if checksum != xxhash.xxh3_64_intdigest(data[:12]) & 0xFFFFFFFF:
        raise TraceError(where, "the checksum of the preamble is wrong", damage=False)
    if version != VERSION:
        text = f"file version {version}, this gputrace reads up to {VERSION}"
        raise TraceError(where, text, damage=False)
    return int(version)


@lru_cache(maxsize=4)
def _compressor(level: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)


@lru_cache(maxsize=1)
def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=1 << 23)


Bytes = bytes | bytearray | memoryview


def pack_block(
    kind: BlockKind, payload: Bytes, sequence: int, tag: bytes = NO_TAG, level: int = 1
) -> tuple[bytes, Bytes]:
    """Give the header and the stored payload of a block; `level` is zstd's, 0 stores raw."""
    length = len(payload)
    if length > MAX_LENGTH:
        raise ValueError(f"a block holds at most {MAX_LENGTH} bytes, not {length}")
    codec, stored = Codec.RAW, payload
    if level != 0 and length >= COMPRESS_FROM:
        smaller = _compressor(level).compress(payload)
        if len(smaller) < length:
            codec, stored = Codec.ZSTD, smaller
    checksum = xxhash.xxh3_64_intdigest(stored)
    head = HEAD.pack(BLOCK_MAGIC, kind, codec, 0, len(stored), length, sequence, tag, checksum)
    return head + CHECK.pack(xxhash.xxh3_64_intdigest(head)), stored


def repack_header(header: BlockHeader, sequence: int, tag: bytes) -> bytes:
    """Give the header of the same block under another sequence number and tag."""
    head = HEAD.pack(
        BLOCK_MAGIC,
        header.kind,
        header.codec,
        0,
        header.stored,
        header.length,
        sequence,
        tag,
        header.checksum,
    )
    return head + CHECK.pack(xxhash.xxh3_64_intdigest(head))


def unpack_header(data: bytes, offset: int) -> BlockHeader:
    """Read the header in `data` that stands at `offset` of the file; raise TraceError if none."""
    where = f"byte {offset}"
    magic, kind, codec, reserved, stored, length, sequence, tag, checksum = HEAD.unpack_from(data)
    if magic != BLOCK_MAGIC:
        raise TraceError(where, f"no block begins here (found {magic.hex()})")
    (check,) = CHECK.unpack_from(data, HEAD.size)
    if check != xxhash.xxh3_64_intdigest(data[: HEAD.size]):
        raise TraceError(where, "the checksum of the block's header is wrong")
    if kind not in _KINDS or codec not in _CODECS or reserved:
        raise TraceError(where, f"block of unknown kind {kind}, codec {codec}, flags {reserved:#x}")
    limit = CHUNK_SIZE if kind == BlockKind.CHUNK else MAX_LENGTH
    if length > limit or stored > length:
        raise TraceError(where, f"block claims {stored} stored of {length} bytes, limit {limit}")
    return BlockHeader(
        offset, BlockKind(kind), Codec(codec), stored, length, sequence, tag, checksum
    )


_KINDS = frozenset(int(kind) for kind in BlockKind)
_CODECS = frozenset(int(codec) for codec in Codec)


def unpack_payload(header: BlockHeader, stored: bytes) -> bytes:
    """Check and decompress the stored payload of a block; raise TraceError naming the block."""
    if len(stored) != header.stored:
        raise TraceError(header.where, f"cut: {len(stored)} of {header.stored} bytes are there")
    if xxhash.xxh3_64_intdigest(stored) != header.checksum:
        raise TraceError(header.where, "the checksum of the payload is wrong")
    if header.codec is Codec.RAW:
        if header.length != header.stored:
            raise TraceError(header.where, "raw payload with two lengths")
        return stored
    # The frame states its own size, and the decompressor believes it: compare before asking.
    try:
        claimed = zstandard.frame_content_size(stored)
        if claimed != header.length:
            raise TraceError(header.where, f"zstd frame of {claimed}, header says {header.length}")
        payload = bytes(_decompressor().decompress(stored, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise TraceError(header.where, f"cannot decompress: {error}") from error
    if len(payload) != header.length:
        raise TraceError(header.where, f"{len(payload)} bytes came out of {header.length}")
    return payload
