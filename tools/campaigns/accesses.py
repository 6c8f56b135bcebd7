"""Every memory instruction of every target, compiled and with numpy: the same bits.

Each case is a row of instructions with random registers, memory and LDS for each target; a row of
one target goes through all of its instructions in an order of its own before any comes again.
"""

from gputrace.isa.decode import TARGETS
from tests.isa.sweep import compare, names_of
from tools.campaigns import Campaign

COUNT, SAMPLE = 200, 1
ROW = 40


def run(campaign: Campaign) -> None:
    """Compare registers, memory, LDS and counts after each row."""
    known = {target: names_of(target) for target in TARGETS}
    for number in campaign.numbers():
        for target, names in known.items():
            rounds = -(-len(names) // ROW)
            order = list(names)
            campaign.random(number // rounds).shuffle(order)
            at = number % rounds * ROW
            seed = campaign.random(number).randrange(1 << 30)
            try:
                compare(target, order[at : at + ROW], seed)
            except AssertionError as problem:
                campaign.fail(f"{target}, case {number} (seed {seed}): {problem}")
    campaign.facts["instructions"] = sum(len(names) for names in known.values())
