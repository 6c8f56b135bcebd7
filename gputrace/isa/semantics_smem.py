"""Scalar memory (SMEM): loads, and the stores and atomics that gfx9 has.

Addresses of dwords are taken as multiples of four. Stores and atomics take place as those of one
lane. Prefetches, probes of the translation and discards of lines leave memory as it is.

Sources: AMD's ISA manuals (Vega, MI300, RDNA3, RDNA4: scalar memory), LLVM's SMInstructions.td.
"""

from collections.abc import Callable, Sequence

from gputrace.isa.graph import I1, U8, U16, U32, U64, Node, Type, where
from gputrace.isa.instruction import Memory
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_buffer import Resource
from gputrace.isa.semantics_memory import DWORDS, memory_of
from gputrace.isa.trace import NotModelled, Trace

SMEM = Registry()

_DWORD = (1 << 64) - 4
_SCRATCH_UNIT = 6  # an offset in a register counts 64 bytes (Vega manual, S_SCRATCH_LOAD_DWORD)
_NARROW = {"u8": (U8, False), "i8": (U8, True), "u16": (U16, False), "i16": (U16, True)}
Places = list[tuple[Node, Node]]
"""Addresses, and whether each may be touched."""


def _offset(trace: Trace, memory: Memory, unit: int = 0) -> Node:
    offset = trace.const(U64, memory.offset)
    if memory.soffset is None or memory.soffset.name == "null":
        return offset
    return (trace.raw(memory.soffset, 0, 1).zext(U64) << unit) + offset


def _plain(trace: Trace, size: int, count: int) -> Places:
    # Elements of `size` bytes from an address.
    memory = memory_of(trace)
    if memory.base is None:
        raise NotModelled("no base")
    unit = _SCRATCH_UNIT if "scratch" in trace.instruction.name else 0
    address = trace.raw(memory.base, 0, 2) + _offset(trace, memory, unit)
    if size >= 4:
        address = address & _DWORD
    return [(address + size * k, trace.const(I1, 1)) for k in range(count)]


def _described(trace: Trace, size: int, count: int) -> Places:
    # Elements of a buffer: each counts by itself, and those outside are not touched.
    memory = memory_of(trace)
    resource = Resource.read(trace, memory)
    offset, base = _offset(trace, memory), resource.base
    if size >= 4:
        offset, base = offset & _DWORD, base & _DWORD
    each = where(resource.stride.eq(0), trace.const(U32, 1), resource.stride)
    limit = each.zext(U64) * resource.records.zext(U64)
    return [
        (base + offset + size * k, trace.apply("ule", offset + (size * (k + 1)), limit))
        for k in range(count)
    ]


Finder = Callable[[Trace, int, int], Places]
_FINDERS: dict[str, Finder] = {"s": _plain, "s_scratch": _plain, "s_buffer": _described}


def _load(find: Finder, element: Type, count: int, signed: bool) -> Callable[[Trace], None]:
    size = element.bits // 8

    def checked(trace: Trace) -> Places:
        places = find(trace, size, count)
        if find is _plain:  # one range holds all of it
            first = trace.apply("check", *places[0], attribute=("read", size * count))
            return [(first + size * k, inside) for k, (_, inside) in enumerate(places)]
        return [
            (trace.apply("check", place, inside, attribute=("read", size)), inside)
            for place, inside in places
        ]

    def meaning(trace: Trace) -> None:
        first = trace.place(trace.instruction.dst[0])
        for k, (place, inside) in enumerate(checked(trace)):
            value = trace.apply("load", place, inside, type=element, attribute="global")
            wide = value.sext(U32) if signed else value.zext(U32)
            trace.put_scalar(first + k, where(inside, wide, 0))

    return meaning


for _stem, _find in _FINDERS.items():
    for _name, _count in DWORDS.items():
        SMEM.add(f"{_stem}_load_{_name}", _load(_find, U32, _count, signed=False))
    for _name, (_element, _signed) in _NARROW.items():
        SMEM.add(f"{_stem}_load_{_name}", _load(_find, _element, 1, _signed))


# --- stores and atomics


def _of_one_lane(trace: Trace, places: Places, access: str, size: int) -> Places:
    # The same places as vectors of which the first lane counts.
    first = trace.apply("lane_id").eq(0)
    found = []
    for place, inside in places:
        mask = first & trace.splat(inside)
        checked = trace.apply("check", trace.splat(place), mask, attribute=(access, size))
        found.append((checked, mask))
    return found


def _store(find: Finder, count: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        data = memory_of(trace).data[0]
        values = [trace.splat(trace.raw(data, k, 1)) for k in range(count)]
        places = _of_one_lane(trace, find(trace, 4, count), "write", 4)
        for (place, mask), value in zip(places, values, strict=True):
            trace.apply("store", place, value, mask, attribute="global")

    return meaning


def _atomic(find: Finder, operation: str, type: Type) -> Callable[[Trace], None]:
    size, words = type.bits // 8, type.bits // 32

    def meaning(trace: Trace) -> None:
        data = memory_of(trace).data[0]
        count = 2 if operation == "cmpswap" else 1
        values = [trace.splat(trace.raw(data, words * k, words)) for k in range(count)]
        [(place, mask)] = _of_one_lane(trace, find(trace, size, 1), "atomic", size)
        old = trace.apply(
            "atomic", place, *values, mask, type=type, attribute=("global", operation)
        )
        if trace.instruction.dst:
            found = trace.apply("read_lane", old, trace.const(U32, 0))
            trace.put_scalar(trace.place(trace.instruction.dst[0]), found)

    return meaning


def _add_all(operations: Sequence[str]) -> None:
    for stem, find in _FINDERS.items():
        for name in ("dword", "dwordx2", "dwordx4"):
            SMEM.add(f"{stem}_store_{name}", _store(find, DWORDS[name]))
        for operation in operations if stem != "s_scratch" else ():
            SMEM.add(f"{stem}_atomic_{operation}", _atomic(find, operation, U32))
            SMEM.add(f"{stem}_atomic_{operation}_x2", _atomic(find, operation, U64))


_add_all(
    ("swap", "cmpswap", "add", "sub", "smin", "umin", "smax", "umax", "and", "or", "xor", "inc",
     "dec")
)  # fmt: skip


@SMEM.meaning(
    "s_dcache_inv s_dcache_wb s_dcache_inv_vol s_dcache_wb_vol s_gl1_inv s_dcache_discard"
    " s_dcache_discard_x2 s_atc_probe s_atc_probe_buffer s_prefetch_inst s_prefetch_inst_pc_rel"
    " s_prefetch_data s_prefetch_data_pc_rel s_buffer_prefetch_data"
)
def _nothing(trace: Trace) -> None:
    # Memory is coherent here, and translations need no warming.
    return
