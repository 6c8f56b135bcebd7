"""tinygrad's kernels, compiled by its LLVM renderer, on an emulated GPU beside numpy (a sample)."""

from pathlib import Path

import pytest

from tests.kernels.tinygrad_running import INSTALLED, run


@pytest.mark.skipif(
    not INSTALLED, reason="tinygrad or its compiler (Debian package libllvm19) is not installed"
)
def test_work(tmp_path: Path) -> None:
    # The clients of the interposer do some of each on the other two targets.
    run("gfx1100", "auto", ("softmax", "sort"), tmp_path)
