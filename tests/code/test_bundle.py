"""Offload bundles, plain and compressed, written here by hand from their description."""

import hashlib
import random
import struct
import zlib
from pathlib import Path

import pytest
import zstandard

from gputrace.code import entries, unbundle
from gputrace.errors import DecodeError, UsageError

DATA = Path(__file__).parent / "data"
HOST = "host-x86_64-unknown-linux-gnu-"


def bundle(codes: dict[str, bytes]) -> bytes:
    names = [name.encode() for name in codes]
    at = 24 + 8 + sum(24 + len(name) for name in names)
    head, body = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(codes)), b""
    for name, code in zip(names, codes.values(), strict=True):
        head += struct.pack("<QQQ", at + len(body), len(code), len(name)) + name
        body += code
    return head + body


def compress(plain: bytes, version: int, method: int) -> bytes:
    payload = zlib.compress(plain) if method == 0 else zstandard.ZstdCompressor().compress(plain)
    digest = hashlib.md5(plain).digest()[:8]
    head = b"CCOB" + struct.pack("<HH", version, method)
    if version == 1:
        return head + struct.pack("<I", len(plain)) + digest + payload
    layout, size = ("<II", 24) if version == 2 else ("<QQ", 32)
    return head + struct.pack(layout, size + len(payload), len(plain)) + digest + payload


PLAIN = bundle(
    {
        HOST: b"",
        "hipv4-amdgcn-amd-amdhsa--gfx942": b"nine",
        "hip-amdgcn-amd-amdhsa--gfx1100": b"eleven",
        "hipv4-amdgcn-amd-amdhsa--gfx90a:xnack+": b"plus",
        "hipv4-amdgcn-amd-amdhsa--gfx90a:sramecc+:xnack-": b"minus",
        "hipv4-amdgcn-amd-amdhsa--gfx12-generic": b"generic",
    }
)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("gfx942", b"nine"),
        ("gfx942:xnack+", b"nine"),
        ("gfx1100", b"eleven"),
        ("gfx90a", b"minus"),
        ("gfx90a:xnack+", b"plus"),
        ("gfx1201", b"generic"),
    ],
)
def test_the_entry_that_suits_best_is_found(target: str, code: bytes) -> None:
    assert unbundle(PLAIN, target) == code


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("method", [0, 1])
def test_compressed_bundles_of_all_versions(version: int, method: int) -> None:
    assert unbundle(compress(PLAIN, version, method), "gfx942") == b"nine"


def test_a_row_of_bundles_needs_an_index() -> None:
    other = bundle({"hipv4-amdgcn-amd-amdhsa--gfx942": b"second"})
    row = PLAIN + bytes(100) + compress(other, 2, 1) + bytes(7) + compress(other, 3, 0)
    with pytest.raises(UsageError, match="3 code objects for gfx942"):
        unbundle(row, "gfx942")
    assert [unbundle(row, "gfx942", i) for i in range(3)] == [b"nine", b"second", b"second"]
    with pytest.raises(UsageError, match="code object 3 for gfx942 does not exist"):
        unbundle(row, "gfx942", 3)
    assert [entry.bundle for entry in entries(row)][-2:] == [1, 2]


def host_executable(section: bytes) -> bytes:
    names = b"\0.hip_fatbin\0.names\0"
    at, names_at = 64, 64 + len(section)
    table = names_at + len(names)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    rows = bytes(64)
    rows += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, at, len(section), 0, 0, 1, 0)
    rows += struct.pack("<IIQQQQIIQQ", 13, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return head + section + names + rows


def test_host_executables_carry_bundles_in_a_section() -> None:
    assert unbundle(host_executable(PLAIN), "gfx1100") == b"eleven"
    stripped = host_executable(PLAIN).replace(b".hip_fatbin", b".zzz_fatbin")
    with pytest.raises(UsageError, match=r"no section \.hip_fatbin"):
        unbundle(stripped, "gfx1100")


def test_a_bare_code_object_is_given_back() -> None:
    data = (DATA / "gfx942.co").read_bytes()
    assert unbundle(data, "gfx942") == data


def test_what_is_missing_is_told() -> None:
    with pytest.raises(UsageError, match="no code object for gfx1030; there are host-x86_64"):
        unbundle(PLAIN, "gfx1030")
    with pytest.raises(UsageError, match="neither a code object nor an offload bundle"):
        unbundle(b"hello", "gfx942")


def test_a_bomb_is_refused_before_it_explodes() -> None:
    bomb = bytearray(compress(bytes(1 << 20), 3, 1))
    bomb[16:24] = struct.pack("<Q", 1 << 40)
    with pytest.raises(DecodeError, match="decompresses to more than"):
        unbundle(bytes(bomb), "gfx942")
    bomb[16:24] = struct.pack("<Q", 100)
    with pytest.raises(DecodeError, match="another size"):
        unbundle(bytes(bomb), "gfx942")


def test_damage_gives_declared_errors_only() -> None:
    rng = random.Random(5)
    samples = [PLAIN, host_executable(PLAIN)]
    samples += [compress(PLAIN, v, m) for v in (1, 2, 3) for m in (0, 1)]
    refused = 0
    for data in samples:
        for _ in range(150):
            wrong = bytearray(data[: rng.randrange(len(data)) if rng.random() < 0.3 else None])
            if wrong:
                wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
            try:
                unbundle(bytes(wrong), "gfx942")
            except (DecodeError, UsageError):
                refused += 1
    assert refused > 300
