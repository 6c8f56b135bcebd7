"""What tinygrad compiles for a GPU, beside numpy: each function is one kind of work.

Usage: tinygrad_program.py [NAME ...]; prints the names of those that agreed.
"""

import math
import sys
from collections.abc import Callable

import numpy as np
from tinygrad import Tensor, dtypes

CHANCE = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    return CHANCE.standard_normal(shape).astype(np.float32)


def close(found: Tensor, wanted: np.ndarray, bound: float = 1e-5) -> None:
    size = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=bound, atol=bound * size)


def matmul() -> None:
    """Products of floats, and of halves and bytes by the matrix unit where there is one."""
    a, b = numbers(48, 80), numbers(80, 32)
    close(Tensor(a) @ Tensor(b), a @ b)
    p, q = a.astype(np.float16), b.astype(np.float16)
    wanted = p.astype(np.float32) @ q.astype(np.float32)
    close(Tensor(p).matmul(Tensor(q), dtype=dtypes.float), wanted)
    close(Tensor(p) @ Tensor(q), wanted, 2e-3)
    x, y = (CHANCE.integers(-100, 100, (32, 32)).astype(np.int8) for _ in range(2))
    found = Tensor(x).cast(dtypes.int) @ Tensor(y).cast(dtypes.int)
    assert (found.numpy() == x.astype(np.int32) @ y.astype(np.int32)).all()
    brief = Tensor(a).cast(dtypes.bfloat16), Tensor(b).cast(dtypes.bfloat16)
    close(brief[0].matmul(brief[1], dtype=dtypes.float), a @ b, 2e-2)


def convolution() -> None:
    """Windows with strides, padding and groups; pooling."""
    x, w = numbers(2, 4, 12, 11), numbers(6, 2, 3, 3)
    found = Tensor(x).conv2d(Tensor(w), groups=2, stride=2, padding=1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    halves = [
        np.einsum("ncyxhw,ochw->noyx", windows[:, 2 * g : 2 * g + 2], w[3 * g : 3 * g + 3])
        for g in range(2)
    ]
    close(found, np.concatenate(halves, axis=1))
    pools = x[:, :, :, :10].reshape(2, 4, 6, 2, 5, 2)
    close(Tensor(x[:, :, :, :10]).max_pool2d(), pools.max((3, 5)))
    close(Tensor(x[:, :, :, :10]).avg_pool2d(), pools.mean((3, 5)))


def softmax() -> None:
    """Of rows, in floats and halves, and its logarithm."""
    x = numbers(17, 130) * 3
    powers = np.exp(x - x.max(1, keepdims=True))
    wanted = powers / powers.sum(1, keepdims=True)
    close(Tensor(x).softmax(), wanted)
    close(Tensor(x).log_softmax(), np.log(wanted))
    close(Tensor(x.astype(np.float16)).softmax().cast(dtypes.float), wanted, 4e-3)


def reduce() -> None:
    """Sums, bounds, places of bounds, running sums, along rows, columns and all."""
    x = numbers(33, 70)
    close(Tensor(x).sum(), x.sum(), 1e-4)
    close(Tensor(x).max(0), x.max(0))
    close(Tensor(x).mean(1), x.mean(1))
    close(Tensor(x).std(0), x.std(0, ddof=1))
    close(Tensor(x[:, :8]).prod(1), x[:, :8].prod(1))
    close(Tensor(x).cumsum(1), x.cumsum(1), 1e-4)
    assert (Tensor(x).argmax(1).numpy() == x.argmax(1)).all()
    whole = CHANCE.integers(-(2**40), 2**40, (9, 31))
    assert (Tensor(whole).sum(1).numpy() == whole.sum(1)).all()
    assert (Tensor(whole).min(0).numpy() == whole.min(0)).all()


def sort() -> None:
    """Rows in order, with the places that they came from; the largest; picked elements."""
    x = CHANCE.permutation(600).astype(np.float32).reshape(6, 100)
    values, places = Tensor(x).sort(1, descending=True)
    assert (values.numpy() == np.sort(x, 1)[:, ::-1]).all()
    assert (places.numpy() == np.argsort(-x, 1)).all()
    assert (Tensor(x).topk(5)[0].numpy() == np.sort(x, 1)[:, ::-1][:, :5]).all()
    order = CHANCE.integers(100, size=(6, 30)).astype(np.int32)
    assert (Tensor(x).gather(1, Tensor(order)).numpy() == np.take_along_axis(x, order, 1)).all()


def functions() -> None:
    """Functions of each element, in floats; whole numbers of several widths; conversions."""
    x = numbers(300) * 4
    close(Tensor(x).exp(), np.exp(x))
    close(Tensor(np.abs(x) + 0.01).log(), np.log(np.abs(x) + np.float32(0.01)))
    close(Tensor(x).sin(), np.sin(x))
    close(Tensor(x).sigmoid(), 1 / (1 + np.exp(-x)))
    close(Tensor(np.abs(x)).sqrt(), np.sqrt(np.abs(x)))
    close(Tensor(x).tanh(), np.tanh(x))
    wanted = np.array([math.erf(float(v)) for v in x], np.float32)
    close(Tensor(x).erf(), wanted)
    for kind in (np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint32):
        info = np.iinfo(kind)
        a = CHANCE.integers(info.min, info.max, 200, kind)
        b = np.maximum(CHANCE.integers(1, min(info.max, 1000), 200, kind), 1)
        assert (((Tensor(a) + Tensor(b)) * 3).numpy() == (a + b) * kind(3)).all()
        assert ((Tensor(a) // Tensor(b)).numpy() == a // b).all(), kind
        assert ((Tensor(a) % Tensor(b)).numpy() == a % b).all(), kind
    assert (Tensor(x).cast(dtypes.int).numpy() == x.astype(np.int32)).all()
    assert (Tensor(x).half().numpy() == x.astype(np.float16)).all()
    assert (Tensor(x).double().numpy() == x.astype(np.float64)).all()


WORK: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (matmul, convolution, softmax, reduce, sort, functions)
}

if __name__ == "__main__":
    for name in sys.argv[1:] or WORK:
        WORK[name]()
        print(name, flush=True)
