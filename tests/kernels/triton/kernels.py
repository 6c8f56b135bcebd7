"""Kernels in Triton's language; tools/build_triton.py compiles them for the targets it knows.

Sizes need not be multiples of a block: everything beyond them is masked.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def add(out, a, b, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(out + at, tl.load(a + at, inside) + tl.load(b + at, inside), inside)


@triton.jit
def softmax(out, source, columns, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(source + row * columns + at, inside, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, 0))
    tl.store(out + row * columns + at, powers / tl.sum(powers, 0), inside)


@triton.jit
def layer_norm(out, means, source, weight, bias, columns, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, columns, BLOCK):
        at = first + tl.arange(0, BLOCK)
        total += tl.load(source + row * columns + at, at < columns, other=0.0).to(tl.float32)
    mean = tl.sum(total, 0) / columns
    squares = tl.zeros([BLOCK], tl.float32)
    for first in range(0, columns, BLOCK):
        at = first + tl.arange(0, BLOCK)
        value = tl.load(source + row * columns + at, at < columns, other=0.0).to(tl.float32)
        difference = tl.where(at < columns, value - mean, 0.0)
        squares += difference * difference
    scale = tl.rsqrt(tl.sum(squares, 0) / columns + epsilon)
    tl.store(means + row, mean)
    for first in range(0, columns, BLOCK):
        at = first + tl.arange(0, BLOCK)
        inside = at < columns
        value = tl.load(source + row * columns + at, inside, other=0.0).to(tl.float32)
        w, b = tl.load(weight + at, inside), tl.load(bias + at, inside)
        tl.store(out + row * columns + at, (value - mean) * scale * w + b, inside)


@triton.jit
def matmul(
    c, a, b, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
    SUM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # Tiles of GROUP rows of tiles follow one another, column by column.
    tile, across, down = tl.program_id(0), tl.cdiv(n, N), tl.cdiv(m, M)
    first = tile // (GROUP * across) * GROUP
    rows = min(down - first, GROUP)
    top = (first + tile % (GROUP * across) % rows) * M + tl.arange(0, M)
    left = tile % (GROUP * across) // rows * N + tl.arange(0, N)
    deep = tl.arange(0, K)
    total = tl.zeros([M, N], SUM)
    for step in range(0, k, K):
        inside = deep + step < k
        x = tl.load(
            a + top[:, None] * k + (deep + step)[None, :],
            (top < m)[:, None] & inside[None, :],
            other=0.0,
        )
        y = tl.load(
            b + (deep + step)[:, None] * n + left[None, :],
            inside[:, None] & (left < n)[None, :],
            other=0.0,
        )
        total = tl.dot(x, y, total, input_precision=PRECISION, out_dtype=SUM)
    inside = (top < m)[:, None] & (left < n)[None, :]
    tl.store(c + top[:, None] * n + left[None, :], total.to(c.dtype.element_ty), inside)


@triton.jit
def scaled_matmul(
    c, a, b, left, right, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, A: tl.constexpr,
    B: tl.constexpr,
):  # fmt: skip
    # One tile: rows of a times rows of b, 32 neighbours with one power of two; of e2m1 two a byte.
    wide_a: tl.constexpr = K // 2 if A == "e2m1" else K
    wide_b: tl.constexpr = K // 2 if B == "e2m1" else K
    rows, columns, blocks = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K // 32)
    x = tl.load(a + rows[:, None] * wide_a + tl.arange(0, wide_a)[None, :])
    y = tl.load(b + columns[None, :] * wide_b + tl.arange(0, wide_b)[:, None])
    powers_x = tl.load(left + rows[:, None] * (K // 32) + blocks[None, :])
    powers_y = tl.load(right + columns[:, None] * (K // 32) + blocks[None, :])
    total = tl.dot_scaled(x, powers_x, A, y, powers_y, B)
    tl.store(c + rows[:, None] * N + columns[None, :], total)


@triton.jit
def attention(
    out, sums, q, k, v, n, scale, ROWS: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr,
    CAUSAL: tl.constexpr,
):  # fmt: skip
    # One head for each program of axis 1; the softmax is kept up while the keys stream by.
    head = tl.program_id(1) * n * WIDTH
    row, wide = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    place = head + row[:, None] * WIDTH + wide[None, :]
    query = tl.load(q + place, (row < n)[:, None], other=0.0)
    most = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    result = tl.zeros([ROWS, WIDTH], tl.float32)
    last = min((tl.program_id(0) + 1) * ROWS, n) if CAUSAL else n
    for first in range(0, last, KEYS):
        key = first + tl.arange(0, KEYS)
        inside = key < n
        keys = tl.load(
            k + head + key[None, :] * WIDTH + wide[:, None], inside[None, :], other=0.0
        )
        score = tl.dot(query, keys) * scale
        seen = inside[None, :]
        if CAUSAL:
            seen = seen & (key[None, :] <= row[:, None])
        score = tl.where(seen, score, -1e30)
        higher = tl.maximum(most, tl.max(score, 1))
        power = tl.exp2((score - higher[:, None]) * 1.4426950408889634)
        shrink = tl.exp2((most - higher) * 1.4426950408889634)
        total = total * shrink + tl.sum(power, 1)
        places = v + head + key[:, None] * WIDTH + wide[None, :]
        values = tl.load(places, inside[:, None], other=0.0)
        result = tl.dot(power.to(values.dtype), values, result * shrink[:, None])
        most = higher
    result = result / total[:, None]
    tl.store(out + place, result.to(out.dtype.element_ty), (row < n)[:, None])
    tl.store(sums + tl.program_id(1) * n + row, most + tl.log(total), row < n)


@triton.jit
def product_of(a, b):
    return a * b


@triton.jit
def reductions(floats, whole, source, numbers, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    place = row[:, None] * COLUMNS + column[None, :]
    values, words = tl.load(source + place), tl.load(numbers + place)
    tl.store(floats + row, tl.sum(values, 1))
    tl.store(floats + ROWS + row, tl.max(values, 1))
    tl.store(floats + 2 * ROWS + row, tl.min(values, 1))
    tl.store(floats + 3 * ROWS + row, tl.reduce(values, 1, product_of))
    tl.store(whole + row, tl.sum(words, 1))
    tl.store(whole + ROWS + row, tl.max(words, 1))
    tl.store(whole + 2 * ROWS + row, tl.min(words, 1))
    tl.store(whole + 3 * ROWS + row, tl.xor_sum(words, 1))
    tl.store(whole + 4 * ROWS + row, tl.argmax(values, 1))
    tl.store(whole + 5 * ROWS + row, tl.argmin(words, 1))
    tl.store(whole + 6 * ROWS + column, tl.sum(words, 0))
    tl.store(whole + 6 * ROWS + COLUMNS + column, tl.max(words, 0))


@triton.jit
def then(scale_a, add_a, scale_b, add_b):
    return scale_a * scale_b, add_a * scale_b + add_b


@triton.jit
def scans(out, whole, source, numbers, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    size: tl.constexpr = ROWS * COLUMNS
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    place = row[:, None] * COLUMNS + column[None, :]
    values, words = tl.load(source + place), tl.load(numbers + place)
    tl.store(out + place, tl.cumsum(values, 1))
    tl.store(out + size + place, tl.cumprod(values, 1))
    tl.store(out + 2 * size + place, tl.cumsum(values, 0))
    scale, added = tl.associative_scan((values, values + 1.0), 1, then)
    tl.store(out + 3 * size + place, scale)
    tl.store(out + 4 * size + place, added)
    tl.store(whole + place, tl.cumsum(words, 1))
    tl.store(whole + size + place, tl.cumsum(words, 1, reverse=True))
    tl.store(whole + 2 * size + place, tl.sort(words, 1))
    tl.store(whole + 3 * size + place, tl.sort(words, 1, descending=True))
    tl.store(whole + 4 * size + place, tl.flip(words, 1))
    order = (column[None, :] * 5 + row[:, None]) % COLUMNS
    tl.store(whole + 5 * size + place, tl.gather(words, order, 1))


@triton.jit
def atomics(cells, old, source, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    value = tl.load(source + at, inside)
    tl.atomic_add(cells + at % 4, value, inside)
    tl.atomic_max(cells + 4 + at % 4, value, inside)
    tl.atomic_min(cells + 8 + at % 4, value, inside)
    before = tl.atomic_add(cells + 12 + at * 0, value * 0 + 1, inside)
    tl.store(old + at, before, inside)
    tl.atomic_xchg(cells + 16 + at, value, inside)
    tl.atomic_add(cells + 13, tl.sum(tl.where(inside, value, 0), 0))


@triton.jit
def bit_atomics(cells, lock, source, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    value = tl.load(source + at, inside)
    tl.atomic_and(cells + at % 4, value, inside)
    tl.atomic_or(cells + 4 + at % 4, value, inside)
    tl.atomic_xor(cells + 8 + at % 4, value, inside)
    # One program at a time changes the cell behind the lock.
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(lock + 1, tl.load(lock + 1, volatile=True) * 3 + 1)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@triton.jit
def histogram(out, source, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    counts = tl.histogram(tl.load(source + at, at < n, other=0), BINS, mask=at < n)
    tl.atomic_add(out + tl.arange(0, BINS), counts)


@triton.jit
def random(uniform, normal, whole, seed, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(uniform + at, tl.rand(seed, at), at < n)
    tl.store(normal + at, tl.randn(seed, at), at < n)
    a, b, c, d = tl.randint4x(seed, at)
    tl.store(whole + at, a, at < n)
    tl.store(whole + n + at, b, at < n)
    tl.store(whole + 2 * n + at, c, at < n)
    tl.store(whole + 3 * n + at, d, at < n)


@triton.jit
def functions(out, a, b, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    x, y = tl.load(a + at, inside), tl.load(b + at, inside)
    tl.store(out + at, tl.exp(x), inside)
    tl.store(out + n + at, tl.log(y), inside)
    tl.store(out + 2 * n + at, tl.sin(x), inside)
    tl.store(out + 3 * n + at, tl.cos(x), inside)
    tl.store(out + 4 * n + at, tl.sqrt(y), inside)
    tl.store(out + 5 * n + at, tl.erf(x), inside)
    tl.store(out + 6 * n + at, x / y, inside)
    tl.store(out + 7 * n + at, libdevice.pow(y, x), inside)
    tl.store(out + 8 * n + at, libdevice.atan2(x, y), inside)
    tl.store(out + 9 * n + at, libdevice.tanh(x), inside)
    tl.store(out + 10 * n + at, libdevice.tan(x), inside)
    tl.store(out + 11 * n + at, libdevice.expm1(x), inside)
    tl.store(out + 12 * n + at, libdevice.log1p(y), inside)
    tl.store(out + 13 * n + at, libdevice.asin(x / 128), inside)
    tl.store(out + 14 * n + at, libdevice.lgamma(y), inside)
    tl.store(out + 15 * n + at, libdevice.fmod(y, x), inside)


@triton.jit
def whole_numbers(out, a, b, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    x, y = tl.load(a + at, inside), tl.load(b + at, inside, other=1)
    tl.store(out + at, x + y, inside)
    tl.store(out + n + at, x * y, inside)
    tl.store(out + 2 * n + at, x // y, inside)
    tl.store(out + 3 * n + at, x % y, inside)
    tl.store(out + 4 * n + at, x << (y & 7), inside)
    tl.store(out + 5 * n + at, x >> (y & 7), inside)
    tl.store(out + 6 * n + at, tl.maximum(x, y) ^ tl.minimum(x, y), inside)
    tl.store(out + 7 * n + at, tl.where(x < y, x, -y), inside)


@triton.jit
def convert(out, source, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(source + at, at < n).to(out.dtype.element_ty), at < n)
