"""A linked code object: target, kernels, symbols, and the image to load."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from gputrace.code.elf import ET_DYN, ET_REL, Elf, Relocation, Segment
from gputrace.code.metadata import (
    NOTE_NAME,
    NOTE_TYPE,
    KernelMetadata,
    Metadata,
    parse_metadata,
)
from gputrace.errors import DecodeError, UsageError
from gputrace.families import FAMILIES
from gputrace.formats.descriptor import CODE_ALIGNMENT, DESCRIPTOR_BYTES, KernelDescriptor

EM_AMDGPU = 224
ELFOSABI_AMDGPU_HSA = 64
ABI_VERSIONS = {1: 3, 2: 4, 3: 5, 4: 6}
"""Code object version by EI_ABIVERSION."""
GENERIC_MACHS = {
    0x5F: "gfx9-4-generic",
    0x53: "gfx10-3-generic",
    0x54: "gfx11-generic",
    0x59: "gfx12-generic",
}
"""Generic targets by EF_AMDGPU_MACH (llvm/BinaryFormat/ELF.h)."""
MAX_IMAGE = 1 << 30
"""Bytes; a larger image is refused."""
R_NONE, R_ABS64, R_RELATIVE64 = 0, 3, 13
_SETTINGS = {0: None, 1: "any", 2: "off", 3: "on"}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel; addresses count from the load address of the image."""

    name: str
    descriptor: KernelDescriptor
    descriptor_address: int
    entry_address: int
    metadata: KernelMetadata


@dataclass(frozen=True, slots=True)
class Place:
    """Where a symbol is in the image, from the load address; size in bytes."""

    address: int
    size: int


@dataclass(frozen=True)
class CodeObject:
    """A code object for one target, ready to be loaded.

    `features` maps "xnack" and "sramecc" to "any", "on" or "off"; those that the target lacks are
    absent. `symbols` holds every defined name, kernels and globals alike.
    """

    target: str
    abi: int
    features: Mapping[str, str]
    kernels: Mapping[str, Kernel]
    segments: tuple[Segment, ...]
    symbols: Mapping[str, Place]
    metadata: Metadata
    memory_size: int
    _relocations: tuple[tuple[Relocation, str, int | None], ...]

    @classmethod
    def parse(cls, data: bytes) -> "CodeObject":
        """Read a linked code object of version 3 to 6.

        Raises DecodeError for a damaged file and UsageError for a sound one that cannot be used:
        another machine, not linked, an older version, an unknown target.
        """
        elf = Elf(bytes(data))
        abi = _abi(elf)
        _check_layout(elf.segments)
        metadata = _metadata(elf)
        symbols = {
            found.name: Place(found.address, found.size)
            for found in reversed(elf.symbols)
            if found.defined and found.name
        }
        return cls(
            target=_target(elf.header.flags),
            abi=abi,
            features=_features(elf.header.flags, abi),
            kernels={found.name: _kernel(elf, symbols, found) for found in metadata.kernels},
            segments=elf.segments,
            symbols=symbols,
            metadata=metadata,
            memory_size=max(found.vaddr + found.memsize for found in elf.segments),
            _relocations=tuple(_relocation(elf, found) for found in elf.relocations),
        )

    def image(self, base: int, externals: Mapping[str, int] | None = None) -> bytes:
        """Give the bytes to load at `base`, `memory_size` of them, relocations applied.

        `externals` gives addresses for symbols that the object does not define. Raises UsageError
        when one is missing.
        """
        image = bytearray(self.memory_size)
        for segment in self.segments:
            image[segment.vaddr : segment.vaddr + segment.filesize] = segment.data
        for found, name, address in self._relocations:
            if found.type == R_NONE:
                continue
            value = base
            if found.type == R_ABS64:
                if address is None:
                    if externals is None or name not in externals:
                        raise UsageError(f"the code object needs symbol {name!r}, which is missing")
                    value = externals[name]
                else:
                    value = base + address
            result = (value + found.addend) & 0xFFFF_FFFF_FFFF_FFFF
            struct.pack_into("<Q", image, found.offset, result)
        return bytes(image)

    def runs_on(self, target: str) -> bool:
        """Whether a family's processor can execute it; features are settings of the device."""
        if self.target == target:
            return True
        family = FAMILIES.get(target)
        generic = {GENERIC_MACHS[mach] for mach in family.generic_machs} if family else set()
        return self.target in generic


