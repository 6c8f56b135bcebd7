"""Kernels run from their machine code give what plain computation gives."""

import numpy as np
import pytest

from gputrace.families import FAMILIES
from gputrace.isa.machine import Done, Fault, Paused, Unsupported
from tests.isa.launching import Arrays, Program, run, start

TARGETS = tuple(FAMILIES)
LEVELS = ("O0", "O1", "O3")


@pytest.fixture(params=[(t, o) for t in TARGETS for o in LEVELS], ids=lambda p: "-".join(p))
def seed(request: pytest.FixtureRequest) -> Program:
    target, level = request.param
    return Program(target, f"seed-{level}")


def test_saxpy(seed: Program) -> None:
    n = 150
    x = np.linspace(-3, 5, 192, dtype=np.float32)
    y = np.linspace(1, 2, 192, dtype=np.float32)
    expected = y.copy()
    expected[:n] = np.float32(2.5) * x[:n] + y[:n]
    memory = Arrays()
    args = memory.add(y), memory.add(x), np.float32(2.5), np.int32(n)
    assert run(seed.launch("saxpy", (3,), (64,), memory, args), memory) == Done()
    assert np.array_equal(y, expected)


def test_fill(seed: Program) -> None:
    out = np.zeros(192, np.uint32)
    memory = Arrays()
    args = memory.add(out), np.uint32(0xDEADBEEF)
    assert run(seed.launch("fill", (2,), (64,), memory, args), memory) == Done()
    assert (out[:128] == 0xDEADBEEF).all()
    assert not out[128:].any()


def test_busy(seed: Program) -> None:
    out = np.zeros(128, np.uint32)
    memory = Arrays()
    args = memory.add(out), np.uint32(7), np.uint32(20)
    assert run(seed.launch("busy", (2,), (64,), memory, args), memory) == Done()
    value = np.arange(128, dtype=np.uint32) + np.uint32(7)
    for _ in range(20):
        value = value * np.uint32(2654435761) + np.uint32(1)
    assert np.array_equal(out, value)


def test_reduce_with_lds_and_barriers(seed: Program) -> None:
    data = np.arange(512, dtype=np.uint32) * np.uint32(77)
    out = np.zeros(2, np.uint32)
    memory = Arrays()
    args = memory.add(out), memory.add(data)
    assert run(seed.launch("reduce", (2,), (256,), memory, args), memory) == Done()
    assert np.array_equal(out, data.reshape(2, 256).sum(1, dtype=np.uint32))


def test_a_store_outside_faults_with_address_lanes_and_registers(seed: Program) -> None:
    out = np.zeros(100, np.uint32)
    memory = Arrays()
    at = memory.add(out)
    launch = seed.launch("fill", (2,), (64,), memory, (at, np.uint32(0x1234)))
    outcome = run(launch, memory)
    assert isinstance(outcome, Fault)
    assert (outcome.address, outcome.access, outcome.size) == (at + 400, "write", 4)
    waves = 64 // launch.wave_size
    assert outcome.place.group == (1, 0, 0)
    assert outcome.place.wave == waves - 1
    first = (100 - 64) % launch.wave_size
    assert outcome.lanes == ((1 << launch.wave_size) - 1) >> first << first
    assert (outcome.registers.vectors[:256] == 0x1234).any()
    whole = 100 // launch.wave_size * launch.wave_size
    assert (out[:whole] == 0x1234).all()
    assert not out[whole:].any()


def test_a_store_to_read_only_memory_faults() -> None:
    out = np.zeros(64, np.uint32)
    memory = Arrays()
    at = memory.add(out, writable=False)
    launch = Program("gfx942", "seed-O3").launch("fill", (1,), (64,), memory, (at, np.uint32(1)))
    outcome = run(launch, memory)
    assert isinstance(outcome, Fault)
    assert (outcome.address, outcome.access) == (at, "write")
    assert not out.any()


def test_the_budget_pauses_and_goes_on(seed: Program) -> None:
    out = np.zeros(64, np.uint32)
    memory = Arrays()
    args = memory.add(out), np.uint32(0), np.uint32(9)
    execution = start(seed.launch("busy", (1,), (64,), memory, args), memory)
    assert execution.run(10) == Paused()
    assert execution.instructions >= 10
    assert execution.run(1_000_000) == Done()
    assert out[1:].all()


def test_an_unknown_instruction_stops_the_wave_by_name() -> None:
    memory = Arrays()
    program = Program("gfx942", "seed-O3")
    launch = program.launch("fill", (1,), (64,), memory, ())
    start_of_code = program.symbols["fill"]
    program.image[start_of_code : start_of_code + 4] = np.frombuffer(
        (0xBF9E_0000).to_bytes(4, "little"), np.uint8
    )
    outcome = run(launch, memory)
    assert isinstance(outcome, Unsupported)
    assert outcome.name == "s_endpgm_ordered_ps_done"
    assert outcome.place.pc == launch.entry
