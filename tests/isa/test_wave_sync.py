"""Global wave sync: kernels whose groups need one another, and each way to wait for ever."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gputrace.isa.machine import Done, Endless, Machine, Outcome, Paused, Unsupported
from gputrace.isa.wave_sync import MOST, OPERATIONS, Asking, BadSync, WaveSync
from gputrace.isa.waves import HELD, Group
from tests.isa.corpus import few_builds
from tests.isa.launching import Arrays, Program, assert_same_outcome
from tests.isa.steps import encode

GRID = ("gfx90a", "gfx942", "gfx1030", "gfx1100")
each_target = pytest.mark.parametrize("target", GRID)
WORD = (1 << 32) - 1


class Grid:
    """A code object on both engines; what they leave must be the same, and so the resources."""

    def __init__(self, target: str, level: str) -> None:
        self.program = Program(target, f"grid-{level}")
        self.machines = [Machine(target, engine) for engine in ("numpy", "jit")]
        self.syncs = [WaveSync() for _ in self.machines]
        self.scratch = level == "O0"
        self.lanes = 32 if self.machines[0].family.wave == 32 else 64

    def run(
        self, kernel: str, groups: int, size: int, *args: Any, slice_: int = 10_000_000
    ) -> Outcome:
        memory = Arrays()
        given = [memory.add(a) if isinstance(a, np.ndarray) else np.uint32(a) for a in args]
        launch = self.program.launch(kernel, (groups,), (size,), memory, given)
        if not self.scratch:
            launch = replace(launch, scratch_wave_bytes=0)
        before, found = memory.contents(), list[tuple[Outcome, int, list[bytes]]]()
        for machine, sync in zip(self.machines, self.syncs, strict=True):
            memory.restore(before)
            execution = machine.start(launch, memory, sync=sync)
            outcome: Outcome = Paused()
            while isinstance(outcome, Paused):
                outcome = execution.run(slice_)
            found.append((outcome, execution.instructions, memory.contents()))
        assert found[0][1:] == found[1][1:]
        assert_same_outcome(found[1][0], found[0][0])
        assert not self.machines[1].library.failures
        return found[0][0]

    def make_semaphores(self) -> None:
        for number in (5, 6, 7):
            assert self.run("prepare", 1, 64, 0, number) == Done()


def rounds(values: list[int], groups: int, count: int) -> list[int]:
    """What the kernel of this name leaves, by plain numbers."""
    halves = [values[:groups], values[groups:]]
    for turn in range(count):
        old = halves[turn & 1]
        total = 0
        for value in old:
            total = (total * 3 + value) & WORD
        halves[~turn & 1] = [(total + old[(k + 1) % groups]) & WORD for k in range(groups)]
    return halves[0] + halves[1]


@few_builds(*GRID)
def test_groups_meet_at_the_barrier_of_the_grid(build: tuple[str, str]) -> None:
    grid = Grid(*build)
    for groups, size, resource in ((7, 64, 0), (1, 128, 63), (2, 192, 9)):
        values = np.arange(2 * groups, dtype=np.uint32) * 77 + 1
        expected = rounds(values.tolist(), groups, 3)
        assert grid.run("prepare", 1, 64, groups - 1, resource) == Done()
        # Cut into short pieces, as a device does that has other work.
        assert grid.run("rounds", groups, size, values, groups, 3, resource, slice_=500) == Done()
        assert values.tolist() == expected
        # The last one to come has set the count for the next time.
        assert grid.run("rounds", groups, size, values, groups, 2, resource) == Done()
        assert values.tolist() == rounds(expected, groups, 2)


@few_builds(*GRID)
def test_semaphores_count_what_others_have_done(build: tuple[str, str]) -> None:
    grid, groups = Grid(*build), 6
    made, taken = (np.zeros(groups, np.uint32) for _ in range(2))
    passed = np.zeros(1, np.uint32)
    grid.make_semaphores()
    assert grid.run("semaphores", groups, grid.lanes, made, taken, passed, groups) == Done()
    squares = [k * k for k in range(groups)]
    assert made.tolist() == squares
    assert taken.tolist() == [sum(squares) + k for k in range(groups)]
    assert passed[0] == groups - 1


@few_builds(*GRID)
def test_a_group_too_few_waits_for_ever(build: tuple[str, str]) -> None:
    grid, groups = Grid(*build), 4
    values = np.ones(2 * groups, np.uint32)
    assert grid.run("prepare", 1, 64, groups, 3) == Done()
    outcome = grid.run("rounds", groups, 128, values, groups, 1, 3)
    assert isinstance(outcome, Endless)
    assert outcome.what == "waits at global barrier 3, to which 1 more wave has to come"
    assert (outcome.place.group, outcome.place.wave, outcome.period) == ((0, 0, 0), 0, 0)


@each_target
def test_no_more_groups_than_fit_wait_side_by_side(target: str) -> None:
    grid = Grid(target, "O3")
    for machine in grid.machines:
        shape = machine.family.shape
        shape = replace(shape, xccs=1, cus=3, simds_per_cu=1, waves_per_simd=4)
        machine.family = replace(machine.family, shape=shape)
    for groups in (12, 13):
        made, taken = (np.zeros(groups, np.uint32) for _ in range(2))
        passed = np.zeros(1, np.uint32)
        grid.syncs = [WaveSync() for _ in grid.machines]
        grid.make_semaphores()
        outcome = grid.run("semaphores", groups, grid.lanes, made, taken, passed, groups)
        if groups == 12:
            assert outcome == Done()
        else:
            assert isinstance(outcome, Endless)
            assert outcome.what == "waits at global semaphore 5, which nobody raises"
            assert made[-1] == 0


@each_target
def test_a_queue_without_wave_sync_refuses_it(target: str) -> None:
    memory, program = Arrays(), Program(target, "grid-O3")
    launch = program.launch("prepare", (1,), (64,), memory, [np.uint32(1), np.uint32(0)])
    for engine in ("numpy", "jit"):
        outcome = Machine(target, engine).start(launch, memory).run(1000)
        assert isinstance(outcome, Unsupported)
        assert outcome.name == "ds_gws_init"
        assert "was given no global wave sync" in outcome.reason
    # gfx12 has none of these instructions.
    with pytest.raises(AssertionError, match="has no ds_gws_init"):
        encode("gfx1201", "ds_gws_init")


def held(askers: Iterable[Asking]) -> list[bool]:
    return [wave.status == HELD for wave, _ in askers]


def waves(count: int) -> list[Asking]:
    """Return running waves, each of a group of its own."""
    groups = [Group((n, 0, 0), 1, 32, 0) for n in range(count)]
    return [(group.waves[0], group) for group in groups]


@pytest.mark.parametrize("parties", [1, 2, 5, 64])
def test_a_barrier_lets_go_all_at_once_again_and_again(parties: int) -> None:
    sync, all_of_them = WaveSync(), waves(parties)
    sync.carry_out("init", 4, parties - 1, all_of_them[0])
    for time in range(3):
        for number, wave in enumerate(all_of_them):
            last = number == parties - 1
            assert sync.carry_out("barrier", 4, parties - 1, wave) == (not last)
            assert held([wave]) == [not last]
        assert not any(held(all_of_them))
        assert sync.released == (time + 1) * (parties - 1)


def test_a_barrier_may_have_another_size_each_time() -> None:
    sync, (one, two, three) = WaveSync(), waves(3)
    sync.carry_out("init", 0, 1, one)
    assert sync.carry_out("barrier", 0, 2, one)
    assert not sync.carry_out("barrier", 0, 2, two)  # and now three are wanted
    assert sync.carry_out("barrier", 0, 0, one)
    assert sync.carry_out("barrier", 0, 0, two)
    assert sync.describe(two[0]) == "waits at global barrier 0, to which 1 more wave has to come"
    assert not sync.carry_out("barrier", 0, 0, three)
    assert not sync.carry_out("barrier", 0, 0, one)  # alone


def test_semaphores_let_go_those_that_wait_longest() -> None:
    sync, all_of_them = WaveSync(), waves(5)
    sync.carry_out("init", 8, 0, all_of_them[0])
    assert all(sync.carry_out("sema_p", 8, 0, wave) for wave in all_of_them)
    assert sync.describe(all_of_them[2][0]) == "waits at global semaphore 8, which nobody raises"
    other = waves(1)[0]
    sync.carry_out("sema_v", 8, 0, other)
    assert held(all_of_them) == [False, True, True, True, True]
    sync.carry_out("sema_br", 8, 2, other)
    assert held(all_of_them) == [False, False, False, True, True]
    sync.carry_out("sema_release_all", 8, 0, other)
    assert not any(held(all_of_them))
    # Nothing is left over; what is raised with nobody waiting is kept.
    assert sync.carry_out("sema_p", 8, 0, other)
    sync.carry_out("sema_br", 8, 3, all_of_them[0])
    assert [sync.carry_out("sema_p", 8, 0, wave) for wave in all_of_them[:3]] == [
        False, False, True,
    ]  # fmt: skip
    sync.carry_out("init", 9, 1, other)
    sync.carry_out("sema_release_all", 9, 0, other)
    assert sync.carry_out("sema_p", 9, 0, other)


@pytest.mark.parametrize(
    ("operation", "value", "reason"),
    [
        ("init", 1, "waves wait at resource 1 as a barrier"),
        ("sema_v", 0, "waves wait at resource 1 as a barrier"),
        ("sema_p", 0, "waves wait at resource 1 as a barrier"),
        ("barrier", MOST + 1, f"a count of {MOST + 1}, where {MOST} is the most"),
    ],
)
def test_what_nobody_describes_is_refused_and_changes_nothing(
    operation: Any, value: int, reason: str
) -> None:
    sync, (one, two) = WaveSync(), waves(2)
    sync.carry_out("init", 1, 1, one)
    sync.carry_out("barrier", 1, 1, one)
    with pytest.raises(BadSync, match=reason):
        sync.carry_out(operation, 1, value, two)
    assert held([one, two]) == [True, False]
    assert not sync.carry_out("barrier", 1, 1, two)
    assert held([one]) == [False]


def test_counts_beyond_the_counter_are_refused() -> None:
    sync, (one,) = WaveSync(), waves(1)
    sync.carry_out("init", 2, 0, one)
    sync.carry_out("sema_br", 2, MOST, one)
    with pytest.raises(BadSync, match=f"a count of {MOST + 1}"):
        sync.carry_out("sema_v", 2, 0, one)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one != "init"])
def test_what_a_resource_holds_before_it_is_initialized_nobody_says(operation: Any) -> None:
    sync, (one,) = WaveSync(), waves(1)
    sync.carry_out("init", 3, 0, one)
    with pytest.raises(BadSync, match="nobody has initialized resource 4"):
        sync.carry_out(operation, 4, 1, one)
    assert held([one]) == [False]
