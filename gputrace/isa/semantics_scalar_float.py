"""Scalar floats (gfx11.5 and later).

Witness: AMD's ISA manual RDNA4 (SOP1, SOP2, SOPC floating point), and the results of compiled
kernels in the tests.
"""

from collections.abc import Callable

from gputrace.isa.graph import F16, F32, U16, U32, Node, Type
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_compare import FLOAT_CONDITIONS
from gputrace.isa.semantics_float import HIGHEST, LEAST, LOWEST, MOST
from gputrace.isa.semantics_packed import join, toward_zero
from gputrace.isa.trace import Trace

SCALAR_FLOAT = Registry()
_pure = SCALAR_FLOAT.pure


def _fma(a: Node, b: Node, c: Node) -> Node:
    return a.trace.apply("fma", a, b, c)


for _f in ("f16", "f32"):
    _pure(f"s_add_{_f}", lambda a, b: a + b)
    _pure(f"s_sub_{_f}", lambda a, b: a - b)
    _pure(f"s_mul_{_f}", lambda a, b: a * b)
    _pure(f"s_min_num_{_f} s_min_{_f}", LEAST)
    _pure(f"s_max_num_{_f} s_max_{_f}", MOST)
    _pure(f"s_minimum_{_f}", LOWEST)
    _pure(f"s_maximum_{_f}", HIGHEST)
    for _name, _prim in (
        ("floor", "floor"),
        ("ceil", "ceil"),
        ("trunc", "truncate"),
        ("rndne", "rint"),
    ):
        _pure(f"s_{_name}_{_f}", lambda a, p=_prim: a.trace.apply(p, a))
_pure("s_fmaak_f32 s_fmamk_f32", _fma)


@SCALAR_FLOAT.meaning("s_fmac_f32 s_fmac_f16")
def _fmac(trace: Trace) -> None:
    a, b = (trace.read(operand) for operand in trace.instruction.src[:2])
    to = trace.instruction.dst[0]
    trace.write(to, _fma(a, b, trace.read(to)))


def _convert(prim: str, type: Type) -> Callable[[Node], Node]:
    return lambda a: a.trace.apply(prim, a, type=type)


_pure("s_cvt_f32_u32", _convert("from_unsigned", F32))
_pure("s_cvt_f32_i32", _convert("from_signed", F32))
_pure("s_cvt_u32_f32", _convert("to_unsigned", U32))
_pure("s_cvt_i32_f32", _convert("to_signed", U32))
_pure("s_cvt_f32_f16", _convert("fcvt", F32))
_pure("s_cvt_f16_f32", _convert("fcvt", F16))


@SCALAR_FLOAT.meaning("s_cvt_hi_f32_f16")
def _convert_high(trace: Trace) -> None:
    high = (trace.raw(trace.instruction.src[0], 0, 1) >> 16).zext(U16).bits_as(F16)
    trace.write(trace.instruction.dst[0], trace.apply("fcvt", high, type=F32))


@SCALAR_FLOAT.meaning("s_cvt_pk_rtz_f16_f32")
def _convert_pair(trace: Trace) -> None:
    parts = [trace.flush(toward_zero(trace.read(o))) for o in trace.instruction.src]
    trace.write(trace.instruction.dst[0], join(*parts))


def _comparison(function: Callable[[Trace, Node, Node], Node]) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        a, b = (trace.read(operand) for operand in trace.instruction.src)
        trace.put_scc(function(trace, a, b))

    return meaning


for _condition, _function in FLOAT_CONDITIONS.items():
    for _f in ("f16", "f32"):
        SCALAR_FLOAT.add(f"s_cmp_{_condition}_{_f}", _comparison(_function))
