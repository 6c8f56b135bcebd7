"""SDMA layouts against the bit positions of the kernel's packet headers.

`sdma_headers.txt` holds one field a line: for which versions (4 vega10, 5 navi10, 6 sdma_v6_0_0),
packet, dword, high bit, low bit, name; all without the broadcast forms for other swizzles.
"""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from gputrace.bits import Field
from gputrace.formats import sdma

VERSIONS = {"4": sdma.SDMA_4_4, "5": sdma.SDMA_5_2, "6": sdma.SDMA_6_0}
HEADERS: defaultdict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
for _line in (Path(__file__).parent / "sdma_headers.txt").read_text().splitlines():
    _versions, _packet, _dword, _high, _low, _name = _line.split()
    for _version in _versions:
        _first = 32 * int(_dword) + int(_low)
        _mask = ((2 << int(_high) - int(_low)) - 1) << _first
        HEADERS[_version, _packet].append((_first, _mask, _name))

# What other public sources add to these headers: ROCr's own (30 bits of a copy's count) and PAL's
# gfx10 header (cache policies of 5.2).
ADDED = {
    ("4", "CopyLinear"): {"count"},
    ("4", "CopyBroadcast"): {"count"},
    ("5", "CopyLinear"): {"count", "cpv", "dst_policy", "src_policy"},
    ("5", "CopyBroadcast"): {"count", "cpv", "dst1_policy", "dst2_policy", "src_policy"},
    ("5", "CopySubWindow"): {"cpv", "dst_policy", "src_policy"},
    ("5", "ConstantFill"): {"cpv", "policy"},
    ("5", "PollRegMem"): {"cpv", "policy"},
    ("5", "Atomic"): {"cpv", "policy"},
}
LAYOUTS = [
    pytest.param(version, cls, id=f"{version}-{cls.CONCEPT}")
    for version, dialect in VERSIONS.items()
    for cls in dialect.all
]


def rows(version: str, cls: type[sdma.Packet]) -> list[tuple[int, int, str]]:
    name = re.search(r"SDMA_PKT_([A-Z0-9_]+)", cls.SOURCE)
    assert name, f"{cls.__name__} names no packet of the headers"
    found = HEADERS[version, name[1]]
    assert found, f"{name[1]} is not in the headers of version {version}"
    return [row for row in found if row[2] != "data0"]


def aligned(field: Field) -> int:
    """The field with the low bits that its alignment leaves out."""
    return field.mask | (field.mask >> field.shift)


@pytest.mark.parametrize(("version", "cls"), LAYOUTS)
def test_every_field_lies_where_the_headers_have_it(version: str, cls: type[sdma.Packet]) -> None:
    covered = 0
    for _, mask, _ in rows(version, cls):
        covered |= mask
    added = ADDED.get((version, cls.CONCEPT), set())
    strange = {field.name for field in cls.FIELDS if field.mask & ~covered}
    # ATOMIC has no sub-opcode in the headers, and COPY_TILED no bit for its second form.
    assert strange - {"sub_opcode", "broadcast"} == added


@pytest.mark.parametrize(("version", "cls"), LAYOUTS)
def test_every_field_of_the_headers_is_declared(version: str, cls: type[sdma.Packet]) -> None:
    for first, mask, name in rows(version, cls):
        mine = [field for field in cls.FIELDS if aligned(field) & mask]
        if cls.UNSUPPORTED and (not mine or name == "addr_31_4"):
            continue  # declared by name and length, and by what leads to memory
        together = 0
        for field in mine:
            together |= aligned(field)
        assert not mask & ~together, f"{name} at bit {first}"
        assert len(mine) == 1 or name.startswith("gcr_control"), f"{name}: {mine}"


@pytest.mark.parametrize(("version", "cls"), LAYOUTS)
def test_a_layout_is_as_long_as_the_headers_say(version: str, cls: type[sdma.Packet]) -> None:
    last = max(first for first, _, name in rows(version, cls)) // 32 + 1
    metadata = 3 if cls.BY_NAME.get("dcc") and not cls.BY_NAME["dcc"].default else 0
    assert last - metadata == cls.WORDS
