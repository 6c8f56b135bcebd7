"""The stored kernels are what their sources give, byte for byte (a sample; --check does all)."""

import shutil
from pathlib import Path

import pytest

from tools.build_kernels import build, compiler, objects

SAMPLE = [each for number, each in enumerate(objects()) if number % 47 == 5]


@pytest.mark.parametrize(
    ("path", "source", "target", "level"), SAMPLE, ids=[f"{s[2]}-{s[0].stem}" for s in SAMPLE]
)
def test_a_kernel_is_built_as_it_is_stored(
    path: Path, source: Path, target: str, level: str, tmp_path: Path
) -> None:
    clang = compiler(target)
    linker = clang.replace("clang", "lld")
    if shutil.which(clang) is None or shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"{clang} or {linker} (Debian packages) is not installed")
    assert build(source, target, level, tmp_path) == path.read_bytes()


def test_every_source_is_stored_for_every_target_and_level() -> None:
    assert [path for path, *_ in objects() if not path.exists()] == []
    assert len(SAMPLE) >= 5
