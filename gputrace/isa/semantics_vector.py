"""Vector instructions that compute with bits and integers: VOP1, VOP2, VOP3 and VOPD.

Witness: AMD's ISA manuals (MI300 and RDNA3, chapter on vector ALU operations), and the results of
compiled kernels in the tests.
"""

from collections.abc import Callable
from dataclasses import replace

from gputrace.isa.graph import U8, U32, U64, Node, Type, where
from gputrace.isa.instruction import Operand, OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_packed import saturating
from gputrace.isa.trace import Trace

VECTOR = Registry()
_pure = VECTOR.pure

# --- moves and bits

_pure("v_mov_b32 v_mov_b64 v_accvgpr_read_b32 v_accvgpr_mov_b32", lambda a: a)


@VECTOR.meaning("v_accvgpr_write_b32")
def _accvgpr_write(trace: Trace) -> None:
    # The source is no accumulator, whatever the word's ACC bits say: assemblers set them.
    source = trace.instruction.src[0]
    if source.kind is OperandKind.ACC:
        source = replace(source, kind=OperandKind.VGPR)
    trace.write(trace.instruction.dst[0], trace.read(source))


_pure("v_not_b32", lambda a: ~a)
_pure("v_and_b32", lambda a, b: a & b)
_pure("v_or_b32", lambda a, b: a | b)
_pure("v_xor_b32", lambda a, b: a ^ b)
_pure("v_xnor_b32", lambda a, b: ~(a ^ b))
_pure("v_or3_b32", lambda a, b, c: a | b | c)
_pure("v_and_or_b32", lambda a, b, c: (a & b) | c)
_pure("v_xor3_b32", lambda a, b, c: a ^ b ^ c)
_pure("v_xad_u32", lambda a, b, c: (a ^ b) + c)
_pure("v_bfi_b32", lambda a, b, c: (a & b) | (~a & c))
_pure("v_bfrev_b32", lambda a: a.trace.apply("reverse", a))
_pure("v_bcnt_u32_b32", lambda a, b: a.trace.apply("popcount", a) + b)
_pure("v_lshlrev_b32 v_lshlrev_b16 v_lshlrev_b64", lambda n, a: a << n.zext(a.type))
_pure("v_lshrrev_b32 v_lshrrev_b16 v_lshrrev_b64", lambda n, a: a >> n.zext(a.type))
_pure("v_ashrrev_i32 v_ashrrev_i16 v_ashrrev_i64", lambda n, a: a.ashr(n.zext(a.type)))
_pure("v_lshl_or_b32", lambda a, n, b: (a << n) | b)
_pure("v_lshl_add_u32", lambda a, n, b: (a << n) + b)
_pure("v_add_lshl_u32", lambda a, b, n: (a + b) << n)
_pure("v_lshl_add_u64", lambda a, n, b: (a << (n.zext(U64) & 7)) + b)
_pure("v_add3_u32", lambda a, b, c: a + b + c)


