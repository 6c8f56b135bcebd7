"""Loops that never end are proven, and only those."""

import numpy as np
import pytest

from gputrace.families import FAMILIES
from gputrace.isa.machine import Done, Endless, Paused
from tests.isa.launching import Arrays, Program, start

BOTH = pytest.mark.parametrize("target", sorted(FAMILIES))
SLICE = 4096


def spin(target, engine, lock, groups=2):
    memory = Arrays()
    cells = np.array([lock, 0], np.uint32)
    at = memory.add(cells)
    program = Program(target, "flow-O3")
    size = (64,)
    launch = program.launch("spin_lock", (groups,), size, memory, [at, at + 4])
    return start(launch, memory, engine), cells, at


def run(execution, limit=1000):
    for _ in range(limit):
        outcome = execution.run(SLICE)
        if not isinstance(outcome, Paused):
            return outcome
    return outcome


@BOTH
def test_a_lock_that_nobody_releases_is_an_endless_loop(target):
    execution, _, at = spin(target, "jit", lock=1)
    outcome = run(execution)
    assert isinstance(outcome, Endless)
    assert outcome.seen == ((at, b"\1\0\0\0"),)
    assert 0 < outcome.period < 20
    assert outcome.place.group == (0, 0, 0)


def test_it_is_found_after_the_same_instructions_whatever_the_engine():
    counts = set()
    for engine in ("numpy", "jit"):
        execution, _, _ = spin("gfx1100", engine, lock=1, groups=1)
        assert isinstance(run(execution), Endless)
        counts.add(execution.instructions)
    assert len(counts) == 1


@BOTH
def test_who_changes_what_it_reads_lets_it_go_on(target):
    execution, cells, _ = spin(target, "jit", lock=1)
    assert isinstance(run(execution), Endless)
    assert isinstance(run(execution), Endless)
    cells[0] = 0
    assert isinstance(run(execution), Done)
    assert cells[1] == 4  # both groups had the lock


@BOTH
def test_a_long_way_is_no_endless_one(target):
    memory = Arrays()
    out = memory.add(np.zeros(64, np.uint32))
    program = Program(target, "seed-O3")
    arguments = [out, np.uint32(1), np.uint32(150_000)]
    launch = program.launch("busy", (1,), (64,), memory, arguments)
    assert isinstance(run(start(launch, memory, "jit")), Done)
