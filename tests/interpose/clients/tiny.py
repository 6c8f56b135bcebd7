"""What tinygrad programs do, one thing for each argument; prints "ok" when all is right."""

import sys

import numpy as np
from tinygrad import Tensor, nn
from tinygrad.helpers import Context

random = np.random.default_rng(1)


def numbers(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def ops() -> None:
    a, b = numbers(64, 64), numbers(64, 64)
    np.testing.assert_allclose((Tensor(a) @ Tensor(b)).numpy(), a @ b, rtol=1e-4, atol=1e-4)
    shifted = np.exp(a - a.max(1, keepdims=True))
    wanted = shifted / shifted.sum(1, keepdims=True)
    np.testing.assert_allclose(Tensor(a).softmax().numpy(), wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(Tensor(a).sum().numpy(), a.sum(), rtol=1e-3)
    assert (Tensor(a[0]).sort()[0].numpy() == np.sort(a[0])).all()
    x, w = numbers(1, 2, 8, 8), numbers(3, 2, 3, 3)
    found = Tensor(x).conv2d(Tensor(w)).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), axis=(1, 2))
    wanted = np.einsum("cyxhw,ochw->oyx", windows, w)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-4)


def train() -> None:
    """Print the losses of 50 steps of a small network."""
    inputs, truth = numbers(128, 32), numbers(32, 10)
    wanted = (inputs @ truth).argmax(1).astype(np.int32)
    weights = [Tensor(numbers(32, 24) / 6), Tensor(numbers(24, 10) / 5)]
    for weight in weights:
        weight.requires_grad = True
    x, y = Tensor(inputs), Tensor(wanted)
    optimizer = nn.optim.SGD(weights, lr=0.1)
    with Context(TRAINING=1):
        for _ in range(50):
            optimizer.zero_grad()
            loss = (x @ weights[0]).relu().dot(weights[1]).sparse_categorical_crossentropy(y)
            loss.backward()
            optimizer.step()
            print(f"{loss.item():.4f}")


{"ops": ops, "train": train}[sys.argv[1]]()
print("ok")
