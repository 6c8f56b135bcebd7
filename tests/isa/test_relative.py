"""Moves to and from registers that M0 names."""

import numpy as np
import pytest

from tests.isa.single import Bench, assemble

M0 = 124


@pytest.mark.parametrize("index", [0, 1, 7, 239])
@pytest.mark.parametrize("name", ["v_movrels_b32", "v_movreld_b32", "v_movrelsd_b32"])
@pytest.mark.parametrize("target", ["gfx1030", "gfx1100"])
def test_vector_moves(target: str, name: str, index: int) -> None:
    made = assemble(target, name)
    assert made is not None
    bench, (source, to) = Bench(target), (made.src[0].index, made.dst[0].index)
    before = np.random.default_rng(index).integers(2**32, size=(256, 32), dtype=np.uint32)
    bench.wave.vectors[:256] = before
    bench.wave.scalars[M0] = index
    bench.set_mask(126, 0xF0F0)
    bench.run(made)
    at = source + (0 if "reld" in name else index)
    to += 0 if name == "v_movrels_b32" else index
    expected = before.copy()
    active = np.array([0xF0F0 >> lane & 1 for lane in range(32)], np.bool_)
    if to < 256:
        expected[to] = np.where(active, before[at if at < 256 else 0], before[to])
    assert np.array_equal(bench.wave.vectors[:256], expected)


@pytest.mark.parametrize(("name", "words"), [("s_movrels_b32", 1), ("s_movrels_b64", 2)])
def test_scalar_reads(name: str, words: int) -> None:
    made = assemble("gfx1100", name)
    assert made is not None
    bench = Bench("gfx1100")
    bench.wave.scalars[:100] = np.arange(100) + 1000
    bench.wave.scalars[M0] = 6
    bench.run(made)
    first, to = made.src[0].index + 6, made.dst[0].index
    found = bench.wave.scalars[to : to + words].tolist()
    assert found == [1000 + first + k for k in range(words)]


@pytest.mark.parametrize(("name", "words"), [("s_movreld_b32", 1), ("s_movreld_b64", 2)])
def test_scalar_writes(name: str, words: int) -> None:
    made = assemble("gfx1100", name)
    assert made is not None
    bench = Bench("gfx1100")
    bench.wave.scalars[:100] = np.arange(100) + 1000
    bench.wave.scalars[M0] = 4
    bench.run(made)
    expected = np.arange(100) + 1000
    to, source = made.dst[0].index + 4, made.src[0].index
    expected[to : to + words] = [1000 + source + k for k in range(words)]
    assert bench.wave.scalars[:100].tolist() == expected.tolist()
