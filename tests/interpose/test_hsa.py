"""A C program on the HSA runtime: barriers, copy engines, locked memory, anybody's kernels."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gputrace.cli.main import run as cli
from tests.interpose.test_clients import check
from tools.foreign import build, missing

KERNELS = Path(__file__).parents[1] / "kernels"
COMPILER = shutil.which("clang-19")
needs_hsa = pytest.mark.skipif(bool(missing("hsa.c")), reason=missing("hsa.c") or "it is there")


@pytest.fixture(scope="module")
def hsa(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the client."""
    return build("hsa.c", tmp_path_factory.mktemp("hsa"))[0]


def stored(path: Path, array: np.ndarray) -> str:
    """Write an array into a file for the client."""
    array.tofile(path)
    return str(path)


@needs_hsa
@pytest.mark.skipif(COMPILER is None, reason="clang-19 is not installed")
@pytest.mark.parametrize("target", ["gfx90a", "gfx1030"])
def test_a_kernel_by_clang(
    tmp_path: Path, hsa: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "seed.co"
    flags = ["-x", "cl", "-cl-std=CL2.0", "-target", "amdgcn-amd-amdhsa", f"-mcpu={target}"]
    source = str(KERNELS / "seed.cl")
    command = [str(COMPILER), *flags, "-nogpulib", "-O2", source, "-o", str(code)]
    subprocess.run(command, check=True)
    x, y = np.arange(1000, dtype=np.float32), np.full(1000, 7, np.float32)
    files = stored(tmp_path / "y", y), stored(tmp_path / "x", x)
    trace = tmp_path / "hsa.gtrace"
    check(
        trace, target, hsa, "run", str(code), "saxpy", "16", "64", "0", *files, "f32:2", "u32:1000"
    )
    assert (np.fromfile(files[0], np.float32) == 2 * x + 7).all()
    assert cli(["info", str(trace)]) == 0
    told = capsys.readouterr().out
    assert "1 launches of saxpy" in told
    assert "2 BarrierAnd" in told
    assert cli(["dump", str(trace)]) == 0
    told = capsys.readouterr().out
    assert "saxpy(arg0=vram" in told
    assert ", arg2=2, arg3=1000), 16 groups of 64" in told
    assert told.count("CopyLinear") == 4


@needs_hsa
@pytest.mark.parametrize("name", ["softmax", "matmul-fp16"])
def test_a_kernel_by_triton(tmp_path: Path, hsa: str, name: str) -> None:
    with zipfile.ZipFile(KERNELS / "triton/built/gfx90a.zip") as archive:
        about = json.loads(archive.read("kernels.json"))[name]
        code = Path(archive.extract(f"{name}.hsaco", tmp_path))
    random = np.random.default_rng(1)
    if name == "softmax":
        x = random.standard_normal((8, 400)).astype(np.float32)
        out = np.zeros_like(x)
        inputs, numbers, groups = [x], [400], 8
        powers = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
        wanted = powers / powers.sum(1, keepdims=True)
    else:
        a, b = (random.standard_normal((64, 64)).astype(np.float16) for _ in range(2))
        out = np.zeros((64, 64), np.float32)
        inputs, numbers, groups = [a, b], [64, 64, 64], 1
        wanted = a.astype(np.float64) @ b.astype(np.float64)
    files = [stored(tmp_path / str(at), one) for at, one in enumerate((out, *inputs))]
    shape = [str(groups), str(about["block"]), str(about["dynamic_lds"])]
    given = [*files, *(f"u32:{number}" for number in numbers)]
    check(tmp_path / "t.gtrace", "gfx90a", hsa, "run", str(code), about["kernel"], *shape, *given)
    found = np.fromfile(files[0], np.float32).reshape(out.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
