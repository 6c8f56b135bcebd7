"""Kernels that Triton compiled, run through the driver core (a sample; the campaign runs all)."""

import importlib.util
from pathlib import Path

import pytest

from tests.kernels.triton.checks import check
from tests.kernels.triton.launching import everything, launches
from tests.kernels.triton.variants import TARGETS, variants
from tools.build_triton import BUILT, contents, differing

EVERYTHING = everything()
LONG = {"matmul-bf16", "matmul-fp64", "matmul-fp8e4nv", "matmul-fp8e5b16", "attention-bf16-causal"}
"""What differs from others of the sample in types alone, and takes longest."""
# Each kernel on one target, by turns.
SAMPLE = [
    (variant.targets[number % len(variant.targets)], variant.name)
    for number, variant in enumerate(variants())
    if variant.name not in LONG
]


@pytest.mark.parametrize(("target", "name"), SAMPLE, ids=["-".join(case) for case in SAMPLE])
def test_results(target: str, name: str) -> None:
    check(target, name, "numpy")


@pytest.mark.parametrize(("target", "name"), [("gfx942", "softmax"), ("gfx1100", "random")])
def test_compiled(target: str, name: str) -> None:
    check(target, name, "jit")


def test_every_variant_is_stored() -> None:
    wanted = {(target, one.name) for one in variants() for target in one.targets}
    assert set(EVERYTHING) == wanted
    for target in TARGETS:
        kernels = {about["kernel"] for about in launches(target).values()}
        assert len(kernels) >= 14


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_objects_are_what_their_sources_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DISABLE_LINE_INFO", "1")
    assert differing(BUILT / "gfx1100.zip", contents("gfx1100")) == []
