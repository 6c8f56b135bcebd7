"""Vector instructions that move values between the lanes of a wave.

Witness: AMD's ISA manuals (MI300 and RDNA3, chapter on vector ALU operations), and the results of
compiled kernels in the tests.
"""

from collections.abc import Callable

from gputrace.isa.graph import I1, U32, U64, Node, where
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_memory import memory_of, vector_index
from gputrace.isa.trace import NotModelled, Trace

LANES = Registry()


@LANES.meaning("v_readlane_b32")
def _readlane(trace: Trace) -> None:
    value, lane = trace.instruction.src
    source = trace.splat(trace.raw(value))
    trace.write(trace.instruction.dst[0], trace.apply("read_lane", source, trace.read(lane)))


@LANES.meaning("v_readfirstlane_b32")
def _readfirstlane(trace: Trace) -> None:
    # Without an active lane, lane 0.
    first = trace.apply("trailing", trace.exec_mask()).zext(U32) & (trace.mode.wave_size - 1)
    source = trace.splat(trace.raw(trace.instruction.src[0]))
    trace.write(trace.instruction.dst[0], trace.apply("read_lane", source, first))


@LANES.meaning("v_writelane_b32")
def _writelane(trace: Trace) -> None:
    # EXEC does not count.
    value, lane = (trace.read(o) for o in trace.instruction.src[:2])
    to = trace.instruction.dst[0]
    new = trace.apply("write_lane", trace.raw(to), value, lane)
    trace.put_vector(to.index, new, trace.splat(trace.const(I1, 1)))


