"""Buffer instructions: memory through a resource descriptor of four scalar words.

The descriptor: base (47:0), stride (61:48), swizzle (its top bits), number of records (95:64),
index stride (118:117), "add the lane number to the index" (119), and from gfx10 on which accesses
are out of range (125:124). Loads that are out of range give zero, stores and atomics do nothing.
Each dword of an access counts by itself.

Sources: AMD's ISA manuals (MI200, MI300, RDNA2, RDNA3: "Buffer Resource Descriptor", "Buffer
Addressing", "Range checking"). Swizzled memory is taken to have elements of four bytes.

Before gfx10 an instruction with an index counts the records of a buffer that has a stride, swizzled
or not; any other counts bytes: AMD's PAL, gfx9Device.cpp (Device::CalcNumRecords, what it has from
the SQ team), and Mesa, radv_cmd_buffer.c (vertex buffers have as many records as vertices, on gfx8
alone bytes).
"""

from collections.abc import Callable
from dataclasses import dataclass

from gputrace.isa.graph import I1, U32, U64, Node, where
from gputrace.isa.instruction import Memory
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_memory import (
    LOADS,
    STORES,
    Access,
    load_part,
    memory_of,
    put_in_lds,
    put_loaded,
    stored_values,
    vector_index,
)
from gputrace.isa.semantics_places import Part, dwords_part
from gputrace.isa.trace import NotModelled, Trace

BUFFER = Registry()
_STRIDE_BITS, _ADD_LANE, _INDEX_STRIDE, _SELECT = 0x3FFF, 23, 21, 28


@dataclass(frozen=True, slots=True)
class Resource:
    """A descriptor in scalar registers, cut into its fields."""

    base: Node
    stride: Node
    swizzled: Node
    records: Node
    index_stride_log: Node
    add_lane: Node
    select: Node

    @classmethod
    def word(cls, trace: Trace, memory: Memory, number: int) -> Node:
        """Read one of the four words."""
        if memory.base is None:
            raise NotModelled("no resource")
        return trace.raw(memory.base, number, 1)

    @classmethod
    def read(cls, trace: Trace, memory: Memory) -> "Resource":
        """Read the four words."""
        words = [cls.word(trace, memory, k) for k in range(4)]
        low = words[0].zext(U64) | ((words[1] & 0xFFFF).zext(U64) << 32)
        select = words[3] >> _SELECT & 3 if trace.mode.bounds_select else trace.const(U32, 3)
        return cls(
            low,
            (words[1] >> 16) & _STRIDE_BITS,
            (words[1] >> trace.mode.behaviour.swizzle_bit).ne(0),
            words[2],
            ((words[3] >> _INDEX_STRIDE) & 3) + 3,
            ((words[3] >> _ADD_LANE) & 1).ne(0),
            select,
        )


def _index_and_offset(trace: Trace, memory: Memory, resource: Resource) -> tuple[Node, Node]:
    index = trace.splat(trace.const(U32, 0))
    offset = trace.splat(trace.const(U32, memory.offset))
    if memory.address is not None:
        if memory.idxen:
            index = trace.raw(memory.address, 0, 1)
        if memory.offen:
            offset = offset + trace.raw(memory.address, 1 if memory.idxen else 0, 1)
    lane = trace.apply("lane_id")
    return where(trace.splat(resource.add_lane), index + lane, index), offset


