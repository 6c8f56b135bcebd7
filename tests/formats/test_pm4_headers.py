"""PM4 opcodes and fields against the kernel's headers, soc15d.h (gfx9) and nvd.h (gfx10 to 12).

`pm4_headers.txt` holds one field a line: generations, packet, dword, high bit (- where the header
gives only a shift), low bit, name; or a packet's opcode.
`pm4_opcodes.txt` holds one packet a line that PAL's headers for compute queues have: generations,
opcode, name (gfx9_plus_merged and gfx12_merged f32_mec_pm4_packets.h and pm4_it_opcodes.h).
"""

from pathlib import Path

import pytest

from gputrace.formats import pm4

DIALECTS = {"9": pm4.PM4_GFX9, "10": pm4.PM4_GFX10, "11": pm4.PM4_GFX11, "12": pm4.PM4_GFX12}
ROWS = [
    (DIALECTS[generation], *row.split()[1:])
    for row in (Path(__file__).parent / "pm4_headers.txt").read_text().splitlines()
    for generation in row.split()[0].split(",")
]
PACKETS = {(dialect.name, cls.VENDOR_NAME): cls for dialect in pm4.DIALECTS for cls in dialect.all}
OPCODES = [(row[0], row[1], int(row[4])) for row in ROWS if row[2] == "opcode"]
FIELDS = [row for row in ROWS if row[2] != "opcode"]

# Where our name is not the header's: one name for the halves of an address, words for shorthand.
OURS = {
    "WRITE_DATA": {
        "addr_incr": "one_address",
        "dst_mem_addr_lo": "address",
        "dst_mem_addr_hi": "address",
    },
    "WAIT_REG_MEM": {
        "mem_space": "space",
        "mes_intr_pipe": "mes_interrupt_pipe",
        "mem_poll_addr_lo": "address",
        "mem_poll_addr_hi": "address",
        "poll_interval": "interval",
        "optimize_ace_offload_mode": "optimize_ace_offload",
    },
    "INDIRECT_BUFFER": {
        "ib_base_lo": "address",
        "ib_base_hi": "address",
        "ib_size": "dwords_there",
        "priv": "privileged",
    },
    "COPY_DATA": {
        "imm_data": "source",
        "src_memtc_addr_hi": "source",
        "dst_32b_addr_lo": "destination",
        "dst_addr_hi": "destination",
    },
    "EVENT_WRITE": {"samp_plst_cntr_mode": "pipestat_mode"},
    "SET_SH_REG": {"reg_offset": "offset"},
    "SET_UCONFIG_REG": {"reg_offset": "offset"},
    "ACQUIRE_MEM": {
        "coher_size": "size",
        "coher_size_hi": "size",
        "coher_base_lo": "base",
        "coher_base_hi": "base",
        "tc_inv_metadata": "inv_metadata",
    },
    "RELEASE_MEM": {"exec": "execute"},
    "PRED_EXEC": {"virtual_xcc_id_select": "xcc_select"},
}


@pytest.mark.parametrize(
    ("dialect", "packet", "opcode"), OPCODES, ids=lambda value: str(getattr(value, "name", value))
)
def test_opcodes_are_those_of_the_headers(
    dialect: pm4.Pm4Dialect, packet: str, opcode: int
) -> None:
    cls = PACKETS.get((dialect.name, packet))
    if cls is None:  # the header serves several generations; this packet is not on all of them
        assert any(name == packet for _, name in PACKETS)
    else:
        assert opcode == cls.OP


MEC_OPCODES = [
    (generation, int(opcode, 16), name)
    for line in (Path(__file__).parent / "pm4_opcodes.txt").read_text().splitlines()
    for generations, opcode, name in [line.split()]
    for generation in generations.split(",")
]


@pytest.mark.parametrize(("generation", "opcode", "name"), MEC_OPCODES)
def test_every_packet_of_compute_queues_is_declared(
    generation: str, opcode: int, name: str
) -> None:
    assert opcode == PACKETS[DIALECTS[generation].name, name].OP


@pytest.mark.parametrize(
    ("dialect", "packet", "dword", "high", "low", "name"),
    FIELDS,
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_fields_lie_where_the_headers_have_them(
    dialect: pm4.Pm4Dialect, packet: str, dword: str, high: str, low: str, name: str
) -> None:
    cls = PACKETS[dialect.name, packet]
    ours = OURS.get(packet, {}).get(name, name.replace("cache_policy", "policy"))
    field = cls.BY_NAME[ours]
    first = 32 * int(dword) + int(low)
    if high == "-":
        assert field.lo == first
        return
    last = 32 * int(dword) + int(high)
    assert field.lo <= first
    assert last < field.lo + field.width
    if last % 32 != 31:
        assert last == field.lo + field.width - 1
    if first % 32 not in (0, 2):
        assert first == field.lo
