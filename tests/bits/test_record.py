"""The Record machinery, against a naive second computation and by its promises."""

from enum import IntEnum, IntFlag
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gputrace.bits import Record, Role, bits, s32, tail, u16, u32, u64
from gputrace.errors import DecodeError, DefinitionError, FieldError


class Compare(IntEnum):
    ALWAYS = 0
    EQUAL = 3


class Sample(Record, words=6, source="none"):
    """Stand for every kind of field."""

    function: Compare = bits(0, 2, 0, "comparison", kind=Compare)
    in_memory: bool = bits(0, 4, 4, "flag", kind=bool, default=False)
    address: int = bits(1, 47, 0, "across a dword boundary", shift=8, default=0)
    whole: int = u64(3, "two dwords", default=0)
    number: int = s32(5, "signed", default=-1)


class Counted(Record, words=2):
    """Stand for a packet with a length and a body."""

    count: int = bits(0, 29, 16, "dwords after the first, minus one",
                      default=lambda record: record.dwords - 2)
    opcode: int = bits(0, 15, 8, default=0)
    first: int = u32(1, default=7)
    data: tuple[int, ...] = tail("the body")


class Special(Counted, fixed={"opcode": 0x37}):
    """Inherit the fields and fix one."""


def naive(record: Sample) -> int:
    """Build the integer field by field, by the definition."""
    raw = int(record.function) | int(record.in_memory) << 4 | record.address >> 8 << 32
    return raw | record.whole << 96 | (record.number & 0xFFFFFFFF) << 160 | record.unknown


@given(st.integers(0, (1 << 192) - 1))
def test_decode_then_encode_loses_no_bit(raw: int) -> None:
    words = [raw >> 32 * i & 0xFFFFFFFF for i in range(6)]
    record = Sample.decode(words)
    assert record.encode() == words
    assert naive(record) == raw
    assert Sample.from_bytes(record.to_bytes()) == record


@given(st.integers())
def test_random_records_survive_a_round_trip(seed: int) -> None:
    for kind in (Sample, Counted, Special):
        record = kind.random(Random(seed))
        assert list(record.problems()) == []
        assert kind.decode(record.encode()) == record
        assert hash(kind.decode(record.encode())) == hash(record)


def test_values_that_do_not_fit_are_refused_with_name_value_and_limit() -> None:
    with pytest.raises(FieldError, match=r"Sample.address must be a multiple of 256, not 0x101"):
        Sample(function=Compare.EQUAL, address=0x101).encode()
    with pytest.raises(FieldError, match=r"Sample.number must lie in"):
        Sample(function=Compare.EQUAL, number=1 << 31).encode()
    with pytest.raises(FieldError, match=r"Counted.data must hold dwords"):
        Counted(data=(1 << 32,)).encode()


def test_construction_names_missing_and_unknown_fields() -> None:
    with pytest.raises(TypeError, match="Sample needs function"):
        Sample()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Sample has no field sise"):
        Sample(function=Compare.EQUAL, sise=1)  # type: ignore[call-arg]


def test_computed_fields_follow_the_tail_but_keep_what_was_decoded() -> None:
    packet = Special(data=(1, 2, 3))
    assert packet.encode() == [3 << 16 | 0x37 << 8, 7, 1, 2, 3]
    assert packet.replace(data=(1,)).count == 1
    odd = Special.decode([0x3FFF << 16 | 0x37 << 8, 7])
    assert odd.count == 0x3FFF
    assert odd.replace(first=8).count == 0x3FFF


def test_too_few_dwords_are_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="Sample needs 6 dwords, 2 are left"):
        Sample.decode([0] * 3, 1)
    with pytest.raises(DecodeError, match="Counted needs 9 dwords"):
        Counted.decode([0] * 3, 0, 9)
    with pytest.raises(DecodeError, match="needs 24 bytes, 3 are left"):
        Sample.from_bytes(b"abc")


def test_printers_show_names_members_and_stray_bits() -> None:
    record = Sample.decode([0xB, 0, 0, 0, 0, 0xFFFFFFFF])
    assert record.line() == "Sample(function=EQUAL, unknown=0x8)"
    assert "dw0[2:0]       function = EQUAL  comparison" in record.annotated()
    assert list(record.problems()) == ["Sample has undocumented bits set: 0x8"]
    assert "| dw0[2:0] | function | comparison; 0 ALWAYS, 3 EQUAL |" in Sample.manual()
    assert list(Sample.decode([5, 0, 0, 0, 0, 0]).problems()) == [
        "Sample.function is no Compare: 0x5"
    ]


