"""PM4 layouts against PAL's headers for compute queues: place, width, name and length.

`pm4_fields.txt` holds one field a line: generations, packet, dword, high bit, low bit, name; or a
packet's length in dwords. Of gfx12 they are from gfx12_merged_f32_mec_pm4_packets.h, of the others
from gfx9_plus_merged_f32_mec_pm4_packets.h, of which gfx9 was a part until the spring of 2024.
"""

from collections import defaultdict
from pathlib import Path

import pytest

from gputrace.bits import Field
from gputrace.formats import pm4

DIALECTS = {"9": pm4.PM4_GFX9, "10": pm4.PM4_GFX10, "11": pm4.PM4_GFX11, "12": pm4.PM4_GFX12}
PACKETS = {(dialect.name, cls.VENDOR_NAME): cls for dialect in pm4.DIALECTS for cls in dialect.all}
ROWS: defaultdict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
SIZES: dict[tuple[str, str], int] = {}
for _line in (Path(__file__).parent / "pm4_fields.txt").read_text().splitlines():
    _generations, _packet, *_row = _line.split()
    for _generation in _generations.split(","):
        if _row[0] == "size":
            SIZES[_generation, _packet] = int(_row[1])
        else:
            _first = 32 * int(_row[0]) + int(_row[2])
            _mask = ((2 << int(_row[1]) - int(_row[2])) - 1) << _first
            ROWS[_generation, _packet].append((_first, _mask, _row[3]))
# With an address the header's packet is one of its own here.
for _generation in DIALECTS:
    ROWS[_generation, "EVENT_WRITE_ADDRESS"] = ROWS[_generation, "EVENT_WRITE"]
    SIZES[_generation, "EVENT_WRITE_ADDRESS"] = SIZES[_generation, "EVENT_WRITE"]

# Our names where they are not the header's, in one packet or in all; an address has two halves.
OURS = {
    "ACQUIRE_MEM": {"poll_interval": "poll_interval"},
    "COND_INDIRECT_BUFFER": {
        "compare_addr": "compare_address",
        "ib_base1": "address_1",
        "ib_base2": "address_2",
        "ib_size1": "dwords_1",
        "ib_size2": "dwords_2",
        "policy1": "policy_1",
        "policy2": "policy_2",
    },
    "DISPATCH_TASKMESH_INDIRECT_MULTI_ACE": {"count": "most"},
    "INVALIDATE_TLBS": {
        "gfx_flush_type": "flush_type",
        "invalidate_sel": "dst_sel",
        "mmhub_invalidate_sel": "mmhub",
    },
    "LOAD_SH_REG_INDEX": {"num_dwords": "registers"},
    "PRIME_UTCL2": {
        "cache_perm": "permissions",
        "prime_mode": "wait",
        "requested_pages": "pages",
    },
    "RELEASE_MEM": {
        "address_lo_32b": "address",
        "address_lo_64b": "address",
        "cmp_data": "data",
        "dw_offset": "data",
        "num_dwords": "data",
        "mes_action_id": "mes_action",
        "pq_exe_status": "execute",
    },
    "TIMESTAMP": {
        "clock_sel": "soc_clock",
        "enable_bottom": "bottom",
        "enable_top": "top",
        "pipe_bot_addr": "bottom_address",
        "pipe_top_addr": "top_address",
    },
    "WRITE_DATA": {"dst_gds_addr": "address"},
}
ANYWHERE = {
    "addr": "address",
    "addr_incr": "one_address",
    "cmp_data": "compare",
    "coher_base": "base",
    "coher_size": "size",
    "cond_acquire_mem": "conditional_acquire",
    "control_buf_addr": "address",
    "count_addr": "count_address",
    "data_addr": "address",
    "defer_exec": "defer",
    "dispatch_initiator": "initiator",
    "dst_32b_addr": "destination",
    "dst_64b_addr": "destination",
    "dst_addr": "destination",
    "dst_gds_addr": "destination",
    "dst_mem_addr": "address",
    "dst_mmreg_addr": "address",
    "dst_reg_offset": "destination",
    "ib_base": "address",
    "ib_size": "dwords_there",
    "imm_data": "source",
    "mem_addr": "address",
    "mem_poll_addr": "address",
    "mem_space": "space",
    "mes_intr_pipe": "mes_interrupt_pipe",
    "op": "operation",
    "optimize_ace_offload_mode": "optimize_ace_offload",
    "pmc_en": "enable",
    "pmc_event": "event",
    "pmc_unit_mask": "unit_mask",
    "poll_interval": "interval",
    "reg_offset": "offset",
    "reg_poll_addr": "address",
    "reg_write_addr1": "address",
    "reg_write_addr2": "address",
    "reg_writes_count": "register_count",
    "ring_entry_loc": "ring_entry_register",
    "samp_plst_cntr_mode": "pipestat_mode",
    "sem_sel": "select",
    "spill_table_addr": "spill_table",
    "src_32b_addr": "source",
    "src_64b_addr": "source",
    "src_addr": "source",
    "src_addr_lo_or_data": "source",
    "src_data": "source",
    "src_gds_addr": "source",
    "src_imm_data": "source",
    "src_memtc_addr": "source",
    "src_reg_offset": "source",
    "write_data": "data",
    "x_dim": "dim_x",
    "y_dim": "dim_y",
    "z_dim": "dim_z",
}
# Fields that the kernel's soc15d.h and nvd.h have beside: forms for graphics rings, and what PAL
# shows from gfx10 or gfx11 on.
ADDED = {
    "ACQUIRE_MEM": {"engine", "size_spare"},
    "DMA_DATA": {"engine", "cp_sync"},
    "INDIRECT_BUFFER": {"inherit_vmid", "privileged"},
    "WAIT_REG_MEM": {"engine"},
    "WAIT_REG_MEM64": {"engine"},
    "WRITE_DATA": {"engine_sel"},
}
ADDED_ON = {
    ("9", "COND_WRITE"): {"wr_confirm"},
    ("9", "EVENT_WRITE"): {"pipestat_mode"},
    ("9", "EVENT_WRITE_ADDRESS"): {"pipestat_mode"},
    ("10", "EVENT_WRITE"): {"pipestat_mode"},
    ("10", "EVENT_WRITE_ADDRESS"): {"pipestat_mode"},
    ("9", "RELEASE_MEM"): {"execute", "tc_vol"},
    ("12", "RELEASE_MEM"): {"pws_enable"},
    ("9", "WAIT_REG_MEM"): {"mes_interrupt_pipe", "mes_action", "policy"},
}
# Header fields without one of ours: of no use, or at another bit than the kernel's soc15d.h has it.
LEFT = {("HDP_FLUSH", "dummy"), ("RELEASE_MEM", "pq_exe_status")}
GCR = "gcr_cntl"  # a field in PAL, a dozen of them in nvd.h and here
CASES = [pytest.param(*key, id=f"gfx{key[0]}-{key[1]}") for key in sorted(SIZES)]


