"""Register addresses against Mesa's names and the kernel's headers, bits against literals.

`register_offsets.txt` holds one register a line: generations, name, segment, offset in dwords, as
in the kernel's gc_9_4_2_offset.h, gc_9_4_3, gc_10_3_0, gc_11_0_0 and gc_12_0_0.
"""

import random
from pathlib import Path

import pytest

from gputrace.errors import DefinitionError
from gputrace.formats import registers
from gputrace.formats.registers import TABLES, RegisterTable

# Mesa src/amd/registers: R_00B800_COMPUTE_DISPATCH_INITIATOR and so on; byte addresses.
MESA = {
    "COMPUTE_DISPATCH_INITIATOR": 0xB800,
    "COMPUTE_DIM_X": 0xB804,
    "COMPUTE_DIM_Z": 0xB80C,
    "COMPUTE_START_X": 0xB810,
    "COMPUTE_NUM_THREAD_X": 0xB81C,
    "COMPUTE_NUM_THREAD_Y": 0xB820,
    "COMPUTE_NUM_THREAD_Z": 0xB824,
    "COMPUTE_PIPELINESTAT_ENABLE": 0xB828,
    "COMPUTE_PERFCOUNT_ENABLE": 0xB82C,
    "COMPUTE_PGM_LO": 0xB830,
    "COMPUTE_PGM_HI": 0xB834,
    "COMPUTE_DISPATCH_PKT_ADDR_LO": 0xB838,
    "COMPUTE_DISPATCH_SCRATCH_BASE_LO": 0xB840,
    "COMPUTE_DISPATCH_SCRATCH_BASE_HI": 0xB844,
    "COMPUTE_PGM_RSRC1": 0xB848,
    "COMPUTE_PGM_RSRC2": 0xB84C,
    "COMPUTE_VMID": 0xB850,
    "COMPUTE_RESOURCE_LIMITS": 0xB854,
    "COMPUTE_STATIC_THREAD_MGMT_SE0": 0xB858,
    "COMPUTE_STATIC_THREAD_MGMT_SE1": 0xB85C,
    "COMPUTE_TMPRING_SIZE": 0xB860,
    "COMPUTE_STATIC_THREAD_MGMT_SE2": 0xB864,
    "COMPUTE_STATIC_THREAD_MGMT_SE3": 0xB868,
    "COMPUTE_RESTART_X": 0xB86C,
    "COMPUTE_THREAD_TRACE_ENABLE": 0xB878,
    "COMPUTE_MISC_RESERVED": 0xB87C,
    "COMPUTE_USER_DATA_0": 0xB900,
    "COMPUTE_USER_DATA_15": 0xB93C,
    "GRBM_GFX_INDEX": 0x30800,
}
MESA_PER_TABLE = {
    "gfx90a": {"COMPUTE_PGM_RSRC3": 0xB8B4, "COMPUTE_STATIC_THREAD_MGMT_SE4": 0xB894},
    "gfx942": {"COMPUTE_PGM_RSRC3": 0xB8B4, "COMPUTE_TG_CHUNK_SIZE": 0xB89C},
    "gfx10.3": {
        "COMPUTE_PGM_RSRC3": 0xB8A0,
        "COMPUTE_REQ_CTRL": 0xB888,
        "COMPUTE_USER_ACCUM_0": 0xB890,
        "COMPUTE_DISPATCH_TUNNEL": 0xB9F4,
    },
    "gfx11": {
        "COMPUTE_PGM_RSRC3": 0xB8A0,
        "COMPUTE_STATIC_THREAD_MGMT_SE4": 0xB8AC,
        "COMPUTE_DISPATCH_INTERLEAVE": 0xB8BC,
        "COMPUTE_USER_ACCUM_3": 0xB89C,
    },
    "gfx12": {
        "COMPUTE_PGM_RSRC3": 0xB8A0,
        "COMPUTE_STATIC_THREAD_MGMT_SE8": 0xB88C,
        "COMPUTE_DISPATCH_INTERLEAVE": 0xB8BC,
    },
}


# Where segments begin, in dwords: the kernel's aldebaran_ip_offset.h, navi10_ip_offset.h GC_BASE
SEGMENTS = {"gfx90a": (0x2000, 0xA000), "gfx942": (0x2000, 0xA000)}
NAVI = (0x1260, 0xA000)
OFFSETS = [
    (label, name, int(segment), int(offset, 16))
    for line in (Path(__file__).parent / "register_offsets.txt").read_text().splitlines()
    for labels, name, segment, offset in [line.split()]
    for label in labels.split(",")
]


@pytest.mark.parametrize("label", TABLES)
def test_every_address_is_that_of_the_kernels_headers(label: str) -> None:
    base = SEGMENTS.get(label, NAVI)
    kernel = {name: base[at] + offset for told, name, at, offset in OFFSETS if told == label}
    assert kernel == dict(TABLES[label].addresses)


