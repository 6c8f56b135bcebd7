"""Kernels run from their machine code give what plain computation gives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gputrace.families import FAMILIES
from gputrace.isa.machine import Done, Fault, KernelLaunch, Machine, Paused, Unsupported
from tests.isa.launching import KERNARGS, Arrays, Program, packed, run, start

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


def _with_arguments(launch: KernelLaunch, memory: Arrays, at: int, args: Any) -> KernelLaunch:
    memory.add(np.frombuffer(bytearray(packed(args)), np.uint8), at)
    words = tuple(at & 0xFFFF_FFFF if word == KERNARGS else word for word in launch.user_data)
    assert words != launch.user_data
    return replace(launch, user_data=words)


@pytest.mark.parametrize("engine", ["numpy", "jit"])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_kept_of_one_dispatch_is_not_seen_by_the_next(target: str, engine: Any) -> None:
    seed, memory, machine = Program(target, "seed-O1"), Arrays(), Machine(target, engine)

    def once(launch: KernelLaunch) -> int:
        execution = machine.start(launch, memory)
        assert execution.run(0) == Paused()
        group = execution._groups[0]
        assert not group.lds.any()
        assert not any(wave.vectors[3:].any() for wave in group.waves)
        assert execution.run(1_000_000) == Done()
        machine.keep(execution)
        return execution.instructions

    data, out = np.arange(512, dtype=np.uint32), np.zeros(2, np.uint32)
    source, result = memory.add(data), memory.add(out)
    reduce = seed.launch("reduce", (2,), (256,), memory, (result, source))
    counts = []
    for factor in (1, 3, 5):  # registers and LDS are those of a first dispatch
        data[:] = np.arange(512) * factor
        counts.append(once(reduce))
        assert np.array_equal(out, data.reshape(2, 256).sum(1, dtype=np.uint32))
    assert counts == counts[:1] * 3
    other = np.zeros(2, np.uint32)  # other arguments, and ranges that were not there before
    args = memory.add(other), source
    once(_with_arguments(reduce, memory, KERNARGS + 0x8000, args))
    assert np.array_equal(other, out)
    out[:] = 0
    once(reduce)
    assert np.array_equal(other, out)


@pytest.mark.parametrize("engine", ["numpy", "jit"])
def test_a_dispatch_runs_the_code_that_is_there_now(engine: Any) -> None:
    program, memory, machine = Program("gfx942", "seed-O3"), Arrays(), Machine("gfx942", engine)
    out = np.zeros(64, np.uint32)
    args = memory.add(out), np.uint32(7)
    launch = program.launch("fill", (1,), (64,), memory, args)
    for _ in range(2):
        execution = machine.start(launch, memory)
        assert execution.run(1_000_000) == Done()
        machine.keep(execution)
    assert (out == 7).all()
    out[:] = 0
    at = program.symbols["fill"]
    program.image[at : at + 4] = np.frombuffer((0xBF81_0000).to_bytes(4, "little"), np.uint8)
    execution = machine.start(launch, memory)  # s_endpgm comes first now
    assert execution.run(1_000_000) == Done()
    assert execution.instructions == 1
    assert not out.any()
