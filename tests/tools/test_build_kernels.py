"""The stored kernels are what their sources give, byte for byte (a sample; --check does all)."""

import shutil
from pathlib import Path

import pytest

from tools import build_kernels

pytestmark = pytest.mark.skipif(
    shutil.which("clang-19") is None or shutil.which("ld.lld-19") is None,
    reason="clang-19 and lld-19 (Debian packages) are not installed",
)
SAMPLE = [("gfx90a", "O0", "flow"), ("gfx942", "O3", "divide"), ("gfx1100", "O1", "shared"),
          ("gfx1030", "O3", "lanes"), ("gfx1201", "O0", "packed")]  # fmt: skip


@pytest.mark.parametrize(("target", "level", "name"), SAMPLE)
def test_a_kernel_is_built_as_it_is_stored(
    target: str, level: str, name: str, tmp_path: Path
) -> None:
    source = build_kernels.KERNELS / f"{name}.cl"
    stored = build_kernels.KERNELS / "built" / target / f"{name}-{level}.co"
    assert build_kernels.build(source, target, level, tmp_path) == stored.read_bytes()


def test_every_source_is_stored_for_every_target_and_level() -> None:
    names = {path.stem for path in build_kernels.KERNELS.glob("*.cl")}
    for target in build_kernels.TARGETS:
        stored = {path.stem for path in (build_kernels.KERNELS / "built" / target).glob("*.co")}
        assert stored == {f"{name}-{level}" for name in names for level in build_kernels.LEVELS}
