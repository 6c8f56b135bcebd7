"""Packed and mixed operations: VOP3P, two results in one register or pair.

Witness: AMD's ISA manuals (MI300 and RDNA3, "VOP3P"), and the results of compiled kernels in the
tests.
"""

from collections.abc import Callable

from gputrace.isa.graph import F16, F32, U16, U32, U64, Node, Type, where
from gputrace.isa.instruction import Operand, OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_float import LEAST, MOST
from gputrace.isa.trace import Trace

PACKED = Registry()


def half_of(trace: Trace, operand: Operand, high: bool) -> Node:
    """Read the part of a packed operand that the low or the high result uses, with its sign."""
    element = trace.element(operand)
    upper = operand.op_sel_hi if high else operand.op_sel
    raw = trace.crossed(operand)
    size = 32 if operand.bits == 64 else 16
    part = (raw >> size if upper else raw).zext(Type("i", size))
    if element.kind == "i":
        return part
    if operand.neg_hi if high else operand.neg:
        part = part ^ (1 << (size - 1))
    return trace.flush(part.bits_as(element), source=True)


def join(low: Node, high: Node) -> Node:
    """Put two parts into one register or pair."""
    kind, wide = Type("i", low.type.bits), Type("i", 2 * low.type.bits)
    low, high = low.bits_as(kind).zext(wide), high.bits_as(kind).zext(wide)
    return low | (high << kind.bits)


def side_by_side(parts: list[Node], bits: int) -> list[Node]:
    """Put parts of so many bits behind one another, into dwords."""
    words: list[Node] = []
    for number, part in enumerate(parts):
        at, inside = divmod(number * bits, 32)
        if at == len(words):
            words.append(part.trace.const(U32, 0))
        words[at] = words[at] | (part << inside if inside else part)
        if inside + bits > 32:
            words.append(part >> 32 - inside)
    return words


def _packed(names: str, function: Callable[..., Node]) -> None:
    def meaning(trace: Trace) -> None:
        parts = [
            trace.result(function(*(half_of(trace, o, high) for o in trace.instruction.src)))
            for high in (False, True)
        ]
        trace.write(trace.instruction.dst[0], join(*parts))

    PACKED.add(names, meaning)


_packed("v_pk_add_f16 v_pk_add_f32", lambda a, b: a + b)
_packed("v_pk_mul_f16 v_pk_mul_f32", lambda a, b: a * b)
_packed("v_pk_fma_f16 v_pk_fma_f32", lambda a, b, c: a.trace.apply("fma", a, b, c))
_packed("v_pk_min_f16 v_pk_min_num_f16", LEAST)
_packed("v_pk_max_f16 v_pk_max_num_f16", MOST)


@PACKED.meaning("v_pk_mov_b32")
def _pair(trace: Trace) -> None:
    # The low dword comes from the first source, the high one from the second; op_sel alone says
    # which half of each. Source: the manual's pseudocode.
    first, second = trace.instruction.src
    low, high = half_of(trace, first, high=False), half_of(trace, second, high=False)
    trace.write(trace.instruction.dst[0], join(low, high))


def saturating(trace: Trace, exact: Node, signed: bool, type: Type) -> Node:
    """Narrow an exact result: to its low bits, or with clamp to the nearest that fits."""
    if not trace.instruction.clamp:
        return exact.zext(type)
    least, most = (-(1 << (type.bits - 1)), (1 << (type.bits - 1)) - 1)
    if not signed:
        least, most = 0, (1 << type.bits) - 1
    exact = where(trace.apply("slt", exact, least), least, exact)
    return where(trace.apply("slt", most, exact), most, exact).zext(type)


