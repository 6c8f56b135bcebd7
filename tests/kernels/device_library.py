"""OpenCL's functions from Debian's rocm-device-libs, compiled for every target, beside mpmath.

The package has facts of targets up to gfx1036 and gfx940; others are linked with the nearest one's
by hand. Error bounds are units in the last place: OpenCL C 2.0 specification, 7.4, tables of single
and double precision, and cl_khr_fp16's of half precision.
"""

import functools
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from gputrace.isa.machine import Done
from tests.isa.corpus import COUNT
from tests.isa.launching import Arrays, Program, run
from tools.build_kernels import compiler

BITCODE = Path("/usr/lib/x86_64-linux-gnu/amdgcn/bitcode")
NEAREST = {
    "gfx90a": "90a", "gfx942": "940", "gfx950": "940", "gfx1030": "1030", "gfx1100": "1036",
    "gfx1201": "1036",
}  # fmt: skip
KINDS = {"float": np.float32, "double": np.float64, "half": np.float16}
Exact = Callable[..., Any]


@dataclass(frozen=True)
class Function:
    """A function of x (and y, whose range is `second`), exact and in C; bounds by type, in ulp."""

    code: str
    exact: Exact
    low: float
    high: float
    bounds: tuple[float, float, float]
    second: tuple[float, float] | None = None


def root(x: Any) -> Any:
    return mpmath.sign(x) * mpmath.cbrt(abs(x))


def remainder(x: Any, y: Any) -> Any:
    return mpmath.sign(x) * (abs(x) % abs(y))


FUNCTIONS = (
    Function("sin(x)", mpmath.sin, -100, 100, (4, 4, 2)),
    Function("sin(x)", mpmath.sin, -1e30, 1e30, (4, 4, 2)),
    Function("cos(x)", mpmath.cos, -1e30, 1e30, (4, 4, 2)),
    Function("cos(x)", mpmath.cos, -100, 100, (4, 4, 2)),
    Function("tan(x)", mpmath.tan, -50, 50, (5, 5, 2)),
    Function("sinpi(x)", mpmath.sinpi, -9, 9, (4, 4, 2)),
    Function("cospi(x)", mpmath.cospi, -9, 9, (4, 4, 2)),
    Function("asin(x)", mpmath.asin, -1, 1, (4, 4, 2)),
    Function("acos(x)", mpmath.acos, -1, 1, (4, 4, 2)),
    Function("atan(x)", mpmath.atan, -30, 30, (5, 5, 2)),
    Function("atan2(x, y)", mpmath.atan2, -9, 9, (6, 6, 2), (-9, 9)),
    Function("sinh(x)", mpmath.sinh, -9, 9, (4, 4, 2)),
    Function("cosh(x)", mpmath.cosh, -9, 9, (4, 4, 2)),
    Function("tanh(x)", mpmath.tanh, -9, 9, (5, 5, 2)),
    Function("asinh(x)", mpmath.asinh, -99, 99, (4, 4, 2)),
    Function("acosh(x)", mpmath.acosh, 1, 99, (4, 4, 2)),
    Function("atanh(x)", mpmath.atanh, -0.99, 0.99, (5, 5, 2)),
    Function("exp(x)", mpmath.exp, -9, 9, (3, 3, 2)),
    Function("exp2(x)", lambda x: mpmath.power(2, x), -12, 12, (3, 3, 2)),
    Function("exp10(x)", lambda x: mpmath.power(10, x), -4, 4, (3, 3, 2)),
    Function("expm1(x)", mpmath.expm1, -3, 3, (3, 3, 2)),
    Function("log(x)", mpmath.log, 1e-3, 1e3, (3, 3, 2)),
    Function("log2(x)", lambda x: mpmath.log(x, 2), 1e-3, 1e3, (3, 3, 2)),
    Function("log10(x)", mpmath.log10, 1e-3, 1e3, (3, 3, 2)),
    Function("log1p(x)", mpmath.log1p, -0.9, 9, (2, 2, 2)),
    Function("pow(x, y)", mpmath.power, 0.1, 9, (16, 16, 4), (-3, 3)),
    Function("powr(x, y)", mpmath.power, 0.1, 9, (16, 16, 4), (-3, 3)),
    Function("sqrt(x)", mpmath.sqrt, 0, 1e4, (0.5, 0.5, 0.5)),
    Function("rsqrt(x)", lambda x: 1 / mpmath.sqrt(x), 1e-3, 1e4, (2, 2, 1)),
    Function("cbrt(x)", root, -99, 99, (2, 2, 2)),
    Function("hypot(x, y)", mpmath.hypot, -99, 99, (4, 4, 2), (-99, 99)),
    Function("x / y", lambda x, y: x / y, -99, 99, (0.5, 0.5, 0.5), (0.1, 99)),
    Function("fmod(x, y)", remainder, -99, 99, (0, 0, 0), (0.1, 9)),
    Function("erf(x)", mpmath.erf, -4, 4, (16, 16, 4)),
    Function("erfc(x)", mpmath.erfc, -2, 3, (16, 16, 4)),
    Function("tgamma(x)", mpmath.gamma, 0.1, 7, (16, 16, 4)),
    # Near 1 and 2, where it is 0, the specification says nothing.
    Function("lgamma(x)", mpmath.loggamma, 2.5, 99, (16, 16, 4)),
    Function("fma(x, y, x)", lambda x, y: x * y + x, -9, 9, (0.5, 0.5, 0.5), (-9, 9)),
)

