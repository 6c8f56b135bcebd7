"""What each of Triton's stored kernels must leave in memory, computed without a GPU.

`check(target, name, engine)` runs one and raises AssertionError for a wrong result. Whole numbers
and single roundings are compared bit by bit; sums within the bound that holds for every order of
addition, unit roundoff times terms times the sum of magnitudes.
"""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from tests.kernels.small_floats import SHAPES, codes, decode, encode
from tests.kernels.triton.launching import NUMPY, Stored

COUNT = 300
"""Elements of kernels that look at each alone: no multiple of a block."""
Check = Callable[[Stored], None]


def check(target: str, name: str, engine: str = "auto") -> None:
    """Run one stored kernel and compare what it leaves."""
    with Stored(target, name, engine) as stored:
        CHECKS[stored.about["kernel"]](stored)


def blocks(stored: Stored, count: int = COUNT) -> int:
    """Return how many programs cover a count of elements."""
    return -(-count // int(stored.constants["BLOCK"]))


def chance(stored: Stored) -> np.random.Generator:
    """Return random numbers that go with the kernel's name."""
    return np.random.default_rng(list(stored.name.encode()))


def elements(stored: Stored, argument: str, shape: Any, largest: float = 4.0) -> NDArray[Any]:
    """Return random elements for an argument, in the form that lies in memory."""
    kind, rng = stored.kinds[argument], chance(stored)
    rng.bit_generator.advance(len(argument) << 20 | ord(argument[0]))  # type: ignore[attr-defined]
    if kind in SHAPES:
        return codes(kind, math.prod(shape), int(rng.integers(1 << 30)), largest).reshape(shape)
    dtype = np.dtype(NUMPY[kind])
    if dtype.kind == "f":
        return rng.uniform(-largest, largest, shape).astype(dtype)
    info = np.iinfo(dtype)
    found = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return found >> rng.integers(0, info.bits, shape).astype(dtype)


def numbers(stored: Stored, argument: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the exact numbers that an argument's elements stand for."""
    kind = stored.kinds[argument]
    if kind in SHAPES:
        return decode(array, kind)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def close(found: NDArray[Any], expected: NDArray[Any], bound: Any) -> None:
    """Compare within an absolute bound; all must be finite."""
    assert np.isfinite(found).all()
    wrong = ~(np.abs(found.astype(np.float64) - expected) <= bound)
    assert not wrong.any(), (np.argwhere(wrong)[:4], found[wrong][:4], expected[wrong][:4])


# --- each element alone


def check_add(stored: Stored) -> None:
    """One rounding of the exact sum."""
    a, b = (elements(stored, name, (COUNT,)) for name in ("a", "b"))
    out = np.zeros_like(a)
    stored.run(blocks(stored), out=out, a=a, b=b, n=COUNT)
    if stored.kinds["out"] == "bf16":
        assert np.array_equal(out, encode(decode(a, "bf16") + decode(b, "bf16"), "bf16"))
    else:
        assert np.array_equal(out, a + b)


# Units in the last place of f32 and f64: OpenCL C's table for full profiles, 7.4, but for exp and
# log of f32: Triton takes the hardware's of base 2, and a multiplication whose error exp makes
# larger by its argument.
FUNCTIONS: list[tuple[Callable[..., Any], str, float, float]] = [
    (mpmath.exp, "x", 42, 3),
    (mpmath.log, "y", 8, 3),
    (mpmath.sin, "x", 4, 4),
    (mpmath.cos, "x", 4, 4),
    (mpmath.sqrt, "y", 3, 0.5),
    (mpmath.erf, "x", 16, 16),
    (lambda x, y: x / y, "xy", 2.5, 0.5),
    (lambda x, y: mpmath.power(y, x), "xy", 16, 16),
    (mpmath.atan2, "xy", 6, 6),
    (mpmath.tanh, "x", 5, 5),
    (mpmath.tan, "x", 5, 5),
    (mpmath.expm1, "x", 3, 3),
    (mpmath.log1p, "y", 2, 2),
    (lambda x: mpmath.asin(x / 128), "x", 4, 4),
    (mpmath.loggamma, "y", 8, 8),
    (lambda x, y: mpmath.sign(y) * (abs(y) % abs(x)), "xy", 0, 0),
]


def check_functions(stored: Stored) -> None:
    """Functions of the device libraries, in units in the last place of the exact value."""
    kind = np.dtype(NUMPY[stored.kinds["out"]])
    count, rng = 80, chance(stored)
    x = rng.uniform(-20, 20, count).astype(kind)
    y = np.exp(rng.uniform(-4, 4, count)).astype(kind)
    x[:4], y[:4] = [0.5, -1.0, 1e-3, -1e-9], [1.0, 2.0, 1e-4, 1000.0]
    out = np.zeros((len(FUNCTIONS), count), kind)
    stored.run(blocks(stored, count), out=out, a=x, b=y, n=count)
    given = {"x": x, "y": y}
    with mpmath.workdps(40):
        for row, (function, names, single, double) in zip(out, FUNCTIONS, strict=True):
            bound = single if kind == np.float32 else double
            for at in range(count):
                exact = function(*(mpmath.mpf(float(given[name][at])) for name in names))
                unit = float(np.spacing(np.abs(kind.type(exact))))
                error = abs(mpmath.mpf(float(row[at])) - exact) / unit
                assert error <= bound, (names, at, function, x[at], y[at], row[at], float(error))


def toward_zero(x: int, y: int) -> int:
    """Divide as C does."""
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def check_whole_numbers(stored: Stored) -> None:
    """Python's integers, wrapped to the width."""
    kind = np.dtype(NUMPY[stored.kinds["out"]])
    x, y = (elements(stored, name, (COUNT,)) for name in ("a", "b"))
    y[y == 0] = 3
    y[(y == -1) & (x == np.iinfo(kind).min)] = 5  # C leaves the overflow undefined
    out = np.zeros((8, COUNT), kind)
    stored.run(blocks(stored), out=out, a=x, b=y, n=COUNT)
    for at, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        quotient = toward_zero(a, b)
        expected = [
            a + b, a * b, quotient, a - quotient * b, a << (b & 7), a >> (b & 7),
            max(a, b) ^ min(a, b), a if a < b else -b,
        ]  # fmt: skip
        mask = (1 << 8 * kind.itemsize) - 1
        assert [int(v) & mask for v in out[:, at]] == [v & mask for v in expected], (a, b)


def check_convert(stored: Stored) -> None:
    """Nearest, ties to even; a wider type holds everything."""
    wide, narrow = stored.kinds["source"], stored.kinds["out"]
    source = elements(stored, "source", (COUNT,), 200.0)
    if narrow in SHAPES and narrow != "bf16":
        known = np.concatenate([decode(np.arange(8), narrow), decode(np.arange(40, 72), narrow)])
        middle = (known[1:] + known[:-1]) / 2  # ties
        source[: len(known)], source[80 : 80 + len(middle)] = known, -middle
    out = np.zeros(COUNT, NUMPY[narrow])
    stored.run(blocks(stored), out=out, source=source, n=COUNT)
    values = decode(source, wide) if wide in SHAPES else source
    if narrow in SHAPES:
        assert np.array_equal(out, encode(values, narrow))
    else:
        assert np.array_equal(out, values.astype(out.dtype))


def philox(seed: int, places: NDArray[Any]) -> list[NDArray[np.uint32]]:
    """Return the four words of Philox4x32-10 for each place (Salmon et al., SC 2011)."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    words = [places.astype(np.uint64), *(np.zeros(len(places), np.uint64) for _ in range(3))]
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [
            (second >> high) ^ words[1] ^ np.uint64(keys[0]), second & low,
            (first >> high) ^ words[3] ^ np.uint64(keys[1]), first & low,
        ]  # fmt: skip
        keys = [(k + w) & 0xFFFFFFFF for k, w in zip(keys, (0x9E3779B9, 0xBB67AE85), strict=True)]
    return [word.astype(np.uint32) for word in words]


def unit_interval(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return random words as floats from 0 to 1: the magnitude of a signed word, scaled."""
    whole = words.view(np.int32)
    return np.where(whole < 0, ~whole, whole).astype(np.float32) * np.float32(4.6566127342e-10)


def check_random(stored: Stored) -> None:
    """The generator exactly, its floats exactly, normal numbers by Box and Muller's formula."""
    seed = 0x1234_5678_9ABC
    uniform, normal = (np.zeros(COUNT, np.float32) for _ in range(2))
    whole = np.zeros((4, COUNT), np.int32)
    stored.run(blocks(stored), uniform=uniform, normal=normal, whole=whole, seed=seed, n=COUNT)
    words = philox(seed, np.arange(COUNT))
    assert np.array_equal(whole.view(np.uint32), np.array(words))
    first, second = (unit_interval(word) for word in words[:2])
    assert np.array_equal(uniform, first)
    radius = np.sqrt(-2 * np.log(np.maximum(first, 1e-7).astype(np.float64)))
    close(normal, radius * np.cos(2 * np.pi * second.astype(np.float64)), 2e-6)


# --- rows


def check_softmax(stored: Stored) -> None:
    """Each row's powers over their sum."""
    rows, columns = 3, 300
    source = elements(stored, "source", (rows, columns), 8.0)
    out = np.zeros_like(source)
    stored.run(rows, out=out, source=source, columns=columns)
    powers = np.exp(source.astype(np.float64) - source.max(1, keepdims=True))
    expected = powers / powers.sum(1, keepdims=True)
    close(out, expected, expected * 1e-5)


def check_layer_norm(stored: Stored) -> None:
    """Mean and scale of each row, then weight and bias of each column."""
    rows, columns, epsilon = 3, 333, 1e-5
    source = elements(stored, "source", (rows, columns))
    weight, bias = (elements(stored, name, (columns,)) for name in ("weight", "bias"))
    out, means = np.zeros_like(source), np.zeros(rows, np.float32)
    stored.run(
        rows, out=out, means=means, source=source, weight=weight, bias=bias, columns=columns,
        epsilon=epsilon,
    )  # fmt: skip
    values = numbers(stored, "source", source)
    mean = values.mean(1, keepdims=True)
    scale = 1 / np.sqrt(values.var(1, keepdims=True) + epsilon)
    expected = (values - mean) * scale * weight + bias
    close(means, mean[:, 0], 1e-5)
    half_unit = {"fp32": 0.0, "fp16": 2.0**-11, "bf16": 2.0**-8}[stored.kinds["out"]]
    close(numbers(stored, "out", out), expected, 2e-5 + half_unit * np.abs(expected))


def check_reductions(stored: Stored) -> None:
    """Along rows and columns, with Triton's own and other combinations."""
    rows, columns = stored.constants["ROWS"], stored.constants["COLUMNS"]
    source = elements(stored, "source", (rows, columns), 1.5)
    words = elements(stored, "numbers", (rows, columns))
    source[3, [9, 40]] = 7.0  # the first of equals
    floats, whole = np.zeros((4, rows), np.float32), np.zeros(6 * rows + 2 * columns, np.int32)
    stored.run(1, floats=floats, whole=whole, source=source, numbers=words)
    wide = source.astype(np.float64)
    close(floats[0], wide.sum(1), np.abs(wide).sum(1) * columns * 2.0**-24)
    assert np.array_equal(floats[1:3], [source.max(1), source.min(1)])
    close(floats[3], wide.prod(1), np.abs(wide.prod(1)) * columns * 2.0**-24)
    by_rows = [
        words.sum(1, dtype=np.int32), words.max(1), words.min(1),
        np.bitwise_xor.reduce(words, axis=1), source.argmax(1), words.argmin(1),
    ]  # fmt: skip
    assert np.array_equal(whole[: 6 * rows].reshape(6, rows), by_rows)
    assert np.array_equal(whole[6 * rows :][:columns], words.sum(0, dtype=np.int32))
    assert np.array_equal(whole[6 * rows + columns :], words.max(0))


def check_scans(stored: Stored) -> None:
    """Running sums, products and a recurrence; rows sorted, turned and picked from."""
    shape = rows, columns = stored.constants["ROWS"], stored.constants["COLUMNS"]
    source, words = elements(stored, "source", shape, 1.25), elements(stored, "numbers", shape)
    out, whole = np.zeros((5, *shape), np.float32), np.zeros((6, *shape), np.int32)
    stored.run(1, out=out, whole=whole, source=source, numbers=words)
    wide, unit = source.astype(np.float64), columns * 2.0**-23
    products, sums = wide.cumprod(1), np.abs(wide).cumsum(1)
    close(out[0], wide.cumsum(1), sums * unit)
    close(out[1], products, np.abs(products) * unit)
    close(out[2], wide.cumsum(0), np.abs(wide).cumsum(0) * unit)
    close(out[3], products, np.abs(products) * unit)
    added, size = np.zeros(shape), np.zeros(shape)
    total, most = np.zeros(rows), np.zeros(rows)
    plus = (source + np.float32(1)).astype(np.float64)
    for column in range(columns):
        total = total * wide[:, column] + plus[:, column]
        most = most * np.abs(wide[:, column]) + np.abs(plus[:, column])
        added[:, column], size[:, column] = total, most
    close(out[4], added, size * unit)
    order = (np.arange(columns) * 5 + np.arange(rows)[:, None]) % columns
    expected = [
        words.cumsum(1, dtype=np.int32), words[:, ::-1].cumsum(1, dtype=np.int32)[:, ::-1],
        np.sort(words, 1), np.sort(words, 1)[:, ::-1], words[:, ::-1],
        np.take_along_axis(words, order, 1),
    ]  # fmt: skip
    assert np.array_equal(whole, expected)


def check_histogram(stored: Stored) -> None:
    """Counts of each bin."""
    bins, count = stored.constants["BINS"], 700
    source = chance(stored).integers(bins, size=count, dtype=np.int32)
    out = np.zeros(bins, np.int32)
    stored.run(blocks(stored, count), out=out, source=source, n=count)
    assert np.array_equal(out, np.bincount(source, minlength=bins))


# --- matrices


def check_matmul(stored: Stored) -> None:
    """Products of odd sizes; whole numbers exactly, sums of floats in any order."""
    m, n, k = 70, 50, 45
    a, b = (elements(stored, name, shape) for name, shape in (("a", (m, k)), ("b", (k, n))))
    c = np.zeros((m, n), NUMPY[stored.kinds["c"]])
    tiles = -(-m // stored.constants["M"]) * -(-n // stored.constants["N"])
    stored.run(tiles, c=c, a=a, b=b, m=m, n=n, k=k)
    x, y = numbers(stored, "a", a), numbers(stored, "b", b)
    if stored.target == "gfx90a" and stored.kinds["a"] in ("fp16", "fp8e5"):
        # Multiplied as halves, whose denormals the matrix units of the MI200 take for zeros.
        x, y = (np.where(np.abs(one) < 2.0**-14, 0, one) for one in (x, y))
    if c.dtype.kind == "i":
        assert np.array_equal(c, x.astype(np.int32) @ y.astype(np.int32))
        return
    short = stored.constants["PRECISION"] == "tf32"
    unit = {"fp64": 2.0**-53, "fp32": 2.0**-24, "fp16": 2.0**-24}[stored.kinds["c"]]
    size = np.abs(x) @ np.abs(y)
    # Eleven digits of each factor; products of small floats need no rounding, the sums do.
    bound = size * (2.0**-10 if short else k * unit)
    if c.dtype == np.float16:
        bound = bound + np.abs(x @ y) * 2.0**-11
    close(c, x @ y, bound)
    if short:
        assert np.abs(c - x @ y).max() > k * 2.0**-24 * size.max()  # it was not done exactly


def scaled_rows(stored: Stored, side: str, rows: int) -> tuple[NDArray[Any], ...]:
    """Return (bytes, scales, numbers) of a factor whose parts of 32 numbers have a scale each."""
    kind, deep, rng = stored.constants[side], stored.constants["K"], chance(stored)
    rng.bit_generator.advance(ord(side) << 20)  # type: ignore[attr-defined]
    powers = rng.integers(120, 134, (rows, deep // 32), np.uint8)
    if kind == "e2m1":
        raw = rng.integers(256, size=(rows, deep // 2), dtype=np.uint8)
        both = np.stack([raw & 15, raw >> 4], axis=2).reshape(rows, deep)
        values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])[both & 7] * np.where(both & 8, -1, 1)
    else:
        name = {"e4m3": "fp8e4nv", "e5m2": "fp8e5"}[kind]
        raw = codes(name, rows * deep, int(rng.integers(1 << 30)), 4.0).reshape(rows, deep)
        values = decode(raw, name)
    return raw, powers, values * np.repeat(2.0 ** (powers.astype(int) - 127), 32, axis=1)


def check_scaled_matmul(stored: Stored) -> None:
    """Products of small floats with scales, in any order."""
    m, n = stored.constants["M"], stored.constants["N"]
    a, left, x = scaled_rows(stored, "A", m)
    b, right, y = scaled_rows(stored, "B", n)
    c = np.zeros((m, n), np.float32)
    stored.run(1, c=c, a=a, b=b, left=left, right=right)
    close(c, x @ y.T, (np.abs(x) @ np.abs(y).T) * stored.constants["K"] * 2.0**-24)


def check_attention(stored: Stored) -> None:
    """Softmax of scaled scores times values, and the logarithm of the sums."""
    heads, n, width = 2, 45, stored.constants["WIDTH"]
    q, k, v = (elements(stored, name, (heads, n, width), 1.0) for name in "qkv")
    out, sums = np.zeros_like(q), np.zeros((heads, n), np.float32)
    scale = 0.75
    grid = (-(-n // stored.constants["ROWS"]), heads)
    stored.run(grid, out=out, sums=sums, q=q, k=k, v=v, n=n, scale=scale)
    x, y, z = (numbers(stored, name, array) for name, array in zip("qkv", (q, k, v), strict=True))
    scores = scale * (x @ y.transpose(0, 2, 1))
    if stored.constants["CAUSAL"]:
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
    powers = np.exp(scores)
    expected = powers @ z / powers.sum(2, keepdims=True)
    # Powers and result have one rounding each to the short type.
    unit = {"fp16": 2.0**-11, "bf16": 2.0**-8}[stored.kinds["out"]]
    close(numbers(stored, "out", out), expected, 2.5 * unit)
    close(sums, np.log(powers.sum(2)), 1e-5)


# --- cells that many change


def check_atomics(stored: Stored) -> None:
    """Sums, bounds and tickets; every ticket is given once."""
    kind = np.dtype(NUMPY[stored.kinds["cells"]])
    source = chance(stored).integers(0 if kind.kind == "u" else -500, 500, COUNT).astype(kind)
    cells, old = np.zeros(16 + COUNT, kind), np.zeros(COUNT, kind)
    cells[4:12] = [-1000 if kind.kind != "u" else 0] * 4 + [1000] * 4
    stored.run(blocks(stored), cells=cells, old=old, source=source, n=COUNT)
    parts = [source[at::4] for at in range(4)]
    assert np.array_equal(cells[:4], [part.sum(dtype=kind) for part in parts])
    assert np.array_equal(cells[4:8], [part.max() for part in parts])
    assert np.array_equal(cells[8:12], [part.min() for part in parts])
    assert cells[12] == COUNT
    assert cells[13] == source.sum(dtype=kind)
    assert np.array_equal(cells[16:], source)
    assert sorted(old.tolist()) == list(range(COUNT))


def check_bit_atomics(stored: Stored) -> None:
    """Bits of all elements, and a cell that one program at a time changes."""
    source = elements(stored, "source", (COUNT,))
    cells, lock = np.full(12, 0x5A5A, source.dtype), np.array([0, 1], np.int32)
    cells[:4] = -1
    programs = blocks(stored)
    stored.run(programs, cells=cells, lock=lock, source=source, n=COUNT)
    for at in range(4):
        part = source[at::4]
        assert cells[at] == np.bitwise_and.reduce(part)
        assert cells[4 + at] == np.bitwise_or.reduce(part) | 0x5A5A
        assert cells[8 + at] == np.bitwise_xor.reduce(part) ^ 0x5A5A
    value = 1
    for _ in range(programs):
        value = 3 * value + 1
    assert lock.tolist() == [0, value]


CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): function
    for name, function in globals().items()
    if name.startswith("check_")
}
