"""Instructions that touch memory: SMEM, GLOBAL, FLAT, SCRATCH and DS.

An access is checked as a whole before any part of it takes place, so that a wave that faults has
changed nothing. Addresses of flat instructions that lie in the apertures go to LDS or scratch.
Scratch is swizzled by dwords: dword d of lane l lies at wave base + (d * lanes + l) * 4, so that
what begins inside a dword goes on in a place of its own.

Witness: AMD's ISA manuals (MI300 and RDNA3, chapters on memory instructions), LLVM's
AMDGPUUsage (apertures, scratch swizzle), and the results of compiled kernels in the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gputrace.isa import state
from gputrace.isa.graph import U8, U16, U32, U64, Node, Type, where
from gputrace.isa.instruction import Memory, Operand, OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_places import Part, dwords_part
from gputrace.isa.trace import NotModelled, Trace

MEMORY = Registry()


@dataclass(frozen=True, slots=True)
class Access:
    """The shape of a load or store: type of its elements, how many, and how they are widened."""

    element: Type
    count: int = 1
    signed: bool = False
    half: str = ""
    """ "lo" or "hi": a 16-bit half of the register, whose other half is kept."""

    @property
    def size(self) -> int:
        """Return the bytes that one lane touches."""
        return self.element.bits // 8 * self.count


DWORDS = {
    "dword": 1, "dwordx2": 2, "dwordx3": 3, "dwordx4": 4, "dwordx8": 8, "dwordx16": 16,
    "b32": 1, "b64": 2, "b96": 3, "b128": 4, "b256": 8, "b512": 16,
}  # fmt: skip

LOADS = {name: Access(U32, count) for name, count in DWORDS.items()} | {
    "ubyte": Access(U8), "sbyte": Access(U8, signed=True),
    "ushort": Access(U16), "sshort": Access(U16, signed=True),
    "u8": Access(U8), "i8": Access(U8, signed=True),
    "u16": Access(U16), "i16": Access(U16, signed=True),
    "short_d16": Access(U16, half="lo"), "short_d16_hi": Access(U16, half="hi"),
    "ubyte_d16": Access(U8, half="lo"), "ubyte_d16_hi": Access(U8, half="hi"),
    "sbyte_d16": Access(U8, signed=True, half="lo"),
    "sbyte_d16_hi": Access(U8, signed=True, half="hi"),
    "d16_b16": Access(U16, half="lo"), "d16_hi_b16": Access(U16, half="hi"),
    "d16_u8": Access(U8, half="lo"), "d16_hi_u8": Access(U8, half="hi"),
    "d16_i8": Access(U8, signed=True, half="lo"), "d16_hi_i8": Access(U8, signed=True, half="hi"),
    "u8_d16": Access(U8, half="lo"), "u8_d16_hi": Access(U8, half="hi"),
    "i8_d16": Access(U8, signed=True, half="lo"), "i8_d16_hi": Access(U8, signed=True, half="hi"),
    "u16_d16": Access(U16, half="lo"), "u16_d16_hi": Access(U16, half="hi"),
}  # fmt: skip

STORES = {name: Access(U32, count) for name, count in DWORDS.items()} | {
    "byte": Access(U8), "short": Access(U16), "b8": Access(U8), "b16": Access(U16),
    "byte_d16_hi": Access(U8, half="hi"), "short_d16_hi": Access(U16, half="hi"),
    "d16_hi_b8": Access(U8, half="hi"), "d16_hi_b16": Access(U16, half="hi"),
    "b8_d16_hi": Access(U8, half="hi"), "b16_d16_hi": Access(U16, half="hi"),
}  # fmt: skip


def memory_of(trace: Trace) -> Memory:
    """Return how the instruction finds its bytes; forms that are not modelled are refused."""
    memory = trace.instruction.memory
    if memory is None:
        raise NotModelled("no memory operands")
    if memory.gds:
        raise NotModelled("GDS, which the kernel gives to no queue")
    return memory


# --- addresses


def _global_address(trace: Trace, memory: Memory) -> Node:
    offset = trace.const(U64, memory.offset)
    if memory.base is not None:
        base = trace.raw(memory.base, 0, 2)
        if memory.address is None:
            return trace.splat(base + offset)
        return base + trace.raw(memory.address, 0, 1).zext(U64) + offset
    if memory.address is None:
        raise NotModelled("no address")
    return trace.raw(memory.address, 0, 2) + offset


def _scratch_offset(trace: Trace, memory: Memory) -> Node:
    offset = trace.splat(trace.const(U32, memory.offset))
    if memory.base is not None:
        offset = offset + trace.raw(memory.base, 0, 1)
    if memory.address is not None:
        offset = offset + trace.raw(memory.address, 0, 1)
    return offset


def _private(trace: Trace, offset: Node) -> Callable[[int], Node]:
    # Addresses of the dwords from the one that holds the byte offset.
    base = trace.scalar(state.FLAT_SCRATCH, 2)
    lane = trace.apply("lane_id").zext(U64) << 2
    stride = 4 * trace.mode.wave_size
    return lambda extra: base + ((offset + extra) >> 2).zext(U64) * stride + lane


def _dword_aligned(trace: Trace, memory: Memory, size: int) -> tuple[Node, bool]:
    # The offset, and whether it is taken as a multiple of 4: stack pointers are. One that is not
    # ends as an address that no scratch has.
    offset = _scratch_offset(trace, memory)
    aligned = memory.address is None and not memory.offset & 3 and size % 4 == 0
    if not aligned or memory.base is None:
        return offset, aligned
    bad = (trace.raw(memory.base, 0, 1) & 3).ne(0)
    return where(bad, trace.const(U32, 0xFFFFFFFF), offset), True


def parts_of(
    trace: Trace,
    memory: Memory,
    access: str,
    size: int,
    mask: Node | None = None,
    behind: int = 0,
) -> list[Part]:
    """Return where an access goes: all checks come first, so every part takes place or none.

    `mask` are the lanes that take part, all active ones unless told; `behind` counts bytes from
    the address that the instruction says.
    """
    active = trace.active() if mask is None else mask
    if behind:
        memory = replace(memory, offset=memory.offset + behind)
    encoding = trace.instruction.name.split("_")[0]
    if encoding == "ds":
        if memory.address is None:
            raise NotModelled("no address")
        start = trace.raw(memory.address, 0, 1)
        if access == "atomic":
            trace.apply("aligned", start + memory.offset, active, attribute=size)
        return [Part("lds", active, lambda extra: start + (memory.offset + extra))]
    if encoding == "scratch":
        offset, aligned = _dword_aligned(trace, memory, size)
        return [_scratch_part(trace, offset, active, access, size, aligned)]
    address = _global_address(trace, memory)
    if encoding == "global":
        return [_global_part(trace, address, active, access, size)]
    if encoding == "flat":
        return _flat_parts(trace, address, active, access, size)
    raise NotModelled(f"{encoding} addressing")


def _global_part(trace: Trace, address: Node, mask: Node, access: str, size: int) -> Part:
    found = trace.apply("check", address, mask, attribute=(access, size))
    return Part("global", mask, lambda extra: found + extra if extra else found)


def _scratch_part(
    trace: Trace, offset: Node, mask: Node, access: str, size: int, aligned: bool = False
) -> Part:
    start = None if aligned else offset & 3
    return dwords_part(trace, _private(trace, offset), start, lambda extra: mask, access, size)


def _flat_parts(trace: Trace, address: Node, active: Node, access: str, size: int) -> list[Part]:
    high = (address >> 32).zext(U32)
    shared = high.eq(trace.mode.lds_aperture >> 32)
    private = high.eq(trace.mode.scratch_aperture >> 32)
    low = address.zext(U32)
    if access == "atomic":
        trace.apply("aligned", low, active & shared, attribute=size)
    return [
        _global_part(trace, address, active & ~(shared | private), access, size),
        Part("lds", active & shared, lambda extra: low + extra),
        _scratch_part(trace, low, active & private, access, size),
    ]


# --- loads and stores


def load_part(part: Part, access: Access) -> list[Node]:
    """Read the elements of an access, widened to dwords."""
    values = [
        part.load(k * access.element.bits // 8, access.element) for k in range(access.count)
    ]
    return [value.sext(U32) if access.signed else value.zext(U32) for value in values]


def vector_index(operand: Operand) -> int:
    """Return the number of a data register in the state, of either file."""
    if operand.kind is OperandKind.ACC:
        return state.FIRST_ACCUMULATOR + operand.index
    if operand.kind is OperandKind.VGPR:
        return operand.index
    raise NotModelled(f"{operand.kind.name} as data")


def _keep_half(trace: Trace, index: int, access: Access, value: Node) -> Node:
    if not access.half:
        return value
    old = trace.vector(index)
    if access.half == "lo":
        return (old & 0xFFFF0000) | (value & 0xFFFF)
    return (old & 0xFFFF) | (value << 16)


def put_loaded(trace: Trace, parts: list[Part], access: Access) -> None:
    """Read what the parts say and write it to the destination, later parts over earlier ones."""
    results = [load_part(part, access) for part in parts]
    index = vector_index(trace.instruction.dst[0])
    for k in range(access.count):
        value = results[0][k]
        for part, other in zip(parts[1:], results[1:], strict=True):
            value = where(part.mask, other[k], value)
        trace.put_vector(index + k, _keep_half(trace, index + k, access, value))


def _load(access: Access) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        parts = parts_of(trace, memory, "read", access.size)
        if trace.instruction.dst:
            put_loaded(trace, parts, access)
        else:  # a bit of the instruction says that it loads into LDS (before gfx940)
            put_in_lds(trace, memory, load_part(parts[0], access))

    return meaning


def stored_values(trace: Trace, operand: Operand, access: Access) -> list[Node]:
    """Return the elements that a store writes."""
    values = [trace.splat(trace.raw(operand, k, 1)) for k in range(access.count)]
    if access.half == "hi":
        values = [value >> 16 for value in values]
    return [value.zext(access.element) for value in values]


def _store(access: Access) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        values = stored_values(trace, memory.data[0], access)
        parts = parts_of(trace, memory, "write", access.size)
        for part in parts:
            part.store(values)

    return meaning


for _space_name in ("global", "flat", "scratch"):
    for _name, _access in LOADS.items():
        MEMORY.add(f"{_space_name}_load_{_name}", _load(_access))
    for _name, _access in STORES.items():
        MEMORY.add(f"{_space_name}_store_{_name}", _store(_access))
for _name, _access in LOADS.items():
    if _name.startswith(("b", "u", "i")) and "byte" not in _name and "short" not in _name:
        MEMORY.add(f"ds_read_{_name} ds_load_{_name}", _load(_access))
for _name, _access in STORES.items():
    if _name.startswith("b") and not _name.startswith("byte"):
        MEMORY.add(f"ds_write_{_name} ds_store_{_name}", _store(_access))


# --- from memory to LDS and back, past the registers


def staging_place(trace: Trace, memory: Memory, words: int = 1) -> Node:
    """Return where in LDS a lane's dwords lie that go to or from memory directly."""
    base = (trace.scalar(state.M0) & trace.mode.behaviour.lds_address) + memory.offset
    return trace.splat(base) + trace.apply("lane_id") * (4 * words)


