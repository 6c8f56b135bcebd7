"""LDS beyond plain loads and stores: lanes side by side, counters, exchanges of two places.

And what shares their encoding, the global wave sync. Witness: AMD's ISA manuals (LDS and GDS
instructions); for the numbers of resources, LLVM's AMDGPUISelDAGToDAG.cpp SelectDS_GWS.
"""

from collections.abc import Callable

from gputrace.isa import state
from gputrace.isa.graph import U32, U64, Node
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_memory import memory_of, vector_index
from gputrace.isa.semantics_places import Part
from gputrace.isa.trace import NotModelled, Trace
from gputrace.isa.wave_sync import OPERATIONS, RESOURCES

LDS = Registry()


def _lds_at_lane(trace: Trace) -> Part:
    # M0's low half, the offset, and four bytes for each lane.
    base = (trace.scalar(state.M0) & 0xFFFF) + memory_of(trace).offset
    place = trace.splat(base) + (trace.apply("lane_id") << 2)
    return Part("lds", trace.active(), lambda extra: place + extra)


@LDS.meaning("ds_read_addtid_b32 ds_load_addtid_b32")
def _load_at_lane(trace: Trace) -> None:
    value = _lds_at_lane(trace).load(0, U32)
    trace.put_vector(vector_index(trace.instruction.dst[0]), value)


@LDS.meaning("ds_write_addtid_b32 ds_store_addtid_b32")
def _store_at_lane(trace: Trace) -> None:
    value = trace.splat(trace.raw(memory_of(trace).data[0], 0, 1))
    _lds_at_lane(trace).store([value])


def _first_lane(trace: Trace, mask: Node) -> Node:
    return trace.apply("trailing", mask).zext(U32) & (trace.mode.wave_size - 1)


def _count_lanes(operation: str) -> Callable[[Trace], None]:
    # One atomic for the wave, by the number of active lanes; all of them get the old value.
    def meaning(trace: Trace) -> None:
        mask = trace.exec_mask()
        base = (trace.scalar(state.M0) & 0xFFFF) + memory_of(trace).offset
        first = _first_lane(trace, mask)
        lanes = trace.active() & trace.apply("lane_id").eq(trace.splat(first))
        count = trace.splat(trace.apply("popcount", mask).zext(U32))
        old = trace.apply(
            "atomic", trace.splat(base), count, lanes, type=U32, attribute=("lds", operation)
        )
        value = trace.apply("read_lane", old, first)
        trace.put_vector(vector_index(trace.instruction.dst[0]), trace.splat(value))

    return meaning


LDS.add("ds_append", _count_lanes("add"))
LDS.add("ds_consume", _count_lanes("sub"))


def _exchange_two(bits: int, scale: int) -> Callable[[Trace], None]:
    type = U32 if bits == 32 else U64

    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        if memory.address is None:
            raise NotModelled("no address")
        start, index = trace.raw(memory.address, 0, 1), vector_index(trace.instruction.dst[0])
        for k, offset in enumerate((memory.offset, memory.offset1 or 0)):
            place = start + offset * bits // 8 * scale
            data = trace.splat(trace.raw(memory.data[k], 0, bits // 32))
            old = trace.apply(
                "atomic", place, data, trace.active(), type=type, attribute=("lds", "swap")
            )
            trace.put_vector(index + k * bits // 32, old)

    return meaning


for _bits in (32, 64):
    for _names, _scale in (
        (f"ds_wrxchg2_rtn_b{_bits} ds_storexchg_2addr_rtn_b{_bits}", 1),
        (f"ds_wrxchg2st64_rtn_b{_bits} ds_storexchg_2addr_stride64_rtn_b{_bits}", 64),
    ):
        LDS.add(_names, _exchange_two(_bits, _scale))


# --- global wave sync


def _sync(operation: str) -> Callable[[Trace], None]:
    # The resource is named by M0's bits 21:16 and the offset; the first active lane has the count.
    def meaning(trace: Trace) -> None:
        instruction, mask = trace.instruction, trace.exec_mask()
        memory = instruction.memory
        if memory is None or not memory.gds:
            raise NotModelled("global wave sync without GDS")
        number = ((trace.scalar(state.M0) >> 16) + memory.offset) & (RESOURCES - 1)
        value = trace.const(U32, 0)
        if instruction.src:
            # LLVM's SIInstrInfo.cpp hasUnwantedEffectsWhenEXECEmpty: the hardware may lock up.
            trace.apply("stop_if", mask.eq(0), attribute=("refuse", "a count without a lane"))
            lanes = trace.splat(trace.raw(instruction.src[0], 0, 1))
            value = trace.apply("read_lane", lanes, _first_lane(trace, mask))
        after = instruction.address + instruction.size
        trace.go("sync", number, value, attribute=(operation, after))

    return meaning


for _operation in OPERATIONS:
    LDS.add(f"ds_gws_{_operation}", _sync(_operation))