INF, NAN = math.inf, math.nan
EDGES: dict[str, list[tuple[float, float, float]]] = {
    "sin(x)": [(INF, 0, NAN), (-0.0, 0, -0.0), (NAN, 0, NAN)],
    "cos(x)": [(-INF, 0, NAN), (0.0, 0, 1.0)],
    "exp(x)": [(INF, 0, INF), (-INF, 0, 0.0), (0.0, 0, 1.0), (NAN, 0, NAN), (-1e4, 0, 0.0)],
    "log(x)": [(0.0, 0, -INF), (-1.0, 0, NAN), (INF, 0, INF), (1.0, 0, 0.0)],
    "sqrt(x)": [(-1.0, 0, NAN), (-0.0, 0, -0.0), (INF, 0, INF), (4.0, 0, 2.0)],
    "pow(x, y)": [
        (0.0, 0.0, 1.0), (NAN, 0.0, 1.0), (1.0, NAN, 1.0), (-2.0, 3.0, -8.0), (-2.0, 0.5, NAN),
        (0.0, -1.0, INF), (-0.0, -1.0, -INF), (INF, -2.0, 0.0), (-1.0, INF, 1.0),
    ],
    "atan2(x, y)": [(0.0, -0.0, math.pi), (-0.0, 1.0, -0.0), (INF, INF, math.pi / 4)],
    "hypot(x, y)": [(INF, NAN, INF), (NAN, 1.0, NAN), (3.0, 4.0, 5.0)],
    "fmod(x, y)": [(INF, 1.0, NAN), (1.0, 0.0, NAN), (-3.0, INF, -3.0), (-6.0, 3.0, -0.0)],
    "x / y": [(1.0, 0.0, INF), (-1.0, 0.0, -INF), (0.0, 0.0, NAN), (INF, 2.0, INF)],
    "tgamma(x)": [(-1.0, 0, NAN), (5.0, 0, 24.0), (INF, 0, INF)],
    "cbrt(x)": [(-INF, 0, -INF), (-8.0, 0, -2.0), (-0.0, 0, -0.0)],
    "erf(x)": [(INF, 0, 1.0), (-INF, 0, -1.0), (0.0, 0, 0.0)],
    "fmax(x, y)": [(NAN, 1.0, 1.0), (2.0, NAN, 2.0), (-1.0, 5.0, 5.0)],
    "round(x)": [(0.5, 0, 1.0), (-2.5, 0, -3.0), (-0.25, 0, -0.0)],
    "rint(x)": [(0.5, 0, 0.0), (-2.5, 0, -2.0), (INF, 0, INF)],
}  # fmt: skip
"""Exact results of special values, as C's annex F has them: (x, y, result)."""


BROKEN = {("half", "sin(x)")}
"""Wrong in the library itself: version 5.2 gives NaN for what is finite, not for what is not."""


def source() -> str:
    """Return one kernel for each type, which writes one row for each function."""
    codes = [one.code for one in FUNCTIONS] + list(EDGES)
    text = "#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n"
    for kind in KINDS:
        text += f"kernel void of_{kind}(global {kind} *out, global const {kind} *a,"
        text += f" global const {kind} *b) {{\n"
        text += "    uint i = __builtin_amdgcn_workgroup_id_x() * 64;\n"
        text += "    i += __builtin_amdgcn_workitem_id_x();\n"
        for row, code in enumerate(codes):
            at = f"{row * COUNT} + i"
            text += f"    {{ {kind} x = a[{at}], y = b[{at}]; out[{at}] = {code}; }}\n"
        text += "}\n"
    return text


def build(path: Path, target: str, options: str, clang: str = "") -> bytes:
    """Compile a source for a target, with the device libraries linked."""
    clang = clang or compiler(target)
    out = path.with_suffix(f".{target}.co")
    wide = "on" if target.startswith("gfx9") else "off"
    libraries = [
        "opencl", "ocml", "ockl", "oclc_daz_opt_off", "oclc_unsafe_math_off",
        "oclc_finite_only_off", "oclc_correctly_rounded_sqrt_on", f"oclc_wavefrontsize64_{wide}",
        f"oclc_isa_version_{NEAREST[target]}", "oclc_abi_version_500",
    ]  # fmt: skip
    command = f"{clang} -x cl -cl-std=CL2.0 -target amdgcn-amd-amdhsa -mcpu={target} -nogpulib -w"
    words = [*command.split(), *options.split(), "-cl-fp32-correctly-rounded-divide-sqrt"]
    for name in libraries:
        words += ["-Xclang", "-mlink-builtin-bitcode", "-Xclang", str(BITCODE / f"{name}.bc")]
    subprocess.run([*words, str(path), "-o", str(out)], check=True)
    return out.read_bytes()


