"""A seeded sample of each campaign, and that a campaign tells what is wrong."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from gputrace.formats import pm4
from gputrace.isa.limits import Limits
from gputrace.trace import blocks
from tools import campaigns
from tools.campaigns import instructions
from tools.material import small_traces

ROOT = Path(__file__).resolve().parents[2]


def sample(name: str, folder: Path) -> campaigns.Campaign:
    campaign = campaigns.Campaign(campaigns.module(name).SAMPLE, 7, folder)
    return campaigns.perform(name, campaign)


@pytest.mark.parametrize("name", campaigns.names())
def test_a_sample_of_the_campaign_passes(name: str, tmp_path: Path) -> None:
    campaign = sample(name, tmp_path)
    assert campaign.failures == []
    assert campaign.done > 0


@pytest.mark.parametrize("name", campaigns.names())
def test_every_campaign_says_what_it_is_and_how_much_a_full_run_is(name: str) -> None:
    module = campaigns.module(name)
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith(".")
    assert module.COUNT == 0 or module.COUNT >= module.SAMPLE


def test_a_decoder_that_loses_a_bit_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pm4.Packet.encode
    monkeypatch.setattr(pm4.WaitRegMem, "encode", lambda self: [w & ~1 for w in whole(self)])
    assert len(sample("decodes", tmp_path).failures) == campaigns.MOST_FAILURES


def test_a_decoder_that_takes_what_llvm_refuses_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if instructions.disassembler("gfx942") is None:
        pytest.skip("libLLVM 19 (Debian package libllvm19) is not installed")
    monkeypatch.setattr(Limits, "wrong", lambda self, raw: "")
    found = sample("instructions", tmp_path).failures
    assert len(found) == campaigns.MOST_FAILURES
    assert all("LLVM refuses" in text for text in found)


def test_a_reader_without_checksums_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = blocks.unpack_payload

    def trusting(header: blocks.BlockHeader, stored: bytes) -> bytes:
        checksum = xxhash.xxh3_64_intdigest(stored)
        return real(replace(header, checksum=checksum), stored)

    small_traces(tmp_path)
    monkeypatch.setattr("gputrace.trace.reader.unpack_payload", trusting)
    assert sample("flips", tmp_path).failures


def test_the_tool_lists_runs_and_prints_json() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "campaign")]
    listed = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == campaigns.names()
    command = [*tool, "cuts", "--count", "4", "--seed", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    result = json.loads(done.stdout)
    assert (result["campaign"], result["seed"], result["cases"]) == ("cuts", 3, 4)
    assert result["failures"] == []
