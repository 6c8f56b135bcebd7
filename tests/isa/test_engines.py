"""Every instruction in both engines: the same bits, on edges and random registers (hypothesis)."""


import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa.engines import Engines, programs
from tests.isa.single import Bench


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> list[Engines]:
    # One target of each wave size, what another adds, and one encoding: the campaign has all.
    folder = tmp_path_factory.mktemp("jit")
    folder.chmod(0o700)
    made = programs("gfx942", Bench("gfx942").mode, folder, every=False)
    known = frozenset(label for program in made for label in program.labels)
    for target in ("gfx950", "gfx1201"):
        made += programs(target, Bench(target).mode, folder, every=False, but=known)
    return made


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_instruction_gives_the_same_bits(every: list[Engines], seed: int) -> None:
    assert sum(len(program.labels) for program in every) > 850
    assert not [problem for program in every if (problem := program.difference(seed))]
