"""The metadata note of a code object: what its kernels take and need.

Source: LLVM AMDGPUUsage.rst, Code Object V3 to V6 Metadata. V3 to V6 differ in what may be present.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgpack

from gputrace.errors import DecodeError

NOTE_NAME = "AMDGPU"
NOTE_TYPE = 32
MAX_BYTES = 64 << 20
"""Larger notes are refused."""
MAX_ITEMS = 1 << 16
"""Longer lists and maps are refused."""

T = TypeVar("T", int, str, bool)


@dataclass(frozen=True, slots=True)
class Argument:
    """One kernel argument; `value_kind` is the vendor's, such as "by_value" or "hidden_heap_v1"."""

    name: str
    offset: int
    size: int
    value_kind: str
    address_space: str | None = None
    type_name: str | None = None
    access: str | None = None
    actual_access: str | None = None
    pointee_align: int | None = None
    is_const: bool = False
    is_restrict: bool = False
    is_volatile: bool = False
    is_pipe: bool = False

    @property
    def hidden(self) -> bool:
        """Whether the runtime fills it in, not the caller."""
        return self.value_kind.startswith("hidden_")


@dataclass(frozen=True, slots=True)
class KernelMetadata:
    """What a kernel takes and needs; sizes are bytes."""

    name: str
    symbol: str
    args: tuple[Argument, ...]
    kernarg_size: int
    kernarg_align: int
    group_size: int
    private_size: int
    wave_size: int
    max_flat_workgroup_size: int
    sgpr_count: int
    vgpr_count: int
    agpr_count: int = 0
    sgpr_spill_count: int = 0
    vgpr_spill_count: int = 0
    kind: str = "normal"
    language: str | None = None
    reqd_workgroup_size: tuple[int, ...] | None = None
    workgroup_size_hint: tuple[int, ...] | None = None
    uses_dynamic_stack: bool = False
    workgroup_processor_mode: bool | None = None
    uniform_work_group_size: bool = False

    @property
    def explicit_args(self) -> tuple[Argument, ...]:
        """The arguments that a caller gives."""
        return tuple(found for found in self.args if not found.hidden)


@dataclass(frozen=True, slots=True)
class Metadata:
    """The whole note."""

    version: tuple[int, int]
    target: str | None
    kernels: tuple[KernelMetadata, ...]
    printf: tuple[str, ...]


def parse_metadata(raw: bytes) -> Metadata:
    """Read the content of the note; raises DecodeError for what is not documented."""
    if len(raw) > MAX_BYTES:
        raise DecodeError("metadata", len(raw), f"longer than {MAX_BYTES} bytes")
    try:
        root = msgpack.unpackb(
            raw,
            max_str_len=len(raw),
            max_bin_len=len(raw),
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, OverflowError, RecursionError, msgpack.UnpackException) as problem:
        raise DecodeError("metadata", raw, f"no valid msgpack: {problem}") from None
    top = _Map("metadata", root)
    version = top.integers("amdhsa.version")
    if version is None or len(version) != 2 or version[0] != 1:
        raise DecodeError("metadata", raw, f"version {version} is none of 1.0 to 1.2")
    return Metadata(
        version=(version[0], version[1]),
        target=top.optional("amdhsa.target", str),
        kernels=tuple(_kernel(found) for found in top.maps("amdhsa.kernels")),
        printf=tuple(top.strings("amdhsa.printf")),
    )


class _Map:
    # One msgpack map with typed access; every misfit is a DecodeError that names the key.
    def __init__(self, where: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise self._wrong(where, value, "a map")
        self.where, self.items = where, value

    @staticmethod
    def _wrong(where: str, value: object, expected: str) -> DecodeError:
        return DecodeError(where, repr(value)[:16].encode(), f"must be {expected}")

    def optional(self, key: str, kind: type[T]) -> T | None:
        value = self.items.get(key)
        if value is None:
            return None
        # Assemblers write truth values as integers, too; an integer never means a string.
        fits = isinstance(value, (bool, int)) if kind is bool else type(value) is kind
        if not fits or (kind is int and not 0 <= value < 1 << 32):
            raise self._wrong(f"{self.where} {key}", value, f"of type {kind.__name__}")
        return kind(value)

    def required(self, key: str, kind: type[T]) -> T:
        value = self.optional(key, kind)
        if value is None:
            raise self._wrong(f"{self.where} {key}", None, "present")
        return value

    def value(self, key: str, default: T) -> T:
        value = self.optional(key, type(default))
        return default if value is None else value

    def _list(self, key: str) -> list[object] | None:
        value = self.items.get(key)
        if value is not None and not isinstance(value, list):
            raise self._wrong(f"{self.where} {key}", value, "a list")
        return value

    def maps(self, key: str) -> list["_Map"]:
        found = self._list(key) or []
        return [_Map(f"{self.where} {key}[{i}]", item) for i, item in enumerate(found)]

    def integers(self, key: str) -> tuple[int, ...] | None:
        found = self._list(key)
        if found is None:
            return None
        return tuple(_Map(f"{self.where} {key}", {"item": x}).required("item", int) for x in found)

    def strings(self, key: str) -> tuple[str, ...]:
        found = self._list(key) or []
        return tuple(_Map(f"{self.where} {key}", {"item": x}).required("item", str) for x in found)


def _argument(found: _Map) -> Argument:
    return Argument(
        name=found.value(".name", ""),
        offset=found.required(".offset", int),
        size=found.required(".size", int),
        value_kind=found.required(".value_kind", str),
        address_space=found.optional(".address_space", str),
        type_name=found.optional(".type_name", str),
        access=found.optional(".access", str),
        actual_access=found.optional(".actual_access", str),
        pointee_align=found.optional(".pointee_align", int),
        is_const=found.value(".is_const", False),
        is_restrict=found.value(".is_restrict", False),
        is_volatile=found.value(".is_volatile", False),
        is_pipe=found.value(".is_pipe", False),
    )


def _kernel(found: _Map) -> KernelMetadata:
    return KernelMetadata(
        name=found.required(".name", str),
        symbol=found.required(".symbol", str),
        args=tuple(_argument(each) for each in found.maps(".args")),
        kernarg_size=found.required(".kernarg_segment_size", int),
        kernarg_align=found.value(".kernarg_segment_align", 8),
        group_size=found.required(".group_segment_fixed_size", int),
        private_size=found.required(".private_segment_fixed_size", int),
        wave_size=found.required(".wavefront_size", int),
        max_flat_workgroup_size=found.value(".max_flat_workgroup_size", 1024),
        sgpr_count=found.required(".sgpr_count", int),
        vgpr_count=found.required(".vgpr_count", int),
        agpr_count=found.value(".agpr_count", 0),
        sgpr_spill_count=found.value(".sgpr_spill_count", 0),
        vgpr_spill_count=found.value(".vgpr_spill_count", 0),
        kind=found.value(".kind", "normal"),
        language=found.optional(".language", str),
        reqd_workgroup_size=found.integers(".reqd_workgroup_size"),
        workgroup_size_hint=found.integers(".workgroup_size_hint"),
        uses_dynamic_stack=found.value(".uses_dynamic_stack", False),
        workgroup_processor_mode=found.optional(".workgroup_processor_mode", bool),
        uniform_work_group_size=found.value(".uniform_work_group_size", False),
    )
