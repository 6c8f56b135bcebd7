"""Offload bundles: files that hold code objects for several targets.

Source: clang/docs/ClangOffloadBundler.rst; for compressed bundles, clang OffloadBundler.cpp. Sizes
are checked before anything is decompressed.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import zstandard

from gputrace.code.elf import MAGIC, Elf
from gputrace.code.objects import EM_AMDGPU, GENERIC_MACHS
from gputrace.errors import DecodeError, UsageError
from gputrace.families import FAMILIES

PLAIN = b"__CLANG_OFFLOAD_BUNDLE__"
COMPRESSED = b"CCOB"
FATBIN_SECTION = ".hip_fatbin"
MAX_ENTRIES = 4096
MAX_PLAIN = 1 << 30
"""Bytes; a bundle that decompresses to more is refused."""
DEFAULT_SETTINGS = {"xnack": "-", "sramecc": "+"}
"""What a device has when a target id does not say (Linux amdgpu defaults)."""
_ZLIB, _ZSTD = 0, 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One code object of a bundle; `bundle` counts the bundles of the file."""

    id: str
    code: bytes
    bundle: int

    @property
    def target_id(self) -> str:
        """The processor and its features, such as "gfx90a:xnack-"; empty for host code."""
        at = self.id.find("gfx")
        return self.id[at:] if at >= 0 and self.id.startswith(("hip", "openmp")) else ""


def entries(data: bytes) -> Iterator[Entry]:
    """Yield what a bundle, a row of bundles or a host executable with bundles contains."""
    data = bytes(data)
    if data.startswith(MAGIC):
        found = Elf(data).section(FATBIN_SECTION)
        if found is None:
            raise UsageError(f"the executable has no section {FATBIN_SECTION}")
        data = found
    at = number = 0
    while True:
        at = _next(data, at)
        if at < 0:
            break
        if data.startswith(COMPRESSED, at):
            plain, size = _decompress(data, at)
            inner, _ = _entries(plain, 0, number)
        else:
            inner, size = _entries(data, at, number)
        yield from inner
        at += size
        number += 1
    if number == 0:
        raise UsageError("neither a code object nor an offload bundle")


def unbundle(data: bytes, target: str, index: int | None = None) -> bytes:
    """Find the code object for a target id such as "gfx942" or "gfx90a:xnack+".

    A bare code object is given back as it is. In a row of bundles (one per source file) `index`
    chooses among those with a match. Raises UsageError that lists what there is.
    """
    data = bytes(data)
    if data.startswith(MAGIC) and Elf(data).header.machine == EM_AMDGPU:
        return data
    best: dict[int, tuple[int, bytes]] = {}
    there: list[str] = []
    for entry in entries(data):
        there.append(entry.id)
        score = _match(entry.target_id, target)
        if score is not None and score > best.get(entry.bundle, (-1, b""))[0]:
            best[entry.bundle] = (score, entry.code)
    matches = [code for _, (_, code) in sorted(best.items())]
    if not matches:
        raise UsageError(f"no code object for {target}; there are {', '.join(there) or 'none'}")
    if index is None and len(matches) > 1:
        raise UsageError(f"{len(matches)} code objects for {target}; choose one by its index")
    if not 0 <= (index or 0) < len(matches):
        raise UsageError(f"code object {index} for {target} does not exist; {len(matches)} do")
    return matches[index or 0]


def _next(data: bytes, at: int) -> int:
    # Bundles are padded; the next one begins at the next magic.
    found = [place for magic in (PLAIN, COMPRESSED) if (place := data.find(magic, at)) >= 0]
    return min(found, default=-1)


def _entries(data: bytes, start: int, number: int) -> tuple[list[Entry], int]:
    # The entries of the plain bundle at `start`, and how many bytes it spans.
    at = start + len(PLAIN)
    if not data.startswith(PLAIN, start):
        raise DecodeError(f"byte {start}", data[start : start + 16], "no offload bundle")
    (count,) = _read("<Q", data, at)
    at += 8
    if count > MAX_ENTRIES:
        raise DecodeError(f"byte {at - 8}", count, f"more than {MAX_ENTRIES} entries")
    found, end = [], at
    for _ in range(count):
        offset, size, length = _read("<QQQ", data, at)
        at += 24
        if at + length > len(data) or start + offset + size > len(data):
            raise DecodeError(f"byte {at - 24}", offset, "bundle entry ends behind the file")
        name = data[at : at + length].decode("utf-8", "replace")
        at += length
        found.append(Entry(name, data[start + offset : start + offset + size], number))
        end = max(end, at, start + offset + size)
    return found, end - start


def _decompress(data: bytes, start: int) -> tuple[bytes, int]:
    # The plain bundle of the compressed one at `start`, and how many bytes that spans.
    version, method = _read("<HH", data, start + 4)
    if version == 1:
        size, digest = _read("<IQ", data, start + 8)
        header, total = 20, len(data) - start
    elif version == 2:
        total, size, digest = _read("<IIQ", data, start + 8)
        header = 24
    elif version == 3:
        total, size, digest = _read("<QQQ", data, start + 8)
        header = 32
    else:
        raise DecodeError(f"byte {start + 4}", version, "unknown version of a compressed bundle")
    if not header <= total <= len(data) - start:
        raise DecodeError(f"byte {start}", total, "compressed bundle ends behind the file")
    if size > MAX_PLAIN:
        raise DecodeError(f"byte {start}", size, f"decompresses to more than {MAX_PLAIN} bytes")
    plain = _inflate(method, data[start + header : start + total], size, start)
    if len(plain) != size:
        raise DecodeError(f"byte {start}", size, "decompresses to another size than it says")
    if hashlib.md5(plain, usedforsecurity=False).digest()[:8] != struct.pack("<Q", digest):
        raise DecodeError(f"byte {start}", digest, "checksum of the compressed bundle differs")
    return plain, total if version > 1 else header


def _inflate(method: int, payload: bytes, size: int, start: int) -> bytes:
    # At most one byte more than announced, so that a bomb shows and does not explode.
    try:
        if method == _ZLIB:
            return zlib.decompressobj().decompress(payload, size + 1)
        if method == _ZSTD:
            reader = zstandard.ZstdDecompressor().stream_reader(BytesIO(payload))
            return bytes(reader.read(size + 1))
    except (zlib.error, zstandard.ZstdError) as problem:
        raise DecodeError(f"byte {start}", payload[:16], f"cannot decompress: {problem}") from None
    raise DecodeError(f"byte {start + 6}", method, "unknown compression method")


def _read(layout: str, data: bytes, at: int) -> tuple[int, ...]:
    size = struct.calcsize(layout)
    if at + size > len(data):
        raise DecodeError(f"byte {at}", data[at:], "bundle ends in the middle of its header")
    return struct.unpack_from(layout, data, at)


def _parts(target_id: str) -> tuple[str, dict[str, str]]:
    processor, *features = target_id.split(":")
    return processor, {text[:-1]: text[-1] for text in features if text}


def _match(offered: str, wanted: str) -> int | None:
    # How well an entry suits: None not at all, else the more the more specific it is.
    processor, needs = _parts(offered)
    target, settings = _parts(wanted)
    device = DEFAULT_SETTINGS | settings
    if any(device.get(name) != setting for name, setting in needs.items()):
        return None
    if processor == target:
        return 100 + len(needs)
    family = FAMILIES.get(target)
    generic = {GENERIC_MACHS[mach] for mach in family.generic_machs} if family else set()
    return len(needs) if processor in generic else None
