"""SDMA opcodes and layouts against public packet headers, and what no dialect may be without.

`sdma_headers.txt` holds one field a line: for which versions (4 vega10_sdma_pkt_open.h, 5 navi10,
6 sdma_v6_0_0, 7 PAL's gfx12_merged_sdma_packets.h), packet, dword, high bit, low bit, name. Of 7
the page table packets are those of sdma_v6_0_0_pkt_open.h, which the kernel's driver for 7.0
sends; of 5, what navi10 lacks is from PAL's gfx10_merged_sdma_packets.h.
`sdma_opcodes.txt` holds one packet a line: versions, opcode, sub-opcode, the header's constant.
"""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from gputrace.bits import Field
from gputrace.formats import sdma

VERSIONS = {"4": sdma.SDMA_4_4, "5": sdma.SDMA_5_2, "6": sdma.SDMA_6_0, "7": sdma.SDMA_7_0}
HEADERS: defaultdict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
for _line in (Path(__file__).parent / "sdma_headers.txt").read_text().splitlines():
    _versions, _packet, _dword, _high, _low, _name = _line.split()
    for _version in _versions:
        _first = 32 * int(_dword) + int(_low)
        _mask = ((2 << int(_high) - int(_low)) - 1) << _first
        HEADERS[_version, _packet].append((_first, _mask, _name))

OPCODES = [
    pytest.param(version, int(op), int(sub), id=f"{version}-{name}")
    for line in (Path(__file__).parent / "sdma_opcodes.txt").read_text().splitlines()
    for versions, op, sub, name in [line.split()]
    for version in versions
]

# What other public sources add to these headers: ROCr's own (30 bits of a copy's count) and PAL's
# gfx10 header (cache policies of 5.2); on 7.0 ROCr's address space in a user's request, and the
# memory type that ROCr and the kernel put into each fence.
ADDED = {
    ("4", "CopyLinear"): {"count"},
    ("4", "CopyBroadcast"): {"count"},
    ("5", "CopyLinear"): {"count", "cpv", "dst_policy", "src_policy"},
    ("5", "CopyBroadcast"): {"count", "cpv", "dst1_policy", "dst2_policy", "src_policy"},
    ("5", "CopySubWindow"): {"cpv", "dst_policy", "src_policy"},
    ("5", "ConstantFill"): {"cpv", "policy"},
    ("5", "PollRegMem"): {"cpv", "policy"},
    ("5", "Atomic"): {"cpv", "policy"},
    ("7", "GcrRequest"): {"vmid"},
    ("7", "Fence"): {"mtype"},
}
# PAL's last dword, for GRBM_GFX_INDEX, which neither the kernel nor ROCr sends.
UNSENT = {("7", "PollRegMem"): 6, ("7", "RegisterWrite"): 3}
# Our names where they are not the header's, whose endings for halves are left out. (The kernel's
# headers for 4 and 5 call the ends of both ranges that POLL_MEM_VERIFY compares cmp1_end.)
OURS = {
    "addr": "address destination register",
    "addressrangelo": "range_low",
    "aperture_id": "aperture",
    "apertureid": "aperture",
    "atomic_op": "atomic",
    "base_va": "base",
    "broadcast": "all_dies broadcast",
    "byte_en": "byte_enable",
    "cache_policy": "policy",
    "cmp0_end": "first_end",
    "cmp0_start": "first_start",
    "cmp1_end": "first_end second_end",
    "cmp1_start": "second_start",
    "cmp_data": "compare",
    "count": "byte_count count",
    "csa_addr": "csa_address",
    "ddw": "wide",
    "dst1_addr": "destination",
    "dst1_cache_policy": "dst1_policy",
    "dst1_mall_policy": "dst1_mall",
    "dst1_sw": "dst1_swap",
    "dst2_addr": "destination_2",
    "dst2_cache_policy": "dst2_policy",
    "dst2_mall_policy": "dst2_mall",
    "dst2_sw": "dst2_swap",
    "dst_addr": "destination",
    "dst_cache_policy": "dst_policy",
    "dst_mall_policy": "dst_mall mall",
    "dst_sw": "dst_swap",
    "elementsize": "element_size",
    "fence_addr": "address",
    "fence_data": "data",
    "fence_ref_addr": "reference_address",
    "fillsize": "fill_size",
    "func": "function",
    "gcr_control": "control",
    "ib_base": "address",
    "ib_size": "dwords_there",
    "incr": "increment",
    "init": "initial",
    "init_data": "initial",
    "int_context_data": "int_context",
    "invalidatereq": "request",
    "limit_va": "limit",
    "linear_addr": "linear",
    "localmem_addr": "local",
    "mall_policy": "mall",
    "max_comp_block_size": "max_compressed_block",
    "max_uncomp_block_size": "max_uncompressed_block",
    "mem_poll": "in_memory",
    "memlog_clr": "memlog_clear",
    "meta_addr": "metadata",
    "mode": "hdp_flush mode",
    "num_of_pte": "entries",
    "op": "opcode",
    "page_num": "page_count",
    "per_vmid_inv_req": "vmids",
    "pte_addr": "page_table_entry",
    "read_compression_mode": "read_compression",
    "rec": "record",
    "sb_addr": "structured",
    "snp": "snoop",
    "src_addr": "address source",
    "src_cache_policy": "src_policy",
    "src_data": "data source",
    "src_mall_policy": "src_mall",
    "src_sw": "src_swap",
    "sub_op": "sub_opcode",
    "sw": "swap",
    "sysmem_addr": "system",
    "tiled_addr": "tiled",
    "tiled_addr0": "tiled_0",
    "tiled_addr1": "tiled_1",
    "value": "data reference value",
    "virtual_die_id": "die",
    "write_addr": "address",
    "write_compression_mode": "write_compression",
}
HALF = re.compile(r"(_\d+_\d+|_dw[01]|_lo|_hi)$")
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
    ends = 32 * min(UNSENT.get((version, cls.CONCEPT), 99), _end(version, cls, found))
    return [row for row in found if row[2] != "data0" and row[0] < ends]


