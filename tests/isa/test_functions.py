"""Functions that hardware approximates: within one unit in the last place of the exact value.

The hardware's own approximations are not public; mpmath gives the exact values.
"""

import math
import random
import struct
from collections.abc import Callable

import mpmath
import pytest

from gputrace.isa.instruction import Operand
from tests.isa.single import Bench, assemble

TARGETS = ("gfx942", "gfx1201", "gfx1030")
CODES = {16: ("<e", "<H", 10, 14), 32: ("<f", "<I", 23, 126), 64: ("<d", "<Q", 52, 1022)}
PRECISION = 400  # bits

Exact = Callable[[mpmath.mpf], mpmath.mpf]
FUNCTIONS: dict[str, Exact] = {
    "rcp": lambda x: 1 / x,
    "rsq": lambda x: 1 / mpmath.sqrt(x),
    "sqrt": mpmath.sqrt,
    "exp": lambda x: mpmath.mpf(2) ** x,
    "log": lambda x: mpmath.log(x, 2),
    "sin": lambda x: mpmath.sinpi(2 * x),
    "cos": lambda x: mpmath.cospi(2 * x),
}
NAMES = {
    **{
        f"{prefix}{name}_f{bits}": name
        for prefix in ("v_", "v_s_")
        for name in FUNCTIONS
        for bits in (16, 32, 64)
    },
    "v_rcp_iflag_f32": "rcp",
    "v_exp_legacy_f32": "exp",
    "v_log_legacy_f32": "log",
}
SPECIAL: dict[str, list[tuple[float, float]]] = {
    "rcp": [(0.0, math.inf), (-0.0, -math.inf), (math.inf, 0.0), (-math.inf, -0.0)],
    "rsq": [(0.0, math.inf), (-0.0, -math.inf), (math.inf, 0.0), (-math.inf, math.nan),
            (-1.0, math.nan)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (math.inf, math.inf), (-math.inf, math.nan),
            (-1.0, math.nan)],
    "exp": [(0.0, 1.0), (math.inf, math.inf), (-math.inf, 0.0)],
    "log": [(0.0, -math.inf), (-0.0, -math.inf), (math.inf, math.inf), (-math.inf, math.nan),
            (-1.0, math.nan), (1.0, 0.0)],
    "sin": [(0.0, 0.0), (math.inf, math.nan), (-math.inf, math.nan), (0.5, 0.0), (1.0, 0.0)],
    "cos": [(0.0, 1.0), (math.inf, math.nan), (-math.inf, math.nan), (0.25, 0.0), (0.5, -1.0)],
}


def cases() -> list[tuple[str, str]]:
    """Return (target, name): each on the first target that has it."""
    made: dict[str, str] = {}
    for target in TARGETS:
        for name in NAMES:
            if name not in made and assemble(target, name, vectors=places(name)) is not None:
                made[name] = target
    return [(target, name) for name, target in made.items()]


def places(name: str) -> dict[str, int] | None:
    """Return where the operands go: those of scalar functions are scalar registers."""
    return {"vdst": 4, "src0": 37 - 256, "src1": 0, "src2": 0} if name.startswith("v_s_") else None


def read(operand: Operand, raw: int) -> float:
    code, _, _, _ = CODES[operand.bits]
    return float(struct.unpack(code, raw.to_bytes(operand.bits // 8, "little"))[0])


def error(operand: Operand, found: float, exact: mpmath.mpf) -> mpmath.mpf:
    """Return how far a result lies from the exact value, in units of its last place."""
    _, _, fraction, least = CODES[operand.bits]
    size = abs(exact)
    exponent = max(mpmath.floor(mpmath.log(size, 2)) if size else -least, -least)
    if math.isinf(found):  # it stands for the next power of two and all beyond
        short = mpmath.mpf(2) ** (least + 2) - math.copysign(1, found) * exact
        return max(short, 0) / mpmath.mpf(2) ** (least + 1 - fraction)
    return abs(exact - mpmath.mpf(found)) / mpmath.mpf(2) ** (exponent - fraction)


@pytest.mark.parametrize(("target", "name"), cases())
def test_functions_are_right_to_the_last_place(target: str, name: str) -> None:
    made = assemble(target, name, vectors=places(name))
    assert made is not None
    source, result = made.src[0], made.dst[0]
    kind = NAMES[name]
    chance, bench = random.Random(name), Bench(target, 0x1F0)
    _, integer, _, _ = CODES[source.bits]
    count = 40 if name.startswith("v_s_") else 2 * bench.lanes
    raws = [chance.getrandbits(source.bits) for _ in range(count)]
    near = [chance.uniform(-8, 8) for _ in range(count // 2)]
    codes = CODES[source.bits][0]
    raws += [struct.unpack(integer, struct.pack(codes, value))[0] for value in near]
    one_at_a_time = name.startswith("v_s_")
    step = 1 if one_at_a_time else bench.lanes
    with mpmath.workprec(PRECISION):
        for first in range(0, len(raws), step):
            part = raws[first : first + step]
            bench.fill(source, part if one_at_a_time else (part * bench.lanes)[: bench.lanes])
            bench.run(made)
            for raw, got in zip(part, bench.read(result), strict=False):
                x = read(source, raw)
                y = read(result, got & ((1 << result.bits) - 1))
                if math.isnan(x) or (kind in ("log", "rsq", "sqrt") and x < 0):
                    assert math.isnan(y), (x, y)
                elif math.isfinite(x) and x:
                    assert error(result, y, FUNCTIONS[kind](mpmath.mpf(x))) <= 1, (x, y)


@pytest.mark.parametrize(("target", "name"), cases())
def test_functions_at_zeros_and_infinities(target: str, name: str) -> None:
    made = assemble(target, name, vectors=places(name))
    assert made is not None
    source, result = made.src[0], made.dst[0]
    code, integer, _, _ = CODES[source.bits]
    bench = Bench(target, 0x1F0)
    for x, wanted in SPECIAL[NAMES[name]]:
        raw = struct.unpack(integer, struct.pack(code, x))[0]
        bench.fill(source, [raw] * (1 if name.startswith("v_s_") else bench.lanes))
        bench.run(made)
        got = read(result, bench.read(result)[0] & ((1 << result.bits) - 1))
        if math.isnan(wanted):
            assert math.isnan(got), x
        else:
            assert got == wanted, (x, got)
            assert math.copysign(1, got) == math.copysign(1, wanted) or not math.isinf(got)
