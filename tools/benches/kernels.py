"""Kernels from machine code: instructions of waves a second, compiled and with numpy; start-up."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gputrace.families import family
from gputrace.isa.launch import KernelLaunch
from gputrace.isa.machine import Done, Machine
from tests.isa.launching import Arrays, Program
from tools.benches import Options, Row, at_least, at_most

TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
ROOT = Path(__file__).resolve().parents[2]
ENDLESS = 1 << 40
START = """
import sys, time
from tools.benches import kernels
case = kernels.CASES["matmul"]("gfx942", 64)
import gputrace.isa.jit_engine  # the process has LLVM loaded
before = time.process_time()
machine = kernels.Machine("gfx942", "jit", 1)
machine.start(case.launch, case.memory).run(1)
print(time.process_time() - before, machine.library.compiled)
"""


@dataclass(frozen=True)
class Case:
    """A launch, its memory, and whether the result is right."""

    launch: KernelLaunch
    memory: Arrays
    right: Callable[[], bool]


Sizes = tuple[int, ...]


def _launch(
    target: str, kernel: str, groups: Sizes, size: Sizes, memory: Arrays, args: Any
) -> KernelLaunch:
    return Program(target, "speed-O3").launch(kernel, groups, size, memory, args)


def _square(
    target: str, source: str, kernel: str, size: int, tile: int, items: Sizes, kind: type
) -> Case:
    # A product of square matrices, of which a group makes a tile.
    chance, memory = np.random.default_rng(1), Arrays()
    a, b = (chance.random((size, size), np.float32).astype(kind) for _ in range(2))
    out = np.zeros((size, size), np.float32)
    args = memory.add(out), memory.add(a), memory.add(b), np.uint32(size)
    groups = size // tile, size // tile
    launch = Program(target, source).launch(kernel, groups, items, memory, args)
    expected = a.astype(np.float32) @ (b.T if kernel == "tiles" else b).astype(np.float32)
    return Case(launch, memory, lambda: np.allclose(out, expected, rtol=1e-3))


def matmul(target: str, size: int) -> Case:
    """Square matrices through tiles of 16x16 in LDS."""
    return _square(target, "speed-O3", "matmul", size, 16, (16, 16), np.float32)


def blocks(target: str, size: int) -> Case:
    """Square matrices as fast code multiplies them: tiles of 64x64, 4x4 of them in each item."""
    return _square(target, "speed-O3", "blocks", size, 64, (16, 16), np.float32)


def tiles(target: str, size: int) -> Case:
    """Square matrices of half precision through the matrix unit, one tile of 16x16 a wave."""
    lanes = min(family(target).waves)
    return _square(target, "matrix-O3", "tiles", size, 16, (lanes,), np.float16)


def add(target: str, size: int) -> Case:
    """One addition for three accesses of one word."""
    return _sum(target, "add", size * size * 16, 1)


def add4(target: str, size: int) -> Case:
    """One addition for three accesses of four words."""
    return _sum(target, "add4", size * size * 16, 4)


def _sum(target: str, kernel: str, count: int, words: int) -> Case:
    chance, memory = np.random.default_rng(2), Arrays()
    a, b = (chance.random(count, np.float32) for _ in range(2))
    out = np.zeros(count, np.float32)
    args = memory.add(out), memory.add(a), memory.add(b)
    launch = _launch(target, kernel, (count // 256 // words,), (256,), memory, args)
    return Case(launch, memory, lambda: np.array_equal(out, a + b))


def columns(target: str, size: int) -> Case:
    """Each item adds up a column: one access for three other instructions."""
    memory, wide = Arrays(), size * 16
    data = np.random.default_rng(3).integers(99, size=(size, wide)).astype(np.float32)
    out = np.zeros(wide, np.float32)
    args = memory.add(out), memory.add(data), np.uint32(size), np.uint32(wide)
    launch = _launch(target, "columns", (wide // 256,), (256,), memory, args)
    return Case(launch, memory, lambda: np.array_equal(out, data.sum(0)))


def gather(target: str, size: int) -> Case:
    """Each access of each lane somewhere else."""
    memory = Arrays()
    data = np.random.default_rng(4).integers(1 << 32, size=1 << 16, dtype=np.uint32)
    out = np.zeros(16 * size, np.uint32)
    args = memory.add(out), memory.add(data), np.uint32(len(data)), np.uint32(size)
    launch = _launch(target, "gather", (size // 16,), (256,), memory, args)

    def right() -> bool:
        at = np.arange(16 * size, dtype=np.uint32)
        for k in range(size):
            at = data[(at * np.uint32(2654435761) + np.uint32(k)) & np.uint32(len(data) - 1)]
        return np.array_equal(out, at)

    return Case(launch, memory, right)


def mix(target: str, size: int) -> Case:
    """Integer arithmetic in a loop."""
    memory = Arrays()
    out = np.zeros(4096, np.uint32)
    launch = _launch(target, "mix", (16,), (256,), memory, (memory.add(out), np.uint32(4 * size)))

    def right() -> bool:
        v = np.arange(4096, dtype=np.uint32)
        for _ in range(4 * size):
            v ^= v >> np.uint32(15)
            v = v * np.uint32(0x2C1B3C6D)
            v ^= v >> np.uint32(12)
            v = v * np.uint32(0x297A2D39)
            v ^= v >> np.uint32(15)
        return np.array_equal(out, v)

    return Case(launch, memory, right)


CASES: dict[str, Callable[[str, int], Case]] = {
    "matmul": matmul,
    "mix": mix,
    "add": add,
    "add4": add4,
    "columns": columns,
    "gather": gather,
}
BUDGETS = {"matmul": 100, "mix": 100, "add": 60, "columns": 60, "add4": 60, "gather": 60}


def measure(machine: Machine, case: Case) -> tuple[int, float]:
    """Run a case as devices run dispatches; return its instructions and the thread's seconds."""
    before = time.thread_time()
    execution = machine.start(case.launch, case.memory)
    outcome = execution.run(ENDLESS)
    spent = time.thread_time() - before
    assert outcome == Done(), outcome
    assert case.right()
    count = execution.instructions
    machine.keep(execution)
    return count, spent


