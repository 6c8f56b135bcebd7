"""The layer check finds what it is for, and the package passes it."""

from pathlib import Path

from tools import check_layers

ROOT = Path(__file__).resolve().parents[2]


def test_an_import_upwards_and_one_of_a_sibling_are_breaches(tmp_path: Path) -> None:
    (tmp_path / "bits").mkdir()
    (tmp_path / "replay").mkdir()
    (tmp_path / "bits" / "a.py").write_text("from gputrace.formats import pm4\n")
    (tmp_path / "replay" / "b.py").write_text("import gputrace.interpose\nimport gputrace.bits\n")
    breaches, _ = check_layers.check(tmp_path)
    assert len(breaches) == 3  # the upward import counts for the module and for the name
    assert any("bits imports gputrace.formats" in text for text in breaches)
    assert any("replay imports gputrace.interpose" in text for text in breaches)


def test_the_package_keeps_its_layers() -> None:
    breaches, seen = check_layers.check(ROOT / "gputrace")
    assert breaches == []
    assert seen > 20
