"""What Python cannot do by itself: undivided stores, fences, atomics, mappings at fixed addresses.

The memory operations are a few machine instructions each, built with llvmlite when first used, so
that the package needs no compiler. Addresses are trusted: a wrong one ends the process as it
would in C.
"""

import ctypes
import errno
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm

from gputrace.errors import KfdError

PAGE = 4096
_PROT_NONE = 0
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED = 0x01, 0x02, 0x10
_MAP_ANONYMOUS, _MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x20, 0x4000, 0x100000
_FAILED = ctypes.c_void_p(-1).value

_SOURCE = """
define void @fence() {
  fence seq_cst
  ret void
}
define void @store_32(ptr %at, i32 %value) {
  store atomic volatile i32 %value, ptr %at release, align 4
  ret void
}
define void @store_64(ptr %at, i64 %value) {
  store atomic volatile i64 %value, ptr %at release, align 8
  ret void
}
define void @ring_32(ptr %at, i32 %value) {
  fence seq_cst
  store atomic volatile i32 %value, ptr %at monotonic, align 4
  ret void
}
define void @ring_64(ptr %at, i64 %value) {
  fence seq_cst
  store atomic volatile i64 %value, ptr %at monotonic, align 8
  ret void
}
define i64 @add_64(ptr %at, i64 %value) {
  %old = atomicrmw volatile add ptr %at, i64 %value seq_cst
  ret i64 %old
}
define i32 @swap_if_32(ptr %at, i32 %expected, i32 %value) {
  %both = cmpxchg volatile ptr %at, i32 %expected, i32 %value seq_cst seq_cst
  %old = extractvalue { i32, i1 } %both, 0
  ret i32 %old
}
define i64 @swap_if_64(ptr %at, i64 %expected, i64 %value) {
  %both = cmpxchg volatile ptr %at, i64 %expected, i64 %value seq_cst seq_cst
  %old = extractvalue { i64, i1 } %both, 0
  ret i64 %old
}
"""

_u32, _u64, _pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "fence": (None,),
    "store_32": (None, _pointer, _u32),
    "store_64": (None, _pointer, _u64),
    "ring_32": (None, _pointer, _u32),
    "ring_64": (None, _pointer, _u64),
    "add_64": (_u64, _pointer, _u64),
    "swap_if_32": (_u32, _pointer, _u32, _u32),
    "swap_if_64": (_u64, _pointer, _u64, _u64),
}
_building = threading.Lock()


_functions: dict[str, Callable[..., int]] = {}
_keep: list[object] = []  # engines own the code


def _build() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    module = llvm.parse_assembly(_SOURCE)
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _keep.append(engine)
    for name, (result, *arguments) in _SIGNATURES.items():
        kind = ctypes.CFUNCTYPE(result, *arguments)
        _functions[name] = kind(engine.get_function_address(name))


def _function(name: str) -> Callable[..., int]:
    found = _functions.get(name)
    if found is None:
        with _building:
            if name not in _functions:
                _build()
        found = _functions[name]
    return found


def fence() -> None:
    """Make every store before this one visible before any after it, write-combined ones too."""
    _function("fence")()


def store(address: int, value: int, bits: int = 64) -> None:
    """Store 32 or 64 bits as one store that earlier stores come before. The address is aligned."""
    _function(f"store_{_width(address, bits)}")(address, value & ((1 << bits) - 1))


def ring(address: int, value: int, bits: int = 64) -> None:
    """Store fence, then one store of 32 or 64 bits: how a doorbell is rung."""
    _function(f"ring_{_width(address, bits)}")(address, value & ((1 << bits) - 1))


def load(address: int, bits: int = 64) -> int:
    """Load 32 or 64 bits as one load. The address is aligned."""
    kind = _u64 if _width(address, bits) == 64 else _u32
    return kind.from_address(address).value


def add(address: int, value: int) -> int:
    """Add to 64 bits, undivided and modulo 2**64; return what was there before."""
    _width(address, 64)
    return _function("add_64")(address, value & 0xFFFF_FFFF_FFFF_FFFF)


def swap_if(address: int, expected: int, value: int, bits: int = 64) -> int:
    """Store `value` if `expected` is there, undivided; return what was there before."""
    mask = (1 << bits) - 1
    return _function(f"swap_if_{_width(address, bits)}")(address, expected & mask, value & mask)


def _width(address: int, bits: int) -> int:
    if bits not in (32, 64):
        raise ValueError(f"{bits} bits: expected 32 or 64")
    if address % (bits // 8):
        raise ValueError(f"address {address:#x} is not aligned for {bits} bits")
    return bits


@lru_cache(maxsize=1)
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = _pointer
    libc.mmap.argtypes = [
        _pointer, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    libc.munmap.argtypes = [_pointer, ctypes.c_size_t]
    return libc


def _mmap(address: int, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
    got = _libc().mmap(address or None, size, protection, flags, fd, offset)
    if got == _FAILED:
        fields = {"address": address, "size": size, "fd": fd, "offset": offset}
        raise KfdError("mmap", ctypes.get_errno(), fields)
    return int(got or 0)


def map_shared(
    fd: int, offset: int, size: int, address: int | None, protection: int, *, near: int = 0
) -> int:
    """Map part of a file, over whatever is at `address` when one is given; return where.

    Without one it goes to `near` if nothing is there. Raises KfdError("mmap", errno).
    """
    flags = _MAP_SHARED if address is None else _MAP_SHARED | _MAP_FIXED
    return _mmap(near if address is None else address, size, protection, flags, fd, offset)


def reserve(size: int, address: int | None = None, alignment: int = PAGE) -> int:
    """Take `size` bytes of addresses that nothing else will use; return where they start.

    Raises KfdError("mmap", EEXIST) when an address was asked for and something is there.
    """
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    if address is not None:
        return _reserve_at(address, size, flags)
    extra = alignment if alignment > PAGE else 0
    start = _mmap(0, size + extra, _PROT_NONE, flags, -1, 0)
    aligned = -(-start // alignment) * alignment
    if aligned > start:
        unmap(start, aligned - start)
    if start + extra > aligned:
        unmap(aligned + size, start + extra - aligned)
    return aligned


def _reserve_at(address: int, size: int, flags: int) -> int:
    got = _mmap(address, size, _PROT_NONE, flags | _MAP_FIXED_NOREPLACE, -1, 0)
    if got != address:  # kernels before 4.17 take the flag for a hint
        unmap(got, size)
        raise KfdError("mmap", errno.EEXIST, {"address": address, "size": size})
    return got


def cover(address: int, size: int) -> None:
    """Replace what is mapped by a reservation of the same range."""
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED
    _mmap(address, size, _PROT_NONE, flags, -1, 0)


def unmap(address: int, size: int) -> None:
    """Give a range of addresses back. Raises KfdError("munmap", errno)."""
    if _libc().munmap(address, size):
        raise KfdError("munmap", ctypes.get_errno(), {"address": address, "size": size})


def view(address: int, size: int, writable: bool = True) -> memoryview:
    """Return the bytes at an address of this process as unsigned bytes; they must stay mapped."""
    if not size:
        return memoryview(b"")
    data = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
    return data if writable else data.toreadonly()
