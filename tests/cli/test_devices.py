"""`gputrace devices` on machines with and without GPUs."""

import json
from pathlib import Path

import pytest

from gputrace.cli import devices
from gputrace.cli.main import run
from gputrace.devices.emulated import EmulatedKfd
from gputrace.families import FAMILIES

Capture = pytest.CaptureFixture[str]


def sysfs(root: Path, target: str, count: int) -> Path:
    """Write the tree that a machine with these GPUs shows."""
    for name, text in EmulatedKfd(target, count).topology.files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def listed(capsys: Capture) -> dict[str, object]:
    assert run(["devices", "--json"]) == 0
    data: dict[str, object] = json.loads(capsys.readouterr().out)
    return data


def test_a_machine_without_a_driver_says_so_and_lists_every_emulated_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(devices, "SYSFS", tmp_path / "none")
    assert run(["devices"]) == 0
    out = capsys.readouterr().out
    assert "none: " in out
    assert "the amdgpu driver is not loaded" in out
    for name in FAMILIES:
        assert f"emu:{name}" in out
    assert "default: emu:gfx942" in out
    assert listed(capsys)["real"] == []


def test_real_gpus_are_listed_with_their_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(devices, "SYSFS", sysfs(tmp_path, "gfx1100", 2))
    data = listed(capsys)
    real = data["real"]
    assert isinstance(real, list)
    assert [one["name"] for one in real] == ["kfd:0", "kfd:1"]
    assert real[0]["target"] == "gfx1100"
    assert real[0]["cus"] == FAMILIES["gfx1100"].shape.cus
    assert real[0]["vram"] == FAMILIES["gfx1100"].card.vram_bytes
    assert data["default"] == "kfd:0"


def test_a_gpu_that_nobody_has_facts_about_is_listed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    root = sysfs(tmp_path, "gfx942", 1)
    for path in root.glob("nodes/*/properties"):
        path.write_text(path.read_text().replace(" 90402\n", " 130001\n"))
    monkeypatch.setattr(devices, "SYSFS", root)
    assert run(["devices"]) == 0
    assert "gputrace has no facts about this target" in capsys.readouterr().out


def test_a_broken_tree_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(devices, "SYSFS", tmp_path)
    assert run(["devices"]) == 0
    assert "generation_id: No such file" in capsys.readouterr().out