def layout(generation: str, packet: str) -> type[pm4.Packet]:
    return PACKETS[DIALECTS[generation].name, packet]


def rows(generation: str, packet: str) -> list[tuple[int, int, str]]:
    """The header's fields, without those that we have in a tail or in a packet of its own."""
    ends = 32 * layout(generation, packet).WORDS
    return [row for row in ROWS[generation, packet] if row[0] < ends]


def our_name(packet: str, name: str) -> str:
    plain = name.replace("cache_policy", "policy").replace("temporal", "policy")
    plain = plain.removesuffix("_action_ena").removesuffix("_lo").removesuffix("_hi")
    return OURS.get(packet, {}).get(plain, ANYWHERE.get(plain, plain))


def whole(field: Field) -> int:
    """The bits of a field with those that its alignment keeps zero."""
    return field.mask | field.mask >> field.shift


@pytest.mark.parametrize(("generation", "packet"), CASES)
def test_a_packet_is_as_long_as_the_header_says(generation: str, packet: str) -> None:
    cls = layout(generation, packet)
    if cls.TAIL is not None or packet == "EVENT_WRITE":  # of which the address is optional
        assert SIZES[generation, packet] >= cls.WORDS
    else:
        assert SIZES[generation, packet] == cls.WORDS


@pytest.mark.parametrize(("generation", "packet"), CASES)
def test_every_field_of_the_header_is_ours_by_place_and_name(generation: str, packet: str) -> None:
    cls = layout(generation, packet)
    for first, mask, name in rows(generation, packet):
        mine = [field for field in cls.FIELDS if field.mask & mask]
        if not mine:
            assert cls.UNSUPPORTED or (packet, name) in LEFT, name
            continue
        assert not mask & ~sum(whole(field) for field in mine), f"{name} at bit {first}"
        if name != GCR:
            assert [field.name for field in mine] == [our_name(packet, name)]


@pytest.mark.parametrize(("generation", "packet"), CASES)
def test_every_field_of_ours_is_in_the_header(generation: str, packet: str) -> None:
    covered = 0xFFFFFFFF  # the packet's header
    for first, mask, name in rows(generation, packet):
        covered |= mask | (mask >> first % 32 if "addr" in name or "base" in name else 0)
    strange = {field.name for field in layout(generation, packet).FIELDS if field.mask & ~covered}
    assert strange == ADDED.get(packet, set()) | ADDED_ON.get((generation, packet), set())
