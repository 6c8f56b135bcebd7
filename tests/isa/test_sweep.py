"""A sample of the memory instructions of each target in both engines; a campaign runs them all."""

import random

import pytest

from gputrace.isa.decode import TARGETS
from tests.isa.sweep import compare, names_of


@pytest.mark.parametrize("target", TARGETS)
def test_memory_instructions_in_a_row(target: str) -> None:
    names = random.Random(target).sample(names_of(target), 30)
    compare(target, names, 5)
