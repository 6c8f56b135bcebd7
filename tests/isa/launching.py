"""Load the stored kernels and run them on the machine, without the rest of gputrace."""

import io
import os
import struct
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from numpy.typing import NDArray

from gputrace.isa.machine import (
    Execution,
    KernelLaunch,
    Machine,
    Outcome,
    Range,
)

BUILT = Path(
    os.environ.get("GPUTRACE_TEST_KERNELS") or Path(__file__).parent.parent / "kernels" / "built"
)
"""Where the code objects are, a folder for each target."""
CODE, KERNARGS, PACKET = 0x10_0000, 0x20_0000, 0x21_0000
SCRATCH, BUFFERS = 0x4000_0000, 0x7000_0000_0000
_RELATIVE64 = 13  # LLVM ELFRelocs/AMDGPU.def: R_AMDGPU_RELATIVE64


class Arrays:
    """Memory made of numpy arrays at chosen addresses."""

    def __init__(self) -> None:
        self.version = 0
        self.executable = True
        self._held: list[tuple[int, NDArray[Any], bool]] = []
        self._next = BUFFERS

    def add(self, data: NDArray[Any], address: int | None = None, writable: bool = True) -> int:
        """Place an array (a page apart from the last one) and return its address."""
        at = self._next if address is None else address
        if address is None:
            self._next += (data.nbytes + 0x1FFF) & ~0xFFF
        self._held.append((at, data, writable))
        self.version += 1
        return at

    def contents(self) -> list[bytes]:
        """Return the bytes of all arrays."""
        return [data.tobytes() for _, data, _ in self._held]

    def restore(self, contents: list[bytes]) -> None:
        """Put back what `contents` gave."""
        for (_, data, _), raw in zip(self._held, contents, strict=True):
            data.view(np.uint8).reshape(-1)[:] = np.frombuffer(raw, np.uint8)

    def ranges(self) -> Sequence[Range]:
        """Return the arrays as ranges."""
        may = self.executable
        return [Range(at, a.nbytes, a.ctypes.data, w, may) for at, a, w in self._held]

    def array(self, address: int) -> NDArray[Any]:
        """Return the array at an address."""
        return next(data for at, data, _ in self._held if at == address)

    def drop(self, address: int) -> None:
        """Take the array at an address away."""
        self._held = [held for held in self._held if held[0] != address]
        self.version += 1