def _scalar_offset(trace: Trace, memory: Memory) -> Node:
    if memory.soffset is None or memory.soffset.name == "null":
        return trace.const(U32, 0)
    return trace.raw(memory.soffset, 0, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """Where the bytes of a buffer lie for each lane of an instruction.

    What is the same for all lanes is decided once: a buffer that is not swizzled has groups of one
    record, and a bound that does not count is one that everything keeps.
    """

    offset: Node
    """The first byte's offset into its record."""
    known: Node
    """Whether the buffer has the record."""
    rows: Node
    """Where the group of records begins, in units of a group's records."""
    group_log: Node
    column: Node
    """Where the record begins behind that, with the buffer's base, in bytes."""
    share: Node
    """What index and scalar offset add to the bytes that are counted."""
    limit: Node
    """How many bytes there may be."""

    @classmethod
    def read(cls, trace: Trace, memory: Memory, cleared: Node | None = None) -> "Window":
        """Read descriptor, index and offsets; `cleared` are bits of the offset that are ignored."""
        resource, scalar = Resource.read(trace, memory), _scalar_offset(trace, memory)
        index, offset = _index_and_offset(trace, memory, resource)
        if cleared is not None:
            offset = offset & (cleared ^ 0xFFFFFFFF)
        zero, wide = trace.const(U32, 0), index.zext(U64)
        stride, records = resource.stride, resource.records
        log = where(resource.swizzled, resource.index_stride_log, zero)
        behind = index & ((trace.const(U32, 1) << log) - 1)
        counts_bytes, last, largest = _bounds(trace, resource, indexed=memory.idxen)
        known = trace.apply("ule", index, trace.splat(last))
        counted, moved = (where(counts_bytes, one, zero).zext(U64) for one in (stride, scalar))
        return cls(
            offset,
            known & trace.splat(records.ne(0) | counts_bytes),
            (index >> log).zext(U64) * stride.zext(U64),
            log.zext(U64),
            (behind << 2).zext(U64) + (resource.base + scalar.zext(U64)),
            wide * counted + moved,
            largest,
        )

    @property
    def inside(self) -> Node:
        """Return the byte of its dword at which an access begins."""
        return (self.offset & 3).zext(U64)

    def address(self, extra: int) -> Node:
        """Return the address of the dword that is so many bytes behind the first."""
        place = ((self.offset + extra) & 0xFFFFFFFC).zext(U64)
        return self.column + ((self.rows + place) << self.group_log)

    def reaches(self, count: int) -> Node:
        """Return for each lane whether the first `count` bytes are in range."""
        trace = self.offset.trace
        assert isinstance(trace, Trace)
        end = self.offset.zext(U64) + count + self.share
        return self.known & trace.apply("ule", end, trace.splat(self.limit))


def _bounds(trace: Trace, resource: Resource, *, indexed: bool) -> tuple[Node, Node, Node]:
    # Whether bytes are counted with those of the records before, the last index, the most bytes.
    stride, records = resource.stride, resource.records
    if trace.mode.bounds_select:
        linear = ~(resource.swizzled & stride.ne(0))
        counts_bytes = resource.select.eq(3) & linear
        in_record = resource.select.eq(0) | (resource.select.eq(3) & ~linear)
        by_record = in_record | resource.select.eq(1)
        most = where(in_record, stride.zext(U64), trace.const(U64, (1 << 64) - 1))
    else:
        by_record = stride.ne(0) if indexed else trace.const(I1, 0)
        counts_bytes, most = ~by_record, trace.const(U64, (1 << 64) - 1)
    last = where(by_record, records - 1, trace.const(U32, 0xFFFFFFFF))
    return counts_bytes, last, where(counts_bytes, records.zext(U64), most)


def buffer_part(trace: Trace, memory: Memory, access: str, size: int) -> Part:
    """Return where a buffer access goes; each dword has a place and a mask of its own."""
    window, active = Window.read(trace, memory), trace.active()

    def reaches(extra: int) -> Node:
        return active & window.reaches(extra + min(4, size))

    if access == "atomic":
        mask = reaches(size - 4)
        address = window.address(0) + window.inside
        place = trace.apply("check", address, mask, attribute=(access, size))
        return Part("global", mask, lambda extra: place)
    aligned = not memory.offen and not memory.offset & 3
    start = None if aligned else window.offset & 3
    return dwords_part(trace, window.address, start, reaches, access, size)


def _load(access: Access) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        part = buffer_part(trace, memory, "read", access.size)
        if memory.lds:
            put_in_lds(trace, memory, load_part(part, access))
            return
        put_loaded(trace, [part], access)
        if memory.tfe:  # the dword behind tells which pages were missing: none were
            index = vector_index(trace.instruction.dst[0])
            trace.put_vector(index + access.count, trace.const(U32, 0))

    return meaning


def _store(access: Access) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        values = stored_values(trace, memory.data[0], access)
        buffer_part(trace, memory, "write", access.size).store(values)

    return meaning


for _name, _access in LOADS.items():
    BUFFER.add(f"buffer_load_{_name}", _load(_access))
for _name, _access in STORES.items():
    BUFFER.add(f"buffer_store_{_name}", _store(_access))