def rows(options: Options) -> Iterator[Row]:
    """Measure all rows; the cache for compiled code is the given folder."""
    os.environ["XDG_CACHE_HOME"] = str(options.folder)
    size, rounds = (64, 3) if options.quick else (256, 8)
    for target in TARGETS:
        for name, case_of in CASES.items():
            case, machine = case_of(target, size), Machine(target, "jit", 1)
            machine.library.drive(case.launch.wave_size)
            count, first = measure(machine, case)
            best = min(measure(machine, case)[1] for _ in range(rounds))
            if name == "matmul":
                each = (first - best) * 1e3 / machine.library.compiled
                note = f"{machine.library.compiled} instructions"
                yield at_most(f"{target} compiling", each, "ms/instruction", 3, note)
            note = f"{count:,} instructions, {best * 1e3:.2f} ms"
            rate = count / best / 1e6
            yield at_least(f"{target} {name}", rate, "M wave-inst/s", BUDGETS[name], note)
        small = matmul(target, 32)
        machine = Machine(target, "numpy")
        count, spent = min((measure(machine, small) for _ in range(3)), key=lambda pair: pair[1])
        yield Row(f"{target} matmul with numpy", count / spent / 1e6, "M wave-inst/s")
    yield from _large(options)
    yield from _linear(options)
    yield _start(options)


def _large(options: Options) -> Iterator[Row]:
    # Whole products, compiled before: on one core.
    size = 256 if options.quick else 1024
    wanted = (("gfx1100", blocks, 0.4), ("gfx1100", matmul, 0.4), ("gfx942", tiles, 1.0))
    for target, case_of, most in wanted:
        case, machine = case_of(target, size), Machine(target, "jit", 1)
        count, _ = measure(machine, case)
        best = min(measure(machine, case)[1] for _ in range(3))
        name = f"{target} {case_of.__name__} {size}^3"
        yield at_most(name, best, "s", most, f"{count:,} instructions")


def _linear(options: Options) -> Iterator[Row]:
    # Eight times the waves against the same in the cache: the best of rounds in turn.
    rounds = 4 if options.quick else 30
    for target in ("gfx942", "gfx1100"):
        machine = Machine(target, "jit", 1)
        cases = [_sum(target, "add", count << 18, 1) for count in (1, 8)]
        best = [1e9, 1e9]
        for _ in range(rounds):
            for number, case in enumerate(cases):
                best[number] = min(best[number], measure(machine, case)[1])
        note = f"{best[0] * 1e3:.2f} and {best[1] * 1e3:.2f} ms"
        yield at_most(f"{target} eight times the waves", best[1] / best[0], "times", 8.5, note)


def _start(options: Options) -> Row:
    # A new process in which the kernel, and what it stands on, is in the cache.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    spent = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", START], env=environment, cwd=ROOT, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        seconds, compiled = done.stdout.split()
        if int(compiled) == 0:
            spent.append(float(seconds))
    return at_most("start of a kernel from the cache", min(spent) * 1e3, "ms", 10)
