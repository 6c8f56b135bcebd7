import struct

import pytest
import xxhash
import zstandard

from gputrace.errors import TraceError
from gputrace.trace import blocks
from gputrace.trace.blocks import BlockKind, Codec


def packed(payload: bytes, kind: BlockKind = BlockKind.EVENTS, level: int = 1) -> bytes:
    head, stored = blocks.pack_block(kind, payload, 3, b"t" * 16, level)
    return head + bytes(stored)


@pytest.mark.parametrize("payload", [b"", b"x", b"abc" * 1000, bytes(1 << 20)])
@pytest.mark.parametrize("level", [0, 1])
def test_a_block_comes_back(payload: bytes, level: int) -> None:
    data = packed(payload, level=level)
    header = blocks.unpack_header(data, 16)
    assert (header.kind, header.sequence, header.tag) == (BlockKind.EVENTS, 3, b"t" * 16)
    assert header.end == 16 + len(data)
    assert blocks.unpack_payload(header, data[blocks.HEADER_SIZE :]) == payload


def unpacked(data: bytes) -> bytes:
    header = blocks.unpack_header(data, 0)
    return blocks.unpack_payload(header, data[blocks.HEADER_SIZE :])


def test_every_bit_of_a_block_is_covered_by_a_checksum() -> None:
    data = packed(b"abc" * 100)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TraceError):
            unpacked(bytes(changed))


def test_every_bit_of_the_preamble_is_covered() -> None:
    data = blocks.pack_preamble()
    assert blocks.check_preamble(data) == 1
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TraceError):
            blocks.check_preamble(bytes(changed))


def test_a_newer_file_version_is_refused_by_number() -> None:
    with pytest.raises(TraceError, match="file version 2, this gputrace reads up to 1"):
        blocks.check_preamble(blocks.pack_preamble(2))


def forged(payload: bytes, length: int, codec: Codec = Codec.ZSTD) -> tuple[bytes, bytes]:
    head = blocks.HEAD.pack(
        blocks.BLOCK_MAGIC, BlockKind.EVENTS, codec, 0, len(payload), length, 0, bytes(16),
        xxhash.xxh3_64_intdigest(payload),
    )  # fmt: skip
    return head + struct.pack("<Q", xxhash.xxh3_64_intdigest(head)), payload


def test_a_decompression_bomb_is_refused_before_it_is_opened() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 30))
    head, stored = forged(bomb, 1 << 20)
    with pytest.raises(TraceError, match="zstd frame of 1073741824"):
        blocks.unpack_payload(blocks.unpack_header(head, 0), stored)


def test_a_frame_that_hides_its_size_is_refused() -> None:
    squeeze = zstandard.ZstdCompressor(write_content_size=False)
    head, stored = forged(squeeze.compress(bytes(1 << 20)), 1 << 20)
    with pytest.raises(TraceError, match="zstd frame"):
        blocks.unpack_payload(blocks.unpack_header(head, 0), stored)


@pytest.mark.parametrize(
    ("payload", "length", "codec"),
    [
        (b"x" * 10, (1 << 20) + 1, Codec.ZSTD),
        (b"x" * 10, 9, Codec.ZSTD),
        (b"x" * 10, 11, Codec.RAW),
        (b"not zstd at all", 100, Codec.ZSTD),
        (zstandard.ZstdCompressor().compress(b"a" * 100) + b"more", 100, Codec.ZSTD),
    ],
)
def test_lengths_that_lie_are_refused(payload: bytes, length: int, codec: Codec) -> None:
    head, stored = forged(payload, length, codec)
    with pytest.raises(TraceError):
        blocks.unpack_payload(blocks.unpack_header(head, 0), stored)


def test_a_block_that_is_too_large_is_not_written() -> None:
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        packed(bytes((1 << 20) + 1))


def test_repacking_changes_the_sequence_only() -> None:
    data = packed(b"abc" * 100)
    header = blocks.unpack_header(data, 0)
    again = blocks.unpack_header(blocks.repack_header(header, 9, header.tag), 0)
    assert again.sequence == 9
    assert (again.checksum, again.tag, again.stored) == (header.checksum, header.tag, header.stored)
