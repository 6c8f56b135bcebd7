"""Files that older versions wrote read as their text beside them says, for ever."""

import hashlib
from pathlib import Path

import pytest

from gputrace.trace import TraceReader, check, trace_lines
from gputrace.trace import events as ev

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("name", ["version1"])
def test_a_stored_file_reads_as_its_text_says(name: str) -> None:
    with TraceReader(DATA / f"{name}.gtrace") as reader:
        assert "\n".join(trace_lines(reader)) + "\n" == (DATA / f"{name}.txt").read_text()
    assert check(DATA / f"{name}.gtrace").sound


def test_the_memory_of_version_1_is_what_it_was() -> None:
    with TraceReader(DATA / "version1.gtrace") as reader:
        memory = b"".join(reader.memory(event) for event in reader if isinstance(event, ev.Memory))
    assert (len(memory), hashlib.sha256(memory).hexdigest()) == MEMORY


def test_each_stored_file_has_its_text_and_is_tested() -> None:
    assert {path.name for path in DATA.iterdir()} == {"version1.gtrace", "version1.txt"}


MEMORY = (88116, "a8822083d6cab7a9f9b77c08869d4ad1fe59a38954195bb3d00a888824e514f8")
