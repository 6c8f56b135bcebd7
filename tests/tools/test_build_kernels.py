"""The stored kernels are what their sources give, byte for byte (a sample; --check does all)."""

import shutil
from pathlib import Path

import pytest

from tools.build_kernels import build, objects

compiler = pytest.mark.skipif(
    shutil.which("clang-19") is None or shutil.which("ld.lld-19") is None,
    reason="clang-19 and lld-19 (Debian packages) are not installed",
)
SAMPLE = [each for number, each in enumerate(objects()) if number % 47 == 5]


@compiler
@pytest.mark.parametrize(
    ("path", "source", "target", "level"), SAMPLE, ids=[f"{s[2]}-{s[0].stem}" for s in SAMPLE]
)
def test_a_kernel_is_built_as_it_is_stored(
    path: Path, source: Path, target: str, level: str, tmp_path: Path
) -> None:
    assert build(source, target, level, tmp_path) == path.read_bytes()


def test_every_source_is_stored_for_every_target_and_level() -> None:
    assert [path for path, *_ in objects() if not path.exists()] == []
    assert len(SAMPLE) >= 5
