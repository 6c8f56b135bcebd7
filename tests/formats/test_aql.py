"""AQL: properties over every packet, then the header values that clients write."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputrace.bits import Record
from gputrace.errors import DecodeError
from gputrace.formats import aql

RECORDS = [*aql.PACKETS, aql.AmdSignal, aql.AmdQueue]


@pytest.mark.parametrize("cls", RECORDS)
def test_encode_then_decode_is_the_identity(cls: type[Record]) -> None:
    rng = random.Random(1)
    for _ in range(20):
        record = cls.random(rng)
        assert cls.from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize("cls", aql.PACKETS)
def test_a_packet_is_told_by_its_header(cls: type[aql.Packet]) -> None:
    packet = cls.random(random.Random(2))
    data = bytes(64) + packet.to_bytes()
    assert len(data) == 128
    assert aql.decode_packet(data, 64) == packet


@given(st.binary(min_size=64, max_size=64))
@settings(max_examples=200, deadline=None, database=None)
def test_decode_then_encode_loses_no_bit(data: bytes) -> None:
    data = bytes([data[0] & 7, data[1], data[2] & 3]) + data[3:]
    try:
        packet = aql.decode_packet(data)
    except DecodeError:
        assert data[0] > 5 or (data[0] == 0 and data[2] not in (1, 2, 3))
    else:
        assert packet.to_bytes() == data


def test_headers_are_those_that_tinygrad_writes() -> None:
    # tinygrad ops_amd.py: barrier, acquire and release at system scope
    scope = aql.FenceScope.SYSTEM
    packet = aql.KernelDispatch(
        barrier=True,
        acquire=scope,
        release=scope,
        dimensions=3,
        workgroup_size_x=64,
        grid_size_x=256,
        kernel_object=0x1000,
    )
    words = packet.encode()
    assert words[0] == 0x00031502
    assert words[1:6] == [64 | 1 << 16, 1, 256, 1, 1]
    vendor = aql.VendorPm4(
        barrier=True, acquire=scope, release=scope, ib_address=0x2000, ib_size=16
    )
    assert vendor.encode()[:6] == [0x00011500, 0xC0023F00, 0x2000, 0, 16 | 1 << 23, 10]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(63), "64 bytes"),
        (bytes([6]) + bytes(63), "unknown packet type 6"),
        (bytes(64), "unknown vendor format 0"),
    ],
)
def test_what_is_no_packet_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        aql.decode_packet(data)


def test_offsets_are_those_of_the_vendors_headers() -> None:
    # offsets of amd_queue_t and amd_signal_t, computed by a C compiler from the ROCr headers
    queue = {name: field.lo // 8 for name, field in aql.AmdQueue.BY_NAME.items()}
    assert queue["write_dispatch_id"] == aql.WRITE_DISPATCH_ID == 56
    assert queue["read_dispatch_id"] == aql.READ_DISPATCH_ID == 128
    assert queue["compute_tmpring_size"] == 140
    assert queue["scratch_backing_memory_location"] == 160
    assert queue["scratch_wave64_lane_byte_size"] == 176
    assert queue["queue_properties"] == 180
    assert queue["queue_inactive_signal"] == 192
    assert queue["alt_compute_tmpring_size"] == 248
    signal = {name: field.lo // 8 for name, field in aql.AmdSignal.BY_NAME.items()}
    assert signal["value"] == aql.SIGNAL_VALUE == 8
    assert signal["event_mailbox_ptr"] == 16
    assert signal["event_id"] == 24
    assert signal["queue_ptr"] == 48


def test_signals_may_be_absent() -> None:
    assert aql.BarrierAnd().signal_bytes == 0
    assert aql.BarrierAnd(completion_signal=64).signal_bytes == 64
    assert aql.BarrierOr(dep_signal_4=9).dep_signals == (0, 0, 0, 0, 9)
    assert aql.VendorPm4(ib_address=0, ib_size=2).ib_bytes == 8
