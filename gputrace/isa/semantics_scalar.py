"""Scalar instructions: SALU, branches, and what the sequencer does (SOP1, SOP2, SOPK, SOPC, SOPP).

Witness: AMD's ISA manuals (MI300 and RDNA3, chapters on scalar ALU and program flow), and the
results of compiled kernels in the tests.
"""

from collections.abc import Callable

from gputrace.isa import state
from gputrace.isa.graph import U8, U16, U32, U64, Node, Type, where
from gputrace.isa.semantics import Registry
from gputrace.isa.trace import Trace

SCALAR = Registry()

_WIDTHS = {"32": U32, "64": U64}


def _scalar(names: str, function: Callable[..., Node], scc: bool = False) -> None:
    # One result in the only destination; SCC tells whether it is not zero.
    def meaning(trace: Trace) -> None:
        result = function(*(trace.read(operand) for operand in trace.instruction.src))
        trace.write(trace.instruction.dst[0], result)
        if scc:
            trace.put_scc(result.ne(0))

    SCALAR.add(names, meaning)


def _with_carry(names: str, function: Callable[..., tuple[Node, Node]]) -> None:
    # (result, SCC) from the sources.
    def meaning(trace: Trace) -> None:
        result, scc = function(trace, *(trace.read(o) for o in trace.instruction.src))
        trace.write(trace.instruction.dst[0], result)
        trace.put_scc(scc)

    SCALAR.add(names, meaning)


def _add(trace: Trace, a: Node, b: Node) -> tuple[Node, Node]:
    total = a + b
    return total, trace.apply("ult", total, a)


def _sub(trace: Trace, a: Node, b: Node) -> tuple[Node, Node]:
    return a - b, trace.apply("ult", a, b)


def _addc(trace: Trace, a: Node, b: Node) -> tuple[Node, Node]:
    wide = a.zext(U64) + b.zext(U64) + trace.scc.zext(U64)
    return wide.zext(U32), (wide >> 32).ne(0)


def _subb(trace: Trace, a: Node, b: Node) -> tuple[Node, Node]:
    wide = a.zext(U64) - b.zext(U64) - trace.scc.zext(U64)
    return wide.zext(U32), (wide >> 32).ne(0)


def _add_signed(trace: Trace, a: Node, b: Node) -> tuple[Node, Node]:
    total = a + b
    return total, ((a ^ total) & (b ^ total)).ashr(31).ne(0)


def _sub_signed(trace: Trace, a: Node, b: Node) -> tuple[Node, Node]:
    total = a - b
    return total, ((a ^ b) & (a ^ total)).ashr(31).ne(0)


_with_carry("s_add_u32 s_add_co_u32", _add)
_with_carry("s_sub_u32 s_sub_co_u32", _sub)
_with_carry("s_addc_u32 s_add_co_ci_u32", _addc)
_with_carry("s_subb_u32 s_sub_co_ci_u32", _subb)
_with_carry("s_add_i32 s_add_co_i32", _add_signed)
_with_carry("s_sub_i32 s_sub_co_i32", _sub_signed)
_scalar("s_add_nc_u64", lambda a, b: a + b)
_scalar("s_sub_nc_u64", lambda a, b: a - b)
_scalar("s_mul_u64", lambda a, b: a * b)
_scalar("s_absdiff_i32", lambda a, b: _magnitude(a - b), scc=True)


def _choose(prim: str, keep_first: bool) -> Callable[..., tuple[Node, Node]]:
    def function(trace: Trace, a: Node, b: Node) -> tuple[Node, Node]:
        less = trace.apply(prim, a, b) if keep_first else trace.apply(prim, b, a)
        return where(less, a, b), less

    return function


_with_carry("s_min_i32", _choose("slt", True))
_with_carry("s_max_i32", _choose("slt", False))
_with_carry("s_min_u32", _choose("ult", True))
_with_carry("s_max_u32", _choose("ult", False))


def _pair(name: str, function: Callable[..., Node], scc: bool = True) -> None:
    for width in _WIDTHS:
        _scalar(f"{name}_b{width}", function, scc)


