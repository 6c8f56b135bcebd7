"""The coverage table: complete, honest about what is missing, and its command."""

import json

import pytest
from click.testing import CliRunner

from gputrace.cli.main import cli
from gputrace.isa import witnesses
from gputrace.isa.coverage import coverage
from gputrace.isa.decode import TARGETS
from gputrace.isa.meanings import MEANINGS
from tools import isa_coverage, isa_witnesses


@pytest.mark.parametrize("target", TARGETS)
def test_every_instruction_is_modelled_or_has_a_reason(target: str) -> None:
    entries = coverage(target)
    assert len(entries) > 1000
    for entry in entries:
        assert entry.modelled == (entry.name in MEANINGS.meanings)
        assert entry.modelled or len(entry.reason) > 5
    assert all(entry.modelled == entry.compute for entry in entries)
    assert not [entry.name for entry in entries if entry.modelled and not entry.witness]


def test_the_table_of_witnesses_is_what_the_tests_have() -> None:
    again = "PYTHONPATH=. python tools/isa_witnesses.py"
    assert isa_witnesses.property_names() == witnesses.PROPERTY, again
    for file in sorted(set(witnesses.KERNEL.values())):
        named = {name for name, place in witnesses.KERNEL.items() if place == file}
        assert named <= isa_witnesses.names_in(isa_witnesses.BUILT / file), again


def test_the_page_is_what_the_code_says() -> None:
    assert isa_coverage.PATH.read_text() == isa_coverage.text(), "run python tools/isa_coverage.py"


def test_command_prints_a_line_for_each_instruction() -> None:
    ran = CliRunner().invoke(cli, ["isa", "--target", "gfx1201"])
    assert ran.exit_code == 0
    lines = ran.output.splitlines()
    assert lines[0].startswith("gfx1201: ")
    assert any(line.split()[:3] == ["v_add_f32", "VOP2,VOP3,VOPD", "modelled"] for line in lines)
    assert any("image" not in line and "not modelled: graphics" in line for line in lines)


def test_command_gives_json_and_only_what_is_missing() -> None:
    ran = CliRunner().invoke(cli, ["isa", "--target", "all", "--missing", "--json"])
    data = json.loads(ran.output)
    assert set(data) == set(TARGETS)
    for found in data.values():
        assert not any(one["modelled"] for one in found["list"])
        missing = sum(found["not_modelled"].values())
        assert len(found["list"]) == missing == found["instructions"] - found["modelled"]


def test_an_unknown_target_is_an_error_that_lists_the_known_ones() -> None:
    ran = CliRunner().invoke(cli, ["isa", "--target", "gfx600"])
    assert ran.exit_code != 0
    assert "gfx942" in str(ran.exception) + ran.output
