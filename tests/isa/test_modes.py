"""What MODE and the modifiers of an instruction change: clamp, multipliers, NaNs, overflow."""

import numpy as np
import pytest

from tests.isa.single import Bench, assemble

INF, QUIET, SIGNALING = 0x7F800000, 0x7FC00000, 0x7F800001
CLAMPS, IEEE = 1 << 8, 1 << 9
EVERYWHERE = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")


def f32(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def run(
    target: str, name: str, sources: list[int], mode: int = 0xF0,
    extra: dict[str, int] | None = None, half_limit: bool = False,
) -> int:  # fmt: skip
    """Give an instruction one value for each source and return what its first lane has."""
    made = assemble(target, name, extra)
    assert made is not None
    bench = Bench(target, mode, half_limit=half_limit)
    for operand, value in zip(made.src, sources, strict=True):
        bench.fill(operand, [value] * bench.lanes)
    bench.run(made)
    return bench.read(made.dst[0])[0]


@pytest.mark.parametrize("target", EVERYWHERE)
@pytest.mark.parametrize(
    ("value", "mode", "expected"),
    [(0.25, 0, 0.25), (-3.0, 0, 0.0), (7.0, 0, 1.0), (-0.0, 0, 0.0), (np.inf, 0, 1.0)],
)
def test_clamp_holds_results_between_zero_and_one(
    target: str, value: float, mode: int, expected: float
) -> None:
    found = run(target, "v_add_f32", [f32(value), 0], 0xF0 | mode, {"clamp": 1})
    assert found == f32(expected)


@pytest.mark.parametrize("target", EVERYWHERE)
def test_clamp_of_a_nan_is_zero_unless_mode_says_otherwise(target: str) -> None:
    given = [QUIET, f32(1)]
    assert run(target, "v_add_f32", given, 0xF0 | CLAMPS, {"clamp": 1}) == 0
    kept = 0 if target == "gfx1201" else QUIET  # gfx12 has no such bit
    assert run(target, "v_add_f32", given, 0xF0, {"clamp": 1}) == kept


@pytest.mark.parametrize("target", EVERYWHERE)
@pytest.mark.parametrize(("omod", "factor"), [(1, 2.0), (2, 4.0), (3, 0.5)])
def test_output_multipliers_need_flushed_denormals(
    target: str, omod: int, factor: float
) -> None:
    given, extra = [f32(3), f32(2)], {"omod": omod}
    assert run(target, "v_add_f32", given, 0xC0, extra) == f32(5 * factor)
    assert run(target, "v_add_f32", given, 0xF0, extra) == f32(5)
    in_ieee = 5 * factor if target == "gfx1201" else 5
    assert run(target, "v_add_f32", given, 0xC0 | IEEE, extra) == f32(in_ieee)


def test_output_multipliers_give_no_negative_zero_and_no_denormals() -> None:
    assert run("gfx942", "v_mul_f32", [f32(-0.0), f32(1)], 0xC0, {"omod": 1}) == 0
    least = 0x00800000
    assert run("gfx942", "v_mul_f32", [least, f32(1)], 0xC0, {"omod": 3}) == 0


@pytest.mark.parametrize("target", EVERYWHERE[:4])
@pytest.mark.parametrize("name", ["v_min_f32", "v_max_f32"])
@pytest.mark.parametrize("order", [1, -1])
def test_signaling_nans_are_quieted_in_ieee_mode(target: str, name: str, order: int) -> None:
    pair = [SIGNALING, f32(1)][::order]
    assert run(target, name, pair, 0xF0 | IEEE) == QUIET
    assert run(target, name, pair, 0xF0) == f32(1)
    quiet = [QUIET | 1, f32(1)][::order]
    assert run(target, name, quiet, 0xF0 | IEEE) == f32(1)


@pytest.mark.parametrize("name", ["v_min_num_f32", "v_max_num_f32"])
def test_gfx12_prefers_numbers_to_signaling_nans_too(name: str) -> None:
    assert run("gfx1201", name, [SIGNALING, f32(1)], 0xF0 | IEEE) == f32(1)


@pytest.mark.parametrize(("name", "bits"), [("v_min_f16", 16), ("v_max_f64", 64)])
def test_signaling_nans_of_other_widths(name: str, bits: int) -> None:
    signaling, one, quiet = {
        16: (0xFC01, 0x3C00, 0x7E00),
        64: (0x7FF << 52 | 1, 0x3FF << 52, 0xFFF << 51),
    }[bits]
    assert run("gfx942", name, [signaling, one], 0xF0 | IEEE) == quiet
    assert run("gfx942", name, [one, signaling], 0xF0) == one


@pytest.mark.parametrize(
    ("source", "limited", "expected"),
    [(70000.0, True, 0x7BFF), (70000.0, False, 0x7C00), (-1e9, True, 0xFBFF),
     (np.inf, True, 0x7C00), (np.nan, True, 0x7E00)],
)  # fmt: skip
def test_halves_that_are_too_large(source: float, limited: bool, expected: int) -> None:
    found = run("gfx942", "v_cvt_f16_f32", [f32(source)], half_limit=limited)
    assert found & 0xFFFF == expected


def test_sums_of_halves_that_are_too_large() -> None:
    given = [0x7BFF, 0x7BFF]
    assert run("gfx942", "v_add_f16", given) & 0xFFFF == 0x7C00
    assert run("gfx942", "v_add_f16", given, half_limit=True) & 0xFFFF == 0x7BFF
    assert run("gfx942", "v_add_f16", [0x7C00, 0x3C00], half_limit=True) & 0xFFFF == 0x7C00


@pytest.mark.parametrize("target", EVERYWHERE)
@pytest.mark.parametrize(
    ("mode", "product", "source"),
    [(0x30, 1, 1), (0x20, 0, 0), (0x10, 0, 1), (0x00, 0, 0)],
)
def test_denormals_on_the_way_in_and_out(
    target: str, mode: int, product: int, source: int
) -> None:
    # 2^-149 * 1 is denormal in and out; 2^-149 * 2^30 only on the way in.
    assert run(target, "v_mul_f32", [1, f32(1)], 0xC0 | mode) == product
    found = run(target, "v_mul_f32", [1, f32(2.0**30)], 0xC0 | mode)
    assert found == (f32(2.0**-119) if source else 0)


@pytest.mark.parametrize(
    ("mode", "up", "down"),
    [(0, 1.0, 1.0), (1, 1 + 2.0**-23, 1.0), (2, 1.0, 1 - 2.0**-24), (3, 1.0, 1 - 2.0**-24)],
)
def test_singles_and_doubles_round_each_as_told(mode: int, up: float, down: float) -> None:
    tiny = f32(2.0**-40)
    assert run("gfx942", "v_add_f32", [f32(1), tiny], 0xF0 | mode) == f32(up)
    assert run("gfx942", "v_sub_f32", [f32(1), tiny], 0xF0 | mode) == f32(down)
    # the bits for doubles say nothing about singles
    assert run("gfx942", "v_add_f32", [f32(1), tiny], 0xF0 | mode << 2) == f32(1)
