"""What a kernel launch is, what memory it sees, and how it can end."""

import ctypes
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import state
from gputrace.isa.instruction import Instruction, OperandKind

Words = NDArray[np.uint32]
Dimensions = tuple[int, int, int]
Access = Literal["read", "write", "execute", "atomic", "unwritten", "lds", "misaligned"]
"""What was tried; "unwritten" reads memory that nobody has written, "lds" is beyond the LDS, and
"misaligned" an atomic on LDS at an address that is no multiple of its size."""


@dataclass(frozen=True, slots=True)
class Range:
    """Memory that the GPU may touch: `size` bytes, and where the emulator's own view has them."""

    gpu_address: int
    size: int
    host_address: int
    writable: bool = True
    executable: bool = True


class Memory(Protocol):
    """The page table of one process, flattened to host addresses.

    `version` changes whenever a range appears, disappears or changes; `ranges` are sorted by
    address and do not overlap.
    """

    @property
    def version(self) -> int:
        """Return a number that is different after each change of the ranges."""

    def ranges(self) -> Sequence[Range]:
        """Return all ranges that the GPU may touch."""


class Checks(Protocol):
    """Looks at every access of a wave beyond what the ranges say: byte-exact checks.

    Compiled code does not call it, so a dispatch with checks runs on the numpy engine.
    """

    def unwritten(
        self, access: Access, address: NDArray[np.uint64], size: int, mask: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return the lanes that read, of `size` bytes each, what nobody has written.

        `mask` tells which lanes take part in an access that the ranges allow; what they write
        counts as written from now on.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLaunch:
    """One dispatch: what the command processor hands to the shader engines.

    Sizes count bytes, `groups` counts work-groups, `group_size` and `partial` count work-items;
    `partial` is the size of the last group on each axis, 0 for a whole one. `user_data` are the
    initial user SGPRs, as many as RSRC2 says. `lds_asked` are the bytes of LDS that were asked for
    where that is known, before they were rounded up to `lds_bytes`. With `lds_checked` an access
    beyond the LDS stops its wave, which else reads zeros there. `scratch_base` is the address
    of wave slot 0 and `scratch_wave_bytes` the distance of two slots, of which there are
    `scratch_waves`.
    """

    target: str
    entry: int
    rsrc1: int
    rsrc2: int
    rsrc3: int = 0
    wave_size: int = 64
    user_data: tuple[int, ...] = ()
    groups: Dimensions = (1, 1, 1)
    group_size: Dimensions = (1, 1, 1)
    partial: Dimensions = (0, 0, 0)
    first_group: Dimensions = (0, 0, 0)
    lds_bytes: int = 0
    lds_asked: int | None = None
    lds_checked: bool = False
    scratch_base: int = 0
    scratch_wave_bytes: int = 0
    scratch_waves: int = 0
    lds_aperture: int = 0x1_0000_0000_0000
    scratch_aperture: int = 0x2_0000_0000_0000
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class RegisterImage:
    """All registers of one wave: `scalars` in the order of `gputrace.isa.state`, `vectors` as
    (register, lane)."""

    scalars: Words
    vectors: Words

    def named(self) -> dict[str, int]:
        """Return the scalar registers that are not zero by name."""
        return {
            state.scalar_name(i): int(value)
            for i, value in enumerate(self.scalars)
            if value and state.scalar_name(i)
        }

    def shown(self, instruction: Instruction | None) -> dict[str, tuple[int, ...]]:
        """Return what tells why a wave stands at an instruction, by name.

        These are the scalar registers that are not zero, one word each, and the vector registers
        that the instruction names, one word a lane.
        """
        found: dict[str, tuple[int, ...]] = {name: (value,) for name, value in self.named().items()}
        for index in () if instruction is None else sorted(_vectors(instruction)):
            accumulator = index - state.FIRST_ACCUMULATOR
            name = f"v{index}" if accumulator < 0 else f"a{accumulator}"
            found[name] = tuple(self.vectors[index].tolist())
        return found


def _vectors(instruction: Instruction) -> set[int]:
    # The rows of a register image that an instruction names.
    first = {OperandKind.VGPR: 0, OperandKind.ACC: state.FIRST_ACCUMULATOR}
    rows = {
        first[one.kind] + one.index + n
        for part in (instruction, *instruction.components)
        for one in (*part.dst, *part.src)
        if one.kind in first
        for n in range(one.count)
    }
    return {row for row in rows if row < state.VECTORS}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a wave stands: its work-group, its number in the group, and its program counter."""

    group: Dimensions
    wave: int
    pc: int


@dataclass(frozen=True, slots=True)
class Done:
    """All work-groups have ended."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The budget is used up and waves are still running."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A memory access that the page table does not allow.

    `address` is that of the lowest lane concerned, `lanes` a mask of all lanes whose access is
    bad, `size` the bytes that each of them touches.
    """

    address: int
    access: Access
    size: int
    lanes: int
    place: Place
    registers: RegisterImage = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endless:
    """A proven endless loop: no wave can ever leave the states that it goes through.

    It holds while nobody else changes `seen`: the memory that the waves read in one period, as
    GPU addresses and bytes, without their instructions; and while no wave of another dispatch lets
    go one that global wave sync holds. So this outcome is not final: once that has happened, `run`
    goes on from where the waves stand. Without a period waves wait for others, and `what` says
    how.
    """

    place: Place
    period: int
    registers: RegisterImage = field(repr=False)
    seen: tuple[tuple[int, bytes], ...] = ()
    what: str = ""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """An instruction that is not modelled, or bits that no instruction has."""

    place: Place
    name: str
    words: tuple[int, ...]
    reason: str
    registers: RegisterImage = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trapped:
    """A wave executed s_trap with this number, or what raises an exception, which `what` names."""

    place: Place
    number: int
    registers: RegisterImage = field(repr=False)
    what: str = ""


Stopped = Fault | Unsupported | Trapped
Outcome = Done | Paused | Endless | Stopped


class View:
    """The ranges of a `Memory` as numpy arrays; looked up again when the version changes."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.version: int | None = None
        self.ranges: Sequence[Range] = ()
        self.starts = self.ends = np.zeros(0, np.uint64)
        self._first: list[int] = []
        self.writable = np.zeros(0, np.bool_)
        self._bytes: dict[int, NDArray[np.uint8]] = {}

    def refresh(self) -> None:
        """Take in the ranges if they have changed."""
        if self.version == self.memory.version:
            return
        self.version = self.memory.version
        self.ranges = sorted(self.memory.ranges(), key=lambda r: r.gpu_address)
        self._first = [r.gpu_address for r in self.ranges]
        self.starts = np.array(self._first, np.uint64)
        self.ends = np.array([r.gpu_address + r.size for r in self.ranges], np.uint64)
        self.writable = np.array([r.writable for r in self.ranges], np.bool_)
        self._bytes = {}

    def find(self, address: int) -> int:
        """Return the number of the range that holds an address, -1 for none."""
        at = bisect_right(self._first, address) - 1
        return at if at >= 0 and address < self._first[at] + self.ranges[at].size else -1

    def view(self, number: int) -> NDArray[np.uint8]:
        """Return the bytes of one range."""
        found = self._bytes.get(number)
        if found is None:
            one = self.ranges[number]
            found = self._bytes[number] = _host_bytes(one.host_address, one.size)
        return found

    def copied(self, address: int, around: int) -> Callable[[int, int], bytes | None]:
        """Return what gives code like `fetch`, from a copy of the bytes around an address."""
        at = self.find(address)
        if at < 0 or not self.ranges[at].executable:
            return lambda address, size: None
        first = max(self.ranges[at].gpu_address, address - around)
        code = self.fetch(first, address - first + around) or b""

        def fetch(address: int, size: int) -> bytes | None:
            offset = address - first
            return code[offset : offset + size] if 0 <= offset < len(code) else None

        return fetch

    def fetch(self, address: int, size: int) -> bytes | None:
        """Return up to `size` bytes of code at an address, None where nothing may be executed."""
        address &= state.ADDRESS
        at = self.find(address)
        if at < 0 or not self.ranges[at].executable:
            return None
        offset = address - self.ranges[at].gpu_address
        return self.view(at)[offset : offset + size].tobytes()


def _host_bytes(address: int, size: int) -> NDArray[np.uint8]:
    buffer: Any = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(buffer, np.uint8)
