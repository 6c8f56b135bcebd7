"""Vector instructions that compute: VOP1, VOP2, VOP3, VOP3P, VOPC and VOPD.

Witness: AMD's ISA manuals (MI300 and RDNA3, chapter on vector ALU operations), and the results of
compiled kernels in the tests.
"""

from collections.abc import Callable
from dataclasses import replace

from gputrace.isa import state
from gputrace.isa.graph import F16, F32, F64, I1, U8, U16, U32, U64, Node, Type, where
from gputrace.isa.instruction import OperandKind
from gputrace.isa.semantics import Registry
from gputrace.isa.trace import NotModelled, Trace

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


def _no_clamp(function: Callable[..., Node]) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        if trace.instruction.clamp:
            raise NotModelled("clamp of this integer operation")
        result = function(*(trace.read(o) for o in trace.instruction.src))
        trace.write(trace.instruction.dst[0], result)

    return meaning


VECTOR.add("v_add_i32 v_add_nc_i32 v_add_i16 v_add_nc_i16", _no_clamp(lambda a, b: a + b))
VECTOR.add("v_sub_i32 v_sub_nc_i32 v_sub_i16 v_sub_nc_i16", _no_clamp(lambda a, b: a - b))


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
_pure("v_mad_u16", lambda a, b, c: a * b + c)
_pure("v_mad_u32_u16", lambda a, b, c: a.zext(U32) * b.zext(U32) + c)


