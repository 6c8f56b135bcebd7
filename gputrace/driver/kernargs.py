"""Kernel arguments: checked against the metadata, then laid out as the kernel reads them.

Hidden arguments are filled in by their metadata's kind and offset. Source: LLVM AMDGPUUsage.rst,
Code Object Metadata, `.value_kind`.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gputrace.code import Argument, KernelMetadata
from gputrace.driver.memory import Buffer
from gputrace.errors import UsageError

Value = object
Converter = Callable[[Any], bytes]
Triple = tuple[int, int, int]

LDS_ALIGNMENT = 16  # of a dynamic array in LDS
_FLOAT_FORMATS = {2: "<e", 4: "<f", 8: "<d"}
_FLOAT_TYPES = frozenset({"half", "float", "double"})
_POINTERS = frozenset({"global_buffer", "image", "sampler", "pipe", "queue"})
# Runtime services that this driver does not offer: a kernel that uses them finds a null pointer.
_ABSENT = frozenset(
    f"hidden_{name}"
    for name in (
        "none", "printf_buffer", "hostcall_buffer", "multigrid_sync_arg", "heap_v1",
        "default_queue", "completion_action",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a launch: work-items in all, work-items of a group, LDS beyond the static."""

    threads: Triple
    block: Triple
    dynamic_lds: int = 0

    @property
    def groups(self) -> Triple:
        """Work-groups along each axis, a partial one counted."""
        x, y, z = (-(-n // b) for n, b in zip(self.threads, self.block, strict=True))
        return x, y, z

    @property
    def whole_groups(self) -> Triple:
        """Work-groups along each axis that are not partial."""
        x, y, z = (n // b for n, b in zip(self.threads, self.block, strict=True))
        return x, y, z

    @property
    def remainders(self) -> Triple:
        """Work-items of the partial group along each axis, 0 where there is none."""
        x, y, z = (n % b for n, b in zip(self.threads, self.block, strict=True))
        return x, y, z

    @property
    def dimensions(self) -> int:
        """The number of axes in use, 1 to 3."""
        return 3 if self.threads[2] > 1 else 2 if self.threads[1] > 1 else 1


class Arguments:
    """The explicit arguments of a kernel: converters and places.

    Where an `owner` is given, a buffer of another one is refused.
    """

    def __init__(self, kernel: KernelMetadata, gpu_id: int, owner: object = None) -> None:
        self._kernel = kernel
        self._explicit = [
            (one.offset, one.offset + one.size, _converter(one, gpu_id, owner))
            for one in kernel.explicit_args
        ]
        for one in kernel.args:
            if one.offset + one.size > kernel.kernarg_size:
                raise UsageError(f"{kernel.name}: {_shown(one)} is outside the argument segment")
            if one.value_kind == "dynamic_shared_pointer":
                raise UsageError(
                    f"{kernel.name}: {_shown(one)} is a pointer to LDS, which is not handled"
                )

    def fill(self, data: bytearray | memoryview, values: Sequence[Value]) -> None:
        """Convert `values` and put them into `data`. Raises UsageError that names the argument."""
        if not isinstance(values, Sequence) or len(values) != len(self._explicit):
            wanted = ", ".join(_shown(one) for one in self._kernel.explicit_args)
            raise UsageError(
                f"{self._kernel.name} takes {len(self._explicit)} arguments ({wanted}), "
                f"found {len(values) if isinstance(values, Sequence) else repr(values)}"
            )
        start = -1
        try:
            for (start, end, convert), value in zip(self._explicit, values, strict=True):
                data[start:end] = convert(value)
        except UsageError as problem:
            index = [one[0] for one in self._explicit].index(start)
            raise UsageError(f"{self._kernel.name}, argument {index}: {problem}") from None

    def template(self, shape: Geometry, hidden: Mapping[str, int]) -> bytearray:
        """Return the segment with every hidden argument in its place. Raises UsageError."""
        data = bytearray(self._kernel.kernarg_size)
        known = {**hidden_values(shape), **hidden}
        for one in self._kernel.args:
            if not one.hidden or one.value_kind in _ABSENT:
                continue
            if one.value_kind not in known:
                raise UsageError(f"{self._kernel.name}: {one.value_kind} is not handled")
            value = known[one.value_kind].to_bytes(8, "little")
            data[one.offset : one.offset + one.size] = value[: one.size]
        return data


def hidden_values(shape: Geometry) -> dict[str, int]:
    """Return what the hidden arguments that follow from the shape hold, by kind."""
    values = {"hidden_grid_dims": shape.dimensions, "hidden_dynamic_lds_size": shape.dynamic_lds}
    for index, axis in enumerate("xyz"):
        values[f"hidden_block_count_{axis}"] = shape.whole_groups[index]
        values[f"hidden_group_size_{axis}"] = shape.block[index]
        values[f"hidden_remainder_{axis}"] = shape.remainders[index]
        values[f"hidden_global_offset_{axis}"] = 0
    return values


def _shown(one: Argument) -> str:
    name = f" {one.name}" if one.name else ""
    return f"{one.value_kind}{name} of {one.size} bytes"


def _converter(one: Argument, gpu_id: int, owner: object) -> Converter:
    if one.value_kind in _POINTERS:
        return _pointer(one, gpu_id, owner)
    return _by_value(one)


def _pointer(one: Argument, gpu_id: int, owner: object) -> Converter:
    def convert(value: Any) -> bytes:
        if isinstance(value, Buffer):
            if value.freed:
                raise UsageError(f"{value!r} was freed")
            if gpu_id not in value.block.mapped_on:
                raise UsageError(f"{value!r} is not mapped on this GPU: share it first")
            if owner is not None and value.owner is not owner:
                raise UsageError(f"{value!r} belongs to a device that was opened apart")
            return value.address.to_bytes(8, "little")
        wide = isinstance(value, int) or (isinstance(value, np.integer) and value.nbytes == 8)
        if wide and 0 <= int(value) < 1 << 64:
            return int(value).to_bytes(8, "little")
        raise UsageError(f"expected a buffer or an address for {_shown(one)}, found {value!r}")

    return convert


def _by_value(one: Argument) -> Converter:
    size, floating = one.size, one.type_name in _FLOAT_TYPES

    def convert(value: Any) -> bytes:
        if isinstance(value, np.generic):
            raw = value.tobytes()
            if floating and not isinstance(value, np.floating):
                raise UsageError(f"expected a {one.type_name}, found {value!r}")
        elif isinstance(value, Buffer):
            if size != 8:
                raise UsageError(f"expected {_shown(one)}, found {value!r}")
            raw = value.address.to_bytes(8, "little")
        elif isinstance(value, float) or (floating and isinstance(value, int)):
            raw = _float_bytes(one, float(value))
        elif isinstance(value, int):
            raw = _integer_bytes(one, value)
        elif isinstance(value, (bytes, bytearray, memoryview, np.ndarray)):
            raw = bytes(value)
        else:
            raise UsageError(f"expected {_shown(one)}, found {value!r}")
        if len(raw) != size:
            raise UsageError(f"expected {_shown(one)}, found {len(raw)} bytes ({value!r})")
        return raw

    return convert


def _float_bytes(one: Argument, value: float) -> bytes:
    if one.size not in _FLOAT_FORMATS:
        raise UsageError(f"expected {_shown(one)}, found the float {value!r}")
    try:
        return struct.pack(_FLOAT_FORMATS[one.size], value)
    except OverflowError:
        raise UsageError(f"{value!r} does not fit {_shown(one)}") from None


def _integer_bytes(one: Argument, value: int) -> bytes:
    try:
        return value.to_bytes(one.size, "little", signed=value < 0)
    except OverflowError:
        raise UsageError(f"{value} does not fit {_shown(one)}") from None