def _abi(elf: Elf) -> int:
    header = elf.header
    if header.machine != EM_AMDGPU:
        raise UsageError(f"no AMD GPU code object: the ELF machine is {header.machine}, not 224")
    if header.type == ET_REL:
        raise UsageError("the code object is not linked; link it with ld.lld -shared")
    if header.type != ET_DYN:
        raise DecodeError("the file header", header.type, "neither a shared nor a relocatable file")
    if header.osabi != ELFOSABI_AMDGPU_HSA:
        raise UsageError(f"the code object is not for amdhsa: its OS ABI is {header.osabi}, not 64")
    if header.abi_version not in ABI_VERSIONS:
        raise UsageError(f"code object ABI {header.abi_version} is not handled; V3 to V6 are")
    return ABI_VERSIONS[header.abi_version]


def _target(flags: int) -> str:
    mach = flags & 0xFF
    for family in FAMILIES.values():
        if family.mach == mach:
            return family.name
    if mach in GENERIC_MACHS:
        return GENERIC_MACHS[mach]
    raise UsageError(
        f"the code object is for machine {mach:#x}; known targets are {', '.join(FAMILIES)}"
    )


def _features(flags: int, abi: int) -> dict[str, str]:
    if abi == 3:
        pairs = {"xnack": flags & 0x100, "sramecc": flags & 0x200}
        return {name: "on" for name, bit in pairs.items() if bit}
    settings = {"xnack": _SETTINGS[flags >> 8 & 3], "sramecc": _SETTINGS[flags >> 10 & 3]}
    return {name: setting for name, setting in settings.items() if setting is not None}


def _check_layout(segments: tuple[Segment, ...]) -> None:
    if not segments:
        raise DecodeError("the file header", 0, "the code object has nothing to load")
    for segment in segments:
        if segment.vaddr + segment.memsize > MAX_IMAGE:
            reason = f"the image would have more than {MAX_IMAGE} bytes"
            raise DecodeError(f"segment at {segment.vaddr:#x}", segment.memsize, reason)


def _metadata(elf: Elf) -> Metadata:
    for name, kind, content in elf.notes():
        if (name, kind) == (NOTE_NAME, NOTE_TYPE):
            return parse_metadata(content)
    raise UsageError("the code object has no metadata note (NT_AMDGPU_METADATA)")


def _kernel(elf: Elf, symbols: Mapping[str, Place], found: KernelMetadata) -> Kernel:
    place = symbols.get(found.symbol)
    if place is None:
        raise DecodeError(f"kernel {found.name}", 0, f"symbol {found.symbol} is not defined")
    raw = elf.at_address(place.address, DESCRIPTOR_BYTES, f"descriptor of kernel {found.name}")
    descriptor = KernelDescriptor.from_bytes(raw)
    entry = place.address + descriptor.kernel_code_entry_byte_offset
    inside = any(
        segment.executable and segment.vaddr <= entry < segment.vaddr + segment.filesize
        for segment in elf.segments
    )
    if not inside or entry % CODE_ALIGNMENT:
        raise DecodeError(
            f"kernel {found.name}", entry, "entry is not at a multiple of 256 inside the code"
        )
    return Kernel(found.name, descriptor, place.address, entry, found)


def _relocation(elf: Elf, found: Relocation) -> tuple[Relocation, str, int | None]:
    # With the name and address of its symbol; the address is None when the object lacks it.
    where = f"relocation of {found.offset:#x}"
    if found.type not in (R_NONE, R_ABS64, R_RELATIVE64):
        raise DecodeError(where, found.type, "kind of relocation is not handled")
    end = found.offset + 8
    if not any(s.vaddr <= found.offset and end <= s.vaddr + s.memsize for s in elf.segments):
        raise DecodeError(where, found.offset, "in no segment")
    if found.type != R_ABS64:
        return found, "", 0
    if found.symbol >= len(elf.dynamic_symbols):
        raise DecodeError(where, found.symbol, "no such symbol")
    symbol = elf.dynamic_symbols[found.symbol]
    return found, symbol.name, symbol.address if symbol.defined else None
