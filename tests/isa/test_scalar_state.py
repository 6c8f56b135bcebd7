"""Scalar instructions that read or write SCC, EXEC or their destination, on whole numbers."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa.exact import signed
from tests.isa.single import Bench, assemble
from tests.isa.test_properties import edges

TARGETS = ("gfx942", "gfx1201", "gfx1030")


@dataclass
class Before:
    """What an instruction finds: its sources, the immediate, the destination, SCC and EXEC."""

    src: list[int]
    imm: int
    old: int
    scc: int
    exec: int


Result = tuple[int | None, int | None, int | None]  # destination, SCC, EXEC; None: as it was
Function = Callable[[Before], Result]
STATE: dict[str, tuple[int, Function]] = {}
"""By name: bits of the destination, and what comes of it."""


def add(names: str, bits: int, function: Function) -> None:
    for name in names.split():
        assert name not in STATE
        STATE[name] = bits, function


def sums(subtract: bool) -> Function:
    def function(b: Before) -> Result:
        total = b.src[0] - b.src[1] - b.scc if subtract else b.src[0] + b.src[1] + b.scc
        return total, int(not 0 <= total < 1 << 32), None

    return function


add("s_addc_u32 s_add_co_ci_u32", 32, sums(subtract=False))
add("s_subb_u32 s_sub_co_ci_u32", 32, sums(subtract=True))


def add_immediate(b: Before) -> Result:
    total = signed(b.old, 32) + b.imm
    return total, int(not -(1 << 31) <= total < 1 << 31), None


add("s_addk_i32 s_addk_co_i32", 32, add_immediate)
add("s_mulk_i32", 32, lambda b: (b.old * b.imm, None, None))
add("s_movk_i32", 32, lambda b: (b.imm, None, None))
add("s_cmovk_i32", 32, lambda b: (b.imm if b.scc else b.old, None, None))
COMPARED: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "lg": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
for _name, _test in COMPARED.items():
    add(f"s_cmpk_{_name}_i32", 0, lambda b, t=_test: (None, t(signed(b.old, 32), b.imm), None))
    add(f"s_cmpk_{_name}_u32", 0, lambda b, t=_test: (None, t(b.old, b.imm & 0xFFFF), None))
LOGIC: dict[str, Callable[[int, int], int]] = {
    "and": lambda s, e: s & e,
    "or": lambda s, e: s | e,
    "xor": lambda s, e: s ^ e,
    "andn1": lambda s, e: e & ~s,
    "andn2": lambda s, e: s & ~e,
    "orn1": lambda s, e: e | ~s,
    "orn2": lambda s, e: s | ~e,
    "nand": lambda s, e: ~(s & e),
    "nor": lambda s, e: ~(s | e),
    "xnor": lambda s, e: ~(s ^ e),
}
RENAMED = {"andn1": "and_not0", "andn2": "and_not1", "orn1": "or_not0", "orn2": "or_not1"}


def quads(value: int, bits: int, together: bool) -> int:
    found = [int(value >> at & 15 != 0) for at in range(0, bits, 4)]
    return sum(bit << k if together else 15 * bit << 4 * k for k, bit in enumerate(found))


for _bits in (32, 64):
    _ones = (1 << _bits) - 1
    add(f"s_cselect_b{_bits}", _bits, lambda b: (b.src[0] if b.scc else b.src[1], None, None))
    add(f"s_cmov_b{_bits}", _bits, lambda b: (b.src[0] if b.scc else b.old, None, None))
    add(f"s_bitset0_b{_bits}", _bits,
        lambda b, w=_bits: (b.old & ~(1 << b.src[0] % w), None, None))  # fmt: skip
    add(f"s_bitset1_b{_bits}", _bits, lambda b, w=_bits: (b.old | 1 << b.src[0] % w, None, None))
    for _together, _name in ((True, "quadmask"), (False, "wqm")):
        add(f"s_{_name}_b{_bits}", _bits,
            lambda b, w=_bits, t=_together: (quads(b.src[0], w, t), b.src[0] != 0, None),
        )  # fmt: skip
    for _name, _logic in LOGIC.items():
        for _spelled in {_name, RENAMED.get(_name, _name)}:

            def _save(b: Before, f: Callable[[int, int], int] = _logic, m: int = _ones) -> Result:
                new = f(b.src[0], b.exec & m) & m
                return b.exec & m, new != 0, new

            def _both(b: Before, f: Callable[[int, int], int] = _logic, m: int = _ones) -> Result:
                new = f(b.src[0], b.exec & m) & m
                return new, new != 0, new

            add(f"s_{_spelled}_saveexec_b{_bits}", _bits, _save)
            if _name in ("andn1", "andn2"):
                add(f"s_{_spelled}_wrexec_b{_bits}", _bits, _both)


def cases() -> list[tuple[str, str]]:
    """Return (target, name): each on the first target that has it."""
    made: dict[str, str] = {}
    for target in TARGETS:
        for name in STATE:
            if name not in made and assemble(target, name) is not None:
                made[name] = target
    return [(target, name) for name, target in made.items()]


def test_nothing_is_for_no_target() -> None:
    assert {name for _, name in cases()} == STATE.keys()


def draw(chance: random.Random, bits: int) -> int:
    return chance.choice(edges(bits, "i")) if chance.random() < 0.5 else chance.getrandbits(bits)


@pytest.mark.parametrize(("target", "name"), cases())
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_scalar_state(target: str, name: str, seed: int) -> None:
    bits, function = STATE[name]
    chance = random.Random(seed)
    imm = chance.choice((0, 1, -1, 0x7FFF, -0x8000, chance.randrange(-0x8000, 0x8000)))
    made = assemble(target, name)
    assert made is not None
    short = made.encoding == "SOPK"
    if short:
        made = assemble(target, name, {"simm": imm & 0xFFFF})
        assert made is not None
    bench = Bench(target)
    sources = () if short else made.src
    before = Before(
        [draw(chance, operand.bits) for operand in sources],
        imm,
        draw(chance, bits or 32),
        chance.getrandbits(1),
        chance.choice((0, 1, (1 << bench.lanes) - 1, chance.getrandbits(bench.lanes))),
    )
    place = made.dst[0] if made.dst else made.src[0]
    bench.fill(place, [before.old])
    for operand, value in zip(sources, before.src, strict=True):
        bench.fill(operand, [value])
    bench.wave.scalars[128] = before.scc
    bench.set_mask(126, before.exec)
    bench.run(made)
    value, scc, mask = function(before)
    ones = (1 << (bits or 32)) - 1
    expected = before.old if value is None else value
    assert bench.read(place)[0] & ones == expected & ones, before
    assert bench.wave.scalars[128] == (before.scc if scc is None else scc), before
    if mask is None:
        mask = before.exec
    elif bits < bench.lanes:
        mask |= before.exec >> bits << bits
    assert bench.mask(126) == mask & (1 << bench.lanes) - 1, before
