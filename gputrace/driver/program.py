"""Programs: code objects in GPU memory, and their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING

from gputrace.code import CodeObject, unbundle
from gputrace.code import Kernel as CodeKernel
from gputrace.driver.kernargs import Arguments, Geometry, Triple
from gputrace.driver.memory import Buffer, Data
from gputrace.errors import UsageError
from gputrace.formats.descriptor import CODE_ALIGNMENT

if TYPE_CHECKING:
    from gputrace.driver.device import Device

STACK_BYTES = 2048  # of a work-item, when the compiler does not know how deep calls go
Sizes = Triple | Sequence[int] | int
Source = str | Path | bytes | bytearray | memoryview


class Kernel:
    """A kernel of a loaded program; what `Queue.launch` takes."""

    def __init__(self, program: Program, kernel: CodeKernel) -> None:
        self.program, self.code, self.name = program, kernel, kernel.name
        base = program.memory.address
        self.descriptor_address = base + kernel.descriptor_address
        self.entry_address = base + kernel.entry_address
        self.metadata = kernel.metadata
        self.descriptor = kernel.descriptor
        self.arguments = Arguments(kernel.metadata, program.device.gpu_id, program.device.session)

    def __repr__(self) -> str:
        return f"<Kernel {self.name} of {self.program!r}>"

    def check(self, shape: Geometry) -> None:
        """Raise UsageError for a shape that the kernel or the GPU cannot take."""
        x, y, z = shape.block
        family, limit = self.program.device.family, self.metadata.max_flat_workgroup_size
        if min(shape.threads) < 1 or min(shape.block) < 1:
            raise UsageError(f"{self.name}: every axis of grid and block is at least 1")
        if max(shape.groups) >= 1 << 32:
            raise UsageError(f"{self.name}: a grid axis has more than 2**32 work-groups")
        if x * y * z > min(limit, family.max_flat_workgroup):
            raise UsageError(f"{self.name}: a block of {x * y * z} work-items is over {limit}")
        wanted = self.metadata.reqd_workgroup_size
        if wanted is not None and tuple(wanted) != shape.block:
            raise UsageError(f"{self.name}: the block must be {tuple(wanted)}, not {shape.block}")
        if self.lds(shape) > family.lds_bytes:
            raise UsageError(
                f"{self.name}: {self.lds(shape)} bytes of LDS are over {family.lds_bytes}"
            )
        if not shape.dynamic_lds >= 0:
            raise UsageError(f"{self.name}: dynamic_lds is {shape.dynamic_lds}")

    def lds(self, shape: Geometry) -> int:
        """Return the bytes of LDS of a work-group, static and dynamic."""
        return self.descriptor.group_segment_fixed_size + shape.dynamic_lds

    def lane_bytes(self, stack: int | None) -> int:
        """Return the scratch of a work-item in bytes; `stack` when more was asked for."""
        if stack is None:
            stack = STACK_BYTES if self.descriptor.uses_dynamic_stack else 0
        return max(self.descriptor.private_segment_fixed_size, stack)

    def wants(self, kind: str) -> bool:
        """Whether the kernel has a hidden argument of a kind."""
        return any(one.value_kind == kind for one in self.metadata.args)

    @property
    def wave32(self) -> bool:
        """Whether its waves have 32 lanes."""
        return bool(self.descriptor.enable_wavefront_size32)


class Program:
    """A code object loaded into the memory of one GPU, all of its segments."""

    def __init__(self, device: Device, source: Source) -> None:
        self.device = device
        self.name = str(source) if isinstance(source, (str, Path)) else "code object"
        self.code = CodeObject.parse(unbundle(_read(source), device.target))
        if not self.code.runs_on(device.target):
            raise UsageError(f"{self.name} is for {self.code.target}, not for {device.target}")
        if self.code.features.get("xnack") == "on":
            raise UsageError(f"{self.name} needs page faults to be retried (xnack), which is off")
        label = Path(self.name).name
        self.memory: Buffer = device.alloc(
            self.code.memory_size, executable=True, name=label, what="code"
        )
        try:
            self.memory.write(self.code.image(self.memory.address))
            self.kernels = {
                name: Kernel(self, kernel) for name, kernel in self.code.kernels.items()
            }
        except BaseException:
            self.memory.free()
            raise
        self._label()

    def _label(self, take_away: bool = False) -> None:
        base, label = self.memory.address, self.device.session.kfd.label
        entries = {}
        for name, kernel in self.code.kernels.items():
            entries[kernel.entry_address] = name
            place = self.code.symbols.get(name)
            size = place.size if place is not None else CODE_ALIGNMENT
            label(base + kernel.entry_address, size, "kernel", "" if take_away else name)
        for name, place in self.code.symbols.items():
            if place.address not in entries:
                label(base + place.address, place.size, "symbol", "" if take_away else name)

    def __repr__(self) -> str:
        return f"<Program {self.name} at {self.memory.address:#x}>"

    def __getitem__(self, name: str) -> Kernel:
        """Return a kernel by name. Raises UsageError that lists the known ones."""
        if name not in self.kernels:
            known = ", ".join(sorted(self.kernels)) or "none"
            raise UsageError(f"no kernel {name!r} in {self.name}; known are {known}")
        return self.kernels[name]

    def symbol(self, name: str) -> tuple[int, int]:
        """Return address and size of a global or function. Raises UsageError."""
        place = self.code.symbols.get(name)
        if place is None:
            known = ", ".join(sorted(self.code.symbols))
            raise UsageError(f"no symbol {name!r} in {self.name}; known are {known}")
        return self.memory.address + place.address, place.size

    def read(self, name: str) -> bytes:
        """Return the bytes of a global. Raises UsageError for an unknown name."""
        address, size = self.symbol(name)
        return self.memory.read(size, address - self.memory.address)

    def write(self, name: str, data: Data, offset: int = 0) -> None:
        """Store into a global. Raises UsageError for an unknown name and what does not fit."""
        address, size = self.symbol(name)
        raw = bytes(data)
        if not 0 <= offset <= offset + len(raw) <= size:
            raise UsageError(f"{name}: {len(raw)} bytes at {offset} are not inside {size} bytes")
        self.memory.write(raw, address - self.memory.address + offset)

    def free(self) -> None:
        """Take the code out of memory; nothing of it may run any more."""
        self.memory.free()
        self._label(take_away=True)


def _read(source: Source) -> bytes:
    if not isinstance(source, (str, Path)):
        return bytes(source)
    try:
        return Path(source).read_bytes()
    except OSError as problem:
        raise UsageError(f"cannot read {source}: {problem.strerror}") from None


def geometry(grid: Sizes | None, block: Sizes, threads: Sizes | None, dynamic_lds: int) -> Geometry:
    """Return the shape for a `grid` of work-groups or `threads` in all, one of the two."""
    sizes = _triple(block, "block")
    if (grid is None) == (threads is None):
        raise UsageError("launch: give either grid (work-groups) or threads (work-items)")
    if threads is not None:
        return Geometry(_triple(threads, "threads"), sizes, dynamic_lds)
    assert grid is not None
    x, y, z = (g * b for g, b in zip(_triple(grid, "grid"), sizes, strict=True))
    return Geometry((x, y, z), sizes, dynamic_lds)


def _triple(value: Sizes, what: str) -> Triple:
    try:
        given = [index(one) for one in (value if isinstance(value, Sequence) else (value,))]
    except TypeError:
        given = []
    if not 1 <= len(given) <= 3:
        raise UsageError(f"{what}: expected one to three whole numbers, found {value!r}")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z
