"""The kernels built into HIP and ROCr, as Debian ships them: which there are, and what they do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gputrace.isa.machine import Done
from tests.isa.corpus import TARGETS
from tests.isa.launching import Arrays, Program, run
from tests.kernels.device_library import BITCODE, build
from tools.build_kernels import CLANG, compiler

HERE = Path(__file__).parent
HIP = Path("/usr/lib/x86_64-linux-gnu/libamdhip64.so.5")
RUN_BY_HIP = {
    "copyBuffer", "copyBufferRect", "copyBufferRectAligned", "fillBufferAligned",
    "fillBufferAligned2D", "streamOpsWait", "streamOpsWrite",
}  # fmt: skip
"""What the program blits.cpp makes HIP launch."""
LAUNCHED_HERE = {"copyBuffer", "copyBufferAligned", "fillBufferAligned"}
NOT_RUN_HERE = {
    "copyBufferToImage": "images", "copyImage": "images", "copyImage1DA": "images",
    "copyImageToBuffer": "images", "fillImage": "images",
    "gwsInit": "sets up global wave sync: cooperative launches in tests/interpose run it",
    "scheduler": "starts kernels of OpenCL's device queues: HIP has none",
}  # fmt: skip
needs_hip = pytest.mark.skipif(
    shutil.which("hipcc") is None or not HIP.exists(), reason="hipcc is not installed"
)
needs_library = pytest.mark.skipif(
    shutil.which("clang-19") is None or not BITCODE.is_dir() or not HIP.exists(),
    reason="clang-19, rocm-device-libs or libamdhip64-5 (Debian packages) is not installed",
)


@needs_hip
def test_every_kernel_of_hip_is_named_here() -> None:
    names = {name.decode() for name in re.findall(rb"__amd_rocclr_(\w+)", HIP.read_bytes())}
    assert names == RUN_BY_HIP | LAUNCHED_HERE | set(NOT_RUN_HERE)
    assert not set(NOT_RUN_HERE) & (RUN_BY_HIP | LAUNCHED_HERE)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the client."""
    out = str(tmp_path_factory.mktemp("blits") / "blits")
    command = ["hipcc", "--offload-arch=gfx90a", "--offload-arch=gfx1030", "-O2"]
    subprocess.run(
        [*command, str(HERE / "blits.cpp"), "-lhsa-runtime64", "-o", out],
        env={**os.environ, "HIP_PLATFORM": "amd"}, check=True,
    )  # fmt: skip
    return out


@needs_hip
def test_fills_and_copies(tmp_path: Path, client: str) -> None:
    """The client compares memory; without copy engines ROCr's own kernels make all copies."""
    variables = {"PYTHONPATH": str(HERE.parents[1]), "HSA_ENABLE_SDMA": "0"}
    given, trace = {**os.environ, **variables}, str(tmp_path / "blits.gtrace")
    command = [sys.executable, "-m", "gputrace.cli.main"]
    done = subprocess.run(
        [*command, "record", "-o", trace, "--device", "emu:gfx90a", "--", client],
        env=given, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == "ok"
    shown = subprocess.run(
        [*command, "info", trace], env=given, capture_output=True, text=True, check=True
    ).stdout
    launched = re.findall(r"(\d+) launches of (\S+)", shown)
    ours = {name.removeprefix("__amd_rocclr_") for _, name in launched if "rocclr" in name}
    assert ours == RUN_BY_HIP
    # ROCr's have no names: the loader's copy, a fill for each of five counts, aligned copies and
    # misaligned ones.
    nameless = sorted(int(count) for count, name in launched if name.startswith("0x"))
    assert len(nameless) >= 4
    assert 5 in nameless
    assert "CopyLinear" not in shown


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the text of HIP's buffer kernels out of the library."""
    texts = re.findall(rb"extern void __amd_[\t\n\x20-\x7e]+", HIP.read_bytes())
    path = tmp_path_factory.mktemp("source") / "buffers.cl"
    path.write_bytes(next(text for text in texts if b"__amd_copyBufferAligned" in text))
    return path


def launch(program: Program, name: str, *values: Any) -> None:
    """Launch one of HIP's kernels for 128 work-items; arrays are memory."""
    memory = Arrays()
    args = [memory.add(one) if isinstance(one, np.ndarray) else one for one in values]
    started = program.launch(f"__amd_rocclr_{name}", (2,), (64,), memory, args)
    assert run(started, memory, "both" if program.target == "gfx942" else "numpy") == Done()


# What clang-22 makes of the old libraries takes hidden arguments, which are not given here.
@needs_library
@pytest.mark.parametrize("target", [one for one in TARGETS if compiler(one) == CLANG])
def test_buffer_kernels_on_every_target(source: Path, target: str) -> None:
    """By the same text, for targets that Debian's HIP does not know, too."""
    program = Program(target, "buffers", build(source, target, "-O3 -mcode-object-version=4"))
    data = np.random.default_rng(1).integers(1, 256, 4000, np.uint8)
    # Whole bytes, and words of which the last has only some bytes.
    for remain, size in ((8, 70), (4, 280), (3, 279), (1, 277)):
        out = np.zeros_like(data)
        args = np.uint64(3), np.uint64(5), np.uint64(70), np.uint32(remain)
        launch(program, "copyBuffer", data, out, *args)
        expected = np.zeros_like(data)
        expected[5 : 5 + size] = data[3 : 3 + size]
        assert np.array_equal(out, expected), remain
    for alignment, unit in ((4, 4), (16, 16)):
        out = np.zeros_like(data)
        args = np.uint64(3), np.uint64(5), np.uint64(70), np.uint32(alignment)
        launch(program, "copyBufferAligned", data, out, *args)
        expected = np.zeros_like(data)
        expected[5 * unit : 75 * unit] = data[3 * unit : 73 * unit]
        assert np.array_equal(out, expected), alignment
    for which in range(4):
        out, unit = np.zeros_like(data), 1 << which
        pointers: list[Any] = [0, 0, 0, 0]
        pointers[which] = out
        counts = np.uint32(3), np.uint64(5), np.uint64(70)
        launch(program, "fillBufferAligned", *pointers, data, *counts)
        expected = np.zeros_like(data)
        expected[5 * unit : 215 * unit] = np.tile(data[: 3 * unit], 70)
        assert np.array_equal(out, expected), which
