"""Every primitive on random registers, compiled and with numpy: the same bits.

Each case is one set of registers for waves of 32 and of 64 lanes, with vectors and with scalars.
"""

from tests.isa.test_jit_primitives import FORMS, inputs, program
from tools.campaigns import Campaign

COUNT, SAMPLE = 5_000, 2


def run(campaign: Campaign) -> None:
    """Compare registers after all primitives."""
    programs = [program(*form, campaign.folder / "jit") for form in FORMS]
    campaign.facts["primitives"] = len({name for _, _, names in FORMS for name in names})
    for number in campaign.numbers():
        seed = campaign.random(number).randrange(1 << 32)
        for made, names in programs:
            words = inputs(seed, made.mode.wave_size)
            problem = made.difference(words, names)
            if problem:
                campaign.fail(f"case {number} (seed {seed}): {problem}")