def _count_below(high: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        mask, add = (trace.read(o) for o in trace.instruction.src)
        lane = trace.apply("lane_id")
        below = (trace.splat(trace.const(U64, 1)) << lane.zext(U64)) - 1
        part = (below >> 32).zext(U32) if high else below.zext(U32)
        trace.write(
            trace.instruction.dst[0], trace.apply("popcount", trace.splat(mask) & part) + add
        )

    return meaning


LANES.add("v_mbcnt_lo_u32_b32", _count_below(high=False))
LANES.add("v_mbcnt_hi_u32_b32", _count_below(high=True))


# --- rows of sixteen lanes


def permuted_rows(trace: Trace, selection: Node, other: bool) -> None:
    """Read the lane of the row (or of the other row of a pair) that `selection` names.

    The first source's op_sel bit reads inactive lanes too, the second's makes them read as zero.
    """
    value, second, *_ = trace.instruction.src
    lane = trace.apply("lane_id")
    row = (lane ^ 16 if other else lane) & 0xFFFFFFF0
    source = row | (selection & 15)
    moved = trace.apply("permute", trace.splat(trace.raw(value, 0, 1)), source)
    to = trace.instruction.dst[0].index
    if value.op_sel:
        trace.put_vector(to, moved)
        return
    active = trace.apply("permute", trace.active().zext(U32), source).ne(0)
    kept = trace.const(U32, 0) if second.op_sel else trace.vector(to)
    trace.put_vector(to, where(active, moved, kept))


def _permute_rows(other: bool) -> Callable[[Trace], None]:
    # Lane k of a row reads the lane that nibble k of the two scalar selections names.
    def meaning(trace: Trace) -> None:
        _, low, high = trace.instruction.src
        lane = trace.apply("lane_id")
        both = trace.raw(low).zext(U64) | (trace.raw(high).zext(U64) << 32)
        nibble = (trace.splat(both) >> ((lane.zext(U64) & 15) << 2)).zext(U32)
        permuted_rows(trace, nibble, other)

    return meaning


LANES.add("v_permlane16_b32", _permute_rows(other=False))
LANES.add("v_permlanex16_b32", _permute_rows(other=True))


@LANES.meaning("v_permlane64_b32")
def _permute_halves(trace: Trace) -> None:
    # The halves of a wave of 64 lanes change places; a wave of 32 moves nothing.
    lane = trace.apply("lane_id")
    source = trace.splat(trace.raw(trace.instruction.src[0], 0, 1))
    moved = trace.apply("permute", source, lane ^ (trace.mode.wave_size & 64) >> 1)
    trace.write(trace.instruction.dst[0], moved)


def _exchanged(step: int) -> Callable[[Trace], None]:
    # The lanes with this bit in their numbers have the first register's part, those without it the
    # second's: they change places. An inactive lane gives nothing (with bound_ctrl zero), unless
    # with fi it does as others.
    def meaning(trace: Trace) -> None:
        instruction = trace.instruction
        flags = instruction.words[0] >> 11 & 3 if instruction.encoding == "VOP3" else 0
        first, second = instruction.dst[0].index, instruction.src[0].index
        lane = trace.apply("lane_id")
        other, upper = lane ^ step, (lane & step).ne(0)
        given = trace.splat(trace.const(I1, 1))
        if not flags & 1:
            given = trace.apply("permute", trace.active().zext(U32), other).ne(0)
        values = trace.vector(first), trace.vector(second)
        for index, mine, theirs, moves in (
            (first, values[0], values[1], upper), (second, values[1], values[0], ~upper),
        ):  # fmt: skip
            moved = trace.apply("permute", theirs, other)
            missing = trace.const(U32, 0) if flags & 2 else mine
            trace.put_vector(index, where(moves, where(given, moved, missing), mine))

    return meaning


LANES.add("v_permlane16_swap_b32", _exchanged(16))
LANES.add("v_permlane32_swap_b32", _exchanged(32))


# --- through the LDS crossbar: inactive lanes give zero


def _crossbar(trace: Trace) -> tuple[Node, Node]:
    # (the lane that each address names, the data)
    memory = memory_of(trace)
    if memory.address is None:
        raise NotModelled("no address")
    # Some generations move values within each half of a wave of 64 lanes only.
    reach = min(trace.mode.wave_size, trace.mode.behaviour.crossbar)
    index = ((trace.raw(memory.address, 0, 1) + memory.offset) >> 2) & (reach - 1)
    half = trace.apply("lane_id") & (trace.mode.wave_size - reach)
    return trace.splat(index) | half, trace.splat(trace.raw(memory.data[0], 0, 1))


@LANES.meaning("ds_bpermute_b32")
def _bpermute(trace: Trace) -> None:
    index, data = _crossbar(trace)
    value = trace.apply("permute", where(trace.active(), data, 0), index)
    trace.put_vector(vector_index(trace.instruction.dst[0]), value)


@LANES.meaning("ds_bpermute_fi_b32")
def _bpermute_all(trace: Trace) -> None:
    index, data = _crossbar(trace)
    value = trace.apply("permute", data, index)
    trace.put_vector(vector_index(trace.instruction.dst[0]), value)


@LANES.meaning("ds_permute_b32")
def _permute(trace: Trace) -> None:
    index, data = _crossbar(trace)
    value = trace.apply("scatter", data, index, trace.active())
    trace.put_vector(vector_index(trace.instruction.dst[0]), value)


def _swizzled(pattern: int, lane: int) -> int:
    # The lane that a lane reads.
    if pattern < 0x8000:
        keep, add, flip = pattern & 31, pattern >> 5 & 31, pattern >> 10 & 31
        return lane & ~31 | ((lane & keep | add) ^ flip) & 31
    if pattern < 0xC000:
        return lane & ~3 | pattern >> 2 * (lane & 3) & 3
    if pattern < 0xE000:
        stay, step = pattern & 31, pattern >> 5 & 31
        moved = lane - step if pattern >> 10 & 1 else lane + step
        return lane & ~31 | lane & stay | moved & 31 & ~stay
    # The order in which a fast Fourier transform wants its points: bits reversed.
    keep = pattern & 31
    turned = int(f"{lane & 31:05b}"[::-1], 2) >> keep.bit_count()
    return lane & 32 | turned | lane & keep


@LANES.meaning("ds_swizzle_b32")
def _swizzle(trace: Trace) -> None:
    memory = trace.instruction.memory
    if memory is None or memory.address is None:
        raise NotModelled("no address")
    source = tuple(_swizzled(memory.offset, lane) for lane in range(trace.mode.wave_size))
    index = trace.apply("lane_values", type=U32, attribute=source)
    data = trace.splat(trace.raw(memory.address, 0, 1))
    value = trace.apply("permute", where(trace.active(), data, 0), index)
    trace.put_vector(vector_index(trace.instruction.dst[0]), value)