@pytest.mark.parametrize("label", TABLES)
def test_addresses_are_those_in_mesas_names(label: str) -> None:
    table = TABLES[label]
    for name, byte in (MESA | MESA_PER_TABLE[label]).items():
        assert table.address(name) * 4 == byte, name
        assert table.name(byte // 4) == name


def test_what_a_generation_lacks_has_no_address() -> None:
    assert "COMPUTE_REQ_CTRL" not in registers.GFX942
    assert "COMPUTE_TG_CHUNK_SIZE" not in registers.GFX90A
    assert registers.GFX90A.name(0x2E28) == "COMPUTE_STATIC_THREAD_MGMT_SE7"
    with pytest.raises(KeyError):
        registers.GFX10.address("COMPUTE_DISPATCH_INTERLEAVE")


# Register, value, what its bits mean: worked out by hand from the vendor's tables.
@pytest.mark.parametrize(
    ("label", "name", "value", "meaning"),
    [
        (
            "gfx942",
            "COMPUTE_DISPATCH_INITIATOR",
            0x21,
            {"compute_shader_en": 1, "use_thread_dimensions": 1},
        ),
        (
            "gfx11",
            "COMPUTE_DISPATCH_INITIATOR",
            0x8005,
            {"compute_shader_en": 1, "force_start_at_000": 1, "cs_w32_en": 1},
        ),
        (
            "gfx942",
            "COMPUTE_PGM_RSRC1",
            0x00AF0042,
            {"vgprs": 2, "sgprs": 1, "dx10_clamp": 1, "ieee_mode": 1, "float_denorm_mode_32": 3},
        ),
        ("gfx11", "COMPUTE_PGM_RSRC1", 0xE0000000, {"wgp_mode": 1, "mem_ordered": 1}),
        (
            "gfx12",
            "COMPUTE_PGM_RSRC2",
            0x80001384,
            {"user_sgpr": 2, "tgid_x_en": 1, "tgid_z_en": 1, "tidig_comp_cnt": 2},
        ),
        ("gfx90a", "COMPUTE_PGM_RSRC2", 0x00FF8000, {"lds_size": 511}),
        ("gfx90a", "COMPUTE_PGM_RSRC3", 0x0001003F, {"accum_offset": 63, "tg_split": 1}),
        ("gfx11", "COMPUTE_PGM_RSRC3", 0x800003F0, {"inst_pref_size": 63, "image_op": 1}),
        ("gfx12", "COMPUTE_PGM_RSRC3", 0x00002FF0, {"inst_pref_size": 255, "glg_en": 1}),
        ("gfx942", "COMPUTE_TMPRING_SIZE", 0x01FFF123, {"waves": 0x123, "wavesize": 0x1FFF}),
        ("gfx11", "COMPUTE_TMPRING_SIZE", 0x07FFF123, {"waves": 0x123, "wavesize": 0x7FFF}),
        ("gfx12", "COMPUTE_TMPRING_SIZE", 0x3FFFF123, {"waves": 0x123, "wavesize": 0x3FFFF}),
        ("gfx12", "COMPUTE_NUM_THREAD_Y", 0x0007E100, {"num_thread_full": 0x100}),
        ("gfx10.3", "GRBM_GFX_INDEX", 0xE0000000, {"se_broadcast_writes": 1}),
    ],
)
def test_bits_mean_what_the_vendor_says(
    label: str, name: str, value: int, meaning: dict[str, int]
) -> None:
    layout = TABLES[label].layout(name)
    assert layout is not None
    record = layout.decode([value])
    assert {field: getattr(record, field) for field in meaning} == meaning
    assert record.encode() == [value]


@pytest.mark.parametrize("label", TABLES)
def test_any_value_of_any_register_survives_decode_and_encode(label: str) -> None:
    rng = random.Random(7)
    table = TABLES[label]
    for name, address in table.addresses.items():
        for value in (0, 0xFFFFFFFF, rng.getrandbits(32)):
            record = table.decode(address, value)
            assert record is None or record.encode() == [value], name


def test_all_registers_that_a_dispatch_writes_have_layouts() -> None:
    wanted = (
        "DISPATCH_INITIATOR DIM_X START_Y NUM_THREAD_Z PGM_LO PGM_HI PGM_RSRC1 PGM_RSRC2 PGM_RSRC3 "
        "TMPRING_SIZE DISPATCH_SCRATCH_BASE_LO DISPATCH_SCRATCH_BASE_HI RESTART_X RESOURCE_LIMITS "
        "USER_DATA_15 PIPELINESTAT_ENABLE PERFCOUNT_ENABLE STATIC_THREAD_MGMT_SE3"
    )
    for table in TABLES.values():
        for name in wanted.split():
            assert table.layout(f"COMPUTE_{name}") is not None, (table, name)


def test_registers_describe_themselves() -> None:
    assert registers.GFX942.describe(0x2E0C, 0x10) == "COMPUTE_PGM_LO = 0x10 AddressLo(data=0x10)"
    assert registers.GFX942.describe(0x2E20, 3) == "COMPUTE_DISPATCH_ID = 0x3"
    assert registers.GFX942.describe(0x1234, 3) == "register 0x1234 = 0x3"
    assert repr(registers.GFX10).startswith("<registers gfx10.3: ")
    assert registers.GFX942.decode(0x1234, 3) is None


def test_two_registers_at_one_address_are_a_mistake() -> None:
    with pytest.raises(DefinitionError, match="B and A are both at 0x10"):
        RegisterTable("bad", {"A": 0x10, "B": 0x10}, {})
    with pytest.raises(DefinitionError, match="C has a layout but no address"):
        RegisterTable("bad", {"A": 0x10}, {"C": registers.Count})