def put_in_lds(trace: Trace, memory: Memory, values: list[Node]) -> None:
    """Write the dwords of each active lane to its place."""
    place = staging_place(trace, memory, len(values))
    for k, value in enumerate(values):
        trace.apply("store", place + 4 * k, value, trace.active(), attribute="lds")


# --- two places of LDS at once


def _two_parts(trace: Trace, words: int, scale: int) -> list[Part]:
    memory = memory_of(trace)
    if memory.address is None:
        raise NotModelled("no address")
    start, active = trace.raw(memory.address, 0, 1), trace.active()
    step = 4 * words * scale

    def at(offset: int) -> Callable[[int], Node]:
        return lambda extra: start + (offset * step + extra)

    return [Part("lds", active, at(o)) for o in (memory.offset, memory.offset1 or 0)]


def _load_two(words: int, scale: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        index = vector_index(trace.instruction.dst[0])
        for part in _two_parts(trace, words, scale):
            for value in load_part(part, Access(U32, words)):
                trace.put_vector(index, value)
                index += 1

    return meaning


def _store_two(words: int, scale: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        access = Access(U32, words)
        data = [stored_values(trace, operand, access) for operand in memory_of(trace).data]
        for part, values in zip(_two_parts(trace, words, scale), data, strict=True):
            part.store(values)

    return meaning


for _bits, _words in ((32, 1), (64, 2)):
    MEMORY.add(f"ds_read2_b{_bits} ds_load_2addr_b{_bits}", _load_two(_words, 1))
    MEMORY.add(f"ds_read2st64_b{_bits} ds_load_2addr_stride64_b{_bits}", _load_two(_words, 64))
    MEMORY.add(f"ds_write2_b{_bits} ds_store_2addr_b{_bits}", _store_two(_words, 1))
    MEMORY.add(f"ds_write2st64_b{_bits} ds_store_2addr_stride64_b{_bits}", _store_two(_words, 64))
