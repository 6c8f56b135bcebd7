"""Conversions that pack, saturate or take odd types, and the rest of the lane and LDS moves.

Witness: AMD's ISA manuals (MI300, RDNA3, RDNA4), and independent computations in the tests.
"""

from collections.abc import Callable

from gputrace.isa.graph import F16, F32, F64, U16, U32, U64, Node, Type, where
from gputrace.isa.numpy_floats import LIMITED
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_dot import round_to_bfloat
from gputrace.isa.semantics_float import HIGHEST, LOWEST
from gputrace.isa.semantics_lanes import permuted_rows
from gputrace.isa.semantics_packed import half_of, join
from gputrace.isa.trace import NotModelled, Trace

CONVERT = Registry()
_pure = CONVERT.pure


def _held(value: Node, low: int, high: int, type: Type) -> Node:
    # Keep a signed 32-bit value within bounds and narrow it.
    trace = value.trace
    value = where(trace.apply("slt", value, low), low, value)
    return where(trace.apply("slt", high, value), high, value).zext(type)


_pure(
    "v_cvt_pk_i16_i32",
    lambda a, b: join(_held(a, -0x8000, 0x7FFF, U16), _held(b, -0x8000, 0x7FFF, U16)),
)


def _least_unsigned(value: Node, limit: int) -> Node:
    return where(value.trace.apply("ult", limit, value), limit, value).zext(U16)


_pure("v_cvt_pk_u16_u32", lambda a, b: join(*(_least_unsigned(v, 0xFFFF) for v in (a, b))))


def _to(prim: str) -> Callable[[Node], Node]:
    return lambda a: a.trace.apply(prim, a, type=U16)


_pure("v_cvt_pk_i16_f32", lambda a, b: join(_to("to_signed")(a), _to("to_signed")(b)))
_pure("v_cvt_pk_u16_f32", lambda a, b: join(_to("to_unsigned")(a), _to("to_unsigned")(b)))


def _normal(signed: bool) -> Callable[[Node], Node]:
    # Clamp to the unit, scale, round to the nearest whole number; NaN gives 0.
    scale, low = (32767.0, -1.0) if signed else (65535.0, 0.0)

    def function(a: Node) -> Node:
        trace = a.trace
        value = a if a.type == F32 else trace.apply("fcvt", a, type=F32)
        value = where(trace.apply("flt", value, low), low, value)
        value = where(trace.apply("flt", 1.0, value), 1.0, value)
        with trace.to_nearest():
            whole = trace.apply("rint", value * scale)
        return trace.apply("to_signed" if signed else "to_unsigned", whole, type=U16)

    return function


for _letter, _function in (("i", _normal(signed=True)), ("u", _normal(signed=False))):
    _pure(f"v_cvt_norm_{_letter}16_f16", _function)
    for _f in ("f16", "f32"):
        _pure(
            f"v_cvt_pknorm_{_letter}16_{_f} v_cvt_pk_norm_{_letter}16_{_f}",
            lambda a, b, f=_function: join(f(a), f(b)),
        )


def _floor_to_integer(add: float) -> Callable[[Node], Node]:
    def function(a: Node) -> Node:
        with a.trace.to_nearest():
            wide = a.trace.apply("fcvt", a, type=F64) + add
        return a.trace.apply("to_signed", a.trace.apply("floor", wide), type=U32)

    return function


_pure("v_cvt_flr_i32_f32 v_cvt_floor_i32_f32", _floor_to_integer(0.0))
_pure("v_cvt_rpi_i32_f32 v_cvt_nearest_i32_f32", _floor_to_integer(0.5))
_pure(
    "v_cvt_off_f32_i4",
    lambda a: a.trace.apply("from_signed", (a << 28).ashr(28), type=F32) * 0.0625,
)


for _letter, _low, _high in (("i", -128, 127), ("u", 0, 255)):
    _pure(
        f"v_ashr_pk_{_letter}8_i32",
        lambda a, b, n, low=_low, high=_high: (
            (_held(a.ashr(n), low, high, U16) & 0xFF)
            | (_held(b.ashr(n), low, high, U16) << 8)
        ),
    )


@CONVERT.meaning("v_cvt_pk_f16_f32")
def _two_halves(trace: Trace) -> None:
    # To the nearest, whatever MODE says.
    limit, halves = LIMITED if trace.mode.half_limit else None, []
    for operand in trace.instruction.src:
        value = trace.read(operand)
        with trace.to_nearest():
            made = trace.apply("fcvt", value, type=F16, attribute=limit)
        halves.append(trace.flush(made))
    trace.write(trace.instruction.dst[0], join(*halves))


_pure("v_cvt_pk_bf16_f32", lambda a, b: join(round_to_bfloat(a), round_to_bfloat(b)))


@CONVERT.meaning("v_sat_pk_u8_i16")
def _saturate_bytes(trace: Trace) -> None:
    source = trace.instruction.src[0]
    raw = trace.crossed(source)
    halves = [(raw >> at).zext(U16).sext(U32) for at in (0, 16)]
    low, high = (_held(half, 0, 255, U16) for half in halves)
    trace.write(trace.instruction.dst[0], low | (high << 8))


_TWICE = ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F),
          (2, 0x3333333333333333), (1, 0x5555555555555555))  # fmt: skip


def _replicate(a: Node) -> Node:
    # Each bit twice: spread the bits to the even places, then copy them up.
    wide = a.zext(U64)
    for shift, mask in _TWICE:
        wide = (wide | (wide << shift)) & mask
    return wide | (wide << 1)


_pure("s_bitreplicate_b64_b32", _replicate)

# --- packed halves that are left


def _packed(names: str, function: Callable[..., Node]) -> None:
    def meaning(trace: Trace) -> None:
        parts = [
            trace.result(function(*(half_of(trace, o, high) for o in trace.instruction.src)))
            for high in (False, True)
        ]
        trace.write(trace.instruction.dst[0], join(*parts))

    CONVERT.add(names, meaning)


_packed("v_pk_minimum_f16", LOWEST)
_packed("v_pk_maximum_f16", HIGHEST)
_packed("v_pk_minimum3_f16", lambda a, b, c: LOWEST(LOWEST(a, b), c))
_packed("v_pk_maximum3_f16", lambda a, b, c: HIGHEST(HIGHEST(a, b), c))


@CONVERT.meaning("v_pk_fmac_f16")
def _packed_fmac(trace: Trace) -> None:
    # No selections: the low halves give the low result.
    if trace.instruction.variant == "sdwa":
        raise NotModelled("parts of registers of a packed operation")
    to = trace.instruction.dst[0]
    words = [trace.crossed(o) for o in trace.instruction.src[:2]] + [trace.raw(to, 0, 1)]
    parts = []
    for at in (0, 16):
        a, b, c = ((word >> at).zext(U16).bits_as(F16) for word in words)
        parts.append(trace.result(trace.apply("fma", a, b, c)))
    trace.write(to, join(*parts))


# --- lanes and LDS


@CONVERT.meaning("v_permlane16_var_b32")
def _permute_variable(trace: Trace) -> None:
    permuted_rows(trace, trace.raw(trace.instruction.src[1], 0, 1), other=False)


@CONVERT.meaning("v_permlanex16_var_b32")
def _permute_variable_across(trace: Trace) -> None:
    permuted_rows(trace, trace.raw(trace.instruction.src[1], 0, 1), other=True)


@CONVERT.meaning("v_pipeflush v_clrexcp")
def _nothing(trace: Trace) -> None:
    return