def _end(version: str, cls: type[sdma.Packet], found: list[tuple[int, int, str]]) -> int:
    """The dwords of a packet, of which those about compression are there when `dcc` is."""
    whole = max(first for first, _, _ in found) // 32 + 1
    plain = "dcc" in cls.BY_NAME and not cls.BY_NAME["dcc"].default
    return whole - (1 if version == "7" else 3) if plain else whole


def aligned(field: Field) -> int:
    """The field with the low bits that its alignment leaves out."""
    return field.mask | (field.mask >> field.shift)


@pytest.mark.parametrize(("version", "cls"), LAYOUTS)
def test_every_field_lies_where_the_headers_have_it(version: str, cls: type[sdma.Packet]) -> None:
    covered = 0
    for first, mask, name in rows(version, cls):
        # an address from bit 2 on covers the bits that its alignment keeps zero
        covered |= mask | (mask >> first % 32 if "addr" in name else 0)
    added = ADDED.get((version, cls.CONCEPT), set())
    strange = {field.name for field in cls.FIELDS if field.mask & ~covered}
    # ATOMIC has no sub-opcode in the headers, and COPY_TILED no bit for its second form.
    assert strange - {"sub_opcode", "broadcast"} == added


@pytest.mark.parametrize(("version", "cls"), LAYOUTS)
def test_every_field_of_the_headers_is_declared(version: str, cls: type[sdma.Packet]) -> None:
    for first, mask, name in rows(version, cls):
        mine = [field for field in cls.FIELDS if field.mask & mask]
        if cls.UNSUPPORTED and (not mine or name == "addr_31_4"):
            continue  # declared by name and length, and by what leads to memory
        together = 0
        for field in mine:
            together |= aligned(field)
        assert not mask & ~together, f"{name} at bit {first}"
        assert len(mine) == 1 or name.startswith("gcr_control"), f"{name}: {mine}"
        plain = HALF.sub("", name)
        assert len(mine) > 1 or mine[0].name in OURS.get(plain, plain).split(), name


@pytest.mark.parametrize(("version", "cls"), LAYOUTS)
def test_a_layout_is_as_long_as_the_headers_say(version: str, cls: type[sdma.Packet]) -> None:
    last = max(first for first, _, name in rows(version, cls)) // 32 + 1
    assert last == cls.WORDS


@pytest.mark.parametrize(("version", "op", "sub"), OPCODES)
def test_every_opcode_of_the_headers_is_declared(version: str, op: int, sub: int) -> None:
    assert op | sub << 8 in VERSIONS[version].packets


@pytest.mark.parametrize("version", VERSIONS)
def test_no_opcode_is_declared_that_the_headers_lack(version: str) -> None:
    told = [case.values[1:] for case in OPCODES if case.values[0] == version]
    known = {op | sub << 8 for op, sub in told}
    # the cache request of users on 5.2 and 6.0 is in ROCr's sdma_registers.h only
    assert set(VERSIONS[version].packets) - known <= {17 | 1 << 8}
