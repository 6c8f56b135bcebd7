"""Which kernel a dispatch starts, with which shape and arguments, as far as a trace tells."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gputrace.bits import Record
from gputrace.code import Argument, CodeObject
from gputrace.code import Kernel as CodeKernel
from gputrace.code.loaded import parse_loaded
from gputrace.errors import DecodeError, UsageError
from gputrace.families import Family
from gputrace.formats import aql, pm4
from gputrace.formats.descriptor import (
    DESCRIPTOR_BYTES,
    PRELOAD_PROLOG_BYTES,
    KernelDescriptor,
)
from gputrace.kfd.labels import Labels
from gputrace.submitted.image import PAGE, Memory
from gputrace.submitted.stream import Placed

Triple = tuple[int, int, int]

MAX_CODE = 24 << 20
"""Bytes; a larger allocation is not searched for a code object."""
MAX_LOADED = 32 << 20
"""Bytes of code objects that are remembered; the oldest are forgotten."""
MAX_ARGUMENTS = 1 << 16
"""Bytes; a kernel that claims more is shown without its arguments."""
_ELF = b"\x7fELF"
_AXES = "XYZ"
_FLOATS = {"half": "<e", "float": "<f", "double": "<d"}
_POINTERS = frozenset({"global_buffer", "dynamic_shared_pointer", "image", "sampler", "pipe"})


class Given(NamedTuple):
    """One argument: its name (or place), its bytes, and them as text."""

    name: str
    raw: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Launch:
    """A dispatch: `groups` counts work-groups, `block` the work-items of one.

    `kernel` is empty where nothing names the code at `entry`; `arguments` is None where they are
    not known: no metadata, or memory that the trace does not hold.
    """

    kernel: str
    entry: int
    groups: Triple
    block: Triple
    kernarg: int | None
    arguments: tuple[Given, ...] | None

    def text(self) -> str:
        """Write the launch on one line."""
        name = self.kernel or f"the code at {self.entry:#x}"
        shape = f"{_times(self.groups)} groups of {_times(self.block)}"
        if self.arguments is None:
            return f"{name}, {shape}"
        given = ", ".join(f"{one.name}={one.text}" for one in self.arguments)
        return f"{name}({given}), {shape}"


class Loaded:
    """A code object in memory; `first` is its first page, by which it is known again."""

    def __init__(self, base: int, first: bytes, code: CodeObject | None) -> None:
        self.base, self.first, self.code = base, first, code
        self._kernels: dict[int, CodeKernel] = {}
        for kernel in code.kernels.values() if code is not None else ():
            entry = base + kernel.entry_address
            self._kernels.setdefault(entry, kernel)
            if kernel.descriptor.kernarg_preload_length:
                self._kernels.setdefault(entry + PRELOAD_PROLOG_BYTES, kernel)

    @property
    def size(self) -> int:
        """Bytes that it has in memory."""
        return self.code.memory_size if self.code is not None else 0

    def kernel(self, entry: int) -> CodeKernel | None:
        """Return the kernel that is entered at an address."""
        return self._kernels.get(entry)

    def holds(self, address: int) -> bool:
        """Whether an address is inside."""
        return self.code is not None and 0 <= address - self.base < self.code.memory_size


class Launches:
    """Follows the registers of each queue and reads dispatches out of them."""

    def __init__(self, image: Memory, labels: Labels) -> None:
        self.image, self._labels = image, labels
        self._registers: dict[int, dict[int, int]] = {}
        self._loaded: dict[int, Loaded] = {}
        self.family: Family | None = None

    def registers(self, queue: int) -> dict[int, int]:
        """Return the registers that a queue's packets have set, by dword number."""
        return self._registers.setdefault(queue, {})

    def forget(self, queue: int) -> None:
        """Drop the registers of a queue that was made anew."""
        self._registers.pop(queue, None)

    def apply(self, placed: Placed) -> Launch | None:
        """Take a packet into account; return what it launches."""
        record = placed.record
        if placed.skipped or record is None or self.family is None:
            return None
        if isinstance(record, aql.KernelDispatch):
            return self._from_packet(record)
        state = self.registers(placed.queue)
        state.update(register_writes(record))
        if isinstance(record, pm4.DispatchDirect):
            size = record.dim_x, record.dim_y, record.dim_z
            return self._from_registers(state, size, record.initiator)
        if isinstance(record, pm4.DispatchIndirect):
            raw = self.image.read(record.address, 12)
            if raw is not None:
                return self._from_registers(state, struct.unpack("<3I", raw), record.initiator)
        return None

    def code_around(self, address: int) -> Loaded | None:
        """Return the code object that lies, or was once seen to lie, around an address."""
        self._load(address)
        return next((one for one in self._loaded.values() if one.holds(address)), None)

    def _from_registers(
        self, state: dict[int, int], size: Sequence[int], initiator: int
    ) -> Launch | None:
        assert self.family is not None
        table = self.family.registers

        def value(name: str) -> int:
            return state.get(table.address(f"COMPUTE_{name}"), 0)

        def fields(name: str, raw: int) -> Any:
            return table.decode(table.address(f"COMPUTE_{name}"), raw)

        entry = (value("PGM_LO") | value("PGM_HI") << 32) << 8
        axes = [f"NUM_THREAD_{axis}" for axis in _AXES]
        block = _triple([int(fields(name, value(name)).num_thread_full) for name in axes])
        groups = _triple(size)
        if fields("DISPATCH_INITIATOR", initiator).use_thread_dimensions:
            groups = _divided(groups, block)
        found = self._kernel(entry)
        kernarg = None
        if found is not None:
            place = found.descriptor.user_sgprs().get("kernarg_segment_ptr")
            if place is not None:
                low, high = (value(f"USER_DATA_{place[0] + n}") for n in (0, 1))
                kernarg = low | high << 32
        name = found.name if found else self._labels.kernel(entry)
        return Launch(name, entry, groups, block, kernarg, self._arguments(found, kernarg))

    def _from_packet(self, packet: aql.KernelDispatch) -> Launch:
        block = (packet.workgroup_size_x, packet.workgroup_size_y, packet.workgroup_size_z)
        items = (packet.grid_size_x, packet.grid_size_y, packet.grid_size_z)
        entry = packet.kernel_object
        raw = self.image.read(entry, DESCRIPTOR_BYTES)
        if raw is not None:
            entry += KernelDescriptor.from_bytes(raw).kernel_code_entry_byte_offset
        found = self._kernel(entry)
        name = found.name if found else self._named(packet.kernel_object, entry)
        kernarg = packet.kernarg_address or None
        given = self._arguments(found, kernarg)
        return Launch(name, entry, _divided(items, block), block, kernarg, given)

    # The descriptor's name tells the kernel's where the trace does not hold the descriptor.
    def _named(self, descriptor: int, entry: int) -> str:
        label = self._labels.at(descriptor)
        if label is not None and label.address == descriptor and label.name.endswith(".kd"):
            return label.name.removesuffix(".kd")
        return self._labels.kernel(entry)

    def _kernel(self, entry: int) -> CodeKernel | None:
        loaded = self._load(entry)
        return loaded.kernel(entry) if loaded is not None else None

    def _load(self, address: int) -> Loaded | None:
        extent = self.image.extent(address)
        if extent is None or extent[1] - extent[0] > MAX_CODE:
            return None
        base, end = extent
        first = self.image.read(base, min(PAGE, end - base))
        if first is None or not first.startswith(_ELF):
            return None
        known = self._loaded.get(base)
        if known is None or known.first != first:
            self._loaded.pop(base, None)
            known = self._loaded[base] = Loaded(base, first, self._parse(base, end - base))
            while sum(one.size for one in self._loaded.values()) > MAX_LOADED:
                del self._loaded[next(iter(self._loaded))]
        return known

    def _parse(self, base: int, size: int) -> CodeObject | None:
        memory = self.image.read(base, size)
        try:
            return None if memory is None else parse_loaded(memory)
        except (DecodeError, UsageError):
            return None  # a dispatch is told by its registers then

    def _arguments(
        self, kernel: CodeKernel | None, kernarg: int | None
    ) -> tuple[Given, ...] | None:
        if kernel is None or kernarg is None:
            return () if kernel is not None and not kernel.metadata.explicit_args else None
        size = kernel.metadata.kernarg_size
        raw = self.image.read(kernarg, size) if size <= MAX_ARGUMENTS else None
        if raw is None:
            return None
        explicit = enumerate(kernel.metadata.explicit_args)
        return tuple(self._given(one, f"arg{number}", raw) for number, one in explicit)

    def _given(self, argument: Argument, name: str, segment: bytes) -> Given:
        raw = segment[argument.offset : argument.offset + argument.size]
        name = argument.name or name
        shape = _FLOATS.get(argument.type_name or "")
        if argument.value_kind in _POINTERS:
            text = self._labels.short(int.from_bytes(raw, "little"))
        elif shape is not None and struct.calcsize(shape) == len(raw):
            text = f"{struct.unpack(shape, raw)[0]:.9g}"
        elif len(raw) <= 8:
            value = int.from_bytes(raw, "little")
            text = str(value) if value < 1 << 16 else f"{value:#x}"
        else:
            text = f"{len(raw)} bytes {raw[:8].hex()}.."
        return Given(name, raw, text)