class Program:
    """One code object, stored or given."""

    def __init__(self, target: str, name: str, code: bytes | None = None) -> None:
        self.target = target
        elf = ELFFile(io.BytesIO(code or (BUILT / target / f"{name}.co").read_bytes()))
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        self.image = np.zeros(max(s["p_vaddr"] + s["p_memsz"] for s in loads) + 64, np.uint8)
        for segment in loads:
            data = np.frombuffer(segment.data(), np.uint8)
            self.image[segment["p_vaddr"] : segment["p_vaddr"] + len(data)] = data
        table = elf.get_section_by_name(".dynsym")
        self.symbols = {s.name: s["st_value"] for s in table.iter_symbols()}
        moves = elf.get_section_by_name(".rela.dyn")
        for move in moves.iter_relocations() if moves else ():
            assert move["r_info_type"] == _RELATIVE64
            at = move["r_offset"]
            self.image[at : at + 8].view("<u8")[0] = CODE + move["r_addend"]

    def launch(
        self, kernel: str, groups: tuple[int, ...], size: tuple[int, ...], memory: Arrays, args: Any
    ) -> KernelLaunch:
        """Make the launch of a kernel; args are numpy scalars and addresses (ints)."""
        at = self.symbols[f"{kernel}.kd"]
        descriptor = self.image[at : at + 64].tobytes()
        lds, private, _, _, entry = struct.unpack_from("<IIIIq", descriptor)
        rsrc3, rsrc1, rsrc2, properties = struct.unpack_from("<IIIH", descriptor, 44)
        memory.add(self.image, CODE)
        memory.add(np.frombuffer(bytearray(packed(args)), np.uint8), KERNARGS)
        memory.add(dispatch_packet(groups, size), PACKET)
        wave_size = 32 if properties >> 10 & 1 else 64
        wave_bytes = -(-private * wave_size // 1024) * 1024 + 65536
        memory.add(np.zeros(wave_bytes * 16, np.uint8), SCRATCH)
        return KernelLaunch(
            target=self.target,
            entry=CODE + at + entry,
            rsrc1=rsrc1,
            rsrc2=rsrc2,
            rsrc3=rsrc3,
            wave_size=wave_size,
            user_data=user_data(properties, rsrc2),
            groups=(*groups, 1, 1, 1)[:3],
            group_size=(*size, 1, 1, 1)[:3],
            lds_bytes=lds,
            scratch_base=SCRATCH,
            scratch_wave_bytes=wave_bytes,
            scratch_waves=16,
            kernel=kernel,
        )


def packed(args: Any) -> bytes:
    """Lay out kernel arguments with their natural alignment, and hidden ones behind them."""
    out = b""
    for value in args:
        raw = struct.pack("<Q", value) if isinstance(value, int) else value.tobytes()
        step = 8 if isinstance(value, int) else value.dtype.alignment
        out += b"\0" * (-len(out) % step) + raw
    return out + b"\0" * (256 + -len(out) % 8)


def dispatch_packet(groups: tuple[int, ...], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the AQL packet of a launch as far as kernels read it: sizes of group and grid."""
    sizes, counts = (*size, 1, 1)[:3], (*groups, 1, 1)[:3]
    grid = [a * b for a, b in zip(sizes, counts, strict=True)]
    raw = struct.pack("<2H3HH3I", 0, 3, *sizes, 0, *grid)
    return np.frombuffer(bytearray(raw.ljust(64, b"\0")), np.uint8)


def user_data(properties: int, rsrc2: int) -> tuple[int, ...]:
    """Return the user SGPRs: scratch resource, dispatch packet, kernel arguments, scratch base."""
    lanes = 32 if properties >> 10 & 1 else 64
    # Swizzled by dwords over the wave's lanes, the lane added; raw bounds (gfx10 and later).
    last = (2 if lanes == 32 else 3) << 21 | 1 << 23 | 3 << 28
    resource = (SCRATCH & 0xFFFFFFFF, SCRATCH >> 32 | 1 << 31, 0xFFFFFFFF, last)
    pairs = {1: PACKET, 2: 0, 3: KERNARGS, 4: 0, 5: SCRATCH}
    values: list[int] = [*resource] if properties & 1 else []
    for bit, content in pairs.items():
        if properties >> bit & 1:
            values += [content & 0xFFFFFFFF, content >> 32]
    return tuple((values + [0] * 16)[: rsrc2 >> 1 & 31])


def start(launch: KernelLaunch, memory: Arrays, engine: Any = "auto") -> Execution:
    """Begin a launch on a machine of its target."""
    return Machine(launch.target, engine).start(launch, memory)


def run(launch: KernelLaunch, memory: Arrays, engine: Any = "auto") -> Outcome:
    """Run a launch to its end, or for ten million instructions.

    The engine "both" runs it twice from the same memory and holds the two results together.
    """
    if engine == "both":
        return run_both(launch, memory)
    return start(launch, memory, engine).run(10_000_000)


def run_both(launch: KernelLaunch, memory: Arrays) -> Outcome:
    """Run a launch with numpy and compiled; outcome, memory and counts must be the same."""
    before = memory.contents()
    first = start(launch, memory, "numpy")
    expected, after = first.run(10_000_000), memory.contents()
    memory.restore(before)
    second = start(launch, memory, "jit")
    outcome = second.run(10_000_000)
    assert second.instructions == first.instructions
    assert memory.contents() == after
    assert not second.machine.library.failures
    assert_same_outcome(outcome, expected)
    return outcome


def assert_same_outcome(found: Outcome, expected: Outcome) -> None:
    """Compare two outcomes with all registers."""
    assert replace_registers(found) == replace_registers(expected)
    one, other = (getattr(outcome, "registers", None) for outcome in (found, expected))
    if one is not None and other is not None:
        assert np.array_equal(one.scalars, other.scalars)
        assert np.array_equal(one.vectors, other.vectors)


def replace_registers(outcome: Outcome) -> Any:
    """Return an outcome in a form that can be compared: without its registers."""
    kept = [f.name for f in fields(outcome) if f.name != "registers"]
    return type(outcome), [getattr(outcome, name) for name in kept]