_pair("s_and", lambda a, b: a & b)
_pair("s_or", lambda a, b: a | b)
_pair("s_xor", lambda a, b: a ^ b)
_pair("s_andn2", lambda a, b: a & ~b)
_pair("s_and_not1", lambda a, b: a & ~b)
_pair("s_orn2", lambda a, b: a | ~b)
_pair("s_or_not1", lambda a, b: a | ~b)
_pair("s_nand", lambda a, b: ~(a & b))
_pair("s_nor", lambda a, b: ~(a | b))
_pair("s_xnor", lambda a, b: ~(a ^ b))
_pair("s_not", lambda a: ~a)
_pair("s_mov", lambda a: a, scc=False)
_pair("s_brev", lambda a: a.trace.apply("reverse", a), scc=False)
_pair("s_lshl", lambda a, n: a << n.zext(a.type))
_pair("s_lshr", lambda a, n: a >> n.zext(a.type))
_scalar("s_ashr_i32 s_ashr_i64", lambda a, n: a.ashr(n.zext(a.type)), scc=True)
_scalar("s_mul_i32", lambda a, b: a * b)
_scalar("s_mul_hi_u32", lambda a, b: ((a.zext(U64) * b.zext(U64)) >> 32).zext(U32))
_scalar("s_mul_hi_i32", lambda a, b: ((a.sext(U64) * b.sext(U64)) >> 32).zext(U32))
_scalar("s_pack_ll_b32_b16", lambda a, b: (a & 0xFFFF).zext(U32) | (b.zext(U32) << 16))
_scalar("s_pack_lh_b32_b16", lambda a, b: (a.zext(U32) & 0xFFFF) | (b & 0xFFFF0000))
_scalar("s_pack_hh_b32_b16", lambda a, b: (a >> 16) | (b & 0xFFFF0000))
_scalar("s_sext_i32_i8", lambda a: a.zext(U8).sext(U32))
_scalar("s_sext_i32_i16", lambda a: a.zext(U16).sext(U32))
_scalar(
    "s_bcnt1_i32_b32 s_bcnt1_i32_b64", lambda a: a.trace.apply("popcount", a).zext(U32), scc=True
)
_scalar("s_bfm_b32", lambda a, b: _mask(a, U32) << (b & 31))
_scalar("s_bfm_b64", lambda a, b: _mask(a.zext(U64), U64) << (b.zext(U64) & 63))


def _magnitude(a: Node) -> Node:
    return where(a.trace.apply("slt", a, 0), ~a + 1, a)


def _mask(count: Node, type: Type) -> Node:
    # `count` modulo the width low bits set.
    return (count.trace.const(type, 1) << count.zext(type)) - 1


for _shift in range(1, 5):
    _with_carry(
        f"s_lshl{_shift}_add_u32",
        lambda trace, a, b, n=_shift: (
            (a << n) + b,
            (((a.zext(U64) << n) + b.zext(U64)) >> 32).ne(0),
        ),
    )


def _field(signed: bool) -> Callable[[Node, Node], Node]:
    # Bits [offset+width-1:offset]; offset is in the low bits of the second source, width at 16.
    def function(a: Node, b: Node) -> Node:
        type = a.type
        offset = (b & (type.bits - 1)).zext(type)
        width = ((b >> 16) & 0x7F).zext(type)
        whole = a.trace.apply("ule", type.bits, width)
        left = (a.trace.const(type, type.bits) - width) & (type.bits - 1)
        if not signed:
            cut = where(whole, a >> offset, ((a >> offset) << left) >> left)
        else:
            cut = where(whole, a.ashr(offset), (a.ashr(offset) << left).ashr(left))
        return where(width.eq(0), 0, cut)

    return function


_scalar("s_bfe_u32 s_bfe_u64", _field(signed=False), scc=True)
_scalar("s_bfe_i32 s_bfe_i64", _field(signed=True), scc=True)


def _first_bit(prim: str) -> Callable[[Node], Node]:
    def function(a: Node) -> Node:
        return where(a.eq(0), 0xFFFFFFFF, a.trace.apply(prim, a).zext(U32))

    return function


_scalar("s_ff1_i32_b32 s_ff1_i32_b64 s_ctz_i32_b32 s_ctz_i32_b64", _first_bit("trailing"))
_scalar("s_flbit_i32_b32 s_flbit_i32_b64 s_clz_i32_u32 s_clz_i32_u64", _first_bit("leading"))
_scalar("s_abs_i32", lambda a: _magnitude(a), scc=True)
_scalar(
    "s_bcnt0_i32_b32 s_bcnt0_i32_b64",
    lambda a: a.trace.apply("popcount", ~a).zext(U32),
    scc=True,
)
_scalar("s_ff0_i32_b32 s_ff0_i32_b64", lambda a: _first_bit("trailing")(~a))
_scalar("s_pack_hl_b32_b16", lambda a, b: (a >> 16) | (b << 16))


def _leading_signs(a: Node) -> Node:
    folded = a ^ a.ashr(a.type.bits - 1)
    return _first_bit("leading")(folded)


_scalar("s_flbit_i32 s_flbit_i32_i64 s_cls_i32 s_cls_i32_i64", _leading_signs)


@SCALAR.meaning("s_cselect_b32 s_cselect_b64")
def _cselect(trace: Trace) -> None:
    a, b = (trace.read(operand) for operand in trace.instruction.src)
    trace.write(trace.instruction.dst[0], where(trace.scc, a, b))


@SCALAR.meaning("s_cmov_b32 s_cmov_b64 s_cmovk_i32")
def _cmov(trace: Trace) -> None:
    to = trace.instruction.dst[0]
    trace.write(to, where(trace.scc, _immediate(trace), trace.read(to)))


