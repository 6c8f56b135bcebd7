"""Sine to gamma through the vendor's device libraries (a sample; the campaign runs all)."""

import shutil
from pathlib import Path

import pytest

from tests.kernels.device_library import BITCODE, check, compiled

pytestmark = pytest.mark.skipif(
    shutil.which("clang-19") is None or not BITCODE.is_dir(),
    reason="clang-19 or rocm-device-libs (Debian packages) is not installed",
)


@pytest.mark.parametrize(("target", "kind"), [("gfx90a", "float"), ("gfx1201", "half")])
def test_functions(tmp_path: Path, target: str, kind: str) -> None:
    check(target, compiled(target, "O1", tmp_path), kind, "numpy")
