"""Every stored kernel on one core and on three: the same memory, counts, pauses and faults.

Each case is one kernel of one build, with arrays of chance, launched with so many groups that
some run into the ends of the arrays. Parts of a few instructions are worth it here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gputrace.code import CodeObject
from gputrace.isa import execution, jit_cores
from gputrace.isa.launch import KernelLaunch
from gputrace.isa.machine import Machine, Paused
from tests.isa.corpus import LEVELS, TARGETS
from tests.isa.launching import BUILT, Arrays, Program, assert_same_outcome
from tools.campaigns import Campaign

BYTES, GROUPS, PIECES = 1 << 14, 24, 12
SMALL, FEW = 100, 200  # wave-instructions that make parts, and budgets, worth it


def _kernels() -> list[tuple[str, str, str]]:
    return [
        (target, path.stem, kernel)
        for level in sorted(LEVELS, reverse=True)
        for target in TARGETS
        for path in sorted((BUILT / target).glob(f"*-{level}.co"))
        for kernel in CodeObject.parse(path.read_bytes()).kernels
    ]


COUNT, SAMPLE = len(_kernels()), 2


def _launch(name: tuple[str, str, str], rng: np.random.Generator) -> tuple[KernelLaunch, Arrays]:
    target, stem, kernel = name
    code, memory = CodeObject.parse((BUILT / target / f"{stem}.co").read_bytes()), Arrays()
    args: list[Any] = []
    for argument in code.kernels[kernel].metadata.explicit_args:
        if argument.value_kind == "global_buffer":
            args.append(memory.add(rng.integers(0, 256, BYTES, np.uint8)))
        else:
            kind = f"u{argument.size}" if argument.size in (1, 2, 4, 8) else "u4"
            count = argument.size // np.dtype(kind).itemsize
            args.append(np.full(count, 64, kind))
    launch = Program(target, stem).launch(kernel, (GROUPS,), (64,), memory, args)
    return launch, memory


def _run(launch: KernelLaunch, memory: Arrays, cores: int, budget: int) -> Any:
    execution = Machine(launch.target, "jit", cores).start(launch, memory)
    counts = []
    for _ in range(PIECES):
        outcome = execution.run(budget)
        counts.append(execution.instructions)
        if not isinstance(outcome, Paused):
            break
    return counts, outcome, memory.contents()


def run(campaign: Campaign) -> None:
    """Compare one core with several for each kernel."""
    kernels, ran = _kernels(), [0]
    parts, jit_cores._LEAST = jit_cores._LEAST, SMALL
    wide, execution._WIDE = execution._WIDE, FEW
    whole = jit_cores.Cores.run

    def counted(self: jit_cores.Cores, *rest: Any) -> jit_cores.Progress:
        ran[0] += 1
        return whole(self, *rest)

    jit_cores.Cores.run = counted  # type: ignore[method-assign]
    try:
        for number in campaign.numbers():
            name = kernels[number % len(kernels)]
            for problem in _compare(name, campaign.random(number).randrange(1 << 32)):
                campaign.fail(f"{' '.join(name)}: {problem}")
    finally:
        jit_cores._LEAST, execution._WIDE, jit_cores.Cores.run = parts, wide, whole  # type: ignore
    campaign.facts["runs in parts"] = ran[0]


def _compare(name: tuple[str, str, str], seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    launch, memory = _launch(name, rng)
    before, budget = memory.contents(), int(rng.choice([3_000, 20_000, 200_000]))
    one = _run(launch, memory, 1, budget)
    memory.restore(before)
    several = _run(launch, memory, 3, budget)
    if one[0] != several[0]:
        yield f"pauses at {one[0]} and {several[0]}"
    try:
        assert_same_outcome(several[1], one[1])
    except AssertionError as problem:
        yield f"outcomes differ: {problem}"
    if one[2] != several[2]:
        yield "memory differs"
