"""Traces of programs that know nothing of gputrace: names, signals, and which failure is which."""

from pathlib import Path

import pytest

from gputrace.minimize.graph import mask_of
from gputrace.minimize.history import learn
from gputrace.minimize.model import read_model
from gputrace.minimize.reduce import with_schedule
from gputrace.minimize.trial import Case, Way, run_once
from gputrace.trace.reader import TraceReader

TRACE = Path(__file__).parents[2] / "traces" / "hip_freed-gfx90a.gtrace"
DEVICE = "emu:gfx90a"


@pytest.fixture(scope="module")
def case() -> Case:
    """Give the use after free of a HIP program."""
    model = read_model(TraceReader(TRACE))
    return Case(model, learn(model, DEVICE, "fault"))


def causes(case: Case, candidate: int, seed: int = 0) -> list[str]:
    return list(run_once(case, candidate, Way(with_schedule(DEVICE, seed))).causes)


def test_buffers_and_kernels_have_names(case: Case) -> None:
    names = {(name.what, name.name) for _, name in case.model.names}
    assert {("kernel", "_Z5scaleiPiPKii"), ("symbol", "_Z4filliPii.kd")} <= names
    freed = next(one for one in case.model.buffers if one.freed > 0 and one.mapped > 0)
    assert case.model.name_of(freed.where.start).startswith(("vram", "gtt"))
    assert any(not name.name and number == freed.freed for number, name in case.model.names)


def test_it_fails_alike_under_every_schedule(case: Case) -> None:
    # The program waited for signals before it went on: so must a candidate, whatever the schedule.
    found = {tuple(causes(case, case.graph.full, seed)) for seed in range(5)}
    assert len(found) == 1
    (signature,) = found.pop()
    assert signature.startswith("fault memory 1.20 _Z5scaleiPiPKii r freed#")


def test_what_a_candidate_left_out_is_another_failure(case: Case) -> None:
    (signature,) = causes(case, case.graph.full)
    freed = next(one for one in case.model.buffers if f"#{one.made}" in signature)
    found = causes(case, without(case, freed.freed))
    assert found == [signature.replace("freed#", "unmapped#")]
    arguments = next(
        one for one in case.model.buffers if case.model.name_of(one.where.start) == "gtt29"
    )
    found = causes(case, without(case, arguments.made))
    assert found
    assert all(f"missing#{arguments.made}" in one for one in found)


def without(case: Case, event: int) -> int:
    """Return the whole trace but for a call and all that surely needs it."""
    (at,) = [number for number, item in enumerate(case.items) if item.event == event]
    return case.graph.full & ~case.graph.cone(mask_of([at]), case.graph.full)
