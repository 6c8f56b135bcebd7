"""Take Triton's stored kernels out of their archives and run them through the driver core."""

import functools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputrace import driver
from tests.kernels.triton.variants import TARGETS

BUILT = Path(__file__).parent / "built"
NUMPY = {
    "fp64": np.float64, "fp32": np.float32, "fp16": np.float16, "bf16": np.uint16,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
    "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "fp8e4b8": np.uint8, "fp8e5b16": np.uint8, "fp8e4nv": np.uint8, "fp8e5": np.uint8,
}  # fmt: skip
"""How elements of Triton's kinds lie in an array; codes where numpy has no such number."""


@functools.cache
def launches(target: str) -> dict[str, dict[str, Any]]:
    """Return what the archive of a target says about its kernels, by their names."""
    with zipfile.ZipFile(BUILT / f"{target}.zip") as archive:
        return dict(json.loads(archive.read("kernels.json")))


def everything() -> list[tuple[str, str]]:
    """Return every target with each of its kernels."""
    return [(target, name) for target in TARGETS for name in launches(target)]


class Stored:
    """One stored kernel on an emulated device; a `with` block closes it."""

    def __init__(self, target: str, name: str, engine: str = "auto") -> None:
        self.target, self.name = target, name
        self.about = launches(target)[name]
        self.constants: dict[str, Any] = self.about["constants"]
        self.kinds = {key: kind.strip("*") for key, kind in self.about["arguments"].items()}
        with zipfile.ZipFile(BUILT / f"{target}.zip") as archive:
            code = archive.read(f"{name}.hsaco")
        self.device = driver.open(f"emu:{target},engine={engine}")
        self.kernel = self.device.load(code)[self.about["kernel"]]
        self.queue = self.device.compute_queue()

    def __enter__(self) -> "Stored":
        return self

    def __exit__(self, *problem: object) -> None:
        self.device.close()

    def run(self, grid: int | tuple[int, ...], **values: Any) -> None:
        """Launch with arguments by name; arrays are memory, and read back in place."""
        assert list(values) == list(self.kinds)
        given: list[Any] = []
        memory: list[tuple[driver.Buffer, NDArray[Any]]] = []
        for name, value in values.items():
            kind = np.dtype(NUMPY[self.kinds[name]])
            if not isinstance(value, np.ndarray):
                given.append(kind.type(value))
                continue
            assert value.dtype == kind, name
            assert value.flags.c_contiguous, name
            buffer = self.device.alloc(value.nbytes)
            buffer.write(value)
            memory.append((buffer, value))
            given.append(buffer)
        # Behind the kernel's own arguments: Triton's scratch in memory and profile, not in use.
        block, shared = self.about["block"], self.about["dynamic_lds"]
        self.queue.launch(self.kernel, grid, block, [*given, 0, 0], dynamic_lds=shared).wait(120.0)
        for buffer, value in memory:
            value[...] = buffer.view(value.dtype).reshape(value.shape)