def _packed_integer(names: str, function: Callable[..., Node], signed: bool) -> None:
    # The function works on exact values of 32 bits.
    def meaning(trace: Trace) -> None:
        parts = []
        for high in (False, True):
            narrow = [half_of(trace, operand, high) for operand in trace.instruction.src]
            wide = [n.sext(U64) if signed else n.zext(U64) for n in narrow]
            parts.append(saturating(trace, function(*wide), signed, U16))
        trace.write(trace.instruction.dst[0], join(*parts))

    PACKED.add(names, meaning)


for _signed, _letter in ((False, "u"), (True, "i")):
    _packed_integer(f"v_pk_add_{_letter}16", lambda a, b: a + b, _signed)
    _packed_integer(f"v_pk_sub_{_letter}16", lambda a, b: a - b, _signed)
    _packed_integer(f"v_pk_mad_{_letter}16", lambda a, b, c: a * b + c, _signed)
_packed_integer("v_pk_mul_lo_u16", lambda a, b: a * b, signed=False)
_packed("v_pk_lshlrev_b16", lambda n, a: a << n)
_packed("v_pk_lshrrev_b16", lambda n, a: a >> n)
_packed("v_pk_ashrrev_i16", lambda n, a: a.ashr(n))


def _choice(prim: str, least: bool) -> Callable[[Node, Node], Node]:
    def function(a: Node, b: Node) -> Node:
        less = a.trace.apply(prim, a, b)
        return where(less, a, b) if least else where(less, b, a)

    return function


for _sign, _letter in (("ult", "u"), ("slt", "i")):
    _packed(f"v_pk_min_{_letter}16", _choice(_sign, least=True))
    _packed(f"v_pk_max_{_letter}16", _choice(_sign, least=False))


# --- mixed: each operand is an f32 or a half of a register


def _mix(trace: Trace) -> Node:
    values = [trace.read(operand) for operand in trace.instruction.src]
    wide = [v if v.type == F32 else trace.apply("fcvt", v, type=F32) for v in values]
    return trace.apply("fma", *wide)


@PACKED.meaning("v_fma_mix_f32")
def _mix_f32(trace: Trace) -> None:
    trace.write(trace.instruction.dst[0], _mix(trace))


def _mix_half(high: bool) -> Callable[[Trace], None]:
    # The other half of the register stays.
    def meaning(trace: Trace) -> None:
        to = trace.instruction.dst[0]
        made = trace.result(trace.apply("fcvt", _mix(trace), type=F16)).bits_as(U16).zext(U32)
        old = trace.raw(to, 0, 1)
        kept = (old & 0xFFFF) | (made << 16) if high else (old & 0xFFFF0000) | made
        trace.put_vector(to.index, kept)

    return meaning


PACKED.add("v_fma_mixlo_f16", _mix_half(high=False))
PACKED.add("v_fma_mixhi_f16", _mix_half(high=True))


# --- conversions that pack


def toward_zero(a: Node) -> Node:
    """Narrow an f32 to f16, rounding toward zero."""
    trace = a.trace
    with trace.to_nearest():
        near = trace.apply("fcvt", a, type=F16)
    back = trace.apply("fcvt", near, type=F32)
    size, limit = (x.bits_as(U32) & 0x7FFFFFFF for x in (a, back))
    over = trace.apply("ult", size, limit) & a.eq(a)
    raw = near.bits_as(U16)
    return where(over, raw - 1, raw).bits_as(F16)


@PACKED.meaning("v_cvt_pkrtz_f16_f32 v_cvt_pk_rtz_f16_f32")
def _convert_pair(trace: Trace) -> None:
    parts = [trace.flush(toward_zero(trace.read(o))) for o in trace.instruction.src]
    trace.write(trace.instruction.dst[0], join(*parts))


@PACKED.meaning("v_pack_b32_f16")
def _pack(trace: Trace) -> None:
    low, high = (trace.read(operand) for operand in trace.instruction.src)
    trace.write(trace.instruction.dst[0], join(low, high))


def is_register(operand: Operand) -> bool:
    """Whether an operand is a vector register of either file."""
    return operand.kind in (OperandKind.VGPR, OperandKind.ACC)