def _immediate(trace: Trace) -> Node:
    # The source, which of SOPK is the sign-extended immediate.
    if trace.instruction.encoding == "SOPK":
        return trace.const(U32, trace.instruction.simm or 0)
    return trace.read(trace.instruction.src[-1])


@SCALAR.meaning("s_movk_i32")
def _movk(trace: Trace) -> None:
    trace.write(trace.instruction.dst[0], _immediate(trace))


@SCALAR.meaning("s_addk_i32 s_addk_co_i32")
def _addk(trace: Trace) -> None:
    to = trace.instruction.dst[0]
    result, scc = _add_signed(trace, trace.read(to), _immediate(trace))
    trace.write(to, result)
    trace.put_scc(scc)


@SCALAR.meaning("s_mulk_i32")
def _mulk(trace: Trace) -> None:
    to = trace.instruction.dst[0]
    trace.write(to, trace.read(to) * _immediate(trace))


def _bitset(one: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        to = trace.instruction.dst[0]
        old = trace.read(to)
        bit = trace.const(old.type, 1) << trace.read(trace.instruction.src[0]).zext(old.type)
        trace.write(to, old | bit if one else old & ~bit)

    return meaning


SCALAR.add("s_bitset1_b32 s_bitset1_b64", _bitset(one=True))
SCALAR.add("s_bitset0_b32 s_bitset0_b64", _bitset(one=False))


# --- comparisons: SCC = a <op> b

_COMPARISONS: dict[str, Callable[[Trace, Node, Node, str], Node]] = {
    "eq": lambda t, a, b, less: a.eq(b),
    "lg": lambda t, a, b, less: a.ne(b),
    "lt": lambda t, a, b, less: t.apply(less + "lt", a, b),
    "le": lambda t, a, b, less: t.apply(less + "le", a, b),
    "gt": lambda t, a, b, less: t.apply(less + "lt", b, a),
    "ge": lambda t, a, b, less: t.apply(less + "le", b, a),
}


def _compare(condition: str, sign: str) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        if trace.instruction.encoding == "SOPK":
            operands = (*trace.instruction.dst, *trace.instruction.src)
            a = trace.read(operands[0])
            immediate = trace.instruction.simm or 0
            b = trace.const(U32, immediate & 0xFFFF if sign == "u" else immediate)
        else:
            a, b = (trace.read(operand) for operand in trace.instruction.src)
        trace.put_scc(_COMPARISONS[condition](trace, a, b, sign))

    return meaning


for _condition in _COMPARISONS:
    for _sign, _letter in (("s", "i"), ("u", "u")):
        SCALAR.add(
            f"s_cmp_{_condition}_{_letter}32 s_cmpk_{_condition}_{_letter}32",
            _compare(_condition, _sign),
        )
SCALAR.add("s_cmp_eq_u64", _compare("eq", "u"))
SCALAR.add("s_cmp_lg_u64", _compare("lg", "u"))


def _bit_compare(one: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b = (trace.read(operand) for operand in trace.instruction.src)
        bit = (a >> b.zext(a.type)) & 1
        trace.put_scc(bit.ne(0) if one else bit.eq(0))

    return meaning


SCALAR.add("s_bitcmp1_b32 s_bitcmp1_b64", _bit_compare(one=True))
SCALAR.add("s_bitcmp0_b32 s_bitcmp0_b64", _bit_compare(one=False))


# --- EXEC: destination = old EXEC, EXEC = source <op> EXEC

_SAVE: dict[str, Callable[[Node, Node], Node]] = {
    "and": lambda s, e: s & e,
    "or": lambda s, e: s | e,
    "xor": lambda s, e: s ^ e,
    "andn2": lambda s, e: s & ~e,
    "and_not1": lambda s, e: s & ~e,
    "orn2": lambda s, e: s | ~e,
    "or_not1": lambda s, e: s | ~e,
    "andn1": lambda s, e: ~s & e,
    "and_not0": lambda s, e: ~s & e,
    "orn1": lambda s, e: ~s | e,
    "or_not0": lambda s, e: ~s | e,
    "nand": lambda s, e: ~(s & e),
    "nor": lambda s, e: ~(s | e),
    "xnor": lambda s, e: ~(s ^ e),
}


def _save_exec(function: Callable[[Node, Node], Node], write_back: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        source = trace.read(trace.instruction.src[0])
        old = trace.scalar(state.EXEC, 2 if source.type == U64 else 1)
        new = function(source, old)
        trace.put_scalar(state.EXEC, new)
        trace.write(trace.instruction.dst[0], new if write_back else old)
        trace.put_scc(new.ne(0))

    return meaning


for _name, _function in _SAVE.items():
    for _width in _WIDTHS:
        SCALAR.add(f"s_{_name}_saveexec_b{_width}", _save_exec(_function, write_back=False))
for _name in ("andn1", "andn2", "and_not0", "and_not1"):
    for _width in _WIDTHS:
        SCALAR.add(f"s_{_name}_wrexec_b{_width}", _save_exec(_SAVE[_name], write_back=True))