def _align(step: int) -> Callable[[Node, Node, Node], Node]:
    def function(a: Node, b: Node, n: Node) -> Node:
        wide = (a.zext(U64) << 32) | b.zext(U64)
        return (wide >> ((n.zext(U64) & (32 // step - 1)) * step)).zext(U32)

    return function


_pure("v_alignbit_b32", _align(1))
_pure("v_alignbyte_b32", _align(8))


def _field(signed: bool) -> Callable[[Node, Node, Node], Node]:
    # `width` bits of `a` from bit `offset`; both counts use five bits.
    def function(a: Node, offset: Node, width: Node) -> Node:
        size = width & 31
        left = (size.trace.const(U32, 32) - size) & 31
        fits = a.trace.apply("ule", (offset & 31) + size, 32)
        moved = a >> offset
        if signed:
            moved = a.ashr(offset)
            cut = where(fits, (moved << left).ashr(left), moved)
        else:
            cut = (moved << left) >> left
        return where(size.eq(0), 0, cut)

    return function


_pure("v_bfe_u32", _field(signed=False))
_pure("v_bfe_i32", _field(signed=True))
_pure("v_bfm_b32", lambda a, b: ((a.trace.const(U32, 1) << a) - 1) << b)


def _find(prim: str) -> Callable[[Node], Node]:
    return lambda a: where(a.eq(0), 0xFFFFFFFF, a.trace.apply(prim, a))


_pure("v_ffbl_b32 v_ctz_i32_b32", _find("trailing"))
_pure("v_ffbh_u32 v_clz_i32_u32", _find("leading"))


def _find_sign(a: Node) -> Node:
    folded = a ^ a.ashr(31)
    return where(folded.eq(0), 0xFFFFFFFF, a.trace.apply("leading", folded))


_pure("v_ffbh_i32 v_cls_i32", _find_sign)


def _permute_bytes(a: Node, b: Node, selector: Node) -> Node:
    # Byte k of the result: 0-3 from b, 4-7 from a, 8-11 signs of words, 12 zero, above 0xff.
    wide = (a.zext(U64) << 32) | b.zext(U64)
    result = a.trace.const(U32, 0)
    for k in range(4):
        pick = (selector >> (8 * k)) & 0xFF
        byte = (wide >> ((pick.zext(U64) & 7) << 3)).zext(U8).zext(U32)
        word = (wide >> ((((pick.zext(U64) & 3) << 1) | 1) << 3)).zext(U8)
        sign = word.sext(U32).ashr(7) & 0xFF
        trace = a.trace
        above = where(pick.eq(12), 0, where(trace.apply("ult", pick, 12), sign, 0xFF))
        result = result | (where(trace.apply("ult", pick, 8), byte, above) << (8 * k))
    return result


_pure("v_perm_b32", _permute_bytes)

# --- integer arithmetic


def _saturated(trace: Trace, value: Node, over: Node, limit: int) -> Node:
    return where(over, limit, value) if trace.instruction.clamp else value


def _plain_add(trace: Trace) -> None:
    a, b = (trace.read(o) for o in trace.instruction.src)
    total = a + b
    ones = (1 << total.type.bits) - 1
    trace.write(
        trace.instruction.dst[0], _saturated(trace, total, trace.apply("ult", total, a), ones)
    )


def _plain_sub(reverse: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b = (trace.read(o) for o in trace.instruction.src)
        if reverse:
            a, b = b, a
        trace.write(trace.instruction.dst[0], _saturated(trace, a - b, trace.apply("ult", a, b), 0))

    return meaning


VECTOR.add("v_add_u32 v_add_nc_u32 v_add_u16 v_add_nc_u16", _plain_add)
VECTOR.add("v_sub_u32 v_sub_nc_u32 v_sub_u16 v_sub_nc_u16", _plain_sub(reverse=False))
VECTOR.add("v_subrev_u32 v_subrev_nc_u32 v_subrev_u16", _plain_sub(reverse=True))


def _signed_sum(subtract: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b = (trace.read(operand) for operand in trace.instruction.src)
        x, y = a.sext(U64), b.sext(U64)
        exact = x - y if subtract else x + y
        trace.write(trace.instruction.dst[0], saturating(trace, exact, True, a.type))

    return meaning


VECTOR.add("v_add_i32 v_add_nc_i32 v_add_i16 v_add_nc_i16", _signed_sum(subtract=False))
VECTOR.add("v_sub_i32 v_sub_nc_i32 v_sub_i16 v_sub_nc_i16", _signed_sum(subtract=True))


def _carry(subtract: bool, reverse: bool, carry_in: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        operands = trace.instruction.src
        a, b = trace.read(operands[0]), trace.read(operands[1])
        if reverse:
            a, b = b, a
        wide = (a.zext(U64) - b.zext(U64)) if subtract else (a.zext(U64) + b.zext(U64))
        if carry_in:
            bit = trace.read_mask(operands[2]).zext(U64)
            wide = wide - bit if subtract else wide + bit
        out = (wide >> 32).ne(0)
        total = wide.zext(U32)
        if trace.instruction.clamp:
            total = where(out, 0 if subtract else 0xFFFFFFFF, total)
        trace.write(trace.instruction.dst[0], total)
        trace.write_mask(trace.instruction.dst[1], trace.splat(out))

    return meaning


VECTOR.add("v_add_co_u32", _carry(subtract=False, reverse=False, carry_in=False))
VECTOR.add("v_sub_co_u32", _carry(subtract=True, reverse=False, carry_in=False))
VECTOR.add("v_subrev_co_u32", _carry(subtract=True, reverse=True, carry_in=False))
VECTOR.add("v_addc_co_u32 v_add_co_ci_u32", _carry(subtract=False, reverse=False, carry_in=True))
VECTOR.add("v_subb_co_u32 v_sub_co_ci_u32", _carry(subtract=True, reverse=False, carry_in=True))
VECTOR.add(
    "v_subbrev_co_u32 v_subrev_co_ci_u32", _carry(subtract=True, reverse=True, carry_in=True)
)


def _product(signed: bool, high: bool, bits: int) -> Callable[[Node, Node], Node]:
    narrow = U32 if bits == 32 else Type("i", bits)

    def function(a: Node, b: Node) -> Node:
        if bits == 24:
            a, b = (_low24(a, signed), _low24(b, signed))
        x, y = (n.sext(U64) if signed else n.zext(U64) for n in (a, b))
        wide = x * y
        return (wide >> 32).zext(U32) if high else wide.zext(U32 if bits == 24 else narrow)

    return function


def _low24(value: Node, signed: bool) -> Node:
    return (value << 8).ashr(8) if signed else value & 0xFFFFFF


_pure("v_mul_lo_u32", lambda a, b: a * b)
_pure("v_mul_lo_u16", lambda a, b: a * b)
_pure("v_mul_hi_u32", _product(signed=False, high=True, bits=32))
_pure("v_mul_hi_i32", _product(signed=True, high=True, bits=32))
_pure("v_mul_u32_u24", _product(signed=False, high=False, bits=24))
_pure("v_mul_i32_i24", _product(signed=True, high=False, bits=24))
_pure("v_mul_hi_u32_u24", _product(signed=False, high=True, bits=24))
_pure("v_mul_hi_i32_i24", _product(signed=True, high=True, bits=24))
_pure("v_mad_u32_u24", lambda a, b, c: _product(False, False, 24)(a, b) + c)
_pure("v_mad_i32_i24", lambda a, b, c: _product(True, False, 24)(a, b) + c)
_pure("v_mad_u16 v_mad_i16 v_mad_legacy_u16 v_mad_legacy_i16", lambda a, b, c: a * b + c)
_pure("v_mad_u32_u16", lambda a, b, c: a.zext(U32) * b.zext(U32) + c)
_pure("v_mad_i32_i16", lambda a, b, c: a.sext(U32) * b.sext(U32) + c)
_pure("v_not_b16", lambda a: ~a)
_pure("v_and_b16", lambda a, b: a & b)
_pure("v_or_b16", lambda a, b: a | b)
_pure("v_xor_b16", lambda a, b: a ^ b)
_pure("v_mov_b16", lambda a: a)
_pure("v_cvt_u32_u16", lambda a: a.zext(U32))
_pure("v_cvt_i32_i16", lambda a: a.sext(U32))


def _wide_mad(signed: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b, c = (trace.read(o) for o in trace.instruction.src)
        x, y = (n.sext(U64) if signed else n.zext(U64) for n in (a, b))
        product = x * y
        total = product + c
        trace.write(trace.instruction.dst[0], total)
        if len(trace.instruction.dst) > 1:
            over = trace.apply("ult", total, c)
            if signed:
                over = ((product ^ total) & (c ^ total)).ashr(63).ne(0)
            trace.write_mask(trace.instruction.dst[1], trace.splat(over))

    return meaning


VECTOR.add("v_mad_u64_u32 v_mad_co_u64_u32", _wide_mad(signed=False))
VECTOR.add("v_mad_i64_i32 v_mad_co_i64_i32", _wide_mad(signed=True))


def _extreme(prim: str, least: bool) -> Callable[..., Node]:
    def function(*values: Node) -> Node:
        best = values[0]
        for value in values[1:]:
            less = best.trace.apply(prim, best, value)
            best = where(less, best, value) if least else where(less, value, best)
        return best

    return function


def _median(prim: str) -> Callable[[Node, Node, Node], Node]:
    low, high = _extreme(prim, least=True), _extreme(prim, least=False)
    return lambda a, b, c: high(low(a, b), low(high(a, b), c))


for _sign, _letter in (("ult", "u"), ("slt", "i")):
    for _bits in (16, 32):
        _kind = f"{_letter}{_bits}"
        _pure(f"v_min_{_kind} v_min3_{_kind}", _extreme(_sign, least=True))
        _pure(f"v_max_{_kind} v_max3_{_kind}", _extreme(_sign, least=False))
        _pure(f"v_med3_{_kind}", _median(_sign))
    _least, _most = _extreme(_sign, least=True), _extreme(_sign, least=False)
    _pure(f"v_maxmin_{_letter}32", lambda a, b, c, f=_least, g=_most: f(g(a, b), c))
    _pure(f"v_minmax_{_letter}32", lambda a, b, c, f=_least, g=_most: g(f(a, b), c))



def _parts_of(value: Node, bits: int) -> list[Node]:
    return [(value >> at) & ((1 << bits) - 1) for at in range(0, 32, bits)]


def _differences(bits: int, masked: bool, shift: int) -> Callable[[Node, Node, Node], Node]:
    # The sum of the distances of the parts; masked: parts of which the second is zero do not count.
    far, near = _extreme("ult", False), _extreme("ult", True)

    def function(a: Node, b: Node, c: Node) -> Node:
        total = a.trace.const(U32, 0)
        for x, y in zip(_parts_of(a, bits), _parts_of(b, bits), strict=True):
            distance = far(x, y) - near(x, y)
            total = total + (where(y.eq(0), 0, distance) if masked else distance)
        return (total << shift) + c

    return function


_pure("v_sad_u8", _differences(8, masked=False, shift=0))
_pure("v_sad_hi_u8", _differences(8, masked=False, shift=16))
_pure("v_sad_u16", _differences(16, masked=False, shift=0))
_pure("v_msad_u8", _differences(8, masked=True, shift=0))


def _average(a: Node, b: Node, c: Node) -> Node:
    # Each byte: the mean of two, rounded up where the third's lowest bit is set.
    low = [(value >> shift) & 0x00FF00FF for value in (a, b) for shift in (0, 8)]
    round_even, round_odd = c & 0x00010001, (c >> 8) & 0x00010001
    even = ((low[0] + low[2] + round_even) >> 1) & 0x00FF00FF
    odd = ((low[1] + low[3] + round_odd) >> 1) & 0x00FF00FF
    return even | (odd << 8)


_pure("v_lerp_u8", _average)
_pure("v_sad_u32", lambda a, b, c: _extreme("ult", False)(a, b) - _extreme("ult", True)(a, b) + c)

# --- selection


@VECTOR.meaning("v_cndmask_b32 v_cndmask_b16")
def _cndmask(trace: Trace) -> None:
    a, b, mask = trace.instruction.src
    chosen = where(trace.read_mask(mask), _with_sign(trace, b), _with_sign(trace, a))
    trace.write(trace.instruction.dst[0], chosen)


def _with_sign(trace: Trace, operand: Operand) -> Node:
    # The bits as they are, small numbers too, but for a sign that is taken away or turned.
    value, sign = trace.read(operand), 1 << (operand.bits - 1)
    if operand.abs:
        value = value & (sign - 1)
    return value ^ sign if operand.neg else value


@VECTOR.meaning("v_nop")
def _nop(trace: Trace) -> None:
    return


@VECTOR.meaning("v_swap_b32 v_swap_b16")
def _swap(trace: Trace) -> None:
    left, right = trace.instruction.dst[0], trace.instruction.src[0]
    a, b = trace.read(left), trace.read(right)
    trace.write(left, b)
    trace.write(right, a)


@VECTOR.meaning("v_bitop3_b32 v_bitop3_b16")
def _any_bits(trace: Trace) -> None:
    # What the result is for each value of the three bits stands where other instructions have
    # output multiplier, magnitudes and signs.
    low, high = trace.instruction.words
    table = (high >> 27 & 3) << 6 | (low >> 8 & 7) << 3 | high >> 29
    sources = [trace.read(operand) for operand in trace.instruction.src]
    result = trace.const(sources[0].type, 0)
    for row in range(8):
        if table >> row & 1:
            a, b, c = (
                value if row >> (2 - k) & 1 else ~value for k, value in enumerate(sources)
            )
            result = result | (a & b & c)
    trace.write(trace.instruction.dst[0], result)


def next_random(a: Node) -> Node:
    """Return the random number after a number (v_prng_b32)."""
    return (a << 1) ^ where((a >> 31).ne(0), a.trace.const(U32, 0xC5), 0)


_pure("v_prng_b32", next_random)