def test_a_manual_tells_what_roles_and_kinds_say() -> None:
    class Flags(IntFlag):
        A = 1
        B = 64

    class Call(Record, words=9):
        """Say one thing.

        And another.
        """

        size: int = u32(0, "bytes | more")
        memory: int = u64(1, role=Role(uses="address", length="size"))
        fixed: int = u64(3, role=Role(uses="address", length=8, out=True))
        rows: int = u64(5, "what is given", role=Role(points="gpu", count="size"))
        made: int = u32(7, role=Role(makes="queue", out=True))
        flags: Flags = u32(8, kind=Flags)

    rows = [line.split(" | ")[2].removesuffix(" |") for line in Call.manual().splitlines()[8:]]
    assert rows == [
        "bytes \\| more", "GPU address of size bytes",
        "GPU address of 8 bytes, written by the kernel",
        "what is given; CPU address of size x gpu", "names the new queue, written by the kernel",
        "0x1 A, 0x40 B",
    ]  # fmt: skip
    assert "\n\nSay one thing.\n\nAnd another.\n\n" in Call.manual()


def test_wrong_declarations_fail_when_they_are_made() -> None:
    with pytest.raises(DefinitionError, match=r"Bad.b overlaps a"):
        type("Bad", (Record,), {"a": u32(0, default=0), "b": u16(2, default=0)}, words=1)
    with pytest.raises(DefinitionError, match=r"Bad.a at dw1\[31:0\] overruns 1 dwords"):
        type("Bad", (Record,), {"a": u32(1, default=0)}, words=1)
    with pytest.raises(DefinitionError, match=r"default of Bad.a must lie in 0x0\.\.0x3"):
        type("Bad", (Record,), {"a": bits(0, 1, 0, default=4)}, words=1)
    with pytest.raises(DefinitionError, match="has the name of a method"):
        type("Bad", (Record,), {"line": u32(0, default=0)}, words=1)
    with pytest.raises(DefinitionError, match="fixes nothing"):
        type("Bad", (Record,), {"a": u32(0, default=0)}, words=1, fixed={"nothing": 1})


class Many(Record, words=3):
    """Stand for a packet of many small fields: what they mean is remembered."""

    a: int = bits(0, 3, 0, default=0)
    b: int = bits(0, 7, 4, default=0)
    c: int = bits(0, 11, 8, default=0)
    d: int = bits(0, 15, 12, default=0)
    e: int = bits(0, 19, 16, default=0)
    f: bool = bits(0, 20, 20, default=False, kind=bool)
    g: Compare = bits(0, 24, 22, default=Compare.ALWAYS, kind=Compare)
    address: int = u64(1, default=0)


def test_records_that_differ_in_whole_dwords_are_apart() -> None:
    assert len([one for one in Many.FIELDS if one.width < 32]) >= 6
    decoded = [Many.decode([0x12345, address, 0]) for address in range(5)]
    assert [one.address for one in decoded] == [0, 1, 2, 3, 4]
    assert len({id(one.__dict__) for one in decoded}) == 5


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)), max_size=40))
def test_what_is_remembered_is_what_would_be_computed(packets: list[tuple[int, int]]) -> None:
    made = [Many.decode([word, low & 0xFFFFFFFF, low >> 32]) for word, low in packets]
    for one, (word, low) in zip(made, packets, strict=True):
        assert one.encode() == [word, low & 0xFFFFFFFF, low >> 32]
        assert (one.a, one.b, one.e, one.address) == (
            word & 15, word >> 4 & 15, word >> 16 & 15, low
        )  # fmt: skip
        assert one.f is bool(word >> 20 & 1)


def test_a_changed_copy_keeps_the_bits_that_nobody_named() -> None:
    given_words = [0x8000_0000 | 3, 0, 1 << 30, 0, 0, 0]
    record = Sample.decode(given_words)
    copy = record.replace(whole=5)
    assert copy.unknown == record.unknown != 0
    assert copy.encode() == [*given_words[:3], 5, 0, 0]
    assert record.whole == 0


def test_the_validator_knows_fixed_fields_and_members() -> None:
    assert list(Special(data=(1,)).problems()) == []
    assert any("must be 0x37" in one for one in Special(opcode=0x38).problems())
    assert any("is no Compare: 0x2" in one for one in Sample.decode([2, 0, 0, 0, 0, 0]).problems())
