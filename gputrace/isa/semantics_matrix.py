"""Matrix products: MFMA (CDNA) and WMMA (RDNA). All lanes take part, whatever EXEC says.

D = A * B + C for matrices spread over the wave. With M rows of A and N columns of B (equal here),
blocks that are multiplied side by side, and E elements of A in each lane:

- MFMA: lane l has row l % M of A and column l % M of B; with g = l // M, its block is g % blocks
  and its elements are those with k = (g // blocks) * E + e. D has its column in lane l % M; the
  rows that a lane has lie in groups of four registers (f64: a row in every group of lanes).
- WMMA of gfx11: lane l has the whole row l % 16 (lanes 16-31 repeat it); D has row 2 * r + l // 16
  in register r. Of gfx12: a lane has half a row; D has row r + 8 * (l // 16).

Each element is summed over k in ascending order, one fused multiply-add a step, in f32 (f64, i32);
f16 and bf16 results are rounded once. The hardware's order is not public.

Sources: AMD's matrix instruction calculator (layouts), ISA manuals MI200, MI300, RDNA3, RDNA4.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from gputrace.isa.graph import F16, F32, F64, I1, U8, U16, U32, U64, Node, Type, where
from gputrace.isa.instruction import Operand, OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_memory import vector_index
from gputrace.isa.semantics_packed import saturating
from gputrace.isa.trace import NotModelled, Trace

MATRIX = Registry()

Widen = Callable[[Node], Node]


# --- elements: raw bits of a dword's part to what is multiplied


def _from_half(raw: Node) -> Node:
    return raw.trace.apply("fcvt", raw.zext(U16).bits_as(F16), type=F32)


def _from_bfloat(raw: Node) -> Node:
    return (raw.zext(U32) << 16).bits_as(F32)


def small_float(exponent_bits: int, bias: int, finite: bool, unsigned_zero: bool) -> Widen:
    """Return how a float of eight bits becomes an f32.

    `finite`: no infinities, the largest pattern is NaN; `unsigned_zero`: -0's pattern is the NaN.
    """
    fraction_bits = 7 - exponent_bits

    def widen(raw: Node) -> Node:
        trace = raw.trace
        bits = raw.zext(U8).zext(U32)
        exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1)
        fraction = bits & ((1 << fraction_bits) - 1)
        normal = exponent.ne(0)
        whole = where(normal, fraction | (1 << fraction_bits), fraction)
        power = where(normal, exponent, 1) - (bias + fraction_bits)
        size = trace.apply("from_unsigned", whole, type=F32)
        value = trace.apply("ldexp", size, power, type=F32)
        value = (value.bits_as(U32) | ((bits & 0x80) << 24)).bits_as(F32)
        if unsigned_zero:
            return where(bits.eq(0x80), float("nan"), value)
        if finite:
            return where((bits & 0x7F).eq(0x7F), float("nan"), value)
        infinity = where((bits & 0x80).ne(0), trace.const(U32, 0xFF800000), 0x7F800000)
        special = where(fraction.eq(0), infinity.bits_as(F32), float("nan"))
        return where(exponent.eq((1 << exponent_bits) - 1), special, value)

    return widen


FNUZ = {"fp8": small_float(4, 8, True, True), "bf8": small_float(5, 16, True, True)}
"""Eight-bit floats of gfx940: one NaN, no infinities, no negative zero."""
OCP = {"fp8": small_float(4, 7, True, False), "bf8": small_float(5, 15, False, False)}
"""Eight-bit floats of gfx12 (OCP E4M3 and E5M2)."""


@dataclass(frozen=True, slots=True)
class Element:
    """A type of elements: width in bits, and how one is widened."""

    bits: int
    widen: Widen


def _integer(bits: int, signed: bool) -> Element:
    kind = Type("i", bits) if bits == 8 else U32

    def widen(raw: Node) -> Node:
        if bits == 8:
            return raw.zext(kind).sext(U32) if signed else raw.zext(kind).zext(U32)
        low = raw & 15
        return (low << 28).ashr(28) if signed else low

    return Element(bits, widen)


FLOATS = {
    "f16": Element(16, _from_half),
    "bf16": Element(16, _from_bfloat),
    "f32": Element(32, lambda raw: raw.bits_as(F32)),
    "f64": Element(64, lambda raw: raw.bits_as(F64)),
}


def _element_of(trace: Trace, operand: Operand, element: Element, number: int) -> Node:
    # Element `number` of what each lane has, raw.
    if element.bits == 64:
        return trace.splat(trace.raw(operand, 0, 2))
    at = number * element.bits
    word = trace.splat(trace.raw(operand, at // 32, 1))
    return word >> (at % 32) if at % 32 else word


def _moved(trace: Trace, value: Node, lanes: list[int]) -> Node:
    if lanes == list(range(trace.mode.wave_size)):
        return value
    index = trace.apply("lane_values", type=U32, attribute=tuple(lanes))
    if value.type.bits < 64:
        return trace.apply("permute", value, index)
    low, high = (trace.apply("permute", part, index) for part in trace.words(value))
    return low.zext(U64) | (high.zext(U64) << 32)


@dataclass(frozen=True, slots=True)
class Factor:
    """One operand of the product: where element (row or column, k, block) lies: lane, element."""

    operand: Operand
    element: Element
    place: Callable[[int, int, int], tuple[int, int]]


def _factor(trace: Trace, factor: Factor, wanted: list[tuple[int, int, int]]) -> Node:
    # What each lane needs: its (row, k, block); all lanes want the same element number.
    places = [factor.place(*each) for each in wanted]
    number = places[0][1]
    assert all(place[1] == number for place in places)
    raw = _element_of(trace, factor.operand, factor.element, number)
    return factor.element.widen(_moved(trace, raw, [lane for lane, _ in places]))


Row = Callable[[int, int], tuple[int, int]]
"""(register, lane) to (row of D, block)."""


def _sum(
    trace: Trace, start: Node, factors: tuple[Factor, Factor], rows: list[tuple[int, int]],
    columns: list[int], depth: int,
) -> Node:  # fmt: skip
    total = start
    for k in range(depth):
        left = [(row, k, block) for row, block in rows]
        right = [(c, k, block) for c, (_, block) in zip(columns, rows, strict=True)]
        a, b = _factor(trace, factors[0], left), _factor(trace, factors[1], right)
        total = trace.apply("fma", a, b, total) if total.type.kind == "f" else a * b + total
    return total


def _everywhere(trace: Trace) -> Node:
    return trace.splat(trace.const(I1, 1))


def _addend(trace: Trace, operand: Operand, number: int, type: Type) -> Node:
    wide = type.bits // 32
    kind = Type("i", type.bits)
    if operand.is_constant:
        return trace.splat(trace.const(kind, operand.value)).bits_as(type)
    return trace.splat(trace.raw(operand, number * wide, wide)).bits_as(type)


# --- MFMA

_MFMA = re.compile(r"v_mfma_(f32|f64|i32)_(\d+)x\d+x(\d+)_?(?:\d+b_)?([a-z]+\d+)(?:_(?:1k|(..8)))?")
_RESULTS = {"f32": F32, "f64": F64, "i32": U32}


def _mfma_elements(first: str, second: str | None) -> tuple[Element, Element]:
    pair = (first, second or first)
    if first == "i8":
        return _integer(8, signed=True), _integer(8, signed=True)
    if first in FNUZ:
        a, b = (Element(8, FNUZ[name]) for name in pair)
        return a, b
    return FLOATS[first], FLOATS[first]


def _mfma(name: str) -> Callable[[Trace], None]:
    found = _MFMA.fullmatch(name)
    assert found is not None, name
    type, size, depth = _RESULTS[found[1]], int(found[2]), int(found[3])
    elements = _mfma_elements(found[4], found[5])

    def meaning(trace: Trace) -> None:
        made = trace.instruction
        if made.cbsz or made.abid or made.blgp:
            raise NotModelled("broadcast of blocks (cbsz, abid, blgp)")
        a, b, c = made.src
        registers = made.dst[0].count * 32 // type.bits
        blocks = registers * 64 // (size * size)
        each = size * depth * blocks // 64

        def place(row: int, k: int, block: int) -> tuple[int, int]:
            return row + size * (k // each * blocks + block), k % each

        factors = Factor(a, elements[0], place), Factor(b, elements[1], place)
        for number in range(registers):
            rows = [_mfma_row(size, blocks, type, number, lane) for lane in range(64)]
            columns = [lane % size for lane in range(64)]
            start = _addend(trace, c, number, type)
            total = _sum(trace, start, factors, rows, columns, depth)
            at = vector_index(made.dst[0]) + number * type.bits // 32
            trace.put_vector(at, total.bits_as(Type("i", type.bits)), _everywhere(trace))

    return meaning


def _mfma_row(size: int, blocks: int, type: Type, number: int, lane: int) -> tuple[int, int]:
    # (row of D, block) that a lane has in one of its results
    group = lane // size
    if size == 4:
        if type == F64:
            return lane // 16, lane // 4 % 4
        return number, group
    if type == F64:
        return 4 * number + group, 0
    in_block = size * size // 64
    r, block = number % in_block, number // in_block
    return 4 * (64 // size) * (r // 4) + 4 * group + r % 4, block


_MFMA_NAMES = """
v_mfma_f32_32x32x1f32 v_mfma_f32_16x16x1f32 v_mfma_f32_4x4x1f32 v_mfma_f32_32x32x2f32
v_mfma_f32_16x16x4f32 v_mfma_f32_32x32x4f16 v_mfma_f32_16x16x4f16 v_mfma_f32_4x4x4f16
v_mfma_f32_32x32x8f16 v_mfma_f32_16x16x16f16 v_mfma_i32_32x32x4i8 v_mfma_i32_16x16x4i8
v_mfma_i32_4x4x4i8 v_mfma_i32_32x32x8i8 v_mfma_i32_16x16x16i8 v_mfma_f32_32x32x4bf16_1k
v_mfma_f32_16x16x4bf16_1k v_mfma_f32_4x4x4bf16_1k v_mfma_f32_32x32x8bf16_1k
v_mfma_f32_16x16x16bf16_1k v_mfma_f32_32x32x2bf16 v_mfma_f32_16x16x2bf16 v_mfma_f32_4x4x2bf16
v_mfma_f32_32x32x4bf16 v_mfma_f32_16x16x8bf16 v_mfma_f64_16x16x4f64 v_mfma_f64_4x4x4f64
v_mfma_f32_32x32x1_2b_f32 v_mfma_f32_16x16x1_4b_f32 v_mfma_f32_4x4x1_16b_f32
v_mfma_f32_32x32x2_f32 v_mfma_f32_16x16x4_f32 v_mfma_f32_32x32x4_2b_f16 v_mfma_f32_16x16x4_4b_f16
v_mfma_f32_4x4x4_16b_f16 v_mfma_f32_32x32x8_f16 v_mfma_f32_16x16x16_f16 v_mfma_i32_32x32x4_2b_i8
v_mfma_i32_16x16x4_4b_i8 v_mfma_i32_4x4x4_16b_i8 v_mfma_i32_32x32x16_i8 v_mfma_i32_16x16x32_i8
v_mfma_f32_32x32x4_2b_bf16 v_mfma_f32_16x16x4_4b_bf16 v_mfma_f32_4x4x4_16b_bf16
v_mfma_f32_32x32x8_bf16 v_mfma_f32_16x16x16_bf16 v_mfma_f64_16x16x4_f64 v_mfma_f64_4x4x4_4b_f64
v_mfma_f32_16x16x32_bf8_bf8 v_mfma_f32_16x16x32_bf8_fp8 v_mfma_f32_16x16x32_fp8_bf8
v_mfma_f32_16x16x32_fp8_fp8 v_mfma_f32_32x32x16_bf8_bf8 v_mfma_f32_32x32x16_bf8_fp8
v_mfma_f32_32x32x16_fp8_bf8 v_mfma_f32_32x32x16_fp8_fp8
"""
for _name in _MFMA_NAMES.split():
    MATRIX.add(_name, _mfma(_name))


# --- WMMA

_SIDE = 16


def _wmma_elements(trace: Trace, kinds: tuple[str, str]) -> tuple[Element, Element]:
    signs = tuple(operand.neg for operand in trace.instruction.src[:2])
    if kinds[0].startswith("iu"):
        a, b = (_integer(int(kinds[0][2:]), signed) for signed in signs)
        return a, b
    if any(o.neg or o.neg_hi for o in trace.instruction.src):
        raise NotModelled("negation in a matrix product")
    if kinds[0] in OCP:
        a, b = (Element(8, OCP[name]) for name in kinds)
        return a, b
    return FLOATS[kinds[0]], FLOATS[kinds[1]]


def round_to_bfloat(value: Node) -> Node:
    """Round an f32 to the sixteen bits of a bf16, ties to even."""
    raw = value.bits_as(U32)
    near = (raw + (((raw >> 16) & 1) + 0x7FFF)) >> 16
    return where(value.trace.apply("isnan", value), (raw >> 16) | 0x40, near).zext(U16)


def _narrow(result: str, value: Node) -> Node:
    if result == "bf16":
        return round_to_bfloat(value)
    return value.trace.apply("fcvt", value, type=F16).bits_as(U16)


def _wmma(result: str, depth: int, kinds: tuple[str, str]) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        made = trace.instruction
        if trace.mode.wave_size != 32:
            raise NotModelled("matrix product of a wave of 64 lanes")
        a, b, _ = made.src
        elements = _wmma_elements(trace, kinds)
        each = a.count * 32 // elements[0].bits
        repeated = each == depth  # gfx11: lanes 16-31 have what lanes 0-15 have

        def place(row: int, k: int, block: int) -> tuple[int, int]:
            return row + _SIDE * (k // each), k % each

        def total(number: int, start: Node) -> Node:
            rows = [
                (2 * number + lane // _SIDE if repeated else number + 8 * (lane // _SIDE), 0)
                for lane in range(32)
            ]
            columns = [lane % _SIDE for lane in range(32)]
            factors = Factor(a, elements[0], place), Factor(b, elements[1], place)
            return _sum(trace, start, factors, rows, columns, depth)

        (_put_narrow if result in ("f16", "bf16") else _put_wide)(trace, result, total, repeated)

    return meaning


def _put_wide(
    trace: Trace, result: str, total: Callable[[int, Node], Node], repeated: bool
) -> None:
    # Eight results a lane; integers may be held within 32 bits.
    type = F32 if result == "f32" else U32
    if result == "i32" and trace.instruction.clamp:
        raise NotModelled("clamp of a matrix product")
    to, c = trace.instruction.dst[0], trace.instruction.src[2]
    for number in range(8):
        value = total(number, _addend(trace, c, number, type))
        trace.put_vector(to.index + number, value.bits_as(U32), _everywhere(trace))


def _put_narrow(
    trace: Trace, result: str, total: Callable[[int, Node], Node], repeated: bool
) -> None:
    to, c = trace.instruction.dst[0], trace.instruction.src[2]
    widen = FLOATS[result].widen

    def start(number: int, high: bool) -> Node:
        if c.kind is OperandKind.INLINE:
            return widen(trace.splat(trace.const(U32, c.value)))
        word = trace.splat(trace.raw(c, number, 1))
        return widen(word >> 16 if high else word)

    for number in range(to.count):
        if repeated:  # one half of each register; the other stays
            value = _narrow(result, total(number, start(number, c.op_sel))).zext(U32)
            old = trace.vector(to.index + number)
            word = (old & 0xFFFF) | (value << 16) if c.op_sel else (old & 0xFFFF0000) | value
        else:
            low, high = (
                _narrow(result, total(2 * number + k, start(number, bool(k)))).zext(U32)
                for k in range(2)
            )
            word = low | (high << 16)
        trace.put_vector(to.index + number, word, _everywhere(trace))


for _result, _depth, _kinds in (
    ("f32", 16, ("f16", "f16")),
    ("f32", 16, ("bf16", "bf16")),
    ("f16", 16, ("f16", "f16")),
    ("bf16", 16, ("bf16", "bf16")),
    ("i32", 16, ("iu8", "iu8")),
    ("i32", 16, ("iu4", "iu4")),
    ("i32", 32, ("iu4", "iu4")),
    *(("f32", 16, (a, b)) for a in ("fp8", "bf8") for b in ("fp8", "bf8")),
):
    _both = "_".join(_kinds) if _kinds[0] in OCP else _kinds[0]
    MATRIX.add(f"v_wmma_{_result}_16x16x{_depth}_{_both}", _wmma(_result, _depth, _kinds))


# --- dot products: two, four or eight products and a sum in each lane


def _dot_sources(
    trace: Trace, elements: tuple[Element, Element], count: int
) -> list[tuple[Node, Node]]:
    a, b = trace.instruction.src[:2]
    return [
        (
            elements[0].widen(_element_of(trace, a, elements[0], number)),
            elements[1].widen(_element_of(trace, b, elements[1], number)),
        )
        for number in range(count)
    ]


def _dot(kind: str, bits: int, result: Type) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        made = trace.instruction
        if trace.instruction.dpp is not None:
            raise NotModelled("DPP of a dot product")
        if result != U32 and any(o.neg or o.neg_hi or o.op_sel for o in made.src):
            raise NotModelled("modifiers of a dot product")
        addend = made.src[2] if len(made.src) > 2 else made.dst[0]
        start = trace.splat(trace.raw(addend, 0, 1))
        if kind in FLOATS:
            total = start.bits_as(F32)
            for a, b in _dot_sources(trace, (FLOATS[kind], FLOATS[kind]), 32 // bits):
                total = trace.apply("fma", a, b, total)
            trace.write(made.dst[0], total)
            return
        signs = [o.neg for o in made.src[:2]] if kind == "iu" else [kind == "i"] * 2
        pair = tuple(_wide_integer(bits, sign) for sign in signs)
        signed = kind != "u"
        exact = start.sext(U64) if signed else start.zext(U64)
        for a, b in _dot_sources(trace, (pair[0], pair[1]), 32 // bits):
            exact = exact + a * b
        trace.write(made.dst[0], saturating(trace, exact, signed, U32))

    return meaning


def _wide_integer(bits: int, signed: bool) -> Element:
    shift = 64 - bits

    def widen(raw: Node) -> Node:
        wide = raw.zext(U64) << shift
        return wide.ashr(shift) if signed else wide >> shift

    return Element(bits, widen)


for _names, _kind, _bits, _type in (
    ("v_dot2_f32_f16 v_dot2c_f32_f16 v_dot2acc_f32_f16", "f16", 16, F32),
    ("v_dot2_f32_bf16 v_dot2c_f32_bf16 v_dot2acc_f32_bf16", "bf16", 16, F32),
    ("v_dot2_i32_i16 v_dot2c_i32_i16", "i", 16, U32),
    ("v_dot2_u32_u16", "u", 16, U32),
    ("v_dot4_i32_i8 v_dot4c_i32_i8", "i", 8, U32),
    ("v_dot4_u32_u8", "u", 8, U32),
    ("v_dot4_i32_iu8", "iu", 8, U32),
    ("v_dot8_i32_i4 v_dot8c_i32_i4", "i", 4, U32),
    ("v_dot8_u32_u4", "u", 4, U32),
    ("v_dot8_i32_iu4", "iu", 4, U32),
):
    MATRIX.add(_names, _dot(_kind, _bits, _type))
