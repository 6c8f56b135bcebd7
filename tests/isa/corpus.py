"""Run the kernels of tests/kernels and compare what they leave in memory."""

import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gputrace.isa.machine import Done, Outcome
from tests.isa.launching import Arrays, Program, run

TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
LEVELS = ("O0", "O1", "O3")
COUNT = 128
ENGINE = os.environ.get("GPUTRACE_TEST_ENGINE", "")
"""The engine for all builds; empty: "both" for COMPILED, "numpy" for the rest."""
COMPILED = (("gfx942", "O3"), ("gfx1100", "O1"))
Column = NDArray[Any]

# All levels on two targets; on the others those whose code differs most from theirs.
OTHERS = {"gfx90a": ("O0",), "gfx950": ("O3",), "gfx1030": ("O0",), "gfx1201": ("O0", "O3")}
WANTED = os.environ.get("GPUTRACE_TEST_BUILDS", "")
"""Builds instead of those, such as "gfx90a-O3 gfx942-O1", or "all"."""
ALL_BUILDS = [(target, level) for target in TARGETS for level in LEVELS]
BUILDS = [
    (target, level)
    for target, level in ALL_BUILDS
    if WANTED == "all"
    or (f"{target}-{level}" in WANTED.split() if WANTED else level in OTHERS.get(target, LEVELS))
]
every_build = pytest.mark.parametrize("build", BUILDS, ids=lambda p: "-".join(p))


def few_builds(*targets: str) -> Callable[[Callable[..., None]], Any]:
    """Run a test on each target (of these, if any) at one level, by turns; a campaign runs all."""

    def mark(test: Callable[..., None]) -> Any:
        known, turn = targets or TARGETS, zlib.crc32(test.__name__.encode())
        builds = [(target, LEVELS[(turn + at) % 3]) for at, target in enumerate(known)]
        if WANTED:
            builds = [build for build in BUILDS if build[0] in known]
        return pytest.mark.parametrize("build", builds, ids=lambda p: "-".join(p))(test)

    return mark


def launch(
    build: tuple[str, ...],
    source: str,
    kernel: str,
    args: Sequence[Any],
    groups: tuple[int, ...] = (2,),
    size: tuple[int, ...] = (64,),
) -> Outcome:
    """Run one kernel; arrays among the arguments are memory, other things are passed by value.

    A build is a target, a level and, if they are not in the file of their source, the file that
    the kernels are in.
    """
    memory = Arrays()
    given = [memory.add(a) if isinstance(a, np.ndarray) and a.ndim else a for a in args]
    program = Program(build[0], f"{build[2] if len(build) > 2 else source}-{build[1]}")
    return run(program.launch(kernel, groups, size, memory, given), memory, engine_for(build))


def engine_for(build: tuple[str, ...]) -> str:
    """Return the engine that a build runs on: compiling all of them takes a minute."""
    return ENGINE or ("both" if build in COMPILED else "numpy")


def rows(
    build: tuple[str, ...], source: str, kernel: str, inputs: Sequence[Column], like: Column
) -> Column:
    """Run a kernel that writes one row of COUNT results for each operation; `like` tells them."""
    out = np.zeros(like.shape, like.dtype)
    assert launch(build, source, kernel, (out, *inputs)) == Done()
    return out


def assert_rows(found: Column, expected: Column) -> None:
    """Compare bit for bit; NaN equals NaN."""
    same = found == expected
    if found.dtype.kind == "f":
        signs = np.signbit(found) == np.signbit(expected)
        same = (same & signs) | (np.isnan(found) & np.isnan(expected))
    for number in range(len(expected)):
        assert same[number].all(), (
            number,
            [
                (int(i), found[number][i], expected[number][i])
                for i in np.flatnonzero(~same[number])[:6]
            ],
        )


def each(function: Callable[..., Any], *columns: Column, dtype: Any) -> Column:
    """Compute a column item by item with Python numbers."""
    found = [function(*(item for item in items)) for items in zip(*columns, strict=True)]
    kind = np.dtype(dtype)
    if kind.kind in "ui":
        bits = 8 * kind.itemsize
        whole = [int(value) & ((1 << bits) - 1) for value in found]
        return np.array(whole, f"u{kind.itemsize}").view(kind)
    return np.array(found, kind)


def integers(bits: int, seed: int, edges: Sequence[int] = ()) -> Column:
    """Return COUNT unsigned integers: edges first, then random ones of all sizes."""
    chance = np.random.default_rng(seed)
    top = 1 << bits
    fixed = [0, 1, 2, top - 1, top - 2, top // 2, top // 2 - 1, top // 2 + 1, *edges]
    fixed = [fixed[chance.integers(len(fixed))] for _ in range(40)] + fixed
    random = [
        int.from_bytes(chance.bytes(8), "little") % top >> int(chance.integers(bits))
        for _ in range(COUNT - len(fixed))
    ]
    return np.array(fixed + random, f"u{bits // 8}")


def floats(bits: int, seed: int, special: bool = True) -> Column:
    """Return COUNT floats: special values first when wanted, then random ones of all sizes."""
    chance = np.random.default_rng(seed)
    kind = np.dtype(f"f{bits // 8}")
    info = np.finfo(kind)
    edges = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, 65504.0, 1e-3]
    if special:
        edges += [np.inf, -np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal]
        edges += [-info.max, -info.tiny, info.smallest_subnormal * 77, 2147483648.0, 4294967296.0]
    with np.errstate(over="ignore"):
        fixed = np.array(edges, np.float64).astype(kind)
        picked = fixed[chance.integers(len(fixed), size=40)]
        wide = chance.normal(size=COUNT) * np.exp2(chance.integers(-12, 12, size=COUNT))
        return np.concatenate([fixed, picked, wide.astype(kind)])[:COUNT]
