"""Kernels that a newer clang compiles give the same results (a sample; the campaign runs all)."""

import shutil
from pathlib import Path

import pytest

from tests.isa import (
    launching,
    test_kernels_arith,
    test_kernels_bits,
    test_kernels_lanes,
    test_kernels_memory,
    test_kernels_narrow,
    test_kernels_updates,
    test_kernels_waves,
)
from tools.build_kernels import FOLDERS, build

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SOURCES = FOLDERS[0][0]
NEWER = "clang-22"
SAMPLE = {
    ("gfx90a", "O1", "narrow"): test_kernels_narrow.test_saturating,
    ("gfx942", "O3", "flow"): test_kernels_memory.test_private_array,
    ("gfx942", "O0", "memory"): test_kernels_memory.test_any_space,
    ("gfx1030", "O3", "divide"): test_kernels_arith.test_half_division,
    ("gfx1030", "O1", "buffers"): test_kernels_updates.test_records,
    ("gfx1100", "O3", "convert"): test_kernels_bits.test_from_double,
    ("gfx1100", "O3", "packed"): test_kernels_lanes.test_packed_half,
    ("gfx1201", "O3", "calls"): test_kernels_waves.test_boxes,
    ("gfx1201", "O1", "lanes"): test_kernels_lanes.test_dpp,
}


@pytest.mark.skipif(
    shutil.which(NEWER) is None or shutil.which("ld.lld-22") is None,
    reason="clang-22 and lld-22 (Debian packages) are not installed",
)
@pytest.mark.parametrize("case", list(SAMPLE), ids="-".join)
def test_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str]
) -> None:
    target, level, name = case
    # The stubs that it leaves beside each kernel are told of as mistakes, which they are not.
    code = build(SOURCES / f"{name}.cl", target, level, tmp_path, NEWER, "-w")
    (tmp_path / target).mkdir()
    (tmp_path / target / f"{name}-{level}.co").write_bytes(code)
    monkeypatch.setattr(launching, "BUILT", tmp_path)
    SAMPLE[case]((target, level))