def _wide_mad(signed: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b, c = (trace.read(o) for o in trace.instruction.src)
        x, y = (n.sext(U64) if signed else n.zext(U64) for n in (a, b))
        total = x * y + c
        trace.write(trace.instruction.dst[0], total)
        if len(trace.instruction.dst) > 1:
            trace.write_mask(trace.instruction.dst[1], trace.splat(trace.apply("ult", total, c)))

    return meaning


VECTOR.add("v_mad_u64_u32", _wide_mad(signed=False))


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
    _pure(f"v_min_{_letter}32 v_min_{_letter}16 v_min3_{_letter}32", _extreme(_sign, least=True))
    _pure(f"v_max_{_letter}32 v_max_{_letter}16 v_max3_{_letter}32", _extreme(_sign, least=False))
    _pure(f"v_med3_{_letter}32", _median(_sign))

_pure("v_sad_u32", lambda a, b, c: _extreme("ult", False)(a, b) - _extreme("ult", True)(a, b) + c)

# --- floats: f16, f32 and f64 by the operands' types


def _fma(a: Node, b: Node, c: Node) -> Node:
    return a.trace.apply("fma", a, b, c)


_pure("v_add_f16 v_add_f32 v_add_f64", lambda a, b: a + b)
_pure("v_sub_f16 v_sub_f32", lambda a, b: a - b)
_pure("v_subrev_f16 v_subrev_f32", lambda a, b: b - a)
_pure("v_mul_f16 v_mul_f32 v_mul_f64", lambda a, b: a * b)
_pure("v_fma_f16 v_fma_f32 v_fma_f64 v_fmamk_f32 v_fmaak_f32", _fma)


@VECTOR.meaning("v_fmac_f32 v_fmac_f16 v_fmac_f64")
def _fmac(trace: Trace) -> None:
    a, b = (trace.read(o) for o in trace.instruction.src[:2])
    to = trace.instruction.dst[0]
    trace.write(to, _fma(a, b, trace.read(to)))


def _legacy_multiply(a: Node, b: Node) -> Node:
    zero = a.eq(0.0) | b.eq(0.0)
    return where(zero, 0.0, a * b)


_pure("v_mul_legacy_f32 v_mul_dx9_zero_f32", _legacy_multiply)


def _float_extreme(least: bool) -> Callable[[Node, Node], Node]:
    # A NaN gives the other operand; -0 is less than +0.
    def function(a: Node, b: Node) -> Node:
        trace = a.trace
        kind = Type("i", a.type.bits)
        both = trace.apply("slt", a.bits_as(kind), b.bits_as(kind))
        less = trace.apply("flt", a, b) | (a.eq(b) & both & a.eq(0.0)) | trace.apply("isnan", b)
        more = trace.apply("flt", b, a) | (a.eq(b) & ~both & a.eq(0.0)) | trace.apply("isnan", b)
        return where(less if least else more, a, b)

    return function


_pure("v_min_f16 v_min_f32 v_min_f64", _float_extreme(least=True))
_pure("v_max_f16 v_max_f32 v_max_f64", _float_extreme(least=False))
_LEAST, _MOST = _float_extreme(least=True), _float_extreme(least=False)
_pure("v_min3_f32 v_min3_f16", lambda a, b, c: _LEAST(_LEAST(a, b), c))
_pure("v_max3_f32 v_max3_f16", lambda a, b, c: _MOST(_MOST(a, b), c))
_pure("v_med3_f32 v_med3_f16", lambda a, b, c: _MOST(_LEAST(a, b), _LEAST(_MOST(a, b), c)))

for _name, _prim in (
    ("floor", "floor"),
    ("ceil", "ceil"),
    ("trunc", "truncate"),
    ("rndne", "rint"),
):
    _pure(f"v_{_name}_f16 v_{_name}_f32 v_{_name}_f64", lambda a, p=_prim: a.trace.apply(p, a))


def _fraction(a: Node) -> Node:
    # a - floor(a), kept below one.
    below = {F16: 1 - 2.0**-11, F32: 1 - 2.0**-24, F64: 1 - 2.0**-53}[a.type]
    rest = a - a.trace.apply("floor", a)
    return where(a.trace.apply("flt", rest, below), rest, where(rest.eq(rest), below, rest))


_pure("v_fract_f16 v_fract_f32 v_fract_f64", _fraction)


def _in_double(function: Callable[[Node], Node]) -> Callable[[Node], Node]:
    # Approximations of the hardware are not public: the exact value, rounded once more.
    def meaning(a: Node) -> Node:
        wide = a if a.type == F64 else a.trace.apply("fcvt", a, type=F64)
        result = function(wide)
        if a.type == F64:
            return result
        single = a.trace.apply("fcvt", result, type=F32)
        return single if a.type == F32 else a.trace.apply("fcvt", single, type=F16)

    return meaning


def _apply(prim: str) -> Callable[[Node], Node]:
    return lambda a: a.trace.apply(prim, a)


def _reciprocal(a: Node) -> Node:
    return a.trace.apply("fdiv", 1.0, a)


_TURN = 6.283185307179586
for _name, _exact in (
    ("rcp", _reciprocal),
    ("rsq", lambda a: _reciprocal(a.trace.apply("sqrt", a))),
    ("sqrt", _apply("sqrt")),
):
    _pure(f"v_{_name}_f16 v_{_name}_f32 v_{_name}_f64", _in_double(_exact))
_pure("v_rcp_iflag_f32", _in_double(_reciprocal))
for _name in ("exp", "log"):
    _pure(f"v_{_name}_f16 v_{_name}_f32", _in_double(_apply(f"{_name}2")))


def _turns(prim: str) -> Callable[[Node], Node]:
    # The argument counts whole turns.
    return lambda a: a.trace.apply(prim, (a - a.trace.apply("truncate", a)) * _TURN)


for _name in ("sin", "cos"):
    _pure(
        f"v_{_name}_f16 v_{_name}_f32",
        _in_double(_turns(_name)),
    )


def _load_exponent(a: Node, n: Node) -> Node:
    wide = n.sext(U32)
    return a.trace.apply("ldexp", a, wide, type=a.type)


_pure("v_ldexp_f16 v_ldexp_f32 v_ldexp_f64", _load_exponent)

_LAYOUT = {F16: (5, 10), F32: (8, 23), F64: (11, 52)}


def _exponent_of(a: Node) -> tuple[Node, Node]:
    # (exponent as U32 with a = fraction * 2^exponent and fraction in [0.5, 1), special)
    exponent_bits, fraction_bits = _LAYOUT[a.type]
    kind = Type("i", a.type.bits)
    raw = a.bits_as(kind) & ((1 << (a.type.bits - 1)) - 1)
    field = raw >> fraction_bits
    shift = a.trace.apply("leading", raw) - exponent_bits
    least = 2 - (1 << (exponent_bits - 1)) + 1
    exponent = where(field.eq(0), ~shift + 1 + least, field + (least - 1))
    special = field.eq((1 << exponent_bits) - 1) | raw.eq(0)
    return exponent.sext(U32), special


def _frexp_exponent(a: Node) -> Node:
    exponent, special = _exponent_of(a)
    result = where(special, 0, exponent)
    return result.zext(U16) if a.type == F16 else result


def _frexp_mantissa(a: Node) -> Node:
    exponent, special = _exponent_of(a)
    scaled = a.trace.apply("ldexp", a, ~exponent + 1, type=a.type)
    return where(special, a, scaled)


_pure("v_frexp_exp_i16_f16 v_frexp_exp_i32_f32 v_frexp_exp_i32_f64", _frexp_exponent)
_pure("v_frexp_mant_f16 v_frexp_mant_f32 v_frexp_mant_f64", _frexp_mantissa)

# --- conversions


def _convert(prim: str, type: Type) -> Callable[[Node], Node]:
    return lambda a: a.trace.apply(prim, a, type=type)


_pure("v_cvt_f32_u32", _convert("from_unsigned", F32))
_pure("v_cvt_f32_i32", _convert("from_signed", F32))
_pure("v_cvt_f64_u32", _convert("from_unsigned", F64))
_pure("v_cvt_f64_i32", _convert("from_signed", F64))
_pure("v_cvt_f16_u16", _convert("from_unsigned", F16))
_pure("v_cvt_f16_i16", _convert("from_signed", F16))
_pure("v_cvt_u32_f32 v_cvt_u32_f64", _convert("to_unsigned", U32))
_pure("v_cvt_i32_f32 v_cvt_i32_f64", _convert("to_signed", U32))
_pure("v_cvt_u16_f16", _convert("to_unsigned", U16))
_pure("v_cvt_i16_f16", _convert("to_signed", U16))
_pure("v_cvt_f32_f16 v_cvt_f32_f64", _convert("fcvt", F32))
_pure("v_cvt_f64_f32", _convert("fcvt", F64))
_pure("v_cvt_f16_f32", _convert("fcvt", F16))
for _byte in range(4):
    _pure(
        f"v_cvt_f32_ubyte{_byte}",
        lambda a, k=_byte: a.trace.apply(
            "from_unsigned", (a.zext(U32) >> (8 * k)) & 0xFF, type=F32
        ),
    )

# --- selection and comparison


@VECTOR.meaning("v_cndmask_b32")
def _cndmask(trace: Trace) -> None:
    a, b, mask = trace.instruction.src
    trace.write(
        trace.instruction.dst[0], where(trace.read_mask(mask), trace.read(b), trace.read(a))
    )


_INTEGER: dict[str, Callable[[Trace, Node, Node, str], Node]] = {
    "f": lambda t, a, b, s: a.ne(a),
    "lt": lambda t, a, b, s: t.apply(s + "lt", a, b),
    "eq": lambda t, a, b, s: a.eq(b),
    "le": lambda t, a, b, s: t.apply(s + "le", a, b),
    "gt": lambda t, a, b, s: t.apply(s + "lt", b, a),
    "ne": lambda t, a, b, s: a.ne(b),
    "ge": lambda t, a, b, s: t.apply(s + "le", b, a),
    "t": lambda t, a, b, s: a.eq(a),
}


def _with_sign(
    function: Callable[[Trace, Node, Node, str], Node], sign: str
) -> Callable[[Trace, Node, Node], Node]:
    return lambda t, a, b: function(t, a, b, sign)


def _ordered(t: Trace, a: Node, b: Node) -> Node:
    return ~(t.apply("isnan", a) | t.apply("isnan", b))


_FLOAT: dict[str, Callable[[Trace, Node, Node], Node]] = {
    "lt": lambda t, a, b: t.apply("flt", a, b),
    "eq": lambda t, a, b: t.apply("feq", a, b),
    "le": lambda t, a, b: t.apply("fle", a, b),
    "gt": lambda t, a, b: t.apply("flt", b, a),
    "lg": lambda t, a, b: t.apply("flt", a, b) | t.apply("flt", b, a),
    "ge": lambda t, a, b: t.apply("fle", b, a),
    "o": _ordered,
    "u": lambda t, a, b: ~_ordered(t, a, b),
    "nge": lambda t, a, b: ~t.apply("fle", b, a),
    "nlg": lambda t, a, b: ~(t.apply("flt", a, b) | t.apply("flt", b, a)),
    "ngt": lambda t, a, b: ~t.apply("flt", b, a),
    "nle": lambda t, a, b: ~t.apply("fle", a, b),
    "neq": lambda t, a, b: ~t.apply("feq", a, b),
    "nlt": lambda t, a, b: ~t.apply("flt", a, b),
}


def _write_condition(trace: Trace, value: Node, to_exec: bool) -> None:
    # v_cmpx writes EXEC, and with a destination (gfx9) that as well.
    lanes = trace.splat(value)
    for operand in trace.instruction.dst:
        if operand.kind is OperandKind.SPECIAL and operand.name.startswith("exec"):
            continue
        trace.write_mask(operand, lanes)
    if to_exec:
        mask = trace.apply("ballot", lanes) & trace.exec_mask()
        trace.put_scalar(state.EXEC, trace.mask_words(mask))


def _comparison(
    function: Callable[[Trace, Node, Node], Node], to_exec: bool
) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b = (trace.read(o) for o in trace.instruction.src)
        _write_condition(trace, function(trace, a, b), to_exec)

    return meaning


for _prefix, _to_exec in (("v_cmp", False), ("v_cmpx", True)):
    for _condition, _integer in _INTEGER.items():
        for _sign, _letter in (("u", "u"), ("s", "i")):
            for _bits in (16, 32, 64):
                VECTOR.add(
                    f"{_prefix}_{_condition}_{_letter}{_bits}",
                    _comparison(_with_sign(_integer, _sign), _to_exec),
                )
    for _condition, _float in _FLOAT.items():
        for _bits in (16, 32, 64):
            VECTOR.add(f"{_prefix}_{_condition}_f{_bits}", _comparison(_float, _to_exec))


def _class(trace: Trace, a: Node, wanted: Node) -> Node:
    # Bits: sNaN, qNaN, -inf, -normal, -denormal, -0, +0, +denormal, +normal, +inf.
    exponent_bits, fraction_bits = _LAYOUT[a.type]
    kind = Type("i", a.type.bits)
    raw = a.bits_as(kind)
    negative = (raw >> (a.type.bits - 1)).ne(0)
    size = raw & ((1 << (a.type.bits - 1)) - 1)
    infinity = ((1 << exponent_bits) - 1) << fraction_bits
    quiet = infinity | (1 << (fraction_bits - 1))
    mask = wanted.zext(U32)

    def bit(positive: int, other: int) -> Node:
        return ((where(negative, mask >> other, mask >> positive)) & 1).ne(0)

    nan = where(trace.apply("ule", quiet, size), (mask >> 1) & 1, mask & 1).ne(0)
    number = where(trace.apply("ult", size, 1 << fraction_bits), bit(7, 4), bit(8, 3))
    finite = where(size.eq(0), bit(6, 5), number)
    limit = where(size.eq(infinity), bit(9, 2), nan)
    return where(trace.apply("ult", size, infinity), finite, limit)


for _bits in (16, 32, 64):
    VECTOR.add(f"v_cmp_class_f{_bits}", _comparison(_class, to_exec=False))
    VECTOR.add(f"v_cmpx_class_f{_bits}", _comparison(_class, to_exec=True))

# --- between lanes


@VECTOR.meaning("v_readlane_b32")
def _readlane(trace: Trace) -> None:
    value, lane = trace.instruction.src
    source = trace.splat(trace.raw(value))
    trace.write(trace.instruction.dst[0], trace.apply("read_lane", source, trace.read(lane)))


@VECTOR.meaning("v_readfirstlane_b32")
def _readfirstlane(trace: Trace) -> None:
    # Without an active lane, lane 0.
    first = trace.apply("trailing", trace.exec_mask()).zext(U32) & (trace.mode.wave_size - 1)
    source = trace.splat(trace.raw(trace.instruction.src[0]))
    trace.write(trace.instruction.dst[0], trace.apply("read_lane", source, first))


@VECTOR.meaning("v_writelane_b32")
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


VECTOR.add("v_mbcnt_lo_u32_b32", _count_below(high=False))
VECTOR.add("v_mbcnt_hi_u32_b32", _count_below(high=True))


@VECTOR.meaning("v_nop")
def _nop(trace: Trace) -> None:
    return
