"""The trusted base: every primitive with its typing rule, numpy meaning and LLVM meaning.

An instruction only composes rows of `PRIMS`. A row cannot exist for one engine alone, and both
readings stand side by side so that they are reviewed together. Rules that hold for all rows:
shift amounts count modulo the width; conversions of floats to integers clamp and give 0 for NaN;
a comparison of floats is ordered (false with a NaN) unless its name says otherwise; no fast-math.
Arithmetic that gives a NaN gives the quiet one without sign or payload, whatever came in: which
payload the host would pass on depends on the order of operands that a compiler chooses.

Rows under "effects" touch the state of the wave or its memory and are carried out by the engine's
own object: `NumpyState` on one side, `Emitter` on the other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from gputrace.errors import DefinitionError
from gputrace.isa.graph import F16, F32, F64, I1, U32, U64, Node, Type
from gputrace.isa.jit_rounding import directed_llvm, limited_llvm, suffix
from gputrace.isa.numpy_floats import (
    LIMITED,
    Array,
    directed,
    directed_multiply_add,
    fused_multiply_add,
    libm,
    limited,
    quieted,
)
from gputrace.isa.numpy_matrix import multiply
from gputrace.isa.protocols import Emitter, NumpyState

TypeRule = Callable[[tuple[Node, ...], Type | None], Type]
NumpyRule = Callable[..., Any]
LlvmRule = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Prim:
    """One primitive: how its result is typed, what it means to numpy and to LLVM.

    `shape` is "args" (of the lanes when an argument is), "lanes" or "uniform". `numpy` takes
    (state, node, *values), `llvm` takes (emitter, node, *names).
    """

    rule: TypeRule
    numpy: NumpyRule
    llvm: LlvmRule
    shape: str = "args"
    effect: bool = False


# --- typing rules


def same(args: tuple[Node, ...], given: Type | None) -> Type:
    """Type the result as the first argument; all arguments must agree."""
    first = args[0].type
    if any(arg.type != first for arg in args):
        raise DefinitionError(f"operands of different types: {[str(a.type) for a in args]}")
    return first


def boolean(args: tuple[Node, ...], given: Type | None) -> Type:
    """Type the result as one bit; all arguments must agree."""
    same(args, given)
    return I1


def stated(args: tuple[Node, ...], given: Type | None) -> Type:
    """Take the type that the caller states."""
    if given is None:
        raise DefinitionError("this primitive needs a stated type")
    return given


def second(args: tuple[Node, ...], given: Type | None) -> Type:
    """Type a selection as its alternatives, which must agree."""
    if args[0].type != I1:
        raise DefinitionError("a selection needs a one-bit condition")
    return same(args[1:], given)


def fixed(type: Type) -> TypeRule:
    """Type the result always alike."""
    return lambda args, given: type


# --- numpy meanings


def _pure(function: Callable[..., Any]) -> NumpyRule:
    return lambda state, node, *args: function(*args)


def _shift(function: Callable[..., Any]) -> NumpyRule:
    def run(state: NumpyState, node: Node, x: Array, n: Array) -> Array:
        return np.asarray(function(x, n & x.dtype.type(node.type.bits - 1)))

    return run


def _ashr(state: NumpyState, node: Node, x: Array, n: Array) -> Array:
    signed = node.type.signed
    amount = (n & x.dtype.type(node.type.bits - 1)).view(signed)
    return np.asarray((x.view(signed) >> amount).view(x.dtype))


def _signed(function: Callable[..., Any]) -> NumpyRule:
    def run(state: NumpyState, node: Node, x: Array, y: Array) -> Array:
        signed = node.args[0].type.signed
        return cast(Array, function(x.view(signed), y.view(signed)))

    return run


def _sext(state: NumpyState, node: Node, x: Array) -> Array:
    if node.args[0].type == I1:
        ones = np.array((1 << node.type.bits) - 1, node.type.dtype)
        return np.asarray(np.where(x, ones, np.zeros_like(ones)))
    wide: Array = x.view(node.args[0].type.signed).astype(node.type.signed)
    return np.asarray(wide.view(node.type.dtype))


def _cast(state: NumpyState, node: Node, x: Array) -> Array:
    if node.type == I1:
        bits: Array = (x & x.dtype.type(1)).astype(np.bool_)
        return bits
    return np.asarray(x.astype(node.type.dtype))


def _from_signed(state: NumpyState, node: Node, x: Array) -> Array:
    return np.asarray(x.view(node.args[0].type.signed).astype(node.type.dtype))


def _to_integer(signed: bool) -> NumpyRule:
    # The bounds are exact in the float's type or lie inside, so that astype never sees a value
    # that it cannot hold: its result would depend on the host.
    def run(state: NumpyState, node: Node, x: Array) -> Array:
        bits = node.type.bits - signed
        low, high = (-(1 << bits) if signed else 0), (1 << bits) - 1
        wide = x.astype(np.float64)
        inside = (wide > low - 1 if bits < 53 else wide >= low) & (wide < float(high + 1))
        kind = node.type.signed if signed else node.type.dtype
        result = np.where(inside, wide, 0).astype(kind)
        result = np.where(wide >= float(high + 1), kind.type(high), result)
        result = np.where(wide < low, kind.type(low), result)
        return result.view(node.type.dtype)

    return run


def _leading(state: NumpyState, node: Node, x: Array) -> Array:
    # Smear the highest set bit downwards; what is left unset above it is the count.
    width = node.type.bits
    for step in (1, 2, 4, 8, 16, 32):
        if step < width:
            x = x | (x >> x.dtype.type(step))
    return np.bitwise_count(~x).astype(x.dtype)


def _trailing(state: NumpyState, node: Node, x: Array) -> Array:
    one = x.dtype.type(1)
    return cast(Array, np.bitwise_count(~x & (x - one)).astype(x.dtype))


def _reverse(state: NumpyState, node: Node, x: Array) -> Array:
    width, kind = node.type.bits, x.dtype.type
    step = 1
    while step < width:
        mask = sum(((1 << step) - 1) << at for at in range(0, width, 2 * step))
        x = ((x & kind(mask)) << kind(step)) | ((x >> kind(step)) & kind(mask))
        step *= 2
    return x


def _ldexp(state: NumpyState, node: Node, x: Array, n: Array) -> Array:
    return np.asarray(np.ldexp(x, np.clip(n.view(np.int32), -5000, 5000)))


def _quiet(function: NumpyRule) -> NumpyRule:
    return lambda state, node, *args: quieted(np.asarray(function(state, node, *args)))


def _ballot(state: NumpyState, node: Node, x: Array) -> Array:
    lanes = np.broadcast_to(x, (state.wave_size,))
    raw = np.packbits(lanes, bitorder="little").tobytes()
    return np.array([int.from_bytes(raw, "little")], np.uint64)


def _lane_mask(state: NumpyState, node: Node, x: Array) -> Array:
    raw = np.frombuffer(x.astype("<u8").tobytes(), np.uint8)
    return np.unpackbits(raw, bitorder="little")[: state.wave_size].astype(np.bool_)


def _permute(state: NumpyState, node: Node, x: Array, index: Array) -> Array:
    lanes = np.broadcast_to(x, (state.wave_size,))
    return lanes[index.astype(np.int64) % state.wave_size]


def _scatter(state: NumpyState, node: Node, x: Array, index: Array, mask: Array) -> Array:
    result = np.zeros(state.wave_size, x.dtype)
    for lane in np.flatnonzero(mask):
        result[int(index[lane]) % state.wave_size] = x[lane]
    return result


def _read_lane(state: NumpyState, node: Node, x: Array, index: Array) -> Array:
    at = int(index[0]) % state.wave_size
    return np.broadcast_to(x, (state.wave_size,))[at : at + 1]


def _write_lane(state: NumpyState, node: Node, old: Array, new: Array, index: Array) -> Array:
    result = np.array(np.broadcast_to(old, (state.wave_size,)))
    result[int(index[0]) % state.wave_size] = new[0]
    return result


# --- LLVM meanings


def _binary(op: str) -> LlvmRule:
    return lambda b, n, x, y: b.inst(f"{op} {b.type(n.args[0])} {x}, {y}")


def _shifted(op: str) -> LlvmRule:
    def emit(b: Emitter, n: Node, x: str, y: str) -> str:
        amount = b.inst(f"and {b.type(n)} {y}, {b.constant(n, n.type.bits - 1)}")
        return b.inst(f"{op} {b.type(n)} {x}, {amount}")

    return emit


def _convert(op: str) -> LlvmRule:
    return lambda b, n, x: b.inst(f"{op} {b.type(n.args[0])} {x} to {b.type(n)}")


def _intrinsic(name: str, *tail: tuple[str, str]) -> LlvmRule:
    def emit(b: Emitter, n: Node, *args: str) -> str:
        typed = [(b.type(a), v) for a, v in zip(n.args, args, strict=True)]
        return b.call(b.type(n), f"llvm.{name}.{suffix(b.type(n))}", *typed, *tail)

    return emit


def _saturating(name: str) -> LlvmRule:
    def emit(b: Emitter, n: Node, x: str) -> str:
        source = b.type(n.args[0])
        intrinsic = f"llvm.{name}.sat.{suffix(b.type(n))}.{suffix(source)}"
        return b.call(b.type(n), intrinsic, (source, x))

    return emit


def _quieted(b: Emitter, n: Node, value: str) -> str:
    # To LLVM one NaN is as good as another: what it is replaced by must not look like one.
    many = b.type(n)
    word = many.replace(n.type.llvm, f"i{n.type.bits}")
    condition = f"<{b.wave_size} x i1>" if n.lanes else "i1"
    quiet = b.quiet(n)
    nan = b.inst(f"fcmp uno {many} {value}, {value}")
    bits = b.inst(f"bitcast {many} {value} to {word}")
    bits = b.inst(f"select {condition} {nan}, {word} {quiet}, {word} {bits}")
    return b.inst(f"bitcast {word} {bits} to {many}")


def _quiet_llvm(rule: LlvmRule) -> LlvmRule:
    return lambda b, n, *args: _quieted(b, n, rule(b, n, *args))


def _wide(node: Node) -> Node:
    return replace(node, type=F32) if node.type == F16 else node


def _through_float(rule: LlvmRule) -> LlvmRule:
    # Halves are computed with as floats, which rounds once for all that this is used with; what
    # LLVM makes of halves is slow and, compared after a square root, wrong (LLVM 22).
    def emit(b: Emitter, n: Node, *args: str) -> str:
        if all(arg.type != F16 for arg in n.args):
            return rule(b, n, *args)
        node = replace(_wide(n), args=tuple(_wide(arg) for arg in n.args))
        values = [
            value if old is new else b.inst(f"fpext {b.type(old)} {value} to {b.type(new)}")
            for old, new, value in zip(n.args, node.args, args, strict=True)
        ]
        result = rule(b, node, *values)
        if n.type != F16:
            return result
        return b.inst(f"fptrunc {b.type(node)} {result} to {b.type(n)}")

    return emit


def _fma_llvm(b: Emitter, n: Node, x: str, y: str, z: str) -> str:
    if n.type != F16:
        return _quiet_llvm(_intrinsic("fma"))(b, n, x, y, z)
    # As `numpy_floats.round_to_odd`, in float: the product of two halves is exact there.
    half, many = b.type(n), b.type(_wide(n))
    word = many.replace("float", "i32")
    bit = many.replace("float", "i1")
    a, c, d = (b.inst(f"fpext {half} {v} to {many}") for v in (x, y, z))
    product = b.inst(f"fmul {many} {a}, {c}")
    total = b.inst(f"fadd {many} {product}, {d}")
    back = b.inst(f"fsub {many} {total}, {product}")
    rest = b.inst(f"fsub {many} {product}, {b.inst(f'fsub {many} {total}, {back}')}")
    error = b.inst(f"fadd {many} {rest}, {b.inst(f'fsub {many} {d}, {back}')}")
    inexact = b.inst(f"fcmp one {many} {error}, {'zeroinitializer' if n.lanes else '0.0'}")
    raw = b.inst(f"bitcast {many} {total} to {word}")
    one, none = ("splat (i32 1)", "splat (i32 -1)") if n.lanes else ("1", "-1")
    zero = "zeroinitializer" if n.lanes else "0"
    even = b.inst(f"icmp eq {word} {b.inst(f'and {word} {raw}, {one}')}, {zero}")
    up = b.inst(f"icmp sgt {word} {b.inst(f'bitcast {many} {error} to {word}')}, {none}")
    positive = b.inst(f"icmp sgt {word} {raw}, {none}")
    away = b.inst(f"icmp eq {bit} {up}, {positive}")
    step = b.inst(f"select {bit} {away}, {word} {one}, {word} {none}")
    odd = b.inst(f"add {word} {raw}, {step}")
    change = b.inst(f"and {bit} {inexact}, {even}")
    bits = b.inst(f"select {bit} {change}, {word} {odd}, {word} {raw}")
    rounded = _quieted(b, _wide(n), b.inst(f"bitcast {word} {bits} to {many}"))
    return b.inst(f"fptrunc {many} {rounded} to {half}")


def _ldexp_llvm(b: Emitter, n: Node, x: str, y: str) -> str:
    a, e = b.type(n.args[0]), b.type(n.args[1])
    return b.call(a, f"llvm.ldexp.{suffix(a)}.{suffix(e)}", (a, x), (e, y))


def _float_convert(b: Emitter, n: Node, x: str) -> str:
    op = "fpext" if n.type.bits > n.args[0].type.bits else "fptrunc"
    return b.inst(f"{op} {b.type(n.args[0])} {x} to {b.type(n)}")


def _select_llvm(b: Emitter, n: Node, c: str, x: str, y: str) -> str:
    return b.inst(f"select {b.type(n.args[0])} {c}, {b.type(n)} {x}, {b.type(n)} {y}")


def _splat_llvm(b: Emitter, n: Node, x: str) -> str:
    many, one = b.type(n), b.type(n.args[0])
    first = b.inst(f"insertelement {many} poison, {one} {x}, i32 0")
    zeros = f"<{b.wave_size} x i32> zeroinitializer"
    return b.inst(f"shufflevector {many} {first}, {many} poison, {zeros}")


def _ballot_llvm(b: Emitter, n: Node, x: str) -> str:
    raw = b.inst(f"bitcast {b.type(n.args[0])} {x} to i{b.wave_size}")
    return raw if b.wave_size == 64 else b.inst(f"zext i{b.wave_size} {raw} to i64")


def _lane_mask_llvm(b: Emitter, n: Node, x: str) -> str:
    raw = x if b.wave_size == 64 else b.inst(f"trunc i64 {x} to i{b.wave_size}")
    return b.inst(f"bitcast i{b.wave_size} {raw} to {b.type(n)}")


def _lane_id_llvm(b: Emitter, n: Node) -> str:
    return "<" + ", ".join(f"i32 {lane}" for lane in range(b.wave_size)) + ">"


def _lane_values_llvm(b: Emitter, n: Node) -> str:
    assert isinstance(n.attribute, tuple)
    return "<" + ", ".join(f"{n.type.llvm} {int(value)}" for value in n.attribute) + ">"


def _lane_index(b: Emitter, index: str) -> str:
    return b.inst(f"and i32 {index}, {b.wave_size - 1}")


def _read_lane_llvm(b: Emitter, n: Node, x: str, index: str) -> str:
    return b.inst(f"extractelement {b.type(n.args[0])} {x}, i32 {_lane_index(b, index)}")


def _write_lane_llvm(b: Emitter, n: Node, old: str, new: str, index: str) -> str:
    element = b.type(n.args[1])
    lane = _lane_index(b, index)
    return b.inst(f"insertelement {b.type(n)} {old}, {element} {new}, i32 {lane}")


# --- the table

_UNDEFINED_ZERO = ("i1", "false")


def _effect(rule: TypeRule, shape: str = "args") -> Prim:
    return Prim(
        rule,
        lambda state, node, *args: state.effect(node, *args),
        lambda b, node, *args: b.effect(node, *args),
        shape,
        effect=True,
    )


def _libm_row(name: str) -> Prim:
    function = libm(name, 1)
    return _number(same, _pure(function), _intrinsic(name))


def _rounded(
    rule: TypeRule, operation: str, near: NumpyRule, wide: Callable[..., Any], llvm: LlvmRule
) -> Prim:
    # Arithmetic that rounds as its attribute says (`numpy_floats.directed`; none: to the nearest).
    # `wide` takes the type to compute in before the operands.
    def numpy(state: NumpyState, node: Node, *args: Array) -> Any:
        rounding = node.attribute
        if not isinstance(rounding, int) or not rounding:
            return near(state, node, *args)
        if not rounding & 3:
            return limited(np.asarray(near(state, node, *args)), *args)
        return directed(wide, rounding, node.type.dtype, *args)

    def emit(b: Emitter, n: Node, *args: str) -> str:
        rounding = n.attribute
        if not isinstance(rounding, int) or not rounding:
            return llvm(b, n, *args)
        mode = rounding & 3
        made = directed_llvm(b, n, operation, mode, *args) if mode else llvm(b, n, *args)
        if rounding & LIMITED:
            made = limited_llvm(b, n, made, *args)
        return _quieted(b, n, made)

    return Prim(rule, _quiet(numpy), emit)


def _operation(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda kind, *args: function(*args)


def _arithmetic(name: str, function: Callable[..., Any]) -> Prim:
    near, emit = _pure(function), _through_float(_quiet_llvm(_binary(name)))
    return _rounded(same, name, near, _operation(function), emit)


def _number(rule: TypeRule, numpy: NumpyRule, llvm: LlvmRule) -> Prim:
    # Arithmetic on floats: of all NaNs it gives but one.
    return Prim(rule, _quiet(numpy), _through_float(_quiet_llvm(llvm)))


PRIMS: dict[str, Prim] = {
    "const": Prim(
        stated,
        lambda s, n: np.array([n.attribute], np.dtype(f"u{max(8, n.type.bits) // 8}")).view(
            n.type.dtype
        ),
        lambda b, n: b.constant(n, n.attribute),
        "uniform",
    ),
    "splat": Prim(same, lambda s, n, x: x, _splat_llvm, "lanes"),
    # integers
    "add": Prim(same, _pure(np.add), _binary("add")),
    "sub": Prim(same, _pure(np.subtract), _binary("sub")),
    "mul": Prim(same, _pure(np.multiply), _binary("mul")),
    "and": Prim(same, _pure(np.bitwise_and), _binary("and")),
    "or": Prim(same, _pure(np.bitwise_or), _binary("or")),
    "xor": Prim(same, _pure(np.bitwise_xor), _binary("xor")),
    "shl": Prim(same, _shift(np.left_shift), _shifted("shl")),
    "lshr": Prim(same, _shift(np.right_shift), _shifted("lshr")),
    "ashr": Prim(same, _ashr, _shifted("ashr")),
    "eq": Prim(boolean, _pure(np.equal), _binary("icmp eq")),
    "ne": Prim(boolean, _pure(np.not_equal), _binary("icmp ne")),
    "ult": Prim(boolean, _pure(np.less), _binary("icmp ult")),
    "ule": Prim(boolean, _pure(np.less_equal), _binary("icmp ule")),
    "slt": Prim(boolean, _signed(np.less), _binary("icmp slt")),
    "sle": Prim(boolean, _signed(np.less_equal), _binary("icmp sle")),
    "popcount": Prim(
        same, lambda s, n, x: np.bitwise_count(x).astype(x.dtype), _intrinsic("ctpop")
    ),
    "leading": Prim(same, _leading, _intrinsic("ctlz", _UNDEFINED_ZERO)),
    "trailing": Prim(same, _trailing, _intrinsic("cttz", _UNDEFINED_ZERO)),
    "reverse": Prim(same, _reverse, _intrinsic("bitreverse")),
    "zext": Prim(stated, _cast, _convert("zext")),
    "sext": Prim(stated, _sext, _convert("sext")),
    "trunc": Prim(stated, _cast, _convert("trunc")),
    "bitcast": Prim(stated, lambda s, n, x: x.view(n.type.dtype), _convert("bitcast")),
    "select": Prim(second, _pure(np.where), _select_llvm),
    # floats
    "fadd": _arithmetic("fadd", np.add),
    "fsub": _arithmetic("fsub", np.subtract),
    "fmul": _arithmetic("fmul", np.multiply),
    "fdiv": _arithmetic("fdiv", np.divide),
    "fma": _rounded(
        same, "fma", _pure(fused_multiply_add), directed_multiply_add, _fma_llvm
    ),
    "sqrt": _rounded(
        same,
        "sqrt",
        _pure(np.sqrt),
        _operation(np.sqrt),
        _through_float(_quiet_llvm(_intrinsic("sqrt"))),
    ),
    "floor": _number(same, _pure(np.floor), _intrinsic("floor")),
    "ceil": _number(same, _pure(np.ceil), _intrinsic("ceil")),
    "truncate": _number(same, _pure(np.trunc), _intrinsic("trunc")),
    "rint": _number(same, _pure(np.rint), _intrinsic("rint")),
    "exp2": _libm_row("exp2"),
    "log2": _libm_row("log2"),
    "sin": _libm_row("sin"),
    "cos": _libm_row("cos"),
    "ldexp": _number(stated, _ldexp, _ldexp_llvm),
    "feq": Prim(boolean, _pure(np.equal), _through_float(_binary("fcmp oeq"))),
    "flt": Prim(boolean, _pure(np.less), _through_float(_binary("fcmp olt"))),
    "fle": Prim(boolean, _pure(np.less_equal), _through_float(_binary("fcmp ole"))),
    "isnan": Prim(
        boolean,
        _pure(np.isnan),
        _through_float(lambda b, n, x: b.inst(f"fcmp uno {b.type(n.args[0])} {x}, {x}")),
    ),
    "fcvt": _rounded(
        stated, "fptrunc", _cast, lambda kind, x: x.astype(kind), _quiet_llvm(_float_convert)
    ),
    "from_unsigned": _rounded(
        stated, "uitofp", _cast, lambda kind, x: x.astype(kind), _convert("uitofp")
    ),
    "from_signed": _rounded(
        stated, "sitofp", _from_signed, lambda kind, x: x.view(f"i{x.itemsize}").astype(kind),
        _convert("sitofp"),
    ),
    "to_unsigned": Prim(stated, _to_integer(signed=False), _saturating("fptoui")),
    "to_signed": Prim(stated, _to_integer(signed=True), _saturating("fptosi")),
    # lanes
    "ballot": Prim(fixed(U64), _ballot, _ballot_llvm, "uniform"),
    "lane_mask": Prim(fixed(I1), _lane_mask, _lane_mask_llvm, "lanes"),
    "lane_id": Prim(
        fixed(U32), lambda s, n: np.arange(s.wave_size, dtype=np.uint32), _lane_id_llvm, "lanes"
    ),
    "permute": Prim(
        lambda args, given: args[0].type, _permute, lambda b, n, x, i: b.effect(n, x, i), "lanes"
    ),
    "lane_values": Prim(
        stated, lambda s, n: np.array(n.attribute, n.type.dtype), _lane_values_llvm, "lanes"
    ),
    "scatter": Prim(
        lambda args, given: args[0].type, _scatter, lambda b, n, *args: b.effect(n, *args), "lanes"
    ),
    "read_lane": Prim(lambda args, given: args[0].type, _read_lane, _read_lane_llvm, "uniform"),
    "write_lane": Prim(lambda args, given: args[0].type, _write_lane, _write_lane_llvm, "lanes"),
    # effects: registers (attribute: number), memory (attribute: space, bytes), control
    "get_scalar": _effect(fixed(U32), "uniform"),
    "put_scalar": _effect(fixed(U32), "uniform"),
    "get_vector": _effect(fixed(U32), "lanes"),
    "put_vector": _effect(fixed(U32), "lanes"),
    "matrix": Prim(
        fixed(I1),
        lambda s, n: multiply(n.attribute, s.vectors),
        lambda b, n: b.effect(n),
        "uniform",
        effect=True,
    ),
    "get_vector_at": _effect(fixed(U32), "lanes"),
    "put_vector_at": _effect(fixed(U32), "lanes"),
    "here": _effect(fixed(U64), "uniform"),
    "check": _effect(fixed(U64)),
    "aligned": _effect(fixed(I1), "lanes"),  # of an atomic on LDS (attribute: bytes)
    "within": _effect(fixed(I1), "lanes"),  # the LDS (attribute: bytes)
    "load": _effect(stated),
    "store": _effect(fixed(I1)),
    "atomic": _effect(stated),
    "clock": _effect(fixed(U64), "uniform"),
    # of the sequencer: stop the wave (attribute: why), tell the host, look at the group's waves
    "stop_if": _effect(fixed(I1), "uniform"),
    "message": _effect(fixed(I1), "uniform"),
    "others": _effect(fixed(U32), "uniform"),
    "jump": _effect(fixed(U64), "uniform"),
    "branch": _effect(fixed(U64), "uniform"),
    "jump_to": _effect(fixed(U64), "uniform"),
    "barrier": _effect(fixed(U64), "uniform"),
    "sync": _effect(fixed(U64), "uniform"),  # of all work-groups (attribute: what, where next)
    "end": _effect(fixed(U64), "uniform"),
}

ROUNDED = frozenset(
    ("fadd", "fsub", "fmul", "fdiv", "fma", "sqrt", "fcvt", "from_unsigned", "from_signed")
)
"""Arithmetic that rounds as MODE says: its attribute is the rounding, None to the nearest."""

FLOATS = {16: F16, 32: F32, 64: F64}
