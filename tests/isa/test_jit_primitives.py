"""Every primitive gives the same bits compiled as evaluated with numpy."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gputrace.isa import jit_layout, state
from gputrace.isa.graph import F16, F32, F64, I1, U8, U16, U32, U64, Graph, Node, Type
from gputrace.isa.instruction import Instruction
from gputrace.isa.jit_library import Library
from gputrace.isa.jit_store import Store
from gputrace.isa.launch import View
from gputrace.isa.numpy_engine import Context, NumpyEngine, Stop, prepare
from gputrace.isa.primitives import PRIMS
from gputrace.isa.trace import Mode, Trace
from gputrace.isa.waves import Group, aligned
from tests.isa.launching import Arrays

INTEGERS, FLOATS = (U8, U16, U32, U64), (F16, F32, F64)
WORDS = {8: U8, 16: U16, 32: U32, 64: U64}
FIRST_OUT = 8
Case = Callable[[Trace, Callable[[Type, int], Node]], Node]


def _same(name: str, count: int) -> dict[str, tuple[tuple[Type, ...], Case]]:
    # The primitive on `count` operands of one type, for each type that it has.
    floats = name.startswith("f") or name in _FLOAT_NAMES
    kinds = FLOATS if floats else INTEGERS
    if name in ("exp2", "log2", "sin", "cos"):
        kinds = (F64,)
    return {
        f"{name}-{kind}": ((kind,) * count, _applied(name, kind, count)) for kind in kinds
    }


_FLOAT_NAMES = (
    "sqrt", "floor", "ceil", "truncate", "rint", "exp2", "log2", "sin", "cos", "isnan",
)  # fmt: skip


def _applied(name: str, kind: Type, count: int) -> Case:
    return lambda t, read: t.apply(name, *(read(kind, k) for k in range(count)))


def _converted(name: str, source: Type, result: Type) -> Case:
    return lambda t, read: t.apply(name, read(source, 0), type=result)


def _cases() -> dict[str, tuple[tuple[Type, ...], Case]]:
    made: dict[str, tuple[tuple[Type, ...], Case]] = {}
    for name in ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr"):
        made |= _same(name, 2)
    for name in ("eq", "ne", "ult", "ule", "slt", "sle"):
        made |= _same(name, 2)
    for name in ("popcount", "leading", "trailing", "reverse"):
        made |= _same(name, 1)
    for name in ("fadd", "fsub", "fmul", "fdiv", "feq", "flt", "fle"):
        made |= _same(name, 2)
    for name in _FLOAT_NAMES:
        made |= _same(name, 1)
    made |= _same("fma", 3)
    for kind in FLOATS:
        made[f"ldexp-{kind}"] = (kind, U32), lambda t, read, k=kind: t.apply(
            "ldexp", read(k, 0), read(U32, 1), type=k
        )
    for one, other in ((F16, F32), (F32, F64), (F32, F16), (F64, F32)):
        made[f"fcvt-{one}-{other}"] = (one,), _converted("fcvt", one, other)
    for number in (*INTEGERS,):
        for kind in FLOATS:
            pairs = (("from_unsigned", number, kind), ("from_signed", number, kind))
            pairs += (("to_unsigned", kind, number), ("to_signed", kind, number))
            for name, source, result in pairs:
                made[f"{name}-{source}-{result}"] = (source,), _converted(name, source, result)
    for one in INTEGERS:
        for other in INTEGERS:
            names = ("zext", "sext") if one.bits < other.bits else ("trunc",)
            for name in names if one != other else ():
                made[f"{name}-{one}-{other}"] = (one,), _converted(name, one, other)
        for name in ("zext", "sext"):
            made[f"{name}-i1-{one}"] = (one,), lambda t, read, n=name, k=one: t.apply(
                n, read(k, 0).ne(0), type=k
            )
        made[f"trunc-{one}-i1"] = (one,), _converted("trunc", one, I1)
        made[f"select-{one}"] = (one, one), lambda t, read, k=one: t.apply(
            "select", read(U32, 2).ne(0), read(k, 0), read(k, 1)
        )
    return made


def _word_cases() -> dict[str, tuple[tuple[Type, ...], Case]]:
    # 64-bit values that compiled code has as words, and long computations.
    made: dict[str, tuple[tuple[Type, ...], Case]] = {}
    for n in (0, 1, 31, 32, 33, 63):
        made[f"shl-by-{n}"] = (U64,), lambda t, read, n=n: read(U64, 0) << n
        made[f"lshr-by-{n}"] = (U64,), lambda t, read, n=n: read(U64, 0) >> n
        made[f"zext-shl-by-{n}"] = (U32,), lambda t, read, n=n: read(U32, 0).zext(U64) << n
    made |= {f"long-{kind}": ((kind,), _long(kind)) for kind in (U32, U64)}
    return made | {
        "add-constant": ((U64,), lambda t, read: read(U64, 0) + 0x1_8000_0000),
        "add-scalar": ((U64,), lambda t, read: read(U64, 0) + t.scalar(2, 2)),
        "add-zext": ((U64,), lambda t, read: (read(U64, 0) << 2) + read(U32, 1).zext(U64)),
        "add-low-zero": ((U64,), lambda t, read: (read(U64, 0) << 32) + read(U64, 1)),
        "and-constant": ((U64,), lambda t, read: read(U64, 0) & ~7),
        "xor-raised": ((U64,), lambda t, read: (read(U64, 0) << 40) ^ (read(U64, 1) >> 20)),
        "select-sums": ((U64,), lambda t, read: t.apply(
            "select", read(U32, 2).ne(0), read(U64, 0) + read(U64, 1), read(U64, 0) >> 32
        )),
        "add-float-bits": ((F64,), lambda t, read: (
            (read(F64, 0) + read(F64, 1)).bits_as(U64) + (read(U64, 2) & 1)
        )),
    }  # fmt: skip


def _long(kind: Type) -> Case:
    # So long that compiled code has it as a function of a few lanes.
    def make(trace: Trace, read: Callable[[Type, int], Node]) -> Node:
        x, y, scalar = read(kind, 0), read(kind, 1), trace.scalar(4).zext(kind)
        for n in range(12):
            less = trace.apply("slt", x, y)
            x = trace.apply("select", less, x * 5 + n, y ^ scalar)
            y = trace.apply("select", less & x.ne(n), (x >> 3) + y, y + 0x9E3779B9)
        everybody = trace.apply("ballot", x.ne(3)) & 255
        return trace.apply("select", trace.apply("ult", x, y), x, y + everybody.zext(kind))

    return make


def _lane_cases() -> dict[str, tuple[tuple[Type, ...], Case]]:
    scalar = lambda t, index: t.scalar(2 * index)  # noqa: E731
    made: dict[str, tuple[tuple[Type, ...], Case]] = {
        "ballot": ((U32,), lambda t, read: t.splat(t.apply("ballot", read(U32, 0).ne(0)))),
        "lane_mask": ((U32,), lambda t, read: t.apply("lane_mask", t.scalar(0, 2))),
        "lane_id": ((U32,), lambda t, read: t.apply("lane_id")),
        "lane_values": ((U32,), lambda t, read: t.apply(
            "lane_values", type=U32, attribute=tuple(7 * n for n in range(t.mode.wave_size))
        )),
        "scatter": ((U32, U32), lambda t, read: t.apply(
            "scatter", read(U32, 0), read(U32, 1), read(U32, 2).ne(0)
        )),
        "read_lane": ((U32,), lambda t, read: t.splat(
            t.apply("read_lane", read(U32, 0), scalar(t, 0))
        )),
        "write_lane": ((U32,), lambda t, read: t.apply(
            "write_lane", read(U32, 0), scalar(t, 0), scalar(t, 1)
        )),
        "splat": ((U32,), lambda t, read: t.splat(scalar(t, 1))),
        "splat-i1": ((U32,), lambda t, read: t.splat(scalar(t, 1).ne(0))),
        "here": ((U32,), lambda t, read: t.splat(t.apply("here", attribute=40))),
        "clock": ((U32,), lambda t, read: t.splat(t.apply("clock"))),
    }  # fmt: skip
    for kind in (U8, U16, U32, U64, F16, F32, F64):
        made[f"permute-{kind}"] = (kind, U32), lambda t, read, k=kind: t.apply(
            "permute", read(k, 0), read(U32, 1)
        )
    return made


CASES = _cases()
LANE_CASES = _lane_cases()
WORD_CASES = _word_cases()
FORMS = [
    (32, False, [*CASES, *LANE_CASES]), (64, False, [*CASES, *LANE_CASES]), (64, True, [*CASES]),
    (32, False, [*WORD_CASES]), (64, False, [*WORD_CASES]),
]  # fmt: skip
"""Lanes of a wave, whether operands are uniform, and the cases of a program."""
ELSEWHERE = {
    "get_vector_at", "put_vector_at", "stop_if", "message", "others", "aligned", "within",
    "const", "bitcast", "get_scalar", "put_scalar", "get_vector", "put_vector", "check", "load",
    "store", "atomic", "jump", "branch", "jump_to", "barrier", "sync", "end", "matrix",
}  # fmt: skip


def test_no_primitive_is_left_out() -> None:
    used = {name.split("-")[0] for name in (*CASES, *LANE_CASES)}
    assert set(PRIMS) - used - ELSEWHERE == set()


class Both:
    """A program of one instruction for each case, for both engines."""

    def __init__(self, cases: list[Case], wave_size: int, uniform: bool, folder: Path) -> None:
        self.mode = Mode(wave_size, 0xF0, False, 1 << 48, 2 << 48)
        self.graphs: dict[int, Graph] = {}
        for number, case in enumerate(cases):
            trace = self._trace(4 * number)
            result = case(trace, lambda k, n, t=trace: self._read(t, k, n, uniform))  # type: ignore[misc]
            always = trace.splat(trace.const(I1, 1))
            self._write(trace, FIRST_OUT + 2 * number, result, always)
            self.graphs[4 * number] = trace.finish()
        trace = self._trace(4 * len(cases))
        trace.go("end")
        self.graphs[4 * len(cases)] = trace.finish()
        self.used = FIRST_OUT + 2 * len(cases)
        library = Library("gfx942", lambda mode, pc, code: (self.graphs[pc], 4), Store(folder))
        code = f"{uniform} {len(cases)}".encode()
        found = library.find(self.mode, lambda pc, size: code, 0, make=True)
        assert found is not None
        assert library.compiled == len(cases) + 1
        kinds = [ctypes.c_void_p] * 4 + [ctypes.c_uint64] * 2
        self.region = ctypes.CFUNCTYPE(ctypes.c_uint64, *kinds)(found.address)
        self._library = library

    def _trace(self, at: int) -> Trace:
        return Trace(Instruction("test", "", "", at, (0,)), self.mode)

    def _read(self, trace: Trace, kind: Type, number: int, uniform: bool) -> Node:
        raw = trace.scalar(2 * number, 2) if uniform else trace.vector(2 * number, 2)
        return raw.zext(WORDS[kind.bits]).bits_as(kind)

    def _write(self, trace: Trace, index: int, value: Node, mask: Node) -> None:
        trace.put_vector(index, value, mask)

    def numpy(self, words: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the registers after all instructions, evaluated with numpy."""
        group = Group((0, 0, 0), 1, self.mode.wave_size, 0)
        group.words[0, : len(words)] = words
        context = Context(View(Arrays()), self.mode.wave_size)
        engine = NumpyEngine(context, lambda pc: prepare(self.graphs[pc], context))
        assert engine.run(group.waves[0], group.lds, 1 << 30) is Stop.END
        return group.words[0].copy()

    def compiled(self, words: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the same, compiled."""
        group = Group((0, 0, 0), 1, self.mode.wave_size, 0)
        group.words[0, : len(words)] = words
        context = jit_layout.new_context()
        context[jit_layout.LIMIT] = 1 << 40
        sites: NDArray[Any] = aligned(8, np.uint64)
        code = self.region(
            group.words.ctypes.data, context.ctypes.data, group.lds.ctypes.data,
            sites.ctypes.data, 0, 0,
        )  # fmt: skip
        assert code == jit_layout.END
        assert int(context[jit_layout.EXECUTED]) == len(self.graphs)
        return group.words[0].copy()


    def difference(self, words: NDArray[np.uint32], names: list[str]) -> str:
        """Say where the engines differ, "" for nowhere."""
        expected, found = self.numpy(words), self.compiled(words)
        if np.array_equal(expected, found):
            return ""
        lanes = self.mode.wave_size
        at = int(np.flatnonzero(expected != found)[0]) - state.SCALARS
        number, lane = (at // lanes - FIRST_OUT) // 2, at % lanes
        given = [hex(int(words[state.SCALARS + k * lanes + lane])) for k in range(6)]
        one, other = hex(int(expected[at + state.SCALARS])), hex(int(found[at + state.SCALARS]))
        return f"{names[number]} lane {lane}: {given} numpy {one} compiled {other}"


def program(
    wave_size: int, uniform: bool, names: list[str], folder: Path
) -> tuple[Both, list[str]]:
    """Return the program of some cases with their names."""
    cases = [(CASES | LANE_CASES | WORD_CASES)[name][1] for name in names]
    return Both(cases, wave_size, uniform, folder), names


EDGES = np.array(
    [
        0, 1, 2, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x3C00, 0x7C00, 0x7E00, 0xFC00, 0x7C01,
        0x8000, 0x7FFF, 0xFFFF, 0x03FF, 0x0400, 0x7BFF, 0x3F800000, 0x7F800000, 0xFF800000,
        0x7FC00000, 0xFFC00001, 0x7F800001, 0x80000000, 0x7FFFFFFF, 0xFFFFFFFF, 0x00800000,
        0x007FFFFF,
        0x4F000000,
        0xCF000000, 0x4F800000, 0x5F000000, 0xDF000000, 0x5F800000, 0x3FF0000000000000,
        0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0xFFF8000000000001,
        0x8000000000000000, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x0010000000000000,
        0x41E0000000000000, 0xC1E0000000000000, 0x41F0000000000000, 0x43E0000000000000,
        0x43F0000000000000, 0x3F80000000000000, 0x40F0000000000000, 0xBFE0000000000000,
    ],
    np.uint64,
)  # fmt: skip


def inputs(seed: int, wave_size: int) -> NDArray[np.uint32]:
    """Return the registers of a wave: edges and random values of all sizes in the first ones."""
    chance = np.random.default_rng(seed)
    shape = 4, wave_size + 1
    random = chance.integers(0, 1 << 64, shape, np.uint64, endpoint=False)
    random >>= chance.integers(0, 64, shape, np.uint64)
    near = random & np.uint64(7)
    edges = EDGES[chance.integers(len(EDGES), size=shape)]
    values = np.where(chance.random(shape) < 0.5, edges, random)
    values = np.where(chance.random(shape) < 0.1, values ^ near, values)
    signs = chance.integers(0, 2, shape, np.uint64)
    values = np.where(chance.random(shape) < 0.2, values | signs << np.uint64(31), values)
    words = np.zeros(state.SCALARS + 8 * wave_size, np.uint32)
    for number in range(4):
        for half in range(2):
            part = (values[number] >> np.uint64(32 * half)).astype(np.uint32)
            words[2 * number + half] = part[-1]
            start = state.SCALARS + (2 * number + half) * wave_size
            words[start : start + wave_size] = part[:-1]
    words[state.EXEC : state.EXEC + 2] = 0xFFFFFFFF
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("jit")
    made.chmod(0o700)
    return made


@pytest.fixture(
    scope="module", params=FORMS,
    ids=lambda p: f"wave{p[0]}-{'uniform' if p[1] else 'lanes'}-{p[2][0]}",
)  # fmt: skip
def both(request: pytest.FixtureRequest, folder: Path) -> tuple[Both, list[str]]:
    return program(*request.param, folder)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_both_engines_give_the_same_bits(both: tuple[Both, list[str]], seed: int) -> None:
    made, names = both
    words = inputs(seed, made.mode.wave_size)
    problem = made.difference(words, names)
    assert not problem, problem
