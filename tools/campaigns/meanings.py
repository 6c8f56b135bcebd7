"""Real instructions in both engines, in any mode: the same bits in all registers.

Each case is a target, a wave size, a MODE (rounding, denormals, clamp, IEEE, overflow of halves)
and a handful of instructions in any encoding, compiled together and run on a few sets of registers.
"""

from dataclasses import replace
from functools import cache
from random import Random

from gputrace.families import family
from gputrace.isa.graph import Graph
from gputrace.isa.instruction import Instruction
from gputrace.isa.trace import Mode
from tests.isa.engines import MOST_NODES, Engines, instructions, one_straight
from tests.isa.single import Bench
from tools.campaigns import Campaign

COUNT, SAMPLE = 2_000, 2
HANDFUL, RUNS = 24, 4
TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")


@cache
def all_of(target: str) -> list[tuple[str, str, Instruction]]:
    """Return every instruction of a target in each of its encodings."""
    return list(instructions(target, every=True))


def mode_of(target: str, chance: Random) -> Mode:
    """Draw a mode."""
    lanes = chance.choice(family(target).waves)
    mode = Bench(target, lanes=lanes).mode
    usual = chance.random() < 0.3
    drawn = 0x3F0 if usual else chance.getrandbits(10)
    return replace(mode, float_mode=drawn, half_limit=not usual and chance.random() < 0.3)


def run(campaign: Campaign) -> None:
    """Compare registers after each handful of instructions."""
    folder = campaign.folder / "jit"
    folder.mkdir(mode=0o700)
    tried: set[tuple[str, str]] = set()
    for number in campaign.numbers():
        chance = campaign.random(number)
        target = chance.choice(TARGETS)
        mode = mode_of(target, chance)
        found: list[tuple[str, Graph]] = []
        nodes = 0
        for name, encoding, made in chance.sample(all_of(target), HANDFUL):
            graph = one_straight(made, mode)
            if graph is None or len(graph.written) >= 40:
                continue
            nodes += len(graph.nodes)
            if nodes < MOST_NODES:  # one region takes them
                found.append((f"{name} ({encoding})", graph))
                tried.add((target, name))
        program = Engines(target, mode, found, folder)
        for seed in range(RUNS):
            problem = program.difference(seed + number * RUNS)
            if problem:
                campaign.fail(f"case {number}, {target}, {mode.float_mode:#x}: {problem}")
    campaign.facts["instructions"] = len(tried)