def compiled(target: str, level: str, folder: Path) -> bytes:
    """Compile the functions for a target."""
    path = folder / "functions.cl"
    path.write_text(source())
    return build(path, target, f"-{level}")


@functools.cache
def inputs(kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return x and y, a row of COUNT for each function; the special values follow."""
    chance, dtype = np.random.default_rng(7), KINDS[kind]
    largest = float(np.finfo(dtype).max) / 2
    rows: list[list[NDArray[np.float64]]] = [[], []]
    for one in FUNCTIONS:
        ranges = (one.low, one.high), one.second or (0.0, 1.0)
        for column, (low, high) in zip(rows, ranges, strict=True):
            low, high = max(low, -largest), min(high, largest)
            made = chance.uniform(low, high, COUNT)
            if low < 0:
                made[::4] *= 1e-3  # smaller ones, too
            column.append(made)
    for cases in EDGES.values():
        filled = np.array([cases[at % len(cases)] for at in range(COUNT)])
        rows[0].append(filled[:, 0])
        rows[1].append(filled[:, 1])
    return np.array(rows[0]).astype(dtype), np.array(rows[1]).astype(dtype)


@functools.cache
def exact(kind: str) -> list[list[Any]]:
    """Return what the functions are, to more digits than any type has."""
    x, y = inputs(kind)
    table = []
    with mpmath.workdps(50):
        for row, one in enumerate(FUNCTIONS):
            columns = [x[row]] if one.second is None else [x[row], y[row]]
            given = [[mpmath.mpf(float(value)) for value in column] for column in columns]
            table.append([one.exact(*values) for values in zip(*given, strict=True)])
    return table


def beyond_bounds(kind: str, found: NDArray[Any]) -> list[str]:
    """Return which functions are further from the exact value than they may be."""
    (x, y), dtype, wrong = inputs(kind), KINDS[kind], []
    for row, (one, values) in enumerate(zip(FUNCTIONS, exact(kind), strict=True)):
        if (kind, one.code) in BROKEN:
            continue
        units = np.spacing(np.abs(np.array([float(v) for v in values]).astype(dtype)))
        with mpmath.workdps(50):
            errors = [
                float(abs(mpmath.mpf(float(f)) - v) / mpmath.mpf(float(u)))
                for f, v, u in zip(found[row], values, units, strict=True)
            ]
        at, bound = int(np.argmax(errors)), one.bounds[list(KINDS).index(kind)]
        if not max(errors) <= bound + 1e-3:
            wrong.append(
                f"{one.code} of {kind} {x[row][at]!r}, {y[row][at]!r}: {found[row][at]!r}, "
                f"{errors[at]:.2f} units from the exact value"
            )
    return wrong


def wrong_edges(kind: str, found: NDArray[Any]) -> list[str]:
    """Return which special values are not what they should be."""
    (x, y), dtype, wrong = inputs(kind), KINDS[kind], []
    for row, (code, cases) in enumerate(EDGES.items(), len(FUNCTIONS)):
        if (kind, code) in BROKEN:
            continue
        wanted = np.array([cases[at % len(cases)][2] for at in range(COUNT)]).astype(dtype)
        same = (found[row] == wanted) & (np.signbit(found[row]) == np.signbit(wanted))
        near = np.abs(found[row] - wanted) <= 6 * np.spacing(np.abs(wanted))
        same |= np.isnan(found[row]) & np.isnan(wanted)
        same |= near & np.isfinite(wanted) & (wanted != 0)
        wrong += [
            f"{code} of {kind} {x[row][at]!r}, {y[row][at]!r}: {found[row][at]!r}, "
            f"not {wanted[at]!r}"
            for at in np.flatnonzero(~same)[:1]
        ]
    return wrong


def check(target: str, code: bytes, kind: str, engine: str) -> None:
    """Run the functions of one type; raises AssertionError with all that is wrong."""
    x, y = inputs(kind)
    out, memory = np.zeros_like(x), Arrays()
    program = Program(target, "functions", code)
    args = [memory.add(array) for array in (out, x.copy(), y.copy())]
    launched = program.launch(f"of_{kind}", (COUNT // 64,), (64,), memory, args)
    assert run(launched, memory, engine) == Done()
    with np.errstate(all="ignore"):
        wrong = beyond_bounds(kind, out) + wrong_edges(kind, out)
    assert not wrong, "\n".join(wrong)
