"""Work-groups on several cores give what one core gives: memory, counts, pauses and faults."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gputrace.families import FAMILIES
from gputrace.isa import execution, jit_cores
from gputrace.isa.launch import KernelLaunch
from gputrace.isa.machine import Done, Fault, Machine, Outcome, Paused
from tests.isa.launching import Arrays, Program, assert_same_outcome

TARGETS = tuple(FAMILIES)
each_target = pytest.mark.parametrize("target", TARGETS)
CORES = 3
Made = tuple[KernelLaunch, Arrays]


@pytest.fixture(autouse=True)
def small_parts(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Make every dispatch worth it; return how many parts were run each time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(jit_cores, "_LEAST", 100)
    monkeypatch.setattr(execution, "_WIDE", 200)
    ran: list[int] = []
    run = jit_cores.Cores.run

    def counted(self: jit_cores.Cores, first: Any, shares: Any, *rest: Any) -> Any:
        ran.append(len(shares))
        return run(self, first, shares, *rest)

    monkeypatch.setattr(jit_cores.Cores, "run", counted)
    return ran


def saxpy(target: str, groups: int, lengths: tuple[int, int] = (0, 0), n: int = 0) -> Made:
    """y = a * x + y in place, whose arrays may be too short."""
    memory, items = Arrays(), 64 * groups
    y, x = (np.arange(length or items, dtype=np.float32) for length in lengths)
    args = memory.add(y), memory.add(x), np.float32(2), np.int32(n or items)
    return Program(target, "seed-O3").launch("saxpy", (groups,), (64,), memory, args), memory


def late(target: str, groups: int, first: int) -> Made:
    """From group `first` on each group works on what the one before it has made."""
    memory = Arrays()
    args = memory.add(np.zeros(256 * groups, np.uint32)), np.uint32(first)
    return Program(target, "speed-O3").launch("late", (groups,), (256,), memory, args), memory


def matmul(target: str, n: int = 128) -> Made:
    memory, chance = Arrays(), np.random.default_rng(5)
    a, b = (chance.integers(-9, 9, (n, n)).astype(np.float32) for _ in range(2))
    args = memory.add(np.zeros((n, n), np.float32)), memory.add(a), memory.add(b), np.uint32(n)
    program = Program(target, "speed-O3")
    return program.launch("matmul", (n // 16, n // 16), (16, 16), memory, args), memory


def advance(made: Made, cores: int, budget: int) -> tuple[list[int], Outcome, list[bytes]]:
    """Run in pieces; return the counts at each pause, the outcome, and memory."""
    launch, memory = made
    execution = Machine(launch.target, "jit", cores).start(launch, memory)
    counts: list[int] = []
    while isinstance(outcome := execution.run(budget), Paused):
        counts.append(execution.instructions)
    return [*counts, execution.instructions], outcome, memory.contents()


def compare(made: Made, budget: int = 1 << 40) -> Outcome:
    """Run on one core and on several from the same memory."""
    before = made[1].contents()
    counts, outcome, contents = advance(made, 1, budget)
    made[1].restore(before)
    again = advance(made, CORES, budget)
    assert again[0] == counts
    assert_same_outcome(again[1], outcome)
    assert again[2] == contents
    return outcome


@each_target
@pytest.mark.parametrize("make", [lambda t: saxpy(t, 90), matmul], ids=["saxpy", "matmul"])
def test_groups_that_keep_apart_run_in_parts(
    target: str, make: Callable[[str], Made], small_parts: list[int]
) -> None:
    assert compare(make(target)) == Done()
    assert CORES in small_parts


@each_target
def test_the_first_fault_in_the_order_counts(target: str, small_parts: list[int]) -> None:
    # Short arrays fault in each of the parts, and in several of them.
    for groups in (0, 1, 2, 8, 20, 33, 61, 88):
        outcome = compare(saxpy(target, 90, (0, 64 * groups + 5), 90 * 64))
        assert isinstance(outcome, Fault)
        assert outcome.place.group == (groups, 0, 0)
    assert len(small_parts) >= 4


@each_target
@pytest.mark.parametrize("first", [1, 2, 5, 30, 58, 59])
def test_groups_that_work_on_what_others_made(
    target: str, first: int, small_parts: list[int]
) -> None:
    made = late(target, 60, first)
    assert compare(made) == Done()
    out, groups = np.zeros((60, 256), np.uint32), np.arange(60 * 256).reshape(60, 256)
    for number, row in enumerate(groups.astype(np.uint32)):
        out[number] = out[number - 1] * np.uint32(3) + row if number >= first else row
    assert np.array_equal(made[1].array(0x7000_0000_0000).reshape(60, 256), out)
    assert bool(small_parts) == (first > 2)


@each_target
def test_memory_that_is_seen_twice_keeps_to_one_core(
    target: str, small_parts: list[int]
) -> None:
    # x is y, 64 groups further on, under another address.
    launch, memory = saxpy(target, 90)
    y, x = 0x7000_0000_0000, 0x7000_0000_0000 + 0x7000
    shared = np.arange(200 * 64, dtype=np.float32)
    held = {y: shared[: 90 * 64], x: shared[20 * 64 : 110 * 64]}
    memory._held = [(at, held.get(at, data), w) for at, data, w in memory._held]
    assert sorted(held) == [at for at, _, _ in memory._held if at in held]
    assert compare((launch, memory)) == Done()
    assert not small_parts


@each_target
@pytest.mark.parametrize("budget", [1, 333, 5_000, 21_001])
def test_pauses_come_at_the_same_places(target: str, budget: int) -> None:
    assert compare(matmul(target, 64), budget) == Done()
    assert compare(saxpy(target, 70), budget) == Done()


@each_target
def test_ranges_that_come_and_go_between_pauses(target: str, small_parts: list[int]) -> None:
    found = []
    for cores in (1, CORES):
        launch, memory = saxpy(target, 200)
        execution = Machine(target, "jit", cores).start(launch, memory)
        while isinstance(execution.run(900), Paused):
            memory.add(np.zeros(64, np.uint32))
        found.append((execution.instructions, memory.contents()))
    assert found[0] == found[1]
    assert small_parts


def test_the_cache_of_one_core_serves_several(tmp_path: Path) -> None:
    made = saxpy("gfx942", 90)
    advance(made, 1, 1 << 40)
    again = Machine("gfx942", "jit", CORES)
    assert again.start(*made).run(1 << 40) == Done()
    assert again.library.compiled == 0
