"""PM4: properties over every layout of every dialect, then known dwords from drivers."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.bits import bits
from gputrace.errors import DecodeError, DefinitionError
from gputrace.formats import pm4
from gputrace.formats.operations import Compare

DWORD = st.integers(0, 0xFFFFFFFF)
LAYOUTS = [
    pytest.param(dialect, cls, id=f"{dialect.name}-{cls.CONCEPT}")
    for dialect in pm4.DIALECTS
    for cls in dialect.all
]


@pytest.mark.parametrize(("dialect", "cls"), LAYOUTS)
def test_encode_then_decode_is_the_identity(dialect: pm4.Pm4Dialect, cls: type[pm4.Packet]) -> None:
    rng = random.Random(1)
    for _ in range(20):
        packet = cls.random(rng)
        words = packet.encode()
        again = dialect.decode([0xDEAD, *words], 1)
        assert again == packet
        assert again.dwords == len(words)
        assert type(again) is cls
        assert not list(again.problems())


@pytest.mark.parametrize(("dialect", "cls"), LAYOUTS)
def test_decode_then_encode_loses_no_bit(dialect: pm4.Pm4Dialect, cls: type[pm4.Packet]) -> None:
    @settings(max_examples=15, deadline=None, database=None)
    @given(st.lists(DWORD, min_size=cls.WORDS + 3, max_size=cls.WORDS + 3), DWORD)
    def check(body: list[int], noise: int) -> None:
        size = cls.WORDS + (3 if cls.TAIL else 0)
        words = body[:size]
        header = cls.random(random.Random(0)).encode()[0]
        words[0] = header & 0xC000FF00 | (size - 2) << 16 | noise & 0xFF
        assert dialect.decode(words).encode() == words

    check()


@pytest.mark.parametrize("dialect", pm4.DIALECTS, ids=lambda dialect: dialect.name)
def test_random_dwords_decode_or_are_refused_by_the_declared_error(
    dialect: pm4.Pm4Dialect,
) -> None:
    rng = random.Random(2)
    words = [rng.getrandbits(32) for _ in range(4000)]
    for at in range(0, len(words), 2):  # give every second dword a header that may exist
        words[at] = words[at] & 0x0007FFFF | 0xC0000000
    decoded = refused = 0
    for at in range(len(words)):
        try:
            packet = dialect.decode(words, at)
        except DecodeError:
            refused += 1
        else:
            decoded += 1
            assert packet.encode() == words[at : at + packet.dwords]
            assert packet.line()
            assert packet.annotated()
    assert decoded > 20
    assert refused > 20


def test_the_kernels_full_sync_is_encoded_as_gfx_v9_0_emits_it() -> None:
    # gfx_v9_0.c gfx_v9_0_emit_mem_sync
    packet = pm4.AcquireMemGfx9(tc_wb=True, tc=True, tcl1=True, sh_kcache=True, sh_icache=True)
    assert packet.encode() == [0xC0055800, 0x28C40000, 0xFFFFFFFF, 0xFFFFFF, 0, 0, 0xA]


def test_the_kernels_full_sync_is_encoded_as_gfx_v10_0_emits_it() -> None:
    # gfx_v10_0.c gfx_v10_0_emit_mem_sync
    packet = pm4.AcquireMem(
        gli_inv=1, glm_wb=1, glm_inv=1, glk_inv=1, glv_inv=1, gl1_inv=1, gl2_inv=1, gl2_wb=1
    )
    assert packet.encode() == [0xC0065800, 0, 0xFFFFFFFF, 0xFF, 0, 0, 0xA, 0xC3B1]


def test_a_nop_without_body_is_one_dword() -> None:
    assert pm4.Nop().encode() == [0xFFFF1000]
    assert pm4.PM4_GFX9.decode([0xFFFF1000, 5]) == pm4.Nop()
    assert pm4.Nop(body=(7,)).encode() == [0xC0001000, 7]


def test_indirect_buffer_has_the_header_that_aql_vendor_packets_carry() -> None:
    packet = pm4.IndirectBuffer(address=0x7F0012345678, dwords_there=0x40)
    assert packet.encode() == [0xC0023F00, 0x12345678, 0x7F00, 0x40 | 1 << 23]


def test_a_filler_is_one_dword() -> None:
    assert pm4.PM4_GFX12.decode([0x80000000, 1]) == pm4.Filler()


def test_the_fence_of_the_kernel_driver() -> None:
    # gfx_v9_0.c gfx_v9_0_ring_emit_fence with write-back only, 64 bits, interrupt
    packet = pm4.ReleaseMemGfx9(
        tc_wb=True, tc_nc=True, data_sel=2, int_sel=2, address=0x1000, data=0x1_0000_0002
    )
    assert packet.encode() == [0xC0064900, 0x00088514, 0x42000000, 0x1000, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([0xC0003E00, 0], "unknown opcode 0x3e"),
        ([0x00003C00, 0], "type 0"),
        ([0x40003C00, 0], "type 1"),
        ([0xC0063C00] + [0] * 8, "has 7 dwords but its header says 8"),
        ([0xC0053C00, 0, 0], "only 3 are there"),
        ([], "no dword"),
    ],
)
def test_what_is_no_packet_is_refused(words: list[int], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        pm4.PM4_GFX9.decode(words)


def test_end_bounds_a_packet() -> None:
    words = pm4.DispatchDirect(dim_x=1, initiator=1).encode()
    with pytest.raises(DecodeError, match="only 4 are there"):
        pm4.PM4_GFX9.decode(words, 0, 4)


def test_each_dialect_gives_its_own_layout_of_a_concept() -> None:
    assert pm4.PM4_GFX9.packet("ReleaseMem") is pm4.ReleaseMemGfx9
    assert pm4.PM4_GFX12.packet("ReleaseMem") is pm4.ReleaseMemGfx12
    with pytest.raises(KeyError, match="PM4_GFX12 has no packet PredExec"):
        pm4.PM4_GFX12.packet("PredExec")


def test_two_layouts_of_one_opcode_and_size_are_refused() -> None:
    dialect = pm4.Pm4Dialect("PM4_TEST", "pm4", "test")

    class One(pm4.Type3, words=2, op=0x01, dialects=(dialect,), source="test"):
        """Do one thing."""

    with pytest.raises(DefinitionError, match="share an opcode"):

        class Two(pm4.Type3, words=2, op=0x01, dialects=(dialect,), source="test"):
            """Do another."""

    with pytest.raises(DefinitionError, match="two packets named One"):

        class Three(pm4.Type3, words=3, op=0x02, dialects=(dialect,), concept="One", source="test"):
            """Do a third."""

            field: int = bits(1, 0, 0, "field")

    assert dialect.packets == {1: One}


def test_lengths_of_address_roles_are_zero_when_no_memory_is_meant() -> None:
    wait = pm4.WaitRegMem(function=Compare.EQ, space=pm4.WaitSpace.REGISTER, address=5, reference=1)
    assert wait.polled == 0
    assert wait.poll_register == 5
    flush = pm4.WaitRegMem(
        function=Compare.EQ,
        space=pm4.WaitSpace.REGISTER,
        operation=pm4.WaitOperation.WR_WAIT_WR_REG,
        address=0xE27 << 32 | 0xE26,
        reference=4,
        mask=4,
    )
    assert (flush.write_register, flush.poll_register) == (0xE26, 0xE27)
    data = (1, 2, 3)
    assert pm4.WriteData(address=8, data=data).written == 12
    assert pm4.WriteData(address=8, data=data, one_address=True).written == 4
    assert pm4.WriteData(address=8, data=data, dst_sel=pm4.WriteTo.REGISTER).written == 0
    assert pm4.AtomicMem(atomic=111, address=8, source=1).size == 8


@pytest.mark.parametrize(("dialect", "cls"), LAYOUTS)
def test_every_role_length_names_something(dialect: pm4.Pm4Dialect, cls: type[pm4.Packet]) -> None:
    packet = cls.random(random.Random(3))
    for field in cls.FIELDS:
        if field.role and isinstance(field.role.length, str):
            assert getattr(packet, field.role.length) >= 0
    assert cls.SOURCE


def test_a_stream_is_cut_into_packets() -> None:
    packets = [
        pm4.SetShReg(offset=0x20C, values=(1, 2)),
        pm4.Nop(),
        pm4.DispatchDirect(dim_x=4, initiator=1),
    ]
    words = [word for packet in packets for word in packet.encode()]
    assert list(pm4.PM4_GFX11.stream(words)) == [(0, packets[0]), (4, packets[1]), (5, packets[2])]


def test_the_manual_names_every_packet() -> None:
    for dialect in pm4.DIALECTS:
        text = dialect.manual()
        for cls in dialect.all:
            assert f"### {cls.__name__}\n" in text
