"""SDMA: properties over every layout of every dialect, then known dwords from drivers."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.errors import DecodeError, DefinitionError, FieldError
from gputrace.formats import sdma
from gputrace.formats.operations import AtomicOperation, Compare

DWORD = st.integers(0, 0xFFFFFFFF)
LAYOUTS = [
    pytest.param(dialect, cls, id=f"{dialect.name}-{cls.CONCEPT}")
    for dialect in sdma.DIALECTS
    for cls in dialect.all
]


@pytest.mark.parametrize(("dialect", "cls"), LAYOUTS)
def test_encode_then_decode_is_the_identity(
    dialect: sdma.SdmaDialect, cls: type[sdma.Packet]
) -> None:
    rng = random.Random(1)
    for _ in range(20):
        packet = cls.random(rng)
        words = packet.encode()
        again = dialect.decode([0xDEAD, *words, 0], 1)
        assert again == packet
        assert again.dwords == len(words)
        assert type(again) is cls
        assert not list(again.problems())


@pytest.mark.parametrize(("dialect", "cls"), LAYOUTS)
def test_decode_then_encode_loses_no_bit(dialect: sdma.SdmaDialect, cls: type[sdma.Packet]) -> None:
    mask, value = cls.HEADER

    @settings(max_examples=15, deadline=None, database=None)
    @given(st.lists(DWORD, min_size=cls.WORDS, max_size=cls.WORDS))
    def check(words: list[int]) -> None:
        words[0] = words[0] & ~mask | value
        if issubclass(cls, sdma.WriteLinear):
            words[3] = words[3] & ~0xFFFFF | 1
            words += [5, 6]
        elif issubclass(cls, sdma.WriteTiled):
            words[8] = words[8] & ~0xFFFFF | 1
            words += [5, 6]
        elif issubclass(cls, sdma.WriteTiledBc):
            words[8] = words[8] & ~0x3FFFFC | 1 << 2
            words += [5, 6]
        elif issubclass(cls, sdma.Nop):
            words[0] = words[0] & ~0x3FFF0000 | 2 << 16
            words += [5, 6]
        packet = dialect.decode(words)
        assert type(packet) is cls
        assert packet.encode() == words

    check()


@pytest.mark.parametrize("dialect", sdma.DIALECTS, ids=lambda dialect: dialect.name)
def test_random_dwords_decode_or_are_refused_by_the_declared_error(
    dialect: sdma.SdmaDialect,
) -> None:
    rng = random.Random(2)
    words = [rng.getrandbits(32) for _ in range(4000)]
    for at in range(0, len(words), 2):  # give every second dword a header that may exist
        words[at] = words[at] & 0xFFFF031F
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


def test_a_copy_as_the_kernel_emits_it() -> None:
    # sdma_v4_4_2.c sdma_v4_4_2_emit_copy_buffer
    copy = sdma.CopyLinearV4(source=0x1_00000010, destination=0x2_00000020, count=0xFFF)
    assert copy.encode() == [1, 0xFFF, 0, 0x10, 1, 0x20, 2]
    assert copy.size == 0x1000


def test_a_copy_on_7_0_is_as_long_as_bit_19_says() -> None:
    # sdma_v7_0.c sdma_v7_0_emit_copy_buffer sets bit 19 and adds a dword; ROCr does neither
    kernel = [1 | 1 << 19, 63, 0, 0x10, 0, 0x20, 0, 0]
    assert sdma.SDMA_7_0.decode(kernel).dwords == 8
    assert sdma.SDMA_7_0.decode([1, *kernel[1:]]).dwords == 7
    assert isinstance(sdma.SDMA_7_0.decode(kernel), sdma.CopyLinear)
    assert sdma.SDMA_6_0.decode(kernel).dwords == 7


def test_bit_27_makes_a_copy_with_two_targets() -> None:
    words = [1 | 1 << 27, 63, 0, 0x10, 0, 0x20, 0, 0x30, 0]
    for dialect in sdma.DIALECTS:
        copy = dialect.decode(words)
        assert isinstance(copy, sdma.CopyBroadcast)
        assert (copy.destination, copy.destination_2) == (0x20, 0x30)


def test_a_fill_as_the_kernel_emits_it() -> None:
    # sdma_v5_2.c sdma_v5_2_emit_fill_buffer
    fill = sdma.ConstantFillV5(destination=0x3_00000000, data=0xAB, count=0xFFF)
    assert fill.encode() == [0x8000000B, 0, 3, 0xAB, 0xFFF]
    assert fill.size == 0x1000


def test_the_byte_count_of_a_dword_fill_may_have_its_low_bits_clear() -> None:
    # ROCr amd_blit_sdma.cpp writes (dwords - 1) * 4
    for count in (0xFFC, 0xFFF):
        assert sdma.ConstantFillV6(destination=0, data=0, count=count).size == 0x1000
    assert sdma.ConstantFillV6(destination=0, data=0, count=9, fill_size=0).size == 10


def test_a_fence_and_a_trap_as_the_kernel_emits_them() -> None:
    # sdma_v4_4_2.c and sdma_v5_2.c ring_emit_fence: from version 5 on with memory type 3
    assert sdma.Fence(address=0x1000, data=7).encode() == [5, 0x1000, 0, 7]
    assert sdma.FenceV5(address=0x1000, data=7).encode() == [0x00030005, 0x1000, 0, 7]
    assert sdma.Trap(int_context=3).encode() == [6, 3]


def test_a_poll_as_rocr_emits_it() -> None:
    poll = sdma.PollRegMemV4(function=Compare.EQ, address=0x40, reference=1)
    assert poll.encode() == [0xB0000008, 0x40, 0, 1, 0xFFFFFFFF, 0x0FFF0004]
    assert poll.polled == 4
    assert poll.replace(in_memory=False).polled == 0


def test_a_flush_of_the_host_data_path_as_the_kernel_emits_it() -> None:
    # sdma_v5_2.c sdma_v5_2_ring_emit_hdp_flush
    words = [0x34000008, 0xE27 << 2, 0xE26 << 2, 0x400, 0x400, 0x0FFF000A]
    poll = sdma.SDMA_5_2.decode(words)
    assert isinstance(poll, sdma.PollRegMemV5)
    assert poll.hdp_flush
    assert poll.polled == 0


def test_a_signal_is_decremented_by_adding_minus_one() -> None:
    # ROCr amd_blit_sdma.cpp BuildAtomicDecrementCommand
    atomic = sdma.Atomic(atomic=AtomicOperation.ADD_RTN_64, address=0x8, source=(1 << 64) - 1)
    assert atomic.encode() == [0x5E00000A, 8, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 0]
    assert atomic.size == 8


def test_the_invalidation_that_rocr_sends_before_a_copy() -> None:
    request = sdma.GcrRequest(
        gl2_wb=True, glk_wb=True, gl2_inv=True, gl1_inv=True, glv_inv=True, glk_inv=True
    )
    assert request.encode() == [0x0111, 0, 0xC3C0_0000, 0, 0]
    assert request.flushed == 0
    assert sdma.GcrRequest(base=0x1000, limit=0x2000).flushed == 0x1000


def test_zero_dwords_are_nops_and_a_nop_skips_its_count() -> None:
    assert [packet.dwords for _, packet in sdma.SDMA_4_4.stream([0, 0, 2 << 16, 9, 9])] == [1, 1, 3]
    assert sdma.Nop(body=(9, 9)).encode() == [2 << 16, 9, 9]


def test_an_indirect_buffer_is_aligned_to_32_bytes() -> None:
    packet = sdma.IndirectBuffer(address=0x7F0000000020, dwords_there=16)
    assert packet.encode() == [4, 0x20, 0x7F00, 16, 0, 0]
    assert packet.size == 64
    with pytest.raises(FieldError, match="multiple of 32"):
        sdma.IndirectBuffer(address=0x10, dwords_there=16).encode()


def test_a_write_needs_data() -> None:
    write = sdma.WriteLinearV4(destination=0x10, data=(1, 2))
    assert write.encode() == [2, 0x10, 0, 1, 1, 2]
    assert write.size == 8
    with pytest.raises(FieldError):
        sdma.WriteLinearV4(destination=0x10).encode()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([0xFF], "unknown opcode 255"),
        ([0x0309], "unknown opcode 9 with sub-opcode 3"),
        ([1, 0, 0], "COPY_LINEAR has 7 dwords but only 3 are there"),
        ([2, 0, 0, 3, 9], "WRITE_LINEAR has 8 dwords but only 5 are there"),
        ([5 << 16], "NOP has 6 dwords but only 1 are there"),
        ([], "no dword"),
    ],
)
def test_what_is_no_packet_is_refused(words: list[int], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        sdma.SDMA_4_4.decode(words)


def test_layouts_that_no_header_bit_tells_apart_are_refused() -> None:
    dialect = sdma.SdmaDialect("SDMA_TEST", "sdma", "test")

    class One(sdma.Packet, words=2, op=99, dialects=(dialect,), source="test"):
        """Do one thing."""

    with pytest.raises(DefinitionError, match="share an opcode"):

        class Two(sdma.Packet, words=3, op=99, dialects=(dialect,), source="test"):
            """Do another."""

    assert dialect.packets == {99: One}


@pytest.mark.parametrize(("dialect", "cls"), LAYOUTS)
def test_every_role_length_names_something(
    dialect: sdma.SdmaDialect, cls: type[sdma.Packet]
) -> None:
    packet = cls.random(random.Random(3))
    for field in cls.FIELDS:
        if field.role and isinstance(field.role.length, str):
            assert getattr(packet, field.role.length) >= 0
    assert cls.SOURCE


def test_the_manual_names_every_packet() -> None:
    for dialect in sdma.DIALECTS:
        text = dialect.manual()
        for cls in dialect.all:
            assert f"### {cls.__name__}\n" in text


def test_a_box_reaches_to_the_end_of_its_last_element() -> None:
    copy = sdma.CopySubWindowV4(
        element_size=2,
        source=0x100,
        src_x=1,
        src_pitch=63,
        src_slice_pitch=64 * 8 - 1,
        destination=0x200,
        dst_x=0,
        dst_pitch=3,
        dst_slice_pitch=4 * 2 - 1,
        rect_x=3,
        rect_y=1,
    )
    assert copy.source_bytes == (64 + 1 + 4) * 4
    assert copy.destination_bytes == 8 * 4
    words = copy.encode()
    assert words[0] == 0x40000401
    assert words[4] == 63 << 13
    assert words[11] == 3 | 1 << 16
