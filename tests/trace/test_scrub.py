"""What is private is taken out of each kind of event, and nothing else is changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gputrace.errors import UsageError
from gputrace.formats import drm
from gputrace.trace import TraceReader
from gputrace.trace import events as ev
from gputrace.trace.scrub import Choice, Range, Scrubbed, zeroed
from gputrace.trace.writer import TraceWriter
from tests.trace.samples import every_kind

BASE = 0x7F00_0000_0000
HEADER = ev.Header(
    "gputrace 1",
    family="gfx942",
    device={
        "name": "kfd:0", "gpus": 1, "gpu_ids": [7], "driver": "amdgpu 6.10.5", "kfd": "1.17",
        "kernel": "Linux 6.8.0-31-acme-alice", "host": "alice-pc",
    },
    topology={"1": {"gfx_target_version": 90402, "unique_id": 99, "location_id": 3, "domain": 0}},
)  # fmt: skip


def scrubbed(tmp_path: Path, *events: ev.Event, header: ev.Header = HEADER, **choice: Any
             ) -> tuple[list[ev.Event], Scrubbed]:  # fmt: skip
    path = tmp_path / "t.gtrace"
    with TraceWriter(path, header) as writer:
        for event in events:
            writer.append(event)
    with TraceReader(path) as reader:
        source = Scrubbed(reader, Choice(**choice))
        return [event for _, event in source.numbered()], source


def test_a_header_keeps_versions_and_loses_the_machine(tmp_path: Path) -> None:
    (header,), source = scrubbed(tmp_path)
    assert isinstance(header, ev.Header)
    assert header.device == {
        "name": "kfd:0", "gpus": 1, "gpu_ids": [7], "driver": "amdgpu 6.10.5", "kfd": "1.17",
        "kernel": "Linux 6.8",
    }  # fmt: skip
    zero = {"unique_id": 0, "location_id": 0, "domain": 0}
    assert header.topology == {"1": {"gfx_target_version": 90402, **zero}}
    assert source.removed["facts about the device"] == 2
    assert source.removed["numbers that tell which card it was"] == 2


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (ev.Outcome("ended", "FileNotFoundError: /home/alice/secret"), ""),
        (ev.Outcome("killed", "SIGKILL"), ""),
        (ev.Outcome("hang", "RuntimeError: alice's job", queue=3, packet=17), "queue 3, packet 17"),
    ],
)
def test_an_outcome_keeps_its_signature_and_no_words_of_the_program(
    tmp_path: Path, outcome: ev.Outcome, text: str
) -> None:
    details = {"place": 5, "pc": 6, "registers": {"s0": [1]}, "cwd": "/home/alice"}
    given_one = replace(outcome, address=9, kernel="k", details=details)
    (_, found), _ = scrubbed(tmp_path, given_one)
    assert found == replace(given_one, text=text, details={"place": 5, "pc": 6})


def test_threads_files_questions_notes_and_raw_bits(tmp_path: Path) -> None:
    question = 0xC0206400 | drm.AMDGPU_INFO
    found, source = scrubbed(
        tmp_path,
        ev.Ioctl("kfd", "GetVersion", 1, b"", b"", thread=4711),
        ev.Ioctl("render:128", "", question, b"", b"what it is"),
        ev.DoorbellIntent(1, 0, 0, 1, thread=4712),
        ev.WaitBegin(0, thread=4711),
        ev.Name(BASE, 4096, "code", "alices_model.co"),
        ev.Name(BASE, 4096, "buffer", "weights"),
        ev.Note("minimized", "hang wait"),
        ev.Note("mine", "alice was here"),
        ev.Unsupported("DbgTrap", "not modelled", b"bits"),
    )
    assert [getattr(event, "thread", None) for event in found[1:4]] == [1, 2, 1]
    assert [event.name for event in found if isinstance(event, ev.Name)] == ["code 1", "weights"]
    assert [event.text for event in found if isinstance(event, ev.Note)] == ["hang wait", ""]
    assert found[-1] == ev.Unsupported("DbgTrap", "not modelled")
    assert len(found) == 9
    assert source.removed["answers about the machine"] == 1


def test_names_go_when_that_is_asked_for_and_stay_one_for_one(tmp_path: Path) -> None:
    found, _ = scrubbed(
        tmp_path,
        ev.Name(BASE, 4096, "buffer", "weights"),
        ev.Name(BASE + 8192, 4096, "buffer", "alice"),
        ev.Name(BASE, 4096, "buffer", ""),
        ev.Name(BASE, 4096, "buffer", "weights"),
        ev.Name(BASE, 64, "kernel", "weights"),
        ev.Trigger("start", "kernel:weights#3", 7),
        ev.Note("trigger", "kernel:weights never came"),
        ev.Outcome("fault", kernel="weights", queue=0, packet=0),
        names=True,
    )
    names = [event.name for event in found if isinstance(event, ev.Name)]
    assert names == ["buffer 1", "buffer 2", "", "buffer 1", "kernel 1"]
    assert not [event for event in found if "weights" in repr(event)]
    assert isinstance(found[-1], ev.Outcome)
    assert found[-1].kernel == "kernel 1"


def test_everything_else_is_as_it_was(tmp_path: Path) -> None:
    changed = ev.Header, ev.Note, ev.Unsupported, ev.DoorbellIntent, ev.Outcome, ev.Ioctl
    found, _ = scrubbed(tmp_path, *every_kind())
    kept = [event for event in every_kind() if not isinstance(event, changed)]
    assert [event for event in found if not isinstance(event, changed)] == kept


def test_a_named_buffer_is_zero_from_its_name_until_it_is_unmapped(tmp_path: Path) -> None:
    def stores(value: bytes) -> list[ev.Event]:
        return [ev.Memory(BASE - 2, "cpu", value * 12), ev.HostStore(BASE + 6, value * 4)]

    name = ev.Name(BASE, 8, "buffer", "secret")
    found, source = scrubbed(
        tmp_path, *stores(b"a"), name, *stores(b"b"), replace(name, name=""), *stores(b"c"),
        ev.Unmap(BASE, 4096), *stores(b"d"), zero=("secret",),
    )  # fmt: skip
    data = [event.data for event in found if isinstance(event, ev.Memory | ev.HostStore)]
    assert data == [
        b"a" * 12, b"aaaa", b"bb" + bytes(8) + b"bb", bytes(2) + b"bb",
        b"cc" + bytes(8) + b"cc", bytes(2) + b"cc", b"d" * 12, b"dddd",
    ]  # fmt: skip
    assert source.zeroed_bytes == 20


@pytest.mark.parametrize("text", ["nobody", "12q", "0x", "-5", "0x10", "1+", "weights+4"])
def test_what_the_trace_does_not_have_cannot_become_zero(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="--zero"):
        scrubbed(tmp_path, ev.Name(BASE, 8, "buffer", "weights"), zero=(text,))


@given(
    st.integers(0, 40), st.binary(max_size=40),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)).map(lambda r: Range(*sorted(r)))),
)  # fmt: skip
def test_bytes_in_ranges_are_zero_and_all_others_as_they_were(
    address: int, data: bytes, ranges: list[Range]
) -> None:
    inside = {at for one in ranges for at in range(one.start, one.end)}
    expected = bytes(0 if address + i in inside else value for i, value in enumerate(data))
    assert zeroed(address, data, ranges) == expected
