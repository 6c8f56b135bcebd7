"""Random programs over several queues and GPUs do what the same steps do one after another."""

import pytest

from gputrace import driver
from gputrace.families import FAMILIES
from tools.programs import Program


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", FAMILIES)
def test_a_program_over_queues_of_two_gpus_does_what_its_steps_do(target, seed):
    with driver.open(f"emu:{target}x2,schedule={seed}") as device:
        program = Program([device, *device.peers], f"{target}{seed}")
        for _ in range(60):
            program.step()
        assert program.differing() == []


@pytest.mark.parametrize("seed", range(2))
def test_small_rings_and_uploads_change_nothing(seed):
    with driver.open(f"emu:gfx942,schedule={seed}") as device:
        program = Program([device], seed)
        program.small_rings()
        for _ in range(150):
            program.step()
        assert program.differing() == []
