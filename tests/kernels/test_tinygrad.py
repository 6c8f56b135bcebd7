"""tinygrad's kernels, compiled by its LLVM renderer, on an emulated GPU beside numpy (a sample)."""

from pathlib import Path

import pytest

from tests.kernels.tinygrad_running import INSTALLED, run


@pytest.mark.skipif(
    not INSTALLED, reason="tinygrad or its compiler (Debian package libllvm19) is not installed"
)
def test_work(tmp_path: Path) -> None:
    # The clients of the interposer and the sample of the campaign do others on the other targets.
    run("gfx1100", "auto", ("sort",), tmp_path)
