"""Moves to and from registers that M0 names."""

import numpy as np
import pytest

from tests.isa.single import Bench, assemble

M0 = 124
_NAMES = """\
v_movrels_b32 v_movreld_b32 v_movrelsd_b32 v_movrelsd_2_b32 v_swaprel_b32 s_movrels_b32
s_movrels_b64 s_movreld_b32 s_movreld_b64 s_movrelsd_2_b32
"""
NAMES = frozenset(_NAMES.split())
"""Instructions whose effects are tested here."""


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


@pytest.mark.parametrize(("source_index", "to_index"), [(0, 0), (7, 3), (3, 7), (300, 0), (0, 250)])
@pytest.mark.parametrize("name", ["v_movrelsd_2_b32", "v_swaprel_b32"])
@pytest.mark.parametrize("target", ["gfx1030", "gfx1201"])
def test_both_ends_have_an_index(target: str, name: str, source_index: int, to_index: int) -> None:
    made = assemble(target, name)
    assert made is not None
    bench = Bench(target)
    before = np.random.default_rng(1).integers(2**32, size=(256, 32), dtype=np.uint32)
    bench.wave.vectors[:256] = before
    bench.wave.scalars[M0] = source_index | to_index << 16
    bench.run(made)
    source, to = made.src[0].index + source_index, made.dst[0].index + to_index
    expected = before.copy()
    if to < 256:
        expected[to] = before[source if source < 256 else 0]
    if name == "v_swaprel_b32" and source < 256:
        expected[source] = before[to if to < 256 else 0]
    assert np.array_equal(bench.wave.vectors[:256], expected)


@pytest.mark.parametrize("target", ["gfx1030", "gfx1201"])
def test_scalar_moves_with_an_index_at_both_ends(target: str) -> None:
    made = assemble(target, "s_movrelsd_2_b32")
    assert made is not None
    bench = Bench(target)
    bench.wave.scalars[:100] = np.arange(100) + 1000
    bench.wave.scalars[M0] = 5 | 9 << 16
    bench.run(made)
    expected = np.arange(100) + 1000
    expected[made.dst[0].index + 9] = 1000 + made.src[0].index + 5
    assert bench.wave.scalars[:100].tolist() == expected.tolist()
