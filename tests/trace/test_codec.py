from contextlib import suppress
from dataclasses import MISSING, fields

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gputrace.errors import TraceError
from gputrace.trace import codec
from gputrace.trace import events as ev
from tests.trace.samples import HEADER, OUTCOME, every_kind


def back(data: bytes, header: ev.Header | None = None) -> list[ev.Event | codec.Skipped]:
    return list(codec.decode(data, "here", header))


def test_the_sample_holds_every_kind() -> None:
    assert {type(event) for event in [HEADER, *every_kind(), OUTCOME]} == set(ev.ALL)
    assert len(ev.KINDS) == len(ev.ALL)


@pytest.mark.parametrize("event", [HEADER, *every_kind(), OUTCOME], ids=lambda e: type(e).__name__)
def test_an_event_comes_back_equal(event: ev.Event) -> None:
    assert back(codec.encode(event)) == [event]


@pytest.mark.parametrize("kind", ev.ALL, ids=lambda kind: kind.__name__)
def test_fields_that_an_older_writer_did_not_know_get_their_default(kind: type[ev.Event]) -> None:
    example = next(e for e in [HEADER, *every_kind(), OUTCOME] if type(e) is kind)
    names = [field.name for field in fields(kind)]
    needed = sum(f.default is MISSING and f.default_factory is MISSING for f in fields(kind))
    values = msgpack.unpackb(codec.encode(example))
    (short,) = back(msgpack.packb(values[: 1 + needed]))
    assert [getattr(short, n) for n in names[:needed]] == [
        getattr(example, n) for n in names[:needed]
    ]
    with pytest.raises(TraceError, match=kind.__name__):
        back(msgpack.packb([*values, "one field more"]))
    if needed:
        with pytest.raises(TraceError, match=kind.__name__):
            back(msgpack.packb(values[:needed]))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=9)
    | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)  # fmt: skip


@given(st.sampled_from(sorted(ev.KINDS)), st.lists(values, max_size=12))
def test_wrong_values_give_an_event_or_a_trace_error(kind: int, given_values: list[object]) -> None:
    with suppress(TraceError):
        (event,) = back(msgpack.packb([kind, *given_values]))
        assert codec.encode(event)
        assert isinstance(event, ev.KINDS[kind])


@given(st.binary(max_size=60))
def test_any_bytes_give_events_or_a_trace_error(data: bytes) -> None:
    with suppress(TraceError):
        assert all(isinstance(event, ev.Event) for event in back(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\xdc\x10\x01" + b"\xc0" * 4097,
        b"\x93\x01",
        b"\x81\x01\x02",
        b"\xd6\xff\0\0\0\0",
    ],
)
def test_hostile_msgpack_is_refused(data: bytes) -> None:
    with pytest.raises(TraceError):
        back(data)


def test_an_unknown_required_kind_is_refused_by_name_and_an_optional_one_skipped() -> None:
    header = ev.Header(tool="9.9", kinds={"200": ["Teleport", True], "201": ["Mood", False]})
    assert back(msgpack.packb([201, 1, 2]), header) == [
        codec.Skipped(201, "Mood", msgpack.packb([201, 1, 2]))
    ]
    with pytest.raises(TraceError, match=r"Teleport \(200\) is required.*written by 9.9"):
        back(msgpack.packb([200]), header)
    with pytest.raises(TraceError, match="202 is not known and the header does not name it"):
        back(msgpack.packb([202]), header)


@pytest.mark.parametrize(
    "event",
    [
        ev.HostStore(0, bytes(1 << 20)),
        ev.HostStore(1 << 64, b""),
        ev.Progress((ev.Observed("read", 0, 0),) * 5000),
    ],
)
def test_an_event_that_no_reader_would_take_is_not_written(event: ev.Event) -> None:
    with pytest.raises(ValueError, match=type(event).__name__):
        codec.encode(event)