def register_writes(record: Record) -> Iterator[tuple[int, int]]:
    """Yield (dword number, value) of the registers that a PM4 packet sets to constants."""
    match record:
        case pm4.SetShReg() | pm4.SetShRegIndex() | pm4.SetUconfigReg() | pm4.SetUconfigRegIndex():
            yield from enumerate(record.values, record.register)
        case pm4.SetShRegPairs() | pm4.SetUconfigRegPairs():
            base = pm4.SH_BASE if isinstance(record, pm4.SetShRegPairs) else pm4.UCONFIG_BASE
            for offset, value in zip(record.pairs[::2], record.pairs[1::2], strict=False):
                yield base + (offset & 0xFFFF), value
        case pm4.WriteData() | pm4.WriteDataGfx12() if record.dst_sel == pm4.WriteTo.REGISTER:
            yield from enumerate(record.data, record.address)


def _triple(values: Sequence[int]) -> Triple:
    x, y, z = values
    return x, y, z


def _divided(items: Triple, block: Triple) -> Triple:
    return _triple([-(-count // max(1, size)) for count, size in zip(items, block, strict=True)])


def _times(sizes: Triple) -> str:
    kept = sizes if sizes[2] != 1 else sizes[:2] if sizes[1] != 1 else sizes[:1]
    return "x".join(map(str, kept))
